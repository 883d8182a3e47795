"""How TensorFlow starts here: silent, deterministic, with a known number of threads."""

import ctypes
import gc
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import NoReturn

M_ARENA_MAX = -8  # malloc.h
STDERR = [2]  # the descriptor that is shown, also while `quiet_stderr` holds back what 2 is sent


def import_tensorflow() -> ModuleType:
    """Import TensorFlow silently; what it printed is shown after all if the import fails."""
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    # It would import Keras, too, and go on without; `tensorflow.keras` still does when it is used.
    # That is a second and 20 MB.
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None  # type: ignore[assignment]  # documented: no such module
    try:
        with quiet_stderr():  # its first lines are printed before that level is read
            import tensorflow
    finally:
        if hidden:
            del sys.modules["keras"]
    return tensorflow


def warn(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def start_tensorflow(log: Callable[[str], object] = warn, lean: bool = False) -> None:
    """Import TensorFlow and make the same command give the same bits again. `lean`: without oneDNN,
    whose allocator keeps for good what was once allocated; it is the dense products that it helps.

    In a process that has used it already, its number of threads stays what it is, which `log` is
    told; and random operations want a seed from now on.
    """
    if lean:
        os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    tf = import_tensorflow()
    # It warns that functions are traced again, which every model's are, on purpose.
    tf.get_logger().setLevel("ERROR")
    tf.config.experimental.enable_op_determinism()
    # It makes one op of several additions, which begins with whichever summand is free first.
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        tf.config.threading.set_intra_op_parallelism_threads(num_threads())
    except RuntimeError:
        log("TensorFlow has been used in this process already: it keeps its "
            f"{num_threads()} threads.")


def leave(code: int) -> NoReturn:
    """End the process, without a search for garbage: of TensorFlow, that is a second."""
    gc.freeze()
    sys.exit(code)


def share_freed_memory() -> None:
    """Ask glibc, where it is the C library, to keep what is freed in one pool for all threads."""
    if not hasattr(os, "confstr") or "CS_GNU_LIBC_VERSION" not in os.confstr_names:
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_ARENA_MAX, 1)


def num_threads() -> int:
    """The threads of one operation: what TensorFlow was told, in this process or by
    TF_NUM_INTRAOP_THREADS, or the processors we may use, as it chooses, too."""
    if tf := sys.modules.get("tensorflow"):
        if told := tf.config.threading.get_intra_op_parallelism_threads():
            return told
    chosen = os.environ.get("TF_NUM_INTRAOP_THREADS", "")
    if chosen.isdigit() and int(chosen) > 0:
        return int(chosen)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back all that is written to file descriptor 2, by native code too; on an error,
    write it there after all."""
    sys.stderr.flush()
    stderr = STDERR[0] = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except Exception:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            STDERR[0] = 2
            os.close(stderr)
