"""The bias baseline: predictions from the mean rating and the biases of users and items.

Biases are fitted by alternating least squares with damping (Koren, "Factor in the neighbors", 2010,
section 2.1, as in Surprise's `BaselineOnly`):

    b_i = sum_u (r_ui - mu - b_u) / (10 + n_i);  b_u = sum_i (r_ui - mu - b_i) / (15 + n_u)

A model must beat this baseline, which also predicts cold pairs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.metrics import COLD_RATING

ITEM_DAMPING, USER_DAMPING = 10, 15  # in ratings
ROUNDS = 10
CHUNK = 1 << 20  # ratings whose residuals are in memory at a time
Total = Callable[[Any], np.ndarray]


@dataclass(frozen=True, eq=False)
class Baseline:
    """The prediction mean + row_bias + column_bias, clipped to `scale`. An unknown bias is 0.

    Args:
        mean: the mean rating.
        row_bias: float64 [rows].
        column_bias: float64 [columns].
        scale: the lowest and the highest prediction.
    """

    mean: float
    row_bias: np.ndarray
    column_bias: np.ndarray
    scale: tuple[float, float] = (-np.inf, np.inf)

    def predict(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return the predictions of (row, column) index pairs, -1 if unknown: float64 [pairs]."""
        biases = bias_at(self.row_bias, rows) + bias_at(self.column_bias, columns)
        return np.clip(self.mean + biases, *self.scale)

    def transposed(self) -> "Baseline":
        """Return the same baseline with rows and columns exchanged."""
        return Baseline(self.mean, self.column_bias, self.row_bias, self.scale)


def bias_at(bias: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.where(index < 0, 0.0, bias[index])


def fit_baseline(split: Split, total: Total = np.asarray,
                 dampings: tuple[float, float] = (ITEM_DAMPING, USER_DAMPING)) -> Baseline:
    """Fit the baseline to the training ratings, in their unit, with the `dampings` of items and
    users. `total` sums an array over the workers, each of which has a part of the split's columns.
    """
    train = split.train
    row, column = train.rows, train.indices
    count, mean = total([len(train), train.values.sum(dtype=np.float64)])
    mean = float(mean / count)
    row_damping, column_damping = dampings if split.orientation == "item" else dampings[::-1]
    row_damped = row_damping + total(train.row_counts)
    column_damped = column_damping + train.column_counts
    row_bias, column_bias = np.zeros(train.num_rows), np.zeros(train.num_columns)

    def sums(index: np.ndarray, bias: np.ndarray, other: np.ndarray, size: int) -> np.ndarray:
        """Return the residuals after the `bias` of the `other` axis, summed by `index`."""
        result = np.zeros(size)
        for start in range(0, len(index), CHUNK):
            part = slice(start, start + CHUNK)
            residuals = train.values[part].astype(np.float64) - mean - bias[other[part]]
            result += np.bincount(index[part], residuals, size)
        return result

    for turn in range(2 * ROUNDS):
        if (turn % 2 == 0) == (split.orientation == "item"):  # items first
            row_bias = total(sums(row, column_bias, column, train.num_rows)) / row_damped
        else:
            column_bias = sums(column, row_bias, row, train.num_columns) / column_damped
    return Baseline(mean, row_bias, column_bias, split.unit.model_scale)


def cold_baseline(split: Split, rule: str | None, total: Total = np.asarray) -> Baseline:
    """Return the baseline that predicts cold pairs, in the unit of training. With the rule "paper",
    every prediction is 3 on the file's scale; with "mean", it is the mean plus known biases."""
    if rule == "mean":
        return fit_baseline(split, total)
    rows, columns = np.zeros(split.train.num_rows), np.zeros(split.train.num_columns)
    return Baseline(float(split.unit.to_model(COLD_RATING)), rows, columns)


class PredictionPostprocessor:
    """Convert raw predictions of held-out pairs into final ones: clip them to the scale, apply the
    cold rule, and map them to the file's scale.

    Args:
        split: the split that the model was trained on.
        held_out: the pairs to predict, with their ratings.
        cold_rating: the cold rule, "paper" or "mean".
        total: as in `fit_baseline`.
    """

    def __init__(self, split: Split, held_out: RatingMatrix, cold_rating: str | None,
                 total: Total = np.asarray) -> None:
        self.unit, rows, columns = split.unit, held_out.rows, held_out.indices
        row_counts, column_counts = total(split.train.row_counts), split.train.column_counts
        self.cold = np.flatnonzero((row_counts[rows] == 0) | (column_counts[columns] == 0))
        self.cold_ratings = np.zeros(0)
        if total(len(self.cold)):
            baseline = cold_baseline(split, cold_rating, total)
            self.cold_ratings = baseline.predict(rows[self.cold], columns[self.cold])

    def __call__(self, predictions: np.ndarray) -> np.ndarray:
        """Return the final values of raw `predictions` [pairs]: float64, on the file's scale."""
        final = np.clip(predictions.astype(np.float64), *self.unit.model_scale)
        final[self.cold] = self.cold_ratings
        return self.unit.to_file(final)
