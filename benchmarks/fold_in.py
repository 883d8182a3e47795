"""Accuracy of folding in new rows and columns, compared with training again, on MovieLens-1M.

    python -m benchmarks.fold_in                    # I-AutoRec: new items are rows, users columns
    python -m benchmarks.fold_in --model denoising  # the same with input dropout
    python -m benchmarks.fold_in --model user       # U-AutoRec: new users are rows, items columns

A tenth of the ratings is for testing. One model is trained on all training ratings. A second model
is trained without a random twentieth of the items, which `fold_in` adds afterwards; a third does
the same with users. All models predict the test ratings of the new items or users. Appends one row
per seed and kind to benchmarks/results/fold_in/summary.csv and prints the table in
docs/numbers.md: means over all rows of that file.
"""

import argparse
import csv
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings, index_ratings
from autorec_tf.records import tables
from autorec_tf.serving.recommender import predict
from autorec_tf.system.errors import run_program
from autorec_tf.system.random_streams import random_stream
from autorec_tf.system.runtime import start_tensorflow
from data_preprocessor import load_ratings, split_ratings

SUMMARY = Path(__file__).parent / "results" / "fold_in" / "summary.csv"
FRACTION = 0.05  # of the items, or users, that are new
SETTINGS = {
    "item": dict(regularization="plain", lambda_value=40.0, base_lr=0.005, decay_epoch_step=20),
    "denoising": dict(regularization="plain", lambda_value=20.0, input_dropout=0.5, base_lr=0.005,
                      decay_epoch_step=20),
    "user": dict(orientation="user", regularization="weighted", base_lr=0.003,
                 decay_epoch_step=25),
}
NAMES = {
    "item": "I-AutoRec", "denoising": "I-AutoRec, `--input_dropout 0.5`", "user": "U-AutoRec",
}
COLUMNS = ("model", "seed", "new", "are", "ratings_folded_in", "test_ratings",
           "rmse_trained_with_them", "rmse_folded_in", "difference", "rmse_predicting_3",
           "other_test_ratings_trained", "other_test_ratings_folded_in",
           "training_seconds", "fold_in_seconds")


def main() -> None:
    parser = argparse.ArgumentParser(prog="fold_in", description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=tuple(SETTINGS), default="item")
    parser.add_argument("--train_epoch", type=int, default=60)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1994])
    parser.add_argument("--output", type=Path, default=SUMMARY)
    given = parser.parse_args()
    start_tensorflow()
    given.output.parent.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        config = Config(train_epoch=given.train_epoch, random_seed=seed, **SETTINGS[given.model])
        ratings = load_ratings(replace(config, dataset="ml-1m"))
        for row in measure(config, ratings):
            print(row)
            append(given.output, {"model": given.model} | row)
    print(table(given.output))


def measure(config: Config, ratings: Ratings) -> list[dict]:
    """Return a row for new items and one for new users."""
    from autorec_tf.serving.fold_in import fold_in

    split = split_ratings(ratings, config.train_ratio, config.random_seed)
    train, test = (
        (ratings.user_ids[side.indices], ratings.item_ids[side.rows], side.values)
        for side in (split.train, split.test)
    )
    everything, training_seconds = timed(lambda: trained(config, train, ratings.scale))
    rows = []
    for axis, new in ((1, "item"), (0, "user")):
        ids = np.unique(train[axis])
        rng = np.random.default_rng([config.random_seed, axis])
        held_out = rng.choice(ids, round(FRACTION * len(ids)), replace=False)
        is_new, tests_new = (np.isin(side[axis], held_out) for side in (train, test))
        before = trained(config, [x[~is_new] for x in train], ratings.scale)
        folded, seconds = timed(lambda: fold_in(before, *(x[is_new] for x in train)))  # noqa: B023
        with_them, folded_in, without = (errors(run, test) for run in (everything, folded, before))
        rows.append(
            {
                "seed": config.random_seed,
                "new": f"{new}s",
                "are": "rows" if new == config.orientation else "columns",
                "ratings_folded_in": int(is_new.sum()),
                "test_ratings": int(tests_new.sum()),
                "rmse_trained_with_them": rmse(with_them[tests_new]),
                "rmse_folded_in": rmse(folded_in[tests_new]),
                "difference": rmse(folded_in[tests_new]) - rmse(with_them[tests_new]),
                "rmse_predicting_3": rmse(without[tests_new]),
                "other_test_ratings_trained": rmse(with_them[~tests_new]),
                "other_test_ratings_folded_in": rmse(folded_in[~tests_new]),
                "training_seconds": training_seconds,
                "fold_in_seconds": seconds,
            }
        )
    return rows


def trained(config: Config, triples: list[np.ndarray], scale: tuple[float, float]):
    """Return a finished run that is trained on exactly these (user id, item id, rating) triples."""
    from autorec_tf.data.ratings import RatingMatrix
    from autorec_tf.serving.finished_run import FinishedRun, WeightedModel, oriented
    from autorec_tf.training.trainer import Trainer, build

    ratings = index_ratings("ml-1m", *triples, scale)
    shape = ratings.num_items, ratings.num_users
    train = RatingMatrix.from_triples(ratings.items, ratings.users, ratings.values, shape)
    matrix = oriented(train, config)
    model = build(config, matrix, scale)
    rows = model.rows(matrix)
    trainer = Trainer(model)
    for epoch in range(1, config.train_epoch + 1):
        order = random_stream(config.random_seed, "shuffle", epoch).permutation(matrix.num_rows)
        trainer.train_epoch(rows, order, config.learning_rate(epoch))
    return FinishedRun(config, ratings.fingerprint, ratings, train, (WeightedModel(1.0, model),))


def errors(run, test: list[np.ndarray]) -> np.ndarray:
    """Return prediction minus rating for the `test` triples: float64 [test ratings]."""
    users, items, values = test
    return predict(run.recommender(), users, items)["prediction"].to_numpy() - values


def rmse(error: np.ndarray) -> float:
    return float(np.sqrt(np.mean(error**2)))


def timed(work):
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def append(path: Path, row: dict) -> None:
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})


def table(path: Path) -> str:
    """Return the means over seeds of the rows in the file at `path`, as Markdown."""
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    lines = []
    for model, name in NAMES.items():
        for new in ("items", "users"):
            found = [row for row in rows if (row["model"], row["new"]) == (model, new)]
            if found:
                means = (
                    fmean(float(row[column]) for row in found)
                    for column in ("rmse_trained_with_them", "rmse_folded_in")
                )
                lines.append([name, f"{new} ({found[0]['are']})", *(f"{x:.4f}" for x in means),
                              len(found)])
    names = ("test RMSE of new users' or items' ratings", "new", "trained on them", "folded in",
             "splits")
    return tables.table(names, lines)


if __name__ == "__main__":
    sys.exit(run_program("fold_in", main))
