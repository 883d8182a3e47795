"""The model against a float64 NumPy model written from the paper, for both engines."""

from contextlib import contextmanager, nullcontext
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

import AutoRec as module
from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.model.batch import sparse_rows
from autorec_tf.model.sparse_engine import SparseEngine
from autorec_tf.training.trainer import Objective, Trainer
from tests.reference import (
    LeaveOneOut,
    Reference,
    ReferenceAdam,
    ReferenceRMSProp,
    Svdpp,
    finite_differences,
)

ROWS, COLUMNS, HIDDEN = 23, 17, 6
SCALE = 1.0, 5.0
ENGINES = ("dense", "sparse")
RULES = ("weighted", "plain")

both_engines = pytest.mark.parametrize("engine", ENGINES)
both_rules = pytest.mark.parametrize("regularization", RULES)
SVDPP = {"decoder": "svdpp", "optimizer_method": "LBFGS"}
MEAN_SLOPE = {"leave_one_out_slope": "mean"}
BIASED = {"decoder": "biased", "lambda_decoder": 0.3}
ONE_HOT = {"input_encoding": "one_hot", "lambda_one_hot": 0.4}
NORMALIZED = {"input_scale": 18.0, "spread": 0.05}
both_encodings = pytest.mark.parametrize("encoding", ({}, ONE_HOT), ids=("rating", "one_hot"))


def random_matrix(rows=ROWS, columns=COLUMNS, seed=0):
    """A rating matrix with rows and columns of every length from none to all, and its dense
    R and M."""
    rng = np.random.default_rng(seed)
    M = rng.random((rows, columns)) < np.linspace(0, 1, rows)[:, None]
    M[:, 0] = False  # a column that nobody rated
    R = np.where(M, rng.integers(1, 6, M.shape), 0).astype(np.float64)
    where = np.nonzero(M)
    matrix = RatingMatrix.from_triples(
        where[0].astype(np.int32), where[1].astype(np.int32), R[where].astype(np.float32), M.shape
    )
    return matrix, R, M


def build(engine="dense", columns=COLUMNS, rows=ROWS, spread=0.3, **settings):
    """A model whose parameters are large enough for every term to matter."""
    settings = {"hidden_neuron": HIDDEN, "lambda_value": 0.7, "batch_size": 5,
                "lbfgs_memory": 2} | settings
    config = Config(engine=engine, **settings)
    values = np.arange(1, 6, dtype=np.float32) if config.input_encoding == "one_hot" else None
    model = AutoRec(columns, config, SCALE, values=values, num_rows=rows)
    rng = np.random.default_rng(7)
    for x in model.parameters:
        x.assign(rng.normal(0, spread, x.shape).astype(np.float32))
    return model


def gradients_of(model, matrix, rows, trainer=None):
    """(dV, dW, dmu, db, inner...), J and the squared error of a batch, W as in the paper."""
    objective = (trainer or Trainer(model)).objective
    (dV, dWt, *others), cost, squared_error = objective.gradients(
        sparse_rows(matrix), tf.constant(rows, tf.int64)
    )
    gradients = [dV.numpy(), dWt.numpy().T, *(x.numpy() for x in others)]
    return gradients, float(cost), float(squared_error)


@contextmanager
def without_graphs():
    """Within it, nothing is traced: quick where little is computed."""
    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)


def assert_falling(costs):
    assert np.all(np.diff(costs) < 0) and costs[-1] < 0.9 * costs[0]


def assert_close(actual, expected, tolerance=2e-5):
    """Equal up to float32 rounding, relative to the largest entry."""
    scale = np.abs(expected).max() or 1.0
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * scale)


VARIANTS = (
    {},
    {"hidden_activation": "tanh", "output_activation": "sigmoid"},
    {"hidden_activation": "identity", "output_activation": "tanh"},
    {"hidden_activation": "elu", "output_activation": "elu"},
    {"hidden_activation": "relu", "output_activation": "relu"},
    {"lambda_encoder": 2.0, "lambda_decoder": 0.3},
    {"hidden_neuron": (6, 3, 4)},
    {"hidden_neuron": (4, 5), "hidden_activation": "tanh", "output_activation": "sigmoid"},
    {"input_encoding": "one_hot"},
    {"input_encoding": "one_hot", "lambda_one_hot": 0.3, "lambda_encoder": 2.0},
    {"input_encoding": "one_hot", "lambda_one_hot": 3.0, "hidden_neuron": (4, 3, 5)},
    NORMALIZED,
    ONE_HOT | NORMALIZED,
)
MEAN_SLOPES = (
    MEAN_SLOPE, MEAN_SLOPE | {"input_encoding": "one_hot", "hidden_activation": "tanh"})
every_variant = pytest.mark.parametrize("variant", VARIANTS, ids=str)


def rule_of(variant, engine=ENGINES[0]):
    """The rule of Omega, by turns: any two of a variant, an engine and a rule meet."""
    return RULES[((*VARIANTS, *MEAN_SLOPES).index(variant) + ENGINES.index(engine)) % 2]


@every_variant
def test_reference_gradients_are_the_finite_differences_of_its_objective(variant):
    _, R, M = random_matrix(columns=9)
    reference = Reference.of(build(columns=9, regularization=rule_of(variant), **variant))
    batch = slice(8, 13)
    numerical = finite_differences(reference, R[batch], M[batch])
    for exact, difference in zip(reference.gradients(R[batch], M[batch]), numerical, strict=True):
        assert_close(exact, difference, 1e-7)


@pytest.mark.eager
@both_engines
@every_variant
def test_every_variant_equals_the_reference(engine, variant):
    matrix, R, M = random_matrix()
    model = build(engine, regularization=rule_of(variant, engine), **variant)
    reference, rows = Reference.of(model), [3, 20, 11, 8, 15]
    gradients, cost, _ = gradients_of(model, matrix, rows)
    assert cost == pytest.approx(reference.objective(R[rows], M[rows]), rel=1e-5)
    for actual, expected in zip(gradients, reference.gradients(R[rows], M[rows]), strict=True):
        assert_close(actual, expected)
    predictions = model.predict(sparse_rows(matrix), *np.nonzero(R + 1))
    assert_close(predictions, reference.predict(R).ravel())


@pytest.mark.eager
@both_engines
@pytest.mark.parametrize("variant", [{}, ONE_HOT, SVDPP | {"leave_one_out": True}], ids=str)
def test_lambda_depends_on_the_number_of_ratings_of_the_whole_matrix(engine, variant):
    columns = 7
    matrix, R, M = random_matrix(columns=columns)
    model = build(engine, columns, regularization="plain", lambda_exponent=0.4, hidden_neuron=4,
                  **variant)
    reference, counts = (Svdpp if "decoder" in variant else Reference).of(model), M.sum(0)
    reference.factors = (np.maximum(counts, 1) / counts.mean()) ** 0.4
    objective = Objective(model)
    gradients, cost, _ = objective.full_gradients(model.rows(matrix))  # in several blocks
    assert float(cost) == pytest.approx(reference.objective(R, M), rel=1e-5)
    for x, (actual, expected) in enumerate(
            zip(gradients, finite_differences(reference, R, M), strict=True)):
        assert_close(actual.numpy().T if x == 1 else actual.numpy(), expected)


@pytest.mark.eager
@both_engines
@pytest.mark.parametrize(
    "variant", [*(v for v in VARIANTS if "hidden_neuron" not in v), *MEAN_SLOPES], ids=str)
def test_leaving_one_out_equals_the_reference(engine, variant):
    columns = 7  # of which every single difference is soon computed
    matrix, R, M = random_matrix(columns=columns)
    model = build(engine, columns, regularization=rule_of(variant, engine), leave_one_out=True,
                  hidden_neuron=4, **variant)
    reference, rows = LeaveOneOut.of(model), [3, 20, 11, 8]
    reference.mean_slope = model.config.leave_one_out_slope == "mean"
    gradients, cost, _ = gradients_of(model, matrix, rows)
    assert cost == pytest.approx(reference.objective(R[rows], M[rows]), rel=1e-5)
    numerical = finite_differences(reference, R[rows], M[rows])
    for actual, expected in zip(gradients, numerical, strict=True):
        assert_close(actual, expected)


@pytest.mark.eager
@pytest.mark.parametrize(
    "regularization, leave_one_out, variant",
    [("plain", True, SVDPP | VARIANTS[1]), ("plain", False, SVDPP | VARIANTS[5]),
     ("weighted", True, SVDPP | ONE_HOT), ("plain", True, BIASED), ("weighted", False, BIASED),
     ("plain", True, SVDPP | MEAN_SLOPE), ("plain", True, SVDPP | MEAN_SLOPE | NORMALIZED)],
)
def test_decoders_with_row_biases_equal_the_reference(regularization, leave_one_out, variant):
    num_rows, num_columns = 6, 5
    matrix, R, M = random_matrix(num_rows, num_columns)
    models = [
        build(engine, num_columns, num_rows, regularization=regularization, hidden_neuron=3,
              batch_size=num_rows if MEAN_SLOPE.items() <= variant.items() else 3,
              leave_one_out=leave_one_out, **variant)
        for engine in ENGINES
    ]
    reference, everywhere = Svdpp.of(models[0]), np.nonzero(R + 1)
    numerical, predicted = finite_differences(reference, R, M), reference.predict(R)
    for model in models:
        rows, objective = model.rows(matrix), Objective(model)
        at_once = objective.gradients(rows, tf.range(num_rows, dtype=tf.int64))
        for gradients, cost, _ in (at_once, objective.full_gradients(rows)):
            assert float(cost) == pytest.approx(reference.objective(R, M), rel=1e-5)
            for x, (actual, expected) in enumerate(zip(gradients, numerical, strict=True)):
                assert_close(actual.numpy().T if x == 1 else actual.numpy(), expected)
        assert_close(model.predict(rows, *everywhere), predicted.ravel())
        (factors,) = model.factors(matrix)
        assert_close(factors.pairs(*everywhere[::-1]), predicted.ravel())


@pytest.mark.eager
@both_engines
@pytest.mark.parametrize("input_encoding", ["rating", "one_hot"])
def test_leaving_one_out_of_a_linear_code_is_predicting_from_the_other_ratings(
    engine, input_encoding
):
    matrix, R, M = random_matrix(5, 4)
    model = build(engine, 4, leave_one_out=True, hidden_activation="identity",
                  input_encoding=input_encoding)
    error = 0.0
    for row, column in zip(*np.nonzero(M), strict=True):
        others = matrix.rows != row
        others |= matrix.indices != column
        rest = RatingMatrix.from_triples(
            matrix.rows[others], matrix.indices[others], matrix.values[others], M.shape
        )
        predicted = model.predict(sparse_rows(rest), np.array([row]), np.array([column]))
        error += float(R[row, column] - predicted[0]) ** 2
    _, _, squared_error = gradients_of(model, matrix, range(5))
    assert squared_error == pytest.approx(error, rel=1e-5)


@both_engines
@both_rules
@pytest.mark.parametrize("rows", [[3, 20, 11, 8, 15], [22], [0], list(range(ROWS))])
def test_cost_and_gradients_equal_the_reference(engine, regularization, rows):
    matrix, R, M = random_matrix()
    model = build(engine, regularization=regularization)
    reference = Reference.of(model)
    gradients, cost, squared_error = gradients_of(model, matrix, rows)
    assert cost == pytest.approx(reference.objective(R[rows], M[rows]), rel=1e-5)
    assert squared_error == pytest.approx(reference.squared_error(R[rows], M[rows]), rel=1e-5)
    for actual, expected in zip(gradients, reference.gradients(R[rows], M[rows]), strict=True):
        assert_close(actual, expected)


@both_engines
@both_rules
def test_user_orientation_is_the_same_model_on_the_transposed_matrix(engine, regularization):
    matrix, R, M = random_matrix()
    transposed = RatingMatrix.from_triples(
        matrix.indices, matrix.rows, matrix.values, (COLUMNS, ROWS)
    )
    model = build(engine, columns=ROWS, regularization=regularization)
    gradients, cost, _ = gradients_of(model, transposed, range(COLUMNS))
    reference = Reference.of(model)
    assert cost == pytest.approx(reference.objective(R.T, M.T), rel=1e-5)
    for actual, expected in zip(gradients, reference.gradients(R.T, M.T), strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize(
    "engine, regularization, input_encoding, method",  # any two values of two of them meet
    [("dense", "plain", "rating", "Adam"), ("dense", "weighted", "one_hot", "RMSProp"),
     ("sparse", "plain", "one_hot", "RMSProp"), ("sparse", "weighted", "rating", "RMSProp"),
     ("sparse", "weighted", "one_hot", "Adam")],
)
def test_training_follows_the_reference_for_20_steps_and_lowers_the_objective(
    engine, regularization, input_encoding, method
):
    encoding = ONE_HOT if input_encoding == "one_hot" else {}
    optimizer = {"Adam": ReferenceAdam, "RMSProp": ReferenceRMSProp}[method]
    matrix, R, M = random_matrix()
    model = build(engine, regularization=regularization, optimizer_method=method, **encoding)
    trainer, reference, steps = Trainer(model), Reference.of(model), optimizer()
    costs = [reference.objective(R, M)]
    for epoch in range(4):  # 5 steps each: rows in batches of 5, 5, 5, 5 and 3
        order = np.random.default_rng(epoch).permutation(ROWS)
        cost, rmse = trainer.train_epoch(sparse_rows(matrix), order, 0.01)
        expected_cost = expected_error = 0.0
        for rows in np.split(order, range(5, ROWS, 5)):
            expected_cost += reference.objective(R[rows], M[rows])
            expected_error += reference.squared_error(R[rows], M[rows])
            steps.step(reference.parameters(), reference.gradients(R[rows], M[rows]), 0.01)
        assert cost == pytest.approx(expected_cost, rel=2e-5)
        assert rmse == pytest.approx(np.sqrt(expected_error / len(matrix)), rel=2e-5)
        costs.append(Reference.of(model).objective(R, M))
    assert_falling(costs)
    V, _, *others = model.parameters
    for actual, expected in zip((V, model.W, *others), reference.parameters(), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=0, atol=3e-4)


@both_engines
def test_clipping_bounds_every_component_and_changes_no_other(engine):
    matrix, _, _ = random_matrix()
    free, _, _ = gradients_of(build(engine), matrix, range(ROWS))
    clipped = Trainer(build(engine, grad_clip=True)).clip([tf.constant(g) for g in free])
    assert max(np.abs(g).max() for g in free) > 5
    for actual, unbounded in zip(clipped, free, strict=True):
        np.testing.assert_array_equal(actual, np.clip(unbounded, -5, 5))
    taken = []
    trainer = Trainer(build(engine, grad_clip=True, batch_size=ROWS))
    trainer.optimizer.apply = lambda gradients, rate: taken.extend(gradients)
    trainer._train_epoch.python_function(
        sparse_rows(matrix), tf.range(ROWS, dtype=tf.int64), tf.constant(0.1)
    )
    assert max(np.abs(g).max() for g in taken) == 5


@both_engines
def test_a_column_without_ratings_in_the_batch_gets_no_gradient(engine):
    matrix, _, M = random_matrix()
    rows = [4, 9, 2]
    silent = ~M[rows].any(0)
    assert silent.sum() > 1
    (dV, dW, _, db), _, _ = gradients_of(build(engine), matrix, rows)
    assert not dV[silent].any() and not dW[:, silent].any() and not db[silent].any()


@both_engines
def test_ratings_of_rows_outside_the_batch_change_nothing(engine):
    matrix, _, _ = random_matrix()
    changed = matrix.values.copy()
    changed[matrix.rows > 12] = 1
    other = RatingMatrix(matrix.indptr, matrix.indices, changed, COLUMNS)
    model = build(engine)
    first, cost, _ = gradients_of(model, matrix, [12, 3, 7])
    second, other_cost, _ = gradients_of(model, other, [12, 3, 7])
    assert cost == other_cost
    for one, two in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, two)


@both_engines
def test_a_rating_of_zero_is_not_a_missing_rating(engine):
    one = np.array([0], np.int32)
    rated = RatingMatrix.from_triples(one, one + 3, np.zeros(1, np.float32), (1, COLUMNS))
    unrated = RatingMatrix.from_triples(one[:0], one[:0], np.zeros(0, np.float32), (1, COLUMNS))
    (_, _, _, db), _, error = gradients_of(build(engine, lambda_value=0.0), rated, [0])
    assert db[3] != 0 and error > 0
    nothing, cost, error = gradients_of(build(engine, lambda_value=0.0), unrated, [0])
    assert cost == error == 0 and not any(g.any() for g in nothing)


@both_engines
@both_rules
def test_the_order_of_rows_within_a_batch_changes_nothing(engine, regularization):
    matrix, _, _ = random_matrix()
    model = build(engine, regularization=regularization)
    first, cost, _ = gradients_of(model, matrix, [20, 7, 15, 3])
    second, other_cost, _ = gradients_of(model, matrix, [3, 15, 20, 7])
    assert cost == pytest.approx(other_cost, rel=1e-6)
    for one, two in zip(first, second, strict=True):
        assert_close(one, two, 1e-6)


@pytest.mark.eager
@both_engines
def test_predictions_equal_the_reference_in_the_order_asked_for(engine, monkeypatch):
    monkeypatch.setattr(module, "PREDICTION_ROWS", 4)  # several blocks, the last one short
    matrix, R, _ = random_matrix()
    model = build(engine)
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, ROWS, 200), rng.integers(0, COLUMNS, 200)
    predictions = model.predict(sparse_rows(matrix), rows, columns)
    assert predictions.dtype == np.float32
    assert_close(predictions, Reference.of(model).predict(R)[rows, columns])


@pytest.mark.eager
@both_engines
def test_no_pairs_give_no_predictions(engine):
    matrix, _, _ = random_matrix()
    none = np.zeros(0, np.int64)
    assert build(engine).predict(sparse_rows(matrix), none, none).shape == (0,)


@pytest.mark.eager
@both_engines
def test_a_prediction_depends_on_its_own_rows_given_ratings_only(engine):
    matrix, _, _ = random_matrix()
    model = build(engine)
    rows, columns = np.full(COLUMNS, 9), np.arange(COLUMNS)
    before = model.predict(sparse_rows(matrix), rows, columns)

    others = matrix.values.copy()
    others[matrix.rows != 9] = 1
    other_rows = RatingMatrix(matrix.indptr, matrix.indices, others, COLUMNS)
    np.testing.assert_array_equal(
        before, model.predict(sparse_rows(other_rows), rows, columns)
    )

    own = matrix.values.copy()
    own[matrix.rows == 9] = 6 - own[matrix.rows == 9]
    own_row = RatingMatrix(matrix.indptr, matrix.indices, own, COLUMNS)
    assert np.abs(before - model.predict(sparse_rows(own_row), rows, columns)).max() > 1e-3


def test_the_engines_train_to_the_same_parameters():
    matrix, _, _ = random_matrix(300, 200)
    models = [build(engine, columns=200, hidden_neuron=33, batch_size=64) for engine in ENGINES]
    trainers = [Trainer(model) for model in models]
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(300)
        results = [each.train_epoch(sparse_rows(matrix), order, 0.01) for each in trainers]
        assert results[0] == pytest.approx(results[1], rel=1e-5)
    for dense, sparse in zip(models[0].parameters, models[1].parameters, strict=True):
        np.testing.assert_allclose(dense, sparse, rtol=0, atol=1e-4)


@pytest.mark.eager
def test_the_number_of_threads_changes_no_bit():
    matrix, _, _ = random_matrix(300, 200)
    results = []
    for num_threads in (1, 2, 3):
        model = build("sparse", columns=200)
        model.engine = SparseEngine(num_threads)
        gradients, cost, _ = gradients_of(model, matrix, range(250))
        predictions = model.predict(sparse_rows(matrix), matrix.rows, matrix.indices)
        results.append([*gradients, cost, predictions])
    for other in results[1:]:
        for one, two in zip(results[0], other, strict=True):
            np.testing.assert_array_equal(one, two)


@both_engines
def test_a_nan_is_reported_and_not_swallowed(engine):
    matrix, _, _ = random_matrix()
    model = build(engine)
    model.mu.assign(np.full(HIDDEN, np.nan, np.float32))
    _, cost, error = gradients_of(model, matrix, range(ROWS))
    assert np.isnan(cost) and np.isnan(error)


def test_parameters_start_as_a_truncated_normal_of_the_seed():
    first, again, other = (AutoRec(400, Config(random_seed=seed)) for seed in (1, 1, 2))
    for name in ("V", "Wt"):
        x = getattr(first, name).numpy()
        assert x.shape == (400, 500) and x.dtype == np.float32
        assert np.abs(x).max() <= 0.06  # two standard deviations
        assert x.std() == pytest.approx(0.03 * 0.8796, rel=0.01)  # of a normal cut there
        np.testing.assert_array_equal(x, getattr(again, name).numpy())
        assert not np.array_equal(x, getattr(other, name).numpy())
    assert not np.array_equal(first.V.numpy(), first.Wt.numpy())
    assert not first.mu.numpy().any() and not first.b.numpy().any()


def test_saved_parameters_are_read_by_plain_tensorflow(tmp_path):
    model = build()
    model.save(tmp_path / "parameters")
    prefix = str(tmp_path / "parameters")
    names = {name.split("/")[0] for name, _ in tf.train.list_variables(prefix)}
    assert {"V", "W", "mu", "b"} <= names
    for name in ("V", "W", "mu", "b"):
        key = f"{name}/.ATTRIBUTES/VARIABLE_VALUE"
        saved = tf.train.load_variable(prefix, key)
        np.testing.assert_array_equal(saved, getattr(model, name))
    assert model.W.shape == (HIDDEN, COLUMNS)


@both_rules
def test_bfloat16_gradients_are_the_references_to_its_precision(regularization):
    matrix, R, M = random_matrix()
    model = build(regularization=regularization, precision="bfloat16")
    reference = Reference.of(model)
    gradients, cost, _ = gradients_of(model, matrix, range(ROWS))
    assert cost == pytest.approx(reference.objective(R, M), rel=0.01)
    for actual, expected in zip(gradients, reference.gradients(R, M), strict=True):
        assert actual.dtype == np.float32
        assert_close(actual, expected, 0.02)


# One-hot inputs


@pytest.mark.eager
@both_engines
def test_the_values_own_vectors_start_at_0_and_change_nothing_there(engine):
    matrix, R, _ = random_matrix()
    pairs = np.nonzero(R + 1)
    values = matrix.distinct
    assert values.tolist() == [1, 2, 3, 4, 5] and values.dtype == np.float32
    plain, coded = (
        AutoRec(COLUMNS, Config(engine=engine, hidden_neuron=HIDDEN, **settings), SCALE,
                values=values if settings else None)
        for settings in ({}, ONE_HOT)
    )
    assert coded.encoder.D.shape == (COLUMNS, 5, HIDDEN) and not coded.encoder.D.numpy().any()
    assert plain.encoder.D is None and len(plain.parameters) == 4
    assert_close(*(model.predict(sparse_rows(matrix), *pairs) for model in (plain, coded)), 1e-6)


@pytest.mark.eager
@both_engines
@pytest.mark.parametrize("values", [[2.5], [1, 4], [0.5, 1.75, 2, 4.25, 5]])
def test_a_rating_of_another_value_takes_the_vector_of_the_nearest(engine, values):
    matrix, R, _ = random_matrix()
    config = Config(engine=engine, hidden_neuron=HIDDEN, **ONE_HOT)
    model = AutoRec(COLUMNS, config, SCALE, values=np.array(values, np.float32))
    rng = np.random.default_rng(2)
    model.encoder.D.assign(rng.normal(0, 1, model.encoder.D.shape))
    predictions = model.predict(sparse_rows(matrix), *np.nonzero(R + 1))
    assert_close(predictions, Reference.of(model).predict(R).ravel())


@both_engines
def test_a_rating_and_its_values_own_vector_are_left_out_together(engine):
    """Where an input is left out, neither vector has a gradient; where it is kept, D's is V's, but
    for the rating."""
    matrix, R, M = random_matrix()
    settings = ONE_HOT | {"lambda_one_hot": 0.0}
    model = build(engine, lambda_value=0.0, input_dropout=0.5, **settings)
    (dV, _, _, _, dD), _, _ = gradients_of(model, matrix, [22])
    left_out = ~dV.any(1) & M[22]
    assert 3 < left_out.sum() < M[22].sum() - 3 and not dD[left_out].any()
    for u in np.flatnonzero(M[22] & ~left_out):
        index = int(R[22, u]) - 1
        assert_close(dV[u], R[22, u] * dD[u, index])
        assert not np.delete(dD[u], index, 0).any()


def test_values_own_vectors_are_saved_by_the_name_of_the_equation(tmp_path):
    model = build(hidden_neuron=(6, 4), **ONE_HOT)
    model.save(tmp_path / "parameters")
    saved = tf.train.load_variable(str(tmp_path / "parameters"), "D/.ATTRIBUTES/VARIABLE_VALUE")
    np.testing.assert_array_equal(saved, model.encoder.D)


# Full batches

METHODS = ("Adam", "RMSProp", "RProp", "LBFGS")


@pytest.mark.eager
@pytest.mark.parametrize(
    "method, batch_size, hidden_neuron, engine, regularization, input_encoding",
    [  # any two values of two of them meet
        ("RProp", 8, HIDDEN, "dense", "weighted", "rating"),
        ("RProp", 8, HIDDEN, "sparse", "plain", "one_hot"),
        ("LBFGS", 100, HIDDEN, "dense", "plain", "one_hot"),
        ("LBFGS", 100, HIDDEN, "sparse", "weighted", "rating"),
        ("RProp", 8, (6, 3, 4), "dense", "weighted", "one_hot"),
        ("RProp", 8, (6, 3, 4), "sparse", "plain", "rating"),
    ], ids=str,
)
def test_gradients_summed_over_blocks_are_those_of_all_rows_and_steps_lower_the_objective(
    method, batch_size, hidden_neuron, engine, regularization, input_encoding
):
    """Plain Omega is counted once, however many blocks there are."""
    encoding = ONE_HOT if input_encoding == "one_hot" else {}
    matrix, R, M = random_matrix()
    model = build(
        engine, regularization=regularization, batch_size=batch_size, hidden_neuron=hidden_neuron,
        lambda_encoder=2.0, lambda_decoder=0.3, optimizer_method=method, **encoding,
    )
    reference = Reference.of(model)
    objective = Objective(model)
    (dV, dWt, *others), cost, squared_error = objective.full_gradients(sparse_rows(matrix))
    assert float(cost) == pytest.approx(reference.objective(R, M), rel=1e-5)
    assert float(squared_error) == pytest.approx(reference.squared_error(R, M), rel=1e-5)
    for actual, expected in zip(
        (dV, tf.transpose(dWt), *others), reference.gradients(R, M), strict=True
    ):
        assert_close(actual, expected)
    if hidden_neuron != HIDDEN:
        return
    trainer, costs = Trainer(model), [reference.objective(R, M)]
    for epoch in range(4 if method == "RProp" else 3):
        order = np.random.default_rng(epoch).permutation(ROWS)
        trainer.train_epoch(sparse_rows(matrix), order, 0.01)
        costs.append(Reference.of(model).objective(R, M))
    assert_falling(costs)


@pytest.mark.eager
@both_engines
@pytest.mark.parametrize("method", ["RProp", "LBFGS"])
def test_a_full_batch_epoch_is_one_step_whatever_the_order_and_reports_where_it_began(
    engine, method
):
    matrix, R, M = random_matrix()
    results = []
    for order in (np.arange(ROWS), np.arange(ROWS)[::-1]):
        model = build(engine, optimizer_method=method, batch_size=12)
        trainer, reference = Trainer(model), Reference.of(model)
        cost, rmse = trainer.train_epoch(sparse_rows(matrix), order, 0.01)
        assert cost == pytest.approx(reference.objective(R, M), rel=1e-5)
        expected = np.sqrt(reference.squared_error(R, M) / len(matrix))
        assert rmse == pytest.approx(expected, rel=1e-5)
        assert int(trainer.steps) == 1
        results.append([x.numpy() for x in model.parameters])
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


# Dropout

DROPOUTS = ({"dropout": 0.5}, {"input_dropout": 0.5})
both_dropouts = pytest.mark.parametrize("rates", DROPOUTS, ids=str)


@cache  # several tests look at one model's
def trained(seed=1, method="Adam", graph=False, epochs=1, **rates):
    """The parameters after training; the seed changes nothing in them but what is left out."""
    matrix, _, _ = random_matrix()
    model = build(random_seed=seed, optimizer_method=method, batch_size=12, **rates)
    trainer = Trainer(model)
    with nullcontext() if graph else without_graphs():
        for _ in range(epochs):
            trainer.train_epoch(sparse_rows(matrix), np.arange(ROWS), 0.01)
    return [x.numpy() for x in model.parameters]


def all_equal(some, others):
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.eager
@both_engines
@both_dropouts
def test_nothing_is_left_out_of_a_prediction(engine, rates):
    matrix, R, _ = random_matrix()
    model = build(engine, hidden_neuron=(6, 4), **rates)
    everywhere = np.nonzero(R + 1)
    predictions = model.predict(sparse_rows(matrix), *everywhere)
    assert_close(predictions, Reference.of(model).predict(R).ravel())
    np.testing.assert_array_equal(predictions, model.predict(sparse_rows(matrix), *everywhere))
    assert_close(model.encode_all(sparse_rows(matrix)), Reference.of(model).hidden(R))


@pytest.mark.parametrize(
    "method, rates", [*zip(METHODS, DROPOUTS * 2, strict=True)], ids=str)
def test_the_seed_decides_what_is_left_out(method, rates):
    first, other = (trained(seed, method, **rates) for seed in (1, 2))
    again = trained.__wrapped__(1, method, **rates)
    assert all_equal(first, again)
    assert not all_equal(first, other)


@pytest.mark.parametrize("method", ["Adam", "RProp"])  # of mini-batches, and of the full batch
def test_graphs_leave_out_the_same(method):
    both = {"dropout": 0.5, "input_dropout": 0.5}
    graphs = (trained(1, method, graph, 2, **both) for graph in (False, True))
    for one, two in zip(*graphs, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize(
    "method, rates", [("Adam", DROPOUTS[0]), ("LBFGS", DROPOUTS[1])], ids=str)
def test_a_rate_of_0_is_no_dropout_to_the_last_bit(method, rates):
    """Neither the seed nor a rate too small to leave anything out changes anything."""
    none = trained(1, method, dropout=0.0, input_dropout=0.0)
    assert all_equal(none, trained(2, method))
    assert all_equal(none, trained(1, method, **dict.fromkeys(rates, 1e-12)))
    assert not all_equal(none, trained(1, method, **rates))


@both_engines
@both_dropouts
def test_every_step_leaves_out_something_else(engine, rates):
    matrix, _, _ = random_matrix()
    model, rows = build(engine, **rates), list(range(ROWS))
    trainer = Trainer(model)
    first, again = (gradients_of(model, matrix, rows, trainer)[0] for _ in range(2))
    assert all_equal(first, again)
    trainer.steps.assign_add(1)
    assert not all_equal(first, gradients_of(model, matrix, rows, trainer)[0])


@pytest.mark.eager
def test_every_mini_batch_is_a_step():
    matrix, _, _ = random_matrix()
    trainer = Trainer(build(dropout=0.5))
    for epoch in (1, 2):
        trainer.train_epoch(sparse_rows(matrix), np.arange(ROWS), 0.01)
        assert int(trainer.steps) == 5 * epoch


def test_every_layer_leaves_out_its_own_share_and_the_rest_makes_up_for_it():
    dropout = Trainer(build(hidden_neuron=(6, 6, 6))).dropout()
    x = tf.ones([1000, 6])
    layers = [dropout(x, 0.25, layer).numpy() for layer in range(4)]
    for layer in layers:
        assert set(np.unique(layer)) == {0, np.float32(1 / 0.75)}
        assert layer.mean() == pytest.approx(1, abs=0.03)
    for i, one in enumerate(layers):
        assert all(0.2 < ((one == 0) == (other == 0)).mean() < 0.8 for other in layers[:i])


@both_engines
def test_an_input_that_is_left_out_is_reconstructed_all_the_same(engine):
    matrix, _, M = random_matrix()
    model = build(engine, lambda_value=0.0, input_dropout=0.5)
    (dV, dW, _, db), _, _ = gradients_of(model, matrix, [22])
    seen = dV.any(1)
    assert 3 < seen.sum() < M[22].sum() and not seen[~M[22]].any()
    np.testing.assert_array_equal(db != 0, M[22])
    np.testing.assert_array_equal(dW.any(0), M[22])


@both_dropouts
@both_encodings
def test_the_engines_leave_out_the_same(rates, encoding):
    matrix, _, _ = random_matrix()
    dense, sparse = (
        gradients_of(build(engine, **rates, **encoding), matrix, range(ROWS))[0]
        for engine in ENGINES
    )
    for one, two in zip(dense, sparse, strict=True):
        assert_close(one, two)


@pytest.mark.parametrize("activation", ["identity", "sigmoid", "tanh", "relu", "elu"])
@pytest.mark.parametrize("rating", [1.0, 3.6, 5.0])
def test_the_output_starts_at_the_rating_asked_for(activation, rating):
    model = build(output_activation=activation)
    model.initialise_bias(rating)
    at_the_ends = 0.05 if activation in ("sigmoid", "tanh") else 0
    np.testing.assert_allclose(model.output(model.b), rating, rtol=0, atol=1e-5 + at_the_ends)
