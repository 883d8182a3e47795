"""The errors that are the user's to mend, and how a program ends with one."""

import errno
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from autorec_tf.system.terminal import UNREAD, print_line, write

LONGEST = 1000  # characters of a message
OUT_OF_MEMORY = ("C error: out of memory", "failed to map segment", "can't start new thread",
                 "std::bad_alloc")


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey, as a line end, written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def without_dashes(text: str) -> str:
    """Return `text` with the names of flags as those of arguments: in Python there are no flags."""
    return re.sub(r"--(?!help)(?=[a-z])", "", text)


class UserError(Exception):
    """Bad input: the message is one line that says what was wrong, where, and what to do.

    What it quotes may be anything, so it is made printable, and cut if it is too long. Anything
    else that is raised is a bug of ours and keeps its traceback.
    """

    def __init__(self, message: str) -> None:
        message = printable(message)
        super().__init__(message if len(message) <= LONGEST else f"{message[:LONGEST]}...")


class Diverged(UserError):
    """The numbers of a training are none any more; the message says where, and what to change."""


class OutOfMemory(UserError):
    """Memory ran out; the message says what needs less, and what is `kept`."""

    def __init__(self, kept: str = "") -> None:
        super().__init__("memory ran out: a model needs less with fewer --hidden_neuron, with the "
                         "--orientation that has fewer columns, with --engine sparse, or else with "
                         f"a smaller --batch_size; docs/speed.md says what a size needs{kept}")


def memory_ran_out(error: BaseException | None) -> bool:
    """Return whether that is what `error`, or what it came of, says: to Python, NumPy, pandas,
    TensorFlow, or the system that loads a library or starts a thread."""
    while error is not None:
        text, names = str(error), [kind.__name__ for kind in type(error).__mro__]
        full_disk = "No space left" in text  # which TensorFlow has the same name for
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
    """Run a program's block, which may set the exit code: it is 2 after a UserError, or when memory
    ran out, and 130 after Ctrl-C, each told in one line on stderr."""
    outcome = Outcome()
    try:
        yield outcome
    except Exception as error:
        told: Exception = error
        if memory_ran_out(error) and not isinstance(error, OutOfMemory):
            told = OutOfMemory()
        if not isinstance(told, UserError):
            raise
        print_line(f"{name}: error: {told}", sys.stderr)
        outcome.code = 2
    except KeyboardInterrupt:
        print_line(f"\n{name}: interrupted", sys.stderr)
        outcome.code = 130


def print_answer(text: str) -> None:
    """Print what was asked for; UserError if it is lost, but not where nobody reads."""
    try:
        write(f"{text}\n", sys.stdout)
    except OSError as error:
        if error.errno not in UNREAD:
            raise UserError(f"cannot write to standard output ({error.strerror}): the answer is "
                            "lost") from error


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run `program` and return its exit code, as `reported_errors` has it."""
    with reported_errors(name) as outcome:
        outcome.code = program() or 0
    return outcome.code
