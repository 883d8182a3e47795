"""A recommender as a TensorFlow SavedModel, which can be loaded without this package."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from autorec_tf.model.activations import output
from autorec_tf.model.factors import Factors
from autorec_tf.serving.recommender import Recommender
from autorec_tf.system.files import as_utf8

BLOCK_PAIRS = 1 << 12  # pairs whose embeddings are in memory at a time
BLOCK_RATINGS = 1 << 21  # predictions of all items, for some users, in memory at a time
LEFT_OUT = float("-inf")  # the score of an item that is not recommended


def save(recommender: Recommender, path: Path) -> None:
    """Write `recommender` to the folder `path` as the SavedModel that export.py describes."""
    model = ServedModel(recommender)
    user = tf.TensorSpec([None], model.user_ids.dtype, "user")
    item = tf.TensorSpec([None], model.item_ids.dtype, "item")
    exclude = tf.TensorSpec([None, None], model.item_ids.dtype, "exclude")
    predict = model.predict.get_concrete_function(user, item)
    signatures = {
        "serving_default": predict,
        "predict": predict,
        "recommend": model.recommend.get_concrete_function(
            user, tf.TensorSpec([], tf.int32, "n"), exclude),
        "all_items": model.all_items.get_concrete_function(user),
    }
    tf.saved_model.save(model, as_utf8(path), signatures)


class ServedModel(tf.Module):
    """The signatures' graphs, with their variables and id tables."""

    def __init__(self, recommender: Recommender) -> None:
        super().__init__(name="autorec")
        self.unit, cold = recommender.unit, recommender.cold
        self.cold_mean, self.cold_scale = cold.mean, cold.scale
        self.user_bias = variable(cold.row_bias.astype(np.float32))
        self.item_bias = variable(cold.column_bias.astype(np.float32))
        self.user_ids = variable(recommender.user_ids)
        self.item_ids = variable(recommender.item_ids)
        self.users, self.items = table(self.user_ids), table(self.item_ids)
        self.user_ratings = variable(recommender.user_ratings)
        self.item_ratings = variable(recommender.item_ratings)
        self.factors = [ServedFactors(factors) for factors in recommender.factors]
        # Clipping a single model's predictions keeps their order.
        self.clipping_ties = len(self.factors) > 1 or self.factors[0].weight != 1
        self.block_users = max(1, BLOCK_RATINGS // len(recommender.item_ids))

    @tf.function(autograph=False)
    def predict(self, user: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
        user, item = of_rank(1, user, "user"), of_rank(1, item, "item")
        pairs = tf.debugging.assert_equal(
            tf.size(user), tf.size(item), "user and item are pairs and must have the same length")
        with tf.control_dependencies([pairs]):
            rating, known = in_blocks(self.pairs, BLOCK_PAIRS, (tf.float32, tf.bool), user, item)
        return {"rating": rating, "known": known}

    def pairs(self, user: tf.Tensor, item: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the ratings of pairs of ids, and which pairs are known."""
        user, item = self.users.lookup(user), self.items.lookup(item)
        known = self.known(self.user_ratings, user) & self.known(self.item_ratings, item)
        cold = self.cold_mean + bias_at(self.user_bias, user) + bias_at(self.item_bias, item)
        cold = tf.clip_by_value(cold, *self.cold_scale)
        user, item = tf.maximum(user, 0), tf.maximum(item, 0)
        rating = self.blended([factors.pairs(user, item) for factors in self.factors])
        return self.to_file(tf.where(known, rating, cold)), known

    @tf.function(autograph=False)
    def all_items(self, user: tf.Tensor) -> dict[str, tf.Tensor]:
        user = of_rank(1, user, "user")
        (rating,) = in_blocks(self.every, self.block_users, (tf.float32,), user)
        return {"rating": rating, "item": self.item_ids.read_value()}

    def every(self, user: tf.Tensor) -> tuple[tf.Tensor]:
        """Return the ratings of all items for user ids."""
        user = self.users.lookup(user)
        known = self.known(self.user_ratings, user)[:, None] & (self.item_ratings > 0)
        cold = self.cold_mean + bias_at(self.user_bias, user)[:, None] + self.item_bias
        cold = tf.clip_by_value(cold, *self.cold_scale)
        user = tf.maximum(user, 0)
        rating = self.blended([factors.block(user) for factors in self.factors])
        return (self.to_file(tf.where(known, rating, cold)),)

    @tf.function(autograph=False)
    def recommend(self, user: tf.Tensor, n: tf.Tensor,
                  exclude: tf.Tensor) -> dict[str, tf.Tensor]:
        user, n = of_rank(1, user, "user"), of_rank(0, n, "n")
        exclude = of_rank(2, exclude, "exclude")
        checks = [
            tf.debugging.assert_equal(tf.shape(exclude)[0], tf.size(user),
                                      "exclude must have a row for each user"),
            tf.debugging.assert_positive(n, "n must be at least 1"),
        ]
        with tf.control_dependencies(checks):
            n = tf.minimum(n, self.item_ids.shape[0])
            index, rating, known = in_blocks(
                lambda user, exclude: self.best(user, exclude, n), self.block_users,
                (tf.int64, tf.float32, tf.bool), user, exclude)
        count = tf.reduce_sum(tf.cast(index >= 0, tf.int32), 1)
        longest = tf.reduce_max(tf.concat([count, [0]], 0))
        index, rating = index[:, :longest], rating[:, :longest]
        nothing = tf.constant("" if self.item_ids.dtype == tf.string else -1, self.item_ids.dtype)
        item = tf.where(index < 0, nothing, tf.gather(self.item_ids, tf.maximum(index, 0)))
        return {"item": item, "rating": rating, "count": count, "known": known}

    def best(self, user: tf.Tensor, exclude: tf.Tensor,
             n: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Return the indices of the `n` best items for user ids without the items `exclude`, -1
        where fewer are left; their ratings, 0 there; and which users are known.

        As in `Recommender.best`, unclipped predictions break the ties that clipping causes.
        """
        user, excluded = self.users.lookup(user), self.items.lookup(exclude)
        known = self.known(self.user_ratings, user)
        user = tf.maximum(user, 0)
        predictions = [factors.block(user) for factors in self.factors]
        raw = tf.add_n([f.weight * x for f, x in zip(self.factors, predictions, strict=True)])
        scores = self.blended(predictions) if self.clipping_ties else raw
        scores = tf.where(known[:, None] & (self.item_ratings > 0), scores, LEFT_OUT)
        at = tf.where(excluded >= 0)
        at = tf.stack([at[:, 0], tf.gather_nd(excluded, at)], 1)
        scores = tf.tensor_scatter_nd_update(scores, at, tf.fill([tf.shape(at)[0]], LEFT_OUT))
        if self.clipping_ties:  # top_k keeps the order of equal scores
            order = tf.argsort(raw, direction="DESCENDING")
            scores, best = tf.math.top_k(tf.gather(scores, order, batch_dims=1), n)
            index = tf.gather(order, best, batch_dims=1)
        else:
            scores, index = tf.math.top_k(scores, n)
        is_left = scores > LEFT_OUT
        rating = self.to_file(tf.clip_by_value(scores, *self.unit.model_scale))
        return tf.where(is_left, tf.cast(index, tf.int64), -1), tf.where(is_left, rating, 0), known

    def known(self, ratings: tf.Variable, index: tf.Tensor) -> tf.Tensor:
        """Return whether each index is valid and has training ratings."""
        return (index >= 0) & (tf.gather(ratings, tf.maximum(index, 0)) > 0)

    def blended(self, predictions: list[tf.Tensor]) -> tf.Tensor:
        """Return the weighted sum of the members' clipped predictions."""
        clipped = [tf.clip_by_value(x, *self.unit.model_scale) for x in predictions]
        weighted = [f.weight * x for f, x in zip(self.factors, clipped, strict=True)]
        return tf.clip_by_value(tf.add_n(weighted), *self.unit.model_scale)

    def to_file(self, rating: tf.Tensor) -> tf.Tensor:
        """Return ratings on the file's scale."""
        if self.unit.file_scale == self.unit.model_scale:
            return rating
        return self.unit.file_scale[0] + (rating - self.unit.model_scale[0]) * self.unit.factor


class ServedFactors(tf.Module):
    """`Factors` in TensorFlow: raw predictions by user and item index."""

    def __init__(self, factors: Factors) -> None:
        super().__init__(name="factors")
        self.weight, self.scale = factors.weight, factors.scale
        self.by_item, self.activation = factors.orientation == "item", factors.output_activation
        self.codes, self.Wt, self.b = map(variable, (factors.row_embeddings, factors.Wt, factors.b))

    def pairs(self, user: tf.Tensor, item: tf.Tensor) -> tf.Tensor:
        row, column = (item, user) if self.by_item else (user, item)
        product = tf.gather(self.codes, row) * tf.gather(self.Wt, column)
        return self.output(tf.reduce_sum(product, 1) + tf.gather(self.b, column))

    def block(self, user: tf.Tensor) -> tf.Tensor:
        if self.by_item:
            product = tf.matmul(tf.gather(self.Wt, user), self.codes, transpose_b=True)
            return self.output(product + tf.gather(self.b, user)[:, None])
        product = tf.matmul(tf.gather(self.codes, user), self.Wt, transpose_b=True)
        return self.output(product + self.b)

    def output(self, x: tf.Tensor) -> tf.Tensor:
        return output(self.activation, x, self.scale)


def of_rank(rank: int, x: tf.Tensor, name: str) -> tf.Tensor:
    """Return the input `x`, whose rank is checked when the graph runs. The error contains `name`
    and the shape. TensorFlow does not compare inputs with a signature, and removes assertions about
    the rank, because the signature contains it."""
    return tf.ensure_shape(x, [None] * rank, f"{name}_must_have_rank_{rank}")


def in_blocks(function: Callable, size: int, kinds: Sequence[tf.DType],
              *inputs: tf.Tensor) -> list[tf.Tensor]:
    """Return `function(*inputs)`, computed for `size` rows of the inputs at a time, so that memory
    does not grow with the intermediate results of all rows.

    Args:
        function: maps rows to a tuple of tensors with the same number of rows.
        size: rows of a block.
        kinds: the type of each of these tensors.
        inputs: tensors with the same number of rows.
    """
    blocks = tf.maximum(-(-tf.shape(inputs[0])[0] // size), 1)  # one for zero rows
    results = [tf.TensorArray(kind, blocks, infer_shape=False) for kind in kinds]

    def compute(block: tf.Tensor, *results: tf.TensorArray) -> tuple:
        rows = slice(block * size, (block + 1) * size)
        parts = function(*(x[rows] for x in inputs))
        return block + 1, *(x.write(block, part) for x, part in zip(results, parts, strict=True))

    _, *results = tf.while_loop(lambda block, *_: block < blocks, compute, (0, *results),
                                parallel_iterations=1)
    return [x.concat() for x in results]


def bias_at(bias: tf.Variable, index: tf.Tensor) -> tf.Tensor:
    """Return the bias at each index, 0 at -1."""
    return tf.where(index < 0, 0.0, tf.gather(bias, tf.maximum(index, 0)))


def variable(values: np.ndarray) -> tf.Variable:
    """Return a variable that is not trained: int64, float32 or string."""
    values = np.asarray(values)
    content = values if values.dtype.kind in "iuf" else [str(value) for value in values]
    return tf.Variable(tf.constant(content), trainable=False)


def table(ids: tf.Variable) -> tf.lookup.StaticHashTable:
    """Return a table from each id to its index, and -1 for an unknown id."""
    content = tf.lookup.KeyValueTensorInitializer(
        ids.read_value(), tf.range(ids.shape[0], dtype=tf.int64)
    )
    return tf.lookup.StaticHashTable(content, -1)
