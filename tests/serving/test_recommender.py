"""Recommendations, similar items and predictions, against NumPy in float64 from the saved files."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from autorec_tf.data.ratings import RatingUnit
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.model.factors import Factors
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.recommender import Recommender, predict, recommend, similar, top
from tests.facts import refused
from tests.finished import BLEND, CONFIG, MEANS, WEIGHTS, load, made_up_triples, make_run

pytestmark = pytest.mark.eager

CASES = {
    "items": CONFIG,
    "users": replace(CONFIG, orientation="user", output_activation="sigmoid"),
    "deep": replace(CONFIG, hidden_neuron=(6, 4, 5), hidden_activation="tanh",
                    output_activation="tanh"),
    "blend": BLEND,
    "means": MEANS,
}


def opened(name, tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp(name), CASES[name])
    return made, read_run(made.folder, str(made.data)).recommender()


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    return *opened(request.param, tmp_path_factory), request.param


@pytest.fixture(scope="module")
def simple(tmp_path_factory):
    return opened("items", tmp_path_factory)


def test_predictions_are_those_of_the_saved_parameters_clipped_and_cold_ones_by_rule(case):
    made, movies, _ = case
    users, items = (x.ravel() for x in np.indices(made.R.shape))
    found = predict(movies, made.ratings.user_ids[users], made.ratings.item_ids[items])
    expected = made.predictions()
    np.testing.assert_allclose(found["prediction"], expected.ravel(), atol=2e-5)
    assert (found["user_ratings"] == made.M.sum(1)[users]).all()
    assert (found["item_ratings"] == made.M.sum(0)[items]).all()
    assert (made.M.sum(0) == 0).any() and (made.M.sum(1) == 0).any()
    if movies.factors[0].output_activation == "identity":
        assert made.raw()[0].min() < 1 and made.raw()[0].max() > 5
    assert expected.std() > 0.3


def test_a_user_is_recommended_the_best_predicted_items_that_are_not_rated_yet(case):
    made, movies, _ = case
    for user in (0, 7, 33):
        found = recommend(movies, made.ratings.user_ids[user], 5)
        best = made.best(user, 5)
        assert list(found["item"]) == list(made.ratings.item_ids[best])
        np.testing.assert_allclose(found["prediction"], made.predictions()[user][best], atol=2e-5)
        assert list(found["ratings"]) == list(made.M.sum(0)[best])
        assert list(found.index) == [1, 2, 3, 4, 5]


def test_nothing_that_was_rated_is_recommended_test_ratings_included(simple):
    made, movies = simple
    assert (made.known & (made.M == 0)).any()
    for user in np.flatnonzero(made.M.sum(1))[:10]:
        items = recommend(movies, made.ratings.user_ids[user], 1000)["item"]
        left = np.flatnonzero(~made.known[user] & (made.M.sum(0) > 0))
        assert sorted(items) == sorted(made.ratings.item_ids[left])


def test_everybodys_best_are_each_ones_recommendations(case, monkeypatch):
    made, movies, _ = case
    monkeypatch.setattr("autorec_tf.serving.recommender.BLOCK_USERS", 7)
    blocks = list(top(movies, 4))
    assert len(blocks) == -(-len(made.R) // 7)
    found = pd.concat(blocks)
    warm = made.ratings.user_ids[made.M.sum(1) > 0]
    assert list(found["user"].unique()) == list(warm) and len(warm) < len(made.R)
    for user, rows in found.groupby("user"):
        alone = recommend(movies, user, 4)
        assert list(rows["item"]) == list(alone["item"])
        assert list(rows["rank"]) == [1, 2, 3, 4]
        np.testing.assert_allclose(rows["prediction"], alone["prediction"], atol=1e-5)
        assert list(rows["ratings"]) == list(alone["ratings"])


@pytest.mark.parametrize("n", [1, 25, 1000])
def test_everybodys_best_are_the_same_to_the_last_bit_whatever_the_block(case, n, monkeypatch):
    movies = case[1]

    def coarse(x):  # so that sums of products are exact, in any order
        return (np.round(x * 8) / 8).astype(np.float32)

    movies = replace(movies, factors=[
        replace(f, row_embeddings=coarse(f.row_embeddings), Wt=coarse(f.Wt), b=coarse(f.b))
        for f in movies.factors
    ])
    found = []
    for block_users, block_items in ((512, 8192), (7, 5), (64, 39), (1, 13)):
        monkeypatch.setattr("autorec_tf.serving.recommender.BLOCK_USERS", block_users)
        monkeypatch.setattr("autorec_tf.serving.recommender.BLOCK_ITEMS", block_items)
        found.append(pd.concat(top(movies, n), ignore_index=True))
    assert len(found[0]) >= 46 * min(n, 20)
    for other in found[1:]:
        pd.testing.assert_frame_equal(found[0], other, check_exact=True)


def test_the_memory_of_everybodys_best_does_not_grow_with_the_items(monkeypatch):
    monkeypatch.setattr("autorec_tf.serving.recommender.BLOCK_ITEMS", 2000)
    num_users, num_items = 100, 50_000  # 20 MB of float32
    rng = np.random.default_rng(3)

    def factors(orientation):
        sides = (num_items, num_users) if orientation == "item" else (num_users, num_items)
        codes, Wt = (rng.normal(0, 1, (side, 3)).astype(np.float32) for side in sides)
        return Factors(orientation, codes, Wt, np.zeros(len(Wt), np.float32), "identity", (1, 5),
                       0.5)

    movies = Recommender(
        np.arange(num_users), np.arange(num_items), np.ones(num_users, int),
        np.ones(num_items, int), RatingUnit((1, 5), (1, 5)),
        Baseline(3, np.zeros(num_users), np.zeros(num_items)),
        [factors("item"), factors("user")],
    )
    tracemalloc.start()
    assert sum(len(block) for block in top(movies, 10)) == 1000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10e6, peak


def test_similarity_is_the_cosine_of_what_was_learned_less_the_mean(case):
    made, movies, name = case
    trained = made.M.sum(0) > 0

    def vectors(saved, by_item):
        if not by_item:
            return load(saved, "W").T
        h, g = made.R.T @ load(saved, "V") + load(saved, "mu"), lambda x: 1 / (1 + np.exp(-x))
        if name != "deep":
            return g(h)
        for i in range(2):
            h = np.tanh(h) @ load(saved, f"inner/{i}/0") + load(saved, f"inner/{i}/1")
        return np.tanh(h)

    if name == "blend":
        parts = [(WEIGHTS[0], vectors(str(made.folder / "parameters_1"), True)),
                 (WEIGHTS[1], vectors(str(made.folder / "parameters_2"), False))]
    else:
        parts = [(1, vectors(str(made.folder / "parameters"), name != "users"))]
    expected = np.zeros(len(trained))
    for weight, x in parts:
        x = x - x[trained].mean(0)
        cosine = x @ x[4] / np.linalg.norm(x, axis=1) / np.linalg.norm(x[4])
        expected += weight * cosine / sum(weight for weight, _ in parts)
    found = similar(movies, made.ratings.item_ids[4], 1000)
    order = [i for i in np.argsort(-expected) if trained[i] and i != 4]
    assert list(found["item"]) == list(made.ratings.item_ids[order])
    np.testing.assert_allclose(found["similarity"], expected[order], atol=1e-5)
    assert list(found["ratings"]) == list(made.M.sum(0)[order])


def test_other_ids_give_the_same_answers_under_other_names(simple):
    made, movies = simple
    other = replace(
        movies, user_ids=5000 - movies.user_ids, item_ids=np.array(list(map(str, movies.item_ids)))
    )
    for user in (1, 8):
        a, b = recommend(movies, user, 9), recommend(other, 5000 - user, 9)
        assert list(map(str, a["item"])) == list(b["item"])
        assert list(a["prediction"]) == list(b["prediction"])
    assert list(similar(other, "2", 3)["item"]) == list(map(str, similar(movies, 2, 3)["item"]))
    a, b = predict(other, [4999], ["2"]), predict(movies, [1], [2])
    assert a["prediction"][0] == b["prediction"][0]


def test_an_unknown_id_is_an_error_or_in_pairs_the_cold_answer(simple):
    made, movies = simple
    with refused("user 3", "50 users"):
        recommend(movies, 3)
    with refused("item 1", f"{len(movies.item_ids)} items"):
        similar(movies, 1)
    found = predict(movies, [3, 1], [2, 999])
    assert list(found["prediction"]) == [3, 3]
    assert list(found["user_ratings"]) == [0, made.M.sum(1)[0]]
    assert found["item_ratings"][1] == 0


def test_by_means_an_unknown_id_leaves_what_is_known_of_the_other(tmp_path):
    made = make_run(tmp_path, MEANS)
    movies = read_run(made.folder, str(made.data)).recommender()
    mu, b_u, b_i = made.biases()
    found = predict(movies, [3, made.ratings.user_ids[4], 3], [2, 999, 999])
    np.testing.assert_allclose(found["prediction"], [mu + b_i[0], mu + b_u[4], mu], rtol=1e-6)
    assert 2 == made.ratings.item_ids[0] and b_i[0] != 0 != b_u[4]


def test_of_a_user_or_item_without_training_ratings_nothing_is_said(simple):
    made, movies = simple
    user = made.ratings.user_ids[made.M.sum(1) == 0][0]
    item = made.ratings.item_ids[made.M.sum(0) == 0][0]
    with refused(f"user {user}", "training"):
        recommend(movies, user)
    with refused(f"item {item}", "training"):
        similar(movies, item)


def test_clipped_predictions_keep_the_order_of_the_unclipped(simple):
    made, movies = simple
    (factors,) = movies.factors
    high = replace(movies, factors=[replace(factors, b=factors.b + 4)], rated=None)
    found = recommend(high, 1, 1000)
    raw = made.raw()[0][0] + 4
    trained = np.flatnonzero(made.M.sum(0))
    assert (found["prediction"] == 5).sum() > 10
    assert list(found["item"]) == list(made.ratings.item_ids[trained[np.argsort(-raw[trained])]])


def test_titles_stand_beside_ids_and_an_id_for_a_missing_title(simple):
    made, movies = simple
    best = recommend(movies, 1, 2)["item"]
    titled = movies.titled({str(best[1]): "Alien"})
    assert list(recommend(titled, 1, 2)["title"]) == ["Alien", str(best[2])]


def test_no_items_are_too_few(simple):
    with refused("n is 0", "at least 1"):
        recommend(simple[1], 1, 0)


def test_the_made_up_ratings_are_distinct_pairs():
    pairs = [triple[:2] for triple in made_up_triples()]
    assert len(set(pairs)) == len(pairs)
