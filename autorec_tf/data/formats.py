"""Detect the format of a file, and read its ratings."""

import codecs
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.data import blocks
from autorec_tf.data.blocks import ALL, DAMAGED, Rules, Scale
from autorec_tf.data.delimited import Block, RatingsFile, check_text
from autorec_tf.data.foreign import refuse_foreign
from autorec_tf.data.frame import ParquetFile
from autorec_tf.data.ids import WHOLE_ID, Ids
from autorec_tf.data.layouts import SNIFFED_BYTES, Layout, quoted, read_csv_settings, sniff
from autorec_tf.system.errors import AutoRecWarning, Log, UserError, printable

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
        with blocks.open_binary(path) as file:
            start = file.read(SNIFFED_BYTES)
        refuse_foreign(path, packed, start)
        if MOVIE_LINE.match(start.removeprefix(codecs.BOM_UTF8).decode("latin-1")):
            return NetflixFile(path)
        encoding = settings.get("encoding") or find_encoding(start)
        newline = "\n" if b"\n" in start else None  # also lines that end in CR alone
        is_latin_1 = encoding == "cp1252" and not re.search(b"[\x80-\x9f]", start)
        remarks = [remark for remark, applies in {
            "a byte-order mark": start.startswith(codecs.BOM_UTF8),
            "latin-1" if is_latin_1 else encoding: encoding != "utf-8-sig",
            "compressed": packed != start[:4],
            "CR line ends": not newline and b"\r" in start}.items() if applies]
        with blocks.open_text(path, encoding, newline) as file:
            text = file.read(SNIFFED_BYTES)
            text = text[: text.rfind("\n") + 1] or text
            first = text.partition("\n")[0].rstrip("\r")
            if re.search("[\0\r\udc80-\udcff]", first):
                raise UserError(f"{path}, line 1: {first[:80]!r}: the line is binary or not UTF-8. "
                                "Name a text file, or its encoding with --read_csv encoding=NAME.")
            layout = sniff(path, text, columns, settings, roles, remarks)
            if layout.separator == "\t" and layout.quotechar and "quoting" not in settings:
                file.seek(0)
                parts = (part for part in blocks.text_blocks(file) if '"' in part)
                if any('"' in quoted("\t").sub("", part) for part in parts):
                    return open_file(path, columns, [*read_csv, "quoting=3"], roles)
        return RatingsFile(replace(layout, encoding=encoding, newline=newline), path)
    except UnicodeError as error:  # without attributes if UTF-16 has no byte-order mark
        encoding = getattr(error, "encoding", settings.get("encoding"))
        raise UserError(f"{path}: the text is not {encoding} ({getattr(error, 'reason', error)}). "
                        "Name its encoding, as in --read_csv encoding=utf-16.") from error
    except (OSError, *DAMAGED) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the UserError for an `error` in reading or decompressing `path`."""
    if isinstance(error, OSError):
        return UserError(f"cannot read {path} ({error.strerror or error})")
    return UserError(f"{path}: the file is damaged ({error}). Compress it again.")


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


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in file order.

    Args:
        file: the file.
        users, items: int32 [ratings], the codes of the ids.
        values: float32 or float64 [ratings].
        times: float64 or int64 [ratings], or None.
        scale: the lowest and the highest rating.
    """

    file: RatingsFile
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    scale: Scale

    def pairs(self, ids: tuple[Ids, Ids]) -> np.ndarray:
        """Return a number for the user and item of each rating, whose codes are in `ids`: int64."""
        return self.users.astype(np.int64) * len(ids[1].codes) + self.items

    def at(self, rows: np.ndarray) -> "Columns":
        """Return the ratings at the positions `rows`."""
        times = self.times[rows] if self.times is not None else None
        return replace(self, users=self.users[rows], items=self.items[rows],
                       values=self.values[rows], times=times)


def read(file: RatingsFile, users: Ids, items: Ids, rules: Rules = ALL,
         log: Log = lambda _: None) -> Columns:
    """Return all ratings of `file` that `rules` allow, and add their ids to `users` and `items`.
    Log what is left out. Raise UserError, with file and line, if it is malformed or empty."""
    if rules.with_times and len(file.layout.positions) < 4:
        raise UserError(f"{file.path}: --split time needs a column of timestamps. Name it as the "
                        "fourth of --columns, or use --split random.")
    file_ids, file.rules, file.counts = (Ids(), Ids()), rules, Counter()
    columns: list[Any] = [[] for _ in range(4 if rules.with_times else 3)]
    state = dict[str, Any]()
    try:
        for _, chunk, state in file.chunks():
            if not (block := file.parse(chunk, state)):
                continue
            for number, ids in enumerate(file_ids):
                codes, distinct = block[number]
                block[number] = ids.encode(distinct)[codes]
            short = block[2].astype(np.float32)  # if that rounds nothing
            block[2] = short if np.array_equal(short, block[2]) else block[2]
            for parts, part in zip(columns, block, strict=True):
                parts.append(part)
    except (OSError, *DAMAGED) as error:
        raise unreadable(file.path, error) from error
    except ValueError as error:
        raise file.malformed(error) from error
    counts, num_rows = file.counts, file.counts["row"]
    if num_rows == counts["rating"] + counts["id"]:
        raise UserError(f"{file.path}: the file contains no ratings. Name another file.")
    for number, parts in enumerate(columns):
        columns[number] = np.concatenate(parts)  # one by one, which frees memory
    user_codes, item_codes, values, *times = columns
    if len(missing := np.flatnonzero(np.isnan(values))):
        raise UserError(f"{file.locate(missing[0])}: the rating is missing ({len(missing):,} of "
                        f"{num_rows:,} in total). Leave out missing ratings with --no_rating NaN.")
    if format := decided_format(file, state):
        return read(file, users, items, replace(rules, timestamp_format=format), log)
    user_codes = users.merge(file_ids[0], user_codes, counts["id"] > 0)
    item_codes = items.merge(file_ids[1], item_codes, counts["id"] > 0)
    if counts["comment"]:
        log(printable(f"Data file {file.path.name}: comment lines left out: {counts['comment']:,}"))
    for flag in ("rating", "id"):
        if counts[flag]:
            log(printable(f"Data file {file.path.name}: {counts[flag]:,} of {num_rows:,} ratings "
                          f"are left out by --no_{flag}"))
    if lost := file_ids[0].lost + file_ids[1].lost:
        log(AutoRecWarning(f"{file.path.name}: ids that may have lost digits, such as {lost[0]}: "
                           f"{len(lost):,}. Write ids as text or as whole numbers."))
    scale = float(values.min()), float(values.max())
    return Columns(file, user_codes, item_codes, values, times[0] if times else None, scale)


def decided_format(file: RatingsFile, state: Mapping[str, Any]) -> str:
    """Return the format that only later dates decided, or "". Raise UserError if several fit."""
    formats = state.get("formats", [])
    if len(formats) > 1 and state["doubt"]:
        choices = " or ".join(map(repr, formats))
        raise UserError(f"{file.find(bool)}: the timestamp {state['first'][1][:30]!r} can be read "
                        f"in several ways. Choose one with --timestamp_format {choices}.")
    return formats[0] if formats and formats[0] != state["first"][0] else ""
