"""The training loop, as a generator of epochs."""

import math
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import FULL_BATCH, Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.baseline import PredictionPostprocessor
from autorec_tf.evaluation.metrics import EpochMetrics, Scores, score
from autorec_tf.model.batch import SparseRows
from autorec_tf.model.column_shards import SUFFIX, Stored
from autorec_tf.model.gradients import forget
from autorec_tf.model.lbfgs import assign
from autorec_tf.system.errors import Diverged
from autorec_tf.system.random_streams import random_stream
from autorec_tf.training.trainer import Trainer

LARGE_LAMBDA = 1e6  # leaves V and W near 0 with any data
EXPLODED = 1000  # times the width of the rating scale; a bad start may be off by ten times


class TrainState:
    """The state of a training: the model, its trainer, the last epoch, and the best epoch if there
    are validation ratings. A checkpoint restores it exactly: the order of the rows and the learning
    rate depend only on the epoch."""

    def __init__(self, model: AutoRec, split: Split) -> None:
        self.model, self.trainer = model, Trainer(model)
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)  # the last finished epoch
        self.elapsed = tf.Variable(0.0, dtype=tf.float64, trainable=False)  # seconds
        self.best = BestEpoch(model) if split.validation else None

    def write(self, prefix: str | Path | None) -> None:
        """Write the checkpoint `prefix`; workers without a `prefix` send their part to the first
        one. Raise tf.errors.OpError if that fails."""
        self.model.shards.write(prefix, self.stored())

    def read(self, prefix: str | Path) -> None:
        """Restore all variables from the checkpoint `prefix`, which one process or any number of
        workers wrote. Raise an error of any type if it is damaged or has other variables."""
        self.model.shards.read(prefix, self.stored())

    def stored(self) -> dict[str, Stored]:
        """Return the variables by name in a checkpoint."""
        variables = {"state/epoch": Stored(self.epoch), "state/elapsed": Stored(self.elapsed)}
        variables |= self.trainer.stored("state/model")
        if self.best:
            variables |= self.best.stored("state/best")
        return {f"{name}{SUFFIX}": each for name, each in variables.items()}

    def restart(self) -> None:
        """Return to epoch 0, without the history of the full-batch optimiser."""
        self.epoch.assign(0)
        self.trainer.restart()

    @property
    def is_new(self) -> bool:
        """Whether no epoch has been trained yet."""
        return int(self.epoch.numpy()) == 0

    @property
    def is_done(self) -> bool:
        """Whether the last epoch has been trained, `patience` is exhausted, or the training has
        converged."""
        config, epoch = self.model.config, int(self.epoch.numpy())
        evaluated = epoch - epoch % config.display_step
        waited = evaluated - int(self.best.epoch.numpy()) if self.best else 0
        return self.ends_after(epoch) or 0 < config.patience <= waited

    def ends_after(self, epoch: int) -> bool:
        """Return whether `epoch` is the last one, or the training has converged in it."""
        return epoch >= self.model.config.train_epoch or self.trainer.has_converged


def train_epochs(
    state: TrainState, split: Split, reconstruction: Callable[[], Scores] | None = None
) -> Generator[EpochMetrics, None, None]:
    """Train `state.model` on `split.train` up to `train_epoch` epochs; yield each epoch's metrics.

    `state` is updated after each epoch.

    Every `display_step` epochs, and after the last, the test and validation ratings are predicted
    from the training ratings and scored. With validation ratings, training stops after `patience`
    epochs without a new lowest validation RMSE (0: never), and when `tolerance` is met. When this
    generator ends or is closed, the model has the parameters of the lowest validation RMSE.

    Args:
        state: the state to continue from.
        split: the training, validation and test ratings.
        reconstruction: scores the leaking measure of experiments.py, to be recorded as well.

    Raises:
        Diverged: a metric is not finite, or the training RMSE exceeds `EXPLODED`.
    """
    model, train = state.model, state.model.rows(split.train)
    config = model.config
    score_test = Evaluator(model, split, split.test)
    score_validation = split.validation and Evaluator(model, split, split.validation)
    started = time.perf_counter() - float(state.elapsed.numpy())
    try:
        while not state.is_done:
            epoch = int(state.epoch.numpy()) + 1
            epoch_started = time.perf_counter()
            order = random_stream(config.random_seed, "shuffle", epoch)
            cost, train_rmse = state.trainer.train_epoch(
                train, order.permutation(split.train.num_rows), config.learning_rate(epoch)
            )
            evaluated = epoch % config.display_step == 0 or state.ends_after(epoch)
            test = score_test(train) if evaluated else None
            validation = score_validation(train) if evaluated and score_validation else None
            leaking = reconstruction() if evaluated and reconstruction else None
            refuse_divergence(model, epoch, cost, train_rmse, test)
            if validation and state.best:
                state.best.save(epoch, validation.rmse)
            now = time.perf_counter()
            state.epoch.assign(epoch)
            state.elapsed.assign(now - started)
            yield EpochMetrics(
                epoch=epoch, learning_rate=config.learning_rate(epoch), train_cost=cost,
                train_rmse=train_rmse * split.unit.factor,
                test_cost=test.squared_error if test else None,
                test_rmse=test.rmse if test else None, test_mae=test.mae if test else None,
                validation_rmse=validation.rmse if validation else None,
                reconstruction_rmse_test_ratings_as_input=leaking.rmse if leaking else None,
                epoch_seconds=round(now - epoch_started, 4),
                elapsed_seconds=round(now - started, 4),
            )
    finally:
        model.engine.release_buffers()
        forget()
        if state.best:
            state.best.restore()


def refuse_divergence(model: AutoRec, epoch: int, cost: float, train_rmse: float,
                      test: Scores | None) -> None:
    """Raise Diverged unless all metrics are finite and the training RMSE is below `EXPLODED`."""
    metrics = {"training cost": cost, "training RMSE": train_rmse}
    if test:
        metrics["test RMSE"] = test.rmse
    limit = EXPLODED * (model.scale[1] - model.scale[0])
    for name, value in metrics.items():
        if not math.isfinite(value) or (name == "training RMSE" and value > limit):
            raise Diverged(f"training diverged in epoch {epoch}: the {name} is {value:g}. "
                           f"{remedy(model.config, epoch)}")


def remedy(config: Config, epoch: int) -> str:
    """Return the settings to change after divergence in `epoch`."""
    if max(config.lambdas()) > LARGE_LAMBDA:
        return f"Try a smaller --lambda_value; a lambda is {max(config.lambdas()):g}."
    if config.optimizer_method in FULL_BATCH:
        return "Try a larger --lambda_value."
    rate = config.learning_rate(epoch)
    return f"The learning rate is {rate:g}: try a lower --base_lr, or --grad_clip."


class Evaluator:
    """Scores predictions of the `held_out` ratings of a split, over all workers."""

    def __init__(self, model: AutoRec, split: Split, held_out: RatingMatrix) -> None:
        self.model, self.held_out = model, held_out
        self.total = model.shards.sum
        cold_rating = model.config.cold_rating or "paper"
        self.postprocess = PredictionPostprocessor(split, held_out, cold_rating, self.total)
        self.ratings = split.unit.to_file(held_out.values)

    def __call__(self, inputs: SparseRows) -> Scores:
        """Return the scores of predictions from `inputs`, the training ratings."""
        predictions = self.model.predict(inputs, self.held_out.rows, self.held_out.indices)
        return score(self.postprocess(predictions), self.ratings, self.total)


class BestEpoch:
    """The epoch with the lowest validation RMSE, and the parameters after it."""

    def __init__(self, model: AutoRec) -> None:
        self.model = model
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.rmse = tf.Variable(math.inf, dtype=tf.float64, trainable=False)
        self.values = [tf.Variable(x, trainable=False) for x in model.parameters]

    def save(self, epoch: int, rmse: float) -> None:
        """Save the parameters after `epoch`, if `rmse` is the lowest so far."""
        if rmse < self.rmse.numpy():
            self.epoch.assign(epoch)
            self.rmse.assign(rmse)
            assign(self.values, self.model.parameters)

    def restore(self) -> None:
        """Set the model's parameters to the saved ones, if any."""
        if self.epoch.numpy():
            assign(self.model.parameters, self.values)

    def stored(self, path: str) -> Iterator[tuple[str, Stored]]:
        """Yield the variables by name in a checkpoint."""
        yield f"{path}/epoch", Stored(self.epoch)
        yield f"{path}/rmse", Stored(self.rmse)
        for i, (declared, x) in enumerate(zip(self.model.declared, self.values, strict=True)):
            yield f"{path}/values/{i}", Stored(x, declared.is_per_column)
