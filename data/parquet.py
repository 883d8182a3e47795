"""Ratings in a Parquet file. Needs pyarrow, which nothing else here does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.blocks import Block, BlockIds, Rules, parse_id
from data.layouts import ROLES, known_positions, named_positions
from system.errors import UserError

ROWS = 1 << 18  # parsed at a time


class ParquetFile:
    """A Parquet file with a column each for user, item and rating, and perhaps timestamp.

    Raise UserError if it cannot be opened or has no such columns.
    """

    def __init__(self, path: Path, columns: str | None, roles: int = 3) -> None:
        try:
            import pyarrow
            from pyarrow import parquet
        except ImportError as error:
            raise UserError(
                f"{path}: reading Parquet needs pyarrow: pip install pyarrow"
            ) from error
        self.path, self.arrow, self.row = path, pyarrow, 0
        try:
            self.file = parquet.ParquetFile(path)
        except (pyarrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self.unreadable(error) from error
        header = self.file.schema_arrow.names
        if columns:
            named = [name.strip() for name in columns.split(",")]
            positions = named_positions(path, named[: 2 if roles == 2 else 4], header, len(header))
        else:
            positions = known_positions(path, header, roles)
        self.names = [header[i] for i in positions[: 2 if roles == 2 else 4]]

    def __str__(self) -> str:
        columns = (f"{role} from {name}" for role, name in zip(ROLES, self.names, strict=False))
        return f"{self.path.name}: Parquet, {', '.join(columns)}"

    def blocks(self, rules: Rules) -> Iterator[Block]:
        if rules.with_times and len(self.names) < 4:
            raise UserError(
                f"{self.path}: --split time needs a column of timestamps: name it as the fourth of "
                "--columns, or split at random"
            )
        names = self.names[: 4 if rules.with_times else 3]
        self.row = 0
        try:
            for batch in self.file.iter_batches(ROWS, columns=names):
                if len(batch):
                    yield self.parse([batch[name] for name in names], rules)
                self.row += len(batch)
        except (self.arrow.ArrowException, OSError, UnicodeDecodeError) as error:
            raise self.unreadable(error) from error

    def parse(self, columns: list, rules: Rules) -> Block:
        for number, (name, column) in enumerate(zip(self.names, columns, strict=False)):
            if number != 2 and column.null_count:
                row = int(np.argmax(np.asarray(column.is_null())))
                raise ValueError(f"row {self.row + row + 1}: {name} is missing")
        users, items = map(self.parse_ids, self.names, columns[:2])
        if len(columns) < 3:
            return Block(users, items, np.zeros(len(columns[0])))
        values = self.numbers(self.names[2], columns[2])
        for row in np.flatnonzero(np.isinf(values))[:1]:
            raise ValueError(f"row {self.row + row + 1}: the rating {values[row]} is no number")
        try:
            rules.check(values)
        except ValueError as error:
            low, high = rules.scale or (-np.inf, np.inf)
            row = int(((values < low) | (values > high)).argmax())
            raise ValueError(f"row {self.row + row + 1}: {error}") from None
        return Block(users, items, values, self.times(columns[3]) if len(columns) > 3 else None)

    def parse_ids(self, name: str, column: Any) -> BlockIds:
        types = self.arrow.types
        if types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if types.is_integer(column.type):
            codes, ids = pd.factorize(column.to_numpy(zero_copy_only=False))
        elif types.is_string(column.type) or types.is_large_string(column.type):
            column = column.dictionary_encode()
            codes, ids = column.indices.to_numpy(), column.dictionary
        else:
            raise ValueError(f"column {name} holds {column.type}, no whole numbers or strings")
        try:
            return codes, [parse_id(str(one), False) for one in ids.tolist()]
        except ValueError as error:
            raise ValueError(f"column {name}: {error}") from error

    def numbers(self, name: str, column: Any) -> np.ndarray:
        types = self.arrow.types
        if not any(is_type(column.type) for is_type in
                   (types.is_integer, types.is_floating, types.is_decimal)):
            raise ValueError(f"column {name} holds {column.type}, no numbers")
        return column.cast(self.arrow.float64(), safe=False).to_numpy(zero_copy_only=False)

    def times(self, column: Any) -> np.ndarray:
        types = self.arrow.types
        if types.is_timestamp(column.type) or types.is_date(column.type):
            column = column.cast(self.arrow.timestamp("us"), safe=False)
        elif not types.is_integer(column.type):
            raise ValueError(f"column {self.names[3]} holds {column.type}, no timestamps")
        return column.cast(self.arrow.int64()).to_numpy(zero_copy_only=False)

    def locate(self, row: int) -> str:
        return f"{self.path}, row {row + 1}"

    def malformed(self, rules: Rules, error: Exception) -> UserError:
        return UserError(f"{self.path}, {' '.join(str(error).split())[:300]}: correct or remove it")

    def unreadable(self, error: Exception) -> UserError:
        reason = " ".join(str(error).split())[:200]
        return UserError(f"{self.path} is no readable Parquet file ({reason}): write it again")
