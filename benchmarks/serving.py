"""Latency of the example service, and predictions of many pairs, for MovieLens-1M and k = 500.

    python -m benchmarks.serving                       # under three minutes
    python -m benchmarks.serving --model model.npz     # of a saved model, without training
    python -m benchmarks.serving --json benchmarks/results/serving/serving.json

Prints the tables in docs/serving.md. The default model is trained for one epoch: its answers are
poor, and take the same time. The service (examples/serve.py) and the client run on this machine.
The client sends requests at a fixed rate, whether the answers arrive or not. The latency of a
request is measured from the moment at which it was due, so it includes all waiting.
"""

import argparse
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.records import tables
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.files import write_json
from benchmarks.figures_file import check_writable

ROOT = Path(__file__).parents[1]
RATE, SECONDS = 20, 10.0  # of the table
RATES = [round(RATE * 2 ** (i / 2)) for i in range(17)]  # that are tried, each for a time
STEP_SECONDS, LIMIT_MS = 2.0, 50.0
CLIENTS = 16  # connections
PAIRS, FOLDS = 1_000_000, 10
REQUESTS = {
    "predict": "`/predict`, 100 pairs",
    "recommend": "`/recommend`, 10 items for a user",
    "ratings": "`/recommend`, 10 items from 10 ratings",
}
PROCESSES = {"python": "Python, `load` and `predict`", "saved_model": "SavedModel, `predict`"}

TRAINING = """
import sys, warnings
from autorec_tf import AutoRecWarning, train
warnings.simplefilter("ignore", AutoRecWarning)
train("ml-1m", hidden_neuron=500, train_epoch=1, progress=False).save(sys.argv[1])
"""
EXPORTING = """
import sys
from pathlib import Path
from autorec_tf import load
from autorec_tf.serving.saved_model import save
save(load(sys.argv[1]).recommender, Path(sys.argv[2]))
"""
PYTHON = """
import sys, time
started = time.perf_counter()
from autorec_tf import load
model = load(sys.argv[1])
answer = lambda users, items: model.predict(users, items)
"""
SAVED_MODEL = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
started = time.perf_counter()
import tensorflow as tf
model = tf.saved_model.load(sys.argv[1]).signatures["predict"]
def answer(users, items):
    return model(user=tf.constant(users), item=tf.constant(items))["rating"].numpy()
"""
MEASURING = """
import json
from pathlib import Path
import numpy as np
def megabytes(name):
    return int(Path("/proc/self/status").read_text().split(name + ":")[1].split()[0]) * 1024 / 1e6
with np.load(sys.argv[2]) as ids:
    users, items = ids["users"], ids["items"]
answer(users[:1], items[:1])
first, cpu = time.perf_counter() - started, time.process_time()
Path("/proc/self/clear_refs").write_text("5")  # the peak so far
before, started = megabytes("VmRSS"), time.perf_counter()
answer(users, items)
print(json.dumps({"first_s": first, "first_cpu_s": cpu, "s": time.perf_counter() - started,
                  "mb": megabytes("VmHWM") - before}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(prog="serving", description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, metavar="FILE",
                        help="a saved model of MovieLens-1M (default: one epoch is trained)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    given = parser.parse_args()
    check_writable(given.json)
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or Path(folder) / "model.npz"
        if not given.model:
            run_python(TRAINING, model)
        figures = latencies(model) | many_pairs(model, Path(folder))
    print(printed(figures))
    if given.json:
        write_json(given.json, figures)


def run_python(code: str, *arguments: object) -> str:
    """Return the output of Python in a separate process. Raise UserError if it fails."""
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT,
                          env=environment(), capture_output=True, text=True)
    if done.returncode:
        raise UserError(done.stderr.strip().splitlines()[-1])
    return done.stdout


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(ROOT)}


def latencies(model: Path) -> dict[str, float]:
    """Return the figures of the service."""
    figures: dict[str, float] = {}
    bodies = requests(model)
    with running(model) as address:
        for name, (path, contents) in bodies.items():
            send(address, path, contents, RATE, 2.0)  # the first answers take longer
            taken = send(address, path, contents, RATE, SECONDS)
            figures |= {f"{name}_p50_ms": float(np.median(taken)), f"{name}_p99_ms": p99(taken)}
            figures[f"{name}_rate"] = highest_rate(address, path, contents)
        path, contents = "/fold_in", fold_ins(model)
        taken = send(address, path, contents, 1, FOLDS)
        figures["fold_in_p50_ms"] = float(np.median(taken))
    return figures


def requests(model: Path) -> dict[str, tuple[str, list[bytes]]]:
    """Return the path and some contents of each of `REQUESTS`."""
    users, items = ids_of(model)
    rng = np.random.default_rng(0)

    def some(ids: np.ndarray, number: int) -> list:
        return rng.choice(ids, number, replace=False).tolist()

    contents: dict[str, tuple[str, list[dict[str, Any]]]] = {
        "predict": ("/predict", [{"users": some(users, 100), "items": some(items, 100)}
                                 for _ in range(200)]),
        "recommend": ("/recommend", [{"users": some(users, 1), "n": 10} for _ in range(200)]),
        "ratings": ("/recommend", [{"n": 10, "ratings": [
            {"item": item, "rating": int(rng.integers(1, 6))} for item in some(items, 10)
        ]} for _ in range(200)]),
    }
    return {name: (path, [json.dumps(each).encode() for each in bodies])
            for name, (path, bodies) in contents.items()}


def fold_ins(model: Path) -> list[bytes]:
    """Return requests that fold in 10 ratings of a new user each."""
    users, items = ids_of(model)
    rng = np.random.default_rng(1)
    return [json.dumps({"ratings": [
        {"user": int(users.max()) + 1 + user, "item": item, "rating": int(rng.integers(1, 6))}
        for item in rng.choice(items, 10, replace=False).tolist()
    ]}).encode() for user in range(FOLDS)]


def ids_of(model: Path) -> tuple[np.ndarray, np.ndarray]:
    with np.load(model) as file:
        return file["user_ids"], file["item_ids"]


@contextmanager
def running(model: Path) -> Iterator[tuple[str, int]]:
    """Start the service and yield its address."""
    process = subprocess.Popen(
        [sys.executable, "examples/serve.py", str(model.resolve()), "--port", "0"], cwd=ROOT,
        env=environment(), stdout=subprocess.PIPE, text=True,
    )
    try:
        assert process.stdout
        host, port = process.stdout.readline().rsplit("/", 1)[1].split(":")
        yield host, int(port)
    finally:
        process.terminate()
        process.wait()


def send(address: tuple[str, int], path: str, contents: list[bytes], rate: float,
         seconds: float) -> np.ndarray:
    """Send requests at `rate` a second, and return the latency of each, in milliseconds."""
    due = time.perf_counter() + 0.1 + np.arange(round(rate * seconds)) / rate
    taken, numbers, lock = np.zeros(len(due)), iter(range(len(due))), threading.Lock()
    refused: list[bytes] = []

    def work() -> None:
        connection = http.client.HTTPConnection(*address, timeout=60)
        while True:
            with lock:
                number = next(numbers, -1)
            if number < 0:
                return connection.close()
            time.sleep(max(0.0, due[number] - time.perf_counter()))
            connection.request("POST", path, contents[number % len(contents)])
            answer = connection.getresponse()
            content = answer.read()
            taken[number] = 1000 * (time.perf_counter() - due[number])
            if answer.status != 200:
                refused.append(content)

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if refused:
        raise UserError(f"{path}: {len(refused):,} requests failed, first {refused[0].decode()}")
    return taken


def p99(taken: np.ndarray) -> float:
    return float(np.quantile(taken, 0.99, method="higher"))


def highest_rate(address: tuple[str, int], path: str, contents: list[bytes]) -> int:
    """Return the highest of the `RATES` up to which 99 % of the answers take less than `LIMIT_MS`,
    or 0. A rate is too high if it fails twice, because something else may disturb one attempt."""
    highest = 0
    for rate in RATES:
        attempts = (p99(send(address, path, contents, rate, STEP_SECONDS)) for _ in range(2))
        if all(p99_ms >= LIMIT_MS for p99_ms in attempts):
            break
        highest = rate
    return highest


def many_pairs(model: Path, folder: Path) -> dict[str, float]:
    """Return the figures of many pairs, each measured in a separate process."""
    users, items = ids_of(model)
    rng = np.random.default_rng(0)
    np.savez(folder / "ids.npz", users=rng.choice(users, PAIRS), items=rng.choice(items, PAIRS))
    run_python(EXPORTING, model.resolve(), folder / "saved")
    figures = {}
    for name, code, path in (("python", PYTHON, model.resolve()),
                             ("saved_model", SAVED_MODEL, folder / "saved")):
        measured = json.loads(run_python(code + MEASURING, path, folder / "ids.npz"))
        figures |= {f"{name}_{key}": value for key, value in measured.items()}
    return figures


def printed(figures: dict[str, float]) -> str:
    """Return the tables, as Markdown."""
    return f"{service_table(figures)}\n\n{pairs_table(figures)}"


def service_table(figures: dict[str, float]) -> str:
    """Return the table of the service, as Markdown."""
    rows = [[label, f"{figures[f'{name}_p50_ms']:.0f} ms", f"{figures[f'{name}_p99_ms']:.0f} ms",
             figures[f"{name}_rate"] or "–"] for name, label in REQUESTS.items()]
    rows.append(["`/fold_in`, 10 ratings of a new user", f"{figures['fold_in_p50_ms']:.0f} ms", "",
                 ""])
    return tables.table(["request", "median", f"99 % take less, at {RATE} a second",
                         f"highest rate with 99 % below {LIMIT_MS:.0f} ms"], rows)


def pairs_table(figures: dict[str, float]) -> str:
    """Return the table of many pairs, as Markdown."""
    rows = [[label, f"{figures[f'{name}_first_cpu_s']:.1f} s", f"{figures[f'{name}_s']:.1f} s",
             f"{figures[f'{name}_mb']:.0f} MB"] for name, label in PROCESSES.items()]
    return tables.table(["a new process", "processor time to the first answer",
                         f"{PAIRS:,} pairs", "memory for them"], rows)


if __name__ == "__main__":
    sys.exit(run_program("serving", main))
