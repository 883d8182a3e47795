"""Files to ratings, ratings to a split, and a split to sparse rating matrices.

    ratings = load_ratings(Config(dataset="ml-1m"))              # triples, ids kept beside them
    split = split_ratings(ratings, 0.9, seed=1994)               # train and test, item rows
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is what the file says; an *index* is 0..n-1. Nothing here holds users x items numbers:
memory grows with the ratings.
"""

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from config import Config
from downloads import DATASETS, Dataset, fetch
from errors import UserError, printable
from netflix import NetflixFile
from readers import Columns, DelimitedFile, Ids, RatingsFile, open_file, read
from streams import random_stream
from synthetic import synthetic_ratings


@dataclass(frozen=True, eq=False)
class Ratings:
    """Rating triples in file order.

    users, items: int32 indices, shape [ratings]; values: float32, shape [ratings];
    user_ids, item_ids: the id of each index, int64 or strings; scale: lowest and highest rating
    there can be; held_out: which are the test ratings (bool), if that is given and not drawn.
    Raises ValueError if the shapes, the indices or the values do not fit.
    """

    name: str
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    user_ids: np.ndarray
    item_ids: np.ndarray
    scale: tuple[float, float]
    held_out: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not self.users.shape == self.items.shape == self.values.shape or not len(self):
            raise ValueError("users, items and values must be of one length, at least 1")
        if self.held_out is not None and self.held_out.shape != self.values.shape:
            raise ValueError("held_out must say of every rating whether it is held out")
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
        """SHA-256 of the triples: user ids and item ids (int64), then ratings (float64); ids that
        are strings as their sorted list and indices into it. Test ratings that are given count."""
        digest = hashlib.sha256()
        for ids, indices in ((self.user_ids, self.users), (self.item_ids, self.items)):
            if ids.dtype == object:
                digest.update(json.dumps(ids.tolist()).encode())
                ids = np.arange(len(ids))
            digest.update(np.ascontiguousarray(ids[indices], dtype="<i8"))
        digest.update(np.ascontiguousarray(self.values, dtype="<f8"))
        if self.held_out is not None:
            digest.update(np.packbits(self.held_out))
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
        order = np.argsort(self.indices, kind="stable")  # rows ascend already
        indptr = np.append(0, np.cumsum(self.column_counts))
        return RatingMatrix(indptr, self.rows[order], self.values[order], self.num_rows)


@dataclass(frozen=True)
class Split:
    """Training, test and perhaps validation ratings of one split, over the same rows and
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
    """Put round(train_ratio x ratings) random ratings in train and the others in test; where
    `ratings` say which are held out, these are the test ratings instead.

    Of those in train, round(validation_ratio x them) become validation ratings instead. Rows are
    items and columns users, or the reverse with orientation "user". Which rating goes where
    depends on the seed and the ratios alone. Raises UserError if a side would be empty.
    """
    order = random_stream(seed, "split").permutation(len(ratings))
    num_train = round(len(ratings) * train_ratio)
    if ratings.held_out is not None:
        held_out = ratings.held_out[order]
        order = np.concatenate([order[~held_out], order[held_out]])
        num_train = len(order) - int(held_out.sum())
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
    train, validation, test = np.split(order, [num_train - num_validation, num_train])
    axes = (ratings.items, ratings.users), (ratings.num_items, ratings.num_users)
    (rows, columns), shape = axes if orientation == "item" else (axes[0][::-1], axes[1][::-1])

    def matrix(part: np.ndarray) -> RatingMatrix:
        return RatingMatrix.from_triples(rows[part], columns[part], ratings.values[part], shape)

    return Split(matrix(train), matrix(test), matrix(validation) if num_validation else None)


def load_ratings(config: Config, say: Callable[[str], None] = print) -> Ratings:
    """The ratings that `config` names, and which of them are test ratings if that is not random.

    A published dataset is read from `config.ratings_folder()`, and downloaded into it if it is not
    there. Without a name, a file and a network, the synthetic stand-in takes the place of ml-1m,
    and `say` is told so; with a name that is an error. `say` is also told what was found in a file
    that is none of the published ones. Raises UserError for data that is missing or malformed.
    """
    name, scale = config.dataset or "ml-1m", config.rating_scale or None
    if config.columns and not config.test_file and name in (*DATASETS, "synthetic"):
        raise UserError(
            f"--columns {config.columns} is for a file of your own: the columns of {name} are known"
        )
    if name in DATASETS:
        scale = scale or DATASETS[name].scale
        file = published_file(config, DATASETS[name], say)
    else:
        file = None if name == "synthetic" else given_file(config, "dataset", say)
    if file is None:
        return synthetic(config)
    files = [file]
    if config.test_file:
        files.append(given_file(config, "test_file", say))
    if name not in DATASETS:
        name = plain_name(name)
    return read_ratings(name, files, scale, config.train_ratio if config.split == "time" else None)


def synthetic(config: Config) -> Ratings:
    """Made-up ratings; UserError for settings that need a file."""
    scale = DATASETS["ml-1m"].scale
    other_scale = config.rating_scale not in ((), scale)
    if config.test_file or config.split == "time" or other_scale:
        raise UserError(
            "synthetic ratings have neither timestamps nor a test file nor another scale: leave "
            "out --split, --test_file and --rating_scale, or name a --dataset"
        )
    return index_ratings("synthetic", *synthetic_ratings(config.random_seed), scale)


def published_file(
    config: Config, dataset: Dataset, say: Callable[[str], None]
) -> RatingsFile | None:
    """The ratings of `dataset`, fetched if need be; None if that fails and no name was given."""
    folder = Path(config.ratings_folder())
    if dataset.name == "netflix":
        return netflix_file(folder)
    path = folder / dataset.ratings
    if not path.exists():
        try:
            fetch(dataset, folder)
        except OSError as error:
            if config.dataset is not None:
                raise UserError(
                    f"{path} is not there and {dataset.url} cannot be fetched ({error}): connect "
                    f"to the network, name the folder of {dataset.ratings} with --data_dir, or "
                    "train on made-up ratings with --dataset synthetic"
                ) from error
            say(
                f"MovieLens-1M is not in {folder} and cannot be downloaded ({error}). Training on "
                "synthetic ratings of its size instead: their RMSE is not MovieLens'."
            )
            return None
    return DelimitedFile(path, dataset.layout)


def netflix_file(folder: Path) -> NetflixFile:
    """The user's own files of the Netflix Prize in `folder`."""
    for pattern in ("combined_data_*.txt", "training_set/mv_*.txt", "mv_*.txt"):
        if paths := sorted(folder.glob(pattern)):
            return NetflixFile(*paths)
    raise UserError(
        f"{folder} holds no combined_data_1.txt and no training_set/mv_*.txt: Netflix' data cannot "
        "be downloaded from its publisher any more; put your own files there, or name their folder "
        "with --data_dir"
    )


def given_file(config: Config, flag: str, say: Callable[[str], None]) -> RatingsFile:
    """The file that the user names with `flag`, also one in `--data_dir`, as a run that is resumed
    knows its files by their names alone; what it is found to be is told."""
    name = getattr(config, flag)
    path = Path(name)
    if not path.is_file() and config.data_dir:
        path = Path(config.data_dir) / name
    if not path.is_file() and flag == "test_file":
        raise UserError(
            f"--test_file {name} is no file: name one, and its folder with --data_dir if need be"
        )
    if not path.is_file():
        raise UserError(
            f"{name} is no file, and no dataset of that name is known: name a file (or its folder "
            f"with --data_dir), or one of {', '.join(DATASETS)}, synthetic"
        )
    file = open_file(path, config.columns)
    say(printable(f"Data file {file}"))
    return file


def plain_name(name: str) -> str:
    """A file's name as that of a dataset, which folders are named after."""
    plain = re.sub(r"[^\w .,+@()-]", "_", Path(name).name).encode()[-80:].decode(errors="ignore")
    plain = plain.strip(". ") or "file"
    return f"{plain}.file" if plain in (*DATASETS, "synthetic") else plain


def read_ml_1m(path: str | Path) -> Ratings:
    """Read a MovieLens-1M `ratings.dat`. Raises UserError that names the file, the line and what
    is wrong with it."""
    dataset = DATASETS["ml-1m"]
    return read_ratings("ml-1m", [DelimitedFile(Path(path), dataset.layout)], dataset.scale)


def read_ratings(
    name: str,
    files: Sequence[RatingsFile],
    scale: tuple[float, float] | None = None,
    train_ratio: float | None = None,
) -> Ratings:
    """The ratings in `files`: a second one holds the test ratings, and with `train_ratio` they are
    those after that share of the ratings by time. The scale is that of the data if not given.

    Raises UserError for malformed files, a pair that stands twice, ratings that are all alike, and
    timestamps that are.
    """
    users, items = Ids(), Ids()
    parts = [read(file, users, items, scale, train_ratio is not None) for file in files]
    held_out = None
    if len(parts) > 1:
        held_out = np.repeat([False, True], [len(part.values) for part in parts])
    if train_ratio is not None:
        held_out = latest(files[0].path, parts[0].times, train_ratio)
    lowest, highest = (pick(part.scale[i] for part in parts) for i, pick in enumerate((min, max)))
    if scale is None and lowest == highest:
        raise UserError(
            f"{files[0].path}: every rating is {lowest:g}, which says no scale: give one with "
            "--rating_scale LOW HIGH"
        )
    (user_ids, user_ranks), (item_ids, item_ranks) = users.ranked(), items.ranked()
    ratings = Ratings(
        name,
        user_ranks[joined(parts, "users")],
        item_ranks[joined(parts, "items")],
        joined(parts, "values"),
        user_ids,
        item_ids,
        scale or (lowest, highest),
        held_out,
    )
    refuse_duplicates(files, len(parts[0].values), ratings)
    return ratings


def joined(parts: Sequence[Columns], column: str) -> np.ndarray:
    arrays = [getattr(part, column) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def latest(path: Path, times: np.ndarray, train_ratio: float) -> np.ndarray:
    """Which ratings come after the first `train_ratio` of them by time, those of one time in the
    order of the file: bool [ratings]. Raises UserError if all timestamps are alike."""
    if times.min() == times.max():
        raise UserError(
            f"{path}: all timestamps are alike, so --split time cannot part them: split at random"
        )
    held_out = np.zeros(len(times), bool)
    held_out[np.argsort(times, kind="stable")[round(len(times) * train_ratio) :]] = True
    return held_out


def refuse_duplicates(files: Sequence[RatingsFile], num_first: int, ratings: Ratings) -> None:
    """Raise UserError if a (user, item) pair stands twice in `files`, of which the first has
    `num_first` ratings."""
    pairs = ratings.users.astype(np.int64) * ratings.num_items + ratings.items
    pairs.sort()
    if not np.any(pairs[1:] == pairs[:-1]):
        return
    pairs = ratings.users.astype(np.int64) * ratings.num_items + ratings.items
    second = int(pd.Series(pairs).duplicated().argmax())
    first = int((pairs == pairs[second]).argmax())
    user = ratings.user_ids[ratings.users[second]]
    item = ratings.item_ids[ratings.items[second]]
    if first < num_first <= second:
        raise UserError(
            f"{files[1].locate(second - num_first)}: user {user} rates item {item}, as in "
            f"{files[0].locate(first)}: a rating is for training or for testing, so remove one"
        )
    file, before = (files[0], 0) if second < num_first else (files[1], num_first)
    there, here = file.locate(first - before), file.locate(second - before)
    path, _, line = there.rpartition(", ")
    there = line if here.startswith(f"{path}, ") else there
    raise UserError(
        f"{here}: user {user} rates item {item} again (first on {there}): remove one of the two "
        "lines"
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
