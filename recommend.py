"""Predict and recommend with a finished run.

    python recommend.py results/<run> --user 1 -n 10              # recommend items to user 1
    python recommend.py results/<run> --item 1                    # items similar to item 1
    python recommend.py results/<run> --predict pairs.csv         # ratings of user,item pairs
    python recommend.py results/<run> --all top.csv               # recommend to every user
    python recommend.py results/<run> --ratings new.csv --user 7  # fold in new ratings first
    python recommend.py results/<run>/export --item 1             # from an export, without ratings

Recommendations leave out the items that the user has rated. Ids are those of the rating file. Input
files may have any format that main.py reads. The answer is printed to stdout, and notes to stderr.
Exit codes: 0 done, even if the reader of the answer has closed the pipe; 2 invalid input, or the
answer could not be written; 130 stopped by Ctrl-C.
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
from autorec_tf.serving.recommender import (
    Recommender,
    cold_warning,
    predict,
    rated,
    recommend,
    similar,
    top,
)
from autorec_tf.serving.relocate import ratings_of_run
from autorec_tf.system.errors import AutoRecWarning, UserError, print_answer, printable, run_program
from autorec_tf.system.files import atomic_write
from autorec_tf.system.runtime import leave, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line

# Modules that import TensorFlow are imported in functions: --help does not wait for TensorFlow.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("recommend.py", lambda: answer(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("recommend.py", description="Predict and recommend with a finished run.",
                    epilog="example: python recommend.py results/quick --user 1 -n 5",
                    allow_abbrev=False)
    parser.add_argument("run", help="a run folder, such as results/quick, or an export of it, such "
                        "as results/quick/export")
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--user", metavar="ID", help="recommend items to this user")
    question.add_argument("--item", metavar="ID", help="list items similar to this one")
    question.add_argument("--predict", metavar="FILE", help="predict the ratings of the pairs in "
                          "the columns user and item of this file, and print them as CSV")
    question.add_argument("--all", metavar="FILE", help="write recommendations for every user to "
                          "this new CSV file")
    parser.add_argument("-n", type=int, default=10, metavar="N",
                        help="number of items to list (default: 10)")
    parser.add_argument("--ratings", metavar="FILE", help="before answering, fold in the new "
                        "ratings in the columns user, item and rating of this file, of new or "
                        "known users and items; nothing is trained again (default: none)")
    as_main = "of the --predict or --ratings file, as for main.py (default: {})"
    parser.add_argument("--columns", metavar="NAMES",
                        help="columns " + as_main.format("as in the run's rating file"))
    parser.add_argument("--read_csv", nargs="+", default=(), metavar="KEY=VALUE",
                        help="format " + as_main.format("as in the run's rating file"))
    add_data_flags(parser)
    parser.add_argument("--output", metavar="FILE", help="write the answer to this new file, as "
                        "CSV (default: print it)")
    parser.add_argument("--json", action="store_true", help="print or write the answer as JSON")
    given = parser.parse_args(arguments)
    if given.n < 1:
        parser.error(f"-n {given.n}: must be at least 1")
    if given.all and (given.json or given.output):
        parser.error("--all already names a CSV file. Leave out --json and --output.")
    return given


def answer(given: argparse.Namespace) -> None:
    """Print or write the answer to a command line. Raise UserError for invalid input."""
    for path in filter(None, (given.all, given.output)):
        if Path(path).exists():
            raise UserError(f"{path} already exists and is never overwritten. Choose another "
                            "name.")
    recommender, config = open_recommender(given)
    if recommender.rated is None and (given.user is not None or given.all):
        print_note("An export holds no ratings: items that the user has rated are not left out.")
    if given.all:
        write_top(recommender, given.n, given.all)
    elif given.predict:
        ids = recommender.user_ids, recommender.item_ids
        users, items, _ = read_file(given.predict, given, config, *ids)
        table = predict(recommender, users, items)
        of_user, of_item = (table[f"{x}_ratings"].to_numpy() for x in ("user", "item"))
        if warning := cold_warning(users, items, of_user, of_item, config.cold_rating):
            print_note(warning)
        print_table(table, given, index=False)
    elif given.user is not None:
        user = as_id(given.user, recommender.user_ids, "--user")
        table = recommend(recommender, user, given.n)
        known = recommender.user_ratings[recommender.user(user)]
        heading = f"Recommendations for user {user}, who has {known:,} training ratings:"
        print_table(table, given, heading)
    else:
        item = as_id(given.item, recommender.item_ids, "--item")
        table = similar(recommender, item, given.n)
        title = recommender.titles.get(str(item), f"item {item}")
        known = recommender.item_ratings[recommender.item(item)]
        heading = f"Items similar to {title}, which has {known:,} ratings:"
        print_table(table, given, heading)


def open_recommender(given: argparse.Namespace) -> tuple[Recommender, Config]:
    """Return the recommender of a run folder, with the new --ratings folded in, or of an export,
    and the settings of the run."""
    run = Path(given.run)
    path = run / NAME if (run / NAME).is_file() else run
    if path.is_file():
        if given.ratings:
            raise UserError(f"--ratings needs the ratings of the run, which {path} does not hold. "
                            "Name the run folder instead.")
        recommender = read_npz(path)
        config = replace(npz_config(path), data_dir=given.data_dir)
        titles = read_titles(config.dataset or "", config.ratings_folder())
        return recommender.titled(titles), config
    if (run / PREDICTIONS).is_file() and not given.ratings:  # needs no TensorFlow
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
    """Return the recommender stored in a run folder, and the settings of the run. Read the ratings
    only if the answer must leave out rated items."""
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
    """Read the pairs, or with `scale` the ratings, in a file.

    Args:
        path: File. Its format and columns are those of the run's rating file, unless flags differ.
        given: Flags.
        config: Settings of the run.
        user_ids: Ids of the run's users, int64 or text; the result has the same type.
        item_ids: The same for the items.
        scale: Lowest and highest rating, or None for a file without ratings.

    Returns:
        Users, items and ratings (without `scale`, values to ignore), one entry a line.

    Raises:
        UserError: The file is malformed; the message names the file and the line.
    """
    roles, read_csv = 2 if scale is None else 3, given.read_csv or config.read_csv
    try:
        file = open_file(Path(path), given.columns or config.columns, read_csv, roles)
    except UserError:
        if given.columns or not config.columns:
            raise
        file = open_file(Path(path), None, read_csv, roles)
    rules = Rules(scale, no_rating=config.no_rating, no_id=config.no_id)
    duplicates = None if scale is None else config.duplicates
    return read_more(file, (user_ids, item_ids), rules, duplicates, print_note)


def write_top(recommender: Recommender, n: int, path: str) -> None:
    """Write the `n` best items of every user to the file `path`, block by block."""
    total, done, started = int((recommender.user_ratings > 0).sum()), 0, time.perf_counter()
    progress = Progress(path, 0, sys.stderr)
    with new_file(path) as file:
        for number, block in enumerate(top(recommender, n)):
            block.to_csv(file, index=False, header=number == 0, float_format="%.4f",
                         lineterminator="\n")
            done += block["user"].nunique()
            progress.count(done, total, time.perf_counter() - started)
        progress.close()
    print_note(f"{path}: the best {n} items for each of {done:,} users.")


def print_table(table: pd.DataFrame, given: argparse.Namespace, heading: str = "",
                index: bool = True) -> None:
    """Print or write `table` as text, CSV or JSON."""
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
    """Return a table as text: numbers are aligned right, names left."""
    columns = []
    for name in table:
        cells = [f"{x:.3f}" if isinstance(x, float) else printable(str(x)) for x in table[name]]
        width = max(map(len, [name, *cells]))
        align = "<" if name in ("item", "title") else ">"
        columns.append([f"{cell:{align}{width}}" for cell in [name, *cells]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def print_note(text: str | AutoRecWarning) -> None:
    """Print a note to stderr, so that stdout holds only the answer."""
    print_line(text, sys.stderr)


@contextmanager
def new_file(path: str) -> Iterator[TextIO]:
    """Open the new file `path` for writing; it appears only when it is complete."""
    try:
        with atomic_write(Path(path)) as unfinished:
            with open(unfinished, "w", encoding="utf-8", newline="") as file:
                yield file
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror})") from error


if __name__ == "__main__":
    leave(main())
