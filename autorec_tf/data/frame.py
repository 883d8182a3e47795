"""Ratings in a pandas DataFrame, read like the CSV file that it would be written to: with the same
rules, and to the same bits."""

from collections.abc import Iterator, Sequence
from pathlib import Path

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
        frame: the DataFrame, one rating per row.
        columns: the column names, separated by commas, or None for the usual ones.
        roles: 3, or 2 for a DataFrame of users and items without ratings.
        name: the DataFrame's name in messages.

    Raises:
        UserError: if `frame` is not a DataFrame, has no rows, or does not have these columns.
    """

    noun = "row"

    def __init__(self, frame: pd.DataFrame, columns: str | None = None, roles: int = 3,
                 name: str = "DataFrame") -> None:
        path = Path(name)
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


def second_frame(frame: pd.DataFrame, columns: str | None, before: str | None,
                 name: str = "DataFrame") -> FrameFile:
    """Return a second DataFrame, with its `columns`, or the names `before`, or the usual names."""
    try:
        return FrameFile(frame, columns or before, name=name)
    except UserError:
        if columns or not before:
            raise
        return FrameFile(frame, name=name)
