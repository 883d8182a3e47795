"""The layout of a text file of ratings: separator, header, quotes and column positions."""

import codecs
import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorec_tf.data import headers
from autorec_tf.data.headers import LEAST, ROLES, find_columns
from autorec_tf.system.errors import UserError

SNIFFED_BYTES = 1 << 16
MAX_LINE = 1 << 16  # characters
BLANKS = r"\s+"
SEPARATORS = {"::": "separated by ::", "\t": "tab-separated", ",": "comma-separated",
              ";": "semicolon-separated", "|": "separated by |", BLANKS: "separated by blanks"}
EXCEL = re.compile(r'"?sep=(.)"?', re.IGNORECASE)
# The arguments of pandas.read_csv that --read_csv accepts: the pattern of the values, their type.
SETTINGS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "sep": (".+", lambda value: value.replace("\\t", "\t")), "decimal": (".", str),
    "thousands": (".", str), "quotechar": (".", str),
    "comment": (".|none", lambda value: value if len(value) == 1 else ""),
    "encoding": (".+", lambda value: value if codecs.lookup(value) else ""),
    "quoting": ("[0-3]", int),
    "header": (r"\d{1,2}|none", lambda value: int(value) if value.isdigit() else None),
    "skiprows": (r"\d{1,6}", int),
    "skipinitialspace": ("true|false", lambda value: value.lower() == "true"),
}


def read_csv_settings(given: Sequence[str]) -> dict[str, Any]:
    """Return the settings of `--read_csv KEY=VALUE ...`. Raise UserError for invalid ones."""
    settings: dict[str, Any] = {}
    for each in given:
        key, _, value = each.partition("=")
        try:
            pattern, convert = SETTINGS[key]
            if not re.fullmatch(pattern, value, re.ASCII | re.IGNORECASE):
                raise LookupError
            settings[key] = convert(value)
        except LookupError:
            raise UserError(f"--read_csv {each}: {value!r} is not a valid value for {key!r}. Use "
                            f"KEY=VALUE, where KEY is one of {', '.join(SETTINGS)}.") from None
    return settings


def number_pattern(decimal: str = ".", thousands: str = "") -> re.Pattern[str]:
    """Return the pattern of a rating. A mark of thousands must separate groups of three digits."""
    groups = rf"\d{{1,3}}(?:{re.escape(thousands)}\d{{3}})+|" if thousands else ""
    return re.compile(rf"\s*[-+]?(?:{groups}\d*)(?:{re.escape(decimal)}\d*)?(?:e[-+]?\d+)?\s*",
                      re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """The separator, the columns and the number formats of a rating file.

    Parameters that are not listed have their meaning in pandas.read_csv.

    Args:
        width: the number of columns.
        positions: of user, item, and perhaps rating and timestamp, from 0.
        header: the column names, or () without a header.
        published: the expected content, for messages; "" unless the file is a published one.
        rating: the pattern of a rating.
        time: the pattern of a timestamp in a published file.
        remarks: other properties that `sniff` detected.
        skipped: the number of lines before the first rating.
        newline: as for `open`.
        quotechar: "" for none.
        comment: the pattern of text to ignore.
        doubtful: the pattern of a line that may be a comment or a rating.
    """

    separator: str
    width: int
    positions: tuple[int, ...]
    header: tuple[str, ...] = ()
    published: str = ""
    rating: re.Pattern[str] = number_pattern()
    time: re.Pattern[str] | None = None
    remarks: tuple[str, ...] = ()
    skipped: int = 0
    encoding: str = "utf-8-sig"
    newline: str | None = "\n"
    quotechar: str = '"'
    decimal: str = "."
    thousands: str = ""
    comment: re.Pattern[str] | None = None
    doubtful: re.Pattern[str] | None = None
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


def unified(text: str) -> str:
    r"""Return `text` with line ends \n, and without byte-order marks where files were joined."""
    if "\r" in text:
        text = text.replace("\r\r\n", "\n").replace("\r\n", "\n")
    return re.sub("(?m)^\ufeff", "", text) if "\ufeff" in text else text


def sniff(path: Path, start: str, columns: str | None = None, settings: Mapping[str, Any] = {},
          roles: int = 3, remarks: Sequence[str] = ()) -> Layout:
    """Return the layout of the rating file at `path` that begins with the lines `start`. The
    `settings` are arguments for pandas.read_csv, the `remarks` known properties. Raise UserError if
    there are fewer than 2 or 3 columns, the number of `roles`, or neither `columns`, the value of
    `--columns`, nor a header identifies them."""
    remarks = [*remarks, *(["CRLF line ends"] if "\r" in start.partition("\n")[0] else [])]
    lines = unified(start).replace("\r", " ").removesuffix("\n").split("\n")
    skipped, separator = settings.get("skiprows", 0), settings.get("sep")
    if match := EXCEL.fullmatch(lines[skipped] if skipped < len(lines) else ""):
        separator, skipped = separator or match[1], skipped + 1
        remarks.append(f"Excel's {match[0]}")
    remarks.append("" if all(map(str.strip, lines[skipped:])) else "empty lines")
    quote = "" if settings.get("quoting") == csv.QUOTE_NONE else settings.get("quotechar", '"')
    mark, comment, doubtful = find_comments(lines[skipped:], settings.get("comment"), quote)
    text = "\n".join(lines[skipped:])
    if comment:
        text = comment.sub(r"\1", text)
        remarks.append(f"comments after {mark}")
    filled = [(i, line) for i, line in enumerate(text.split("\n"), skipped + 1) if line.strip()]
    if filled and lines[skipped].lower().startswith("%%matrixmarket"):
        remarks.append("MatrixMarket")
        skipped = filled.pop(0)[0]  # the line of the size
    if not filled:
        remedy = ("Read comments as ratings with --read_csv comment=none" if "".join(lines).strip()
                  and comment else "Name another file")
        raise UserError(f"{path}: the file contains no ratings. {remedy}.")
    separator, rows = find_separator(path, [line for _, line in filled], separator, quote, roles)
    for above in lines[skipped : filled[0][0] - 1][-1:] if mark else ():  # perhaps a header
        (first,) = split([above.strip().removeprefix(mark).strip()], separator, quote)
        named = columns and {name.strip() for name in columns.split(",")} <= set(first)
        if len(first) == len(rows[0]) and (named or headers.known_columns(first, roles)):
            rows, filled = [first, *rows], [(filled[0][0] - 1, above), *filled]
    text = "\n".join(line for _, line in filled)
    remarks += [] if quote and quote not in text else ["quotes" if quote else "quotes read as text"]
    if not columns and roles > 2 and (table := headers.find_table(rows)):
        arguments = {"sep": separator, "skiprows": filled[0][0] - 1, "comment": comment and mark}
        raise headers.refuse_table(path, arguments | dict(settings), table, rows)
    if "header" not in settings and headers.is_numbered(path, *filled[0], rows):
        settings = {**settings, "header": 0}
    number = min(settings.get("header", 0) or 0, len(rows) - 1)
    names = tuple(field.strip() for field in rows[number])
    header, positions = find_columns(path, names, columns, settings, roles)
    ratings = [row[positions[2]] for row in rows if len(row) > max(positions) and roles > 2]
    thousands = settings.get("thousands", "")
    decimal = settings.get("decimal") or find_decimal(ratings[bool(header) :], thousands)
    bare = quoted(separator, quote).sub(r"\1_", text) if quote else text
    blanks = settings.get("skipinitialspace", f"{separator} " in bare and separator != " ")
    remarks += [{".": "", ",": "decimal commas"}.get(decimal, f"decimal separator {decimal}"),
                "blanks after separators" if blanks else ""]
    skipped = filled[number][0] - (not header) if header or skipped else 0
    return Layout(separator, len(names), positions, header, "", number_pattern(decimal, thousands),
                  remarks=(*filter(None, remarks),), skipped=skipped, quotechar=quote,
                  decimal=decimal, thousands=thousands, comment=comment, doubtful=doubtful,
                  skipinitialspace=blanks)


def find_comments(
    lines: Sequence[str], given: str | None, quote: str
) -> tuple[str, re.Pattern[str] | None, re.Pattern[str] | None]:
    """Return the mark of comments, the pattern of a comment, with a quoted text as its group, and
    the pattern of a line that may be a comment or a rating; or "" and None without comments."""
    mark = given if given is not None else "".join(lines[:1])[:1]
    if not mark or given != mark and mark not in "#%":
        return "", None, None
    # A mark that was detected, not given, is first in its line, or follows a blank.
    q, before = re.escape(quote or "\0"), " *" if given else "(?:^| +)"
    comment = re.compile(rf"(?m)({q}[^{q}]*{q})|{before}{re.escape(mark)}[^\r\n]*")
    doubtful = None if given else re.compile(rf"(?m)^{re.escape(mark)}(?![\s{mark}])[^\r\n]*")
    return mark, comment, doubtful


def find_decimal(ratings: Sequence[str], thousands: str) -> str:
    """Return the decimal separator of `ratings`: a comma if some have one that cannot separate
    thousands, and none has a point."""
    texts = [text.strip().replace(thousands, "") for text in ratings]
    commas = [text for text in texts if re.fullmatch(r"-?\d*,\d+", text)]
    is_decimal = any(not re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", text) for text in commas)
    return "," if is_decimal and not any("." in text for text in texts) else "."


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
