"""Runs that the version before the folders made, of made-up ratings, are still of use.

`finished` and `killed` are of one command, the latter killed at epoch 13, after its checkpoint of
epoch 10; `blend` has two members. `<run>_user_8.json` is what that version recommended.
"""

import csv
import json
import shutil

import pytest

import compare
import main
from serving.finished_run import read_run
from serving.npz import NAME, read_npz, write_npz
from serving.recommender import recommend
from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "tests" / "old_runs"


@pytest.mark.parametrize("name", ["finished", "blend"])
def test_they_recommend_what_they_did(name, tmp_path):
    run = read_run(FOLDER / name, str(FOLDER))
    recommender = run.recommender()
    before = json.loads((FOLDER / f"{name}_user_8.json").read_text("utf-8"))
    write_npz(tmp_path / NAME, run, recommender)
    table = recommend(recommender, 8, 5)
    assert table["item"].tolist() == [row["item"] for row in before]
    predictions = [row["prediction"] for row in before]
    assert table["prediction"].tolist() == pytest.approx(predictions, abs=1e-4)
    assert read_npz(tmp_path / NAME).factors[0].codes.shape == recommender.factors[0].codes.shape


def test_they_are_compared():
    results = compare.read_results([FOLDER / name for name in ("finished", "blend", "killed")])
    assert [result.status for result in results] == ["finished", "finished", "no result yet"]
    summary = json.loads((FOLDER / "finished" / "summary.json").read_text("utf-8"))
    assert results[0].means["test RMSE"] == summary["final_test_rmse"]


def metrics_of(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return [(int(row["epoch"]), float(row["test_rmse"])) for row in csv.DictReader(file)]


@pytest.mark.slow
def test_one_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    shutil.copytree(FOLDER / "killed", tmp_path / "killed")
    assert main.main(["--resume", str(tmp_path / "killed"), "--data_dir", str(FOLDER)]) == 0
    assert "Going on after epoch 10." in capsys.readouterr().out
    for ours, theirs in zip(
        metrics_of(tmp_path / "killed"), metrics_of(FOLDER / "finished"), strict=True
    ):
        assert ours == pytest.approx(theirs, abs=1e-3)  # another processor rounds otherwise
