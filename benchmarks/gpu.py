"""What a GPU makes of the program: one command of at most ten minutes, and one JSON.

    python -m benchmarks.gpu --json benchmarks/results/gpu/gpu.json
    python -m benchmarks.gpu --device cpu --epochs 2     # tries this script where there is no GPU

Each step is a process of its own and may take half of the time that is left; of one that fails,
"<step>_failed" has the last line of its error. An `epoch_s` is the median of an epoch and its test,
`train_s` that of an epoch alone, and `products_share` how much of it the five products take alone.

What the program does on a GPU only, and no test on a CPU sees:

- system/runtime.py: op determinism takes deterministic kernels and refuses all others. TensorFlow
  multiplies float32 as TF32 from Ampere on, which nothing here forbids: hence "without_tf32".
- model/engines.py: `auto` is dense, and bfloat16 asks for no instruction of the processor.
- model/dense_engine.py: each step's counts are made on CPU:0, and ragged.range has no other kernel:
  they are copied. SparseToDense, the gather of b, its gradient (an unsorted segment sum), the
  products, the fused updates, initial values and dropout's draws have kernels of the GPU's own.
- model/sparse_engine.py, for who asks for it: computes on the CPU, between copies of all it takes.
- system/distribution.py: `mirrored` takes all GPUs, and adds by NCCL (by rings, where they are
  parts of one); `workers` takes all GPUs of each machine, which is not tried here.
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
from benchmarks.speed import BareProducts, Ours, timed
from data_preprocessor import load_ratings, split_ratings

STEPS = ("tests", "once", "again", "float32", "bfloat16", "float32_products", "bfloat16_products",
         "mirrored", "float32_without_tf32", "tests_without_tf32")
TESTS = ("tests/model", "tests/test_AutoRec.py")  # they compute on what TensorFlow finds
FLAGS = {"bfloat16": ["--precision=bfloat16"], "mirrored": ["--distribute=mirrored"]}
SHORT = dict.fromkeys(("once", "again", "mirrored"), 20)  # epochs of what is only compared
ROUNDS, PART_MB = 5, 3000  # turns of each way; memory of each half of a GPU


def main() -> None:
    parser = argparse.ArgumentParser(prog="gpu", description=__doc__.split("\n")[0])
    parser.add_argument("--device", choices=("gpu", "cpu"), default="gpu")
    parser.add_argument("--epochs", type=int, default=500, help="of a default run (default: 500)")
    parser.add_argument("--minutes", type=float, default=10, help="for all steps (default: 10)")
    parser.add_argument("--dataset", default="ml-1m", help="ml-1m, synthetic, or a file")
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)  # the folder of a step
    options = parser.parse_args()
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    if options.child:
        step = options.steps[0]
        return write_json(options.child / f"{step}.json", figures_of(step, options))
    end, figures = time.monotonic() + 60 * options.minutes, machine(options.device)
    with tempfile.TemporaryDirectory() as folder:
        for step in options.steps:
            step_figures = run_step(step, options, Path(folder), (end - time.monotonic()) / 2)
            print(json.dumps(step_figures, indent=2), flush=True)
            figures |= step_figures
            if options.json:
                options.json.parent.mkdir(parents=True, exist_ok=True)
                write_json(options.json, figures)


def machine(device: str) -> dict[str, Any]:
    """Return what computes. Raise UserError if that is to be a GPU, and there is none."""
    tf = import_tensorflow()
    gpus = tf.config.list_physical_devices("GPU")
    if device == "gpu" and not gpus:
        raise UserError("TensorFlow finds no GPU: it needs NVIDIA's driver and pip install "
                        "'tensorflow[and-cuda]'; --device cpu tries the script without one")
    name = tf.config.experimental.get_device_details(gpus[0])["device_name"] if gpus else device
    driver = Path("/proc/driver/nvidia/version")  # TensorFlow does not tell
    build = tf.sysconfig.get_build_info()
    return {
        "device": name, "gpus": len(gpus), "tensorflow": tf.__version__,
        "cuda": build.get("cuda_version"), "cudnn": build.get("cudnn_version"),
        "driver": driver.read_text("utf-8").split("  ")[1] if driver.exists() else None,
    }


def run_step(step: str, options: argparse.Namespace, folder: Path, seconds: float) -> dict:
    """Return the figures of a step, run as a process that has so many seconds and leaves them in
    `folder`; if it fails, why."""
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
            with suppress(ProcessLookupError):  # nor does what it started go on
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
    """Return what `step` finds, in the process that is its own."""
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
    """Count the tests that pass and fail, and name those that fail."""
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
    """Time the program's epoch on the dense engine, and its five products alone, in turns."""
    start_tensorflow()
    config = Config(dataset=dataset, engine="dense", precision=precision)
    split = split_ratings(load_ratings(config), config.train_ratio, config.random_seed)
    ways = BareProducts(split, config, precision), Ours(split, config)
    laps = [[timed(way.train) for way in ways] for _ in range(1 + ROUNDS)][1:]
    return {f"{precision}_products_share": median(bare / ours for bare, ours in laps),
            f"{precision}_train_s": median(ours for _, ours in laps)}


def train(step: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run main.py in this process, and return what it took."""
    import main as program
    epochs = min(options.epochs, SHORT.get(step, options.epochs))
    flags = [f"--dataset={options.dataset}", f"--train_epoch={epochs}", "--comet=off",
             f"--results_dir={options.child}", f"--run_name={step}", *FLAGS.get(step, ())]
    # On a CPU, too, it is the GPU's engine that is tried.
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
    """Return whether two runs have the same metrics to the last bit, and how much one of an
    epoch's differs at most, as a share of it."""
    names = ("train_cost", "train_rmse", "test_rmse", "test_mae")
    once, other = ([float(row[name]) for row in read_csv(run / "metrics.csv") for name in names]
                   for run in runs)
    largest = max(abs(a - b) / abs(a) for a, b in zip(once, other, strict=True))
    return {f"{step}_equals_once": not largest, f"{step}_largest_difference": largest}


if __name__ == "__main__":
    sys.exit(run_program("gpu", main))
