"""Several splits: the interval over them, and a folder that a later run goes on with."""

import csv
import json
import shutil
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest

import main
from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.evaluation.metrics import RECONSTRUCTION
from autorec_tf.evaluation.statistics import mean_and_interval
from autorec_tf.records.repeated_runs import RepeatedRuns
from autorec_tf.records.run_folder import RunFolder
from autorec_tf.system.distribution import Cluster
from autorec_tf.system.handshake import Handshake
from autorec_tf.system.interruption import Interruption
from tests.facts import refused

RATINGS = index_ratings("made up", np.arange(4), np.arange(4), np.ones(4), (1.0, 5.0))


@pytest.mark.parametrize(
    "values, mean, half",
    [
        ([1, 2, 3, 4, 5], 3, 2.776 * 2.5**0.5 / 5**0.5),
        ([0.8, 0.9], 0.85, 12.706 * 0.1 / 2**0.5 / 2**0.5),
        ([0.5, 0.5, 0.5], 0.5, 0),
        ([0.1, 0.2, 0.6], 0.3, 4.303 * 0.07**0.5 / 3**0.5),
    ],
)
def test_the_interval_is_students(values, mean, half):
    found = mean_and_interval(values)
    assert found == pytest.approx((mean, half), rel=2e-4)


def test_one_value_has_no_interval():
    mean, half = mean_and_interval([0.8])
    assert mean == 0.8 and np.isnan(half)


class Splits:
    """Runs of `main.run_splits` whose splits are not trained but made up from their seeds."""

    def __init__(self, folder, monkeypatch):
        self.trained, self.resumed, self.interrupt_at, self.fail_at = [], [], None, None
        self.config = Config(
            num_splits=3, results_dir=str(folder), run_name="run", split_seed=5, random_seed=9
        )
        self.path = folder / "run"
        monkeypatch.setattr(main, "run_split", self.run_split)
        monkeypatch.setattr("gc.collect", lambda: None)  # no model to free

    def run_split(self, config, ratings, handshake, interruption, started, part):
        self.parts.append(part)
        self.trained.append((config.run_name, config.split_seed, config.random_seed))
        self.resumed += [config.run_name] if config.resume else []
        folder = RunFolder(config.results_dir, config.run_name, resume=bool(config.resume))
        folder.create()
        folder.write_config(config.to_dict())
        folder.close()
        if config.split_seed == self.fail_at:
            raise RuntimeError("a bug")
        interruption.number = 2 * (config.split_seed == self.interrupt_at)
        status = "interrupted" if interruption.requested else "finished"
        rmse = np.sin(config.split_seed) / 10 + 0.85
        summary = {"status": status, "final_test_rmse": rmse, "final_test_mae": rmse - 0.2,
                   "ndcg_at_10": 0.3, "recall_at_10": 0.1, RECONSTRUCTION: 0.7,
                   "seconds": float(len(self.trained)), "other": "no measure"}
        folder.write_summary(summary)
        return summary

    def run(self, **changes):
        """The names of the splits that were trained."""
        self.trained, self.resumed, self.parts = [], [], []
        handshake = Handshake(Cluster(), print)
        config = replace(self.config, **changes)
        main.run_splits(config, RATINGS, handshake, Interruption(), ["--num_splits", "3"])
        return [name for name, _, _ in self.trained]

    def table(self):
        with open(self.path / "splits.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{name: row[name] for name in row if name != "seconds"} for row in rows]

    def summary(self):
        def refuse(constant):
            raise ValueError(f"{constant} is no JSON")

        text = (self.path / "summary.json").read_text(encoding="utf-8")
        return json.loads(text, parse_constant=refuse)


@pytest.fixture
def splits(tmp_path, monkeypatch):
    return Splits(tmp_path, monkeypatch)


def test_every_split_has_a_seed_of_its_own_and_a_line_in_the_table(splits, capsys):
    assert splits.run() == ["split_5", "split_6", "split_7"]
    assert splits.trained == [("split_5", 5, 9), ("split_6", 6, 10), ("split_7", 7, 11)]
    rows, summary = splits.table(), splits.summary()
    rmse = [0.85 + np.sin(seed) / 10 for seed in (5, 6, 7)]
    assert [row["split_seed"] for row in rows] == ["5", "6", "7"]
    assert [float(row["final_test_rmse"]) for row in rows] == rmse
    assert set(rows[0]) == {"split_seed", "final_test_rmse", "final_test_mae", "ndcg_at_10",
                            "recall_at_10", RECONSTRUCTION}
    half = 4.303 * np.std(rmse, ddof=1) / 3**0.5
    assert (summary["status"], summary["num_splits"]) == ("finished", 3)
    assert summary["final_test_rmse_mean"] == pytest.approx(np.mean(rmse), rel=1e-12)
    assert summary["final_test_rmse_ci95"] == pytest.approx(half, rel=2e-4)
    printed = capsys.readouterr().out
    table = [line for line in printed.splitlines() if line.startswith("|")]
    assert max(map(len, table)) <= 80
    cells = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in table}
    wanted = {f"{seed}": f"{x:.4f}" for seed, x in zip((5, 6, 7), rmse, strict=True)}
    wanted |= {"mean": f"{np.mean(rmse):.4f}", "± 95 %": f"{half:.4f}"}
    assert wanted.items() <= cells.items()
    assert str(splits.path) in printed


def test_a_finished_split_is_not_run_again(splits, capsys):
    splits.run()
    before, first = splits.table(), capsys.readouterr().out
    assert splits.run() == []
    assert splits.table() == before and splits.summary()["status"] == "finished"
    second = capsys.readouterr().out
    (line,) = [each for each in second.splitlines() if each.startswith("split_5 ")]
    assert "0.7541" in line
    assert second.endswith(first[first.index("| split ") :])


@pytest.mark.parametrize("name", ["run", None])
def test_the_arguments_that_complete_all_splits_name_their_folder(name, splits):
    splits.run(run_name=name)
    (folder,) = [path.name for path in splits.path.parent.iterdir()]
    arguments = ("--num_splits", "3", *(() if name else ("--run_name", folder)))
    assert splits.parts == [(f"split {i} of 3", arguments) for i in (1, 2, 3)]


def test_more_splits_are_added_to_those_that_there_are(splits):
    splits.run(num_splits=2)
    assert splits.run() == ["split_7"]
    other = splits.table()
    splits.config = replace(splits.config, run_name="other")
    splits.path = splits.path.with_name("other")
    splits.run()
    assert splits.table() == other


def test_an_unfinished_split_is_gone_on_with_and_the_table_is_the_same(splits):
    splits.run(run_name="whole")
    splits.interrupt_at = 6
    assert splits.run() == ["split_5", "split_6"]
    assert [row["split_seed"] for row in splits.table()] == ["5"]
    assert splits.summary()["status"] == "interrupted"
    assert "final_test_rmse_ci95" not in splits.summary()

    splits.interrupt_at = None
    assert splits.run() == ["split_6", "split_7"]
    assert splits.resumed == ["split_6"]
    resumed, summary = splits.table(), splits.summary()
    splits.path = splits.path.with_name("whole")
    whole = splits.summary()
    assert resumed == splits.table()
    for found in (summary, whole):
        del found["seconds_mean"], found["seconds_ci95"]
    assert summary == whole


def test_a_split_that_was_broken_off_without_a_summary_is_gone_on_with(splits):
    splits.fail_at = 5
    with pytest.raises(RuntimeError):
        splits.run()
    splits.fail_at = None
    assert splits.run() == ["split_5", "split_6", "split_7"]
    assert splits.resumed == ["split_5"]


FOLDS = dict(num_splits=1, num_folds=3)


def test_every_fold_has_a_line_in_the_table_and_they_share_their_seeds(splits):
    assert splits.run(**FOLDS) == ["fold_1", "fold_2", "fold_3"]
    assert splits.trained == [("fold_1", 5, 9), ("fold_2", 5, 9), ("fold_3", 5, 9)]
    rows, summary = splits.table(), splits.summary()
    assert [row["fold"] for row in rows] == ["1", "2", "3"] and "split_seed" not in rows[0]
    assert (summary["status"], summary["num_splits"]) == ("finished", 3)
    config = json.loads((splits.path / "fold_2" / "config.json").read_text("utf-8"))
    assert (config["fold"], config["num_folds"]) == (2, 3)
    shutil.rmtree(splits.path / "fold_2")
    assert splits.run(**FOLDS) == ["fold_2"] and splits.table() == rows


def test_a_fold_that_was_begun_is_gone_on_with(splits):
    splits.interrupt_at = 5
    assert splits.run(**FOLDS) == ["fold_1"] and splits.resumed == []
    splits.interrupt_at = None
    assert splits.run(**FOLDS) == ["fold_1", "fold_2", "fold_3"] and splits.resumed == ["fold_1"]


@pytest.mark.parametrize(
    "first, then", [({}, FOLDS), (FOLDS, {}), (FOLDS, FOLDS | dict(num_folds=4))]
)
@pytest.mark.parametrize("older", [False, True])
def test_folds_and_splits_never_share_a_folder(first, then, older, splits):
    splits.run(**first)
    settings = splits.path / "settings.json"
    if older and not first:  # as a version without folds wrote it
        record = json.loads(settings.read_text("utf-8"))
        for name in ("num_folds", "fold", "folds", "member_settings"):
            del record[name]
        settings.write_text(json.dumps(record), encoding="utf-8")
    with refused(splits.path, "num_folds", "--run_name"):
        splits.run(**then)
    assert splits.trained == [] and splits.run(**first) == []


def test_a_split_that_had_not_begun_is_removed_and_run_anew(splits):
    splits.run(num_splits=2)
    (splits.path / "split_7").mkdir()
    (splits.path / "split_7" / "left over").write_text("", encoding="utf-8")
    assert splits.run() == ["split_7"]
    assert splits.resumed == [] and not (splits.path / "split_7" / "left over").exists()


def test_two_runs_into_one_folder_are_refused(splits):
    with closing(RepeatedRuns(splits.config, "fingerprint")), refused(splits.path, "in use"):
        RepeatedRuns(splits.config, "fingerprint")
    RepeatedRuns(splits.config, "fingerprint").close()


@pytest.mark.parametrize(
    "change, before, now",
    [
        (dict(lambda_value=2.0), "1.0", "2.0"), (dict(hidden_neuron=(4, 3)), "500", "4 3"),
        (dict(random_seed=1), "9", "1"),
    ],
    ids=str,
)
def test_other_settings_under_the_same_name_are_refused_in_one_line(change, before, now, splits):
    splits.run()
    table = splits.table()
    with refused(splits.path, *change, before, now, "--run_name"):
        splits.run(**change)
    assert splits.trained == [] and splits.table() == table


def test_equal_settings_under_the_name_of_a_preset_are_those_of_the_same_run(splits):
    splits.run()
    assert splits.run(preset="deep") == [] and splits.trained == []


def as_by_an_earlier_version(splits):
    """Give the folder the L-BFGS settings of versions with one scale for all parameters."""
    path = splits.path / "settings.json"
    settings = json.loads(path.read_text("utf-8"))
    settings.pop("lbfgs_by_row", None)
    path.write_text(json.dumps(settings | {"lbfgs_memory": 10}), "utf-8")


def test_splits_of_an_earlier_version_are_continued_if_lbfgs_trains_no_model(splits):
    splits.interrupt_at = 6
    splits.run()
    as_by_an_earlier_version(splits)
    splits.interrupt_at = None
    assert splits.run() == ["split_6", "split_7"]


@pytest.mark.parametrize("change", [{"optimizer_method": "LBFGS"}, {"members": ("single", "user")}])
def test_splits_of_an_earlier_lbfgs_are_refused(change, splits):
    splits.run(**change)
    as_by_an_earlier_version(splits)
    with refused(splits.path, "lbfgs_", "--run_name"):
        splits.run(**change)
    assert splits.trained == []


def test_a_folder_of_another_kind_is_refused(splits):
    splits.path.mkdir()
    (splits.path / "something").write_text("", encoding="utf-8")
    with refused(splits.path, "no splits", "--run_name"):
        RepeatedRuns(splits.config, "fingerprint")


def test_where_the_results_lie_is_no_setting(splits, tmp_path):
    splits.run()
    moved = tmp_path / "moved"
    moved.mkdir()
    splits.path.rename(moved / "run")
    assert splits.run(results_dir=str(moved), data_dir="elsewhere") == []
