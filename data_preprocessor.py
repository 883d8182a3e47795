"""Files to ratings, ratings to a random split, and a split to sparse rating matrices.

    ratings = load_ratings("ml-1m", "ml-1m", seed=1994)          # triples, ids kept beside them
    split = split_ratings(ratings, 0.9, seed=1994)               # train and test, item rows
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is what the file says; an *index* is 0..n-1. Nothing here holds users x items numbers:
memory grows with the ratings.
"""

import csv
import hashlib
import io
import os
import re
import socket
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from errors import UserError
from runtime import import_tensorflow
from streams import random_stream
from synthetic import synthetic_ratings

ML_1M_URL = "https://files.grouplens.org/datasets/movielens/ml-1m.zip"
ML_1M_SHA256 = "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"
ML_1M_MEMBER = "ml-1m/ratings.dat"
ML_1M_SCALE = (1.0, 5.0)
READ_BYTES = 1 << 22  # of text parsed at a time
NETWORK_TIMEOUT = 30  # seconds without a byte

RATING_LINE = re.compile(rb"\d{1,18}::\d{1,18}::[1-5]::-?\d{1,18}\r?\n?")
EXPECTED_LINE = "UserID::MovieID::Rating::Timestamp, whole numbers, the rating 1 to 5"


@dataclass(frozen=True, eq=False)
class Ratings:
    """Rating triples in file order.

    users, items: int32 indices, shape [ratings]; values: float32, shape [ratings];
    user_ids, item_ids: the id of each index; scale: lowest and highest rating there can be.
    Raises ValueError if the shapes, the indices or the values do not fit.
    """

    name: str
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    scale: tuple[float, float]

    def __post_init__(self) -> None:
        if not self.users.shape == self.items.shape == self.values.shape or not len(self):
            raise ValueError("users, items and values must be of one length, at least 1")
        check_indices(self.users, self.num_users, "user")
        check_indices(self.items, self.num_items, "item")
        if not np.all((self.values >= self.scale[0]) & (self.values <= self.scale[1])):
            raise ValueError(f"a rating lies outside the scale {self.scale}")

    def __len__(self) -> int:
        return len(self.values)

    def __repr__(self) -> str:
        return (
            f"<Ratings {self.name}: {self.num_users:,} users x {self.num_items:,} items, "
            f"{len(self):,} ratings {self.scale[0]:g} to {self.scale[1]:g}>"
        )

    @property
    def num_users(self) -> int:
        return len(self.user_ids)

    @property
    def num_items(self) -> int:
        return len(self.item_ids)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the triples: user ids and item ids (int64), then ratings (float64)."""
        digest = hashlib.sha256()
        for column, dtype in (
            (self.user_ids[self.users], "<i8"),
            (self.item_ids[self.items], "<i8"),
            (self.values, "<f8"),
        ):
            digest.update(np.ascontiguousarray(column, dtype=dtype))
        return digest.hexdigest()


@dataclass(frozen=True, eq=False)
class RatingMatrix:
    """A sparse rows x columns rating matrix (CSR); what is not stored is missing, not 0.

    indptr: int64, shape [num_rows + 1]; indices: int32 column of each rating, ascending within
    a row; values: float32. Raises ValueError if they do not fit each other.
    """

    indptr: np.ndarray
    indices: np.ndarray
    values: np.ndarray
    num_columns: int

    def __post_init__(self) -> None:
        if self.indices.shape != self.values.shape or self.indptr[-1] != len(self.indices):
            raise ValueError("indptr, indices and values do not fit each other")
        if self.indptr[0] != 0 or np.any(np.diff(self.indptr) < 0):
            raise ValueError("indptr must start at 0 and never fall")
        check_indices(self.indices, self.num_columns, "column")

    @classmethod
    def from_triples(
        cls, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]
    ) -> "RatingMatrix":
        """The matrix of `shape` (rows, columns) with these ratings, given in any order."""
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
        """The share of entries that are observed."""
        return len(self) / (self.num_rows * self.num_columns)

    @property
    def row_counts(self) -> np.ndarray:
        """Ratings of each row, int64 [num_rows]."""
        return np.diff(self.indptr)

    @property
    def column_counts(self) -> np.ndarray:
        """Ratings of each column, int64 [num_columns]."""
        return np.bincount(self.indices, minlength=self.num_columns)

    @cached_property
    def rows(self) -> np.ndarray:
        """The row of each rating, int32 [ratings], ascending."""
        return np.repeat(np.arange(self.num_rows, dtype=np.int32), self.row_counts)

    def transposed(self) -> "RatingMatrix":
        """The same ratings with rows and columns exchanged; rows without ratings stay columns."""
        shape = self.num_columns, self.num_rows
        return RatingMatrix.from_triples(self.indices, self.rows, self.values, shape)


@dataclass(frozen=True)
class Split:
    """Training, test and perhaps validation ratings of one random split, over the same rows and
    columns."""

    train: RatingMatrix
    test: RatingMatrix
    validation: RatingMatrix | None = None

    def transposed(self) -> "Split":
        """The same split in the other orientation."""
        sides = (self.train, self.test, self.validation)
        return Split(*(side and side.transposed() for side in sides))


def check_indices(indices: np.ndarray, bound: int, what: str) -> None:
    if len(indices) and not 0 <= indices.min() <= indices.max() < bound:
        raise ValueError(f"a {what} index lies outside 0..{bound - 1}")


def split_ratings(
    ratings: Ratings,
    train_ratio: float,
    seed: int,
    orientation: str = "item",
    validation_ratio: float = 0.0,
) -> Split:
    """Put round(train_ratio x ratings) random ratings in train and the others in test.

    Of those in train, round(validation_ratio x them) become validation ratings instead. Rows are
    items and columns users, or the reverse with orientation "user". Which rating goes where
    depends on the seed and the ratios alone. Raises UserError if a side would be empty.
    """
    num_train = round(len(ratings) * train_ratio)
    num_validation = round(num_train * validation_ratio)
    if not 0 < num_train < len(ratings):
        raise UserError(
            f"--train_ratio {train_ratio} of {len(ratings)} ratings leaves one side of the split "
            "empty: choose another ratio"
        )
    if validation_ratio and not 0 < num_validation < num_train:
        raise UserError(
            f"--validation_ratio {validation_ratio} of {num_train} training ratings leaves one "
            "side empty: choose another ratio"
        )
    order = random_stream(seed, "split").permutation(len(ratings))
    train, validation, test = np.split(order, [num_train - num_validation, num_train])
    axes = (ratings.items, ratings.users), (ratings.num_items, ratings.num_users)
    (rows, columns), shape = axes if orientation == "item" else (axes[0][::-1], axes[1][::-1])

    def matrix(part: np.ndarray) -> RatingMatrix:
        return RatingMatrix.from_triples(rows[part], columns[part], ratings.values[part], shape)

    return Split(matrix(train), matrix(test), matrix(validation) if num_validation else None)


def load_ratings(
    dataset: str | None, folder: str, seed: int, say: Callable[[str], None] = print
) -> Ratings:
    """The ratings of `dataset`: "ml-1m", "synthetic", or None for ml-1m where it can be had.

    MovieLens-1M is read from `folder`, and downloaded into it if it is not there. With None, no
    file and no network, the synthetic stand-in takes its place, and `say` is told so; with
    "ml-1m" that is an error. Raises UserError for data that is missing or malformed.
    """
    path = Path(folder) / "ratings.dat"
    if dataset != "synthetic" and not path.exists():
        try:
            download_ml_1m(path)
        except OSError as error:
            if dataset is not None:
                raise UserError(
                    f"{path} is not there and {ML_1M_URL} cannot be fetched ({error}): connect to "
                    "the network, name the folder of ratings.dat with --data_dir, or train on "
                    "made-up ratings with --dataset synthetic"
                ) from error
            say(
                f"MovieLens-1M is not in {folder} and cannot be downloaded ({error}). Training on "
                "synthetic ratings of its size instead: their RMSE is not MovieLens'."
            )
            dataset = "synthetic"
    if dataset == "synthetic":
        return index_ratings("synthetic", *synthetic_ratings(seed), ML_1M_SCALE)
    return read_ml_1m(path)


def download_ml_1m(path: Path) -> None:
    """Fetch the published archive and put its ratings.dat at `path`.

    The archive is checked against the provider's checksum before anything is unpacked, in a
    folder of its own, and the file appears under its name only when it is whole. Raises OSError
    if the archive cannot be fetched or kept, UserError if it is not the published one.
    """
    tf = import_tensorflow()  # takes seconds, and most runs have the file

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".download-", dir=path.parent)
    except OSError as error:
        raise OSError(f"cannot write to {path.parent}: {error.strerror}") from error
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    with folder as name:
        try:
            archive = tf.keras.utils.get_file(
                "ml-1m.zip", ML_1M_URL, cache_dir=name, cache_subdir=".", file_hash=ML_1M_SHA256
            )
        except ValueError as error:  # what get_file raises for a wrong checksum
            raise UserError(
                f"what {ML_1M_URL} sent is not the published archive (wrong checksum): try again, "
                "or fetch it yourself and name its folder with --data_dir"
            ) from error
        except Exception as error:  # get_file wraps a URLError in a bare Exception
            raise OSError(str(error).rpartition(" -- ")[2]) from error
        finally:
            socket.setdefaulttimeout(timeout)
        with zipfile.ZipFile(archive) as members:
            unpacked = members.extract(ML_1M_MEMBER, name)
        os.replace(unpacked, path)


def read_ml_1m(path: str | Path) -> Ratings:
    """Read a MovieLens-1M `ratings.dat` (`UserID::MovieID::Rating::Timestamp`, no header).

    Read in blocks, so that memory grows with the ratings and not with the text. Raises UserError
    that names the file, the line and what is wrong with it.
    """
    blocks = []
    try:
        with open(path, "rb") as file:
            while text := file.read(READ_BYTES) + file.readline():
                blocks.append(parse_lines(text))
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except ValueError as error:  # pandas' ParserError is one
        raise bad_line(path) from error
    if not blocks:
        raise UserError(f"{path} is empty: expected lines {EXPECTED_LINE}")
    ratings = index_ratings(
        "ml-1m", *(np.concatenate(column) for column in zip(*blocks, strict=True)), ML_1M_SCALE
    )
    refuse_duplicates(path, ratings)
    return ratings


def parse_lines(text: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """User ids, item ids (int64) and ratings (float32) of whole lines; ValueError if malformed."""
    # pandas reads 4.0, " 4" and +4 as whole numbers, and takes the width of the table from the
    # first line, whatever `names` says.
    first_line = text[: text.find(b"\n") + 1 or len(text)]
    if text.translate(None, b"0123456789:-\r\n") or not RATING_LINE.fullmatch(first_line):
        raise ValueError("not a rating file's characters, or not its first line")
    # The C parser takes one-character separators only, so "::" is two, with an empty column
    # between them: that is ten times faster than the Python engine.
    try:
        table = pd.read_csv(
            io.BytesIO(text),
            sep=":",
            header=None,
            names=range(7),
            dtype=dict.fromkeys((0, 2, 4, 6), "int64") | dict.fromkeys((1, 3, 5), "float32"),
            quoting=csv.QUOTE_NONE,
            keep_default_na=False,
            na_values=[""],
            skip_blank_lines=False,
            index_col=False,
            engine="c",
        )
    except OverflowError as error:
        raise ValueError("an id of too many digits") from error
    users, items, values = (table[column].to_numpy() for column in (0, 2, 4))
    if table[[1, 3, 5]].notna().any(axis=None):
        raise ValueError("text between the colons")
    if min(users.min(), items.min()) < 0 or max(users.max(), items.max()) >= 10**18:
        raise ValueError("an id that is negative, or of more than the 18 digits of RATING_LINE")
    if not ML_1M_SCALE[0] <= values.min() <= values.max() <= ML_1M_SCALE[1]:
        raise ValueError("a rating off the scale")
    return users, items, values.astype(np.float32)


def bad_line(path: str | Path) -> UserError:
    """The error that names the first malformed line of `path`; slow, and only then run."""
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not RATING_LINE.fullmatch(line):
                text = line[:80].decode("utf-8", "backslashreplace").rstrip("\r\n")
                return UserError(f"{path}, line {number}: {text!r}: expected {EXPECTED_LINE}")
    return UserError(f"{path}: not in the published format: expected lines {EXPECTED_LINE}")


def refuse_duplicates(path: str | Path, ratings: Ratings) -> None:
    """Raise UserError if a (user, item) pair stands twice in the file of `ratings`."""
    pairs = ratings.users.astype(np.int64) * ratings.num_items + ratings.items
    ordered = np.sort(pairs)
    if np.any(ordered[1:] == ordered[:-1]):
        second = int(pd.Series(pairs).duplicated().argmax())
        first = int((pairs == pairs[second]).argmax())
        user = ratings.user_ids[ratings.users[second]]
        item = ratings.item_ids[ratings.items[second]]
        raise UserError(
            f"{path}, line {second + 1}: user {user} rates movie {item} again "
            f"(first on line {first + 1}): remove one of the two lines"
        )


def index_ratings(
    name: str,
    users: np.ndarray,
    items: np.ndarray,
    values: np.ndarray,
    scale: tuple[float, float],
) -> Ratings:
    """Ratings from columns of ids: an id's index is its place among the sorted ids that occur."""
    (user_codes, user_ids), (item_codes, item_ids) = (
        pd.factorize(column, sort=True) for column in (users, items)
    )
    return Ratings(
        name,
        user_codes.astype(np.int32),
        item_codes.astype(np.int32),
        values.astype(np.float32),
        user_ids,
        item_ids,
        scale,
    )
