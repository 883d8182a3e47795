"""Which format is this file?"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data.blocks import (
    DAMAGED,
    RatingsFile,
    check_text,
    open_binary,
    open_text,
    text_blocks,
)
from data.delimited import DelimitedFile, line_error
from data.layouts import BYTE_ORDER_MARK, SNIFFED_BYTES, quoted, read_csv_settings, sniff
from data.netflix import MOVIE_LINE, NetflixFile
from data.parquet import ParquetFile
from system.errors import UserError
from system.terminal import shell

JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{\[\]])')
EXCEL = (".xls", ".xlsx", ".xlsm", ".ods")


def open_file(
    path: Path, columns: str | None = None, read_csv: Sequence[str] = (), roles: int = 3
) -> RatingsFile:
    """Return the file at `path`, of whatever format its first bytes show; `roles`: how many columns
    it must have. Raise UserError if it cannot be read, or its format is none of those known
    here."""
    settings = read_csv_settings(read_csv)
    try:
        with open(path, "rb") as raw:
            packed = raw.read(4)
        if packed == b"PAR1" or path.suffix.lower() == ".parquet":
            return ParquetFile(path, columns, roles)
        if path.suffix.lower() in EXCEL or packed == b"\xd0\xcf\x11\xe0":
            raise conversion(path, "is an Excel file", "excel({})")
        with open_binary(path) as file:
            start = file.read(SNIFFED_BYTES)
        if not start:
            raise UserError(f"{path} is empty: name a file of ratings")
        if JSON.match(start.removeprefix(BYTE_ORDER_MARK)):
            raise conversion(path, "holds JSON", "json({}, lines=True)")
        if MOVIE_LINE.match(start.removeprefix(BYTE_ORDER_MARK).decode("latin-1")):
            return NetflixFile(path)
        return delimited_file(path, start, packed != start[:4], columns, settings, roles)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no {error.encoding} text ({error.reason}): name its encoding, "
                        "as in --read_csv encoding=utf-16") from error
    except DAMAGED as error:
        raise UserError(f"{path} is damaged ({error}): compress it again") from error
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error})") from error


def delimited_file(
    path: Path, start: bytes, packed: bool, columns: str | None, settings: dict[str, Any],
    roles: int,
) -> DelimitedFile:
    """Return the file of delimited text that begins with the bytes `start`, unpacked."""
    encoding = settings.get("encoding") or find_encoding(start)
    remarks = ["a byte-order mark"] if start.startswith(BYTE_ORDER_MARK) else []
    remarks += [] if encoding == "utf-8" else [encoding]
    remarks += ["compressed"] if packed else []
    with open_text(path, encoding) as file:
        text = file.read(SNIFFED_BYTES)
    text = text[: text.rfind("\n") + 1] or text
    refuse_characters(path, text)
    layout = replace(sniff(path, text, columns, settings, roles, remarks), encoding=encoding)
    if layout.separator == "\t" and layout.quotechar and "quoting" not in settings:
        marks = quoted("\t")
        with open_text(path, encoding) as file:
            if any('"' in text and '"' in marks.sub("", text) for text in text_blocks(file)):
                remarks = [*(x for x in layout.remarks if x != "quotes"), "quotes as text"]
                layout = replace(layout, quotechar="", remarks=tuple(remarks))
    return DelimitedFile(path, layout)


def refuse_characters(path: Path, text: str) -> None:
    """Raise UserError for the first line of `text` that no text has."""
    for number, line in enumerate(text.split("\n"), start=1):
        try:
            check_text(f"{line}\n")
        except ValueError as reason:
            raise line_error(path, number, line, reason) from None


def find_encoding(start: bytes) -> str:
    """Return the encoding of a text that begins with the bytes `start`: latin-1 where no UTF-8 has
    been found that is more than ASCII."""
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        start.decode()
    except UnicodeDecodeError as error:
        cut = len(start) == SNIFFED_BYTES and error.end > len(start) - 4
        if not cut and start.decode(errors="ignore").isascii():
            return "latin-1"
    return "utf-8"


def conversion(path: Path, what: str, reader: str) -> UserError:
    source, target = (json.dumps(str(each)) for each in (path, path.with_suffix(".csv")))
    code = f"import pandas; pandas.read_{reader.format(source)}.to_csv({target}, index=False)"
    return UserError(
        f"{path} {what}, which is not read here: convert it by {shell(['python', '-c', code])}"
    )
