"""Training steps: gradients, clipping, the optimiser, replicas and workers."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.baseline import fit_baseline
from autorec_tf.model.average import MovingAverage
from autorec_tf.model.batch import Batch, SparseRows, in_full_matrix, sparse_rows
from autorec_tf.model.column_shards import ColumnShards, Stored
from autorec_tf.model.decoder import BIAS_LAMBDA
from autorec_tf.model.encoder import Dropout
from autorec_tf.model.lbfgs import assign
from autorec_tf.model.loop import serial_loop
from autorec_tf.model.optimizer import OPTIMIZERS, counter
from autorec_tf.system.distribution import Workers
from autorec_tf.system.random_streams import random_stream

WINDOW = 10  # epochs by which convergence is judged
BIAS_DAMPING = BIAS_LAMBDA / 2  # of b and c in least squares: equation 2 has lambda / 2
Gradients = tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]


def build(config: Config, train: RatingMatrix, scale: tuple[float, float],
          workers: Workers | None = None, start: Sequence[np.ndarray] = (),
          lambda_value: tf.Variable | None = None) -> AutoRec:
    """Return an untrained model of `config` for the ratings `train`, with the initial bias of
    `config`, or with the parameters `start` of all columns. If `train` is a column shard, `workers`
    have the others. `lambda_value` is a variable in place of that of `config`."""
    model = untrained(config, train, scale, workers, lambda_value)
    shards = model.shards
    if start:
        assign(model.parameters, [
            x[shards.own] if parameter.is_per_column else x
            for parameter, x in zip(model.declared, start, strict=True)
        ])
    has_both = config.decoder != "own" and config.output_activation == "identity"
    if config.initial_bias == "biases" and has_both:
        initialise_biases(model, train)
    elif config.initial_bias != "zero":
        mean = float(train.values.mean())
        if shards.workers:
            mean = float(np.divide(*shards.sum([mean * len(train), len(train)])))
        model.initialise_bias(mean)
    return model


def initialise_biases(model: AutoRec, train: RatingMatrix) -> None:
    """Fit b and c to the ratings `train`, and subtract from b what W adds to it on average: W h,
    with the mean of h over the rows."""
    shards, rows = model.shards, tf.range(train.num_rows, dtype=tf.int64)
    baseline = fit_baseline(Split(train, train), shards.sum, (BIAS_DAMPING, BIAS_DAMPING))
    h = shards.run(model.encode, sparse_rows(train), rows)
    fitted = tf.constant(baseline.mean + baseline.column_bias, tf.float32)
    model.b.assign(fitted - tf.linalg.matvec(model.Wt, tf.reduce_mean(h, 0)))
    named = dict(zip([p.name for p in model.declared], model.parameters, strict=True))
    named["c"].assign(tf.constant(baseline.row_bias, tf.float32))


def untrained(config: Config, train: RatingMatrix, scale: tuple[float, float],
              workers: Workers | None, lambda_value: tf.Variable | None = None) -> AutoRec:
    """Return the model of `build` with b = 0."""
    shards = ColumnShards(train.num_columns, train, workers)
    values = train.distinct if config.input_encoding == "one_hot" else None
    return AutoRec(train.num_columns, config, scale, train.density, shards, values, train.num_rows,
                   lambda_value=lambda_value)


class Objective:
    """The objective of a model and its gradients, over a mini-batch or over all rows.

    Gradients are float32, one per entry of `AutoRec.parameters`, of its shape. They are returned
    with J(B) and the squared error, float32 scalars. `dropout` returns that of the current step.
    If workers divide the columns, each has the terms of its columns in J(B), in the squared
    error, and in the gradients of parameters per row; other gradients are complete.
    """

    def __init__(self, model: AutoRec, dropout: Callable[[], Dropout] | None = None) -> None:
        self.model, self.dropout = model, dropout

    def gradients(self, ratings: SparseRows, rows: tf.Tensor,
                  penalty_scale: tf.Tensor | float = 1.0, weights: tf.Tensor | None = None,
                  batch: Batch | None = None) -> Gradients:
        """Return the gradients, J(B) and the squared error of the mini-batch of `rows` (int64 [B])
        of `ratings`, which is gathered unless `batch` is given. With shared decoder `weights`, the
        last gradient is the gradient of `weights`, and is not propagated to the parameters that
        they are computed from."""
        model, dropout = self.model, self.dropout() if self.dropout else None
        sources = [*model.parameters, *([] if weights is None else [weights])]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            batch = batch or model.engine.gather(ratings, rows, model.V.shape[0])
            batch = batch._replace(full_matrix=in_full_matrix(ratings, rows, batch),
                                   lambda_factors=ratings.lambda_factors)
            cost, squared_error = model.objective(
                model.encoder.inputs(batch, dropout),
                model.decoder.outputs(batch, rows, ratings, weights), penalty_scale, dropout,
            )
        gradients = tape.gradient(cost, sources)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], cost, squared_error

    def over_workers(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the gradients with those of parameters per row summed over all workers."""
        places = [i for i, p in enumerate(self.model.declared) if p.is_per_row]
        sums = self.model.shards.sum_all([gradients[i] for i in places])
        gradients = list(gradients)
        for i, total in zip(places, sums, strict=True):
            gradients[i] = total
        return gradients

    @tf.function(autograph=False)
    def full_gradients(self, ratings: SparseRows) -> Gradients:
        """Return the gradients, J and the squared error (float64) over all rows and workers, summed
        over blocks of rows unless the engine takes all rows at once. Omega of the plain rule is
        counted once."""
        model, run = self.model, self.model.shards.run
        with tf.GradientTape() as tape:  # shared weights: computed once, differentiated once
            weights = model.decoder.weights(ratings) if model.decoder.uses_all_rows else None
        sources = [*model.parameters, *([] if weights is None else [weights])]
        num_rows, batch_size = tf.size(ratings.indptr, tf.int64) - 1, model.config.batch_size

        def block(start, *batch):
            rows = tf.range(start, num_rows if batch else tf.minimum(start + batch_size, num_rows))
            fraction = tf.cast(tf.size(rows, tf.int64) / num_rows, tf.float32)
            gradients, *costs = run(self.gradients, ratings, rows, fraction, weights, *batch)
            return gradients, tf.cast(tf.stack(costs), tf.float64)

        def add(start, sums):
            return tf.nest.map_structure(tf.add, sums, block(start))

        by_row = ratings.full_batches[:1]
        if ratings.indptr.shape[0] - 1 <= batch_size or by_row and model.engine.takes_all_rows:
            sums, total = block(tf.constant(0, tf.int64), *by_row)
        else:
            zeros = [tf.zeros_like(x) for x in sources], tf.zeros(2, tf.float64)
            sums, total = serial_loop(add, zeros, num_rows, batch_size)
        if weights is not None:
            through = tape.gradient(weights, model.parameters, sums.pop())
            sums = [x if y is None else x + y for x, y in zip(sums, through, strict=True)]
        total, = run(model.shards.sum_all, [total])
        return run(self.over_workers, sums), total[0], total[1]


class Trainer:
    """The optimiser of a model and its steps, on all replicas of a tf.distribute strategy, or on
    workers with a column shard each."""

    def __init__(self, model: AutoRec) -> None:
        self.model, self.config, self.shards = model, model.config, model.shards
        self.objective = Objective(model, self.dropout)
        self.strategy = model.strategy
        with self.strategy.scope():
            self.steps = counter(0, tf.int64)
            self.optimizer = OPTIMIZERS[model.config.optimizer_method](
                model.parameters, model.config, model.engine, model.shards,
                [p.is_per_column for p in model.declared])
            self.average = MovingAverage(model.parameters, model.config.average_decay)
        # J before the last `WINDOW` + 1 epochs; epoch i is in slot (i - 1) mod (WINDOW + 1).
        self.costs = tf.Variable([math.inf] * (WINDOW + 1), dtype=tf.float64, trainable=False)
        if self.shards.workers:
            self.strategy = self.shards.workers.strategy
        self.dropout_seeds = random_stream(self.config.random_seed, "dropout").integers(
            2**31, size=len(self.config.hidden_neuron) + 1
        )

    def train_epoch(self, ratings: SparseRows, order: np.ndarray,
                    learning_rate: float) -> tuple[float, float]:
        """Train on every row of `ratings` once, in `order` (int64 [rows]), one step per mini-batch;
        a full-batch optimiser takes one step. With `average_decay`, the model has the average of
        its parameters after this.

        Returns:
            The sum of J(B) over the steps, including Omega, and the running training RMSE:
            unclipped, each mini-batch scored just before its own update. Both are of all workers.
        """
        if self.optimizer.full_batch:
            cost, squared_error = self.optimizer.step(
                lambda: self.objective.full_gradients(ratings), learning_rate
            )
            self.costs.scatter_nd_update([[self.steps % (WINDOW + 1)]], [cost])
            self.steps.assign_add(1)
            self.synchronise()
        else:
            if self.steps > 0:  # before the first step, the model has no average
                self.average.swap()
            cost, squared_error = self._train_epoch(
                ratings, tf.constant(order, tf.int64), tf.constant(learning_rate, tf.float32)
            )
            self.average.swap()
            self.synchronise()
            cost, squared_error = self.shards.sum([float(cost), float(squared_error)])
        count = self.shards.sum(len(ratings.values))
        return float(cost), float(np.sqrt(float(squared_error) / count))

    def restart(self) -> None:
        """Forget all steps of a full-batch optimiser: the objective has changed."""
        self.steps.assign(0)
        self.costs.assign(tf.fill(self.costs.shape, tf.constant(math.inf, tf.float64)))
        self.optimizer.restart()

    @property
    def has_converged(self) -> bool:
        """Whether the last `WINDOW` epochs have lowered the objective by less than a fraction
        `tolerance` of it."""
        if not self.config.tolerance:
            return False
        newest, oldest = (
            float(self.costs[(self.steps - i) % (WINDOW + 1)]) for i in (1, WINDOW + 1))
        return oldest - newest < self.config.tolerance * abs(newest)

    def synchronise(self) -> None:
        """Set replicated parameters to those of the first worker: processors round differently."""
        for variables in filter(None, (self.model.parameters, self.average.swapped)):
            self.shards.broadcast([
                x for p, x in zip(self.model.declared, variables, strict=True)
                if not p.is_per_column
            ])

    def dropout(self) -> Dropout:
        """Return the dropout of the current step, which differs between replicas."""
        replica, step = tf.distribute.get_replica_context(), self.steps
        if not self.shards.workers and replica.num_replicas_in_sync > 1:
            number = tf.cast(replica.replica_id_in_sync_group, step.dtype)
            step = step * replica.num_replicas_in_sync + number
        return Dropout(self.dropout_seeds, step)

    def clip(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the gradients, with each component clipped to the limit if `grad_clip` is set."""
        limit = self.config.grad_clip_limit
        clipped = (tf.clip_by_value(gradient, -limit, limit) for gradient in gradients)
        return list(clipped) if self.config.grad_clip else gradients

    @tf.function(autograph=False)
    def _train_epoch(self, ratings, order, learning_rate):
        batch_size = self.config.batch_size

        def step(start, total):
            rows = order[start : start + batch_size]
            sums = self.strategy.run(self._step, (ratings, rows, learning_rate))
            # The sums are the same on all replicas.
            sums = self.strategy.experimental_local_results(sums)[0]
            return total + tf.cast(sums, tf.float64)

        zero = tf.zeros(2, tf.float64)
        return tf.unstack(serial_loop(step, zero, tf.size(order, tf.int64), batch_size))

    def _step(self, ratings, rows, learning_rate):
        """Take one replica's part of a step, on every `count`-th row of the mini-batch (possibly no
        row), and return the cost and squared error of the mini-batch. Gradients, cost and squared
        error are sums over rows, which are all-reduced. Omega of the plain rule is not a sum over
        rows, so each replica adds a fraction of it."""
        replica = tf.distribute.get_replica_context()
        number, count = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
        gradients_of = self.objective.gradients
        if count == 1 or self.shards.workers:
            gradients, *costs = gradients_of(ratings, rows)
            gradients, sums = self.objective.over_workers(gradients), tf.stack(costs)
        else:
            gradients, *costs = gradients_of(ratings, rows[number::count], 1 / count)
            *gradients, sums = replica.all_reduce("SUM", [*gradients, tf.stack(costs)])
        self.optimizer.apply(self.clip(gradients), learning_rate)
        self.steps.assign_add(1)
        self.average.update(self.steps)
        return sums

    def release(self) -> None:
        """Free the engine's buffers and, if workers divide the columns, the optimiser's state and
        the parameters of the last step: evaluation needs the memory."""
        self.model.engine.release_buffers()
        state = [*self.optimizer.state, *self.average.swapped] if self.shards.workers else []
        for x in state:
            empty = tf.zeros([0], x.dtype)
            tf.raw_ops.AssignVariableOp(resource=x.handle, value=empty, validate_shape=False)

    def stored(self, path: str) -> Iterator[tuple[str, Stored]]:
        """Yield the variables of model and optimiser by name in a checkpoint."""
        declared = self.model.declared
        for parameter, x in zip(declared, self.model.parameters, strict=True):
            name = parameter.checkpoint or parameter.name
            yield f"{path}/{name}", Stored(x, parameter.is_per_column)
        yield f"{path}/steps", Stored(self.steps)
        if self.config.tolerance:  # checkpoints of earlier versions do not have it
            yield f"{path}/costs", Stored(self.costs)
        if self.config.average_decay:
            yield from self.stored_state(f"{path}/swapped", self.average.swapped)
        for name, value in vars(self.optimizer).items():
            if name != "parameters":
                yield from self.stored_state(f"{path}/optimizer/{name}", value)

    def stored_state(self, path: str, value: Any) -> Iterator[tuple[str, Stored]]:
        """Yield variables of a training: a variable, a list of one variable per parameter, or
        a list of such lists."""
        if isinstance(value, tf.Variable):
            yield path, Stored(value)
        elif isinstance(value, list) and value and all(isinstance(x, tf.Variable) for x in value):
            for i, (parameter, x) in enumerate(zip(self.model.declared, value, strict=True)):
                axis = len(x.shape) - len(parameter.axes)  # 1 in a ring of numbers of rows
                is_per_column = parameter.is_per_column and len(parameter.axes) > axis
                yield f"{path}/{i}", Stored(x, is_per_column, axis=axis)
        elif isinstance(value, list):
            for i, each in enumerate(value):
                yield from self.stored_state(f"{path}/{i}", each)
