"""Independent random streams from one seed: the draws of one do not change another."""

import numpy as np

# Every published number depends on the positions of these names: append, never reorder.
STREAMS = (
    "split",
    "initialisation",
    "shuffle",
    "synthetic",
    "dropout",
    "pretraining",
    "ranking",
    "new ratings",
)


def random_stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """Return the generator of the stream `name` (one of `STREAMS`) for `seed`.

    `index` selects a stream within the stream: the shuffle of epoch 7 is
    `random_stream(seed, "shuffle", 7)`, independent of earlier draws.
    """
    return np.random.default_rng([seed, STREAMS.index(name), *index])
