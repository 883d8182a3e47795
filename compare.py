"""Print a table that compares several runs.

    python compare.py results/*                          # in the given order
    python compare.py results/* --sort rmse              # the best run first
    python compare.py results/* --csv runs.csv           # also write CSV, with every digit

Each row is a run folder, or the folder of a run over several splits, which shows means and half of
their 95 % intervals. The table has a column for each setting in which the runs differ; `?` means
that the folder does not record the setting. Lines below the table compare each run over splits or
folds with the first such run, by the paired differences of RMSE, MAE, NDCG@10 and Recall@10 on the
splits that both have; pairing removes the variance between splits. Runs on one split are compared
with the first such run if their test ratings are the same: RMSE and MAE in pairs by test rating,
NDCG@10 and Recall@10 by user. Do not choose settings by test results: main.py has --tune and
--validation_ratio for that. Exit codes: 0 done; 2 no run among the folders, or the table could not
be written.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import autorec_tf  # noqa: F401 - first: it names missing packages

# isort: split
import numpy as np

from autorec_tf.command_line import Parser
from autorec_tf.config import BEFORE, Config
from autorec_tf.evaluation.statistics import (
    PairedDifference,
    paired_difference,
    paired_rmse_difference,
)
from autorec_tf.records.paired_scores import PairedScores, read_paired_scores
from autorec_tf.records.run_folder import (
    SPLITS,
    SUMMARY,
    TEST_SCORES,
    read_settings,
    read_summary,
)
from autorec_tf.records.summary import INTERVAL, MEAN, MEASURES, is_number
from autorec_tf.records.tables import aligned_table, as_markdown, for_spreadsheet, with_interval
from autorec_tf.system.errors import UserError, print_answer, printable, run_program
from autorec_tf.system.files import read_csv, write_csv
from autorec_tf.system.terminal import open_streams, print_line

ALWAYS = ("test RMSE", "MAE", "NDCG@10")  # other measures have a column if a run has them
# The measures whose differences are tested: displayed name, and names in splits.csv and --csv.
TESTED = {"test RMSE": ("final_test_rmse", ""), "MAE": ("final_test_mae", "_mae"),
          "NDCG@10": ("ndcg_at_10", "_ndcg"), "Recall@10": ("recall_at_10", "_recall")}
Scores = dict[str, dict[tuple, float]]  # of each measure, by the key of a split
SORTS = {"rmse": "test RMSE", "mae": "MAE", "ndcg": "NDCG@10", "seconds": "seconds"}
# These settings have a fixed column, or do not change the result.
NOT_COMPARED = {"dataset", "preset", "num_splits", "run_name", "display_step", "checkpoint_every",
                "comet", "tensorboard", "start_fingerprint",
                "start_removed"}
# Values that are resolved from the data or the machine, and so cannot be compared.
UNRESOLVED: dict[str, Any] = {"rating_scale": [], "engine": "auto", "split_seed": None}


@dataclass(frozen=True)
class Difference:
    """The difference of a measure between two runs, in pairs of a `unit`."""

    measure: str
    unit: str
    paired: PairedDifference


@dataclass(frozen=True)
class Result:
    """The result of a run folder."""

    name: str
    dataset: str
    preset: str
    status: str
    splits: int
    means: dict[str, float]  # of each measure, by column
    halves: dict[str, float]  # half the 95 % intervals of the means
    scores: Scores  # of a run over splits
    test: PairedScores | None  # of a run on one split
    fingerprint: str | None  # of the ratings
    settings: dict[str, Any]  # empty if they are not recorded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("compare.py", lambda: compare(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("compare.py", description="Print a table that compares several runs.",
                    epilog="example: python compare.py results/* --sort rmse", allow_abbrev=False)
    parser.add_argument("folders", nargs="+", help="run folders, such as results/*")
    parser.add_argument("--sort", choices=SORTS, help="sort by this measure, the best run first "
                        "(default: in the given order)")
    parser.add_argument("--csv", metavar="FILE", help="also write the table, with every digit, to "
                        "this new file (default: only print it)")
    parser.add_argument("--spreadsheet", action="store_true", help="write text in the --csv file "
                        "so that a spreadsheet does not run it as a formula: after an apostrophe")
    given = parser.parse_args(arguments)
    if given.spreadsheet and not given.csv:
        parser.error("--spreadsheet changes the file of --csv. Add --csv FILE.")
    return given


def compare(given: argparse.Namespace) -> None:
    """Print the table of a command line. Raise UserError for invalid input."""
    if given.csv and Path(given.csv).exists():
        raise UserError(f"{given.csv} already exists and is never overwritten. Choose another "
                        "--csv.")
    results = read_results([Path(folder) for folder in given.folders])
    if not results:
        raise UserError("none of these is a run folder. Name run folders, such as results/*.")
    if given.sort:
        results.sort(key=lambda result: sort_key(result, SORTS[given.sort]))
    columns = differing_settings(results)
    firsts = [first_like(result, results) for result in results]
    differences = [differences_between(*both) for both in zip(results, firsts, strict=True)]
    if given.csv:
        rows = [figures(*each, columns) for each in zip(results, differences, strict=True)]
        if given.spreadsheet:
            rows = [{name: for_spreadsheet(x) for name, x in row.items()} for row in rows]
        try:
            write_csv(Path(given.csv), rows)
        except OSError as error:
            raise UserError(f"cannot write {given.csv} ({error.strerror})") from error
    lines = [aligned_table([cells(result, columns, results) for result in results])]
    lines += [""] if any(differences) else []
    lines += [as_markdown(as_line(result, first, each))
              for result, first, found in zip(results, firsts, differences, strict=True)
              for each in found if first]
    print_answer("\n".join(lines))


def read_results(folders: Sequence[Path]) -> list[Result]:
    """Return the results of the run folders among `folders`, and report the folders skipped."""
    results, skipped = [], []
    for folder in folders:
        try:
            result = read_result(folder)
        except UserError as error:
            print_line(f"skipped: {error}", sys.stderr)
            continue
        if result:
            results.append(result)
        else:
            skipped.append(str(folder))
    if skipped:
        print_line(f"skipped, not a run folder: {', '.join(skipped)}", sys.stderr)
    return results


def read_result(folder: Path) -> Result | None:
    """Return the result in `folder`, or None if that is not a run folder. Raise UserError if it is
    damaged."""
    is_repeated, record = read_settings(folder)
    summary = read_summary(folder)
    if not record and "status" not in summary:
        return None
    known = record | {k: summary[k] for k in ("dataset", "preset") if k in summary}
    suffix = MEAN if is_repeated else ""
    return Result(name=folder.resolve().name, dataset=str(known.get("dataset", "?")),
                  preset=str(known.get("preset", "?")),
                  status=str(summary.get("status", "no result yet")),
                  splits=int(number(folder, summary, "num_splits") or 0) if is_repeated else 1,
                  means=measures(folder, summary, suffix),
                  halves=measures(folder, summary, INTERVAL) if is_repeated else {},
                  scores=split_scores(folder, record) if is_repeated else {},
                  test=None if is_repeated else read_paired_scores(
                      folder / TEST_SCORES, number(folder, summary, "final_test_rmse")),
                  fingerprint=None if record.get("folds") else record.get("fingerprint"),
                  settings=settings_of(record, is_repeated))


def split_scores(folder: Path, record: dict[str, Any]) -> Scores:
    """Return the measures of each split of the run in `folder`, as far as they are recorded.

    The keys are equal for equal splits of the same ratings: seed and --train_ratio; fold, number of
    folds and seed; or name and fingerprint of a published fold."""
    fingerprints = str(record.get("fingerprint")).split()
    names = record.get("folds")
    names = dict(zip(names, fingerprints, strict=False)) if isinstance(names, list) else {}
    common = {name: str(record.get(name)) for name in ("train_ratio", "num_folds", "split_seed")}
    scores: Scores = {measure: {} for measure in TESTED}
    try:
        for row in read_csv(folder / SPLITS):
            key: tuple = ("seed", row.get("split_seed"), common["train_ratio"])
            if "fold" in row:
                key = ("fold", row["fold"], common["num_folds"], common["split_seed"])
            if names:
                key = ("name", row["fold"], names[row["fold"]])
            for measure, (column, _) in TESTED.items():
                if column in row or measure == "test RMSE":
                    scores[measure][key] = float(row[column])
    except (KeyError, OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{folder / SPLITS} is damaged: a split or its RMSE is missing") from error
    for measure, (column, _) in TESTED.items():
        if not all(map(is_number, scores[measure].values())):
            raise UserError(f"{folder / SPLITS} is damaged: {column} is not a number")
    return scores if scores["test RMSE"] else {}


def measures(folder: Path, summary: dict[str, Any], suffix: str) -> dict[str, float]:
    """Return the measures in a summary, whose keys end with `suffix`, by column."""
    values = {name: number(folder, summary, f"{key}{suffix}") for name, key in MEASURES.items()}
    return {name: value for name, value in values.items() if value is not None}


def number(folder: Path, summary: dict[str, Any], name: str) -> float | None:
    value = summary.get(name)
    if value is not None and not is_number(value):
        raise UserError(f"{folder / SUMMARY} is damaged: {name} is not a number")
    return value


def settings_of(record: dict[str, Any], is_repeated: bool) -> dict[str, Any]:
    """Return the settings in a record, with JSON's types, and the fingerprint of the ratings.

    A setting that is missing has its default. Settings that were tuned for each split are "chosen".
    Settings of the members of a blend have the names of the member and the setting."""
    if not record:
        return {}
    defaults = json.loads(json.dumps(Config().to_dict())) | BEFORE
    settings = {name: record.get(name, default) for name, default in defaults.items()}
    if is_repeated and isinstance(settings["tune"], list):
        settings |= {name: "chosen" for name in map(str, settings["tune"]) if name in settings}
    members, member_settings = settings["members"], settings.pop("member_settings")
    if isinstance(members, list) and isinstance(member_settings, list):
        for member, content in zip(members, member_settings, strict=False):
            if isinstance(content, dict):
                settings |= {f"{member} {name}": value for name, value in content.items()}
    if settings["optimizer_method"] != "LBFGS" and not settings["members"]:
        settings = {name: settings[name] for name in settings if not name.startswith("lbfgs_")}
    if "fingerprint" in record:
        settings["fingerprint"] = str(record["fingerprint"])[:8]
    return {name: value for name, value in settings.items()
            if name not in NOT_COMPARED and (name not in UNRESOLVED or UNRESOLVED[name] != value)}


def differing_settings(results: Sequence[Result]) -> list[str]:
    """Return the settings that differ between the runs that record them."""
    records = [result.settings for result in results if result.settings]
    recorded = dict.fromkeys(name for record in records for name in record)
    names = [
        name for name in recorded
        if len({json.dumps(record[name]) for record in records if name in record}) > 1
    ]
    if all(record.get("split_seed") == record["random_seed"] for record in records):
        names = [name for name in names if name != "split_seed"]  # it adds nothing
    return names


def first_like(result: Result, results: Sequence[Result]) -> Result | None:
    """Return the first of `results` that is a run over several splits, or on one split, as `result`
    is, and that has the scores to compare it with."""
    if result.scores:
        return next(each for each in results if each.scores)
    return next((each for each in results if each.test), None) if result.test else None


def differences_between(result: Result, first: Result | None) -> list[Difference]:
    """Return the paired differences of a run from the `first` run: none, if they have fewer than
    two pairs of the same ratings in common."""
    if first is None or result is first:
        return []
    if result.test and first.test:
        return single_differences(result.test, first.test)
    same = result.dataset == first.dataset
    if result.fingerprint and first.fingerprint:  # earlier versions did not record it
        same = result.fingerprint == first.fingerprint
    differences = []
    for measure in TESTED if same else ():
        scores, others = result.scores[measure], first.scores[measure]
        both = [key for key in others if key in scores]
        if len(both) > 1:
            paired = paired_difference([scores[k] for k in both], [others[k] for k in both])
            differences.append(Difference(measure, "splits", paired))
    return differences


def single_differences(scores: PairedScores, others: PairedScores) -> list[Difference]:
    """Return the differences between two runs on one split: by test rating, and by ranked user."""
    if scores.test != others.test or len(scores.errors) < 2:
        return []
    unit, errors = "test ratings", (scores.errors, others.errors)
    differences = [Difference("test RMSE", unit, paired_rmse_difference(*errors)),
                   Difference("MAE", unit, paired_difference(*errors))]
    users, mine, theirs = np.intersect1d(scores.users, others.users, return_indices=True)
    if scores.relevant == others.relevant and len(users) > 1:
        pairs = {"NDCG@10": (scores.ndcg, others.ndcg), "Recall@10": (scores.recall, others.recall)}
        differences += [Difference(name, "users", paired_difference(x[mine], y[theirs]))
                        for name, (x, y) in pairs.items()]
    return differences


def as_line(result: Result, first: Result, found: Difference) -> str:
    paired = found.paired
    verdict = "significant" if paired.p_value < 0.05 else "not significant"
    return (
        f"{result.name} - {first.name}: {found.measure} {paired.difference:+.4f} ± "
        f"{paired.half:.4f} over {paired.num_pairs:,} {found.unit}, paired, "
        f"p = {paired.p_value:.1g}: {verdict}"
    )


def sort_key(result: Result, column: str) -> tuple[bool, float]:
    """Return the key that sorts the best run first, and runs without a result last."""
    value = result.means.get(column, 0.0)
    return column not in result.means, -value if column == "NDCG@10" else value


def cells(result: Result, columns: Sequence[str], results: Sequence[Result]) -> dict[str, str]:
    """Return a row of the printed table."""
    shown = [name for name in MEASURES if name in ALWAYS
             or any(name in other.means for other in results)]
    row = {name: with_interval(result.means[name], result.halves.get(name))
           if name in result.means else "" for name in shown if name != "seconds"}
    seconds = f"{result.means['seconds']:.0f}" if "seconds" in result.means else ""
    kind = {"run": result.name, "dataset": result.dataset, "preset": result.preset,
            "splits": str(result.splits)}
    settings = {name: as_text(result.settings.get(name, "?")) for name in columns}
    return kind | row | settings | {"seconds": seconds, "status": result.status}


def as_text(value: Any) -> str:
    """Return the value of a setting as on the command line."""
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def figures(result: Result, differences: Sequence[Difference],
            columns: Sequence[str]) -> dict[str, Any]:
    """Return a row of the CSV file: every digit, and the names of summary.json and config.json."""
    row = {"run": printable(result.name), "dataset": result.dataset, "preset": result.preset,
             "status": result.status, "splits": result.splits}
    for name, key in MEASURES.items():
        row |= {key: result.means.get(name), f"{key}{INTERVAL}": result.halves.get(name)}
    found = {each.measure: each.paired for each in differences}
    for measure, (_, suffix) in TESTED.items():
        names = {f"paired_difference{suffix}": "difference",
                 f"paired_difference{suffix}_ci95": "half", f"paired_p{suffix}": "p_value"}
        row |= {name: getattr(found.get(measure), attribute, None)
                for name, attribute in names.items()}
    numbers = {each.unit: each.paired.num_pairs for each in differences}
    row |= {f"paired_{unit.replace(' ', '_')}": numbers.get(unit)
            for unit in ("splits", "test ratings", "users")}
    return row | {name: as_text(result.settings.get(name, "?")) for name in columns}


if __name__ == "__main__":
    sys.exit(main())
