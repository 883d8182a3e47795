"""What passes between a program and the shell that it was started from: streams and commands."""

import errno
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

# How the end of a pipe is told that nobody reads; Windows has another number for it.
UNREAD = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}


def open_streams() -> None:
    """Open the standard streams that the process was started without, on nothing: else the next
    file that is opened gets their number, and what is meant for them. Nothing can be written to
    such a stdout, so that an answer is not thought to be given."""
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, mode)  # the lowest that is free
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8"))


def write(text: str, stream: TextIO) -> None:
    """Write at once, and what the stream's encoding lacks as escapes. Raise OSError if that cannot
    be; what is written afterwards goes nowhere, that of the interpreter's end too."""
    encoding = getattr(stream, "encoding", None) or "utf-8"  # in a notebook it may be none
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, end="", file=stream, flush=True)
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        raise


def print_line(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print at once. When nobody reads any more, nothing is said, and the run goes on; so it does
    where the disk is full, of which stderr is told."""
    stream = stream or sys.stdout
    try:
        write(f"{text}{end}", stream)
    except OSError as error:
        if stream is sys.stdout and error.errno not in {errno.EBADF, *UNREAD}:
            print_line(f"warning: nothing more is printed ({error.strerror})", sys.stderr)


def shell(arguments: Iterable[str | Path]) -> str:
    """Return a command, or a part of one, as this system's shell reads it."""
    words = [str(argument) for argument in arguments]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def file_argument(path: str | Path) -> str:
    """Return a path as an argument that is not taken for a flag."""
    return os.path.join(".", path) if str(path).startswith("-") else str(path)


def program(name: str) -> list[str]:
    """Return how to start the script called `name`, from here and by the Python that runs now."""
    python, script = sys.executable, Path(__file__).resolve().parents[2] / name
    short = os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
    return ["python" if shutil.which("python") == python else python, short]
