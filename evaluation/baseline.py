"""What a rating is without a model: the mean, and how users and items differ from it.

Biases are fitted by alternating least squares with damping (Koren, "Factor in the neighbors", 2010,
section 2.1, as in Surprise's `BaselineOnly`):

    b_i = sum_u (r_ui - mu - b_u) / (10 + n_i);  b_u = sum_i (r_ui - mu - b_i) / (15 + n_u)

It is the result that a model must beat, and what is predicted of a pair of which the model knows
nothing.
"""

from dataclasses import dataclass

import numpy as np

from data.ratings import RatingMatrix, Split
from evaluation.metrics import COLD_RATING, cold_pairs

ITEM_DAMPING, USER_DAMPING = 10, 15  # in ratings
ROUNDS = 10


@dataclass(frozen=True, eq=False)
class Baseline:
    """mean + row_bias + column_bias, float64, clipped to `scale`; a bias is 0 where nothing is
    known."""

    mean: float
    row_bias: np.ndarray
    column_bias: np.ndarray
    scale: tuple[float, float] = (-np.inf, np.inf)

    def predict(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Return what is predicted of (row, column) index pairs: float64 [pairs]. An index below 0
        is one of which nothing is known."""
        biases = bias_at(self.row_bias, rows) + bias_at(self.column_bias, columns)
        return np.clip(self.mean + biases, *self.scale)

    def transposed(self) -> "Baseline":
        """Return the same with rows and columns exchanged."""
        return Baseline(self.mean, self.column_bias, self.row_bias, self.scale)


def bias_at(bias: np.ndarray, index: np.ndarray) -> np.ndarray:
    return np.where(index < 0, 0.0, bias[index])


def fit_baseline(split: Split) -> Baseline:
    """Return the biases of the training ratings, in their unit."""
    by_item = split.by_item().train
    item, user = by_item.rows, by_item.indices
    mean = float(by_item.values.mean(dtype=np.float64))
    residual = by_item.values.astype(np.float64) - mean
    item_damped = ITEM_DAMPING + by_item.row_counts
    user_damped = USER_DAMPING + by_item.column_counts
    user_bias = np.zeros(by_item.num_columns)
    for _ in range(ROUNDS):
        item_bias = np.bincount(
            item, residual - user_bias[user], by_item.num_rows
        ) / item_damped
        user_bias = np.bincount(
            user, residual - item_bias[item], by_item.num_columns
        ) / user_damped
    baseline = Baseline(mean, item_bias, user_bias, split.unit.inner)
    return baseline if split.orientation == "item" else baseline.transposed()


def cold_baseline(split: Split, rule: str | None) -> Baseline:
    """Return what predicts cold pairs, in the unit of training: by the rule "paper" 3 as the file
    has it, by "mean" the biases of what is known, else the mean."""
    if rule == "mean":
        return fit_baseline(split)
    rows, columns = np.zeros(split.train.num_rows), np.zeros(split.train.num_columns)
    return Baseline(float(split.unit.to_model(COLD_RATING)), rows, columns)


class Finish:
    """Makes raw predictions of the `held_out` pairs of a split final: clips them to the scale,
    applies the cold rule, and brings them to the file's unit."""

    def __init__(self, split: Split, held_out: RatingMatrix, cold_rating: str | None) -> None:
        self.unit, rows, columns = split.unit, held_out.rows, held_out.indices
        self.cold = np.flatnonzero(cold_pairs(split.train, rows, columns))
        self.cold_ratings = np.zeros(0)
        if len(self.cold):
            baseline = cold_baseline(split, cold_rating)
            self.cold_ratings = baseline.predict(rows[self.cold], columns[self.cold])

    def __call__(self, predictions: np.ndarray) -> np.ndarray:
        """Return raw `predictions` [pairs], in the unit of training, as final ones: float64
        [pairs], in the file's unit."""
        final = np.clip(predictions.astype(np.float64), *self.unit.inner)
        final[self.cold] = self.cold_ratings
        return self.unit.to_file(final)
