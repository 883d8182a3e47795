"""What goes beyond training one model: settings chosen by validation ratings, several models
blended, and the earlier program's leaking measure.

Test ratings are seen here by `reconstruction` alone, which exists to show what that does; the
others are given training and validation ratings.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from AutoRec import AutoRec, choose_engine
from config import Config
from data.ratings import Ratings, Split
from data_preprocessor import split_ratings
from evaluation.evaluate import item_vectors, scores, user_blocks
from evaluation.metrics import Scores
from model.batch import sparse_rows
from pretraining import pretrain
from system.errors import Diverged
from training import HeldOut

# Trains a model on a split; what it is trained for is told in words.
Train = Callable[[AutoRec, Split, str], object]

FOR_WEIGHTS, FOR_RESULT = "for the weights", "for the result"  # what a blend trains models for
VALIDATION_RATIO = 0.1  # of the training ratings, to choose settings or learn weights by

# What --tune chooses from. The bounds are those of an exploration; the choice is each split's own.
GRID: dict[str, Sequence[Any]] = {
    "lambda_value": (30.0, 40.0),
    "base_lr": (0.003, 0.005),
    "decay_epoch_step": (15, 20),
}

# What --members names: settings over those of the configuration. They were chosen on ratings held
# out of seed 1994's training ratings, each model for itself.
MEMBERS: dict[str, dict[str, Any]] = {
    "item": {"orientation": "item", "regularization": "plain", "lambda_value": 40.0,
             "base_lr": 0.005, "decay_epoch_step": 20, "train_epoch": 100},
    "denoising": {"orientation": "item", "regularization": "plain", "lambda_value": 20.0,
                  "input_dropout": 0.5, "base_lr": 0.005, "decay_epoch_step": 20,
                  "train_epoch": 100},
    "wide": {"orientation": "item", "regularization": "plain", "lambda_value": 15.0,
             "hidden_neuron": (1000,), "input_dropout": 0.7, "base_lr": 0.005,
             "decay_epoch_step": 15, "train_epoch": 75},
    "deep": {"orientation": "item", "regularization": "plain", "lambda_value": 0.2,
             "lambda_encoder": 25.0, "lambda_decoder": 25.0, "hidden_neuron": (500, 250, 500),
             "pretrain_epoch": 60, "input_dropout": 0.5, "base_lr": 0.005, "decay_epoch_step": 20,
             "train_epoch": 120},
    "weighted": {"orientation": "item", "regularization": "weighted", "lambda_value": 1.0,
                 "base_lr": 0.005, "decay_epoch_step": 20, "train_epoch": 100},
    "user": {"orientation": "user", "regularization": "weighted", "lambda_value": 1.0,
             "base_lr": 0.003, "decay_epoch_step": 25, "train_epoch": 120},
}  # fmt: skip


def build(
    config: Config,
    split: Split,
    scale: tuple[float, float],
    threads: int,
    after_epoch: Callable[[], object] = lambda: None,
) -> AutoRec:
    """The model that `config` means for the training ratings of `split`, pre-trained if that is
    asked for; `after_epoch` is called after every epoch of that, and may raise to end it."""
    config = replace(config, engine=choose_engine(config, split.train.density))
    model = AutoRec(split.train.num_columns, config, scale, threads)
    if config.initial_bias == "mean":
        model.start_at(float(split.train.values.mean()))
    if config.pretrain_epoch:
        pretrain(model, split.train, threads, after_epoch)
    return model


def grid(config: Config) -> list[dict[str, Any]]:
    """The points of `GRID` over the settings in `config.tune`."""
    every = itertools.product(*(GRID[name] for name in config.tune))
    return [dict(zip(config.tune, values, strict=True)) for values in every]


def validation_rmse(
    config: Config, point: dict[str, Any], ratings: Ratings, threads: int, train: Train
) -> float:
    """What the settings of `point` are worth: the last epoch's RMSE of validation ratings, a
    tenth of the training ratings of `config`'s split; infinite if training diverges. The test
    ratings are not looked at."""
    split = validation_split(config, ratings)
    trial = replace(config, **point, display_step=config.train_epoch)
    model = build(trial, split, ratings.scale, threads)
    try:
        train(model, split, ", ".join(f"{name} {value:g}" for name, value in point.items()))
    except Diverged:
        return math.inf
    return HeldOut(model, split, split.test)(sparse_rows(split.train)).rmse


def validation_split(config: Config, ratings: Ratings) -> Split:
    """The training ratings of `config`'s split, parted again: a tenth of them is the test side."""
    split = split_ratings(
        ratings, config.train_ratio, config.split_seed, config.orientation, VALIDATION_RATIO
    )
    return Split(split.train, split.validation)


@dataclass(frozen=True)
class Member:
    """One model of a blend: its settings, weight and lone scores, how it predicts, and what it has
    learned of the items."""

    config: Config
    weight: float
    validation_rmse: float
    test_rmse: float
    model: AutoRec
    predict_block: Callable[[int, int], np.ndarray]
    item_vectors: np.ndarray

    def row(self) -> dict[str, Any]:
        """The member's line in members.csv."""
        shown = ("orientation", "hidden_neuron", "regularization", "lambda_value", "dropout",
                 "base_lr", "train_epoch", "random_seed")  # fmt: skip
        found = {name: getattr(self, name) for name in ("weight", "validation_rmse", "test_rmse")}
        return found | {name: getattr(self.config, name) for name in shown}


def blend(
    config: Config,
    ratings: Ratings,
    threads: int,
    train: Train,
    after_epoch: Callable[[], object] = lambda: None,
) -> tuple[list[Member], np.ndarray, Split]:
    """Train `config.members` and blend them with weights learned on validation ratings.

    Every member is trained twice: without a tenth of the training ratings, which then choose the
    weights, and with all of them, for the result. Returns the members, the blend's raw
    predictions of the test ratings (float64 [pairs]) and the split, whose rows are items. `train`
    is called once for every training, and may raise to end it all; so may `after_epoch`, which is
    called after every epoch of pre-training.
    """
    config = replace(config, orientation="item")
    whole = split_ratings(ratings, config.train_ratio, config.split_seed)
    part, settings = validation_split(config, ratings), member_configs(config)

    def fit(split: Split, step: str) -> tuple[list[AutoRec], list[np.ndarray]]:
        models, predictions = [], []
        for number, member in enumerate(settings, 1):
            own = oriented(split, member)
            model = build(member, own, ratings.scale, threads, after_epoch)
            train(model, own, f"{step}, model {number}")
            pairs = split.test.rows, split.test.indices
            pairs = pairs if member.orientation == "item" else pairs[::-1]
            models.append(model)
            predictions.append(model.predict(sparse_rows(own.train), *pairs))
        return models, predictions

    _, held_out = fit(part, FOR_WEIGHTS)
    models, predictions = fit(whole, FOR_RESULT)
    weights = blend_weights(np.clip(held_out, *ratings.scale), part.test.values)
    members = []
    for member, weight, held, predicted, model in zip(
        settings, weights, held_out, predictions, models, strict=True
    ):
        codes = model.codes(sparse_rows(oriented(whole, member).train))
        members.append(
            Member(
                member,
                weight=float(weight),
                validation_rmse=scores(part, held, ratings.scale).rmse,
                test_rmse=scores(whole, predicted, ratings.scale).rmse,
                model=model,
                predict_block=user_blocks(model, codes, member.orientation),
                item_vectors=item_vectors(model, codes, member.orientation),
            )
        )
    return members, weights @ np.clip(predictions, *ratings.scale), whole


def oriented(split: Split, config: Config) -> Split:
    """`split`, whose rows are items, as `config` wants its rows."""
    return split if config.orientation == "item" else split.transposed()


def member_configs(config: Config) -> list[Config]:
    """The settings of each of `config.members`: what `config` has set otherwise than by default,
    and else the member's own. They share the split, and each has an initialisation and a
    shuffling of its own."""
    default = Config()
    own = [
        {k: v for k, v in MEMBERS[name].items() if getattr(config, k) == getattr(default, k)}
        for name in config.members
    ]
    return [
        replace(config, **settings, members=(), random_seed=config.random_seed + i)
        for i, settings in enumerate(own)
    ]


def blend_weights(predictions: np.ndarray, ratings: np.ndarray) -> np.ndarray:
    """The weights, none negative, with the least squared error of the weighted sum of
    `predictions` [members, pairs] against validation `ratings` [pairs]: float64 [members]."""
    from scipy.optimize import nnls  # 30 MB, and few runs blend

    weights, _ = nnls(predictions.T.astype(np.float64), ratings.astype(np.float64))
    return weights


def reconstruction(model: AutoRec, split: Split) -> Callable[[], Scores]:
    """The earlier program's measure: the network is given the *test* ratings and the same test
    ratings are compared with what comes out. Not a prediction, and never to be quoted as one."""
    evaluate, inputs = HeldOut(model, split, split.test), sparse_rows(split.test)
    return lambda: evaluate(inputs)
