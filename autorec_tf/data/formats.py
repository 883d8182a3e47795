"""Detect the format of a file, and read its ratings.

    users, items = Ids(), Ids()
    columns = read(open_file(Path("ratings.csv")), users, items)
    columns.users, columns.values                 # codes of ids, ratings
"""

import codecs
import csv
import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from autorec_tf.data import blocks
from autorec_tf.data.blocks import ALL, DAMAGED, Columns, Rules
from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.ids import Ids
from autorec_tf.data.layouts import SNIFFED_BYTES, quoted, read_csv_settings, sniff
from autorec_tf.data.netflix import MOVIE_LINE, NetflixFile
from autorec_tf.data.parquet import ParquetFile
from autorec_tf.system.errors import UserError
from autorec_tf.system.terminal import shell

JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\[\]])')
EXCEL = (".xls", ".xlsx", ".xlsm", ".ods")


def open_file(path: Path, columns: str | None = None, read_csv: Sequence[str] = (),
              roles: int = 3) -> RatingsFile:
    """Return the rating file at `path`, in the format that its first bytes show.

    Args:
        path: the file.
        columns: the value of `--columns`, or None for the usual names or the first columns.
        read_csv: the values of `--read_csv`, each KEY=VALUE.
        roles: the number of columns that the file must have: 3, or 2 without ratings.

    Raises:
        UserError: if the file cannot be read, or its format is not supported.
    """
    settings = read_csv_settings(read_csv)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(4)
        if packed == b"PAR1" or path.suffix.lower() == ".parquet":
            return ParquetFile(path, columns, roles)
        if path.suffix.lower() in EXCEL or packed == b"\xd0\xcf\x11\xe0":
            raise conversion(path, "Excel files", "excel({})")
        with blocks.open_binary(path) as file:
            start = file.read(SNIFFED_BYTES)
        if JSON.match(start.removeprefix(codecs.BOM_UTF8)):
            raise conversion(path, "JSON files", "json({}, lines=True)")
        if MOVIE_LINE.match(start.removeprefix(codecs.BOM_UTF8).decode("latin-1")):
            return NetflixFile(path)
        encoding = settings.get("encoding") or find_encoding(start)
        remarks = ["a byte-order mark"] if start.startswith(codecs.BOM_UTF8) else []
        remarks += [] if encoding == "utf-8-sig" else [encoding]
        remarks += ["compressed"] if packed != start[:4] else []
        with blocks.open_text(path, encoding) as file:
            text = file.read(SNIFFED_BYTES)
            text = text[: text.rfind("\n") + 1] or text
            first = text.partition("\n")[0].removesuffix("\r")
            if re.search("[\0\r\udc80-\udcff]", first):
                raise UserError(f"{path}, line 1: {first[:80]!r}: the line is binary or not UTF-8. "
                                "Name a text file, or its encoding with --read_csv encoding=NAME.")
            layout = sniff(path, text, columns, settings, roles, remarks)
            if layout.separator == "\t" and layout.quotechar and "quoting" not in settings:
                file.seek(0)
                marks = quoted("\t")
                parts = (part for part in blocks.text_blocks(file) if '"' in part)
                if any('"' in marks.sub("", part) for part in parts):
                    settings["quoting"] = csv.QUOTE_NONE
                    layout = sniff(path, text, columns, settings, roles, remarks)
        return RatingsFile(replace(layout, encoding=encoding), path)
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: the text is not {error.encoding} ({error.reason}). Name its "
                        "encoding, as in --read_csv encoding=utf-16.") from error
    except (OSError, *DAMAGED) as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the UserError for an `error` in reading or decompressing `path`."""
    if isinstance(error, OSError):
        return UserError(f"cannot read {path} ({error.strerror or error})")
    return UserError(f"{path}: the file is damaged ({error}). Compress it again.")


def find_encoding(start: bytes) -> str:
    """Return the encoding of text that begins with the bytes `start`: latin-1 if it is not UTF-8
    and its valid characters are ASCII."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    with suppress(UnicodeDecodeError):
        codecs.getincrementaldecoder("utf-8")().decode(start, len(start) < SNIFFED_BYTES)
        return "utf-8-sig"
    return "latin-1" if start.decode(errors="ignore").isascii() else "utf-8-sig"


def conversion(path: Path, what: str, reader: str) -> UserError:
    """Return an error with the command that converts `path` to CSV."""
    source, target = (json.dumps(str(each)) for each in (path, path.with_suffix(".csv")))
    code = f"import pandas; pandas.read_{reader.format(source)}.to_csv({target}, index=False)"
    return UserError(f"{path}: {what} are not supported. Convert the file with "
                     f"{shell(['python', '-c', code])}")


def read(file: RatingsFile, users: Ids, items: Ids, rules: Rules = ALL) -> Columns:
    """Return all ratings of `file` that `rules` allow, and add their ids to `users` and `items`.
    Raise UserError, with the file and the line, if it is malformed or contains no ratings."""
    if rules.with_times and len(file.layout.positions) < 4:
        raise UserError(f"{file.path}: --split time needs a column of timestamps. Name it as the "
                        "fourth of --columns, or use --split random.")
    file_ids, num_rows, file.rules = (Ids(), Ids()), 0, rules
    columns: list[list[np.ndarray]] = [[], [], [], []]
    missing, left_out = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    try:
        for _, chunk, state in file.chunks():
            if not (block := file.parse(chunk, state)):
                continue
            absent = np.isnan(block[2])
            missing.append(num_rows + np.flatnonzero(absent))
            absent |= rules.left_out(block[2])
            left_out.append(num_rows + np.flatnonzero(absent))
            num_rows += len(absent)
            for number, ids in enumerate(file_ids):
                codes, distinct = block[number]
                block[number] = ids.encode(distinct)[codes]
            for parts, part in zip(columns, block, strict=False):
                parts.append(part[~absent] if len(left_out[-1]) else part)
            short = columns[2][-1].astype(np.float32)  # if that rounds nothing
            columns[2][-1] = short if np.array_equal(short, columns[2][-1]) else columns[2][-1]
    except (OSError, *DAMAGED) as error:
        raise unreadable(file.path, error) from error
    except ValueError as error:
        raise file.malformed(error) from error
    rows = np.concatenate(missing)
    if len(rows) and not rules.words:
        raise UserError(f"{file.locate(rows[0])}: the rating is missing ({len(rows):,} of "
                        f"{num_rows:,} in total). Leave out missing ratings with --no_rating NaN.")
    if num_rows == sum(map(len, left_out)):
        raise UserError(f"{file.path}: the file contains no ratings. Name another file.")
    joined: list[np.ndarray] = []
    while columns and columns[0]:
        joined.append(np.concatenate(columns.pop(0)))  # frees memory
    user_codes, item_codes, values, *times = joined
    codes = users.merge(file_ids[0], user_codes), items.merge(file_ids[1], item_codes)
    scale = float(values.min()), float(values.max())
    return Columns(*codes, values, times[0] if times else None, scale, np.concatenate(left_out))
