"""Recommend from a finished run.

    python recommend.py results/<run> --user 1 -n 10              # what user 1 would like best
    python recommend.py results/<run> --item 1                    # what is like item 1
    python recommend.py results/<run> --predict pairs.csv         # ratings of user,item pairs
    python recommend.py results/<run> --all top.csv               # everybody's best
    python recommend.py results/<run> --ratings new.csv --user 7  # with new ratings, not retrained
    python recommend.py results/<run>/export --item 1             # from an export, without ratings

What a user has rated is left out. Ids are those of the ratings' file. What is read may be
whatever main.py reads.
The answer goes to stdout, and notes to stderr. Exit codes: 0 done, or nobody reads the answer,
2 unusable input, or the answer is lost, 130 ended by Ctrl-C.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from autorec_tf.command_line import Parser, add_data_flags
from autorec_tf.config import Config
from autorec_tf.data.blocks import Rules
from autorec_tf.data.formats import open_file
from autorec_tf.data.ids import as_id
from autorec_tf.data.merge import read_more
from autorec_tf.data.titles import read_titles
from autorec_tf.records.progress import Progress
from autorec_tf.records.run_folder import PREDICTIONS, config_of, read_record
from autorec_tf.serving.npz import NAME, npz_config, read_npz
from autorec_tf.serving.recommender import Recommender, predict, rated, recommend, similar, top
from autorec_tf.serving.relocate import ratings_of_run
from autorec_tf.system.errors import UserError, print_answer, printable, run_program
from autorec_tf.system.files import atomic_write
from autorec_tf.system.runtime import leave, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("recommend.py", lambda: answer(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("recommend.py", description="Recommend from a finished run.",
                    allow_abbrev=False)
    parser.add_argument("run", help="a run folder, as results/quick, or what export.py made of it")
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--user", metavar="ID", help="recommend items to this user")
    question.add_argument("--item", metavar="ID", help="find items similar to this one")
    question.add_argument(
        "--predict", metavar="CSV", help="predict the ratings of the pairs in this file's columns "
        "user and item; prints CSV",
    )
    question.add_argument("--all", metavar="CSV",
                          help="write this new file with recommendations for every user")
    parser.add_argument("-n", type=int, default=10, help="items to recommend (default: 10)")
    parser.add_argument(
        "--ratings", metavar="CSV", help="take in the new ratings in this file's columns user, "
        "item and rating, of new or known users and items, without training again",
    )
    own = "of --predict or --ratings, as for main.py (default: the run's own)"
    parser.add_argument("--columns", help=own)
    parser.add_argument("--read_csv", nargs="+", default=(), help=own)
    add_data_flags(parser)
    parser.add_argument("--output", metavar="FILE", help="write to this new file, as CSV")
    parser.add_argument("--json", action="store_true", help="print (or write) JSON")
    given = parser.parse_args(arguments)
    if given.n < 1:
        parser.error(f"-n {given.n}: must be at least 1")
    if given.all and (given.json or given.output):
        parser.error("--all writes CSV to the file that it names: leave --json and --output out")
    return given


def answer(given: argparse.Namespace) -> None:
    """Answer a command line. Raises UserError for unusable input."""
    for path in filter(None, (given.all, given.output)):
        if Path(path).exists():
            raise UserError(f"{path} already exists and is never overwritten: choose another name")
    recommender, config = open_recommender(given)
    if recommender.rated is None and (given.user is not None or given.all):
        warn("An export holds no ratings: what a user has rated is not left out.")
    if given.all:
        write_top(recommender, given.n, given.all)
    elif given.predict:
        ids = recommender.user_ids, recommender.item_ids
        users, items, _ = read_file(given.predict, given, config, *ids)
        table = predict(recommender, users, items)
        cold = int(((table["user_ratings"] == 0) | (table["item_ratings"] == 0)).sum())
        if cold:
            rule = "as 3, the paper's rule" if config.cold_rating != "mean" else (
                "by the means that are known")
            warn(f"{cold:,} of {len(table):,} pairs have a user or an item without training "
                 f"ratings: predicted {rule}.")
        print_table(table, given, index=False)
    elif given.user is not None:
        user = as_id(given.user, recommender.user_ids, "--user")
        table = recommend(recommender, user, given.n)
        known = recommender.user_ratings[recommender.user(user)]
        heading = f"For user {user}, from {known:,} training ratings:"
        print_table(table, given, heading)
    else:
        item = as_id(given.item, recommender.item_ids, "--item")
        table = similar(recommender, item, given.n)
        title = recommender.titles.get(str(item), f"item {item}")
        heading = f"Like {title}, by {recommender.item_ratings[recommender.item(item)]:,} ratings:"
        print_table(table, given, heading)


def open_recommender(given: argparse.Namespace) -> tuple[Recommender, Config]:
    """The recommender of a run folder, with new `--ratings`, or of an export, and settings."""
    run = Path(given.run)
    path = run / NAME if (run / NAME).is_file() else run
    if path.is_file():
        if given.ratings:
            raise UserError(f"--ratings needs the run's own ratings, which {path} does not hold: "
                            "name the run folder")
        recommender = read_npz(path)
        config = replace(npz_config(path), data_dir=given.data_dir)
        titles = read_titles(config.dataset or "", config.ratings_folder())
        return recommender.titled(titles), config
    if (run / PREDICTIONS).is_file() and not given.ratings:  # TensorFlow is not needed
        return open_predictions(run, given)
    start_tensorflow()
    from autorec_tf.serving.finished_run import read_run
    from autorec_tf.serving.fold_in import fold_in

    finished = read_run(run, given.data_dir, given.dataset, given.test_file)
    if given.ratings:
        known = finished.ratings
        new = read_file(given.ratings, given, finished.config, known.user_ids, known.item_ids,
                        known.scale)
        finished = fold_in(finished, *new)
    titles = read_titles(finished.ratings.name, finished.config.ratings_folder())
    return finished.recommender(titles), finished.config


def open_predictions(run: Path, given: argparse.Namespace) -> tuple[Recommender, Config]:
    """The recommender that a run folder holds, and the run's settings. The ratings are read where
    they are to be left out."""
    record = read_record(run)
    config = config_of(run, record, data_dir=given.data_dir)
    recommender = read_npz(run / PREDICTIONS)
    if given.user is not None or given.all:
        ratings = ratings_of_run(run, config, record, given.dataset, given.test_file)
        recommender = replace(recommender, rated=rated(ratings))
    titles = read_titles(config.dataset or "", config.ratings_folder())
    return recommender.titled(titles), config


def read_file(
    path: str, given: argparse.Namespace, config: Config, user_ids: np.ndarray,
    item_ids: np.ndarray, scale: tuple[float, float] | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The users and items in a file, ids of the kind of those given, and its ratings, if there is a
    `scale`: read as the run's own file was, by the same names if it has them.

    Raises UserError that names the file, the line and what is wrong.
    """
    roles, read_csv = 2 if scale is None else 3, given.read_csv or config.read_csv
    try:
        file = open_file(Path(path), given.columns or config.columns, read_csv, roles)
    except UserError:
        if given.columns or not config.columns:
            raise
        file = open_file(Path(path), None, read_csv, roles)
    rules = Rules(scale, no_rating=config.no_rating)
    duplicates = None if scale is None else config.duplicates
    return read_more(file, (user_ids, item_ids), rules, duplicates, warn)


def write_top(recommender: Recommender, n: int, path: str) -> None:
    """Write everybody's best to the file `path`, as they are found."""
    total, done, started = int((recommender.user_ratings > 0).sum()), 0, time.perf_counter()
    progress = Progress(path, 0, sys.stderr)
    with new_file(path) as file:
        for number, block in enumerate(top(recommender, n)):
            block.to_csv(file, index=False, header=number == 0, float_format="%.4f",
                         lineterminator="\n")
            done += block["user"].nunique()
            progress.count(done, total, time.perf_counter() - started)
        progress.close()
    warn(f"{path}: the best {n} of {done:,} users.")


def print_table(table: pd.DataFrame, given: argparse.Namespace, heading: str = "",
                index: bool = True) -> None:
    """Print or write `table`, as text, CSV or JSON."""
    table = table.reset_index() if index else table
    if given.json:
        text = table.to_json(orient="records", indent=1)
    elif given.output or given.predict:
        text = table.to_csv(index=False, float_format="%.4f", lineterminator="\n").rstrip("\n")
    else:
        text = f"{printable(heading)}\n{as_text(table)}"
    if given.output:
        with new_file(given.output) as file:
            file.write(f"{text}\n")
    else:
        print_answer(text)


def as_text(table: pd.DataFrame) -> str:
    """A table for people: numbers to the right, text to the left."""
    columns = []
    for name in table:
        cells = [f"{x:.3f}" if isinstance(x, float) else printable(str(x)) for x in table[name]]
        width = max(map(len, [name, *cells]))
        align = "<" if name in ("item", "title") else ">"
        columns.append([f"{cell:{align}{width}}" for cell in [name, *cells]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def warn(text: str) -> None:
    """Tell a person something, beside what a program may read."""
    print_line(text, sys.stderr)


@contextmanager
def new_file(path: str) -> Iterator[TextIO]:
    """The file `path` to write to; it appears only when it is whole."""
    try:
        with atomic_write(Path(path)) as unfinished:
            with open(unfinished, "w", encoding="utf-8", newline="") as file:
                yield file
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror})") from error


if __name__ == "__main__":
    leave(main())
