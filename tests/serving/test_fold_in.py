"""New ratings in a finished run: a forward pass for new rows, a fit of new columns alone."""

from dataclasses import replace

import numpy as np
import pytest

from autorec_tf.data.ids import with_new
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.recommender import predict, recommend, similar
from tests import plain
from tests.facts import refused
from tests.finished import BLEND, CONFIG, MEANS, ONE_HOT, SVDPP, load, make_run
from tests.reference import Reference, Svdpp

pytestmark = pytest.mark.eager

NEW = 9000
BY_USER = replace(CONFIG, orientation="user")


@pytest.fixture(scope="module")
def by_item(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("item"))
    return made, read_run(made.folder, str(made.data))


def known_users(made, count):
    return made.ratings.user_ids[np.flatnonzero(made.M.sum(1) > 5)[:count]]


def dense(run):
    """The training ratings and where they are, items x users, float64."""
    R, M = np.zeros((2, run.train.num_rows, run.train.num_columns))
    R[run.train.rows, run.train.indices] = run.train.values
    M[run.train.rows, run.train.indices] = 1
    return R, M


def test_a_new_item_is_predicted_by_a_forward_pass_over_its_ratings(by_item):
    made, run = by_item
    users = known_users(made, 6)
    folded = fold_in(run, users, np.full(6, NEW), np.array([5, 4, 5, 1, 2, 4]))
    assert folded.members[0].model is run.members[0].model
    r = np.zeros(len(made.R))
    r[np.searchsorted(made.ratings.user_ids, users)] = [5, 4, 5, 1, 2, 4]
    saved = str(made.folder / "parameters")
    V, W, mu, b = (load(saved, name) for name in ("V", "W", "mu", "b"))
    expected = np.clip(1 / (1 + np.exp(-(r @ V + mu))) @ W + b, 1, 5)
    ids = made.ratings.user_ids
    found = predict(folded.recommender(), ids, np.full(len(ids), NEW))
    warm = made.M.sum(1) > 0
    np.testing.assert_allclose(found["prediction"][warm], expected[warm], atol=2e-5)
    assert (found["item_ratings"] == 6).all()
    assert list(found["user_ratings"][warm] - made.M.sum(1)[warm]) == list((r > 0)[warm])


def test_with_one_hot_inputs_a_value_that_was_not_trained_on_counts_as_the_nearest(tmp_path):
    made = make_run(tmp_path, ONE_HOT)
    run = read_run(made.folder, str(made.data))
    users, values = known_users(made, 6), np.array([5, 4.4, 1, 1.7, 3.5, 2])
    folded = fold_in(run, users, np.full(6, NEW), values)
    r = np.zeros(len(made.R))
    r[np.searchsorted(made.ratings.user_ids, users)] = values
    expected = np.clip(made.reference("parameters", ONE_HOT.to_dict()).predict(r[None]), 1, 5)[0]
    ids, warm = made.ratings.user_ids, made.M.sum(1) > 0
    found = predict(folded.recommender(), ids, np.full(len(ids), NEW))["prediction"]
    np.testing.assert_allclose(found[warm], expected[warm], atol=2e-5)


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


@pytest.mark.eager(False)  # many steps
@pytest.mark.parametrize("encoding", [{}, {"input_encoding": "one_hot", "lambda_one_hot": 0.2}])
@pytest.mark.parametrize("regularization, orientation", [("plain", "item"), ("weighted", "user")])
def test_new_columns_are_where_the_objective_is_least_and_all_else_is_as_it_was(
    tmp_path, regularization, orientation, encoding, monkeypatch
):
    """The gradient over the new columns, by NumPy in float64, is nearly 0; it was not."""
    monkeypatch.setattr("autorec_tf.serving.fold_in.MAX_STEPS", 40)
    settings = dict(encoding, regularization=regularization, orientation=orientation, batch_size=10)
    config = replace(CONFIG, lambda_value=0.3, lambda_encoder=0.5, input_dropout=0.3, **settings)
    made = make_run(tmp_path, config)
    run = read_run(made.folder, str(made.data))
    rng = np.random.default_rng(0)
    ids = made.ratings.item_ids if orientation == "item" else made.ratings.user_ids
    chosen = np.concatenate([rng.choice(ids[:30], 15, replace=False) for _ in range(2)])
    new, values = np.repeat([NEW + 1, NEW], 15), rng.integers(1, 6, 30)
    pair = (new, chosen) if orientation == "item" else (chosen, new)
    folded = fold_in(run, *pair, values)
    before, model = run.members[0].model, folded.members[0].model
    n = before.V.shape[0]
    for ours, theirs in zip(model.parameters, before.parameters, strict=True):
        assert np.array_equal(ours[: theirs.shape[0]], theirs)
    assert model.config.input_dropout == 0.3 and model.V.shape == (n + 2, 6)

    R, M = dense(folded)
    R, M = (R, M) if orientation == "item" else (R.T, M.T)
    concerned = M[:, n:].any(1)
    assert not concerned.all() and M[:, n:].sum() == 30
    reference = Reference.of(model)
    if regularization == "plain":  # once a mini-batch of the training epoch
        times = -(-len(R) // 10)
        reference.encoder_strength *= times
        reference.decoder_strength *= times
        reference.one_hot_strength *= times

    def gradient():
        dV, dW, _, db, *dD = reference.gradients(R[concerned], M[concerned])
        assert len(dD) == bool(encoding)
        parts = dV[n:], dW[:, n:], db[n:], *(x[n:] for x in dD)
        return np.concatenate([part.ravel() for part in parts])

    fitted, cost = gradient(), reference.objective(R[concerned], M[concerned])
    reference.V[n:], reference.b[n:] = reference.V[:n].mean(0), reference.b[:n].mean()
    reference.W[:, n:] = reference.W[:, :n].mean(1, keepdims=True)
    if encoding:
        reference.D[n:] = reference.D[:n].mean(0)
    assert np.linalg.norm(fitted) < 0.05 * np.linalg.norm(gradient())
    assert cost < 0.99 * reference.objective(R[concerned], M[concerned])


@pytest.mark.eager(False)  # many steps
@pytest.mark.parametrize("orientation", ["item", "user"])
def test_with_the_decoder_of_svdpp_new_rows_and_columns_are_fitted_together(
    tmp_path, orientation, monkeypatch
):
    monkeypatch.setattr("autorec_tf.serving.fold_in.MAX_STEPS", 40)
    made = make_run(tmp_path, replace(SVDPP, orientation=orientation, regularization="plain"))
    run = read_run(made.folder, str(made.data))
    users, items = known_users(made, 8), made.ratings.item_ids[:8]
    new = np.full(8, NEW)
    folded = fold_in(run, np.append(users, new), np.append(new, items), np.arange(16) % 5 + 1)
    before, model = run.members[0].model, folded.members[0].model
    grown = [(x.shape[0], y.shape[0])
             for x, y in zip(before.parameters, model.parameters, strict=True)]
    n, m = before.V.shape[0], before.num_rows
    assert grown == [(n, n + 1), (n, n + 1), (6, 6), (n, n + 1), (m, m + 1), (m, m + 1)]
    for ours, theirs in zip(model.parameters, before.parameters, strict=True):
        assert np.array_equal(ours[: theirs.shape[0]], theirs)

    R, M = dense(folded)
    R, M = (R, M) if orientation == "item" else (R.T, M.T)
    reference = Svdpp.of(model)
    reference.counted = M[:, n] > 0
    reference.counted[m] = True
    assert not reference.counted.all()
    parts = [reference.V[n], reference.W[:, n], reference.b[n:], reference.c[m:]]
    assert np.allclose(reference.Y[m], reference.Y[:m].mean(0))

    def slopes():
        return [
            (cost(part, i, 1e-5) - cost(part, i, -1e-5)) / 2e-5
            for part in parts for i in range(len(part))
        ]

    def cost(part, i, step):
        kept = part[i]
        part[i] += step
        value = reference.objective(R, M)
        part[i] = kept
        return value

    fitted, least = slopes(), reference.objective(R, M)
    for part, known in zip(parts, (reference.V[:n].T, reference.W[:, :n], reference.b[None, :n],
                                   reference.c[None, :m]), strict=True):
        part[:] = known.mean(1)
    assert np.linalg.norm(fitted) < 0.05 * np.linalg.norm(slopes())
    assert least < reference.objective(R, M)


def test_a_new_user_of_a_user_model_needs_no_training(tmp_path):
    made = make_run(tmp_path, BY_USER)
    run = read_run(made.folder, str(made.data))
    items = made.ratings.item_ids[:8]
    folded = fold_in(run, np.full(8, NEW), items, np.array([5, 5, 4, 1, 1, 2, 3, 4]))
    assert folded.members[0].model is run.members[0].model
    assert len(recommend(folded.recommender(), NEW, 5)) == 5
    assert not set(recommend(folded.recommender(), NEW, 1000)["item"]) & set(items)


def test_a_blend_takes_new_users_and_new_items_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("autorec_tf.serving.fold_in.MAX_STEPS", 1)
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
    r = np.zeros(len(made.R))
    r[np.searchsorted(made.ratings.user_ids, users)] = 1 + rated / 10 * 4
    saved = str(made.folder / "parameters")
    V, W, mu, b = (load(saved, name) for name in ("V", "W", "mu", "b"))
    expected = np.clip(1 / (1 + np.exp(-(r @ V + mu))) @ W + b, 1, 5)
    ids, warm = made.ratings.user_ids, made.M.sum(1) > 0
    movies = folded.recommender()
    found = predict(movies, ids, np.full(len(ids), NEW))["prediction"][warm]
    np.testing.assert_allclose(found, plain.to_file(expected, (0, 10))[warm], atol=5e-5)
    # What is known of the new item counts for an unknown user, too.
    R, M = dense(folded)
    items, users = np.nonzero(M)
    triples = zip(users, items, plain.to_file(R[items, users], (0, 10)), strict=True)
    mean, _, b_i = plain.biases(triples, R.shape[1], R.shape[0])
    assert predict(movies, [3], [NEW])["prediction"][0] == pytest.approx(mean + b_i[-1], rel=1e-6)
    with refused("scale", error=ValueError):
        fold_in(run, known_users(made, 1), np.array([NEW]), np.array([11]))
