"""L-BFGS against NumPy, SciPy and the conditions that define it."""

import numpy as np
import pytest
import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.column_shards import SUFFIX, ColumnShards, Stored
from autorec_tf.model.dense_engine import DenseEngine
from autorec_tf.model.lbfgs import LBFGS, dot
from autorec_tf.model.sparse_engine import SparseEngine
from tests.model.problems import (
    MEMORY,
    RATE,
    Problem,
    optimizer_of,
    quadratic,
    rosenbrock,
    run,
    slope,
)
from tests.reference import inverse_bfgs


def ill_conditioned():
    return quadratic(20.0)


@pytest.mark.parametrize(
    "make, least", [(ill_conditioned, 2.0), (rosenbrock, 0.0)], ids=["quadratic", "rosenbrock"]
)
def test_lbfgs_reaches_scipys_minimum_in_about_as_many_evaluations(make, least):
    from scipy.optimize import minimize  # slow, and needed in one worker of pytest alone

    problem, target = make(), least + 1e-8
    theirs = make()
    evaluations = []

    def value(x):
        evaluations.append(theirs.value(x))
        return evaluations[-1]

    start, options = problem.x, dict(maxcor=MEMORY, ftol=0, gtol=1e-12, maxiter=1000)
    result = minimize(value, start, jac=theirs.gradient, method="L-BFGS-B", options=options)
    optimizer = optimizer_of(LBFGS, problem)
    for _ in range(300):
        if float(optimizer.step(problem.evaluate, RATE)[0]) <= target:
            break
    their_number = int(np.argmax(np.array(evaluations) <= target)) + 1
    assert result.fun <= target
    assert problem.value(problem.x) <= target
    np.testing.assert_allclose(problem.x, result.x, atol=1e-3)
    assert len(problem.points) <= 1.5 * their_number + 5


@pytest.mark.parametrize("make", [ill_conditioned, rosenbrock])
def test_every_lbfgs_step_meets_the_weak_wolfe_conditions(make):
    problem = make()
    optimizer = optimizer_of(LBFGS, problem)
    for _ in range(12):
        start = problem.x
        g = problem.gradient(start)
        if np.abs(g).max() < 1e-6:
            break
        optimizer.step(problem.evaluate, RATE)
        move, cost = problem.x - start, problem.value(start)
        assert g @ move < 0
        assert problem.value(problem.x) <= cost + 1e-4 * (g @ move) < cost
        assert problem.gradient(problem.x) @ move >= 0.9 * (g @ move)


def test_the_first_trial_is_of_length_1_and_later_ones_are_newton_steps():
    problem = quadratic(condition=1.0)  # for which H is the identity from the first pair on
    optimizer, _, (start, *_) = run(LBFGS, problem, 1)
    g = problem.gradient(start)
    np.testing.assert_allclose(problem.points[1] - start, -g / np.linalg.norm(g), rtol=1e-9)
    optimizer.step(problem.evaluate, RATE)
    np.testing.assert_allclose(problem.gradient(problem.x), 0, atol=1e-9)


def test_a_cost_that_hardly_falls_is_of_too_long_a_step():
    minimum = -0.50002  # so that -1 lies lower than 0, by less than 1e-4 of the slope
    problem = Problem(
        lambda x: (x[0] - minimum) ** 2, lambda x: 2 * (x - minimum), ([0.0],)
    )
    run(LBFGS, problem, 1)
    assert 0 < problem.value([0.0]) - problem.value([-1.0]) < 1e-4 * 2 * abs(minimum)
    np.testing.assert_allclose(np.ravel(problem.points), [0, -1, -0.5])


def test_a_slope_that_hardly_changes_is_of_too_short_a_step():
    problem = Problem(lambda x: (x[0] - 15) ** 2 / 2, lambda x: x - 15, ([0.0],))
    run(LBFGS, problem, 1)  # slopes of 15, 14 and 13: 14 is more than 0.9 times 15
    np.testing.assert_allclose(np.ravel(problem.points), [0, 1, 2])


def test_a_direction_that_leads_upwards_is_given_up_for_the_gradient():
    problem = quadratic()
    optimizer, _, _ = run(LBFGS, problem, 1)
    for x in [*optimizer.s[0], *optimizer.y[0]]:
        x.assign(tf.zeros_like(x))
    optimizer.s_dot_y.assign(-optimizer.s_dot_y)  # H is negative
    slope, g = optimizer.descent(), problem.gradient(problem.x)
    np.testing.assert_array_equal(flat(optimizer.direction), g)
    assert slope == pytest.approx(-g @ g) and optimizer.num_pairs.numpy() == 0


@pytest.mark.parametrize("by_row", [True, False])
def test_the_two_loops_are_the_dense_bfgs_matrix_of_the_last_pairs(by_row):
    problem = quadratic(1e4)
    optimizer = optimizer_of(LBFGS, problem, lbfgs_by_row=by_row)
    points = [problem.x]
    for num_steps in range(1, 8):  # the 3 pairs that are kept are replaced more than once
        optimizer.step(problem.evaluate, RATE)
        points.append(problem.x)
        gradients = [problem.gradient(x) for x in points]
        assert optimizer.num_pairs.numpy() == num_steps
        pairs = list(zip(np.diff(points, axis=0), np.diff(gradients, axis=0), strict=True))[-3:]
        optimizer.descent()
        expected = inverse_bfgs(pairs, rows_of(by_row)) @ gradients[-1]
        direction = flat(optimizer.direction)
        np.testing.assert_allclose(direction, expected, rtol=0, atol=1e-7 * abs(expected).max())


def bfloat16(x):
    """`x`, rounded to bfloat16 by another library, as float32."""
    return np.asarray(x, tf.bfloat16.as_numpy_dtype).astype(np.float32)


@pytest.mark.parametrize("engine, rounded", [
    (DenseEngine("float32"), np.asarray), (SparseEngine(threads=2), bfloat16),
], ids=["dense", "sparse"])
@pytest.mark.parametrize("shape", [(7, 5), (6,), (3, 2, 4)])
def test_both_engines_multiply_and_add_pairs(engine, rounded, shape):
    """A matrix, a vector and a three-dimensional parameter, against NumPy."""
    rng = np.random.default_rng(0)
    g, x, x_last, g_last, *pairs = rng.normal(size=(12, *shape)).astype(np.float32)
    scale = rng.random((*shape[:-1], 1)).astype(np.float32)
    a, b = rng.normal(size=(2, 4)).astype(np.float32)
    s, y = rounded(pairs[:4]), rounded(pairs[4:])
    kept = [[tf.cast(each, engine.pair_type(tf.float32)) for each in side] for side in (s, y)]
    expected = np.einsum("xi...k,j...k->...xij", np.array([s, y]), np.array([*y, g]))
    expected = expected.reshape(-1, 2, 4, 5)
    products = engine.pair_products(tf.constant(g), *kept).numpy()
    assert products.shape == expected.shape
    later = np.triu_indices(4, 0, 5)  # j >= i
    np.testing.assert_allclose(products[..., later[0], later[1]],
                               expected[..., later[0], later[1]], atol=1e-5)
    total = scale * (g - np.tensordot(a, y, 1)) + np.tensordot(b, s, 1)
    found = engine.pair_sum(*map(tf.constant, (g, scale)), *kept, *map(tf.constant, (a, b)))
    np.testing.assert_allclose(found, total, atol=1e-5)
    new_s, new_y, *products = engine.differences(*map(tf.constant, (x, x_last, g, g_last)))
    ds, dy = rounded(x - x_last), rounded(g - g_last)
    np.testing.assert_array_equal(tf.cast(new_s, tf.float32), ds)
    np.testing.assert_array_equal(tf.cast(new_y, tf.float32), dy)
    for product, (u, v) in zip(products, ((ds, ds), (ds, dy), (dy, dy)), strict=True):
        np.testing.assert_allclose(product, (u * v).sum(-1, keepdims=True), atol=1e-5)


def test_pairs_are_rounded_to_the_nearest_number_in_bfloat16():
    """Halfway to the even one; also infinity, NaN, the largest numbers and subnormal ones."""
    halfway = 1 + np.arange(1, 8, 2) * 2.0**-8
    values = [*halfway, 1.003, -0.1, -0.0, 3e38, 3.4e38, 1e-40, np.inf, -np.inf, np.nan]
    x = np.array(values, np.float32)
    zero = np.zeros_like(x)
    s, y, *_ = SparseEngine(threads=1).differences(*map(tf.constant, (x, zero, -x, zero)))
    np.testing.assert_array_equal(tf.cast(s, tf.float32), bfloat16(x))
    np.testing.assert_array_equal(tf.cast(y, tf.float32), bfloat16(-x))


def rows_of(by_row):
    """The row of each entry of x: those of a matrix, one of a vector, or one of all."""
    rows = np.repeat([0, 1, 2, 3], [4, 4, 4, 5])
    return rows if by_row else 0 * rows


def test_the_direction_without_history_is_the_gradient():
    problem = quadratic()
    optimizer = optimizer_of(LBFGS, problem)
    optimizer.save(*problem.evaluate())
    optimizer.descent()
    np.testing.assert_array_equal(flat(optimizer.direction), problem.gradient(problem.x))


def flat(tensors):
    return np.concatenate([x.numpy().ravel() for x in tensors])


def test_rows_of_different_curvature_converge_in_few_steps():
    """20 rows with curvatures from 1 to 1,000, the same along each row."""
    curvature = np.repeat(np.geomspace(1, 1e3, 20), 3)
    steps = {}
    for by_row in (True, False):
        problem = Problem(lambda x: curvature @ x**2 / 2, lambda x: curvature * x,
                          [np.random.default_rng(0).normal(size=(20, 3))])
        optimizer = optimizer_of(LBFGS, problem, lbfgs_by_row=by_row)
        start, steps[by_row] = problem.value(problem.x), 0
        most = 200 if by_row else 2 * steps[True] + 1  # more would not change the comparison
        while problem.value(problem.x) > 1e-6 * start and steps[by_row] < most:
            optimizer.step(problem.evaluate, RATE)
            steps[by_row] += 1
    assert steps[True] < steps[False] / 2, steps


def test_lbfgs_in_float32_falls_at_every_step_and_then_stays():
    problem = quadratic(8.0, dtype=np.float32)
    _, costs, _ = run(LBFGS, problem, 25)
    assert (np.diff(costs) <= 0).all()
    assert (np.diff(costs[:12]) < 0).all()
    assert costs[-1] == pytest.approx(2, rel=1e-6)
    assert np.isfinite(problem.x).all()


def test_lbfgs_evaluates_no_point_twice():
    problem = rosenbrock()
    run(LBFGS, problem, 8)
    assert len(np.unique(problem.points, axis=0)) == len(problem.points)


def test_parameters_changed_from_outside_are_evaluated_anew_without_history():
    problem = quadratic()
    optimizer, _, _ = run(LBFGS, problem, 5)
    problem.parameters[1].assign_add(tf.ones(5, tf.float64))
    changed, fresh = problem.x, quadratic()
    for x, other in zip(problem.parameters, fresh.parameters, strict=True):
        other.assign(x)
    cost, _ = optimizer.step(problem.evaluate, RATE)
    assert float(cost) == problem.value(changed)
    end = problem.x
    run(LBFGS, fresh, 1)
    np.testing.assert_array_equal(end, fresh.x)


@pytest.mark.parametrize("slope_beyond", [np.nan, 3.0, -3.0])
@pytest.mark.parametrize("cost_beyond", [np.nan, np.inf])
def test_a_trial_without_a_cost_is_too_long_a_step(cost_beyond, slope_beyond):
    problem = Problem(
        lambda x: float(3 * x[0] - np.log(x[0])) if x[0] > 0 else cost_beyond,
        lambda x: 3 - 1 / x if x[0] > 0 else np.full(1, slope_beyond),
        ([0.9],),
    )
    _, costs, _ = run(LBFGS, problem, 8)
    assert min(point[0] for point in problem.points) < 0
    assert (np.diff(costs) <= 0).all() and costs[1] < costs[0]
    np.testing.assert_allclose(problem.x, 1 / 3, atol=1e-6)


def test_a_trial_whose_gradient_alone_is_nan_is_too_long_a_step():
    problem = slope()
    problem.gradient = lambda x: np.full(2, 1.0 if x[0] > 0.5 else np.nan)
    run(LBFGS, problem, 1)
    assert 0.5 < problem.x[0] < 1


def test_a_line_search_that_finds_nothing_keeps_x_and_forgets_the_history():
    problem = quadratic(dtype=np.float32)
    optimizer, _, _ = run(LBFGS, problem, 4)
    assert optimizer.num_pairs.numpy() == 4
    stay, value = problem.x, problem.value
    problem.value = lambda x: value(stay) + 1  # nowhere lower than here
    problem.points.clear()
    optimizer.step(problem.evaluate, RATE)
    np.testing.assert_array_equal(problem.x, stay)
    assert optimizer.num_pairs.numpy() == 0
    assert len(problem.points) == Config().lbfgs_max_trials

    problem.value = value
    for _ in range(15):
        cost, _ = optimizer.step(problem.evaluate, RATE)
    assert float(cost) == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize("factor", [-1, 1e30, 1e-30, np.inf])
def test_wrong_gradients_leave_parameters_finite_and_costs_falling(factor):
    problem = quadratic(dtype=np.float32)
    exact = problem.gradient
    problem.gradient = lambda x: exact(x) * factor
    _, costs, _ = run(LBFGS, problem, 3)
    assert np.isfinite(problem.x).all() and (np.diff(costs) <= 0).all()


def test_without_a_wolfe_point_the_longest_of_a_slope_is_taken():
    problem = slope()  # falls for ever, so that every step is too short
    optimizer, costs, (start, _) = run(LBFGS, problem, 2)
    longest = 2.0 ** (Config().lbfgs_max_trials - 1)
    np.testing.assert_allclose(problem.points[26], start - longest / np.sqrt(2), rtol=1e-12)
    assert costs[1] == pytest.approx(start.sum() - longest * np.sqrt(2))
    assert optimizer.num_pairs.numpy() == 0  # y = 0 holds no curvature


def test_without_a_wolfe_point_the_lowest_cost_is_taken():
    dip = -1e5  # at the second trial; all others fall, by much less
    problem = Problem(
        lambda x: dip if x[0] == -2 else 2e-4 * x[0],
        np.ones_like,
        ([0.0],),
    )
    _, costs, points = run(LBFGS, problem, 2)
    assert problem.points[1:4] == [-1, -2, -4]
    assert points[1] == -2 and costs == [0, dip]


def test_pairs_without_positive_curvature_are_left_out():
    problem = quadratic()
    optimizer, _, _ = run(LBFGS, problem, 3)
    g = problem.split(problem.gradient(problem.x))
    for turn, kept in ((-1.0, False), (0.0, False), (1e-12, False), (1e-3, True)):
        rng = np.random.default_rng(1)
        s = [tf.constant(rng.normal(size=x.shape)) for x in problem.parameters]
        across = [tf.constant(rng.normal(size=x.shape)) for x in problem.parameters]
        factor = dot(s, across) / dot(s, s)  # `across` less its part along s
        y = [a - factor * b + turn * b for a, b in zip(across, s, strict=True)]
        for x, point, move in zip(problem.parameters, optimizer.point, s, strict=True):
            x.assign(point + move)
        before = optimizer.num_pairs.numpy()
        optimizer.remember([a + b for a, b in zip(g, y, strict=True)])
        assert optimizer.num_pairs.numpy() - before == kept


def test_dot_adds_up_all_parameters():
    a = [tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([5.0])]
    b = [tf.constant([[1.0, 0.5], [2.0, -1.0]]), tf.constant([3.0])]
    assert dot(a, b) == 1 + 1 + 6 - 4 + 15


def test_pairs_in_float32_of_an_earlier_version_are_read_and_rounded(tmp_path):
    shards, values = ColumnShards(3), np.array([[1.003, -2e-9], [0, 5e8]], np.float32)
    shards.write(tmp_path / "checkpoint", {f"s{SUFFIX}": Stored(tf.Variable(values))})
    pair = tf.Variable(tf.zeros_like(values, tf.bfloat16))
    shards.read(tmp_path / "checkpoint", {f"s{SUFFIX}": Stored(pair)})
    np.testing.assert_array_equal(tf.cast(pair, tf.float32), bfloat16(values))
