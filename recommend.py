"""Recommend from a finished run.

    python recommend.py results/<run> --user 1 -n 10              # what user 1 would like best
    python recommend.py results/<run> --item 1                    # what is like item 1
    python recommend.py results/<run> --predict pairs.csv         # ratings of user,item pairs
    python recommend.py results/<run> --all top.csv               # everybody's best
    python recommend.py results/<run> --ratings new.csv --user 7  # with new ratings, not retrained
    python recommend.py results/<run>/export --item 1             # from an export, without ratings

What a user has rated is left out. Ids are those of the ratings' file. CSV files have a header line.
Exit codes: 0 done, 2 unusable input, 130 ended by Ctrl-C.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from command_line import Parser
from config import Config
from data.titles import read_titles
from records.progress import Progress, print_line
from serving.npz import NAME, npz_dataset, read_npz
from serving.recommender import Recommender, predict, recommend, similar, top
from system.errors import UserError, run_program
from system.files import atomic_write
from system.runtime import start_tensorflow

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.

WHOLE_NUMBER = r"-?\d{1,18}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    given = parse(arguments)
    return run_program("recommend.py", lambda: answer(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(
        "recommend.py", description="Recommend from a finished run.", allow_abbrev=False
    )
    parser.add_argument("run", help="a run folder, as results/quick, or what export.py made of it")
    question = parser.add_mutually_exclusive_group(required=True)
    question.add_argument("--user", metavar="ID", help="recommend items to this user")
    question.add_argument("--item", metavar="ID", help="find items similar to this one")
    question.add_argument(
        "--predict", metavar="CSV", help="predict the ratings of the pairs in this file's columns "
        "user and item; prints CSV",
    )
    question.add_argument(
        "--all", metavar="CSV", help="write this new file with recommendations for every user"
    )
    parser.add_argument("-n", type=int, default=10, help="items to recommend (default: 10)")
    parser.add_argument(
        "--ratings", metavar="CSV", help="take in the new ratings in this file's columns user, "
        "item and rating, of new or known users and items, without training again",
    )
    parser.add_argument("--data_dir", metavar="FOLDER", help="of the ratings, as for main.py")
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
    if given.all:
        refuse_existing(given.all)
    if given.output:
        refuse_existing(given.output)
    recommender = open_recommender(given.run, given.data_dir, given.ratings)
    unfiltered = recommender.rated is None and (given.user is not None or given.all)
    if unfiltered:
        warn("An export holds no ratings: what a user has rated is not left out.")
    if given.all:
        write_top(recommender, given.n, given.all)
    elif given.predict:
        pairs = read_table(given.predict, ("user", "item"))
        users = as_ids(pairs["user"], recommender.user_ids, given.predict)
        items = as_ids(pairs["item"], recommender.item_ids, given.predict)
        table = predict(recommender, users, items)
        cold = int(((table["user_ratings"] == 0) | (table["item_ratings"] == 0)).sum())
        if cold:
            warn(f"{cold:,} of {len(table):,} pairs have a user or an item without training "
                 "ratings: predicted by what is known, or 3, as when the run was scored.")
        print_table(table, given, index=False)
    elif given.user is not None:
        user = as_ids(pd.Series([given.user]), recommender.user_ids, "--user")[0]
        table = recommend(recommender, user, given.n)
        known = recommender.user_ratings[recommender.user(user)]
        heading = f"For user {user}, from {known:,} training ratings:"
        print_table(table, given, heading)
    else:
        item = as_ids(pd.Series([given.item]), recommender.item_ids, "--item")[0]
        table = similar(recommender, item, given.n)
        title = recommender.titles.get(str(item), f"item {item}")
        heading = f"Like {title}, by {recommender.item_ratings[recommender.item(item)]:,} ratings:"
        print_table(table, given, heading)


def open_recommender(run: str, data_dir: str | None, ratings: str | None) -> Recommender:
    """The recommender of a run folder, with the new `ratings` taken in, or of an export."""
    path = Path(run) / NAME if (Path(run) / NAME).is_file() else Path(run)
    folder = Config(data_dir=data_dir).ratings_folder()
    if path.is_file():
        if ratings:
            raise UserError(f"--ratings needs the run's own ratings, which {path} does not hold: "
                            "name the run folder")
        recommender = read_npz(path)
        titles = read_titles(npz_dataset(path), folder)
        return recommender.titled(titles)
    start_tensorflow()
    from serving.finished_run import read_run
    from serving.fold_in import fold_in

    finished = read_run(run, data_dir)
    if ratings:
        known, table = finished.ratings, read_table(ratings, ("user", "item", "rating"))
        users = as_ids(table["user"], known.user_ids, ratings)
        items = as_ids(table["item"], known.item_ids, ratings)
        values = as_ratings(table["rating"], known.scale, ratings)
        refuse_repeated(table, ratings)
        finished = fold_in(finished, users, items, values)
    return finished.recommender(read_titles(finished.ratings.name, folder))


def read_table(path: str, columns: Sequence[str]) -> pd.DataFrame:
    """The named columns of a CSV file with a header, as text; its index counts lines.

    Raises UserError that names the file, the line and what is wrong.
    """
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, na_values=[""],
                            skipinitialspace=True, skip_blank_lines=False)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror})") from error
    except pd.errors.EmptyDataError as error:
        raise UserError(f"{path} is empty: expected a header line with {names(columns)}") from error
    except ValueError as error:  # also of the encoding, and pandas' own
        raise UserError(f"{path} is no CSV file: {str(error).strip()}") from error
    missing = [name for name in columns if name not in table]
    if missing:
        raise UserError(f"{path} has no column {missing[0]}: its header must name {names(columns)}")
    table.index += 2  # the first line is the header
    table = table[list(columns)].dropna(how="all")  # lines with nothing in them
    if table.empty:
        raise UserError(f"{path} has no line after its header")
    for name in columns:
        refuse(table[name].isna(), path, f"no {name}")
    return table


def as_ids(texts: pd.Series, ids: np.ndarray, where: str) -> np.ndarray:
    """`texts` as ids of the kind that `ids` are; UserError for what cannot be one."""
    if ids.dtype.kind not in "iu":
        return texts.to_numpy(object)
    wrong = ~texts.str.fullmatch(WHOLE_NUMBER)
    if where.startswith("--") and wrong.any():
        raise UserError(f"{where} {texts.iloc[0]!r}: ids are whole numbers here")
    refuse(wrong, where, "ids are whole numbers here, and not", texts)
    return texts.astype(np.int64).to_numpy()


def as_ratings(texts: pd.Series, scale: tuple[float, float], path: str) -> np.ndarray:
    values = pd.to_numeric(texts, errors="coerce")
    wrong = ~((values >= scale[0]) & (values <= scale[1]))
    refuse(wrong, path, f"ratings are {scale[0]:g} to {scale[1]:g}, and not", texts)
    return values.to_numpy(np.float32)


def refuse_repeated(table: pd.DataFrame, path: str) -> None:
    refuse(table.duplicated(["user", "item"]), path, "this user rates this item again")


def refuse(
    wrong: pd.Series, path: str, what: str, texts: pd.Series | None = None
) -> None:
    """Raise UserError for the first line that is `wrong`, if there is one."""
    if wrong.any():
        line = wrong.idxmax()
        shown = "" if texts is None else f" {texts[line][:80]!r}"
        raise UserError(f"{path}, line {line}: {what}{shown}")


def names(columns: Sequence[str]) -> str:
    return f"{', '.join(columns[:-1])} and {columns[-1]}"


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


def print_table(
    table: pd.DataFrame, given: argparse.Namespace, heading: str = "", index: bool = True
) -> None:
    """Print or write `table`, as text, CSV or JSON."""
    table = table.reset_index() if index else table
    if given.json:
        text = table.to_json(orient="records", indent=1) + "\n"
    elif given.output or given.predict:
        text = table.to_csv(index=False, float_format="%.4f", lineterminator="\n")
    else:
        text = f"{heading}\n{as_text(table)}\n"
    if given.output:
        with new_file(given.output) as file:
            file.write(text)
    else:
        print_line(text, end="")


def as_text(table: pd.DataFrame) -> str:
    """A table for people: numbers to the right, text to the left."""
    columns = []
    for name in table:
        cells = [f"{x:.3f}" if isinstance(x, float) else str(x) for x in table[name]]
        width = max(map(len, [name, *cells]))
        align = "<" if name in ("item", "title") else ">"
        columns.append([f"{cell:{align}{width}}" for cell in [name, *cells]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*columns, strict=True))


def warn(text: str) -> None:
    """Tell a person something, beside what a program may read."""
    print_line(text, sys.stderr)


def refuse_existing(path: str) -> None:
    if Path(path).exists():
        raise UserError(f"{path} already exists and is never overwritten: choose another name")


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
    sys.exit(main())
