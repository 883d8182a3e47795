"""The model's two products with a rating matrix as dense products, for the GPU and for any device.

A dense block exists for one mini-batch only. Shapes: B rows of it, n columns, k hidden units, e
ratings.
"""

import tensorflow as tf

from model.batch import Batch, Places, SparseRows


class DenseEngine:
    """Gathers, encodes and decodes mini-batches; `precision` is that of the products' factors:
    "float32" or "bfloat16". All results are float32."""

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def gather(self, ratings: SparseRows, rows: tf.Tensor, num_columns: int) -> Batch:
        """The observed ratings of `rows` (int64 [B])."""
        first, end = tf.gather(ratings.indptr, rows), tf.gather(ratings.indptr, rows + 1)
        starts = tf.concat([[0], tf.cumsum(end - first)], 0)
        row = tf.repeat(tf.range(tf.size(rows)), end - first)
        entry = tf.ragged.range(first, end).flat_values
        column = tf.gather(ratings.indices, entry)
        with tf.device("CPU:0"):  # the GPU's kernel is not deterministic, and refuses to run
            count = tf.raw_ops.DenseBincount(
                input=column, size=num_columns, weights=tf.zeros([0])
            )
        return Batch(starts, row, column, tf.gather(ratings.values, entry), count)

    def encode(
        self, batch: Batch, inputs: tf.Tensor, V: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """R V (float32 [B, k]), R being `inputs` (float32 [e]) at the batch's places, and
        sum_u count_u ||V_u||^2, with `count` float32 [n]."""
        inputs, factor = self.factors(inputs, V)
        R = to_dense(flat_places(batch, V.shape[0]), inputs, block_shape(batch, V.shape[0]))
        return tf.cast(R @ factor, tf.float32), weighted_norm(V, count)

    def decode(
        self, places: Batch | Places, h: tf.Tensor, Wt: tf.Tensor, count: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """h W at `places` only (float32 [e]), and sum_u count_u ||W_u||^2."""
        product = tf.matmul(*self.factors(h, Wt), transpose_b=True)  # (B, n)
        taken = take(product, flat_places(places, Wt.shape[0]))
        return tf.cast(taken, tf.float32), weighted_norm(Wt, count)

    def rest(self) -> None:
        """There is no memory to give back, as there is in a SparseEngine."""

    def factors(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """`tensors` in the precision of the products; sums and updates stay float32."""
        return [tf.cast(tensor, self.precision) for tensor in tensors]


@tf.custom_gradient
def weighted_norm(X: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, object]:
    """sum_u count_u ||X_u||^2; the gradient, for X alone, in one pass over it."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return (2 * upstream * count)[:, None] * X, None

    return tf.reduce_sum(count * tf.reduce_sum(tf.square(X), 1)), gradient


def block_shape(places: Batch | Places, num_columns: int) -> tf.Tensor:
    """(B, n), int64."""
    return tf.stack([tf.size(places.starts, tf.int64) - 1, num_columns])


def flat_places(places: Batch | Places, num_columns: int) -> tf.Tensor:
    """Each rating's place in the batch's dense block, row by row: int64 [e]."""
    return tf.cast(places.row, tf.int64) * num_columns + tf.cast(places.column, tf.int64)


def to_dense(flat: tf.Tensor, values: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """A dense `shape` (B, n) with `values` [e] at the distinct places `flat` [e], else 0."""
    # Half the time of tf.scatter_nd, which also has to care for repeated places.
    dense = tf.raw_ops.SparseToDense(
        sparse_indices=flat,
        output_shape=tf.reduce_prod(shape, keepdims=True),
        sparse_values=values,
        default_value=tf.zeros([], values.dtype),
        validate_indices=False,
    )
    return tf.reshape(dense, shape)


@tf.custom_gradient
def take(dense: tf.Tensor, flat: tf.Tensor) -> tuple[tf.Tensor, object]:
    """`dense` (B, n) at the distinct places `flat` [e]; the gradient is `to_dense`, for speed."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return to_dense(flat, upstream, tf.shape(dense, tf.int64)), None

    return tf.gather(tf.reshape(dense, [-1]), flat), gradient
