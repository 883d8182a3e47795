"""An export without ratings says what the run says, and needs neither pickle nor TensorFlow."""

import errno
import json
import os
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import read_npz, split_fingerprint, write_npz
from autorec_tf.serving.recommender import predict, recommend, similar
from tests.facts import refused
from tests.finished import BIASED, BLEND, CONFIG, MEANS, ONE_HOT, SVDPP, load, make_run

DEEP = replace(CONFIG, hidden_neuron=(6, 4, 5), orientation="user", output_activation="tanh")

pytestmark = pytest.mark.eager

CASES = {"item": BIASED, "deep": DEEP, "blend": BLEND, "means": MEANS, "one_hot": ONE_HOT,
         "svdpp": SVDPP}


@pytest.fixture(scope="module")
def export(tmp_path_factory):
    """A function that makes one of the CASES, once: its run and its export."""

    @cache
    def export(name):
        folder = tmp_path_factory.mktemp("exported")
        made = make_run(folder, CASES[name])
        run = read_run(made.folder, str(made.data))
        write_npz(folder / "autorec.npz", run, run.recommender())
        return made, run, folder / "autorec.npz"

    return export


@pytest.fixture(scope="module", params=CASES)
def exported(request, export):
    return export(request.param)


def test_predictions_and_similar_items_are_those_of_the_run(exported):
    made, run, path = exported
    ours, theirs = read_npz(path), run.recommender()
    users, items = (x.ravel() for x in np.indices(made.R.shape))
    pairs = np.append(made.ratings.user_ids[users], 3), np.append(made.ratings.item_ids[items], 2)
    found = predict(ours, *pairs)
    pd.testing.assert_frame_equal(found, predict(theirs, *pairs))
    np.testing.assert_allclose(found["prediction"][:-1], made.predictions().ravel(), atol=2e-5)
    pd.testing.assert_frame_equal(similar(ours, 2, 50), similar(theirs, 2, 50))


def test_recommendations_leave_nothing_out(exported):
    made, run, path = exported
    items = set(recommend(read_npz(path), 1, 1000)["item"])
    assert items == set(made.ratings.item_ids[made.M.sum(0) > 0])


def test_it_holds_every_parameter_the_ids_the_counts_and_the_fingerprints(exported):
    made, run, path = exported
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file}
    assert content["format"] == "autorec" and content["version"] == 2
    names = ["parameters"] if len(run.members) == 1 else ["parameters_1", "parameters_2"]
    assert len(content["weights"]) == len(names)
    for i, name in enumerate(names, 1):
        of_rows = {"own": (), "biased": ("c",), "svdpp": ("Y", "c")}[run.config.decoder]
        for parameter in ("V", "W", "mu", "b", *of_rows):
            saved = load(str(made.folder / name), parameter)
            key = "own_W" if of_rows and parameter == "W" else parameter
            assert np.array_equal(content[f"{key}_{i}"], saved)
    inner = {name for name in content if name.startswith("inner")} - {"inner_scale"}
    layers = len(run.config.hidden_neuron) - 1
    assert len(inner) == 2 * layers
    for j in range(layers):
        saved = load(str(made.folder / "parameters"), f"inner/{j}/0")
        assert np.array_equal(content[f"inner_1_{j + 1}"], saved)
    assert list(content["user_ids"]) == list(made.ratings.user_ids)
    assert list(content["item_ratings"]) == list(made.M.sum(0))
    assert list(content["user_ratings"]) == list(made.M.sum(1))
    assert str(content["fingerprint"]) == made.ratings.fingerprint
    assert str(content["split_fingerprint"]) == split_fingerprint(run.train)
    config = json.loads(str(content["config"]))
    assert config == json.loads(json.dumps(run.config.to_dict()))
    assert str(made.data) not in str(content["config"])


def test_a_row_with_one_hot_inputs_is_encoded_by_hand_from_what_it_holds(tmp_path):
    made = make_run(tmp_path, ONE_HOT)
    run = read_run(made.folder, str(made.data))
    write_npz(tmp_path / "autorec.npz", run, run.recommender())
    with np.load(tmp_path / "autorec.npz", allow_pickle=False) as file:
        V, D, values, mu, codes = (file[f"{name}_1"].astype(np.float64)
                                   for name in ("V", "D", "values", "mu", "codes"))
    assert values.tolist() == [1, 2, 3, 4, 5] and D.shape == (40 + 10, 5, 6)
    for item in (0, 7, 29):
        z = mu.copy()
        for u in np.flatnonzero(made.M[:, item]):
            r = made.R[u, item]
            z += r * V[u] + D[u, values.tolist().index(r)]
        np.testing.assert_allclose(1 / (1 + np.exp(-z)), codes[item], atol=1e-5)


def test_other_training_ratings_have_another_split_fingerprint(exported):
    train = exported[1].train
    values = train.values.copy()
    values[7] = 6 - values[7] + (values[7] == 3)
    assert split_fingerprint(replace(train, values=values)) != split_fingerprint(train)


def test_ids_that_are_text_stay_text(tmp_path):
    made = make_run(tmp_path)
    run = read_run(made.folder, str(made.data))
    for dtype in (object, str):
        ids = np.array([f"film {i}" for i in made.ratings.item_ids], dtype)
        movies = replace(run.recommender(), item_ids=ids)
        write_npz(tmp_path / "text.npz", run, movies)
        found = read_npz(tmp_path / "text.npz")
        assert list(found.item_ids) == list(ids)
        assert similar(found, "film 2", 1)["item"].iloc[0].startswith("film ")
        assert predict(found, [1], ["film 2"])["item_ratings"][0] == made.M.sum(0)[0]


@pytest.mark.slow
def test_each_is_read_without_tensorflow(export):
    paths = [str(export(name)[2]) for name in CASES]
    script = (
        "import sys; from autorec_tf.serving.npz import read_npz; "
        "from autorec_tf.serving.recommender import similar; "
        "print(*(len(similar(read_npz(path), 2, 3)) for path in sys.argv[1:])); "
        "assert 'tensorflow' not in sys.modules"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-c", script, *paths], cwd=root, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("3 3 3 3 3 3\n", "")


def rewritten(path, new, **changes):
    """The file at `path` without its digests, and with `changes`, as the file `new`."""
    with np.load(path, allow_pickle=False) as file:
        content = {name: file[name] for name in file} | {"sha256": None} | changes
    np.savez(new, **{name: x for name, x in content.items() if x is not None})
    return new


def test_what_is_predicted_of_the_unknown_is_written_and_read(exported):
    made, run, path = exported
    mu, b_u, b_i = 3.0, *(np.zeros(n) for n in made.R.shape)
    if run.config.cold_rating == "mean":
        mu, b_u, b_i = made.biases()
    found = predict(read_npz(path), [3, made.ratings.user_ids[5], 3], [2, 999, 999])
    np.testing.assert_allclose(found["prediction"], [mu + b_i[0], mu + b_u[5], mu], rtol=1e-6)
    with np.load(path) as file:
        assert file["scale"].tolist() == list(made.scale)
        assert file["inner_scale"].tolist() == [1, 5]


NEW_IN_2 = ("inner_scale", "cold_mean", "cold_scale", "cold_user_bias", "cold_item_bias")


def test_version_1_is_read_and_answers_3_of_the_unknown(exported, tmp_path):
    made, run, path = exported
    if made.scale != (1, 5):
        pytest.skip("version 1 had no other scale inside")
    old = rewritten(path, tmp_path / "old.npz", version=1, **dict.fromkeys(NEW_IN_2))
    users, items = (x.ravel() for x in np.indices(made.R.shape))
    pairs = np.append(made.ratings.user_ids[users], 3), np.append(made.ratings.item_ids[items], 2)
    found = predict(read_npz(old), *pairs)["prediction"]
    np.testing.assert_allclose(found, np.append(made.predictions(), 3), atol=2e-5)
    pd.testing.assert_series_equal(found, predict(read_npz(path), *pairs)["prediction"])


def test_a_version_1_file_written_by_hand_is_predicted_by_hand(tmp_path):
    """On 1..100, as it was then: nothing is mapped, and 3 is the answer of the cold."""
    np.savez(
        tmp_path / "old.npz", format="autorec", version=1,
        config='{"dataset": "mine", "hidden_neuron": [1]}',
        user_ids=np.array([10, 20, 30]), item_ids=np.array(["a", "b"]),
        user_ratings=np.array([2, 1, 0]), item_ratings=np.array([2, 1]),
        scale=np.array([1.0, 100.0]), weights=np.array([1.0]), orientations=["item"],
        hidden_activations=["sigmoid"], output_activations=["identity"],
        codes_1=np.array([[1], [-2]], np.float32), W_1=np.array([[40, 60, 5]], np.float32),
        b_1=np.array([20, 50, 7], np.float32), V_1=np.zeros((3, 1), np.float32),
        mu_1=np.zeros(1, np.float32), fingerprint="0" * 64, split_fingerprint="1" * 64,
    )
    found = predict(read_npz(tmp_path / "old.npz"), [10, 20, 10, 20, 30, 40], [*"aabba", "a"])
    assert list(found["prediction"]) == [60, 100, 1, 1, 3, 3]


def test_the_file_of_another_run_is_refused_in_a_run_folder(export, tmp_path):
    made, run, path = export("item")
    record = json.loads((made.folder / "config.json").read_text("utf-8"))
    assert len(read_npz(path, record | {"run_name": "renamed", "train_epoch": 900}).users)
    for name, value in (("fingerprint", "0" * 64), ("random_seed", 7), ("hidden_neuron", [7])):
        with refused(path, name, value if name == "random_seed" else "", "config.json"):
            read_npz(path, record | {name: value})


def test_a_deflated_file_is_refused_before_it_is_expanded(tmp_path):
    path = tmp_path / "zeros.npz"
    np.savez_compressed(path, W_1=np.zeros(50_000_000, np.int8))
    assert path.stat().st_size < 100_000
    tracemalloc.start()
    try:
        with refused(path, "W_1"):
            read_npz(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_missing_artefact_is_refused(tmp_path):
    with refused(tmp_path / "autorec.npz", os.strerror(errno.ENOENT)):
        read_npz(tmp_path / "autorec.npz")
