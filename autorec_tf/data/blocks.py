"""What files of ratings are read into, and the text of files: what all formats share."""

import bz2
import gzip
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autorec_tf.data.layouts import MAX_LINE, NUMBER
from autorec_tf.system.errors import UserError

READ_BYTES = 1 << 21  # of text parsed at a time, or rather characters
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
