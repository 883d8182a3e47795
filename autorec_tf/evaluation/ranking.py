"""Rankings of unrated items, evaluated by the test items that each user rated high.

    scores = rank(predict_block, train, test, cold)  # rows are users here, columns items
    scores.ndcg, scores.recall, scores.num_users     # NDCG@10, Recall@10, ranked users

A user's candidates are all items except the user's training items, in descending order of
prediction. This differs from RMSE: an item that the user never rated may be above a test item. Only
the predictions of some users and some items are in memory at a time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.system.random_streams import random_stream

BLOCK_USERS, BLOCK_ITEMS = 64, 1 << 15  # whose predictions are in memory at a time
SAMPLE = 4096  # items for a lower bound on the best scores
RELEVANT = 0.75  # the lowest rating of a relevant item, as a fraction of the scale: 4 of 1..5
RANKED_USERS = 10_000  # at most


@dataclass(frozen=True)
class RankingScores:
    """Mean NDCG and recall over `num_users` users, out of `drawn_from` users with a relevant test
    item; both are nan without such users."""

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
    """Return NDCG@`at` and Recall@`at` of rankings of all items without the user's training items.

    Gains are 0 or 1: NDCG is the sum of 1 / log2(1 + rank) over the relevant items of ranks 1..at,
    divided by that sum for the best possible ranking, which has min(at, number of relevant items)
    relevant items first. Recall is the number of relevant items of ranks 1..at, divided by the
    number of *all* relevant items of the user, so it is below 1 for a user with more than `at`.

    Predictions are not clipped to the rating scale, since clipping would tie the best ones. Items
    with equal predictions are ranked by index. If a candidate's prediction is nan, the scores of
    the user and their means are nan.

    Args:
        predict_block: predict_block(users, items) returns the model's raw predictions for users
            (int [B]) and a slice of items: float32 [B, items]. They are not changed.
        train, test: the ratings, users x items.
        cold: the baseline that predicts items without training ratings, as for RMSE.
        at: the length of the ranking.
        relevant: the lowest test rating of a relevant item, in the unit of training. Users without
            a relevant item are skipped, as are cold users, who would all have the same ranking.
        most_users: the most users to rank. If there are more, this number is drawn at random.
        seed: the seed of this draw.
        progress: progress(done, total) is called with the number of users ranked so far, from 0.
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
    """Return at most `most` of the ascending `users`, in order."""
    if len(users) <= most:
        return users
    return np.sort(random_stream(seed, "ranking").permutation(users)[:most])


def ratings_of(
    matrix: RatingMatrix, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the row (as a position in `rows`), the column and the value of each rating in some
    `rows`, int [rows]."""
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
    """Return the NDCG and the recall of each row with a relevant candidate: float64 [2, rows].

    Args:
        best: the result of `best_items`.
        wanted: the rows and items of the relevant items.
        taken: the rows and items that are not candidates.
        num_rows: the number of rows.
        at: the length of the ranking.
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
    """Return the row, item, rank (from 0) and score of the `at` highest scores of each row, ordered
    by row and rank. A row may have fewer.

    Args:
        predict: predict(items) returns the scores [rows, items] of a slice of items, which are
            overwritten, and an array of the same shape that breaks ties, higher values first, or
            None. Remaining ties are broken by item index; nan comes first, and -inf is left out.
        num_items: the number of items.
        at: the number of items per row.
        taken: the rows and items to leave out.
        block_items: the number of items that are predicted at a time; it does not change the
            result. Only scores that may be among the best are sorted.
    """
    row = item = np.zeros(0, np.int64)
    score = tie = np.zeros(0, np.float32)
    size = max(block_items, min(at, num_items))
    for start in range(0, num_items, size):
        items = slice(start, min(start + size, num_items))
        scores, ties = predict(items)
        here = (taken[1] >= items.start) & (taken[1] < items.stop)
        scores[taken[0][here], taken[1][here] - start] = -np.inf
        if not start:  # the lower bounds that an item must exceed
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
    """Return the row and column of the `scores` [rows, items] that are not below their row's
    `least`, nor, if there are many, below the `at`-th highest score in a sample of the row."""
    reached = ~(scores < least[:, None])
    sample = scores[:, :: max(1, scores.shape[1] // SAMPLE)]
    if at < sample.shape[1] and np.count_nonzero(reached) > 16 * at * len(scores):
        reached &= ~(scores < np.partition(sample, -at, axis=1)[:, -at, None])
    return np.divmod(np.flatnonzero(reached), scores.shape[1])
