"""Training: the epochs of a model, and the greedy pre-training of a deep one."""

import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.baseline import Finish
from autorec_tf.evaluation.metrics import EpochMetrics, Scores, score
from autorec_tf.model.batch import SparseRows, sparse_rows
from autorec_tf.model.division import Division
from autorec_tf.model.tensors import SUFFIX
from autorec_tf.system.distribution import Workers
from autorec_tf.system.errors import Diverged
from autorec_tf.system.files import as_utf8
from autorec_tf.system.random_streams import random_stream

EXPLODED = 1000  # times the width of the rating scale; a bad start may well be off by ten times
CODE_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def build(
    config: Config, train: RatingMatrix, scale: tuple[float, float], workers: Workers | None = None
) -> AutoRec:
    """Return the model that `config` means for the ratings `train`, before its first epoch; if
    these are a part of the columns, the others are those of `workers`."""
    model = untrained(config, train, scale, workers)
    division = model.division
    if config.initial_bias == "mean":
        mean = float(train.values.mean())
        if division.workers:
            mean = float(np.divide(*division.sum([mean * len(train), len(train)])))
        model.initialise_bias(mean)
    return model


def untrained(
    config: Config, train: RatingMatrix, scale: tuple[float, float], workers: Workers | None
) -> AutoRec:
    """Return `build`'s model with a bias of 0."""
    division = Division(train.num_columns, train, workers)
    values = train.distinct if config.input_encoding == "one_hot" else None
    return AutoRec(
        train.num_columns, config, scale, train.density, division, values, train.num_rows
    )


class TrainState(tf.Module):
    """What a training needs to go on as if it had not been interrupted: `tf.train.Checkpoint`
    saves and restores it. The order of the rows and the learning rate follow from the epoch."""

    def __init__(self, model: AutoRec, split: Split) -> None:
        super().__init__(name="training")
        self.model = model
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)  # the last finished one
        self.elapsed = tf.Variable(0.0, dtype=tf.float64, trainable=False)  # seconds
        self.best = BestEpoch(model) if split.validation else None

    def write(self, prefix: str | Path | None) -> None:
        """Write the variables as the checkpoint `prefix`; workers as in `AutoRec.save`. Raise
        tf.errors.OpError if that fails."""
        if self.model.division.workers or prefix is None:
            self.model.division.write(prefix, self.by_name())
        else:
            tf.train.Checkpoint(state=self).write(as_utf8(prefix))

    def read(self, prefix: str | Path) -> None:
        """Set the variables to those of the checkpoint `prefix`, whoever wrote it: one process, or
        so many workers. Raise an error of whatever kind if it is damaged or of something else."""
        self.model.division.read(Path(prefix), self.by_name())

    def by_name(self) -> dict[str, tf.Variable]:
        """Return the variables by their names in a checkpoint: their shortest paths from here."""
        variables, seen = {}, {id(self)}
        paths: list[tuple[str, Any]] = [("state", self)]
        for path, node in paths:
            if isinstance(node, tf.Variable):
                variables[f"{path}{SUFFIX}"] = node
                continue
            for name, child in tf.train.TrackableView.children(node).items():
                if id(child) not in seen:
                    seen.add(id(child))
                    paths.append((f"{path}/{name}", child))
        return variables

    @property
    def is_new(self) -> bool:
        """Whether no epoch was trained yet."""
        return int(self.epoch.numpy()) == 0

    @property
    def is_done(self) -> bool:
        """Whether there is no epoch left to train."""
        config, epoch = self.model.config, int(self.epoch.numpy())
        waited = epoch - int(self.best.epoch.numpy()) if self.best else 0
        return epoch >= config.train_epoch or 0 < config.patience <= waited


def train_epochs(
    state: TrainState, split: Split, reconstruction: Callable[[], Scores] | None = None
) -> Generator[EpochMetrics, None, None]:
    """Train `state.model` on `split.train` from where `state` is to `train_epoch` epochs, and yield
    each one's metrics; `state` is kept up to date.

    Every `display_step` epochs, and after the last, the test and validation ratings are predicted
    from the training ratings and scored. With validation ratings, training stops after
    `patience` epochs without a new lowest validation RMSE (0: never), and leaves the model, when
    this iterator ends or is closed, as it was at the lowest. `reconstruction` is the leaking
    measure of experiments.py, if that is to be recorded beside. Raise Diverged if a number is not
    finite any more, or the training RMSE is beyond all reason.
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
            cost, train_rmse = model.train_epoch(
                train, order.permutation(split.train.num_rows), config.learning_rate(epoch)
            )
            evaluated = epoch % config.display_step == 0 or epoch == config.train_epoch
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
        model.engine.rest()
        if state.best:
            state.best.restore()


def refuse_divergence(
    model: AutoRec, epoch: int, cost: float, train_rmse: float, test: Scores | None
) -> None:
    """Raise Diverged unless all is finite and the training RMSE is at most `EXPLODED` times
    the width of the rating scale."""
    metrics = {"training cost": cost, "training RMSE": train_rmse}
    if test:
        metrics["test RMSE"] = test.rmse
    limit = EXPLODED * (model.scale[1] - model.scale[0])
    for name, value in metrics.items():
        if not math.isfinite(value) or (name == "training RMSE" and value > limit):
            rate = model.config.learning_rate(epoch)
            raise Diverged(
                f"epoch {epoch}: the {name} is {value:g} at learning rate {rate:g}: training has "
                "diverged; try a lower --base_lr, or --grad_clip"
            )


class Evaluator:
    """Scores of a model's predictions of the `held_out` ratings of a split, those of all workers
    together."""

    def __init__(self, model: AutoRec, split: Split, held_out: RatingMatrix) -> None:
        self.model, self.held_out = model, held_out
        self.total = model.division.sum
        self.finish = Finish(split, held_out, model.config.cold_rating or "paper", self.total)
        self.ratings = split.unit.to_file(held_out.values)

    def __call__(self, inputs: SparseRows) -> Scores:
        """Predict from `inputs`, the training ratings, and score."""
        predictions = self.model.predict(inputs, self.held_out.rows, self.held_out.indices)
        return score(self.finish(predictions), self.ratings, self.total)


class BestEpoch(tf.Module):
    """The epoch of the lowest validation RMSE, and the parameters after it."""

    def __init__(self, model: AutoRec) -> None:
        super().__init__(name="best")
        self.model = model
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.rmse = tf.Variable(math.inf, dtype=tf.float64, trainable=False)
        self.values = [tf.Variable(x, trainable=False) for x in model.parameters]

    def save(self, epoch: int, rmse: float) -> None:
        """Save the parameters as they are after `epoch`, if no RMSE was as low."""
        if rmse < self.rmse.numpy():
            self.epoch.assign(epoch)
            self.rmse.assign(rmse)
            assign(self.values, self.model.parameters)

    def restore(self) -> None:
        """Set the model's parameters to the saved ones, if there are any."""
        if self.epoch.numpy():
            assign(self.model.parameters, self.values)


def pretrain(
    model: AutoRec, train: RatingMatrix, after_epoch: Callable[[], object] = lambda: None
) -> None:
    """Pre-train a deep model greedily, layer by layer (the paper's section 3, "Going deeper").

    From the outside in, each pair of mirrored layers is trained for `pretrain_epoch` epochs as an
    autoencoder of one hidden layer: the outermost on the ratings, every other one on the hidden
    codes of the one before. The hidden sizes must read the same backwards and be odd in number
    (Config sees to it). The optimiser's own state is not touched. `after_epoch` is called after
    every epoch, and may raise to end it all. Without `pretrain_epoch`, nothing is done.
    """
    config, sizes = model.config, model.config.hidden_neuron
    if not config.pretrain_epoch:
        return
    workers = model.division.workers
    shallow = train_shallow(train, config, sizes[0], model.scale, after_epoch, workers)
    assign(model.parameters[: len(shallow.parameters)], shallow.parameters)
    # An inner autoencoder reconstructs codes: all of them observed, within g's range.
    inner = replace(
        config, engine="dense", precision="float32", lambda_encoder=None, lambda_decoder=None,
        lambda_one_hot=None, input_encoding="rating", output_activation=config.hidden_activation,
    )
    code_range = CODE_RANGES.get(config.hidden_activation, model.scale)
    for i, size in enumerate(sizes[1 : len(sizes) // 2 + 1]):
        train = as_ratings(shallow.encode_all(sparse_rows(train)))
        shallow = train_shallow(train, inner, size, code_range, after_epoch)
        V, Wt, mu, b = shallow.parameters
        assign(model.inner[i], (V, mu))
        assign(model.inner[-1 - i], (tf.transpose(Wt), b))
    model.share_same()


def train_shallow(
    matrix: RatingMatrix, config: Config, hidden_neuron: int, scale: tuple[float, float],
    after_epoch: Callable[[], object] = lambda: None, workers: Workers | None = None,
) -> AutoRec:
    """Return an AutoRec of one hidden layer, trained on `matrix` for `pretrain_epoch` epochs; if
    that is a part of the columns, the others are those of `workers`."""
    config = replace(
        config, hidden_neuron=(hidden_neuron,), train_epoch=config.pretrain_epoch, pretrain_epoch=0,
    )
    model = untrained(config, matrix, scale, workers)
    rows = sparse_rows(matrix)
    for epoch in range(1, config.train_epoch + 1):
        order = random_stream(config.random_seed, "pretraining", hidden_neuron, epoch)
        model.train_epoch(rows, order.permutation(matrix.num_rows), config.learning_rate(epoch))
        after_epoch()
    return model


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def as_ratings(codes: tf.Tensor) -> RatingMatrix:
    """Return dense codes [rows, units] as a matrix of which everything is observed."""
    rows, units = codes.shape
    indices = np.tile(np.arange(units, dtype=np.int32), rows)
    return RatingMatrix(np.arange(rows + 1) * units, indices, codes.numpy().ravel(), units)
