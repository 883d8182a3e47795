"""A run folder, read again: its settings, its ratings and split, and the models it trained.

    run = read_run("results/quick", "ml-1m")
    run.members[0].model.W, run.train, run.ratings.item_ids
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.model.column_shards import SUFFIX
from autorec_tf.model.parameters import parameters_of
from autorec_tf.records import run_folder
from autorec_tf.records.run_folder import CONFIG, PARAMETERS
from autorec_tf.resolution import model_configs
from autorec_tf.serving.recommender import Recommender, rated, recommender_of
from autorec_tf.serving.relocate import ratings_of_run
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import as_utf8
from data_preprocessor import split_of


class WeightedModel(NamedTuple):
    """A trained model and its weight: 1, or less in a blend."""

    weight: float
    model: AutoRec


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Settings, fingerprint, all known ratings, those of training (items x users), and models."""

    config: Config
    fingerprint: str
    ratings: Ratings
    train: RatingMatrix
    members: tuple[WeightedModel, ...]

    def recommender(self, titles: Mapping[str, str] | None = None) -> Recommender:
        """Return what predicts for this run's ids, from its training ratings."""
        factors = [
            replace(factors, weight=member.weight)
            for member in self.members
            for factors in member.model.factors(oriented(self.train, member.model.config))
        ]
        alone = recommender_of(self.config, self.ratings, self.train, factors)
        return replace(alone, rated=rated(self.ratings), titles=titles or {})


def oriented(matrix: RatingMatrix, config: Config) -> RatingMatrix:
    """Return `matrix`, whose rows are items, as `config` wants its rows."""
    return matrix if config.orientation == "item" else matrix.transposed()


def read_run(folder: str | Path, data_dir: str | None = None, dataset: str | None = None,
             test_file: str | None = None) -> FinishedRun:
    """Return the run that left `folder`, with its ratings from `data_dir` (default: as for
    main.py), or from the files `dataset` and `test_file`, wherever they lie now.

    Raise UserError if the folder is none of a run or was damaged, or if the ratings are not
    those that the run was trained on.
    """
    path = Path(folder)
    record = run_folder.read_record(path)
    config = run_folder.config_of(path, record, data_dir=data_dir)
    if config.split_seed is None or config.dataset is None:
        raise UserError(f"{path / CONFIG}: split_seed or dataset is missing")
    if config.is_repeated:
        raise UserError(f"{path / CONFIG} is of several runs, and does not say of which this is")
    settings = [(1.0, PARAMETERS, config)]
    if config.members:
        models = model_configs(config)
        weights = run_folder.read_member_weights(path, [each.orientation for each in models])
        settings = [
            (weight, f"{PARAMETERS}_{number}", each)
            for number, (weight, each) in enumerate(zip(weights, models, strict=True), 1)
        ]
    for _, name, _ in settings:
        if not (path / f"{name}.index").exists():
            raise UserError(f"{path} has no {name}.index: the run did not finish, or was damaged")
    ratings = ratings_of_run(path, config, record, dataset, test_file)
    train = split_of(replace(config, orientation="item"), ratings).train
    members = tuple(
        WeightedModel(weight, read_parameters(path / name, member, train, ratings.unit.model_scale))
        for weight, name, member in settings
    )
    return FinishedRun(config, ratings.fingerprint, ratings, train, members)


def read_parameters(prefix: Path, config: Config, train: RatingMatrix,
                    scale: tuple[float, float]) -> AutoRec:
    """Return the model of `config` with the parameters that `AutoRec.save` wrote under `prefix`.

    Raise UserError if they cannot be read, do not fit, or are no numbers.
    """
    try:
        reader = tf.train.load_checkpoint(as_utf8(prefix))
        values = [
            parameter.oriented(reader.get_tensor(f"{parameter.saved or parameter.name}{SUFFIX}"))
            for parameter in parameters_of(config)
        ]
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"the parameters {prefix}.* are damaged, or of another model") from error
    return with_parameters(values, config, train, scale, f"the parameters {prefix}.*")


def with_parameters(values: Sequence[np.ndarray], config: Config, train: RatingMatrix,
                    scale: tuple[float, float], named: str,
                    rating_values: np.ndarray | None = None) -> AutoRec:
    """Return the model of `config` whose `parameters` are `values`, trained on `train`, whose rows
    are items. Raise UserError, in which they are `named`, if they do not fit or are no numbers.
    `rating_values` are those of one-hot inputs, where `train` has more by now."""
    # How the gradients were computed does not matter any more, and another machine may lack it.
    config = replace(config, engine="auto", precision="float32")
    if config.input_encoding == "one_hot" and rating_values is None:
        rating_values = train.distinct
    own = oriented(train, config)
    model = AutoRec(own.num_columns, config, scale, train.density, values=rating_values,
                    num_rows=own.num_rows)
    if len(values) != len(model.parameters):
        raise UserError(f"{named} are {len(values)}, and {len(model.parameters)} in the settings")
    for variable, value in zip(model.parameters, values, strict=True):
        if value.shape != tuple(variable.shape) or value.dtype != np.float32:
            raise UserError(f"{named} do not fit config.json and the ratings: "
                            f"{variable.name.partition(':')[0]} is {value.dtype} {value.shape}")
        if not np.isfinite(value).all():
            raise UserError(f"{named} are no numbers: the training diverged")
        variable.assign(value)
    return model


def finished_run(models: Iterable[tuple[float, Sequence[np.ndarray], Config, np.ndarray | None]],
                 config: Config, known: Ratings, train: RatingMatrix,
                 named: str = "the parameters") -> FinishedRun:
    """Return what main.py would have left, read again. `models`: weight, parameters, settings and
    `AutoRec.values` of each; train: items x users."""
    scale = known.unit.model_scale
    members = tuple(
        WeightedModel(weight, with_parameters(values, own, train, scale, named, rating_values))
        for weight, values, own, rating_values in models
    )
    return FinishedRun(config, known.fingerprint, known, train, members)
