"""Predictions for the ids of a file: recommendations, similar items, and pairs.

    from autorec_tf.serving.finished_run import read_run

    movies = read_run("results/quick").recommender()
    recommend(movies, user=1, n=10)                # pandas tables
    recommend_many(movies, users=[1, 2, 3])
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
BLOCK_PAIRS = 1 << 16  # that are predicted at a time
IdSequence = Sequence[Any] | np.ndarray


@dataclass(frozen=True, eq=False)
class Choice:
    """The items that may be recommended, by index.

    Args:
        candidates: int [items], the only items to choose from, ascending, or None for all.
        excluded: int [items], items that are never recommended.
        include_rated: whether to recommend items that the user has rated, too.
    """

    candidates: np.ndarray | None = None
    excluded: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    include_rated: bool = False


UNRATED = Choice()


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

    def best(self, users: slice | np.ndarray, n: int,
             choice: Choice = UNRATED) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the user (as a position in `users`), the item and the prediction of the `n` best
        items of each of the `users`, in order.

        A blend predicts the weighted sum of its models' clipped predictions. Ties that clipping
        causes are broken by the unclipped predictions. Items that the user has rated and items
        without a training rating are left out.

        Args:
            users: indices.
            n: the number of items.
            choice: other rules for the items.
        """
        low, high = self.unit.model_scale
        candidates, barred = choice.candidates, self.item_ratings == 0
        barred[choice.excluded] = True

        def predict_block(part: slice) -> tuple[np.ndarray, np.ndarray | None]:
            items = candidates[part] if candidates is not None else part
            blocks = [f.block(users, items) for f in self.factors]
            scores, raw = blocks[0], None
            if len(blocks) > 1 or self.factors[0].weight != 1:  # else clipping keeps the order
                raw = blended(self.factors, blocks)
                clipped = (block.clip(low, high) for block in blocks)
                scores = blended(self.factors, clipped).clip(low, high)
            scores[:, barred[items]] = -np.inf
            return scores, raw

        size = len(candidates if candidates is not None else self.item_ids)
        if not size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32)
        rows, items, _, scores = best_items(predict_block, size, n, self.taken(users, choice),
                                            BLOCK_ITEMS)
        items = candidates[items] if candidates is not None else items
        return rows, items, self.unit.to_file(scores.clip(low, high))

    def taken(self, users: slice | np.ndarray, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
        """Return the rated pairs to leave out: positions in `users`, and in the candidates."""
        nothing = np.zeros(0, np.int64)
        if choice.include_rated or not self.rated:
            return nothing, nothing
        users = np.arange(users.start, users.stop) if isinstance(users, slice) else users
        rows, items = ratings_of(self.rated, users)[:2]
        if choice.candidates is not None:
            at = np.searchsorted(choice.candidates, items).clip(max=len(choice.candidates) - 1)
            there = choice.candidates[at] == items
            rows, items = rows[there], at[there]
        return rows, items


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


def recommend(recommender: Recommender, user: Any, n: int = 10,
              choice: Choice = UNRATED) -> pd.DataFrame:
    """Return the `n` items with the highest predictions among those that `user` has not rated.

    Args:
        recommender: the model.
        user: the id of a user.
        n: the number of items.
        choice: other rules for the items.

    Returns:
        A table with the columns item, title, prediction, ratings (training ratings of the item);
        the index is the rank.

    Raises:
        UserError: for a user who is unknown or has no training rating.
    """
    index = recommender.user(user)
    _, items, predictions = recommender.best(slice(index, index + 1), at_least_1(n), choice)
    return recommender.described(items, prediction=predictions)


def recommend_many(recommender: Recommender, users: IdSequence, n: int = 10,
                   choice: Choice = UNRATED) -> pd.DataFrame:
    """Return the recommendations for several users, ids, in the order of `users`: the table of
    `recommend`, with the columns user and rank first. Raise UserError as `recommend`."""
    indices = np.array([recommender.user(user) for user in users], np.int64)
    tables = [recommender.described(np.zeros(0, np.int64), prediction=np.zeros(0))]
    positions = [np.zeros(0, np.int64)]
    for first in range(0, len(indices), block_size(n)):
        part = indices[first : first + block_size(n)]
        rows, items, predictions = recommender.best(part, n, choice)
        tables.append(recommender.described(items, prediction=predictions))
        positions.append(first + rows)
    return grouped(tables, "user", recommender.user_ids[indices], positions)


def grouped(tables: Sequence[pd.DataFrame], name: str, ids: np.ndarray,
            positions: Sequence[np.ndarray]) -> pd.DataFrame:
    """Return `tables` as one, with the columns `name` and rank first. `positions`: of each row of
    the tables, in `ids`, ascending."""
    table = pd.concat([each for each in tables if len(each)] or tables, ignore_index=True)
    position = np.concatenate(positions)
    table.insert(0, name, ids[position])
    table.insert(1, "rank", ranks_of(position))
    return table


def ranks_of(rows: np.ndarray) -> np.ndarray:
    """Return the rank of each entry among those of its row, from 1; `rows` is ascending."""
    return np.arange(len(rows)) - np.searchsorted(rows, rows) + 1


def similar(recommender: Recommender, item: Any, n: int = 10) -> pd.DataFrame:
    """Return the `n` items whose embeddings are most similar to those of `item`, an id, as defined
    in evaluation/similar_items.py.

    The columns are those of `recommend`, with `similarity` for `prediction`. Raise UserError for an
    item that is unknown or has no training rating.
    """
    index = np.array([recommender.item(item)])
    (table,) = similar_tables(recommender, index, at_least_1(n))
    return table


def similar_many(recommender: Recommender, items: IdSequence, n: int = 10) -> pd.DataFrame:
    """Return the items that are similar to each of several `items`, ids: the table of `similar`,
    with the columns similar_to and rank first. Raise UserError as `similar`."""
    indices = np.array([recommender.item(item) for item in items], np.int64)
    tables = [recommender.described(np.zeros(0, np.int64), similarity=np.zeros(0))]
    for first in range(0, len(indices), BLOCK_USERS):
        tables += similar_tables(recommender, indices[first : first + BLOCK_USERS], n)
    lengths = [len(table) for table in tables[1:]]
    positions = [np.repeat(np.arange(len(indices)), lengths)]
    return grouped(tables, "similar_to", recommender.item_ids[indices], positions)


def similar_tables(recommender: Recommender, indices: np.ndarray, n: int) -> list[pd.DataFrame]:
    item_embeddings = [(f.weight, f.item_embeddings) for f in recommender.factors]
    found = nearest(item_embeddings, indices, recommender.item_ratings > 0, n)
    return [recommender.described(items, similarity=similarity) for items, similarity in found]


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
    predictions = np.empty(len(user))
    for first in range(0, len(user), BLOCK_PAIRS):
        part = slice(first, first + BLOCK_PAIRS)
        is_cold = (user_ratings[part] == 0) | (item_ratings[part] == 0)
        predictions[part] = predict_part(recommender, user[part], item[part], is_cold)
    return predictions, user_ratings, item_ratings


def predict_part(recommender: Recommender, user: np.ndarray, item: np.ndarray,
                 is_cold: np.ndarray) -> np.ndarray:
    scale = recommender.unit.model_scale
    raw = (f.pairs(user, item).astype(np.float64) for f in recommender.factors)
    predictions = blended(recommender.factors, [x.clip(*scale) for x in raw]).clip(*scale)
    final = np.where(is_cold, recommender.cold.predict(user, item), predictions)
    return recommender.unit.to_file(final)


def top(recommender: Recommender, n: int = 10,
        choice: Choice = UNRATED) -> Iterator[pd.DataFrame]:
    """Yield the `n` best items of every user with a training rating, a block of users at a time, in
    tables with the columns user, rank, item, prediction, ratings.
    """
    num_users, n = len(recommender.user_ids), at_least_1(n)
    size = block_size(n)
    for first in range(0, num_users, size):
        last = min(first + size, num_users)
        users, items, predictions = recommender.best(slice(first, last), n, choice)
        warm = recommender.user_ratings[first + users] > 0
        users, items, predictions = users[warm], items[warm], predictions[warm]
        yield pd.DataFrame({
            "user": recommender.user_ids[first + users], "rank": ranks_of(users),
            "item": recommender.item_ids[items], "prediction": predictions,
            "ratings": recommender.item_ratings[items],
        })


def block_size(n: int) -> int:
    """Return the number of users whose `n` best items are found at a time."""
    return max(1, min(BLOCK_USERS, BLOCK_USERS * BLOCK_ITEMS // n))


def known(ids: pd.Index, wanted: Any, what: str, ratings: np.ndarray) -> int:
    index = int(ids.get_indexer([wanted])[0])
    if index < 0:
        raise UserError(f"{what} {wanted} is not one of the {len(ids):,} {what}s in the ratings")
    if not ratings[index]:
        raise UserError(f"{what} {wanted} has no training ratings, so nothing was learned about it")
    return index


def at_least_1(n: int) -> int:
    if not isinstance(n, int | np.integer) or n < 1:
        raise UserError(f"n is {n}: must be a whole number, at least 1")
    return int(n)
