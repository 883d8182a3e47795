"""Accuracy on parts of MovieLens-1M, compared with the biases of users and items.

    python -m benchmarks.thin                               # prints the table
    python -m benchmarks.thin --parts 50000-ratings --presets single --draws 10

A part has a number of ratings, users or items, drawn at random by the number of the draw, which is
also the seed of the split: a tenth of the ratings are for testing. Nothing is chosen by test
ratings. Each part, preset and draw is a cell: it is appended to benchmarks/results/thin/thin.csv
when it is finished, and skipped in later calls. Prints means over the draws, and the differences
to the biases with their 95 % intervals, as Markdown.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from autorec_tf.config import Config
from autorec_tf.evaluation.statistics import mean_and_interval
from autorec_tf.presets import PRESETS
from autorec_tf.records import tables
from autorec_tf.system.errors import run_program
from benchmarks.cells import append, read
from data_preprocessor import load_ratings

RESULTS = Path(__file__).parent / "results" / "thin" / "thin.csv"
PARTS = ("400000-ratings", "150000-ratings", "50000-ratings", "15000-ratings", "600-users",
         "500-items")


def main() -> None:
    parser = argparse.ArgumentParser(prog="thin", description=__doc__.split("\n")[0])
    parser.add_argument("--parts", choices=PARTS, nargs="*", default=[])
    parser.add_argument("--presets", choices=tuple(PRESETS), nargs="+", default=["single"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    finished = {(row["part"], row["preset"], int(row["draw"])) for row in read(given.output)}
    for part in given.parts:
        for draw in range(1, given.draws + 1):
            for preset in given.presets:
                if (part, preset, draw) not in finished:
                    append(given.output, [measure(part, preset, draw)])
    print(table(read(given.output)))


def measure(part: str, preset: str, draw: int) -> dict:
    """Train `preset` on a part, and return its row in the results."""
    from autorec_tf import train

    frame, started = drawn(part, draw), time.perf_counter()
    model = train(frame, preset=preset, random_seed=draw, progress=False)
    summary, config = model.summary, model.run.config
    return dict(
        part=part, preset=preset, draw=draw, ratings=len(frame),
        rmse_biases=round(summary["biases_test_rmse"], 5),
        rmse=round(summary["final_test_rmse"], 5),
        lambda_value=f"{config.lambda_value:g}", hidden_neuron=config.hidden_neuron[0],
        seconds=round(time.perf_counter() - started, 1),
    )


def drawn(part: str, draw: int) -> pd.DataFrame:
    """Return the ratings of a part of MovieLens-1M: user, item, rating."""
    ratings = load_ratings(Config(dataset="ml-1m"), lambda _: None)
    number, kind = part.split("-")
    rng, size = np.random.default_rng(draw), int(number)
    if kind == "ratings":
        chosen = rng.permutation(len(ratings))[:size]
    else:
        index = ratings.users if kind == "users" else ratings.items
        chosen = np.isin(index, rng.permutation(index.max() + 1)[:size])
    columns = ratings.users, ratings.items, ratings.values
    return pd.DataFrame(dict(zip(("user", "item", "rating"), (x[chosen] for x in columns),
                                 strict=True)))


def table(rows: list[dict[str, str]]) -> str:
    """Return the means over the draws as Markdown."""
    header = ["part", "preset", "draws", "biases", "RMSE", "difference", "seconds"]
    lines = []
    for part in PARTS:
        for preset in PRESETS:
            cells = [row for row in rows if (row["part"], row["preset"]) == (part, preset)]
            if not cells:
                continue
            biases, rmse, seconds = (np.array([float(row[name]) for row in cells])
                                     for name in ("rmse_biases", "rmse", "seconds"))
            lines.append([part.replace("-", " "), preset, str(len(cells)), f"{biases.mean():.4f}",
                          f"{rmse.mean():.4f}", interval(rmse - biases), f"{seconds.mean():.0f}"])
    return tables.table(header, lines)


def interval(differences: np.ndarray) -> str:
    if len(differences) < 2:
        return f"{differences[0]:+.4f}"
    mean, half = mean_and_interval(differences.tolist())
    return f"{mean:+.4f} ± {half:.4f}"


if __name__ == "__main__":
    sys.exit(run_program("thin", main))
