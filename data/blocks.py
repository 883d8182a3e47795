"""Files of ratings to columns, block by block, so that memory grows with the ratings and not with
the text.

    users, items = Ids(), Ids()
    columns = read(open_file(Path("ratings.csv")), users, items)
    columns.users, columns.values                 # codes of ids, ratings

A file object here has `blocks`, the parsed blocks of it; `locate`, where a rating stands; and
`malformed`, the UserError for a file whose blocks raised ValueError.
"""

import bz2
import gzip
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TextIO

import numpy as np
import pandas as pd
from pandas.tseries.api import guess_datetime_format

from data.layouts import MAX_LINE
from system.errors import UserError

READ_BYTES = 1 << 20  # of text parsed at a time, or rather characters
MAX_ID = 200  # characters
CACHED = 1 << 24  # ids below are looked up in an array
WHOLE_ID = re.compile(r"-?[1-9]\d{0,17}|0", re.ASCII)  # an id that is a number, and no "007"
WHOLE_FLOAT = re.compile(r"(-?[1-9]\d{0,17}|0)\.0*", re.ASCII)
WHOLE_TIME = re.compile(r"-?\d{1,18}", re.ASCII)
DECIMAL_TIME = re.compile(r"-?\d{1,18}(\.\d*)?(e\+?\d{1,2})?", re.ASCII | re.IGNORECASE)
MISSING = {"", "nan", "null", "none", "na", "n/a", "<na>", "nil", r"\n", "empty"}
UNITS = {9: "seconds", 10: "seconds", 12: "milliseconds", 13: "milliseconds"}  # by their digits
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
Scale = tuple[float, float]
# An int64 id for each rating, or which of some ids each has, and these.
BlockIds = np.ndarray | tuple[np.ndarray, Sequence[int | str]]


@dataclass(frozen=True)
class Rules:
    """What is read of a file: ratings on `scale`, if that is given; timestamps too, or not; and of
    the ratings, which mean none: numbers, or words, by which all missing ones are left out."""

    scale: Scale | None = None
    with_times: bool = False
    no_rating: tuple[str, ...] = ()

    @property
    def words(self) -> set[str]:
        return {value.lower() for value in self.no_rating if np.isnan(as_number(value))}

    def left_out(self, values: np.ndarray) -> np.ndarray:
        """Return which of the ratings are those that mean none; nan is not among them."""
        return np.isin(values, [as_number(value) for value in self.no_rating])

    def check(self, values: np.ndarray) -> None:
        """Raise ValueError if a rating is off the scale."""
        if self.scale:
            low, high = self.scale
            outside = ((values < low) | (values > high)) & ~self.left_out(values)
            if outside.any():
                wrong = values[outside.argmax()]
                raise ValueError(
                    f"the rating {wrong:g} lies outside the scale {low:g} to {high:g}"
                )


ALL = Rules()


class Block(NamedTuple):
    """Some ratings of a file: ids of users and items, float64 ratings, nan where one is missing,
    and timestamps if they were asked for."""

    users: BlockIds
    items: BlockIds
    values: np.ndarray
    times: np.ndarray | None = None


class RatingsFile(Protocol):
    """What `read` reads."""

    path: Path

    def blocks(self, rules: Rules) -> Iterator[Block]: ...

    def locate(self, row: int) -> str: ...

    def malformed(self, rules: Rules, error: Exception) -> UserError: ...


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in its order: int32 codes of users and items, float32 ratings, and
    timestamps or None; the lowest and the highest rating, and which rows of the file are left
    out."""

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    scale: Scale
    left_out: np.ndarray

    def row(self, index: int) -> int:
        """Return the row of the file that a rating is from."""
        before = self.left_out - np.arange(len(self.left_out))
        return index + int(np.searchsorted(before, index, side="right"))

    def take(self, kept: np.ndarray, values: np.ndarray) -> "Columns":
        """Return the ratings `kept` alone (bool, or positions), which are now `values`."""
        times = None if self.times is None else self.times[kept]
        return Columns(self.users[kept], self.items[kept], values, times, self.scale, self.left_out)


def shortest(values: np.ndarray) -> np.ndarray:
    """Return float64 `values` as float32 where that rounds nothing."""
    short = values.astype(np.float32)
    return short if np.array_equal(short, values) else values


class Ids:
    """The ids seen so far, each with a code: 0, 1, ... as they appear."""

    def __init__(self) -> None:
        self.codes: dict[int | str, int] = {}
        self.known = np.empty(0, np.int32)  # the code of a small whole number, or -1: a cache

    def encode(self, ids: BlockIds) -> np.ndarray:
        """Return the codes of a block's ids, int32."""
        if isinstance(ids, tuple):
            return self.look_up(ids[1])[ids[0]]
        if not len(ids) or ids.min() < 0 or ids.max() >= CACHED:
            index, distinct = pd.factorize(ids)
            return self.look_up(distinct.tolist())[index]
        if (missing := int(ids.max()) + 1 - len(self.known)) > 0:
            self.known = np.append(self.known, np.full(missing, -1, np.int32))
        codes = self.known[ids]
        if codes.min() < 0:
            new = pd.unique(ids[codes < 0])
            self.known[new] = self.look_up(new.tolist())
            codes = self.known[ids]
        return codes

    def look_up(self, ids: Sequence[int | str]) -> np.ndarray:
        seen = self.codes
        codes = (seen.setdefault(one, len(seen)) for one in ids)
        return np.fromiter(codes, np.int32, len(ids))

    def merge(self, column: "Ids", codes: np.ndarray) -> np.ndarray:
        """Return the codes here of those that the ids of a file's column have there. A column of
        whole numbers written as 1.0 has the ids of one written as 1."""
        ids: list[int | str] = list(column.codes)
        whole = [isinstance(one, str) and WHOLE_FLOAT.fullmatch(one) for one in ids]
        if all(whole):
            ids = [int(match[1]) for match in whole if match]
        merged = self.look_up(ids)
        return codes if np.array_equal(merged, np.arange(len(ids))) else merged[codes]

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


def read(file: RatingsFile, users: Ids, items: Ids, rules: Rules = ALL) -> Columns:
    """Return all ratings of `file`, their ids added to `users` and `items`.

    Raise UserError, which names the file, the line and what is wrong with it; what `rules` do not
    allow is wrong, and so is a file without ratings.
    """
    own, extremes = (Ids(), Ids()), []
    parts: list[list[Any]] = []
    missing, left_out, num_rows = [], [np.empty(0, np.int64)], 0
    try:
        for block in file.blocks(rules):
            columns = [own[0].encode(block.users), own[1].encode(block.items), block.values]
            columns += [] if block.times is None else [block.times]
            absent = np.isnan(block.values)
            missing.extend((num_rows + np.flatnonzero(absent)).tolist())
            absent |= rules.left_out(block.values)
            if absent.any():
                left_out.append(num_rows + np.flatnonzero(absent))
                columns = [column[~absent] for column in columns]
            num_rows += len(absent)
            if len(columns[2]):
                extremes += [float(columns[2].min()), float(columns[2].max())]
                columns[2] = shortest(columns[2])
                parts.append(columns)
    except DAMAGED as error:
        raise UserError(f"{file.path} is damaged ({error}): compress it again") from error
    except OSError as error:
        raise UserError(f"cannot read {file.path} ({error.strerror or error})") from error
    except ValueError as error:
        raise file.malformed(rules, error) from error
    if missing and not rules.words:
        raise UserError(
            f"{file.locate(missing[0])}: the rating is missing, as are {len(missing):,} of "
            f"{num_rows:,} in all: --no_rating NaN leaves them out"
        )
    if not parts:
        raise UserError(f"{file.path} holds no ratings: name a file that does")
    joined: list[Any] = [None] * 4
    for number in range(len(parts[0])):
        joined[number] = np.concatenate([part[number] for part in parts])
        for part in parts:
            part[number] = None  # frees memory
    joined[:2] = users.merge(own[0], joined[0]), items.merge(own[1], joined[1])
    scale = min(extremes), max(extremes)
    user_codes, item_codes, values, times = joined
    return Columns(user_codes, item_codes, values, times, scale, np.concatenate(left_out))


def open_binary(path: Path) -> Any:
    """Open `path`, unpacked if it is compressed. Raise UserError for an archive of several
    files."""
    with open(path, "rb") as file:
        start = file.read(6)
    for mark, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(mark):
            return opener(path)
    if not start.startswith(b"PK\3\4"):
        return open(path, "rb")
    archive = zipfile.ZipFile(path)
    if len(archive.namelist()) != 1:
        raise UserError(f"{path} holds {len(archive.namelist())} files: unpack it, and name one")
    return archive.open(archive.namelist()[0])


def open_text(path: Path, encoding: str = "utf-8") -> TextIO:
    """Open the text of `path`, unpacked, after its byte-order mark if it has one; what is not in
    `encoding` becomes surrogates, which cannot be encoded again."""
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    return TextIOWrapper(open_binary(path), encoding, "surrogateescape", newline="\n")


def text_blocks(file: TextIO, quote: str = "") -> Iterator[str]:
    """Yield whole lines of what is left of `file`, some megabytes at a time, none of which ends
    within quotes; of a line that is too long a part, and nothing after it."""
    while text := file.read(READ_BYTES):
        if not text.endswith("\n"):
            text += file.readline(MAX_LINE)
        end = len(text) + MAX_LINE
        while quote and text.count(quote) % 2 and len(text) < end and text.endswith("\n"):
            line = file.readline(MAX_LINE)
            if not line:
                break
            text += line
        yield text


def check_text(text: str) -> str:
    """Return `text` with line ends \n. Raise ValueError for a line that is too long, or what is not
    in the file's encoding."""
    if not text.endswith("\n") and len(text) - text.rfind("\n") > MAX_LINE:
        raise ValueError(f"more than {MAX_LINE} bytes")
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise ValueError("is not UTF-8") from None
    text = text.replace("\r\n", "\n") if "\r" in text else text
    if "\0" in text or "\r" in text:
        raise ValueError("a control character")
    return text


def shown(line: str) -> str:
    """Return the beginning of a line as an error message quotes it."""
    start = line[:80].encode("utf-8", "surrogateescape")
    return repr(start.decode("utf-8", "backslashreplace").rstrip("\r\n"))


def as_number(text: str) -> float:
    """Return the number that a text is, nan if it is none."""
    try:
        return float(text)
    except ValueError:
        return float("nan")


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


def parse_times(texts: Sequence[str], kinds: dict[str, Any]) -> np.ndarray:
    """Return numbers, or dates with or without a time of day, as numbers that order alike.

    `kinds`: what those of the file were so far. Raise ValueError for another kind, or none.
    """
    dates = [text for text in texts if not DECIMAL_TIME.fullmatch(text)]
    moments = parse_dates(dates, kinds) if dates else None
    if len(dates) not in (0, len(texts)) or kinds.get("dates", bool(dates)) != bool(dates):
        raise ValueError("a date among numbers, or the reverse")
    kinds["dates"] = bool(dates)
    if moments is not None:
        return moments
    for text in texts:
        unit = UNITS.get(len(text.lstrip("-").partition(".")[0]))
        if unit and kinds.setdefault("unit", unit) != unit:
            raise ValueError(f"the timestamp {text} is in {unit}, unlike those before")
    whole = all(WHOLE_TIME.fullmatch(text) for text in texts)
    return np.array([int(text) if whole else float(text) for text in texts])


def parse_dates(texts: Sequence[str], kinds: dict[str, Any]) -> np.ndarray:
    """Return dates that are written as those of the file so far, or else alike, as microseconds."""
    with warnings.catch_warnings(action="ignore"):  # of pandas' guesses, which are tried here
        guesses = [guess_datetime_format(texts[0], dayfirst=first) for first in (False, True)]
        formats = [kinds["format"]] if "format" in kinds else ["ISO8601", *guesses]
        for format in filter(None, formats):
            try:
                moments = pd.to_datetime(list(texts), format=format, utc=True).as_unit("us")
            except (ValueError, OverflowError):
                continue
            if not moments.hasnans:
                kinds["format"] = format
                return moments.asi8
        known = guess_datetime_format(texts[-1])
    what = "a date of another format than those before" if known else "neither a number nor a date"
    raise ValueError(f"the timestamp {texts[-1][:30]!r} is {what}")
