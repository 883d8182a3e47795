"""The layout of a text file of ratings: separator, header, quotes and column positions.

    layout = sniff(Path("ratings.csv"), "1,2,4.5\n1,3,2.5\n")    # from its first lines
    layout.separator, layout.positions                           # the arguments for pandas
"""

import codecs
import csv
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorec_tf.system.errors import UserError

SNIFFED_BYTES = 1 << 16
MAX_LINE = 1 << 16  # characters
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
BLANKS = r"\s+"
SEPARATORS = {"::": "separated by ::", "\t": "tab-separated", ",": "comma-separated",
              ";": "semicolon-separated", "|": "separated by |", BLANKS: "separated by blanks"}
EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
ROLES = ("user", "item", "rating", "timestamp")
LEAST = {2: "user and item", 3: "user, item and rating"}  # by the number of roles
HEADER_NAMES = {
    "user": ("user", "userid", "uid", "customerid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "productid", "animeid", "videoid",
             "bookid", "isbn", "songid", "artistid", "businessid", "asin", "gameid", "recipeid"),
    "rating": ("rating", "score", "stars", "overall", "starrating", "watchratio"),
    "timestamp": ("timestamp", "time", "date", "unixreviewtime", "reviewdate"),
}


# The arguments of pandas.read_csv that --read_csv accepts, and the pattern of their values.
SETTINGS = {"sep": ".+", "decimal": ".", "thousands": ".", "quotechar": ".", "comment": ".",
            "encoding": ".+", "quoting": "[0-3]", "header": r"\d{1,2}|none",
            "skiprows": r"\d{1,6}", "skipinitialspace": "true|false"}
WORDS = {"none": None, "true": True, "false": False}


def read_csv_settings(given: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `--read_csv KEY=VALUE ...`. Raise UserError for invalid ones."""
    settings: dict[str, Any] = {}
    for each in given:
        key, _, value = each.partition("=")
        if key not in SETTINGS:
            keys = ", ".join(SETTINGS)
            raise UserError(f"--read_csv {each}: expected KEY=VALUE, where KEY is one of {keys}")
        with suppress(LookupError):
            if re.fullmatch(SETTINGS[key], value, re.ASCII | re.IGNORECASE) and (
                key != "encoding" or codecs.lookup(value)
            ):
                settings[key] = value.replace("\\t", "\t")
        if key not in settings:
            raise UserError(f"--read_csv {each}: {value!r} is not a valid value for {key}")
        if key in ("quoting", "header", "skiprows", "skipinitialspace"):
            settings[key] = WORDS[value.lower()] if value.lower() in WORDS else int(value)
    return settings


@dataclass(frozen=True)
class Layout:
    """The separator, the columns and the number formats of a rating file.

    Parameters that are not listed have their meaning in pandas.read_csv.

    Args:
        width: the number of columns.
        positions: of user, item, and perhaps rating and timestamp, from 0.
        header: the column names, or () without a header.
        published: the expected content, for messages; "" unless the file is a published one.
        rating, time: the patterns of ratings and timestamps in a published file.
        remarks: other properties that `sniff` detected.
        skipped: the number of lines before the first rating.
        quotechar: "" for none.
        comment: the pattern of text to ignore.
    """

    separator: str
    width: int
    positions: tuple[int, ...]
    header: tuple[str, ...] = ()
    published: str = ""
    rating: re.Pattern[str] | None = None
    time: re.Pattern[str] | None = None
    remarks: tuple[str, ...] = ()
    skipped: int = 0
    encoding: str = "utf-8-sig"
    quotechar: str = '"'
    decimal: str = "."
    thousands: str = ""
    comment: re.Pattern[str] | None = None
    skipinitialspace: bool = False

    @property
    def described(self) -> str:
        return SEPARATORS.get(self.separator, f"separated by {self.separator}")

    def __str__(self) -> str:
        names = self.header or [f"column {i + 1}" for i in range(self.width)]
        columns = zip(ROLES, self.positions, strict=False)
        parts = [self.described, "a header" if self.header else "no header"]
        parts += [*self.remarks, *(f"{role} from {names[i][:40]}" for role, i in columns)]
        return ", ".join(parts)


def quoted(separator: str, quote: str = '"') -> re.Pattern[str]:
    """Return a pattern that matches a quoted field and the text before it. A quoted field may
    contain line ends, except in tab-separated files, in which a quote may mean inches."""
    ends = r"\s" if separator == BLANKS else re.escape(separator)
    inner = f"{quote}\n" if separator == "\t" else quote
    q = re.escape(quote)
    field = rf"{q}(?:[^{re.escape(inner)}]|{q}{q})*+{q}"
    return re.compile(rf"(?m)(^|{ends}) *{field}(?={ends}|\r?\n|\Z)")


def sniff(path: Path, start: str, columns: str | None = None, settings: Mapping[str, Any] = {},
          roles: int = 3, remarks: Sequence[str] = ()) -> Layout:
    """Return the layout of a rating file.

    Args:
        path: the file, for messages.
        start: the first lines of the file.
        columns: the value of `--columns`: names, or numbers from 1.
        settings: arguments for pandas.read_csv.
        roles: the least number of columns: 2 or 3.
        remarks: properties that are already known.

    Raises:
        UserError: if there are fewer columns, or they are not identified by `columns` or a header.
    """
    remarks = [*remarks, *(["CRLF line ends"] if "\r" in start.partition("\n")[0] else [])]
    lines = start.replace("\r\n", "\n").replace("\r", " ").removesuffix("\n").split("\n")
    skipped, separator = settings.get("skiprows", 0), settings.get("sep")
    if match := EXCEL.fullmatch(lines[skipped] if skipped < len(lines) else ""):
        separator, skipped = separator or match[1], skipped + 1
        remarks.append(f"Excel's {match[0]}")
    if not all(map(str.strip, lines[skipped:])):
        remarks.append("empty lines")
    quote = "" if settings.get("quoting") == csv.QUOTE_NONE else settings.get("quotechar", '"')
    mark = settings.get("comment") or "".join(lines[skipped : skipped + 1])[:1]
    comment = None
    if "comment" in settings or mark in ("#", "%"):
        # A mark that was detected, not given, is first in its line, or follows a blank.
        q, before = re.escape(quote or "\0"), " *" if "comment" in settings else "(?:^| +)"
        comment = re.compile(rf"(?m)({q}[^{q}]*{q})|{before}{re.escape(mark)}[^\r\n]*")
        lines[skipped:] = comment.sub(r"\1", "\n".join(lines[skipped:])).split("\n")
        remarks.append(f"comments after {mark}")
    filled = [(i, line) for i, line in enumerate(lines[skipped:], skipped + 1) if line.strip()]
    if not filled:
        raise UserError(f"{path}: the file contains no ratings. Name another file.")
    separator, rows = find_separator(path, [line for _, line in filled], separator, quote, roles)
    text = "\n".join(line for _, line in filled)
    if not quote or quote in text:
        remarks.append("quotes" if quote else "quotes read as text")
    number = min(settings.get("header", 0) or 0, len(rows) - 1)
    names = tuple(field.strip() for field in rows[number])
    header, positions = find_columns(path, names, columns, settings, roles)
    ratings = [row[positions[2]] for row in rows if len(row) > max(positions)] if roles > 2 else []
    commas = any(re.fullmatch(r"\s*-?\d*,\d+\s*", text) for text in ratings)
    dots = separator == "," or any("." in text for text in ratings[1:])
    decimal = settings.get("decimal", "," if commas and not dots else ".")
    if decimal != ".":
        remarks.append("decimal commas" if decimal == "," else f"decimal separator {decimal}")
    bare = quoted(separator, quote).sub(r"\1_", text) if quote else text
    blanks = settings.get("skipinitialspace", f"{separator} " in bare and separator != " ")
    if blanks:
        remarks.append("blanks after separators")
    if header or skipped:
        skipped = filled[number][0] - (not header)
    return Layout(separator, len(names), positions, header, remarks=tuple(remarks), skipped=skipped,
                  quotechar=quote, decimal=decimal, thousands=settings.get("thousands", ""),
                  comment=comment, skipinitialspace=blanks)


def split(lines: Sequence[str], separator: str, quote: str) -> list[list[str]]:
    """Return the fields of each line."""
    if separator == BLANKS:
        return [line.split() for line in lines]
    mark = separator if len(separator) == 1 else "\x1f"
    quoting: Any = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return list(csv.reader((line.replace(separator, mark) + "\n" for line in lines),
                           delimiter=mark, quotechar=quote or None, quoting=quoting,
                           skipinitialspace=True))


def find_separator(path: Path, lines: Sequence[str], given: str | None, quote: str,
                   roles: int) -> tuple[str, list[list[str]]]:
    """Return the separator, and the fields of `lines`: the separator for which most lines have the
    same number of fields as the first, at least `roles`; blanks only if no other fits half of them.
    """
    best, most = ("", [[""]]), 0
    for separator in [given] if given else SEPARATORS:
        rows = split(lines, separator, quote)
        equal = [len(row) for row in rows].count(len(rows[0])) if len(rows[0]) >= roles else 0
        if equal > most and not (separator == BLANKS and 2 * most > len(rows)):
            best, most = (separator, rows), equal
    if not most:
        raise UserError(f"{path}, line 1: {lines[0][:80]!r}: expected {LEAST[roles]}, separated by "
                        "commas, tabs, ::, ;, | or blanks. Name another separator with --read_csv "
                        "sep=SEPARATOR.")
    return best


def find_columns(path: Path, names: tuple[str, ...], columns: str | None,
                 settings: Mapping[str, Any],
                 roles: int) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the header, or () if the fields `names` are not one, and the positions of the columns:
    those in `columns` (names, or numbers from 1), those with usual names, or the first ones."""
    most = 2 if roles == 2 else 4
    named = [name.strip() for name in columns.split(",")][:most] if columns else []
    if named and len(named) < roles:
        raise UserError(f"--columns {columns}: must name the columns of {LEAST[roles]}")
    by_number = all(name.isdecimal() for name in named)
    numbers = by_number and any(map(NUMBER.fullmatch, names))
    header = names if settings.get("header", None if numbers else 0) is not None else ()
    if named and all(name in header for name in named):
        return header, tuple(header.index(name) for name in named)
    if named and by_number and all(1 <= int(name) <= len(names) for name in named):
        return header, tuple(int(name) - 1 for name in named)
    if named:
        there = ", ".join(header)[:200] if header else f"1 to {len(names)} (no header)"
        raise UserError(f"--columns {','.join(named)}: {path} does not have these columns. Its "
                        f"columns are {there}.")
    if not header:
        return header, tuple(range(min(most, len(names))))
    plain = ["".join(filter(str.isalnum, name.lower())) for name in header]
    matches = [[i for i, name in enumerate(plain) if name in HEADER_NAMES[role]] for role in ROLES]
    if any(len(positions) != 1 for positions in matches[:roles]):
        raise UserError(f"{path}: the header ({', '.join(header)[:200]}) does not identify the "
                        f"columns of {LEAST[roles]}. Name them, as in --columns "
                        "userId,movieId,rating.")
    return header, tuple(positions[0] for positions in matches[:most] if len(positions) == 1)
