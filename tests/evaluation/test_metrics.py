"""Scores against arithmetic done by hand."""

import math

import numpy as np
import pytest

from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.evaluation.metrics import cold_pairs, score


def test_scores_equal_hand_arithmetic():
    scores = score(np.array([3.5, 2.0, 4.0]), np.array([3.0, 4.0, 4.0]))
    assert scores.squared_error == 0.25 + 4.0 + 0.0
    assert scores.rmse == pytest.approx(math.sqrt(4.25 / 3), rel=1e-15)
    assert scores.mae == pytest.approx(2.5 / 3, rel=1e-15)
    assert scores.num_ratings == 3


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


def test_squared_errors_of_uneven_parts_add_up_to_the_whole():
    rng = np.random.default_rng(2)
    predictions, ratings = rng.normal(3, 1, 1_000), rng.integers(1, 6, 1_000)
    whole = score(predictions, ratings)
    parts = [
        score(p, r)
        for p, r in zip(np.split(predictions, [7, 900]), np.split(ratings, [7, 900]), strict=True)
    ]
    total = sum(part.squared_error for part in parts)
    assert total == pytest.approx(whole.squared_error, rel=1e-13)
    assert whole.rmse == pytest.approx(math.sqrt(total / 1_000), rel=1e-13)


def test_scores_do_not_depend_on_the_order_of_the_ratings():
    rng = np.random.default_rng(1)
    predictions, ratings = rng.normal(3, 2, 1_001), rng.integers(1, 6, 1_001)
    order = rng.permutation(1_001)
    one, other = score(predictions, ratings), score(predictions[order], ratings[order])
    assert other.rmse == pytest.approx(one.rmse, rel=1e-13)
    assert other.mae == pytest.approx(one.mae, rel=1e-13)


def test_scoring_changes_none_of_its_inputs():
    predictions, ratings = np.array([0.0, 9.0]), np.array([1.0, 5.0])
    score(predictions, ratings)
    assert predictions.tolist() == [0, 9] and ratings.tolist() == [1, 5]
