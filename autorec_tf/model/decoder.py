"""The decoders: a column's own weights, as in the paper, also with row biases, or those of SVD++.

The biased decoder: each row i has a bias c_i, which is added to all its predictions. Equation 2
gets the penalty of both biases, whose lambda is 10, since a few ratings of a row or column do not
justify large ones: 10 (||c||^2 + sum over u of (b_u - mean of b)^2). With a large lambda of V and W
the model is these biases. Without c, it is the means of the columns.

The SVD++ decoder (Koren, "Factorization meets the neighborhood", KDD 2008, equation 15): the
weights of column u are its own, W_u, plus the sum of one vector for each row in N(u), the rows
that the column has ratings of. Each row i also has a bias:

    W_u + s / sqrt(|N(u)|) sum over i in N(u) of Y_i,    c_i

A column with few ratings has a small W_u because of lambda, and is predicted from what other
columns with ratings of the same rows have taught Y. Leave-one-out: without the rating of row i, the
weights would be smaller by s / sqrt(|N(u)|) Y_i, and the prediction by h_i times that vector.

Omega also includes Y. s sets the scale of Y, and Omega is of s Y. An optimiser step in Y moves all
columns at once; with s well below 1 it changes the weights as much as a step in W.

Shapes: B rows of a mini-batch, m rows and n columns in all, l hidden units, e ratings of the batch.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.batch import Batch, Pairs, SparseRows, penalty_weights
from autorec_tf.model.column_shards import ColumnShards
from autorec_tf.model.dense_engine import weighted_norm
from autorec_tf.model.parameters import SVDPP_SCALE

BIAS_LAMBDA = 10.0


class Outputs(NamedTuple):
    """The outputs of a mini-batch: its ratings or the pairs to predict, its `rows` (int64 [B]), the
    `weights` of all columns (float32 (n, l)), and the `normalisation` of each column in SVD++
    (float32 [n])."""

    pairs: Batch | Pairs
    rows: tf.Tensor
    weights: tf.Tensor
    normalisation: tf.Tensor | None = None


class Decoder:
    """The product of the last hidden layer with Wt, float32 (n, l), as in the paper. `parameters`:
    those of the model, by name. `lambda_W`: the lambda of W. `shards`: the columns of this process.
    """

    uses_all_rows = False  # whether the weights are computed from the ratings of all rows

    def __init__(self, config: Config, engine: Any, parameters: dict[str, tf.Variable],
                 lambda_W: float | tf.Variable, shards: ColumnShards) -> None:
        self.config, self.engine, self.Wt = config, engine, parameters["Wt"]
        self.lambda_W, self.shards = lambda_W, shards

    def weights(self, ratings: SparseRows) -> tf.Tensor:
        """Return the weights of all columns: float32 (n, l)."""
        return self.Wt

    def outputs(
        self, pairs: Batch | Pairs, rows: tf.Tensor, ratings: SparseRows,
        weights: tf.Tensor | None = None,
    ) -> Outputs:
        """Return the outputs of a mini-batch of `rows`, with `weights` if they are given."""
        return Outputs(pairs, rows, self.weights(ratings) if weights is None else weights)

    def product(
        self, outputs: Outputs, h: tf.Tensor, penalty_scale: tf.Tensor | float | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return h W of each pair, float32 [e], and lambda Omega of W, as in `AutoRec.objective`.
        Without `penalty_scale`, for predictions, the second is 0."""
        weights = penalty_weights(outputs.pairs, self.config, penalty_scale)
        product, omega = self.engine.output_product(outputs.pairs, h, outputs.weights, weights)
        return product, self.lambda_W * omega

    def self_contribution(self, outputs: Outputs, h: tf.Tensor) -> tf.Tensor | float:
        """Return the contribution of each rating to its own prediction, through the weights:
        float32 [e]."""
        return 0.0

    def factors(self, h: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return row embeddings and column weights whose product is `product`, from the last hidden
        layer of all rows, (rows, l), and the weights of all columns, (columns, l)."""
        return h, weights


class BiasedDecoder(Decoder):
    """The plain decoder with row biases c, float32 [m], and a lambda of both biases."""

    def __init__(self, config: Config, engine: Any, parameters: dict[str, tf.Variable],
                 lambda_W: float | tf.Variable, shards: ColumnShards) -> None:
        super().__init__(config, engine, parameters, lambda_W, shards)
        self.b, self.c = parameters["b"], parameters["c"]

    def product(
        self, outputs: Outputs, h: tf.Tensor, penalty_scale: tf.Tensor | float | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        product, penalty = self.weighted_product(outputs, h, penalty_scale)
        c = tf.gather(self.c, outputs.rows)
        product += self.engine.at_rows(outputs.pairs, c)
        if penalty_scale is not None:
            # c has an entry for each row, b one for all rows: both count once in an epoch.
            fraction = tf.cast(tf.size(outputs.rows) / self.c.shape[0], tf.float32)
            of_columns = tf.reduce_sum(tf.square(self.b - self.shards.mean(self.b)))
            of_rows = tf.reduce_sum(c**2) * float(self.shards.is_first)
            penalty += BIAS_LAMBDA * (of_rows + fraction * of_columns)
        return product, penalty

    def weighted_product(
        self, outputs: Outputs, h: tf.Tensor, penalty_scale: tf.Tensor | float | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return `product` without the biases."""
        return super().product(outputs, h, penalty_scale)

    def factors(self, h: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return with_unit(h, self.c.numpy()), with_unit(weights, 1.0)  # the bias as an extra unit


class SvdppDecoder(BiasedDecoder):
    """The SVD++ decoder: weights with Y, float32 (m, l), and row biases c, float32 [m]."""

    uses_all_rows = True

    def __init__(self, config: Config, engine: Any, parameters: dict[str, tf.Variable],
                 lambda_W: float | tf.Variable, shards: ColumnShards) -> None:
        super().__init__(config, engine, parameters, lambda_W, shards)
        self.Y = parameters["Y"]

    def weights(self, ratings: SparseRows) -> tf.Tensor:
        columns = ratings.full_batches[1]
        factors = self.engine.at_rows(columns, normalisation(ratings))
        return self.Wt + self.engine.input_product(columns, factors, self.Y)[0]

    def outputs(self, pairs: Batch | Pairs, rows: tf.Tensor, ratings: SparseRows,
                weights: tf.Tensor | None = None) -> Outputs:
        plain = super().outputs(pairs, rows, ratings, weights)
        return plain._replace(normalisation=normalisation(ratings))

    def weighted_product(
        self, outputs: Outputs, h: tf.Tensor, penalty_scale: tf.Tensor | float | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        pairs, rows = outputs.pairs, outputs.rows
        product, _ = self.engine.output_product(pairs, h, outputs.weights)
        weights = penalty_weights(pairs, self.config, penalty_scale)
        if weights is not None:
            return product, self.lambda_W * self.omega(pairs, rows, weights)
        return product, tf.zeros([])

    def omega(self, pairs: Batch | Pairs, rows: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Return the squares of W, with a weight for each column, and of s Y, in Omega."""
        num_ratings = tf.fill([tf.size(rows)], float(self.shards.is_first))
        if self.config.regularization == "weighted":
            num_ratings = tf.cast(pairs.starts[1:] - pairs.starts[:-1], tf.float32)
        norms = tf.reduce_sum(tf.square(SVDPP_SCALE * tf.gather(self.Y, rows)), 1)
        return weighted_norm(self.Wt, weights) + tf.reduce_sum(num_ratings * norms)

    def self_contribution(self, outputs: Outputs, h: tf.Tensor) -> tf.Tensor | float:
        """Return the contribution of each rating to its own prediction: its row is in N(u)."""
        by_row = tf.reduce_sum(tf.gather(self.Y, outputs.rows) * h, 1)
        return self.engine.at_pairs(outputs.pairs, by_row, outputs.normalisation)


def normalisation(ratings: SparseRows) -> tf.Tensor:
    """Return s / sqrt(|N(u)|) of each column u: float32 [n]."""
    return SVDPP_SCALE / tf.sqrt(tf.maximum(ratings.full_batches[0].count, 1))


def with_unit(h: np.ndarray, values: np.ndarray | float) -> np.ndarray:
    """Return `h` (rows, l) with `values` ([rows] or []) as an extra unit: (rows, l + 1)."""
    extended = np.empty((len(h), h.shape[1] + 1), h.dtype)
    extended[:, :-1], extended[:, -1] = h, values
    return extended


DECODERS = {"own": Decoder, "biased": BiasedDecoder, "svdpp": SvdppDecoder}
