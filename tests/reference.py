"""AutoRec in float64 NumPy, written from the paper's equations: what the program is held against.

Dense and slow on purpose: R and M (rows x columns) are the ratings and the mask of what is
observed, and no line is shared with the program.
"""

from dataclasses import dataclass

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


# Each activation and its derivative, both from its input.
ACTIVATIONS = {
    "identity": (lambda x: x, np.ones_like),
    "sigmoid": (sigmoid, lambda x: sigmoid(x) * (1 - sigmoid(x))),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "elu": (
        lambda x: np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0))),
    ),
}


@dataclass
class Reference:
    """Parameters V (n, k), W (l, n), mu (k), b (n), the inner layers' weights and biases by turns,
    and the settings of the objective; with one-hot inputs, D (n, values, k), whose ratings are not
    0, and the values."""

    V: np.ndarray
    W: np.ndarray
    mu: np.ndarray
    b: np.ndarray
    inner: list[np.ndarray]
    strength: float
    weighted: bool
    encoder_strength: float
    decoder_strength: float
    g: str
    f: str
    scale: tuple[float, float]
    one_hot_strength: float = 0.0
    D: np.ndarray | None = None
    values: np.ndarray | None = None
    factors: np.ndarray | float = 1.0  # of each column's lambda, under the plain rule
    input_scale: float = 0.0

    @classmethod
    def of(cls, model) -> "Reference":
        layers = [x for layer in model.inner for x in layer]
        V, W, mu, b, *inner = (
            np.array(x, np.float64) for x in (model.V, model.W, model.mu, model.b, *layers)
        )
        config = model.config
        encoder, decoder = (
            config.lambda_value if own is None else own
            for own in (config.lambda_encoder, config.lambda_decoder)
        )
        D = model.encoder.D
        coded = {} if D is None else {
            "D": np.array(D, np.float64), "values": model.values.astype(np.float64),
            "one_hot_strength": encoder if config.lambda_one_hot is None
            else config.lambda_one_hot,
        }
        return cls(
            V, W, mu, b, inner, config.lambda_value, config.regularization == "weighted",
            encoder, decoder, config.hidden_activation, config.output_activation, model.scale,
            **coded, input_scale=config.input_scale,
        )

    def parameters(self) -> list[np.ndarray]:
        coded = [] if self.D is None else [self.D]
        return [self.V, self.W, self.mu, self.b, *coded, *self.inner]

    def coded(self, R: np.ndarray) -> np.ndarray:
        """Which value each observed rating has, or is nearest to: 0 or 1 (rows, n, values)."""
        distance = np.abs(R[:, :, None] - self.values)
        return (R != 0)[:, :, None] * np.eye(len(self.values))[distance.argmin(2)]

    def row_factors(self, R: np.ndarray) -> np.ndarray:
        """The factor of each row's inputs: (rows, 1)."""
        counts = (R != 0).sum(1, keepdims=True)
        scale = self.input_scale
        return scale / np.sqrt(np.maximum(counts, 1)) if scale else np.ones_like(counts)

    def own_inputs(self, R: np.ndarray) -> np.ndarray | float:
        """What one-hot inputs add to R V."""
        if self.D is not None:
            return self.row_factors(R) * np.einsum("inv,nvk->ik", self.coded(R), self.D)
        return 0.0

    def each_input(self, R: np.ndarray) -> np.ndarray:
        """What each rating adds to z: (rows, n, k)."""
        inputs = R[:, :, None] * self.V
        if self.D is not None:
            inputs = inputs + np.einsum("inv,nvk->ink", self.coded(R), self.D)
        return self.row_factors(R)[:, :, None] * inputs

    def layers(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Weights and biases of every hidden layer, the first one's included."""
        every = [self.V, self.mu, *self.inner]
        return list(zip(every[::2], every[1::2], strict=True))

    def output(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """f and its derivative; sigmoid and tanh are stretched over the scale."""
        value, slope = (function(x) for function in ACTIVATIONS[self.f])
        low, high = self.scale
        if self.f == "sigmoid":
            return low + (high - low) * value, (high - low) * slope
        if self.f == "tanh":
            return (low + high) / 2 + (high - low) / 2 * value, (high - low) / 2 * slope
        return value, slope

    def predict(self, R: np.ndarray) -> np.ndarray:
        """Equation 1, with as many hidden layers as there are."""
        return self.output(self.hidden(R) @ self.W + self.b)[0]

    def hidden(self, R: np.ndarray) -> np.ndarray:
        own, R = self.own_inputs(R), R * self.row_factors(R)
        for weights, biases in self.layers():
            R, own = ACTIVATIONS[self.g][0](R @ weights + own + biases), 0.0
        return R

    def squared_error(self, R: np.ndarray, M: np.ndarray) -> float:
        return float((M * (R - self.predict(R)) ** 2).sum())

    def counts(self, M: np.ndarray) -> tuple[np.ndarray, float]:
        """How often Omega counts each column's weights, and an inner layer's."""
        return (M.sum(0), len(M)) if self.weighted else (np.ones(len(self.b)) * self.factors, 1)

    def counts_of_values(self, R: np.ndarray, M: np.ndarray) -> np.ndarray:
        """How often Omega counts each vector of D: (n, values)."""
        if self.weighted:
            return self.coded(R).sum(0)
        return np.repeat(self.counts(M)[0][:, None], len(self.values), 1)

    def objective(self, R: np.ndarray, M: np.ndarray) -> float:
        """J(B): equation 2 over one mini-batch, R being 0 where M is."""
        columns, rows = self.counts(M)
        penalty = self.encoder_strength * float((columns * (self.V**2).sum(1)).sum())
        penalty += self.decoder_strength * float((columns * (self.W**2).sum(0)).sum())
        if self.D is not None:
            times = self.counts_of_values(R, M)
            penalty += self.one_hot_strength * float((times * (self.D**2).sum(2)).sum())
        penalty += self.strength * rows * sum(float((x**2).sum()) for x in self.inner[::2])
        return self.squared_error(R, M) + penalty / 2

    def gradients(self, R: np.ndarray, M: np.ndarray) -> list[np.ndarray]:
        columns, rows = self.counts(M)
        inputs, sums, own = [R * self.row_factors(R)], [], self.own_inputs(R)
        for weights, biases in self.layers():
            sums.append(inputs[-1] @ weights + biases + (0.0 if sums else own))
            inputs.append(ACTIVATIONS[self.g][0](sums[-1]))
        predicted, slope = self.output(inputs[-1] @ self.W + self.b)
        d = 2 * M * (predicted - R) * slope
        dW = inputs[-1].T @ d + self.decoder_strength * columns * self.W
        dh, found = d @ self.W.T, []
        for (weights, _), x, z in zip(
            self.layers()[::-1], inputs[-2::-1], sums[::-1], strict=True
        ):
            dz = dh * ACTIVATIONS[self.g][1](z)
            found = [x.T @ dz + self.strength * rows * weights, dz.sum(0), *found]
            dh = dz @ weights.T
        dV = inputs[0].T @ dz + self.encoder_strength * columns[:, None] * self.V
        if self.D is None:
            return [dV, dW, found[1], d.sum(0), *found[2:]]
        times = self.counts_of_values(R, M)
        dD = np.einsum("inv,ik->nvk", self.coded(R), self.row_factors(R) * dz)
        dD += self.one_hot_strength * times[:, :, None] * self.D
        return [dV, dW, found[1], d.sum(0), dD, *found[2:]]


def projected(slope: np.ndarray, M: np.ndarray) -> np.ndarray:
    """Each row of `slope` on the mean over the ratings, by least squares."""
    mean = M.sum(1) @ slope / M.sum()
    return np.stack([np.linalg.lstsq(mean[:, None], row, rcond=None)[0][0] * mean for row in slope])


class LeaveOneOut(Reference):
    """A reference of one hidden layer whose training ratings are predicted without their own input,
    to first order in that, perhaps by the mean slope."""

    mean_slope = False

    def squared_error(self, R: np.ndarray, M: np.ndarray) -> float:
        own = self.each_input(R)
        value, slope = (function(own.sum(1) + self.mu) for function in ACTIVATIONS[self.g])
        slope = projected(slope, M) if self.mean_slope else slope
        product = value @ self.W + self.b - np.einsum("ik,ink,kn->in", slope, own, self.W)
        return float((M * (R - self.output(product)[0]) ** 2).sum())


class Svdpp(Reference):
    """A reference with row biases and the decoder of SVD++, or Y = 0, over all rows, whose training
    ratings are perhaps predicted without their own input and their own part in the column's
    weights. `counted`: the rows whose errors count."""

    leave_one_out, counted, has_Y, mean_slope = False, slice(None), True, False
    Y: np.ndarray
    c: np.ndarray

    @classmethod
    def of(cls, model) -> "Svdpp":
        reference = super().of(model)
        reference.leave_one_out = model.config.leave_one_out
        reference.mean_slope = model.config.leave_one_out_slope == "mean"
        reference.c = np.array(model.decoder.c, np.float64)
        reference.has_Y = model.config.decoder == "svdpp"
        Y = model.decoder.Y if reference.has_Y else np.zeros((len(reference.c), len(reference.W)))
        reference.Y = np.array(Y, np.float64)
        return reference

    def parameters(self) -> list[np.ndarray]:
        return [*super().parameters(), *[self.Y][: self.has_Y], self.c]

    def share(self, M: np.ndarray) -> np.ndarray:
        """What each row's vector counts in the weights of each column: (rows, n)."""
        return 0.1 * M / np.sqrt(np.maximum(M.sum(0), 1))

    def predict(self, R: np.ndarray) -> np.ndarray:
        M = R != 0
        W = self.W + np.einsum("in,ik->kn", self.share(M), self.Y)
        return self.output(self.hidden(R) @ W + self.b + self.c[:, None])[0]

    def squared_error(self, R: np.ndarray, M: np.ndarray) -> float:
        if not self.leave_one_out:
            return float((M * (R - self.predict(R)) ** 2)[self.counted].sum())
        own = self.each_input(R)
        value, slope = (function(own.sum(1) + self.mu) for function in ACTIVATIONS[self.g])
        slope = projected(slope, M) if self.mean_slope else slope
        share, error, counted = self.share(M), 0.0, np.zeros_like(M)
        counted[self.counted] = M[self.counted]
        for i, u in zip(*np.nonzero(counted), strict=True):
            weights = self.W[:, u] + share[:, u] @ self.Y
            x = value[i] @ (weights - share[i, u] * self.Y[i]) - (slope[i] * own[i, u]) @ weights
            error += (R[i, u] - self.output(x + self.b[u] + self.c[i])[0]) ** 2
        return float(error)

    def objective(self, R: np.ndarray, M: np.ndarray) -> float:
        times = M.sum(1) if self.weighted else np.ones(len(M))
        penalty = self.decoder_strength * float(times @ ((0.1 * self.Y) ** 2).sum(1))
        penalty += 10 * float((self.c**2).sum() + ((self.b - self.b.mean()) ** 2).sum())
        return super().objective(R, M) + penalty / 2


def finite_differences(reference: Reference, R, M, step: float = 1e-5) -> list[np.ndarray]:
    """Central differences of the objective for every single parameter."""
    result = []
    for x in reference.parameters():
        gradient = np.zeros_like(x)
        for index in np.ndindex(x.shape):
            kept = x[index]
            x[index] = kept + step
            above = reference.objective(R, M)
            x[index] = kept - step
            below = reference.objective(R, M)
            x[index] = kept
            gradient[index] = (above - below) / (2 * step)
        result.append(gradient)
    return result


class ReferenceAdam:
    """Kingma and Ba's algorithm 1 with the paper's reordering (end of their section 2)."""

    def __init__(self, beta_1=0.9, beta_2=0.999, epsilon=1e-8):
        self.beta_1, self.beta_2, self.epsilon, self.t, self.state = beta_1, beta_2, epsilon, 0, {}

    def step(self, parameters, gradients, rate):
        self.t += 1
        rate = rate * np.sqrt(1 - self.beta_2**self.t) / (1 - self.beta_1**self.t)
        for name, (x, g) in enumerate(zip(parameters, gradients, strict=True)):
            m, v = self.state.get(name, (0.0, 0.0))
            m = self.beta_1 * m + (1 - self.beta_1) * g
            v = self.beta_2 * v + (1 - self.beta_2) * g * g
            self.state[name] = m, v
            x -= rate * m / (np.sqrt(v) + self.epsilon)


class ReferenceRMSProp:
    """Divide by the root of a running mean square, which starts at zero."""

    def __init__(self, decay=0.9, epsilon=1e-7):
        self.decay, self.epsilon, self.state = decay, epsilon, {}

    def step(self, parameters, gradients, rate):
        for name, (x, g) in enumerate(zip(parameters, gradients, strict=True)):
            v = self.decay * self.state.get(name, 0.0) + (1 - self.decay) * g * g
            self.state[name] = v
            x -= rate * g / np.sqrt(v + self.epsilon)


class ReferenceRProp:
    """iRprop-: algorithm 4 of Igel and Hüsken (2000), one component at a time."""

    def __init__(self, eta_plus=1.2, eta_minus=0.5, delta_min=1e-6, delta_max=50.0):
        self.eta_plus, self.eta_minus = eta_plus, eta_minus
        self.delta_min, self.delta_max = delta_min, delta_max
        self.delta, self.last = {}, {}

    def step(self, parameters, gradients, rate):
        for name, (x, gradient) in enumerate(zip(parameters, gradients, strict=True)):
            for index, g in np.ndenumerate(gradient):
                key = name, index
                delta, product = self.delta.get(key, rate), g * self.last.get(key, 0.0)
                if product > 0:
                    delta = min(delta * self.eta_plus, self.delta_max)
                if product < 0:
                    delta, g = max(delta * self.eta_minus, self.delta_min), 0.0
                x[index] -= np.sign(g) * delta
                self.delta[key], self.last[key] = delta, g


def inverse_bfgs(pairs: list[tuple[np.ndarray, np.ndarray]], rows: np.ndarray) -> np.ndarray:
    """The dense inverse BFGS matrix of (s, y) pairs, oldest first: equation 6.17 of Nocedal and
    Wright (2006), from H_0 = gamma D. `rows`: the row of each entry of s."""
    s_norms, y_norms = (
        [sum((pair[k][rows == row] ** 2).sum() for pair in pairs) for row in rows] for k in (0, 1)
    )
    D = np.sqrt(np.divide(s_norms, y_norms))
    s, y = pairs[-1]
    H = np.diag((s @ y) / (y @ (D * y)) * D)
    identity = np.eye(len(s))
    for s, y in pairs:
        rho = 1 / (y @ s)
        left = identity - rho * np.outer(s, y)
        H = left @ H @ left.T + rho * np.outer(s, s)
    return H
