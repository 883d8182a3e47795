"""A trained model and a split to everything that a summary and a report show of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from data.ratings import RatingMatrix, Split
from evaluation.metrics import Scores, cold_pairs, final_predictions, score
from evaluation.ranking import RankingScores, rank
from evaluation.similar_items import PopularItem, popular_items
from evaluation.slices import Bin, Slice, by_value, calibration, slices
from model.factors import Factors, blended


class Trained(Protocol):
    """A model, or a blend of several."""

    def predict_test(self, split: Split) -> np.ndarray:
        """Return raw predictions of `split.test` from `split.train`: float [pairs]."""
        ...

    def factors(self, train: RatingMatrix) -> Sequence[Factors]:
        """Return the model, or each of the blend, as it predicts from `train`."""
        ...


@dataclass(frozen=True)
class Evaluation:
    """Scores of the test ratings, all in all, by training ratings of their user and of their item,
    by true and by predicted rating; the ranking of all items; the items with the most training
    ratings, and what is like them."""

    scores: Scores
    by_user: Sequence[Slice]
    by_item: Sequence[Slice]
    by_value: Sequence[Bin]
    calibration: Sequence[Bin]
    ranking: RankingScores
    popular_items: Sequence[PopularItem]


def evaluate(model: Trained, split: Split) -> Evaluation:
    """Return what `model`, trained on `split.train`, is worth on `split.test`."""
    train, test = split.train, split.test
    raw, factors = model.predict_test(split), model.factors(train)
    scale, ratings = factors[0].scale, test.values
    predictions = final_predictions(raw, cold_pairs(train, test.rows, test.indices), scale)
    counts = [(train.row_counts, test.rows), (train.column_counts, test.indices)]
    of_user, of_item = counts if split.orientation == "user" else counts[::-1]
    return Evaluation(
        scores=score(predictions, ratings),
        by_user=slices(predictions, ratings, of_user[0][of_user[1]]),
        by_item=slices(predictions, ratings, of_item[0][of_item[1]]),
        by_value=by_value(predictions, ratings, scale),
        calibration=calibration(predictions, ratings, scale),
        ranking=ranking(factors, split.by_user()),
        popular_items=popular_items(
            of_item[0], [(f.weight, f.item_embeddings) for f in factors]
        ),
    )


def ranking(factors: Sequence[Factors], by_user: Split) -> RankingScores:
    """Return NDCG@10 and Recall@10 of a split whose rows are users."""

    def predict_block(first: int, last: int) -> np.ndarray:
        return blended(factors, [f.block(first, last) for f in factors])

    return rank(predict_block, by_user.train, by_user.test)
