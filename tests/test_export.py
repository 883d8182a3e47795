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
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.saved_model import save
from tests.facts import assert_names
from tests.finished import BLEND, CONFIG, MEANS, ONE_HOT, SVDPP, as_own, make_run

DEEP = replace(CONFIG, hidden_neuron=(6, 4, 5), orientation="user", output_activation="sigmoid")

LOADING = """
import json, sys
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1])
users, items = json.load(sys.stdin)
asked = dict(user=tf.constant(users, tf.int64), item=tf.constant(items, tf.int64))
found = model.signatures["predict"](**asked)
single = model.signatures["serving_default"](user=asked["user"][:1], item=asked["item"][:1])
every = model.signatures["all_items"](user=asked["user"][::40])
assert "AutoRec" not in sys.modules
json.dump({"rating": found["rating"].numpy().tolist(), "known": found["known"].numpy().tolist(),
           "single": single["rating"].numpy().tolist(), "all": every["rating"].numpy().tolist(),
           "item": every["item"].numpy().tolist()}, sys.stdout)
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
    assert exporting(made.folder, "--data_dir", made.data) == 0
    place = made.folder / "export" / "autorec" / "1"
    assert (place / "saved_model.pb").exists() and (place.parents[1] / "autorec.npz").exists()
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


SVDPP_MEANS = replace(SVDPP, cold_rating="mean", rating_scale=(0.0, 10.0))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that returns the run of a config, and its SavedModel; of one config, once."""

    @cache
    def saved(config):
        folder = tmp_path_factory.mktemp("saved")
        made = make_run(folder, config)
        save(read_run(made.folder, str(made.data)).recommender(), folder / "saved")
        return made, tf.saved_model.load(str(folder / "saved"))

    return saved


@pytest.mark.parametrize(
    "config", [DEEP, replace(ONE_HOT, orientation="user"), SVDPP_MEANS,
               replace(SVDPP, orientation="user")],
    ids=["deep_user", "one_hot_user", "svdpp_means", "svdpp_user"],
)
def test_the_signatures_take_ids_and_any_number_of_them(saved, config):
    made, loaded = saved(config)
    assert_signatures(made, loaded, *pairs(made), tf.int64)


def test_the_signatures_take_text_too(tmp_path):
    made = make_run(tmp_path, replace(MEANS, input_encoding="one_hot"))
    movies = read_run(made.folder, str(made.data)).recommender()
    users, items = pairs(made)
    ids = np.array([f"film {i}" for i in movies.item_ids], object)
    save(replace(movies, item_ids=ids), tmp_path / "saved")
    loaded = tf.saved_model.load(str(tmp_path / "saved"))
    items = np.char.add("film ", items.astype(str))
    assert_signatures(made, loaded, users, items, tf.string)


def assert_signatures(made, loaded, users, items, item_type):
    assert set(loaded.signatures) == {"serving_default", "predict", "all_items"}
    predict = loaded.signatures["predict"]
    for count in (0, 1, 7, len(users)):
        found = predict(user=tf.constant(users[:count]), item=tf.constant(items[:count]))
        expected = made.predictions().ravel()[:count]
        np.testing.assert_allclose(found["rating"], expected, atol=2e-5)
    specs = predict.structured_input_signature[1]
    assert specs["user"] == tf.TensorSpec([None], tf.int64, "user")
    assert specs["item"] == tf.TensorSpec([None], item_type, "item")
    every = loaded.signatures["all_items"](user=tf.constant(made.ratings.user_ids[3:5]))
    np.testing.assert_allclose(every["rating"], made.predictions()[3:5], atol=2e-5)


@pytest.mark.parametrize("config", [DEEP, SVDPP_MEANS], ids=["paper", "mean"])
def test_the_unknown_and_the_cold_are_answered_by_the_runs_rule(saved, config):
    made, loaded = saved(config)
    signatures = loaded.signatures
    mu, b_u, b_i = 3.0, *(np.zeros(n) for n in made.R.shape)
    if config.cold_rating == "mean":
        mu, b_u, b_i = made.biases()
        assert b_u[4] and b_i[0] and (b_i == 0).any() and (b_u == 0).any()
    cold_user = made.ratings.user_ids[made.M.sum(1) == 0][0]
    cold_item = made.ratings.item_ids[made.M.sum(0) == 0][0]
    user, item = made.ratings.user_ids[4], made.ratings.item_ids[0]
    asked = dict(user=tf.constant([3, cold_user, user, user, 3], tf.int64),
                 item=tf.constant([item, item, 999, cold_item, 999], tf.int64))
    expected = [mu + b_i[0], mu + b_i[0], mu + b_u[4], mu + b_u[4], mu]
    for name in ("predict", "serving_default"):
        found = signatures[name](**asked)
        np.testing.assert_allclose(found["rating"], expected, rtol=1e-5)
        assert not found["known"].numpy().any()
    every = signatures["all_items"](user=tf.constant([3, cold_user, user], tf.int64))["rating"]
    np.testing.assert_allclose(every[:2], np.tile(mu + b_i, (2, 1)), rtol=1e-5)
    np.testing.assert_allclose(every[2], made.predictions()[4], atol=5e-5)


def test_the_runs_own_file_may_be_named_wherever_it_lies(exporting, tmp_path, capsys):
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
