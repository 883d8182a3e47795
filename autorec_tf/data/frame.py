"""Ratings in a pandas DataFrame, read like the CSV file that it would be written to: with the same
rules, and to the same bits. Other tables, such as those of Polars and Arrow, are converted by their
own `to_pandas()`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.headers import HEADER_NAMES, find_columns, find_table, plain
from autorec_tf.data.ids import id_text
from autorec_tf.data.layouts import Layout
from autorec_tf.system.errors import UserError

ROWS = 1 << 16  # converted to text at a time


class FrameFile(RatingsFile):
    """A DataFrame with columns for user, item, rating and perhaps timestamp.

    Messages name a row by its position and its index label.

    Args:
        frame: the DataFrame, or a table with `to_pandas()`, one rating per row.
        columns: the column names, separated by commas, or None for the usual ones.
        roles: 3, or 2 for a DataFrame of users and items without ratings.
        name: the DataFrame's name in messages.

    Raises:
        UserError: if `frame` is not a DataFrame, has no rows, or does not have these columns.
    """

    noun = "row"

    def __init__(self, frame: Any, columns: str | None = None, roles: int = 3,
                 name: str = "DataFrame") -> None:
        path, frame = Path(name), as_pandas(frame)
        if not isinstance(frame, pd.DataFrame):
            what = "its reset_index()" if isinstance(frame, pd.Series) else "a DataFrame"
            raise UserError(f"{type(frame).__name__} is not a pandas DataFrame. Pass {what}.")
        if not len(frame):
            raise UserError(f"{path}: there are no rows. Pass a DataFrame that contains ratings.")
        names = tuple(str(each) for each in frame.columns)
        if not columns:
            refuse_tables(path, frame, names)
        try:
            _, positions = find_columns(path, names, columns, {"header": 0}, roles)
        except UserError as error:
            index = ", ".join(str(each) for each in frame.index.names if each is not None)
            hint = f" Its index ({index}) counts after reset_index()." if index else ""
            raise UserError(f"{error}{hint}") from None
        width = len(positions)
        super().__init__(Layout(",", width, tuple(range(width))), path)
        self.frame = frame.iloc[:, list(positions)].copy(deep=False)
        for number in (0, 1):
            column = self.frame.iloc[:, number]
            if column.dtype.kind in "mMO":  # pandas writes times differently in each block
                self.frame.isetitem(number, column.map(id_text, na_action="ignore"))

    def read(self) -> Iterator[str]:
        for first in range(0, len(self.frame), ROWS):
            part = self.frame.iloc[first : first + ROWS]
            yield part.to_csv(index=False, header=False, lineterminator="\n")

    def count(self, text: str) -> int:
        """Return the number of rows in a text: an id may span several lines."""
        return len(self.records(text))

    def line_name(self, number: int) -> str:
        """Return the name of a row in messages: its position from 0, and its label if different."""
        row = number - 1
        (label,) = self.frame.index[[row]].tolist()  # as Python's own numbers
        return f"{self.path}, row {row}" + (f" (index {label!r})" if label != row else "")


def refuse_tables(path: Path, frame: pd.DataFrame, names: Sequence[str]) -> None:
    """Raise UserError if a DataFrame is a table of users x items, with users as index or column."""
    rows = [("", *names), *(tuple(map(str, row)) for row in frame.head(200).itertuples(name=None))]
    first = int(plain(names[0]) in (*HEADER_NAMES["user"], *HEADER_NAMES["item"])) if names else 0
    if len(names) > 2 and find_table([row[first:] for row in rows]):
        arguments, then = ((f"{names[0]!r}, ", "") if first
                           else ("", ".rename_axis('user').reset_index()"))
        raise UserError(f"{path}: a table of users x items, not one rating per row. Pass its "
                        f".melt({arguments}var_name='item', value_name='rating', ignore_index="
                        f"False){then}, without cells that are not ratings.")


def second_frame(frame: Any, columns: str | None, before: str | None,
                 name: str = "DataFrame") -> FrameFile:
    """Return a second DataFrame, with its `columns`, or the names `before`, or the usual names."""
    try:
        return FrameFile(frame, columns or before, name=name)
    except UserError:
        if columns or not before:
            raise
        return FrameFile(frame, name=name)


def as_pandas(table: Any) -> Any:
    """Return `table.to_pandas()` if there is such a method, and otherwise `table`. Raise UserError
    if the method needs a package that is missing."""
    if not callable(getattr(table, "to_pandas", None)):
        return table
    try:
        return table.to_pandas()
    except ImportError as error:
        raise UserError(f"{type(table).__name__}.to_pandas() needs a package that is missing "
                        f"({str(error).splitlines()[0]}). Install it, or pass a pandas "
                        "DataFrame.") from error


def id_list(ids: Any, name: str) -> Any:
    """Return several ids, or one, as a list, a one-dimensional array or a Series.

    Args:
        ids: the ids, also as a DataFrame or another table with one column.
        name: the name of the argument in messages.

    Raises:
        UserError: if the ids have no order or more than one dimension.
    """
    ids = as_pandas(ids)
    if isinstance(ids, pd.DataFrame) and ids.shape[1] == 1:
        ids = ids.iloc[:, 0]
    if isinstance(ids, np.ndarray) and not ids.ndim:
        ids = ids.item()
    if not pd.api.types.is_list_like(ids):
        return [ids]
    kind, shape = type(ids).__name__, getattr(ids, "shape", (0,))
    if isinstance(ids, set | frozenset | Mapping):
        raise UserError(f"{name}: a {kind} is not a list of ids. Pass a list, a one-dimensional "
                        "array or a Series.")
    if len(shape) > 1:
        raise UserError(f"{name}: a {kind} of shape {shape} is not a list of ids. Pass one column "
                        "or row.")
    ids = ids if hasattr(ids, "dtype") else list(ids)
    if isinstance(ids, list) or ids.dtype == np.dtype(object):
        for position, one in enumerate(ids):
            if pd.api.types.is_list_like(one):
                raise UserError(f"{name}: entry {position} is a {type(one).__name__}, not an id. "
                                "Pass a list of numbers or text.")
    return ids


def pair_columns(pairs: Any, columns: str | None) -> tuple[pd.Series, pd.Series]:
    """Return the users and the items of a table of pairs, whose columns have usual names, or the
    names in `columns` (those of the ratings). Raise UserError if they are not found."""
    frame = as_pandas(pairs)
    if not isinstance(frame, pd.DataFrame):
        raise UserError("predict needs users and items, or a DataFrame of both. Pass the items, "
                        "too.")
    names = tuple(str(each) for each in frame.columns)
    wanted = ",".join(columns.split(",")[:2]) if columns else None
    try:
        _, (user, item) = find_columns(Path("DataFrame"), names, wanted, {"header": 0}, 2)
    except UserError:
        _, (user, item) = find_columns(Path("DataFrame"), names, None, {"header": 0}, 2)
    return frame.iloc[:, user], frame.iloc[:, item]


def user_frame(ratings: Any, columns: str | None, before: str | None) -> FrameFile:
    """Return the ratings of one person.

    Args:
        ratings: a mapping or a Series from items to ratings, or a table as for `FrameFile`, perhaps
            without a column for the user.
        columns, before: as in `second_frame`.

    Raises:
        UserError: if the ratings have another type, or their columns are not found.
    """
    ratings = as_pandas(ratings)
    if isinstance(ratings, pd.Series):
        ratings = dict(zip(ratings.index.tolist(), ratings.tolist(), strict=True))
    if isinstance(ratings, Mapping):
        ratings = pd.DataFrame({"user": 0, "item": list(ratings), "rating": [*ratings.values()]})
        return FrameFile(ratings, "user,item,rating")
    names = [each.split(",")[0] for each in (columns, before) if each]
    for name in (*names, "user"):
        if isinstance(ratings, pd.DataFrame) and name not in ratings.columns:
            with suppress(UserError):
                return second_frame(ratings.assign(**{name: 0}), columns, before)
    return second_frame(ratings, columns, before)
