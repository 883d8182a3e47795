"""Time, memory and bytes sent with the columns sharded over two workers, compared with one process.

    python -m benchmarks.workers                                        # only MovieLens-1M
    python -m benchmarks.workers --sizes ml-1m ml-20m netflix --json \
benchmarks/results/workers/workers.json

Runs the real program: one process with one thread and with two; two workers with one thread each on
loopback; and two workers in separate network namespaces, connected by a link of 1 and of 10 Gbit/s,
if the system allows it (Linux, as root). An epoch's time covers training and evaluation; the
shortest epoch after the first one counts. All runs of a size follow one another. Sizes other than
MovieLens-1M's use synthetic ratings (benchmarks/scale.py).

`--single` adds the preset `single` with one process and with two workers on loopback. Its shortest
epoch is an iteration of L-BFGS without an evaluation of the test ratings.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autorec_tf.records import tables
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import write_json
from benchmarks.figures_file import check_writable
from benchmarks.scale import SIZES, write_ratings

MAIN = Path(__file__).resolve().parents[1] / "main.py"
EPOCHS = {"ml-1m": 12, "ml-20m": 3, "netflix": 2}
SINGLE_EPOCHS = {"ml-1m": 12, "ml-20m": 6, "netflix": 6}  # the first ones search for a step length
BATCH_SIZE, HIDDEN = 512, 500
BY_BATCHES = ["--hidden_neuron", str(HIDDEN), "--batch_size", str(BATCH_SIZE)]
SINGLE = ["--preset", "single", "--hidden_neuron", str(HIDDEN), "--lambda_value", "450",
          "--tolerance", "0"]
TENSORFLOW_GB = 0.6  # memory of a process that has imported TensorFlow
NETWORKS = {"gbit1": "1gbit", "gbit10": "10gbit"}
PORTS = (23456, 23457)
LATENCY = 1e-4  # seconds between two machines in one room


@dataclass(frozen=True)
class Measured:
    """Seconds of the shortest epoch, the last test RMSE, the largest peak memory of a process, and
    the bytes that worker 0 sent per epoch and per step."""

    epoch: float
    rmse: float
    peak_gb: float
    epoch_bytes: float
    step_bytes: float


class Link:
    """Two network namespaces, connected by a link with a `rate` in the notation of tc."""

    def __init__(self, rate: str) -> None:
        self.names = ("autorec-a", "autorec-b")
        self.addresses = tuple(f"10.99.7.{i}:{PORTS[i - 1]}" for i in (1, 2))
        self.close()
        for name in self.names:
            run("ip netns add", name)
        run("ip link add veth-a netns autorec-a type veth peer name veth-b netns autorec-b")
        for i, name in enumerate(self.names, 1):
            device = f"veth-{name[-1]}"
            run(f"ip -n {name} addr add 10.99.7.{i}/24 dev {device}")
            for up in ("lo", device):
                run(f"ip -n {name} link set {up} up")
            run(f"tc -n {name} qdisc add dev {device} root tbf rate {rate} burst 128kb "
                "latency 50ms")

    def command(self, index: int) -> list[str]:
        """Return the first arguments of a worker's command."""
        return ["ip", "netns", "exec", self.names[index]]

    def sent(self) -> int:
        """Return the bytes that worker 0 has sent so far."""
        return sent_bytes("veth-a", self.command(0))

    def close(self) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)


class Loopback:
    """Two processes on this machine; each sends the bytes that the other receives."""

    addresses = tuple(f"127.0.0.1:{port}" for port in PORTS)

    def command(self, index: int) -> list[str]:
        return []

    def sent(self) -> int:
        return sent_bytes("lo", []) // 2

    def close(self) -> None:
        pass


def run(*command: str) -> None:
    done = subprocess.run(" ".join(command).split(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")


def sent_bytes(device: str, command: Sequence[str]) -> int:
    text = subprocess.run([*command, "cat", "/proc/net/dev"], capture_output=True, text=True,
                          check=True).stdout
    line = next(line for line in text.splitlines() if line.strip().startswith(f"{device}:"))
    return int(line.split(":")[1].split()[8])


def measure(
    flags: Sequence[str], epochs: int, threads: int, network: Link | Loopback | None = None
) -> Measured:
    """Run main.py with `flags` as one process, or as two workers connected by a `network`."""
    workers = 2 if network else 1
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        command = [
            sys.executable, str(MAIN), *flags, "--comet", "off", "--train_epoch", str(epochs),
            "--results_dir", folder, "--run_name", "run", "--ranked_users", "1000",
        ]
        processes = []
        for index in range(workers):
            settings = {"TF_NUM_INTRAOP_THREADS": str(threads)}
            before: list[str] = []
            if network:
                cluster = {"worker": network.addresses}
                task = {"cluster": cluster, "task": {"type": "worker", "index": index}}
                settings["TF_CONFIG"] = json.dumps(task)
                before = network.command(index)
            processor = str(index) if threads == 1 else "0,1"
            processes.append(stack.enter_context(subprocess.Popen(
                [*before, "taskset", "-c", processor, *command,
                 *(["--distribute", "workers"] if network else [])],
                env=os.environ | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                text=True,
            )))
        metrics = Path(folder) / "run" / "metrics.csv"
        sent, ends = watch(processes, metrics, network.sent if network else lambda: 0)
        texts = [process.stdout.read() for process in processes if process.stdout]
        if any(code for code, _ in ends):
            raise UserError("\n".join(texts))
        with open(metrics, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        rows_a_step = json.loads((Path(folder) / "run" / "config.json").read_text("utf-8"))
    epoch_bytes = sent / (len(rows) - 1)
    return Measured(
        min(float(row["epoch_seconds"]) for row in rows[1:]), float(rows[-1]["test_rmse"]),
        max(usage.ru_maxrss for _, usage in ends) / 1e6, epoch_bytes,
        epoch_bytes / -(-rows_a_step["num_items"] // BATCH_SIZE),
    )


def watch(
    processes: Sequence[Any], metrics: Path, sent: Callable[[], int]
) -> tuple[int, list[tuple[int, Any]]]:
    """Wait for all processes. Return the bytes sent from the end of the first epoch to the end of
    the last, and the exit code and resource usage of each process."""
    counts: list[tuple[int, int]] = []  # epochs done, bytes sent
    ends: dict[int, tuple[int, Any]] = {}
    while len(ends) < len(processes):
        done = metrics.read_text("utf-8").count("\n") - 1 if metrics.exists() else 0
        if done > 0 and done != (counts[-1][0] if counts else 0):
            counts.append((done, sent()))
        for process in processes:
            if process.pid not in ends and (end := os.wait4(process.pid, os.WNOHANG))[0]:
                ends[process.pid] = end[1:]
        time.sleep(0.01)
    between = counts[-1][1] - counts[0][1] if counts else 0
    return between, [ends[process.pid] for process in processes]


def data_flags(size: str, path: Path) -> list[str]:
    """Return the flags of the ratings of one size, which are written to `path` unless they are
    MovieLens-1M's."""
    if size == "ml-1m":
        return ["--dataset", "ml-1m"]
    write_ratings(path, *SIZES[size])
    return ["--dataset", str(path), "--columns", "1,2,3,4", "--cold_rating", "paper"]


def measure_single(size: str, flags: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the figures of the preset `single` at one size in a flat mapping, and rows of them."""
    figures: dict[str, Any] = {}
    rows, name = [], size.replace("-", "")
    for run, label, threads, network in (
        ("process", "one process, two threads", 2, None),
        ("workers", "two workers of one thread", 1, Loopback()),
    ):
        each = measure([*flags, *SINGLE], SINGLE_EPOCHS[size], threads, network)
        rows.append(tables.line(size, label, f"{each.epoch:.2f}", f"{each.rmse:.5f}",
                                f"{each.peak_gb:.2f}", f"{each.epoch_bytes / 1e6:.2f}"))
        measured = {"iteration_s": each.epoch, "peak_gb": each.peak_gb, "rmse": each.rmse,
                    "iteration_bytes": each.epoch_bytes}
        figures |= {f"{name}_single_{run}_{what}": float(f"{value:.4g}")
                    for what, value in measured.items()}
    return figures, rows


def measure_size(size: str, flags: Sequence[str], networks: Sequence[str]) -> dict[str, Any]:
    """Return the figures of one size in a flat mapping, and print its rows."""
    runs: dict[str, Measured] = {}

    def add(name: str, label: str, threads: int, network: Link | Loopback | None) -> None:
        try:
            runs[name] = measure([*flags, *BY_BATCHES], EPOCHS[size], threads, network)
        finally:
            if network:
                network.close()
        each = runs[name]
        print(tables.line(size, label, f"{each.epoch:.2f}", f"{each.rmse:.5f}",
                          f"{each.peak_gb:.2f}", f"{each.step_bytes / 1e6:.2f}"), flush=True)

    add("process", "one process, two threads", 2, None)
    add("workers", "two workers of one thread", 1, Loopback())
    add("thread", "one process, one thread", 1, None)
    for name in networks:
        try:
            link = Link(NETWORKS[name])
        except OSError as error:
            print(f"Cannot make a link of {NETWORKS[name]}: {error}", flush=True)
            continue
        add(name, f"two workers, {NETWORKS[name].replace('gbit', ' Gbit/s')}", 1, link)
    return figures_of(size.replace("-", ""), runs)


def figures_of(size: str, runs: dict[str, Measured]) -> dict[str, Any]:
    one, two, thread = runs["process"], runs["workers"], runs["thread"]
    figures = {
        f"{size}_workers_over_process": two.epoch / one.epoch,
        f"{size}_workers_speedup_over_one_thread": thread.epoch / two.epoch,
        f"{size}_memory_share": (two.peak_gb - TENSORFLOW_GB) / (thread.peak_gb - TENSORFLOW_GB),
        f"{size}_rmse_difference": abs(two.rmse - one.rmse),
    }
    for name in NETWORKS:
        if name in runs:
            figures[f"{size}_{name}_over_loopback"] = runs[name].epoch / two.epoch
    for name, each in runs.items():
        figures |= {f"{size}_{name}_epoch_s": each.epoch, f"{size}_{name}_peak_gb": each.peak_gb}
    figures[f"{size}_step_bytes"] = two.step_bytes
    return {name: float(f"{value:.4g}") for name, value in figures.items()}


def on_paper(figures: dict[str, Any], size: str) -> str:
    """Return a table of epoch seconds on more machines, by the formula in docs/distributed.md: one
    thread's epoch, divided, plus the time of each step's all-reduces in a ring at a link's rate."""
    steps = -(-SIZES[size][1] // BATCH_SIZE)
    one = figures[f"{size.replace('-', '')}_thread_epoch_s"]
    rows = []
    for machines in (1, 2, 4, 8, 16):
        cells = []
        for gbit in (1, 10, 25):
            ring = 2 * (machines - 1) / machines * 4 * BATCH_SIZE * HIDDEN
            # One of the three sums belongs to the evaluation, which encodes each test row again.
            sending = 3 * steps * (ring / (gbit * 1e9 / 8) + 2 * (machines - 1) * LATENCY)
            cells.append(f"{one / machines + (sending if machines > 1 else 0):.2f}")
        rows.append([machines, *cells])
    return tables.table(["machines", "1 Gbit/s", "10 Gbit/s", "25 Gbit/s"], rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="workers", description=__doc__.split("\n")[0])
    parser.add_argument("--sizes", nargs="+", choices=tuple(EPOCHS), default=["ml-1m"])
    parser.add_argument("--networks", nargs="*", choices=tuple(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--single", action="store_true", help="also measure the preset single")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    arguments = parser.parse_args()
    check_writable(arguments.json)
    if len(os.sched_getaffinity(0)) < 2:
        raise UserError("two workers need two processors, but this process may use only one")
    print(tables.head("ratings", "trained by", "epoch (s)", "test RMSE", "peak GB",
                      "MB sent per step"))
    figures, single_rows = dict[str, Any](), list[str]()
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as folder:
            flags = data_flags(size, Path(folder) / "ratings.dat")
            figures |= measure_size(size, flags, arguments.networks)
            if arguments.single:
                of_single, rows = measure_single(size, flags)
                figures |= of_single
                single_rows += rows
    if single_rows:
        head = tables.head("ratings", "`single` trained by", "iteration (s)", "test RMSE",
                           "peak GB", "MB sent per iteration")
        print("", head, *single_rows, sep="\n")
    for size in arguments.sizes:
        print(f"\nCalculated seconds per epoch at {size}'s size:\n")
        print(on_paper(figures, size))
    if arguments.json:
        for name in ("gbit1", "gbit10"):
            for size in ("ml20m", "ml1m"):
                if f"{size}_{name}_over_loopback" in figures:
                    figures.setdefault(f"{name}_over_loopback",
                                       figures[f"{size}_{name}_over_loopback"])
        write_json(arguments.json, figures)


if __name__ == "__main__":
    sys.exit(run_program("workers", main))
