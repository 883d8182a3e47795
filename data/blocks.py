"""Files of ratings to columns, block by block, so that memory grows with the ratings and not with
the text.

    users, items = Ids(), Ids()
    columns = read(open_file(Path("ratings.csv")), users, items)
    columns.users, columns.values                 # codes of ids, ratings

A file object here has `blocks`, the parsed blocks of it; `locate`, where a rating stands; and
`malformed`, the UserError for a file whose blocks raised ValueError.
"""

import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from data.layouts import BYTE_ORDER_MARK, MAX_LINE
from system.errors import UserError

READ_BYTES = 1 << 22  # of text parsed at a time
MAX_ID = 200  # characters
CACHED = 1 << 24  # ids below are looked up in an array
PUBLISHED = b"0123456789.-"  # the characters of MovieLens' fields
CONTROL = b"\r\0"
WHOLE_ID = re.compile(r"-?[1-9]\d{0,17}|0", re.ASCII)  # an id that is a number, and no "007"
WHOLE_TIME = re.compile(r"-?\d{1,18}", re.ASCII)
DATE = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{6}|\.\d{3})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII
)
FIRST_BYTES = np.array([(1 << 8 * count) - 1 for count in range(9)], np.uint64)
Scale = tuple[float, float]


class Block(NamedTuple):
    """Some ratings of a file: of users and items the ids that occur, and which of them each rating
    has; ratings, and timestamps if they were asked for (int64)."""

    users: tuple[np.ndarray, Sequence[int | str] | np.ndarray]
    items: tuple[np.ndarray, Sequence[int | str] | np.ndarray]
    values: np.ndarray
    times: np.ndarray | None = None


class RatingsFile(Protocol):
    """What `read` reads."""

    path: Path

    def blocks(self, scale: Scale | None, with_times: bool) -> Iterator[Block]: ...

    def locate(self, row: int) -> str: ...

    def malformed(self, scale: Scale | None, with_times: bool, error: Exception) -> UserError: ...


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in its order: int32 codes of users and items, float32 ratings, and
    int64 timestamps or None; the lowest and the highest rating."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    scale: Scale


class Ids:
    """The ids seen so far, each with a code: 0, 1, ... as they appear."""

    def __init__(self) -> None:
        self.codes: dict[int | str, int] = {}
        self.known = np.empty(0, np.int32)  # the code of a small whole number, or -1: a cache

    def encode(self, index: np.ndarray, ids: Sequence[int | str] | np.ndarray) -> np.ndarray:
        """Return the codes of `ids[index]`, int32; whole numbers may be an int64 array."""
        if not isinstance(ids, np.ndarray):
            return self.look_up(ids)[index]
        if not len(ids) or ids.max() >= CACHED:
            return self.look_up(ids.tolist())[index]
        if (missing := ids.max() + 1 - len(self.known)) > 0:
            self.known = np.append(self.known, np.full(missing, -1, np.int32))
        new = ids[self.known[ids] < 0]
        self.known[new] = self.look_up(new.tolist())
        return self.known[ids][index]

    def look_up(self, ids: Sequence[int | str]) -> np.ndarray:
        seen = self.codes
        codes = (seen.setdefault(one, len(seen)) for one in ids)
        return np.fromiter(codes, np.int32, len(ids))

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted ids, int64 if all are whole numbers and else strings, and the rank of
        each code among them, int32."""
        if all(type(one) is int for one in self.codes):
            ids = np.array(list(self.codes), np.int64)
        else:
            ids = np.array([str(one) for one in self.codes], object)
        order = np.argsort(ids, kind="stable")
        ranks = np.empty(len(ids), np.int32)
        ranks[order] = np.arange(len(ids), dtype=np.int32)
        return ids[order], ranks


def read(
    file: RatingsFile, users: Ids, items: Ids, scale: Scale | None = None, with_times: bool = False
) -> Columns:
    """Return all ratings of `file`, their ids added to `users` and `items`.

    Raise UserError, which names the file, the line and what is wrong with it; a rating outside
    `scale` is wrong, and so is a file without ratings.
    """
    parts, lows, highs = [], [], []
    try:
        for block in file.blocks(scale, with_times):
            lows.append(float(block.values.min()))
            highs.append(float(block.values.max()))
            codes = users.encode(*block.users), items.encode(*block.items)
            times = [] if block.times is None else [block.times]
            parts.append([*codes, block.values.astype(np.float32), *times])
    except OSError as error:
        raise UserError(f"cannot read {file.path} ({error.strerror or error})") from error
    except ValueError as error:
        raise file.malformed(scale, with_times, error) from error
    if not parts:
        raise UserError(f"{file.path} holds no ratings: name a file that does")
    user_codes, item_codes, values, *times = (  # what is joined is freed
        np.concatenate([part.pop(0) for part in parts]) for _ in range(len(parts[0]))
    )
    scale = min(lows), max(highs)
    return Columns(user_codes, item_codes, values, times[0] if times else None, scale)


def text_blocks(file: io.BufferedReader) -> Iterator[bytes]:
    """Yield whole lines of what is left of `file`, some megabytes at a time. Raise ValueError for a
    line that is too long."""
    while text := file.read(READ_BYTES):
        if not text.endswith(b"\n"):
            end = file.readline(MAX_LINE)
            if len(end) == MAX_LINE and not end.endswith(b"\n"):
                raise ValueError("a line that is too long")
            text += end
        yield text


def text_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of `path`, one that is too long in pieces."""
    with open_text(path) as file:
        yield from iter(lambda: file.readline(MAX_LINE + 2), b"")


def open_text(path: Path) -> io.BufferedReader:
    """Open `path` after its byte-order mark, if it has one."""
    file = open(path, "rb")
    if file.read(len(BYTE_ORDER_MARK)) != BYTE_ORDER_MARK:
        file.seek(0)
    return file


def unix_lines(text: bytes) -> bytes:
    """Return `text` with line ends \\n, also after the last line. Raise ValueError for a control
    character that could be taken for a separator or an end."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n")
    if any(character in text for character in CONTROL):
        raise ValueError("a control character")
    return text if text.endswith(b"\n") else text + b"\n"


def field_bounds(text: bytes, separator: bytes, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where each field of each line of `text` begins and ends: two arrays [lines, width].
    Raise ValueError if a line has not `width` fields, or is too long."""
    characters = np.frombuffer(text, np.uint8)
    line_ends = characters == 10
    separators = characters == separator[0]
    if len(separator) == 2:  # the same character twice
        separators[:-1] &= separators[1:]
    marks = np.flatnonzero(line_ends | separators)
    if len(marks) % width:
        raise ValueError("a line with another number of fields")
    ends = marks.reshape(-1, width)
    last = line_ends[ends]
    if not last[:, -1].all() or last[:, :-1].any():
        raise ValueError("a line with another number of fields")
    if np.diff(ends[:, -1], prepend=-1).max() > MAX_LINE:
        raise ValueError("a line that is too long")
    starts = np.empty_like(ends)
    starts[0, 0] = 0
    starts[1:, 0] = ends[:-1, -1] + 1
    starts[:, 1:] = ends[:, :-1] + len(separator)
    return starts, ends


def distinct(text: bytes, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the different fields among those from `starts` to `ends` in `text` each is,
    and these as bytes. Fields of 8 bytes or less are compared as integers, ten times faster."""
    lengths = ends - starts
    if lengths.max() > 8:
        bounds = zip(starts.tolist(), ends.tolist(), strict=True)
        fields = [text[start:end] for start, end in bounds]
        return pd.factorize(np.array(fields, object))
    padded = text + bytes(8 - 1)
    words = np.ndarray(len(text), "<u8", padded, strides=(1,))  # the 8 bytes from every byte on
    codes, keys = pd.factorize((words[starts] & FIRST_BYTES[lengths]).astype(np.uint64))
    return codes, keys.astype("<u8").view("S8")


def decoded(fields: np.ndarray) -> list[str]:
    return [field.decode() for field in fields.tolist()]


def whole_numbers(fields: np.ndarray) -> np.ndarray | None:
    """Return fields of 8 bytes or less as int64, if all are whole numbers as `WHOLE_ID` has them
    and none is negative; otherwise None."""
    if fields.dtype != "S8":
        return None
    characters = fields.view(np.uint8).reshape(-1, 8)
    absent, digits = characters == 0, characters.astype(np.int64) - ord("0")
    padded = (digits[:, 0] == 0) & ~absent[:, 1]
    if not ((0 <= digits) & (digits <= 9) | absent).all() or absent[:, 0].any() or padded.any():
        return None
    numbers = digits[:, 0]
    for i in range(1, 8):
        numbers = np.where(absent[:, i], numbers, 10 * numbers + digits[:, i])
    return numbers


def without_end(line: bytes) -> bytes:
    return line.removesuffix(b"\n").removesuffix(b"\r") if line.endswith(b"\n") else line


def shown(line: bytes) -> str:
    """Return the beginning of a line as an error message quotes it."""
    return repr(line[:80].decode("utf-8", "backslashreplace").rstrip("\r\n"))


def parse_id(text: str, whole: bool) -> int | str:
    """Return an id as a number if it is one, so that "1" in one file is 1 in another."""
    if WHOLE_ID.fullmatch(text) and not (whole and text.startswith("-")):
        return int(text)
    if not text or text != text.strip():
        raise ValueError(f"the id {text[:20]!r} is empty, or has blanks around it")
    if len(text) > MAX_ID:
        raise ValueError(f"an id of more than {MAX_ID} characters")
    if whole:
        raise ValueError(f"the id {text[:20]!r} is no whole number")
    return text


def parse_times(texts: Sequence[str]) -> np.ndarray:
    """Return whole numbers, or ISO dates with or without a time of day, as int64 that order
    alike."""
    if all(WHOLE_TIME.fullmatch(text) for text in texts):
        return np.array([int(text) for text in texts], np.int64)
    return np.array([microseconds(text) for text in texts], np.int64)


def microseconds(text: str) -> int:
    """Return the microseconds from 1970 to an ISO date."""
    if not DATE.fullmatch(text):
        raise ValueError(f"the timestamp {text[:30]!r} is neither a whole number nor an ISO date")
    moment = datetime.fromisoformat(text)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
