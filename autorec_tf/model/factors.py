"""A trained model ready to predict with NumPy alone, and a blend of several models.

Given the embedding h of a row (its last hidden layer), a prediction is f(h . W_u + b_u). This is
the only module in `model` that distinguishes users from items.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

BLOCK = 1 << 17  # numbers in the embeddings of pairs that are copied at a time: half a megabyte
EVERYTHING = slice(None)
Indices = slice | np.ndarray
ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "identity": lambda x: x,
    "sigmoid": lambda x: (1 + np.tanh(x / 2)) / 2,  # does not overflow
    "relu": lambda x: np.maximum(x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
}


@dataclass(frozen=True, eq=False)
class Factors:
    """A model with the embeddings of its rows computed.

    Args:
        orientation: "item" or "user", the meaning of a row.
        row_embeddings: float32 (rows, l).
        Wt: the weights of the output layer, float32 (columns, l).
        b: the biases of the output layer, float32 [columns].
        output_activation: f.
        scale: the rating scale of training, the range of a bounded f.
        weight: the weight of the model in a blend.
    """

    orientation: str
    row_embeddings: np.ndarray
    Wt: np.ndarray
    b: np.ndarray
    output_activation: str
    scale: tuple[float, float]
    weight: float = 1.0

    def pairs(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Return the unclipped predictions of (user, item) index pairs: float32 [pairs]."""
        rows, columns = (items, users) if self.orientation == "item" else (users, items)
        predictions = np.empty(len(rows), np.float32)
        size = max(1, BLOCK // self.Wt.shape[1])  # so that both copies fit into the cache
        for start in range(0, len(rows), size):
            part = slice(start, start + size)
            row, column = rows[part], columns[part]
            product = np.einsum("ij,ij->i", self.row_embeddings[row], self.Wt[column])
            predictions[part] = self.output(product + self.b[column])
        return predictions

    def block(self, users: Indices, items: Indices = EVERYTHING) -> np.ndarray:
        """Return the unclipped predictions of `items` for `users`: float32 (users, items)."""
        if self.orientation == "item":
            product = self.Wt[users] @ self.row_embeddings[items].T
            product += self.b[users, None]
        else:
            product = self.row_embeddings[users] @ self.Wt[items].T
            product += self.b[items]
        return self.output(product)

    def output(self, x: np.ndarray) -> np.ndarray:
        """Return f(x)."""
        low, high = self.scale
        if self.output_activation == "sigmoid":
            return low + (high - low) * ACTIVATIONS["sigmoid"](x)
        if self.output_activation == "tanh":
            return low + (high - low) * (np.tanh(x) + 1) / 2
        return ACTIVATIONS[self.output_activation](x)

    @property
    def item_embeddings(self) -> np.ndarray:
        """Return the embedding of each item, float32 (items, l): its last hidden layer if items are
        rows, its weights in W if items are columns."""
        return self.row_embeddings if self.orientation == "item" else self.Wt


def blended(factors: Sequence[Factors], predictions: Iterable[np.ndarray]) -> np.ndarray:
    """Return the weighted sum of each model's `predictions`, arrays of the same shape."""
    weighted = (f.weight * x for f, x in zip(factors, predictions, strict=True))
    return sum(weighted, np.zeros((), np.float32))
