"""What all optimisers, or both full-batch ones, have in common, and RProp against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.lbfgs import LBFGS
from autorec_tf.model.optimizer import OPTIMIZERS, Adam, RMSProp, RProp
from tests.model.problems import (
    MEMORY,
    RATE,
    kink,
    optimizer_of,
    quadratic,
    rosenbrock,
    run,
    slope,
)
from tests.reference import ReferenceRProp

PROBLEMS = {f.__name__: f for f in (quadratic, rosenbrock, slope, kink)}
both = pytest.mark.parametrize("method", [RProp, LBFGS])


# Both


def test_optimisers_tell_which_want_the_whole_objective():
    assert OPTIMIZERS == {"Adam": Adam, "RMSProp": RMSProp, "RProp": RProp, "LBFGS": LBFGS}
    assert [name for name, method in OPTIMIZERS.items() if method.full_batch] == ["RProp", "LBFGS"]
    for name, method in OPTIMIZERS.items():
        assert hasattr(method, "step" if method.full_batch else "apply")
        assert Config(optimizer_method=name).optimizer_method == name


@both
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_step_returns_cost_and_squared_error_of_where_it_began(method, dtype):
    problem = quadratic(dtype=dtype)
    optimizer = optimizer_of(method, problem)
    for _ in range(4):
        before = problem.x
        cost, squared_error = optimizer.step(problem.evaluate, RATE)
        assert cost.dtype == squared_error.dtype == tf.float64
        assert float(cost) == pytest.approx(problem.value(before), rel=1e-6)
        assert float(squared_error) == pytest.approx(3 * float(cost), rel=1e-6)
        assert not np.array_equal(problem.x, before)


@both
def test_a_gradient_of_zero_moves_nothing(method):
    problem = quadratic()
    problem.gradient = np.zeros_like
    start = problem.x
    optimizer, costs, _ = run(method, problem, 3)
    np.testing.assert_array_equal(problem.x, start)
    assert costs == [problem.value(start)] * 3


@both
def test_a_cost_of_nan_is_reported_and_not_swallowed(method):
    problem = quadratic()
    problem.value = lambda x: np.nan
    problem.gradient = lambda x: np.full_like(x, np.nan)
    _, costs, _ = run(method, problem, 2)
    assert np.isnan(costs).all()


@both
def test_a_restored_optimiser_continues_bit_for_bit(method, tmp_path):
    problem, steps, kept = quadratic(1e3, dtype=np.float32), [], {}
    optimizer = optimizer_of(method, problem)
    for number in range(8):
        if number in (0, 1, 5):  # 5: the ring of 3 pairs has wrapped
            kept[number] = tf.train.Checkpoint(optimizer=optimizer).write(
                str(tmp_path / f"state_{number}"))
        problem.points.clear()
        costs = optimizer.step(problem.evaluate, RATE)
        steps.append(([float(x) for x in costs], problem.x, [*problem.points]))

    other = quadratic(1e3, dtype=np.float32)
    restored = method(other.parameters, Config(lbfgs_memory=MEMORY))
    for number in (5, 0, 1):  # one that is new, and one that has state
        prefix = kept[number]
        for x in other.parameters:
            x.assign(tf.zeros_like(x))
        tf.train.Checkpoint(optimizer=restored).read(prefix).assert_consumed()
        for costs, x, points in steps[number : number + 3]:
            other.points.clear()
            assert [float(x) for x in restored.step(other.evaluate, RATE)] == costs
            np.testing.assert_array_equal(other.x, x)
            np.testing.assert_array_equal(other.points, points)


# RProp


@pytest.mark.parametrize("name", PROBLEMS)
def test_rprop_follows_the_reference_step_by_step(name):
    problem = PROBLEMS[name]()
    optimizer, reference = optimizer_of(RProp, problem), ReferenceRProp()
    expected = [x.numpy() for x in problem.parameters]
    for _ in range({"kink": 70, "slope": 45}.get(name, 25)):
        optimizer.step(problem.evaluate, RATE)
        flat = np.concatenate([x.ravel() for x in expected])
        reference.step(expected, problem.split(problem.gradient(flat)), RATE)
        for x, wanted in zip(problem.parameters, expected, strict=True):
            np.testing.assert_allclose(x, wanted, rtol=1e-9, atol=1e-12)
    lengths = np.concatenate([delta.numpy().ravel() for delta in optimizer.delta])
    if name == "slope":
        np.testing.assert_array_equal(lengths, 50.0)
    if name == "kink":
        assert lengths.min() == pytest.approx(1e-6)


def test_rprop_in_float32_follows_the_float64_reference():
    problem, reference = quadratic(dtype=np.float32), ReferenceRProp()
    optimizer, expected = optimizer_of(RProp, problem), problem.split(problem.x)
    for _ in range(20):
        optimizer.step(problem.evaluate, RATE)
        flat = np.concatenate([x.ravel() for x in expected])
        reference.step(expected, problem.split(problem.gradient(flat)), RATE)
    for x, wanted in zip(problem.parameters, expected, strict=True):
        assert x.dtype == tf.float32
        np.testing.assert_allclose(x, wanted, rtol=0, atol=1e-5)


def test_rprop_sees_that_tiny_gradients_agree():
    problem = slope()
    problem.gradient = lambda x: np.full_like(x, 1e-200)  # whose square is 0
    optimizer, _, _ = run(RProp, problem, 3)
    np.testing.assert_allclose(optimizer.delta[0], RATE * 1.2**2)


def test_rprop_takes_its_first_step_length_from_the_first_learning_rate_alone():
    ends = []
    for rates in ([0.1, 0.1, 0.1], [0.1, 5.0, 1e-3], [0.2, 0.1, 0.1]):
        problem = quadratic()
        optimizer = optimizer_of(RProp, problem)
        for rate in rates:
            optimizer.step(problem.evaluate, rate)
        ends.append(problem.x)
    np.testing.assert_array_equal(ends[0], ends[1])
    assert not np.array_equal(ends[0], ends[2])


def test_rprop_evaluates_once_a_step():
    problem = quadratic()
    _, _, points = run(RProp, problem, 7)
    np.testing.assert_array_equal(problem.points, points)
