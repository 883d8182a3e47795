"""AutoRec (Sedhain, Menon, Sanner, Xie: "AutoRec: Autoencoders Meet Collaborative Filtering",
WWW 2015), an autoencoder over the rows of a sparse rating matrix:

    h(r; theta) = f(W g(V r + mu) + b)                                       (equation 1)
    min_theta  sum_i ||r_i - h(r_i; theta)||_O^2 + lambda/2 (||W||_F^2 + ||V||_F^2)   (equation 2)

||.||_O counts observed ratings only. The vectors r_i are the rows of R here, so V and W are the
paper's matrices transposed: h(R) = f(g(R V + mu) W + b). W is stored as its transpose Wt: row u of
V and row u of Wt belong to column u of R, and a rating touches two contiguous rows. A deep model
(the paper's deep AutoRec) has more hidden layers between the two.

With `--input_encoding one_hot`, each observed value r of a column u has an input vector D_{u,r}, as
in CF-NADE (Zheng, Tang, Ding, Zhou: "A Neural Autoregressive Approach to Collaborative Filtering",
ICML 2016). Row i of R V is replaced by

    z_i = sum over the observed (u, r) of row i:  r V_u + D_{u,r}

D starts at 0, where this is equation 1, and has its own lambda in equation 2. Its values are the
distinct training ratings; any other rating uses the vector of the nearest value.

A test rating is predicted from the row's other ratings, but a training rating is an input of its
own prediction. With `--leave_one_out`, training also predicts each rating from the others only:
without its own input, z_i would be smaller by r V_u + D_{u,r}, and to first order in this term the
prediction is

    W_u g(z_i + mu) + b_u  -  (W_u * (r V_u + D_{u,r})) . g'(z_i + mu)

before f, where * is the element-wise product. The second term costs as much as the first, unless
the slopes g' of all rows share a direction (`--leave_one_out_slope mean`, model/encoder.py).

With `--input_scale s`, the inputs of row i are multiplied by s / sqrt(number of its ratings).

With `--decoder svdpp`, W_u is one part of a column's weights, and each row has a bias, as in SVD++
(model/decoder.py). Leave-one-out then also corrects the decoder.

Shapes at the ends of lines: B rows of a mini-batch, n columns, k units of the first hidden layer
and l of the last (one and the same unless the model is deep), e observed ratings of the mini-batch.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.model.activations import ACTIVATIONS, output
from autorec_tf.model.batch import (
    SparseRows,
    full_batches,
    in_full_matrix,
    pairs,
    positions,
    sparse_rows,
)
from autorec_tf.model.column_shards import SUFFIX, ColumnShards, Stored
from autorec_tf.model.decoder import DECODERS, Outputs
from autorec_tf.model.encoder import Dropout, Encoder, Inputs
from autorec_tf.model.engines import make_engine
from autorec_tf.model.factors import Factors
from autorec_tf.model.loop import serial_loop
from autorec_tf.model.parameters import TrainedParameters, parameters_of
from autorec_tf.system.random_streams import random_stream

PREDICTION_ROWS = 512  # rows predicted at a time


class AutoRec:
    """The model: the parameters of model/parameters.py, their objective, and prediction.

    The caller decides whether rows are items and columns are users, or the reverse.

    Args:
        num_columns: n.
        config: the hyper-parameters.
        scale: the lowest and highest rating, the range of a bounded output activation.
        density: the fraction of observed entries, by which the engine "auto" is chosen.
        shards: the columns of this process, if workers divide them.
        values: the rating values with one-hot input vectors D (float32, ascending).
        num_rows: m.
        variables: the parameters of another model, to be used instead of new ones.
        lambda_value: a variable in place of the `lambda_value` of `config`.
    """

    def __init__(self, num_columns: int, config: Config, scale: tuple[float, float] = (1.0, 5.0),
                 density: float = 0.0, shards: ColumnShards | None = None,
                 values: np.ndarray | None = None, num_rows: int = 0,
                 variables: list[tf.Variable] | None = None,
                 lambda_value: tf.Variable | None = None) -> None:
        self.config, self.scale, self.density, self.values = config, scale, density, values
        self.shards = shards or ColumnShards(num_columns)
        self.num_rows, self.strategy = num_rows, tf.distribute.get_strategy()
        self.declared = parameters_of(config, len(values) if values is not None else 0)
        self.parameters = variables or self.initial_parameters()
        named = dict(zip([p.name for p in self.declared], self.parameters, strict=True))
        self.V, self.Wt, self.mu, self.b = (named[name] for name in ("V", "Wt", "mu", "b"))
        numbers = range(len(config.hidden_neuron) - 1)
        self.inner = [(named[f"inner/{i}/0"], named[f"inner/{i}/1"]) for i in numbers]
        self.engine = make_engine(config, density)
        self.lambdas = config.lambdas(lambda_value)
        self.encoder = Encoder(config, self.engine, self.lambdas, self.V, named.get("D"), values)
        self.decoder = DECODERS[config.decoder](
            config, self.engine, named, self.lambdas.W, self.shards)

    def objective(self, inputs: Inputs, outputs: Outputs, penalty_scale: tf.Tensor | float = 1.0,
                  dropout: Dropout | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return equation 2 over one mini-batch B, and its squared error: two float32 scalars.

            J(B) = sum_i ||r_i - h(r_i; theta)||_O^2 + lambda/2 Omega

        Under the plain rule, Omega is ||W||^2 + ||V||^2 of equation 2, times `penalty_scale`. Under
        the weighted rule, the weights of a column count once per rating of the column in the batch
        (a vector of D: per rating of its value), and those of an inner layer once per row. With
        `lambda_exponent` a under the plain rule, the weights of column u count (c_u / mean c)^a
        times, where c_u is its number of ratings.
        """
        config, batch = self.config, inputs.batch
        z, penalty = self.encoder.product(inputs, penalty_scale)
        max_rows = (batch.starts.shape[0] or config.batch_size + 1) - 1  # known of all rows at once
        z = self.shards.sum_forward(z, max_rows)
        h = self.shards.sum_backward(self.hidden(z, dropout), max_rows)
        product, penalty_W = self.decoder.product(outputs, h, penalty_scale)
        if config.leave_one_out:
            product -= self.encoder.self_contribution(inputs, h, outputs.weights)
            product -= self.decoder.self_contribution(outputs, h)
        prediction = self.output(product + self.engine.at_columns(batch, self.b))
        squared_error = tf.reduce_sum(tf.square(batch.ratings - prediction))
        penalty += penalty_W
        if self.inner:
            rows, weighted = tf.size(batch.starts) - 1, config.regularization == "weighted"
            factor = tf.cast(rows, tf.float32) if weighted else penalty_scale
            norms = [tf.reduce_sum(tf.square(weights)) for weights, _ in self.inner]
            penalty += self.shards.once(self.lambdas.inner * factor * tf.add_n(norms))
        return squared_error + penalty / 2, squared_error

    def hidden(self, z: tf.Tensor, dropout: Dropout | None = None) -> tf.Tensor:
        """Return the last hidden layer, (B, l), from the encoder's product z = R V, (B, k)."""
        g, rate = ACTIVATIONS[self.config.hidden_activation], self.config.dropout
        h = g(z + self.mu)
        h = dropout(h, rate, 1) if dropout else h
        for layer, (weights, biases) in enumerate(self.inner, 2):
            h = g(h @ weights + biases)
            h = dropout(h, rate, layer) if dropout else h
        return h

    def output(self, x: tf.Tensor) -> tf.Tensor:
        """Return f(x); a bounded activation spans the rating scale."""
        return output(self.config.output_activation, x, self.scale)

    def rows(self, matrix: RatingMatrix) -> SparseRows:
        """Copy `matrix` to the device, in the form that training and prediction use."""
        rows = sparse_rows(matrix)
        if exponent := self.config.lambda_exponent:
            counts, total = matrix.column_counts, self.shards.sum([len(matrix)])[0]
            factors = (np.maximum(counts, 1) * self.shards.total / total) ** exponent
            rows = rows._replace(lambda_factors=(tf.constant(factors, tf.float32),))
        if self.decoder.uses_all_rows:
            rows = rows._replace(full_batches=full_batches(matrix, rows, self.engine))
        return rows

    def predict(self, ratings: SparseRows, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the predictions of the (row, column) pairs from `ratings`: float32 [pairs].

        The model sees no ratings except `ratings`: to predict test ratings, pass the training
        ratings. `rows` and `columns` are integers [pairs], in any order. Predictions are not
        clipped.
        """
        position = rows.astype(np.int64) * self.b.shape[0] + columns
        if np.all(position[1:] >= position[:-1]):  # sorted, like the entries of a matrix
            wanted = tf.constant(rows, tf.int64), tf.constant(columns, tf.int64)
            return self._predict(ratings, *wanted).numpy()
        order = np.argsort(position)
        predictions = np.empty(len(rows), np.float32)
        predictions[order] = self.predict(ratings, rows[order], columns[order])
        return predictions

    @tf.function(autograph=False)
    def _predict(self, ratings, rows, columns):
        num_rows = tf.size(ratings.indptr, tf.int64) - 1
        weights = self.decoder.weights(ratings)

        def block(start, blocks):
            stop = tf.minimum(start + PREDICTION_ROWS, num_rows)
            first, last = tf.unstack(positions(rows, tf.stack([start, stop])))
            wanted = pairs(rows[first:last] - start, columns[first:last], stop - start)
            hidden = self.shards.run(self.encode, ratings, tf.range(start, stop))
            outputs = self.decoder.outputs(wanted, tf.range(start, stop), ratings, weights)
            product, _ = self.decoder.product(outputs, hidden)
            prediction = self.output(product + self.engine.at_columns(wanted, self.b))
            return blocks.write(blocks.size(), prediction)

        blocks = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None])
        return serial_loop(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def encode(self, ratings: SparseRows, rows: tf.Tensor) -> tf.Tensor:
        """Return the last hidden layer of `rows` (int64 [B]) of `ratings`: float32 (B, l). B is at
        most `PREDICTION_ROWS` if it is only known when the graph runs."""
        batch = self.engine.gather(ratings, rows, self.V.shape[0])
        batch = batch._replace(full_matrix=in_full_matrix(ratings, rows, batch))
        z, _ = self.encoder.product(self.encoder.inputs(batch))
        return self.hidden(self.shards.sum_forward(z, rows.shape[0] or PREDICTION_ROWS))

    @tf.function(autograph=False)
    def encode_all(self, ratings: SparseRows) -> tf.Tensor:
        """Return the last hidden layer of every row, computed in blocks: float32 (rows, l)."""
        num_rows = tf.size(ratings.indptr, tf.int64) - 1

        def block(start, blocks):
            rows = tf.range(start, tf.minimum(start + PREDICTION_ROWS, num_rows))
            return blocks.write(blocks.size(), self.shards.run(self.encode, ratings, rows))

        blocks = tf.TensorArray(tf.float32, 0, True, infer_shape=False,
                                element_shape=[None, self.Wt.shape[1]])
        return serial_loop(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def predict_test(self, split: Split) -> np.ndarray:
        """Return the predictions of the test ratings, in their order, from the training ratings."""
        return self.predict_pairs(split.train, split.test.rows, split.test.indices)

    def predict_pairs(self, train: RatingMatrix, rows: np.ndarray,
                      columns: np.ndarray) -> np.ndarray:
        """Return `predict` of (row, column) pairs from the ratings `train`. If workers divide the
        columns, each passes all ratings and pairs, and predicts those of its columns."""
        shards = self.shards
        own = (columns >= shards.first) & (columns < shards.last)
        predictions = self.predict(self.rows(shards.part(train)), rows[own],
                                   columns[own] - shards.first)
        return shards.gather(predictions, columns)

    def factors(self, train: RatingMatrix) -> list[Factors]:
        """Return the arrays that predict from the ratings `train` with NumPy alone."""
        ratings = self.rows(self.shards.part(train))
        weights = self.shards.full_matrix(self.decoder.weights(ratings))
        embeddings, weights = self.decoder.factors(self.encode_all(ratings).numpy(), weights)
        bias, f = self.shards.full_matrix(self.b), self.config.output_activation
        return [Factors(self.config.orientation, embeddings, weights, bias, f, self.scale)]

    def initial_parameters(self) -> list[tf.Variable]:
        """Return new parameters: 0, or drawn from a truncated normal with mean 0."""
        seeds = random_stream(self.config.random_seed, "initialisation").integers(
            2**31, size=(len(self.config.hidden_neuron) + 1, 2)
        )
        variables, seed = [], iter(seeds)
        for parameter in self.declared:
            values = tf.zeros(parameter.shape(self.shards.num_columns, self.num_rows))
            if parameter.stddev:  # draw for the columns of all workers, then slice
                values = tf.random.stateless_truncated_normal(
                    parameter.shape(self.shards.total, self.num_rows), next(seed),
                    stddev=parameter.stddev
                )
                values = values[self.shards.own] if parameter.is_per_column else values
            variables.append(tf.Variable(values, name=parameter.name))
        return variables

    def initialise_bias(self, rating: float) -> None:
        """Set b so that f(b) is `rating`, or close to it at the ends of the scale. With
        `mean_in_weights`, b has only a fraction of this, and W gives the rest if h is g(0) = 1/2.
        """
        low, high = self.scale
        fraction = min(max((rating - low) / (high - low), 0.01), 0.99)
        inverse = {"sigmoid": math.log(fraction / (1 - fraction)),
                   "tanh": math.atanh(2 * fraction - 1)}
        x = inverse.get(self.config.output_activation, rating)
        in_weights = self.config.mean_in_weights * x
        self.Wt.assign_add(tf.fill(self.Wt.shape, 2 * in_weights / self.Wt.shape[1]))
        self.b.assign(tf.fill(self.b.shape, x - in_weights))

    @property
    def W(self) -> tf.Tensor:
        """The decoder's weights in the paper's orientation: float32 (l, n)."""
        return tf.transpose(self.Wt)

    def save(self, prefix: str | None) -> None:
        """Write the parameters to the files `prefix`.*, with W (l, n) as in the paper. Workers
        without a `prefix` send their columns to the first worker."""
        self.shards.write(prefix, {
            f"{p.saved or p.name}{SUFFIX}": Stored(x, p.is_per_column, p.transposed)
            for p, x in zip(self.declared, self.parameters, strict=True)
        })

    def gathered(self) -> list[Any]:
        """Return this model or, if workers divide its columns, `TrainedParameters` with the
        parameters that the priors of folding in need, of all columns."""
        if not self.shards.workers:
            return [self]
        names = () if self.config.decoder == "own" else ("Wt", "Y")
        declared = [p for p in self.declared if p.name in names]
        arrays = [
            self.shards.full_matrix(x) if p.is_per_column else x.numpy()
            for p, x in zip(self.declared, self.parameters, strict=True) if p.name in names
        ]
        return [TrainedParameters(self.config, self.values, declared, arrays)]

    def with_config(self, config: Config) -> "AutoRec":
        """Return a model with the same parameters and other settings."""
        return AutoRec(self.shards.num_columns, config, self.scale, self.density, self.shards,
                       self.values, self.num_rows, self.parameters)
