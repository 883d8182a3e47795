"""A run that dies anywhere and is resumed equals one that was left alone, to the last bit."""

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf

import main
from autorec_tf.model import column_shards
from autorec_tf.records import run_records
from autorec_tf.records.run_folder import RunFolder
from autorec_tf.records.run_records import RunRecords
from autorec_tf.system import files
from tests.archives import events_of, metrics_of, scalars
from tests.facts import assert_names
from tests.figures import MAIN_UNDRAWN
from tests.forks import Fork
from tests.program import MAIN, TIME_COLUMNS, environment, read_metrics, wait_for
from tests.records.test_comet import archived_metrics

pytestmark = [pytest.mark.slow, pytest.mark.eager]

SMALL = (
    "--comet off --hidden_neuron 8 --batch_size 24 --base_lr 0.05 --train_epoch 6 "
    "--decay_epoch_step 2 --checkpoint_every 2"
)
SHORT = "--train_epoch 2 --decay_epoch_step 1 --checkpoint_every 1"
TIMES = {*TIME_COLUMNS, "seconds", "peak_memory_mb", "run_name"}
NO_SPACE = os.strerror(errno.ENOSPC)


class Killed(BaseException):
    """The process dies here."""


@pytest.fixture
def here(small_data, tmp_path, monkeypatch):
    """A function that runs flags within this process, and returns the exit code."""
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    for name in ("draw_rmse", "draw_slices"):
        monkeypatch.setattr(run_records, name, lambda *_: None)
    monkeypatch.setattr(run_records, "write_png", lambda path, _: path.write_bytes(b"picture"))
    monkeypatch.setattr(run_records, "page", lambda *_: "report")
    places = ["--data_dir", str(small_data)]

    def run_flags(flags, name=None):
        where = ["--results_dir", str(tmp_path), "--run_name", name] if name else []
        try:
            return main.main([*flags.split(), *places, *where])
        except SystemExit as error:  # argparse's way
            return error.code

    return run_flags


def refusal(capsys):
    """What is told on stderr: one line."""
    (line,) = capsys.readouterr().err.splitlines()
    return line


def records(folder):
    """Everything that a run leaves, without times: file names, texts, and variables as bytes."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "metrics.csv":
            rows = read_metrics(path.parent)
            found[name] = [{k: v for k, v in r.items() if k not in TIMES} for r in rows]
        elif path.suffix == ".json":
            content = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {k: v for k, v in content.items() if k not in (*TIMES, "metrics")}
        elif path.suffix == ".index":
            reader = tf.train.load_checkpoint(str(path.with_suffix("")))
            variables = [v for v in reader.get_variable_to_shape_map() if "elapsed" not in v]
            found[name] = {
                v: bytes(reader.get_tensor(v)) if "OBJECT" not in v else b"" for v in variables
            }
        elif path.suffix == ".csv":
            found[name] = path.read_text(encoding="utf-8")
        elif path.is_file():
            found[name] = None
    return found


def keep_at(numbers, folder, kept, monkeypatch):
    """Have the run in `folder` copied to `kept`/n, as a process that dies then leaves it, at the
    n-th of the moments between two changes on disk, or in the middle of a row of metrics.csv, for
    each n of `numbers`. The function that is returned tells how many there were."""
    moments = itertools.count(1)

    def moment():
        number = next(moments)
        if number in numbers:
            shutil.copytree(folder, kept / str(number))

    def before_and_after(owner, name):
        true = getattr(owner, name)

        def act(*args, **kwargs):
            moment()
            result = true(*args, **kwargs)
            moment()
            return result

        monkeypatch.setattr(owner, name, act)

    add = RunFolder.add

    def add_half(self, metrics):
        add(self, metrics)
        path = self.path / "metrics.csv"
        whole = path.read_bytes()
        path.write_bytes(whole[:-20])
        moment()
        path.write_bytes(whole)

    monkeypatch.setattr(RunFolder, "add", add_half)
    before_and_after(files.os, "replace")
    before_and_after(column_shards, "write_slices")
    return lambda: next(moments) - 1


# A sample; the script tests.faults kills real processes, at more moments.
MOMENTS = [1, 4, 7, 8, 13, 28, 33]
AFTER_FIVE = 16  # epoch 5 is in metrics.csv, and half of epoch 6; the checkpoint is of epoch 4


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """Where the runs are kept that several tests look at or go on with, and what is known of
    them."""
    return SimpleNamespace(path=tmp_path_factory.mktemp("kept"), moments=None, piped=None, told=[])


@pytest.fixture
def whole(here, tmp_path, kept, monkeypatch):
    """The folder of a run that was left alone; beside it is what it was at each moment."""
    if not kept.moments:
        with monkeypatch.context() as patch:
            moments = keep_at([*MOMENTS, AFTER_FIVE], tmp_path / "whole", kept.path, patch)
            assert here(SMALL, "whole") == 0
        shutil.move(tmp_path / "whole", kept.path)
        kept.moments = moments()
    return kept.path / "whole"


@pytest.fixture
def cut(whole, tmp_path):
    """A function that makes the folder of the run that died at a moment."""

    def made(number):
        return Path(shutil.copytree(whole.with_name(str(number)), tmp_path / "cut"))

    return made


@pytest.fixture
def finished(cut):
    """The folder of a finished run."""
    return cut("whole")


@pytest.mark.parametrize("number", MOMENTS)
def test_a_run_that_dies_at_any_moment_is_resumed_exactly(number, here, cut, whole, capsys):
    place = cut(number)
    if not (place / "config.json").exists():
        capsys.readouterr()
        assert here(f"--resume {place}") == 2
        assert_names(refusal(capsys), place, "config.json")
        assert number == MOMENTS[0]
        return
    assert here(f"--resume {place}") == 0
    assert records(place) == records(whole)


def test_the_moments_span_the_whole_run(whole, kept):
    assert max(MOMENTS) <= kept.moments <= max(MOMENTS) + 4


def traced(flags):
    """A run with graphs, which must not keep what they were traced with."""
    return pytest.param(flags, marks=pytest.mark.eager(False))


@pytest.mark.parametrize(
    "flags",
    [
        traced("--optimizer_method RProp --dropout 0.3 --orientation user"),
        traced("--input_encoding one_hot --hidden_neuron 6 3 6 --pretrain_epoch 2 "
               "--input_dropout 0.4 --optimizer_method RMSProp"),
        traced("--validation_ratio 0.2 --patience 1 --train_epoch 12"),
        traced("--preset single --train_epoch 6"),
        traced("--average_decay 0.8 --batch_size 5 --validation_ratio 0.2 --patience 2"),
        "--score_reconstruction --display_step 4",
        f"--regularization plain --tune lambda_value {SHORT}",
        f"--input_encoding one_hot --members item user {SHORT}",
    ],
)
def test_every_kind_of_run_is_resumed_exactly(flags, here, tmp_path, monkeypatch):
    """As it was just after its second checkpoint, in its second training if there are several."""
    saved = itertools.count(1)
    save = run_records.Checkpoint.save

    def save_and_keep(*args, **kwargs):
        save(*args, **kwargs)
        if next(saved) == 2:
            shutil.copytree(tmp_path / "whole", tmp_path / "cut")

    with monkeypatch.context() as patch:
        patch.setattr(run_records.Checkpoint, "save", save_and_keep)
        assert here(f"{SMALL} {flags}", "whole") == 0
    assert here(f"--resume {tmp_path / 'cut'}") == 0
    assert records(tmp_path / "cut") == records(tmp_path / "whole")


def test_tensorboard_shows_every_epoch_of_a_resumed_run_once(here, tmp_path, monkeypatch):
    """The fifth epoch was recorded after the last checkpoint, and is trained again."""
    record = RunRecords.record

    def record_and_die(self, metrics):
        record(self, metrics)
        if metrics.epoch == 5:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunRecords, "record", record_and_die)
        here(f"{SMALL} --tensorboard", "cut")
    assert here(f"--resume {tmp_path / 'cut'}") == 0
    assert_whole_events(tmp_path / "cut")


def test_tensorboard_from_the_middle_on_shows_every_epoch(here, cut):
    place = cut(AFTER_FIVE)
    assert [row["epoch"] for row in read_metrics(place)][:5] == list("12345")
    assert json.loads((place / "checkpoint.json").read_text(encoding="utf-8"))["epoch"] == 4
    assert not (place / "tensorboard").exists()  # without the flag
    assert here(f"--resume {place} --tensorboard") == 0
    assert_whole_events(place)


def assert_whole_events(folder):
    found = scalars(events_of(folder))
    assert found == metrics_of(folder)
    assert {epoch for epoch, _ in found} == set(range(1, 7))


@pytest.mark.parametrize("epoch", [3])
def test_a_run_that_was_interrupted_goes_on_where_it_stopped(
    epoch, here, small_data, tmp_path, monkeypatch, whole, capsys
):
    record = RunRecords.record

    def record_and_interrupt(self, metrics):
        record(self, metrics)
        self.interruption.number = signal.SIGTERM if metrics.epoch == epoch else 0

    with monkeypatch.context() as patch:
        patch.setattr(RunRecords, "record", record_and_interrupt)
        assert here(SMALL, "cut") == 128 + signal.SIGTERM
    assert not (tmp_path / "cut" / ".lock").exists()
    (line,) = [x for x in capsys.readouterr().out.splitlines() if "--resume" in x]
    assert line.endswith(f"main.py --resume {tmp_path / 'cut'} --data_dir {small_data}")
    assert here(f"--resume {tmp_path / 'cut'}") == 0
    printed = capsys.readouterr().out
    assert f"epoch {epoch}" in printed
    assert [each for each in range(1, 7) if f" {each}/6 " in printed] == [4, 5, 6]
    assert records(tmp_path / "cut") == records(whole)


def test_tuning_goes_on_with_the_points_that_are_left(here, tmp_path, monkeypatch, capsys):
    from autorec_tf import experiments

    tried, true = [], experiments.validation_rmse

    def die_at_the_second(config, point, *rest):
        tried.append(point)
        if len(tried) == 2:
            raise Killed
        return true(config, point, *rest)

    flags = "--regularization plain --tune lambda_value --lambda_factor 1 --train_epoch 4"
    monkeypatch.setattr(experiments, "validation_rmse", die_at_the_second)
    with pytest.raises(Killed):
        here(f"{SMALL} {flags}", "cut")
    assert here(f"--resume {tmp_path / 'cut'}") == 0
    assert tried == [{"lambda_value": value} for value in (30.0, 40.0, 40.0)]

    place = tmp_path / "cut" / "tuning.csv"
    change("validation_rmse", "rmse")(place)
    capsys.readouterr()
    assert here(f"--resume {tmp_path / 'cut'} --train_epoch 5") == 2
    assert_names(refusal(capsys), place)


def test_a_finished_run_may_be_made_longer(here, tmp_path, whole):
    assert here(f"{SMALL} --train_epoch 4", "cut") == 0
    assert here(f"--resume {tmp_path / 'cut'} --train_epoch 6") == 0
    assert records(tmp_path / "cut") == records(whole)


@pytest.mark.parametrize(
    "flags, facts",
    [
        ("", [" 6 epochs", "--train_epoch"]),
        ("--train_epoch 5", ["--train_epoch 5", " 6"]),
        ("--base_lr 0.1", ["--base_lr 0.1", " 0.05"]),
        ("--hidden_neuron 9", ["--hidden_neuron 9", " 8,"]),
        ("--run_name other", ["--run_name other", " cut,"]),
    ],
)
def test_a_run_goes_on_as_it_was_begun_or_not_at_all(flags, facts, here, finished, capsys):
    before = records(finished)
    capsys.readouterr()
    assert here(f"--resume {finished} {flags}") == 2
    assert_names(refusal(capsys), finished, *facts)
    assert records(finished) == before


def test_a_run_whose_learning_rate_has_ended_is_not_made_longer(here, tmp_path, capsys):
    assert here("--comet off --hidden_neuron 8 --lr_schedule cosine --train_epoch 2", "cut") == 0
    before = records(tmp_path / "cut")
    for longer in ("", " --train_epoch 9"):
        capsys.readouterr()
        assert here(f"--resume {tmp_path / 'cut'}{longer}") == 2
        assert_names(refusal(capsys), tmp_path / "cut", f"{longer or ' 2 epochs'}", "--start_from")
    assert records(tmp_path / "cut") == before


def test_a_run_goes_on_with_its_own_ratings_or_not_at_all(here, small_data, finished, capsys):
    path = small_data / "ratings.dat"
    path.write_bytes(path.read_bytes().replace(b"::5::", b"::4::", 1))
    capsys.readouterr()
    assert here(f"--resume {finished} --train_epoch 9") == 2
    assert_names(refusal(capsys), finished, "ratings", "--data_dir", "--dataset")


def change(old, new):
    """A function that replaces text in a file."""
    return lambda path: path.write_text(path.read_text("utf-8").replace(old, new), "utf-8")


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


@pytest.mark.parametrize(
    "name, harm, facts",
    [
        ("checkpoint-6.data-00000-of-00001", damage, ["checkpoint-6.*", "checkpoint.json"]),
        ("checkpoint-6.data-00000-of-00001", Path.unlink, ["checkpoint-6.*", "checkpoint.json"]),
        ("checkpoint-6.index", damage, ["checkpoint-6.*", "checkpoint.json"]),
        ("checkpoint-6.index", lambda p: p.write_bytes(b""), ["checkpoint-6.*", "checkpoint.json"]),
        ("checkpoint.json", change('"version": 1', '"version": 2'), ["checkpoint.json", "version"]),
        ("checkpoint.json", change('"seconds": ', '"time": '), ["checkpoint.json", "version"]),
        ("checkpoint.json", change("{", ""), ["checkpoint.json"]),
        ("checkpoint.json", change('"epoch": 6', '"epoch": 5'), ["checkpoint-5.*"]),
        ("config.json", change("0.05", "0.06"), ["checkpoint.json", "base_lr 0.05", "0.06"]),
        ("config.json", change("0.05", '"x"'), ["config.json", "base_lr", "'x'"]),
        ("metrics.csv", damage, ["metrics.csv", "checkpoint.json"]),
        ("metrics.csv", Path.unlink, ["metrics.csv", "checkpoint.json"]),
    ],
)
def test_what_was_damaged_is_told_in_one_line_and_never_gone_on_with(
    name, harm, facts, here, finished, capsys
):
    harm(finished / name)
    capsys.readouterr()
    assert here(f"--resume {finished} --train_epoch 9") == 2
    assert_names(refusal(capsys), finished, *facts)


def test_a_run_that_dies_while_comet_is_closed_is_not_finished_and_goes_on(
    here, tmp_path, monkeypatch
):
    def die(*_, **__):
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(run_records.Tracker, "close", die)
        here(f"{SMALL} --comet offline", "cut")
    cut = tmp_path / "cut"
    assert not (cut / "summary.json").exists()
    assert here(f"--resume {cut} --comet offline") == 0
    assert json.loads((cut / "summary.json").read_text())["status"] == "finished"
    epochs = {step for name, _, step, _ in archived_metrics(cut / "comet.zip")}
    assert epochs == set(range(1, 7))


def test_what_a_run_left_that_died_while_tensorflow_wrote_is_removed(here, finished, tmp_path):
    (finished / "checkpoint-7_temp").mkdir()
    (finished / "checkpoint-7_temp" / "part-00000-of-00001.index").write_bytes(b"half")
    (finished / "checkpoint-7.data-00000-of-00001.tempstate1").write_bytes(b"half")
    assert here(f"--resume {finished} --train_epoch 7") == 0
    kept = {path.name for path in finished.glob("checkpoint*")}
    assert kept == {"checkpoint.json", "checkpoint-7.index", "checkpoint-7.data-00000-of-00001"}


def test_without_its_checkpoint_a_run_begins_again(here, finished, whole):
    for name in ("checkpoint.json", "summary.json"):
        (finished / name).unlink()
    assert here(f"--resume {finished}") == 0
    assert records(finished) == records(whole)


@pytest.mark.parametrize("what", ["row", "checkpoint", "summary"])
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on_later(
    what, here, cut, whole, tmp_path, monkeypatch, capsys
):
    place, trained = tmp_path / "cut", what == "summary"
    if trained:
        cut(MOMENTS[-2])
    capsys.readouterr()
    with monkeypatch.context() as patch:
        fill_disk(what, patch)
        assert (here(f"--resume {place}") if trained else here(SMALL, "cut")) == 2
    assert_names(refusal(capsys), NO_SPACE, f"--resume {place}")
    assert here(f"--resume {place}") == 0
    assert records(place) == records(whole)


def fill_disk(what, patch):
    """From the third epoch on, have one kind of file fail as on a full disk."""
    full = OSError(errno.ENOSPC, NO_SPACE)

    def fail(*args, **kwargs):
        raise full

    if what == "row":
        add = RunFolder.add
        patch.setattr(RunFolder, "add", lambda *a: fail() if a[1].epoch == 3 else add(*a))
    elif what == "checkpoint":
        write = column_shards.write_slices

        def fail_as_tensorflow(prefix, *args):
            if prefix.name.endswith("-4"):
                temporary = prefix.with_name(f"{prefix.name}_temp")
                temporary.mkdir()
                (temporary / "part-00000.tempstate1").write_bytes(b"half")
                message = f"{temporary}/part-00000; {NO_SPACE}"
                raise tf.errors.ResourceExhaustedError(None, None, message)
            return write(prefix, *args)

        patch.setattr(column_shards, "write_slices", fail_as_tensorflow)
    else:
        patch.setattr(RunRecords, "write_summary", fail)


def test_a_folder_that_is_removed_underneath_is_told_in_one_line(
    here, tmp_path, monkeypatch, capsys
):
    record = RunRecords.record

    def record_and_remove(self, metrics):
        record(self, metrics)
        if metrics.epoch == 3:
            shutil.rmtree(self.folder.path)

    monkeypatch.setattr(RunRecords, "record", record_and_remove)
    assert here(SMALL, "cut") == 2
    line = refusal(capsys)
    assert_names(line, f"{tmp_path / 'cut'} ", "removed")
    assert "--resume" not in line and not (tmp_path / "cut").exists()


def test_a_training_that_diverges_is_ended_with_the_reason(here, tmp_path, capsys):
    assert here(f"{SMALL} --base_lr 1e6 --regularization plain", "cut") == 2
    assert_names(refusal(capsys), "--base_lr", "1e+06")
    summary = json.loads((tmp_path / "cut" / "summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "diverged" and "final_test_rmse" not in summary


def test_the_comet_experiment_goes_on(here, tmp_path):
    def keys():
        record = json.loads((tmp_path / "cut" / "config.json").read_text(encoding="utf-8"))
        with zipfile.ZipFile(tmp_path / "cut" / "comet.zip") as archive:
            archived = json.loads(archive.read("experiment.json"))["offline_id"]
        logged = archived_metrics(tmp_path / "cut" / "comet.zip")
        epochs = {step for name, _, step, _ in logged if name == "train/cost"}
        return record["comet_experiment"], archived, epochs

    assert here(f"{SMALL} --comet offline --train_epoch 4", "cut") == 0
    key, archived, epochs = keys()
    assert archived == key and len(key) == 32
    assert here(f"--resume {tmp_path / 'cut'} --train_epoch 6") == 0
    assert keys() == (key, key, set(range(1, 7)))
    assert here(f"--resume {tmp_path / 'cut'} --train_epoch 7 --comet off") == 0
    assert keys()[0] == key


# The program as a process


LONG = f"{SMALL} --train_epoch 60 --checkpoint_every 10 --num_folds 3"


@pytest.fixture
def piped(small_data, kept):
    """A process that has ended, whose output nobody read to its end; its folder is `piped`."""
    if not kept.piped:
        flags = map(str, [*LONG.split(), "--data_dir", small_data, "--run_name", "piped"])
        line = " ".join([sys.executable, str(Path(main.__file__)), *flags]) + " | head -n 1"
        kept.piped = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {line}"], cwd=kept.path, env=environment(),
            capture_output=True, text=True,
        )
    return kept.piped


@pytest.fixture
def killed(small_data, here, tmp_path, kept, capsys):
    """The folder of three folds whose process was killed in the second one. While it was at work,
    others asked for its folder: what they were told is `kept.told`, (exit code, line)."""
    folder = kept.path / "results" / "cut"
    if not kept.told:
        flags = [*LONG.split(), "--data_dir", small_data, "--run_name", "cut"]
        process = Fork([*MAIN_UNDRAWN, *flags], kept.path, environment())
        try:
            at_work = folder / "fold_2"
            wait_for_file(at_work / "checkpoint.json", 1, process)
            process.send_signal(signal.SIGSTOP)
            for flags in (f"--resume {at_work}", f"{SMALL} --results_dir {folder} "
                          "--run_name fold_2"):
                capsys.readouterr()
                kept.told.append((here(flags), refusal(capsys)))
            size = (at_work / "metrics.csv").stat().st_size
            process.send_signal(signal.SIGCONT)
            wait_for_file(at_work / "metrics.csv", size + 1, process)  # it goes on
        finally:
            process.kill()
        assert process.wait() == -signal.SIGKILL
        assert not (at_work / "summary.json").exists()
    return Path(shutil.copytree(folder, tmp_path / "results" / "cut"))


def wait_for_file(path, size, process):
    """Wait till there are `size` bytes of a file, and look often: it is written fast."""
    while not path.exists() or path.stat().st_size < size:
        assert process.poll() is None
        time.sleep(0.01)


def test_a_run_whose_output_nobody_reads_goes_on(piped, kept):
    assert (piped.returncode, piped.stderr) == (0, "")
    assert len(piped.stdout.splitlines()) == 1
    assert len(read_metrics(kept.path / "results" / "piped" / "fold_3")) == 60


def test_a_folder_in_use_is_refused_and_the_run_in_it_goes_on(killed, kept):
    (in_use_code, in_use), (taken_code, taken) = kept.told
    folder = kept.path / "results" / "cut" / "fold_2"
    assert in_use_code == taken_code == 2
    assert_names(in_use, folder, "in use")
    assert_names(taken, folder, "another --run_name")


def test_killed_folds_go_on_exactly_and_finished_ones_are_left_alone(
    killed, small_data, tmp_path, piped, kept
):
    first = {path: path.stat().st_mtime_ns for path in (killed / "fold_1").iterdir()}
    flags = [*LONG.split(), "--data_dir", small_data, "--run_name", "cut"]
    process = Fork([*MAIN_UNDRAWN, *flags], tmp_path, environment())
    assert process.wait() == 0
    printed, errors = process.communicate()
    assert errors == ""
    assert {path: path.stat().st_mtime_ns for path in (killed / "fold_1").iterdir()} == first
    lines = printed.splitlines()
    assert len([x for x in lines if x.startswith("fold_1 ")]) == 1
    assert len([x for x in lines if "  1/60 " in x]) == 1  # of fold_3, for fold_2 goes on
    for fold in ("fold_1", "fold_2", "fold_3"):
        assert records(killed / fold) == records(kept.path / "results" / "piped" / fold)


def test_two_signals_end_it_at_once_while_tensorflow_computes(small_data, tmp_path):
    """An epoch of several seconds: the second signal need not wait for its end."""
    flags = [*SMALL.split(), "--hidden_neuron", 2000, 2000, 2000, "--engine", "dense",
             "--batch_size", 1, "--data_dir", small_data]
    process = Fork([MAIN, *flags], tmp_path, environment())
    try:
        wait_for(lambda: [*tmp_path.glob("results/*/metrics.csv")], process)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=2) == 128 + signal.SIGTERM
        asked, ended = filter(None, process.communicate()[1].splitlines())
        assert "Ctrl-C" in asked and "Ctrl-C" not in ended
    finally:
        process.kill()
