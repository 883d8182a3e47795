"""The paper's tables and figure on MovieLens-1M, the earlier program's RMSE, and our best result.

    python -m benchmarks.paper_tables                # every row: hours on two cores
    python -m benchmarks.paper_tables paper best     # these rows
    python -m benchmarks.paper_tables --render       # tables and figure of the finished rows

A row is a command line of main.py over random 90/10 splits with seeds 1994, 1995, ..., and can also
be run alone. Finished splits are not run again, so the script continues where it was stopped. It
writes summary.csv, metrics.csv, table.md and hidden_units.png into results/paper_tables/ next to
this file. The splits of each row are in a subfolder there.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from autorec_tf.config import Config
from autorec_tf.evaluation.baseline import cold_baseline
from autorec_tf.evaluation.metrics import RECONSTRUCTION
from autorec_tf.evaluation.ranking import rank
from autorec_tf.evaluation.statistics import mean_and_interval
from autorec_tf.records.plots import TEST_COLOR
from autorec_tf.records.tables import table, with_interval
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import write_csv
from data_preprocessor import load_ratings, split_ratings

FOLDER = Path(__file__).parent / "results" / "paper_tables"
MAIN = Path(__file__).parents[1] / "main.py"
COMMON = "--display_step 10 --comet off"
PLAIN = "--regularization plain --lambda_value 40 --base_lr 0.005 --decay_epoch_step 20"
HIDDEN = (10, 20, 40, 80, 100, 200, 300, 400, 500)  # as in the paper's Figure 2


@dataclass(frozen=True)
class Row:
    """A run of main.py with `arguments` over `num_splits` splits, and the paper's RMSE, if any."""

    name: str
    text: str
    arguments: str
    paper: float | None = None
    num_splits: int = 5


# The most important rows first.
ROWS = [
    Row("default", "defaults: λ = 1, **weighted rule, not equation 2**", ""),
    Row("paper", "I-AutoRec, equation 2, settings chosen by validation", "--preset paper", 0.831),
    Row("fast", "fast: I-AutoRec, equation 2, in 18 epochs", "--preset fast", 0.831),
    Row("best", "best: a blend of five AutoRecs", "--preset best"),
    Row("average", "average: the mean of three trainings of single", "--preset average"),
    Row("single", "single: I-AutoRec with the SVD++ decoder, normalised inputs, leave-one-out, "
        "full batch", "--preset single"),
    Row("single_raw_inputs", "single, inputs not normalised",
        "--preset single --input_scale 0"),
    Row("u_autorec", "U-AutoRec, weighted rule", "--orientation user --base_lr 0.003 "
        "--decay_epoch_step 25 --train_epoch 120", 0.874),
    Row("u_one_hot", "U-AutoRec, one-hot inputs, weighted rule", "--orientation user "
        "--input_encoding one_hot --lambda_one_hot 0.3 --base_lr 0.003 --decay_epoch_step 25 "
        "--train_epoch 120"),
    Row("seed", "the earlier TensorFlow 1 program's protocol", "--preset seed", num_splits=1),
    Row("deep", "deep I-AutoRec, 500-250-500, pre-trained, half of the inputs dropped",
        "--preset deep", 0.827),
    Row("leave_one_out", "I-AutoRec, equation 2, leave-one-out",
        "--leave_one_out --regularization plain --lambda_value 30 --base_lr 0.005 "
        "--decay_epoch_step 20 --train_epoch 100"),
    Row("act_identity_identity", "f identity, g identity", "--hidden_activation identity "
        "--initial_bias mean --regularization plain --lambda_value 400 --decay_epoch_step 15 "
        "--train_epoch 60", 0.872),
    Row("act_sigmoid_identity", "f sigmoid, g identity", "--hidden_activation identity "
        "--output_activation sigmoid --regularization plain --lambda_value 300 --base_lr 0.005 "
        "--decay_epoch_step 15 --train_epoch 75", 0.852),
    Row("act_sigmoid_sigmoid", "f sigmoid, g sigmoid", "--output_activation sigmoid "
        "--regularization plain --lambda_value 40 --base_lr 0.005 --decay_epoch_step 20 "
        "--train_epoch 100", 0.836),
    Row("default_plain", "defaults with equation 2", "--regularization plain"),
    *(
        Row(f"hidden_{k}", f"{k} hidden units", f"{PLAIN} --train_epoch 100 --hidden_neuron {k}")
        for k in HIDDEN
    ),
    Row("u_autorec_plain", "U-AutoRec, equation 2, settings chosen by validation",
        "--preset paper --orientation user", 0.874),
    Row("rprop", "I-AutoRec, RProp, full batch", "--optimizer_method RProp "
        "--regularization plain --lambda_value 400 --train_epoch 400", num_splits=1),
    Row("lbfgs", "I-AutoRec, L-BFGS, full batch", "--optimizer_method LBFGS "
        "--regularization plain --lambda_value 400 --train_epoch 100", num_splits=1),
]


def main() -> None:
    parser = argparse.ArgumentParser(prog="paper_tables", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", help="rows to run (default: all)")
    parser.add_argument("--render", action="store_true", help="write tables and figure only")
    arguments = parser.parse_args()
    names = [row.name for row in ROWS]
    if unknown := set(arguments.rows) - set(names):
        raise UserError(f"unknown row {', '.join(sorted(unknown))}: choose from {', '.join(names)}")
    for row in ROWS:
        if not arguments.render and row.name in (arguments.rows or names):
            run(row)
            render()
    render()
    print((FOLDER / "table.md").read_text(encoding="utf-8"))


def command(row: Row) -> str:
    """Return the arguments of main.py, except for the results folder."""
    splits = f"--num_splits {row.num_splits}" if row.num_splits > 1 else ""
    return " ".join(filter(None, [row.arguments, splits]))


def run(row: Row) -> None:
    """Run the row's unfinished splits."""
    folder = FOLDER / row.name
    if row.num_splits == 1 and folder.exists():
        if finished(folder):
            return
        shutil.rmtree(folder)
    where = ["--results_dir", str(FOLDER), "--run_name", row.name]
    arguments = [*shlex.split(f"{command(row)} {COMMON}"), *where]
    subprocess.run([sys.executable, str(MAIN), *arguments], check=True)


def finished(folder: Path) -> list[dict[str, Any]]:
    """Return the summaries of the row's finished splits."""
    paths = sorted(folder.glob("split_*/summary.json")) or [folder / "summary.json"]
    summaries = [json.loads(p.read_text(encoding="utf-8")) for p in paths if p.exists()]
    return [summary for summary in summaries if summary["status"] == "finished"]


def render() -> None:
    """Write the tables and the figure of the finished rows."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    done = [(row, splits) for row in ROWS if (splits := finished(FOLDER / row.name))]
    lines = [line for row, splits in done for line in summary_lines(row, splits)]
    write_csv(FOLDER / "summary.csv", lines)
    metrics = [metrics_line(row.name, splits) for row, splits in done]
    write_csv(FOLDER / "metrics.csv", [*metrics, metrics_line("popularity", by_popularity())])
    (FOLDER / "table.md").write_text(markdown(done, lines), encoding="utf-8")
    draw_hidden_units({line["row"]: line for line in lines})


def summary_lines(row: Row, splits: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the row's lines in summary.csv: two for the earlier program's protocol, and two for
    `paper`, which is also in Table 1(b)."""
    seconds = round(mean_and_interval([split["seconds"] for split in splits])[0], 1)

    def line(name: str, measure: str = "final_test_rmse") -> dict[str, Any]:
        mean, half = mean_and_interval([split[measure] for split in splits])
        return {
            "row": name,
            "num_splits": len(splits),
            "rmse_mean": round(mean, 8),  # the table rounds further
            "rmse_ci95": round(half, 8) if len(splits) > 1 else "",
            "seconds": seconds,
        }

    if row.name == "seed":
        return [line("seed_reconstruction", RECONSTRUCTION), line("seed_honest")]
    if row.name == "paper":
        return [line("paper"), line("act_identity_sigmoid")]
    return [line(row.name)]


METRICS = "final_test_mae", "ndcg_at_10", "recall_at_10"


def metrics_line(name: str, splits: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of the other metrics."""
    found = {"row": name, "num_splits": len(splits)}
    for metric in METRICS:
        values = [split[metric] for split in splits if metric in split]
        mean, half = mean_and_interval(values) if values else ("", "")
        found |= {
            f"{metric}_mean": round(mean, 5) if values else "",
            f"{metric}_ci95": round(half, 5) if len(values) > 1 else "",
        }
    return found


@cache
def by_popularity() -> list[dict[str, Any]]:
    """Return the ranking metrics of a baseline: the items with the most ratings, for every user."""
    ratings = load_ratings(Config(dataset="ml-1m"))
    found = []
    for seed in range(1994, 1999):
        split = split_ratings(ratings, Config().train_ratio, seed, "user")
        counts = split.train.column_counts.astype(np.float32)

        def predict_block(
            users: np.ndarray, items: slice, counts: np.ndarray = counts
        ) -> np.ndarray:
            return np.tile(counts[items], (len(users), 1))

        scores, _ = rank(predict_block, split.train, split.test, cold_baseline(split, "paper"))
        found.append({"ndcg_at_10": scores.ndcg, "recall_at_10": scores.recall})
    return found


def markdown(done: list[tuple[Row, list[dict[str, Any]]]], lines: list[dict[str, Any]]) -> str:
    """Return the table in docs/numbers.md."""
    by_name = {line["row"]: line for line in lines}
    table_rows = []
    for row, _ in done:
        paper = "" if row.paper is None else f"{row.paper:.3f}"
        parts = [(row.name, row.text)]
        if row.name == "seed":
            parts = [
                ("seed_reconstruction", f"{row.text} (75/25): reconstruction RMSE (test ratings "
                 "as input); that program reports 0.910"),
                ("seed_honest", "the same model: test RMSE without test ratings as input"),
            ]
        for name, label in parts:
            line = by_name[name]
            rmse = with_interval(
                line["rmse_mean"], line["rmse_ci95"] if line["num_splits"] > 1 else None
            )
            table_rows.append([label, rmse, paper, line["num_splits"], f"`{command(row)}`"])
    names = "MovieLens-1M, 90/10", "test RMSE", "paper", "splits", "`python main.py`"
    return table(names, table_rows) + "\n"


def draw_hidden_units(lines: dict[str, dict[str, Any]]) -> None:
    """Draw the paper's Figure 2: test RMSE against the number of hidden units."""
    points = [(k, lines[f"hidden_{k}"]) for k in HIDDEN if f"hidden_{k}" in lines]
    if not points:
        return
    units, means = [k for k, _ in points], [line["rmse_mean"] for _, line in points]
    halves = [line["rmse_ci95"] or 0 for _, line in points]
    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False,
                                "axes.spines.right": False}):
        figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.errorbar(units, means, halves, color=TEST_COLOR, marker="o", markersize=4, capsize=3)
        axes.set(
            xlabel="hidden units", ylabel="test RMSE",
            title=f"I-AutoRec on ml-1m: mean of {points[0][1]['num_splits']} splits, "
            "95 % interval",
        )
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.set_xlim(left=0)
        figure.savefig(FOLDER / "hidden_units.png")


if __name__ == "__main__":
    sys.exit(run_program("paper_tables", main))
