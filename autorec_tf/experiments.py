"""Experiments with several trainings: tuning, blends, and the leaking measure of the earlier
TensorFlow 1 program; and the end of each run, where its result is evaluated and recorded.

Only `reconstruction` uses the test ratings as input, to show the effect of that leak. `conclude`
scores predictions of them; all other functions train on training ratings and choose by validation
ratings. The `records` argument
(training/records.py) records the results.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from AutoRec import AutoRec
from autorec_tf.config import FULL_BATCH, Config, point_text
from autorec_tf.data.ratings import RatingMatrix, Ratings, Split
from autorec_tf.evaluation.evaluate import Trained, evaluate, score_test
from autorec_tf.evaluation.metrics import Scores
from autorec_tf.lambda_search import search_lambda
from autorec_tf.model.column_shards import own_part
from autorec_tf.model.factors import Factors
from autorec_tf.model.gradients import forget
from autorec_tf.presets import GRID
from autorec_tf.resolution import member_configs
from autorec_tf.system.distribution import Workers
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import Evaluator, TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.records import Records, TrainingRecords
from autorec_tf.training.trainer import build
from data_preprocessor import split_of, validation_split

STEPS_OUTWARDS = 8  # largest number of points that --tune adds to its grid, beyond its bounds


class Purpose(Enum):
    """The purpose of a training of a blend's member."""

    WEIGHTS = "for the weights"
    RESULT = "for the result"


def tune(config: Config, ratings: Ratings, records: Records,
         workers: Workers | None = None) -> Config:
    """Return `config` with the values of the settings `config.tune` that have the lowest validation
    RMSE. `workers` train each model together; they have the same `ratings`."""
    if not config.tune:
        return config
    if config.optimizer_method in FULL_BATCH:
        point: dict[str, Any] = {
            "lambda_value": search_lambda(config, ratings, records, workers)}
    else:
        point = best_point(config, ratings, records, workers)
    records.log_chosen(point)
    config = replace(config, **point)
    records.log_settings(config)
    return config


def best_point(config: Config, ratings: Ratings, records: Records,
               workers: Workers | None = None) -> dict[str, Any]:
    """Return the point of the grid, extended outwards, that has the lowest validation RMSE."""
    points, rmses, last = grid(config), records.tuned(), len(grid(config)) + STEPS_OUTWARDS
    while True:
        if len(points) > len(rmses):
            point = points[len(rmses)]
            records.log_point(point, validation_rmse(config, point, ratings, records, workers))
            rmses = records.tuned()
            continue
        further = extend_grid(config, points, rmses[: len(points)])
        if further is None or len(points) == last:
            break
        points.append(further)
    return points[rmses.index(min(rmses))]


def grid(config: Config) -> list[dict[str, Any]]:
    """Return the points of `GRID` over `config.tune`, with lambdas scaled to the data."""
    factor = config.lambda_factor or 1.0
    axes = GRID | {"lambda_value": [factor * value for value in GRID["lambda_value"]]}
    every = itertools.product(*(axes[name] for name in config.tune))
    return [dict(zip(config.tune, values, strict=True)) for values in every]


def extend_grid(config: Config, points: Sequence[dict[str, Any]],
                rmses: Sequence[float]) -> dict[str, Any] | None:
    """Return the next point beyond the best one if its lambda is the lowest or highest one tried.

    Return None otherwise, and on MovieLens-1M, on which the grid was chosen.
    """
    if config.lambda_factor in (None, 1.0) or "lambda_value" not in config.tune:
        return None
    best, low, high = points[rmses.index(min(rmses))], *GRID["lambda_value"]
    tried, value = [point["lambda_value"] for point in points], best["lambda_value"]
    if value == max(tried):
        return best | {"lambda_value": value * high / low}
    return best | {"lambda_value": value * low / high} if value == min(tried) else None


def validation_rmse(config: Config, point: dict[str, Any], ratings: Ratings,
                    records: Records, workers: Workers | None = None) -> float:
    """Return the validation RMSE of the settings `point` after the last epoch.

    The validation ratings are a tenth of the training ratings of `config`'s split; test ratings are
    not used. Return infinity if training diverges.
    """
    split = own_part(validation_split(config, ratings), workers)
    trial = replace(config, **point, display_step=config.train_epoch)
    model = build(trial, split.train, ratings.unit.model_scale, workers)
    pretrain(model, split.train, records.log_pretraining)
    try:
        for metrics in train_epochs(TrainState(model, split), split):
            records.log_step(f"{point_text(point)}, epoch", metrics.epoch, trial.train_epoch)
            records.stop_if_asked()
    except Diverged:
        return math.inf
    return Evaluator(model, split, split.test)(model.rows(split.train)).rmse


@dataclass(frozen=True)
class BlendMember:
    """One model of a blend: its settings, weight, scores without the others, and predictions. The
    members of an average have no validation RMSE."""

    config: Config
    weight: float
    validation_rmse: float | None
    test_rmse: float
    model: AutoRec
    predictions: np.ndarray  # float32 [pairs], of the test ratings, not clipped

    def row(self) -> dict[str, Any]:
        """Return the member's line in members.csv."""
        settings = ("orientation", "hidden_neuron", "input_encoding", "decoder", "regularization",
                    "lambda_value", "dropout", "base_lr", "train_epoch", "random_seed")
        scores = {name: getattr(self, name) for name in ("weight", "validation_rmse", "test_rmse")}
        return scores | {name: getattr(self.config, name) for name in settings}


@dataclass(frozen=True)
class Blend:
    """Several models, which predict the weighted sum of their predictions, each clipped to the
    rating scale."""

    members: list[BlendMember]
    scale: tuple[float, float]

    def predict_test(self, split: Split) -> np.ndarray:
        """Return the predictions of the test ratings: float64 [pairs]."""
        weights = np.array([member.weight for member in self.members])
        return weights @ np.clip([member.predictions for member in self.members], *self.scale)

    def factors(self, train: RatingMatrix) -> list[Factors]:
        """Return the factors of each member, which predict from `train` (rows are items)."""
        sides = {"item": train, "user": train.transposed()}
        return [
            replace(factors, weight=member.weight)
            for member in self.members
            for factors in member.model.factors(sides[member.config.orientation])
        ]

    def gathered(self) -> list[Any]:
        return [model for member in self.members for model in member.model.gathered()]

    def save(self, prefix: Path | None) -> None:
        """Write the parameters of the members with `AutoRec.save`, to `prefix`_1 and so on."""
        for number, member in enumerate(self.members, 1):
            member.model.save(f"{prefix}_{number}" if prefix else None)


def blend(config: Config, ratings: Ratings, records: Records,
          workers: Workers | None = None) -> tuple[Blend, Split]:
    """Train `config.members` and blend them; return the blend and its split, whose rows are items.

    Each member is trained twice: without a tenth of the training ratings, on which the weights are
    then learned, and on all training ratings for the result. Members with equal settings, which
    only begin with other parameters, are averaged, and trained once. `workers` train one member
    after the other.
    """
    config = replace(config, orientation="item")
    config = tune_members(config, ratings, records, workers)
    split, scale = split_of(config, ratings), ratings.unit.model_scale
    count, rule = len(config.members), config.cold_rating or "paper"
    weights: Sequence[float] = (1 / count,) * count
    validation: Sequence[float | None] = (None,) * count
    if not has_equal_members(config):
        weights, validation = learned_weights(config, ratings, records, workers)
    models, predictions = train_members(config, split, scale, Purpose.RESULT, records, workers)
    members = [
        BlendMember(member, weight, rmse, score_test(split, predicted, rule).rmse, model, predicted)
        for member, weight, rmse, predicted, model in zip(
            member_configs(config), weights, validation, predictions, models, strict=True)
    ]
    records.log_members([member.row() for member in members])
    return Blend(members, scale), split


def has_equal_members(config: Config) -> bool:
    """Return whether several members differ only in their initial parameters."""
    first, *others = [replace(each, random_seed=0) for each in member_configs(config)]
    return bool(others) and all(other == first for other in others)


def learned_weights(config: Config, ratings: Ratings, records: Records, workers: Workers | None
                    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the weight and the validation RMSE of each member, trained without the validation
    ratings."""
    split, scale = validation_split(config, ratings), ratings.unit.model_scale
    _, predictions = train_members(config, split, scale, Purpose.WEIGHTS, records, workers)
    weights = blend_weights(np.clip(predictions, *scale), split.test.values)
    rule = config.cold_rating or "paper"
    return tuple(weights.tolist()), tuple(score_test(split, x, rule).rmse for x in predictions)


def tune_members(config: Config, ratings: Ratings, records: Records,
                 workers: Workers | None) -> Config:
    """Return `config` with the lambda of its members that are tuned. They share one search, since
    they have the settings of one preset."""
    tuned = [member for member in member_configs(config) if member.tune]
    if not tuned:
        return config
    chosen = {"lambda_value": search_lambda(tuned[0], ratings, records, workers)}
    records.log_chosen(chosen)
    config = replace(config, member_settings=tuple(
        member | chosen if member.get("tune") else member for member in config.member_settings))
    records.log_settings(config)
    return config


def train_members(config: Config, split: Split, scale: tuple[float, float], purpose: Purpose,
                  records: Records, workers: Workers | None = None
                  ) -> tuple[list[AutoRec], list[np.ndarray]]:
    """Train every member on `split`, whose rows are items; return the models and their predictions
    of its test ratings, not clipped, in the order of the split."""
    models, predictions = [], []
    for number, member in enumerate(member_configs(config), 1):
        member_split = split if split.orientation == member.orientation else split.transposed()
        member_records = records.of_member(member, purpose.value, number)
        model, _ = train_model(member, member_split, scale, member_records,
                               records.log_pretraining, workers=workers)
        pairs = split.test.rows, split.test.indices
        pairs = pairs if member.orientation == "item" else pairs[::-1]
        models.append(model)
        predictions.append(model.predict_pairs(member_split.train, *pairs))
    return models, predictions


def train_model(
    config: Config, split: Split, scale: tuple[float, float], records: TrainingRecords,
    after_pretraining_epoch: Callable[[int, int], object], start: Sequence[np.ndarray] = (),
    workers: Workers | None = None,
) -> tuple[AutoRec, Callable[[], Scores] | None]:
    """Train one model, perhaps from the parameters `start`; return it, and its `reconstruction` if
    `config` asks for it. `workers` divide its columns and pass the same `split`."""
    split = own_part(split, workers)
    model = build(config, split.train, scale, workers, start)
    state = records.restore(TrainState(model, split))
    if state.is_new:
        pretrain(model, split.train, after_pretraining_epoch)
    measure = reconstruction(model, split) if config.score_reconstruction else None
    with closing(train_epochs(state, split, measure)) as epochs:
        for metrics in epochs:
            records.log_epoch(metrics, state)
    return model, measure


def blend_weights(predictions: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """Return the weights of a blend by non-negative least squares.

    Args:
        predictions: Clipped predictions of the validation ratings, [members, pairs].
        ratings: The validation ratings, [pairs].

    Returns:
        Weights, float64 [members].
    """
    from scipy.optimize import nnls  # needs 30 MB of memory, and few runs blend

    weights, _ = nnls(predictions.T.astype(np.float64), ratings.astype(np.float64))
    return weights


def reconstruction(model: AutoRec, split: Split) -> Callable[[], Scores]:
    """Return a function that scores the reconstruction of the test ratings from themselves.

    The network's input is the *test* ratings, and its output is compared with the same ratings, as
    in the earlier TensorFlow 1 program. This is not a prediction: never report it as one.
    """
    evaluate, inputs = Evaluator(model, split, split.test), model.rows(split.test)
    return lambda: evaluate(inputs)


def conclude(config: Config, split: Split, trained: Trained, records: Records,
             titles: Mapping[str, str], reconstruction: Scores | None = None,
             content: Callable[[Sequence[Any], Sequence[Factors]], dict[str, Any]] | None = None
             ) -> None:
    """Evaluate `trained` on the test ratings of `split`, and record the result.

    Args:
        config: the settings.
        split: the split that was trained on.
        trained: the model or blend.
        records: record the result.
        titles: titles by item id.
        reconstruction: the scores of the leaking measure.
        content: returns the arrays of predictions.npz, if that is written. A thread calls it during
            the evaluation.
    """
    models, factors = trained.gathered(), trained.factors(split.train)
    with ThreadPoolExecutor(1) as thread:
        arrays = thread.submit(content, models, factors) if content else Future[dict[str, Any]]()
        evaluation = evaluate(trained, split, config.cold_rating, config.relevant_rating,
                              config.ranked_users, config.random_seed, records.log_ranked, factors)
        records.finish(trained, evaluation, titles, arrays.result, reconstruction)
    forget()
