"""Ratings in a pandas DataFrame, read as the CSV file that it would be written to: by the same
rules, and to the same bits."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from data.blocks import shown
from data.delimited import DelimitedFile
from data.layouts import Layout, known_positions, named_positions
from system.errors import UserError

ROWS = 1 << 16  # turned into text at a time


class FrameFile(DelimitedFile):
    """A DataFrame with a column each for user, item and rating, and perhaps timestamp; with
    `roles` 2, for user and item.

    `columns` names them, with commas between them; by default, they have names that a header may
    have. `name` is what messages call it, which name rows by position and index label. Raise
    UserError if it is none, is empty, or has no such columns.
    """

    def __init__(
        self, frame: pd.DataFrame, columns: str | None = None, roles: int = 3,
        name: str = "DataFrame",
    ) -> None:
        path, most = Path(name), 2 if roles == 2 else 4
        if not isinstance(frame, pd.DataFrame):
            raise UserError(f"{type(frame).__name__} is no pandas DataFrame: give one")
        if not len(frame):
            raise UserError(f"{path} has no rows: give one that has")
        header = [str(each) for each in frame.columns]
        if columns:
            named = [each.strip() for each in columns.split(",")]
            positions = named_positions(path, named[:most], header, len(header))
        else:
            positions = known_positions(path, header, roles)
        super().__init__(path, Layout(",", len(positions), tuple(range(len(positions)))))
        self.frame, self.first = frame.iloc[:, list(positions)], 0

    def check_header(self) -> None:
        """Its names were looked at already."""

    def texts(self) -> Iterator[str]:
        for first in range(0, len(self.frame), ROWS):
            self.first = first
            part = self.frame.iloc[first : first + ROWS]
            yield part.to_csv(index=False, header=False, lineterminator="\n")

    def locate(self, row: int) -> str:
        (label,) = self.frame.index[[row]].tolist()  # which makes Python's numbers of NumPy's
        return f"{self.path}, row {row}" + (f" (index {label!r})" if label != row else "")

    def error_of(self, records: list[str], number: int, reason: object) -> UserError:
        where = self.locate(self.first + len(records) - 1)
        return UserError(f"{where}: {shown(records[-1])}: {reason}: correct or remove the row")
