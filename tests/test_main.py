"""The program as a user runs it: a process, its output, its exit code and what it leaves."""

import csv
import errno
import gc
import itertools
import json
import os
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

import recommend
from AutoRec import AutoRec
from autorec_tf import experiments
from autorec_tf.config import GRID
from autorec_tf.data import synthetic
from autorec_tf.experiments import Purpose
from autorec_tf.records.paired_scores import read_paired_scores
from tests.conftest import rating_lines
from tests.facts import assert_names
from tests.forks import main_in_fork
from tests.program import (
    NO_NETWORK,
    RECONSTRUCTION,
    TIME_COLUMNS,
    command,
    environment,
    interrupt_at,
    read_json,
    read_metrics,
    run_main,
)

pytestmark = [pytest.mark.slow, pytest.mark.eager]


def values_of(folder, name):
    """The lines of a text record: {"Cost:": [...], "RMSE:": [...]}."""
    rows = [line.split("\t") for line in (folder / name).read_text(encoding="utf-8").splitlines()]
    assert all(row[-1] == "" for row in rows)  # a tab after every value
    return {row[0]: [float(value) for value in row[1:-1]] for row in rows}


def the_line(text, *facts):
    """The one line of `text` that names all `facts`."""
    (found,) = [line for line in text.splitlines() if all(fact in line for fact in facts)]
    return found


SMALL = ("--comet", "off", "--hidden_neuron", 8, "--batch_size", 16, "--run_name", "run")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run by a process that several tests read: what it said, its folder, and its data's."""
    place = tmp_path_factory.mktemp("finished")
    rng, data = np.random.default_rng(5), place / "data"
    pairs = rng.permutation(60 * 40)[:900]
    data.mkdir()
    (data / "ratings.dat").write_bytes(rating_lines(
        [(7 * (p // 40) + 1, 3 * (p % 40) + 2, rng.integers(1, 6)) for p in pairs]
    ))
    done = main_in_fork(
        *SMALL, "--train_epoch", 5, "--display_step", 2, "--grad_clip", "false", "--base_lr", 0.05,
        "--data_dir", data, cwd=place,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done, place / "results" / "run", data


@pytest.fixture
def within(monkeypatch):
    """Runs within this process, where TensorFlow runs already, draw no figures and write no report,
    which have tests of their own."""
    import main
    from autorec_tf.records import run_records

    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)
    monkeypatch.setattr(run_records, "page", lambda *_: "report")
    for name in ("draw_rmse", "draw_slices", "write_png"):
        monkeypatch.setattr(run_records, name, lambda *_: None)
    return main.main


@pytest.fixture
def main_here(within, tmp_path, monkeypatch, capsys):
    """A function that runs flags within this process, as `run_main` does in a process of its
    own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/nonexistent")
    for name in [name for name in os.environ if name.startswith(("COMET", "AUTOREC"))]:
        monkeypatch.delenv(name)

    def run_flags(*flags):
        capsys.readouterr()
        try:
            code = within([*map(str, flags)])
        except SystemExit as exit:  # which argparse ends with
            code = exit.code
        return subprocess.CompletedProcess(flags, code, *capsys.readouterr())

    return run_flags


def test_a_run_leaves_every_record_and_they_agree(finished):
    done, folder, data = finished
    assert {path.name for path in folder.iterdir()} == {
        "basic_info.txt", "train_record.txt", "test_record.txt", "metrics.csv", "config.json",
        "summary.json", "rmse.png", "slices.png", "report.html", "parameters.index",
        "parameters.data-00000-of-00001", "checkpoint.json", "checkpoint-5.index",
        "checkpoint-5.data-00000-of-00001", "predictions.npz", "test_scores.npz",
    }

    rows = read_metrics(folder)
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert [row["epoch"] for row in rows if row["test_rmse"]] == ["2", "4", "5"]
    assert [row["epoch"] for row in rows if row["test_mae"]] == ["2", "4", "5"]
    for name, prefix in (("train_record.txt", "train"), ("test_record.txt", "test")):
        record = values_of(folder, name)
        for line, column in (("Cost:", f"{prefix}_cost"), ("RMSE:", f"{prefix}_rmse")):
            assert record[line] == [float(row[column]) for row in rows if row[column]]

    config, summary = read_json(folder / "config.json"), read_json(folder / "summary.json")
    expected = {"hidden_neuron": [8], "train_epoch": 5, "grad_clip": False, "dataset": "ml-1m",
                "num_ratings": 900, "train_ratings": 810, "test_ratings": 90, "base_lr": 0.05,
                "split_seed": 1994, "adam_beta_1": 0.9, "run_name": "run"}
    assert {key: config[key] for key in expected} == expected
    assert config["engine"] in ("dense", "sparse") and config["threads"] >= 1
    assert config["packages"]["tensorflow"] == tf.__version__
    assert "hidden_neuron=(8,)" in (folder / "basic_info.txt").read_text(encoding="utf-8")
    assert str(data.parent) not in "".join(
        path.read_text(encoding="utf-8") for path in folder.glob("*.[tj]*") if path.is_file()
    )
    assert summary["status"] == "finished" and summary["epochs"] == 5
    assert summary["final_test_rmse"] == float(rows[-1]["test_rmse"])
    assert summary["best_test_rmse"] == min(float(r["test_rmse"]) for r in rows if r["test_rmse"])
    assert summary["peak_memory_mb"] > 100

    printed = done.stdout.splitlines()
    epochs = [re.search(r"epoch +(\d+)/5", line) for line in printed]
    assert [int(match[1]) for match in epochs if match] == [2, 4, 5]
    assert f"Test RMSE {summary['final_test_rmse']:.4f}" in done.stdout


def test_the_recorded_test_rmse_is_that_of_the_saved_parameters(finished):
    """From the files alone: parameters, split and ratings give the summary's RMSE again."""
    from data_preprocessor import read_ml_1m, split_ratings

    _, folder, data = finished
    V, W, mu, b = (
        tf.train.load_variable(str(folder / "parameters"), f"{name}/.ATTRIBUTES/VARIABLE_VALUE")
        for name in ("V", "W", "mu", "b")
    )
    split = split_ratings(read_ml_1m(data / "ratings.dat"), 0.9, 1994)
    R = np.zeros((split.train.num_rows, split.train.num_columns))
    R[split.train.rows, split.train.indices] = split.train.values
    reconstruction = 1 / (1 + np.exp(-(R @ V + mu))) @ W + b
    predictions = np.clip(reconstruction[split.test.rows, split.test.indices], 1, 5)
    assert np.unique(predictions).size > 80  # not all clipped
    rmse = np.sqrt(np.mean((predictions - split.test.values) ** 2))
    assert read_json(folder / "summary.json")["final_test_rmse"] == pytest.approx(rmse, abs=1e-5)


def test_the_seed_preset_calls_its_reconstruction_by_its_name_beside_the_honest_rmse(
    small_data, tmp_path, main_here
):
    done = main_here(*SMALL, "--preset", "seed", "--train_epoch", 3, "--base_lr", 0.05,
                     "--data_dir", small_data)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "results" / "run"
    summary, rows = read_json(folder / "summary.json"), read_metrics(folder)
    honest, leaking = summary["final_test_rmse"], summary[RECONSTRUCTION]
    assert (honest, leaking) == tuple(
        float(rows[-1][name]) for name in ("test_rmse", "reconstruction_rmse_test_ratings_as_input")
    )
    assert honest != leaking and summary["test_ratings"] == 225 and summary["preset"] == "seed"
    assert f"{honest:.4f}" in the_line(done.stdout, "Honest")
    assert_names(the_line(done.stdout, "Reconstruction"), f"{leaking:.4f}", "not a prediction")
    assert read_json(folder / "config.json")["preset"] == "seed"


def test_the_paper_preset_chooses_lambda_and_learning_rate_and_keeps_the_table(
    small_data, tmp_path, main_here, monkeypatch
):
    monkeypatch.setitem(GRID, "decay_epoch_step", (1,))
    monkeypatch.setattr(experiments, "STEPS_OUTWARDS", 1)
    done = main_here(*SMALL, "--preset", "paper", "--train_epoch", 2, "--data_dir", small_data)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "results" / "run"
    with open(folder / "tuning.csv", newline="", encoding="utf-8") as file:
        points = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    tuned = ("lambda_value", "base_lr", "decay_epoch_step")
    assert len({tuple(point[name] for name in tuned) for point in points}) == len(points) > 3
    best = min(points, key=lambda point: point["validation_rmse"])
    config = read_json(folder / "config.json")
    for name in tuned:
        assert config[name] == best[name]
    assert config["regularization"] == "plain"
    assert f"validation RMSE {best['validation_rmse']:.4f}" in done.stdout
    rows = read_metrics(folder)
    assert float(rows[0]["learning_rate"]) == best["base_lr"] and len(rows) == 2
    assert f"lambda_value={best['lambda_value']!r}" in (folder / "basic_info.txt").read_text()


def test_several_splits_are_run_once_and_the_table_is_printed_again(
    small_data, tmp_path, main_here
):
    arguments = (*SMALL, "--train_epoch", 2, "--num_splits", 2, "--data_dir", small_data)
    first = main_here(*arguments)
    assert (first.returncode, first.stderr) == (0, "")
    folder = tmp_path / "results" / "run"
    files = {path: path.stat().st_mtime_ns for path in folder.glob("split_*/*")}
    table = (folder / "splits.csv").read_text(encoding="utf-8")
    summaries = [read_json(folder / f"split_{seed}" / "summary.json") for seed in (1994, 1995)]
    scores = [summary["final_test_rmse"] for summary in summaries]
    assert scores[0] != scores[1]
    mean = read_json(folder / "summary.json")["final_test_rmse_mean"]
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)

    second = main_here(*arguments)
    assert (second.returncode, second.stderr) == (0, "")
    assert "epoch" in first.stdout and "epoch" not in second.stdout
    assert {path: path.stat().st_mtime_ns for path in folder.glob("split_*/*")} == files
    assert (folder / "splits.csv").read_text(encoding="utf-8") == table
    assert first.stdout.endswith(second.stdout[second.stdout.index("| split ") :])


def number_of_models():
    return sum(type(each) is AutoRec for each in gc.get_objects())


def test_the_folds_of_a_run_test_every_rating_once(
    small_data, tmp_path, main_here, monkeypatch
):
    """From the records alone: each fold's ratings are read again as recommend.py does."""
    from autorec_tf.records import report, run_records
    from autorec_tf.serving.finished_run import read_run

    monkeypatch.setattr(run_records, "page", report.page)
    gc.collect()
    before = number_of_models()
    done = main_here(*SMALL, "--train_epoch", 2, "--num_folds", 3, "--data_dir", small_data)
    assert (done.returncode, done.stderr) == (0, "")
    assert number_of_models() <= before  # those of finished folds are not in memory any more
    folder, trained = tmp_path / "results" / "run", []
    for number in (1, 2, 3):
        fold = folder / f"fold_{number}"
        config = read_json(fold / "config.json")
        assert (config["fold"], config["num_folds"], config["num_splits"]) == (number, 3, 1)
        assert (config["train_ratings"], config["test_ratings"]) == (600, 300)
        assert_names(the_line(done.stdout, "Split:", f"fold {number} of 3"), "600", "300", "1994")
        assert_names((fold / "report.html").read_text("utf-8"), f"fold {number} of 3", "1994")
        run = read_run(fold, str(small_data))
        trained.append(zip(run.train.rows.tolist(), run.train.indices.tolist(), strict=True))
    times = Counter(itertools.chain(*trained))
    assert times == dict.fromkeys(zip(run.ratings.items, run.ratings.users, strict=True), 2)
    mean = read_json(folder / "summary.json")["final_test_rmse_mean"]
    summaries = [read_json(folder / f"fold_{number}" / "summary.json") for number in (1, 2, 3)]
    scores = [summary["final_test_rmse"] for summary in summaries]
    assert mean == pytest.approx(np.mean(scores), rel=1e-12)

    alone = main_here(*SMALL[:-1], "alone", "--train_epoch", 2, "--num_folds", 3, "--fold", 2,
                      "--data_dir", small_data)
    assert alone.returncode == 0
    summary = read_json(tmp_path / "results" / "alone" / "summary.json")
    assert summary["final_test_rmse"] == scores[1]


def test_published_folds_are_trained_by_one_command_and_recommend(tmp_path, main_here, capsys):
    rng, data = np.random.default_rng(3), tmp_path / "ml-100k"
    data.mkdir()
    pairs = rng.permutation(30 * 20)[:250]
    lines = [f"{1 + p // 20}\t{1 + p % 20}\t{rng.integers(1, 6)}\t9\n" for p in pairs]
    (data / "u.data").write_text("".join(lines))
    for number, name in enumerate(("u1", "u2", "u3")):
        part = slice(60 * number, 60 * (number + 1))
        (data / f"{name}.test").write_text("".join(lines[part]))
        (data / f"{name}.base").write_text("".join(lines[: part.start] + lines[part.stop :]))
    flags = (*SMALL, "--train_epoch", 2, "--dataset", "ml-100k", "--folds", "u1", "u2", "u3")
    first = main_here(*flags)
    assert (first.returncode, first.stderr) == (0, "")
    folder = tmp_path / "results" / "run"
    with open(folder / "splits.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["u1", "u2", "u3"]
    for row in rows:
        fold = folder / f"fold_{row['fold']}"
        config, summary = read_json(fold / "config.json"), read_json(fold / "summary.json")
        assert (config["folds"], config["dataset"]) == ([row["fold"]], "ml-100k")
        assert (config["train_ratings"], config["test_ratings"]) == (190, 60)
        assert float(row["final_test_rmse"]) == summary["final_test_rmse"]
    second = main_here(*flags)
    assert second.returncode == 0
    assert f"{float(rows[1]['final_test_rmse']):.4f}" in the_line(second.stdout, "fold_u2")
    assert first.stdout.endswith(second.stdout[second.stdout.index("| fold ") :])

    assert recommend.main([str(folder / "fold_u2"), "--user", "7", "--json"]) == 0
    rated = {1 + p % 20 for p in pairs if 1 + p // 20 == 7}
    recommended = {row["item"] for row in json.loads(capsys.readouterr().out)}
    assert recommended and not recommended & rated

    (data / "u3.test").write_text("".join(lines[100:160]))  # other ratings, of both files
    changed = main_here(*flags)
    assert changed.returncode == 2
    assert_names(changed.stderr, "u3.test, line ", "u3.base, line ")
    (data / "u3.test").write_text("".join(lines[120:170]))
    changed = main_here(*flags)
    assert changed.returncode == 2
    assert_names(changed.stderr, str(folder.relative_to(tmp_path)), "fingerprint", "--run_name")


def test_a_blend_leaves_its_members_and_a_summary(small_data, tmp_path, main_here):
    done = main_here(*SMALL, "--members", "item", "user", "--train_epoch", 2,
                     "--data_dir", small_data)
    assert (done.returncode, done.stderr) == (0, "")
    folder = tmp_path / "results" / "run"
    with open(folder / "members.csv", newline="", encoding="utf-8") as file:
        members = list(csv.DictReader(file))
    assert [member["orientation"] for member in members] == ["item", "user"]
    assert all(float(member["weight"]) >= 0 for member in members)
    assert (folder / "parameters_1.index").exists() and (folder / "parameters_2.index").exists()
    summary = read_json(folder / "summary.json")
    assert (summary["status"], summary["test_ratings"]) == ("finished", 90)
    assert f"Test RMSE {summary['final_test_rmse']:.4f}" in done.stdout
    weights, result = Purpose.WEIGHTS.value, Purpose.RESULT.value
    for name in ("item (1 of 2)", "user (2 of 2)"):
        for purpose in (weights, result):
            assert any(name in line and purpose in line for line in done.stdout.splitlines())
    for line in done.stdout.splitlines():
        assert ("validation RMSE" in line) == (weights in line)
    assert read_json(folder / "config.json")["members"] == ["item", "user"]


def test_real_movielens_trains_to_the_rmse_it_should_and_again_to_the_last_bit(ml_1m, tmp_path):
    """8 epochs of small batches and falling rates reach a test RMSE of 0.8606. The same model gives
    0.8591 if the test ratings are in its input, beside the training ratings."""
    arguments = ("--batch_size", 128, "--base_lr", 0.006, "--decay_epoch_step", 4, "--decay_rate",
                 0.2, "--display_step", 2, "--dataset", "ml-1m", "--data_dir", ml_1m)
    rows = []
    for epochs in (8, 2):
        # The second one is about its epochs, not about what is made of the model afterwards.
        few = ("--ranked_users", 9) if epochs == 2 else ()
        done = main_in_fork(*arguments, *few, "--train_epoch", epochs, "--run_name", epochs,
                            "--comet", "off", cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        metrics = read_metrics(tmp_path / "results" / str(epochs))
        rows.append([{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in metrics])
    assert rows[0][:2] == rows[1] and rows[1][1]["test_rmse"]
    summary = read_json(tmp_path / "results" / "8" / "summary.json")
    assert 0.8599 < summary["final_test_rmse"] < 0.8615
    assert summary["test_ratings"] == 100_021
    assert summary["peak_memory_mb"] < 1300


DEEP = "--hidden_neuron 6 3 6"
BEFORE = {}  # flags -> summary: most are compared with the same run


@pytest.mark.parametrize(
    "given, changed",
    [
        ("", "--hidden_neuron 9"), ("", "--lambda_value 3"), ("", "--train_epoch 2"),
        ("", "--batch_size 7"), ("", "--optimizer_method RMSProp"), ("", "--grad_clip true"),
        ("", "--base_lr 0.05"), ("", "--decay_rate 0.1"), ("", "--decay_epoch_step 1"),
        ("", "--random_seed 5"), ("", "--split_seed 5"), ("", "--train_ratio 0.8"),
        ("", "--orientation user"), ("", "--regularization plain"),
        ("", "--hidden_activation tanh"), ("", "--output_activation sigmoid"),
        ("", "--lambda_encoder 0"), ("", "--lambda_decoder 0"), ("", "--dropout 0.3"),
        ("", "--input_dropout 0.3"), ("", "--initial_bias mean"), ("", "--optimizer_method RProp"),
        ("--initial_bias mean", "--mean_in_weights 1"), ("", "--average_decay 0.5"),
        ("", "--optimizer_method LBFGS"), ("", DEEP), (DEEP, "--pretrain_epoch 1"),
        (DEEP + " --pretrain_epoch 1", "--pretrain_epoch 2"),
        ("", "--input_encoding one_hot"),
        ("--input_encoding one_hot", "--lambda_one_hot 9"), ("", "--validation_ratio 0.2"),
        ("--validation_ratio 0.2 --train_epoch 12", "--patience 1"),
    ],
)
def test_every_hyper_parameter_changes_the_result(given, changed, run_here):
    if given not in BEFORE:
        BEFORE[given] = run_here(given)
    before, after = BEFORE[given], run_here(f"{given} {changed}")
    assert before["status"] == after["status"] == "finished"
    if "--patience" in changed:  # which only spares epochs
        assert before["final_test_rmse"] == after["final_test_rmse"]
        assert before["epochs"] > after["epochs"]
    else:
        assert before["final_test_rmse"] != after["final_test_rmse"]


@pytest.fixture
def run_here(within, small_data, tmp_path):
    """A function that runs flags within this process, on small data, and returns the summary."""
    names = itertools.count()

    def run_flags(flags):
        name = f"run_{next(names)}"
        small = ("--comet off --hidden_neuron 8 --batch_size 32 --base_lr 0.1 --train_epoch 3 "
                 "--decay_epoch_step 2")
        places = ("--run_name", name, "--data_dir", str(small_data), "--results_dir", str(tmp_path))
        assert within([*small.split(), *places, *flags.split()]) in (0, 130)
        return read_json(tmp_path / name / "summary.json")

    return run_flags


def test_the_result_is_that_of_the_epoch_that_validation_ratings_chose(run_here, tmp_path, capsys):
    summary = run_here("--validation_ratio 0.2 --train_epoch 12 --patience 3 --lambda_value 0")
    rows = read_metrics(tmp_path / "run_0")
    best = min(rows, key=lambda row: float(row["validation_rmse"]))
    assert 1 <= int(best["epoch"]) == len(rows) - 3
    assert summary["final_test_epoch"] == int(best["epoch"])
    assert summary["final_validation_rmse"] == float(best["validation_rmse"])
    assert summary["final_test_rmse"] == float(best["test_rmse"])
    assert f"epoch {best['epoch']} " in the_line(capsys.readouterr().out, "Test RMSE", "MAE")


def test_that_training_has_converged_is_printed_and_recorded(run_here, capsys):
    rprop = "--optimizer_method RProp --regularization plain"
    summary = run_here(f"{rprop} --train_epoch 30 --tolerance 0.5 --display_step 100")
    printed = capsys.readouterr().out
    assert summary["converged"] and 11 <= summary["epochs"] < 30
    assert "--tolerance" in printed and f"epoch {summary['epochs']} " in printed
    assert "Train longer" not in printed  # which would change little
    assert "converged" not in run_here(f"{rprop} --train_epoch 12")
    assert "--tolerance" not in capsys.readouterr().out


def test_slices_and_rankings_are_recorded_and_add_up(run_here, tmp_path, capsys):
    summary = run_here("")
    for axis in ("user", "item"):
        parts = summary[f"by_training_ratings_of_the_{axis}"]
        assert sum(part["test_ratings"] for part in parts) == summary["test_ratings"] == 90
        total = sum(part["test_ratings"] * part["rmse"] ** 2 for part in parts)
        assert np.sqrt(total / 90) == pytest.approx(summary["final_test_rmse"], rel=1e-9)
        of_biases = sum(part["test_ratings"] * part["biases_rmse"] ** 2 for part in parts)
        assert np.sqrt(of_biases / 90) == pytest.approx(summary["biases_test_rmse"], rel=1e-9)
    for ranking in ("", "popularity_"):
        assert 0 < summary[f"{ranking}ndcg_at_10"] < 1
        assert 0 < summary[f"{ranking}recall_at_10"] <= 1
        assert 10 / 40 <= summary[f"{ranking}coverage_at_10"] <= 1
    assert 0 < summary["ranked_users"] <= 60
    stored = read_paired_scores(tmp_path / "run_0" / "test_scores.npz")
    assert len(stored.errors) == 90 and len(stored.users) == summary["ranked_users"]
    for found, name in ((np.sqrt(np.mean(stored.errors.astype(float) ** 2)), "final_test_rmse"),
                        (np.mean(stored.errors), "final_test_mae"),
                        (np.mean(stored.ndcg), "ndcg_at_10"),
                        (np.mean(stored.recall), "recall_at_10")):
        assert found == pytest.approx(summary[name], rel=1e-5)
    printed = capsys.readouterr().out
    assert the_line(printed, "opularity", f"{summary['popularity_ndcg_at_10']:.4f}")


def test_that_users_were_drawn_to_be_ranked_is_told(run_here, capsys):
    everyone = run_here("")
    assert "--ranked_users" not in capsys.readouterr().out
    num_users = everyone["ranked_users"]
    assert everyone["ranked_users_drawn_from"] == num_users > 9
    drawn = run_here("--ranked_users 9")
    assert (drawn["ranked_users"], drawn["ranked_users_drawn_from"]) == (9, num_users)
    told = the_line(capsys.readouterr().out, "--ranked_users")
    assert_names(told, " 9 users", f" {num_users} ")


@pytest.mark.parametrize("terminal, patience, shown", [(True, -1, True), (True, 99, False),
                                                       (False, -1, False)])
def test_a_ranking_that_takes_long_is_shown_on_the_live_line(
    terminal, patience, shown, run_here, monkeypatch, capsys
):
    from autorec_tf.evaluation import ranking
    from autorec_tf.records import progress

    monkeypatch.setattr(progress, "SHOWN_AFTER", patience)
    monkeypatch.setattr(ranking, "BLOCK_USERS", 8)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    num_users = run_here("")["ranked_users"]
    out = capsys.readouterr().out
    live = [f"\r\033[Kusers ranked {done:2}/{num_users}  " for done in (0, 8)]
    assert [line in out for line in live] == [shown, shown]
    assert out.index("NDCG@10") > out.rindex("users ranked" if shown else "epoch 3")


@pytest.mark.parametrize("name", ["config.json", "metrics.csv"])
def test_a_file_that_vanishes_during_the_run_is_reported_and_written_again(
    name, run_here, tmp_path, monkeypatch, capsys
):
    run_here("--checkpoint_every 1")
    interrupt_at(3, monkeypatch)
    from autorec_tf.records.run_records import RunRecords

    record = RunRecords.record

    def remove_and_record(self, metrics):
        if metrics.epoch == 2:
            (self.path / name).unlink()
        record(self, metrics)

    monkeypatch.setattr(RunRecords, "record", remove_and_record)
    run_here("--checkpoint_every 1 --train_epoch 9")
    assert the_line(capsys.readouterr().out, "warning", str(tmp_path / "run_1" / name))
    columns = ("epoch", "train_cost", "test_rmse")
    whole, again = ([[row[x] for x in columns] for row in read_metrics(tmp_path / run)]
                    for run in ("run_0", "run_1"))
    assert again == whole
    assert read_json(tmp_path / "run_1" / "config.json")["train_epoch"] == 9


def test_a_run_that_cannot_write_its_settings_leaves_no_folder(
    within, small_data, tmp_path, monkeypatch, capsys
):
    from autorec_tf.records.run_folder import RunFolder

    def full(self, settings):
        raise OSError(errno.ENOSPC, "No space left on device", str(self.path / "config.json"))

    flags = ["--comet", "off", "--hidden_neuron", "2", "--train_epoch", "1", "--run_name", "run",
             "--data_dir", str(small_data), "--results_dir", str(tmp_path / "results")]
    with monkeypatch.context() as patched:
        patched.setattr(RunFolder, "write_config", full)
        assert within(flags) == 2
    error = capsys.readouterr().err
    assert_names(error, "config.json", "No space left", "--results_dir")
    assert "--resume" not in error and list((tmp_path / "results").iterdir()) == []
    assert within(flags) == 0


@pytest.mark.parametrize("display_step", [1, 2])
def test_an_interrupted_run_is_scored_as_it_was_when_it_ended(
    display_step, run_here, monkeypatch
):
    flags = "--score_reconstruction true --train_epoch"
    whole = run_here(f"{flags} 3")
    interrupt_at(3, monkeypatch)
    summary = run_here(f"{flags} 9 --display_step {display_step}")
    assert (summary["status"], summary["epochs"]) == ("interrupted", 3)
    for name in ("final_test_epoch", "final_test_rmse", "ndcg_at_10", RECONSTRUCTION):
        assert summary[name] == whole[name]


def test_a_run_that_is_interrupted_at_its_best_epoch_ends_as_that(
    run_here, tmp_path, monkeypatch
):
    interrupt_at(3, monkeypatch)
    summary = run_here("--train_epoch 9 --base_lr 0.02 --validation_ratio 0.2 --batch_size 16")
    rows = read_metrics(tmp_path / "run_0")
    assert summary["final_test_epoch"] == len(rows) == 3
    assert summary["final_test_rmse"] == float(rows[-1]["test_rmse"])


@pytest.mark.parametrize(
    "arguments, facts",
    [
        (("--train_epoch", 0), ("--train_epoch 0",)),
        (("--train_ratio", 1.5), ("--train_ratio 1.5",)),
        (("--comet", "online"), ("COMET_API_KEY",)),
        (("--run_name", "taken"), ("results/taken", "--run_name")),
        (("--results_dir", "data/ratings.dat"), ("data/ratings.dat", "--results_dir")),
        (("--train_ratio", 0.99999), ("--train_ratio 0.99999",)),
    ],
)
def test_a_users_mistake_is_one_line_and_leaves_nothing(
    arguments, facts, small_data, tmp_path, main_here
):
    (tmp_path / "results" / "taken").mkdir(parents=True)
    done = main_here("--data_dir", small_data, *arguments)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert_names(done.stderr, *facts)
    assert [path.name for path in (tmp_path / "results").iterdir()] == ["taken"]


def test_a_bad_line_of_data_is_one_line_and_leaves_nothing(small_data, tmp_path):
    with open(small_data / "ratings.dat", "ab") as file:
        file.write(b"1::2::six::978300760\n")
    done = run_main("--data_dir", small_data, cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == ""
    assert_names(done.stderr, "ratings.dat, line 901", "'1::2::six::978300760'")
    assert len(done.stderr.splitlines()) == 1 and not (tmp_path / "results").exists()


def test_without_data_and_network_it_trains_on_synthetic_ratings_and_says_so(
    tmp_path, main_here, monkeypatch
):
    fewer = dict(ML_1M_USERS=300, ML_1M_ITEMS=300, ML_1M_COUNTS=(500, 1000, 2500, 3400, 2200))
    for name, value in fewer.items():
        monkeypatch.setattr(synthetic, name, value)
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    done = main_here("--train_epoch", 1, "--hidden_neuron", 4, "--comet", "off")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert the_line(done.stdout, "MovieLens-1M", "ml-1m", "synthetic")
    assert any(line.startswith("epoch 1/1") for line in lines)
    assert_names(lines[-1], "synthetic", "RMSE", "MovieLens")
    (folder,) = (tmp_path / "results").iterdir()
    assert folder.name.startswith("synthetic_seed1994_adam_lr0.001_")
    assert read_json(folder / "config.json")["dataset"] == "synthetic"
    assert read_json(folder / "summary.json")["dataset"] == "synthetic"
    assert "dataset='synthetic'" in (folder / "basic_info.txt").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.glob("ml-1m/*")] == []


def test_ml_1m_asked_for_by_name_is_never_replaced(tmp_path, main_here, monkeypatch):
    for name, value in NO_NETWORK.items():
        monkeypatch.setenv(name, value)
    done = main_here("--dataset", "ml-1m")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    for remedy in ("network", "--data_dir", "--dataset synthetic"):
        assert remedy in done.stderr
    assert not (tmp_path / "results").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_one_line_is_renewed_and_a_broken_comet_package_warns_once(
    small_data, tmp_path
):
    import pty

    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "comet_ml.py").write_text("raise SystemExit(3)\n", encoding="utf-8")
    parent, child = pty.openpty()
    process = subprocess.Popen(
        command(*SMALL[2:], "--train_epoch", 4, "--data_dir", small_data), cwd=tmp_path,
        env=environment(COLUMNS="70", PYTHONPATH=str(tmp_path / "broken")),
        stdout=child, stderr=child,
    )
    os.close(child)
    output = b""
    try:
        while chunk := os.read(parent, 4096):
            output += chunk
    except OSError:  # how Linux says that the terminal was closed
        pass
    assert process.wait() == 0
    (live,) = [line for line in output.decode().split("\r\n") if "epoch 1/4" in line]
    states = live.split("\r\033[K")[1:]
    assert [re.search(r"epoch (\d)/4", state)[1] for state in states] == ["1", "2", "3", "4"]
    assert all(len(state) < 70 for state in states)
    assert output.count(b"warning: Comet") == 1
    assert read_json(tmp_path / "results" / "run" / "summary.json")["status"] == "finished"


def test_help_answers_without_loading_tensorflow(tmp_path):
    done = run_main("--help", cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert done.returncode == 0 and "--hidden_neuron" in done.stdout
    assert "numpy" in done.stderr  # or the trace of imports would prove nothing
    assert "tensorflow" not in done.stderr and "comet_ml" not in done.stderr
