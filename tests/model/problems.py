"""Functions to minimise, for the tests of the full-batch optimisers."""

from functools import cache

import numpy as np
import tensorflow as tf

from autorec_tf.config import Config

RATE, MEMORY = 0.1, 3  # the learning rate, and the pairs of L-BFGS: few, so soon replaced


class Problem:
    """A function of several parameters, with its minimum, and a log of where it was evaluated.

    `value` and `gradient` are NumPy's, in float64, of all parameters in one flat vector.
    """

    def __init__(self, value, gradient, starts, dtype=np.float64):
        self.value, self.gradient, self.points = value, gradient, []
        self.parameters = [tf.Variable(np.asarray(start, dtype)) for start in starts]

    @property
    def x(self):
        return np.concatenate([x.numpy().ravel() for x in self.parameters]).astype(np.float64)

    def split(self, flat):
        ends = np.cumsum([x.shape.num_elements() for x in self.parameters])[:-1]
        return [
            part.reshape(x.shape)
            for part, x in zip(np.split(flat, ends), self.parameters, strict=True)
        ]

    def evaluate(self):
        """What `step` asks for; the squared error is told from the cost by a factor of 3."""
        self.points.append(self.x)
        gradients = [
            tf.constant(part, x.dtype)
            for part, x in zip(self.split(self.gradient(self.x)), self.parameters, strict=True)
        ]
        cost = tf.constant(self.value(self.x), self.parameters[0].dtype)
        return gradients, cost, 3 * cost


def quadratic(condition=30.0, seed=0, dtype=np.float64):
    """A quadratic with a minimum of 2, whose Hessian mixes the parameters, (3, 4) and (5)."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(17, 17)))
    A = rotation * np.geomspace(1, condition, 17) @ rotation.T
    minimum = rng.normal(size=17)
    starts = rng.normal(size=(3, 4)), rng.normal(size=5)
    return Problem(
        lambda x: (x - minimum) @ A @ (x - minimum) / 2 + 2,
        lambda x: A @ (x - minimum),
        starts,
        dtype,
    )


def rosenbrock(dtype=np.float64):
    return Problem(
        lambda x: 100 * (x[1] - x[0] ** 2) ** 2 + (1 - x[0]) ** 2,
        lambda x: np.array(
            [-400 * x[0] * (x[1] - x[0] ** 2) - 2 * (1 - x[0]), 200 * (x[1] - x[0] ** 2)]
        ),
        ([-1.2], [1.0]),
        dtype,
    )


def slope():
    """No minimum and one gradient everywhere: every step is longer than the last."""
    return Problem(lambda x: x.sum(), np.ones_like, ([1.0, 2.0],))


def kink():
    """A minimum that every step oversteps."""
    return Problem(lambda x: abs(x).sum(), np.sign, ([1.03, -0.4],))


def run(method, problem, num_steps):
    """The optimiser after `num_steps`, and the cost and x where each step began."""
    optimizer = optimizer_of(method, problem)
    costs, points = [], []
    for _ in range(num_steps):
        points.append(problem.x)
        costs.append(float(optimizer.step(problem.evaluate, RATE)[0]))
    return optimizer, costs, points


def optimizer_of(method, problem, **settings):
    """An optimiser as new, with the graphs that one of such parameters and settings has traced. Its
    parameters become those of `problem`, so it serves one problem at a time."""
    shapes = tuple((tuple(x.shape), x.dtype) for x in problem.parameters)
    optimizer, values = traced(method, shapes, Config(lbfgs_memory=MEMORY, **settings))
    starts = [x.numpy() for x in problem.parameters]
    problem.parameters = optimizer.parameters
    for x, value in [*values, *zip(problem.parameters, starts, strict=True)]:
        x.assign(value)
    return optimizer


@cache
def traced(method, shapes, config):
    """An optimiser, and the values that its variables start with."""
    optimizer = method([tf.Variable(tf.zeros(*each)) for each in shapes], config)
    return optimizer, [(x, x.numpy()) for x in optimizer.variables]
