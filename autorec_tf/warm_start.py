"""Start a training from the parameters of a finished run, on changed ratings.

    start = Start("quick", run.config, run.ratings, run.train)
    ratings = start.divided(changed, config)             # with the test ratings marked
    split = split_of(config, ratings)
    model = build(config, split.train, scale, start=start.widened(parameters, values, split.train))

Ratings are recognised by their user and item. A training rating of the run stays a training rating,
and a test rating stays a test rating, also if its value has changed. So the new model is never
tested on a rating that its start was trained on, and is not trained on a rating that the start was
tested on. Only new pairs are divided. If training ratings were removed before the run started from
another run, new pairs are training ratings: those removed may be among them.

Rows and columns keep their parameters, whatever their new index. Those that had no training ratings
begin where they change no other prediction: V_u = 0 and D_u = 0, and W_u, b_u, Y_i and c_i are the
mean of the known ones. This module does not import TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.config import Config
from autorec_tf.data.ids import positions_of
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.model.parameters import COLUMN, ROW, parameters_of
from autorec_tf.system.errors import UserError
from autorec_tf.system.random_streams import random_stream

ENCODER = ("V", "D")  # parameters that are 0 for new columns


@dataclass(frozen=True, eq=False)
class Start:
    """The run that a training starts from.

    Args:
        name: its name in messages.
        config: its settings.
        ratings: all its ratings.
        train: its training ratings, items x users; all others are test ratings.
        folder: its run folder, if it has one.
    """

    name: str
    config: Config
    ratings: Ratings
    train: RatingMatrix
    folder: Path | None = None

    def divided(self, ratings: Ratings, config: Config) -> Ratings:
        """Return changed ratings with the test ratings marked (`held_out`).

        Test ratings of the run remain test ratings. New ones are drawn from the new ratings at
        random, or with the setting `split` "time" are the latest of these; the others, a fraction
        `train_ratio`, are training ratings. If `held_out` is given, as from a test file, those are
        the test ratings.

        Args:
            ratings: all ratings as they are now.
            config: the settings of the new training.

        Raises:
            UserError: a training rating of the run would be a test rating, or the reverse; the
                scale cannot change; or one side is empty.
        """
        self.check_scale(ratings)
        was_train, was_test = self.sides_of(ratings)
        if not was_train.any():
            raise UserError(f"--start_from {self.name}: none of its training ratings is in "
                            f"{ratings.name}. Leave out --start_from.")
        if ratings.held_out is not None and config.split != "time":
            held_out = ratings.held_out
        else:
            held_out = was_test.copy()
            new = np.flatnonzero(~(was_train | was_test))
            held_out[self.drawn(new, ratings, config)] = True
        self.refuse_exchange(ratings, held_out & was_train, "training", "test")
        if self.config.start_removed:
            self.refuse_exchange(ratings, held_out & ~was_test, "possible training", "test")
        self.refuse_exchange(ratings, ~held_out & was_test, "test", "training")
        if held_out.all() or not held_out.any():
            raise UserError(f"--start_from {self.name}: no test ratings are left. Add new ratings, "
                            "lower --train_ratio, or give test ratings with --test_file.")
        return replace(ratings, held_out=held_out, times=None)

    def drawn(self, new: np.ndarray, ratings: Ratings, config: Config) -> np.ndarray:
        """Return those of the indices `new` that become test ratings. Return none if training
        ratings of an earlier start have been removed: they may be among the new ones again."""
        if self.config.start_removed:
            return new[:0]
        if config.split == "time":
            assert ratings.times is not None
            order = np.argsort(ratings.times[new], kind="stable")
        else:
            order = random_stream(config.seed_of_split, "new ratings").permutation(len(new))
        return new[order[round(len(new) * config.train_ratio) :]]

    def sides_of(self, ratings: Ratings) -> tuple[np.ndarray, np.ndarray]:
        """Return which of `ratings` are training and which are test ratings of the run: two bool
        arrays [ratings]."""
        user_at, item_at = (
            positions_of(pd.Index(ids), known) for ids, known in
            ((ratings.user_ids, self.ratings.user_ids), (ratings.item_ids, self.ratings.item_ids))
        )

        def is_pair(users: np.ndarray, items: np.ndarray) -> np.ndarray:
            users, items = user_at[users], item_at[items]
            exists = (users >= 0) & (items >= 0)
            return np.isin(pairs, users[exists] * ratings.num_items + items[exists])

        pairs = ratings.users.astype(np.int64) * ratings.num_items + ratings.items
        was_train = is_pair(self.train.indices, self.train.rows)
        return was_train, is_pair(self.ratings.users, self.ratings.items) & ~was_train

    def refuse_exchange(self, ratings: Ratings, wrong: np.ndarray, before: str, now: str) -> None:
        """Raise UserError if any rating is `wrong`: it was on the side `before`, and is `now` on
        the other one."""
        if wrong.any():
            first = int(wrong.argmax())
            user, item = ratings.user_ids[ratings.users[first]], ratings.item_ids[
                ratings.items[first]]
            where = "--dataset" if now == "training" else "--test_file" if self.folder else "test"
            raise UserError(f"{where}: user {user} and item {item} are a {before} rating of "
                            f"{self.name}, and cannot become a {now} rating ({wrong.sum():,} such "
                            f"ratings). Remove them from {where}.")

    def check_scale(self, ratings: Ratings) -> None:
        """Raise UserError if the parameters would not fit the scale of `ratings`."""
        old, new = self.ratings.unit, ratings.unit
        same = old == new or (
            self.config.output_activation == "identity"
            and old.file_scale == old.model_scale and new.file_scale == new.model_scale
        )
        if not same:
            (low, high), (new_low, new_high) = old.file_scale, new.file_scale
            raise UserError(f"--rating_scale {new_low:g} {new_high:g}: {self.name} was trained on "
                            f"the scale {low:g} {high:g}, to which its parameters belong. Leave "
                            "out --rating_scale.")

    def settings(self, divided: Ratings) -> dict[str, Any]:
        """Return the settings that record the start, for the result of `divided`."""
        removed = len(self.train) - int(self.sides_of(divided)[0].sum())
        return {"start_from": self.name, "start_removed": self.config.start_removed + removed}

    def describe(self, divided: Ratings) -> str:
        """Return a line about the result of `divided`, compared with the run."""
        assert divided.held_out is not None
        was_train, was_test = self.sides_of(divided)
        new = ~(was_train | was_test)
        removed = len(self.ratings) - len(divided) + new.sum()
        return (f"Start: {self.name}, with {new.sum():,} new ratings "
                f"({(new & ~divided.held_out).sum():,} for training), {removed:,} removed")

    def widened(self, parameters: Sequence[np.ndarray], values: np.ndarray | None,
                ratings: Ratings, new_values: np.ndarray) -> list[np.ndarray]:
        """Return the run's parameters for the users and items of `ratings`.

        Args:
            parameters: of the run, float32, in the order of `parameters_of`.
            values: float32, its rating values with one-hot input vectors, or None.
            ratings: all ratings as they are now.
            new_values: float32, the new training's values. A value without a vector gets that of
                the nearest value, as in prediction.
        """
        known = [(self.ratings.item_ids, ratings.item_ids, self.train.row_counts),
                 (self.ratings.user_ids, ratings.user_ids, self.train.column_counts)]
        rows, columns = known if self.config.orientation == "item" else known[::-1]
        at = {ROW: old_positions(*rows), COLUMN: old_positions(*columns)}
        counts = {ROW: rows[2], COLUMN: columns[2]}
        result = []
        for declared, x in zip(parameters_of(self.config), parameters, strict=True):
            if declared.name == "D" and values is not None:
                x = x[:, np.abs(values[:, None] - new_values).argmin(0)]
            axis = declared.axes[0]
            if axis in (ROW, COLUMN):
                mean = x[counts[axis] > 0].mean(0, dtype=np.float64)
                x = taken(x, at[axis], 0 if declared.name in ENCODER else mean)
            result.append(np.ascontiguousarray(x))
        return result


def old_positions(known: np.ndarray, ids: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the position of each of `ids` in `known`, or -1 if it is new, or had no training
    ratings according to `counts` [known]: int64."""
    new = positions_of(pd.Index(ids), known)
    used = (new >= 0) & (counts > 0)
    result = np.full(len(ids), -1)
    result[new[used]] = np.flatnonzero(used)
    return result


def taken(x: np.ndarray, positions: np.ndarray, fill: np.ndarray | float) -> np.ndarray:
    """Return the rows of `x` at `positions`, and `fill` where these are -1."""
    result = np.empty((len(positions), *x.shape[1:]), x.dtype)
    result[:] = fill
    result[positions >= 0] = x[positions[positions >= 0]]
    return result
