"""Comet at fault, while `python main.py` trains on the real MovieLens-1M.

    python -m tests.faults.comet
    python -m tests.faults.comet --rounds 5 --epochs 100

A backend on loopback refuses the key, hangs, answers 500 or dies in the middle, or there is none.
A run has survived if it ends with exit code 0, one warning and an archive that opens and holds
every value of metrics.csv. Training time, the sum of metrics.csv's epoch_seconds, is compared with
that of `--comet off`, by medians of alternating runs; that needs a machine that does nothing else.
Every run has an API key, in a `.env` file, which must be in nothing that it prints or leaves.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from autorec_tf.config import DATA_DIR_VARIABLE
from autorec_tf.records.comet import CURVES
from autorec_tf.system.errors import UserError, run_program
from tests.faults.comet_server import CometServer
from tests.faults.fault import Fault

ROOT = Path(__file__).resolve().parents[2]
KEY = "aB3dEf6hIj9kLm2nOp5qRs8tU"
BACKENDS = {  # what main.py is told, and the backend that it meets; the first is the yardstick
    "off": ("off", None),
    "healthy": ("online", ("ok",)),
    "offline": ("offline", None),
    "no network": ("online", None),
    "wrong key": ("online", ("reject",)),
    "server hangs": ("online", ("hang",)),
    "server answers 500": ("online", ("error",)),
    "server dies in the middle": ("online", ("drop", "health/ping", 3)),
}
FAULTS = list(BACKENDS)[3:]


@dataclass
class Outcome:
    """What a run did under one backend."""

    exit_code: int
    warnings: list[str]
    archived: int | None  # epochs that comet.zip holds whole; None without it
    epochs: int  # epochs that metrics.csv holds
    leaks: list[str]  # where the key was found
    training_seconds: float
    seconds: float

    @property
    def survived(self) -> bool:
        told_once = len(self.warnings) == 1
        return self.exit_code == 0 and told_once and self.archived == self.epochs > 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="comet", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    for row in rows(arguments.rounds, arguments.epochs):
        print(json.dumps(asdict(row)), flush=True)


def ratings_folder() -> Path:
    """MovieLens-1M's. Raises UserError if it is not there."""
    data = Path(os.environ.get(DATA_DIR_VARIABLE) or ROOT / "ml-1m").resolve()
    if not (data / "ratings.dat").is_file():
        raise UserError(f"no ratings.dat in {data}: name MovieLens-1M's folder in "
                        f"{DATA_DIR_VARIABLE}")
    return data


def rows(rounds: int = 3, epochs: int = 40) -> Iterator[Fault]:
    """One row a fault, and one for the key. Raises UserError without MovieLens-1M."""
    data = ratings_folder()
    outcomes = {name: [] for name in BACKENDS}
    names = list(BACKENDS)
    for _ in range(rounds):
        for name in names:
            outcomes[name].append(run(name, data, epochs))
        names = names[3:] + names[:3]  # none is always the first
    for name in FAULTS:
        yield fault_row(name, outcomes[name], outcomes["off"])
    yield key_row([outcome for some in outcomes.values() for outcome in some])


def fault_row(name: str, outcomes: list[Outcome], off: list[Outcome]) -> Fault:
    training, usual = (median(one.training_seconds for one in some) for some in (outcomes, off))
    more = median(one.seconds for one in outcomes) - median(one.seconds for one in off)
    told = outcomes[-1].warnings[:1] or ["nothing"]
    return Fault(
        fault=f"Comet: {name}",
        tried=len(outcomes),
        survived=sum(outcome.survived for outcome in outcomes),
        lost=sum(outcome.epochs - (outcome.archived or 0) for outcome in outcomes),
        message=f"{told[0]} [training time x{training / usual:.3f} of --comet off, "
        f"the whole run {more:+.1f} s]",
    )


def key_row(outcomes: list[Outcome]) -> Fault:
    leaks = [leak for outcome in outcomes for leak in outcome.leaks]
    return Fault(
        fault="Comet: API key in output or files",
        tried=len(outcomes),
        survived=sum(not outcome.leaks for outcome in outcomes),
        lost=len(leaks),
        message=f"found in {leaks[0]}" if leaks else "none",
    )


def run(name: str, data: Path, epochs: int) -> Outcome:
    """Train in a process of its own, under the backend called `name`."""
    mode, mood = BACKENDS[name]
    with tempfile.TemporaryDirectory() as folder, CometServer(*mood or ("ok",)) as server:
        place, here = Path(folder) / "place", Path(folder) / "here"
        for new in (place, here):
            new.mkdir()
        url = server.url if mood else "http://127.0.0.1:9/clientlib/"  # where nobody listens
        (here / ".env").write_text(f"COMET_API_KEY={KEY}\nCOMET_URL_OVERRIDE={url}\n")
        command = [
            sys.executable, ROOT / "main.py", "--comet", mode, "--data_dir", data,
            "--train_epoch", epochs, "--display_step", max(1, epochs // 5),
            "--results_dir", place, "--run_name", "run",
        ]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("COMET", "AUTOREC"))}
        started = time.perf_counter()
        done = subprocess.run(
            list(map(str, command)),
            cwd=here,
            env=kept | {"HOME": str(place), "TMPDIR": str(place)},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        metrics = read_metrics(place / "run" / "metrics.csv")
        output = done.stdout + done.stderr
        return Outcome(
            exit_code=done.returncode,
            warnings=[
                line.replace(f"{place}/", "") for line in output.splitlines() if "warning" in line
            ],
            archived=archived_epochs(place / "run" / "comet.zip", metrics),
            epochs=len(metrics),
            leaks=[*(["the output"] if KEY in output else []), *leaking_files(place)],
            training_seconds=sum(epoch["epoch_seconds"] for epoch in metrics.values()),
            seconds=seconds,
        )


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """Epoch -> its values, by name."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {int(row["epoch"]): row for row in rows}


def archived_epochs(path: Path, metrics: dict[int, dict[str, float]]) -> int | None:
    """How many epochs of metrics.csv the archive at `path` holds, with every value."""
    if not path.exists():
        return None
    with zipfile.ZipFile(path) as archive:
        if archive.testzip():
            return 0
        lines = map(json.loads, archive.read("messages.json").decode().splitlines())
        logged = [line["payload"]["metric"] for line in lines if line["type"] == "metric_msg"]
    found = {(metric["epoch"], metric["metricName"]): metric["metricValue"] for metric in logged}
    return sum(
        all(found.get((epoch, CURVES[name])) == values[name] for name in values.keys() - {"epoch"})
        for epoch, values in metrics.items()
    )


def leaking_files(folder: Path) -> list[str]:
    """The files under `folder`, and in its archives, that hold the key."""
    leaks = []
    for path in filter(Path.is_file, folder.rglob("*")):
        contents = {path.name: path.read_bytes()}
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                contents |= {f"{path.name}/{n}": archive.read(n) for n in archive.namelist()}
        leaks += [name for name, content in contents.items() if KEY.encode() in content]
    return leaks


if __name__ == "__main__":
    sys.exit(run_program("comet", main))
