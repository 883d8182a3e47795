"""The schema of summary.json, for writing and reading."""

import math
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from autorec_tf.data.ratings import Split
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics, Scores, cold_pairs
from autorec_tf.evaluation.ranking import RankingScores
from autorec_tf.evaluation.slices import Slice
from autorec_tf.evaluation.statistics import mean_and_interval
from autorec_tf.system.environment import peak_memory_mb

# The measures that a run over several splits averages.
AVERAGED = ("final_test_rmse", "final_test_mae", "ndcg_at_10", "recall_at_10",
            "biases_test_rmse", RECONSTRUCTION, "popularity_ndcg_at_10", "popularity_recall_at_10",
            "coverage_at_10")
# Measures by displayed name.
MEASURES = {
    "test RMSE": "final_test_rmse",
    "biases": "biases_test_rmse",
    "MAE": "final_test_mae",
    "NDCG@10": "ndcg_at_10",
    "popularity NDCG@10": "popularity_ndcg_at_10",
    "Recall@10": "recall_at_10",
    "popularity Recall@10": "popularity_recall_at_10",
    "coverage": "coverage_at_10",
    "validation RMSE": "final_validation_rmse",
    "reconstruction RMSE (test ratings as input)": RECONSTRUCTION,
    "seconds": "seconds",
}
MEAN, INTERVAL = "_mean", "_ci95"  # suffixes: mean over splits, half its 95 % interval


def is_number(value: Any) -> bool:
    """Return whether a value of summary.json is a finite number."""
    return type(value) in (int, float) and abs(value) < 1e300


def training_summary(metrics: Sequence[EpochMetrics], evaluation: Evaluation,
                     reconstruction: Scores | None) -> dict[str, Any]:
    """Return the results of a model with the `metrics` of its epochs, or of a blend."""
    summary = results(metrics) | {"epochs": len(metrics)} if metrics else {}
    if metrics:
        if "final_validation_rmse" not in summary:  # otherwise validation chose an epoch
            summary["final_test_epoch"] = len(metrics)
    if reconstruction:
        summary[RECONSTRUCTION] = reconstruction.rmse
    return summary | scores_of(evaluation)


def closing_entries(split: Split, seconds: float) -> dict[str, Any]:
    """Return the entries at the end of every summary: number of test ratings, time and memory."""
    test = split.test
    return {
        "test_ratings": len(test),
        "cold_test_ratings": int(cold_pairs(split.train, test.rows, test.indices).sum()),
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
    }


def summary_of_splits(rows: Sequence[Mapping[str, Any]], num_splits: int) -> dict[str, Any]:
    """Return the summary of a run over `num_splits` splits. `rows`: the finished splits, as in
    splits.csv, each with the name of the split followed by its measures."""
    summary: dict[str, Any] = {
        "status": "finished" if len(rows) == num_splits else "interrupted",
        "num_splits": len(rows),
    }
    for name in list(rows[0])[1:]:
        mean, half = mean_and_interval([row[name] for row in rows])
        summary[f"{name}{MEAN}"] = mean
        if len(rows) > 1:  # JSON has no NaN
            summary[f"{name}{INTERVAL}"] = half
    return summary


def results(metrics: Sequence[EpochMetrics]) -> dict[str, Any]:
    """Return the final and the best results. The final ones are the result: of the last evaluated
    epoch, or of the epoch that validation ratings chose. The best epoch is chosen on the test
    ratings, so it shows how flat the curve is at its end, and must not be quoted as a score."""
    evaluated = [m for m in metrics if m.test_rmse is not None]
    summary: dict[str, Any] = {"final_train_rmse": metrics[-1].train_rmse}
    if evaluated:
        final, best = evaluated[-1], min(evaluated, key=attrgetter("test_rmse"))
        if final.validation_rmse is not None:
            final = min(evaluated, key=attrgetter("validation_rmse"))
            summary["final_validation_rmse"] = final.validation_rmse
        if (leaking := getattr(final, RECONSTRUCTION)) is not None:
            summary[RECONSTRUCTION] = leaking
        summary |= {
            "final_test_epoch": final.epoch, "final_test_rmse": final.test_rmse,
            "final_test_mae": final.test_mae, "best_test_epoch": best.epoch,
            "best_test_rmse": best.test_rmse, "best_test_mae": best.test_mae,
        }
    return summary


def scores_of(evaluation: Evaluation) -> dict[str, Any]:
    """Return an evaluation as entries of summary.json."""
    ranking, popularity = evaluation.ranking, evaluation.popularity
    return {
        "final_test_rmse": evaluation.scores.rmse, "final_test_mae": evaluation.scores.mae,
        "biases_test_rmse": evaluation.biases.rmse,
        "global_mean_test_rmse": evaluation.global_mean.rmse,
        **ranking_entries("", ranking), **ranking_entries("popularity_", popularity),
        "ranked_users": ranking.num_users,
        "ranked_users_drawn_from": ranking.drawn_from,
        "relevant_rating": evaluation.relevant,
        "by_training_ratings_of_the_user": list(map(slice_row, evaluation.by_user)),
        "by_training_ratings_of_the_item": list(map(slice_row, evaluation.by_item)),
    }


def ranking_entries(prefix: str, scores: RankingScores) -> dict[str, float | None]:
    entries = {"ndcg": scores.ndcg, "recall": scores.recall, "coverage": scores.coverage}
    return {f"{prefix}{name}_at_10": value if scores.num_users else None
            for name, value in entries.items()}


def slice_row(part: Slice) -> dict[str, Any]:
    """Return a slice as an entry of summary.json. A single rating has no standard error."""
    scores, error = part.scores, part.standard_error
    return {"training_ratings": part.label, "test_ratings": scores.num_ratings,
            "rmse": scores.rmse, "mae": scores.mae, "biases_rmse": part.biases.rmse,
            "difference_standard_error": None if math.isnan(error) else error}
