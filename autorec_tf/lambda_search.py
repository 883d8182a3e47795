"""Choose lambda for a full-batch optimiser on validation ratings, a tenth of the training ratings.

The search begins with a lambda so large that only the biases remain, which is best if there are few
ratings. Then it doubles a small lambda until the validation RMSE rises. Each of these trainings
starts from the best parameters so far, and ends by the same rule as every training (--tolerance).
In the other direction this fails: after a large lambda the weights grow so slowly that the
objective seems to have converged.
"""

import math
from contextlib import closing
from dataclasses import replace

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings
from autorec_tf.model.lbfgs import assign
from autorec_tf.presets import BIASES_ONLY
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.records import Records
from autorec_tf.training.trainer import WINDOW, build
from data_preprocessor import validation_split

STEP = 2.0
LEAST_GAIN = 1e-4  # the smallest relative decrease of the RMSE that justifies another step
MOST_POINTS = 20


def search_lambda(config: Config, ratings: Ratings, records: Records) -> float:
    """Return the lambda with the lowest validation RMSE.

    A resumed run repeats the trainings, with equal results, unless the search was complete.
    """
    search = LambdaSearch(config, ratings, records)
    if path(search.first, records.tuned())[1] is not None:
        search.train()
    rmses = records.tuned()
    return path(search.first, rmses)[0][rmses.index(min(rmses))]


def first_lambda(num_ratings: int) -> float:
    """Return a lambda that is probably somewhat too small. The best one was near 450 with 900,000
    training ratings of MovieLens-1M, and near 250 with 100,000 to 150,000 of them."""
    return float(f"{225 * (num_ratings / 900_000) ** (1 / 3):.2g}")


def path(first: float, rmses: list[float]) -> tuple[list[float], float | None]:
    """Return the lambdas whose validation RMSEs are `rmses`, and the next one to try, or None at
    the end of the search. `first` is the lambda after `BIASES_ONLY`."""
    values = [BIASES_ONLY]
    while len(values) <= len(rmses):
        following = next_lambda(first, values[1:], rmses[: len(values)])
        if not following or len(values) == MOST_POINTS:
            return values, None
        values.append(following)
    return values[:-1], values[-1]


def next_lambda(first: float, values: list[float], rmses: list[float]) -> float | None:
    """Return the lambda to try after `values`, or None if smaller and larger ones than the best are
    among them, or the two best hardly differ. `rmses`: of the biases, and of `values`."""
    biases, *rmses = rmses
    if len(values) < 2:
        return first * STEP ** len(values)
    best = values[rmses.index(min(rmses))]
    lowest, second, *_ = sorted(rmses)
    if second - lowest < LEAST_GAIN * lowest:
        return None
    if best == max(values):
        following = best * (STEP if lowest < biases else STEP**2)
        return following if following < BIASES_ONLY else None
    return best / STEP if best == min(values) else None


class LambdaSearch:
    """The trainings of the search for the lambda of `config`."""

    def __init__(self, config: Config, ratings: Ratings, records: Records) -> None:
        self.config, self.records, self.scale = config, records, ratings.unit.model_scale
        self.split = validation_split(config, ratings)
        self.first = first_lambda(len(self.split.train))

    def train(self) -> None:
        """Train with each lambda, and record the validation RMSEs that are not recorded yet."""
        rmses: list[float] = []
        best, parameters, lowest = math.inf, None, math.inf  # without those of the biases
        while (value := path(self.first, rmses)[1]) is not None:
            start = parameters if value > best else None
            rmse, found = self.train_with(value, start, lowest)
            if len(rmses) == len(self.records.tuned()):
                self.records.log_point({"lambda_value": value}, rmse)
            rmses.append(self.records.tuned()[len(rmses)])
            if rmses[-1] < lowest and value != BIASES_ONLY:
                best, parameters, lowest = value, found, rmses[-1]

    def train_with(self, value: float, start: list[tf.Tensor] | None,
                   lowest: float) -> tuple[float, list[tf.Tensor]]:
        """Train with lambda `value`, from the parameters `start` or from initial ones; return the
        validation RMSE and the parameters. A training whose RMSE is above `lowest`, that of
        `start`, ends at once: it moves away from them."""
        config = replace(self.config, lambda_value=value, display_step=WINDOW)
        model, rmse = build(config, self.split.train, self.scale), math.inf
        if start:
            assign(model.parameters, start)
        else:
            pretrain(model, self.split.train, self.records.log_pretraining)
        try:
            with closing(train_epochs(TrainState(model, self.split), self.split)) as epochs:
                for metrics in epochs:
                    self.records.log_step(f"lambda {value:g}, epoch", metrics.epoch,
                                          config.train_epoch)
                    self.records.stop_if_asked()
                    rmse = metrics.test_rmse or rmse
                    if start and metrics.test_rmse and rmse > lowest:
                        break
        except Diverged:
            rmse = math.inf
        return rmse, [tf.identity(x) for x in model.parameters]
