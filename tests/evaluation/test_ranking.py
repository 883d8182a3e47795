"""Rankings against hand arithmetic and against plain loops over users and items."""

import math
import tracemalloc

import numpy as np
import pytest

from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.evaluation import ranking
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.evaluation.ranking import best_items, rank

PLACE_1, PLACE_2, PLACE_3 = 1.0, 1 / math.log2(3), 0.5  # the discounts


def matrix(ratings, shape):
    """The rating matrix of a dict (user, item) -> rating."""
    users, items = np.array(list(ratings), np.int32).reshape(-1, 2).T
    return RatingMatrix.from_triples(users, items, np.array([*ratings.values()], np.float32), shape)


def threes(train):
    """The paper's rule: 3 of every cold item."""
    return Baseline(3.0, np.zeros(train.num_rows), np.zeros(train.num_columns))


def ranked(predictions, train, test, cold=None, **settings):
    """`rank` of a table of predictions [users, items]; cold items are 3 unless `cold` is given."""
    return rank(table(predictions), train, test, cold or threes(train), **settings)[0]


def table(predictions):
    return lambda users, items: predictions[users, items]


def rank_all(predictions, train, test, **settings):
    """`rank` on dicts of ratings and a list of lists of predictions."""
    predictions = np.array(predictions, np.float32)
    shape = predictions.shape
    return ranked(predictions, matrix(train, shape), matrix(test, shape), **settings)


def by_loops(predictions, train, test, at, relevant, cold=None, users=None):
    """NDCG, recall, users judged and coverage, by sorting each user's candidates in plain Python;
    of `users` alone, if they are given."""
    cold = cold or threes(train)
    trained = list(zip(train.rows.tolist(), train.indices.tolist(), strict=True))
    warm_users, warm_items = ({pair[axis] for pair in trained} for axis in (0, 1))
    seen, tested = set(trained), {}
    for user, item, value in zip(test.rows, test.indices, test.values, strict=True):
        if value >= relevant:
            tested.setdefault(int(user), set()).add(int(item))
    ndcg, recall, recommended = [], [], set()
    for user, wanted in sorted(tested.items()):
        if user not in warm_users or not (users is None or user in users):
            continue
        candidates = []
        for item in range(train.num_columns):
            if (user, item) not in seen:
                score = float(predictions[user, item])
                if item not in warm_items:
                    score = cold.mean + cold.row_bias[user] + cold.column_bias[item]
                candidates.append((-score, item))
        top = [item for _, item in sorted(candidates)[:at]]
        recommended.update(top)
        dcg = sum(1 / math.log2(place + 1) for place, i in enumerate(top, 1) if i in wanted)
        best = sum(1 / math.log2(place + 1) for place in range(1, min(at, len(wanted)) + 1))
        ndcg.append(dcg / best)
        recall.append(len(set(top) & wanted) / len(wanted))
    coverage = len(recommended) / train.num_columns
    return math.fsum(ndcg) / len(ndcg), math.fsum(recall) / len(recall), len(ndcg), coverage


def random_case(seed, num_users=60, num_items=40, levels=None):
    """Predictions (with many ties if they have `levels`), train and test; some users and items
    have no training rating."""
    rng = np.random.default_rng(seed)
    predictions = rng.normal(3.5, 1.5, (num_users, num_items)).astype(np.float32)
    if levels:
        predictions = np.round(predictions * levels) / levels
    side = rng.choice(3, (num_users, num_items), p=[0.6, 0.25, 0.15])  # none, train, test
    side[:, rng.choice(num_items, 4, replace=False)] *= 2  # cold items: train goes to nothing
    side[rng.choice(num_users, 4, replace=False)] *= 2
    values = rng.integers(1, 6, side.shape).astype(np.float32)
    train, test = (
        RatingMatrix.from_triples(*np.nonzero(side == k), values[side == k], side.shape)
        for k in (1, 2)
    )
    return predictions, train, test


def permuted(rating_matrix, users):
    """The rating matrix whose row `users[i]` is row i of the given one."""
    return RatingMatrix.from_triples(
        users[rating_matrix.rows], rating_matrix.indices, rating_matrix.values,
        (rating_matrix.num_rows, rating_matrix.num_columns),
    )


WARM = {(9, item): 5.0 for item in range(5)}  # a user whose ratings make all five items warm


def one_user(predictions, train, test, **settings):
    """The scores of user 0 among five warm items."""
    predictions = [predictions] + [[0.0] * 5] * 9
    return rank_all(predictions, WARM | train, test, **settings)


# By hand


def test_a_ranking_of_five_items_equals_hand_arithmetic():
    # Candidates, best first: 3 (relevant), 1 (rated 2), 4 (relevant), 2; item 0 was trained on.
    scores = one_user(
        [9.0, 4.0, 1.0, 5.0, 3.0], {(0, 0): 5.0}, {(0, 3): 4.0, (0, 1): 2.0, (0, 4): 5.0}, at=3
    )
    assert scores.ndcg == pytest.approx((PLACE_1 + PLACE_3) / (PLACE_1 + PLACE_2), rel=1e-12)
    assert (scores.recall, scores.num_users) == (1.0, 1)


def test_only_the_first_places_count():
    predictions, test = [5.0, 4.0, 3.0, 2.0, 1.0], {(0, 1): 5.0, (0, 4): 5.0}
    scores = one_user(predictions, {(0, 0): 1.0}, test, at=2)
    assert scores.ndcg == pytest.approx(PLACE_1 / (PLACE_1 + PLACE_2), rel=1e-12)
    assert scores.recall == 0.5
    assert one_user(predictions, {(0, 0): 1.0}, {(0, 4): 5.0}, at=2).ndcg == 0


def test_the_ideal_is_cut_off_but_the_denominator_of_recall_is_not():
    test = {(0, item): 5.0 for item in (1, 2, 3, 4)}
    scores = one_user([0.0, 4.0, 3.0, 2.0, 1.0], {(0, 0): 1.0}, test, at=2)
    assert (scores.ndcg, scores.recall) == (1.0, 0.5)


def test_the_default_is_ten_places_and_ratings_of_four():
    predictions = [[float(-item) for item in range(12)]]
    train = {(0, 0): 1.0} | {(1, item): 3.0 for item in range(12)}
    tenth, eleventh = ({(0, item): 4.0} for item in (10, 11))  # item 0 is no candidate
    found = rank_all(predictions + predictions, train, tenth | {(0, 11): 3.5})
    assert (found.ndcg, found.recall) == (pytest.approx(1 / math.log2(11), rel=1e-12), 1.0)
    assert rank_all(predictions + predictions, train, eleventh).recall == 0


def test_a_perfect_ranking_scores_1():
    predictions, train, test = random_case(1)
    predictions[:] = 0
    predictions[test.rows, test.indices] = test.values
    warm = (train.row_counts[:, None] > 0) & (train.column_counts > 0)
    kept = warm[test.rows, test.indices]
    test = RatingMatrix.from_triples(
        test.rows[kept], test.indices[kept], test.values[kept], predictions.shape
    )
    # Cold items are predicted 3, below all that is relevant.
    scores = ranked(predictions, train, test, at=40)
    assert (scores.ndcg, scores.recall) == (pytest.approx(1.0, rel=1e-12), 1.0)


def test_the_reverse_of_a_perfect_ranking_scores_0():
    predictions = [0.0, 3.0, 2.0, 1.0, 0.0]
    assert one_user(predictions, {(0, 0): 1.0}, {(0, 4): 5.0}, at=3).ndcg == 0


# What is a candidate


@pytest.mark.parametrize("trained, ndcg", [((0, 1, 3), 1), ((0, 1), 0), ((0, 3), 0), ((1, 3), 0)])
def test_a_training_item_takes_no_place_however_high_its_prediction(trained, ndcg):
    predictions, train = [99.0, 98.0, 2.0, 97.0, 1.0], {(0, item): 1.0 for item in trained}
    assert one_user(predictions, train, {(0, 2): 5.0}, at=1).ndcg == ndcg


def test_a_training_item_is_not_relevant_even_if_it_is_a_test_item_too():
    predictions, train = [9.0, 8.0, 7.0, 6.0, 5.0], {(0, 0): 5.0}
    assert one_user(predictions, train, {(0, 0): 5.0, (0, 1): 5.0}).recall == 1
    assert one_user(predictions, train, {(0, 0): 5.0}).num_users == 0


def test_a_test_item_rated_low_is_a_candidate_that_takes_a_place():
    scores = one_user([0.0, 5.0, 4.0, 1.0, 1.0], {(0, 0): 1.0}, {(0, 1): 3.0, (0, 2): 4.0}, at=2)
    assert scores.ndcg == pytest.approx(PLACE_2, rel=1e-12)
    assert one_user([0.0, 5.0, 4.0, 1.0, 1.0], {(0, 0): 1.0}, {(0, 1): 3.0, (0, 2): 4.0},
                    at=2, relevant=3.0).ndcg == 1


def test_fewer_candidates_than_places_are_all_ranked():
    train = {(0, item): 1.0 for item in (0, 1, 2)}
    scores = one_user([9.0, 9.0, 9.0, 2.0, 1.0], train, {(0, 4): 5.0})
    assert (scores.ndcg, scores.recall) == (pytest.approx(PLACE_2, rel=1e-12), 1.0)


def test_a_user_without_a_relevant_test_item_is_skipped():
    predictions = [[0.0, 5.0, 4.0]] * 3
    train = {(user, 0): 3.0 for user in range(3)} | {(2, 1): 3.0, (1, 2): 3.0}
    scores = rank_all(predictions, train, {(0, 1): 5.0, (1, 1): 3.0})
    assert (scores.ndcg, scores.recall, scores.num_users) == (1.0, 1.0, 1)


def test_no_user_at_all_is_nan_and_not_an_error():
    scores = one_user([1.0] * 5, {(0, 0): 1.0}, {(0, 1): 1.0})
    assert math.isnan(scores.ndcg) and math.isnan(scores.recall) and scores.num_users == 0


# Ties, clipping, cold, nan


@pytest.mark.parametrize("wanted, recall", [(1, 1), (2, 1), (3, 0), (4, 0)])
def test_of_equal_predictions_the_lower_item_index_comes_first(wanted, recall):
    predictions = [9.0, 2.0, 2.0, 2.0, 2.0]
    assert one_user(predictions, {(0, 0): 1.0}, {(0, wanted): 5.0}, at=2).recall == recall


def test_predictions_above_the_scale_are_not_tied_by_clipping():
    scores = one_user([0.0, 5.5, 6.5, 1.0, 1.0], {(0, 0): 1.0}, {(0, 2): 5.0}, at=1)
    assert scores.ndcg == 1


def test_a_cold_item_stands_where_a_prediction_of_3_does():
    train = {(0, 0): 1.0, (1, 1): 1.0, (1, 2): 1.0}  # item 3 has none
    for prediction in (99.0, -99.0, math.nan):
        predictions = [[0.0, 3.1, 2.9, prediction]] * 2
        scores = rank_all(predictions, train, {(0, 3): 5.0}, at=3)
        assert scores.ndcg == pytest.approx(PLACE_2, rel=1e-12)


def test_a_cold_item_stands_where_the_rule_has_it_for_the_user():
    train = {(user, item): 1.0 for user in range(2) for item in (0, 4)} | {
        (2, item): 1.0 for item in (1, 2)}  # item 3 has none
    cold = Baseline(3.0, np.array([0.5, -0.5, 0.0]), np.zeros(5))
    predictions = [[0.0, 3.1, 2.9, 9.0, 0.0]] * 3
    for user, place in ((0, PLACE_1), (1, PLACE_3)):
        scores = rank_all(predictions, train, {(user, 3): 5.0}, cold=cold)
        assert scores.ndcg == pytest.approx(place, rel=1e-12)


def test_users_without_training_ratings_are_not_ranked():
    train = {(1, item): 3.0 for item in range(3)} | {(2, 3): 1.0}
    predictions = [[1.0, 2.0, 3.0, 4.0]] * 3
    alone = rank_all(predictions, train, {(0, 0): 5.0})
    assert math.isnan(alone.ndcg) and alone.num_users == 0
    test = {(0, 3): 5.0, (1, 3): 5.0, (2, 1): 5.0}  # user 0 would rank it first
    scores = rank_all(predictions, train, test)
    assert scores.num_users == 2
    assert scores.ndcg == pytest.approx((PLACE_1 + PLACE_2) / 2, rel=1e-12)


def test_a_candidate_predicted_nan_makes_the_scores_nan():
    predictions = [0.0, math.nan, 2.0, 1.0, 1.0]
    scores = one_user(predictions, {(0, 0): 1.0}, {(0, 2): 5.0})
    assert math.isnan(scores.ndcg) and math.isnan(scores.recall) and scores.num_users == 1
    assert one_user(predictions, {(0, 1): 1.0}, {(0, 2): 5.0}).ndcg == 1  # no candidate


# Against plain loops, and what must not matter


@pytest.mark.parametrize("at", [1, 3, 10, 100])
@pytest.mark.parametrize("levels", [None, 1])
def test_scores_equal_plain_loops(at, levels, monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_USERS", 7)
    monkeypatch.setattr(ranking, "BLOCK_ITEMS", 9)
    predictions, train, test = random_case(2, levels=levels)
    assert 0 in train.row_counts and 0 in train.column_counts
    rng = np.random.default_rng(3)
    for cold in (threes(train), Baseline(3.5, rng.normal(0, 1, 60), rng.normal(0, 1, 40))):
        scores, popularity = rank(table(predictions), train, test, cold, at=at)
        expected = by_loops(predictions, train, test, at, 4.0, cold)
        assert (scores.ndcg, scores.recall) == pytest.approx(expected[:2], rel=1e-12)
        assert (scores.num_users, scores.coverage) == expected[2:] and scores.num_users > 40
    zeros = Baseline(0.0, np.zeros(60), np.zeros(40))
    counts = np.broadcast_to(train.column_counts, predictions.shape)
    expected = by_loops(counts, train, test, at, 4.0, zeros)
    assert (popularity.ndcg, popularity.recall) == pytest.approx(expected[:2], rel=1e-12)
    assert (popularity.num_users, popularity.coverage) == expected[2:]
    assert popularity.drawn_from == scores.drawn_from


def test_the_scores_of_each_user_are_those_of_the_user_alone():
    predictions, train, test = random_case(2)
    everyone = rank(table(predictions), train, test, threes(train))
    assert list(everyone[0].users) == sorted(set(everyone[1].users)) and everyone[0].num_users > 40
    counts = np.broadcast_to(train.column_counts, predictions.shape)
    for scores, scored in zip(everyone, (predictions, counts), strict=True):
        assert scores.of_users.mean(axis=1) == pytest.approx((scores.ndcg, scores.recall))
        for user, of_user in list(zip(scores.users, scores.of_users.T, strict=True))[::9]:
            cold = threes(train) if scored is predictions else Baseline(
                0.0, np.zeros(60), np.zeros(40))
            expected = by_loops(scored, train, test, 10, 4.0, cold, {user})
            assert of_user == pytest.approx(expected[:2], rel=1e-12)


def test_scores_on_ml_1m_equal_plain_loops(ml_1m_split):
    split = ml_1m_split.transposed()
    users = 47  # the first; the loops would take minutes for all
    train, test = (
        RatingMatrix(part.indptr[: users + 1], part.indices[: part.indptr[users]],
                     part.values[: part.indptr[users]], part.num_columns)
        for part in (split.train, split.test)
    )
    popularity = train.column_counts.astype(np.float32)  # ties without end
    predictions = np.broadcast_to(popularity, (users, train.num_columns))
    zeros = Baseline(0.0, np.zeros(users), np.zeros(train.num_columns))
    scores, by_popularity = rank(table(predictions), train, test, zeros)
    expected = by_loops(predictions, train, test, 10, 4.0, zeros)
    assert (scores.ndcg, scores.recall) == pytest.approx(expected[:2], rel=1e-12)
    assert (scores.num_users, scores.coverage) == expected[2:] and scores.ndcg > 0.05
    assert by_popularity == scores


def test_the_order_of_the_users_does_not_matter():
    predictions, train, test = random_case(3, levels=2)
    users = np.random.default_rng(4).permutation(len(predictions)).astype(np.int32)
    mixed = np.empty_like(predictions)
    mixed[users] = predictions
    one = ranked(predictions, train, test)
    other = ranked(mixed, permuted(train, users), permuted(test, users))
    assert (other.ndcg, other.recall) == pytest.approx((one.ndcg, one.recall), rel=1e-12)
    assert 0 < one.ndcg < 1 and other.num_users == one.num_users


@pytest.mark.parametrize("block_users", [1, 13, 59, 60, 61, 1000])
def test_blocks_cover_every_ranked_user_once_and_no_other(block_users, monkeypatch):
    predictions, train, test = random_case(5)
    expected = ranked(predictions, train, test)
    monkeypatch.setattr(ranking, "BLOCK_USERS", block_users)
    asked = Asked(predictions)
    scores, _ = rank(asked, train, test, threes(train))
    tested = set(test.rows[test.values >= 4].tolist())
    judged = sorted(tested & set(train.rows.tolist()))
    assert asked.users == judged and 40 < len(judged) < 60
    assert scores.drawn_from == len(judged)
    assert asked.most <= block_users
    assert (scores.ndcg, scores.num_users) == (pytest.approx(expected.ndcg), expected.num_users)


class Asked:
    """A table of predictions that knows whose were asked for, and how many at a time at most."""

    def __init__(self, predictions):
        self.predictions, self.users, self.most = predictions, [], 0

    def __call__(self, users, items):
        self.users += users.tolist()
        self.most = max(self.most, len(users))
        return self.predictions[users, items]


def test_at_most_so_many_users_are_ranked_and_the_same_ones_for_a_seed():
    predictions, train, test = random_case(5)
    drawn = []
    for seed in (1, 1, 2):
        asked = Asked(predictions)
        scores, _ = rank(asked, train, test, threes(train), most_users=20, seed=seed)
        expected = by_loops(predictions, train, test, 10, 4.0, users=set(asked.users))
        assert scores.num_users == expected[2] == len(set(asked.users)) == 20
        assert (scores.ndcg, scores.recall) == pytest.approx(expected[:2], rel=1e-12)
        assert scores.drawn_from == by_loops(predictions, train, test, 10, 4.0)[2] > 20
        drawn.append(asked.users)
    assert drawn[0] == drawn[1] != drawn[2]
    everyone = ranked(predictions, train, test)
    most = everyone.num_users
    assert max(drawn[0]) > 40  # not the first ones
    for bound in (most, most + 1, 10_000):
        assert ranked(predictions, train, test, most_users=bound, seed=3) == everyone
    assert ranked(predictions, train, test, most_users=most - 1).num_users == most - 1


@pytest.mark.parametrize("num_warm", [3, 4])  # of four items: with a cold one, and without
def test_the_given_predictions_are_not_changed(num_warm):
    train = {(0, 0): 1.0} | {(1, item): 3.0 for item in range(num_warm)}
    block = np.array([[4.0, 3.0, 2.0, 1.0]], np.float32)
    matrices = matrix(train, (2, 4)), matrix({(0, 1): 5.0}, (2, 4))
    assert rank(lambda *_: block, *matrices, threes(matrices[0]))[0].num_users == 1
    assert block.tolist() == [[4, 3, 2, 1]]


def test_who_looks_on_is_told_how_many_users_are_ranked(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_USERS", 8)
    predictions, train, test = random_case(5)
    told = []
    ranked(predictions, train, test, most_users=20, progress=lambda *done: told.append(done))
    assert told == [(0, 20), (8, 20), (16, 20), (20, 20)]


def test_memory_is_that_of_a_block_and_not_of_users_times_items(monkeypatch):
    monkeypatch.setattr(ranking, "BLOCK_USERS", 10)
    monkeypatch.setattr(ranking, "BLOCK_ITEMS", 500)
    monkeypatch.setattr(ranking, "SAMPLE", 100)
    num_users, num_items = 60, 20_000  # of 10 users 800 kB of float32
    pairs = np.arange(num_users, dtype=np.int32), np.arange(num_users, dtype=np.int32)
    values = np.full(num_users, 5, np.float32)
    train = RatingMatrix.from_triples(*pairs, values, (num_users, num_items))
    test = RatingMatrix.from_triples(pairs[0], pairs[1] + 1, values, (num_users, num_items))
    block = np.random.default_rng(7).normal(size=(10, 500)).astype(np.float32)
    cold = threes(train)
    tracemalloc.start()
    rank(lambda users, items: block[: len(users)], train, test, cold)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e5


# The best of many


def best_of(scores, at, ties=None, taken=((), ()), block_items=3):
    """Row, item, rank and score of the best of a table of scores."""
    taken = tuple(np.array(x, np.int64) for x in taken)

    def predict(items):
        return scores[:, items].copy(), None if ties is None else ties[:, items]

    return best_items(predict, scores.shape[1], at, taken, block_items)


@pytest.mark.parametrize("block_items", [1, 2, 5, 9])
def test_ties_are_broken_by_what_is_given_for_them_and_then_by_index(block_items):
    scores, ties = np.array([[5, 5, 1, 5, 5.0]]), np.array([[6, 9, 99, 6, 7.0]])
    assert list(best_of(scores, 4, ties, block_items=block_items)[1]) == [1, 4, 0, 3]
    assert list(best_of(scores, 2, ties, block_items=block_items)[1]) == [1, 4]
    assert list(best_of(scores, 4, block_items=block_items)[1]) == [0, 1, 3, 4]


@pytest.mark.parametrize("at", [1, 4, 50, 1000])
@pytest.mark.parametrize("levels", [1, 1000])
@pytest.mark.parametrize("with_ties", [False, True])
def test_the_best_are_those_of_a_full_sort_whatever_the_block(at, levels, with_ties, monkeypatch):
    monkeypatch.setattr(ranking, "SAMPLE", 40)
    rng = np.random.default_rng(at)
    scores, ties = (np.round(rng.normal(size=(2, 9, 300)) * levels) / levels).astype(np.float32)
    scores[:4].sort()  # ever better ones
    scores[1] = -np.inf
    scores[2, rng.random(300) < 0.97] = -np.inf
    taken = rng.integers(0, 9, 200), rng.integers(0, 300, 200)
    left = np.isfinite(scores)
    left[taken] = False
    expected = []
    for row in range(9):
        candidates = sorted(
            np.flatnonzero(left[row]).tolist(),
            key=lambda i: (-scores[row, i], -ties[row, i] if with_ties else 0, i),
        )[:at]
        expected += [(row, item, k, scores[row, item]) for k, item in enumerate(candidates)]
    for block_items in (1, 7, 128, 299, 300, 4096):
        found = best_of(scores, at, ties if with_ties else None, taken, block_items)
        assert list(zip(*(x.tolist() for x in found), strict=True)) == expected


def test_nan_comes_first():
    scores = np.array([[1.0, np.nan, 2.0, 3.0], [4.0, 3.0, 2.0, 1.0]])
    for block_items in (1, 3, 4):
        row, item, _, score = best_of(scores, 2, block_items=block_items)
        assert list(row) == [0, 0, 1, 1] and list(item) == [1, 3, 0, 1]
        assert np.isnan(score[0])
