"""Scores of predictions: clipping, the cold rule, RMSE and MAE, as whole sums over all ratings."""

from dataclasses import dataclass

import numpy as np

from data_preprocessor import RatingMatrix

COLD_RATING = 3.0  # the paper's prediction for a user or an item without training ratings


@dataclass(frozen=True)
class Scores:
    """RMSE and MAE in rating points, the summed squared error, and how many ratings were scored
    and were cold."""

    rmse: float
    mae: float
    squared_error: float
    num_ratings: int
    num_cold: int


def cold_pairs(train: RatingMatrix, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Which (row, column) pairs have a row or a column without training ratings: bool [pairs]."""
    return (train.row_counts[rows] == 0) | (train.column_counts[columns] == 0)


def final_predictions(
    predictions: np.ndarray, cold: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """`predictions` clipped to `scale`, and 3 where the pair is `cold`: float64 [pairs]."""
    return np.where(cold, COLD_RATING, np.clip(predictions.astype(np.float64), *scale))


def score(
    predictions: np.ndarray, ratings: np.ndarray, cold: np.ndarray, scale: tuple[float, float]
) -> Scores:
    """Score the model's raw `predictions` of `ratings`, both [pairs]."""
    error = final_predictions(predictions, cold, scale) - ratings
    squared_error = float(np.sum(error**2))
    return Scores(
        rmse=float(np.sqrt(squared_error / len(error))),
        mae=float(np.mean(np.abs(error))),
        squared_error=squared_error,
        num_ratings=len(error),
        num_cold=int(cold.sum()),
    )
