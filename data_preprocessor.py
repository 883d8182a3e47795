"""Files to ratings, ratings to a split, and a split to sparse rating matrices.

    ratings = load_ratings(Config(dataset="ml-1m"))              # triples, ids kept beside them
    split = split_ratings(ratings, 0.9, seed=1994)               # train and test, item rows
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is what the file says; an *index* is 0..n-1. Nothing here holds users x items numbers:
memory grows with the ratings.
"""

import itertools
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.config import MOST_VALUES, Config, model_configs, resolved_member_settings
from autorec_tf.data.blocks import ALL, Columns, Ids, Rules
from autorec_tf.data.datasets import DATASETS, Dataset, fetch
from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.formats import open_file, read
from autorec_tf.data.netflix import NetflixFile
from autorec_tf.data.ratings import RatingMatrix, Ratings, Split, index_ratings, rounded
from autorec_tf.data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS, synthetic_ratings
from autorec_tf.presets import WITHOUT_VALUES
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.files import from_utf8
from autorec_tf.system.random_streams import random_stream


def split_ratings(
    ratings: Ratings,
    train_ratio: float,
    seed: int,
    orientation: str = "item",
    validation_ratio: float = 0.0,
    fold: tuple[int, int] | None = None,
) -> Split:
    """Put round(train_ratio x ratings) random ratings in train and the others in test; where
    `ratings` say which are held out, these are the test ratings instead, and with `fold`, (i, k),
    the i-th of the k parts that the ratings in random order are cut into: together, the k folds of
    a seed test every rating once.

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
    elif fold:
        start, stop = (len(order) * number // fold[1] for number in (fold[0] - 1, fold[0]))
        order = np.roll(order, -stop)
        num_train = len(order) - (stop - start)
    num_validation = round(num_train * validation_ratio)
    if not 0 < num_train < len(ratings):
        flag = f"--num_folds {fold[1]}" if fold else f"--train_ratio {train_ratio}"
        raise UserError(
            f"{flag} of {len(ratings)} ratings leaves one side of the split empty: choose another "
            f"{'number' if fold else 'ratio'}"
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


def split_of(
    config: Config, ratings: Ratings, validation_ratio: float | None = None
) -> Split:
    """Return the split of `ratings` that is `config`'s, with its `validation_ratio` or another."""
    ratio = config.validation_ratio if validation_ratio is None else validation_ratio
    fold = (config.fold, config.num_folds) if config.fold and config.num_folds else None
    return split_ratings(
        ratings, config.train_ratio, config.seed_of_split, config.orientation, ratio, fold
    )


def load_ratings(config: Config, log: Callable[[str], None] = print) -> Ratings:
    """The ratings that `config` names, and which of them are test ratings if that is not random; of
    several published folds those of the first, if the others are there.

    A published dataset is read from `config.ratings_folder()`, and downloaded into it if it is not
    there. Without a name, a file and a network, the synthetic stand-in takes the place of ml-1m,
    and `log` is told so; with a name that is an error. `log` is also told what was found in a file
    that is none of the published ones. Raises UserError for data that is missing or malformed, or
    less than the folds that it is to be cut into.
    """
    ratings = read_or_make_up(config, log)
    if (config.num_folds or 0) > len(ratings):
        raise UserError(
            f"--num_folds {config.num_folds}: there are {len(ratings)} ratings, so choose at most "
            "as many folds"
        )
    return ratings


def read_or_make_up(config: Config, log: Callable[[str], None]) -> Ratings:
    """What `load_ratings` returns, however few they are."""
    name = config.dataset or "ml-1m"
    if config.columns and not config.test_file and name in (*DATASETS, "synthetic"):
        raise UserError(
            f"--columns {config.columns} is for a file of your own: the columns of {name} are known"
        )
    if config.folds:
        files = fold_files(config, log)
    elif name in DATASETS:
        files = published_file(config, DATASETS[name], log)
    else:
        files = [] if name == "synthetic" else [given_file(config, "dataset", log)]
    if not files:
        return replace(synthetic(config), mapped=config.map_scale)
    if config.test_file:
        files.append(given_file(config, "test_file", log))
    own = {} if config.folds else {
        flag: file.path for flag, file in zip(("dataset", "test_file"), files, strict=False)
    }
    if name in DATASETS:
        own.pop("dataset", None)
    ratings = read_files(name if name in DATASETS else plain_name(name), files, config, log)
    return replace(ratings, files=own)


def read_files(
    name: str, files: Sequence[RatingsFile], config: Config, log: Callable[[str], None] = print
) -> Ratings:
    """The ratings in `files`, which are the dataset `name`, read as `config` says; all of them but
    a `test_file` are published, if that is a published dataset's name. For the rest see
    `read_ratings`."""
    given, duplicates = config.rating_scale, [config.duplicates] * len(files)
    scale = (given[0], given[1]) if given else None
    if name in DATASETS:
        scale = scale or DATASETS[name].scale
        duplicates = [""] * len(files)
        if config.test_file:
            duplicates[-1] = config.duplicates
    rules = Rules(scale, config.split == "time", config.no_rating)
    ratio = config.train_ratio if rules.with_times else None
    ratings = read_ratings(name, files, rules, ratio, duplicates, log)
    return replace(ratings, mapped=config.map_scale)


def load_again(
    config: Config, record: Mapping[str, Any], log: Callable[[str], None] = print
) -> Ratings:
    """The ratings of a run whose config.json holds `record`. `config` are its settings; where its
    --dataset and --test_file are others than in the record, they say where the files lie now.

    The files are found by their names, and if these do not tell them apart, by the fingerprint.
    Where no ratings have it, those of the likeliest files are returned. Raises UserError for files
    that are not there, or malformed.
    """
    if config.folds:
        return load_ratings(config, log)
    flags = [
        flag for flag in ("dataset", "test_file") if (name := getattr(config, flag))
        and (name != record.get(flag) or not has_a_name(name))
    ]
    first: Ratings | UserError | None = None
    for paths in itertools.product(*(candidates(config, record, flag) for flag in flags)):
        lines: list[str] = []
        places: dict[str, Any] = dict(zip(flags, paths, strict=True))
        try:
            ratings = load_ratings(replace(config, **places), lines.append)
        except UserError as error:
            first = first or error
            continue
        ratings = replace(ratings, name=record.get("dataset") or ratings.name)
        if ratings.fingerprint == record.get("fingerprint"):
            for line in lines:
                log(line)
            return ratings
        first = first if isinstance(first, Ratings) else ratings
    assert first is not None
    if isinstance(first, UserError):
        raise first
    return first


def ratings_of_run(
    path: Path, config: Config, record: Mapping[str, Any], dataset: str | None = None,
    test_file: str | None = None,
) -> Ratings:
    """The ratings that the run in the folder `path` was trained on, from the files `dataset` and
    `test_file` if they are given. `record` is its config.json, `config` the settings in that.
    Raises UserError if there are no such ratings."""
    if test_file and not config.test_file:
        raise UserError(f"--test_file {test_file}: {path} had none")
    now = replace(
        config, dataset=dataset or config.dataset, test_file=test_file or config.test_file
    )
    ratings = load_again(now, record, lambda _: None)
    if ratings.fingerprint != record.get("fingerprint"):
        where = " and ".join(map(str, ratings.files.values())) or config.ratings_folder()
        raise UserError(
            f"the ratings in {where} are not those that {path} was trained on (their fingerprints "
            "differ): name the folder of those with --data_dir, or their file with --dataset"
        )
    return ratings


def candidates(config: Config, record: Mapping[str, Any], flag: str) -> list[str]:
    """Where the file may lie that a run was given by `flag`, likeliest first: where `config` says;
    else in --data_dir and here, by its name or one like it; else any file in --data_dir. Raises
    UserError if there is none."""
    plain = getattr(config, flag)
    if plain != record.get(flag):
        return [plain]
    folders = list(dict.fromkeys((config.data_dir or ".", ".")))
    names = record.get("files")
    name = names.get(flag, plain) if isinstance(names, dict) else plain
    try:
        name = from_utf8(name)
    except (AttributeError, UnicodeError):  # it was changed
        name = plain
    found = [path for folder in folders if os.path.isfile(path := os.path.join(folder, name))]
    every = [path for folder in folders for path in files_in(folder)]
    found += [path for path in every if plain_name(path) == plain and path not in found]
    if config.data_dir and not found:
        found = files_in(config.data_dir)
    if not found:
        raise UserError(
            f"{name}, of which the run is, is not in {' or '.join(folders)}: name its folder with "
            f"--data_dir, or the file with --{flag}"
        )
    return found


def files_in(folder: str) -> list[str]:
    """The files in a folder, if it is one; a path here is none that could be a dataset's name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(os.path.join(folder, each.name) for each in entries if each.is_file())
    except OSError:
        return []


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
) -> list[RatingsFile]:
    """The file of the ratings of `dataset`, fetched if need be; none if that fails and no name was
    given."""
    folder = Path(config.ratings_folder())
    if dataset.layout is None:
        return [netflix_file(folder)]
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
            return []
    return [RatingsFile(dataset.layout, path)]


def fold_files(config: Config, log: Callable[[str], None]) -> list[RatingsFile]:
    """The training and test file of the first of `config.folds`, those of a published dataset
    fetched if need be. Raises UserError if one of any of them is not there."""
    folder, dataset = Path(config.ratings_folder()), DATASETS.get(config.dataset or "")
    layout = dataset and dataset.layout
    if has_a_name(config.dataset or "") and not layout:
        raise UserError(f"--folds {' '.join(config.folds)}: {config.dataset} has no folds")
    missing, reason = missing_file(folder, config.folds), ""
    if missing and dataset and missing.name in dataset.files:
        try:
            fetch(dataset, folder)
        except OSError as error:
            reason = f" and {dataset.url} cannot be fetched ({error})"
        missing = missing_file(folder, config.folds)
    if missing:
        raise UserError(
            f"--folds {' '.join(config.folds)}: {missing} is not there{reason}: put it there, or "
            "name the folder of the folds' files with --data_dir"
        )
    paths = fold_paths(folder, config.folds[0])
    if layout:
        return [RatingsFile(layout, path) for path in paths]
    columns = config.columns, config.test_columns or config.columns
    files = [open_file(p, c, config.read_csv) for p, c in zip(paths, columns, strict=True)]
    for file in files:
        log(printable(f"Data file {file}"))
    return files


def fold_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """The training and the test file of a fold, there or not."""
    other = folder / f"{name}.train"
    return other if other.is_file() else folder / f"{name}.base", folder / f"{name}.test"


def missing_file(folder: Path, folds: Sequence[str]) -> Path | None:
    """The first file of `folds` that is not there."""
    paths = (path for name in folds for path in fold_paths(folder, name))
    return next((path for path in paths if not path.is_file()), None)


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
    """The file that the user names with `flag`, also one in `--data_dir`; what it is found to be is
    told."""
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


def resolve(config: Config, ratings: Ratings) -> Config:
    """Return `config` with what it left open filled in, so that the record says what was done.
    Raise UserError if one-hot inputs are asked for, and there are too many values; a member that
    has them gives way to the same without."""
    if config.input_encoding == "auto":
        few = count_values(ratings) <= MOST_VALUES
        config = replace(
            config, input_encoding="one_hot" if few else "rating",
            lambda_one_hot=config.lambda_one_hot if few else None,
        )
    if set(config.members) & set(WITHOUT_VALUES) and count_values(ratings) > MOST_VALUES:
        config = replace(config, members=tuple(WITHOUT_VALUES.get(x, x) for x in config.members))
    test_file = config.test_file and plain_name(config.test_file)  # paths tell of a machine
    cold_rating = config.cold_rating or ("paper" if has_a_name(ratings.name) else "mean")
    data_dir = config.ratings_folder() if config.folds else config.data_dir  # each is read later
    config = replace(
        config, dataset=ratings.name, data_dir=data_dir, split_seed=config.seed_of_split,
        test_file=test_file, rating_scale=ratings.scale, cold_rating=cold_rating,
        lambda_factor=config.lambda_factor or lambda_factor(ratings, config),
    )
    if not config.resume:  # a run that is resumed keeps those of its record
        config = replace(config, member_settings=resolved_member_settings(config))
    if any(each.input_encoding == "one_hot" for each in model_configs(config)):
        refuse_many_values(ratings, config)
    return config


def count_values(ratings: Ratings) -> int:
    """Return how many different values ratings have that may be trained on."""
    values = ratings.values if ratings.held_out is None else ratings.values[~ratings.held_out]
    return len(pd.unique(ratings.unit.to_model(values)))


def refuse_many_values(ratings: Ratings, config: Config) -> None:
    """Raise UserError if training ratings have more values than one-hot inputs take."""
    count = count_values(ratings)
    if count > MOST_VALUES:
        remedy = "choose other --members" if config.members else "use --input_encoding rating"
        raise UserError(
            f"--input_encoding one_hot: the ratings have {count:,} different values, and at most "
            f"{MOST_VALUES} can have input vectors of their own: {remedy}"
        )


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
            stand = "rating stands" if alike.sum() == 1 else "ratings stand"
            log(f"{told}{alike.sum():,} {stand} twice, alike in all that is read: read once")
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


def ids_like(
    file: RatingsFile, part: Columns, ids: tuple[Ids, Ids], known: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the users and the items of a file's ratings as ids of the kind of those `known`. Raise
    UserError for text where ids are whole numbers."""
    columns = []
    for codes, own, like in zip((part.users, part.items), ids, known, strict=True):
        texts = np.array(list(own.codes), object)
        wrong = np.array([type(one) is not int for one in texts])[codes]
        if like.dtype.kind not in "iu":
            columns.append(np.array([str(one) for one in texts], object)[codes])
        elif wrong.any():
            index = int(wrong.argmax())
            raise UserError(f"{file.locate(part.row(index))}: ids are whole numbers here, and not "
                            f"{texts[codes[index]][:80]!r}")
        else:
            columns.append(texts.astype(np.int64)[codes])
    return columns[0], columns[1]


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
