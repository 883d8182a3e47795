"""Rankings of unrated items, judged by the test items that each user rated high.

    scores = rank(predict_block, train, test)      # rows are users here, columns items
    scores.ndcg, scores.recall, scores.num_users   # NDCG@10, Recall@10, users judged

A user's candidates are all items but the user's training items, best prediction first. This is
another question than RMSE's: an item that the user never rated may well stand above a test item.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from data.ratings import RatingMatrix
from evaluation.metrics import COLD_RATING

BLOCK_USERS = 64  # users whose predictions of all items are held at a time


@dataclass(frozen=True)
class RankingScores:
    """Mean NDCG and recall over `num_users` users, those with a relevant test item; both are nan
    if there is none."""

    ndcg: float
    recall: float
    num_users: int


def rank(
    predict_block: Callable[[int, int], np.ndarray], train: RatingMatrix, test: RatingMatrix,
    at: int = 10, relevant: float = 4.0,
) -> RankingScores:
    """NDCG@`at` and Recall@`at` of ranking every item that a user has no training rating of.

    train, test: users x items; predict_block(first, last): the model's raw predictions of all
    items for users first..last-1, float32 [last - first, items], which are only read.

    An item is relevant to a user who rated it `relevant` or more in the test ratings; a user
    without one is skipped. Gains are 0 or 1: NDCG is the sum of 1 / log2(1 + rank) over the
    relevant items of ranks 1..at, divided by that sum for the best ranking there is, which has
    min(at, number of relevant items) of them. Recall is the relevant items of ranks 1..at
    divided by *all* relevant items of the user, so it stays below 1 for a user with more than
    `at` of them.

    Predictions are not clipped to the rating scale, as clipping would tie the best ones. Items or
    users without training ratings are predicted 3, as for RMSE. Of two items with the same
    prediction the one of lower index comes first. A user with a candidate predicted nan scores
    nan, and so does the mean.
    """
    cold_users, cold_items = train.row_counts == 0, train.column_counts == 0
    blocks = []
    for first in range(0, train.num_rows, BLOCK_USERS):
        last = min(first + BLOCK_USERS, train.num_rows)
        cold = cold_users[first:last, None] | cold_items
        scores = np.where(cold, COLD_RATING, predict_block(first, last))  # (B, items)
        rows, items, _ = block_ratings(train, first, last)
        scores[rows, items] = -np.inf
        rows, items, values = block_ratings(test, first, last)
        gains = np.zeros(scores.shape, bool)
        gains[rows, items] = values >= relevant
        gains &= scores != -np.inf  # a training item is no candidate, whatever `test` says
        blocks.append(score_ranks(scores, gains, at))
    ndcg, recall = map(np.concatenate, zip(*blocks, strict=True))
    if not len(ndcg):
        return RankingScores(np.nan, np.nan, 0)
    return RankingScores(float(np.mean(ndcg)), float(np.mean(recall)), len(ndcg))


def block_ratings(
    matrix: RatingMatrix, first: int, last: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row (counted from `first`), column and value of each rating in rows first..last-1."""
    part = slice(matrix.indptr[first], matrix.indptr[last])
    return matrix.rows[part] - first, matrix.indices[part], matrix.values[part]


def score_ranks(scores: np.ndarray, gains: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """NDCG and recall of each row that has a gain: two float64 [rows with a gain].

    scores: float [rows, items], -inf for no candidate; gains: bool [rows, items].
    """
    rows, items, ranks = best_items(scores, at)
    hits = np.zeros((len(scores), at))
    hits[rows, ranks] = gains[rows, items]
    hits[np.isnan(scores).any(axis=1)] = np.nan
    num_relevant = gains.sum(axis=1)
    judged = num_relevant > 0
    hits, num_relevant = hits[judged], num_relevant[judged]
    discount = 1 / np.log2(2 + np.arange(at))  # of ranks 1, 2, ...
    ideal = np.cumsum(discount)[np.minimum(num_relevant, at) - 1]
    return hits @ discount / ideal, hits.sum(axis=1) / num_relevant


def best_items(
    scores: np.ndarray, at: int, ties: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Row, item and rank (from 0) of the `at` highest `scores` of each row, or of all where
    there are fewer; ties by the higher of `ties` (in the scores' shape), if given, and then by
    lower item index.

    The `at`-th highest score is selected, not sorted for, and only what reaches it is sorted:
    np.argpartition alone would break a tie at the last rank as it pleases.
    """
    at = min(at, scores.shape[1])
    threshold = np.partition(scores, -at, axis=1)[:, -at, None]
    rows, items = np.nonzero(scores >= threshold)  # items ascend within a row
    keys = [x[rows, items] for x in (ties, scores) if x is not None]
    order = np.lexsort((*(-key for key in keys), rows))  # stable, so ties keep their order
    rows, items = rows[order], items[order]
    ranks = np.arange(len(rows)) - np.searchsorted(rows, rows)
    kept = ranks < at
    return rows[kept], items[kept], ranks[kept]
