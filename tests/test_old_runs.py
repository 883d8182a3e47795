"""Runs that earlier versions made, of made-up ratings, are still of use.

Those in old_runs/ are of the version before the folders: `finished` and `killed` are of one
command, the latter killed at epoch 13, after its checkpoint of epoch 10, and `blend` has two
members. Those in v2/ are what old_runs/make.py tells. `<run>_user_8.json` is what was recommended.
"""

import csv
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import autorec_tf
import compare
import main
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.npz import NAME, read_npz, write_npz
from autorec_tf.serving.recommender import predict, recommend
from tests.conftest import REPOSITORY
from tests.facts import assert_names
from tests.figures import undrawn
from tests.program import read_json

pytestmark = pytest.mark.eager

FOLDER = REPOSITORY / "tests" / "old_runs"
NEW = [f"v2/{name}" for name in
       ("single", "one_hot", "deep", "rprop", "validation", "blend", "workers")]
FINISHED = ["finished", "blend", *NEW]
KILLED = {"killed": "finished"} | {f"{name}_killed": name for name in NEW}
EARLIER_LBFGS = {"v2/single_killed", "v2/blend_killed"}


def assert_recommends(recommender, name):
    before = pd.DataFrame(read_json(FOLDER / f"{name}_user_8.json"))
    table = recommend(recommender, 8, 5)
    assert table["item"].tolist() == before["item"].tolist()
    assert table["prediction"].tolist() == pytest.approx(before["prediction"].tolist(), abs=1e-4)


@pytest.mark.parametrize("name", FINISHED)
def test_they_recommend_what_they_did_and_so_do_their_files(name, tmp_path):
    run = read_run(FOLDER / name, str(FOLDER))
    recommender = run.recommender()
    assert_recommends(recommender, name)
    write_npz(tmp_path / NAME, run, recommender)
    files = [tmp_path / NAME] + [FOLDER / name / "predictions.npz"] * (name in NEW)
    for file in files:
        assert_recommends(replace(read_npz(file), rated=recommender.rated), name)


@pytest.mark.slow
@pytest.mark.parametrize("name", FINISHED)
def test_they_take_in_a_new_user(name):
    run = read_run(FOLDER / name, str(FOLDER))
    items = run.ratings.item_ids
    wider = fold_in(run, np.array([1000, 1000]), items[[0, 3]], np.array([5.0, 1.0]))
    predictions = predict(wider.recommender(), [1000] * len(items), items)["prediction"]
    assert predictions.between(1, 5).all()


def test_they_are_compared():
    names = [*FINISHED, *KILLED]
    results = compare.read_results([FOLDER / name for name in names])
    assert [result.status == "finished" for result in results] == [n in FINISHED for n in names]
    rmses = [read_json(FOLDER / name / "summary.json")["final_test_rmse"] for name in FINISHED]
    rmses += [None] * len(KILLED)
    assert [result.means.get("test RMSE") for result in results] == rmses


def scores_of(folder):
    """The test RMSE of the result, and of each epoch; of a blend, of each member, and its weight.
    """
    table = "metrics.csv" if (folder / "metrics.csv").exists() else "members.csv"
    rows = csv.DictReader((folder / table).read_text("utf-8").splitlines())
    scores = [float(row[name]) for row in rows for name in ("test_rmse", "weight") if name in row]
    return [read_json(folder / "summary.json")["final_test_rmse"], *scores]


@pytest.mark.slow
@pytest.mark.parametrize(
    "killed, finished", [each for each in KILLED.items() if each[0] not in EARLIER_LBFGS]
)
def test_one_that_was_killed_goes_on_as_if_it_had_not_been(
    killed, finished, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    folder = tmp_path / "killed"
    shutil.copytree(FOLDER / killed, folder)
    epochs = {read_json(path)["epoch"] for path in folder.glob("checkpoint*.json")}
    assert undrawn(main.main)(["--resume", str(folder), "--data_dir", str(FOLDER)]) == 0
    assert_names(capsys.readouterr().out, *(f"epoch {epoch}." for epoch in epochs))
    # Another processor rounds otherwise.
    assert scores_of(folder) == pytest.approx(scores_of(FOLDER / finished), abs=1e-3)


@pytest.mark.parametrize("name", sorted(EARLIER_LBFGS))
def test_one_of_an_earlier_lbfgs_is_refused_in_one_line_and_left_alone(name, tmp_path, capsys):
    """Finished ones are read as they were: the tests above."""
    folder = tmp_path / "killed"
    shutil.copytree(FOLDER / name, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(SystemExit) as ended:
        main.main(["--resume", str(folder), "--data_dir", str(FOLDER)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert_names(line, folder, "L-BFGS", "--run_name")
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_settings_of_an_earlier_lbfgs_are_its_own():
    (member,) = read_run(FOLDER / "v2" / "single", str(FOLDER)).members
    config = member.model.config
    assert (config.lbfgs_memory, config.lbfgs_by_row, config.tolerance) == (10, False, 0.0)


@pytest.mark.parametrize("name", ["plain", "blended"])
def test_a_saved_model_predicts_what_it_did(name):
    before = read_json(FOLDER / "v2" / f"{name}_predictions.json")
    predictions = before.pop("predictions")
    model = autorec_tf.load(FOLDER / "v2" / f"{name}.npz")
    assert model.predict(**before).tolist() == pytest.approx(predictions, abs=1e-3)  # of 20 to 100


def test_an_export_predicts_what_its_run_did():
    export = FOLDER / "v2" / "export"
    before = pd.DataFrame(read_json(FOLDER / "v2" / "blend_user_8.json"))
    users, items = np.full(len(before), 8), before["item"].to_numpy()
    predictions = predict(read_npz(export / NAME), users, items)["prediction"]
    served = tf.saved_model.load(str(export / "autorec" / "1")).signatures["predict"]
    ratings = served(user=tf.constant(users), item=tf.constant(items))["rating"].numpy()
    for found in (predictions, ratings):
        assert found.tolist() == pytest.approx(before["prediction"].tolist(), abs=1e-4)
