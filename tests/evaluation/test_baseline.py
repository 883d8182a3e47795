"""Biases, the cold rule and final predictions, against plain loops and arithmetic by hand."""

import math

import numpy as np
import pytest

from autorec_tf.data.ratings import RatingMatrix, Ratings, RatingUnit, Split, index_ratings
from autorec_tf.evaluation.baseline import (
    Baseline,
    PredictionPostprocessor,
    cold_baseline,
    fit_baseline,
)
from autorec_tf.evaluation.metrics import score
from data_preprocessor import split_ratings
from tests import plain

STARS = (1.0, 5.0)
SCALES = [STARS, (0.5, 4.0), (0.0, 1.0), (1.0, 100.0), (-10.0, 10.0)]
both_orientations = pytest.mark.parametrize("orientation", ["item", "user"])
both_rules = pytest.mark.parametrize("rule", ["mean", "paper"])


def random_ratings(scale=STARS, num_users=25, num_items=17, num_ratings=130):
    """Whole-number levels on `scale`; few ratings, so that some users and items become cold."""
    rng = np.random.default_rng(3)
    pairs = rng.permutation(num_users * num_items)[:num_ratings]
    values = scale[0] + rng.integers(0, 5, num_ratings) / 4 * (scale[1] - scale[0])
    return index_ratings("made up", pairs // num_items, pairs % num_items, values, scale)


def in_file(split, matrix):
    """User, item and rating in the file's unit of each rating of a matrix of `split`."""
    users, items, values = plain.by_user(matrix, split.orientation)
    if split.unit.file_scale != split.unit.model_scale:
        values = plain.to_file(values, split.unit.file_scale)
    return users, items, values


def counts(split):
    """Training ratings of each user, and of each item."""
    train = split.train
    both = train.row_counts, train.column_counts
    return both if split.orientation == "user" else both[::-1]


# The biases


@both_orientations
def test_biases_equal_a_plain_loop_over_the_equations(orientation):
    ratings = random_ratings()
    split = split_ratings(ratings, 0.5, 1, orientation)
    found = fit_baseline(split)
    triples = zip(*plain.by_user(split.train, orientation), strict=True)
    mu, b_u, b_i = plain.biases(triples, ratings.num_users, ratings.num_items)
    rows, columns = (b_u, b_i) if orientation == "user" else (b_i, b_u)
    assert found.mean == pytest.approx(mu, rel=1e-12)
    np.testing.assert_allclose(found.row_bias, rows, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.column_bias, columns, rtol=1e-9, atol=1e-12)
    of_user, of_item = counts(split)
    assert (b_u[of_user == 0] == 0).all() and (b_i[of_item == 0] == 0).all()
    assert 0 in of_user or 0 in of_item


def test_biases_of_one_rating_each_equal_arithmetic_by_hand():
    # User 0 rates item 0 with 5, user 1 item 1 with 1: each is damped by the other's part.
    train = RatingMatrix.from_triples(
        np.array([0, 1]), np.array([0, 1]), np.array([5, 1], np.float32), (2, 2)
    )
    found = fit_baseline(Split(train, train))
    user = item = 0.0
    for _ in range(10):
        item = (2 - user) / 11
        user = (2 - item) / 16
    assert found.mean == 3
    np.testing.assert_allclose(found.row_bias, [item, -item], rtol=1e-12)
    np.testing.assert_allclose(found.column_bias, [user, -user], rtol=1e-12)
    pairs = np.array([0, 0, -1, -1]), np.array([0, -1, 1, -1])
    expected = [3 + item + user, 3 + item, 3 - user, 3]
    np.testing.assert_allclose(found.predict(*pairs), expected, rtol=1e-12)
    np.testing.assert_allclose(found.transposed().predict(*pairs[::-1]), expected, rtol=1e-12)


@both_orientations
def test_biases_on_ml_1m_reach_the_published_rmse(ml_1m_split, orientation):
    """As Surprise's BaselineOnly does on this split."""
    split = ml_1m_split if orientation == "item" else ml_1m_split.transposed()
    test, baseline = split.test, fit_baseline(split)
    predictions = np.clip(baseline.predict(test.rows, test.indices), 1, 5)
    assert score(predictions, test.values).rmse == pytest.approx(0.9102, abs=1e-4)


# Final predictions


def finish(predictions, cold, scale=STARS, rule="paper"):
    """Final predictions of pairs of which some are cold, on a scale that is not mapped."""
    rows = np.arange(len(predictions), dtype=np.int32)
    warm = np.append(rows[~np.asarray(cold)], len(rows)).astype(np.int32)
    shape, zeros = (len(rows) + 1, 2), np.zeros(len(rows), np.int32)
    train = RatingMatrix.from_triples(
        warm, np.append(zeros[: len(warm) - 1] + 1, 0).astype(np.int32),
        np.full(len(warm), scale[0], np.float32), shape,
    )
    test = RatingMatrix.from_triples(rows, zeros, np.full(len(rows), scale[1], np.float32), shape)
    split = Split(train, test, unit=RatingUnit(scale, scale))
    return PredictionPostprocessor(split, test, rule)(predictions)


def warm(num_pairs):
    return np.zeros(num_pairs, bool)


def test_predictions_are_clipped_to_the_scale():
    final = finish(np.array([-7.0, 0.9, 1.0, 3.3, 5.0, 5.1, 99.0]), warm(7))
    assert final.tolist() == [1.0, 1.0, 1.0, 3.3, 5.0, 5.0, 5.0]
    assert finish(np.array([0.1]), warm(1), (0.5, 4.0)).tolist() == [0.5]


def test_errors_are_those_of_the_clipped_prediction():
    final = finish(np.array([9.0, -4.0]), warm(2))
    assert score(final, np.array([5, 2])).squared_error == 1.0


def test_by_the_papers_rule_a_cold_pair_is_3_whatever_the_model_says():
    final = finish(np.array([4.5, 4.5, np.nan]), [True, False, True])
    assert final.tolist() == [3.0, 4.5, 3.0]
    scores = score(final, np.array([5.0, 5.0, 1.0]))
    assert scores.squared_error == 4.0 + 0.25 + 4.0
    assert scores.num_ratings == 3


def test_single_precision_predictions_are_scored_in_double_precision():
    predictions = np.array([3.1, 4.7, 1.3] * 1_000, np.float32)
    ratings = np.array([3, 5, 2] * 1_000, np.float32)
    errors = [p - r for p, r in zip(predictions.tolist(), ratings.tolist(), strict=True)]
    final = finish(predictions, warm(3_000))
    scores = score(final, ratings)
    assert final.dtype == np.float64
    assert scores.squared_error == pytest.approx(math.fsum(e * e for e in errors), rel=1e-13)
    assert scores.mae == pytest.approx(math.fsum(map(abs, errors)) / 3_000, rel=1e-13)


def test_finishing_leaves_the_raw_predictions_as_they_are():
    predictions = np.array([0.0, 9.0])
    finish(predictions, [True, False])
    assert predictions.tolist() == [0, 9]


# The cold rule


@both_rules
@both_orientations
@pytest.mark.parametrize("scale", SCALES, ids=str)
def test_final_predictions_equal_arithmetic_in_the_files_unit(scale, orientation, rule):
    ratings = random_ratings(scale)
    split = split_ratings(ratings, 0.4, 1, orientation)
    mu, b_u, b_i = plain.biases(
        zip(*in_file(split, split.train), strict=True), ratings.num_users, ratings.num_items
    )
    users, items, _ = in_file(split, split.test)
    raw = np.random.default_rng(0).normal(3, 2, len(users)).astype(np.float32)
    of_user, of_item = (x[i] == 0 for x, i in zip(counts(split), (users, items), strict=True))
    assert of_user.any() and of_item.any() and not (of_user | of_item).all()
    # A cold user's or item's own bias is 0: what is left is the part that is known.
    cold_ratings = 3.0 if rule == "paper" else mu + b_u[users] + b_i[items]
    mapped = split.unit.model_scale != scale
    assert mapped == (scale not in (STARS, (0.5, 4.0)))
    in_unit = plain.to_file(raw, scale) if mapped else raw
    expected = plain.final_predictions(in_unit, of_user | of_item, scale, cold_ratings)
    found = PredictionPostprocessor(split, split.test, rule)(raw)
    width = scale[1] - scale[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * width)


@both_rules
def test_nothing_is_cold_where_everything_has_a_rating(rule):
    assert finish(np.array([2.0, 9.0]), warm(2), rule=rule).tolist() == [2, 5]


@both_orientations
def test_of_a_user_and_an_item_both_cold_the_mean_is_predicted(orientation):
    split = split_ratings(random_ratings((0.0, 10.0)), 0.4, 1, orientation)
    cold = cold_baseline(split, "mean")
    _, _, values = in_file(split, split.train)
    assert split.unit.to_file(cold.predict(np.array([-1]), np.array([-1])))[0] == pytest.approx(
        values.mean(), rel=1e-6
    )


def test_a_known_part_beyond_the_scale_is_clipped():
    """Item 0 is rated 5 by users who rate all else 1: the mean and its part are beyond 5."""
    liked = [(user, 0, 5) for user in range(60)]
    hated = [(user, item, 1) for user in range(60) for item in range(1, 41)]
    other = [(user, item, 5) for user in range(60, 120) for item in range(41, 81)]
    rows, columns, values = np.array(liked + hated + other).T
    train = RatingMatrix.from_triples(rows, columns, values.astype(np.float32), (121, 81))
    test = RatingMatrix.from_triples(
        np.array([120]), np.array([0]), np.array([5], np.float32), (121, 81)
    )
    split = Split(train, test, orientation="user", unit=RatingUnit(STARS, STARS))
    biases = fit_baseline(split)
    assert biases.mean + biases.row_bias[120] + biases.column_bias[0] > 5
    assert PredictionPostprocessor(split, test, "mean")(np.zeros(1)).tolist() == [5]


# Ratings as of songs: 1 to 100, a third of the test pairs of users that are new


def like_yahoo_music():
    """60 users and 40 items; users 50 to 59 have test ratings alone, a third of these."""
    rng = np.random.default_rng(8)
    known = rng.permutation(50 * 40)[:700]
    new = rng.permutation(10 * 40)[:100] + 50 * 40
    pairs = np.concatenate([known, new])
    users, items = pairs // 40, pairs % 40
    taste = rng.normal(0, 18, 40)[items] + rng.normal(0, 10, 60)[users]
    values = np.clip(np.round(50 + taste + rng.normal(0, 20, len(pairs))), 1, 100)
    held_out = np.arange(len(pairs)) >= 500
    made = index_ratings("songs", users, items, values, (1.0, 100.0))
    ratings = Ratings(
        made.name, made.users, made.items, made.values, made.user_ids, made.item_ids, made.scale,
        held_out,
    )
    return ratings, users, items, values, held_out


@both_orientations
def test_the_rmse_of_cold_pairs_on_a_scale_to_100_equals_arithmetic(orientation):
    ratings, users, items, values, held_out = like_yahoo_music()
    split = split_ratings(ratings, 0.9, 1, orientation)
    cold = held_out & (users >= 50)
    assert cold.sum() * 3 == held_out.sum() == len(split.test)
    known = zip(users[~held_out], items[~held_out], values[~held_out], strict=True)
    mu, _, b_i = plain.biases(known, 60, 40)
    expected = {
        "mean": plain.rmse(mu + b_i[items[cold]] - values[cold]),
        "paper": plain.rmse(3 - values[cold]),
    }
    of_user, _, tested = in_file(split, split.test)
    for rule, rmse in expected.items():
        final = PredictionPostprocessor(split, split.test, rule)(np.full(len(split.test), 2.5))
        assert plain.rmse((final - tested)[of_user >= 50]) == pytest.approx(rmse, rel=1e-6)
        np.testing.assert_allclose(final[of_user < 50], 38.125, rtol=1e-12)
    assert expected["mean"] < 30 < 45 < expected["paper"]


def test_a_baseline_knows_nothing_of_an_index_below_0():
    cold = Baseline(2.0, np.array([0.5]), np.array([0.25, -1.0]))
    found = cold.predict(np.array([[-1], [0]]), np.array([0, 1, -1]))
    assert found.tolist() == [[2.25, 1.0, 2.0], [2.75, 1.5, 2.5]]
