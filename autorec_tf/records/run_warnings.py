"""The warnings of a run, and its advice: when each is due, and its text.

main.py prints them, and the Python API issues them as `AutoRecWarning` (see `warn_caller` in
system/errors.py). Two more are decided where the facts are: in data/ for repeated ratings and
missing data, in serving/recommender.py for unknown ids.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from autorec_tf.config import FULL_BATCH, Config
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.metrics import cold_pairs
from autorec_tf.system.errors import AutoRecWarning

MANY_COLD = 0.05  # fraction of the test ratings; 8 of 100,021 on MovieLens-1M
FEW_RATINGS = 50  # per user or per item, on average; MovieLens-1M has 166 and 270
STEPS = 8  # mini-batches in an epoch on MovieLens-1M


def first_warnings(config: Config, ratings: Ratings, split: Split) -> list[AutoRecWarning]:
    """Return a warning for each likely mistake in the data and the settings, before training."""
    has_files = ratings.held_out is not None and config.split != "time"
    texts = [of_cold_ratings(split, has_files), of_users(ratings), of_scale(ratings),
             of_mini_batches(config, split)]
    return [AutoRecWarning(text) for text in texts if text]


def last_warnings(summary: Mapping[str, Any]) -> list[AutoRecWarning]:
    """Return a warning for each reason to distrust the result `summary`, as in summary.json."""
    texts = []
    if "biases_test_rmse" in summary:
        rmse, biases = summary["final_test_rmse"], summary["biases_test_rmse"]
        if not rmse < biases:
            texts.append(f"The model is not better than the biases of users and items (test RMSE "
                         f"{rmse:.4f} and {biases:.4f}). {remedy(summary)}")
    if summary["dataset"] == "synthetic":
        texts.append("The ratings are synthetic: this RMSE is not a result on MovieLens.")
    return [AutoRecWarning(text) for text in texts]


def remedy(summary: Mapping[str, Any]) -> str:
    """Return what to do if a model is not better than the biases."""
    if summary["cold_test_ratings"] > summary["test_ratings"] / 2:
        return "Most test ratings have a user or an item without training ratings (cold)."
    if "epochs" not in summary:  # a blend
        return "The data may have too few ratings for a model."
    if summary["preset"] == "single":  # whose lambda is mostly chosen by validation
        return ("The data may have too few ratings for a model. If you chose --lambda_value, try "
                "another one.")
    other = "--preset single, or another --lambda_value"
    is_complete = summary.get("converged") or summary["preset"] == "fast"  # whose rate ends at 0
    return f"Try {other}." if is_complete else f"Train longer, or try {other}."


def of_cold_ratings(split: Split, has_files: bool) -> str:
    test = split.test
    cold = int(cold_pairs(split.train, test.rows, test.indices).sum())
    if cold < MANY_COLD * len(test):
        return ""
    text = (f"{cold:,} of {len(test):,} test ratings ({cold / len(test):.0%}) have a user or an "
            "item without training ratings. They are predicted by --cold_rating, not by the model.")
    return text + " Check that all files use the same ids." * (has_files and cold > len(test) / 2)


def of_users(ratings: Ratings) -> str:
    if not ratings.num_users == len(ratings) > 1:
        return ""
    return ("No user has more than one rating. If the user column contains row numbers, name the "
            "right columns with --columns.")


def of_scale(ratings: Ratings) -> str:
    values = ratings.values
    low, high = np.quantile(values, [0.01, 0.99])
    if len(values) < 100 or high - low >= (values.max() - values.min()) / 2:
        return ""
    return (f"Almost all ratings are {low:.6g} to {high:.6g}. If the others are not ratings, skip "
            "them with --no_rating; otherwise set the scale with --rating_scale.")


def of_mini_batches(config: Config, split: Split) -> str:
    """Return a warning if an epoch has a single step by default: too few to learn much."""
    rows, given = split.train.num_rows, config.given or ()
    has_batches = not config.members and config.optimizer_method not in FULL_BATCH
    is_chosen = "batch_size" in given or config.preset == "fast" and "train_epoch" not in given
    if not has_batches or rows > config.batch_size or is_chosen or config.resume:
        return ""
    return (f"All {rows:,} {config.orientation}s are in one mini-batch, so an epoch has only one "
            f"step, and {config.train_epoch} epochs may be too few. Use --batch_size "
            f"{max(rows // STEPS, 1)}, or --preset single.")


def advice(config: Config, ratings: Ratings, split: Split) -> str:
    """Return a line that names a better preset for data much thinner than MovieLens-1M, or "",
    also where a warning about the mini-batches names it."""
    if config.preset not in ("default", "paper", "fast") or config.resume or config.members:
        return ""
    if of_mini_batches(config, split):
        return ""
    per_user, per_item = (len(ratings) / n for n in (ratings.num_users, ratings.num_items))
    if min(per_user, per_item) >= FEW_RATINGS or config.optimizer_method in FULL_BATCH:
        return ""
    few = f"{per_user:.1f} ratings per user and {per_item:.1f} per item"
    return f"Advice: {few} are few. --preset single is more accurate on such data."
