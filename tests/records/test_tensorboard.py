"""TensorBoard's event file holds metrics.csv's numbers, and names no machine."""

import errno
import importlib.util
import os
import platform
from pathlib import Path

import pytest
import tensorflow as tf

import main
from autorec_tf.records import run_records, tensorboard
from autorec_tf.records.tensorboard import Summaries
from tests.archives import events_of, metrics_of, scalars
from tests.facts import assert_names

pytestmark = pytest.mark.eager
NO_SPACE = os.strerror(errno.ENOSPC)
ROW = dict(epoch=3, learning_rate=0.001, train_rmse=0.91, test_rmse=0.95, validation_rmse=None,
           epoch_seconds=0.5, elapsed_seconds=7.25)


@pytest.fixture
def train(small_data, tmp_path, monkeypatch):
    """A function that trains a small model by flags, and returns the exit code."""
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    for name in ("draw_rmse", "draw_slices"):
        monkeypatch.setattr(run_records, name, lambda *_: None)
    monkeypatch.setattr(run_records, "write_png", lambda path, _: path.write_bytes(b"picture"))
    monkeypatch.setattr(run_records, "page", lambda *_: "report")
    flags = "--comet off --hidden_neuron 4 --batch_size 16 --train_epoch 3"
    places = ["--data_dir", str(small_data), "--results_dir", str(tmp_path)]
    return lambda more: main.main([*flags.split(), *places, *more.split()])


@pytest.mark.slow
def test_the_event_file_of_every_split_holds_the_numbers_of_its_metrics_csv(train, tmp_path):
    """That there is none without the flag, test_resume tells."""
    flags = "--run_name a --tensorboard --num_splits 2 --display_step 2 --validation_ratio 0.1"
    assert train(flags) == 0
    for split in ("split_1994", "split_1995"):
        found = scalars(events_of(tmp_path / "a" / split))
        assert found == metrics_of(tmp_path / "a" / split)
        assert (1, "test_rmse") not in found  # not evaluated
        assert {"train_rmse", "test_rmse", "validation_rmse", "test_mae", "train_cost", "test_cost",
                "learning_rate"} <= {tag for _, tag in found}


def test_settings_are_a_table(tmp_path):
    log = Summaries(tmp_path)
    log.log_parameters({"lambda_value": 1.0, "hidden_neuron": (500,), "columns": "a|<b>\u202e"})
    (value,) = events_of(tmp_path)[-1].summary.value
    assert (value.tag, value.metadata.plugin_data.plugin_name) == ("settings", "text")
    text = tf.make_ndarray(value.tensor).item().decode()
    assert text.splitlines()[2:] == ["| lambda_value | 1.0 |", "| hidden_neuron | (500,) |",
                                     r"| columns | a\|&lt;b&gt;\u202e |"]


def test_a_row_can_be_read_at_once_and_its_time_is_that_of_training(tmp_path):
    log = Summaries(tmp_path, elapsed=100.0)
    log.log_metrics(ROW, 3)
    first, event = events_of(tmp_path)
    assert first.file_version == "brain.Event:2"  # by which TensorBoard knows how to read
    assert event.wall_time == pytest.approx(first.wall_time + 7.25)
    assert scalars([event])[3, "test_rmse"] == pytest.approx(0.95)


def test_an_older_file_is_replaced_by_one_of_another_name(tmp_path):
    names = []
    for _ in range(2):
        Summaries(tmp_path).log_metrics(ROW, 3)
        (path,) = (tmp_path / "tensorboard").iterdir()
        names.append(path.name)
        assert len(events_of(tmp_path)) == 2
    assert names[0] < names[1]  # TensorBoard reads files in this order


def test_the_machine_is_not_named(tmp_path):
    log = Summaries(tmp_path)
    log.log_metrics(ROW, 3)
    (path,) = (tmp_path / "tensorboard").iterdir()
    assert path.name.removeprefix("events.out.tfevents.").isdigit()
    assert platform.node().encode() not in path.read_bytes()


def test_what_tensorboard_needs_is_told_before_anything_is_written(
    train, tmp_path, monkeypatch, capsys
):
    found, written = importlib.util.find_spec, []

    def absent(name):
        if name != "tensorboard":
            return found(name)
        written.append((tmp_path / "a").exists())

    monkeypatch.setattr(importlib.util, "find_spec", absent)
    assert train("--run_name a --tensorboard") == 0
    assert written == [False]
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "TensorBoard" in x]
    assert "install tensorboard" in line
    assert scalars(events_of(tmp_path / "a"))


def test_nothing_is_told_where_tensorboard_is_installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    tensorboard.warn_if_missing(pytest.fail)


@pytest.mark.slow
def test_a_disk_that_is_full_is_one_clear_line(train, tmp_path, monkeypatch, capsys):
    class FullDisk:
        def __init__(self, path):
            raise tf.errors.ResourceExhaustedError(None, None, f"{path}; {NO_SPACE}")

    monkeypatch.setattr(tf.io, "TFRecordWriter", FullDisk)
    assert train("--run_name a --tensorboard") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert Path("a", "tensorboard", "events.out.tfevents").as_posix() in line
    assert_names(line, NO_SPACE, "--resume", tmp_path / "a")
