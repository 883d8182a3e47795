"""Epochs that a warm start saves on MovieLens-1M, if 1 % of the ratings are added later.

    python -m benchmarks.warm_start                     # presets default and single
    python -m benchmarks.warm_start --presets default --train_epoch 60
    python -m benchmarks.warm_start --table             # only print the table

1 % of the ratings, drawn at random, are left out, and a first model is trained on the split of
seed 1994 of the others. Then these ratings are added. On the same training and test ratings, one
model is trained from random parameters, and one from the parameters of the first model, with the
default settings of --start_from. The table shows the first epoch whose test RMSE is not above that
of the last epoch from random parameters. The schedule of --start_from was chosen on validation
ratings, a tenth of the training ratings of seed 1994's split of all ratings; this split is another.
Writes one row per preset to benchmarks/results/warm_start/summary.csv, and the test RMSE by epoch
to curves.csv.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ids import used_ids
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.presets import PRESETS
from autorec_tf.records import tables
from autorec_tf.resolution import over_start
from autorec_tf.system.errors import run_program
from autorec_tf.system.runtime import start_tensorflow
from autorec_tf.warm_start import Start
from benchmarks import cells
from data_preprocessor import load_ratings, resolve, split_of

FOLDER = Path(__file__).parent / "results" / "warm_start"
SUMMARY, CURVES = "summary.csv", "curves.csv"
ADDED = 0.01  # fraction of the ratings that are added later
HEAD = tables.head("preset", "epochs from random parameters", "test RMSE",
                   "test RMSE of the start", "epochs from the start to that RMSE", "fraction",
                   "test RMSE after its last epoch")


def main() -> None:
    parser = argparse.ArgumentParser(prog="warm_start", description=__doc__.split("\n")[0])
    parser.add_argument("--presets", nargs="+", default=["default", "single"])
    parser.add_argument("--train_epoch", type=int, help="instead of the preset's")
    parser.add_argument("--output", type=Path, default=FOLDER)
    parser.add_argument("--table", action="store_true", help="only print the table")
    given = parser.parse_args()
    if not given.table:
        start_tensorflow()
        ratings = load_ratings(Config(dataset="ml-1m"))
        for preset in given.presets:
            settings = PRESETS[preset] | {"preset": preset, "dataset": "ml-1m"}
            if given.train_epoch:
                settings["train_epoch"] = given.train_epoch
            measure(resolve(Config(**settings), ratings), ratings, given.output)
    print(table(given.output / SUMMARY))


def measure(config: Config, ratings: Ratings, folder: Path) -> None:
    """Train the three models, and append their results to the files in `folder`."""
    earlier = without_added(ratings, config.random_seed)
    split = split_of(config, earlier)
    first, rmses = trained(config, split)
    write_curve(folder, config.preset, "start", rmses)
    start = Start("the start", config, earlier, split.by_item().train)
    warm = over_start(config, {}, start.name, rmses[-1][0])
    warm = replace(warm, start_from="start", display_step=1)
    divided = start.divided(ratings, warm)
    split = split_of(warm, divided)
    parameters = start.widened([x.numpy() for x in first.parameters], first.values, divided,
                               split.train.distinct)
    before = test_rmse(warm, split, parameters)
    _, from_start = trained(warm, split, parameters)
    write_curve(folder, config.preset, "from the start", from_start)
    _, from_random = trained(config, split)
    write_curve(folder, config.preset, "from random parameters", from_random)
    goal = from_random[-1][1]
    reached = next((epoch for epoch, rmse in [(0, before), *from_start] if rmse <= goal), "")
    cells.append(folder / SUMMARY, [{
        "preset": config.preset, "epochs_from_random": from_random[-1][0],
        "rmse_from_random": round(goal, 5), "rmse_of_start": round(before, 5),
        "epochs_to_rmse": reached, "epochs_from_start": from_start[-1][0],
        "rmse_from_start": round(from_start[-1][1], 5),
    }])


def without_added(ratings: Ratings, seed: int) -> Ratings:
    """Return `ratings` without those that are added later, in their order."""
    order = np.random.default_rng([seed, 26]).permutation(len(ratings))
    left = np.sort(order[round(ADDED * len(ratings)):])
    users, user_ids = used_ids(ratings.users[left], ratings.user_ids)
    items, item_ids = used_ids(ratings.items[left], ratings.item_ids)
    return replace(ratings, users=users, items=items, values=ratings.values[left],
                   user_ids=user_ids, item_ids=item_ids)


def trained(config: Config, split: Split, start: Sequence[np.ndarray] = ()) -> tuple[Any, list]:
    """Return a model that is trained on `split`, and the test RMSE by epoch."""
    from autorec_tf.training.epochs import TrainState, train_epochs
    from autorec_tf.training.trainer import build

    model, rmses = build(config, split.train, split.unit.model_scale, start=start), []
    for metrics in train_epochs(TrainState(model, split), split):
        if metrics.test_rmse is not None:
            rmses.append((metrics.epoch, metrics.test_rmse))
    return model, rmses


def test_rmse(config: Config, split: Split, parameters: Sequence[np.ndarray]) -> float:
    """Return the test RMSE of `parameters` before any training."""
    from autorec_tf.training.epochs import Evaluator
    from autorec_tf.training.trainer import build

    model = build(config, split.train, split.unit.model_scale, start=parameters)
    return Evaluator(model, split, split.test)(model.rows(split.train)).rmse


def write_curve(folder: Path, preset: str, training: str, rmses: Sequence[tuple]) -> None:
    cells.append(folder / CURVES, [
        {"preset": preset, "training": training, "epoch": epoch, "test_rmse": round(rmse, 5)}
        for epoch, rmse in rmses
    ])


def table(path: Path) -> str:
    """Return the Markdown table of the rows in a summary."""
    lines = [HEAD]
    for row in cells.read(path):
        reached, epochs = row["epochs_to_rmse"], int(row["epochs_from_random"])
        fraction = f"{100 * int(reached) / epochs:.1f} %" if reached else "-"
        lines.append(tables.line(
            f"`{row['preset']}`", epochs, f"{float(row['rmse_from_random']):.4f}",
            f"{float(row['rmse_of_start']):.4f}", reached or "never", fraction,
            f"{float(row['rmse_from_start']):.4f} ({row['epochs_from_start']})"))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run_program("warm_start", main))
