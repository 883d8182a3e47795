"""A Gaussian prior over embeddings, for rows and columns that a model was not trained on.

With all other parameters frozen, the ratings of a new column u are f(x_i . w), where x_i = (h_i, 1)
is known for each rated row i and w = (W_u, b_u) is fitted. Likewise, the ratings of a new row i are
f(h_i . W_u + b_u), where h_i is fitted. Both fits are the posterior mean of w under

    w ~ N(mean, B B^T),    rating = f(offset + x . w) + noise

The prior is learned from training rows or columns (empirical Bayes; EM as in Schwaighofer, Tresp,
Yu, "Learning Gaussian process kernels via hierarchical Bayes", NIPS 2004). B consists of the
directions that EM finds, and of a small part in all directions that do not change the mean
prediction. With few ratings, the mean is close to `pooled`, which predicts the ratings best without
any information; with more ratings, it is the mean embedding. They differ because people rate what
they expect to like.

This module needs only NumPy. Shapes: e ratings, l units of an embedding, d directions.
"""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

DIRECTIONS = 50  # that EM learns
ROUNDS = 5  # of EM
SPREAD_RATINGS = 50.0  # with this number of ratings, the part in all directions has half its size
NOISE = 1.3  # of new ratings, relative to training ratings, which the other side was fitted to
POOLED_RATINGS = 3.0  # with this number of ratings, the mean is halfway from `pooled`
STEPS = 8  # of Gauss-Newton, if f is not the identity
DELTA = 1e-4  # of numerical derivatives of f
RIDGE = 1e-4  # of the pooled regression, relative to the mean square of its inputs
Activation = Callable[[np.ndarray], np.ndarray]


class Observed(NamedTuple):
    """The ratings of one row or column: x, (e, l), offset, [e], and the ratings, [e]."""

    inputs: np.ndarray
    offset: np.ndarray
    ratings: np.ndarray


class Prior(NamedTuple):
    """The prior, float64: mean [l], pooled [l], directions (l, d), noise (a variance) [], centre
    [l] and spread [] of the part in all directions: spread (I - centre centre^T), times
    e / (e + 50) with e ratings, because few ratings cannot tell these directions apart."""

    mean: np.ndarray
    pooled: np.ndarray
    directions: np.ndarray
    noise: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    def fit(self, seen: Observed, f: Activation, is_linear: bool) -> np.ndarray:
        """Return the posterior mean of the embedding given the ratings `seen`: float64 [l].

        Args:
            seen: the ratings, perhaps none.
            f: the output activation, with its range.
            is_linear: whether f is the identity.
        """
        count = len(seen.ratings)
        pooled_weight = POOLED_RATINGS / (POOLED_RATINGS + count)
        mean = self.mean + pooled_weight * (self.pooled - self.mean)
        if not count:
            return mean
        inputs = np.asarray(seen.inputs, np.float64)
        start, change = seen.offset + inputs @ mean, np.zeros(len(mean))
        for _ in range(1 if is_linear else STEPS):
            x = start + inputs @ change
            slope = derivative(f, x)
            change = self.regress(inputs * slope[:, None],
                                  seen.ratings - f(x) + slope * (x - start))
        return mean + change

    def regress(self, inputs: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Return B z for the posterior mean z of a linear regression: float64 [l]."""
        flat = inputs - np.outer(inputs @ self.centre, self.centre)
        along = inputs @ self.directions
        spread = self.spread * len(targets) / (len(targets) + SPREAD_RATINGS)
        if len(targets) <= along.shape[1] + flat.shape[1]:
            kernel = along @ along.T + spread * (flat @ flat.T)
            kernel[np.diag_indices(len(kernel))] += self.noise
            dual = np.linalg.solve(kernel, targets)
            return self.directions @ (dual @ along) + spread * (dual @ flat)
        scale = np.sqrt(spread)
        features = np.concatenate([along, scale * flat], 1)
        normal = features.T @ features
        normal[np.diag_indices(len(normal))] += self.noise
        z = np.linalg.solve(normal, features.T @ targets)
        d = along.shape[1]
        return self.directions @ z[:d] + scale * (z[d:] - (z[d:] @ self.centre) * self.centre)


def learn_prior(embeddings: np.ndarray, counts: np.ndarray,
                samples: Iterable[tuple[Observed, Observed]], f: Activation,
                spread: float) -> Prior:
    """Return the prior of embeddings that are not known yet.

    Args:
        embeddings: (trained, l), the trained embeddings, whose largest directions are used.
        counts: [trained], their numbers of training ratings.
        samples: the training ratings of some of them, drawn in proportion to the numbers,
            and the same ratings as if only a few of them were known.
        f: the output activation. It is linearised at the mean.
        spread: the variance of the ratings by the part in all directions.
    """
    weights = counts / counts.sum()
    mean = weights @ embeddings.astype(np.float64)
    basis = main_directions(embeddings - mean, weights)
    units, d = basis.shape
    square, product, centre = np.zeros((units, units)), np.zeros(units), np.zeros(units)
    parts, total = [], 0
    for seen, few in samples:
        parts.append(linearised(seen, mean, f, basis))
        steep, residual = linearised(few, mean, f)
        square += steep.T @ steep
        product += steep.T @ residual
        centre += few.inputs.sum(0)
        total += len(residual)
    ridge = RIDGE * np.trace(square) / units + np.finfo(np.float32).tiny
    pooled = mean + np.linalg.solve(square + ridge * np.eye(units), product)
    centre /= max(np.linalg.norm(centre), np.finfo(np.float32).tiny)
    around = (np.trace(square) - centre @ square @ centre) / total
    shift, root, noise = expectation_maximisation(parts, d)
    spread = spread / around if around > 1e-12 else 0.0
    learned = mean + basis @ shift, pooled, basis @ root, NOISE * noise, centre, spread
    rounded = (np.asarray(x, np.float32).astype(np.float64) for x in learned)  # as in a saved file
    return Prior(*rounded)


def linearised(seen: Observed, mean: np.ndarray, f: Activation,
               basis: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Return the inputs of `seen` times f' at the `mean`, along `basis` (l, d), and the residuals:
    float64 (e, d) and [e]."""
    x = seen.offset + seen.inputs @ mean
    inputs = seen.inputs @ basis if basis is not None else seen.inputs
    return inputs * derivative(f, x)[:, None], seen.ratings - f(x)


def main_directions(centred: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the largest principal directions of `centred` embeddings, scaled by their standard
    deviations: float64 (l, d)."""
    covariance = (centred * weights[:, None]).T @ centred
    variances, vectors = np.linalg.eigh(covariance.astype(np.float64))
    variances, vectors = variances[::-1][:DIRECTIONS], vectors[:, ::-1][:, :DIRECTIONS]
    floor = 1e-9 * max(variances[0], 1e-9)
    return vectors * np.sqrt(np.maximum(variances, floor))


def expectation_maximisation(
    parts: list[tuple[np.ndarray, np.ndarray]], d: int
) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the mean [d] and the square root (d, d) of the covariance of z, and the variance of
    the noise, in a regression on z of each of `parts`: inputs (e, d) and targets [e]."""
    mean, root = np.zeros(d), np.eye(d)
    count = sum(len(targets) for _, targets in parts)
    noise = max(sum(targets @ targets for _, targets in parts) / count, 1e-6)
    for _ in range(ROUNDS):
        covariance, means, squares = np.zeros((d, d)), [], 0.0
        for inputs, targets in parts:
            x, y = inputs @ root, targets - inputs @ mean
            square = x.T @ x
            posterior = np.linalg.inv(square / noise + np.eye(d))
            z = posterior @ (x.T @ y) / noise
            means.append(z)
            covariance += posterior
            squares += np.sum((y - x @ z) ** 2) + np.sum(posterior * square)
        centre = np.mean(means, 0)
        covariance = covariance / len(parts) + np.cov(np.transpose(means), bias=True).reshape(d, d)
        mean, root = mean + root @ centre, root @ np.linalg.cholesky(covariance)
        noise = max(squares / count, 1e-6)
    return mean, root, float(noise)


def derivative(f: Activation, x: np.ndarray) -> np.ndarray:
    """Return f'(x) by central differences: float64, as `x`."""
    x = np.asarray(x, np.float64)
    return (f(x + DELTA) - f(x - DELTA)) / (2 * DELTA)
