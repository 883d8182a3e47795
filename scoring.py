"""Scores of predictions: clipping, the cold rule, RMSE and MAE, as whole sums over all ratings,
or over those of users, or items, with about as many training ratings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data_preprocessor import RatingMatrix

COLD_RATING = 3.0  # the paper's prediction for a user or an item without training ratings
SLICE_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000)  # the lowest training ratings of each slice


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


@dataclass(frozen=True)
class Slice:
    """The scores of the test ratings whose user (or item) has `low` to `high` training ratings,
    both included; `high` is None where there is no bound."""

    low: int
    high: int | None
    scores: Scores

    @property
    def label(self) -> str:
        if self.high is None:
            return f"{self.low:,}+"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"


def slices(
    predictions: np.ndarray,
    ratings: np.ndarray,
    cold: np.ndarray,
    scale: tuple[float, float],
    counts: np.ndarray,
    edges: Sequence[int] = SLICE_EDGES,
) -> list[Slice]:
    """`score`, apart for each bin of `counts`: who knows few ratings, and who many.

    counts: int [pairs], the training ratings of each pair's user, or of its item, as
    `train.column_counts[columns]`; edges: the bins' lowest counts, ascending from 0. Bins without
    a pair are left out. Every pair is in one slice, so `squared_error` and `num_ratings` of the
    slices add up to those of all pairs.
    """
    bins = np.digitize(counts, edges) - 1
    highs = [*(edge - 1 for edge in edges[1:]), None]
    return [
        Slice(edges[k], highs[k], score(predictions[part], ratings[part], cold[part], scale))
        for k in range(len(edges))
        if (part := bins == k).any()
    ]
