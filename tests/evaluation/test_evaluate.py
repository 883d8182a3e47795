"""What a trained model is worth: every pair's prediction, slices and rankings, either way round."""

import numpy as np
import pytest

from AutoRec import AutoRec
from config import Config
from data.ratings import index_ratings
from data_preprocessor import split_ratings
from evaluation.evaluate import item_vectors, ranked, scores, sliced, user_blocks
from evaluation.metrics import cold_pairs, score
from model.batch import sparse_rows

SCALE = (1.0, 5.0)
USERS, ITEMS = 60, 40
ENGINES = ("dense", "sparse")
ORIENTATIONS = ("item", "user")
both_orientations = pytest.mark.parametrize("orientation", ORIENTATIONS)


def random_split(orientation="item", train_ratio=0.5):
    """A split of 60 users, 40 items that some of them rate, and one that everyone rates."""
    rng = np.random.default_rng(2)
    pairs = rng.permutation(USERS * ITEMS)[:500]
    users, items = pairs // ITEMS, pairs % ITEMS
    users = np.append(users, np.arange(USERS))
    items = np.append(items, np.full(USERS, ITEMS))
    ratings = index_ratings("made up", users, items, rng.integers(1, 6, len(users)), SCALE)
    return split_ratings(ratings, train_ratio, 1, orientation)


def random_model(split, **settings):
    """A model with large parameters, so that predictions are far apart."""
    config = Config(**dict(hidden_neuron=6, engine="dense") | settings)
    model = AutoRec(split.train.num_columns, config, SCALE)
    rng = np.random.default_rng(7)
    for x in model.parameters:
        x.assign(rng.normal(0, 0.5, x.shape).astype(np.float32))
    return model


@both_orientations
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"hidden_neuron": (6, 3, 4), "output_activation": "sigmoid", "dropout": 0.5}],
    ids=str,
)
def test_blocks_of_users_are_the_predictions_of_all_pairs(orientation, engine, settings):
    split = random_split(orientation)
    model = random_model(split, engine=engine, **settings)
    users, items = (x.ravel() for x in np.indices((USERS, ITEMS + 1)))
    pairs = (items, users) if orientation == "item" else (users, items)
    expected = model.predict(sparse_rows(split.train), *pairs).reshape(USERS, ITEMS + 1)
    block = user_blocks(model, model.codes(sparse_rows(split.train)), orientation)
    np.testing.assert_allclose(block(0, USERS), expected, atol=1e-5)
    np.testing.assert_allclose(block(17, 23), expected[17:23], atol=1e-5)
    assert expected.std() > 0.1


@both_orientations
def test_what_is_learned_of_items_is_their_codes_or_their_weights(orientation):
    split = random_split(orientation)
    model = random_model(split)
    found = item_vectors(model, model.codes(sparse_rows(split.train)), orientation)
    codes = model.codes(sparse_rows(split.train))
    assert found.shape == (ITEMS + 1, 6)
    np.testing.assert_array_equal(found, codes if orientation == "item" else model.Wt)


def test_scores_apply_the_scale_and_the_cold_rule():
    split = random_split(train_ratio=0.1)
    test, rng = split.test, np.random.default_rng(0)
    predictions = rng.normal(3, 3, len(test)).astype(np.float32)
    cold = cold_pairs(split.train, test.rows, test.indices)
    assert cold.any() and not cold.all()
    error = np.where(cold, 3, np.clip(predictions.astype(np.float64), 1, 5)) - test.values
    found = scores(split, predictions, SCALE)
    assert found == score(predictions, test.values, cold, SCALE)
    assert found.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
    assert found.num_cold == cold.sum()


@both_orientations
def test_slices_add_up_to_all_test_ratings(orientation):
    split = random_split(orientation)
    predictions = np.random.default_rng(0).normal(3, 1, len(split.test)).astype(np.float32)
    total, parts = scores(split, predictions, SCALE), sliced(split, predictions, SCALE, orientation)
    assert set(parts) == {"user", "item"}
    for axis in parts.values():
        assert len(axis) > 1
        assert sum(part.scores.num_ratings for part in axis) == total.num_ratings
        squared_error = sum(part.scores.squared_error for part in axis)
        assert squared_error == pytest.approx(total.squared_error, rel=1e-9)


def test_slices_are_the_same_in_both_orientations():
    by_item, by_user = (random_split(orientation) for orientation in ORIENTATIONS)
    predictions = np.random.default_rng(0).normal(3, 1, len(by_item.test)).astype(np.float32)
    order = np.lexsort((by_item.test.rows, by_item.test.indices))  # by user, then by item
    assert np.array_equal(by_item.test.values[order], by_user.test.values)
    one = sliced(by_item, predictions, SCALE, "item")
    other = sliced(by_user, predictions[order], SCALE, "user")
    for axis in ("user", "item"):
        assert [part.label for part in one[axis]] == [part.label for part in other[axis]]
        for a, b in zip(one[axis], other[axis], strict=True):
            assert a.scores.num_ratings == b.scores.num_ratings
            assert a.scores.rmse == pytest.approx(b.scores.rmse, rel=1e-12)
    assert [p.label for p in one["user"]] != [p.label for p in one["item"]]


def test_slices_count_the_training_ratings_of_users_and_of_items():
    split = random_split()
    parts = sliced(split, np.full(len(split.test), 3, np.float32), SCALE, "item")
    by_user = split.train.column_counts[split.test.indices]
    by_item = split.train.row_counts[split.test.rows]
    for axis, counts in (("user", by_user), ("item", by_item)):
        for part in parts[axis]:
            high = np.inf if part.high is None else part.high
            assert part.scores.num_ratings == ((counts >= part.low) & (counts <= high)).sum()


def test_rankings_are_the_same_in_both_orientations():
    by_item, by_user = (random_split(orientation) for orientation in ORIENTATIONS)
    table = np.random.default_rng(0).normal(3, 1, (USERS, ITEMS + 1)).astype(np.float32)
    one = ranked(by_item, lambda first, last: table[first:last], "item")
    assert one == ranked(by_user, lambda first, last: table[first:last], "user")
    assert 0 < one.ndcg < 1 and 0 < one.num_users <= USERS


@both_orientations
def test_who_predicts_the_test_ratings_ranks_best(orientation):
    split = random_split(orientation)
    by_user = split if orientation == "user" else split.transposed()
    table = np.zeros((USERS, ITEMS + 1))
    table[by_user.test.rows, by_user.test.indices] = by_user.test.values
    best = ranked(split, lambda first, last: table[first:last], orientation)
    worst = ranked(split, lambda first, last: -table[first:last], orientation)
    assert best.ndcg > 0.95 and worst.ndcg < 0.2
