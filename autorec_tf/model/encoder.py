"""The encoder, the input of the first hidden layer: ratings, one-hot inputs, and dropout.

Shapes: B rows of a mini-batch, n columns, k units, e ratings of the mini-batch.
"""

from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config, Lambdas
from autorec_tf.model.activations import SLOPES
from autorec_tf.model.batch import Batch, penalty_weights, positions


class Dropout(NamedTuple):
    """Dropout (Srivastava et al., 2014) of one training step: the seed of each layer, where layer 0
    is the input, and the number of the step, both int64."""

    seeds: np.ndarray
    step: tf.Tensor

    def __call__(self, x: tf.Tensor, rate: float, layer: int) -> tf.Tensor:
        """Return `x` with a fraction `rate` of its entries set to 0 and the others scaled up."""
        if not rate:
            return x
        seed = tf.stack([tf.constant(self.seeds[layer]), self.step])
        return tf.nn.experimental.stateless_dropout(x, rate, seed)


class Inputs(NamedTuple):
    """The inputs of a mini-batch: its ratings, the same ratings over the columns of D reshaped to
    (n * values, k) if the model has D, and the dropout mask, float32 [e]."""

    batch: Batch
    one_hot_batch: Batch | None
    dropout_mask: tf.Tensor


class Encoder:
    """The product of a mini-batch with V, float32 (n, k), plus its vectors of D, float32
    (n, values, k), if there is D. `values`: the rating values of D, float32, ascending."""

    def __init__(self, config: Config, engine: Any, lambdas: Lambdas, V: tf.Variable,
                 D: tf.Variable | None = None, values: np.ndarray | None = None) -> None:
        self.config, self.engine, self.lambdas = config, engine, lambdas
        self.V, self.D, self.values = V, D, values

    def inputs(self, batch: Batch, dropout: Dropout | None = None) -> Inputs:
        """Return the inputs of a mini-batch, with `dropout` in a training step."""
        return Inputs(batch, self.one_hot(batch), self.dropout_mask(batch, dropout))

    def one_hot(self, batch: Batch) -> Batch | None:
        """Return `batch` over the columns of D reshaped to (n * values, k): a rating of column u is
        in column u * values + index, with the index of the nearest value."""
        values = self.values
        if values is None:
            return None
        index = positions((values[1:] + values[:-1]) / 2, batch.ratings)
        column, size = batch.column * len(values) + index, self.V.shape[0] * len(values)
        one_hot = self.engine.batch(batch.starts, batch.row, column, batch.ratings, size)
        factors = tuple(tf.repeat(x, len(values)) for x in batch.lambda_factors)
        return one_hot._replace(lambda_factors=factors)

    def dropout_mask(self, batch: Batch, dropout: Dropout | None) -> tf.Tensor:
        """Return the factor of each input, float32 [e]. Workers draw the mask of the full matrix,
        so it is the same on all workers."""
        ones, rate = tf.ones_like(batch.ratings), self.config.input_dropout
        if not (dropout and rate and batch.full_matrix):
            return dropout(ones, rate, 0) if dropout else ones
        position, size = batch.full_matrix
        return tf.gather(dropout(tf.ones([size]), rate, 0), position)

    def product(self, inputs: Inputs,
                penalty_scale: tf.Tensor | float | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z, float32 (B, k), and lambda Omega of V and D, as in `AutoRec.objective`. Without
        `penalty_scale`, for predictions, the second is 0."""
        (batch, one_hot_batch, mask), config = inputs, self.config
        z, omega_V = self.engine.input_product(
            batch, batch.ratings * mask, self.V, penalty_weights(batch, config, penalty_scale)
        )
        penalty = self.lambdas.V * omega_V
        if one_hot_batch is None:
            return z, penalty
        D = tf.reshape(self.D, [-1, self.V.shape[1]])
        weights = penalty_weights(one_hot_batch, config, penalty_scale)
        z_D, omega_D = self.engine.input_product(one_hot_batch, mask, D, weights)
        return z + z_D, penalty + self.lambdas.D * omega_D

    def self_contribution(self, inputs: Inputs, h: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
        """Return the first-order contribution of each rating to its own prediction as an input,
        float32 [e], from the single hidden layer h (B, k) and the decoder's weights (n, k)."""
        batch, one_hot_batch, mask = inputs
        slope = SLOPES[self.config.hidden_activation](h)
        # One use of `weights`: AddN adds two gradients in one way, but three in any order.
        weights = tf.identity(weights)
        contribution = batch.ratings * self.slope_product(batch, slope, self.V, weights)
        if one_hot_batch is not None:
            D = tf.convert_to_tensor(self.D)
            of_values = tf.broadcast_to(weights[:, None], D.shape)
            D, weights = (tf.reshape(x, [-1, self.V.shape[1]]) for x in (D, of_values))
            contribution += self.slope_product(one_hot_batch, slope, D, weights)
        return mask * contribution

    def slope_product(self, batch: Batch, slope: tf.Tensor, X: tf.Tensor,
                      weights: tf.Tensor) -> tf.Tensor:
        """Return (X * weights) . slope at the pairs of the batch, float32 [e], from X and weights
        (n, k) and slope (B, k).

        With `leave_one_out_slope` "mean", slope_i is replaced by its projection on the mean slope
        of the ratings, a_i times this mean, and the product needs numbers of rows and columns only.
        """
        if self.config.leave_one_out_slope == "own":
            return self.engine.output_product(batch, slope, X * weights)[0]
        count = tf.cast(batch.starts[1:] - batch.starts[:-1], tf.float32)
        mean = tf.linalg.matvec(slope, count, transpose_a=True) / tf.reduce_sum(count)
        a = tf.math.divide_no_nan(tf.linalg.matvec(slope, mean), tf.reduce_sum(tf.square(mean)))
        return self.engine.at_pairs(batch, a, self.engine.product_matvec(X, weights, mean))
