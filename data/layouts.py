"""How a text file lays out its ratings: separator, header, quotes and the columns' positions.

    layout = sniff(Path("ratings.csv"), "1,2,4.5\n1,3,2.5\n")    # from its first lines
    layout.separator, layout.positions                           # what pandas reads it by
"""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from system.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SNIFFED_BYTES = 1 << 16
MAX_LINE = 1 << 16  # characters
NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
BLANKS = r"\s+"
SEPARATORS = {"::": "separated by ::", "\t": "tab-separated", ",": "comma-separated",
              ";": "semicolon-separated", "|": "separated by |", BLANKS: "separated by blanks"}
PREFERRED = {".csv": ",", ".tsv": "\t", ".dat": "::"}  # where the lines can be read in two ways
EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
ROLES = ("user", "item", "rating", "timestamp")
HEADER_NAMES = {
    "user": ("user", "userid", "uid", "customerid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "productid", "animeid", "videoid",
             "bookid", "isbn", "songid", "artistid", "businessid", "asin", "gameid", "recipeid"),
    "rating": ("rating", "score", "stars", "overall", "starrating", "watchratio"),
    "timestamp": ("timestamp", "time", "date", "unixreviewtime", "reviewdate"),
}


def boolean(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]


def character(text: str) -> str:
    if len(text) != 1:
        raise ValueError
    return text


# What --read_csv takes of pandas.read_csv's arguments.
SETTINGS: dict[str, Callable[[str], Any]] = {
    "sep": lambda text: text.replace("\\t", "\t") or character(text), "decimal": character,
    "encoding": lambda text: "".encode(text).decode(text) or text, "quotechar": character,
    "quoting": lambda text: range(4)[int(text)], "comment": character, "thousands": character,
    "header": lambda text: None if text.lower() == "none" else range(99)[int(text)],
    "skiprows": lambda text: range(10**6)[int(text)], "skipinitialspace": boolean,
}


def read_csv_settings(given: Sequence[str]) -> dict[str, Any]:
    """Return what `--read_csv KEY=VALUE ...` asks for. Raise UserError for a key that is not known
    or a value that is none for it."""
    settings = {}
    for each in given:
        key, _, value = each.partition("=")
        if key not in SETTINGS:
            keys = ", ".join(SETTINGS)
            raise UserError(f"--read_csv {each}: is not KEY=VALUE with one of {keys}")
        try:
            settings[key] = SETTINGS[key](value)
        except (LookupError, ValueError) as error:
            raise UserError(f"--read_csv {each}: {value!r} is no value for {key}") from error
    return settings


@dataclass(frozen=True)
class Layout:
    """Where a line has what.

    positions: of user, item, and perhaps the rating and the timestamp, from 0; published: what
    one of MovieLens' files holds, nothing but numbers, ids whole ones, for error messages; rating:
    how a rating is written, if that is published; remarks: what else `sniff` saw; skipped: lines
    before the first rating, among them the header. The others are named as pandas.read_csv names
    them.
    """

    separator: str
    width: int
    positions: tuple[int, ...]
    header: tuple[str, ...] = ()
    published: str = ""
    rating: re.Pattern[str] | None = None
    remarks: tuple[str, ...] = ()
    skipped: int = 0
    encoding: str = "utf-8"
    quotechar: str = '"'  # "" for none
    decimal: str = "."
    thousands: str = ""
    comment: str = ""
    skipinitialspace: bool = False

    def bare(self, text: str) -> str:
        """Return lines with _ in the place of every quoted field. Raise ValueError for a quote
        that is not closed, or stands within a field."""
        if not self.quotechar or self.quotechar not in text:
            return text
        if self.separator == "::":
            raise ValueError("a quote, which this format does not have")
        text = quoted(self.separator, self.quotechar).sub(r"\1_", text)
        if self.quotechar in text:
            raise ValueError("a quote that is not closed, or stands within a field")
        return text

    def check_fields(self, bare: str, rows: int) -> None:
        """Raise ValueError if so many lines without quotes have not `width` fields each, on
        average."""
        if self.separator == BLANKS:
            fields = len(bare.split())
        else:
            fields = rows + count(bare, self.separator)
        if fields != rows * self.width:
            raise self.other_fields()

    def other_fields(self) -> ValueError:
        return ValueError(f"expected {self.width} fields, {self.described}")

    @property
    def described(self) -> str:
        return SEPARATORS.get(self.separator, f"separated by {self.separator}")

    def __str__(self) -> str:
        names = [name[:40] for name in self.header]
        names = names or [f"column {i + 1}" for i in range(self.width)]
        columns = zip(ROLES, self.positions, strict=False)
        parts = [self.described, "a header" if self.header else "no header"]
        parts += [*self.remarks, *(f"{role} from {names[i]}" for role, i in columns)]
        return ", ".join(parts)


def count(text: str, mark: str) -> int:
    """Return how often `mark` stands in a text, also where it is frequent, as str.count is slow
    there."""
    if len(mark) > 1 or not mark.isascii():
        return text.count(mark)
    return int(np.count_nonzero(np.frombuffer(text.encode(), np.uint8) == ord(mark)))


def quoted(separator: str, quote: str = '"') -> re.Pattern[str]:
    """Return what matches a quoted field, and what is before it. Line ends may stand in one, but
    not where tabs separate: people write inches there."""
    ends = r"\s" if separator == BLANKS else re.escape(separator)
    inner = f"{quote}\n" if separator == "\t" else quote
    q = re.escape(quote)
    field = rf"{q}(?:[^{re.escape(inner)}]|{q}{q})*+{q}"
    return re.compile(rf"(?m)(^|{ends}) *{field}(?={ends}|\r?\n|\Z)")


def sniff(
    path: Path, start: str, columns: str | None = None, settings: Mapping[str, Any] = {},
    roles: int = 3, remarks: Sequence[str] = (),
) -> Layout:
    """Return the layout of the file that begins with `start`, whole lines.

    `columns`: user, item, rating and perhaps timestamp as names of the header, or as positions
    from 1; if it is not given, a header says it, or else they are the first columns. `settings`:
    what pandas.read_csv is to be told. Raise UserError if there are not as many columns as
    `roles`, or a header says nothing.
    """
    remarks = [*remarks, *(["CRLF line ends"] if "\r" in start.partition("\n")[0] else [])]
    lines = [line.removesuffix("\r") for line in start.removesuffix("\n").split("\n")]
    skipped, separator = settings.get("skiprows", 0), settings.get("sep")
    if match := EXCEL.fullmatch(lines[skipped] if skipped < len(lines) else ""):
        separator, skipped = separator or match[1], skipped + 1
        remarks.append(f"Excel's {match[0]}")
    comment = settings.get("comment") or next(
        (line[0] for line in lines[skipped : skipped + 1] if line[:1] in ("#", "%")), ""
    )
    kept = [(i, line) for i, line in enumerate(lines[skipped:], skipped + 1)
            if line.strip() and not (comment and line.startswith(comment))]
    if not kept:
        raise UserError(f"{path} holds no ratings: name a file that does")
    if not all(map(str.strip, lines[skipped:])):
        remarks.append("empty lines")
    if comment:
        remarks.append(f"comments after {comment}")
    text = "\n".join(line for _, line in kept)
    quote = "" if settings.get("quoting") == csv.QUOTE_NONE else settings.get("quotechar", '"')
    separator = separator or find_separator(path, text, quote, roles)
    if quote and quote in text:
        stray = separator == "\t" and quote in quoted(separator, quote).sub("", text)
        quote = "" if stray and "quoting" not in settings else quote
        remarks.append("quotes" if quote else "quotes as text")
    rows = sample(text, separator, quote)
    number = min(settings.get("header", 0) or 0, len(rows) - 1)
    names = tuple(field.strip() for field in rows[number])
    header, positions = find_columns(path, names, columns, settings, roles)
    decimal = settings.get("decimal") or find_decimal(rows, positions, separator)
    if decimal != ".":
        remarks.append("decimal commas" if decimal == "," else f"decimals after {decimal}")
    bare = quoted(separator, quote).sub(r"\1_", text) if quote else text
    blanks = settings.get("skipinitialspace", f"{separator} " in bare and separator != " ")
    if blanks:
        remarks.append("blanks after separators")
    if header or skipped:
        skipped = kept[number][0] - (not header)
    return Layout(
        separator, len(names), positions, header, remarks=tuple(remarks), skipped=skipped,
        quotechar=quote, decimal=decimal, thousands=settings.get("thousands", ""),
        comment=comment, skipinitialspace=blanks,
    )


def find_columns(
    path: Path, names: tuple[str, ...], columns: str | None, settings: Mapping[str, Any],
    roles: int,
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Return the header, if the first line with the fields `names` is one, and the positions of
    the columns."""
    named = [name.strip() for name in columns.split(",")] if columns else []
    named = named if roles > 2 else named[:roles]
    if named and len(named) < roles:
        raise UserError(f"--columns {columns}: must name {joined_names(ROLES[:roles])}")
    if "header" in settings:
        has_header = settings["header"] is not None
    else:
        by_name = bool(named) and not all(name.isdecimal() for name in named)
        has_header = by_name or not any(NUMBER.fullmatch(name) for name in names)
    header = names if has_header else ()
    if named:
        positions = named_positions(path, named, header, len(names))
    elif header:
        positions = known_positions(path, header, roles)
    else:
        positions = tuple(range(min(4, len(names))))
    return header, positions if roles > 2 else positions[:roles]


def sample(text: str, separator: str, quote: str) -> list[list[str]]:
    """Return the fields of the first lines, of the first one at least."""
    lines = text.split("\n")
    if separator == BLANKS or len(separator) > 1:
        parts = None if separator == BLANKS else separator
        return [line.split(parts) for line in lines]
    rows: list[list[str]] = []
    try:
        quoting: Any = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
        rows.extend(csv.reader((f"{line}\n" for line in lines), delimiter=separator,
                               quotechar=quote or None, quoting=quoting, skipinitialspace=True))
    except csv.Error:
        pass
    return [row for row in rows if row] or [lines[0].split(separator)]


def find_separator(path: Path, text: str, quote: str, roles: int) -> str:
    """Return the separator that gives most lines of `text` as many fields as the first has, at
    least `roles`; blanks, if no other does."""
    first = PREFERRED.get(path.with_suffix("").suffix.lower() or path.suffix.lower())
    first = PREFERRED.get(path.suffix.lower(), first)
    alike: dict[str, int] = {}  # separator -> lines that have as many fields as the first
    for separator in sorted(SEPARATORS, key=lambda separator: separator != first):
        bare = quoted(separator, quote).sub(r"\1_", text) if quote else text
        if separator == BLANKS:
            widths = [len(line.split()) for line in bare.split("\n")]
        else:
            widths = [line.count(separator) + 1 for line in bare.split("\n")]
        if widths[0] >= roles and not (alike and separator == BLANKS):
            alike[separator] = widths.count(widths[0])
    if not alike:
        line = text.partition("\n")[0]
        raise UserError(
            f"{path}, line 1: {line[:80]!r}: expected {joined_names(ROLES[:roles])}, separated by "
            "commas, tabs, ::, ;, | or blanks"
        )
    return max(alike, key=lambda separator: alike[separator])


def joined_names(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}"


def find_decimal(
    rows: Sequence[Sequence[str]], positions: Sequence[int], separator: str
) -> str:
    """Return the character before the decimals of the ratings."""
    if separator == "," or len(positions) < 3:
        return "."
    ratings = [row[positions[2]] for row in rows if len(row) > positions[2]]
    commas = any(re.fullmatch(r"\s*-?\d*,\d+\s*", text) for text in ratings)
    return "," if commas and not any("." in text for text in ratings[1:]) else "."


def named_positions(
    path: Path, named: Sequence[str], header: Sequence[str], width: int
) -> tuple[int, ...]:
    """Return the positions of the columns that the user names. Raise UserError if there are no such
    columns."""
    if all(name in header for name in named):
        return tuple(list(header).index(name) for name in named)
    if all(name.isdecimal() and 1 <= int(name) <= width for name in named):
        return tuple(int(name) - 1 for name in named)
    there = ", ".join(header) if header else f"numbers 1 to {width}"
    raise UserError(f"--columns {','.join(named)}: {path} has no such columns; it has "
                    f"{there[:200]}" + ("" if header else " (no header)"))


def known_positions(path: Path, header: Sequence[str], roles: int = 3) -> tuple[int, ...]:
    """Return the positions of the columns whose names in the header are usual ones. Raise UserError
    if one of the first `roles` is missing, or there twice."""
    plain = ["".join(filter(str.isalnum, name.lower())) for name in header]
    positions = {
        role: [i for i, name in enumerate(plain) if name in names]
        for role, names in HEADER_NAMES.items()
    }
    if any(len(positions[role]) != 1 for role in ROLES[:roles]):
        raise UserError(
            f"{path}: its header ({', '.join(header)[:200]}) does not say which columns are "
            f"{joined_names(ROLES[:roles])}: name them, as in --columns userId,movieId,rating"
        )
    wanted = ROLES if len(positions["timestamp"]) == 1 else ROLES[:3]
    return tuple(positions[role][0] for role in wanted[: roles if roles < 3 else 4])
