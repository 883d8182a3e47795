"""Files to ratings, ratings to a split, and a split to sparse rating matrices.

    ratings = load_ratings(Config(dataset="ml-1m"))              # triples, ids kept beside them
    split = split_ratings(ratings, 0.9, seed=1994)               # train and test, item rows
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is what the file says; an *index* is 0..n-1. Nothing here holds users x items numbers:
memory grows with the ratings.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from config import Config
from data.blocks import ALL, Columns, Ids, Rules
from data.datasets import DATASETS, Dataset, fetch
from data.delimited import RatingsFile
from data.formats import open_file, read
from data.netflix import NetflixFile
from data.ratings import RatingMatrix, Ratings, Split, index_ratings, rounded
from data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS, synthetic_ratings
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
        values = ratings.unit.to_model(ratings.values[part])
        return RatingMatrix.from_triples(rows[part], columns[part], values, shape)

    held = matrix(validation) if num_validation else None
    return Split(matrix(train), matrix(test), held, orientation, ratings.unit)


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
        return replace(synthetic(config), mapped=config.map_scale)
    files = [file]
    if config.test_file:
        files.append(given_file(config, "test_file", log))
    duplicates = [config.duplicates] * len(files)
    if name in DATASETS:
        duplicates[0] = ""
    else:
        name = plain_name(name)
    rules = Rules(scale, config.split == "time", config.no_rating)
    ratio = config.train_ratio if rules.with_times else None
    ratings = read_ratings(name, files, rules, ratio, duplicates, log)
    return replace(ratings, mapped=config.map_scale)


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
    return RatingsFile(dataset.layout, path)


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
    columns = config.test_columns if flag == "test_file" else None
    file = open_file(path, columns or config.columns, config.read_csv)
    log(printable(f"Data file {file}"))
    return file


def has_a_name(dataset: str) -> bool:
    """Return whether the dataset is one with a name, and not a file of the user's."""
    return dataset in (*DATASETS, "synthetic")


def lambda_factor(ratings: Ratings, config: Config) -> float:
    """Return how many ratings a column has in a mini-batch on average, over those that it has on
    MovieLens-1M; good plain lambdas grow with it. 1 on that."""
    counts = len(ratings), ratings.num_users, ratings.num_items
    return ratings_of_a_column(*counts, config) / ratings_of_a_column(
        sum(ML_1M_COUNTS), ML_1M_USERS, ML_1M_ITEMS, config
    )


def ratings_of_a_column(
    num_ratings: int, num_users: int, num_items: int, config: Config
) -> float:
    rows = num_items if config.orientation == "item" else num_users
    return num_ratings * min(config.batch_size, rows) / (num_users * num_items)


def plain_name(name: str) -> str:
    """A file's name as that of a dataset, which folders are named after."""
    plain = re.sub(r"[^\w .,+@()-]", "_", Path(name).name).encode()[-80:].decode(errors="ignore")
    plain = plain.strip(". ") or "file"
    return f"{plain}.file" if has_a_name(plain) else plain


def read_ml_1m(path: str | Path) -> Ratings:
    """Read a MovieLens-1M `ratings.dat`. Raises UserError that names the file, the line and what
    is wrong with it."""
    dataset = DATASETS["ml-1m"]
    assert dataset.layout
    return read_ratings("ml-1m", [RatingsFile(dataset.layout, Path(path))], Rules(dataset.scale))


def read_ratings(
    name: str, files: Sequence[RatingsFile], rules: Rules = ALL, train_ratio: float | None = None,
    duplicates: Sequence[str] = ("",), log: Callable[[str], None] = print,
) -> Ratings:
    """The ratings in `files`: a second one holds the test ratings, and with `train_ratio` they are
    those after that share of the ratings by time. The scale is that of the data if `rules` give
    none. `duplicates`: what each file's pairs that stand twice mean; "" is "refuse", and refuses
    lines that are alike, too. `log` is told what was left out.

    Raises UserError for malformed files, a pair that stands twice, ratings that are all alike, and
    timestamps that are.
    """
    users, items = Ids(), Ids()
    parts = [
        single(file, read(file, users, items, rules), users, items, mode, log)
        for file, mode in zip(files, duplicates, strict=True)
    ]
    held_out = None
    if len(parts) > 1:
        held_out = np.repeat([False, True], [len(part.values) for part in parts])
        refuse_both(files, parts, users, items)
    if train_ratio is not None:
        assert parts[0].times is not None
        held_out = latest(files[0].path, parts[0].times, train_ratio)
    lowest, highest = (pick(part.scale[i] for part in parts) for i, pick in enumerate((min, max)))
    if rules.scale is None and lowest == highest:
        raise UserError(
            f"{files[0].path}: every rating is {lowest:g}, which says no scale: give one with "
            "--rating_scale LOW HIGH"
        )
    (user_ids, user_ranks), (item_ids, item_ranks) = users.ranked(), items.ranked()
    scale = rules.scale or (lowest, highest)
    return Ratings(
        name, user_ranks[joined(parts, "users")], item_ranks[joined(parts, "items")],
        rounded(joined(parts, "values"), scale), user_ids, item_ids, scale, held_out,
    )


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


def pairs_of(part: Columns, num_items: int) -> np.ndarray:
    """A number for each (user, item) pair, int64 [ratings]."""
    return part.users.astype(np.int64) * num_items + part.items


def single(
    file: RatingsFile, part: Columns, users: Ids, items: Ids, duplicates: str,
    log: Callable[[str], None],
) -> Columns:
    """The ratings of a file with every pair once, in its order; `log` is told what is left out.
    Raises UserError for pairs that stand twice, if `duplicates` does not say which counts."""
    told, num_items = printable(f"Data file {file.path.name}: "), len(items.codes)
    if len(part.left_out):
        total = len(part.left_out) + len(part.values)
        log(f"{told}{len(part.left_out):,} of {total:,} ratings left out, by --no_rating")
    pairs = pairs_of(part, num_items)
    pairs.sort()
    if not np.any(pairs[1:] == pairs[:-1]):
        return part
    times = np.zeros(len(pairs)) if part.times is None else part.times
    table = pd.DataFrame({"pair": pairs_of(part, num_items), "value": part.values, "time": times})
    if duplicates:
        alike = table.duplicated()
        table = table[~alike]
        if alike.any():
            log(f"{told}{alike.sum():,} ratings stand twice, alike in all that is read: read once")
    again = table.duplicated("pair")
    if again.any() and duplicates in ("", "refuse"):
        refuse_pair(file, part, table["pair"], (users, items), bool(duplicates))
    if again.any():
        log(f"{told}{again.sum():,} ratings of a pair that has one: --duplicates {duplicates}")
    if duplicates == "mean":
        means = table["value"].astype(float).groupby(table["pair"]).transform("mean")
        table = table.assign(value=means)
    table = table[~table.duplicated("pair", keep="last" if duplicates == "last" else "first")]
    kept, values = table.index.to_numpy(), table["value"].to_numpy()
    kept_times = None if part.times is None else part.times[kept]
    return replace(
        part, users=part.users[kept], items=part.items[kept], values=values, times=kept_times
    )


def refuse_pair(
    file: RatingsFile, part: Columns, pairs: pd.Series, ids: tuple[Ids, Ids], flag: bool
) -> None:
    """Raise UserError that names the first of `pairs` that stands twice, and how many do; and with
    `flag`, what decides."""
    again = pairs.duplicated()
    second = int(again.idxmax())
    first = int((pairs == pairs[second]).idxmax())
    there, here = file.locate(part.row(first)), file.locate(part.row(second))
    path, _, line = there.rpartition(", ")
    there = line if here.startswith(f"{path}, ") else there
    number, remedy = pairs[again].nunique(), "remove one of the two lines"
    if flag:
        remedy += ", or choose which counts with --duplicates first, last or mean"
    total = f"; {number:,} pairs stand more than once" if number > 1 else ""
    raise UserError(
        f"{here}: {rates(part, second, ids)} again (first on {there}{total}): {remedy}"
    )


def rates(part: Columns, index: int, ids: tuple[Ids, Ids]) -> str:
    user, item = list(ids[0].codes)[part.users[index]], list(ids[1].codes)[part.items[index]]
    return f"user {user} rates item {item}"


def refuse_both(
    files: Sequence[RatingsFile], parts: Sequence[Columns], users: Ids, items: Ids
) -> None:
    """Raise UserError if a pair stands in both files."""
    first, second = (pairs_of(part, len(items.codes)) for part in parts)
    both = np.isin(second, first)
    if both.any():
        index = int(both.argmax())
        here = files[1].locate(parts[1].row(index))
        there = files[0].locate(parts[0].row(int((first == second[index]).argmax())))
        total = f"; {both.sum():,} pairs stand in both" if both.sum() > 1 else ""
        raise UserError(
            f"{here}: {rates(parts[1], index, (users, items))}, as in {there}{total}: a rating is "
            "for training or for testing, so remove one"
        )
