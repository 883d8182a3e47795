"""Errors that the user can fix, and warnings, with the way each is reported."""

import errno
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from autorec_tf.system.terminal import UNREAD, print_line, printable, write

LONGEST = 1000  # characters of a message
OUT_OF_MEMORY = (
    "C error: out of memory", "descriptor pool: out of memory", "std::bad_alloc",
    "failed to map segment", "cannot map zero-fill pages", "can't start new thread",
    # Python, if a module of native code cannot allocate an exception:
    "error return without exception set", "returned NULL without setting an exception",
)
OURS = ("autorec_tf", "AutoRec", "data_preprocessor")  # the packages and modules of this library


def without_dashes(text: str) -> str:
    """Return `text` with the names of flags as names of arguments, for the Python API."""
    return re.sub(r"--(?!help)(?=[a-z])", "", text)


class UserError(Exception):
    """Bad input. The message is one line: the place, the problem, and the remedy.

    A message may quote arbitrary text, so it is made printable, and truncated if it is too long.
    Any other exception is a bug and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]}...")


class AutoRecWarning(UserWarning):
    """A likely mistake in ratings or settings, or a result that is worse than it seems.

    The message is one line: the fact, and what to do. A function that logs lines also logs such
    warnings: main.py prints them after "warning: ", the Python API passes them to `warn_caller`.
    """

    def __init__(self, message: str) -> None:
        super().__init__(printable(message)[:LONGEST])


Log = Callable[[str | AutoRecWarning], object]  # receives the lines and the warnings of a run


def warn_caller(warning: AutoRecWarning) -> None:
    """Issue `warning` at the line that called this library, with arguments in place of flags."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").split(".")[0] in OURS:
        frame, level = frame.f_back, level + 1
    warnings.warn(AutoRecWarning(without_dashes(str(warning))), stacklevel=level)


class Diverged(UserError):
    """A training diverged. The message names the epoch and the settings to change."""


class OutOfMemory(UserError):
    """Memory ran out. The message names settings that need less, and ends with `hint`."""

    def __init__(self, hint: str = "") -> None:
        super().__init__("memory ran out. Use fewer --hidden_neuron, the --orientation with fewer "
                         "columns, --engine sparse, or else a smaller --batch_size. docs/speed.md "
                         f"lists the memory that each size needs.{hint}")


def memory_ran_out(error: BaseException | None) -> bool:
    """Return whether `error` or one of its causes means that memory ran out, in Python, NumPy,
    pandas, TensorFlow, or the system that loads a library or starts a thread."""
    while error is not None:
        text, names = str(error), [kind.__name__ for kind in type(error).__mro__]
        full_disk = "No space left" in text  # TensorFlow raises the same error
        if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
            return True
        if "ResourceExhaustedError" in names and not full_disk:
            return True
        if any(words in text for words in OUT_OF_MEMORY):
            return True
        error = error.__cause__ or error.__context__
    return False


@dataclass
class Outcome:
    """The exit code of a program."""

    code: int = 0


@contextmanager
def reported_errors(name: str) -> Iterator[Outcome]:
    """Run the block of a program, which may set the exit code. It is 2 after a UserError or when
    memory ran out, and 130 after Ctrl-C, each with one line on stderr."""
    outcome = Outcome()
    try:
        yield outcome
    except Exception as error:
        reported: Exception = error
        if memory_ran_out(error) and not isinstance(error, OutOfMemory):
            reported = OutOfMemory()
        if not isinstance(reported, UserError):
            raise
        print_line(f"{name}: error: {reported}", sys.stderr)
        outcome.code = 2
    except KeyboardInterrupt:
        print_line(f"\n{name}: interrupted", sys.stderr)
        outcome.code = 130


def print_answer(text: str) -> None:
    """Print the answer of a program. Raise UserError if it cannot be written, unless the reader has
    closed the pipe."""
    try:
        write(f"{text}\n", sys.stdout)
    except OSError as error:
        if error.errno not in UNREAD:
            raise UserError(f"cannot write to standard output ({error.strerror}), so the answer is "
                            "lost") from error


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run `program` with `reported_errors`, and return its exit code."""
    with reported_errors(name) as outcome:
        outcome.code = program() or 0
    return outcome.code
