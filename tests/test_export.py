"""The SavedModel, loaded by plain TensorFlow in another process, predicts what the run predicts."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import tensorflow as tf

import export
import recommend
from autorec_tf.serving import saved_model
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.saved_model import save
from tests.facts import assert_names
from tests.finished import BLEND, CONFIG, MEANS, as_own, make_run

DEEP = replace(CONFIG, hidden_neuron=(6, 4, 5), orientation="user", output_activation="sigmoid")
TEXT = replace(MEANS, input_encoding="one_hot", members=("item", "user"))  # of a blend

LOADING = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
users, items = json.load(sys.stdin)
asked = dict(user=tf.constant(users, tf.int64), item=tf.constant(items, tf.int64))
found = model.signatures["predict"](**asked)
single = model.signatures["serving_default"](user=asked["user"][:1], item=asked["item"][:1])
best = model.signatures["recommend"](
    user=asked["user"][:1], n=tf.constant(3), exclude=asked["item"][None, :9])
every = model.signatures["all_items"](user=asked["user"][::40])
assert "AutoRec" not in sys.modules
json.dump({"rating": found["rating"].numpy().tolist(), "known": found["known"].numpy().tolist(),
           "single": single["rating"].numpy().tolist(), "all": every["rating"].numpy().tolist(),
           "item": every["item"].numpy().tolist(), "best": best["item"].numpy().tolist()},
          sys.stdout)
"""


@pytest.fixture
def exporting(monkeypatch):
    monkeypatch.setattr(export, "start_tensorflow", lambda: None)  # it has started here
    return lambda *arguments: export.main([*map(str, arguments)])


def pairs(made):
    users, items = (x.ravel() for x in np.indices(made.R.shape))
    return made.ratings.user_ids[users], made.ratings.item_ids[items]


@pytest.mark.slow
def test_another_process_without_our_modules_gets_the_runs_predictions(
    exporting, tmp_path, capsys
):
    made = make_run(tmp_path, BLEND)
    (made.data / "movies.dat").write_text("2::Alien (1979)::Horror\n")
    assert exporting(made.folder, "--data_dir", made.data) == 0
    place = made.folder / "export" / "autorec" / "1"
    assert (place / "saved_model.pb").exists()
    capsys.readouterr()
    assert recommend.main([str(place.parents[1]), "--data_dir", "nowhere", "--item", "2"]) == 0
    assert "Alien (1979)" in capsys.readouterr().out
    users, items = (x.tolist() + [unknown] for x, unknown in zip(pairs(made), (3, 1), strict=True))
    done = subprocess.run(
        [sys.executable, "-c", LOADING, str(place)], input=json.dumps([users, items]),
        cwd=tmp_path, capture_output=True, text=True, env={"TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stderr
    found, expected = json.loads(done.stdout), made.predictions()
    np.testing.assert_allclose(found["rating"], [*expected.ravel(), 3], atol=2e-5)
    warm = (made.M.sum(1) > 0)[:, None] & (made.M.sum(0) > 0)
    assert found["known"] == [*warm.ravel().tolist(), False]
    assert found["single"] == found["rating"][:1]
    np.testing.assert_allclose(found["all"][:-1], expected, atol=2e-5)
    assert set(found["all"][-1]) == {3.0}  # of the unknown user
    assert found["item"] == made.ratings.item_ids.tolist()
    assert not set(found["best"][0]) & set(items[:9]) and len(found["best"][0]) == 3


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A function that makes a run and loads its SavedModel, of which blocks are small. The items of
    a run with MEANS are text. Each is made once."""

    @cache
    def served(config):
        folder = tmp_path_factory.mktemp("served")
        made = make_run(folder, config)
        movies = read_run(made.folder, str(made.data)).recommender()
        if config.cold_rating == "mean":
            movies = replace(movies, item_ids=as_text(movies.item_ids))
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(saved_model, "BLOCK_PAIRS", 100)
            monkeypatch.setattr(saved_model, "BLOCK_RATINGS", 200)  # of five users
            save(movies, folder / "saved")
        return made, movies, tf.saved_model.load(str(folder / "saved"))

    return served


def as_text(items):
    return np.array([f"film {i}" for i in items], object)


@pytest.mark.parametrize("config", [DEEP, TEXT], ids=["deep", "blend_one_hot_means_text"])
def test_the_signatures_take_ids_and_any_number_of_them(served, config):
    made, movies, loaded = served(config)
    users, items = pairs(made)
    if text := config is TEXT:
        items = as_text(items)
    assert set(loaded.signatures) == {"serving_default", "predict", "recommend", "all_items"}
    predict, ratings = loaded.signatures["predict"], made.predictions()
    for count in (0, 1, 7, len(users)):
        found = predict(user=tf.constant(users[:count]), item=tf.constant(items[:count]))
        np.testing.assert_allclose(found["rating"], ratings.ravel()[:count], atol=2e-5)
    item_type = tf.string if text else tf.int64
    specs = predict.structured_input_signature[1]
    assert specs["user"] == tf.TensorSpec([None], tf.int64, "user")
    assert specs["item"] == tf.TensorSpec([None], item_type, "item")
    user = tf.constant(made.ratings.user_ids)
    every = loaded.signatures["all_items"](user=user)
    np.testing.assert_allclose(every["rating"], ratings, atol=2e-5)
    # Items that are not left out are replaced with one that is, or with an unknown id.
    ids = movies.item_ids
    exclude = tf.constant(np.where(made.known, ids, "film 1" if text else 1))
    listed = [made.best(u, 1000) if made.M[u].any() else [] for u in range(len(made.M))]
    for n in (3, 1000):
        best = loaded.signatures["recommend"](user=user, n=tf.constant(n), exclude=exclude)
        expected = [of_user[:n] for of_user in listed]
        assert best["count"].numpy().tolist() == [*map(len, expected)]
        assert best["known"].numpy().tolist() == made.M.any(1).tolist()
        assert best["item"].shape == best["rating"].shape == (len(user), max(best["count"]))
        for u, wanted in enumerate(expected):
            wanted, found = np.array(wanted, int), slice(len(wanted))
            assert tf.reduce_all(best["item"][u, found] == tf.constant(ids[wanted], item_type))
            np.testing.assert_allclose(best["rating"][u, found], ratings[u, wanted], atol=2e-5)
    none = loaded.signatures["recommend"](user=user[:0], n=tf.constant(3), exclude=exclude[:0])
    assert none["item"].shape == (0, 0)


def test_inputs_of_other_shapes_are_refused(served):
    signatures = served(DEEP)[2].signatures
    one, column = (tf.constant(x, tf.int64) for x in ([1, 2], [[1], [2]]))
    calls = [(name, dict(user=a, item=b), facts) for name in ("predict", "serving_default")
             for a, b, *facts in ((column, one, "user", "[2,1]"), (one, column, "item", "[2,1]"),
                                  (column, column, "rank", "[2,1]"), (one[0], one[0], "rank", "[]"),
                                  (one, one[:1], "length"), (one[:0], one, "length"))]
    calls += [("all_items", dict(user=column), ["user", "[2,1]"])]
    calls += [("recommend", dict(user=a, n=tf.constant(n), exclude=b), facts)
              for a, n, b, *facts in ((column, 1, column, "user", "[2,1]"), (one, 0, column, "n "),
                                      (one, [1], column, "n_", "[1]"),
                                      (one, 1, one, "exclude", "[2]"),
                                      (one[:1], 1, column, "exclude", "row"))]
    for name, inputs, facts in calls:
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            signatures[name](**inputs)
        assert_names(caught.value, *facts)


@pytest.mark.parametrize("config", [DEEP, TEXT], ids=["paper", "mean"])
def test_the_unknown_and_the_cold_are_answered_by_the_runs_rule(served, config):
    made, _, loaded = served(config)
    signatures = loaded.signatures
    mu, b_u, b_i = 3.0, *(np.zeros(n) for n in made.R.shape)
    if config is TEXT:
        mu, b_u, b_i = made.biases()
        assert b_u[4] and b_i[0] and (b_i == 0).any() and (b_u == 0).any()
    cold_user = made.ratings.user_ids[made.M.sum(1) == 0][0]
    cold_item = made.ratings.item_ids[made.M.sum(0) == 0][0]
    user, item = made.ratings.user_ids[4], made.ratings.item_ids[0]
    items = [item, item, 999, cold_item, 999]
    asked = dict(user=tf.constant([3, cold_user, user, user, 3], tf.int64),
                 item=tf.constant(as_text(items) if config is TEXT else np.array(items)))
    expected = [mu + b_i[0], mu + b_i[0], mu + b_u[4], mu + b_u[4], mu]
    for name in ("predict", "serving_default"):
        found = signatures[name](**asked)
        np.testing.assert_allclose(found["rating"], expected, rtol=1e-5)
        assert not found["known"].numpy().any()
    every = signatures["all_items"](user=tf.constant([3, cold_user, user], tf.int64))["rating"]
    np.testing.assert_allclose(every[:2], np.tile(mu + b_i, (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(every[2], made.predictions()[4], atol=5e-5)


def test_the_runs_own_file_may_be_named_wherever_it_lies(exporting, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(saved_model, "save", lambda *_: None)
    path = tmp_path / "far away" / "#1 ratings&co.csv"
    made = as_own(make_run(tmp_path), path, "own")
    assert exporting(made.folder) == 2
    assert_names(capsys.readouterr().err, path.name, "--data_dir", "--dataset")
    assert exporting(made.folder, "--dataset", path) == 0
    assert str(path.parent).encode() not in (made.folder / "export" / "autorec.npz").read_bytes()


def test_an_existing_target_is_refused_before_anything_is_read(exporting, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    assert exporting(tmp_path / "no run", "--output", tmp_path / "there") == 2
    assert_names(capsys.readouterr().err, tmp_path / "there", "--output")
    assert list(tmp_path.iterdir()) == [tmp_path / "there"]


def test_a_failed_export_leaves_nothing(exporting, tmp_path, monkeypatch, capsys):
    made = make_run(tmp_path)

    def fail(*_):
        raise OSError(28, "full")

    before = sorted(made.folder.iterdir())
    monkeypatch.setattr("autorec_tf.serving.saved_model.save", fail)
    assert exporting(made.folder, "--data_dir", made.data) == 2
    assert_names(capsys.readouterr().err, made.folder / "export", "(full)", "--output")
    assert sorted(made.folder.iterdir()) == before


def test_a_run_that_cannot_be_read_is_not_exported(exporting, tmp_path, capsys):
    assert exporting(tmp_path, "--output", tmp_path / "new") == 2
    error = capsys.readouterr().err
    assert error.startswith("export.py: error: ") and error.count("\n") == 1
    assert_names(error, tmp_path / "config.json")
    assert not (tmp_path / "new").exists()
