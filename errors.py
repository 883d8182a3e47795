"""The errors that are the user's to mend, and how a program ends with one."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input: the message is one line that says what was wrong, where, and what to do.

    Anything else that is raised is a bug of ours and keeps its traceback.
    """


def run_program(name: str, program: Callable[[], int | None]) -> int:
    """Run `program` and return its exit code: 2 after a UserError and 130 after Ctrl-C, each told
    in one line on stderr."""
    try:
        return program() or 0
    except UserError as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{name}: interrupted", file=sys.stderr)
        return 130
