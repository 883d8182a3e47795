"""Faults of Comet while `python main.py` trains on the real MovieLens-1M.

    python -m tests.faults.comet
    python -m tests.faults.comet --rounds 5 --epochs 100

A backend on loopback refuses the key, hangs, answers 500, dies in the middle, or is missing. A run
has survived if it ends with exit code 0, one warning and a readable archive with every value of
metrics.csv. Training time, the sum of epoch_seconds in metrics.csv, is compared with `--comet off`
by the medians of alternating runs; this needs an otherwise idle machine. Every run has an API key
in a `.env` file. The key must not appear in its output or its files.
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
BACKENDS = {  # the value of --comet, and the backend; the first one is the reference
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
    """The outcome of a run with one backend."""

    exit_code: int
    warnings: list[str]
    archived: int | None  # epochs that are complete in comet.zip; None without it
    epochs: int  # epochs in metrics.csv
    leaks: list[str]  # places that contain the key
    training_seconds: float
    seconds: float

    @property
    def survived(self) -> bool:
        one_warning = len(self.warnings) == 1
        return self.exit_code == 0 and one_warning and self.archived == self.epochs > 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="comet", description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=40)
    arguments = parser.parse_args()
    for row in rows(arguments.rounds, arguments.epochs):
        print(json.dumps(asdict(row)), flush=True)


def ratings_folder() -> Path:
    """Return the folder of MovieLens-1M. Raise UserError if ratings.dat is not in it."""
    data = Path(os.environ.get(DATA_DIR_VARIABLE) or ROOT / "ml-1m").resolve()
    if not (data / "ratings.dat").is_file():
        raise UserError(f"{data} contains no ratings.dat. Set {DATA_DIR_VARIABLE} to the folder "
                        "of MovieLens-1M.")
    return data


def rows(rounds: int = 3, epochs: int = 40) -> Iterator[Fault]:
    """Yield one row per fault and one for the key. Raise UserError without MovieLens-1M."""
    data = ratings_folder()
    outcomes = {name: [] for name in BACKENDS}
    names = list(BACKENDS)
    for _ in range(rounds):
        for name in names:
            outcomes[name].append(run(name, data, epochs))
        names = names[3:] + names[:3]  # so that no backend is always the first
    for name in FAULTS:
        yield fault_row(name, outcomes[name], outcomes["off"])
    yield key_row([outcome for some in outcomes.values() for outcome in some])


def fault_row(name: str, outcomes: list[Outcome], off: list[Outcome]) -> Fault:
    training, usual = (median(one.training_seconds for one in some) for some in (outcomes, off))
    more = median(one.seconds for one in outcomes) - median(one.seconds for one in off)
    warning = outcomes[-1].warnings[:1] or ["nothing"]
    return Fault(
        fault=f"Comet: {name}",
        tried=len(outcomes),
        survived=sum(outcome.survived for outcome in outcomes),
        lost=sum(outcome.epochs - (outcome.archived or 0) for outcome in outcomes),
        message=f"{warning[0]} [training time x{training / usual:.3f} of --comet off, "
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
    """Train in a separate process with the backend called `name`."""
    mode, mood = BACKENDS[name]
    with tempfile.TemporaryDirectory() as folder, CometServer(*mood or ("ok",)) as server:
        home, cwd = Path(folder) / "home", Path(folder) / "cwd"
        for new in (home, cwd):
            new.mkdir()
        url = server.url if mood else "http://127.0.0.1:9/clientlib/"  # a closed port
        (cwd / ".env").write_text(f"COMET_API_KEY={KEY}\nCOMET_URL_OVERRIDE={url}\n")
        command = [
            sys.executable, ROOT / "main.py", "--comet", mode, "--data_dir", data,
            "--train_epoch", epochs, "--display_step", max(1, epochs // 5),
            "--results_dir", home, "--run_name", "run",
        ]
        others = {k: v for k, v in os.environ.items() if not k.startswith(("COMET", "AUTOREC"))}
        started = time.perf_counter()
        done = subprocess.run(
            list(map(str, command)),
            cwd=cwd,
            env=others | {"HOME": str(home), "TMPDIR": str(home)},
            capture_output=True,
            text=True,
        )
        seconds = time.perf_counter() - started
        metrics = read_metrics(home / "run" / "metrics.csv")
        output = done.stdout + done.stderr
        return Outcome(
            exit_code=done.returncode,
            warnings=[
                line.replace(f"{home}/", "") for line in output.splitlines() if "warning" in line
            ],
            archived=archived_epochs(home / "run" / "comet.zip", metrics),
            epochs=len(metrics),
            leaks=[*(["the output"] if KEY in output else []), *leaking_files(home)],
            training_seconds=sum(epoch["epoch_seconds"] for epoch in metrics.values()),
            seconds=seconds,
        )


def read_metrics(path: Path) -> dict[int, dict[str, float]]:
    """Return a mapping from epoch to its values by name."""
    if not path.exists():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(file)]
    return {int(row["epoch"]): row for row in rows}


def archived_epochs(path: Path, metrics: dict[int, dict[str, float]]) -> int | None:
    """Return the number of epochs that the archive at `path` contains with every value."""
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
    """Return the files under `folder`, and in its archives, that contain the key."""
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
