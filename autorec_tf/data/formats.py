"""Detect the format of a file of ratings."""

import codecs
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorec_tf.data import delimited
from autorec_tf.data.delimited import DAMAGED, Block, RatingsFile, check_text, unreadable
from autorec_tf.data.foreign import refuse_foreign
from autorec_tf.data.frame import ParquetFile
from autorec_tf.data.ids import WHOLE_ID
from autorec_tf.data.layouts import SNIFFED_BYTES, Layout, quoted, read_csv_settings, sniff
from autorec_tf.system.errors import UserError

MOVIE_LINE = re.compile(r"(\d{1,18}):(\r?\n|$)", re.ASCII)
NETFLIX = Layout(
    ",", 4, (0, 3, 1, 2), quotechar="", rating=re.compile("[1-5]"),
    time=re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    published="Expected MovieID:, then lines CustomerID,Rating,YYYY-MM-DD, ratings from 1 to 5",
)


class NetflixFile(RatingsFile):
    """Files of the Netflix Prize, read as one: lines `MovieID:`, each before its
    `CustomerID,Rating,Date`.

    The publisher has withdrawn the data. Existing copies have `combined_data_1.txt` to
    `combined_data_4.txt`, or one file per movie, `training_set/mv_0000001.txt` and so on.
    """

    def __init__(self, *paths: Path) -> None:
        super().__init__(NETFLIX, *paths)

    def __str__(self) -> str:
        return f"{self.path.name}: Netflix format, MovieID: before its CustomerID,Rating,Date lines"

    def parse(self, text: str, state: dict[str, Any]) -> Block:
        """Return the ratings in some lines, with the movie added to each; `state` keeps it."""
        text = check_text(text)
        *before, last = (text if text.endswith("\n") else f"{text}\n").split(":\n")
        movie, parts = state.get("movie", ""), []
        for part in before:
            lines, end, following = part.rpartition("\n")
            parts.append(f"{lines}{end}".replace("\n", f",{movie}\n"))
            if not WHOLE_ID.fullmatch(movie := following):
                raise ValueError(f"the movie id {movie[:20]!r} is not a whole number")
        lines = "".join(parts) + last.replace("\n", f",{movie}\n")
        state["movie"] = movie
        return super().parse(lines, state) if lines else []


def open_file(path: Path, columns: str | None = None, read_csv: Sequence[str] = (),
              roles: int = 3) -> RatingsFile:
    """Return the rating file at `path`, in the format that its first bytes show. Raise UserError if
    it cannot be read, or its format is not supported.

    Args:
        path: the file.
        columns: the value of `--columns`, or None for the usual names or the first columns.
        read_csv: the values of `--read_csv`, each KEY=VALUE.
        roles: the number of columns that the file must have: 3, or 2 without ratings.
    """
    settings = read_csv_settings(read_csv)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(4)
        if packed == b"PAR1" or path.suffix.lower() == ".parquet":
            return ParquetFile(path, columns, roles)
        if packed.startswith(b"PK"):  # Excel and SciPy files are zip archives
            refuse_foreign(path, packed, packed)
        with delimited.open_binary(path) as file:
            start = file.read(SNIFFED_BYTES)
        refuse_foreign(path, packed, start)
        if MOVIE_LINE.match(start.removeprefix(codecs.BOM_UTF8).decode("latin-1")):
            return NetflixFile(path)
        encoding = settings.get("encoding") or find_encoding(start)
        newline = "\n" if b"\n" in start else None  # also lines that end in CR alone
        remarks = ["a byte-order mark" if start.startswith(codecs.BOM_UTF8) else "",
                   {"utf-8-sig": "", "cp1252": "latin-1 or cp1252"}.get(encoding, encoding),
                   "compressed" if packed != start[:4] else "",
                   "CR line ends" if not newline and b"\r" in start else ""]
        with delimited.open_text(path, encoding, newline) as file:
            text = file.read(SNIFFED_BYTES)
            text = text[: text.rfind("\n") + 1] or text
            first = text.partition("\n")[0].rstrip("\r")
            if re.search("[\0\r\udc80-\udcff]", first):
                raise UserError(f"{path}, line 1: {first[:80]!r}: the line is binary or not UTF-8. "
                                "Name a text file, or its encoding with --read_csv encoding=NAME.")
            layout = sniff(path, text, columns, settings, roles, remarks)
            if layout.separator == "\t" and layout.quotechar and "quoting" not in settings:
                file.seek(0)
                parts = (part for part in delimited.text_blocks(file) if '"' in part)
                if any('"' in quoted("\t").sub("", part) for part in parts):
                    return open_file(path, columns, [*read_csv, "quoting=3"], roles)
        return RatingsFile(replace(layout, encoding=encoding, newline=newline), path)
    except UnicodeError as error:  # without attributes if UTF-16 has no byte-order mark
        encoding = getattr(error, "encoding", settings.get("encoding"))
        raise UserError(f"{path}: the text is not {encoding} ({getattr(error, 'reason', error)}). "
                        "Name its encoding, as in --read_csv encoding=utf-16.") from error
    except (OSError, *DAMAGED) as error:
        raise unreadable(path, error) from error


def find_encoding(start: bytes) -> str:
    """Return the encoding of text that begins with the bytes `start`: UTF-8, UTF-16 or UTF-32, or
    else cp1252, which contains latin-1, if the characters that are valid UTF-8 are ASCII."""
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    zeros = [start[parity:400:2].count(0) for parity in (0, 1)]  # bytes of ASCII in UTF-16
    if min(zeros) == 0 and 4 * max(zeros) > len(start[:400]):
        return "utf-16-le" if zeros[1] else "utf-16-be"
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(start, len(start) < SNIFFED_BYTES)
        return "utf-8-sig"
    return "cp1252" if start.decode(errors="ignore").isascii() else "utf-8-sig"
