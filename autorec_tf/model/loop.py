"""A loop inside a TensorFlow graph."""

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def serial_loop(step: Callable[[tf.Tensor, Any], Any], state: Any, stop: tf.Tensor,
                size: int) -> Any:
    """Return `state` (tensors) after `state = step(start, state)` for each `start` of 0, size,
    2 size, ... < stop (int64). The steps run one after another: parallel steps would only use more
    memory."""
    start = tf.constant(0, tf.int64)
    return tf.while_loop(
        lambda start, _: start < stop, lambda start, state: (start + size, step(start, state)),
        (start, state), parallel_iterations=1,
    )[1]
