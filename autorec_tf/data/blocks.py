"""What files of ratings are read into, and the text of files: what all formats share."""

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autorec_tf.data.layouts import MAX_LINE, NUMBER
from autorec_tf.system.errors import UserError

READ_BYTES = 1 << 21  # of text parsed at a time, or rather characters
CACHED = 1 << 24  # ids below are looked up in an array
WHOLE_FLOAT = re.compile(r"(-?[1-9]\d{0,17}|0)\.0*", re.ASCII)
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
Scale = tuple[float, float]


@dataclass(frozen=True)
class Rules:
    """What is read of a file: ratings on `scale`, if that is given; timestamps too, or not; and of
    the ratings, which mean none: numbers, or words, by which all missing ones are left out."""

    scale: Scale | None = None
    with_times: bool = False
    no_rating: tuple[str, ...] = ()

    @property
    def words(self) -> set[str]:
        return {value.lower() for value in self.no_rating if not NUMBER.fullmatch(value)}

    def left_out(self, values: np.ndarray) -> np.ndarray:
        """Return which of the ratings are those that mean none; nan is not among them."""
        numbers = filter(NUMBER.fullmatch, self.no_rating)
        return np.isin(values, [float(number.replace(",", ".")) for number in numbers])

    def check(self, values: np.ndarray) -> None:
        """Raise ValueError if a rating is off the scale."""
        low, high = self.scale or (-np.inf, np.inf)
        for wrong in values[((values < low) | (values > high)) & ~self.left_out(values)]:
            raise ValueError(f"the rating {wrong:g} lies outside the scale {low:g} to {high:g}")


ALL = Rules()


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in its order: int32 codes of users and items, ratings, timestamps or
    None; the lowest and the highest rating, and which rows of the file are left out."""

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



class Ids:
    """The ids seen so far, each with a code: 0, 1, ... as they appear."""

    def __init__(self) -> None:
        self.codes: dict[int | str, int] = {}
        self.known = np.empty(0, np.int32)  # the code of a small whole number, or -1: a cache

    def encode(self, ids: Any) -> np.ndarray:
        """Return the codes of some ids, a list or whole numbers from 0 in an array, int32."""
        if isinstance(ids, list) or ids.max() >= CACHED:
            return self.look_up(ids if isinstance(ids, list) else ids.tolist())
        if (room := int(ids.max()) + 1 - len(self.known)) > 0:
            self.known = np.append(self.known, np.full(room, -1, np.int32))
        new = ids[self.known[ids] < 0]
        self.known[new] = self.look_up(new.tolist())
        return self.known[ids]

    def look_up(self, ids: Sequence[int | str]) -> np.ndarray:
        seen = self.codes
        codes = (seen.setdefault(one, len(seen)) for one in ids)
        return np.fromiter(codes, np.int32, len(ids))

    def merge(self, column: "Ids", codes: np.ndarray) -> np.ndarray:
        """Return the codes here of those that the ids of a file's column have there. A column of
        whole numbers written as 1.0 has the ids of one written as 1."""
        ids = list(column.codes)
        whole = [WHOLE_FLOAT.fullmatch(str(one)) for one in ids]
        if all(whole):
            ids = [int(match[1]) for match in whole if match]
        merged = self.look_up(ids)
        return codes if np.array_equal(merged, np.arange(len(ids))) else merged[codes]

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted ids, int64 if all are whole numbers and else strings, and the rank of
        each code among them, int32."""
        whole = all(type(one) is int for one in self.codes)
        ids = np.array([one if whole else str(one) for one in self.codes], int if whole else object)
        ids, ranks = np.unique(ids, return_inverse=True)
        return ids, ranks.astype(np.int32)


def open_binary(path: Path) -> Any:
    """Open `path`, unpacked if it is compressed; UserError for an archive of several files."""
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


def open_text(path: Path, encoding: str = "utf-8-sig") -> TextIO:
    """Open the text of `path`, unpacked, after its byte-order mark if it has one; what is not in
    `encoding` becomes surrogates, which cannot be encoded again."""
    return TextIOWrapper(open_binary(path), encoding, "surrogateescape", newline="\n")


def text_blocks(file: TextIO, quote: str = "") -> Iterator[str]:
    """Yield whole lines of what is left of `file`, some megabytes at a time, none of which ends
    within quotes; of a line that is too long a part, and nothing after it."""
    text = "\n"
    while text.endswith("\n") and (text := file.read(READ_BYTES)):
        end = len(text) + MAX_LINE
        while len(text) < end and (not text.endswith("\n") or quote and text.count(quote) % 2):
            if not (line := file.readline(MAX_LINE)):
                break
            text += line
        yield text
