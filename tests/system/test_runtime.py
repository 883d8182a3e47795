"""How TensorFlow starts, also in a process that has used it before."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USED = "import tensorflow as tf; tf.zeros(1) + 1;"
START = "from system.runtime import num_threads, start_tensorflow; start_tensorflow();"
TOLD = "TensorFlow has been used in this process already: it keeps its {} threads.\n"


def python(code, **changes):
    """The last line on stdout and all of stderr of a process of its own."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | quiet | changes,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), done.stderr


@pytest.mark.slow
def test_a_fresh_process_gets_the_threads_that_we_may_use_and_nothing_is_said():
    shown = "import tensorflow as tf; print(tf.config.threading.get_intra_op_parallelism_threads())"
    out, error = python(START + START + shown, TF_NUM_INTRAOP_THREADS="3")
    assert (out, error) == ("3", "")


@pytest.mark.slow
@pytest.mark.parametrize(
    "before, threads", [("", 3), ("T.set_intra_op_parallelism_threads(5);", 5)]
)
def test_where_tensorflow_was_used_before_it_keeps_its_threads_and_unless_chosen_they_are_said(
    before, threads
):
    code = "import tensorflow as tf; T = tf.config.threading;" + before + USED + START
    out, error = python(code + "print(num_threads())", TF_NUM_INTRAOP_THREADS="3")
    assert out == str(threads)
    told = "".join(error.partition("TensorFlow has")[1:])
    assert told == ("" if before else TOLD.format(threads))


@pytest.mark.slow
def test_the_same_bits_are_asked_for_where_tensorflow_was_used_before():
    asked = "import tensorflow as tf\ntry: tf.random.uniform([1])\n" \
            "except RuntimeError as error: print('seed' in str(error))"
    assert python(USED + START + "\n" + asked)[0] == "True"
