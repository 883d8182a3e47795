"""Ratings in a Parquet file, read like the text of the same CSV file. Needs pyarrow."""

import io
from collections.abc import Iterator
from pathlib import Path

from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.headers import find_columns
from autorec_tf.data.layouts import Layout
from autorec_tf.system.errors import UserError

ROWS = 1 << 17  # parsed at a time


class ParquetFile(RatingsFile):
    """A Parquet file with columns for user, item, rating and perhaps timestamp."""

    noun = "row"

    def __init__(self, path: Path, columns: str | None, roles: int = 3) -> None:
        try:
            import pyarrow
            from pyarrow import csv, parquet
        except ImportError as error:
            raise UserError(f"{path}: Parquet files need pyarrow. Install it with pip install "
                            "pyarrow.") from error
        self.csv, self.unreadable = csv, (pyarrow.ArrowException, OSError, UnicodeDecodeError)
        try:
            self.file = parquet.ParquetFile(path)
        except self.unreadable as error:
            raise self.refusal(path, error) from error
        names = tuple(self.file.schema_arrow.names)
        header, positions = find_columns(path, names, columns, {"header": 0}, roles)
        self.names = [header[i] for i in positions]
        width = len(self.names)
        layout = Layout(",", width, tuple(range(width)), tuple(self.names), remarks=("Parquet",))
        super().__init__(layout, path)

    def read(self) -> Iterator[str]:
        options = self.csv.WriteOptions(include_header=False)
        try:
            for batch in self.file.iter_batches(ROWS, columns=self.names):
                self.csv.write_csv(batch.select(self.names), text := io.BytesIO(), options)
                yield text.getvalue().decode()
        except self.unreadable as error:
            raise self.refusal(self.path, error) from error

    def refusal(self, path: Path, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:200]
        return UserError(f"{path}: the Parquet file cannot be read ({reason}). Write it again.")
