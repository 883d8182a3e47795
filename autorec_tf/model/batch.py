"""A mini-batch of rows as tensors: what the two engines compute on."""

from typing import NamedTuple

import tensorflow as tf

from autorec_tf.data.ratings import RatingMatrix


class SparseRows(NamedTuple):
    """A `RatingMatrix` as tensors: indptr int64 [rows + 1], indices int32 and values float32; of
    some columns of a matrix, also that one's indptr, and `before`, as in `Part`; for the model that
    asks for it, where each column begins among `rows` by column, int64 [n + 1] and int32."""

    indptr: tf.Tensor
    indices: tf.Tensor
    values: tf.Tensor
    whole: tuple[tf.Tensor, ...] = ()
    by_column: tuple[tf.Tensor, ...] = ()


class Batch(NamedTuple):
    """The e observed ratings of B rows; an unobserved one is in no tensor at all.

    starts: int64 [B + 1], where each row begins; row, column: int32 [e], both ascending;
    ratings: float32 [e]; count: float32 [n], the ratings of each column; by_column: the same
    ratings by column, for the engine that wants them so; whole: of some columns of a matrix, what
    `places` returns.
    """

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor
    ratings: tf.Tensor
    count: tf.Tensor
    by_column: tuple[tf.Tensor, ...] = ()
    whole: tuple[tf.Tensor, ...] = ()


class Pairs(NamedTuple):
    """The (row, column) pairs to predict: `starts`, `row` and `column` as in a `Batch`."""

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor


def sparse_rows(matrix: RatingMatrix, by_column: bool = False) -> SparseRows:
    """Copy `matrix` to the device once, to be trained on and predicted from many times; perhaps
    `by_column`, too."""
    part = matrix.part
    whole = (tf.constant(part.indptr), tf.constant(part.before)) if part else ()
    indptr, indices, values = map(tf.constant, (matrix.indptr, matrix.indices, matrix.values))
    turned = matrix.transposed() if by_column else None
    columns = (tf.constant(turned.indptr), tf.constant(turned.indices)) if turned else ()
    return SparseRows(indptr, indices, values, whole, columns)


def places(ratings: SparseRows, rows: tf.Tensor, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Return where each rating of the batch of `rows` (int64 [B]) stands in the batch of the whole
    matrix, int64 [e], and how many ratings that has."""
    indptr, before = ratings.whole
    counts = tf.gather(indptr, rows + 1) - tf.gather(indptr, rows)
    first = tf.cumsum(counts, exclusive=True) + tf.gather(before, rows) - batch.starts[:-1]
    place = tf.gather(first, batch.row) + tf.range(tf.size(batch.row, tf.int64))
    return place, tf.reduce_sum(counts)


def pairs(row: tf.Tensor, column: tf.Tensor, num_rows: tf.Tensor) -> Pairs:
    """Return the (row, column) pairs, int64 [pairs], as `Pairs` among rows 0..num_rows-1; `row`
    must ascend."""
    starts = tf.searchsorted(row, tf.range(num_rows + 1), out_type=tf.int64)
    return Pairs(starts, tf.cast(row, tf.int32), tf.cast(column, tf.int32))
