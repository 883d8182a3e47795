"""Choose the default of --decay_rate by validation.

    python -m benchmarks.decay_rate

One tenth of seed 1994's training ratings is held out. The default model is trained on the rest for
500 epochs with each rate of the grid, and the held-out ratings score its last epoch. Test ratings
are not used. Writes benchmarks/results/decay_rate/summary.csv, one row per rate, and prints the
table in docs/numbers.md.
"""

import csv
import sys
from dataclasses import replace
from pathlib import Path

from autorec_tf.config import Config
from autorec_tf.data.ratings import Split
from autorec_tf.records import tables
from autorec_tf.records.summary import results
from autorec_tf.system.errors import run_program
from autorec_tf.system.runtime import start_tensorflow
from data_preprocessor import load_ratings, split_ratings

GRID = (0.96, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
HEAD = tables.head("`--decay_rate`", "validation RMSE, last epoch", "lowest validation RMSE",
                   "training RMSE")
FOLDER = Path(__file__).parent / "results" / "decay_rate"


def main() -> None:
    start_tensorflow()
    config = Config(display_step=10)
    ratings = load_ratings(replace(config, dataset="ml-1m"))
    split = split_ratings(ratings, config.train_ratio, config.random_seed, validation_ratio=0.1)
    split = Split(split.train, split.validation)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with open(FOLDER / "summary.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["decay_rate", "validation_rmse", "train_rmse", "best_validation_rmse"])
        print(HEAD)
        for rate in GRID:
            row = validate(replace(config, decay_rate=rate), split, ratings.scale)
            writer.writerow([rate, *(f"{value:.5f}" for value in row)])
            file.flush()
            print(line(rate, *row), flush=True)


def line(rate: float, validation: float, train: float, lowest: float) -> str:
    """Return the table row of a rate."""
    return tables.line(rate, *(f"{rmse:.4f}" for rmse in (validation, lowest, train)))


def validate(config: Config, split: Split, scale: tuple[float, float]) -> list[float]:
    """Return the last epoch's RMSE on held-out and on training ratings, and the lowest held-out
    RMSE of epochs 10, 20, ..."""
    from autorec_tf.training.epochs import TrainState, train_epochs
    from autorec_tf.training.trainer import build

    model = build(config, split.train, scale)
    found = results(list(train_epochs(TrainState(model, split), split)))
    names = "final_test_rmse", "final_train_rmse", "best_test_rmse"
    return [found[name] for name in names]


if __name__ == "__main__":
    sys.exit(run_program("decay_rate", main))
