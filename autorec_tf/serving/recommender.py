"""Predictions for the ids of a file: recommendations, similar items, and pairs.

    from autorec_tf.serving.finished_run import read_run

    movies = read_run("results/quick").recommender()
    recommend(movies, user=1, n=10)                # pandas tables
    similar(movies, item=1)
    predict(movies, users=[1, 1], items=[1, 2])
    for block in top(movies, n=10): ...            # for every user, a block of users at a time

A rating is predicted from *training* ratings only, as when the run was evaluated. Recommendations
leave out *all* items that the user has rated, including test ratings. Each prediction comes with
the number of training ratings of its item (or user): predictions from few ratings are less
reliable.

It needs no TensorFlow: with the hidden codes of the rows, a prediction is f(code . W_u + b_u).
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
from autorec_tf.system.errors import AutoRecWarning, UserError

BLOCK_USERS, BLOCK_ITEMS = 512, 8192  # whose predictions are in memory at a time
IdSequence = Sequence[Any] | np.ndarray


@dataclass(frozen=True, eq=False)
class Recommender:
    """A model or a blend, with the ids of its users and items.

    Args:
        user_ids, item_ids: int64 or strings, the id of each index.
        user_ratings, item_ratings: int64, the number of training ratings of each.
        unit: the map between the file's rating scale and the models'.
        cold: the baseline that predicts cold pairs; its rows are users.
        factors: the models, ready to predict.
        rated: users x items, all known ratings, which recommendations leave out, or None if the
            ratings are not available.
        titles: the title of each item id as text.
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
        """Return the index of a user. Raise UserError for an unknown or cold user."""
        return known(self.users, user_id, "user", self.user_ratings)

    def item(self, item_id: Any) -> int:
        """Return the index of an item. Raise UserError for an unknown or cold item."""
        return known(self.items, item_id, "item", self.item_ratings)

    def titled(self, titles: Mapping[str, str]) -> "Recommender":
        return replace(self, titles=titles)

    def described(self, items: np.ndarray, **columns: np.ndarray) -> pd.DataFrame:
        """Return a table of items by index: id, title, `columns`, and training ratings."""
        ids = self.item_ids[items]
        titles = [self.titles.get(str(each), str(each)) for each in ids]
        return pd.DataFrame(
            {"item": ids, "title": titles} | columns | {"ratings": self.item_ratings[items]},
            index=pd.RangeIndex(1, len(items) + 1, name="rank"),
        )

    def best(self, first: int, last: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the user (counted from `first`), the item and the prediction of the `n` best items
        of users first..last-1, in order.

        A blend predicts the weighted sum of its models' clipped predictions. Ties that clipping
        causes are broken by the unclipped predictions. Items that the user has rated and items
        without a training rating are left out.
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
                   factors: Sequence[Factors], cold: Baseline | None = None) -> Recommender:
    """Return the recommender of `factors`, trained on `train` (items x users), which leaves no item
    out of recommendations. `cold` is the result of `cold_pairs`, if it is known."""
    return Recommender(user_ids=ratings.user_ids, item_ids=ratings.item_ids,
                       user_ratings=train.column_counts, item_ratings=train.row_counts,
                       unit=ratings.unit,
                       cold=cold or cold_pairs(config, ratings, train), factors=factors)


def cold_pairs(config: Config, ratings: Ratings, train: RatingMatrix) -> Baseline:
    """Return the baseline that predicts cold pairs; its rows are users."""
    split = Split(train, train, unit=ratings.unit)
    return cold_baseline(split, config.cold_rating).transposed()


def rated(ratings: Ratings) -> RatingMatrix:
    """Return all known ratings, users x items, which recommendations leave out."""
    shape = ratings.num_users, ratings.num_items
    return RatingMatrix.from_triples(ratings.users, ratings.items, ratings.values, shape)


def recommend(recommender: Recommender, user: Any, n: int = 10) -> pd.DataFrame:
    """Return the `n` items with the highest predictions among those that `user` has not rated.

    Args:
        recommender: the model.
        user: the id of a user.
        n: the number of items.

    Returns:
        A table with the columns item, title, prediction, ratings (training ratings of the item);
        the index is the rank.

    Raises:
        UserError: for a user who is unknown or has no training rating.
    """
    index = recommender.user(user)
    _, items, predictions = recommender.best(index, index + 1, at_least_1(n))
    return recommender.described(items, prediction=predictions)


def similar(recommender: Recommender, item: Any, n: int = 10) -> pd.DataFrame:
    """Return the `n` items whose embeddings are most similar to those of `item`, an id, as defined
    in evaluation/similar_items.py.

    The columns are those of `recommend`, with `similarity` for `prediction`. Raise UserError for an
    item that is unknown or has no training rating.
    """
    index, trained = recommender.item(item), recommender.item_ratings > 0
    item_embeddings = [(f.weight, f.item_embeddings) for f in recommender.factors]
    ((items, similarity),) = nearest(item_embeddings, np.array([index]), trained, at_least_1(n))
    return recommender.described(items, similarity=similarity)


def predict(recommender: Recommender, users: IdSequence, items: IdSequence) -> pd.DataFrame:
    """Return the predicted ratings of (user, item) id pairs, within the rating scale.

    The columns are user, item, prediction, and the numbers of training ratings of both. A pair
    whose user or item is unknown or has no training rating is predicted by the run's rule for cold
    pairs.
    """
    user, item = recommender.users.get_indexer(users), recommender.items.get_indexer(items)
    predictions, user_ratings, item_ratings = predict_at(recommender, user, item)
    return pd.DataFrame({"user": users, "item": items, "prediction": predictions,
                         "user_ratings": user_ratings, "item_ratings": item_ratings})


def cold_warning(users: Any, items: Any, user_ratings: np.ndarray, item_ratings: np.ndarray,
                 cold_rating: str | None) -> AutoRecWarning | None:
    """Return a warning about pairs that were predicted without the model, if any.

    Args:
        users, items: the ids of the pairs, [pairs] or one id.
        user_ratings, item_ratings: [pairs], the numbers of training ratings, from `predict_at`.
        cold_rating: the run's rule for cold pairs.
    """
    cold = (user_ratings == 0) | (item_ratings == 0)
    if not cold.any():
        return None
    user, item = (pd.Series(ids).iloc[int(cold.argmax())] for ids in (users, items))
    rule = ("the means and biases of the training ratings" if cold_rating == "mean"
            else "the rating 3, as in the paper")
    return AutoRecWarning(f"{int(cold.sum()):,} of {len(cold):,} pairs have a user or an item "
                          f"without training ratings, first user {user} and item {item}. Their "
                          f"prediction is {rule}.")


def predict_at(recommender: Recommender, user: np.ndarray,
               item: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the predictions (float64 [pairs]) of (user, item) index pairs, -1 if unknown, and the
    numbers of training ratings of both, as in `predict`."""
    user_ratings = np.where(user < 0, 0, recommender.user_ratings[user])
    item_ratings = np.where(item < 0, 0, recommender.item_ratings[item])
    raw = (f.pairs(user, item).astype(np.float64) for f in recommender.factors)
    predictions = blended(recommender.factors, [x.clip(*recommender.unit.model_scale) for x in raw])
    predictions = predictions.clip(*recommender.unit.model_scale)
    cold = (user_ratings == 0) | (item_ratings == 0)
    final = np.where(cold, recommender.cold.predict(user, item), predictions)
    return recommender.unit.to_file(final), user_ratings, item_ratings


def top(recommender: Recommender, n: int = 10) -> Iterator[pd.DataFrame]:
    """Yield the `n` best items of every user with a training rating, a block of users at a time, in
    tables with the columns user, rank, item, prediction, ratings.
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
        raise UserError(f"{what} {wanted} is not one of the {len(ids):,} {what}s in the ratings")
    if not ratings[index]:
        raise UserError(f"{what} {wanted} has no training ratings, so nothing was learned about it")
    return index


def at_least_1(n: int) -> int:
    if n < 1:
        raise UserError(f"n is {n}: must be at least 1")
    return n
