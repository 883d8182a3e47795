"""The synthetic stand-in: MovieLens-1M's size and counts, and something to learn in it."""

import tracemalloc

import numpy as np
import pytest

from autorec_tf.data import synthetic
from autorec_tf.data.synthetic import synthetic_ratings


@pytest.fixture(scope="module")
def columns():
    """Users, items and ratings of the default seed."""
    return synthetic_ratings(1994)


@pytest.fixture
def small(monkeypatch):
    """Makes the stand-in small: 600 users, 400 items, 20,000 ratings."""
    monkeypatch.setattr(synthetic, "ML_1M_USERS", 600)
    monkeypatch.setattr(synthetic, "ML_1M_ITEMS", 400)
    monkeypatch.setattr(synthetic, "ML_1M_COUNTS", (1_000, 2_000, 5_000, 7_000, 5_000))


def test_it_has_the_size_and_the_rating_counts_of_ml_1m(columns):
    users, items, values = columns
    assert np.array_equal(np.flatnonzero(np.bincount(users)), np.arange(1, 6_041))
    assert np.array_equal(np.flatnonzero(np.bincount(items)), np.arange(1, 3_707))
    assert np.bincount(values).tolist() == [0, 56_174, 107_557, 261_197, 348_971, 226_310]
    assert len(users) == len(items) == len(values) == 1_000_209


def test_no_user_rates_an_item_twice(columns):
    users, items, _ = columns
    assert np.diff(np.sort(users * 10_000 + items)).all()


def test_every_user_rates_at_least_20_items(columns):
    assert np.bincount(columns[0])[1:].min() >= 20


@pytest.mark.parametrize("column", [0, 1], ids=["users", "items"])
def test_popularity_has_a_heavy_tail(columns, column):
    counts = np.sort(np.bincount(columns[column])[1:])[::-1]
    assert counts[: len(counts) // 10].sum() > 0.35 * counts.sum()
    assert counts[0] > 10 * np.median(counts)
    order = np.argsort(-np.bincount(columns[column])[1:])
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.1  # not sorted by id


@pytest.mark.parametrize("column", [0, 1], ids=["users", "items"])
def test_means_of_users_and_of_items_explain_part_of_the_variance(columns, column):
    ids, deviation = columns[column], columns[2] - columns[2].mean()
    explained = np.sum(means_by(ids, deviation)[ids] ** 2) / np.sum(deviation**2)
    assert 0.1 < explained < 0.4


def test_a_few_latent_factors_are_left_when_the_means_are_gone(columns):
    users, items, values = columns
    residual = values - means_by(items, values)[items]
    residual -= means_by(users, residual)[users]
    size = 300  # the most active users and the most popular items
    rows, cols = (places_of_most_frequent(ids, size)[ids] for ids in (users, items))
    inside = (rows < size) & (cols < size)
    block, shuffled = np.zeros((size, size)), np.zeros((size, size))
    block[rows[inside], cols[inside]] = residual[inside]
    order = np.random.default_rng(0).permutation(inside.sum())
    shuffled[rows[inside], cols[inside]] = residual[inside][order]
    strengths = np.linalg.svd(block, compute_uv=False)
    noise = np.linalg.svd(shuffled, compute_uv=False)[0]
    assert strengths[synthetic.FACTORS - 1] > 1.2 * noise > strengths[synthetic.FACTORS]


def means_by(ids, values):
    """The mean of `values` for each id, 0 for an id that does not occur."""
    return np.bincount(ids, values) / np.maximum(np.bincount(ids), 1)


def places_of_most_frequent(column, size):
    """For each id, its place among the `size` most frequent, or `size` if it is not there."""
    places = np.full(column.max() + 1, size)
    places[np.argsort(-np.bincount(column), kind="stable")[:size]] = np.arange(size)
    return places


def test_the_same_seed_gives_the_same_ratings_and_another_seed_others(small):
    first, again, other = (np.stack(synthetic_ratings(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    for column in (0, 1, 2):
        assert not np.array_equal(first[column], other[column])


def test_it_does_not_depend_on_numpys_global_state(small):
    np.random.seed(1)
    first = np.stack(synthetic_ratings(3))
    np.random.seed(2)
    assert np.array_equal(first, np.stack(synthetic_ratings(3)))


def test_every_item_occurs_even_if_it_is_hardly_ever_drawn(small, monkeypatch):
    monkeypatch.setattr(synthetic, "ML_1M_ITEMS", 3_000)
    assert np.array_equal(np.unique(synthetic_ratings(1)[1]), np.arange(1, 3_001))


def test_it_is_drawn_without_a_users_by_items_array(monkeypatch):
    users, items = 1_500, 2_000
    monkeypatch.setattr(synthetic, "ML_1M_USERS", users)
    monkeypatch.setattr(synthetic, "ML_1M_ITEMS", items)
    monkeypatch.setattr(synthetic, "ML_1M_COUNTS", (400, 800, 2_000, 2_800, 2_000))
    monkeypatch.setattr(synthetic, "LEAST_ACTIVITY", 2)
    monkeypatch.setattr(synthetic, "BLOCK", 8)
    tracemalloc.start()
    try:
        synthetic_ratings(1)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < users * items  # bytes: not even a mask
