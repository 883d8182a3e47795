"""Accuracy, determinism and speed on a GPU: one command of at most ten minutes, one JSON file.

    python -m benchmarks.gpu --json benchmarks/results/gpu/gpu.json
    python -m benchmarks.gpu --device cpu --epochs 2     # tries this script without a GPU

Each step runs in a separate process and may take half of the remaining time. If a step fails,
"<step>_failed" contains the last line of its error. `epoch_s` is the median time of an epoch and
its test, `train_s` the median time of an epoch alone, and `products_share` the fraction of
`train_s` that the five matrix products alone take.

Code paths that only a GPU uses, so that no test on a CPU covers them:

- system/runtime.py: op determinism selects deterministic kernels and refuses ops that have none.
  From Ampere on, TensorFlow multiplies float32 as TF32, which nothing here disables: hence the
  "without_tf32" steps.
- model/engines.py: `auto` chooses dense, and bfloat16 needs no processor instruction.
- model/dense_engine.py: each step's counts are made on CPU:0, as ragged.range has no other kernel,
  and are copied. SparseToDense, the gather of b, its gradient (an unsorted segment sum), the
  products, the fused updates, initial values and dropout masks have GPU kernels.
- model/sparse_engine.py, if chosen: computes on the CPU and copies all its inputs and outputs.
- system/distribution.py: `mirrored` uses all GPUs and all-reduces with NCCL, or with rings between
  parts of one GPU; `workers` uses all GPUs of each machine, which is not tried here.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Any

from autorec_tf.config import Config
from autorec_tf.system.environment import peak_memory_mb
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import read_csv, read_json, write_json
from autorec_tf.system.runtime import import_tensorflow, start_tensorflow
from benchmarks.figures_file import check_writable
from benchmarks.speed import BareProducts, Ours, timed
from data_preprocessor import load_ratings, split_ratings

STEPS = ("tests", "once", "again", "float32", "bfloat16", "float32_products", "bfloat16_products",
         "mirrored", "float32_without_tf32", "tests_without_tf32")
TESTS = ("tests/model", "tests/test_AutoRec.py")  # they run on the device that TensorFlow finds
FLAGS = {"bfloat16": ["--precision=bfloat16"], "mirrored": ["--distribute=mirrored"]}
SHORT = dict.fromkeys(("once", "again", "mirrored"), 20)  # epochs of steps that are compared
ROUNDS, PART_MB = 5, 3000  # rounds of each method; memory of each half of a GPU


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--epochs", type=int, default=500, help="in each full run (default: 500)")
    parser.add_argument("--minutes", type=float, default=10, help="for all steps (default: 10)")
    parser.add_argument("--dataset", default="ml-1m", help="ml-1m, synthetic, or a rating file")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)  # the folder of a step
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if options.child:
        step = options.steps[0]
        return write_json(options.child / f"{step}.json", figures_of(step, options))
    check_writable(options.json)
    end, figures = time.monotonic() + 60 * options.minutes, machine(options.device)
    with tempfile.TemporaryDirectory() as folder:
        for step in options.steps:
            step_figures = run_step(step, options, Path(folder), (end - time.monotonic()) / 2)
            print(json.dumps(step_figures, indent=2), flush=True)
            figures |= step_figures
            if options.json:
                write_json(options.json, figures)


def machine(device: str) -> dict[str, Any]:
    """Return the device and its software. Raise UserError if a GPU is asked for but not found."""
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UserError("TensorFlow finds no GPU. Install NVIDIA's driver and pip install "
                        "'tensorflow[and-cuda]', or try this script without one with --device cpu.")
    name = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else device
    driver = Path("/proc/driver/nvidia/version")  # TensorFlow does not report it
    build = tf.sysconfig.get_build_info()
    return {
        "device": name, "gpus": len(gpus), "tensorflow": tf.__version__,
        "cuda": build.get("cuda_version"), "cudnn": build.get("cudnn_version"),
        "driver": driver.read_text("utf-8").split("  ")[1] if driver.exists() else None,
    }


def run_step(step: str, options: argparse.Namespace, folder: Path, seconds: float) -> dict:
    """Run a step as a process, for at most `seconds`, and return the figures that it writes to
    `folder`, or the reason of its failure."""
    command = [sys.executable, "-um", "benchmarks.gpu", f"--child={folder}", f"--steps={step}"]
    command += [f"--{name}={getattr(options, name)}" for name in ("device", "epochs", "dataset")]
    log = folder / f"{step}.log"
    with open(log, "wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {f"{step}_failed": f"not done after {seconds:.0f} s"}
        finally:
            with suppress(ProcessLookupError):  # also ends its child processes
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if not code:
        return read_json(folder / f"{step}.json")
    text = log.read_text("utf-8", errors="replace")
    print(text[-4000:], file=sys.stderr)
    # The last line of TensorFlow's own errors names a node.
    lines = [line for line in text.splitlines() if line.strip() and "[[{{node" not in line]
    return {f"{step}_failed": f"exit code {code}: {(lines or [''])[-1].strip()}"}


def figures_of(step: str, options: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of `step`, computed in this process."""
    tf = import_tensorflow()
    tf.config.experimental.enable_tensor_float_32_execution("without_tf32" not in step)
    if step.startswith("tests"):
        return run_tests(step)
    if step.endswith("_products"):
        return products(step.removesuffix("_products"), options.dataset)
    devices = tf.config.list_physical_devices(options.device.upper())
    if step == "mirrored" and len(devices) == 1:
        part = tf.config.LogicalDeviceConfiguration(PART_MB if options.device == "gpu" else None)
        tf.config.set_logical_device_configuration(devices[0], [part] * 2)
    figures = train(step, options)
    if step in ("again", "mirrored"):
        figures |= compare(step, options.child / "once", options.child / step)
    return figures


def run_tests(step: str) -> dict[str, Any]:
    """Count the tests that pass and fail, and list the failing ones."""
    import pytest
    counts, failing = Counter({f"{step}_passed": 0}), list[str]()

    class Results:
        def pytest_runtest_logreport(self, report: Any) -> None:
            if report.when == "call" or report.outcome != "passed":
                counts[f"{step}_{report.outcome}"] += 1
                failing.extend([report.nodeid] if report.failed else [])

    pytest.main(["-n", "0", "-m", "not slow", "--tb", "short", *TESTS], plugins=[Results()])
    return dict(counts) | {f"{step}_failing": failing}


def products(precision: str, dataset: str) -> dict[str, Any]:
    """Time an epoch on the dense engine and its five matrix products alone, alternating."""
    start_tensorflow()
    config = Config(dataset=dataset, engine="dense", precision=precision)
    split = split_ratings(load_ratings(config), config.train_ratio, config.random_seed)
    ways = BareProducts(split, config, precision), Ours(split, config)
    laps = [[timed(way.train) for way in ways] for _ in range(1 + ROUNDS)][1:]
    return {f"{precision}_products_share": median(bare / ours for bare, ours in laps),
            f"{precision}_train_s": median(ours for _, ours in laps)}


def train(step: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run main.py in this process and return its RMSE, time and memory."""
    import main as program
    epochs = min(options.epochs, SHORT.get(step, options.epochs))
    flags = [f"--dataset={options.dataset}", f"--train_epoch={epochs}", "--comet=off",
             f"--results_dir={options.child}", f"--run_name={step}", *FLAGS.get(step, ())]
    # Also use the GPU's engine on a CPU.
    if code := program.main([*flags, *["--engine=dense"] * (options.device == "cpu")]):
        sys.exit(code)
    run = options.child / step
    summary, rows = read_json(run / "summary.json"), read_csv(run / "metrics.csv")
    figures = {
        "test_rmse": summary["final_test_rmse"], "seconds": summary["seconds"],
        "epoch_s": median(float(row["epoch_seconds"]) for row in rows[1:] or rows),
        "peak_gb": (peak_memory_mb() or 0) / 1e3,
        "replicas": read_json(run / "config.json")["replicas"],
    }
    if options.device == "gpu":
        memory = import_tensorflow().config.experimental.get_memory_info("GPU:0")
        figures["gpu_peak_gb"] = memory["peak"] / 1e9
    return {f"{step}_{name}": value for name, value in figures.items()}


def compare(step: str, *runs: Path) -> dict[str, Any]:
    """Return whether two runs have bit-identical metrics, and the largest relative difference of
    any metric of any epoch."""
    names = ("train_cost", "train_rmse", "test_rmse", "test_mae")
    once, other = ([float(row[name]) for row in read_csv(run / "metrics.csv") for name in names]
                   for run in runs)
    largest = max(abs(a - b) / abs(a) for a, b in zip(once, other, strict=True))
    return {f"{step}_equals_once": not largest, f"{step}_largest_difference": largest}


if __name__ == "__main__":
    sys.exit(run_program("gpu", main))
