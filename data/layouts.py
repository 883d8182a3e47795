"""How a text file lays out its ratings: separator, header, quotes and the columns' positions.

    layout = sniff("ratings.csv")                 # from its first lines
    layout.split("1,2,4.5")                       # ["1", "2", "4.5"]
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from system.errors import UserError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
SNIFFED_BYTES = 1 << 16
MAX_LINE = 1 << 16  # bytes
NUMBER = re.compile(r"-?\d{1,9}(\.\d{1,9})?", re.ASCII)
SEPARATORS = {"::": "separated by ::", "\t": "tab-separated", ",": "comma-separated",
              ";": "semicolon-separated", "|": "separated by |"}
PREFERRED = {".csv": ",", ".tsv": "\t", ".dat": "::"}  # where the lines can be read in two ways
ROLES = ("user", "item", "rating", "timestamp")
HEADER_NAMES = {
    "user": ("user", "userid", "uid", "customerid", "reviewerid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "productid"),
    "rating": ("rating", "score", "stars", "overall"),
    "timestamp": ("timestamp", "time", "date", "unixreviewtime"),
}


@dataclass(frozen=True)
class Layout:
    """Where a line has what.

    positions: of user, item, rating and perhaps the timestamp, from 0; published: what
    one of MovieLens' files holds, nothing but numbers, ids whole ones, for error messages; rating:
    how a rating is written; remarks: what else `sniff` saw.
    """

    separator: str
    width: int
    positions: tuple[int, ...]
    header: tuple[str, ...] = ()
    published: str = ""
    rating: re.Pattern[str] = NUMBER
    remarks: tuple[str, ...] = ()

    @property
    def quotes(self) -> bool:
        """Whether a field may stand in double quotes."""
        return self.separator != "::"

    def split(self, line: str) -> list[str]:
        """Return the fields of a line without its end. Raise ValueError if it has no such
        fields."""
        fields = split_line(line, self.separator)
        if len(fields) != self.width:
            raise ValueError(f"expected {self.width} fields, {SEPARATORS[self.separator]}")
        return fields

    def __str__(self) -> str:
        names = [name[:40] for name in self.header]
        names = names or [f"column {i + 1}" for i in range(self.width)]
        columns = zip(ROLES, self.positions, strict=False)
        parts = [SEPARATORS[self.separator], "a header" if self.header else "no header"]
        parts += [*self.remarks, *(f"{role} from {names[i]}" for role, i in columns)]
        return ", ".join(parts)


def split_line(line: str, separator: str) -> list[str]:
    """Return the fields of a line; one that begins with a double quote ends with one, and has its
    own doubled. Raise ValueError for another use of quotes."""
    if '"' not in line:
        return line.split(separator)
    if separator == "::":
        raise ValueError("a quote, which this format does not have")
    line, end = line + separator, re.escape(separator)
    field = re.compile(rf'(?:"((?:[^"]|"")*+)"|([^"{end}]*+)){end}')
    fields, position = [], 0
    while position < len(line):
        match = field.match(line, position)
        if not match:
            raise ValueError("a quote that is not closed, or stands within a field")
        fields.append(match[2] if match[1] is None else match[1].replace('""', '"'))
        position = match.end()
    return fields


def sniff(path: Path, start: bytes, columns: str | None = None) -> Layout:
    """Return the layout of the file that begins with the bytes `start`.

    `columns`: user, item, rating and perhaps timestamp as names of the header, or as positions
    from 1; if it is not given, a header says it, or else they are the first columns. Raise
    UserError if there are no three columns, or a header says nothing.
    """
    remarks = []
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16 text: save it as UTF-8")
    if start.startswith(BYTE_ORDER_MARK):
        start = start.removeprefix(BYTE_ORDER_MARK)
        remarks.append("a byte-order mark")
    lines = start.decode("utf-8", "backslashreplace").split("\n")
    if len(lines) > 1:  # the last one is empty, or cut short
        del lines[-1]
    if lines[0].endswith("\r"):
        remarks.append("CRLF line ends")
    lines = [line.removesuffix("\r") for line in lines]
    separator = find_separator(path, lines)
    fields = [field.strip() for field in split_line(lines[0], separator)]
    if '"' in start.decode("latin-1"):
        remarks.append("quotes")
    named = columns.split(",") if columns else []
    by_name = bool(named) and not all(name.isdecimal() for name in named)
    has_header = by_name or not any(NUMBER.fullmatch(field) for field in fields)
    header = tuple(fields) if has_header else ()
    if named:
        positions = named_positions(path, named, header, len(fields))
    elif header:
        positions = known_positions(path, header)
    else:
        positions = tuple(range(min(4, len(fields))))
    return Layout(separator, len(fields), positions, header, remarks=tuple(remarks))


def find_separator(path: Path, lines: Sequence[str]) -> str:
    """Return the separator that gives most of `lines` as many fields as the first has, at least
    3."""
    first = PREFERRED.get(path.suffix.lower())
    order = sorted(SEPARATORS, key=lambda separator: separator != first)
    alike = {}  # separator -> lines that have as many fields as the first
    for separator in order:
        widths = []
        for line in lines:
            try:
                widths.append(len(split_line(line, separator)))
            except ValueError:
                widths.append(0)
        if widths[0] >= 3:
            alike[separator] = widths.count(widths[0])
    if not alike:
        raise UserError(
            f"{path}, line 1: {lines[0][:80]!r}: expected user, item and rating, separated by "
            "commas, tabs, ::, ; or |"
        )
    return max(alike, key=alike.__getitem__)


def named_positions(
    path: Path, named: Sequence[str], header: Sequence[str], width: int
) -> tuple[int, ...]:
    """Return the positions of the columns that the user names. Raise UserError if there are no such
    columns."""
    given = f"--columns {','.join(named)}"
    if all(name in header for name in named):
        return tuple(list(header).index(name) for name in named)
    if all(name.isdecimal() and 1 <= int(name) <= width for name in named):
        return tuple(int(name) - 1 for name in named)
    there = ", ".join(header) if header else f"numbers 1 to {width}"
    raise UserError(f"{given}: {path} has no such columns; it has {there[:200]}"
                    + ("" if header else " (no header)"))


def known_positions(path: Path, header: Sequence[str]) -> tuple[int, ...]:
    """Return the positions of the columns whose names in the header are usual ones. Raise UserError
    if user, item or rating is missing, or there twice."""
    plain = ["".join(filter(str.isalnum, name.lower())) for name in header]
    positions = {
        role: [i for i, name in enumerate(plain) if name in names]
        for role, names in HEADER_NAMES.items()
    }
    if any(len(positions[role]) != 1 for role in ROLES[:3]):
        raise UserError(
            f"{path}: its header ({', '.join(header)[:200]}) does not say which columns are user, "
            "item and rating: name them, as in --columns userId,movieId,rating"
        )
    wanted = ROLES if len(positions["timestamp"]) == 1 else ROLES[:3]
    return tuple(positions[role][0] for role in wanted)
