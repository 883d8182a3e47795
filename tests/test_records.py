"""The run folder's parts that the whole program's tests do not reach."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from config import Config
from errors import UserError
from progress import Progress, clock
from records import (
    EpochMetrics,
    RunFolder,
    default_name,
    git_commit,
    peak_memory_mb,
    results,
    summarize,
    tab_line,
)


def metrics(epoch, test_rmse=None):
    return EpochMetrics(epoch, 0.001, 10.0, 0.9, test_rmse, test_rmse, test_rmse, 1.0, epoch * 1.0)


def test_rows_are_on_disk_as_soon_as_they_are_added(tmp_path):
    folder = RunFolder(tmp_path, "run")
    folder.create()
    folder.add(metrics(1, 0.95))
    folder.add(metrics(2))
    lines = (tmp_path / "run" / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("epoch,learning_rate,train_cost,train_rmse,test_cost,test_rmse")
    assert lines[1] == "1,0.001,10.0,0.9,0.95,0.95,0.95,1.0,1.0"
    assert lines[2] == "2,0.001,10.0,0.9,,,,1.0,2.0"


def test_a_run_folder_that_appears_meanwhile_is_not_taken(tmp_path):
    first, second = RunFolder(tmp_path, "run"), RunFolder(tmp_path, "run")
    first.create()
    with pytest.raises(UserError, match="already exists"):
        second.create()


def test_json_that_cannot_be_written_leaves_the_old_file_whole(tmp_path):
    folder = RunFolder(tmp_path, "run")
    folder.create()
    folder.write_json("a.json", {"x": 1})
    with pytest.raises(TypeError):
        folder.write_json("a.json", {"x": object()})
    assert (tmp_path / "run" / "a.json").read_text(encoding="utf-8") == '{\n  "x": 1\n}\n'


def test_text_lines_end_every_value_with_a_tab():
    assert tab_line("RMSE:", [0.5, 1.25]) == "RMSE:\t0.5\t1.25\t\n"
    assert tab_line("Cost:", []) == "Cost:\t\n"


def test_the_final_result_is_the_last_evaluated_epoch_not_the_best():
    found = results([metrics(1, 0.9), metrics(2, 0.8), metrics(3, 0.85), metrics(4)])
    assert (found["final_test_epoch"], found["final_test_rmse"]) == (3, 0.85)
    assert (found["best_test_epoch"], found["best_test_rmse"]) == (2, 0.8)
    assert "final_test_rmse" not in results([metrics(1)])


def test_a_run_of_fewer_epochs_than_asked_for_is_called_interrupted():
    facts = {"dataset": "ml-1m", "test_ratings": 9, "cold_test_ratings": 1}
    two = [metrics(1, 0.9), metrics(2, 0.8)]
    assert summarize(two, 2, facts, 1.0)["status"] == "finished"
    assert summarize(two, 3, facts, 1.0)["status"] == "interrupted"
    assert summarize(two, 3, facts, 1.0)["epochs"] == 2


def test_the_default_name_tells_dataset_seed_optimiser_rate_and_time():
    name = default_name(Config(dataset="synthetic", random_seed=3, optimizer_method="RMSProp"))
    start, time = name.rsplit("_", 1)
    assert start == "synthetic_seed3_rmsprop_lr0.001"
    assert len(time) == len("20260101T000000Z") and time.endswith("Z")


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


def test_plain_lines_are_printed_for_evaluated_epochs_only():
    screen = Screen(terminal=False)
    progress = Progress("ml-1m", 10, screen)
    for row in (metrics(1), metrics(2, 0.95)):
        progress.show(row)
    assert screen.text == (
        "ml-1m  epoch  2/10  train RMSE 0.9000  test RMSE 0.9500  lr 0.001  "
        "0:02 elapsed  0:08 left\n"
    )


def test_a_message_stands_above_the_live_line(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    screen = Screen(terminal=True)
    progress = Progress("ml-1m", 10, screen)
    progress.show(metrics(1, 0.95))
    live = screen.text
    progress.say("hello")
    assert screen.text == f"{live}\r\033[Khello\n{live.removeprefix(chr(13) + chr(27) + '[K')}"


def test_durations_read_as_a_clock():
    assert [clock(s) for s in (0, 9.6, 61, 3599.6, 3725)] == [
        "0:00", "0:10", "1:01", "1:00:00", "1:02:05",
    ]  # fmt: skip


def test_peak_memory_is_this_process_own_and_not_its_parents():
    ballast = np.ones(300_000_000, np.uint8)
    code = "from records import peak_memory_mb; print(peak_memory_mb())"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parent.parent,
    )  # fmt: skip
    assert peak_memory_mb() > 300 > float(done.stdout) > 10
    del ballast
