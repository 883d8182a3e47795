"""Scores against arithmetic done by hand."""

import math
from itertools import pairwise

import numpy as np
import pytest

from data.ratings import RatingMatrix
from data_preprocessor import split_ratings
from evaluation.metrics import cold_pairs, final_predictions, score
from evaluation.slices import SLICE_EDGES, Slice, by_value, calibration, even_edges, slices

SCALE = (1.0, 5.0)


def warm(num_ratings):
    return np.zeros(num_ratings, bool)


def test_scores_equal_hand_arithmetic():
    scores = score(np.array([3.5, 2.0, 4.0]), np.array([3.0, 4.0, 4.0]), warm(3), SCALE)
    assert scores.squared_error == 0.25 + 4.0 + 0.0
    assert scores.rmse == pytest.approx(math.sqrt(4.25 / 3), rel=1e-15)
    assert scores.mae == pytest.approx(2.5 / 3, rel=1e-15)
    assert (scores.num_ratings, scores.num_cold) == (3, 0)


def test_predictions_are_clipped_to_the_scale():
    final = final_predictions(np.array([-7.0, 0.9, 1.0, 3.3, 5.0, 5.1, 99.0]), warm(7), SCALE)
    assert final.tolist() == [1.0, 1.0, 1.0, 3.3, 5.0, 5.0, 5.0]
    assert final_predictions(np.array([0.1]), warm(1), (0.5, 4.0)).tolist() == [0.5]


def test_errors_are_those_of_the_clipped_prediction():
    assert score(np.array([9.0, -4.0]), np.array([5, 2]), warm(2), SCALE).squared_error == 1.0


def test_a_cold_pair_is_predicted_3_whatever_the_model_says():
    cold = np.array([True, False, True])
    final = final_predictions(np.array([4.5, 4.5, np.nan]), cold, SCALE)
    assert final.tolist() == [3.0, 4.5, 3.0]
    scores = score(np.array([4.5, 4.5, np.nan]), np.array([5.0, 5.0, 1.0]), cold, SCALE)
    assert scores.squared_error == 4.0 + 0.25 + 4.0
    assert (scores.num_ratings, scores.num_cold) == (3, 2)


def test_a_pair_is_cold_if_its_row_or_its_column_has_no_training_rating():
    # . 1 .
    # . . .    row 1, columns 0 and 2 without ratings
    # . 2 .
    train = RatingMatrix.from_triples(
        np.array([0, 2]), np.array([1, 1]), np.array([1.0, 2.0]), (3, 3)
    )
    rows, columns = np.array([0, 2, 1, 0, 2, 1]), np.array([1, 1, 1, 0, 2, 2])
    assert cold_pairs(train, rows, columns).tolist() == [False, False, True, True, True, True]


def test_a_training_rating_of_zero_warms_its_row_and_column():
    train = RatingMatrix.from_triples(np.array([0]), np.array([0]), np.array([0.0]), (2, 2))
    assert cold_pairs(train, np.array([0, 1]), np.array([0, 0])).tolist() == [False, True]


def test_scores_do_not_depend_on_the_order_of_the_ratings():
    rng = np.random.default_rng(1)
    predictions, ratings = rng.normal(3, 2, 1_001), rng.integers(1, 6, 1_001)
    cold, order = rng.random(1_001) < 0.1, rng.permutation(1_001)
    one = score(predictions, ratings, cold, SCALE)
    other = score(predictions[order], ratings[order], cold[order], SCALE)
    assert other.rmse == pytest.approx(one.rmse, rel=1e-13)
    assert other.mae == pytest.approx(one.mae, rel=1e-13)
    assert other.num_cold == one.num_cold == cold.sum()


def test_squared_errors_of_uneven_parts_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    predictions, ratings = rng.normal(3, 1, 1_000), rng.integers(1, 6, 1_000)
    whole = score(predictions, ratings, warm(1_000), SCALE)
    parts = [
        score(p, r, warm(len(p)), SCALE)
        for p, r in zip(np.split(predictions, [7, 900]), np.split(ratings, [7, 900]), strict=True)
    ]
    total = sum(part.squared_error for part in parts)
    assert total == pytest.approx(whole.squared_error, rel=1e-13)
    assert whole.rmse == pytest.approx(math.sqrt(total / 1_000), rel=1e-13)


def test_single_precision_predictions_are_scored_in_double_precision():
    predictions = np.array([3.1, 4.7, 1.3] * 1_000, np.float32)
    ratings = np.array([3, 5, 2] * 1_000, np.float32)
    errors = [p - r for p, r in zip(predictions.tolist(), ratings.tolist(), strict=True)]
    scores = score(predictions, ratings, warm(3_000), SCALE)
    assert final_predictions(predictions, warm(3_000), SCALE).dtype == np.float64
    assert scores.squared_error == pytest.approx(math.fsum(e * e for e in errors), rel=1e-13)
    assert scores.mae == pytest.approx(math.fsum(map(abs, errors)) / 3_000, rel=1e-13)


def test_scoring_changes_none_of_its_inputs():
    arrays = np.array([0.0, 9.0]), np.array([1.0, 5.0]), np.array([True, False])
    copies = [array.copy() for array in arrays]
    score(*arrays, SCALE)
    assert all(np.array_equal(a, b) for a, b in zip(arrays, copies, strict=True))


# Slices


def test_a_slice_holds_the_pairs_with_low_to_high_training_ratings():
    counts = np.array([0, 1, 9, 10, 19, 1000, 4_321])
    found = slices(np.full(7, 3.0), np.full(7, 4.0), warm(7), SCALE, counts)
    assert [(s.low, s.high, s.scores.num_ratings) for s in found] == [
        (0, 0, 1), (1, 9, 2), (10, 19, 2), (1000, None, 2),
    ]  # fmt: skip
    assert [s.label for s in found] == ["0", "1–9", "10–19", "1,000+"]


@pytest.mark.parametrize("low, next_low", [*pairwise(SLICE_EDGES)])
def test_both_ends_of_a_slice_are_in_it_and_the_next_is_not(low, next_low):
    counts = np.array([next_low - 1, low, next_low])
    first, second = slices(np.ones(3), np.ones(3), warm(3), SCALE, counts)
    assert (first.low, first.high, first.scores.num_ratings) == (low, next_low - 1, 2)
    assert (second.low, second.scores.num_ratings) == (next_low, 1)


def test_the_scores_of_a_slice_equal_hand_arithmetic():
    # Clipped to 5 and 1 in the second slice; cold, so 3, in the first.
    predictions, ratings = np.array([7.0, -2.0, 3.5, np.nan]), np.array([4.0, 1.0, 3.0, 5.0])
    cold = np.array([False, False, False, True])
    few, many = slices(predictions, ratings, cold, SCALE, np.array([7, 7, 2, 0]), edges=(0, 5))
    assert (few.low, few.high, many.low, many.high) == (0, 4, 5, None)
    assert few.scores.squared_error == 0.25 + 4.0 and few.scores.mae == (0.5 + 2.0) / 2
    assert many.scores.squared_error == 1.0 and many.scores.mae == 0.5
    assert many.scores.rmse == pytest.approx(math.sqrt(0.5), rel=1e-15)
    assert (few.scores.num_cold, many.scores.num_cold) == (1, 0)


def test_slices_of_ml_1m_by_user_and_by_item_add_up_to_the_whole(ml_1m_ratings):
    split = split_ratings(ml_1m_ratings, 0.9, seed=1994)
    train, test = split.train, split.test
    rng = np.random.default_rng(3)
    predictions = test.values + rng.normal(0, 1, len(test)).astype(np.float32)
    cold = cold_pairs(train, test.rows, test.indices)
    whole = score(predictions, test.values, cold, SCALE)
    of_item, of_user = train.row_counts[test.rows], train.column_counts[test.indices]
    for counts in (of_user, of_item):
        parts = [s.scores for s in slices(predictions, test.values, cold, SCALE, counts)]
        shares = [part.num_ratings / len(test) for part in parts]
        mean_square = sum(w * part.rmse**2 for w, part in zip(shares, parts, strict=True))
        assert len(parts) >= 6 and len({part.rmse for part in parts}) == len(parts)
        assert sum(part.num_ratings for part in parts) == whole.num_ratings == 100_021
        assert mean_square == pytest.approx(whole.rmse**2, rel=1e-12)
        assert sum(w * p.mae for w, p in zip(shares, parts, strict=True)) == pytest.approx(
            whole.mae, rel=1e-12
        )
        assert sum(part.num_cold for part in parts) == whole.num_cold > 0


def test_slices_equal_a_loop_over_the_pairs():
    rng = np.random.default_rng(4)
    predictions, ratings = rng.normal(3, 2, 500), rng.integers(1, 6, 500)
    cold, counts = rng.random(500) < 0.1, rng.integers(0, 40, 500)
    found = {(s.low, s.high): s for s in slices(predictions, ratings, cold, SCALE, counts)}
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


def test_a_slice_is_labelled_with_both_ends_unless_they_are_one():
    scores = score(np.ones(1), np.ones(1), warm(1), SCALE)
    assert Slice(1_000, 1_999, scores).label == "1,000–1,999"
    assert Slice(7, 7, scores).label == "7"


# Bins of like ratings


def test_the_bins_of_each_true_rating_equal_hand_arithmetic():
    # Clipped to 5 and to 1; the last is cold, so 3.
    predictions, ratings = np.array([7.0, -2.0, 3.5, 4.0, np.nan]), np.array([4, 1, 4, 1, 5])
    cold = np.array([False] * 4 + [True])
    one, four, five = by_value(predictions, ratings.astype(np.float32), cold, SCALE)
    assert [(b.low, b.high, b.label) for b in (one, four, five)] == [
        (1, 1, "1"), (4, 4, "4"), (5, 5, "5"),
    ]  # fmt: skip
    assert (one.mean_prediction, one.bias, one.mean_rating) == ((1 + 4) / 2, 1.5, 1)
    assert (four.mean_prediction, four.bias, four.mean_rating) == ((5 + 3.5) / 2, 0.25, 4)
    assert (five.mean_prediction, five.bias, five.scores.num_cold) == (3, -2, 1)
    assert one.scores.rmse == pytest.approx(math.sqrt(9 / 2), rel=1e-15)
    assert four.scores.squared_error == 1.25 and four.scores.mae == 0.75
    assert [b.scores.num_ratings for b in (one, four, five)] == [2, 2, 1]


def test_calibration_bins_the_final_predictions():
    # 0.5 is clipped to 1, 9 to 5; 2.25 begins a bin, and the cold pair is predicted 3.
    predictions = np.array([0.5, 1.1, 2.25, 2.3, 9.0, 4.8, 1.2])
    ratings, cold = np.array([2.0, 1, 3, 2, 5, 4, 4]), np.array([False] * 6 + [True])
    found = calibration(predictions, ratings, cold, SCALE)
    assert [(b.label, b.scores.num_ratings) for b in found] == [
        ("1–1.25", 2), ("2.25–2.5", 2), ("3–3.25", 1), ("4.75–5", 2),
    ]  # fmt: skip
    assert [b.mean_rating for b in found] == [1.5, 2.5, 4, 4.5]
    assert [b.mean_prediction for b in found] == pytest.approx(
        [(1 + 1.1) / 2, (2.25 + 2.3) / 2, 3, (5 + 4.8) / 2], rel=1e-15
    )
    assert found[2].scores.num_cold == 1


@pytest.mark.parametrize(
    "scale, edges",
    [
        ((1, 5), np.arange(1, 5.01, 0.25)), ((0.5, 5), np.arange(0.5, 5.01, 0.5)),
        ((1, 10), np.arange(1, 11)), ((0, 100), np.arange(0, 101, 10)),
        ((-10, 10), np.arange(-10, 11, 2)), ((0, 1), np.arange(0, 1.01, 0.1)),
        ((0, 7e-9), np.arange(0, 7.1e-9, 5e-10)), ((0, 3), np.arange(0, 3.1, 0.2)),
    ],
)  # fmt: skip
def test_even_bins_are_few_a_round_number_apart_and_cover_the_scale(scale, edges):
    assert even_edges(scale) == pytest.approx(edges, rel=1e-12)
    assert len(edges) - 1 <= 16 and edges[-1] >= scale[1] * (1 - 1e-12)


def test_many_different_ratings_are_binned_and_none_is_lost():
    rng = np.random.default_rng(5)
    ratings, predictions = rng.uniform(-10, 10, 1_000), rng.uniform(-12, 12, 1_000)
    ratings[:2] = -10, 10
    cold, scale = rng.random(1_000) < 0.1, (-10.0, 10.0)
    whole = score(predictions, ratings, cold, scale)
    for found in (f(predictions, ratings, cold, scale) for f in (by_value, calibration)):
        assert len(found) == 10 and found[0].label == "-10–-8"
        assert sum(b.scores.num_ratings for b in found) == 1_000
        assert sum(b.scores.num_cold for b in found) == cold.sum()
        total = sum(b.scores.squared_error for b in found)
        assert total == pytest.approx(whole.squared_error, rel=1e-12)
        error = sum(b.bias * b.scores.num_ratings for b in found) / 1_000
        final = final_predictions(predictions, cold, scale)
        assert error == pytest.approx(np.mean(final - ratings), rel=1e-9)


def test_a_cold_pair_is_in_a_bin_where_3_is_beyond_the_scale():
    found = calibration(np.array([50.0, 99.0]), np.array([60.0, 90.0]),
                        np.array([False, True]), (10.0, 100.0))  # fmt: skip
    assert [(b.label, b.mean_prediction) for b in found] == [("10–20", 3), ("50–60", 50)]
