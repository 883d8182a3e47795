"""AutoRec (Sedhain, Menon, Sanner, Xie: "AutoRec: Autoencoders Meet Collaborative Filtering",
WWW 2015), an autoencoder over the rows of a sparse rating matrix:

    h(r; theta) = f(W g(V r + mu) + b)                                       (equation 1)
    min_theta  sum_i ||r_i - h(r_i; theta)||_O^2 + lambda/2 (||W||_F^2 + ||V||_F^2)   (equation 2)

||.||_O counts observed ratings only. Rows of ratings are rows here, so V and W stand transposed
with respect to the paper: h(R) = f(g(R V + mu) W + b). W is kept as its transpose Wt: row u of V
and row u of Wt belong to column u of R, and a rating touches two contiguous rows. More hidden
layers, if any, lie between the two (the paper's deep AutoRec).

With `--input_encoding one_hot`, each observed value of a column has an input vector of its own, as
in CF-NADE (Zheng, Tang, Ding, Zhou: "A Neural Autoregressive Approach to Collaborative Filtering",
ICML 2016); in place of R V stands, in row i,

    z_i = sum over its observed (u, r) of  r V_u + D_{u,r}

D starts at 0, where this is equation 1, and has a lambda of its own in equation 2. Its values are
the distinct training ratings; a rating of another value takes the vector of the nearest.

A test rating is predicted from the row's other ratings, but a training rating is an input of its
own prediction. With `--leave_one_out`, each is predicted from the others in training, too: without
its own input, z_i would be less by r V_u + D_{u,r}, and the prediction, to first order in that, is

    W_u g(z_i + mu) + b_u  -  (W_u * (r V_u + D_{u,r})) . g'(z_i + mu)

before f, * being element by element. The second product costs what the first one does.

With `--decoder svdpp`, W_u is one part of a column's weights, and each row has a bias of its own,
as in SVD++: model/decoder.py. Leaving one out then concerns both sides.

Shapes at the ends of lines: B rows of a mini-batch, n columns, k units of the first hidden layer
and l of the last (the same one, but in a deep model), e ratings observed in the mini-batch.
"""

import math

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.model.activations import ACTIVATIONS, output
from autorec_tf.model.batch import SparseRows, pairs, sparse_rows
from autorec_tf.model.column_shards import SUFFIX, ColumnShards, Stored
from autorec_tf.model.decoder import DECODERS, Outputs
from autorec_tf.model.encoder import Dropout, Encoder, Inputs
from autorec_tf.model.engines import make_engine
from autorec_tf.model.factors import Factors
from autorec_tf.model.loop import serial_loop
from autorec_tf.model.parameters import parameters_of
from autorec_tf.system.random_streams import random_stream

PREDICTION_ROWS = 512  # rows predicted at a time


class AutoRec:
    """The parameters of model/parameters.py, their objective, and prediction.

    What a row and a column are (items and users, or the reverse) is the caller's business.

    num_columns: n; scale: the lowest and highest rating, which a bounded output activation spans;
    density: the fraction of entries that are observed, by which the engine "auto" is chosen;
    shards: the columns that are here, if workers divide them; values: the rating values that have
    input vectors of their own, D (float32, ascending); num_rows: m; variables: parameters of
    another model to use, in place of new ones.
    """

    def __init__(self, num_columns: int, config: Config, scale: tuple[float, float] = (1.0, 5.0),
                 density: float = 0.0, shards: ColumnShards | None = None,
                 values: np.ndarray | None = None, num_rows: int = 0,
                 variables: list[tf.Variable] | None = None) -> None:
        self.config, self.scale, self.density, self.values = config, scale, density, values
        self.shards = shards or ColumnShards(num_columns)
        self.num_rows, self.strategy = num_rows, tf.distribute.get_strategy()
        self.declared = parameters_of(config, 0 if values is None else len(values))
        self.parameters = variables or self.initial_parameters()
        named = dict(zip([p.name for p in self.declared], self.parameters, strict=True))
        self.V, self.Wt, self.mu, self.b = (named[name] for name in ("V", "Wt", "mu", "b"))
        numbers = range(len(config.hidden_neuron) - 1)
        self.inner = [(named[f"inner/{i}/0"], named[f"inner/{i}/1"]) for i in numbers]
        self.engine = make_engine(config, density)
        self.encoder = Encoder(config, self.engine, self.V, named.get("D"), values)
        self.decoder = DECODERS[config.decoder](config, self.engine, named)

    def objective(self, inputs: Inputs, outputs: Outputs, penalty_scale: tf.Tensor | float = 1.0,
                  dropout: Dropout | None = None) -> tuple[tf.Tensor, tf.Tensor]:
        """Return equation 2 over one mini-batch B, and its squared error: two float32 scalars.

            J(B) = sum_i ||r_i - h(r_i; theta)||_O^2 + lambda/2 Omega

        Omega is equation 2's ||W||^2 + ||V||^2 under "plain" regularisation, times `penalty_scale`;
        under "weighted" each column's weights count once per rating that the column has in the
        batch (those of a value in D once per rating of that value), and an inner layer's, through
        which all pass, once per row.
        """
        config, batch = self.config, inputs.batch
        z, penalty = self.encoder.product(inputs, penalty_scale)
        z = self.shards.sum_forward(z, config.batch_size)
        h = self.shards.sum_backward(self.hidden(z, dropout), config.batch_size)
        product, penalty_W = self.decoder.product(outputs, h, penalty_scale)
        if config.leave_one_out:
            product -= self.encoder.self_contribution(inputs, h, outputs.weights)
            product -= self.decoder.self_contribution(outputs, h)
        prediction = self.output(product + tf.gather(self.b, batch.column))
        squared_error = tf.reduce_sum(tf.square(batch.ratings - prediction))
        penalty += penalty_W
        if self.inner:
            rows, weighted = tf.size(batch.starts) - 1, config.regularization == "weighted"
            times = tf.cast(rows, tf.float32) if weighted else penalty_scale
            norms = [tf.reduce_sum(tf.square(weights)) for weights, _ in self.inner]
            penalty += self.shards.once(config.lambda_value * times * tf.add_n(norms))
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
        """Copy `matrix` to the device, as this model is trained on and predicts from it."""
        return sparse_rows(matrix, by_column=self.decoder.by_column)

    def predict(self, ratings: SparseRows, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the reconstruction, from `ratings`, of the (row, column) pairs: float32 [pairs].

        rows, columns: integers [pairs], in any order. What is predicted depends on the ratings
        given and on nothing else: a test rating is predicted from training ratings by passing
        those. Predictions are not clipped.
        """
        position = rows.astype(np.int64) * self.b.shape[0] + columns
        if np.all(position[1:] >= position[:-1]):  # as those of a matrix are
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
            first, last = tf.unstack(tf.searchsorted(rows, tf.stack([start, stop])))
            wanted = pairs(rows[first:last] - start, columns[first:last], stop - start)
            hidden = self.shards.run(self.encode, ratings, tf.range(start, stop))
            outputs = self.decoder.outputs(wanted, tf.range(start, stop), ratings, weights)
            product, _ = self.decoder.product(outputs, hidden)
            prediction = self.output(product + tf.gather(self.b, wanted.column))
            return blocks.write(blocks.size(), prediction)

        blocks = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None])
        return serial_loop(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def encode(self, ratings: SparseRows, rows: tf.Tensor) -> tf.Tensor:
        """Return the last hidden layer of `rows` (int64 [B]) from `ratings`: float32 [B, l]."""
        batch = self.engine.gather(ratings, rows, self.V.shape[0])
        z, _ = self.encoder.product(self.encoder.inputs(batch))
        return self.hidden(self.shards.sum_forward(z, PREDICTION_ROWS))

    @tf.function(autograph=False)
    def encode_all(self, ratings: SparseRows) -> tf.Tensor:
        """Return `encode` of every row, in blocks: float32 [rows, l]."""
        num_rows = tf.size(ratings.indptr, tf.int64) - 1

        def block(start, blocks):
            rows = tf.range(start, tf.minimum(start + PREDICTION_ROWS, num_rows))
            return blocks.write(blocks.size(), self.shards.run(self.encode, ratings, rows))

        blocks = tf.TensorArray(tf.float32, 0, True, infer_shape=False,
                                element_shape=[None, self.Wt.shape[1]])
        return serial_loop(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def predict_test(self, split: Split) -> np.ndarray:
        """Return `predict` of the test ratings, in their order, from the training ratings."""
        train, test = map(self.shards.part, (split.train, split.test))
        predictions = self.predict(self.rows(train), test.rows, test.indices)
        return self.shards.gather(predictions, split.test.indices)

    def factors(self, train: RatingMatrix) -> list[Factors]:
        """Return the model as it predicts from the ratings `train`, for the CPU."""
        ratings = self.rows(self.shards.part(train))
        weights = self.shards.full_matrix(self.decoder.weights(ratings))
        embeddings, weights = self.decoder.factors(self.encode_all(ratings).numpy(), weights)
        bias, f = self.shards.full_matrix(self.b), self.config.output_activation
        return [Factors(self.config.orientation, embeddings, weights, bias, f, self.scale)]

    def initial_parameters(self) -> list[tf.Variable]:
        """Return new parameters: truncated normal values with mean 0, or 0."""
        seeds = random_stream(self.config.random_seed, "initialisation").integers(
            2**31, size=(len(self.config.hidden_neuron) + 1, 2)
        )
        parameters, seed = [], iter(seeds)
        for each in self.declared:
            values = tf.zeros(each.shape(self.shards.num_columns, self.num_rows))
            if each.stddev:  # of all workers' columns, of which some are here
                values = tf.random.stateless_truncated_normal(
                    each.shape(self.shards.total, self.num_rows), next(seed), stddev=each.stddev
                )
                values = values[self.shards.own] if each.is_per_column else values
            parameters.append(tf.Variable(values, name=each.name))
        return parameters

    def initialise_bias(self, rating: float) -> None:
        """Set b so that f(b) is `rating`, or near it at the ends of the scale."""
        low, high = self.scale
        fraction = min(max((rating - low) / (high - low), 0.01), 0.99)
        inverse = {"sigmoid": math.log(fraction / (1 - fraction)),
                   "tanh": math.atanh(2 * fraction - 1)}
        self.b.assign(tf.fill(self.b.shape, inverse.get(self.config.output_activation, rating)))

    @property
    def W(self) -> tf.Tensor:
        """The decoder's weights in the paper's orientation: float32 (l, n)."""
        return tf.transpose(self.Wt)

    def save(self, prefix: str | None) -> None:
        """Write the parameters as the files `prefix`.*, W (l, n) as in the paper. Workers that are
        not the first have no `prefix`, and send it their columns."""
        self.shards.write(prefix, {
            f"{p.saved or p.name}{SUFFIX}": Stored(x, p.is_per_column, p.transposed)
            for p, x in zip(self.declared, self.parameters, strict=True)
        })

    def with_config(self, config: Config) -> "AutoRec":
        """Return a model of the same parameters, with other settings."""
        return AutoRec(self.shards.num_columns, config, self.scale, self.density, self.shards,
                       self.values, self.num_rows, self.parameters)
