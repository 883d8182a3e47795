"""The errors that are the user's to mend, and how a program ends with one."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from system.terminal import UNREAD, print_line, write

LONGEST = 1000  # characters of a message


def printable(text: str) -> str:
    """Return `text` with what a terminal would obey, as a line end, written as an escape."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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


@dataclass
class Outcome:
    """The exit code of a program."""

    code: int = 0


@contextmanager
def reported_errors(name: str) -> Iterator[Outcome]:
    """Run a program's block, which may set the exit code: it is 2 after a UserError and 130 after
    Ctrl-C, each told in one line on stderr."""
    outcome = Outcome()
    try:
        yield outcome
    except UserError as error:
        print_line(f"{name}: error: {error}", sys.stderr)
        outcome.code = 2
    except KeyboardInterrupt:
        print_line(f"\n{name}: interrupted", sys.stderr)
        outcome.code = 130


def print_answer(text: str) -> None:
    """Print what was asked for. Raise UserError if it is lost, but not where nobody reads any
    more."""
    try:
        write(f"{text}\n", sys.stdout)
    except OSError as error:
        if error.errno not in UNREAD:
            raise UserError(
                f"cannot write to standard output ({error.strerror}): the answer is lost"
            ) from error


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run `program` and return its exit code, as `reported_errors` has it."""
    with reported_errors(name) as outcome:
        outcome.code = program() or 0
    return outcome.code
