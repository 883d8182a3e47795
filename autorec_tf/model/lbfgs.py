"""L-BFGS, and the algebra that it needs on lists of tensors, one tensor per parameter."""

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import compress
from typing import Any

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.column_shards import ColumnShards
from autorec_tf.model.dense_engine import DenseEngine

# Gradients (one dense tensor per parameter, of its shape and dtype), cost and squared error
# (scalars) of the full-batch objective at the current parameters.
Evaluation = tuple[Sequence[tf.Tensor], tf.Tensor, tf.Tensor]


class LBFGS(tf.Module):
    """Limited-memory BFGS (Liu and Nocedal, 1989), full-batch:

    x <- x - t H g, with H g by the two-loop recursion over the last `lbfgs_memory` pairs of
    s = x - x_last and y = g - g_last, in two passes over the pairs (see `coefficients`). The sparse
    engine rounds pairs to bfloat16. H is that of the rounded pairs, and positive definite.

    The recursion begins with H_0 = gamma D, a diagonal matrix. With `lbfgs_by_row`, each row r of a
    parameter has its own scale (a vector is one row), since the objective is more curved along rows
    with more ratings:

        D_r = sqrt(sum of ||s_r||^2 / sum of ||y_r||^2)

    The sums are over the pairs. Otherwise, as in earlier versions, D is the identity. gamma makes
    y' H_0 y = s'y for the newest pair.

    t meets the weak Wolfe conditions, found by doubling and bisection (Lewis and Overton,
    "Nonsmooth optimization via quasi-Newton methods", 2013). The learning rate has no effect.

    Why not SciPy's `minimize`: it owns the loop, so a run could not evaluate, record, stop or
    resume between two iterations, and it works on float64 copies of all arrays.

    `evaluate` must be the same function at every step: its result at the accepted point is reused
    by the next step. If other code has changed the parameters in between, the step evaluates them
    again and clears the history.

    If workers divide the columns, each has its columns of the parameters for which `is_per_column`
    is true. All inner products are sums over workers, in which replicated entries count once, so
    all workers take the same decisions. `evaluate` must return the cost of all workers.
    """

    full_batch = True

    def __init__(self, parameters: Sequence[tf.Variable], config: Config,
                 engine: Any = None, shards: ColumnShards | None = None,
                 is_per_column: Sequence[bool] = ()) -> None:
        super().__init__(name="lbfgs")
        self.shards = shards or ColumnShards(0)
        # Whether this worker counts the entries of a parameter in sums, and its rows. A vector is
        # one row: its entries may be divided, but all workers have the norm of the row.
        divided = tuple(is_per_column) if self.shards.workers else (False,) * len(parameters)
        is_vector = [len(x.shape) == 1 for x in parameters]
        self.counts = tuple(self.shards.is_first or each for each in divided)
        self.counts_rows = tuple(self.shards.is_first or each and not vector
                                 for each, vector in zip(divided, is_vector, strict=True))
        self.divided_rows = tuple(np.flatnonzero(np.logical_and(divided, is_vector)))
        self.parameters, self.engine = list(parameters), engine or DenseEngine("float32")
        self.memory, self.max_trials = config.lbfgs_memory, config.lbfgs_max_trials
        self.armijo, self.wolfe = config.lbfgs_armijo, config.lbfgs_wolfe
        self.min_cosine, self.by_row = config.lbfgs_min_cosine, config.lbfgs_by_row
        # Pair i since the history was last cleared is in slot i mod memory, as are the squares of
        # the norms of its rows.
        empty = [tf.zeros(x.shape, self.engine.pair_type(x.dtype)) for x in parameters]
        self.s, self.y = ([sharing(empty) for _ in range(self.memory)] for _ in range(2))
        self.s_dot_y = variable([0.0] * self.memory)
        self.s_norms, self.y_norms = (
            [zeros([self.memory, *squares(x).shape], x.dtype) for x in parameters]
            for _ in range(2)
        )
        self.num_pairs = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The point where the last step ended, and the objective there.
        self.evaluated = tf.Variable(False, trainable=False)
        self.point, self.gradients = zeros_like(parameters), zeros_like(parameters)
        self.cost, self.squared_error = variable(0.0), variable(0.0)
        self.direction: Sequence[tf.Tensor] = ()  # H g, while a step needs it

    @property
    def state(self) -> list[tf.Variable]:
        """The state variables that have the shape of a parameter."""
        return sum([self.point, self.gradients, *self.s, *self.y], [])

    def step(
        self, evaluate: Callable[[], Evaluation], learning_rate: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Move the parameters to a point of lower cost, if the line search finds one and the
        gradient is neither 0 nor NaN. The learning rate is ignored.

        Returns:
            Cost and squared error before the step: float64 scalars.
        """
        if not self.is_evaluated():
            self.num_pairs.assign(0)
            self.save(*evaluate())
        before = self.cost.read_value(), self.squared_error.read_value()
        slope = self.descent()
        if slope < 0:
            evaluation = self.line_search(evaluate, slope)
            if evaluation is None:
                self.num_pairs.assign(0)
            else:
                self.remember(evaluation[0])
                self.save(*evaluation)
        return before

    def restart(self) -> None:
        """Forget the history: the next step evaluates the objective, which has changed."""
        self.evaluated.assign(False)

    def is_evaluated(self) -> bool:
        """Return whether `gradients`, `cost` and `squared_error` belong to the current parameters,
        on all workers. After a step, the replicated parameters of later workers become those of
        the first, which may round differently."""
        compared = compress(zip(self.parameters, self.point, strict=True), self.counts)
        is_evaluated = bool(self.evaluated.numpy()) and all(
            bool(tf.reduce_all(x == point)) for x, point in compared)
        return not self.shards.sum(not is_evaluated)

    def save(
        self, gradients: Sequence[tf.Tensor], cost: tf.Tensor, squared_error: tf.Tensor
    ) -> None:
        """Save the current parameters and the objective there."""
        assign(self.point, self.parameters)
        assign(self.gradients, gradients)
        self.cost.assign(tf.cast(cost, tf.float64))
        self.squared_error.assign(tf.cast(squared_error, tf.float64))
        self.evaluated.assign(True)

    def remember(self, gradients: Sequence[tf.Tensor]) -> None:
        """Add the pair (s, y) of the last step, which ended at a point with these `gradients`.

        H stays positive definite if s'y > 0. Below `lbfgs_min_cosine` times |s| |y|, s'y may be
        rounding error, and the pair is skipped.
        """
        s, y, *products = self.differences(
            list(zip(self.parameters, self.point, gradients, self.gradients, strict=True)))
        for i in self.divided_rows:
            sums = self.shards.sum([rows[i] for rows in products])
            for rows, value in zip(products, sums, strict=True):
                rows[i] = tf.constant(value, rows[i].dtype)
        s_dot_s, s_dot_y, y_dot_y = self.shards.sum(
            [total(compress(rows, self.counts_rows)) for rows in products])
        if not s_dot_y > self.min_cosine * np.sqrt(s_dot_s * y_dot_y):
            return
        slot = int(self.num_pairs.numpy()) % self.memory
        assign(self.s[slot], s)
        assign(self.y[slot], y)
        rings = self.s_dot_y, *self.s_norms, *self.y_norms
        for ring, value in zip(rings, [s_dot_y, *products[0], *products[2]], strict=True):
            ring.scatter_nd_update([[slot]], [value])
        self.num_pairs.assign_add(1)

    def descent(self) -> float:
        """Set `direction` to H g, and return the slope of the objective along -H g. It is negative
        unless g is 0 or NaN; if rounding makes it positive, the history is cleared."""
        slope = -self.multiply()
        if self.num_pairs.numpy() and not slope < 0:
            self.num_pairs.assign(0)
            return self.descent()
        return slope

    def multiply(self) -> float:
        """Set `direction` to H g, and return g' H g."""
        last = int(self.num_pairs.numpy())
        if not last:
            self.direction = [x.read_value() for x in self.gradients]
            return self.dot(self.gradients, self.gradients)
        used = [i % self.memory for i in range(max(last - self.memory, 0), last)]
        slots = [*used, *range(len(used), self.memory)]  # the same number in each call: one trace
        s, y = [self.s[i] for i in slots], [self.y[i] for i in slots]
        scales = self.initial_scales(used)
        sy, yy = self.shards.sum(self.products(self.gradients, scales, s, y))
        a, b = coefficients(sy, yy, len(used))
        self.direction = self.combine(self.gradients, scales, s, y, a, b)
        return self.dot(self.gradients, self.direction)

    @tf.function(autograph=False)
    def products(self, g, scales, s, y):
        """Return this worker's part of the inner products s_i . y_j and y_i' H_0 y_j for j >= i,
        where y_m is g: float64 (2, m, m + 1)."""
        sums = []
        for x, scale, counts, *pairs in zip(g, scales, self.counts, zip(*s, strict=True),
                                            zip(*y, strict=True), strict=True):
            if not counts:
                continue
            rows = tf.cast(self.engine.pair_products(x, *pairs), tf.float64)
            weights = tf.cast(tf.reshape(scale, [-1]), tf.float64)
            sums.append(tf.stack([tf.reduce_sum(rows[:, 0], 0),
                                  tf.tensordot(weights, rows[:, 1], 1)]))
        return tf.add_n(sums)

    @tf.function(autograph=False)
    def combine(self, g, scales, s, y, a, b):
        """Return H_0 (g - sum_j a_j y_j) + sum_j b_j s_j."""
        return [
            self.engine.pair_sum(x, scale, *pairs, tf.cast(a, x.dtype), tf.cast(b, x.dtype))
            for x, scale, *pairs in zip(g, scales, zip(*s, strict=True), zip(*y, strict=True),
                                        strict=True)
        ]

    @tf.function(autograph=False)
    def differences(self, changes):
        """Return s, y and the inner products of their rows, from the values of each parameter and
        of its gradient after and before the step."""
        return [list(each) for each in zip(*(
            self.engine.differences(*change) for change in changes), strict=True)]

    def initial_scales(self, slots: list[int]) -> list[tf.Tensor]:
        """Return the diagonal of H_0 for each parameter, from the pairs in `slots`, of which the
        last is the newest. All entries of a row share one number."""
        newest = slots[-1]
        D, y_D_y = self.row_scales(*(tf.constant(x, tf.int32) for x in (slots, newest)))
        gamma = self.s_dot_y[newest] / self.shards.sum(y_D_y)
        return [tf.cast(gamma, d.dtype) * d for d in D]

    @tf.function(autograph=False,
                 input_signature=[tf.TensorSpec([None], tf.int32), tf.TensorSpec([], tf.int32)])
    def row_scales(self, slots, newest):
        """Return D for each parameter, and this worker's part of y' D y for the newest pair."""
        s, y = ([tf.reduce_sum(tf.gather(ring, slots), 0) for ring in rings]
                for rings in (self.s_norms, self.y_norms))
        D = [tf.ones_like(norms) for norms in y]
        if self.by_row:
            D = [tf.where((a > 0) & (b > 0), tf.sqrt(a / b), one)
                 for a, b, one in zip(s, y, D, strict=True)]
        y_D_y = [d * ring[newest] for d, ring in zip(D, self.y_norms, strict=True)]
        return D, total(compress(y_D_y, self.counts_rows))

    def dot(self, a: Iterable[tf.Tensor], b: Iterable[tf.Tensor]) -> float:
        """Return the inner product over all parameters and workers."""
        return float(self.shards.sum(dot(compress(a, self.counts), compress(b, self.counts))))

    def line_search(self, evaluate: Callable[[], Evaluation], slope: float) -> Evaluation | None:
        """Move to `point` - t `direction`, and return the evaluation there.

        t is too large if the cost does not fall enough (or is NaN), and too small if the slope has
        hardly changed. After `lbfgs_max_trials` trials, take the t of lowest cost that was not too
        large; without such a t, move back to exactly `point`, and return None.
        """
        # Without history H has no scale: the first trial is a step of length 1.
        t = 1.0 if self.num_pairs.numpy() else 1 / math.sqrt(-slope)
        start, best, best_t = float(self.cost.numpy()), float(self.cost.numpy()), 0.0
        low, high = 0.0, math.inf
        for _ in range(self.max_trials):
            self.move(t)
            evaluation = evaluate()
            cost, change = float(evaluation[1]), self.change(evaluation[0])
            if not cost <= start + self.armijo * t * slope or math.isnan(change):
                high = t
            elif change >= self.wolfe * t * slope:
                return evaluation
            else:
                low = t
                if cost < best:
                    best, best_t = cost, t
            t = (low + high) / 2 if high < math.inf else 2 * low
        self.move(best_t)
        return evaluate() if best_t else None

    def move(self, t: float) -> None:
        """Set the parameters to `point` - t `direction`, or to exactly `point` if t is 0, even if
        the direction is infinite. Free the direction: the evaluation needs the memory, and mostly
        the first step is long enough."""
        if t and not self.direction:
            self.multiply()
        assign(self.parameters, plus(self.point, -t, self.direction) if t else self.point)
        self.direction = ()

    def change(self, gradients: Sequence[tf.Tensor]) -> float:
        """Return t times the slope of the objective along -H g after `move(t)`: the inner product
        of the `gradients` there and the change of the parameters."""
        changes = (x - last for x, last in zip(self.parameters, self.point, strict=True))
        return self.dot(gradients, changes)


def coefficients(sy: np.ndarray, yy: np.ndarray, used: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a and b, float64 [m], for which H g is H_0 (g - sum_j a_j y_j) + sum_j b_j s_j: the
    two-loop recursion (algorithm 7.4 of Nocedal and Wright's "Numerical optimization", 2006), on
    the inner products of all vectors in place of the vectors.

    Args:
        sy: s_i . y_j for j >= i, float64 (m, m + 1), where y_m is g.
        yy: y_i' H_0 y_j, likewise.
        used: the number of pairs; a and b are 0 after them.
    """
    a, b = np.zeros(len(sy)), np.zeros(len(sy))
    with np.errstate(all="ignore"):  # a direction that is not finite is found by its slope
        for i in reversed(range(used)):
            a[i] = (sy[i, -1] - a[i + 1 : used] @ sy[i, i + 1 : used]) / sy[i, i]
        for i in range(used):
            of_y = yy[i, -1] - a[:i] @ yy[:i, i] - a[i:used] @ yy[i, i:used]
            b[i] = a[i] - (of_y + b[:i] @ sy[:i, i]) / sy[i, i]
    return a, b


def zeros_like(parameters: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Return one variable of zeros per parameter, of its shape and type."""
    return [zeros(x.shape, x.dtype) for x in parameters]


def sharing(values: Sequence[tf.Tensor]) -> list[tf.Variable]:
    """Return variables that share the memory of `values` until they are assigned others."""
    return [tf.Variable(tf.convert_to_tensor(x), trainable=False) for x in values]


def zeros(shape: Sequence[int], dtype: tf.DType) -> tf.Variable:
    return tf.Variable(tf.zeros(shape, dtype), trainable=False)


def variable(value: float | list[float]) -> tf.Variable:
    return tf.Variable(value, dtype=tf.float64, trainable=False)


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def plus(a: Sequence[tf.Tensor], factor: object, b: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return a + factor b; `factor` is a float64 tensor or a Python number."""
    factor = tf.convert_to_tensor(factor, tf.float64)  # tf.cast would convert it to float32 first
    return [x + tf.cast(factor, x.dtype) * y for x, y in zip(a, b, strict=True)]


def squares(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of squares of each row, of a tensor (..., k): (..., 1)."""
    return tf.reduce_sum(tf.square(x), -1, keepdims=True)


def dot(a: Iterable[tf.Tensor], b: Iterable[tf.Tensor]) -> tf.Tensor:
    """Return the inner product over all parameters: a float64 scalar. Rows are summed in the
    precision of the parameters and their sums in float64: accurate, in a quarter of the time."""
    return total([tf.reduce_sum(x * y, -1) for x, y in zip(a, b, strict=True)])


def total(rows: Iterable[tf.Tensor]) -> tf.Tensor:
    """Return the sum of all entries of the tensors: a float64 scalar."""
    return tf.add_n([tf.reduce_sum(tf.cast(row, tf.float64)) for row in rows])
