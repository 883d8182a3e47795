"""Standard streams, and commands as the user's shell reads them."""

import errno
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TextIO

# The error of a write to a pipe whose reader has closed it; Windows has a different number.
UNREAD = {errno.EPIPE, errno.EINVAL} if os.name == "nt" else {errno.EPIPE}
# Characters that are printable in Unicode, but that nobody sees: fillers, joiners, selectors.
UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f"
                    "\uffa0\U000e0100-\U000e01ef]")
LAYOUT = re.compile(r"(\n|\r\033\[K)")  # line ends, and the sequence that clears a live line


def printable(text: str) -> str:
    """Return `text` with control characters (such as line ends), characters that change the
    direction of text, and characters without width or ink as escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c.isprintable() and not UNSEEN.match(c) else ascii(c)[1:-1] for c in text)


def open_streams() -> None:
    """Open missing standard streams on the null device: otherwise the next file that is opened gets
    the number of such a stream, and its output. A missing stdout is opened for reading only, so
    that an answer written to it is an error."""
    for name, mode in (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY)):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, mode)  # the lowest free number
            setattr(sys, name, open(number, "r" if name == "stdin" else "w", encoding="utf-8"))


def write(text: str, stream: TextIO) -> None:
    """Write at once, with characters that the stream's encoding lacks as escapes. Raise OSError if
    that fails, and discard all later output, also at the exit of the interpreter."""
    encoding = getattr(stream, "encoding", None) or "utf-8"  # a notebook's may be None
    text = text.encode(encoding, "backslashreplace").decode(encoding)
    try:
        print(text, end="", file=stream, flush=True)
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        raise


def print_line(text: str | Warning, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print at once, and a warning after "warning: ". If the reader has closed the pipe, the run
    continues silently; if the disk is full, it continues with a warning on stderr. Names in a line
    may contain any character, so all of it is made printable, except line ends."""
    stream = stream or sys.stdout
    text = f"warning: {text}" if isinstance(text, Warning) else text
    text = "".join(part if LAYOUT.fullmatch(part) else printable(part)
                   for part in LAYOUT.split(text))
    try:
        write(f"{text}{end}", stream)
    except OSError as error:
        if stream is sys.stdout and error.errno not in {errno.EBADF, *UNREAD}:
            print_line(f"warning: cannot write to standard output ({error.strerror}), so nothing "
                       "more is printed", sys.stderr)


def shell(arguments: Iterable[str | Path]) -> str:
    """Return a command, or a part of one, quoted for this system's shell."""
    words = [str(argument) for argument in arguments]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def file_argument(path: str | Path) -> str:
    """Return a path as an argument that cannot be mistaken for a flag."""
    return os.path.join(".", path) if str(path).startswith("-") else str(path)


def program(name: str) -> list[str]:
    """Return the command that starts the script `name`, from the current folder and with the Python
    that is running."""
    python, script = sys.executable, Path(__file__).resolve().parents[2] / name
    short = os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
    return ["python" if shutil.which("python") == python else python, short]
