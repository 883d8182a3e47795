"""Read rating files into one table, in which each pair of user and item has one rating.

    ratings = read_ratings("mine", [open_file(Path("ratings.csv"))])
    ratings.users, ratings.items, ratings.values
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.delimited import ALL, DAMAGED, RatingsFile, Rules, Scale, unreadable
from autorec_tf.data.ids import Ids
from autorec_tf.data.ratings import Ratings, rounded
from autorec_tf.system.errors import AutoRecWarning, Log, UserError, printable


@dataclass(frozen=True)
class Columns:
    """The ratings of one file, in file order.

    Args:
        file: the file.
        users, items: int32 [ratings], the codes of the ids.
        values: float32 or float64 [ratings].
        times: float64 or int64 [ratings], or None.
        scale: the lowest and the highest rating.
    """

    file: RatingsFile
    users: np.ndarray
    items: np.ndarray
    values: np.ndarray
    times: np.ndarray | None
    scale: Scale

    def pairs(self, ids: tuple[Ids, Ids]) -> np.ndarray:
        """Return a number for the user and item of each rating, whose codes are in `ids`: int64."""
        return self.users.astype(np.int64) * len(ids[1].codes) + self.items

    def at(self, rows: np.ndarray) -> "Columns":
        """Return the ratings at the positions `rows`, or where `rows` is True."""
        times = self.times[rows] if self.times is not None else None
        return replace(self, users=self.users[rows], items=self.items[rows],
                       values=self.values[rows], times=times)


def read(file: RatingsFile, users: Ids, items: Ids, rules: Rules = ALL,
         log: Log = lambda _: None) -> Columns:
    """Return all ratings of `file` that `rules` allow, and add their ids to `users` and `items`.
    Log what is left out. Raise UserError, with file and line, if it is malformed or empty."""
    if rules.with_times and len(file.layout.positions) < 4:
        raise UserError(f"{file.path}: --split time needs a column of timestamps. Name it as the "
                        "fourth of --columns, or use --split random.")
    file_ids, file.rules, file.counts = (Ids(), Ids()), rules, Counter()
    columns: list[Any] = [[] for _ in range(4 if rules.with_times else 3)]
    state = dict[str, Any]()
    try:
        for _, chunk, state in file.chunks():
            if not (block := file.parse(chunk, state)):
                continue
            for number, ids in enumerate(file_ids):
                codes, distinct = block[number]
                block[number] = ids.encode(distinct)[codes]
            for parts, part in zip(columns, block, strict=True):
                parts.append(part)
            short = block[2].astype(np.float32)  # if that rounds nothing
            columns[2][-1] = short if np.array_equal(short, block[2]) else block[2]
    except (OSError, *DAMAGED) as error:
        raise unreadable(file.path, error) from error
    except ValueError as error:
        raise file.malformed(error) from error
    counts, num_rows = file.counts, file.counts["row"]
    if num_rows == counts["rating"] + counts["id"]:
        raise UserError(f"{file.path}: the file contains no ratings. Name another file.")
    for number, parts in enumerate(columns):
        columns[number] = np.concatenate(parts)  # one by one, which frees memory
    user_codes, item_codes, values, *times = columns
    if len(missing := np.flatnonzero(np.isnan(values))):
        raise UserError(f"{file.locate(missing[0])}: the rating is missing ({len(missing):,} of "
                        f"{num_rows:,} in total). Leave out missing ratings with --no_rating NaN.")
    if format := decided_format(file, state):
        return read(file, users, items, replace(rules, timestamp_format=format), log)
    user_codes = users.merge(file_ids[0], user_codes, counts["id"] > 0)
    item_codes = items.merge(file_ids[1], item_codes, counts["id"] > 0)
    if counts["comment"]:
        log(printable(f"Data file {file.path.name}: comment lines left out: {counts['comment']:,}"))
    for flag in ("rating", "id"):
        if counts[flag]:
            log(printable(f"Data file {file.path.name}: {counts[flag]:,} of {num_rows:,} ratings "
                          f"are left out by --no_{flag}"))
    if lost := file_ids[0].lost + file_ids[1].lost:
        log(AutoRecWarning(f"{file.path.name}: ids that may have lost digits, such as {lost[0]}: "
                           f"{len(lost):,}. Write ids as text or as whole numbers."))
    scale = float(values.min()), float(values.max())
    return Columns(file, user_codes, item_codes, values, times[0] if times else None, scale)


def decided_format(file: RatingsFile, state: Mapping[str, Any]) -> str:
    """Return the format that only later dates decided, or "". Raise UserError if several fit."""
    formats = state.get("formats", [])
    if len(formats) > 1 and state["doubt"]:
        choices = " or ".join(map(repr, formats))
        raise UserError(f"{file.locate(0)}: the timestamp {state['first'][1][:30]!r} can be read "
                        f"in several ways. Choose one with --timestamp_format {choices}.")
    return formats[0] if formats and formats[0] != state["first"][0] else ""


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
    ids = Ids(), Ids()
    parts = [
        deduplicate(read(file, *ids, rules, log), ids, mode, log)
        for file, mode in zip(files, duplicates, strict=True)
    ]
    held_out = None
    if len(parts) > 1:
        parts = separate(parts, ids, in_both, log)
        held_out = np.repeat([False, True], [len(part.values) for part in parts])
        (low, high), (low_test, high_test) = (part.scale for part in parts)
        if not rules.scale and (low_test < low or high_test > high):
            log(AutoRecWarning(
                f"{files[1].path.name}: the test ratings are {low_test:g} to {high_test:g}, the "
                f"training ratings {low:g} to {high:g}. If both are on one scale, set it with "
                "--rating_scale."))
    if train_ratio is not None:
        assert parts[0].times is not None
        held_out = latest(files[0].path, parts[0].times, train_ratio)
    lowest, highest = (pick(part.scale[i] for part in parts) for i, pick in enumerate((min, max)))
    if rules.scale is None and lowest == highest:
        raise UserError(f"{files[0].path}: every rating is {lowest:g}, so the scale is unknown. "
                        "Give it with --rating_scale LOW HIGH.")
    (user_ids, user_ranks), (item_ids, item_ranks) = (one.ranked() for one in ids)
    scale = rules.scale or (lowest, highest)
    return Ratings(name, user_ranks[joined(parts, "users")], item_ranks[joined(parts, "items")],
                   rounded(joined(parts, "values"), scale), user_ids, item_ids, scale, held_out,
                   times=parts[0].times if train_ratio is not None else None)


def read_more(file: RatingsFile, known: tuple[np.ndarray, np.ndarray], rules: Rules,
              duplicates: str | None,
              log: Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the user ids, the item ids and the ratings in another file, see `read_ratings`. Ids
    have the types of the `known` user and item ids. With `duplicates` None, all pairs are kept."""
    ids = Ids(), Ids()
    part = read(file, *ids, rules, log)
    if duplicates is not None:
        part = deduplicate(part, ids, duplicates, log)
    columns = zip(ids, known, (part.users, part.items), strict=True)
    users, items = (one.like(before, codes, file.locate) for one, before, codes in columns)
    return users, items, part.values


def joined(parts: Sequence[Columns], column: str) -> np.ndarray:
    arrays = [getattr(part, column) for part in parts]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)


def latest(path: Path, times: np.ndarray, train_ratio: float) -> np.ndarray:
    """Return which ratings come after the fraction `train_ratio` by time: bool [ratings]. Ratings
    with equal times are in file order. Raise UserError if all timestamps are equal."""
    if times.min() == times.max():
        raise UserError(f"{path}: all timestamps are equal, so --split time is impossible. Use "
                        "--split random.")
    held_out = np.zeros(len(times), bool)
    held_out[np.argsort(times, kind="stable")[round(len(times) * train_ratio) :]] = True
    return held_out


def deduplicate(part: Columns, ids: tuple[Ids, Ids], duplicates: str, log: Log) -> Columns:
    """Return the ratings of a file with one rating per pair, in file order, and log how many are
    left out. Raise UserError for pairs with two ratings, unless `duplicates` chooses one."""
    name = part.file.path.name
    pairs = part.pairs(ids)
    pairs.sort()
    if not np.any(pairs[1:] == pairs[:-1]):
        return part
    times = np.zeros(len(pairs)) if part.times is None else part.times
    table = pd.DataFrame({"pair": part.pairs(ids), "value": part.values, "time": times})
    if duplicates:
        equal = table.duplicated()
        table = table[~equal]
        if equal.any():
            occur = "rating occurs" if equal.sum() == 1 else "ratings occur"
            log(AutoRecWarning(f"{name}: {equal.sum():,} {occur} twice with the same values: read "
                               "once"))
    again = table.duplicated("pair")
    if again.any() and duplicates in ("", "refuse"):
        choice = ", or choose the rating with --duplicates first, last or mean"
        raise repeated(part, part, int(again.idxmax()), ids, table["pair"][again].nunique(),
                       f"Remove one of the two lines{choice if duplicates else ''}")
    if again.any():
        log(AutoRecWarning(f"{name}: {again.sum():,} ratings repeat a pair: resolved by "
                           f"--duplicates {duplicates}"))
    if duplicates == "mean":
        means = table["value"].astype(float).groupby(table["pair"]).transform("mean")
        table = table.assign(value=means)
    table = table[~table.duplicated("pair", keep="last" if duplicates == "last" else "first")]
    return replace(part.at(table.index.to_numpy()), values=table["value"].to_numpy())


def repeated(first: Columns, second: Columns, row: int, ids: tuple[Ids, Ids], number: int,
             remedy: str) -> UserError:
    """Return the error for a pair in `first` that is again at `row` of `second`, one of `number`
    such pairs."""
    before = int((first.pairs(ids) == second.pairs(ids)[row]).argmax())
    user, item = list(ids[0].codes)[second.users[row]], list(ids[1].codes)[second.items[row]]
    total = f"; {number:,} pairs have two ratings" if number > 1 else ""
    return UserError(f"{second.file.locate(row)}: user {user} rates item {item} again (first in "
                     f"{first.file.locate(before)}{total}). {remedy}.")


def separate(parts: Sequence[Columns], ids: tuple[Ids, Ids], in_both: str,
             log: Log) -> list[Columns]:
    """Return the training and the test ratings without the pairs in both, except on the side
    `in_both`. Raise UserError if that is "refuse"."""
    pairs = [part.pairs(ids) for part in parts]
    shared = [np.isin(pairs[side], pairs[1 - side]) for side in (0, 1)]
    number = int(shared[1].sum())
    if not number:
        return list(parts)
    if in_both == "refuse":
        train, test = parts
        raise repeated(train, test, int(shared[1].argmax()), ids, number,
                       "A rating is either for training or for test: remove one of the two, or "
                       "choose its side with --in_both train or test")
    other = int(in_both == "train")
    path = parts[other].file.path
    if shared[other].all():
        raise UserError(f"{path}: all ratings are also in {parts[1 - other].file.path}. "
                        "Name another file, or choose another side with --in_both.")
    log(printable(f"Data file {path.name}: {number:,} ratings of pairs in both files are left out "
                  f"by --in_both {in_both}"))
    return [part.at(~shared[other]) if part is parts[other] else part for part in parts]
