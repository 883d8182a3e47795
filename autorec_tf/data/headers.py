"""The roles of a file's columns: by `--columns`, by the usual names in a header, or by position."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autorec_tf.data.tables import NUMBER, table_in
from autorec_tf.system.errors import UserError

ROLES = ("user", "item", "rating", "timestamp")
LEAST = {2: "user and item", 3: "user, item and rating"}  # by the number of roles
HEADER_NAMES = {
    "user": ("user", "userid", "uid", "customer", "customerid", "reviewer", "reviewerid",
             "visitorid", "member", "memberid"),
    "item": ("item", "itemid", "iid", "movie", "movieid", "product", "productid", "animeid",
             "videoid", "bookid", "isbn", "songid", "artistid", "businessid", "asin", "gameid",
             "recipeid", "jokeid", "trackid"),
    "rating": ("rating", "score", "stars", "overall", "starrating", "watchratio", "bookrating",
               "userrating", "movierating", "reviewrating", "reviewscore"),
    "timestamp": ("timestamp", "time", "date", "unixreviewtime", "reviewdate", "datetime"),
}
INDEX = ("", "unnamed", "index")  # names of a column of row numbers


def plain(name: str) -> str:
    """Return a column name without case, punctuation, and RecBole's type (`user_id:token`)."""
    return "".join(filter(str.isalnum, name.partition(":")[0].lower()))


def known_columns(names: Sequence[str], roles: int) -> tuple[int, ...]:
    """Return the positions of user, item, and perhaps rating and timestamp in a header, or () if it
    does not identify at least `roles` of them. If all but one of these are known and one other
    column is left, that column has the missing role."""
    usual = [plain(name) for name in names]
    found = [[i for i, name in enumerate(usual) if name in HEADER_NAMES[role]] for role in ROLES]
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


def find_table(rows: Sequence[Sequence[str]]) -> tuple[bool, str, float | None] | None:
    """Return the properties of a table of users x items (see `table_in`), or None for ratings."""
    is_named = plain(rows[0][0]) in (*INDEX, *HEADER_NAMES["user"], *HEADER_NAMES["item"])
    return None if known_columns(rows[0], 3) else table_in(
        rows, is_named, pandas_index(rows[0]) is not None)


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
