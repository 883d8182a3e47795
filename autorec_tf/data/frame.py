"""Ratings in a pandas DataFrame, read like the CSV file that it would be written to: with the same
rules, and to the same bits."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.layouts import Layout, find_columns
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
            raise UserError(f"{type(frame).__name__} is not a pandas DataFrame. Pass a DataFrame.")
        if not len(frame):
            raise UserError(f"{path}: there are no rows. Pass a DataFrame that contains ratings.")
        names = tuple(str(each) for each in frame.columns)
        _, positions = find_columns(path, names, columns, {"header": 0}, roles)
        width = len(positions)
        super().__init__(Layout(",", width, tuple(range(width))), path)
        self.frame = frame.iloc[:, list(positions)]

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


def second_frame(frame: pd.DataFrame, columns: str | None, before: str | None,
                 name: str = "DataFrame") -> FrameFile:
    """Return a second DataFrame, with its `columns`, or the names `before`, or the usual names."""
    try:
        return FrameFile(frame, columns or before, name=name)
    except UserError:
        if columns or not before:
            raise
        return FrameFile(frame, name=name)
