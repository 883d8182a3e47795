"""Scores of some of the ratings: of those of users, or items, with about as many training ratings,
or of like ratings. Predictions are final ones, clipped and with the cold rule, float64 [pairs]."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autorec_tf.evaluation.metrics import Scores, score

SLICE_EDGES = (0, 1, 10, 20, 50, 100, 200, 500, 1000)  # the lowest training ratings of each slice
MOST_BINS = 16  # of like ratings


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


def slices(predictions: np.ndarray, ratings: np.ndarray, counts: np.ndarray,
           edges: Sequence[int] = SLICE_EDGES) -> list[Slice]:
    """Return `score`, apart for each bin of `counts`: who knows few ratings, and who many.

    counts: int [pairs], the training ratings of each pair's user, or of its item, as
    `train.column_counts[columns]`; edges: the bins' lowest counts, ascending from 0. Bins without
    a pair are left out. Every pair is in one slice, so `squared_error` and `num_ratings` of the
    slices add up to those of all pairs.
    """
    bins = np.digitize(counts, edges) - 1
    highs = [*(edge - 1 for edge in edges[1:]), None]
    return [
        Slice(edges[k], highs[k], score(predictions[part], ratings[part]))
        for k in range(len(edges))
        if (part := bins == k).any()
    ]


@dataclass(frozen=True)
class Bin:
    """The scores of pairs that have like ratings, or predictions: from `low` to below `high`, the
    last bin's `high` included, or of one value where both are the same."""

    low: float
    high: float
    mean_rating: float
    mean_prediction: float
    scores: Scores

    @property
    def bias(self) -> float:
        """The mean error: above 0 where predictions are too high."""
        return self.mean_prediction - self.mean_rating

    @property
    def label(self) -> str:
        return f"{self.low:g}" if self.low == self.high else f"{self.low:g}–{self.high:g}"


def by_value(predictions: np.ndarray, ratings: np.ndarray, scale: tuple[float, float]) -> list[Bin]:
    """Return `score` for each true rating, or for even bins if these are over `MOST_BINS`."""
    values = np.unique(ratings)
    if len(values) > MOST_BINS:
        return binned(ratings, predictions, ratings, scale)
    return bins(np.searchsorted(values, ratings), values, values, predictions, ratings)


def calibration(predictions: np.ndarray, ratings: np.ndarray,
                scale: tuple[float, float]) -> list[Bin]:
    """Return `score` for even bins of the predictions: a calibrated model's means are equal."""
    return binned(predictions, predictions, ratings, scale)


def binned(of: np.ndarray, predictions: np.ndarray, ratings: np.ndarray,
           scale: tuple[float, float]) -> list[Bin]:
    """Return the pairs in even bins of their values in `of`, float [pairs]. A value beyond `scale`,
    as a cold pair's 3 may be, is in the nearest bin."""
    edges = even_edges(scale)
    index = np.clip(np.digitize(of, edges) - 1, 0, len(edges) - 2)
    return bins(index, edges[:-1], edges[1:], predictions, ratings)


def even_edges(scale: tuple[float, float]) -> np.ndarray:
    """Return the edges of at most `MOST_BINS` bins that cover `scale`, a round number apart."""
    low, high = scale
    least = (high - low) / MOST_BINS
    power = 10.0 ** math.floor(math.log10(least))
    step = next(x * power for x in (1, 2, 2.5, 5, 10, 20) if x * power >= least)
    return low + step * np.arange(math.ceil((high - low) / step) + 1)


def bins(index: np.ndarray, lows: np.ndarray, highs: np.ndarray, predictions: np.ndarray,
         ratings: np.ndarray) -> list[Bin]:
    """Return the bins k, from lows[k] to highs[k], of the pairs whose `index` is k, if any are."""
    return [
        Bin(float(lows[k]), float(highs[k]), float(ratings[part].mean(dtype=np.float64)),
            float(predictions[part].mean()), score(predictions[part], ratings[part]))
        for k in range(len(lows))
        if (part := index == k).any()
    ]
