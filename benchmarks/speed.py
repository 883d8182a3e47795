"""Speed of training, as ratios measured in one run.

    python -m benchmarks.speed                    # everything, about a quarter of an hour
    python -m benchmarks.speed --quick            # MovieLens-1M alone, a few minutes
    python -m benchmarks.speed --parts second_core    # one of its tables
    python -m benchmarks.speed --json benchmarks/results/speed/speed.json

Prints the tables in docs/speed.md. The methods of training MovieLens-1M alternate within one
process, so that changes in the machine's speed affect all of them; a ratio is the median over the
rounds. Each large size runs in a separate process (benchmarks/scale.py) to measure its peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.baseline import PredictionPostprocessor
from autorec_tf.evaluation.metrics import score
from autorec_tf.records import tables
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import read_csv, write_json
from autorec_tf.system.random_streams import random_stream
from autorec_tf.system.runtime import num_threads, start_tensorflow
from benchmarks.figures_file import check_writable, read_earlier
from data_preprocessor import load_ratings, split_ratings

ROOT = Path(__file__).parents[1]
GROWTH = (1, 3, 10, 30)  # times MovieLens-1M's ratings
RMSE_EPOCHS = 20
TURNS, TIMED_EPOCHS = 3, 20  # with one core and with two


def main() -> None:
    parser = argparse.ArgumentParser(prog="speed", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="MovieLens-1M alone")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS),
                        help="tables to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=7, help="rounds of each method (default: 7)")
    parser.add_argument("--json", type=Path, metavar="FILE",
                        help="update the figures in FILE")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        raise UserError(f"--rounds {arguments.rounds}: at least one round is needed.")
    check_writable(arguments.json)
    figures = read_earlier(arguments.json)
    start_tensorflow()
    for part in QUICK if arguments.quick else arguments.parts:
        figures |= PARTS[part](arguments.rounds)
    if arguments.json:
        write_json(arguments.json, figures)


def movielens_1m(rounds: int) -> dict[str, float]:
    """Time an epoch of MovieLens-1M with every method and print the rows."""
    config = Config(dataset="ml-1m")
    ratings = load_ratings(config)
    split = split_ratings(ratings, config.train_ratio, config.random_seed)
    ways = {
        "feed_dict": FeedDict(split, config),
        "matmuls_float32": BareProducts(split, config, "float32"),
        "dense_float32": Ours(split, replace(config, engine="dense")),
        "sparse": Ours(split, replace(config, engine="sparse")),
    }
    from autorec_tf.model.engines import multiplies_bfloat16

    if multiplies_bfloat16():
        dense_bfloat16 = replace(config, engine="dense", precision="bfloat16")
        ways["matmuls_bfloat16"] = BareProducts(split, config, "bfloat16")
        ways["dense_bfloat16"] = Ours(split, dense_bfloat16)
    laps = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            lap = timed(way.train), timed(way.test)
            if turn:  # the first turn compiles
                laps[name].append(lap)

    title = f"MovieLens-1M, {num_threads()} threads, median of {rounds}"
    print("", tables.head(title, "epoch (s)", "test (s)"), sep="\n")
    for name, times in laps.items():
        train, test = (median(column) for column in zip(*times, strict=True))
        print(tables.line(ways[name].label, f"{train:.3f}", f"{test:.3f}" if test > 1e-4 else ""))

    def ratio(one: str, other: str, with_test: bool) -> float:
        pairs = zip(laps[one], laps[other], strict=True)
        return median((a[0] + with_test * a[1]) / (b[0] + with_test * b[1]) for a, b in pairs)

    figures = {
        "dense_float32_over_matmuls": ratio("dense_float32", "matmuls_float32", False),
        "speedup_dense_over_feed_dict": ratio("feed_dict", "dense_float32", True),
        "speedup_sparse_over_feed_dict": ratio("feed_dict", "sparse", True),
        "speedup_sparse_over_dense": ratio("dense_float32", "sparse", True),
    }
    if "dense_bfloat16" in ways:
        figures["dense_bfloat16_over_matmuls"] = ratio("dense_bfloat16", "matmuls_bfloat16", False)
    print("\n| ratio | |\n| --- | --- |")
    for name, text in (
        ("dense_float32_over_matmuls", "dense float32 epoch / its five bare matrix products"),
        ("dense_bfloat16_over_matmuls", "dense bfloat16 epoch / its five bare matrix products"),
        ("speedup_dense_over_feed_dict", "epoch and test: the earlier method / dense float32"),
        ("speedup_sparse_over_feed_dict", "epoch and test: the earlier method / sparse"),
        ("speedup_sparse_over_dense", "epoch and test: dense float32 / sparse"),
    ):
        if name in figures:
            print(f"| {text} | {figures[name]:.2f} |")
    return figures


def timed(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


class Ours:
    """Epoch and test of this program."""

    def __init__(self, split: Split, config: Config) -> None:
        from AutoRec import AutoRec
        from autorec_tf.model.batch import sparse_rows
        from autorec_tf.training.trainer import Trainer

        self.label = f"{config.engine} {config.precision}"
        self.model = AutoRec(split.train.num_columns, config)
        self.trainer = Trainer(self.model)
        self.ratings, self.pairs = sparse_rows(split.train), split.test
        self.postprocess = PredictionPostprocessor(split, split.test, "paper")
        self.order = random_stream(config.random_seed, "shuffle", 1).permutation(
            split.train.num_rows
        )

    def train(self) -> None:
        self.trainer.train_epoch(self.ratings, self.order, 0.001)

    def test(self) -> None:
        predictions = self.model.predict(self.ratings, self.pairs.rows, self.pairs.indices)
        score(self.postprocess(predictions), self.pairs.values)


class BareProducts:
    """Only the five matrix products of each step, on the same shapes."""

    def __init__(self, split: Split, config: Config, precision: str) -> None:
        import tensorflow as tf

        self.label = f"the five matrix products alone, {precision}"
        batch, rows, k = config.batch_size, split.train.num_rows, config.hidden_neuron[0]

        def random(*shape: int) -> tf.Tensor:
            return tf.cast(tf.random.stateless_uniform(shape, (1, 2)), precision)

        R, V, h, Wt = (random(batch, split.train.num_columns), random(split.train.num_columns, k),
                       random(batch, k), random(split.train.num_columns, k))

        @tf.function
        def products():
            total = tf.zeros([], precision)
            for start in tf.range(0, rows, batch):
                tf.autograph.experimental.set_loop_options(parallel_iterations=1)
                num_rows = tf.minimum(batch, rows - start)
                block, hidden = R[:num_rows], h[:num_rows]
                z = block @ V
                prediction = tf.matmul(hidden, Wt, transpose_b=True)
                dh = prediction @ Wt
                dWt = tf.matmul(prediction, hidden, transpose_a=True)
                dV = tf.matmul(block, dh, transpose_a=True)
                total += z[0, 0] + dWt[0, 0] + dV[0, 0]
            return total

        self.train = lambda: products().numpy()

    def test(self) -> None:
        pass


class FeedDict:
    """A rewrite of the earlier TensorFlow 1 program's method: dense float32 matrices, fed to a
    session batch by batch, and a dense reconstruction of the whole test matrix."""

    label = "the earlier method: dense matrices, feed dictionaries"

    def __init__(self, split: Split, config: Config) -> None:
        import tensorflow as tf

        tf1 = tf.compat.v1
        self.R, self.M = dense(split.train)
        self.test_R, self.test_M = dense(split.test)
        self.batch, n, k = config.batch_size, split.train.num_columns, config.hidden_neuron[0]
        graph = tf.Graph()
        with graph.as_default():
            self.r, self.m = (tf1.placeholder(tf.float32, [None, n]) for _ in range(2))
            normal = tf1.truncated_normal_initializer(stddev=0.03, seed=1)
            V, W = (tf1.get_variable(name, shape, initializer=normal)
                    for name, shape in (("V", (n, k)), ("W", (k, n))))
            mu, b = (tf1.get_variable(name, size, initializer=tf1.zeros_initializer())
                     for name, size in (("mu", k), ("b", n)))
            self.output = tf.sigmoid(self.r @ V + mu) @ W + b
            error = (self.r - self.output) * self.m
            penalty = tf.reduce_sum(tf.square(V)) + tf.reduce_sum(tf.square(W))
            self.cost = tf.reduce_sum(tf.square(error)) + 0.5 * penalty
            self.step = tf1.train.AdamOptimizer(0.001).minimize(self.cost)
            self.session = tf1.Session(graph=graph)
            self.session.run(tf1.global_variables_initializer())

    def train(self) -> None:
        order = np.random.permutation(len(self.R))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            self.session.run([self.step, self.cost], {self.r: self.R[rows], self.m: self.M[rows]})

    def test(self) -> None:
        feed = {self.r: self.test_R, self.m: self.test_M}
        _, output = self.session.run([self.cost, self.output], feed)
        error = (np.clip(output, 1, 5) - self.test_R) * self.test_M
        np.sqrt(np.sum(np.square(error)) / self.test_M.sum())


def dense(matrix: RatingMatrix) -> tuple[np.ndarray, np.ndarray]:
    """Return ratings and mask as dense float32 matrices, which this program itself never makes."""
    R, M = (np.zeros((matrix.num_rows, matrix.num_columns), np.float32) for _ in range(2))
    R[matrix.rows, matrix.indices], M[matrix.rows, matrix.indices] = matrix.values, 1
    return R, M


def whole_program(_: int) -> dict[str, float]:
    """Measure `python main.py --train_epoch 2`: start-up, parsing and peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-u", str(ROOT / "main.py"), "--dataset", "ml-1m",
                   "--train_epoch", "2", "--results_dir", folder, "--run_name", "run"]
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            first = next(
                time.perf_counter() - started for line in process.stdout if "epoch 1/2" in line
            )
            process.stdout.read()
        summary = json.loads((Path(folder) / "run" / "summary.json").read_text("utf-8"))
    config = Config(dataset="ml-1m")
    parse = min(timed(lambda: load_ratings(config)) for _ in range(3))
    figures = {
        "first_epoch_s": first,
        "parse_s": parse,
        "peak_gb": summary["peak_memory_mb"] / 1e3,
    }
    print("\n| whole program, MovieLens-1M | |\n| --- | --- |")
    print(f"| from start to the first finished epoch and its test | {first:.1f} s |")
    print(f"| of that, parsing 1,000,209 ratings | {parse:.2f} s |")
    print(f"| peak resident memory | {figures['peak_gb']:.2f} GB |", flush=True)
    return figures


def second_core(_: int) -> dict[str, float]:
    """Measure the speed-up by a second core; processes with one and with two alternate."""
    if len(os.sched_getaffinity(0)) < 2:
        print("\nThe second core was not measured: this process may use one core.", flush=True)
        return {}
    turns = [[epoch_seconds(cores) for cores in (1, 2)] for _ in range(TURNS)]
    one, two = (median(column) for column in zip(*turns, strict=True))
    worth = median(one / two for one, two in turns)
    print("\n| sparse float32, MovieLens-1M | epoch (s) |\n| --- | --- |")
    print(f"| one core | {one:.3f} |\n| two cores | {two:.3f} |\n| ratio | {worth:.2f} |",
          flush=True)
    return {"second_core_worth": worth, "one_core_epoch_s": one}


def epoch_seconds(cores: int) -> float:
    """Return the median seconds of an epoch of main.py, without tests."""
    processors = sorted(os.sched_getaffinity(0))[:cores]
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "main.py"), "--dataset", "ml-1m", "--comet", "off",
                   "--engine", "sparse", "--train_epoch", str(TIMED_EPOCHS), "--display_step",
                   str(TIMED_EPOCHS), "--results_dir", folder, "--run_name", "run"]
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True,
                       preexec_fn=lambda: os.sched_setaffinity(0, processors))
        lines = read_csv(Path(folder) / "run" / "metrics.csv")
    return median(float(line["epoch_seconds"]) for line in lines[1:-1])


def agreement(_: int) -> dict[str, float]:
    """Compare the test RMSE of all engines and precisions after some epochs from one seed."""
    from AutoRec import AutoRec
    from autorec_tf.model.engines import multiplies_bfloat16
    from autorec_tf.training.epochs import TrainState, train_epochs

    config = Config(train_epoch=RMSE_EPOCHS, display_step=RMSE_EPOCHS)
    ratings = load_ratings(replace(config, dataset="ml-1m"))
    split = split_ratings(ratings, config.train_ratio, config.random_seed)
    ways = [("dense", "float32"), ("sparse", "float32"), ("dense", "bfloat16")]
    print(f"\n| test RMSE after {RMSE_EPOCHS} epochs, same seed | |\n| --- | --- |")
    results = []
    for engine, precision in ways[: 2 + multiplies_bfloat16()]:
        chosen = replace(config, engine=engine, precision=precision)
        model = AutoRec(split.train.num_columns, chosen, ratings.scale)
        results.append(list(train_epochs(TrainState(model, split), split))[-1].test_rmse)
        print(f"| {engine} {precision} | {results[-1]:.5f} |", flush=True)
    return {"rmse_spread": max(results) - min(results)}


def full_batch(_: int) -> dict[str, float]:
    """Measure an iteration and the memory of `single` at MovieLens-20M's size."""
    print("", tables.head("synthetic ratings, `--preset single`", "iteration (s)", "peak (GB)"),
          sep="\n")
    result = measured("ml-20m", "--preset", "single", "--epochs", "4")
    seconds, peak = result["epoch_s"], result["peak_gb"]
    print(tables.line("ml-20m", f"{seconds:.2f}", f"{peak:.2f}"), flush=True)
    return {"ml20m_single_iteration_s": seconds, "ml20m_single_peak_gb": peak}


def large(_: int) -> dict[str, float]:
    """Measure large sizes, one process each, and the growth of epoch time with the ratings."""
    print("", tables.head("size (synthetic ratings)", "engine", "parse (s)", "epoch (s)",
                          "test (s)", "peak (GB)"), sep="\n")
    growth = [at_size(f"{factor}x", "sparse", 3) for factor in GROWTH]
    logs = np.log([[float(r["size"].removesuffix("x")), r["epoch_s"]] for r in growth])
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    sparse, dense_ = at_size("ml-20m", "sparse", 2), at_size("ml-20m", "dense", 1)
    netflix = at_size("netflix", "sparse", 1)
    print(f"\nEpoch time grows as ratings ^ {exponent:.2f}; at ML-20M's size, sparse is "
          f"{dense_['epoch_s'] / sparse['epoch_s']:.1f} times as fast as dense.")
    return {
        "ratings_exponent": exponent,
        "ml20m_speedup_sparse_over_dense": dense_["epoch_s"] / sparse["epoch_s"],
        "ml20m_peak_gb": sparse["peak_gb"],
        "netflix_epoch_s": netflix["epoch_s"],
        "netflix_peak_gb": netflix["peak_gb"],
    }


def measured(size: str, *flags: str) -> dict:
    """Return what benchmarks.scale printed, which runs as a process for its peak memory."""
    command = [sys.executable, "-m", "benchmarks.scale", size, *flags]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout)


def at_size(size: str, engine: str, epochs: int) -> dict:
    result = measured(size, "--engine", engine, "--epochs", str(epochs))
    print(tables.line(size, engine, f"{result['parse_s']:.1f}", f"{result['epoch_s']:.2f}",
                      f"{result['test_s']:.2f}", f"{result['peak_gb']:.2f}"), flush=True)
    return result


PARTS: dict[str, Callable[[int], dict[str, float]]] = {
    "movielens_1m": movielens_1m, "whole_program": whole_program, "second_core": second_core,
    "agreement": agreement, "full_batch": full_batch, "large": large,
}
QUICK = ("movielens_1m", "whole_program", "second_core")


if __name__ == "__main__":
    sys.exit(run_program("speed", main))
