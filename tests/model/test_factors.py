"""Predictions by NumPy, against sums in float64, one pair at a time."""

from dataclasses import replace

import numpy as np
import pytest

from autorec_tf.model import factors as module
from autorec_tf.model.factors import Factors, blended

SCALE = (0.5, 4.0)
USERS, ITEMS, UNITS = 11, 7, 5
EVERYONE, EVERYTHING = (x.ravel() for x in np.indices((USERS, ITEMS)))
ACTIVATIONS = {
    "identity": lambda x: x,
    "sigmoid": lambda x: 0.5 + 3.5 / (1 + np.exp(-x)),
    "relu": lambda x: x if x > 0 else 0.0,
    "tanh": lambda x: 0.5 + 3.5 * (np.tanh(x) + 1) / 2,
    "elu": lambda x: x if x > 0 else np.exp(x) - 1,
}
both_orientations = pytest.mark.parametrize("orientation", ["item", "user"])
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)


def random_factors(orientation="item", activation="identity", seed=1):
    rng = np.random.default_rng(seed)
    rows, columns = (ITEMS, USERS) if orientation == "item" else (USERS, ITEMS)
    shapes = (rows, UNITS), (columns, UNITS), (columns,)
    codes, Wt, b = (rng.normal(0, 1, shape).astype(np.float32) for shape in shapes)
    return Factors(orientation, codes, Wt, b, activation, SCALE)


def expected(factors):
    """The predictions of all pairs, float64 [users, items]."""
    table = np.empty((USERS, ITEMS))
    for user, item in np.ndindex(table.shape):
        row, column = (item, user) if factors.orientation == "item" else (user, item)
        code = factors.row_embeddings[row].astype(np.float64)
        weights = factors.Wt[column].astype(np.float64)
        x = np.sum(code * weights) + float(factors.b[column])
        table[user, item] = ACTIVATIONS[factors.output_activation](x)
    return table


@both_orientations
@every_activation
def test_pairs_are_predicted_in_the_order_asked_for(orientation, activation):
    factors, rng = random_factors(orientation, activation), np.random.default_rng(2)
    users, items = rng.integers(0, USERS, 50), rng.integers(0, ITEMS, 50)
    found = factors.pairs(users, items)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected(factors)[users, items], rtol=0, atol=1e-5)


@both_orientations
@every_activation
def test_a_block_is_all_items_of_some_users(orientation, activation):
    factors = random_factors(orientation, activation)
    table = expected(factors)
    assert factors.block(slice(0, USERS)).dtype == np.float32
    for first, last in ((0, USERS), (3, 8), (USERS - 1, USERS)):
        found = factors.block(slice(first, last))
        np.testing.assert_allclose(found, table[first:last], rtol=0, atol=1e-5)
    for items in (slice(0, 1), slice(2, 5), slice(3, ITEMS)):
        found = factors.block(np.array([9, 0, 4]), items)
        np.testing.assert_allclose(found, table[[9, 0, 4], items], rtol=0, atol=1e-5)
    for users in ([4], [9, 0, 4], []):
        found = factors.block(np.array(users, np.int64))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, table[users], rtol=0, atol=1e-5)
    assert table.std() > 0.1


@both_orientations
@every_activation
def test_blocks_and_pairs_agree(orientation, activation):
    factors = random_factors(orientation, activation)
    pairs = factors.pairs(EVERYONE, EVERYTHING).reshape(USERS, ITEMS)
    np.testing.assert_allclose(factors.block(slice(0, USERS)), pairs, rtol=0, atol=1e-6)


@both_orientations
def test_many_pairs_are_predicted_as_few_are(orientation, monkeypatch):
    factors = random_factors(orientation)
    at_once = factors.pairs(EVERYONE, EVERYTHING)
    monkeypatch.setattr(module, "BLOCK", 10 * UNITS)
    np.testing.assert_allclose(factors.pairs(EVERYONE, EVERYTHING), at_once, rtol=0, atol=1e-6)
    assert factors.pairs(EVERYONE[:0], EVERYTHING[:0]).shape == (0,)


@every_activation
def test_nothing_overflows(activation):
    factors = replace(
        random_factors("user", activation), b=np.linspace(-1e6, 1e6, ITEMS, dtype=np.float32)
    )
    with np.errstate(over="raise", invalid="raise"):
        found = factors.block(slice(0, USERS))
    with np.errstate(over="ignore"):
        table = expected(factors)
    np.testing.assert_allclose(found, table, rtol=1e-6, atol=1e-5)


@both_orientations
def test_what_is_learned_of_items_has_a_row_for_each(orientation):
    factors = random_factors(orientation)
    found = factors.item_embeddings
    assert found is (factors.row_embeddings if orientation == "item" else factors.Wt)
    assert found.shape == (ITEMS, UNITS)


def test_a_blend_is_the_sum_of_predictions_by_weight():
    one = replace(random_factors("item"), weight=0.75)
    other = replace(random_factors("user", "sigmoid", seed=2), weight=0.5)
    total = 0.75 * expected(one) + 0.5 * expected(other)
    blocks = (f.block(slice(2, 9)) for f in (one, other))
    np.testing.assert_allclose(blended([one, other], blocks), total[2:9], rtol=0, atol=1e-5)
    pairs = [f.pairs(EVERYONE, EVERYTHING) for f in (one, other)]
    np.testing.assert_allclose(blended([one, other], pairs), total.ravel(), rtol=0, atol=1e-5)
    alone = replace(one, weight=1.0)
    np.testing.assert_array_equal(blended([alone], pairs[:1]), pairs[0])


def test_a_blend_needs_predictions_of_every_model():
    with pytest.raises(ValueError):
        blended([random_factors(), random_factors()], [np.ones(3)])
