"""Rankings of unrated items, judged by the test items that each user rated high.

    scores = rank(predict_block, train, test, cold)  # rows are users here, columns items
    scores.ndcg, scores.recall, scores.num_users     # NDCG@10, Recall@10, users judged

A user's candidates are all items but the user's training items, best prediction first. This is
another question than RMSE's: an item that the user never rated may well stand above a test item.
Only the predictions of some users and some items are in memory at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.system.random_streams import random_stream

BLOCK_USERS, BLOCK_ITEMS = 64, 1 << 15  # whose predictions are in memory at a time
SAMPLE = 4096  # items, of many, that tell how high the best will be at least
RELEVANT = 0.75  # the lowest rating of a relevant item, as a fraction of the scale: 4 of 1..5
RANKED_USERS = 10_000  # at most


@dataclass(frozen=True)
class RankingScores:
    """Mean NDCG and recall over `num_users` users, those with a relevant test item, or drawn from
    the `drawn_from` users who have one; both are nan if there is none."""

    ndcg: float
    recall: float
    num_users: int
    drawn_from: int


def rank(
    predict_block: Callable[[np.ndarray, slice], np.ndarray], train: RatingMatrix,
    test: RatingMatrix, cold: Baseline, at: int = 10, relevant: float = 4.0,
    most_users: int = RANKED_USERS, seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> RankingScores:
    """Return NDCG@`at` and Recall@`at` of ranking every item that a user has no training rating of.

    train, test: users x items; predict_block(users, items): the model's raw predictions for some
    users (int [B]) of some items (a slice), float32 [B, items], which are only read;
    progress(done, total): called with the number of users ranked so far, from 0 on.

    An item is relevant to a user who rated it `relevant` or more in the test ratings, in the unit
    of training. Users without one are skipped, and so are those without a training rating, whose
    list would be the same for all; of the others `most_users` are drawn from `seed`, if there are
    more. Gains are 0 or 1: NDCG is the sum of 1 / log2(1 + rank) over the relevant items of ranks
    1..at, divided by that sum for the best ranking there is, which has min(at, number of relevant
    items) of them. Recall is the relevant items of ranks 1..at divided by *all* relevant items of
    the user, so it stays below 1 for a user with more than `at` of them.

    Predictions are not clipped to the rating scale, as clipping would tie the best ones. Items
    without training ratings are predicted by the rule `cold`, as for RMSE. Of two items with the
    same prediction the one of lower index comes first. A user with a candidate predicted nan scores
    nan, and so does the mean.
    """
    eligible = users_to_rank(train, test, relevant)
    users = drawn(eligible, most_users, seed)
    is_cold = train.column_counts == 0
    kind = np.float64 if is_cold.any() else np.float32
    parts = [np.zeros((2, 0))]
    for first in range(0, len(users), BLOCK_USERS):
        progress(first, len(users))
        block = users[first : first + BLOCK_USERS]

        def predict(items: slice, block: np.ndarray = block) -> tuple[np.ndarray, None]:
            scores = np.array(predict_block(block, items), kind)  # a copy
            cold_items = np.flatnonzero(is_cold[items])
            scores[:, cold_items] = cold.predict(block[:, None], items.start + cold_items)
            return scores, None

        rows, items, values = ratings_of(test, block)
        wanted, taken = values >= relevant, ratings_of(train, block)[:2]
        best = best_items(predict, train.num_columns, at, taken, BLOCK_ITEMS)
        parts.append(score_ranks(best, (rows[wanted], items[wanted]), taken, len(block), at))
    progress(len(users), len(users))
    ndcg, recall = np.concatenate(parts, 1)
    if not len(ndcg):
        return RankingScores(np.nan, np.nan, 0, 0)
    return RankingScores(float(np.mean(ndcg)), float(np.mean(recall)), len(ndcg), len(eligible))


def users_to_rank(train: RatingMatrix, test: RatingMatrix, relevant: float) -> np.ndarray:
    """Return the users that `rank` may rank, ascending: int [users]."""
    users = np.unique(test.rows[test.values >= relevant])
    return users[train.row_counts[users] > 0]


def drawn(users: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Return at most so many of `users`, which ascend, in order."""
    if len(users) <= most:
        return users
    return np.sort(random_stream(seed, "ranking").permutation(users)[:most])


def ratings_of(
    matrix: RatingMatrix, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return of each rating of some `rows` (int [rows]) the row, as a position in `rows`, the
    column and the value."""
    begin, end = matrix.indptr[rows], matrix.indptr[rows + 1]
    position = np.repeat(np.arange(len(rows)), end - begin)
    parts = [slice(*ends) for ends in zip(begin, end, strict=True)]
    columns, values = (
        np.concatenate([array[:0], *(array[part] for part in parts)])
        for array in (matrix.indices, matrix.values)
    )
    return position, columns, values


def score_ranks(
    best: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, np.ndarray],
    taken: tuple[np.ndarray, np.ndarray], num_rows: int, at: int,
) -> np.ndarray:
    """Return NDCG and recall of each row that has a relevant candidate: float64 [2, those rows].

    best: what `best_items` found; wanted: row and item of what is relevant; taken: of what is no
    candidate, relevant or not.
    """
    rows, items, ranks, scores = best
    wanted_pairs = np.setdiff1d(as_pairs(*wanted), as_pairs(*taken))
    hits = np.zeros((num_rows, at))
    hits[rows, ranks] = np.isin(as_pairs(rows, items), wanted_pairs)
    hits[rows[np.isnan(scores)]] = np.nan
    num_relevant = np.bincount(wanted_pairs >> 32, minlength=num_rows)
    judged = num_relevant > 0
    hits, num_relevant = hits[judged], num_relevant[judged]
    discount = 1 / np.log2(2 + np.arange(at))  # of ranks 1, 2, ...
    ideal = np.cumsum(discount)[np.minimum(num_relevant, at) - 1]
    return np.stack([hits @ discount / ideal, hits.sum(axis=1) / num_relevant])


def as_pairs(rows: np.ndarray, items: np.ndarray) -> np.ndarray:
    """Return a number for each (row, item) pair: int64."""
    return rows.astype(np.int64) << 32 | items


def best_items(
    predict: Callable[[slice], tuple[np.ndarray, np.ndarray | None]], num_items: int, at: int,
    taken: tuple[np.ndarray, np.ndarray], block_items: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return row, item, rank (from 0) and score of the `at` highest scores of each row, or of all
    where there are fewer, by row and rank.

    predict(items): the scores [rows, items] of a slice of items, which are written to, and what
    breaks ties between them, the higher first, or None; what is still tied goes by item index.
    What scores -inf, and the (row, item) pairs `taken`, are left out; nan comes first.

    `block_items` are predicted at a time, and of these only those sorted that may be among the
    best; the result is the same for any number.
    """
    row = item = np.zeros(0, np.int64)
    score = tie = np.zeros(0, np.float32)
    size = max(block_items, min(at, num_items))
    for start in range(0, num_items, size):
        items = slice(start, min(start + size, num_items))
        scores, ties = predict(items)
        here = (taken[1] >= items.start) & (taken[1] < items.stop)
        scores[taken[0][here], taken[1][here] - start] = -np.inf
        if not start:  # what an item must exceed to be among the best: nothing yet
            least = np.full(len(scores), -np.inf, scores.dtype)
            least_tie = np.full(len(scores), np.inf, scores.dtype)
        rows, columns = reaching(scores, least, at)
        new_score = scores[rows, columns]
        new_tie = np.zeros_like(new_score) if ties is None else ties[rows, columns]
        better = ~(new_score <= least[rows]) | (new_tie > least_tie[rows])
        parts = (row, rows), (item, start + columns), (score, new_score), (tie, new_tie)
        row, item, score, tie = (np.concatenate([a, b[better]]) for a, b in parts)
        order = np.lexsort((-tie, np.where(np.isnan(score), -np.inf, -score), row))  # stable
        ranks = np.arange(len(row)) - np.searchsorted(row[order], row[order])
        order, ranks = order[ranks < at], ranks[ranks < at]
        row, item, score, tie = row[order], item[order], score[order], tie[order]
        last = ranks == at - 1
        least[row[last]], least_tie[row[last]] = score[last], tie[last]
    return row, item, ranks, score


def reaching(scores: np.ndarray, least: np.ndarray, at: int) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column of the `scores` [rows, items] that are not below their row's `least`,
    nor, where these are many, below the `at`-th highest of a sample of the row."""
    reached = ~(scores < least[:, None])
    sample = scores[:, :: max(1, scores.shape[1] // SAMPLE)]
    if at < sample.shape[1] and np.count_nonzero(reached) > 16 * at * len(scores):
        reached &= ~(scores < np.partition(sample, -at, axis=1)[:, -at, None])
    return np.divmod(np.flatnonzero(reached), scores.shape[1])
