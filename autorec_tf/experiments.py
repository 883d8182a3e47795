"""What goes beyond training one model: settings chosen by validation ratings, several models
blended, and the earlier program's leaking measure.

Test ratings are seen here by `reconstruction` alone, which exists to show what that does; the
others are given training and validation ratings. Everything is recorded by the `records` that the
functions are given (training/records.py).
"""

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings, Split
from autorec_tf.evaluation.evaluate import Evaluation, Trained, evaluate, score_test
from autorec_tf.evaluation.metrics import Scores
from autorec_tf.model.factors import Factors
from autorec_tf.presets import GRID
from autorec_tf.resolution import member_configs
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import Evaluator, TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.records import Records, TrainingRecords
from autorec_tf.training.trainer import build
from data_preprocessor import split_of

STEPS_OUTWARDS = 8  # of --tune at most, where its best lambda is the lowest or highest tried
VALIDATION_RATIO = 0.1  # of the training ratings, to choose settings or learn weights by


class Purpose(Enum):
    """What a model of a blend is trained for."""

    WEIGHTS = "for the weights"
    RESULT = "for the result"


def tune(config: Config, ratings: Ratings, records: Records) -> Config:
    """Return `config` with the settings in `config.tune` as validation ratings choose them."""
    if not config.tune:
        return config
    points, rmses, last = grid(config), records.tuned(), len(grid(config)) + STEPS_OUTWARDS
    while True:
        if len(points) > len(rmses):
            point = points[len(rmses)]
            records.log_point(point, validation_rmse(config, point, ratings, records.stop_if_asked))
            rmses = records.tuned()
            continue
        further = extend_grid(config, points, rmses[: len(points)])
        if further is None or len(points) == last:
            break
        points.append(further)
    config = replace(config, **points[rmses.index(min(rmses))])
    records.log_settings(config)
    return config


def grid(config: Config) -> list[dict[str, Any]]:
    """Return the points of `GRID` over `config.tune`, with lambdas scaled to the data."""
    factor = config.lambda_factor or 1.0
    axes = GRID | {"lambda_value": [factor * value for value in GRID["lambda_value"]]}
    every = itertools.product(*(axes[name] for name in config.tune))
    return [dict(zip(config.tune, values, strict=True)) for values in every]


def extend_grid(config: Config, points: Sequence[dict[str, Any]],
                rmses: Sequence[float]) -> dict[str, Any] | None:
    """Return the point next to the best one, if that has the lowest or the highest lambda that was
    tried: a step outwards; None if it has not, or on MovieLens-1M, for which the grid was made."""
    if config.lambda_factor in (None, 1.0) or "lambda_value" not in config.tune:
        return None
    best, low, high = points[rmses.index(min(rmses))], *GRID["lambda_value"]
    tried, value = [point["lambda_value"] for point in points], best["lambda_value"]
    if value == max(tried):
        return best | {"lambda_value": value * high / low}
    return best | {"lambda_value": value * low / high} if value == min(tried) else None


def validation_rmse(config: Config, point: dict[str, Any], ratings: Ratings,
                    after_epoch: Callable[[], object]) -> float:
    """Return what the settings of `point` are worth: the last epoch's RMSE of validation ratings, a
    tenth of the training ratings of `config`'s split; infinite if training diverges. The test
    ratings are not looked at."""
    split = validation_split(config, ratings)
    trial = replace(config, **point, display_step=config.train_epoch)
    model = build(trial, split.train, ratings.unit.model_scale)
    pretrain(model, split.train, after_epoch)
    try:
        for _ in train_epochs(TrainState(model, split), split):
            after_epoch()
    except Diverged:
        return math.inf
    return Evaluator(model, split, split.test)(model.rows(split.train)).rmse


def validation_split(config: Config, ratings: Ratings) -> Split:
    """Return the training ratings of `config`'s split, of which a tenth is the test side."""
    split = split_of(config, ratings, VALIDATION_RATIO)
    assert split.validation
    return replace(split, test=split.validation, validation=None)


@dataclass(frozen=True)
class BlendMember:
    """One model of a blend: its settings, weight and lone scores, and what it predicts."""

    config: Config
    weight: float
    validation_rmse: float
    test_rmse: float
    model: AutoRec
    predictions: np.ndarray  # raw, of the test ratings

    def row(self) -> dict[str, Any]:
        """Return the member's line in members.csv."""
        settings = ("orientation", "hidden_neuron", "input_encoding", "decoder", "regularization",
                    "lambda_value", "dropout", "base_lr", "train_epoch", "random_seed")
        scores = {name: getattr(self, name) for name in ("weight", "validation_rmse", "test_rmse")}
        return scores | {name: getattr(self.config, name) for name in settings}


@dataclass(frozen=True)
class Blend:
    """Several models: their predictions, clipped to the scale, are summed by weight."""

    members: list[BlendMember]
    scale: tuple[float, float]

    def predict_test(self, split: Split) -> np.ndarray:
        """Return what was predicted of the test ratings: float64 [pairs]."""
        weights = np.array([member.weight for member in self.members])
        return weights @ np.clip([member.predictions for member in self.members], *self.scale)

    def factors(self, train: RatingMatrix) -> list[Factors]:
        """Return each member as it predicts from `train`, whose rows are items."""
        sides = {"item": train, "user": train.transposed()}
        return [
            replace(factors, weight=member.weight)
            for member in self.members
            for factors in member.model.factors(sides[member.config.orientation])
        ]

    def save(self, prefix: Path) -> None:
        """Write each member's parameters, as `AutoRec.save`, under `prefix`_1 and so on."""
        for number, member in enumerate(self.members, 1):
            member.model.save(f"{prefix}_{number}")


def blend(config: Config, ratings: Ratings, records: Records) -> tuple[Blend, Split]:
    """Train `config.members`, blend them with weights learned on validation ratings, and return the
    blend and its split, whose rows are items.

    Every member is trained twice: without a tenth of the training ratings, which then choose the
    weights, and with all of them, for the result.
    """
    config = replace(config, orientation="item")
    split = split_of(config, ratings)
    part = validation_split(config, ratings)
    scale, rule = ratings.unit.model_scale, config.cold_rating or "paper"
    _, held_out = train_members(config, part, scale, Purpose.WEIGHTS, records)
    models, predictions = train_members(config, split, scale, Purpose.RESULT, records)
    weights = blend_weights(np.clip(held_out, *scale), part.test.values)
    members = [
        BlendMember(member, float(weight), score_test(part, validation, rule).rmse,
                    score_test(split, predicted, rule).rmse, model, predicted)
        for member, weight, validation, predicted, model in zip(
            member_configs(config), weights, held_out, predictions, models, strict=True)
    ]
    records.log_members([member.row() for member in members])
    return Blend(members, scale), split


def train_members(config: Config, split: Split, scale: tuple[float, float], purpose: Purpose,
                  records: Records) -> tuple[list[AutoRec], list[np.ndarray]]:
    """Train every member on `split`, whose rows are items; return the models and their raw
    predictions of its test ratings, in its order."""
    models, predictions = [], []
    for number, member in enumerate(member_configs(config), 1):
        same = split.orientation == member.orientation
        member_split = split if same else split.transposed()
        own = records.of_member(member, purpose.value, number)
        model, _ = train_model(member, member_split, scale, own, records.stop_if_asked)
        pairs = split.test.rows, split.test.indices
        pairs = pairs if member.orientation == "item" else pairs[::-1]
        models.append(model)
        predictions.append(model.predict(model.rows(member_split.train), *pairs))
    return models, predictions


def train_model(
    config: Config, split: Split, scale: tuple[float, float], records: TrainingRecords,
    after_pretraining_epoch: Callable[[], object],
) -> tuple[AutoRec, Callable[[], Scores] | None]:
    """Train one model in one process; return it, and its `reconstruction` if that is wanted."""
    model = build(config, split.train, scale)
    state = records.restore(TrainState(model, split))
    if state.is_new:
        pretrain(model, split.train, after_pretraining_epoch)
    measure = reconstruction(model, split) if config.score_reconstruction else None
    with closing(train_epochs(state, split, measure)) as epochs:
        for metrics in epochs:
            records.log_epoch(metrics, state)
    return model, measure


def blend_weights(predictions: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """Return the weights, none negative, with the least squared error of the weighted sum of
    `predictions` [members, pairs] against validation `ratings` [pairs]: float64 [members]."""
    from scipy.optimize import nnls  # 30 MB, and few runs blend

    weights, _ = nnls(predictions.T.astype(np.float64), ratings.astype(np.float64))
    return weights


def reconstruction(model: AutoRec, split: Split) -> Callable[[], Scores]:
    """Return the earlier program's measure: the network is given the *test* ratings and the same
    test ratings are compared with what comes out. Not a prediction, and never to be quoted as
    one."""
    evaluate, inputs = Evaluator(model, split, split.test), model.rows(split.test)
    return lambda: evaluate(inputs)


def evaluate_trained(config: Config, trained: Trained, split: Split,
                     progress: Callable[[int, int], object]) -> Evaluation:
    """Return the evaluation of `trained` on the test ratings by the rules of `config`."""
    return evaluate(trained, split, config.cold_rating, config.relevant_rating,
                    config.ranked_users, config.random_seed, progress)
