"""The start of TensorFlow: silent, deterministic, with a known number of threads."""

import ctypes
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from autorec_tf.system.errors import UserError

M_ARENA_MAX = -8  # malloc.h
STDERR = [2]  # the descriptor of the real stderr, also while `quiet_stderr` redirects 2
# A program that writes its input at its end, except the remarks of TensorFlow's log.
HOLDER = r"""
import re, sys
remark = re.compile(rb"([IW]\d{4} |\d{4}-\d\d-\d\d \S+ [IW] |WARNING: All log messages before absl"
                    rb"|To enable the following instructions)")
for line in sys.stdin.buffer.readlines():
    if not remark.match(line):
        sys.stdout.buffer.write(line)
"""


def import_tensorflow() -> ModuleType:
    """Import TensorFlow silently; if the import fails, show its output."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # TensorFlow imports Keras if it can, which takes a second and 20 MB. `tensorflow.keras` still
    # imports it on first use.
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None  # type: ignore[assignment]  # documented: its import fails
    try:
        # TensorFlow prints its first lines before it reads the log level.
        with quiet_stderr(), without_collections():
            import tensorflow
    finally:
        if hidden:
            del sys.modules["keras"]
    return tensorflow


@contextmanager
def without_collections() -> Iterator[None]:
    """Pause the garbage collection, which takes a fifth of the time of a large import."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def is_started(tf: ModuleType) -> bool:
    """Return whether TensorFlow has run operations, so that its settings cannot change."""
    threads = tf.config.threading.get_intra_op_parallelism_threads()
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads + 1)
    except RuntimeError:
        return True
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return False


def check_usable(tf: ModuleType) -> None:
    """Raise UserError where TensorFlow cannot train: without eager execution, or in a fork of a
    process that has used it, which has none of its threads and would wait forever."""
    if not tf.executing_eagerly():
        raise UserError("TensorFlow's eager execution is off, or this is inside a graph. Call this "
                        "outside tf.function and tf.Graph, and do not call "
                        "tf.compat.v1.disable_eager_execution.")
    tasks = Path("/proc/self/task")
    if tasks.is_dir() and is_started(tf) and len(list(tasks.iterdir())) <= threading.active_count():
        raise UserError("this process is a fork of one that has used TensorFlow, which does not "
                        "work in a fork. Start it with multiprocessing.get_context('spawn').")


def start_tensorflow(log: Callable[[str], object] = warn, lean: bool = False,
                     is_large: bool = False, is_program: bool = False) -> None:
    """Import TensorFlow and make its results reproducible to the bit.

    In a process that has already used TensorFlow, the number of threads cannot change, which is
    logged, and random operations need a seed from now on.

    Args:
        log: receives the warning.
        lean: disable oneDNN, which speeds up dense products, but never frees memory.
        is_large: the arrays are so large that memory should be freed with them. oneDNN would keep
            it for later arrays, which is faster. The results are the same.
        is_program: the process is this program, so no object of a caller is affected: never search
            the objects that exist now for garbage, which takes 0.2 s each time.
    """
    if lean:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    if is_large:
        os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")
    tf = import_tensorflow()
    if is_program:
        gc.freeze()
    check_usable(tf)
    # TensorFlow would warn about retracing, which every new model needs.
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()
    # TensorFlow would merge additions into one op, which adds its inputs in any order.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads())
    except RuntimeError:
        log("TensorFlow has already been used in this process, so it keeps its "
            f"{num_threads()} threads.")


def leave(code: int) -> NoReturn:
    """End the process without garbage collection, which takes a second with TensorFlow."""
    gc.freeze()
    sys.exit(code)


def share_freed_memory() -> None:
    """Make glibc, if it is the C library, return freed memory to one pool for all threads."""
    if not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_ARENA_MAX, 1)


def num_threads() -> int:
    """Return the number of threads of one operation: as configured in TensorFlow or by
    TF_NUM_INTRAOP_THREADS, or else the number of available processors, TensorFlow's default."""
    if tf := sys.modules.get("tensorflow"):
        if configured := tf.config.threading.get_intra_op_parallelism_threads():
            return configured
    requested = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if requested.isdigit() and int(requested) > 0:
        return int(requested)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back all output to file descriptor 2, including that of native code. Write it, except
    remarks of TensorFlow's log, if an exception is raised or the process ends.

    Another process holds it: where native code aborts, no Python code of this process runs.
    """
    sys.stderr.flush()
    holder = None
    with suppress(OSError):  # too little memory for a process: nothing is held back
        holder = subprocess.Popen([sys.executable, "-ISc", HOLDER], stdin=subprocess.PIPE, stdout=2,
                                  stderr=subprocess.DEVNULL, start_new_session=True)
    if not (holder and holder.stdin):
        yield
        return
    stderr = STDERR[0] = os.dup(2)
    with holder:
        os.dup2(holder.stdin.fileno(), 2)
        holder.stdin.close()
        try:
            yield
            holder.kill()
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)  # which ends the input of `holder`
            STDERR[0] = 2
            os.close(stderr)
