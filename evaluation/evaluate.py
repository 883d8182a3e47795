"""What a trained model is worth on the test ratings: RMSE by slice, and rankings."""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from data.ratings import Split
from evaluation.metrics import Scores, cold_pairs, score
from evaluation.ranking import RankingScores, rank
from evaluation.slices import Bin, Slice, by_value, calibration, slices


def scores(split: Split, predictions: np.ndarray, scale: tuple[float, float]) -> Scores:
    """RMSE and MAE of raw `predictions` of the test ratings, float32 [pairs] in their order."""
    test = split.test
    return score(predictions, test.values, cold_pairs(split.train, test.rows, test.indices), scale)


def sliced(
    split: Split, predictions: np.ndarray, scale: tuple[float, float], orientation: str
) -> dict[str, list[Slice]]:
    """The scores by training ratings of the user ("user") and of the item ("item")."""
    train, test = split.train, split.test
    cold = cold_pairs(train, test.rows, test.indices)
    counts = train.row_counts[test.rows], train.column_counts[test.indices]
    by_user, by_item = counts[::-1] if orientation == "item" else counts
    return {
        axis: slices(predictions, test.values, cold, scale, count)
        for axis, count in (("user", by_user), ("item", by_item))
    }


def binned(
    split: Split, predictions: np.ndarray, scale: tuple[float, float]
) -> tuple[list[Bin], list[Bin]]:
    """The scores by true rating, and by predicted rating."""
    test = split.test
    cold = cold_pairs(split.train, test.rows, test.indices)
    pairs = predictions, test.values, cold, scale
    return by_value(*pairs), calibration(*pairs)


def item_vectors(model: AutoRec, codes: tf.Tensor, orientation: str) -> np.ndarray:
    """What the model has learned of each item, float32 [items, l]: its hidden code where items
    are rows, its weights in W where they are columns. `codes` are those of all rows (rows, l)."""
    return np.asarray(codes if orientation == "item" else model.Wt)


def user_blocks(
    model: AutoRec, codes: tf.Tensor, orientation: str
) -> Callable[[int, int], np.ndarray]:
    """A function (first, last) -> the raw predictions of every item for users first..last-1,
    float32 [last - first, items]; `codes` are those of all rows (rows, l)."""
    if orientation == "item":
        return lambda first, last: model.reconstruct(codes, first, last).numpy().T
    num_items = model.Wt.shape[0]
    return lambda first, last: model.reconstruct(codes[first:last], 0, num_items).numpy()


def ranked(
    split: Split, predict_block: Callable[[int, int], np.ndarray], orientation: str
) -> RankingScores:
    """NDCG@10 and Recall@10 over the users."""
    by_user = split if orientation == "user" else split.transposed()
    return rank(predict_block, by_user.train, by_user.test)
