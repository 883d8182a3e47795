"""Predictions of other libraries for a split's test ratings, in a separate environment.

    python -m benchmarks.peer_models svd split.npz predictions.npz

The first file is a split written by `write_split` in peers.py. It contains no test ratings, as they
are not needed here. The second file gets the raw predictions, the seconds from arrays to
predictions (without imports and reading) and the peak memory. From this project, only modules
without dependencies are imported.
"""

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import scipy.sparse as sp

from autorec_tf.system.environment import peak_memory_mb

Split = Mapping[str, np.ndarray]  # users, items, ratings; test_users, test_items; shape, seed
RANK, SWEEPS = 32, 250


def predict_surprise(split: Split, name: str, **settings: object) -> np.ndarray:
    """Return the predictions of Surprise's algorithm `name` for the test pairs: float64 [pairs]."""
    import pandas as pd
    import surprise

    frame = pd.DataFrame({column: split[column] for column in ("users", "items", "ratings")})
    reader = surprise.Reader(rating_scale=(1, 5))
    train = surprise.Dataset.load_from_df(frame, reader).build_full_trainset()
    if name.startswith("SVD"):
        settings["random_state"] = int(split["seed"])
    model = getattr(surprise, name)(verbose=False, **settings).fit(train)
    pairs = zip(split["test_users"].tolist(), split["test_items"].tolist(), strict=True)
    return np.array([model.predict(user, item).est for user, item in pairs])


def one_hot_and_implicit(
    own: np.ndarray, others: np.ndarray, shape: tuple[int, int]
) -> sp.csr_array:
    """Return the design matrix of shape[0] users or items: their one-hot ids, then, in the columns
    of the shape[1] `others` that each has ratings with, 1 / sqrt(number of its ratings)."""
    weights = 1 / np.sqrt(np.bincount(own, minlength=shape[0]))[own]
    return sp.hstack([sp.eye_array(shape[0]), sp.csr_array((weights, (own, others)), shape)], "csr")


def predict_myfm(split: Split, implicit: bool, sweeps: int = SWEEPS) -> np.ndarray:
    """Return a Bayesian factorisation machine's predictions for the test pairs: float64 [pairs].

    Its features are users and items, and with `implicit` the items that each user has rated and the
    users that have rated each item. All rows of a user have the same features, so these are passed
    once, as a relation block. Users, items and each side's implicit features have separate priors.
    """
    import myfm

    users, items = split["users"], split["items"]
    num_users, num_items = split["shape"].tolist()
    sides: list[sp.csr_array] = [sp.eye_array(num_users, format="csr"),
                                 sp.eye_array(num_items, format="csr")]
    groups = [num_users, num_items]
    if implicit:
        sides = [one_hot_and_implicit(users, items, (num_users, num_items)),
                 one_hot_and_implicit(items, users, (num_items, num_users))]
        groups = [num_users, num_items, num_items, num_users]

    def blocks(*pairs: np.ndarray) -> list:
        return [myfm.RelationBlock(index.tolist(), sp.csr_matrix(side))
                for index, side in zip(pairs, sides, strict=True)]

    model = myfm.MyFMRegressor(rank=RANK, random_seed=int(split["seed"]))
    ratings = split["ratings"].astype(np.float64)
    model.fit(None, ratings, blocks(users, items), n_iter=sweeps, group_shapes=groups)
    return model.predict(None, blocks(split["test_users"], split["test_items"]), os.cpu_count())


# The name of a row, its text in the table, and its prediction function.
SURPRISE, MYFM = "[Surprise](https://surpriselib.com)", "[myFM](https://myfm.readthedocs.io)"
MODELS: dict[str, tuple[str, Callable[[Split], np.ndarray]]] = {
    "baseline_only": (f"{SURPRISE} `BaselineOnly`", partial(predict_surprise, name="BaselineOnly")),
    "knn_baseline": (
        f"{SURPRISE} `KNNBaseline`, items, `pearson_baseline`",
        partial(predict_surprise, name="KNNBaseline",
                sim_options={"name": "pearson_baseline", "user_based": False}),
    ),
    "svd": (f"{SURPRISE} `SVD`", partial(predict_surprise, name="SVD")),
    "svd_200": (
        f"{SURPRISE} `SVD`, 200 factors, 100 epochs, λ = 0.06",
        partial(predict_surprise, name="SVD", n_factors=200, n_epochs=100, reg_all=0.06),
    ),
    "svdpp": (f"{SURPRISE} `SVDpp`", partial(predict_surprise, name="SVDpp")),
    "myfm_mf": (f"{MYFM}, users and items", partial(predict_myfm, implicit=False)),
    "myfm_svdpp": (f"{MYFM}, SVD++ of both sides", partial(predict_myfm, implicit=True)),
}


def main(name: str, split_file: str, predictions_file: str) -> None:
    _, predict = MODELS[name]
    split = dict(np.load(split_file))
    module = "myfm" if name.startswith("myfm") else "surprise"
    __import__(module)
    started = time.perf_counter()
    predictions = predict(split)
    seconds = time.perf_counter() - started
    np.savez(predictions_file, predictions=predictions, seconds=seconds, peak_mb=peak_memory_mb())


if __name__ == "__main__":
    main(*sys.argv[1:])
