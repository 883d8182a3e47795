"""Gradients of kernels, which are forgotten at the end of a training.

In a graph, `tf.custom_gradient` puts each gradient into a table that TensorFlow never empties. The
gradient refers to its graph, and the graph to all variables of the training: without `forget`, each
split of a run and each model of a program would keep the memory of its optimiser. The table is
needed only while a graph is traced, and a graph without gradients adds to it, too.
"""

from collections.abc import Callable, MutableMapping
from functools import wraps
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import ops  # TensorFlow has no public name for the table

_names: set[str] = set()  # of the gradients of this program in the table


def table() -> MutableMapping[str, Any]:
    """Return TensorFlow's gradients by name; nothing if another version keeps them elsewhere."""
    return getattr(getattr(ops, "gradient_registry", None), "_registry", {})


def with_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, which returns its result and the gradient, as `tf.custom_gradient` does,
    so that `forget` removes the gradient."""
    differentiable = tf.custom_gradient(function)

    @wraps(function)
    def call(*arguments: Any) -> Any:
        known = set(table())
        result = differentiable(*arguments)
        _names.update(set(table()) - known)
        return result

    return call


def forget() -> None:
    """Remove the gradients of all graphs that were traced, after a training or an evaluation."""
    for name in _names:
        table().pop(name, None)
    _names.clear()
