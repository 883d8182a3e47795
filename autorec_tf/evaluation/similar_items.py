"""Item similarity: the cosine of two items' embeddings.

Embeddings are hidden codes if items are rows, and weights W if they are columns. The mean over all
items is subtracted first, since codes are positive and similar to each other. The similarity of a
blend is the weighted mean over its members.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autorec_tf.evaluation.ranking import best_items

BLOCK_ITEMS = 4096  # items whose embeddings are copied at a time
SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class PopularItem:
    """An item with many training ratings, and the indices and similarities of similar items."""

    index: int
    num_ratings: int
    similar: Sequence[tuple[int, float]]


def popular_items(item_ratings: np.ndarray, item_embeddings: Sequence[tuple[float, np.ndarray]],
                  num_items: int = 8, num_similar: int = 5) -> list[PopularItem]:
    """Return the items with the most training ratings, and the items most similar to each. The list
    is empty if no model has a weight above 0.

    Args:
        item_ratings: int64 [items], the number of training ratings of each item.
        item_embeddings: as in `nearest`.
        num_items: the number of popular items.
        num_similar: the number of similar items for each.
    """
    item_embeddings = [(weight, vectors) for weight, vectors in item_embeddings if weight > 0]
    if not item_embeddings:
        return []
    chosen = np.argsort(-item_ratings, kind="stable")[:num_items]
    chosen = chosen[item_ratings[chosen] > 0]
    similar = nearest(item_embeddings, chosen, item_ratings > 0, num_similar)
    return [
        PopularItem(int(index), int(item_ratings[index]),
                    list(zip(items.tolist(), similarity.tolist(), strict=True)))
        for index, (items, similarity) in zip(chosen, similar, strict=True)
    ]


def nearest(item_embeddings: Sequence[tuple[float, np.ndarray]], chosen: np.ndarray,
            trained: np.ndarray, n: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the `n` items most similar to each of the `chosen` items, and their similarities.

    Args:
        item_embeddings: the weight of each model and its embeddings, float32 [items, units].
        chosen: int [chosen], item indices.
        trained: bool [items], whether an item has training ratings; others are left out.
        n: the number of items.
    """
    total = sum(weight for weight, _ in item_embeddings)
    means = [vectors.mean(0, where=trained[:, None]) for _, vectors in item_embeddings]

    def similarity(items: slice) -> tuple[np.ndarray, None]:
        weighted = (
            weight / total * cosines(vectors[chosen] - mean, vectors[items] - mean)
            for (weight, vectors), mean in zip(item_embeddings, means, strict=True)
        )
        similarities = sum(weighted, np.zeros(()))
        similarities[:, ~trained[items]] = -np.inf
        return similarities, None

    itself = np.arange(len(chosen)), chosen
    rows, items, _, similarities = best_items(similarity, len(trained), n, itself, BLOCK_ITEMS)
    return [(items[rows == k], similarities[rows == k]) for k in range(len(chosen))]


def cosines(wanted: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """Return the cosine of each of `vectors` [items, units] with each of the `wanted` vectors:
    float64 [wanted, items]; 0 for a vector of zeros."""
    lengths = np.outer(length(wanted), length(vectors))
    return (wanted @ vectors.T).astype(np.float64) / np.maximum(lengths, SMALLEST)


def length(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each vector, float64."""
    return np.linalg.norm(vectors, axis=1).astype(np.float64)
