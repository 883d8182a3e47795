"""The prior of embeddings, against float64 NumPy written from the equations."""

import numpy as np
import pytest

from autorec_tf.model import prior as module
from autorec_tf.model.prior import Moments, Observed, Prior, Sample

UNITS, INPUTS = 6, 40
RNG = np.random.default_rng(3)


def identity(x):
    return x


def sigmoid(x):
    return 1 + 4 / (1 + np.exp(-np.asarray(x, float)))


def random_prior():
    mean, pooled, centre = RNG.normal(size=(3, UNITS))
    return Prior(mean, pooled, RNG.normal(size=(UNITS, 3)), np.array(0.7),
                 centre / np.linalg.norm(centre), np.array(0.4))


def covariance_of(prior, e):
    flat = np.eye(UNITS) - np.outer(prior.centre, prior.centre)
    return prior.directions @ prior.directions.T + prior.spread * e / (e + 50) * flat


@pytest.mark.parametrize("e", [1, 4, 30])
def test_the_fit_is_the_posterior_mean_of_a_joint_gaussian(e):
    """Both forms, of a few ratings and of many, condition embedding and ratings on the ratings."""
    prior, x = random_prior(), RNG.normal(size=(e, UNITS))
    offset, ratings = RNG.normal(size=(2, e))
    mean = prior.mean + 3 / (3 + e) * (prior.pooled - prior.mean)
    covariance = covariance_of(prior, e)
    gain = covariance @ x.T @ np.linalg.inv(x @ covariance @ x.T + prior.noise * np.eye(e))
    found = prior.fit(Observed(x, offset, ratings), identity, True)
    np.testing.assert_allclose(found, mean + gain @ (ratings - offset - x @ mean), rtol=1e-9)


def random_regressions(count=12):
    inputs = [RNG.normal(size=(e, 3)) for e in RNG.integers(2, 90, count)]
    parts = [(x, x @ RNG.normal(1, 1, 3) + RNG.normal(size=len(x))) for x in inputs]
    return parts, Moments(np.array([x.T @ x for x, _ in parts]),
                          np.array([x.T @ y for x, y in parts]),
                          np.array([y @ y for _, y in parts]))


def likelihood(parts, mean, root, noise):
    """The log marginal likelihood of y = X z + noise, z ~ N(mean, root root^T)."""
    total = 0.0
    for x, y in parts:
        covariance = x @ root @ root.T @ x.T + noise * np.eye(len(y))
        residual = y - x @ mean
        total -= residual @ np.linalg.solve(covariance, residual) / 2
        total -= np.linalg.slogdet(2 * np.pi * covariance)[1] / 2
    return total


def test_em_climbs_the_log_marginal_likelihood_to_a_point_without_slope(monkeypatch):
    parts, given = random_regressions()
    count, values = sum(len(y) for _, y in parts), []
    for rounds in (1, 2, 5, 400):
        monkeypatch.setattr(module, "ROUNDS", rounds)
        found = module.expectation_maximisation(given, count)
        values.append(likelihood(parts, *found))
    assert values == sorted(values)
    mean, root, noise = found
    steps = [(d, 0 * root, 0.0) for d in np.eye(3)] + [(0 * mean, 0 * root, 1.0)]
    steps += [(0 * mean, RNG.normal(size=(3, 3)), 0.0) for _ in range(4)]
    for step in steps:
        up, down = (likelihood(parts, mean + s * step[0], root + s * step[1], noise + s * step[2])
                    for s in (1e-4, -1e-4))
        assert abs(up - down) / 2e-4 < 1e-4


def test_sums_over_inputs_are_sums_over_ratings():
    """The moments and the pooled regression equal those of the regressions written out."""
    inputs, level = RNG.normal(size=(INPUTS, UNITS)), RNG.normal(size=INPUTS)
    e = 150
    sample = Sample(RNG.integers(0, INPUTS, e), RNG.normal(size=e), RNG.uniform(1, 5, e))
    at = sample.offset + level[sample.rated]
    slope = (sigmoid(at) - 1) * (1 - (sigmoid(at) - 1) / 4)
    x, y = inputs[sample.rated] * slope[:, None], sample.ratings - sigmoid(at)
    found = module.moments([sample], inputs, level, sigmoid)
    for each, expected in zip(found, (x.T @ x, x.T @ y, y @ y), strict=True):
        np.testing.assert_allclose(each[0], expected, rtol=1e-6, atol=1e-6)
    change, centre, around = module.pooled_regression(sample, inputs, level, sigmoid)
    ridge = 1e-4 * np.sum(x**2) / UNITS
    normal = x.T @ x + ridge * np.eye(UNITS)
    np.testing.assert_allclose(change, np.linalg.solve(normal, x.T @ y), rtol=1e-5, atol=1e-7)
    total = inputs[sample.rated].sum(0)
    np.testing.assert_allclose(centre, total / np.linalg.norm(total), rtol=1e-9)
    across = x - np.outer(x @ centre, centre)
    assert around == pytest.approx(np.sum(across**2) / e, rel=1e-6)


@pytest.mark.parametrize(("units", "trained", "error"), [(5, 90, 1e-9), (300, 20, 1e-6),
                                                         (120, 900, 2e-3)])
def test_the_largest_directions_have_the_covariance_of_an_eigendecomposition(units, trained,
                                                                             error):
    embeddings = RNG.normal(size=(trained, units)) * np.logspace(0, -2, units)
    weights = RNG.dirichlet(np.ones(trained))
    covariance = module.second_moments(embeddings, weights, weights @ embeddings)
    np.testing.assert_allclose(
        covariance, np.cov(embeddings.T, aweights=weights, bias=True), atol=1e-12)
    directions = module.main_directions(covariance)
    variances, vectors = np.linalg.eigh(covariance)
    variances, vectors = variances[-50:], vectors[:, -50:]
    expected = (vectors * np.maximum(variances, 0)) @ vectors.T
    np.testing.assert_allclose(directions @ directions.T, expected, atol=error * variances[-1])


def test_embeddings_that_are_all_equal_have_a_prior():
    assert np.isfinite(module.main_directions(np.zeros((70, 70)))).all()
