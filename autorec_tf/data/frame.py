"""Ratings in a pandas DataFrame, read as the CSV file that it would be written to: by the same
rules, and to the same bits."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.layouts import Layout, find_columns
from autorec_tf.system.errors import UserError

ROWS = 1 << 16  # turned into text at a time


class FrameFile(RatingsFile):
    """A DataFrame with a column each for user, item and rating, and perhaps timestamp; with
    `roles` 2, for user and item.

    `columns` names them, with commas between them; by default, they have names that a header may
    have. `name` is what messages call it, which name rows by position and index label. Raise
    UserError if it is none, is empty, or has no such columns.
    """

    noun = "row"

    def __init__(self, frame: pd.DataFrame, columns: str | None = None, roles: int = 3,
                 name: str = "DataFrame") -> None:
        path = Path(name)
        if not isinstance(frame, pd.DataFrame):
            raise UserError(f"{type(frame).__name__} is no pandas DataFrame: give one")
        if not len(frame):
            raise UserError(f"{path} has no rows: give one that has")
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
        """Return how many rows a text is of: an id may have several lines."""
        return len(self.records(text))

    def line_name(self, number: int) -> str:
        """Return what messages call a row: its position, from 0, and its label, if that differs."""
        row = number - 1
        (label,) = self.frame.index[[row]].tolist()  # which makes Python's numbers of NumPy's
        return f"{self.path}, row {row}" + (f" (index {label!r})" if label != row else "")


def second_frame(frame: pd.DataFrame, columns: str | None, before: str | None,
                 name: str = "DataFrame") -> FrameFile:
    """Return a second DataFrame: its `columns`, or those named as `before`, or the usual ones."""
    try:
        return FrameFile(frame, columns or before, name=name)
    except UserError:
        if columns or not before:
            raise
        return FrameFile(frame, name=name)
