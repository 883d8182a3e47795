"""AutoRec in float64 NumPy, written from the paper's equations: what the program is held against.

Dense and slow on purpose: R and M (rows x columns) are the ratings and the mask of what is
observed, and no line is shared with the program.
"""

from dataclasses import dataclass

import numpy as np


@dataclass
class Reference:
    """Parameters V (n, k), W (k, n), mu (k), b (n) and lambda; `weighted` as in DESIGN's Omega."""

    V: np.ndarray
    W: np.ndarray
    mu: np.ndarray
    b: np.ndarray
    strength: float
    weighted: bool

    @classmethod
    def of(cls, model) -> "Reference":
        V, W, mu, b = (np.array(x, np.float64) for x in (model.V, model.W, model.mu, model.b))
        config = model.config
        return cls(V, W, mu, b, config.lambda_value, config.regularization == "weighted")

    def parameters(self) -> list[np.ndarray]:
        return [self.V, self.W, self.mu, self.b]

    def predict(self, R: np.ndarray) -> np.ndarray:
        """Equation 1 with g the sigmoid and f the identity."""
        return self.hidden(R) @ self.W + self.b

    def hidden(self, R: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-(R @ self.V + self.mu)))

    def squared_error(self, R: np.ndarray, M: np.ndarray) -> float:
        return float((M * (R - self.predict(R)) ** 2).sum())

    def objective(self, R: np.ndarray, M: np.ndarray) -> float:
        """J(B): equation 2 over one mini-batch, R being 0 where M is."""
        of_column = (self.V**2).sum(1) + (self.W**2).sum(0)
        count = M.sum(0) if self.weighted else 1
        return self.squared_error(R, M) + self.strength / 2 * float((count * of_column).sum())

    def gradients(self, R: np.ndarray, M: np.ndarray) -> list[np.ndarray]:
        h = self.hidden(R)
        d = 2 * M * (self.predict(R) - R)
        dz = (d @ self.W.T) * h * (1 - h)
        count = self.strength * (M.sum(0) if self.weighted else np.ones(len(self.b)))
        return [
            R.T @ dz + count[:, None] * self.V,
            h.T @ d + count * self.W,
            dz.sum(0),
            d.sum(0),
        ]


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
