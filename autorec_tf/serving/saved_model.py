"""A recommender as a TensorFlow SavedModel, which can be loaded without this package."""

from pathlib import Path

import numpy as np
import tensorflow as tf

from autorec_tf.model.activations import output
from autorec_tf.model.factors import Factors
from autorec_tf.serving.recommender import Recommender
from autorec_tf.system.files import as_utf8


def save(recommender: Recommender, path: Path) -> None:
    """Write `recommender` to the folder `path` as the SavedModel that export.py describes."""
    model = ServedModel(recommender)
    user = tf.TensorSpec([None], model.user_ids.dtype, "user")
    item = tf.TensorSpec([None], model.item_ids.dtype, "item")
    predict = model.predict.get_concrete_function(user, item)
    all_items = model.all_items.get_concrete_function(user)
    signatures = {"serving_default": predict, "predict": predict, "all_items": all_items}
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

    @tf.function(autograph=False)
    def predict(self, user: tf.Tensor, item: tf.Tensor) -> dict[str, tf.Tensor]:
        user, item = self.users.lookup(user), self.items.lookup(item)
        known = self.known(self.user_ratings, user) & self.known(self.item_ratings, item)
        cold = self.cold_mean + bias_at(self.user_bias, user) + bias_at(self.item_bias, item)
        cold = tf.clip_by_value(cold, *self.cold_scale)
        user, item = tf.maximum(user, 0), tf.maximum(item, 0)
        rating = self.blended([factors.pairs(user, item) for factors in self.factors])
        return {"rating": self.to_file(tf.where(known, rating, cold)), "known": known}

    @tf.function(autograph=False)
    def all_items(self, user: tf.Tensor) -> dict[str, tf.Tensor]:
        user = self.users.lookup(user)
        known = self.known(self.user_ratings, user)[:, None] & (self.item_ratings > 0)
        cold = self.cold_mean + bias_at(self.user_bias, user)[:, None] + self.item_bias
        cold = tf.clip_by_value(cold, *self.cold_scale)
        user = tf.maximum(user, 0)
        rating = self.blended([factors.block(user) for factors in self.factors])
        rating = self.to_file(tf.where(known, rating, cold))
        return {"rating": rating, "item": self.item_ids.read_value()}

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
