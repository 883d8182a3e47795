"""The activations g and f, and the derivative of g."""

import tensorflow as tf

ACTIVATIONS = {
    "identity": tf.identity,
    "sigmoid": tf.sigmoid,
    "relu": tf.nn.relu,
    "tanh": tf.tanh,
    "elu": tf.nn.elu,
}
# g'(z) as a function of h = g(z).
SLOPES = {
    "identity": tf.ones_like,
    "sigmoid": lambda h: h * (1 - h),
    "relu": tf.sign,
    "tanh": lambda h: 1 - tf.square(h),
    "elu": lambda h: tf.minimum(h, 0.0) + 1,
}


def output(activation: str, x: tf.Tensor, scale: tuple[float, float]) -> tf.Tensor:
    """Return `activation` of `x`; a bounded activation spans `scale`, (lowest, highest)."""
    low, high = scale
    if activation == "sigmoid":
        return low + (high - low) * tf.sigmoid(x)
    if activation == "tanh":
        return low + (high - low) * (tf.tanh(x) + 1) / 2
    return ACTIVATIONS[activation](x)
