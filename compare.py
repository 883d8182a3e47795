"""Table several runs side by side.

    python compare.py results/*                          # runs, in the order given
    python compare.py results/* --sort rmse              # the best first
    python compare.py results/* --csv runs.csv           # and as CSV, every digit

A row is a run folder, or the folder of a run over several splits: then means, with half of the
95 % interval. The settings shown are those in which the runs differ; `?` is one that a folder has
no record of. Below, each run over splits or folds is told from the first such one in the table, by
the differences of test RMSE on the splits that both have: what is random in a split is in both.
What a table of test results is not for is choosing settings: see --tune and
--validation_ratio of main.py. Exit codes: 0 done, 2 no run among the folders, or the
table is lost.
"""

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorec_tf.command_line import Parser
from autorec_tf.config import BEFORE, Config
from autorec_tf.evaluation.statistics import PairedDifference, paired_difference
from autorec_tf.records.run_folder import SPLITS, SUMMARY, read_settings, read_summary
from autorec_tf.records.summary import INTERVAL, MEAN, MEASURES, is_number
from autorec_tf.records.tables import aligned_table, with_interval
from autorec_tf.system.errors import UserError, print_answer, printable, run_program
from autorec_tf.system.files import read_csv, write_csv
from autorec_tf.system.terminal import open_streams, print_line

NOT_ALWAYS = ("biases", "validation RMSE", "reconstruction RMSE (test ratings as input)")
SORTS = {"rmse": "test RMSE", "mae": "MAE", "ndcg": "NDCG@10", "seconds": "seconds"}
# These have columns of their own, or change no result.
NOT_COMPARED = {"dataset", "preset", "num_splits", "run_name", "display_step", "checkpoint_every",
                "comet", "tensorboard"}
# What leaves a setting to the data or the machine, so that it can be compared with nothing.
OPEN: dict[str, Any] = {"rating_scale": [], "engine": "auto", "split_seed": None}


@dataclass(frozen=True)
class Result:
    """What a run folder says: means of the measures and half their 95 % intervals, by column; the
    test RMSE of each split, by what makes it the same one on the same ratings, and their
    fingerprint; and the settings, empty where they are not recorded."""

    name: str
    dataset: str
    preset: str
    status: str
    splits: int
    means: dict[str, float]
    halves: dict[str, float]
    scores: dict[tuple, float]
    fingerprint: str | None
    settings: dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("compare.py", lambda: compare(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("compare.py", description="Table several runs side by side.",
                    allow_abbrev=False)
    parser.add_argument("folders", nargs="+", help="run folders, as results/*")
    parser.add_argument("--sort", choices=SORTS, help="the best first (default: as given)")
    parser.add_argument("--csv", metavar="FILE", help="write the table to this new file, too")
    return parser.parse_args(arguments)


def compare(given: argparse.Namespace) -> None:
    """Answer a command line. Raises UserError for unusable input."""
    if given.csv and Path(given.csv).exists():
        raise UserError(f"{given.csv} already exists and is never overwritten: choose another name")
    results = read_results([Path(folder) for folder in given.folders])
    if not results:
        raise UserError("no run among these folders: name run folders, as results/*")
    if given.sort:
        results.sort(key=lambda result: sort_key(result, SORTS[given.sort]))
    columns = differing(results)
    first = next((result for result in results if result.scores), None)
    differences = [difference(result, first) for result in results]
    if given.csv:
        rows = [figures(*each, columns) for each in zip(results, differences, strict=True)]
        try:
            write_csv(Path(given.csv), rows)
        except OSError as error:
            raise UserError(f"cannot write {given.csv} ({error.strerror})") from error
    lines = [aligned_table([cells(result, columns, results) for result in results])]
    lines += [""] if any(differences) else []
    lines += [printable(as_line(result, first, paired))
              for result, paired in zip(results, differences, strict=True) if first and paired]
    print_answer("\n".join(lines))


def read_results(folders: Sequence[Path]) -> list[Result]:
    """The results of the run folders among `folders`; what is left out is told."""
    results, others = [], []
    for folder in folders:
        try:
            result = read_result(folder)
        except UserError as error:
            print_line(f"left out: {error}", sys.stderr)
            continue
        if result:
            results.append(result)
        else:
            others.append(str(folder))
    if others:
        print_line(f"left out, as no run: {', '.join(others)}", sys.stderr)
    return results


def read_result(folder: Path) -> Result | None:
    """What `folder` says, None if it is no run's; UserError if it is damaged."""
    several, record = read_settings(folder)
    summary = read_summary(folder)
    if not record and "status" not in summary:
        return None
    known = record | {k: summary[k] for k in ("dataset", "preset") if k in summary}
    suffix = MEAN if several else ""
    return Result(name=folder.resolve().name, dataset=str(known.get("dataset", "?")),
                  preset=str(known.get("preset", "?")),
                  status=str(summary.get("status", "no result yet")),
                  splits=int(number(folder, summary, "num_splits") or 0) if several else 1,
                  means=measures(folder, summary, suffix),
                  halves=measures(folder, summary, INTERVAL) if several else {},
                  scores=split_scores(folder, record) if several else {},
                  fingerprint=None if record.get("folds") else record.get("fingerprint"),
                  settings=settings_of(record, several))


def split_scores(folder: Path, record: dict[str, Any]) -> dict[tuple, float]:
    """The test RMSE of each split in the table of `folder`, by what makes it the same one on the
    same ratings: seed and share, fold and seed, or the fingerprint of a published fold."""
    prints = str(record.get("fingerprint")).split()
    names = record.get("folds")
    names = dict(zip(names, prints, strict=False)) if isinstance(names, list) else {}
    same = {name: str(record.get(name)) for name in ("train_ratio", "num_folds", "split_seed")}
    scores: dict[tuple, float] = {}
    try:
        for row in read_csv(folder / SPLITS):
            key: tuple = ("seed", row.get("split_seed"), same["train_ratio"])
            if "fold" in row:
                key = ("fold", row["fold"], same["num_folds"], same["split_seed"])
            if names:
                key = ("name", row["fold"], names[row["fold"]])
            scores[key] = float(row["final_test_rmse"])
    except (KeyError, OSError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{folder / SPLITS} is damaged: no split or RMSE in it") from error
    if not all(map(is_number, scores.values())):
        raise UserError(f"{folder / SPLITS} is damaged: final_test_rmse is no number")
    return scores


def measures(folder: Path, summary: dict[str, Any], suffix: str) -> dict[str, float]:
    """The measures, by column, that are in a summary under their names with `suffix`."""
    values = {name: number(folder, summary, f"{key}{suffix}") for name, key in MEASURES.items()}
    return {name: value for name, value in values.items() if value is not None}


def number(folder: Path, summary: dict[str, Any], name: str) -> float | None:
    value = summary.get(name)
    if value is not None and not is_number(value):
        raise UserError(f"{folder / SUMMARY} is damaged: {name} is no number")
    return value


def settings_of(record: dict[str, Any], several: bool) -> dict[str, Any]:
    """The settings in a record, as JSON has them, and the ratings' fingerprint. One that the
    record does not have had its default; those that each split chose for itself say so. Those of
    a blend's members are named by member and setting."""
    if not record:
        return {}
    defaults = json.loads(json.dumps(Config().to_dict())) | BEFORE
    settings = {name: record.get(name, default) for name, default in defaults.items()}
    if several and isinstance(settings["tune"], list):
        settings |= {name: "chosen" for name in map(str, settings["tune"]) if name in settings}
    members, each_own = settings["members"], settings.pop("member_settings")
    if isinstance(members, list) and isinstance(each_own, list):
        for member, own in zip(members, each_own, strict=False):
            if isinstance(own, dict):
                settings |= {f"{member} {name}": value for name, value in own.items()}
    if "fingerprint" in record:
        settings["fingerprint"] = str(record["fingerprint"])[:8]
    return {name: value for name, value in settings.items()
            if name not in NOT_COMPARED and (name not in OPEN or OPEN[name] != value)}


def differing(results: Sequence[Result]) -> list[str]:
    """The settings that are not the same in all runs which have a record of them."""
    records = [result.settings for result in results if result.settings]
    every = dict.fromkeys(name for record in records for name in record)
    names = [
        name for name in every
        if len({json.dumps(record[name]) for record in records if name in record}) > 1
    ]
    if all(record.get("split_seed") == record["random_seed"] for record in records):
        names = [name for name in names if name != "split_seed"]  # it says nothing more
    return names


def difference(result: Result, first: Result | None) -> PairedDifference | None:
    """Return how the test RMSE of a run differs from that of the `first` one over several splits,
    on the splits of both; None where they do not have two of the same ratings in common."""
    if first is None or result is first:
        return None
    same = result.dataset == first.dataset
    if result.fingerprint and first.fingerprint:  # older runs have none
        same = result.fingerprint == first.fingerprint
    both = [key for key in first.scores if key in result.scores]
    if not same or len(both) < 2:
        return None
    return paired_difference(*([one.scores[key] for key in both] for one in (result, first)))


def as_line(result: Result, first: Result, paired: PairedDifference) -> str:
    verdict = "significant" if paired.p_value < 0.05 else "not significant"
    return (
        f"{result.name} - {first.name}: test RMSE {paired.mean:+.4f} ± {paired.half:.4f} "
        f"over {paired.num_pairs} splits, paired, p = {paired.p_value:.1g}: {verdict}"
    )


def sort_key(result: Result, column: str) -> tuple[bool, float]:
    """Where a run stands when the best is first; those without a result are last."""
    value = result.means.get(column, 0.0)
    return column not in result.means, -value if column == "NDCG@10" else value


def cells(result: Result, columns: Sequence[str], results: Sequence[Result]) -> dict[str, str]:
    """A row for people."""
    shown = [name for name in MEASURES if name not in NOT_ALWAYS
             or any(name in other.means for other in results)]
    row = {name: with_interval(result.means[name], result.halves.get(name))
           if name in result.means else "" for name in shown if name != "seconds"}
    seconds = f"{result.means['seconds']:.0f}" if "seconds" in result.means else ""
    kind = {"run": result.name, "dataset": result.dataset, "preset": result.preset,
            "splits": str(result.splits)}
    settings = {name: as_text(result.settings.get(name, "?")) for name in columns}
    return kind | row | settings | {"seconds": seconds, "status": result.status}


def as_text(value: Any) -> str:
    """A setting, as the command line has it."""
    if isinstance(value, list):
        return " ".join(map(as_text, value))
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None else str(value)


def figures(result: Result, paired: PairedDifference | None,
            columns: Sequence[str]) -> dict[str, Any]:
    """A row for programs, with every digit, under the names of summary.json and config.json."""
    row = {"run": printable(result.name), "dataset": result.dataset, "preset": result.preset,
             "status": result.status, "splits": result.splits}
    for name, key in MEASURES.items():
        row |= {key: result.means.get(name), f"{key}{INTERVAL}": result.halves.get(name)}
    names = {"paired_difference": "mean", "paired_difference_ci95": "half",
             "paired_p": "p_value", "paired_splits": "num_pairs"}
    row |= {name: paired and getattr(paired, attribute) for name, attribute in names.items()}
    return row | {name: as_text(result.settings.get(name, "?")) for name in columns}


if __name__ == "__main__":
    sys.exit(main())
