"""Evaluate a trained model on a split, for the summary and the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation import baseline
from autorec_tf.evaluation.baseline import Baseline, PredictionPostprocessor
from autorec_tf.evaluation.metrics import Scores, score
from autorec_tf.evaluation.ranking import RANKED_USERS, RELEVANT, RankingScores, rank
from autorec_tf.evaluation.similar_items import PopularItem, popular_items
from autorec_tf.evaluation.slices import Bin, Slice, by_value, calibration, slices
from autorec_tf.model.factors import Factors, blended


class Trained(Protocol):
    """A trained model or a blend."""

    def predict_test(self, split: Split) -> np.ndarray:
        """Return raw predictions for `split.test` from `split.train`: float [pairs]."""

    def factors(self, train: RatingMatrix) -> Sequence[Factors]:
        """Return the model, or each member of the blend, ready to predict from `train`."""

    def gathered(self) -> Sequence[Any]:
        """Return the parameters of the model, or of each member, that workers divide."""


@dataclass(frozen=True)
class Evaluation:
    """Scores on the test ratings, on the file's scale.

    Args:
        scores: of the model, on all test ratings.
        biases, global_mean: of two baselines, user and item biases and the mean rating.
        by_user, by_item: of the model, by the number of training ratings of the user or item.
        by_value, calibration: of the model, by true and by predicted rating.
        ranking, popularity: of the model's rankings of all items, and of that by popularity.
        relevant: the lowest rating of a relevant item.
        popular_items: the items with the most training ratings, and items similar to them.
        factors: the models that predicted.
        errors: absolute errors of the model, float32 [test ratings], by item, then by user.
    """

    scores: Scores
    biases: Scores
    global_mean: Scores
    by_user: Sequence[Slice]
    by_item: Sequence[Slice]
    by_value: Sequence[Bin]
    calibration: Sequence[Bin]
    ranking: RankingScores
    popularity: RankingScores
    relevant: float
    popular_items: Sequence[PopularItem]
    factors: Sequence[Factors]
    errors: np.ndarray


def evaluate(model: Trained, split: Split, cold_rating: str | None = "paper",
             relevant: float | None = None, most_users: int = RANKED_USERS, seed: int = 0,
             progress: Callable[[int, int], object] = lambda done, total: None,
             factors: Sequence[Factors] = ()) -> Evaluation:
    """Evaluate `model`, trained on `split.train`, on `split.test`, on the file's scale.

    Args:
        model: the trained model or blend.
        split: the training and test ratings.
        cold_rating: the rule for cold pairs, see evaluation/baseline.py.
        relevant: the lowest rating of a relevant item on the file's scale. The default is 4 on the
            scale 1..5, and the same fraction of another scale.
        most_users, seed, progress: as in `rank` of evaluation/ranking.py.
        factors: those of the model, if they are known already.
    """
    train, test, unit = split.train, split.test, split.unit
    raw, factors = model.predict_test(split), factors or model.factors(train)
    predictions = PredictionPostprocessor(split, test, cold_rating)(raw)
    ratings = unit.to_file(test.values)
    counts = [(train.row_counts, test.rows), (train.column_counts, test.indices)]
    of_user, of_item = counts if split.orientation == "user" else counts[::-1]
    biases = baseline.fit_baseline(split)
    by_biases = unit.to_file(biases.predict(test.rows, test.indices))
    by_mean = unit.to_file(np.full(len(test), biases.mean))
    low, high = unit.model_scale
    least = low + RELEVANT * (high - low) if relevant is None else float(unit.to_model(relevant))
    cold = baseline.cold_baseline(split, cold_rating)
    ranking, popularity = rankings(factors, split, cold, least, most_users, seed, progress)
    by_item = np.argsort(of_item[1], kind="stable")  # in both orientations, users are ascending
    return Evaluation(
        scores=score(predictions, ratings),
        biases=score(by_biases, ratings),
        global_mean=score(by_mean, ratings),
        by_user=slices(predictions, by_biases, ratings, of_user[0][of_user[1]]),
        by_item=slices(predictions, by_biases, ratings, of_item[0][of_item[1]]),
        by_value=by_value(predictions, ratings, unit.file_scale),
        calibration=calibration(predictions, ratings, unit.file_scale),
        ranking=ranking,
        popularity=popularity,
        relevant=float(unit.to_file(np.float64(least))),
        popular_items=popular_items(of_item[0], [(f.weight, f.item_embeddings) for f in factors]),
        factors=factors,
        errors=np.abs(predictions - ratings).astype(np.float32)[by_item],
    )


def score_test(split: Split, predictions: np.ndarray, cold_rating: str | None) -> Scores:
    """Return the scores of raw `predictions` [pairs] for the test ratings, on the file's scale."""
    final = PredictionPostprocessor(split, split.test, cold_rating)(predictions)
    return score(final, split.unit.to_file(split.test.values))


def rankings(factors: Sequence[Factors], split: Split, cold: Baseline, relevant: float,
             most_users: int, seed: int, progress: Callable[[int, int], object],
             ) -> tuple[RankingScores, RankingScores]:
    """Return the scores of the model's rankings of a split, and of the ranking by popularity."""
    if split.orientation == "item":
        split, cold = split.transposed(), cold.transposed()

    def predict_block(users: np.ndarray, items: slice) -> np.ndarray:
        return blended(factors, [f.block(users, items) for f in factors])

    return rank(predict_block, split.train, split.test, cold, relevant=relevant,
                most_users=most_users, seed=seed, progress=progress)
