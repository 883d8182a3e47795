"""AutoRec (Sedhain, Menon, Sanner, Xie: "AutoRec: Autoencoders Meet Collaborative Filtering",
WWW 2015), a one-hidden-layer autoencoder over the rows of a sparse rating matrix:

    h(r; theta) = f(W g(V r + mu) + b)                                       (equation 1)
    min_theta  sum_i ||r_i - h(r_i; theta)||_O^2 + lambda/2 (||W||_F^2 + ||V||_F^2)   (equation 2)

||.||_O counts observed ratings only. Rows of ratings are rows here, so V and W stand transposed
with respect to the paper: h(R) = f(g(R V + mu) W + b). W is kept as its transpose Wt: row u of V
and row u of Wt belong to column u of R, and a rating touches two contiguous rows.

Shapes at the ends of lines: B rows of a mini-batch, n columns, k hidden units, e ratings
observed in the mini-batch.
"""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from config import Config
from data_preprocessor import RatingMatrix
from errors import UserError
from optimizer import OPTIMIZERS
from streams import random_stream

PREDICTION_ROWS = 512  # rows made dense at a time when predicting
SPARSE_DENSITY = 0.2  # `auto` multiplies dense blocks from this share of observed entries on


class SparseRows(NamedTuple):
    """A `RatingMatrix` as tensors: indptr int64 [rows + 1], indices int32 and values float32."""

    indptr: tf.Tensor
    indices: tf.Tensor
    values: tf.Tensor


class Batch(NamedTuple):
    """The observed ratings of some rows: `flat` int64 [e], each one's place in the batch's dense
    (B, n) block; `column` int32 [e]; `ratings` float32 [e]; `num_rows` int64, the B."""

    flat: tf.Tensor
    column: tf.Tensor
    ratings: tf.Tensor
    num_rows: tf.Tensor


def sparse_rows(matrix: RatingMatrix) -> SparseRows:
    """Copy `matrix` to the device once, to be trained on and predicted from many times."""
    return SparseRows(*map(tf.constant, (matrix.indptr, matrix.indices, matrix.values)))


def gather(matrix: SparseRows, rows: tf.Tensor, num_columns: int) -> Batch:
    """The observed ratings of `rows` (int64 [B]); an unobserved one is in no tensor at all."""
    starts, ends = tf.gather(matrix.indptr, rows), tf.gather(matrix.indptr, rows + 1)
    num_rows = tf.size(rows, tf.int64)
    row_start = tf.repeat(tf.range(num_rows) * num_columns, ends - starts)
    entry = tf.ragged.range(starts, ends).flat_values
    column = tf.gather(matrix.indices, entry)
    flat = row_start + tf.cast(column, tf.int64)
    return Batch(flat, column, tf.gather(matrix.values, entry), num_rows)


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


def choose_engine(config: Config, density: float) -> str:
    """The engine, "dense" or "sparse", that the configuration means here.

    "auto": sparse for float32 on a CPU, if Numba is there and at most `SPARSE_DENSITY` of the
    rating matrix is observed, else dense. Raises UserError for "sparse" without Numba, and for
    bfloat16 where it would not be faster.
    """
    wanted, precision = config.engine, config.precision
    numba = importlib.util.find_spec("numba") is not None
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if precision == "bfloat16" and wanted == "sparse":
        raise UserError("--precision bfloat16 is for --engine dense: the sparse engine is float32")
    if precision == "bfloat16" and not on_gpu and not multiplies_bfloat16():
        raise UserError(
            "--precision bfloat16: this processor only emulates bfloat16 (it has neither "
            "AVX512_BF16 nor AMX), which is slower than float32: use --precision float32"
        )
    if wanted == "sparse" and not numba:
        raise UserError("--engine sparse needs Numba: pip install numba, or use --engine dense")
    if wanted != "auto":
        return wanted
    sparse = numba and not on_gpu and density <= SPARSE_DENSITY and precision == "float32"
    return "sparse" if sparse else "dense"


def multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for bfloat16 products, as far as Linux tells."""
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})


class AutoRec(tf.Module):
    """The parameters V, W, mu, b, their objective, its optimiser, and prediction.

    What a row and a column are (items and users, or the reverse) is the caller's business.
    `num_columns` is n; `config` gives everything else, initialisation seed included. Its engine
    "sparse" computes gradients and predictions from observed entries with `num_threads` threads
    (sparse_engine.py); any other value, with dense products in TensorFlow.
    """

    def __init__(self, num_columns: int, config: Config, num_threads: int = 1) -> None:
        super().__init__(name="autorec")
        shape = num_columns, config.hidden_neuron
        seeds = random_stream(config.random_seed, "initialisation").integers(2**31, size=(2, 2))
        self.V, self.Wt = (
            tf.Variable(
                tf.random.stateless_truncated_normal(shape, seed, stddev=config.init_stddev),
                name=name,
            )
            for name, seed in zip(("V", "Wt"), seeds, strict=True)
        )
        self.mu = tf.Variable(tf.zeros(config.hidden_neuron), name="mu")
        self.b = tf.Variable(tf.zeros(num_columns), name="b")
        self.config = config
        self.optimizer = OPTIMIZERS[config.optimizer_method](self.parameters, config)
        self.sparse = None
        if config.engine == "sparse":
            from sparse_engine import SparseEngine  # Numba is needed here only

            weighted = config.regularization == "weighted"
            self.sparse = SparseEngine(config.lambda_value, weighted, num_threads)

    @property
    def parameters(self) -> list[tf.Variable]:
        """V (n, k), Wt (n, k), mu (k), b (n), all float32."""
        return [self.V, self.Wt, self.mu, self.b]

    @property
    def W(self) -> tf.Tensor:
        """The decoder's weights in the paper's orientation: float32 (k, n)."""
        return tf.transpose(self.Wt)

    def save(self, prefix: str | Path) -> None:
        """Write V (n, k), W (k, n), mu (k) and b (n) as a TensorFlow checkpoint, the files
        `prefix`.index and `prefix`.data-*."""
        W = tf.Variable(self.W)
        tf.train.Checkpoint(V=self.V, W=W, mu=self.mu, b=self.b).write(str(prefix))

    def encode(self, batch: Batch) -> tf.Tensor:
        """g(R V + mu), equation 1's inner part with g the sigmoid: float32 [B, k]."""
        shape = tf.stack([batch.num_rows, self.V.shape[0]])
        ratings, V = self.factors(batch.ratings, self.V)
        R = to_dense(batch.flat, ratings, shape)  # (B, n), 0 where nothing is observed
        return tf.sigmoid(tf.cast(R @ V, tf.float32) + self.mu)  # (B, k)

    def decode(self, hidden: tf.Tensor, flat: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        """f(h W + b), f the identity, at the places `flat` only: float32 [e]."""
        product = tf.matmul(*self.factors(hidden, self.Wt), transpose_b=True)  # (B, n)
        return tf.cast(take(product, flat), tf.float32) + tf.gather(self.b, column)

    def factors(self, *tensors: tf.Tensor) -> list[tf.Tensor]:
        """`tensors` in the precision of the dense products; sums and updates stay float32."""
        return [tf.cast(tensor, self.config.precision) for tensor in tensors]

    def objective(self, batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """J(B), equation 2 over one mini-batch, and its squared error: two float32 scalars.

        Omega is all of equation 2's ||W||^2 + ||V||^2 under "plain" regularisation; under
        "weighted" each column's part counts once per rating that the column has in the batch.
        """
        prediction = self.decode(self.encode(batch), batch.flat, batch.column)
        squared_error = tf.reduce_sum(tf.square(batch.ratings - prediction))
        omega = tf.reduce_sum(tf.square(self.V), 1) + tf.reduce_sum(tf.square(self.Wt), 1)  # (n,)
        if self.config.regularization == "weighted":
            with tf.device("CPU:0"):  # the GPU's kernel is not deterministic, and refuses to run
                count = tf.raw_ops.DenseBincount(
                    input=batch.column, size=tf.size(self.b), weights=tf.zeros([0])
                )
            omega *= count
        return squared_error + self.config.lambda_value / 2 * tf.reduce_sum(omega), squared_error

    def gradients(
        self, ratings: SparseRows, rows: tf.Tensor
    ) -> tuple[list[tf.Tensor], tf.Tensor, tf.Tensor]:
        """dJ(B) for each of `parameters` (clipped if the configuration says so), J(B) and the
        squared error, all float32; B is `rows` (int64 [B]) of `ratings`."""
        if self.sparse:
            inputs = [*ratings, rows, *self.parameters]
            *gradients, cost, squared_error = tf.numpy_function(
                self.sparse.gradients, inputs, [tf.float32] * 6
            )
            for tensor, like in zip(gradients, self.parameters, strict=True):
                tensor.set_shape(like.shape)
            cost, squared_error = tf.reshape(cost, []), tf.reshape(squared_error, [])
        else:
            with tf.GradientTape() as tape:
                cost, squared_error = self.objective(gather(ratings, rows, self.V.shape[0]))
            gradients = tape.gradient(cost, self.parameters)
        gradients = [tf.convert_to_tensor(gradient) for gradient in gradients]
        if self.config.grad_clip:
            limit = self.config.grad_clip_limit
            gradients = [tf.clip_by_value(gradient, -limit, limit) for gradient in gradients]
        return gradients, cost, squared_error

    def train_epoch(
        self, ratings: SparseRows, order: np.ndarray, learning_rate: float
    ) -> tuple[float, float]:
        """Train on every row of `ratings` once, in `order` (int64 [rows]), one step a mini-batch.

        Returns the sum of J(B) over the mini-batches, Ω included, and the training RMSE of the
        running epoch: unclipped, each mini-batch scored just before the update it causes.
        """
        cost, squared_error = self._train_epoch(
            ratings, tf.constant(order, tf.int64), tf.constant(learning_rate, tf.float32)
        )
        return float(cost), float(np.sqrt(squared_error / len(ratings.values)))

    @tf.function
    def _train_epoch(self, ratings, order, learning_rate):
        total = tf.zeros(2, tf.float64)
        num_rows = tf.size(order, tf.int64)
        batch_size = tf.constant(self.config.batch_size, tf.int64)
        for start in tf.range(0, num_rows, batch_size):
            # Steps depend on each other; asking for more at once would only hold more memory.
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            rows = order[start : start + batch_size]
            gradients, cost, squared_error = self.gradients(ratings, rows)
            self.optimizer.apply(gradients, learning_rate)
            total += tf.cast(tf.stack([cost, squared_error]), tf.float64)
        return total[0], total[1]

    def predict(self, ratings: SparseRows, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """The reconstruction, from `ratings`, of the (row, column) pairs: float32 [pairs].

        rows, columns: integers [pairs], in any order. What is predicted depends on the ratings
        given and on nothing else: a test rating is predicted from training ratings by passing
        those. Predictions are not clipped.
        """
        order = np.argsort(rows, kind="stable")
        predictions = np.empty(len(rows), np.float32)
        predictions[order] = self._predict(
            ratings,
            tf.constant(rows[order], tf.int64),
            tf.constant(columns[order], tf.int64),
        )
        return predictions

    @tf.function
    def _predict(self, ratings, rows, columns):
        if self.sparse:
            inputs = [*ratings, *self.parameters, rows, columns]
            return tf.numpy_function(self.sparse.predictions, inputs, tf.float32)
        blocks = tf.TensorArray(
            tf.float32, 0, dynamic_size=True, infer_shape=False, element_shape=[None]
        )
        num_rows, num_columns = tf.size(ratings.indptr, tf.int64) - 1, self.V.shape[0]
        for start in tf.range(0, num_rows, PREDICTION_ROWS):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            stop = tf.minimum(start + PREDICTION_ROWS, num_rows)
            first, last = tf.unstack(tf.searchsorted(rows, tf.stack([start, stop])))
            column = columns[first:last]
            flat = (rows[first:last] - start) * num_columns + column
            hidden = self.encode(gather(ratings, tf.range(start, stop), num_columns))
            blocks = blocks.write(blocks.size(), self.decode(hidden, flat, column))
        return blocks.concat()
