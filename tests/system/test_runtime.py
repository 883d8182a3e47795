"""How TensorFlow starts, also in a process that has used it before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.forks import Fork

ROOT = Path(__file__).resolve().parents[2]
USED = "import tensorflow as tf; tf.zeros(1) + 1;"
START = "from autorec_tf.system.runtime import num_threads, start_tensorflow; start_tensorflow();"


def python(code, *arguments, **changes):
    """What a process prints that has imported TensorFlow, but not used it, and its stderr."""
    process = Fork(["-c", code, *arguments], ROOT, os.environ | changes)
    out, error = process.communicate()
    assert process.returncode == 0, error
    return out.strip(), error


HELD = r"""
import os, sys
from autorec_tf.system.runtime import quiet_stderr
with quiet_stderr():
    os.write(2, b"I0000 0:00:1.2 port.cc:1] a remark\n2026-01-01 0:00:00.1: W a remark\n")
    os.write(2, b"F0000 why\n")
    exec(sys.argv[1])
"""


@pytest.mark.parametrize("end, code", [("os.abort()", -6), ("os._exit(1)", 1), ("1 / 0", 1)])
def test_the_reason_is_shown_where_native_code_ends_the_process(end, code, tmp_path):
    done = subprocess.run([sys.executable, "-c", HELD, end], capture_output=True, text=True,
                          cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)})
    first, *rest = done.stderr.splitlines()
    assert (done.returncode, first, "remark" in done.stderr) == (code, "F0000 why", False)
    assert bool(rest) == ("/" in end)  # the traceback


@pytest.mark.slow
def test_a_fresh_process_gets_the_threads_that_we_may_use_and_nothing_is_said():
    shown = "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    done = subprocess.run(
        [sys.executable, "-c", START + START + shown], capture_output=True, text=True,
        env=os.environ | {"TF_NUM_INTRAOP_THREADS": "3", "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "3\n", "")


# Whether the same bits are asked for: random numbers without a seed are refused then.
ASK_FOR_BITS = """
try: tf.random.uniform([1])
except RuntimeError as error: print(num_threads(), 'seed' in str(error))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "before, threads", [("", 3), ("T.set_intra_op_parallelism_threads(5);", 5)]
)
def test_where_tensorflow_was_used_before_it_keeps_its_threads_and_unless_chosen_they_are_said(
    before, threads
):
    code = "import tensorflow as tf; T = tf.config.threading;" + before + USED + START
    out, error = python(code + ASK_FOR_BITS, TF_NUM_INTRAOP_THREADS="3")
    assert out == f"{threads} True"
    told = [line for line in error.splitlines() if f"{threads} threads" in line]
    assert len(told) == (0 if before else 1)


# As large as it is for: TensorFlow merges additions, and begins with the summand that is there.
GRADIENTS = START + """
import sys
from AutoRec import AutoRec
from autorec_tf.resolution import (over_preset)
from autorec_tf.training.trainer import Objective
from data_preprocessor import read_ml_1m, split_ratings
train = split_ratings(read_ml_1m(sys.argv[1] + "/ratings.dat"), 0.9, 1994).train
config = over_preset({"preset": "single", "engine": "sparse"})
model = AutoRec(train.num_columns, config, num_rows=train.num_rows)
rows, objective = model.rows(train), Objective(model)
gradients = [objective.full_gradients(rows)[0] for _ in range(4)]
print(len({tuple(x.numpy().tobytes() for x in each) for each in gradients}))
"""


@pytest.mark.slow
def test_gradients_are_the_same_bits_each_time(ml_1m):
    out, _ = python(GRADIENTS, str(ml_1m))
    assert out == "1"


UNUSABLE = """
import os, sys
import tensorflow as tf
from autorec_tf.system.errors import UserError
from autorec_tf.system.runtime import start_tensorflow
def attempt(name):
    try:
        start_tensorflow(lambda _: None)
        print(name, "started", flush=True)
    except UserError as error:
        print(name, "refused", str(error).count("\\n"), flush=True)
if not os.fork():
    attempt("unused")
    os._exit(0)
os.wait()
with tf.Graph().as_default():
    attempt("graph")
tf.function(lambda: attempt("function"))()
attempt("plain")
tf.reduce_sum(tf.ones([9, 9]) @ tf.ones([9, 9])).numpy()
if not os.fork():
    attempt("fork")
    os._exit(0)
os.wait()
attempt("used")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_where_tensorflow_cannot_train_is_refused_in_one_line():
    out, _ = python(UNUSABLE)
    assert sorted(out.splitlines()) == [
        "fork refused 0", "function refused 0", "graph refused 0", "plain started",
        "unused started", "used started"]
