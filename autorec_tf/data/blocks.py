"""Rules for rating files, the columns that they are read into, and text input for all formats."""

import bz2
import gzip
import lzma
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autorec_tf.data.headers import NUMBER
from autorec_tf.data.layouts import MAX_LINE
from autorec_tf.system.errors import UserError

READ_BYTES = 1 << 21  # characters parsed at a time
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
HIDDEN = re.compile(r"/$|(^|/)(__MACOSX/|\.|Thumbs\.db$|desktop\.ini$)")  # in a zip archive
MISSING = {"", "nan", "null", "none", "na", "n/a", "<na>", "nil", r"\n", "empty", "nat"}
Scale = tuple[float, float]


@dataclass(frozen=True)
class Rules:
    """Which values of a file are ratings, and whether timestamps are read.

    Args:
        scale: the lowest and the highest valid rating, or None for any.
        with_times: whether timestamps are read, too.
        no_rating: numbers and words that mean "no rating". Any word leaves out all missing ratings.
        no_id: texts that mean "no id". A word for missing values leaves out empty ids, too.
        timestamp_format: the format of dates, as for `strptime`, or None to detect it.
    """

    scale: Scale | None = None
    with_times: bool = False
    no_rating: tuple[str, ...] = ()
    no_id: tuple[str, ...] = ()
    timestamp_format: str | None = None

    @property
    def words(self) -> set[str]:
        return {value.lower() for value in self.no_rating if not NUMBER.fullmatch(value)}

    @property
    def no_ids(self) -> set[str]:
        given = {value.strip().lower() for value in self.no_id}
        return given | (MISSING if given & MISSING else set())

    def left_out(self, values: np.ndarray) -> np.ndarray:
        """Return which ratings are left out (nan: are missing): bool [ratings]."""
        numbers = [float(number.replace(",", ".")) for number in self.no_rating
                   if NUMBER.fullmatch(number)]
        return np.isin(values, numbers) | (np.isnan(values) & bool(self.words))

    def check(self, values: np.ndarray) -> None:
        """Raise ValueError if a rating is off the scale."""
        low, high = self.scale or (-np.inf, np.inf)
        for wrong in values[((values < low) | (values > high)) & ~self.left_out(values)]:
            raise ValueError(f"the rating {wrong:g} is outside the scale {low:g} to {high:g}")


ALL = Rules()


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
    names = [name for name in archive.namelist() if not HIDDEN.search(name)]
    if len(names) != 1:
        raise UserError(f"{path}: the archive contains {len(names)} files. Unpack it, and name one "
                        "of them.")
    try:
        return archive.open(names[0])
    except (RuntimeError, NotImplementedError) as error:  # a password, or another compression
        raise UserError(f"{path}: cannot be unpacked ({error}). Unpack it yourself.") from error


def open_text(path: Path, encoding: str = "utf-8-sig", newline: str | None = "\n") -> TextIO:
    """Open `path` as text, decompressed and without a byte-order mark. Bytes that are not valid in
    `encoding` become surrogates, which cannot be encoded again."""
    return TextIOWrapper(open_binary(path), encoding, "surrogateescape", newline=newline)


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
