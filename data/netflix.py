"""The Netflix Prize's files: a line `MovieID:`, then lines `CustomerID,Rating,Date` of it.

The data was withdrawn; who has it has `combined_data_1.txt` ... `combined_data_4.txt`, or
`training_set/mv_0000001.txt` ... with a movie each.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from data.blocks import (
    Block,
    Scale,
    decoded,
    distinct,
    field_bounds,
    open_text,
    parse_id,
    parse_times,
    shown,
    text_blocks,
    text_lines,
    unix_lines,
    whole_numbers,
)
from system.errors import UserError

MOVIE_LINE = re.compile(rb"0*(\d{1,18}):(\r?\n|$)")
RATING_LINE = re.compile(rb"0*(\d{1,18}),([1-5]),(\d{4}-\d\d-\d\d)(\r?\n)?")
EXPECTED = "expected MovieID:, then lines CustomerID,Rating,YYYY-MM-DD with ratings 1 to 5"


class NetflixFile:
    """One of the files, or several that are read as one."""

    def __init__(self, *paths: Path) -> None:
        self.paths, self.path = paths, paths[0]

    def __str__(self) -> str:
        return f"{self.path.name}: Netflix' format, MovieID: before its CustomerID,Rating,Date"

    def blocks(self, scale: Scale | None, with_times: bool) -> Iterator[Block]:
        for path in self.paths:
            self.path, movie = path, None
            with open_text(path) as file:
                for text in text_blocks(file):
                    block, movie = parse(unix_lines(text), movie, scale, with_times)
                    if block:
                        yield block

    def locate(self, row: int) -> str:
        """Return where a rating stands; slow: the files are read again, line by line."""
        for path in self.paths:
            for number, line in enumerate(text_lines(path), start=1):
                if not MOVIE_LINE.fullmatch(line):
                    if row == 0:
                        return f"{path}, line {number}"
                    row -= 1
        raise IndexError(row)

    def malformed(self, scale: Scale | None, with_times: bool, error: Exception) -> UserError:
        """Return the error that names the first malformed line; slow, and only then run."""
        movie = False
        for number, line in enumerate(text_lines(self.path), start=1):
            movie = movie or bool(MOVIE_LINE.fullmatch(line))
            rating = RATING_LINE.fullmatch(line)
            if not movie or not (rating or MOVIE_LINE.fullmatch(line)):
                return UserError(f"{self.path}, line {number}: {shown(line)}: {EXPECTED}")
            try:
                if rating:
                    parse_times([rating[3].decode()])
                    if scale and not scale[0] <= int(rating[2]) <= scale[1]:
                        raise ValueError(f"the rating lies outside the scale {scale}")
            except ValueError as reason:
                return UserError(f"{self.path}, line {number}: {shown(line)}: {reason}")
        return UserError(f"{self.path}: {error}: {EXPECTED}")


def parse(
    text: bytes, movie: int | None, scale: Scale | None, with_times: bool
) -> tuple[Block | None, int | None]:
    """Return the ratings of some lines, the first of them of `movie`, and the movie of the last
    one."""
    if text.translate(None, b"0123456789,:-\n"):
        raise ValueError("not a rating file's characters")
    # A movie's line becomes one of a rating of -1 without a date, and one call parses them all.
    num_movies = text.count(b":\n")
    text = text.replace(b":\n", b",-1,\n")
    if b":" in text:
        raise ValueError("a colon within a line")
    starts, ends = field_bounds(text, b",", 3)
    (names, ids), (codes, rating_fields), (days, date_fields) = (
        distinct(text, starts[:, i], ends[:, i]) for i in range(3)
    )
    ratings, dates, numbers = decoded(rating_fields), decoded(date_fields), whole_numbers(ids)
    if set(ratings) - {"-1", "1", "2", "3", "4", "5"}:
        raise ValueError("a rating off the scale")
    if numbers is None:
        texts = (text.lstrip("0") or text[:1] for text in decoded(ids))
        numbers = np.array([parse_id(text, True) for text in texts], np.int64)
    values = np.array([float(rating) for rating in ratings])[codes]
    movies = values < 0
    undated = np.array([date == "" for date in dates])[days]
    if movies.sum() != num_movies or np.any(movies != undated):
        raise ValueError("a rating of -1, or without a date")
    times = parse_times([date or "1970-01-01" for date in dates])[days]
    of_movie = np.cumsum(movies)  # 0: still the movie of the lines before
    seen = np.array([movie or 0, *numbers[names[movies]]], np.int64)
    values = values[~movies]
    if not len(values):
        return None, int(seen[-1])
    if movie is None and of_movie[0] == 0:
        raise ValueError("a rating before the first movie")
    if scale and not scale[0] <= values.min() <= values.max() <= scale[1]:
        raise ValueError("a rating off the scale")
    users, items = occurring(names[~movies], numbers), occurring(of_movie[~movies], seen)
    block = Block(users, items, values, times[~movies] if with_times else None)
    return block, int(seen[-1])


def occurring(positions: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which of the ids that occur is at each of the `positions` in `seen`, and these ids."""
    codes, used = pd.factorize(positions)
    return codes, seen[used]
