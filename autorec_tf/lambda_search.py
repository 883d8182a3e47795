"""Choose lambda for a full-batch optimiser on validation ratings.

The search begins with a lambda so large that only the biases remain, which is best if there are few
ratings. Then it doubles a small lambda until the validation RMSE rises. Each of these trainings
starts from the best parameters so far, and so does the final one, which is much shorter than a
training from initial parameters. In the other direction this fails: after a large lambda the
weights grow so slowly that the objective seems to have converged.
"""

import math
from contextlib import closing
from dataclasses import replace

import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings
from autorec_tf.model.lbfgs import assign
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.records import Records
from autorec_tf.training.trainer import WINDOW, build
from data_preprocessor import validation_split

BIASES_ONLY = 1e6
STEP = 2.0
LEAST_GAIN = 1e-4  # the smallest relative decrease of the RMSE that justifies another step
MOST_POINTS = 20


def first_lambda(num_ratings: int) -> float:
    """Return a lambda that is probably somewhat too small. The best one was near 450 with 900,000
    training ratings of MovieLens-1M, and near 250 with 100,000 to 150,000 of them."""
    return float(f"{225 * (num_ratings / 900_000) ** (1 / 3):.2g}")


def path(first: float, rmses: list[float]) -> tuple[list[float], float | None]:
    """Return the lambdas whose validation RMSEs are `rmses`, and the next one to try, or None at
    the end of the search."""
    values = [BIASES_ONLY]
    while len(values) <= len(rmses):
        following = next_value(first, values[1:], rmses[: len(values)])
        if following is None or len(values) == MOST_POINTS:
            return values, None
        values.append(following)
    return values[:-1], values[-1]


def next_value(first: float, values: list[float], rmses: list[float]) -> float | None:
    """Return the lambda to try after `values`, or None if the best of them lies within them or
    hardly differs from the second best. `rmses`: of the biases, and of `values`."""
    biases, *rmses = rmses
    if len(values) < 2:
        return first * STEP ** len(values)
    best = values[rmses.index(min(rmses))]
    lowest, second, *_ = sorted(rmses)
    if second - lowest < LEAST_GAIN * lowest:
        return None
    if best == max(values):
        return best * (STEP if lowest < biases else STEP**2)
    return best / STEP if best == min(values) else None


class LambdaSearch:
    """The search for the lambda of `config`, on a tenth of the training ratings of its split.

    A resumed run reads the validation RMSEs from its records. It repeats the trainings only if it
    needs their parameters, with equal results.
    """

    def __init__(self, config: Config, ratings: Ratings, records: Records) -> None:
        self.config, self.records, self.scale = config, records, ratings.unit.model_scale
        self.split = validation_split(config, ratings)
        self.first = first_lambda(len(self.split.train))
        self.best: dict[float, list[tf.Tensor]] = {}  # the best parameters, by their lambda

    def choose(self) -> float:
        """Return the lambda with the lowest validation RMSE."""
        if path(self.first, self.records.tuned())[1] is not None:
            self.train()
        rmses = self.records.tuned()
        return path(self.first, rmses)[0][rmses.index(min(rmses))]

    def start(self, model: AutoRec) -> None:
        """Set the parameters of `model` to those of the training with its lambda."""
        if not self.best:
            self.train()
        assign(model.parameters, self.best[model.config.lambda_value])

    def train(self) -> None:
        """Train with each lambda, and record the validation RMSEs that are not recorded yet."""
        done: list[float] = []
        while (value := path(self.first, done)[1]) is not None:
            lowest = min(done[1:], default=math.inf)
            start = min((x for x in self.best if x < value), default=None)
            rmse, parameters = self.train_with(value, start, lowest)
            if len(done) == len(self.records.tuned()):
                self.records.log_point({"lambda_value": value}, rmse)
            done.append(self.records.tuned()[len(done)])
            if done[-1] < lowest:  # only the biases and the best of the others are kept
                biases = {x: self.best[x] for x in self.best if x == BIASES_ONLY}
                self.best = biases | {value: parameters}

    def train_with(self, value: float, start: float | None,
                   lowest: float) -> tuple[float, list[tf.Tensor]]:
        """Train with lambda `value`, from the best parameters with the lambda `start` or from
        initial ones; return the validation RMSE and the parameters. A training whose RMSE is above
        `lowest`, that of the best parameters, ends at once: it moves away from them."""
        config = replace(self.config, lambda_value=value, display_step=WINDOW)
        model, rmse = build(config, self.split.train, self.scale), math.inf
        if start is None:
            pretrain(model, self.split.train, self.records.stop_if_asked)
        else:
            assign(model.parameters, self.best[start])
        try:
            with closing(train_epochs(TrainState(model, self.split), self.split)) as epochs:
                for metrics in epochs:
                    self.records.stop_if_asked()
                    rmse = metrics.test_rmse or rmse
                    if metrics.test_rmse and rmse > lowest:
                        break
        except Diverged:
            rmse = math.inf
        return rmse, [tf.identity(x) for x in model.parameters]
