"""Optimisers on TensorFlow's fused update ops: one pass over a parameter and its state a step."""

from collections.abc import Sequence

import tensorflow as tf

from config import Config


class Adam(tf.Module):
    """Adam (Kingma and Ba, 2015), with epsilon outside the bias correction:

    m <- beta_1 m + (1 - beta_1) g;  v <- beta_2 v + (1 - beta_2) g^2
    x <- x - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)
    """

    full_batch = False

    def __init__(self, parameters: Sequence[tf.Variable], config: Config) -> None:
        super().__init__(name="adam")
        self.parameters = list(parameters)
        self.beta_1, self.beta_2 = config.adam_beta_1, config.adam_beta_2
        self.epsilon = config.adam_epsilon
        self.step = tf.Variable(0.0, trainable=False)
        self.m, self.v = zeros_like(parameters), zeros_like(parameters)

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Take one step; gradients: one dense float32 tensor a parameter, in its shape."""
        self.step.assign_add(1.0)
        for x, m, v, gradient in zip(self.parameters, self.m, self.v, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=x.handle,
                m=m.handle,
                v=v.handle,
                beta1_power=tf.pow(self.beta_1, self.step),
                beta2_power=tf.pow(self.beta_2, self.step),
                lr=learning_rate,
                beta1=self.beta_1,
                beta2=self.beta_2,
                epsilon=self.epsilon,
                grad=gradient,
            )


class RMSProp(tf.Module):
    """RMSProp (Tieleman and Hinton, 2012), from a mean square of zero and without momentum:

    v <- decay v + (1 - decay) g^2;  x <- x - lr g / sqrt(v + epsilon)
    """

    full_batch = False

    def __init__(self, parameters: Sequence[tf.Variable], config: Config) -> None:
        super().__init__(name="rmsprop")
        self.parameters = list(parameters)
        self.decay, self.epsilon = config.rmsprop_decay, config.rmsprop_epsilon
        self.v, self.momentum = zeros_like(parameters), zeros_like(parameters)

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Take one step; gradients: one dense float32 tensor a parameter, in its shape."""
        for x, v, momentum, gradient in zip(
            self.parameters, self.v, self.momentum, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyRMSProp(
                var=x.handle,
                ms=v.handle,
                mom=momentum.handle,
                lr=learning_rate,
                rho=self.decay,
                momentum=0.0,
                epsilon=self.epsilon,
                grad=gradient,
            )


def zeros_like(parameters: Sequence[tf.Variable]) -> list[tf.Variable]:
    return [tf.Variable(tf.zeros_like(x), trainable=False) for x in parameters]


OPTIMIZERS = {"Adam": Adam, "RMSProp": RMSProp}
