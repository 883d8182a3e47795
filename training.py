"""The epochs of a run: train, evaluate, measure."""

import math
import time
from collections.abc import Callable, Iterator

import tensorflow as tf

from AutoRec import AutoRec
from data.ratings import RatingMatrix, Split
from evaluation.metrics import EpochMetrics, Scores, cold_pairs, score
from model.batch import SparseRows, sparse_rows
from system.errors import Diverged
from system.random_streams import random_stream

EXPLODED = 1000  # times the width of the rating scale; a bad start may well be off by ten times


class State(tf.Module):
    """What a training needs to go on as if it had not been interrupted: `tf.train.Checkpoint`
    saves and restores it. The order of the rows and the learning rate follow from the epoch."""

    def __init__(self, model: AutoRec, split: Split) -> None:
        super().__init__(name="training")
        self.model = model
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)  # the last finished one
        self.elapsed = tf.Variable(0.0, dtype=tf.float64, trainable=False)  # seconds
        self.best = Best(model) if split.validation else None

    @property
    def is_done(self) -> bool:
        """Whether there is no epoch left to train."""
        config, epoch = self.model.config, int(self.epoch.numpy())
        waited = epoch - int(self.best.epoch.numpy()) if self.best else 0
        return epoch >= config.train_epoch or 0 < config.patience <= waited


def epochs(
    model: AutoRec,
    split: Split,
    reconstruction: Callable[[], Scores] | None = None,
    state: State | None = None,
) -> Iterator[EpochMetrics]:
    """Train `model` on `split.train` for `train_epoch` epochs and yield each one's metrics.

    Every `display_step` epochs, and after the last, the test and validation ratings are predicted
    from the training ratings and scored. With validation ratings, training stops after
    `patience` epochs without a new lowest validation RMSE (0: never), and leaves the model, when
    this iterator ends or is closed, as it was at the lowest. `reconstruction` is the leaking
    measure of experiments.py, if that is to be recorded beside. `state` is where to go on from;
    it is kept up to date. Raises Diverged if a number is not finite any more, or the training
    RMSE is beyond all reason.
    """
    config, train = model.config, sparse_rows(split.train)
    state = state or State(model, split)
    test = HeldOut(model, split, split.test)
    validation = split.validation and HeldOut(model, split, split.validation)
    started = time.perf_counter() - float(state.elapsed.numpy())
    try:
        while not state.is_done:
            epoch = int(state.epoch.numpy()) + 1
            epoch_started = time.perf_counter()
            learning_rate = config.learning_rate(epoch)
            order = random_stream(config.random_seed, "shuffle", epoch)
            cost, train_rmse = model.train_epoch(
                train, order.permutation(split.train.num_rows), learning_rate
            )
            evaluate = epoch % config.display_step == 0 or epoch == config.train_epoch
            scores = test(train) if evaluate else None
            held_out = validation(train) if evaluate and validation else None
            leaking = reconstruction() if evaluate and reconstruction else None
            refuse_divergence(model, epoch, cost, train_rmse, scores)
            if held_out:
                state.best.keep(epoch, held_out.rmse)
            now = time.perf_counter()
            state.epoch.assign(epoch)
            state.elapsed.assign(now - started)
            yield EpochMetrics(
                epoch=epoch,
                learning_rate=learning_rate,
                train_cost=cost,
                train_rmse=train_rmse,
                test_cost=scores and scores.squared_error,
                test_rmse=scores and scores.rmse,
                test_mae=scores and scores.mae,
                validation_rmse=held_out and held_out.rmse,
                reconstruction_rmse_test_ratings_as_input=leaking and leaking.rmse,
                epoch_seconds=round(now - epoch_started, 4),
                elapsed_seconds=round(now - started, 4),
            )
    finally:
        model.engine.rest()
        if state.best:
            state.best.restore()


def refuse_divergence(
    model: AutoRec, epoch: int, cost: float, train_rmse: float, scores: Scores | None
) -> None:
    """Raise Diverged unless all is finite and the training RMSE is at most `EXPLODED` times
    the width of the rating scale."""
    found = {"training cost": cost, "training RMSE": train_rmse}
    if scores:
        found["test RMSE"] = scores.rmse
    limit = EXPLODED * (model.scale[1] - model.scale[0])
    for name, value in found.items():
        if not math.isfinite(value) or (name == "training RMSE" and value > limit):
            rate = model.config.learning_rate(epoch)
            raise Diverged(
                f"epoch {epoch}: the {name} is {value:g} at learning rate {rate:g}: training has "
                "diverged; try a lower --base_lr, or --grad_clip"
            )


class HeldOut:
    """Scores of a model's predictions of the `held_out` ratings of a split."""

    def __init__(self, model: AutoRec, split: Split, held_out: RatingMatrix) -> None:
        self.model, self.held_out = model, held_out
        self.cold = cold_pairs(split.train, held_out.rows, held_out.indices)

    def __call__(self, inputs: SparseRows) -> Scores:
        """Predict from `inputs`, the training ratings, and score."""
        predictions = self.model.predict(inputs, self.held_out.rows, self.held_out.indices)
        return score(predictions, self.held_out.values, self.cold, self.model.scale)


class Best(tf.Module):
    """The epoch of the lowest validation RMSE, and the parameters after it."""

    def __init__(self, model: AutoRec) -> None:
        super().__init__(name="best")
        self.model = model
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.rmse = tf.Variable(math.inf, dtype=tf.float64, trainable=False)
        self.values = [tf.Variable(x, trainable=False) for x in model.parameters]

    def keep(self, epoch: int, rmse: float) -> None:
        if rmse < self.rmse.numpy():
            self.epoch.assign(epoch)
            self.rmse.assign(rmse)
            for value, parameter in zip(self.values, self.model.parameters, strict=True):
                value.assign(parameter)

    def restore(self) -> None:
        if self.epoch.numpy():
            for parameter, value in zip(self.model.parameters, self.values, strict=True):
                parameter.assign(value)
