"""New ratings in a finished run: new rows and columns are fitted under a prior, and alone."""

from dataclasses import replace

import numpy as np
import pytest

from autorec_tf.data.ids import with_new
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.recommender import predict, recommend, similar
from tests import plain
from tests.facts import refused
from tests.finished import BIASED, BLEND, CONFIG, MEANS, SVDPP, load, make_run

pytestmark = pytest.mark.eager

NEW = 9000
BY_USER = replace(CONFIG, orientation="user")


@pytest.fixture(scope="module")
def by_item(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("item"))
    return made, read_run(made.folder, str(made.data))


def known_users(made, count):
    """Users whose weights remain with one rating more, because they have more than 10."""
    return made.ratings.user_ids[np.flatnonzero(made.M.sum(1) > 10)[:count]]


def dense(run):
    """The training ratings and where they are, items x users, float64."""
    R, M = np.zeros((2, run.train.num_rows, run.train.num_columns))
    R[run.train.rows, run.train.indices] = run.train.values
    M[run.train.rows, run.train.indices] = 1
    return R, M


def posterior(prior, x, offset, r, pooled_ratings=3):
    """The posterior mean of an embedding, in the form with the inverse of the covariance."""
    n = len(r)
    flat = np.eye(len(prior.mean)) - np.outer(prior.centre, prior.centre)
    covariance = prior.directions @ prior.directions.T + prior.spread * n / (n + 50) * flat
    covariance += 1e-9 * np.eye(len(covariance))
    mean = prior.mean + pooled_ratings / (pooled_ratings + n) * (prior.pooled - prior.mean)
    precision = np.linalg.inv(covariance) + x.T @ x / prior.noise
    return mean + np.linalg.solve(precision, x.T @ (r - offset - x @ mean) / prior.noise)


@pytest.mark.parametrize("count", [1, 12])
def test_a_new_item_has_the_most_likely_embedding(by_item, count):
    made, run = by_item
    users, r = known_users(made, count), np.arange(count) % 5 + 1.0
    folded = fold_in(run, users, np.full(count, NEW), r)
    (f,), (before,), ((_, prior),) = folded.factors, run.factors, run.priors
    u = np.searchsorted(made.ratings.user_ids, users)
    expected = posterior(prior, f.Wt[u].astype(float), f.b[u].astype(float), r)
    np.testing.assert_allclose(f.row_embeddings[-1], expected, rtol=1e-3, atol=1e-4)
    assert np.array_equal(f.row_embeddings[:-1], before.row_embeddings)
    assert f.Wt.tolist() == before.Wt.tolist()


@pytest.mark.parametrize("config", [BIASED, SVDPP, BY_USER], ids=["biased", "svdpp", "user"])
def test_a_new_column_has_the_most_likely_weights(config, tmp_path):
    made = make_run(tmp_path, config)
    run = read_run(made.folder, str(made.data))
    by_item = config.orientation == "item"
    often = made.M.sum(0 if by_item else 1) > 10
    rows, r = np.flatnonzero(often)[:9], np.arange(9) % 5 + 1.0
    known = (made.ratings.item_ids if by_item else made.ratings.user_ids)[rows]
    new = np.full(9, NEW)
    folded = fold_in(run, *((new, known) if by_item else (known, new)), r)
    (f,), (before,), ((prior, _),) = folded.factors, run.factors, run.priors
    h, offset, implicit = f.row_embeddings[rows].astype(float), np.zeros(9), np.zeros(6)
    if config is BIASED:
        offset, h = h[:, 6], h[:, :6]
    if config is SVDPP:
        Y = load(str(made.folder / "parameters"), "Y")[rows]
        weight = 0.1 / 3 * (1 - np.exp(-9 / 4))
        offset = np.array([h[j, 6] + weight * h[j, :6] @ np.delete(Y, j, 0).sum(0)
                           for j in range(9)])
        implicit, h = weight * Y.sum(0), h[:, :6]
    assert f.Wt.shape[1] == 6 or f.Wt[-1, 6] == 1
    pooled_ratings = 20 if config is SVDPP else 3
    expected = posterior(prior, np.c_[h, np.ones(9)], offset, r, pooled_ratings)
    found = np.append(f.Wt[-1, :6], f.b[-1])
    np.testing.assert_allclose(found, expected + np.append(implicit, 0), rtol=1e-3, atol=1e-4)
    assert np.array_equal(f.row_embeddings, before.row_embeddings)
    assert np.array_equal(f.Wt[:-1], before.Wt) and np.array_equal(f.b[:-1], before.b)


def test_a_bounded_output_is_fitted_to_the_ratings_it_can_reach(tmp_path):
    """At the fit, the gradient of the posterior is 0."""
    made = make_run(tmp_path, replace(CONFIG, output_activation="sigmoid"))
    run = read_run(made.folder, str(made.data))
    users, r = known_users(made, 8), np.array([5, 5, 4, 4, 3, 5, 4, 5.0])
    (f,), ((_, prior),) = fold_in(run, users, np.full(8, NEW), r).factors, run.priors
    u = np.searchsorted(made.ratings.user_ids, users)
    x = f.Wt[u].astype(float)
    p = 1 / (1 + np.exp(-(x @ f.row_embeddings[-1] + f.b[u])))
    flat = np.eye(6) - np.outer(prior.centre, prior.centre)
    covariance = prior.directions @ prior.directions.T + prior.spread * 8 / 58 * flat
    mean = prior.mean + 3 / 11 * (prior.pooled - prior.mean)
    step = covariance @ (x.T @ (4 * p * (1 - p) * (r - 1 - 4 * p))) / prior.noise
    np.testing.assert_allclose(f.row_embeddings[-1] - mean, step, atol=0.02 * np.abs(step).max())


def test_what_was_known_before_is_predicted_as_before(by_item):
    made, run = by_item
    folded = fold_in(run, known_users(made, 6), np.full(6, NEW), np.full(6, 3.5))
    users, items = (x.ravel() for x in np.indices(made.R.shape))
    found = predict(folded.recommender(), made.ratings.user_ids[users],
                    made.ratings.item_ids[items])["prediction"].to_numpy()
    cold = made.M.sum(1)[users] == 0
    np.testing.assert_allclose(found[~cold], made.predictions().ravel()[~cold], atol=2e-5)


def test_a_new_item_is_recommended_to_others_and_not_to_those_who_rated_it(by_item):
    made, run = by_item
    users = known_users(made, 12)
    movies = fold_in(run, users[:6], np.full(6, NEW), np.full(6, 5)).recommender()
    assert all(NEW not in set(recommend(movies, user, 1000)["item"]) for user in users[:6])
    assert all(NEW in set(recommend(movies, user, 1000)["item"]) for user in users[6:])
    assert len(similar(movies, NEW, 3)) == 3


def test_a_known_pair_rated_anew_takes_the_new_rating(by_item):
    made, run = by_item
    user, item = (int(x[0]) for x in np.nonzero(made.M))
    user_id, item_id = made.ratings.user_ids[user], made.ratings.item_ids[item]
    folded = fold_in(run, np.array([user_id]), np.array([item_id]), np.array([1.5]))
    R, M = dense(folded)
    assert R[item, user] == 1.5 and M.sum() == made.M.sum()
    R[item, user] = made.R[user, item]
    assert np.array_equal(R, made.R.T)
    assert len(folded.ratings) == len(run.ratings)


def test_a_test_rating_folded_in_is_a_training_rating_then(by_item):
    made, run = by_item
    user, item = (int(x[0]) for x in np.nonzero(made.known & (made.M == 0)))
    ids = made.ratings.user_ids[user], made.ratings.item_ids[item]
    folded = fold_in(run, *(np.array([x]) for x in (*ids, 2.0)))
    assert len(folded.train) == len(run.train) + 1 and len(folded.ratings) == len(run.ratings)


def test_a_new_user_of_a_user_model_is_recommended_items(tmp_path):
    made = make_run(tmp_path, BY_USER)
    run = read_run(made.folder, str(made.data))
    items = made.ratings.item_ids[:8]
    folded = fold_in(run, np.full(8, NEW), items, np.array([5, 5, 4, 1, 1, 2, 3, 4]))
    assert len(recommend(folded.recommender(), NEW, 5)) == 5
    assert not set(recommend(folded.recommender(), NEW, 1000)["item"]) & set(items)


def test_a_blend_takes_new_users_and_new_items_at_once(tmp_path):
    made = make_run(tmp_path, BLEND)
    run = read_run(made.folder, str(made.data))
    users, items = known_users(made, 5), made.ratings.item_ids[:5]
    folded = fold_in(
        run,
        np.concatenate([users, np.full(6, NEW)]),
        np.concatenate([np.full(5, NEW), items, [NEW]]),
        np.array([5, 4, 4, 5, 3, 1, 2, 1, 4, 5, 4]),
    )
    movies = folded.recommender()
    found = predict(movies, [NEW, NEW, users[0]], [NEW, items[0], NEW])
    assert ((found["prediction"] > 1) & (found["prediction"] < 5)).all()
    assert list(found["user_ratings"][:2]) == [6, 6] and found["item_ratings"][2] == 6
    assert NEW not in set(recommend(movies, NEW, 1000)["item"])


def test_new_ids_come_after_the_known_ones_which_keep_their_indices(by_item):
    made, run = by_item
    folded = fold_in(run, known_users(made, 2), np.array([1, 9999]), np.array([3, 3]))
    assert list(folded.ratings.item_ids) == [*made.ratings.item_ids, 1, 9999]
    assert list(folded.ratings.user_ids) == list(made.ratings.user_ids)


@pytest.mark.parametrize("dtype", [str, object])
def test_ids_that_are_text_are_kept_whole(by_item, dtype):
    made, run = by_item
    texts = np.array([f"u{i}" for i in made.ratings.user_ids], dtype)
    run = replace(run, ratings=replace(run.ratings, user_ids=texts))
    folded = fold_in(run, texts[:2], np.array([NEW, NEW]), np.array([3, 4]))
    assert list(folded.ratings.user_ids) == list(texts)
    assert list(predict(folded.recommender(), texts[:2], [NEW, NEW])["item_ratings"]) == [2, 2]
    assert with_new(texts, np.array(["a longer name", "u1"], dtype))[-1] == "a longer name"


def test_a_rating_off_the_scale_is_refused(by_item):
    made, run = by_item
    with refused("scale", error=ValueError):
        fold_in(run, known_users(made, 1), np.array([NEW]), np.array([6]))


def test_on_another_scale_new_ratings_are_taken_and_told_in_the_files_unit(tmp_path):
    made = make_run(tmp_path, MEANS)
    run = read_run(made.folder, str(made.data))
    users, rated = known_users(made, 6), np.array([10, 0, 2.5, 7, 5, 1])
    folded = fold_in(run, users, np.full(6, NEW), rated)
    r = 1 + rated / 10 * 4
    (f,), ((_, prior),) = folded.factors, run.priors
    u = np.searchsorted(made.ratings.user_ids, users)
    h = posterior(prior, f.Wt[u].astype(float), f.b[u].astype(float), r)
    expected = np.clip(f.Wt @ h + f.b, 1, 5)
    ids, warm = made.ratings.user_ids, made.M.sum(1) > 0
    movies = folded.recommender()
    found = predict(movies, ids, np.full(len(ids), NEW))["prediction"][warm]
    np.testing.assert_allclose(found, plain.to_file(expected, (0, 10))[warm], atol=5e-3)
    # What is known of the new item counts for an unknown user, too.
    cold = run.cold
    mean, bias = plain.to_file(cold.mean, (0, 10)), cold.row_bias[u]
    item = np.sum(r - cold.mean - bias) / (10 + len(r)) * 2.5
    assert predict(movies, [3], [NEW])["prediction"][0] == pytest.approx(mean + item, rel=1e-5)
    with refused("scale", error=ValueError):
        fold_in(run, known_users(made, 1), np.array([NEW]), np.array([11]))
