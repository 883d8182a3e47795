"""Accuracy of folding in users and items with few ratings, compared with biases, on MovieLens-1M.

    python -m benchmarks.fold_in_few --models default --seeds 1995
    python -m benchmarks.fold_in_few --models default paper single user --seeds 1995 1996

A tenth of the ratings is for testing. A model is trained without a random twentieth of the users
and of the items. Each new user, then each new item, is folded in with k ratings, and all its other
ratings by known items or users are predicted; with all its training ratings, its test ratings. The
biases of users and items are fitted to the same ratings as the model plus the same k. The constants
of folding in were chosen with seed 1994, so that seed is not a result.

Each model and seed is a cell: its rows are appended to benchmarks/results/fold_in/few.csv when it
is finished, and it is skipped in later calls. Prints means over the seeds as Markdown.
"""

import argparse
import sys
from pathlib import Path
from statistics import fmean

import numpy as np
import pandas as pd

from autorec_tf.config import Config
from autorec_tf.data.ratings import Split
from autorec_tf.evaluation.baseline import fit_baseline
from autorec_tf.records import tables
from autorec_tf.system.errors import run_program
from benchmarks.cells import append, read
from data_preprocessor import load_ratings, split_ratings

RESULTS = Path(__file__).parent / "results" / "fold_in" / "few.csv"
FRACTION = 0.05  # of the users, and of the items, that are new
COUNTS = (1, 2, 3, 5, 10, 20, 30, None)  # None: all training ratings
MODELS: dict[str, dict] = {
    "plain": dict(regularization="plain", lambda_value=40.0, train_epoch=40, base_lr=0.005,
                  decay_epoch_step=20),
    "default": {},
    "paper": dict(preset="paper", lambda_value=40.0, base_lr=0.005, decay_epoch_step=20),
    "single": dict(preset="single"),
    "best": dict(preset="best"),
    "user": dict(orientation="user", regularization="weighted", base_lr=0.003,
                 decay_epoch_step=25, train_epoch=120),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="fold_in_few", description=__doc__.split("\n")[0])
    parser.add_argument("--models", choices=tuple(MODELS), nargs="*", default=[])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1995])
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args()
    finished = {(row["model"], int(row["seed"])) for row in read(given.output)}
    for name in given.models:
        for seed in given.seeds:
            if (name, seed) not in finished:
                append(given.output, measure(name, seed))
    print(table(given.output))


def measure(name: str, seed: int) -> list[dict]:
    """Return the rows of one model: its errors for new users and new items, for each k."""
    from autorec_tf import train

    ratings = load_ratings(Config(dataset="ml-1m"))
    split = split_ratings(ratings, 0.9, seed)
    known, test = (
        pd.DataFrame({"user": ratings.user_ids[side.indices], "item": ratings.item_ids[side.rows],
                      "rating": side.values})
        for side in (split.train, split.test)
    )
    new = {
        axis: np.random.default_rng([seed, number]).choice(ids, round(FRACTION * len(ids)), False)
        for number, axis in enumerate(("user", "item"))
        for ids in [np.unique(known[axis])]
    }
    is_new = [side["user"].isin(new["user"]) | side["item"].isin(new["item"])
              for side in (known, test)]
    model = train(known[~is_new[0]], test[~is_new[1]], rating_scale=(1, 5), random_seed=seed,
                  **MODELS[name])
    rows = []
    for axis, other in (("user", "item"), ("item", "user")):
        theirs = [side[side[axis].isin(new[axis]) & ~side[other].isin(new[other])]
                  for side in (known, test)]
        shuffled = theirs[0].sample(frac=1, random_state=seed)
        rank = shuffled.groupby(axis).cumcount()
        for k in COUNTS:
            is_given = rank < (k or np.inf)
            scored = pd.concat([shuffled[~is_given], theirs[1]])
            biases, folded = errors(model, shuffled[is_given], scored)
            rows.append({"model": name, "seed": seed, "new": f"{axis}s", "k": k or "all",
                         "scored": len(scored), "rmse_biases": f"{biases:.4f}",
                         "rmse_folded_in": f"{folded:.4f}"})
            print(rows[-1], flush=True)
    return rows


def errors(model, given: pd.DataFrame, scored: pd.DataFrame) -> tuple[float, float]:
    """Return the RMSE of the ratings `scored` by the biases and by `model`, both with `given`."""
    wider = model.fold_in(given)
    baseline = fit_baseline(Split(wider.run.train, wider.run.train)).transposed()
    users = wider.recommender.users.get_indexer(scored["user"])
    items = wider.recommender.items.get_indexer(scored["item"])
    predictions = (baseline.predict(users, items).clip(1, 5),
                   wider.predict(scored["user"], scored["item"]))
    biases, folded = (float(np.sqrt(np.mean((x - scored["rating"]) ** 2))) for x in predictions)
    return biases, folded


def table(path: Path) -> str:
    """Return the means over seeds of the rows in the file at `path`, as Markdown."""
    rows, lines = read(path), []
    for new in ("users", "items"):
        of_new = [row for row in rows if row["new"] == new]
        for name in (name for name in MODELS if any(row["model"] == name for row in of_new)):
            of_model = [row for row in of_new if row["model"] == name]
            for label, column in (("biases", "rmse_biases"), (name, "rmse_folded_in")):
                means = [
                    fmean(float(row[column]) for row in of_model if row["k"] == str(k or "all"))
                    for k in COUNTS
                ]
                seeds = len({row["seed"] for row in of_model})
                lines.append([new, label, *(f"{x:.4f}" for x in means), seeds])
    return tables.table(("new", "RMSE of", *(f"k = {k or 'all'}" for k in COUNTS), "splits"), lines)


if __name__ == "__main__":
    sys.exit(run_program("fold_in_few", main))
