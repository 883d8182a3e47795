"""Separate random streams from one seed, so that no draw of one part moves another's."""

import numpy as np

# The position of a name is part of every published number: append, never reorder.
STREAMS = (
    "split",
    "initialisation",
    "shuffle",
    "synthetic",
    "dropout",
    "pretraining",
    "ranking",
)


def random_stream(seed: int, name: str, *index: int) -> np.random.Generator:
    """The generator that belongs to `name` (one of `STREAMS`) under `seed`.

    `index` picks a stream within the stream: the shuffle of epoch 7 is
    `random_stream(seed, "shuffle", 7)`, whatever was drawn before it.
    """
    return np.random.default_rng([seed, STREAMS.index(name), *index])
