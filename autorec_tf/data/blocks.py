"""Rules for rating files, the columns that they are read into, and text input for all formats."""

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

READ_BYTES = 1 << 21  # characters parsed at a time
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
Scale = tuple[float, float]


@dataclass(frozen=True)
class Rules:
    """Which values of a file are ratings, and whether timestamps are read.

    Args:
        scale: the lowest and the highest valid rating, or None for any.
        with_times: whether timestamps are read, too.
        no_rating: numbers and words that mean "no rating". Any word leaves out all missing ratings.
    """

    scale: Scale | None = None
    with_times: bool = False
    no_rating: tuple[str, ...] = ()

    @property
    def words(self) -> set[str]:
        return {value.lower() for value in self.no_rating if not NUMBER.fullmatch(value)}

    def left_out(self, values: np.ndarray) -> np.ndarray:
        """Return which ratings are numbers that mean "no rating" (nan is not): bool [ratings]."""
        numbers = filter(NUMBER.fullmatch, self.no_rating)
        return np.isin(values, [float(number.replace(",", ".")) for number in numbers])

    def check(self, values: np.ndarray) -> None:
        """Raise ValueError if a rating is off the scale."""
        low, high = self.scale or (-np.inf, np.inf)
        for wrong in values[((values < low) | (values > high)) & ~self.left_out(values)]:
            raise ValueError(f"the rating {wrong:g} is outside the scale {low:g} to {high:g}")


ALL = Rules()


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in file order.

    Args:
        users, items: int32 [ratings], the codes of the ids.
        values: float32 or float64 [ratings].
        times: float64 or int64 [ratings], or None.
        scale: the lowest and the highest rating.
        left_out: int64, the rows of the file that are left out, ascending.
    """

    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    scale: Scale
    left_out: np.ndarray

    def row(self, index: int) -> int:
        """Return the row in the file of the rating at `index`."""
        before = self.left_out - np.arange(len(self.left_out))
        return index + int(np.searchsorted(before, index, side="right"))


def open_binary(path: Path) -> Any:
    """Open `path`, decompressed. Raise UserError for an archive that contains several files."""
    with open(path, "rb") as file:
        start = file.read(6)
    for mark, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(mark):
            return opener(path)
    if not start.startswith(b"PK\3\4"):
        return open(path, "rb")
    archive = zipfile.ZipFile(path)
    if len(archive.namelist()) != 1:
        raise UserError(f"{path}: the archive contains {len(archive.namelist())} files. Unpack it, "
                        "and name one of them.")
    return archive.open(archive.namelist()[0])


def open_text(path: Path, encoding: str = "utf-8-sig") -> TextIO:
    """Open `path` as text, decompressed and without a byte-order mark. Bytes that are not valid in
    `encoding` become surrogates, which cannot be encoded again."""
    return TextIOWrapper(open_binary(path), encoding, "surrogateescape", newline="\n")


def text_blocks(file: TextIO, quote: str = "") -> Iterator[str]:
    """Yield the rest of `file` in blocks of whole lines, some megabytes each. No block ends inside
    quotes. A line that is too long is cut, and nothing after it is read."""
    text = "\n"
    while text.endswith("\n") and (text := file.read(READ_BYTES)):
        end = len(text) + MAX_LINE
        while len(text) < end and (not text.endswith("\n") or quote and text.count(quote) % 2):
            if not (line := file.readline(MAX_LINE)):
                break
            text += line
        yield text
