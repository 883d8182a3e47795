"""A trained model in one file without its ratings: `autorec.npz`, format version 2.

NumPy's own format, written and read without pickle. It contains (members are the models of a blend,
numbered from 1; a single model is member 1):

    format, version           "autorec", 2
    config                    the run's settings as JSON
    fingerprint               of the ratings, as in config.json
    split_fingerprint         SHA-256 of the training ratings: indptr (int64), indices (int32) and
                              values (float32) of the items x users matrix
    user_ids, item_ids        the id of each index: int64, or text
    user_ratings, item_ratings    int64, the number of training ratings of each
    scale                     float64 [2], the lowest and highest rating
    inner_scale               float64 [2], the scale that the models use
    cold_mean, cold_user_bias, cold_item_bias, cold_scale    float64: the prediction of a cold pair
                              is their sum, clipped to cold_scale
    weights, orientations, hidden_activations, output_activations    one per member
    V_i (n, k), W_i (l, n), mu_i (k), b_i (n)    float32, as in the paper; n columns
    codes_i (rows, l)         float32, the hidden codes of the rows, from their training ratings
    inner_i_j, inner_bias_i_j    of a deep model: (inputs, outputs) and (outputs), j from 1
    Y_i (m, l), c_i (m), own_W_i (l, n)    float32, with biases of m rows (model/decoder.py); Y_i
                              with the SVD++ decoder. W_i is the sum that predicts, own_W_i its part
                              without Y_i, and c_i the last unit of codes_i, which is 1 in W_i
    D_i (n, values, k), values_i (values)    float32, with one-hot inputs: the first hidden layer of
                              a row is g(the sum of r V_i[u] + D_i[u, j], over its ratings r of
                              columns u, + mu_i), where values_i[j] is r, or the value nearest to r

    titles                    JSON, the title of each item id as text; absent in files of earlier
                              versions
    columns_i_x, rows_i_x     float32, what folding in expects of the embeddings of new columns and
                              rows, for each x of mean, pooled, directions, noise, centre and spread
                              (model/prior.py); absent in files of earlier versions

estimator.py saves a file with further content: "estimator", the version 1 of this content; all
known ratings (name; users, items: indices; values; held_out, if it was given; mapped); the training
ratings (train_indptr, train_indices, train_values: items x users); summary as JSON.

A model that was loaded from an export also has fixed_users and fixed_items, int64: the indices of
those whose ratings are missing, because the export does not hold them.

A finished run's folder contains a file with only the arrays for predictions and for folding in (the
priors, and Y_i): `predictions.npz`.

`sha256` is JSON: the SHA-256 of each other array; files of earlier versions lack it. A file is read
by the rules in checked_npz.py.

A prediction of row r and column c is f(codes_i[r] . W_i[:, c] + b_i[c]), clipped to the inner scale
and summed over members with their weights. If the user or the item has no training rating, the sum
for cold pairs replaces it. The result is mapped to the scale. In version 1, the inner scale is the
scale, and the prediction for cold pairs is 3.
"""

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings, RatingUnit, Split
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.evaluation.metrics import COLD_RATING
from autorec_tf.model.factors import Factors
from autorec_tf.model.parameters import TrainedParameters, check_parameters, parameters_of
from autorec_tf.model.prior import Prior
from autorec_tf.resolution import model_configs
from autorec_tf.serving.checked_npz import (
    FIXED,
    FORMAT,
    MODEL_VERSION,
    PREDICTIONS,
    PRIORS,
    REMEDY,
    VERSION,
    Content,
    Kind,
    read_content,
    split_fingerprint,
    with_digests,
)
from autorec_tf.serving.fold_in import parameter_of
from autorec_tf.serving.recommender import Recommender, recommender_of
from autorec_tf.serving.trained_run import FinishedRun, WeightedModel
from autorec_tf.system.npz_archive import Archive

NAME, NOTHING = "autorec.npz", np.zeros(0, np.int64)


def write_npz(path: Path, run: FinishedRun, recommender: Recommender) -> None:
    """Write `run` to the file `path`; `recommender` is `run.recommender()`."""
    np.savez(path, allow_pickle=False, **with_digests(content_of(run, recommender)))


def content_of(run: FinishedRun, recommender: Recommender) -> dict[str, np.ndarray]:
    models = [member.model for member in run.members]
    content = prediction_content(run.config, run.fingerprint, recommender)
    content |= {
        "split_fingerprint": np.asarray(split_fingerprint(run.train)),
        "hidden_activations": np.array([model.config.hidden_activation for model in models]),
        "titles": np.asarray(json.dumps(dict(recommender.titles))),
    }
    for i, model in enumerate(models, 1):
        for parameter, x in zip(model.declared, model.parameters, strict=True):
            content[parameter.npz_name(i)] = parameter.oriented(np.asarray(x))
        if model.values is not None:
            content[f"values_{i}"] = model.values
    return content | prior_content(run)


def prior_content(run: FinishedRun) -> dict[str, np.ndarray]:
    """Return the priors of each model, {} for an export of an earlier version, which lacks them."""
    if run.is_export and not run.known_priors:
        return {}
    return {
        f"{axis}_{i}_{name}": np.asarray(x, np.float32)
        for i, priors in enumerate(run.priors, 1)
        for axis, prior in zip(PRIORS, priors, strict=True)
        for name, x in prior._asdict().items()
    }


def stored_priors(content: Mapping[str, np.ndarray],
                  models: int) -> tuple[tuple[Prior, Prior], ...]:
    """Return the priors of each of `models` models, () in files of earlier versions."""
    if f"{PRIORS[0]}_1_mean" not in content:
        return ()
    return tuple(
        (read_prior(content, f"{PRIORS[0]}_{i}"), read_prior(content, f"{PRIORS[1]}_{i}"))
        for i in range(1, models + 1)
    )


def read_prior(content: Mapping[str, np.ndarray], name: str) -> Prior:
    return Prior(*(content[f"{name}_{field}"].astype(np.float64) for field in Prior._fields))


def run_content(config: Config, ratings: Ratings, split: Split, with_priors: bool,
                models: Sequence[Any], factors: Sequence[Factors]) -> dict[str, np.ndarray]:
    """Return the content of predictions.npz.

    Args:
        config: the settings of the run.
        ratings: all ratings.
        split: the split that the models were trained on.
        with_priors: whether to learn the priors for folding in, which takes some seconds.
        models: the result of `gathered` of the model or blend.
        factors: the models, ready to predict.
    """
    members = tuple(map(WeightedModel, (f.weight for f in factors), models))
    run = FinishedRun(config, ratings.fingerprint, ratings, split.by_item().train, members,
                      tuple(factors))
    recommender = recommender_of(config, ratings, run.train, factors)
    content = prediction_content(config, ratings.fingerprint, recommender)
    if with_priors:
        content |= prior_content(run)
        for i, model in enumerate(models, 1):
            if (Y := parameter_of(model, "Y")) is not None:
                content[f"Y_{i}"] = Y
    return with_digests(content)


def prediction_content(config: Config, fingerprint: str,
                       recommender: Recommender) -> dict[str, np.ndarray]:
    """Return the content that predictions need: all except V, D, mu, the inner layers and the
    fingerprint of the split."""
    content = {
        "format": FORMAT, "version": VERSION, "config": json.dumps(config.to_dict()),
        "fingerprint": fingerprint, "user_ids": plain_ids(recommender.user_ids),
        "item_ids": plain_ids(recommender.item_ids), "user_ratings": recommender.user_ratings,
        "item_ratings": recommender.item_ratings,
        "scale": np.array(recommender.unit.file_scale, np.float64),
        "inner_scale": np.array(recommender.unit.model_scale, np.float64),
        "cold_mean": np.float64(recommender.cold.mean),
        "cold_scale": np.array(recommender.cold.scale, np.float64),
        "cold_user_bias": recommender.cold.row_bias,
        "cold_item_bias": recommender.cold.column_bias,
        "weights": np.array([f.weight for f in recommender.factors], np.float64),
        "orientations": [f.orientation for f in recommender.factors],
        "output_activations": [f.output_activation for f in recommender.factors],
    }
    for i, f in enumerate(recommender.factors, 1):
        content |= {f"W_{i}": f.Wt.T, f"b_{i}": f.b, f"codes_{i}": f.row_embeddings}
    return {name: np.asarray(x) for name, x in content.items()}


class ModelContent(NamedTuple):
    """The content of a saved model, with the `parameters` and `values` of each `AutoRec`."""

    config: Config
    ratings: Ratings
    train: RatingMatrix
    parameters: list[list[np.ndarray]]
    values: list[np.ndarray | None]
    recommender: Recommender
    summary: dict[str, Any]
    priors: tuple[tuple[Prior, Prior], ...]
    fingerprint: str
    fixed: tuple[np.ndarray, np.ndarray]

    def run(self, named: str) -> FinishedRun:
        """Return the run. Raise UserError as in `check_parameters`, which explains `named`."""
        members = []
        for f, each, arrays, values in zip(self.recommender.factors, model_configs(self.config),
                                           self.parameters, self.values, strict=True):
            declared = parameters_of(each, len(values) if values is not None else 0)
            check_parameters(arrays, declared, len(f.Wt), len(f.row_embeddings), named)
            model = TrainedParameters(each, values, declared, arrays)
            members.append(WeightedModel(f.weight, model))
        recommender = self.recommender
        counts = recommender.user_ratings, recommender.item_ratings
        return FinishedRun(self.config, self.fingerprint, self.ratings, self.train, tuple(members),
                           tuple(recommender.factors), self.priors, recommender.cold,
                           recommender.rated, counts, self.fixed)


def model_content(run: FinishedRun, recommender: Recommender,
                  summary: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the content of a file for `run` that includes its ratings and its summary."""
    ratings, train = run.ratings, run.train
    more = {
        "estimator": MODEL_VERSION, "name": ratings.name, "users": ratings.users,
        "items": ratings.items, "values": ratings.values, "mapped": ratings.mapped,
        "train_indptr": train.indptr, "train_indices": train.indices, "train_values": train.values,
        "summary": json.dumps(dict(summary)),
    }
    if run.is_export:
        more |= dict(zip(FIXED, run.fixed, strict=True))
    if ratings.held_out is not None:
        more["held_out"] = ratings.held_out
    return with_digests(content_of(run, recommender) | more)


def read_saved_model(path: str | os.PathLike | io.BytesIO) -> ModelContent:
    """Read a file with `model_content`, or an export. Raise UserError as in `read_content`."""
    content = read_content(path, Kind.EXPORT)
    recommender = from_content(content)
    if "estimator" not in content:
        content |= without_ratings(content, recommender)
    ratings = Ratings(str(content["name"]), content["users"], content["items"], content["values"],
                      recommender.user_ids, recommender.item_ids, recommender.unit.file_scale,
                      content.get("held_out"), bool(content["mapped"]))
    train = RatingMatrix(content["train_indptr"], content["train_indices"],
                         content["train_values"], ratings.num_users)
    config = Config.from_dict(json.loads(str(content["config"])))
    models = list(enumerate(model_configs(config), 1))
    parameters = [[p.oriented(content[p.npz_name(i)]) for p in parameters_of(each)]
                  for i, each in models]
    values, summary = [content.get(f"values_{i}") for i, _ in models], str(content["summary"])
    of_users, of_items = (content.get(name, NOTHING) for name in FIXED)
    return ModelContent(config, ratings, train, parameters, values, recommender,
                        json.loads(summary), stored_priors(content, len(models)),
                        str(content["fingerprint"]), (of_users, of_items))


def without_ratings(content: Content, recommender: Recommender) -> dict[str, Any]:
    """Return what a saved model has beyond the `content` of an export: no ratings."""
    unit, config = recommender.unit, json.loads(str(content["config"]))
    no_index, values = np.zeros(0, np.int32), np.zeros(0, np.float32)
    return {
        "name": config["dataset"] or "export", "users": no_index, "items": no_index,
        "values": values, "mapped": RatingUnit.of(unit.file_scale) == unit,
        "train_indptr": np.zeros(len(recommender.item_ids) + 1, np.int64),
        "train_indices": no_index, "train_values": values,
        "summary": json.dumps({"final_test_rmse": math.nan}),
        FIXED[0]: np.flatnonzero(recommender.user_ratings),
        FIXED[1]: np.flatnonzero(recommender.item_ratings),
    }


class StoredPredictions(NamedTuple):
    """The content of a run folder's predictions.npz. `priors` is () in files of earlier versions
    and of interrupted runs, and `models` then cannot be folded into."""

    recommender: Recommender
    models: list[TrainedParameters]
    priors: tuple[tuple[Prior, Prior], ...]

    def run(self, config: Config, ratings: Ratings, train: RatingMatrix) -> FinishedRun:
        """Return the run, without the parameters that folding in does not read. `train`: the
        training ratings, items x users."""
        factors, members = tuple(self.recommender.factors), []
        for f, model in zip(factors, self.models, strict=True):
            members.append(WeightedModel(f.weight, model))
        return FinishedRun(config, ratings.fingerprint, ratings, train, tuple(members), factors,
                           self.priors, self.recommender.cold)


def read_predictions(path: str | Path, record: Mapping[str, Any]) -> StoredPredictions:
    """Read predictions.npz in a run folder. Raise UserError as in `read_content`, where `record`
    is described."""
    content, models = read_content(path, Kind.PREDICTIONS, record), []
    config = Config.from_dict(json.loads(str(content["config"])))
    for i, each in enumerate(model_configs(config), 1):
        declared = [p for p in parameters_of(each) if p.name == "Y" and p.npz_name(i) in content]
        arrays = [content[p.npz_name(i)] for p in declared]
        models.append(TrainedParameters(each, None, declared, arrays))
    return StoredPredictions(from_content(content), models, stored_priors(content, len(models)))


def read_npz(path: str | Path, record: Mapping[str, Any] | None = None) -> Recommender:
    """Return the recommender in a file of `write_npz`. Raise UserError as in `read_content`, where
    `record` is described."""
    return from_content(read_content(path, Kind.PREDICTIONS, record))


def npz_config(path: str | Path) -> Config:
    """Return the run's settings in a file that `read_npz` accepts. Raise UserError if invalid."""
    with Archive(path, REMEDY) as archive:
        content = archive.read({"config": PREDICTIONS["config"]})
    return Config.from_dict(json.loads(str(content["config"])))


def from_content(content: Content) -> Recommender:
    names = "user_ids", "item_ids", "user_ratings", "item_ratings"
    arrays: dict[str, Any] = {name: content[name] for name in names}
    for name in names[:2]:
        if arrays[name].dtype.kind == "U":
            arrays[name] = arrays[name].astype(object)
    file_scale = model_scale = as_pair(content["scale"])
    users, items = (np.zeros(len(arrays[name])) for name in names[:2])
    cold = Baseline(COLD_RATING, users, items)
    if content["version"] > 1:
        model_scale = as_pair(content["inner_scale"])
        biases = content["cold_user_bias"], content["cold_item_bias"]
        cold = Baseline(float(content["cold_mean"]), *biases, as_pair(content["cold_scale"]))
    settings = content["weights"], content["orientations"], content["output_activations"]
    factors = [
        Factors(str(orientation), content[f"codes_{i}"],
                np.ascontiguousarray(content[f"W_{i}"].T), content[f"b_{i}"], str(activation),
                model_scale, float(weight))
        for i, (weight, orientation, activation) in enumerate(zip(*settings, strict=True), 1)
    ]
    if "estimator" in content:  # with ratings
        triples = content["users"], content["items"], content["values"]
        arrays["rated"] = RatingMatrix.from_triples(*triples, (len(users), len(items)))
    if "titles" in content:
        arrays["titles"] = json.loads(str(content["titles"]))
    unit = RatingUnit(file_scale, model_scale)
    return Recommender(**arrays, unit=unit, cold=cold, factors=factors)


def as_pair(array: np.ndarray) -> tuple[float, float]:
    low, high = array
    return float(low), float(high)


def plain_ids(ids: np.ndarray) -> np.ndarray:
    """Return `ids` as int64, or as text of a fixed width, which needs no pickle."""
    return ids.astype(np.int64) if np.asarray(ids).dtype.kind in "iu" else np.asarray(ids, str)
