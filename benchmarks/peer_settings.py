"""Choose the settings of peers on validation ratings.

    python -m benchmarks.peer_settings                  # every row below
    python -m benchmarks.peer_settings libmf            # this row

The validation ratings are a tenth of the training ratings of seed 1994's split; its test ratings
are not used. The search begins at START and changes one setting at a time to its next lower or
higher value in VALUES. It ends where no such change lowers the validation RMSE by GAIN. Every point
that was tried is added to results/peers/settings.csv, and is not tried again.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from autorec_tf.config import Config
from autorec_tf.data.ratings import Split
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import read_csv, write_csv
from benchmarks import peers
from data_preprocessor import load_ratings, validation_split

SEED = 1994
GAIN = 0.0005
FILE = peers.FOLDER / "settings.csv"
Point = dict[str, Any]
VALUES: dict[str, dict[str, Sequence[Any]]] = {
    "libmf": {"k": (50, 100, 200, 300), "l2": (0.04, 0.05, 0.06, 0.07, 0.08),
              "rate": (0.01, 0.02, 0.03, 0.05, 0.1), "iterations": (16, 24, 32, 48, 64),
              "minus_mean": (False, True)},
    "cmfrec": {"k": (20, 40, 60, 80), "l2": (0.05, 0.06, 0.07, 0.08, 0.1),
               "bias_l2": (0.005, 0.01, 0.02, 0.04, 0.07, 0.1),
               "w_implicit": (0.25, 0.5, 1.0, 2.0, 4.0), "iterations": (6, 10, 15, 25)},
}
START: dict[str, Point] = {
    "libmf": {"k": 200, "l2": 0.06, "rate": 0.03, "iterations": 32, "minus_mean": False},
    "cmfrec": {"k": 40, "l2": 0.07, "bias_l2": 0.04, "w_implicit": 1.0, "iterations": 10},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="peer_settings", description=__doc__.split("\n")[0])
    parser.add_argument("rows", nargs="*", help="rows to search for (default: all)")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(START):
        raise UserError(f"unknown row {', '.join(sorted(unknown))}: choose from {', '.join(START)}")
    peers.make_cache()
    python = peers.make_environment()
    config = Config(dataset="ml-1m", random_seed=SEED)
    split = validation_split(config, load_ratings(config))
    for row in arguments.rows or START:
        point, rmse = search(
            START[row], VALUES[row], lambda point, row=row: recorded(row, point, split, python)
        )
        print(f"{row}: {json.dumps(point)}, validation RMSE {rmse:.4f}")


def search(
    point: Point, values: Mapping[str, Sequence[Any]], rmse_of: Callable[[Point], float]
) -> tuple[Point, float]:
    """Return the point of a local search that begins at `point`, and its RMSE."""
    lowest = rmse_of(point)
    while True:
        tried = [(rmse_of(each), number, each) for number, each in enumerate(near(point, values))]
        rmse, _, best = min(tried)
        if rmse > lowest - GAIN:
            return point, lowest
        point, lowest = best, rmse


def near(point: Point, values: Mapping[str, Sequence[Any]]) -> Iterator[Point]:
    """Yield the points that differ in one setting by one place in its `values`."""
    for name, ladder in values.items():
        index = ladder.index(point[name])
        for other in (index - 1, index + 1):
            if 0 <= other < len(ladder):
                yield point | {name: ladder[other]}


def recorded(row: str, point: Point, split: Split, python: Path) -> float:
    """Return the validation RMSE of a point; measure and record it if it is not in FILE yet."""
    lines, settings = read_csv(FILE), json.dumps(point)
    for line in lines:
        if (line["row"], line["settings"]) == (row, settings):
            return float(line["validation_rmse"])
    rmse, _, _ = peers.run_peer(row, SEED, split, python, settings)
    write_csv(FILE, [*lines, {"row": row, "settings": settings, "validation_rmse": round(rmse, 5)}])
    print(f"{row} {settings}: {rmse:.5f}", file=sys.stderr, flush=True)
    return round(rmse, 5)


if __name__ == "__main__":
    sys.exit(run_program("peer_settings", main))
