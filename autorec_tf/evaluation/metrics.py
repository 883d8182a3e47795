"""Metrics of predictions, as sums over all ratings, and the metrics of an epoch.

Raw predictions become final by clipping and the cold rule, once (evaluation/baseline.py). A metric
is then a function of (predictions, ratings).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorec_tf.data.ratings import RatingMatrix

COLD_RATING = 3.0  # the paper's prediction for cold users and items
RECONSTRUCTION = "reconstruction_rmse_test_ratings_as_input"


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv; the test fields are None for an epoch that was not evaluated."""

    epoch: int
    learning_rate: float
    train_cost: float  # the sum of J(B) over the mini-batches, with regularisation
    train_rmse: float  # running: each mini-batch evaluated just before its update, unclipped
    test_cost: float | None  # the sum of squared errors of the test ratings
    test_rmse: float | None
    test_mae: float | None
    validation_rmse: float | None  # also None without validation ratings
    reconstruction_rmse_test_ratings_as_input: float | None  # only on request; not a result
    epoch_seconds: float  # of training and evaluation
    elapsed_seconds: float  # since the first epoch began


@dataclass(frozen=True)
class Scores:
    """RMSE and MAE in rating points, the sum of squared errors, and the number of ratings."""

    rmse: float
    mae: float
    squared_error: float
    num_ratings: int


def score(predictions: np.ndarray, ratings: np.ndarray,
          total: Callable[[Any], np.ndarray] = np.asarray) -> Scores:
    """Return the scores of final `predictions` of `ratings`, both [pairs]. `total` sums an array
    over the workers, each of which has a part of the pairs."""
    error = predictions - ratings
    sums = np.sum(error**2), np.sum(np.abs(error)), len(error)
    squared_error, absolute_error, number = map(float, total(sums))
    return Scores(rmse=float(np.sqrt(squared_error / number)), mae=absolute_error / number,
                  squared_error=squared_error, num_ratings=int(number))


def cold_pairs(train: RatingMatrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return which pairs have a row or a column without training ratings: bool [pairs]."""
    return (train.row_counts[rows] == 0) | (train.column_counts[columns] == 0)
