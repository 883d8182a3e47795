"""Column shards: the columns of a model divided among workers, and the sums over all workers.

z = R V is a sum over columns, and so over workers: each multiplies its own columns, and the
results, B x k floats, are all-reduced. All workers then compute the same hidden layers from z, and
each predicts the ratings of its columns. In the backward pass, the gradient of the last hidden
layer, B x l floats, is again a sum over columns. V, W, b, D and their optimiser state never leave
their worker.

The other parameters are replicated. The gradients of mu and the inner layers are complete on every
worker. Those of Y and c, of which each worker uses all for its own columns, are all-reduced.

Shapes as in AutoRec.py. Without workers this process has all columns, and a sum returns its input.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.model.gradients import with_gradient
from autorec_tf.model.tensors import SUFFIX, Slice, read_slice, write_slices
from autorec_tf.system.distribution import Workers
from autorec_tf.system.files import as_utf8

CHUNK_BYTES = 1 << 25  # sent at a time, outside training steps
FILE_BYTES = 1 << 26  # of each file of a checkpoint that several workers send
UNUSED = "/optimizer/direction/"  # in the names of variables that earlier versions saved
COLUMN_COST = 30  # fixed cost of a column in the step of a mini-batch, in ratings


class Stored(NamedTuple):
    """A variable in a checkpoint: whether it is divided by columns, whether its first two axes are
    exchanged there, and the axis of the columns in the variable, 0 or 1."""

    variable: tf.Variable
    is_per_column: bool = False
    transposed: bool = False
    axis: int = 0


class ColumnShards:
    """The columns `first`..`last` - 1 of `total` that this process has; `workers` have the others.
    All workers call the same methods in the same order."""

    def __init__(self, num_columns: int, matrix: RatingMatrix | None = None,
                 workers: Workers | None = None) -> None:
        self.workers: Workers | None = None
        self.first, self.total, self.num_rows = 0, num_columns, 0
        if matrix and matrix.part and workers:
            self.workers, self.num_rows = workers, matrix.num_rows
            self.first, self.total = matrix.part.first, matrix.part.total
        self.num_columns, self.last = num_columns, self.first + num_columns

    @property
    def own(self) -> slice:
        return slice(self.first, self.last)

    def run(self, function: Callable, *arguments: Any) -> Any:
        """Call `function` on tensors, as a step of the workers' strategy: it may contain sums."""
        if not self.workers:
            return function(*arguments)
        return self.workers.strategy.run(function, arguments)

    def sum_forward(self, x: tf.Tensor, max_rows: int) -> tf.Tensor:
        """Return the sum of all workers' `x` (B, k), with B at most `max_rows`. All workers use it
        in the same way, so the gradient passes through unchanged."""
        if not self.workers:
            return x

        @with_gradient
        def summed(x: tf.Tensor) -> tuple[tf.Tensor, object]:
            return self.all_reduce(x, max_rows), lambda upstream: upstream

        return summed(x)

    def sum_backward(self, x: tf.Tensor, max_rows: int) -> tf.Tensor:
        """Return `x` (B, l), replicated on all workers; each uses it for its own columns, so its
        gradient is the sum over all workers."""
        if not self.workers:
            return x

        @with_gradient
        def used(x: tf.Tensor) -> tuple[tf.Tensor, object]:
            return tf.identity(x), lambda upstream: self.all_reduce(upstream, max_rows)

        return used(x)

    def all_reduce(self, x: tf.Tensor, max_rows: int) -> tf.Tensor:
        """Return the sum of all workers' `x` (B, k). A collective op has a fixed shape: smaller
        batches are padded."""
        size, max_rows = tf.shape(x)[0], min(max_rows, self.num_rows)
        padded = tf.ensure_shape(tf.pad(x, [[0, max_rows - size], [0, 0]]), [max_rows, x.shape[1]])
        return tf.distribute.get_replica_context().all_reduce("SUM", padded)[:size]

    def sum_all(self, tensors: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return the sums of all workers' `tensors`, which have fixed shapes."""
        if not (self.workers and tensors):
            return tensors
        placed = [tf.identity(x) for x in tensors]  # results of loops have no device
        return tf.distribute.get_replica_context().all_reduce("SUM", placed)

    def mean(self, x: tf.Tensor) -> tf.Tensor:
        """Return the mean of all workers' `x` [own columns]. Workers regard it as constant: use it
        only where its gradient is 0, as in a sum of squared deviations from it."""
        if not self.workers:
            return tf.reduce_mean(x)
        sums = self.sum_all([tf.reduce_sum(x, keepdims=True)])
        return tf.stop_gradient(sums[0][0]) / self.total

    @property
    def is_first(self) -> bool:
        """Whether this process is the first worker, which adds the terms of replicated values."""
        return self.first == 0

    def once(self, x: tf.Tensor) -> tf.Tensor:
        """Return addends whose sum over workers is `x`, replicated; so is the gradient of `x`."""
        return x if self.is_first else x - tf.stop_gradient(x)

    def sum(self, values: Any) -> np.ndarray:
        """Return the sum of all workers' `values`: float64, in the same shape."""
        values = np.asarray(values, np.float64)
        return self.workers.sum(values) if self.workers else values

    def broadcast(self, variables: Sequence[tf.Variable]) -> None:
        """Set replicated variables to those of the first worker: processors round differently."""
        if self.workers:
            for x in variables:
                x.assign(self.workers.of_first(x.numpy()))

    def part(self, matrix: RatingMatrix) -> RatingMatrix:
        """Return this process's columns of `matrix`, which has all columns."""
        return matrix.columns(self.first, self.last) if self.workers else matrix

    def gather(self, values: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return all workers' `values`, one per rating, in the order of all ratings' `columns`."""
        if not self.workers:
            return values
        gathered = np.zeros(len(columns), values.dtype)
        gathered[(columns >= self.first) & (columns < self.last)] = values
        return self.workers.sum(gathered)

    def slices(self, variables: Mapping[str, Stored]) -> Iterator[Slice]:
        """Yield the `variables` of all workers as slices to be written."""
        for name, (x, is_per_column, transposed, axis) in variables.items():
            if not self.workers:  # TensorFlow's own memory, where NumPy's would be a copy
                yield Slice(name, (), 0, tf.transpose(x) if transposed else x.read_value())
                continue
            if not is_per_column:
                yield Slice(name, (), 0, x.numpy())
                continue
            if axis:
                x = tf.transpose(x, [1, 0, *range(2, len(x.shape))])  # columns first
            shape = (self.total, *x.shape[1:])
            for start, chunk in self.chunks(x):
                if transposed or axis:
                    exchanged = shape[1], shape[0], *shape[2:]
                    yield Slice(name, exchanged, start, chunk.swapaxes(0, 1), axis=1)
                else:
                    yield Slice(name, shape, start, chunk)

    def write(self, prefix: str | Path | None, variables: Mapping[str, Stored]) -> None:
        """Write `variables` as the TensorFlow checkpoint `prefix`; without a prefix, only send this
        process's part to the first worker. Raise tf.errors.OpError if that fails."""
        slices = self.slices(variables)
        if prefix is None:
            deque(slices, 0)
        else:
            write_slices(Path(prefix), slices, FILE_BYTES if self.workers else math.inf)

    def read(self, prefix: str | Path, variables: Mapping[str, Stored]) -> None:
        """Set `variables` to this process's part of the checkpoint `prefix`. Raise ValueError if it
        has other variables, tf.errors.OpError if it cannot be read. What is bfloat16 now was
        float32 in earlier versions, and is rounded. `UNUSED` variables are ignored."""
        reader = tf.train.load_checkpoint(as_utf8(prefix))
        shapes, types = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        wanted = {
            name: (*x.shape[:axis], self.total, *x.shape[axis + 1 :])
            if is_per_column else tuple(x.shape)
            for name, (x, is_per_column, _, axis) in variables.items()
        }
        if {n: tuple(shape) for n, shape in shapes.items()
                if n.endswith(SUFFIX) and UNUSED not in n} != wanted:
            raise ValueError("other variables")
        for name, (x, is_per_column, _, axis) in variables.items():
            start = self.first if is_per_column else 0
            dtype = types[name] if x.dtype == tf.bfloat16 else x.dtype
            values = read_slice(Path(prefix), name, wanted[name], start, x, dtype, axis)
            x.assign(tf.cast(values, x.dtype))

    def chunks(self, x: tf.Variable | tf.Tensor) -> Iterator[tuple[int, np.ndarray]]:
        """Yield the rows of all workers' `x` (own columns, ...) in chunks, each with the number of
        its first row, so that no worker needs memory for all rows."""
        if not self.workers:
            yield 0, x.numpy()
            return
        rows = max(1, CHUNK_BYTES // (x.dtype.size * math.prod(x.shape[1:])))
        for start in range(0, self.total, rows):
            stop = min(start + rows, self.total)
            chunk = np.zeros((stop - start, *x.shape[1:]), x.dtype.as_numpy_dtype)
            first, last = max(start, self.first), min(stop, self.last)
            if first < last:
                chunk[first - start : last - start] = x[first - self.first : last - self.first]
            yield start, self.workers.sum(chunk)

    def full_matrix(self, x: tf.Variable | tf.Tensor) -> np.ndarray:
        """Return all workers' `x` (own columns, ...), concatenated."""
        if not self.workers:
            return x.numpy()
        matrix = np.empty((self.total, *x.shape[1:]), x.dtype.as_numpy_dtype)
        for start, chunk in self.chunks(x):
            matrix[start : start + len(chunk)] = chunk
        return matrix


def own_part(split: Split, workers: Workers | None) -> Split:
    """Return this worker's columns of `split`, or all columns without other workers."""
    return part_of(split, workers.cluster.index, workers.cluster.size) if workers else split


def part_of(split: Split, number: int, count: int) -> Split:
    """Return part `number` (from 0) of `count`: adjacent columns. All parts have about the same
    number of training ratings, and at least one column. Raise ValueError if there are fewer columns
    than parts."""
    if count == 1:
        return split
    first, last = cut_columns(split.train.column_counts, count)[number : number + 2]
    train, test = (matrix.columns(first, last) for matrix in (split.train, split.test))
    validation = split.validation and split.validation.columns(first, last)
    return replace(split, train=train, test=test, validation=validation)


def cut_columns(counts: np.ndarray, parts: int) -> list[int]:
    """Return the first column of each of `parts` parts, and the end of the last: the parts have
    about the same sum of `counts` [columns], and at least one column."""
    columns = len(counts)
    if columns < parts:
        raise ValueError(f"{columns} columns cannot be divided into {parts} parts")
    cost = np.cumsum(counts + COLUMN_COST)
    cuts = np.searchsorted(cost, cost[-1] * np.arange(1, parts) / parts) + 1
    number = np.arange(1, parts)
    cuts = np.minimum(np.maximum.accumulate(np.maximum(cuts, number) - number),
                      columns - parts) + number
    return [0, *cuts.tolist(), columns]
