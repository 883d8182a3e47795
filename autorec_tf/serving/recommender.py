"""Predictions for the ids of a file: recommendations, similar items, pairs, everybody's best.

    from autorec_tf.serving.finished_run import read_run

    movies = read_run("results/quick").recommender()
    recommend(movies, user=1, n=10)                # pandas tables
    similar(movies, item=1)
    predict(movies, users=[1, 1], items=[1, 2])
    for block in top(movies, n=10): ...            # of every user, a block of users at a time

A rating is predicted from *training* ratings alone, as it was when the run was scored. What is
recommended leaves out *every* rating known of the user, test ratings too. Beside each prediction
stand the training ratings of its item (or user): the fewer, the less it is to be trusted.

NumPy alone: once the hidden codes of the rows are known, a prediction is f(code . W_u + b_u).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings, RatingUnit, Split
from autorec_tf.evaluation.baseline import Baseline, cold_baseline
from autorec_tf.evaluation.ranking import best_items, ratings_of
from autorec_tf.evaluation.similar_items import nearest
from autorec_tf.model.factors import Factors, blended
from autorec_tf.system.errors import UserError

BLOCK_USERS, BLOCK_ITEMS = 512, 8192  # whose predictions are held at a time
IdSequence = Sequence[Any] | np.ndarray


@dataclass(frozen=True, eq=False)
class Recommender:
    """One model or a blend of several, with the ids of its users and items.

    user_ratings, item_ratings: int64, the training ratings of each; rated: users x items, every
    known rating, which recommendations leave out, or None where the ratings are not at hand;
    titles: item id as text -> title; unit: the file's rating scale, and that of training; cold:
    what predicts pairs of which the models know nothing, its rows being users.
    """

    user_ids: np.ndarray
    item_ids: np.ndarray
    user_ratings: np.ndarray
    item_ratings: np.ndarray
    unit: RatingUnit
    cold: Baseline
    factors: Sequence[Factors]
    rated: RatingMatrix | None = None
    titles: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def users(self) -> pd.Index:
        return pd.Index(self.user_ids)

    @cached_property
    def items(self) -> pd.Index:
        return pd.Index(self.item_ids)

    def user(self, user_id: Any) -> int:
        """The index of a user; UserError if nothing was learned of the user."""
        return known(self.users, user_id, "user", self.user_ratings)

    def item(self, item_id: Any) -> int:
        """The index of an item; UserError if nothing was learned of the item."""
        return known(self.items, item_id, "item", self.item_ratings)

    def titled(self, titles: Mapping[str, str]) -> "Recommender":
        return replace(self, titles=titles)

    def described(self, items: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
        """A table of items by index: id, title, `columns`, and training ratings."""
        ids = self.item_ids[items]
        titles = [self.titles.get(str(each), str(each)) for each in ids]
        return pd.DataFrame(
            {"item": ids, "title": titles} | columns | {"ratings": self.item_ratings[items]},
            index=pd.RangeIndex(1, len(items) + 1, name="rank"),
        )

    def best(self, first: int, last: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """User (counted from `first`), item and prediction of each one's `n` best items, for users
        first..last-1, in order.

        A blend is the weighted sum of its models' clipped predictions. Where clipping ties the
        best, the unclipped predictions decide. Items that the user has rated, and those without a
        training rating, of which nothing is known, are left out.
        """
        low, high = self.unit.model_scale

        def predict_block(items: slice) -> tuple[np.ndarray, np.ndarray | None]:
            blocks = [f.block(slice(first, last), items) for f in self.factors]
            scores, raw = blocks[0], None
            if len(blocks) > 1 or self.factors[0].weight != 1:  # else clipping keeps the order
                raw = blended(self.factors, blocks)
                clipped = (block.clip(low, high) for block in blocks)
                scores = blended(self.factors, clipped).clip(low, high)
            scores[:, self.item_ratings[items] == 0] = -np.inf
            return scores, raw

        nothing = np.zeros(0, np.int64)
        taken = nothing, nothing
        if self.rated:
            taken = ratings_of(self.rated, np.arange(first, last))[:2]
        users, items, _, scores = best_items(
            predict_block, len(self.item_ids), n, taken, BLOCK_ITEMS
        )
        return users, items, self.unit.to_file(scores.clip(low, high))


def recommender_of(config: Config, ratings: Ratings, train: RatingMatrix,
                   factors: Sequence[Factors]) -> Recommender:
    """Return what predicts by `factors`, trained on `train`, items x users, leaving nothing out."""
    split = Split(train, train, unit=ratings.unit)
    return Recommender(user_ids=ratings.user_ids, item_ids=ratings.item_ids,
                       user_ratings=train.column_counts, item_ratings=train.row_counts,
                       unit=ratings.unit,
                       cold=cold_baseline(split, config.cold_rating).transposed(), factors=factors)


def rated(ratings: Ratings) -> RatingMatrix:
    """Return all known ratings, users x items, which recommendations leave out."""
    shape = ratings.num_users, ratings.num_items
    return RatingMatrix.from_triples(ratings.users, ratings.items, ratings.values, shape)


def recommend(recommender: Recommender, user: Any, n: int = 10) -> pd.DataFrame:
    """The `n` items that `user` (an id) is predicted to rate highest, of those not rated yet.

    Columns: item, title, prediction, ratings (training ratings of the item); the index is the
    rank. Raises UserError for a user who is unknown, or has no training rating.
    """
    index = recommender.user(user)
    _, items, predictions = recommender.best(index, index + 1, at_least_1(n))
    return recommender.described(items, prediction=predictions)


def similar(recommender: Recommender, item: Any, n: int = 10) -> pd.DataFrame:
    """Return the `n` items most like `item` (an id) by what the model has learned of them:
    evaluation/similar_items.py says how.

    Columns as in `recommend`, with `similarity`. Raise UserError for an item that is unknown, or
    has no training rating.
    """
    index, trained = recommender.item(item), recommender.item_ratings > 0
    item_embeddings = [(f.weight, f.item_embeddings) for f in recommender.factors]
    ((items, similarity),) = nearest(item_embeddings, np.array([index]), trained, at_least_1(n))
    return recommender.described(items, similarity=similarity)


def predict(recommender: Recommender, users: IdSequence, items: IdSequence) -> pd.DataFrame:
    """The predicted ratings of (user, item) id pairs, within the rating scale.

    Columns: user, item, prediction, and the training ratings of both. A pair whose user or item
    is unknown, or has no training rating, is predicted by the run's rule for cold pairs.
    """
    user, item = recommender.users.get_indexer(users), recommender.items.get_indexer(items)
    predictions, user_ratings, item_ratings = predict_at(recommender, user, item)
    return pd.DataFrame({"user": users, "item": items, "prediction": predictions,
                         "user_ratings": user_ratings, "item_ratings": item_ratings})


def predict_at(recommender: Recommender, user: np.ndarray,
               item: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `predict` says of (user, item) index pairs, -1 for an unknown one: predictions
    (float64 [pairs]), and the training ratings of both."""
    user_ratings = np.where(user < 0, 0, recommender.user_ratings[user])
    item_ratings = np.where(item < 0, 0, recommender.item_ratings[item])
    raw = (f.pairs(user, item).astype(np.float64) for f in recommender.factors)
    predictions = blended(recommender.factors, [x.clip(*recommender.unit.model_scale) for x in raw])
    predictions = predictions.clip(*recommender.unit.model_scale)
    cold = (user_ratings == 0) | (item_ratings == 0)
    final = np.where(cold, recommender.cold.predict(user, item), predictions)
    return recommender.unit.to_file(final), user_ratings, item_ratings


def top(recommender: Recommender, n: int = 10) -> Iterator[pd.DataFrame]:
    """`recommend` for every user who has a training rating, a block of users at a time.

    Columns: user, rank, item, prediction, ratings; memory holds one block.
    """
    num_users, n = len(recommender.user_ids), at_least_1(n)
    size = max(1, min(BLOCK_USERS, BLOCK_USERS * BLOCK_ITEMS // n))
    for first in range(0, num_users, size):
        last = min(first + size, num_users)
        users, items, predictions = recommender.best(first, last, n)
        warm = recommender.user_ratings[first + users] > 0
        users, items, predictions = users[warm], items[warm], predictions[warm]
        yield pd.DataFrame({
            "user": recommender.user_ids[first + users],
            "rank": np.arange(len(users)) - np.searchsorted(users, users) + 1,
            "item": recommender.item_ids[items], "prediction": predictions,
            "ratings": recommender.item_ratings[items],
        })


def known(ids: pd.Index, wanted: Any, what: str, ratings: np.ndarray) -> int:
    index = int(ids.get_indexer([wanted])[0])
    if index < 0:
        raise UserError(f"{what} {wanted} is not among the {len(ids):,} {what}s of the ratings")
    if not ratings[index]:
        raise UserError(f"{what} {wanted} has no training rating: nothing was learned")
    return index


def at_least_1(n: int) -> int:
    if n < 1:
        raise UserError(f"n is {n}: must be at least 1")
    return n
