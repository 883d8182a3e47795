"""The dense engine: the model's two products with a rating matrix as dense products, on any device.

Only one mini-batch at a time is dense. Shapes: B rows of a mini-batch, n columns, k hidden units, e
ratings of the mini-batch.
"""

import math
from collections.abc import Sequence

import tensorflow as tf

from autorec_tf.model.batch import Batch, Pairs, SparseRows, positions
from autorec_tf.model.gradients import with_gradient


class DenseEngine:
    """Gather and multiply mini-batches. `precision` is the type of the products' factors,
    "float32" or "bfloat16"; all results are float32."""

    takes_all_rows = False  # a block with all columns is dense, so its number of rows is limited

    def __init__(self, precision: str) -> None:
        self.precision = precision

    def gather(self, ratings: SparseRows, rows: tf.Tensor, num_columns: int) -> Batch:
        """Return the observed ratings of `rows` (int64 [B]) as a `Batch`."""
        first, end = tf.gather(ratings.indptr, rows), tf.gather(ratings.indptr, rows + 1)
        starts, entry = tf.raw_ops.RaggedRange(
            starts=first, limits=end, deltas=tf.ones([], tf.int64))
        # Less time and memory than tf.repeat, which fills rows up to the longest one.
        row = positions(starts[1:], tf.range(tf.size(entry, tf.int64)), right=True)
        column, values = (tf.gather(x, entry) for x in (ratings.indices, ratings.values))
        return self.batch(starts, row, column, values, num_columns)

    def batch(
        self, starts: tf.Tensor, row: tf.Tensor, column: tf.Tensor, ratings: tf.Tensor,
        num_columns: int,
    ) -> Batch:
        """Return these ratings as a `Batch` over `num_columns` columns."""
        with tf.device("CPU:0"):  # the GPU kernel is not deterministic, so it raises an error
            count = tf.raw_ops.DenseBincount(
                input=column, size=num_columns, weights=tf.zeros([0])
            )
        return Batch(starts, row, column, ratings, tf.ensure_shape(count, [num_columns]))

    def input_product(
        self, batch: Batch, inputs: tf.Tensor, V: tf.Tensor, count: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return R V, float32 (B, k), where R has `inputs` (float32 [e]) at the batch's pairs, and
        sum_u count_u ||V_u||^2, with `count` float32 [n], or 0 without `count`."""
        inputs, factor = self.factors(inputs, V)
        index = flat_index(batch, V.shape[0])
        R = to_dense(index, inputs, block_shape(batch, V.shape[0]))
        return tf.cast(R @ factor, tf.float32), weighted_norm(V, count)

    def output_product(
        self, pairs: Batch | Pairs, h: tf.Tensor, Wt: tf.Tensor, count: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return h W at `pairs` only, float32 [e], and sum_u count_u ||W_u||^2, or 0 without
        `count`."""
        product = tf.matmul(*self.factors(h, Wt), transpose_b=True)  # (B, n)
        taken = take(product, flat_index(pairs, Wt.shape[0]))
        return tf.cast(taken, tf.float32), weighted_norm(Wt, count)

    def at_rows(self, pairs: Batch | Pairs, x: tf.Tensor) -> tf.Tensor:
        """Return x (B) at the row of each pair: float32 [e]."""
        return tf.gather(x, pairs.row)

    def at_columns(self, pairs: Batch | Pairs, x: tf.Tensor) -> tf.Tensor:
        """Return x (n) at the column of each pair: float32 [e]."""
        return tf.gather(x, pairs.column)

    def at_pairs(self, pairs: Batch | Pairs, a: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        """Return the product of a (B) at the row and x (n) at the column of each pair: float32 [e].
        """
        return self.at_rows(pairs, a) * self.at_columns(pairs, x)

    def product_matvec(self, X: tf.Tensor, Y: tf.Tensor, v: tf.Tensor) -> tf.Tensor:
        """Return (X * Y) v, float32 [n], from X and Y (n, k) and v (k)."""
        return tf.linalg.matvec(X * Y, v)

    def pair_type(self, dtype: tf.DType) -> tf.DType:
        """Return the type in which L-BFGS keeps its pairs, for parameters of type `dtype`."""
        return dtype

    def pair_products(self, g: tf.Tensor, s: Sequence[tf.Tensor],
                      y: Sequence[tf.Tensor]) -> tf.Tensor:
        """Return the inner products of the rows of each s_i, and of each y_i, with those of y_j for
        j >= i, and of g: (rows, 2, m, m + 1); other entries are arbitrary."""
        zero = tf.zeros([math.prod(g.shape[:-1])], g.dtype)
        products = [
            [tf.reshape(row_products(x, other), [-1]) if j >= i else zero
             for j, other in enumerate([*y, g])]
            for side in (s, y) for i, x in enumerate(side)
        ]
        shape = [-1, 2, len(s), len(s) + 1]
        return tf.reshape(tf.stack(sum(products, []), 1), shape)

    def pair_sum(self, g: tf.Tensor, scale: tf.Tensor, s: Sequence[tf.Tensor],
                 y: Sequence[tf.Tensor], a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
        """Return scale (g - sum_j a_j y_j) + sum_j b_j s_j, of g's shape. `scale` has the shape of
        `g` with a last axis of 1; a, b: [m]."""
        z = scale * (g - tf.add_n([a[j] * x for j, x in enumerate(y)]))
        return z + tf.add_n([b[j] * x for j, x in enumerate(s)])

    def differences(self, x: tf.Tensor, x_last: tf.Tensor, g: tf.Tensor,
                    g_last: tf.Tensor) -> list[tf.Tensor]:
        """Return s = x - x_last, y = g - g_last, and the inner products of their rows: s with s,
        s with y, y with y, each of the shape of x with a last axis of 1."""
        s, y = x - x_last, g - g_last
        return [s, y, row_products(s, s), row_products(s, y), row_products(y, y)]

    def release_buffers(self) -> None:
        """Do nothing: only a SparseEngine has buffers."""

    def factors(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """Return `tensors` in the precision of the products; sums and updates are float32."""
        return [tf.cast(tensor, self.precision) for tensor in tensors]


def row_products(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    """Return the inner products of the rows of two tensors (..., k): (..., 1)."""
    return tf.reduce_sum(a * b, -1, keepdims=True)


def weighted_norm(X: tf.Tensor, count: tf.Tensor | None) -> tf.Tensor:
    """Return sum_u count_u ||X_u||^2, or 0 without `count`. The gradient takes one pass over X."""
    if count is None:
        return tf.zeros([])

    @with_gradient
    def norm(X: tf.Tensor) -> tuple[tf.Tensor, object]:
        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            return tf.expand_dims(2 * upstream * count, 1) * X

        return tf.reduce_sum(count * tf.reduce_sum(tf.square(X), 1)), gradient

    return norm(X)


def block_shape(pairs: Batch | Pairs, num_columns: int) -> tf.Tensor:
    """Return (B, n), int64."""
    return tf.stack([tf.size(pairs.starts, tf.int64) - 1, num_columns])


def flat_index(pairs: Batch | Pairs, num_columns: int) -> tf.Tensor:
    """Return each pair's index in the batch's dense block, row by row: int64 [e]."""
    return tf.cast(pairs.row, tf.int64) * num_columns + tf.cast(pairs.column, tf.int64)


def to_dense(index: tf.Tensor, values: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """Return a dense `shape` (B, n): `values` [e] at the distinct flat `index` [e], 0 elsewhere."""
    # Half the time of tf.scatter_nd, which also has to handle repeated indices.
    dense = tf.raw_ops.SparseToDense(
        sparse_indices=index, output_shape=tf.reduce_prod(shape, keepdims=True),
        sparse_values=values, default_value=tf.zeros([], values.dtype), validate_indices=False,
    )
    return tf.reshape(dense, shape)


@with_gradient
def take(dense: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, object]:
    """Return `dense` (B, n) at the distinct flat `index` [e]. Its gradient is `to_dense`, faster
    than the gradient of tf.gather."""

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, None]:
        return to_dense(index, upstream, tf.shape(dense, tf.int64)), None

    return tf.gather(tf.reshape(dense, [-1]), index), gradient
