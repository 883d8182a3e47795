"""Read rating files into one table, in which each pair of user and item has one rating.

    ratings = read_ratings("mine", [open_file(Path("ratings.csv"))])
    ratings.users, ratings.items, ratings.values
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.delimited import ALL, DAMAGED, RatingsFile, Rules, Scale, unreadable
from autorec_tf.data.ids import Ids
from autorec_tf.data.ratings import Ratings, rounded
from autorec_tf.system.errors import AutoRecWarning, Log, UserError, printable


def read(file: RatingsFile, users: Ids, items: Ids, rules: Rules = ALL,
         log: Log = lambda _: None) -> pd.DataFrame:
    """Return all ratings of `file` that `rules` allow, in file order: the codes of their ids, which
    are added to `users` and `items`, the value, and perhaps the time. Log what is left out. Raise
    UserError, with file and line, if it is malformed or empty."""
    if rules.with_times and len(file.layout.positions) < 4:
        raise UserError(f"{file.path}: --split time needs a column of timestamps. Name it as the "
                        "fourth of --columns, or use --split random.")
    file_ids, file.rules, file.counts = (Ids(), Ids()), rules, Counter()
    names = ("user", "item", "value", "time") if rules.with_times else ("user", "item", "value")
    columns: dict[str, list[np.ndarray]] = {name: [] for name in names}
    state = dict[str, Any]()
    try:
        for _, chunk, state in file.chunks():
            if not (block := file.parse(chunk, state)):
                continue
            for number, ids in enumerate(file_ids):
                codes, distinct = block[number]
                block[number] = ids.encode(distinct)[codes]
            for name, part in zip(names, block, strict=True):
                columns[name].append(part)
            short = block[2].astype(np.float32)  # if that rounds nothing
            columns["value"][-1] = short if np.array_equal(short, block[2]) else block[2]
    except (OSError, *DAMAGED) as error:
        raise unreadable(file.path, error) from error
    except ValueError as error:
        raise file.malformed(error) from error
    counts, num_rows = file.counts, file.counts["row"]
    if num_rows == counts["rating"] + counts["id"]:
        raise UserError(f"{file.path}: the data has no rows, or no ratings in them. Name another.")
    # One by one, which frees memory.
    table = pd.DataFrame({name: np.concatenate(columns.pop(name)) for name in names}, copy=False)
    if len(missing := np.flatnonzero(table["value"].isna())):
        raise UserError(f"{file.locate(missing[0])}: the rating is missing ({len(missing):,} of "
                        f"{num_rows:,} in total). Leave out missing ratings with --no_rating NaN.")
    formats = state.get("formats", [])
    if len(formats) > 1 and state["doubt"]:
        choices = " or ".join(map(repr, formats))
        raise UserError(f"{file.locate(0)}: the timestamp {state['first'][1][:30]!r} can be read "
                        f"in several ways. Choose one with --timestamp_format {choices}.")
    if formats and formats[0] != state["first"][0]:  # which only later dates decided
        return read(file, users, items, replace(rules, timestamp_format=formats[0]), log)
    for name, known, ids in zip(names, (users, items), file_ids, strict=False):
        table[name] = known.merge(ids, table[name].to_numpy(), counts["id"] > 0)
    if counts["comment"]:
        log(printable(f"Data file {file.path.name}: comment lines left out: {counts['comment']:,}"))
    for flag in ("rating", "id"):
        if counts[flag]:
            log(printable(f"Data file {file.path.name}: {counts[flag]:,} of {num_rows:,} ratings "
                          f"are left out by --no_{flag}"))
    if lost := file_ids[0].lost + file_ids[1].lost:
        log(AutoRecWarning(f"{file.path.name}: ids that may have lost digits, such as {lost[0]}: "
                           f"{len(lost):,}. Write ids as text or as whole numbers."))
    return table


def read_ratings(name: str, files: Sequence[RatingsFile], rules: Rules = ALL,
                 train_ratio: float | None = None, duplicates: Sequence[str] = ("",),
                 log: Log = print, in_both: str = "refuse") -> Ratings:
    """Return the ratings in one file, or in a file of training and a file of test ratings. Raise
    UserError if a file is malformed, a pair has two ratings, or all ratings or times are equal.

    Args:
        name: the name of the dataset.
        files: one or two rating files.
        rules: the values to read. Without a scale, the lowest and highest rating are the scale.
        train_ratio: if given, the ratings after this fraction of the ratings by time are for test.
        duplicates: per file, which rating of a pair with several is used: "first", "last", "mean",
            "refuse" to raise UserError, or "" to raise it even for equal lines.
        log: called with a line about ratings that are left out; repeated ones are a warning.
        in_both: the side of a pair that is in both files, "train" or "test", or "refuse".
    """
    ids, tables, scales = (Ids(), Ids()), list[pd.DataFrame](), list[Scale]()
    for file, mode in zip(files, duplicates, strict=True):
        table = read(file, *ids, rules, log)
        scales.append((float(table["value"].min()), float(table["value"].max())))
        tables.append(deduplicate(file, table, ids, mode, log))
    held_out = times = None
    if len(tables) > 1:
        tables = separate(files, tables, ids, in_both, log)
        held_out = np.repeat([False, True], [len(table) for table in tables])
        (low, high), (low_test, high_test) = scales
        if not rules.scale and (low_test < low or high_test > high):
            log(AutoRecWarning(
                f"{files[1].path.name}: the test ratings are {low_test:g} to {high_test:g}, the "
                f"training ratings {low:g} to {high:g}. If both are on one scale, set it with "
                "--rating_scale."))
    table = pd.concat(tables) if len(tables) > 1 else tables[0]
    if train_ratio is not None:
        times = table["time"].to_numpy()
        held_out = latest(files[0].path, times, train_ratio)
    lowest, highest = min(low for low, _ in scales), max(high for _, high in scales)
    if rules.scale is None and lowest == highest:
        raise UserError(f"{files[0].path}: every rating is {lowest:g}, so the scale is unknown. "
                        "Give it with --rating_scale LOW HIGH.")
    (user_ids, user_ranks), (item_ids, item_ranks) = (one.ranked() for one in ids)
    scale = rules.scale or (lowest, highest)
    return Ratings(name, user_ranks[table["user"]], item_ranks[table["item"]],
                   rounded(table["value"].to_numpy(), scale), user_ids, item_ids, scale, held_out,
                   times=times)


def read_more(file: RatingsFile, known: tuple[np.ndarray, np.ndarray], rules: Rules,
              duplicates: str | None,
              log: Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the user ids, the item ids and the ratings in another file, see `read_ratings`. Ids
    have the types of the `known` user and item ids. With `duplicates` None, all pairs are kept."""
    ids = Ids(), Ids()
    table = read(file, *ids, rules, log)
    if duplicates is not None:
        table = deduplicate(file, table, ids, duplicates, log)
    users, items = (
        one.like(before, table[column].to_numpy(), file.locate)
        for one, before, column in zip(ids, known, ("user", "item"), strict=True)
    )
    return users, items, table["value"].to_numpy()


def latest(path: Path, times: np.ndarray, train_ratio: float) -> np.ndarray:
    """Return which ratings come after the fraction `train_ratio` by time: bool [ratings]. Ratings
    with equal times are in file order. Raise UserError if all timestamps are equal."""
    if times.min() == times.max():
        raise UserError(f"{path}: all timestamps are equal, so --split time is impossible. Use "
                        "--split random.")
    held_out = np.zeros(len(times), bool)
    held_out[np.argsort(times, kind="stable")[round(len(times) * train_ratio) :]] = True
    return held_out


def pairs_of(table: pd.DataFrame, ids: tuple[Ids, Ids]) -> np.ndarray:
    """Return a number for the user and item of each rating, whose codes are in `ids`: int64."""
    return table["user"].to_numpy(np.int64) * len(ids[1].codes) + table["item"].to_numpy()


def deduplicate(file: RatingsFile, table: pd.DataFrame, ids: tuple[Ids, Ids], duplicates: str,
                log: Log) -> pd.DataFrame:
    """Return the ratings of a file with one rating per pair, in file order, and log how many are
    left out. Raise UserError for pairs with two ratings, unless `duplicates` chooses one."""
    name, pairs = file.path.name, pairs_of(table, ids)
    pairs.sort()
    if not np.any(pairs[1:] == pairs[:-1]):
        return table
    equal = table.duplicated() & bool(duplicates)
    table = table[~equal].assign(pair=pairs_of(table[~equal], ids))
    if equal.any():
        occur = "rating occurs" if equal.sum() == 1 else "ratings occur"
        log(AutoRecWarning(f"{name}: {equal.sum():,} {occur} twice with the same values: read "
                           "once"))
    again = table.duplicated("pair")
    if again.any() and duplicates in ("", "refuse"):
        choice = ", or choose the rating with --duplicates first, last or mean"
        raise repeated(file, table, file, table[again], ids,
                       f"Remove one of the two lines{choice if duplicates else ''}")
    if again.any():
        log(AutoRecWarning(f"{name}: {again.sum():,} ratings repeat a pair: resolved by "
                           f"--duplicates {duplicates}"))
    if duplicates == "mean":
        table["value"] = table["value"].astype(float).groupby(table["pair"]).transform("mean")
    return table[~table.duplicated("pair", keep="last" if duplicates == "last" else "first")]


def repeated(file: RatingsFile, table: pd.DataFrame, other: RatingsFile, again: pd.DataFrame,
             ids: tuple[Ids, Ids], remedy: str) -> UserError:
    """Return the error for the ratings `again` in the file `other`, whose pairs are in `table`."""
    pairs = pairs_of(again, ids)
    before = table.index[(pairs_of(table, ids) == pairs[0]).argmax()]
    codes = again["user"].iloc[0], again["item"].iloc[0]
    user, item = (list(one.codes)[code] for one, code in zip(ids, codes, strict=True))
    number = len(np.unique(pairs))
    total = f"; {number:,} pairs have two ratings" if number > 1 else ""
    return UserError(f"{other.locate(again.index[0])}: user {user} rates item {item} again (first "
                     f"in {file.locate(before)}{total}). {remedy}.")


def separate(files: Sequence[RatingsFile], tables: Sequence[pd.DataFrame], ids: tuple[Ids, Ids],
             in_both: str, log: Log) -> list[pd.DataFrame]:
    """Return the training and the test ratings without the pairs in both, except on the side
    `in_both`. Raise UserError if that is "refuse"."""
    train, test = (pairs_of(table, ids) for table in tables)
    in_train, in_test = np.isin(train, test), np.isin(test, train)
    if not in_test.any():
        return list(tables)
    if in_both == "refuse":
        raise repeated(files[0], tables[0], files[1], tables[1][in_test], ids,
                       "A rating is either for training or for test: remove one of the two, or "
                       "choose its side with --in_both train or test")
    other, shared = (1, in_test) if in_both == "train" else (0, in_train)
    if shared.all():
        raise UserError(f"{files[other].path}: all ratings are also in {files[1 - other].path}. "
                        "Name another file, or choose another side with --in_both.")
    log(printable(f"Data file {files[other].path.name}: {shared.sum():,} ratings of pairs in both "
                  f"files are left out by --in_both {in_both}"))
    return [*tables[:other], tables[other][~shared], *tables[other + 1 :]]
