"""Files to ratings, ratings to a split, and a split to sparse rating matrices.

    ratings = load_ratings(Config(dataset="ml-1m"))              # triples, ids kept beside them
    split = split_ratings(ratings, 0.9, seed=1994)               # train and test, item rows
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is what the file says; an *index* is 0..n-1. Nothing here holds users x items numbers:
memory grows with the ratings.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from config import Config
from data.blocks import Columns, Ids, RatingsFile, read
from data.datasets import DATASETS, Dataset, fetch
from data.delimited import DelimitedFile
from data.formats import open_file
from data.netflix import NetflixFile
from data.ratings import RatingMatrix, Ratings, Split, index_ratings
from data.synthetic import synthetic_ratings
from system.errors import UserError, printable
from system.random_streams import random_stream


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

    held = matrix(validation) if num_validation else None
    return Split(matrix(train), matrix(test), held, orientation)


def load_ratings(config: Config, log: Callable[[str], None] = print) -> Ratings:
    """The ratings that `config` names, and which of them are test ratings if that is not random.

    A published dataset is read from `config.ratings_folder()`, and downloaded into it if it is not
    there. Without a name, a file and a network, the synthetic stand-in takes the place of ml-1m,
    and `log` is told so; with a name that is an error. `log` is also told what was found in a file
    that is none of the published ones. Raises UserError for data that is missing or malformed.
    """
    name, given = config.dataset or "ml-1m", config.rating_scale
    scale = (given[0], given[1]) if given else None
    if config.columns and not config.test_file and name in (*DATASETS, "synthetic"):
        raise UserError(
            f"--columns {config.columns} is for a file of your own: the columns of {name} are known"
        )
    if name in DATASETS:
        scale = scale or DATASETS[name].scale
        file = published_file(config, DATASETS[name], log)
    else:
        file = None if name == "synthetic" else given_file(config, "dataset", log)
    if file is None:
        return synthetic(config)
    files = [file]
    if config.test_file:
        files.append(given_file(config, "test_file", log))
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
    config: Config, dataset: Dataset, log: Callable[[str], None]
) -> RatingsFile | None:
    """The ratings of `dataset`, fetched if need be; None if that fails and no name was given."""
    folder = Path(config.ratings_folder())
    if dataset.layout is None:
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
            log(
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


def given_file(config: Config, flag: str, log: Callable[[str], None]) -> RatingsFile:
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
    log(printable(f"Data file {file}"))
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
    assert dataset.layout
    return read_ratings("ml-1m", [DelimitedFile(Path(path), dataset.layout)], dataset.scale)


def read_ratings(
    name: str, files: Sequence[RatingsFile], scale: tuple[float, float] | None = None,
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
        assert parts[0].times is not None
        held_out = latest(files[0].path, parts[0].times, train_ratio)
    lowest, highest = (pick(part.scale[i] for part in parts) for i, pick in enumerate((min, max)))
    if scale is None and lowest == highest:
        raise UserError(
            f"{files[0].path}: every rating is {lowest:g}, which says no scale: give one with "
            "--rating_scale LOW HIGH"
        )
    (user_ids, user_ranks), (item_ids, item_ranks) = users.ranked(), items.ranked()
    ratings = Ratings(
        name, user_ranks[joined(parts, "users")], item_ranks[joined(parts, "items")],
        joined(parts, "values"), user_ids, item_ids, scale or (lowest, highest), held_out,
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
