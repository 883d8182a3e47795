"""Choose lambda for a full-batch optimiser on validation ratings, a tenth of the training ratings.

The search begins with the lambda that is probably best, and doubles or halves it until the
validation RMSE rises. Each training starts from the best parameters so far, and ends by the same
rule as every training (--tolerance), or as soon as the RMSE rises above that of its start. Where
the biases of users and items are better, which is so if there are few ratings, the chosen lambda is
so large that only biases remain.

The final training does not start there: from these parameters it would end at a worse point.
"""

import math
from contextlib import closing
from dataclasses import replace

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.baseline import fit_baseline
from autorec_tf.evaluation.metrics import score
from autorec_tf.model.column_shards import own_part
from autorec_tf.model.lbfgs import assign
from autorec_tf.presets import BIASES_ONLY
from autorec_tf.system.distribution import Workers
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.records import Records
from autorec_tf.training.trainer import BIAS_DAMPING, build
from data_preprocessor import validation_split

CHECK_EVERY = 5  # epochs
STEP = 2.0
LARGE_STEP = 8.0  # upwards, until the RMSE is below that of the biases by `CLEAR_GAIN`
CLEAR_GAIN = 0.01  # relative
LEAST_GAIN = 1e-4  # the smallest relative decrease of the RMSE that justifies another step
MOST_POINTS = 20
NO_DAMPING = 1e-9  # of columns, of which some have no ratings


def search_lambda(config: Config, ratings: Ratings, records: Records,
                  workers: Workers | None = None) -> float:
    """Return the lambda with the lowest validation RMSE.

    A resumed run repeats the trainings, with equal results, unless the search was complete.
    `workers` train each model together; they have the same `ratings`.
    """
    search = LambdaSearch(config, ratings, records, workers)
    if search.path(records.tuned())[1] is not None:
        search.train()
    rmses = records.tuned()
    return search.path(rmses)[0][rmses.index(min(rmses))]


def first_lambda(num_ratings: int) -> float:
    """Return the lambda that is probably best. It was near 450 with 900,000 training ratings of
    MovieLens-1M, and near 250 with 100,000 to 150,000 of them."""
    return float(f"{450 * (num_ratings / 900_000) ** (1 / 3):.2g}")


def path(first: float, biases: float, rmses: list[float]) -> tuple[list[float], float | None]:
    """Return the lambdas whose validation RMSEs are `rmses`, and the next one to try, or None at
    the end of the search.

    Args:
        first: the first lambda.
        biases: the RMSE of the biases of users and items.
        rmses: the RMSEs that are known.
    """
    values: list[float] = []
    while True:
        tried = rmses[: len(values)]
        following = next_lambda(first, biases, values, tried)
        if len(values) == MOST_POINTS:
            following = None
        if not following and BIASES_ONLY not in values and min(tried) > biases:
            following = BIASES_ONLY
        if not following or len(values) == len(rmses):
            return values, following
        values.append(following)


def next_lambda(first: float, biases: float, values: list[float],
                rmses: list[float]) -> float | None:
    """Return the lambda to try after `values`, or None if smaller and larger ones than the best are
    among them, or another one would hardly be better. The arguments are those of `path`."""
    if not values:
        return first
    if BIASES_ONLY in values:
        return None
    best = values[rmses.index(min(rmses))]
    lowest, *others = sorted(rmses)
    if others and others[0] - lowest < LEAST_GAIN * lowest:
        return None
    if best == max(values):
        larger = best * (STEP if lowest < (1 - CLEAR_GAIN) * biases else LARGE_STEP)
        return larger if larger < BIASES_ONLY else None
    return best / STEP if best == min(values) else None


def rmse_of_biases(split: Split, decoder: str) -> float:
    """Return the RMSE on the test ratings of `split` of a model whose lambda leaves only biases:
    those of rows and columns, or the means of columns without row biases."""
    dampings = [BIAS_DAMPING, BIAS_DAMPING]
    if decoder == "own":
        dampings = [math.inf, NO_DAMPING]
    of_items, of_users = dampings if split.orientation == "item" else reversed(dampings)
    biases = fit_baseline(split, dampings=(of_items, of_users))
    return score(biases.predict(split.test.rows, split.test.indices), split.test.values).rmse


class LambdaSearch:
    """The trainings of the search for the lambda of `config`. They share one model, whose lambda is
    a variable, and its graphs."""

    def __init__(self, config: Config, ratings: Ratings, records: Records,
                 workers: Workers | None = None) -> None:
        self.config = replace(config, display_step=CHECK_EVERY)
        self.records, self.scale = records, ratings.unit.model_scale
        split = validation_split(config, ratings)
        self.first = first_lambda(len(split.train))
        self.biases = rmse_of_biases(split, config.decoder)
        if workers:  # processors round differently
            self.biases = float(workers.of_first(np.array(self.biases)))
        self.split, self.workers = own_part(split, workers), workers
        self.lambda_value = tf.Variable(self.first, dtype=tf.float32, trainable=False)

    def path(self, rmses: list[float]) -> tuple[list[float], float | None]:
        return path(self.first, self.biases, rmses)

    def train(self) -> None:
        """Train with each lambda, and record the validation RMSEs that are not recorded yet."""
        model = build(self.config, self.split.train, self.scale, self.workers,
                      lambda_value=self.lambda_value)
        pretrain(model, self.split.train, self.records.log_pretraining)
        state, best = TrainState(model, self.split), copies(model)  # parameters of the lowest RMSE
        rmses: list[float] = []
        while (value := self.path(rmses)[1]) is not None:
            rmse = self.biases
            if value != BIASES_ONLY:
                assign(model.parameters, best)
                rmse = self.train_with(value, state, min(rmses, default=math.inf))
            if len(rmses) == len(self.records.tuned()):
                self.records.log_point({"lambda_value": value}, rmse)
            rmses.append(self.records.tuned()[len(rmses)])
            if rmses[-1] == min(rmses) < math.inf:
                best = copies(model)

    def train_with(self, value: float, state: TrainState, lowest: float) -> float:
        """Train with lambda `value` from the current parameters, whose validation RMSE is `lowest`
        (infinity: unknown). Return the validation RMSE, infinity if training diverges. A training
        ends when its RMSE rises, and is above `lowest` or, if that is unknown, the biases'."""
        self.lambda_value.assign(value)
        state.restart()
        rmse, limit = lowest, lowest if lowest < math.inf else self.biases
        try:
            with closing(train_epochs(state, self.split)) as epochs:
                for metrics in epochs:
                    self.records.log_step(f"lambda {value:g}, epoch", metrics.epoch,
                                          self.config.train_epoch, ends_early=True)
                    self.records.stop_if_asked()
                    if metrics.test_rmse:
                        before, rmse = rmse, metrics.test_rmse
                        if rmse > max(before, limit):
                            break
        except Diverged:
            rmse = math.inf
        return rmse


def copies(model: AutoRec) -> list[tf.Tensor]:
    return [tf.identity(x) for x in model.parameters]
