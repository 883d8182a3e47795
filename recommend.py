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
import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

import autorec_tf  # noqa: F401 - first: it names missing packages

# isort: split
import numpy as np
import pandas as pd

from autorec_tf.command_line import Parser, add_data_flags
from autorec_tf.config import Config
from autorec_tf.data.delimited import Rules
from autorec_tf.data.formats import open_file
from autorec_tf.data.ids import as_id
from autorec_tf.data.merge import read_more
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.titles import read_titles
from autorec_tf.records.progress import Progress
from autorec_tf.records.run_folder import PREDICTIONS, check_checkpoints, config_of, read_record
from autorec_tf.records.tables import for_spreadsheet
from autorec_tf.serving.checked_npz import REMEDY_IN_RUN
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.npz import NAME, npz_config, read_npz, read_predictions, read_saved_model
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
from autorec_tf.serving.trained_run import FinishedRun
from autorec_tf.system.errors import AutoRecWarning, UserError, print_answer, printable, run_program
from autorec_tf.system.files import atomic_write
from autorec_tf.system.runtime import leave, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line
from data_preprocessor import split_of

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
    parser.add_argument("--spreadsheet", action="store_true", help="write text in CSV so that a "
                        "spreadsheet does not run it as a formula: after an apostrophe")
    given = parser.parse_args(arguments)
    if given.n < 1:
        parser.error(f"-n {given.n}: must be at least 1")
    if given.all and (given.json or given.output):
        parser.error("--all already names a CSV file. Leave out --json and --output.")
    if given.spreadsheet and (given.json or not (given.all or given.output or given.predict)):
        parser.error("--spreadsheet changes CSV: use it with --output, --predict or --all, and "
                     "without --json.")
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
        write_top(recommender, given)
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
    if path.is_file() and given.ratings:
        saved = read_saved_model(path)
        stored = saved.run(f"the parameters in {path}")
        return folded(stored, given, saved.recommender.titles)
    if path.is_file():
        recommender = read_npz(path)
        config = replace(npz_config(path), data_dir=given.data_dir)
        if not recommender.titles:  # an export of an earlier version
            titles = read_titles(config.dataset or "", config.ratings_folder())
            recommender = recommender.titled(titles)
        return recommender, config
    if (run / PREDICTIONS).is_file() and (opened := open_predictions(run, given)):
        return opened  # without TensorFlow
    start_tensorflow()
    from autorec_tf.serving.finished_run import read_run

    finished = read_run(run, given.data_dir, given.dataset, given.test_file)
    if given.ratings:
        return folded(finished, given)
    titles = read_titles(finished.ratings.name, finished.config.ratings_folder())
    return finished.recommender(titles), finished.config


def folded(run: FinishedRun, given: argparse.Namespace,
           titles: Mapping[str, str] | None = None) -> tuple[Recommender, Config]:
    """Return the recommender of `run` with the new --ratings folded in, and its settings. Without
    `titles`, they are read from the folder of the ratings."""
    config, known = replace(run.config, data_dir=given.data_dir), run.ratings
    new = read_file(given.ratings, given, config, known.user_ids, known.item_ids, known.scale)
    titles = titles or read_titles(known.name, config.ratings_folder())
    is_known = given.user is not None and given.user in known.user_ids.astype(str)
    if run.is_export and (given.all or is_known):
        print_note("An export holds no ratings: items that a user rated before are not left out.")
    return fold_in(run, *new).recommender(titles), config


def open_predictions(run: Path, given: argparse.Namespace) -> tuple[Recommender, Config] | None:
    """Return the recommender stored in a run folder, with the new --ratings folded in, and the
    settings of the run. Read the ratings only if the answer needs them. Return None if the file
    lacks what folding in needs: it is of an earlier version, or the run was interrupted."""
    record = read_record(run)
    config = config_of(run, record, data_dir=given.data_dir)
    check_checkpoints(run, record)
    stored = read_predictions(run / PREDICTIONS, record)
    recommender = stored.recommender
    if given.ratings and not stored.priors:
        return None
    if given.user is not None or given.all or given.ratings:
        ratings = ratings_of_run(run, config, record, given.dataset, given.test_file)
        check_ids(run / PREDICTIONS, recommender, ratings)
        if given.ratings:
            train = split_of(replace(config, orientation="item"), ratings).train
            return folded(stored.run(config, ratings, train), given)
        recommender = replace(recommender, rated=rated(ratings))
    titles = read_titles(config.dataset or "", config.ratings_folder())
    return recommender.titled(titles), config


def check_ids(path: Path, recommender: Recommender, ratings: Ratings) -> None:
    """Raise UserError if the file `path`, which holds `recommender`, has other ids than the run's
    ratings."""
    for name in ("user_ids", "item_ids"):
        if not np.array_equal(getattr(recommender, name), getattr(ratings, name)):
            raise UserError(f"{path}: '{name}' differs from the ids in the ratings. "
                            f"{REMEDY_IN_RUN}")


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


def write_top(recommender: Recommender, given: argparse.Namespace) -> None:
    """Write the best items of every user to the file of --all, block by block."""
    n, path = given.n, given.all
    total, done = int((recommender.user_ratings > 0).sum()), 0
    progress = Progress(path, sys.stderr)
    with new_file(path) as file:
        for number, block in enumerate(top(recommender, n)):
            file.write(as_csv(block, given.spreadsheet, header=number == 0))
            done += block["user"].nunique()
            progress.count("users", done, total)
        progress.close()
    print_note(f"{path}: the best {n} items for each of {done:,} users.")


def print_table(table: pd.DataFrame, given: argparse.Namespace, heading: str = "",
                index: bool = True) -> None:
    """Print or write `table` as text, CSV or JSON."""
    table = table.reset_index() if index else table
    if given.json:
        text = table.to_json(orient="records", indent=1)
    elif given.output or given.predict:
        if not given.output and sys.stdout.isatty():
            table = table.map(lambda x: printable(x) if isinstance(x, str) else x)
        text = as_csv(table, given.spreadsheet).rstrip("\n")
    else:
        text = f"{printable(heading)}\n{as_text(table)}"
    if given.output:
        with new_file(given.output) as file:
            file.write(f"{text}\n")
    else:
        print_answer(text)


def as_csv(table: pd.DataFrame, spreadsheet: bool, header: bool = True) -> str:
    """Return a table as CSV: ids and titles as they are, or made safe for a `spreadsheet`."""
    table = table.map(for_spreadsheet) if spreadsheet else table
    form: dict[str, Any] = dict(index=False, header=header, float_format="%.4f",
                                lineterminator="\n")
    text = table.to_csv(**form)
    if "\r" in text:  # which Python 3.11 does not quote
        text = table.to_csv(**form, quoting=csv.QUOTE_NONNUMERIC)
    return text


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
