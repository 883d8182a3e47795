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
as in SVD++: model/svdpp.py. Leaving one out then concerns both sides.

Shapes at the ends of lines: B rows of a mini-batch, n columns, k units of the first hidden layer
and l of the last (the same one, but in a deep model), e ratings observed in the mini-batch.
"""

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.model.batch import Batch, SparseRows, pairs, places, sparse_rows
from autorec_tf.model.dense_engine import weighted_norm
from autorec_tf.model.division import Division
from autorec_tf.model.engines import make_engine
from autorec_tf.model.factors import Factors
from autorec_tf.model.loop import in_turn
from autorec_tf.model.optimizer import OPTIMIZERS, counter
from autorec_tf.model.svdpp import Decoding, SvdppDecoder, shares
from autorec_tf.model.tensors import SUFFIX
from autorec_tf.system.files import as_utf8
from autorec_tf.system.random_streams import random_stream

PREDICTION_ROWS = 512  # rows predicted at a time
ACTIVATIONS = {
    "identity": tf.identity,
    "sigmoid": tf.sigmoid,
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "elu": tf.nn.elu,
}
# g' of some z, from g(z).
SLOPES = {
    "identity": tf.ones_like,
    "sigmoid": lambda h: h * (1 - h),
    "relu": tf.sign,
    "tanh": lambda h: 1 - tf.square(h),
    "elu": lambda h: tf.minimum(h, 0.0) + 1,
}


class AutoRec(tf.Module):
    """The parameters V, W, mu, b (and a deep model's inner layers), their objective, its
    optimiser, and prediction.

    What a row and a column are (items and users, or the reverse) is the caller's business.
    `num_columns` is n; `scale` the lowest and highest rating, which a bounded output activation
    spans; `density` the share of observed entries, by which the engine "auto" is chosen
    (model/engines.py); `config` gives everything else, initialisation seed included. Made in the
    scope of a tf.distribute strategy, it is trained by all its replicas together; with a
    `division`, n are this worker's columns. `values` (float32, ascending) are those that have input
    vectors of their own, D; None: there is no D. `num_rows` is m, for what each row has of its own
    in the decoder of SVD++.
    """

    def __init__(
        self, num_columns: int, config: Config, scale: tuple[float, float] = (1.0, 5.0),
        density: float = 0.0, division: Division | None = None, values: np.ndarray | None = None,
        num_rows: int = 0,
    ) -> None:
        super().__init__(name="autorec")
        self.config, self.scale = config, scale
        self.division = division or Division(num_columns)
        workers = self.division.workers  # without them and a scope, a single replica
        self.strategy = workers.strategy if workers else tf.distribute.get_strategy()
        sizes = config.hidden_neuron
        seeds = random_stream(config.random_seed, "initialisation").integers(
            2**31, size=(len(sizes) + 1, 2)
        )
        total, own = self.division.total, self.division.own
        self.V = normal("V", (total, sizes[0]), config.init_stddev, seeds[0], own)
        self.Wt = normal("Wt", (total, sizes[-1]), config.init_stddev, seeds[1], own)
        self.mu = tf.Variable(tf.zeros(sizes[0]), name="mu")
        self.b = tf.Variable(tf.zeros(num_columns), name="b")
        self.values, self.D = values, None
        if values is not None:
            self.D = tf.Variable(tf.zeros([num_columns, len(values), sizes[0]]), name="D")
        self.svdpp = SvdppDecoder(num_rows, sizes[-1]) if config.decoder == "svdpp" else None
        self.inner = [
            (normal(f"V{i}", shape, shape[0] ** -0.5, seed), tf.Variable(tf.zeros(shape[1])))
            for i, (shape, seed) in enumerate(zip(pairwise(sizes), seeds[2:], strict=True), 2)
        ]
        self.steps = counter(0, tf.int64)
        self.dropout_seeds = random_stream(config.random_seed, "dropout").integers(
            2**31, size=len(sizes) + 1
        )
        self.optimizer = OPTIMIZERS[config.optimizer_method](self.parameters, config)
        self.engine = make_engine(config, density)

    @property
    def parameters(self) -> list[tf.Variable]:
        """V (n, k), Wt (n, l), mu (k), b (n), D (n, values, k) if there is one, Y (m, l) and c (m)
        if there are, then each inner layer's weights (inputs, outputs) and biases (outputs); all
        float32."""
        outer = [self.V, self.Wt, self.mu, self.b] + ([] if self.D is None else [self.D])
        outer += [self.svdpp.Y, self.svdpp.c] if self.svdpp else []
        return [*outer, *(x for layer in self.inner for x in layer)]

    def rows(self, matrix: RatingMatrix) -> SparseRows:
        """Copy `matrix` to the device, as this model is trained on and predicts from it."""
        return sparse_rows(matrix, by_column=self.svdpp is not None)

    def decoder_weights(self, ratings: SparseRows) -> tf.Tensor:
        """Return all that a column's code is multiplied by: float32 (n, l), Wt or with more."""
        return self.svdpp.weights(self.engine, ratings, self.Wt) if self.svdpp else self.Wt

    @property
    def W(self) -> tf.Tensor:
        """The decoder's weights in the paper's orientation: float32 (l, n)."""
        return tf.transpose(self.Wt)

    def end_training(self) -> None:
        """Give back the memory of the optimiser's state, where that is divided because it is
        large: `evaluate` needs some at each worker."""
        for x in self.optimizer.state if self.division.workers else ():
            tf.raw_ops.AssignVariableOp(
                resource=x.handle, value=tf.zeros([0]), validate_shape=False
            )

    def save(self, prefix: str | Path | None) -> None:
        """Write V (n, k), W (l, n), mu (k), b (n), D, Y, c and the inner layers as a TensorFlow
        checkpoint, the files `prefix`.index and `prefix`.data-*; the first of several workers does,
        and the others, which have no `prefix`, send it their part."""
        if self.division.workers or prefix is None:
            names = ["V", "W", "mu", "b"] + ["D"] * (self.D is not None)
            names += [f"inner/{i}/{j}" for i in range(len(self.inner)) for j in range(2)]
            names = [f"{name}{SUFFIX}" for name in names]
            self.division.write(prefix, dict(zip(names, self.parameters, strict=True)))
            return
        saved = tf.train.Checkpoint(V=self.V, W=tf.Variable(self.W), mu=self.mu, b=self.b)
        if self.D is not None:
            saved.D = self.D
        if self.svdpp:
            saved.Y, saved.c = self.svdpp.Y, self.svdpp.c
        if self.inner:
            saved.inner = self.inner
        saved.write(as_utf8(prefix))

    def hidden(self, z: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Return the last hidden layer (B, l) from the first one's products z = R V (B, k)."""
        activation = ACTIVATIONS[self.config.hidden_activation]
        rate = self.config.dropout if training else 0.0
        h = self.dropout(activation(z + self.mu), rate, 1)
        for layer, (weights, biases) in enumerate(self.inner, 2):
            h = self.dropout(activation(h @ weights + biases), rate, layer)
        return h

    def dropout(self, x: tf.Tensor, rate: float, layer: int) -> tf.Tensor:
        """Return `x` after dropout (Srivastava et al., 2014), drawn anew for each layer and
        step."""
        if not rate:
            return x
        replica, step = tf.distribute.get_replica_context(), self.steps
        if not self.division.workers and replica.num_replicas_in_sync > 1:
            # Every replica leaves out something else.
            number = tf.cast(replica.replica_id_in_sync_group, step.dtype)
            step = step * replica.num_replicas_in_sync + number
        seed = tf.stack([tf.constant(self.dropout_seeds[layer]), step])
        return tf.nn.experimental.stateless_dropout(x, rate, seed)

    def kept(self, batch: Batch) -> tf.Tensor:
        """Return what dropout multiplies each input by (e): 0, or what makes up for those; workers
        draw once for all, alike."""
        rate = self.config.input_dropout
        if not (rate and batch.whole):
            return self.dropout(tf.ones_like(batch.ratings), rate, 0)
        place, size = batch.whole
        return tf.gather(self.dropout(tf.ones([size]), rate, 0), place)

    def one_hot(self, batch: Batch) -> Batch | None:
        """Return `batch` over the columns of D as (n * values, k): what is of column u and has the
        value of that index, or the nearest, is of column u * values + index; None without D."""
        values = self.values
        if values is None:
            return None
        index = tf.searchsorted((values[1:] + values[:-1]) / 2, batch.ratings)
        column, size = batch.column * len(values) + index, self.V.shape[0] * len(values)
        return self.engine.batch(batch.starts, batch.row, column, batch.ratings, size)

    def input_product(
        self, batch: Batch, coded: Batch | None, kept: tf.Tensor,
        share: tf.Tensor | float | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return z (B, k), the sum of the inputs' vectors, each times `kept` (e), and the encoder's
        part of lambda Omega, as in `objective`; without `share` 0, for predictions. `coded` is
        `one_hot(batch)`."""
        z, omega_V = self.engine.input_product(
            batch, batch.ratings * kept, self.V, self.counts(batch, share)
        )
        penalty = self.config.encoder_lambda * omega_V
        if coded is None:
            return z, penalty
        D = tf.reshape(self.D, [-1, self.V.shape[1]])
        z_D, omega_D = self.engine.input_product(coded, kept, D, self.counts(coded, share))
        return z + z_D, penalty + self.config.one_hot_lambda * omega_D

    def own_part(
        self, batch: Batch, coded: Batch | None, h: tf.Tensor, Wt: tf.Tensor
    ) -> tf.Tensor:
        """Return what each rating (e) adds to its own prediction by being an input, to first order,
        from the only hidden layer h (B, k) and `decoder_weights`."""
        slope = SLOPES[self.config.hidden_activation](h)
        own, _ = self.engine.output_product(batch, slope, self.V * Wt)
        own *= batch.ratings
        if coded is not None:
            X = tf.reshape(self.D * Wt[:, None], [-1, self.V.shape[1]])
            own += self.engine.output_product(coded, slope, X)[0]
        return own

    def counts(self, batch: Batch, share: tf.Tensor | float | None) -> tf.Tensor | None:
        """Return how often Omega counts each column's weights: float32 [columns of `batch`]; None
        without `share`."""
        if share is None:
            return None
        if self.config.regularization == "weighted":
            return batch.count
        return tf.fill(batch.count.shape, tf.cast(share, tf.float32))

    def output(self, x: tf.Tensor) -> tf.Tensor:
        """Return f(x); a bounded activation spans the rating scale."""
        return output(self.config.output_activation, x, self.scale)

    def initialise_bias(self, rating: float) -> None:
        """Set b so that f(b) is `rating`, or near it at the ends of the scale."""
        low, high = self.scale
        share = min(max((rating - low) / (high - low), 0.01), 0.99)
        inverse = {"sigmoid": math.log(share / (1 - share)), "tanh": math.atanh(2 * share - 1)}
        self.b.assign(tf.fill(self.b.shape, inverse.get(self.config.output_activation, rating)))

    def objective(
        self, batch: Batch, share: tf.Tensor | float = 1.0, decoding: Decoding | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return J(B), equation 2 over one mini-batch, and its squared error: two float32 scalars.

        Omega is equation 2's ||W||^2 + ||V||^2 under "plain" regularisation, times `share`;
        under "weighted" each column's part counts once per rating that the column has in the
        batch (that of a value in D once per rating of that value), and an inner layer's, through
        which all pass, once a row. The decoder of SVD++ needs `decoding`.
        """
        config, weighted = self.config, self.config.regularization == "weighted"
        coded, kept = self.one_hot(batch), self.kept(batch)
        z, penalty = self.input_product(batch, coded, kept, share)
        z = self.division.sum_forward(z, config.batch_size)
        h = self.division.sum_backward(self.hidden(z, True), config.batch_size)
        product, penalty_W = self.output_product(batch, h, share, decoding)
        penalty += penalty_W
        if config.leave_one_out:
            weights = decoding.weights if decoding else self.Wt
            product -= kept * self.own_part(batch, coded, h, weights)
            if self.svdpp and decoding:
                product -= self.svdpp.own_part(batch, decoding, h)
        prediction = self.output(product + tf.gather(self.b, batch.column))
        squared_error = tf.reduce_sum(tf.square(batch.ratings - prediction))
        if self.inner:
            times = tf.cast(tf.size(batch.starts) - 1, tf.float32) if weighted else share
            norms = [tf.reduce_sum(tf.square(weights)) for weights, _ in self.inner]
            penalty += self.division.once(config.lambda_value * times * tf.add_n(norms))
        return squared_error + penalty / 2, squared_error

    def output_product(
        self, batch: Batch, h: tf.Tensor, share: tf.Tensor | float, decoding: Decoding | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return h times the weights of its column, for each rating (e), with its row's bias if
        there are such; and the decoder's part of lambda Omega, as in `objective`."""
        strength, count = self.config.decoder_lambda, self.counts(batch, share)
        if not self.svdpp or not decoding:
            product, omega = self.engine.output_product(batch, h, self.Wt, count)
            return product, strength * omega
        product, _ = self.engine.output_product(batch, h, decoding.weights)
        product += tf.gather(tf.gather(self.svdpp.c, decoding.rows), batch.row)
        times = tf.ones([tf.size(decoding.rows)])
        if self.config.regularization == "weighted":
            times = tf.cast(batch.starts[1:] - batch.starts[:-1], tf.float32)
        omega = weighted_norm(self.Wt, count) + self.svdpp.norm(decoding.rows, times)
        return product, strength * omega + self.svdpp.bias_penalty(decoding.rows, self.b, share)

    def gradients(
        self, ratings: SparseRows, rows: tf.Tensor, share: tf.Tensor | float = 1.0,
        weights: tf.Tensor | None = None,
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """Return dJ(B) for each of `parameters`, J(B) and the squared error, all float32; B is
        `rows` (int64 [B]) of `ratings`. With the `decoder_weights`, that for them is the last
        one, and not in those of what they are made of."""
        sources = [*self.parameters, *([] if weights is None else [weights])]
        with tf.GradientTape() as tape:
            tape.watch(sources)
            batch = self.engine.gather(ratings, rows, self.V.shape[0])
            if ratings.whole:
                batch = batch._replace(whole=places(ratings, rows, batch))
            decoding = None
            if self.svdpp:
                weights = self.decoder_weights(ratings) if weights is None else weights
                decoding = Decoding(rows, weights, shares(ratings))
            cost, squared_error = self.objective(batch, share, decoding)
        gradients = tape.gradient(cost, sources)
        return [tf.convert_to_tensor(gradient) for gradient in gradients], cost, squared_error

    def clip(self, gradients: list[tf.Tensor]) -> list[tf.Tensor]:
        """Return each component within the limit, if the configuration says so."""
        if not self.config.grad_clip:
            return gradients
        limit = self.config.grad_clip_limit
        return [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]

    def train_epoch(
        self, ratings: SparseRows, order: np.ndarray, learning_rate: float
    ) -> tuple[float, float]:
        """Train on every row of `ratings` once, in `order` (int64 [rows]), one step a mini-batch;
        a full-batch optimiser takes one step.

        Return the sum of J(B) over the steps, Ω included, and the training RMSE of the running
        epoch: unclipped, each mini-batch scored just before the update it causes.
        """
        if self.optimizer.full_batch:
            cost, squared_error = self.optimizer.step(
                lambda: self._full_gradients(ratings), learning_rate
            )
            self.steps.assign_add(1)
        else:
            cost, squared_error = self._train_epoch(
                ratings, tf.constant(order, tf.int64), tf.constant(learning_rate, tf.float32)
            )
            self.share_same()
        sums = self.division.sum([float(cost), float(squared_error), len(ratings.values)])
        return float(sums[0]), float(np.sqrt(sums[1] / sums[2]))

    def share_same(self) -> None:
        """Give all workers the first one's mu and inner layers, of which each has its own."""
        self.division.same([self.mu, *(x for layer in self.inner for x in layer)])

    @tf.function(autograph=False)
    def _train_epoch(self, ratings, order, learning_rate):
        batch_size = self.config.batch_size

        def step(start, total):
            rows = order[start : start + batch_size]
            sums = self.strategy.run(self._step, (ratings, rows, learning_rate))
            # All replicas have the same sums.
            sums = self.strategy.experimental_local_results(sums)[0]
            return total + tf.cast(sums, tf.float64)

        zero = tf.zeros(2, tf.float64)
        return tf.unstack(in_turn(step, zero, tf.size(order, tf.int64), batch_size))

    def _step(self, ratings, rows, learning_rate):
        """Take one replica's share of a mini-batch's step: every so many-th of its rows, perhaps
        none. Gradients, cost and squared error are sums over rows, so the replicas' are added;
        plain Ω is no such sum, and each brings its share. Return the batch's cost and squared
        error."""
        replica = tf.distribute.get_replica_context()
        number, count = replica.replica_id_in_sync_group, replica.num_replicas_in_sync
        if count == 1 or self.division.workers:
            gradients, cost, squared_error = self.gradients(ratings, rows)
            sums = tf.stack([cost, squared_error])
        else:
            part = rows[number::count]
            gradients, cost, squared_error = self.gradients(ratings, part, 1 / count)
            sums = tf.stack([cost, squared_error])
            *gradients, sums = replica.all_reduce("SUM", [*gradients, sums])
        self.optimizer.apply(self.clip(gradients), learning_rate)
        self.steps.assign_add(1)
        return sums

    @tf.function(autograph=False)
    def _full_gradients(self, ratings):
        """Return the gradients over all rows, summed over blocks of them, with plain Ω counted
        once."""
        weights = tape = None
        if self.svdpp:  # made once for all blocks, and their gradients led back once
            with tf.GradientTape() as tape:
                weights = self.decoder_weights(ratings)
        sources = [*self.parameters, *([] if weights is None else [weights])]
        num_rows, batch_size = tf.size(ratings.indptr, tf.int64) - 1, self.config.batch_size

        def add(start, state):
            sums, total = state
            rows = tf.range(start, tf.minimum(start + batch_size, num_rows))
            share = tf.cast(tf.size(rows, tf.int64) / num_rows, tf.float32)
            gradients, cost, squared_error = self.gradients(ratings, rows, share, weights)
            sums = [x + gradient for x, gradient in zip(sums, gradients, strict=True)]
            return sums, total + tf.cast(tf.stack([cost, squared_error]), tf.float64)

        zeros = [tf.zeros_like(x) for x in sources], tf.zeros(2, tf.float64)
        sums, total = in_turn(add, zeros, num_rows, batch_size)
        if tape:
            of_weights = sums.pop()
            led_back = tape.gradient(weights, self.parameters, of_weights)
            sums = [x if y is None else x + y for x, y in zip(sums, led_back, strict=True)]
        return sums, total[0], total[1]

    def predict(self, ratings: SparseRows, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the reconstruction, from `ratings`, of the (row, column) pairs: float32 [pairs].

        rows, columns: integers [pairs], in any order. What is predicted depends on the ratings
        given and on nothing else: a test rating is predicted from training ratings by passing
        those. Predictions are not clipped.
        """
        place = rows.astype(np.int64) * self.b.shape[0] + columns
        if np.all(place[1:] >= place[:-1]):  # as those of a matrix are
            wanted = tf.constant(rows, tf.int64), tf.constant(columns, tf.int64)
            return self._predict(ratings, *wanted).numpy()
        order = np.argsort(place)
        predictions = np.empty(len(rows), np.float32)
        predictions[order] = self.predict(ratings, rows[order], columns[order])
        return predictions

    @tf.function(autograph=False)
    def _predict(self, ratings, rows, columns):
        num_rows, weights = tf.size(ratings.indptr, tf.int64) - 1, self.decoder_weights(ratings)

        def block(start, blocks):
            stop = tf.minimum(start + PREDICTION_ROWS, num_rows)
            first, last = tf.unstack(tf.searchsorted(rows, tf.stack([start, stop])))
            wanted = pairs(rows[first:last] - start, columns[first:last], stop - start)
            hidden = self.division.run(self.encode, ratings, tf.range(start, stop))
            product, _ = self.engine.output_product(wanted, hidden, weights)
            if self.svdpp:
                product += tf.gather(self.svdpp.c[start:stop], wanted.row)
            prediction = self.output(product + tf.gather(self.b, wanted.column))
            return blocks.write(blocks.size(), prediction)

        blocks = tf.TensorArray(tf.float32, 0, True, infer_shape=False, element_shape=[None])
        return in_turn(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def encode(self, ratings: SparseRows, rows: tf.Tensor) -> tf.Tensor:
        """Return the last hidden layer of `rows` (int64 [B]), from their `ratings`: float32 [B,
        l]."""
        batch = self.engine.gather(ratings, rows, self.V.shape[0])
        z, _ = self.input_product(batch, self.one_hot(batch), tf.ones_like(batch.ratings))
        return self.hidden(self.division.sum_forward(z, PREDICTION_ROWS))

    @tf.function(autograph=False)
    def encode_all(self, ratings: SparseRows) -> tf.Tensor:
        """Return `encode` of every row, in blocks: float32 [rows, l]."""
        num_rows = tf.size(ratings.indptr, tf.int64) - 1

        def block(start, blocks):
            rows = tf.range(start, tf.minimum(start + PREDICTION_ROWS, num_rows))
            return blocks.write(blocks.size(), self.division.run(self.encode, ratings, rows))

        blocks = tf.TensorArray(
            tf.float32, 0, True, infer_shape=False, element_shape=[None, self.Wt.shape[1]]
        )
        return in_turn(block, blocks, num_rows, PREDICTION_ROWS).concat()

    def predict_test(self, split: Split) -> np.ndarray:
        """Return `predict` of the test ratings, in their order, from the training ratings."""
        train, test = map(self.division.part, (split.train, split.test))
        predictions = self.predict(self.rows(train), test.rows, test.indices)
        return self.division.together(predictions, split.test.indices)

    def factors(self, train: RatingMatrix) -> list[Factors]:
        """Return the model as it predicts from the ratings `train`, for the CPU."""
        ratings = self.rows(self.division.part(train))
        codes = self.encode_all(ratings).numpy()
        weights, bias = self.division.whole(self.Wt), self.division.whole(self.b)
        if self.svdpp:  # a row's bias is one more unit of its code
            weights = self.decoder_weights(ratings).numpy()
            codes, weights = with_unit(codes, self.svdpp.c.numpy()), with_unit(weights, 1.0)
        function = self.config.output_activation
        return [Factors(self.config.orientation, codes, weights, bias, function, self.scale)]


def with_unit(codes: np.ndarray, values: np.ndarray | float) -> np.ndarray:
    """Return `codes` (rows, l) with `values` ([rows] or []) as one unit more: (rows, l + 1)."""
    more = np.empty((len(codes), codes.shape[1] + 1), codes.dtype)
    more[:, :-1], more[:, -1] = codes, values
    return more


def output(activation: str, x: tf.Tensor, scale: tuple[float, float]) -> tf.Tensor:
    """Return `activation` of `x`; a bounded one spans `scale`."""
    low, high = scale
    if activation == "sigmoid":
        return low + (high - low) * tf.sigmoid(x)
    if activation == "tanh":
        return low + (high - low) * (tf.tanh(x) + 1) / 2
    return ACTIVATIONS[activation](x)


def normal(
    name: str, shape: tuple[int, int], stddev: float, seed: np.ndarray, own: slice = slice(None),
) -> tf.Variable:
    """Return the rows `own` of truncated normal values with mean 0, from `seed` (integers [2])."""
    values = tf.random.stateless_truncated_normal(shape, seed, stddev=stddev)
    return tf.Variable(values[own], name=name)
