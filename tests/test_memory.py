"""Memory that runs out is told in one line: as processes with a real limit, and error by error."""

import errno
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from autorec_tf.system.errors import OutOfMemory, UserError, memory_ran_out, reported_errors
from tests.facts import assert_names
from tests.forks import Fork
from tests.program import MAIN, command, environment

resource = pytest.importorskip("resource")
FULL = os.strerror(errno.ENOSPC)
REMEDIES = ("--hidden_neuron", "--orientation", "--engine sparse", "--batch_size", "docs/speed.md")


def limited(arguments, gigabytes, cwd):
    """A process that may have so much address space."""
    size = int(gigabytes * 2**30)
    return subprocess.run(
        arguments, cwd=cwd, env=environment(), capture_output=True, text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (size, size)),
    )


def assert_told(process, name):
    assert process.returncode == 2, process.stderr
    assert process.stderr.startswith(f"{name}: error: ") and process.stderr.count("\n") == 1
    assert_names(process.stderr, "memory", *REMEDIES)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
@pytest.mark.parametrize("loaded", [False, True])
def test_a_run_that_needs_more_than_there_is_ends_in_one_line(loaded, small_data, tmp_path):
    """While TensorFlow is loaded, and after that, while the model is built."""
    flags = ("--comet", "off", "--hidden_neuron", 40000000, "--data_dir", small_data,
             "--results_dir", tmp_path)
    if not loaded:
        return assert_told(limited(command(*flags), 0.8, tmp_path), "main.py")
    code = "\n".join([
        "import resource, runpy", "resource.setrlimit(resource.RLIMIT_AS, (4 * 2**30,) * 2)",
        f"runpy.run_path({str(MAIN)!r}, run_name='__main__')",
    ])
    process = Fork(["-c", code, *flags], tmp_path, environment())
    process.wait()
    out, error = process.communicate()
    assert_told(subprocess.CompletedProcess(flags, process.returncode, out, error), "main.py")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs a limit of the address space")
@pytest.mark.parametrize("script", ["recommend.py", "export.py"])
def test_so_do_the_other_commands(script, tmp_path):
    from tests.finished import make_run

    made = make_run(tmp_path)
    question = ("--user", "1") if script == "recommend.py" else ()
    arguments = [sys.executable, MAIN.parent / script, made.folder, "--data_dir", made.data,
                 *question]
    assert_told(limited([*map(str, arguments)], 0.8, tmp_path), script)


def raised(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


def in_an_op():
    def fail():
        raise MemoryError

    return tf.numpy_function(fail, [], tf.float32)


def of(cause):
    """A UserError that takes `cause` for something else."""
    try:
        raise cause
    except Exception as error:
        try:
            raise UserError("the parameters are damaged") from error
        except UserError as wrong:
            return wrong


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        raised(lambda: np.empty(2**60, np.uint8)),
        raised(in_an_op),
        tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor"),
        pd.errors.ParserError("Error tokenizing data. C error: out of memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
        ImportError("libtensorflow_cc.so.2: failed to map segment from shared object"),
        ImportError("libtensorflow_cc.so.2: cannot map zero-fill pages"),
        SystemError("error return without exception set"),
        RuntimeError("can't start new thread"),
        of(MemoryError()),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whoever_says_that_memory_ran_out_is_understood(error, capsys):
    with reported_errors("it") as outcome:
        raise error
    assert outcome.code == 2
    assert capsys.readouterr().err == f"it: error: {OutOfMemory()}\n"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), OSError(errno.ENOSPC, FULL),
        tf.errors.ResourceExhaustedError(None, None, f"run/parameters; {FULL}"),
        of(OSError(errno.ENOSPC, FULL)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_are_not_taken_for_it(error):
    assert not memory_ran_out(error)


@pytest.mark.eager
@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_what_was_recorded_is_kept_and_gone_on_with(
    with_checkpoint, small_data, tmp_path, monkeypatch, capsys
):
    import main
    from autorec_tf import experiments as module

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    flags = ["--comet", "off", "--hidden_neuron", "4", "--train_epoch", "2", "--data_dir",
             str(small_data), "--results_dir", str(tmp_path), "--run_name", "run"]
    with monkeypatch.context() as broken:
        epoch = "autorec_tf.training.trainer.Trainer.train_epoch"
        where = (module, "evaluate") if with_checkpoint else (epoch,)
        broken.setattr(*where, fail)
        assert main.main(flags) == 2
    error, folder = capsys.readouterr().err, tmp_path / "run"
    assert error.startswith("main.py: error: ") and error.count("\n") == 1
    assert_names(error, "memory", *REMEDIES)
    assert (f"--resume {folder}" in error) == with_checkpoint
    if with_checkpoint:
        assert main.main(["--resume", str(folder), "--data_dir", str(small_data)]) == 0
        assert " epoch 2." in capsys.readouterr().out
