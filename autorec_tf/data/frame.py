"""Ratings in tables, read like the CSV file that they would be written to: with the same rules, and
to the same bits. A table is a pandas DataFrame, or one with `to_pandas()`, such as those of Polars
and Arrow, or a Parquet file."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.headers import IDS, find_columns, find_table, plain
from autorec_tf.data.ids import id_text
from autorec_tf.data.layouts import Layout
from autorec_tf.system.errors import UserError

ROWS = 1 << 16  # converted to text at a time


class FrameFile(RatingsFile):
    """A DataFrame with columns for user, item, rating and perhaps timestamp. Messages name a row by
    its position and its index label. Raise UserError if it has no rows, or not these columns.

    Args:
        frame: the DataFrame, or a table with `to_pandas()`, one rating per row.
        columns: the column names, separated by commas, or None for the usual ones.
        before: the names of earlier ratings, used without `columns` if `frame` has them.
        name: the DataFrame's name in messages.
    """

    noun = "row"

    def __init__(self, frame: Any, columns: str | None = None, before: str | None = None,
                 name: str = "DataFrame") -> None:
        path, frame = Path(name), as_pandas(frame)
        if not isinstance(frame, pd.DataFrame):
            what = "its reset_index()" if isinstance(frame, pd.Series) else "a DataFrame"
            raise UserError(f"{type(frame).__name__} is not a pandas DataFrame. Pass {what}.")
        positions = frame_columns(path, frame, columns, before, 3)
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

    def line_name(self, number: int) -> str:
        """Return the name of a row in messages: its position from 0, and its label if different."""
        row = number - 1
        (label,) = self.frame.index[[row]].tolist()  # as Python's own numbers
        return f"{self.path}, row {row}" + (f" (index {label!r})" if label != row else "")


class ParquetFile(RatingsFile):
    """A Parquet file with columns for user, item, rating and perhaps timestamp. Needs pyarrow."""

    noun = "row"

    def __init__(self, path: Path, columns: str | None, roles: int = 3) -> None:
        with readable(path):
            from pyarrow import csv, parquet

            self.write_csv = csv.write_csv
            self.options = csv.WriteOptions(include_header=False)
            self.file = parquet.ParquetFile(path)
        names = tuple(self.file.schema_arrow.names)
        header, positions = find_columns(path, names, columns, {"header": 0}, roles)
        self.names = [header[i] for i in positions]
        width = len(self.names)
        layout = Layout(",", width, tuple(range(width)), tuple(self.names), remarks=("Parquet",))
        super().__init__(layout, path)

    def read(self) -> Iterator[str]:
        with readable(self.path):
            for batch in self.file.iter_batches(ROWS, columns=self.names):
                self.write_csv(batch.select(self.names), text := io.BytesIO(), self.options)
                yield text.getvalue().decode()


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Raise UserError if pyarrow is missing, or cannot read the Parquet file at `path`."""
    try:
        yield
    except ImportError as error:
        raise UserError(f"{path}: Parquet files need pyarrow. Install it with pip install "
                        "pyarrow.") from error
    except Exception as error:  # pyarrow raises many types
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: the Parquet file cannot be read ({reason}). Write it again."
                        ) from error


def frame_columns(path: Path, frame: pd.DataFrame, columns: str | None, before: str | None,
                  roles: int) -> tuple[int, ...]:
    """Return the positions of the columns of a DataFrame, with the arguments of `FrameFile`. Raise
    UserError if they are not found, or it is a table of users x items."""
    names = tuple(str(each) for each in frame.columns)
    if before and not columns:
        with suppress(UserError):
            return find_columns(path, names, before, {"header": 0}, roles)[1]
    rows = [("", *names), *(tuple(map(str, row)) for row in frame.head(200).itertuples(name=None))]
    first = int(bool(names and re.fullmatch(IDS, plain(names[0]))))
    if not columns and min(roles, len(names)) > 2 and find_table([row[first:] for row in rows]):
        user, before = (names[0], "") if first else ("user", ".rename_axis('user').reset_index()")
        raise UserError(f"{path}: a table of users x items, not one rating per row. Pass its "
                        f"{before}.melt({user!r}, var_name='item', value_name='rating'), without "
                        "cells that are not ratings.")
    try:
        return find_columns(path, names, columns, {"header": 0}, roles)[1]
    except UserError as error:
        index = ", ".join(str(each) for each in frame.index.names if each is not None)
        hint = f" Its index ({index}) counts after reset_index()." if index else ""
        raise UserError(f"{error}{hint}") from None


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


def user_frame(ratings: Any, columns: str | None, before: str | None) -> FrameFile:
    """Return the ratings of one person: a mapping or a Series from items to ratings, or a table as
    for `FrameFile`, perhaps without a column for the user. Raise UserError for anything else."""
    ratings, names = as_pandas(ratings), ["user", "item", "rating"]
    if isinstance(ratings, Mapping | pd.Series):
        rows = [(0, *pair) for pair in ratings.items()]
        return FrameFile(pd.DataFrame(rows, columns=names), ",".join(names))
    for name in ((columns or before or "user").split(",")[0], "user"):
        if isinstance(ratings, pd.DataFrame) and name not in ratings.columns:
            with suppress(UserError):
                return FrameFile(ratings.assign(**{name: 0}), columns, before)
    return FrameFile(ratings, columns, before)
