"""Scores of slices and of bins of like ratings, against arithmetic done by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

from autorec_tf.evaluation.metrics import cold_pairs, score
from autorec_tf.evaluation.slices import (
    SLICE_EDGES,
    Slice,
    by_value,
    calibration,
    even_edges,
    slices,
)
from tests.plain import final_predictions

SCALE = (1.0, 5.0)


def test_a_slice_holds_the_pairs_with_low_to_high_training_ratings():
    counts = np.array([0, 1, 9, 10, 19, 1000, 4_321])
    found = slices(np.full(7, 3.0), np.full(7, 2.0), np.full(7, 4.0), counts)
    assert [(s.low, s.high, s.scores.num_ratings) for s in found] == [
        (0, 0, 1), (1, 9, 2), (10, 19, 2), (1000, None, 2),
    ]
    assert [s.label for s in found] == ["0", "1–9", "10–19", "1,000+"]


@pytest.mark.parametrize("low, next_low", [*pairwise(SLICE_EDGES)])
def test_both_ends_of_a_slice_are_in_it_and_the_next_is_not(low, next_low):
    counts = np.array([next_low - 1, low, next_low])
    first, second = slices(np.ones(3), np.ones(3), np.ones(3), counts)
    assert (first.low, first.high, first.scores.num_ratings) == (low, next_low - 1, 2)
    assert (second.low, second.scores.num_ratings) == (next_low, 1)


def test_the_scores_of_a_slice_equal_hand_arithmetic():
    # Clipped to 5 and 1 in the second slice; cold, so 3, in the first.
    predictions, ratings = np.array([7.0, -2.0, 3.5, np.nan]), np.array([4.0, 1.0, 3.0, 5.0])
    cold = np.array([False, False, False, True])
    final = final_predictions(predictions, cold, SCALE)
    biases = np.array([4.0, 2.0, 3.0, 3.0])
    few, many = slices(final, biases, ratings, np.array([7, 7, 2, 0]), edges=(0, 5))
    assert (few.low, few.high, many.low, many.high) == (0, 4, 5, None)
    assert few.scores.squared_error == 0.25 + 4.0 and few.scores.mae == (0.5 + 2.0) / 2
    assert many.scores.squared_error == 1.0 and many.scores.mae == 0.5
    assert many.scores.rmse == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert (few.scores.num_ratings, many.scores.num_ratings) == (2, 2)
    assert (few.biases.squared_error, many.biases.squared_error) == (4.0, 1.0)
    # The squared errors of the second slice differ by 1 and by -1: the standard error of their
    # mean is 1, and the RMSEs add up to 2 * sqrt(0.5).
    assert many.standard_error == pytest.approx(1 / (2 * math.sqrt(0.5)), rel=1e-15)
    (alone,) = slices(final[:1], biases[:1], ratings[:1], np.array([7]))
    assert math.isnan(alone.standard_error)


def test_slices_of_ml_1m_by_user_and_by_item_add_up_to_the_whole(ml_1m_split):
    train, test = ml_1m_split.train, ml_1m_split.test
    rng = np.random.default_rng(3)
    predictions = test.values + rng.normal(0, 1, len(test)).astype(np.float32)
    cold = cold_pairs(train, test.rows, test.indices)
    predictions = final_predictions(predictions, cold, SCALE)
    whole = score(predictions, test.values)
    of_item, of_user = train.row_counts[test.rows], train.column_counts[test.indices]
    for counts in (of_user, of_item):
        parts = [s.scores for s in slices(predictions, predictions, test.values, counts)]
        shares = [part.num_ratings / len(test) for part in parts]
        mean_square = sum(w * part.rmse**2 for w, part in zip(shares, parts, strict=True))
        assert len(parts) >= 6 and len({part.rmse for part in parts}) == len(parts)
        assert sum(part.num_ratings for part in parts) == whole.num_ratings == 100_021
        assert mean_square == pytest.approx(whole.rmse**2, rel=1e-12)
        assert sum(w * p.mae for w, p in zip(shares, parts, strict=True)) == pytest.approx(
            whole.mae, rel=1e-12
        )
    assert cold.any()


def test_slices_equal_a_loop_over_the_pairs():
    rng = np.random.default_rng(4)
    predictions, ratings = rng.normal(3, 2, 500), rng.integers(1, 6, 500)
    cold, counts = rng.random(500) < 0.1, rng.integers(0, 40, 500)
    final = final_predictions(predictions, cold, SCALE)
    found = {(s.low, s.high): s for s in slices(final, np.full(500, 3.0), ratings, counts)}
    assert set(found) == {(0, 0), (1, 9), (10, 19), (20, 49)}
    for (low, high), part in found.items():
        errors = [
            (3.0 if c else min(max(p, 1.0), 5.0)) - r
            for p, r, c, n in zip(predictions, ratings, cold, counts, strict=True)
            if low <= n <= high
        ]
        assert part.scores.num_ratings == len(errors)
        assert part.scores.rmse == pytest.approx(
            math.sqrt(math.fsum(e * e for e in errors) / len(errors)), rel=1e-12
        )
        of_3 = [(3.0 - r) ** 2 for r, n in zip(ratings, counts, strict=True) if low <= n <= high]
        assert part.biases.rmse == pytest.approx(math.sqrt(math.fsum(of_3) / len(of_3)), rel=1e-12)


def test_a_slice_is_labelled_with_both_ends_unless_they_are_one():
    scores = score(np.ones(1), np.ones(1))
    assert Slice(1_000, 1_999, scores, scores, 0.0).label == "1,000–1,999"
    assert Slice(7, 7, scores, scores, 0.0).label == "7"


# Bins of like ratings


def test_the_bins_of_each_true_rating_equal_hand_arithmetic():
    # Clipped to 5 and to 1; the last is cold, so 3.
    predictions, ratings = np.array([7.0, -2.0, 3.5, 4.0, np.nan]), np.array([4, 1, 4, 1, 5])
    cold = np.array([False] * 4 + [True])
    final = final_predictions(predictions, cold, SCALE)
    one, four, five = by_value(final, ratings.astype(np.float32), SCALE)
    assert [(b.low, b.high, b.label) for b in (one, four, five)] == [
        (1, 1, "1"), (4, 4, "4"), (5, 5, "5"),
    ]
    assert (one.mean_prediction, one.bias, one.mean_rating) == ((1 + 4) / 2, 1.5, 1)
    assert (four.mean_prediction, four.bias, four.mean_rating) == ((5 + 3.5) / 2, 0.25, 4)
    assert (five.mean_prediction, five.bias, five.mean_rating) == (3, -2, 5)
    assert one.scores.rmse == pytest.approx(math.sqrt(9 / 2), rel=1e-15)
    assert four.scores.squared_error == 1.25 and four.scores.mae == 0.75
    assert [b.scores.num_ratings for b in (one, four, five)] == [2, 2, 1]


def test_calibration_bins_the_final_predictions():
    # 0.5 is clipped to 1, 9 to 5; 2.25 begins a bin, and the cold pair is predicted 3.
    predictions = np.array([0.5, 1.1, 2.25, 2.3, 9.0, 4.8, 1.2])
    ratings, cold = np.array([2.0, 1, 3, 2, 5, 4, 4]), np.array([False] * 6 + [True])
    found = calibration(final_predictions(predictions, cold, SCALE), ratings, SCALE)
    assert [(b.label, b.scores.num_ratings) for b in found] == [
        ("1–1.25", 2), ("2.25–2.5", 2), ("3–3.25", 1), ("4.75–5", 2),
    ]
    assert [b.mean_rating for b in found] == [1.5, 2.5, 4, 4.5]
    assert [b.mean_prediction for b in found] == pytest.approx(
        [(1 + 1.1) / 2, (2.25 + 2.3) / 2, 3, (5 + 4.8) / 2], rel=1e-15
    )


@pytest.mark.parametrize(
    "scale, edges",
    [
        ((1, 5), np.arange(1, 5.01, 0.25)), ((0.5, 5), np.arange(0.5, 5.01, 0.5)),
        ((1, 10), np.arange(1, 11)), ((0, 100), np.arange(0, 101, 10)),
        ((-10, 10), np.arange(-10, 11, 2)), ((0, 1), np.arange(0, 1.01, 0.1)),
        ((0, 7e-9), np.arange(0, 7.1e-9, 5e-10)), ((0, 3), np.arange(0, 3.1, 0.2)),
    ],
)
def test_even_bins_are_few_a_round_number_apart_and_cover_the_scale(scale, edges):
    assert even_edges(scale) == pytest.approx(edges, rel=1e-12)
    assert len(edges) - 1 <= 16 and edges[-1] >= scale[1] * (1 - 1e-12)


def test_many_different_ratings_are_binned_and_none_is_lost():
    rng = np.random.default_rng(5)
    ratings, predictions = rng.uniform(-10, 10, 1_000), rng.uniform(-12, 12, 1_000)
    ratings[:2] = -10, 10
    cold, scale = rng.random(1_000) < 0.1, (-10.0, 10.0)
    final = final_predictions(predictions, cold, scale)
    whole = score(final, ratings)
    for found in (f(final, ratings, scale) for f in (by_value, calibration)):
        assert len(found) == 10 and found[0].label == "-10–-8"
        assert sum(b.scores.num_ratings for b in found) == 1_000
        total = sum(b.scores.squared_error for b in found)
        assert total == pytest.approx(whole.squared_error, rel=1e-12)
        error = sum(b.bias * b.scores.num_ratings for b in found) / 1_000
        assert error == pytest.approx(np.mean(final - ratings), rel=1e-9)


def test_a_cold_pair_is_in_a_bin_where_3_is_beyond_the_scale():
    scale = (10.0, 100.0)
    final = final_predictions(np.array([50.0, 99.0]), np.array([False, True]), scale)
    found = calibration(final, np.array([60.0, 90.0]), scale)
    assert [(b.label, b.mean_prediction) for b in found] == [("10–20", 3), ("50–60", 50)]
