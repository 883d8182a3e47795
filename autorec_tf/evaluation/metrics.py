"""Metrics of predictions, as whole sums over all ratings, and what an epoch leaves of them.

Clipping and the cold rule make raw predictions final, once (evaluation/baseline.py); after that a
metric is a function of (predictions, ratings).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorec_tf.data.ratings import RatingMatrix

COLD_RATING = 3.0  # the paper's prediction for a user or an item without training ratings
RECONSTRUCTION = "reconstruction_rmse_test_ratings_as_input"


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv; the test fields are None for an epoch that was not evaluated."""

    epoch: int
    learning_rate: float
    train_cost: float  # the sum of J(B) over the mini-batches, regularisation included
    train_rmse: float  # running: each mini-batch scored just before its update, unclipped
    test_cost: float | None  # the squared error summed over the test ratings
    test_rmse: float | None
    test_mae: float | None
    validation_rmse: float | None  # None without validation ratings, too
    reconstruction_rmse_test_ratings_as_input: float | None  # only if asked for; no result
    epoch_seconds: float  # of training and evaluation
    elapsed_seconds: float  # since the first epoch began


@dataclass(frozen=True)
class Scores:
    """RMSE and MAE in rating points, the summed squared error, and how many ratings there were."""

    rmse: float
    mae: float
    squared_error: float
    num_ratings: int


def score(predictions: np.ndarray, ratings: np.ndarray,
          total: Callable[[Any], np.ndarray] = np.asarray) -> Scores:
    """Return the scores of final `predictions` of `ratings`, both [pairs]. `total` returns the sum
    of what all workers pass to it, where each has a part of the pairs."""
    error = predictions - ratings
    sums = np.sum(error**2), np.sum(np.abs(error)), len(error)
    squared_error, absolute_error, number = map(float, total(sums))
    return Scores(rmse=float(np.sqrt(squared_error / number)), mae=absolute_error / number,
                  squared_error=squared_error, num_ratings=int(number))


def cold_pairs(train: RatingMatrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return which pairs have a row or a column without training ratings: bool [pairs]."""
    return (train.row_counts[rows] == 0) | (train.column_counts[columns] == 0)
