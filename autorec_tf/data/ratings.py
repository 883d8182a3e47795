"""The data types for ratings: triples, sparse matrices and splits.

All are validated when they are created, and immutable.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from autorec_tf.system.errors import printable

WITHIN, MAPPED = (0.5, 5.0), (1.0, 5.0)  # scales that are not mapped; the scale for all others
CHUNK = 1 << 23  # ratings that are sorted at a time


@dataclass(frozen=True)
class RatingUnit:
    """The rating scale of the file, the scale that a model is trained on, and the linear map
    between them: results do not depend on the unit of the ratings."""

    file_scale: tuple[float, float]
    model_scale: tuple[float, float]

    @classmethod
    def of(cls, scale: tuple[float, float], mapped: bool = True) -> "RatingUnit":
        """Return the unit of ratings on `scale`. The model's scale is 1..5, or `scale` itself if it
        is within 0.5..5 or `mapped` is False."""
        within = WITHIN[0] <= scale[0] and scale[1] <= WITHIN[1]
        return cls(scale, MAPPED if mapped and not within else scale)

    @property
    def factor(self) -> float:
        """The size of an error on the file's scale that is 1 on the model's scale."""
        (low, high), (model_low, model_high) = self.file_scale, self.model_scale
        return (high - low) / (model_high - model_low)

    def to_model(self, ratings: np.ndarray | float) -> np.ndarray:
        """Map `ratings` from the file's scale to the model's: float32."""
        if self.file_scale != self.model_scale:
            above = np.asarray(ratings, np.float64) - self.file_scale[0]
            ratings = self.model_scale[0] + above / self.factor
        return np.asarray(ratings, np.float32)

    def to_file(self, ratings: Any) -> Any:
        """Map `ratings` from the model's scale to the file's: float64, or unchanged if equal."""
        if self.file_scale == self.model_scale:
            return ratings
        return self.file_scale[0] + (ratings.astype(np.float64) - self.model_scale[0]) * self.factor


@dataclass(frozen=True, eq=False)
class Ratings:
    """Rating triples in file order. Raise ValueError if the shapes, the indices or the values are
    inconsistent.

    Args:
        name: the name of the dataset.
        users, items: int32 [ratings], indices.
        values: float32 or float64 [ratings].
        user_ids, item_ids: int64 or strings, the id of each index.
        scale: the lowest and the highest possible rating.
        held_out: bool [ratings], which ones are test ratings, or None if these are drawn at random.
        mapped: whether a scale outside 0.5..5 is mapped for training (`RatingUnit`).
        files: the user's files that contain the ratings, by the flag that names them.
        times: [ratings], the timestamps, if they are needed later.
    """

    name: str
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    scale: tuple[float, float]
    held_out: np.ndarray | None = None
    mapped: bool = True
    files: Mapping[str, Path] = field(default_factory=dict)
    times: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.users.shape == self.items.shape == self.values.shape:
            raise ValueError("users, items and values must have the same length")
        if self.held_out is not None and self.held_out.shape != self.values.shape:
            raise ValueError("held_out must have one entry for each rating")
        check_indices(self.users, self.num_users, "user")
        check_indices(self.items, self.num_items, "item")
        if not np.all((self.values >= self.scale[0]) & (self.values <= self.scale[1])):
            raise ValueError(f"a rating is outside the scale {self.scale}")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        low, high = self.scale
        return (f"<Ratings {printable(self.name)}: {self.num_users:,} users x {self.num_items:,} "
                f"items, {len(self):,} ratings {low:g} to {high:g}>")

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @property
    def unit(self) -> RatingUnit:
        return RatingUnit.of(self.scale, self.mapped)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the triples: user ids and item ids (int64), then ratings (float64). Ids that
        are strings enter as their sorted list and indices into it; `held_out` enters if given."""
        digest = hashlib.sha256()
        for ids, indices in ((self.user_ids, self.users), (self.item_ids, self.items)):
            if ids.dtype == object:
                digest.update(json.dumps(ids.tolist()).encode())
                ids = np.arange(len(ids))
            digest.update(np.ascontiguousarray(ids[indices], dtype="<i8").data)
        digest.update(np.ascontiguousarray(self.values.astype(np.float32), dtype="<f8").data)
        if self.held_out is not None:
            digest.update(np.packbits(self.held_out).data)
        return digest.hexdigest()


class Part(NamedTuple):
    """The position of some columns within a full rating matrix.

    Args:
        first: the first column of the part.
        total: the number of columns of the full matrix.
        indptr: int64 [rows + 1], of the full matrix.
        before: int64 [rows], the number of ratings of each row in columns before `first`.
        distinct: float32, the distinct values of the full matrix, ascending.
    """

    first: int
    total: int
    indptr: np.ndarray
    before: np.ndarray
    distinct: np.ndarray


@dataclass(frozen=True, eq=False)
class RatingMatrix:
    """A sparse rows x columns rating matrix (CSR). An entry that is not stored is missing, not 0.
    Raise ValueError if the arrays are inconsistent.

    Args:
        indptr: int64 [num_rows + 1].
        indices: int32 [ratings], the column of each rating, ascending within a row.
        values: float32 [ratings].
        num_columns: the number of columns.
        part: the position in a larger matrix, if these are some of its columns, counted from 0.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    num_columns: int
    part: Part | None = None

    def __post_init__(self) -> None:
        if self.indices.shape != self.values.shape or self.indptr[-1] != len(self.indices):
            raise ValueError("indptr, indices and values do not fit each other")
        if self.indptr[0] != 0 or np.any(np.diff(self.indptr) < 0):
            raise ValueError("indptr must start at 0 and never decrease")
        check_indices(self.indices, self.num_columns, "column")

    @classmethod
    def from_triples(cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray,
                     shape: tuple[int, int]) -> "RatingMatrix":
        """Return the matrix of `shape` (rows, columns) with these ratings, in any order."""
        order = np.argsort(rows.astype(np.int64) * shape[1] + columns, kind="stable")
        indptr = np.zeros(shape[0] + 1, np.int64)
        np.cumsum(np.bincount(rows, minlength=shape[0]), out=indptr[1:])
        return cls(indptr, columns[order], values[order], shape[1])

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return f"<RatingMatrix: {self.num_rows:,} x {self.num_columns:,}, {len(self):,} ratings>"

    @property
    def num_rows(self) -> int:
        return len(self.indptr) - 1

    @property
    def density(self) -> float:
        """The fraction of entries that are observed."""
        return len(self) / (self.num_rows * self.num_columns)

    @property
    def row_counts(self) -> np.ndarray:
        """The number of ratings of each row, int64 [num_rows]."""
        return np.diff(self.indptr)

    @property
    def column_counts(self) -> np.ndarray:
        """The number of ratings of each column, int64 [num_columns]."""
        return np.bincount(self.indices, minlength=self.num_columns)

    @cached_property
    def distinct(self) -> np.ndarray:
        """The distinct values, for a part those in the full matrix: float32, ascending."""
        return self.part.distinct if self.part else np.sort(pd.unique(self.values))

    @property
    def rows(self) -> np.ndarray:
        """The row of each rating, int32 [ratings], ascending."""
        return np.repeat(np.arange(self.num_rows, dtype=np.int32), self.row_counts)

    def columns(self, first: int, last: int) -> "RatingMatrix":
        """Return columns first..last-1, counted from 0."""
        inside = (self.indices >= first) & (self.indices < last)
        until = np.append(0, np.cumsum(inside))[self.indptr]
        before = np.append(0, np.cumsum(self.indices < first))[self.indptr]
        return RatingMatrix(
            until, self.indices[inside] - first, self.values[inside], last - first,
            Part(first, self.num_columns, self.indptr, np.diff(before), self.distinct),
        )

    def transposed(self) -> "RatingMatrix":
        """Return the matrix with rows and columns exchanged, including those without ratings."""
        indptr, rows = np.append(0, np.cumsum(self.column_counts)), self.rows
        indices, values = np.empty(len(self), np.int32), np.empty(len(self), np.float32)
        cuts = np.searchsorted(indptr, np.arange(0, len(self), CHUNK))
        for first, last in pairwise([*cuts, self.num_columns]):  # columns that are sorted at once
            inside = np.flatnonzero((self.indices >= first) & (self.indices < last))
            order = inside[np.argsort(self.indices[inside], kind="stable")]  # rows are sorted
            part = slice(indptr[first], indptr[last])
            indices[part], values[part] = rows[order], self.values[order]
        return RatingMatrix(indptr, indices, values, self.num_rows)


@dataclass(frozen=True)
class Split:
    """Training, test and perhaps validation ratings of one split, over the same rows and columns.

    Args:
        train, test, validation: rows x columns; `validation` may be None.
        orientation: whether a row is an "item" or a "user".
        unit: the map between the ratings here and the file's scale.
    """

    train: RatingMatrix
    test: RatingMatrix
    validation: RatingMatrix | None = None
    orientation: str = "item"
    unit: RatingUnit = RatingUnit(MAPPED, MAPPED)

    def transposed(self) -> "Split":
        """Return the same split in the other orientation."""
        validation = None if self.validation is None else self.validation.transposed()
        other = "user" if self.orientation == "item" else "item"
        return Split(self.train.transposed(), self.test.transposed(), validation, other, self.unit)

    def by_item(self) -> "Split":
        """Return the same split with items as rows."""
        return self if self.orientation == "item" else self.transposed()


def check_indices(indices: np.ndarray, bound: int, what: str) -> None:
    if len(indices) and not 0 <= indices.min() <= indices.max() < bound:
        raise ValueError(f"a {what} index is outside 0..{bound - 1}")


def rounded(values: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Return ratings (float64) in the type for `Ratings`: float32, or float64 if float32 would
    round ratings that are mapped to another scale later."""
    short = values.astype(np.float32)
    mapped = RatingUnit.of(scale).model_scale != scale
    return values if mapped and not np.array_equal(short, values) else short


def index_ratings(name: str, users: np.ndarray, items: np.ndarray, values: np.ndarray,
                  scale: tuple[float, float]) -> Ratings:
    """Return ratings from columns of ids; an index is the position among the sorted ids."""
    (user_codes, user_ids), (item_codes, item_ids) = (
        pd.factorize(column, sort=True) for column in (users, items)
    )
    return Ratings(name, user_codes.astype(np.int32), item_codes.astype(np.int32),
                   rounded(values.astype(np.float64), scale), user_ids, item_ids, scale)
