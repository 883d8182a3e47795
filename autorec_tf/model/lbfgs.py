"""L-BFGS, and the algebra that it needs on lists of tensors, one tensor per parameter."""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

from autorec_tf.config import Config

# Gradients (one dense tensor per parameter, of its shape and dtype), cost and squared error
# (scalars) of the full-batch objective at the current parameters.
Evaluation = tuple[Sequence[tf.Tensor], tf.Tensor, tf.Tensor]


class LBFGS(tf.Module):
    """Limited-memory BFGS (Liu and Nocedal, 1989), full-batch:

    x <- x - t H g, with H g by the two-loop recursion over the last `lbfgs_memory` pairs of
    s = x - x_last and y = g - g_last.

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
    """

    full_batch = True

    def __init__(self, parameters: Sequence[tf.Variable], config: Config) -> None:
        super().__init__(name="lbfgs")
        self.parameters = list(parameters)
        self.memory, self.max_trials = config.lbfgs_memory, config.lbfgs_max_trials
        self.armijo, self.wolfe = config.lbfgs_armijo, config.lbfgs_wolfe
        self.min_cosine, self.by_row = config.lbfgs_min_cosine, config.lbfgs_by_row
        # Pair i since the history was last cleared is in slot i mod memory, as are the squares of
        # the norms of its rows.
        self.s, self.y = ([zeros_like(parameters) for _ in range(self.memory)] for _ in range(2))
        self.s_dot_y = variable([0.0] * self.memory)
        self.s_norms, self.y_norms = (
            [tf.Variable(tf.zeros([self.memory, *squares(x).shape], x.dtype), trainable=False)
             for x in parameters] for _ in range(2)
        )
        self.num_pairs = tf.Variable(0, dtype=tf.int64, trainable=False)
        # The point where the last step ended, and the objective there.
        self.evaluated = tf.Variable(False, trainable=False)
        self.point, self.gradients = zeros_like(parameters), zeros_like(parameters)
        self.cost, self.squared_error = variable(0.0), variable(0.0)
        self.direction = zeros_like(parameters)  # H g

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

    def is_evaluated(self) -> bool:
        """Return whether `gradients`, `cost` and `squared_error` belong to the current
        parameters."""
        return bool(self.evaluated.numpy()) and all(
            bool(tf.reduce_all(x == point))
            for x, point in zip(self.parameters, self.point, strict=True)
        )

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
        s, y = plus(self.parameters, -1.0, self.point), plus(gradients, -1.0, self.gradients)
        s_dot_s, s_dot_y, y_dot_y = dot(s, s), dot(s, y), dot(y, y)
        if not s_dot_y > self.min_cosine * tf.sqrt(s_dot_s * y_dot_y):
            return
        slot = int(self.num_pairs.numpy()) % self.memory
        assign(self.s[slot], s)
        assign(self.y[slot], y)
        norms = [squares(x) for x in (*s, *y)]
        rings = self.s_dot_y, *self.s_norms, *self.y_norms
        for ring, value in zip(rings, [s_dot_y, *norms], strict=True):
            ring.scatter_nd_update([[slot]], [value])
        self.num_pairs.assign_add(1)

    def descent(self) -> float:
        """Set `direction` to H g, and return the slope of the objective along -H g. It is negative
        unless g is 0 or NaN; if rounding makes it positive, the history is cleared."""
        slope = -float(self.multiply())
        if self.num_pairs.numpy() and not slope < 0:
            self.num_pairs.assign(0)
            return self.descent()
        return slope

    def multiply(self) -> tf.Tensor:
        """Set `direction` to H g, and return g' H g: algorithm 7.4 of Nocedal and Wright's
        "Numerical optimization" (2006)."""
        last, q, alphas = int(self.num_pairs.numpy()), self.direction, []
        slots = [i % self.memory for i in range(max(last - self.memory, 0), last)]
        assign(q, self.gradients)
        for slot in reversed(slots):
            alphas.append(dot(self.s[slot], q) / self.s_dot_y[slot])
            subtract(q, alphas[-1], self.y[slot])
        if slots:
            for x, scale in zip(q, self.initial_scales(slots), strict=True):
                x.assign(scale * x)
        for slot in slots:
            beta = dot(self.y[slot], q) / self.s_dot_y[slot]
            subtract(q, beta - alphas.pop(), self.s[slot])
        return dot(self.gradients, q)

    def initial_scales(self, slots: Sequence[int]) -> list[tf.Tensor]:
        """Return the diagonal of H_0 for each parameter, from the pairs in `slots`, oldest first.
        All entries of a row share one number."""
        s, y = ([[x[slot] for slot in slots] for x in rings] for rings in
                (self.s_norms, self.y_norms))
        D = [tf.ones_like(norms[-1]) for norms in y]
        if self.by_row:
            D = [tf.where((a > 0) & (b > 0), tf.sqrt(a / b), one) for a, b, one in
                 zip(map(tf.add_n, s), map(tf.add_n, y), D, strict=True)]
        y_D_y = tf.add_n([tf.reduce_sum(tf.cast(d * norms[-1], tf.float64))
                          for d, norms in zip(D, y, strict=True)])
        gamma = self.s_dot_y[slots[-1]] / y_D_y
        return [tf.cast(gamma, d.dtype) * d for d in D]

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
            cost, new_slope = float(evaluation[1]), -float(dot(evaluation[0], self.direction))
            if not cost <= start + self.armijo * t * slope or math.isnan(new_slope):
                high = t
            elif new_slope >= self.wolfe * slope:
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
        the direction is infinite."""
        assign(self.parameters, plus(self.point, -t, self.direction) if t else self.point)


def zeros_like(parameters: Sequence[tf.Variable]) -> list[tf.Variable]:
    """Return one variable of zeros per parameter, of its shape."""
    return [tf.Variable(tf.zeros_like(x), trainable=False) for x in parameters]


def variable(value: float | list[float]) -> tf.Variable:
    return tf.Variable(value, dtype=tf.float64, trainable=False)


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def subtract(variables: Sequence[tf.Variable], factor: tf.Tensor, b: Sequence[tf.Tensor]) -> None:
    """Subtract factor b from the variables, in place."""
    for x, y in zip(variables, b, strict=True):
        alpha = tf.cast(factor, x.dtype)
        tf.raw_ops.ResourceApplyGradientDescent(var=x.handle, alpha=alpha, delta=y)


def plus(a: Sequence[tf.Tensor], factor: object, b: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Return a + factor b; `factor` is a float64 tensor or a Python number."""
    factor = tf.convert_to_tensor(factor, tf.float64)  # tf.cast would convert it to float32 first
    return [x + tf.cast(factor, x.dtype) * y for x, y in zip(a, b, strict=True)]


def squares(x: tf.Tensor) -> tf.Tensor:
    """Return the sum of squares of each row, of a tensor (..., k): (..., 1)."""
    return tf.reduce_sum(tf.square(x), -1, keepdims=True)


def dot(a: Sequence[tf.Tensor], b: Sequence[tf.Tensor]) -> tf.Tensor:
    """Return the inner product over all parameters: a float64 scalar. Rows are summed in the
    precision of the parameters and their sums in float64: accurate, in a quarter of the time."""
    rows = [tf.reduce_sum(x * y, -1) for x, y in zip(a, b, strict=True)]
    return tf.add_n([tf.reduce_sum(tf.cast(row, tf.float64)) for row in rows])
