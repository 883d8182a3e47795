"""The decoder of SVD++ (Koren, "Factorization meets the neighborhood", KDD 2008, equation 15).

A column's weights are its own, W_u, and besides the sum of vectors of the rows N(u) that it has
ratings of; and each row has a bias:

    W_u + s / sqrt(|N(u)|) sum over i in N(u) of Y_i,    c_i

So a column of few ratings, whose W_u lambda keeps small, predicts by what others with the same rows
have shown. Without the rating of row i, to be left out, the weights would be less by
s / sqrt(|N(u)|) Y_i, and its prediction from h_i by the product of the two.

Omega is of Y, too, and lambda of the biases is 10, as few ratings of a row or column are no ground
for more: 10 (||c||^2 + sum over u of (b_u - mean of b)^2).

s is a unit: Omega is of s Y, and with s well below 1 an optimiser's steps in Y, which move all
columns at once, are as long as they are in W.

Shapes: B rows of a mini-batch, m rows and n columns in all, l hidden units, e ratings of the batch.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from autorec_tf.model.batch import Batch, SparseRows

SCALE = 0.1  # s
BIAS_LAMBDA = 10.0


class Decoding(NamedTuple):
    """What a step is told of a mini-batch: its `rows` (int64 [B]), and all columns' `weights`
    (float32 (n, l)) and `shares` (float32 [n])."""

    rows: tf.Tensor
    weights: tf.Tensor
    shares: tf.Tensor


class SvdppDecoder(tf.Module):
    """Y (m, l) and c (m), float32, which start at 0; and what they add."""

    def __init__(self, num_rows: int, num_units: int) -> None:
        super().__init__(name="svdpp")
        self.Y = tf.Variable(tf.zeros([num_rows, num_units]), name="Y")
        self.c = tf.Variable(tf.zeros(num_rows), name="c")

    def weights(self, engine: Any, ratings: SparseRows, Wt: tf.Tensor) -> tf.Tensor:
        """Return the weights of all columns, of which `Wt` are their own: float32 (n, l)."""
        starts, rows = ratings.by_column
        column = tf.repeat(tf.range(tf.size(starts) - 1), starts[1:] - starts[:-1])
        share = tf.gather(shares(ratings), column)
        batch = engine.batch(starts, column, rows, share, self.Y.shape[0])
        return Wt + engine.input_product(batch, share, self.Y)[0]

    def own_part(self, batch: Batch, decoding: Decoding, h: tf.Tensor) -> tf.Tensor:
        """Return what each rating (e) adds to its own prediction by being in N(u), from the hidden
        layer h (B, l)."""
        own = tf.reduce_sum(tf.gather(self.Y, decoding.rows) * h, 1)
        return tf.gather(own, batch.row) * tf.gather(decoding.shares, batch.column)

    def norm(self, rows: tf.Tensor, times: tf.Tensor) -> tf.Tensor:
        """Return the sum over `rows` of ||s Y_i||^2, each so many `times` (float32 [B])."""
        norms = tf.reduce_sum(tf.square(SCALE * tf.gather(self.Y, rows)), 1)
        return tf.reduce_sum(times * norms)

    def bias_penalty(
        self, rows: tf.Tensor, b: tf.Tensor, share: tf.Tensor | float
    ) -> tf.Tensor:
        """Return lambda Omega of the biases of `rows`, and a `share` of that of `b`, the columns'
        biases (float32 [n])."""
        of_columns = tf.reduce_sum(tf.square(b - tf.reduce_mean(b)))
        return BIAS_LAMBDA * (tf.reduce_sum(tf.gather(self.c, rows) ** 2) + share * of_columns)


def shares(ratings: SparseRows) -> tf.Tensor:
    """Return s / sqrt(|N(u)|) of each column: float32 [n]."""
    starts, _ = ratings.by_column
    return SCALE / tf.sqrt(tf.cast(tf.maximum(starts[1:] - starts[:-1], 1), tf.float32))
