"""Rankings of unrated items, evaluated by the test items that each user rated high.

    model, popularity = rank(predict_block, train, test, cold)  # rows are users, columns items
    model.ndcg, model.recall, model.num_users                   # NDCG@10, Recall@10, ranked users

A user's candidates are all items except the user's training items, in descending order of
prediction. This differs from RMSE: an item that the user never rated may be above a test item. Only
the predictions of some users and some items are in memory at a time.

The ranking by popularity is a baseline without a model: the same candidates of the same users, in
descending order of the number of training ratings. A model of ratings may be worse, because popular
items are rated more often, whatever their ratings.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

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
    """The scores of a ranking for `num_users` users; without such users, all are nan.

    Args:
        ndcg, recall: the means over the users.
        coverage: the fraction of all items that are recommended to any of the users.
        num_users: the number of users.
        drawn_from: the number of users with a relevant test item, of whom they were drawn.
        users, of_users: int [users], ascending, and their NDCG and recall, float64 [2, users].
    """

    ndcg: float
    recall: float
    coverage: float
    num_users: int
    drawn_from: int
    users: np.ndarray = field(compare=False, repr=False)
    of_users: np.ndarray = field(compare=False, repr=False)


def rank(
    predict_block: Callable[[np.ndarray, slice], np.ndarray], train: RatingMatrix,
    test: RatingMatrix, cold: Baseline, at: int = 10, relevant: float = 4.0,
    most_users: int = RANKED_USERS, seed: int = 0,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> tuple[RankingScores, RankingScores]:
    """Return the scores of the model's rankings of all items without the user's training items, and
    those of the ranking by popularity: NDCG@`at`, Recall@`at`, and coverage by the first `at`.

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
    by_popularity = np.argsort(-train.column_counts, kind="stable")
    model, popularity = Tally(train.num_columns, at), Tally(train.num_columns, at)
    for first in range(0, len(users), BLOCK_USERS):
        progress(first, len(users))
        block = users[first : first + BLOCK_USERS]

        def predict(items: slice, block: np.ndarray = block) -> tuple[np.ndarray, None]:
            scores = np.array(predict_block(block, items), kind)  # a copy
            cold_items = np.flatnonzero(is_cold[items])
            scores[:, cold_items] = cold.predict(block[:, None], items.start + cold_items)
            return scores, None

        rows, items, values = ratings_of(test, block)
        is_relevant, taken = values >= relevant, ratings_of(train, block)[:2]
        wanted = np.setdiff1d(as_pairs(rows[is_relevant], items[is_relevant]), as_pairs(*taken))
        model.add(block, best_items(predict, train.num_columns, at, taken, BLOCK_ITEMS), wanted)
        popularity.add(block, first_items(by_popularity, taken, len(block), at), wanted)
    progress(len(users), len(users))
    return model.scores(len(eligible)), popularity.scores(len(eligible))


class Tally:
    """The scores of one ranking, a block of users at a time."""

    def __init__(self, num_items: int, at: int) -> None:
        self.at = at
        self.users, self.of_users = [np.zeros(0, np.int64)], [np.zeros((2, 0))]
        self.is_recommended = np.zeros(num_items, bool)

    def add(self, users: np.ndarray, best: tuple[np.ndarray, ...], wanted: np.ndarray) -> None:
        """Add the rankings of `users`; `best` and `wanted` are those of `score_ranks`."""
        is_judged, of_users = score_ranks(best, wanted, len(users), self.at)
        self.users.append(users[is_judged])
        self.of_users.append(of_users)
        rows, items = best[:2]
        self.is_recommended[items[is_judged[rows]]] = True

    def scores(self, drawn_from: int) -> RankingScores:
        """Return the scores of the users so far, who were drawn from `drawn_from` users."""
        users, of_users = np.concatenate(self.users), np.concatenate(self.of_users, 1)
        if not len(users):
            return RankingScores(np.nan, np.nan, np.nan, 0, 0, users, of_users)
        ndcg, recall = (float(np.mean(each)) for each in of_users)
        coverage = float(np.mean(self.is_recommended))
        return RankingScores(ndcg, recall, coverage, len(users), drawn_from, users, of_users)


def first_items(order: np.ndarray, taken: tuple[np.ndarray, np.ndarray], num_rows: int,
                at: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the row, item, rank (from 0) and score (0) of the first `at` items of `order` that are
    not `taken`, for each row; a row may have fewer.

    Args:
        order: int [items], all items, best first.
        taken: the rows and items to leave out.
        num_rows: the number of rows.
        at: the number of items per row.
    """
    most_taken = int(np.bincount(taken[0], minlength=num_rows).max())
    first = order[: at + most_taken]  # the others are not reached
    place = np.full(len(order), len(first))
    place[first] = np.arange(len(first))
    is_left = np.ones((num_rows, len(first) + 1), bool)
    is_left[taken[0], place[taken[1]]] = False
    is_left = is_left[:, :-1]
    ranks = np.cumsum(is_left, axis=1, dtype=np.int32) - 1
    rows, places = np.nonzero(is_left & (ranks < at))
    return rows, first[places], ranks[rows, places], np.zeros(len(rows))


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
    best: tuple[np.ndarray, ...], wanted: np.ndarray, num_rows: int, at: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return which rows have a relevant candidate, bool [rows], and their NDCG and recall, float64
    [2, rows with a relevant candidate].

    Args:
        best: the result of `best_items`.
        wanted: the distinct pairs (`as_pairs`) of a row and a relevant candidate.
        num_rows: the number of rows.
        at: the length of the ranking.
    """
    rows, items, ranks, scores = best
    hits = np.zeros((num_rows, at))
    hits[rows, ranks] = np.isin(as_pairs(rows, items), wanted)
    hits[rows[np.isnan(scores)]] = np.nan
    num_relevant = np.bincount(wanted >> 32, minlength=num_rows)
    is_judged = num_relevant > 0
    hits, num_relevant = hits[is_judged], num_relevant[is_judged]
    discount = 1 / np.log2(2 + np.arange(at))  # of ranks 1, 2, ...
    ideal = np.cumsum(discount)[np.minimum(num_relevant, at) - 1]
    return is_judged, np.stack([hits @ discount / ideal, hits.sum(axis=1) / num_relevant])


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
