"""Scores of subsets of the ratings: by the training ratings of the user or item, by rating, or by
prediction. Predictions are final, clipped and with the cold rule: float64 [pairs]."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autorec_tf.evaluation.metrics import Scores, score
from autorec_tf.evaluation.statistics import rmse_difference

SLICE_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000)  # the least training ratings of each slice
MOST_BINS = 16  # of similar ratings


@dataclass(frozen=True)
class Slice:
    """The scores of the test ratings whose user (or item) has `low` to `high` training ratings.

    Args:
        low, high: both included; without an upper bound, `high` has the value None.
        scores, biases: of the model, and of the bias baseline for the same ratings.
        standard_error: of the difference of the two RMSEs; nan for a single rating.
    """

    low: int
    high: int | None
    scores: Scores
    biases: Scores
    standard_error: float

    @property
    def label(self) -> str:
        if self.high is None:
            return f"{self.low:,}+"
        return f"{self.low:,}" if self.low == self.high else f"{self.low:,}–{self.high:,}"


def slices(predictions: np.ndarray, biases: np.ndarray, ratings: np.ndarray, counts: np.ndarray,
           edges: Sequence[int] = SLICE_EDGES) -> list[Slice]:
    """Return the scores for each bin of `counts`, except empty bins. Every pair is in one bin, so
    `squared_error` and `num_ratings` add up to the values for all pairs.

    Args:
        predictions, biases, ratings: float [pairs], predictions of the model and of the baseline.
        counts: int [pairs], the number of training ratings of each pair's user, or of its item,
            such as `train.column_counts[columns]`.
        edges: the lowest count of each bin, ascending from 0.
    """
    bins = np.digitize(counts, edges) - 1
    highs = [*(edge - 1 for edge in edges[1:]), None]
    errors, bias_errors = predictions - ratings, biases - ratings
    return [
        Slice(edges[k], highs[k], score(predictions[part], ratings[part]),
              score(biases[part], ratings[part]),
              rmse_difference(errors[part], bias_errors[part])[1])
        for k in range(len(edges))
        if (part := bins == k).any()
    ]


@dataclass(frozen=True)
class Bin:
    """The scores of pairs with ratings, or predictions, from `low` to below `high`. The last bin
    includes `high`; a bin of one value has `low` equal to `high`."""

    low: float
    high: float
    mean_rating: float
    mean_prediction: float
    scores: Scores

    @property
    def bias(self) -> float:
        """The mean error, which is above 0 if predictions are too high."""
        return self.mean_prediction - self.mean_rating

    @property
    def label(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"


def by_value(predictions: np.ndarray, ratings: np.ndarray, scale: tuple[float, float]) -> list[Bin]:
    """Return the scores for each true rating, or for equal bins above `MOST_BINS` ratings."""
    values = np.unique(ratings)
    if len(values) > MOST_BINS:
        return binned(ratings, predictions, ratings, scale)
    return bins(np.searchsorted(values, ratings), values, values, predictions, ratings)


def calibration(predictions: np.ndarray, ratings: np.ndarray,
                scale: tuple[float, float]) -> list[Bin]:
    """Return the scores for equal bins of the predictions; a calibrated model's means are equal."""
    return binned(predictions, predictions, ratings, scale)


def binned(of: np.ndarray, predictions: np.ndarray, ratings: np.ndarray,
           scale: tuple[float, float]) -> list[Bin]:
    """Return the scores for equal bins of the values `of`, float [pairs]. A value outside `scale`,
    for example the 3 of a cold pair, is in the nearest bin."""
    edges = even_edges(scale)
    index = np.clip(np.digitize(of, edges) - 1, 0, len(edges) - 2)
    return bins(index, edges[:-1], edges[1:], predictions, ratings)


def even_edges(scale: tuple[float, float]) -> np.ndarray:
    """Return the edges of at most `MOST_BINS` bins that cover `scale`; their width is round."""
    low, high = scale
    least = (high - low) / MOST_BINS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(x * power for x in (1, 2, 2.5, 5, 10, 20) if x * power >= least)
    return low + step * np.arange(math.ceil((high - low) / step) + 1)


def bins(index: np.ndarray, lows: np.ndarray, highs: np.ndarray, predictions: np.ndarray,
         ratings: np.ndarray) -> list[Bin]:
    """Return the non-empty bins: bin k, from lows[k] to highs[k], has the pairs of `index` k."""
    return [
        Bin(float(lows[k]), float(highs[k]), float(ratings[part].mean(dtype=np.float64)),
            float(predictions[part].mean()), score(predictions[part], ratings[part]))
        for k in range(len(lows))
        if (part := index == k).any()
    ]
