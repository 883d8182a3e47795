"""The optimisers, of two kinds that `full_batch` distinguishes.

Adam and RMSProp (`full_batch` is false) take the gradients of a mini-batch: `apply(gradients,
learning_rate)`, with TensorFlow's fused update ops, one pass over a parameter and its state.

RProp and LBFGS (`full_batch` is true) evaluate the full-batch objective, once or several times a
step: `step(evaluate, learning_rate)`, called from Python. The paper and its authors' code compare
these two.

All are made from the parameters and the settings. L-BFGS also needs the engine, whose kernels it
uses, and the columns of this process, since it computes sums over all workers.

All state is in variables, so a checkpoint of them restores an optimiser exactly.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.lbfgs import LBFGS, Evaluation, zeros_like


class Adam(tf.Module):
    """Adam (Kingma and Ba, 2015), with epsilon outside the bias correction:

    m <- beta_1 m + (1 - beta_1) g;  v <- beta_2 v + (1 - beta_2) g^2
    x <- x - lr sqrt(1 - beta_2^t) / (1 - beta_1^t) m / (sqrt(v) + epsilon)
    """

    full_batch = False

    def __init__(self, parameters: Sequence[tf.Variable], config: Config, *_: Any) -> None:
        super().__init__(name="adam")
        self.parameters = list(parameters)
        self.beta_1, self.beta_2 = config.adam_beta_1, config.adam_beta_2
        self.epsilon = config.adam_epsilon
        self.t = counter(0.0, tf.float32)
        self.m, self.v = zeros_like(parameters), zeros_like(parameters)

    @property
    def state(self) -> list[tf.Variable]:
        """The state variables that have the shape of a parameter."""
        return [*self.m, *self.v]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Take one step; gradients: one dense float32 tensor per parameter, of its shape."""
        self.t.assign_add(1.0)
        for x, m, v, gradient in zip(self.parameters, self.m, self.v, gradients, strict=True):
            tf.raw_ops.ResourceApplyAdam(
                var=x.handle, m=m.handle, v=v.handle, beta1_power=tf.pow(self.beta_1, self.t),
                beta2_power=tf.pow(self.beta_2, self.t), lr=learning_rate, beta1=self.beta_1,
                beta2=self.beta_2, epsilon=self.epsilon, grad=gradient,
            )


class RMSProp(tf.Module):
    """RMSProp (Tieleman and Hinton, 2012), with an initial mean square of 0 and no momentum:

    v <- decay v + (1 - decay) g^2;  x <- x - lr g / sqrt(v + epsilon)
    """

    full_batch = False

    def __init__(self, parameters: Sequence[tf.Variable], config: Config, *_: Any) -> None:
        super().__init__(name="rmsprop")
        self.parameters = list(parameters)
        self.decay, self.epsilon = config.rmsprop_decay, config.rmsprop_epsilon
        self.v, self.momentum = zeros_like(parameters), zeros_like(parameters)

    @property
    def state(self) -> list[tf.Variable]:
        """The state variables that have the shape of a parameter."""
        return [*self.v, *self.momentum]

    def apply(self, gradients: Sequence[tf.Tensor], learning_rate: tf.Tensor) -> None:
        """Take one step; gradients: one dense float32 tensor per parameter, of its shape."""
        for x, v, momentum, gradient in zip(
            self.parameters, self.v, self.momentum, gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyRMSProp(
                var=x.handle, ms=v.handle, mom=momentum.handle, lr=learning_rate, rho=self.decay,
                momentum=0.0, epsilon=self.epsilon, grad=gradient,
            )


class RProp(tf.Module):
    """iRprop- (Igel and Hüsken, "Improving the Rprop learning algorithm", 2000), full-batch.

    Every component of x has its own step length, delta, and uses only the sign of its gradient:

    g g_last > 0:  delta <- min(eta+ delta, delta_max)
    g g_last < 0:  delta <- max(eta- delta, delta_min);  g <- 0
    x <- x - sign(g) delta

    All deltas start at the learning rate of the first step; later learning rates have no effect.
    """

    full_batch = True

    def __init__(self, parameters: Sequence[tf.Variable], config: Config, *_: Any) -> None:
        super().__init__(name="rprop")
        self.parameters = list(parameters)
        self.eta_plus, self.eta_minus = config.rprop_eta_plus, config.rprop_eta_minus
        self.delta_min, self.delta_max = config.rprop_delta_min, config.rprop_delta_max
        self.started = tf.Variable(False, trainable=False)
        self.delta, self.last_sign = zeros_like(parameters), zeros_like(parameters)

    @property
    def state(self) -> list[tf.Variable]:
        """The state variables that have the shape of a parameter."""
        return [*self.delta, *self.last_sign]

    def step(
        self, evaluate: Callable[[], Evaluation], learning_rate: float
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Evaluate once and update the parameters. Return cost and squared error before the update:
        float64 scalars."""
        if not self.started.numpy():
            for delta in self.delta:
                delta.assign(tf.ones_like(delta) * float(learning_rate))
            self.started.assign(True)
        gradients, cost, squared_error = evaluate()
        self._update(list(gradients))
        return tf.cast(cost, tf.float64), tf.cast(squared_error, tf.float64)

    def restart(self) -> None:
        """Begin again with the next step: the objective has changed."""
        self.started.assign(False)
        for last_sign in self.last_sign:
            last_sign.assign(tf.zeros_like(last_sign))

    @tf.function(autograph=False)
    def _update(self, gradients):
        for x, delta, last_sign, gradient in zip(
            self.parameters, self.delta, self.last_sign, gradients, strict=True
        ):
            sign = tf.sign(gradient)  # a product of small gradients may be 0
            turn = sign * last_sign
            longer = tf.minimum(self.eta_plus * delta, self.delta_max)
            shorter = tf.maximum(self.eta_minus * delta, self.delta_min)
            delta.assign(tf.where(turn > 0, longer, tf.where(turn < 0, shorter, delta)))
            sign = tf.where(turn < 0, tf.zeros_like(sign), sign)
            x.assign_sub(sign * delta)
            last_sign.assign(sign)


def counter(value: float, dtype: tf.DType) -> tf.Variable:
    """Return a variable that each replica of a tf.distribute strategy counts on its own: the counts
    are equal, and nothing has to be sent."""
    return tf.Variable(
        value, dtype=dtype, trainable=False, synchronization=tf.VariableSynchronization.ON_READ,
        aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
    )


OPTIMIZERS: dict[str, type] = {"Adam": Adam, "RMSProp": RMSProp, "RProp": RProp, "LBFGS": LBFGS}
