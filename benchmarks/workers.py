"""What a second worker is worth on one machine: MovieLens-1M by one process, and by two.

    python -m benchmarks.workers --json benchmarks/results/workers/workers.json

Runs the real program with --distribute workers, two processes that talk over loopback, and without
it, one process with all processors; each worker gets its share of them. No network is faster than
loopback, so this is the best case for what is sent. An epoch's time is that of training and its
evaluation, the shortest of those after the first.
"""

import argparse
import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from system.errors import UserError, run_program
from system.files import write_json
from system.runtime import num_threads

MAIN = Path(__file__).resolve().parents[1] / "main.py"
EPOCHS = 12


def main() -> None:
    parser = argparse.ArgumentParser(prog="workers", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    arguments = parser.parse_args()
    if num_threads() < 2:
        raise UserError("two workers on this machine need two processors")
    figures: dict[str, Any] = {"threads": num_threads()}
    print("| MovieLens-1M, k = 500 | epoch (s) | test RMSE |\n| --- | --- | --- |")
    for name, engine, workers in (
        ("sparse", "sparse", 1), ("dense", "dense", 1), ("dense_two_workers", "dense", 2)
    ):
        seconds, rmse = measure(engine, workers)
        figures |= {f"{name}_epoch_s": round(seconds, 3), f"{name}_rmse": round(rmse, 6)}
        print(f"| {name.replace('_', ', ', 1).replace('_', ' ')} | {seconds:.2f} | {rmse:.5f} |")
    for name in ("dense", "sparse"):
        ratio = round(figures["dense_two_workers_epoch_s"] / figures[f"{name}_epoch_s"], 2)
        figures[f"two_workers_over_{name}"] = ratio
        print(f"Two workers take {ratio:.2f} times as long as one {name} process.")
    if arguments.json:
        write_json(arguments.json, figures)


def measure(engine: str, workers: int) -> tuple[float, float]:
    """The shortest epoch's seconds, and the test RMSE after the last."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(workers)]
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable, str(MAIN), "--dataset", "ml-1m", "--engine", engine, "--comet", "off",
            "--train_epoch", str(EPOCHS), "--results_dir", folder, "--run_name", "run",
        ]
        if workers > 1:
            command += ["--distribute", "workers"]
        processes = []
        for index in range(workers):
            task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
            threads = str(num_threads() // workers)
            settings = {"TF_CONFIG": json.dumps(task), "TF_NUM_INTRAOP_THREADS": threads}
            processes.append(
                subprocess.Popen(
                    command, env=os.environ | settings, stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT, text=True,
                )
            )
        texts = [process.communicate()[0] for process in processes]
        if any(process.returncode for process in processes):
            raise UserError("\n".join(texts))
        with open(Path(folder) / "run" / "metrics.csv", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    return min(float(row["epoch_seconds"]) for row in rows[1:]), float(rows[-1]["test_rmse"])


def free_ports(number: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


if __name__ == "__main__":
    sys.exit(run_program("workers", main))
