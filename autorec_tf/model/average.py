"""The moving average of the parameters."""

from collections.abc import Sequence

import tensorflow as tf

from autorec_tf.model.lbfgs import assign, zeros_like

EVERY = 3  # steps: an average of every step would cost more, and would predict no better


class MovingAverage:
    """The exponential moving average a of parameters x over steps, with Adam's bias correction:

    a <- a + w (x - a),  w = (1 - decay^EVERY) / (1 - decay^(EVERY n))

    after each step t = 1, 1 + EVERY, ..., where n counts these. Mini-batches add noise to x unless
    the learning rate is small. Their average has less of it, and predicts well much earlier.

    The variables of the model contain x during an epoch and a between epochs, where evaluation,
    checkpoints and files read them. `swapped` has the other one of the two, a variable per
    parameter, or none if `decay` is 0: then nothing is averaged.
    """

    def __init__(self, parameters: Sequence[tf.Variable], decay: float) -> None:
        self.decay, self.parameters = decay, list(parameters) if decay else []
        self.swapped = zeros_like(self.parameters)

    def update(self, t: tf.Tensor) -> None:
        """Average the parameters after step `t`, an int64 scalar, which counts from 1 over all
        epochs."""
        if self.decay:
            tf.cond(t % EVERY == 1, lambda: self.add(t // EVERY + 1), lambda: None)

    def add(self, n: tf.Tensor) -> None:
        """Add the parameters as the `n`-th values of the average."""
        decay = tf.constant(self.decay**EVERY, tf.float32)
        w = (1 - decay) / (1 - tf.pow(decay, tf.cast(n, tf.float32)))
        for a, x in zip(self.swapped, self.parameters, strict=True):
            tf.raw_ops.ResourceApplyGradientDescent(var=a.handle, alpha=w, delta=a - x)

    def swap(self) -> None:
        """Exchange a and x, at the beginning or the end of an epoch."""
        values = [x.read_value() for x in self.parameters]
        assign(self.parameters, [x.read_value() for x in self.swapped])
        assign(self.swapped, values)
