"""Load ratings, and split them into sparse rating matrices for training, validation and test.

    ratings = load_ratings(Config(dataset="ml-1m"))              # triples of user, item, rating
    split = split_ratings(ratings, 0.9, seed=1994)               # rows are items
    split.train.indptr, split.train.indices, split.train.values  # CSR

An *id* is the name in the file; an *index* is 0..n-1. No array has users x items entries: memory
grows with the number of ratings.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.config import MOST_VALUES, Config
from autorec_tf.data import sources
from autorec_tf.data.datasets import DATASETS
from autorec_tf.data.delimited import RatingsFile, Rules
from autorec_tf.data.merge import read_ratings
from autorec_tf.data.ratings import RatingMatrix, Ratings, Split, index_ratings
from autorec_tf.data.sources import has_a_name, plain_name
from autorec_tf.data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS, synthetic_ratings
from autorec_tf.presets import CONVERGENCE, PRESETS, WITHOUT_VALUES
from autorec_tf.resolution import adapt_single, model_configs, preset_lambdas
from autorec_tf.system.errors import Log, UserError
from autorec_tf.system.random_streams import random_stream

VALIDATION_RATIO = 0.1  # fraction of the training ratings that choose settings or weights
SAME_SIZE = 0.2  # largest relative difference between data for which the same settings are good
# For `single`: hidden units per training rating of a user or item. The ratio of parameters to
# ratings is then that of MovieLens-1M with 500 units.
UNITS_PER_RATING = 5.4
# Users and items, times hidden units, above which a model of L-BFGS is large and fewer pairs are
# kept: five times the number of MovieLens-1M. There, 200 epochs with 3 pairs are as good as 170
# with 6.
LARGE_MODEL, FEW_PAIRS = 25_000_000, 3


def split_ratings(ratings: Ratings, train_ratio: float, seed: int, orientation: str = "item",
                  validation_ratio: float = 0.0, fold: tuple[int, int] | None = None) -> Split:
    """Split ratings at random into training, test and perhaps validation ratings.

    Args:
        ratings: the ratings. If they have `held_out`, those are the test ratings.
        train_ratio: round(train_ratio x ratings) are for training, unless `held_out` or `fold`.
        seed: the split depends only on the seed and the ratios.
        orientation: "item" if rows are items and columns users, "user" for the reverse.
        validation_ratio: the fraction of the training ratings that is used for validation.
        fold: (i, k) to use the i-th of k parts of the ratings in random order for test: each rating
            is a test rating in one of the k folds of a seed.

    Raises:
        UserError: if a side of the split is empty.
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
        raise UserError(f"{flag} leaves one side of the split of {len(ratings)} ratings empty. "
                        f"Choose another {'number' if fold else 'ratio'}.")
    if validation_ratio and not 0 < num_validation < num_train:
        raise UserError(f"--validation_ratio {validation_ratio} leaves one side of the split of "
                        f"{num_train} training ratings empty. Choose another ratio.")
    train, validation, test = np.split(order, [num_train - num_validation, num_train])
    axes = (ratings.items, ratings.users), (ratings.num_items, ratings.num_users)
    (rows, columns), shape = axes if orientation == "item" else (axes[0][::-1], axes[1][::-1])

    def matrix(part: np.ndarray) -> RatingMatrix:
        values = ratings.unit.to_model(ratings.values[part])
        return RatingMatrix.from_triples(rows[part], columns[part], values, shape)

    held_out_of_train = matrix(validation) if num_validation else None
    return Split(matrix(train), matrix(test), held_out_of_train, orientation, ratings.unit)


def split_of(config: Config, ratings: Ratings, validation_ratio: float | None = None) -> Split:
    """Return the split of `ratings` by `config`, or with another `validation_ratio`."""
    ratio = config.validation_ratio if validation_ratio is None else validation_ratio
    fold = (config.fold, config.num_folds) if config.fold and config.num_folds else None
    return split_ratings(ratings, config.train_ratio, config.seed_of_split, config.orientation,
                         ratio, fold)


def validation_split(config: Config, ratings: Ratings) -> Split:
    """Return a split of the training ratings of `config`'s split; its test ratings are a tenth."""
    split = split_of(config, ratings, VALIDATION_RATIO)
    assert split.validation
    return replace(split, test=split.validation, validation=None)


def load_ratings(config: Config, log: Log = print) -> Ratings:
    """Return the ratings that `config` names, with the test ratings marked unless they are drawn at
    random. With several published folds, return the first.

    A published dataset is read from `config.ratings_folder()`, and downloaded into it if necessary.
    If no dataset is named, and ml-1m is neither on disk nor can be downloaded, the ratings are
    synthetic.

    Args:
        config: the settings.
        log: called with lines about the user's files, and warnings about repeated ratings and
            missing data.

    Raises:
        UserError: if the data is missing or malformed, or has fewer ratings than folds.
    """
    ratings = read_or_make_up(config, log)
    if (config.num_folds or 0) > len(ratings):
        raise UserError(f"--num_folds {config.num_folds}: there are only {len(ratings)} ratings. "
                        f"Choose at most {len(ratings)} folds.")
    return ratings


def read_or_make_up(config: Config, log: Log) -> Ratings:
    name, folder = config.dataset or "ml-1m", Path(config.ratings_folder())
    columns, how = (config.columns, config.test_columns or config.columns), (config.read_csv, log)
    if config.columns and not config.test_file and has_a_name(name):
        raise UserError(f"--columns {config.columns}: the columns of {name} are known. Leave out "
                        "--columns, or name your file with --dataset.")
    if config.folds:
        files = sources.fold_files(name, folder, config.folds, columns, *how)
    elif name in DATASETS:
        files = sources.published_file(DATASETS[name], folder, config.dataset is not None, log)
    elif name == "synthetic":
        files = []
    else:
        files = [sources.given_file("dataset", name, config.data_dir, columns[0], *how)]
    if not files:
        return replace(synthetic(config), mapped=config.map_scale)
    if config.test_file:
        test_file = config.test_file
        files.append(sources.given_file("test_file", test_file, config.data_dir, columns[1], *how))
    flags = () if config.folds else ("dataset", "test_file")
    path_by_flag = {flag: file.path for flag, file in zip(flags, files, strict=False)
                    if flag != "dataset" or name not in DATASETS}
    ratings = read_files(name if name in DATASETS else plain_name(name), files, config, log)
    return replace(ratings, files=path_by_flag)


def read_files(name: str, files: Sequence[RatingsFile], config: Config,
               log: Log = print) -> Ratings:
    """Return the ratings of the dataset `name` in `files`, with the settings in `config`. The files
    of a published dataset are published, except a `test_file`. For `log` see `read_ratings`."""
    duplicates = [config.duplicates] * len(files)
    scale = (config.rating_scale[0], config.rating_scale[1]) if config.rating_scale else None
    if name in DATASETS:
        scale = scale or DATASETS[name].scale
        duplicates = ["", config.duplicates if config.test_file else ""][: len(files)]
    rules = Rules(scale, config.split == "time", config.no_rating, config.no_id,
                  config.timestamp_format)
    ratio = config.train_ratio if rules.with_times else None
    ratings = read_ratings(name, files, rules, ratio, duplicates, log, config.in_both)
    times = ratings.times if config.start_from else None  # needed to divide the new ratings
    return replace(ratings, mapped=config.map_scale, times=times)


def synthetic(config: Config) -> Ratings:
    """Return synthetic ratings. Raise UserError for settings that need a rating file."""
    scale = DATASETS["ml-1m"].scale
    other_scale = config.rating_scale not in ((), scale)
    if config.test_file or config.split == "time" or other_scale:
        raise UserError("synthetic ratings have no timestamps, no test file and no other scale. "
                        "Leave out --split, --test_file and --rating_scale, or name another "
                        "--dataset.")
    return index_ratings("synthetic", *synthetic_ratings(config.random_seed), scale)


def resolve(config: Config, ratings: Ratings) -> Config:
    """Return `config` with the settings that depend on the ratings filled in, for the run's record.
    If the ratings have too many values, a member with one-hot inputs becomes the same member
    without. Raise UserError if one-hot inputs are requested for too many values."""
    if config.input_encoding == "auto":
        is_few = count_values(ratings) <= MOST_VALUES
        config = replace(config, input_encoding="one_hot" if is_few else "rating",
                         lambda_one_hot=config.lambda_one_hot if is_few else None)
    if set(config.members) & set(WITHOUT_VALUES) and count_values(ratings) > MOST_VALUES:
        config = replace(config, members=tuple(WITHOUT_VALUES.get(x, x) for x in config.members))
    test_file = config.test_file and plain_name(config.test_file)  # without its folders
    cold_rating = config.cold_rating or ("paper" if has_a_name(ratings.name) else "mean")
    data_dir = config.ratings_folder() if config.folds else config.data_dir  # for later folds
    start = config.start_from and plain_name(Path(config.start_from).resolve().name)
    config = replace(config, dataset=ratings.name, data_dir=data_dir, start_from=start,
                     split_seed=config.seed_of_split, test_file=test_file,
                     rating_scale=ratings.scale, cold_rating=cold_rating,
                     lambda_factor=config.lambda_factor or lambda_factor(ratings, config))
    if not (config.resume or config.start_from):  # these keep the recorded ones
        config = replace(config, **preset_lambdas(config), **settings_of_fast(ratings, config))
        config = adapt_single(config, full_batch_settings(ratings, config))
        config = replace(config, lbfgs_memory=pairs_of_lbfgs(ratings, config))
    one_hot = any(each.input_encoding == "one_hot" for each in model_configs(config))
    if one_hot and (count := count_values(ratings)) > MOST_VALUES:
        remedy = "Choose other --members." if config.members else "Use --input_encoding rating."
        raise UserError(f"--input_encoding one_hot: the ratings have {count:,} different values, "
                        f"and one-hot inputs support at most {MOST_VALUES} values. {remedy}")
    return config


def full_batch_settings(ratings: Ratings, config: Config) -> dict[str, Any]:
    """Return the settings that `single` needs on these ratings. They are empty if the numbers of
    users, items and training ratings are close to those of MovieLens-1M, for which the preset was
    made. Other ratings need another lambda and number of epochs and, if they are fewer, fewer
    hidden units."""
    if is_like_ml_1m(ratings, config):
        return {}
    counts = num_training_ratings(ratings, config), ratings.num_users, ratings.num_items
    most, units = Config().hidden_neuron[0], UNITS_PER_RATING * counts[0] / sum(counts[1:])
    hidden_neuron = (min(max(round(units), 1), most),)
    return {"tune": ("lambda_value",), "hidden_neuron": hidden_neuron, **CONVERGENCE}


def is_like_ml_1m(ratings: Ratings, config: Config) -> bool:
    """Return whether the numbers of users, items and training ratings are close to those of
    MovieLens-1M."""
    counts = num_training_ratings(ratings, config), ratings.num_users, ratings.num_items
    known = 0.9 * sum(ML_1M_COUNTS), ML_1M_USERS, ML_1M_ITEMS
    return all(abs(x / other - 1) < SAME_SIZE for x, other in zip(counts, known, strict=True))


def pairs_of_lbfgs(ratings: Ratings, config: Config) -> int:
    """Return the number of pairs that L-BFGS keeps: fewer for a large model, whose memory they
    would double."""
    return FEW_PAIRS if is_large(ratings, config) else config.lbfgs_memory


def is_large(ratings: Ratings, config: Config) -> bool:
    """Return whether L-BFGS trains a model so large that its memory matters more than time."""
    units = [each.hidden_neuron[0] for each in model_configs(config)
             if each.optimizer_method == "LBFGS"]
    return (ratings.num_users + ratings.num_items) * max(units, default=0) > LARGE_MODEL


def settings_of_fast(ratings: Ratings, config: Config) -> dict[str, Any]:
    """Return the settings that the preset `fast` needs on these ratings. If they have fewer rows
    than MovieLens-1M, the numbers of epochs are larger, which makes the number of steps about
    equal. On ratings that differ from MovieLens-1M, b starts at 0."""
    if config.preset != "fast":
        return {}
    given, start, epochs = set(config.given or ()), dict[str, Any](), dict[str, int]()
    if not is_like_ml_1m(ratings, config) and not {"initial_bias", "mean_in_weights"} & given:
        start = {"initial_bias": "zero", "mean_in_weights": 0.0}
    if "train_epoch" not in given:
        num_rows, known = ratings.num_users, ML_1M_USERS
        if config.orientation == "item":
            num_rows, known = ratings.num_items, ML_1M_ITEMS
        steps, steps_known = (-(-rows // config.batch_size) for rows in (num_rows, known))
        factor = max(1.0, steps_known / steps)
        epochs = {name: round(factor * PRESETS["fast"][name])
                  for name in ("train_epoch", "warmup_epoch", "display_step") if name not in given}
    return start | epochs


def num_training_ratings(ratings: Ratings, config: Config) -> float:
    """Return the number of training ratings, of the mean split or fold."""
    if ratings.held_out is not None:
        return len(ratings) - int(ratings.held_out.sum())
    ratio = 1 - 1 / config.num_folds if config.num_folds else config.train_ratio
    return len(ratings) * ratio


def count_values(ratings: Ratings) -> int:
    """Return the number of different values among the training ratings."""
    values = ratings.values if ratings.held_out is None else ratings.values[~ratings.held_out]
    return len(pd.unique(ratings.unit.to_model(values)))


def lambda_factor(ratings: Ratings, config: Config) -> float:
    """Return the mean number of ratings of a column in a mini-batch, relative to MovieLens-1M."""
    counts = len(ratings), ratings.num_users, ratings.num_items
    return ratings_of_a_column(*counts, config) / ratings_of_a_column(
        sum(ML_1M_COUNTS), ML_1M_USERS, ML_1M_ITEMS, config
    )


def ratings_of_a_column(num_ratings: int, num_users: int, num_items: int, config: Config) -> float:
    rows = num_items if config.orientation == "item" else num_users
    return num_ratings * min(config.batch_size, rows) / (num_users * num_items)


def read_ml_1m(path: str | Path) -> Ratings:
    """Return the ratings in a MovieLens-1M `ratings.dat`. Raise UserError if it is malformed."""
    dataset = DATASETS["ml-1m"]
    assert dataset.layout
    return read_ratings("ml-1m", [RatingsFile(dataset.layout, Path(path))], Rules(dataset.scale))
