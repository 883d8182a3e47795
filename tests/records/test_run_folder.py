"""The run folder's parts that the whole program's tests do not reach."""

import hashlib
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics
from autorec_tf.records.progress import Progress, clock
from autorec_tf.records.run_folder import RunFolder, default_name, tab_line
from autorec_tf.records.summary import results
from autorec_tf.system.environment import git_commit, peak_memory_mb
from autorec_tf.system.files import write_json
from tests.facts import assert_names, refused


def metrics(epoch, test_rmse=None, validation_rmse=None, leaking=None):
    return EpochMetrics(
        epoch, 0.001, 10.0, 0.9, test_rmse, test_rmse, test_rmse, validation_rmse, leaking, 1.0,
        epoch * 1.0,
    )


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    folder = RunFolder(tmp_path, "run")
    folder.create()
    path = tmp_path / "run" / "metrics.csv"
    assert not path.exists()
    for row, expected in (
        (metrics(1, 0.95), "1,0.001,10.0,0.9,0.95,0.95,0.95,,,1.0,1.0"),
        (metrics(2), "2,0.001,10.0,0.9,,,,,,1.0,2.0"),
        (metrics(3, 0.95, 0.96, 0.7), "3,0.001,10.0,0.9,0.95,0.95,0.95,0.96,0.7,1.0,3.0"),
    ):
        folder.add(row)
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[-1] == expected
    assert len(lines) == 4
    assert lines[0] == (
        "epoch,learning_rate,train_cost,train_rmse,test_cost,test_rmse,test_mae,"
        "validation_rmse,reconstruction_rmse_test_ratings_as_input,epoch_seconds,elapsed_seconds"
    )


def test_a_run_folder_that_appears_meanwhile_is_not_taken(tmp_path):
    first, second = RunFolder(tmp_path, "run"), RunFolder(tmp_path, "run")
    first.create()
    with refused(second.path, "in use"):
        second.create()


@pytest.mark.parametrize("content, is_free", [((), False), ((".lock", "config.json.part"), True),
                                              (("notes.txt",), False)])
def test_a_folder_that_a_start_left_without_settings_is_used(content, is_free, tmp_path):
    (tmp_path / "run").mkdir()
    for name in content:
        (tmp_path / "run" / name).write_text("", encoding="utf-8")
    if is_free:
        RunFolder(tmp_path, "run").create()
    else:
        with refused(tmp_path / "run", "--run_name"):
            RunFolder(tmp_path, "run")


def test_a_default_name_that_is_taken_is_numbered(tmp_path):
    folders = [RunFolder(tmp_path, "run", named_by_user=False) for _ in range(3)]
    for folder in folders:
        folder.create()
    assert [folder.path.name for folder in folders] == ["run", "run_2", "run_3"]


def test_a_folder_in_use_is_refused_until_it_is_let_go(tmp_path):
    first = RunFolder(tmp_path, "run")
    first.create()
    with refused(first.path, "in use"):
        RunFolder(tmp_path, "run", resume=True)
    first.close()
    second = RunFolder(tmp_path, "run", resume=True)
    second.create()
    second.close()
    assert list((tmp_path / "run").iterdir()) == []


def filled(tmp_path):
    folder = RunFolder(tmp_path, "run")
    folder.create()
    folder.add(metrics(1, 0.95, 0.96, 0.7))
    folder.add(metrics(2))
    position = folder.position()
    folder.add(metrics(3, 0.9))
    folder.close()
    return position


def test_metrics_after_the_position_are_cut_and_the_others_are_read_again(tmp_path):
    position = filled(tmp_path)
    folder = RunFolder(tmp_path, "run", resume=True)
    folder.truncate_to(position)
    assert folder.metrics == [metrics(1, 0.95, 0.96, 0.7), metrics(2)]
    assert folder.position() == position
    folder.add(metrics(3))
    lines = (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 4 and lines[-1].startswith("3,0.001,")


def test_without_a_position_no_metrics_are_kept(tmp_path):
    filled(tmp_path)
    folder = RunFolder(tmp_path, "run", resume=True)
    folder.truncate_to(None)
    assert folder.metrics == [] and not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize("content", [None, b"", b"epoch,learning_rate\n", b"changed"])
def test_metrics_that_were_changed_are_refused_in_one_line(content, tmp_path):
    position, path = filled(tmp_path), tmp_path / "run" / "metrics.csv"
    path.unlink()
    if content == b"changed":
        content = b"x" * position["bytes"]
    if content is not None:
        path.write_bytes(content)
    with refused(path, path.with_name("checkpoint.json")):
        RunFolder(tmp_path, "run", resume=True).truncate_to(position)


def test_a_finished_run_that_goes_on_is_finished_no_more(tmp_path):
    folder = RunFolder(tmp_path, "run")
    folder.create()
    assert not folder.is_finished()
    folder.write_summary({"status": "finished", "final_test_rmse": 0.9})
    assert folder.is_finished()
    folder.close()
    again = RunFolder(tmp_path, "run", resume=True)
    again.create()
    assert not again.is_finished()
    text = (tmp_path / "run" / "summary.json").read_text(encoding="utf-8")
    assert json.loads(text)["final_test_rmse"] == 0.9


def test_json_that_cannot_be_written_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"x": 1})
    with pytest.raises(TypeError):
        write_json(path, {"x": object()})
    assert path.read_text(encoding="utf-8") == '{\n  "x": 1\n}\n'


def test_text_lines_end_every_value_with_a_tab():
    assert tab_line("RMSE:", [0.5, 1.25]) == "RMSE:\t0.5\t1.25\t\n"
    assert tab_line("Cost:", []) == "Cost:\t\n"


def test_the_final_result_is_the_last_evaluated_epoch_not_the_best():
    found = results([metrics(1, 0.9), metrics(2, 0.8), metrics(3, 0.85), metrics(4)])
    assert (found["final_test_epoch"], found["final_test_rmse"]) == (3, 0.85)
    assert (found["best_test_epoch"], found["best_test_rmse"]) == (2, 0.8)
    assert "final_test_rmse" not in results([metrics(1)])


def test_with_validation_ratings_the_final_result_is_the_epoch_that_they_chose():
    found = results(
        [metrics(1, 0.9, 0.95), metrics(2, 0.88, 0.9), metrics(3), metrics(4, 0.8, 0.91)]
    )
    assert (found["final_test_epoch"], found["final_test_rmse"]) == (2, 0.88)
    assert found["final_validation_rmse"] == 0.9
    assert (found["best_test_epoch"], found["best_test_rmse"]) == (4, 0.8)
    assert RECONSTRUCTION not in found


def test_the_reconstruction_is_that_of_the_final_epoch_and_under_its_own_name():
    rows = [metrics(1, 0.9, 0.8, 0.7), metrics(2, 0.88, 0.9, 0.6)]
    assert results(rows)[RECONSTRUCTION] == 0.7
    assert results(rows)["final_test_rmse"] == 0.9
    assert "test_ratings_as_input" in RECONSTRUCTION


def test_the_default_name_tells_dataset_seed_optimiser_rate_and_time():
    name = default_name(Config(dataset="synthetic", random_seed=3, optimizer_method="RMSProp"))
    start, time = name.rsplit("_", 1)
    assert start == "synthetic_seed3_rmsprop_lr0.001"
    assert len(time) == len("20260101T000000Z") and time.endswith("Z")


def test_a_presets_name_is_in_the_default_name():
    name = default_name(Config(dataset="synthetic", preset="paper"))
    assert name.startswith("synthetic_paper_seed1994_adam_lr0.001_")


def test_a_run_over_several_splits_is_named_by_its_settings_and_not_by_the_time():
    three = Config(dataset="synthetic", num_splits=3)
    assert default_name(three) == default_name(replace(three, num_splits=5))
    assert default_name(three) != default_name(replace(three, lambda_value=2.0))
    assert default_name(three) == default_name(replace(three, results_dir="elsewhere"))
    assert "_splits_" in default_name(three)
    folds = replace(three, num_splits=1, num_folds=5)
    assert default_name(folds) == default_name(folds) != default_name(replace(folds, num_folds=4))
    assert "_folds_" in default_name(folds)


def test_a_run_over_splits_has_the_name_that_it_had_before_there_were_folds():
    config = Config(dataset="synthetic", num_splits=3)
    settings = config.to_dict() | {"num_splits": None}
    for name in ("num_folds", "fold", "folds", "member_settings", "start_from",
                 "start_fingerprint", "start_removed"):
        del settings[name]
    digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()
    assert default_name(config).endswith(f"_splits_{digest[:8]}")


def test_the_commit_is_that_of_the_folders_own_checkout(tmp_path):
    assert git_commit(tmp_path) is None

    def git(*arguments):
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        subprocess.run(["git", "-C", tmp_path, *identity, *arguments], check=True)

    (tmp_path / "file").write_text("1", encoding="utf-8")
    git("init", "--quiet")
    git("add", "file")
    git("commit", "--quiet", "-m", "one")
    commit = git_commit(tmp_path)
    assert len(commit) == 40 and set(commit) <= set("0123456789abcdef")
    (tmp_path / "file").write_text("2", encoding="utf-8")
    assert git_commit(tmp_path) == f"{commit}-dirty"


class Screen:
    """A stream that says it is a terminal, or not."""

    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def progress_on(screen, epochs=10, **settings):
    progress = Progress("split 1 of 5", screen)
    progress.begin(Config(train_epoch=epochs, **settings))
    return progress


def test_plain_lines_are_printed_for_evaluated_epochs_only():
    screen = Screen(terminal=False)
    progress = progress_on(screen)
    for row in (metrics(1), metrics(2, 0.95)):
        progress.log(row)
    (line,) = screen.text.splitlines()
    assert_names(line, "split 1 of 5", "2/10", "train RMSE 0.9000", "test RMSE 0.9500", "lr 0.001",
                 "0:02 elapsed", "0:08 left")


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 160])
@pytest.mark.parametrize("settings", [{}, {"optimizer_method": "LBFGS", "tolerance": 0.1}], ids=str)
def test_the_time_left_is_shown_at_any_width_and_no_field_is_cut(columns, settings, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(columns))
    screen = Screen(terminal=True)
    blend = Config(members=("single", "user_one_hot", "deep"))
    progress = progress_on(screen)
    progress.begin_member(blend, Config(train_epoch=500, **settings), "for the weights", 2)
    for row in (metrics(1), metrics(2, 0.95)):
        progress.log(row)
    first, line = screen.text.split("\r\033[K")[1:]
    assert "-:-- left" in first and "8:18 left" in line and "  2/500" in line
    fields = line.split("  ")
    for field in ("user_one_hot (2 of 3)", "for the weights", "validation RMSE 0.9500",
                  "train RMSE 0.9000", "0:02 elapsed", "split 1 of 5"):
        assert field in fields or (field not in line and columns < 160)
    assert len(line) < columns and ("lr 0.001" in fields) == (columns == 160 and not settings)


def test_the_first_epoch_is_not_extrapolated(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    screen = Screen(terminal=True)
    progress = progress_on(screen)
    for epoch, seconds in ((1, 60.0), (2, 61.0), (4, 63.0)):
        progress.log(replace(metrics(epoch), elapsed_seconds=seconds))
    assert [re.search(r"(\S+) left", line)[1] for line in screen.text.split("\r")[1:]] == [
        "-:--", "0:08", "0:06"]


def test_another_training_of_the_same_run_has_a_line_and_a_count_of_its_own(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    screen = Screen(terminal=True)
    progress = progress_on(screen)
    progress.log(metrics(1, 0.95))
    progress.log(metrics(2))
    assert "\n" not in screen.text and "test RMSE 0.9500" in screen.text.split("\r")[-1]
    progress.begin(Config(train_epoch=3), "deep (2 of 3)")
    progress.log(metrics(1))
    first, second = screen.text.split("\n")
    assert_names(first, "2/10")
    assert_names(second, "deep (2 of 3)", "1/3", "test RMSE    -  ")


def test_a_message_stands_above_the_live_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    screen = Screen(terminal=True)
    progress = progress_on(screen)
    progress.log(metrics(1, 0.95))
    live = screen.text
    progress.print_line("hello")
    assert screen.text == f"{live}\r\033[Khello\n{live.removeprefix(chr(13) + chr(27) + '[K')}"


def test_durations_read_as_a_clock():
    assert [clock(s) for s in (0, 9.6, 61, 3599.6, 3725)] == [
        "0:00", "0:10", "1:01", "1:00:00", "1:02:05",
    ]


@pytest.mark.slow
def test_peak_memory_is_this_process_own_and_not_its_parents():
    ballast = np.ones(300_000_000, np.uint8)
    code = "from autorec_tf.system.environment import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )
    assert peak_memory_mb() > 300 > float(done.stdout) > 10
    del ballast
