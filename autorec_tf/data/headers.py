"""The roles of a file's columns: by `--columns`, by the usual names in a header, or by position.
Tables of users x items, which are not lists of ratings."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.data.foreign import command
from autorec_tf.system.errors import UserError

NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
LEAST = {2: "user and item", 3: "user, item and rating"}  # by the number of roles
# The roles of columns, and the patterns of their usual names, written as by `plain`.
ROLES = {
    "user": "(user|customer|reviewer|member)(id)?|uid|visitorid",
    "item": "(item|movie|product)(id)?|iid|isbn|asin|"
            "(anime|video|book|song|artist|business|game|recipe|joke|track)id",
    "rating": "(star|book|user|movie|review)?rating|(review)?score|stars|overall|watchratio",
    "timestamp": "timestamp|(unixreview)?time|(review)?date|datetime",
}
IDS = f"{ROLES['user']}|{ROLES['item']}"
INDEX = ("", "unnamed", "index")  # names of a column of row numbers
MARKS = (0.0, 99.0, -1.0)  # values that may mean "not rated"
MISSING = {"", "nan", "null", "none", "na", "n/a", "<na>", "nil", r"\n", "empty", "nat"}
BLANK = MISSING | {"-", "?"}  # in a table
MANY = 20  # columns, which a list of ratings rarely has
FEW_TEXTS = 0.05  # fraction of the cells of a damaged table
FEW_COLUMNS = 5  # at least, without a header
Table = tuple[bool, str, float | None]


def plain(name: str) -> str:
    """Return a column name without case, punctuation, and RecBole's type (`user_id:token`)."""
    return "".join(filter(str.isalnum, name.partition(":")[0].lower()))


def known_columns(names: Sequence[str], roles: int) -> tuple[int, ...]:
    """Return the positions of user, item, and perhaps rating and timestamp in a header, or () if it
    does not identify at least `roles` of them. If all but one of these are known and one other
    column is left, that column has the missing role."""
    usual = [plain(name) for name in names]
    found = [[i for i, name in enumerate(usual) if re.fullmatch(pattern, name)]
             for pattern in ROLES.values()]
    used = {i for positions in found for i in positions}
    others = [i for i, name in enumerate(usual) if i not in used and name not in INDEX]
    missing = [positions for positions in found[:roles] if not positions]
    if len(missing) == len(others) == 1:
        missing[0] += others
    if any(len(positions) != 1 for positions in found[:roles]):
        return ()
    return tuple(each[0] for each in found[: 2 if roles == 2 else 4] if len(each) == 1)


def pandas_index(names: Sequence[str]) -> int | None:
    """Return the number of index columns, 0 or 1, if `names` is the header that pandas writes for
    columns without names (0,1,2), and None otherwise."""
    first = int(plain(names[0]) in INDEX)
    numbers = [str(number) for number in range(len(names) - first)]
    return first if len(numbers) > 2 and list(names[first:]) == numbers else None


def is_numbered(path: Path, line: int, text: str, rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first of `rows` is pandas' header for columns without names, not the first
    of numbered rows. Raise UserError if it may be a rating."""
    index = pandas_index(rows[0])
    is_header = index is not None and any(row[0] != str(i) for i, row in enumerate(rows))
    if is_header and not index and any("0" in row[:2] for row in rows[1:]):
        raise UserError(f"{path}, line {line}: {text[:80]!r}: either the header that pandas writes "
                        "for columns without names, or a rating. Use --read_csv header=0 for the "
                        "former, header=none for the latter.")
    return is_header


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
    numbers = by_number and any(map(NUMBER.fullmatch, names)) and not known_columns(names, roles)
    header = names if settings.get("header", None if numbers else 0) is not None else ()
    if named and all(name in header for name in named):
        return header, tuple(header.index(name) for name in named)
    if named and by_number and all(1 <= int(name) <= len(names) for name in named):
        return header, tuple(int(name) - 1 for name in named)
    if named:
        there = ", ".join(header)[:200] if header else f"1 to {len(names)} (no header)"
        raise UserError(f"--columns {','.join(named)}: {path} does not have these columns. Its "
                        f"columns are {there}.")
    if not header or pandas_index(header) is not None:
        first = pandas_index(names) or 0
        return header, tuple(range(first, min(first + most, len(names))))
    if positions := known_columns(header, roles):
        return header, positions
    raise UserError(f"{path}: the header ({', '.join(header)[:200]}) does not identify the columns "
                    f"of {LEAST[roles]}. Name them, as in --columns userId,movieId,rating.")


def number_of(cell: str) -> float:
    """Return the number in a cell of a table, nan if it is blank, or infinity if it is text."""
    text = cell.strip().lower().replace(",", ".")
    return np.nan if text in BLANK else float(text) if NUMBER.fullmatch(text) else np.inf


def find_table(rows: Sequence[Sequence[str]]) -> Table | None:
    """Recognise a table by its first `rows`: all columns but the first have numbers on one scale.

    Returns:
        Whether there is a header, whether the first column contains "ids", a "rating" or "other"
        numbers, and the number that means "not rated"; None for a list of ratings.
    """
    if known_columns(rows[0], 3):
        return None
    width, names = len(rows[0]), rows[0]
    rows = [row for row in rows if len(row) == width]
    cells = np.array([[number_of(cell) for cell in row] for row in rows])
    numbers, own, values = cells[0, 1:], cells[1:, 0], cells[1:, 1:]
    is_text = np.isinf(values)
    if not np.isfinite(values).any() or is_text.mean() > FEW_TEXTS:
        return None
    values = np.where(is_text, 0, values)
    own_numbers = not np.isinf(own).any()
    is_named = plain(names[0]) in INDEX or bool(re.fullmatch(IDS, plain(names[0]))) or (
        own_numbers and not NUMBER.fullmatch(names[0]))
    has_header = is_named or bool(np.isinf(numbers).any()) or not (
        np.any(np.diff(numbers) <= 0) or numbers.max() <= np.nanmax(values) and width <= MANY)
    body = rows[has_header:]
    values = values if has_header else np.vstack([numbers, values])
    rated = np.where(np.isin(values, MARKS), np.nan, values)
    rated = rated[:, ~np.isnan(rated).all(0)]
    if width < (3 if has_header else FEW_COLUMNS) or len(body) < (1 if is_named else 3) or (
            not rated.size):
        return None
    middle = np.nanquantile(rated, [0.05, 0.95]).mean()
    if np.mean(np.nanmax(rated, 0) >= middle) < 0.75:  # on one scale, most reach its upper half
        return None
    pairs = {tuple(row[1:3]) for row in body}  # of user and item, after the row number
    if pandas_index(names) is not None and width <= FEW_COLUMNS and len(pairs) == len(body):
        return None
    kinds, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    common, num_blanks = float(kinds[counts.argmax()]), int(np.isnan(values).sum())
    mark = common if common in MARKS and counts.max() > num_blanks else None
    is_unique, first = len({row[0] for row in body}) == len(body), "other"
    if own_numbers and np.mean(np.isin(own, values) | np.isnan(own)) > 0.9:
        first = "rating"
    if is_unique and not (own_numbers and np.any(own % 1 != 0)):
        first = "ids"
    is_table = first == "ids" or width > MANY or first == "rating" and width >= FEW_COLUMNS and (
        num_blanks or mark is not None)
    return (has_header, first, mark) if is_table else None


def refuse_table(path: Path, arguments: Mapping[str, Any], found: Table,
                 rows: Sequence[Sequence[str]]) -> UserError:
    """Return the error for the table `rows`, with the command that converts it. `arguments` are
    those of pandas.read_csv for this file."""
    has_header, first, mark = found
    if odd := [number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])]:
        return UserError(f"{path}: a table of users x items with {len(rows[0])} columns, except in "
                         f"row {odd[0]}. Correct that row.")
    cells = {cell for row in rows[has_header:] for cell in row[1:]}
    commas = "," if any("," in cell for cell in cells) else ""
    blank = sorted({cell.strip() for cell in cells if cell.strip().lower() in BLANK} - {""})
    given = {"decimal": commas, "na_values": blank, **arguments}
    code = "import pandas; pandas.read_csv(SOURCE" + ("" if has_header else ", header=None")
    code += "".join(f", {name}={value!r}" for name, value in given.items() if value)
    code += {"ids": ", converters={0: str}, index_col=0)", "rating": ")",
             "other": ").iloc[:, 1:]"}[first]
    code += '.melt(var_name="item", value_name="rating", ignore_index=False).rename_axis("user")'
    code += f'.query("rating != {mark:g}")' if mark is not None else ""
    absent = f"{mark:g} is" if mark is not None else "blank cells are"
    return UserError(f"{path}: {len(rows[0])} columns with numbers of one kind: a table of "
                     f"users x items, not one rating per line. Convert it ({absent} taken for no "
                     f"rating) with {command(f'{code}.dropna().to_csv(TARGET)', path)}")
