"""AutoRec and other libraries on the same splits of MovieLens-1M: test RMSE, time and memory.

    python -m benchmarks.peers                          # every row, seeds 1994..1998: many hours
    python -m benchmarks.peers --splits 1994 1995       # these splits
    python -m benchmarks.peers svdpp default            # these rows
    python -m benchmarks.peers --render                 # table and figure of the finished rows

Splits are the same as with `python main.py --random_seed SEED`. The rows of a split run one after
the other, and nothing else should run at the same time, because time is measured. Finished rows are
not run again, so the script continues where it was stopped. Peers run in a separate environment,
made from requirements-peers.txt in .peers/ next to this file. Writes peers.csv, time_to_rmse.csv,
machines.csv, table.md and peers.png into results/peers/, and updates docs/peers.md.
"""

import argparse
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.evaluate import score_test
from autorec_tf.evaluation.statistics import mean_and_interval
from autorec_tf.records.plots import write_png
from autorec_tf.records.tables import table, with_interval
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import lock, read_csv, read_json, unlock, write_csv, write_text
from benchmarks import paper_tables
from benchmarks.paper_tables import MAIN, PLAIN, Row
from benchmarks.peer_models import DATED, MODELS, module_of
from benchmarks.peer_plot import draw
from data_preprocessor import load_ratings, split_ratings

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / "benchmarks" / ".peers"
FOLDER = ROOT / "benchmarks" / "results" / "peers"
PAGE = ROOT / "docs" / "peers.md"
REQUIREMENTS = ROOT / "requirements-peers.txt"
# LIBMF's makefile turns vector instructions on, its Python package does not: 3 times as slow.
CXXFLAGS = "-O3 -DUSEAVX -mavx" if platform.machine() in ("x86_64", "AMD64") else "-O3"
BEGIN, END = "<!-- what benchmarks.peers wrote -->\n", "<!-- end -->"
LEFT = "../benchmarks/results/peers"  # relative to the page
RESULTS, TIMES, MACHINES = "peers.csv", "time_to_rmse.csv", "machines.csv"
BELOW = (0.850, 0.840, 0.830)
SPLITS = range(1994, 1999)
# Rows of AutoRec that are measured here, if they exist.
WANTED = ("default", "fast", "paper", "paper_fixed", "u_one_hot", "deep", "single", "best")
# Settings that the search of `paper` chose on the validation ratings of seed 1994's split.
PAPER_FIXED = Row(
    "paper_fixed", "I-AutoRec, equation 2, λ = 40, settings chosen earlier by validation",
    f"{PLAIN} --train_epoch 100",
)
OURS = {row.name: row for name in WANTED
        for row in (*paper_tables.ROWS, PAPER_FIXED) if row.name == name}
TEXTS = {name: text for name, (text, _) in MODELS.items()} | {
    name: f"AutoRec: {row.text}" for name, row in OURS.items()
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="peers", description=__doc__.split("\n\n")[0])
    parser.add_argument("rows", nargs="*", help="rows to run (default: all)")
    parser.add_argument("--splits", nargs="+", type=int, default=SPLITS, metavar="SEED",
                        help="seeds of the splits (default: 1994 to 1998)")
    parser.add_argument("--render", action="store_true", help="write table and figure only")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(TEXTS):
        raise UserError(f"unknown row {', '.join(sorted(unknown))}: choose from {', '.join(TEXTS)}")
    if not arguments.render:
        run(unfinished(FOLDER, arguments.rows or TEXTS, arguments.splits))
    render(FOLDER, PAGE)
    print((FOLDER / "table.md").read_text(encoding="utf-8"))


def unfinished(folder: Path, rows: Container[str], splits: Sequence[int]) -> list[tuple[str, int]]:
    """Return the (row, split) pairs that are not in `folder` yet, split by split."""
    done = {(line["row"], int(line["split"])) for line in read_csv(folder / RESULTS)}
    asked = [row for row in TEXTS if row in rows]
    return [pair for split in splits for row in asked if (pair := (row, split)) not in done]


def run(pairs: Sequence[tuple[str, int]]) -> None:
    """Measure and record each (row, split)."""
    make_cache()
    held = lock(CACHE)  # two processes would slow each other down
    try:
        if any(row in MODELS for row, _ in pairs):
            ratings, python = load_ratings(Config(dataset="ml-1m")), make_environment()
        for row, seed in pairs:
            print(f"{row} on split {seed}", file=sys.stderr, flush=True)
            if row in OURS:
                line, times = measure_ours(row, seed)
            else:
                line, times = measure_peer(row, seed, ratings, python), []
            record(FOLDER, row, seed, line, times)
    finally:
        unlock(held)


def make_cache() -> None:
    """Make the folder of the peers' environment and of unfinished runs, which git ignores."""
    CACHE.mkdir(exist_ok=True)
    write_text(CACHE / ".gitignore", "*\n")


def record(
    folder: Path, row: str, split: int, line: dict[str, Any], times: list[dict[str, Any]]
) -> None:
    """Add a finished row of a split; peers.csv, which marks it as finished, is written last."""
    folder.mkdir(parents=True, exist_ok=True)
    machine = {"processor": processor(), "cpus": os.cpu_count()}
    for name, lines in ((TIMES, times), (MACHINES, [machine]), (RESULTS, [line])):
        if lines:
            others = [other for other in read_csv(folder / name)
                      if (other["row"], other["split"]) != (row, str(split))]
            new = [{"row": row, "split": split, **each} for each in lines]
            write_csv(folder / name, [*others, *new])


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    name = re.search(r"^model name\s*: (.+)$", text, re.MULTILINE)
    return name[1] if name else platform.processor() or platform.machine()


# The peers.


def make_environment() -> Path:
    """Return the Python of an environment with the peers; make it if it is missing or has other
    requirements. Raise UserError if the installation fails."""
    folder = CACHE / "environment"
    python, made_of = folder / "bin" / "python", folder / REQUIREMENTS.name
    wanted = REQUIREMENTS.read_text(encoding="utf-8")
    if made_of.exists() and made_of.read_text(encoding="utf-8") == wanted:
        return python
    shutil.rmtree(folder, ignore_errors=True)
    install = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir",
               "-r", REQUIREMENTS]  # pip's cache may have a LIBMF that was compiled otherwise
    try:
        for command in ([sys.executable, "-m", "venv", folder], install):
            done = subprocess.run(command, capture_output=True, text=True, check=False,
                                  env={**os.environ, "CXXFLAGS": CXXFLAGS})
            if done.returncode:
                lines = (done.stdout + done.stderr).strip().splitlines() or [str(done.returncode)]
                raise UserError(f"cannot install {REQUIREMENTS.name}: {lines[-1]} (not needed for "
                                f"the rows {', '.join(OURS)})")
        write_text(made_of, wanted)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return python


def days_of(ratings: Ratings) -> sp.csr_array:
    """Return the day of each rating of MovieLens-1M: (users, items), from 1."""
    path = Path(Config(dataset="ml-1m").ratings_folder()) / "ratings.dat"
    seconds = pd.read_csv(path, sep=":", header=None, usecols=[6])[6].to_numpy()
    shape = ratings.num_users, ratings.num_items
    return sp.csr_array((seconds // 86_400, (ratings.users, ratings.items)), shape)


def write_split(path: Path, split: Split, seed: int, **features: sp.csr_array) -> None:
    """Write the training ratings of a split whose rows are items, and the pairs of its test ratings
    in their order; also their `features`, which are matrices (users, items). The training ratings
    are shuffled, as stochastic gradient descent needs."""
    train, test = split.train, split.test
    order = np.random.default_rng(seed).permutation(len(train))
    users, items = train.indices[order], train.rows[order]
    of_train = {name: x[users, items] for name, x in features.items()}
    of_test = {f"test_{name}": x[test.indices, test.rows] for name, x in features.items()}
    np.savez(
        path, users=users, items=items, ratings=train.values[order], test_users=test.indices,
        test_items=test.rows, shape=(train.num_columns, train.num_rows), seed=seed,
        **of_train, **of_test,
    )


def measure_peer(row: str, seed: int, ratings: Ratings, python: Path) -> dict[str, Any]:
    """Return the result of a peer on the split with seed `seed`."""
    features = {"days": days_of(ratings)} if row in DATED else {}
    split = split_ratings(ratings, Config().train_ratio, seed)
    return result(*run_peer(row, seed, split, python, **features))


def run_peer(row: str, seed: int, split: Split, python: Path, *settings: str,
             **features: sp.csr_array) -> tuple[float, float, float]:
    """Return the RMSE, seconds and peak memory (MB) of a peer on `split`, perhaps with other
    `settings` (a JSON object), or given `features`."""
    with tempfile.TemporaryDirectory() as folder:
        given, left = Path(folder, "split.npz"), Path(folder, "predictions.npz")
        write_split(given, split, seed, **features)
        call([python, "-m", "benchmarks.peer_models", row, given, left, *settings], row, seed)
        with np.load(left) as found:
            rmse = rmse_of(split, found["predictions"])
            return rmse, float(found["seconds"]), float(found["peak_mb"])


def rmse_of(split: Split, predictions: np.ndarray) -> float:
    """Return the RMSE of raw `predictions` for the test ratings, after clipping them and replacing
    those of cold pairs by 3."""
    return score_test(split, predictions, "paper").rmse


def call(command: Sequence[Any], row: str, seed: int) -> None:
    """Run a command with its output on stderr. Raise UserError if it fails."""
    done = subprocess.run(command, cwd=ROOT, stdout=sys.stderr, check=False)
    if done.returncode in (130, 143):
        raise KeyboardInterrupt
    if done.returncode:
        raise UserError(f"{row} on split {seed} ended with exit code {done.returncode}. See its "
                        "output above. Finished rows are kept; repeat the command to continue.")


def result(rmse: float, seconds: float, peak_mb: float) -> dict[str, Any]:
    return {"rmse": round(rmse, 6), "seconds": round(seconds, 1),
            "peak_gb": round(peak_mb / 1e3, 3)}


# Ours.


def measure_ours(row: str, seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the result of an AutoRec row on the split with seed `seed`, and its lines of
    time_to_rmse.csv. A split that benchmarks.paper_tables has run in this checkout is reused."""
    earlier = paper_tables.FOLDER / row / f"split_{seed}"
    if (earlier / "summary.json").exists() and (earlier / "config.json").exists():  # not in git
        return in_folder(earlier)
    folder = CACHE / f"{row}_{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, MAIN, *shlex.split(OURS[row].arguments), "--dataset", "ml-1m",
        "--random_seed", str(seed), "--display_step", "1", "--comet", "off",
        "--results_dir", CACHE, "--run_name", folder.name,
    ]
    call(command, row, seed)
    found = in_folder(folder)
    shutil.rmtree(folder)
    return found


def in_folder(folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the values that `measure_ours` returns, read from the finished run in `folder`."""
    summary, metrics = read_json(folder / "summary.json"), folder / "metrics.csv"
    line = result(summary["final_test_rmse"], summary["seconds"], summary["peak_memory_mb"])
    epochs, before = read_csv(metrics), 0.0
    if epochs:  # before the first: starting, reading, tuning and pre-training
        started = (folder / "summary.json").stat().st_mtime - summary["seconds"]
        before = metrics.stat().st_mtime - started - float(epochs[-1]["elapsed_seconds"])
    return line, time_to_rmse(epochs, before, line)


def time_to_rmse(
    epochs: Sequence[dict[str, str]], before: float, line: dict[str, Any]
) -> list[dict[str, Any]]:
    """Return the seconds after which the test RMSE was first below each of `BELOW`, or "" if never.

    Args:
        epochs: rows of metrics.csv; empty for a blend, whose RMSE is known only at its end.
        before: seconds before the first epoch.
        line: the result of the run.
    """
    points = [(float(epoch["test_rmse"]), round(before + float(epoch["elapsed_seconds"]), 1))
              for epoch in epochs if epoch["test_rmse"]] or [(line["rmse"], line["seconds"])]
    first = {below: next((at for rmse, at in points if rmse < below), "") for below in BELOW}
    return [{"below": f"{below:.3f}", "seconds": at} for below, at in first.items()]


# Table and figure.


def render(folder: Path, page: Path) -> None:
    """Write the table and the figure of the finished rows into `folder` and `page`."""
    found = read_csv(folder / RESULTS)
    if not found:
        raise UserError("no row is finished yet. Measure all rows with python -m benchmarks.peers.")
    rows = {name: lines for name in TEXTS if (lines := [r for r in found if r["row"] == name])}
    machines = {f"{m['processor']}, {m['cpus']} cores" for m in read_csv(folder / MACHINES)}
    compared, splits = on_common_splits(rows)
    text = "\n".join([
        f"Each program at its best, {splits}:", "", best_table(compared), "", "All rows:", "",
        results_table(rows), *times_table(read_csv(folder / TIMES)), "",
        f"Measured on: {'; '.join(sorted(machines))}.", "",
    ])
    write_text(folder / "table.md", text)
    points = [(name, means(lines, "seconds")[0], means(lines, "rmse")[0],
               [float(line["rmse"]) for line in lines]) for name, lines in compared.items()]
    write_png(folder / "peers.png", draw(points, OURS))
    links = (f"![Test RMSE against seconds]({LEFT}/peers.png)\n\n"
             f"Every row of every split: [{RESULTS}]({LEFT}/{RESULTS}), "
             f"[{TIMES}]({LEFT}/{TIMES}), [{MACHINES}]({LEFT}/{MACHINES}).\n")
    put(page, f"{text}\n{links}")


def put(page: Path, text: str) -> None:
    """Replace the generated block of `page` by `text`."""
    head, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    write_text(page, f"{head}{begin}{text}{''.join(rest.partition(END)[1:])}")


def means(lines: Sequence[dict[str, str]], column: str) -> tuple[float, float]:
    """Return the mean over the splits, and half of its 95 % interval (0 for a single split)."""
    mean, half = mean_and_interval([float(line[column]) for line in lines])
    return mean, half if len(lines) > 1 else 0.0


def on_common_splits(
    rows: dict[str, list[dict[str, str]]],
) -> tuple[dict[str, list[dict[str, str]]], str]:
    """Return the lines of `rows` on the splits that every row has, and the names of these splits.
    Some splits are harder than others. Without a common split, all lines are returned."""
    common = set.intersection(*({line["split"] for line in lines} for lines in rows.values()))
    if not common:
        return rows, "each on the splits that it was measured on"
    names = ", ".join(sorted(common))
    compared = {name: [line for line in lines if line["split"] in common]
                for name, lines in rows.items()}
    return compared, f"mean of the splits {names}" if len(common) > 1 else f"split {names}"


def best_table(rows: dict[str, list[dict[str, str]]]) -> str:
    """Return a table of the row with the lowest RMSE of each program, best program first. A row
    that is given dates of test ratings is apart."""
    best: dict[str, tuple[float, str]] = {}
    for name, lines in rows.items():
        program = "autorec" if name in OURS else name if name in DATED else module_of(name)
        found = means(lines, "rmse")[0], name
        best[program] = min(found, best.get(program, found))
    table_rows = [
        [TEXTS[name], f"`{name}`", f"{rmse:.4f}", f"{means(rows[name], 'seconds')[0]:,.0f}",
         f"{means(rows[name], 'peak_gb')[0]:.2f}"] for rmse, name in sorted(best.values())
    ]
    return table(("MovieLens-1M, 90/10", "row", "test RMSE", "seconds", "peak GB"), table_rows)


def results_table(rows: dict[str, list[dict[str, str]]]) -> str:
    table_rows = []
    for name, lines in rows.items():
        mean, half = means(lines, "rmse")
        (seconds, _), (peak, _) = means(lines, "seconds"), means(lines, "peak_gb")
        table_rows.append([TEXTS[name], f"`{name}`", with_interval(mean, half or None),
                           f"{seconds:,.0f}", f"{peak:.2f}", len(lines)])
    names = "MovieLens-1M, 90/10", "row", "test RMSE", "seconds", "peak GB", "splits"
    return table(names, table_rows)


def times_table(lines: Sequence[dict[str, str]]) -> list[str]:
    """Return a table of mean seconds; a mean is shown if all splits reached the RMSE."""
    table_rows = []
    for name in (name for name in OURS if any(line["row"] == name for line in lines)):
        cells = []
        for below in BELOW:
            here = (name, f"{below:.3f}")
            same = [line for line in lines if (line["row"], line["below"]) == here]
            passed = [line for line in same if line["seconds"]]
            some = f"in {len(passed)} of {len(same)} splits" if passed else "–"
            cells.append(f"{means(passed, 'seconds')[0]:,.0f}" if passed == same else some)
        table_rows.append([TEXTS[name], *cells])
    names = "seconds until test RMSE is below", *(f"{below:.3f}" for below in BELOW)
    return ["", table(names, table_rows)] if table_rows else []


if __name__ == "__main__":
    sys.exit(run_program("peers", main))
