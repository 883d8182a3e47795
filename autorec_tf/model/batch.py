"""A mini-batch of rows as tensors, the input of both engines."""

from typing import Any, NamedTuple

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix


class SparseRows(NamedTuple):
    """A `RatingMatrix` as tensors.

    indptr: int64 [rows + 1]; indices: int32; values: float32; full_matrix: for a column shard, the
    indptr of the full matrix and `before`, as in `Part`; full_batches: for the SVD++ decoder, the
    result of the function `full_batches`; lambda_factors: with `lambda_exponent`, the factor of
    lambda for each column, float32 [n].
    """

    indptr: tf.Tensor
    indices: tf.Tensor
    values: tf.Tensor
    full_matrix: tuple[tf.Tensor, ...] = ()
    full_batches: "tuple[Batch, ...]" = ()
    lambda_factors: tuple[tf.Tensor, ...] = ()


class Batch(NamedTuple):
    """The e observed ratings of B rows; no tensor has an entry for an unobserved rating.

    starts: int64 [B + 1], the start of each row; row, column: int32 [e], both ascending;
    ratings: float32 [e]; count: float32 [n], the number of ratings of each column; by_column: the
    same ratings in column order, for the sparse engine; full_matrix: for a column shard, the result
    of `positions_in_full_matrix`; lambda_factors: as in `SparseRows`.
    """

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor
    ratings: tf.Tensor
    count: tf.Tensor
    by_column: tuple[tf.Tensor, ...] = ()
    full_matrix: tuple[tf.Tensor, ...] = ()
    lambda_factors: tuple[tf.Tensor, ...] = ()


class Pairs(NamedTuple):
    """The (row, column) pairs to predict: `starts`, `row` and `column` as in a `Batch`."""

    starts: tf.Tensor
    row: tf.Tensor
    column: tf.Tensor


def sparse_rows(matrix: RatingMatrix) -> SparseRows:
    """Copy `matrix` to the device."""
    part = matrix.part
    full_matrix = (tf.constant(part.indptr), tf.constant(part.before)) if part else ()
    indptr, indices, values = map(tf.constant, (matrix.indptr, matrix.indices, matrix.values))
    return SparseRows(indptr, indices, values, full_matrix)


def full_batches(matrix: RatingMatrix, rows: SparseRows, engine: Any) -> tuple[Batch, Batch]:
    """Return the batch of all rows of `matrix`, which `rows` is a copy of, and that of all rows of
    the transposed matrix, so that no step has to sort the ratings by column. On the sparse engine,
    the second shares the memory of the first, and its `row` and `ratings` are empty."""
    by_row = engine.batch(rows.indptr, tf.constant(matrix.rows), rows.indices, rows.values,
                          matrix.num_columns)
    other = matrix.transposed()
    by_column = engine.batch(
        *map(tf.constant, (other.indptr, other.rows, other.indices, other.values)),
        other.num_columns)
    if by_row.by_column:
        empty, position = tf.zeros([0], tf.int32), by_column.by_column[2]
        by_column = by_column._replace(
            starts=by_row.by_column[0], row=empty, column=by_row.by_column[1],
            ratings=tf.zeros([0]), by_column=(by_row.starts, by_row.column, position))
    return by_row, by_column


def positions_in_full_matrix(ratings: SparseRows, rows: tf.Tensor,
                             batch: Batch) -> tuple[tf.Tensor, ...]:
    """Return the position of each rating, int64 [e], in the batch of the same `rows` (int64 [B]) of
    the full matrix, and the number of ratings of that batch; () unless `ratings` is a shard."""
    if not ratings.full_matrix:
        return ()
    indptr, before = ratings.full_matrix
    counts = tf.gather(indptr, rows + 1) - tf.gather(indptr, rows)
    first = tf.cumsum(counts, exclusive=True) + tf.gather(before, rows) - batch.starts[:-1]
    position = tf.gather(first, batch.row) + tf.range(tf.size(batch.row, tf.int64))
    return position, tf.reduce_sum(counts)


def penalty_weights(batch: "Batch | Pairs", config: Config,
                    scale: tf.Tensor | float | None) -> tf.Tensor | None:
    """Return the factor of each column's weights in Omega, float32 [columns]: its number of ratings
    under the weighted rule, `scale` under the plain rule, times its factor of lambda; None without
    `scale`."""
    if scale is None or not isinstance(batch, Batch):
        return None
    if config.regularization == "weighted":
        return batch.count
    weights = tf.fill(batch.count.shape, tf.cast(scale, tf.float32))
    return weights * batch.lambda_factors[0] if batch.lambda_factors else weights


def positions(x: tf.Tensor, values: tf.Tensor, right: bool = False,
              out_type: tf.DType = tf.int32) -> tf.Tensor:
    """Return the same as `np.searchsorted`, for tensors with one axis. `tf.searchsorted`, which
    supports more axes, has four times as long a graph."""
    search = tf.raw_ops.UpperBound if right else tf.raw_ops.LowerBound
    x, values = tf.expand_dims(x, 0), tf.expand_dims(values, 0)
    return tf.squeeze(search(sorted_inputs=x, values=values, out_type=out_type), 0)


def pairs(row: tf.Tensor, column: tf.Tensor, num_rows: tf.Tensor) -> Pairs:
    """Return (row, column) pairs, int64 [pairs] with `row` ascending, as `Pairs` of `num_rows`
    rows."""
    starts = positions(row, tf.range(num_rows + 1), out_type=tf.int64)
    return Pairs(starts, tf.cast(row, tf.int32), tf.cast(column, tf.int32))
