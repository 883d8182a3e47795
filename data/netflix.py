"""The Netflix Prize's files: a line `MovieID:`, then lines `CustomerID,Rating,Date` of it.

The data was withdrawn; who has it has `combined_data_1.txt` ... `combined_data_4.txt`, or
`training_set/mv_0000001.txt` ... with a movie each.
"""

import io
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.blocks import Block, Rules, check_text, open_text, shown, text_blocks
from data.layouts import MAX_LINE
from system.errors import UserError

MOVIE_LINE = re.compile(r"0*(\d{1,18}):(\r?\n|$)", re.ASCII)
RATING_LINE = re.compile(r"0*\d{1,18},[1-5],(\d{4}-\d\d-\d\d)(\r?\n)?", re.ASCII)
DATE = re.compile(r"(?!0000)\d{4}-\d\d-\d\d", re.ASCII)
EXPECTED = "expected MovieID:, then lines CustomerID,Rating,YYYY-MM-DD with ratings 1 to 5"


class NetflixFile:
    """One of the files, or several that are read as one."""

    def __init__(self, *paths: Path) -> None:
        self.paths, self.path = paths, paths[0]

    def __str__(self) -> str:
        return f"{self.path.name}: Netflix' format, MovieID: before its CustomerID,Rating,Date"

    def blocks(self, rules: Rules) -> Iterator[Block]:
        for path in self.paths:
            self.path, movie = path, None
            with open_text(path) as file:
                for text in text_blocks(file):
                    block, movie = parse(check_text(text), movie, rules)
                    if block:
                        yield block

    def locate(self, row: int) -> str:
        """Return where a rating stands; slow: the files are read again, line by line."""
        for path in self.paths:
            for number, line in text_lines(path):
                if not MOVIE_LINE.fullmatch(line):
                    if row == 0:
                        return f"{path}, line {number}"
                    row -= 1
        raise IndexError(row)

    def malformed(self, rules: Rules, error: Exception) -> UserError:
        """Return the error that names the first malformed line; slow, and only then run."""
        movie = False
        for number, line in text_lines(self.path):
            movie = movie or bool(MOVIE_LINE.fullmatch(line))
            rating = RATING_LINE.fullmatch(line)
            if not movie or not (rating or MOVIE_LINE.fullmatch(line)):
                return UserError(f"{self.path}, line {number}: {shown(line)}: {EXPECTED}")
            try:
                if rating:
                    parse_dates([rating[1]])
                    rules.check(np.array([float(line.split(",")[1])]))
            except ValueError as reason:
                return UserError(f"{self.path}, line {number}: {shown(line)}: {reason}")
        return UserError(f"{self.path}: {error}: {EXPECTED}")


def text_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of `path` and their numbers, one that is too long in pieces."""
    with open_text(path) as file:
        yield from enumerate(iter(lambda: file.readline(MAX_LINE), ""), start=1)


def parse(text: str, movie: int | None, rules: Rules) -> tuple[Block | None, int | None]:
    """Return the ratings of some lines, the first of them of `movie`, and the movie of the last
    one."""
    if text.encode().translate(None, b"0123456789,:-\n"):
        raise ValueError("not a rating file's characters")
    # A movie's line becomes one of a rating of 0 without a date, and one call parses them all.
    text = f"\n{text}" if text.endswith("\n") else f"\n{text}\n"
    num_movies = text.count(":\n")
    if ":" in text.replace(":\n", "\n") or ",0" in text or "\n-" in text or ",-" in text:
        raise ValueError("a colon or a minus within a line, or a rating of 0")
    text = text.replace(":\n", ",0,\n")[1:]
    if text.count(",") != 2 * text.count("\n"):
        raise ValueError("a line with another number of fields")
    types = {0: np.int64, 1: np.int64, 2: object}
    try:
        table = pd.read_csv(io.StringIO(text), header=None, names=range(3), index_col=False,
                            na_filter=False, dtype=types, skip_blank_lines=False)
    except OverflowError as error:
        raise ValueError("an id that is too long") from error
    ids, values = table[0].to_numpy(), table[1].to_numpy(float)
    movies, (days, dates) = values == 0, pd.factorize(table[2].to_numpy())
    undated = np.array([date == "" for date in dates])[days]
    if ids.max() >= 10**18 or values.max() > 5 or np.any(movies != undated) or (
        movies.sum() != num_movies
    ):
        raise ValueError("a rating off the scale, or without a date")
    times = parse_dates([date or "1970-01-01" for date in dates])[days]
    of_movie = np.cumsum(movies)  # 0: still the movie of the lines before
    seen = np.array([movie or 0, *ids[movies]], np.int64)
    if movies.all():
        return None, int(seen[-1])
    if movie is None and of_movie[0] == 0:
        raise ValueError("a rating before the first movie")
    rules.check(values[~movies])
    times = times[~movies] if rules.with_times else None
    return Block(ids[~movies], seen[of_movie[~movies]], values[~movies], times), int(seen[-1])


def parse_dates(texts: Sequence[str]) -> np.ndarray:
    """Return ISO dates as days. Raise ValueError if one is none."""
    if not all(map(DATE.fullmatch, texts)):
        raise ValueError("a date that is not YYYY-MM-DD")
    return np.array(texts, "datetime64[D]").astype(np.int64)
