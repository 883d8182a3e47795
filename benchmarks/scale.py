"""Parse, split, train and evaluate at the size of a large dataset, on synthetic ratings.

    python -m benchmarks.scale ml-20m
    python -m benchmarks.scale netflix --engine sparse
    python -m benchmarks.scale 10x              # ten times MovieLens-1M's ratings, same density
    python -m benchmarks.scale ml-20m --preset single --epochs 4

Writes a temporary file in MovieLens-1M's format, one item at a time. Then prints one JSON object
with the seconds of each step and the peak memory of the process.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS
from autorec_tf.presets import PRESETS
from autorec_tf.resolution import over_preset
from autorec_tf.system.environment import peak_memory_mb
from autorec_tf.system.errors import run_program
from autorec_tf.system.runtime import start_tensorflow
from data_preprocessor import is_large, pairs_of_lbfgs, read_ml_1m, split_ratings

SIZES = {  # users, items, ratings
    "ml-1m": (ML_1M_USERS, ML_1M_ITEMS, sum(ML_1M_COUNTS)),
    "ml-10m": (69_878, 10_677, 10_000_054),
    "ml-20m": (138_493, 26_744, 20_000_263),
    "ml-32m": (200_948, 87_585, 32_000_204),
    "netflix": (480_189, 17_770, 100_480_507),
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scale", description=__doc__.split("\n")[0])
    parser.add_argument("size", help=f"one of {', '.join(SIZES)}, or a multiple such as 10x")
    parser.add_argument("--engine", choices=("auto", "dense", "sparse"), default="auto")
    parser.add_argument("--epochs", type=int, default=2, help="the last one is timed (default: 2)")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="default")
    arguments = parser.parse_args()
    config = over_preset(dict(preset=arguments.preset, engine=arguments.engine,
                              train_epoch=arguments.epochs))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ratings.dat"
        started = time.perf_counter()
        write_ratings(path, *size_of(arguments.size))
        generated = time.perf_counter() - started
        result = measure(path, config)
    print(json.dumps({"size": arguments.size, "generate_s": generated} | result))


def size_of(name: str) -> tuple[int, int, int]:
    """Return users, items and ratings of a named size, or of MovieLens-1M times a factor."""
    if name in SIZES:
        return SIZES[name]
    factor = float(name.removesuffix("x"))
    users, items, ratings = SIZES["ml-1m"]
    side = math.sqrt(factor)  # users and items grow equally, so the density is constant
    return round(users * side), round(items * side), round(ratings * factor)


def write_ratings(path: Path, num_users: int, num_items: int, num_ratings: int) -> None:
    """Write `num_ratings` distinct ratings with power-law popularity, one item at a time."""
    rng = np.random.default_rng(0)
    weight = 1 / (np.arange(num_items) + num_items / 60)
    counts = np.minimum(weight / weight.sum() * num_ratings, 0.6 * num_users).astype(np.int64)
    counts = np.maximum(counts, 1)
    while missing := num_ratings - counts.sum():  # left by rounding and the cap
        room = np.flatnonzero(counts < 0.6 * num_users) if missing > 0 else counts.argsort()[-1:]
        counts[room[: abs(missing)]] += np.sign(missing)
    bias = rng.normal(3.6, 0.5, num_users)
    users = [b"%d" % user for user in range(1, num_users + 1)]
    with open(path, "wb") as file:
        for item, count in enumerate(counts.tolist(), start=1):
            rated = rng.choice(num_users, count, replace=False)
            values = np.clip(np.rint(bias[rated] + rng.normal(0, 0.5) + rng.normal(0, 0.8, count)),
                             1, 5).astype(int)
            ends = [b"::%d::%d::0\n" % (item, value) for value in range(6)]
            file.write(b"".join([users[u] + ends[v] for u, v in zip(rated, values, strict=True)]))


def measure(path: Path, config: Config) -> dict[str, float]:
    """Return the seconds of parsing, splitting, the last epoch and the test, and peak GB."""
    seconds, started = {}, time.perf_counter()

    def lap(name: str) -> None:
        nonlocal started
        seconds[name] = time.perf_counter() - started
        started = time.perf_counter()

    ratings = read_ml_1m(path)
    lap("parse_s")
    start_tensorflow(is_large=is_large(ratings, config))
    from autorec_tf.evaluation.evaluate import score_test
    from autorec_tf.model.engines import choose_engine
    from autorec_tf.system.random_streams import random_stream
    from autorec_tf.training.trainer import Trainer, build

    started = time.perf_counter()
    split = split_ratings(ratings, config.train_ratio, 0)
    scale, pairs = ratings.unit.model_scale, pairs_of_lbfgs(ratings, config)
    del ratings
    lap("split_s")
    config = replace(config, engine=choose_engine(config, split.train.density),
                     lbfgs_memory=pairs)
    model = build(config, split.train, scale)
    trainer = Trainer(model)
    train, test = model.rows(split.train), split.test
    lap("build_s")
    for epoch in range(1, config.train_epoch + 1):
        order = random_stream(0, "shuffle", epoch).permutation(test.num_rows)
        trainer.train_epoch(train, order, config.learning_rate(epoch))
        lap("epoch_s")
    predictions = model.predict(train, test.rows, test.indices)
    rmse = score_test(split, predictions, "paper").rmse
    lap("test_s")
    return {"engine": config.engine} | seconds | {"rmse": rmse, "peak_gb": peak_memory_mb() / 1e3}


if __name__ == "__main__":
    sys.exit(run_program("scale", main))
