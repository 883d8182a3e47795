"""Predictions of other libraries for a split's test ratings, in a separate environment.

    python -m benchmarks.peer_models svd split.npz predictions.npz
    python -m benchmarks.peer_models libmf split.npz predictions.npz '{"k": 100}'

The first file is a split written by `write_split` in peers.py. It contains no test ratings, as they
are not needed here. The second file gets the raw predictions, the seconds from arrays to
predictions (without imports and reading) and the peak memory. A JSON object replaces settings of
the row. The package `autorec_tf` is not imported, because it requires TensorFlow.
"""

import importlib
import json
import os
import runpy
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import scipy.sparse as sp

ENVIRONMENT = Path(__file__).parents[1] / "autorec_tf" / "system" / "environment.py"

# users, items, ratings; test_users, test_items; shape, seed; perhaps days, test_days
Split = Mapping[str, np.ndarray]
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


def one_hot_days(days: np.ndarray, known: np.ndarray) -> sp.csr_array:
    """Return the one-hot design of `days`, (ratings, known); a day that is not `known` has none."""
    rated = np.flatnonzero(np.isin(days, known))
    column = np.searchsorted(known, days[rated])
    return sp.csr_array((np.ones(len(rated)), (rated, column)), (len(days), len(known)))


def predict_myfm(
    split: Split, implicit: bool, probit: bool = False, dates: bool = False, sweeps: int = SWEEPS
) -> np.ndarray:
    """Return a Bayesian factorisation machine's predictions for the test pairs: float64 [pairs].

    Its features are users and items, and with `implicit` the items that each user has rated and the
    users that have rated each item. All rows of a user have the same features, so these are passed
    once, as a relation block. Users, items and each side's implicit features have separate priors.
    With `probit`, ratings are ordered classes, and the prediction is the mean of their
    probabilities. With `dates`, the day of a rating is a feature, also of the test ratings.
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

    train_days = test_days = None
    if dates:
        known = np.unique(split["days"])
        train_days, test_days = (sp.csr_matrix(one_hot_days(split[name], known))
                                 for name in ("days", "test_days"))
        groups = [len(known), *groups]
    ratings, train = split["ratings"], blocks(users, items)
    test = blocks(split["test_users"], split["test_items"])
    if probit:
        values, classes = np.unique(ratings, return_inverse=True)
        model = myfm.MyFMOrderedProbit(rank=RANK, random_seed=int(split["seed"]))
        model.fit(train_days, classes, train, n_iter=sweeps, group_shapes=groups)
        return model.predict_proba(test_days, test, os.cpu_count()) @ values.astype(np.float64)
    model = myfm.MyFMRegressor(rank=RANK, random_seed=int(split["seed"]))
    model.fit(train_days, ratings.astype(np.float64), train, n_iter=sweeps, group_shapes=groups)
    return model.predict(test_days, test, os.cpu_count())


def predict_libmf(
    split: Split, k: int, l2: float, rate: float, iterations: int, minus_mean: bool = False
) -> np.ndarray:
    """Return LIBMF's predictions for the test pairs: float32 [pairs].

    LIBMF has no mean and no biases. It is given the ratings, or with `minus_mean` the ratings minus
    their mean. Its own default is an L1 penalty, which is off here.
    """
    from libmf import mf

    mean = split["ratings"].mean() if minus_mean else np.float32(0)
    model = mf.MF(k=k, nr_threads=1, nr_iters=iterations, eta=rate, quiet=True,
                  lambda_p1=0, lambda_q1=0, lambda_p2=l2, lambda_q2=l2)
    model.fit(np.column_stack([split["users"], split["items"], split["ratings"] - mean]))
    pairs = np.column_stack([split["test_users"], split["test_items"]])
    return model.predict(np.asfortranarray(pairs)) + mean  # it reads all users, then all items


def predict_cmfrec(
    split: Split, k: int, l2: float, bias_l2: float, w_implicit: float, iterations: int
) -> np.ndarray:
    """Return the predictions of cmfrec's `CMF` with implicit features for the test pairs: float32
    [pairs]. Each penalty is multiplied by the number of ratings of its user or item."""
    import cmfrec

    users, items = split["users"], split["items"]
    ratings = sp.coo_array((split["ratings"], (users, items)), tuple(split["shape"]))
    model = cmfrec.CMF(
        k=k, lambda_=[bias_l2, bias_l2, l2, l2, l2, l2], scale_lam=True, niter=iterations,
        add_implicit_features=True, w_implicit=w_implicit, use_float=True, nthreads=1,
        precompute_for_predictions=False, verbose=False, random_state=int(split["seed"]),
    )
    return model.fit(ratings).predict(split["test_users"], split["test_items"])


# The name of a row, its text in the table, and its prediction function.
SURPRISE, MYFM = "[Surprise](https://surpriselib.com)", "[myFM](https://myfm.readthedocs.io)"
LIBMF, CMFREC = (f"[{name}](https://github.com/{repository})" for name, repository in
                 (("LIBMF", "cjlin1/libmf"), ("cmfrec", "david-cortes/cmfrec")))
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
    "myfm_probit": (
        f"{MYFM}, ordered probit, SVD++ of both sides, without dates",
        partial(predict_myfm, implicit=True, probit=True),
    ),
    "myfm_dates": (
        f"{MYFM}, ordered probit, SVD++ of both sides, **with the dates of the test ratings**",
        partial(predict_myfm, implicit=True, probit=True, dates=True),
    ),
    "libmf": (
        f"{LIBMF}, 200 factors, raw ratings: no mean, no biases",
        partial(predict_libmf, k=200, l2=0.05, rate=0.03, iterations=32),
    ),
    "cmfrec": (
        f"{CMFREC} `CMF`, 40 factors, biases, implicit features",
        partial(predict_cmfrec, k=40, l2=0.08, bias_l2=0.04, w_implicit=2.0, iterations=10),
    ),
}
DATED = ("myfm_dates",)  # rows whose split has `days` and `test_days`
MODULES = {"myfm": "myfm", "libmf": "libmf.mf", "cmfrec": "cmfrec"}  # first word of a row


def module_of(row: str) -> str:
    """Return the module that a row's program is imported by."""
    return MODULES.get(row.split("_")[0], "surprise")


def main(name: str, split_file: str, predictions_file: str, settings: str = "{}") -> None:
    _, predict = MODELS[name]
    split = dict(np.load(split_file))
    importlib.import_module(module_of(name))
    started = time.perf_counter()
    predictions = predict(split, **json.loads(settings))
    seconds = time.perf_counter() - started
    peak_mb = runpy.run_path(str(ENVIRONMENT))["peak_memory_mb"]()
    np.savez(predictions_file, predictions=predictions, seconds=seconds, peak_mb=peak_mb)


if __name__ == "__main__":
    main(*sys.argv[1:])
