"""A mini-batch of rows as tensors: what the two engines compute on."""

from typing import NamedTuple

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix


class SparseRows(NamedTuple):
    """A `RatingMatrix` as tensors: indptr int64 [rows + 1], indices int32 and values float32; of
    some columns of a matrix, also that one's indptr, and `before`, as in `Part`; for the model that
    asks for it, where each column begins among `rows` by column, int64 [n + 1] and int32."""

    indptr: tf.Tensor
    indices: tf.Tensor
    values: tf.Tensor
    full_matrix: tuple[tf.Tensor, ...] = ()
    by_column: tuple[tf.Tensor, ...] = ()


class Batch(NamedTuple):
    """The e observed ratings of B rows; an unobserved one is in no tensor at all.

    starts: int64 [B + 1], where each row begins; row, column: int32 [e], both ascending;
    ratings: float32 [e]; count: float32 [n], the ratings of each column; by_column: the same
    ratings by column, for the engine that wants them so; full_matrix: of some columns of a matrix,
    what `positions_in_full_matrix` returns.
    """

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor
    ratings: tf.Tensor
    count: tf.Tensor
    by_column: tuple[tf.Tensor, ...] = ()
    full_matrix: tuple[tf.Tensor, ...] = ()


class Pairs(NamedTuple):
    """The (row, column) pairs to predict: `starts`, `row` and `column` as in a `Batch`."""

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor


def sparse_rows(matrix: RatingMatrix, by_column: bool = False) -> SparseRows:
    """Copy `matrix` to the device, to be used many times; perhaps `by_column`, too."""
    part = matrix.part
    full_matrix = (tf.constant(part.indptr), tf.constant(part.before)) if part else ()
    indptr, indices, values = map(tf.constant, (matrix.indptr, matrix.indices, matrix.values))
    turned = matrix.transposed() if by_column else None
    columns = (tf.constant(turned.indptr), tf.constant(turned.indices)) if turned else ()
    return SparseRows(indptr, indices, values, full_matrix, columns)


def positions_in_full_matrix(ratings: SparseRows, rows: tf.Tensor,
                             batch: Batch) -> tuple[tf.Tensor, ...]:
    """Return the position of each rating, int64 [e], in the batch of the same `rows` (int64 [B]) of
    the full matrix, and the number of ratings of that batch; nothing where all columns are here."""
    if not ratings.full_matrix:
        return ()
    indptr, before = ratings.full_matrix
    counts = tf.gather(indptr, rows + 1) - tf.gather(indptr, rows)
    first = tf.cumsum(counts, exclusive=True) + tf.gather(before, rows) - batch.starts[:-1]
    position = tf.gather(first, batch.row) + tf.range(tf.size(batch.row, tf.int64))
    return position, tf.reduce_sum(counts)


def penalty_weights(batch: "Batch | Pairs", config: Config,
                    scale: tf.Tensor | float | None) -> tf.Tensor | None:
    """Return how often Omega counts each column's weights, float32 [columns]: once per rating under
    "weighted" regularisation, `scale` times under "plain"; None without `scale`."""
    if scale is None or not isinstance(batch, Batch):
        return None
    if config.regularization == "weighted":
        return batch.count
    return tf.fill(batch.count.shape, tf.cast(scale, tf.float32))


def pairs(row: tf.Tensor, column: tf.Tensor, num_rows: tf.Tensor) -> Pairs:
    """Return (row, column) pairs, int64 [pairs], as `Pairs` of `num_rows` rows; `row` ascends."""
    starts = tf.searchsorted(row, tf.range(num_rows + 1), out_type=tf.int64)
    return Pairs(starts, tf.cast(row, tf.int32), tf.cast(column, tf.int32))
