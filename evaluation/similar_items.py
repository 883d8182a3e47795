"""Which items a model takes for similar, by what it has learned of them.

Similarity is the cosine of two items' embeddings (hidden codes where items are rows, weights W
where they are columns), both less the mean over all items: codes are all positive, and mostly
alike. A blend's is the mean of its models' by their weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evaluation.ranking import best_items

BLOCK_ITEMS = 4096  # items whose embeddings are copied at a time
SMALLEST = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class PopularItem:
    """An item with many training ratings, and the items most like it, each with its similarity.
    Items are indices."""

    index: int
    num_ratings: int
    similar: Sequence[tuple[int, float]]


def popular_items(
    item_ratings: np.ndarray, item_embeddings: Sequence[tuple[float, np.ndarray]],
    num_items: int = 8, num_similar: int = 5,
) -> list[PopularItem]:
    """Return the items with the most training ratings, with those most like each; none where no
    model has a weight above 0.

    item_ratings: the training ratings of each item; item_embeddings: as in `nearest`.
    """
    item_embeddings = [(weight, vectors) for weight, vectors in item_embeddings if weight > 0]
    if not item_embeddings:
        return []
    chosen = np.argsort(-item_ratings, kind="stable")[:num_items]
    chosen = chosen[item_ratings[chosen] > 0]
    similar = nearest(item_embeddings, chosen, item_ratings > 0, num_similar)
    return [
        PopularItem(
            int(index), int(item_ratings[index]),
            list(zip(items.tolist(), similarity.tolist(), strict=True)),
        )
        for index, (items, similarity) in zip(chosen, similar, strict=True)
    ]


def nearest(
    item_embeddings: Sequence[tuple[float, np.ndarray]], chosen: np.ndarray, trained: np.ndarray,
    n: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the `n` items most like each of the `chosen` (indices), and how similar they are.

    item_embeddings: the weight of each model and its embeddings, float32 (items, l); trained:
    which items have training ratings, bool [items]; the others are like none.
    """
    total = sum(weight for weight, _ in item_embeddings)
    weighted = (weight / total * cosines(x, chosen, trained) for weight, x in item_embeddings)
    similarity = sum(weighted, np.zeros(()))
    similarity[:, ~trained] = -np.inf
    similarity[np.arange(len(chosen)), chosen] = -np.inf
    rows, items, _ = best_items(similarity, n)
    similarity = similarity[rows, items]
    left = np.isfinite(similarity)
    return [
        (items[part], similarity[part]) for k in range(len(chosen)) for part in [left & (rows == k)]
    ]


def cosines(vectors: np.ndarray, chosen: np.ndarray, trained: np.ndarray) -> np.ndarray:
    """Return the cosine of each of `vectors` (items, l) with those at `chosen`, all less the mean
    over the `trained` (bool [items]): float64 [chosen, items]; 0 for a vector that is the mean.
    A block of items is copied at a time."""
    mean = vectors.mean(0, where=trained[:, None])
    wanted = vectors[chosen] - mean
    cosine = np.empty((len(chosen), len(vectors)))
    for start in range(0, len(vectors), BLOCK_ITEMS):
        centred = vectors[start : start + BLOCK_ITEMS] - mean
        lengths = np.outer(length(wanted), length(centred))
        products = (wanted @ centred.T).astype(np.float64)
        cosine[:, start : start + BLOCK_ITEMS] = products / np.maximum(lengths, SMALLEST)
    return cosine


def length(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each vector, float64."""
    return np.linalg.norm(vectors, axis=1).astype(np.float64)
