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
SUBSPACE, ITERATIONS = 64, 20  # of the search for directions in embeddings
SPREAD_RATINGS = 50.0  # with this number of ratings, the part in all directions has half its size
NOISE = 1.3  # of new ratings, relative to training ratings, which the other side was fitted to
POOLED_RATINGS = 3.0  # with this number of ratings, the mean is halfway from `pooled`
STEPS = 8  # of Gauss-Newton, if f is not the identity
DELTA = 1e-4  # of numerical derivatives of f
RIDGE = 1e-4  # of the pooled regression, relative to the mean square of its inputs
BLOCK = 4096  # embeddings in float64 at a time
SMALL = 64  # ratings in a product of small matrices
FEW_ROWS = 16  # of a matrix, in a product with a larger one
Activation = Callable[[np.ndarray], np.ndarray]


class Observed(NamedTuple):
    """The ratings of one row or column: x, (e, l), offset, [e], and the ratings, [e]."""

    inputs: np.ndarray
    offset: np.ndarray
    ratings: np.ndarray


class Sample(NamedTuple):
    """Ratings that a prior is learned from: the index of what is rated among the inputs x, the
    offset, and the ratings, [e] each."""

    rated: np.ndarray
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

    def fit(self, seen: Observed, f: Activation, is_linear: bool,
            pooled_ratings: float = POOLED_RATINGS) -> np.ndarray:
        """Return the posterior mean of the embedding given the ratings `seen`: float64 [l].

        Args:
            seen: the ratings, perhaps none.
            f: the output activation, with its range.
            is_linear: whether f is the identity.
            pooled_ratings: with this number of ratings, the mean is halfway from `pooled`.
        """
        count = len(seen.ratings)
        pooled_weight = pooled_ratings / (pooled_ratings + count)
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


def learn_prior(embeddings: np.ndarray, counts: np.ndarray, inputs: np.ndarray,
                samples: Iterable[tuple[Sample, Sample]], f: Activation, spread: float) -> Prior:
    """Return the prior of embeddings that are not known yet.

    Args:
        embeddings: (trained, l), the trained embeddings, whose largest directions are used.
        counts: [trained], their numbers of training ratings.
        inputs: (n, l), x of everything that `samples` rate.
        samples: the training ratings of some of the embeddings, drawn in proportion to `counts`,
            and the same ratings as if only a few of them were known.
        f: the output activation. It is linearised at the mean.
        spread: the variance of the ratings by the part in all directions.
    """
    inputs, weights = np.asarray(inputs, np.float64), counts / counts.sum()
    mean = np.einsum("i,ij->j", weights, embeddings)
    basis = main_directions(second_moments(embeddings, weights, mean))
    level = inputs @ mean
    seen, few = zip(*samples, strict=True)
    shift, root, noise = expectation_maximisation(
        moments(seen, inputs @ basis, level, f), sum(len(sample.ratings) for sample in seen))
    change, centre, around = pooled_regression(
        Sample(*map(np.concatenate, zip(*few, strict=True))), inputs, level, f)
    spread = spread / around if around > 1e-12 else 0.0
    learned = mean + basis @ shift, mean + change, basis @ root, NOISE * noise, centre, spread
    with np.errstate(over="ignore"):  # a training that diverges has huge parameters
        return Prior(*(np.asarray(x, np.float32).astype(np.float64) for x in learned))  # as saved


def linearised(sample: Sample, level: np.ndarray, f: Activation) -> tuple[np.ndarray, np.ndarray]:
    """Return f' at the mean, and the residuals of the ratings: float64 [e] each. The mean predicts
    f(offset + `level`), where `level` is one number per input."""
    x = sample.offset + level[sample.rated]
    return derivative(f, x), sample.ratings - f(x)


def second_moments(x: np.ndarray, weights: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return sum_i w_i (x_i - c)(x_i - c)^T for `x` (n, l): float64 (l, l)."""
    total = np.zeros((x.shape[1], x.shape[1]))
    for first in range(0, len(x), BLOCK):
        part = x[first : first + BLOCK] - centre
        total += (part * weights[first : first + BLOCK, None]).T @ part
    return total


def main_directions(covariance: np.ndarray) -> np.ndarray:
    """Return the largest principal directions of a `covariance`, scaled by their standard
    deviations: float64 (l, d).

    Subspace iteration (Golub and Van Loan, "Matrix Computations", section 8.2) on a few directions
    more. A full decomposition has hundreds of steps in which BLAS threads wait for each other, and
    costs seconds on a busy processor.
    """
    units = len(covariance)
    floor = 1e-9 * max(np.trace(covariance), 1e-9)
    shifted = covariance + 1e3 * floor * np.eye(units)  # so that no direction becomes 0
    vectors = np.random.default_rng(0).normal(size=(units, min(SUBSPACE, units)))
    for _ in range(ITERATIONS):
        vectors = product(shifted, orthonormal(vectors))
    vectors = orthonormal(orthonormal(vectors))
    variances, rotation = np.linalg.eigh(product(vectors.T, product(covariance, vectors)))
    variances, rotation = variances[::-1][:DIRECTIONS], rotation[:, ::-1][:, :DIRECTIONS]
    return vectors @ (rotation * np.sqrt(np.maximum(variances, floor)))


def orthonormal(vectors: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of the span of `vectors` (l, d), from a Cholesky decomposition of
    their products."""
    root = np.linalg.cholesky(product(vectors.T, vectors))
    return product(vectors, np.linalg.inv(root).T)


def product(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the matrix product, in parts for which BLAS starts no threads."""
    return np.concatenate([a[first : first + FEW_ROWS] @ b for first in range(0, len(a), FEW_ROWS)])


def pooled_regression(few: Sample, inputs: np.ndarray, level: np.ndarray,
                      f: Activation) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the change of the mean that predicts the ratings `few` best, [l], the direction of the
    mean of their inputs, [l], and their mean square across this direction.

    Sums over ratings are computed as weighted sums over `inputs` (n, l), which are fewer.
    """
    units = inputs.shape[1]
    slope, residuals = linearised(few, level, f)
    steepness, gradient, number = (np.bincount(few.rated, each, len(inputs))
                                   for each in (slope**2, slope * residuals, None))
    square = second_moments(inputs, steepness, np.zeros(units))
    ridge = RIDGE * np.trace(square) / units + np.finfo(np.float32).tiny
    change = np.linalg.solve(square + ridge * np.eye(units), gradient @ inputs)
    centre = number @ inputs
    centre /= max(np.linalg.norm(centre), np.finfo(np.float32).tiny)
    around = (np.trace(square) - centre @ square @ centre) / len(residuals)
    return change, centre, around


class Moments(NamedTuple):
    """Sums over the ratings of s regressions of y, [e], on X, (e, d): X^T X (s, d, d), X^T y (s, d)
    and y^T y [s], float64."""

    square: np.ndarray
    product: np.ndarray
    energy: np.ndarray


def moments(seen: Iterable[Sample], along: np.ndarray, level: np.ndarray, f: Activation) -> Moments:
    """Return the moments of the linearised regressions of `seen` on `along` (n, d), the inputs in
    the largest directions."""
    products = []
    for sample in seen:
        slope, residuals = linearised(sample, level, f)
        x = np.column_stack([along[sample.rated] * slope[:, None], residuals])
        # Parts for which BLAS starts no threads, which would wait for each other in between.
        parts = (x[first : first + SMALL] for first in range(0, len(x), SMALL))
        products.append(sum(part.T @ part for part in parts))
    every = np.array(products)
    return Moments(every[:, :-1, :-1], every[:, :-1, -1], every[:, -1, -1])


def expectation_maximisation(given: Moments,
                             count: int) -> tuple[np.ndarray, np.ndarray, float]:
    """Return the mean [d] and the square root (d, d) of the covariance of z, and the variance of
    the noise, in the regressions on z, of `count` ratings, with the moments `given`."""
    d = given.product.shape[1]
    mean, root = np.zeros(d), np.eye(d)
    noise = max(given.energy.sum() / count, 1e-6)
    for _ in range(ROUNDS):
        # The regressions on standard normal variables, around the mean:
        square = root.T @ given.square @ root
        at_mean = given.square @ mean
        product = (given.product - at_mean) @ root
        energy = given.energy + (at_mean - 2 * given.product) @ mean
        posterior = np.linalg.inv(square / noise + np.eye(d))
        z = np.einsum("sij,sj->si", posterior, product) / noise
        # The expected squared errors; square z = product - noise z, and likewise their traces.
        squares = energy.sum() - np.sum(z * product) - noise * np.sum(z**2)
        squares += noise * (d * len(z) - np.trace(posterior, axis1=1, axis2=2).sum())
        covariance = posterior.mean(0) + np.cov(z.T, bias=True).reshape(d, d)
        mean, root = mean + root @ z.mean(0), root @ np.linalg.cholesky(covariance)
        noise = max(squares / count, 1e-6)
    return mean, root, float(noise)


def derivative(f: Activation, x: np.ndarray) -> np.ndarray:
    """Return f'(x) by central differences: float64, as `x`."""
    x = np.asarray(x, np.float64)
    return (f(x + DELTA) - f(x - DELTA)) / (2 * DELTA)
