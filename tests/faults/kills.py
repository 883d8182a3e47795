"""SIGKILL at random moments of every kind of run, again and again until it has ended.

    python -m tests.faults.kills                # about half an hour on two cores

A run is killed up to `CHAIN` times, each time at a random moment: the command that resumes it is
killed too. Then it is resumed to its end. All of its kills have survived if that run has the
metrics, parameters and records of an uninterrupted run, and no partial files. The processes are
forks of one that has imported TensorFlow, so that most kills come while files are written.
"""

import argparse
import csv
import json
import math
import os
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from autorec_tf.system.errors import run_program
from tests.faults.deaths import MAIN, TIMES, Workspace, environment
from tests.faults.fault import Fault
from tests.forks import Fork

KILLS, CHAIN = 300, 5
FLAGS = "--data_dir ../data --comet off --run_name run --hidden_neuron 20 --checkpoint_every 1"
KINDS = {
    "a run": "--train_epoch 8 --batch_size 50",
    "a run over splits": "--train_epoch 3 --num_splits 2",
    "a run over folds": "--train_epoch 3 --num_folds 2",
    "a run that tunes": "--train_epoch 3 --tune lambda_value",
    "a run of --preset single": "--preset single --train_epoch 4",
    "a blend": "--members item user_one_hot --train_epoch 3",
    "a run with pre-training": "--hidden_neuron 20 10 20 --pretrain_epoch 4 --train_epoch 4",
    "two workers": "--train_epoch 5 --distribute workers",
}
# Of summary.json and config.json: what differs between two runs with the same result.
DIFFERENT = ("seconds", "peak_memory_mb", "comet_experiment")


class Killed:
    """The runs of one kind, in two folders of a workspace."""

    def __init__(self, workspace: Path, kind: str) -> None:
        self.path, self.kind, self.problems = workspace, kind, list[str]()
        self.seconds = self.kill("uninterrupted", math.inf)
        if self.problems:
            raise RuntimeError(f"{kind}: the uninterrupted run failed: {self.problems}")

    def start(self, folder: str) -> list[Any]:
        """Start, resume or repeat the run in `folder`, with all of its workers."""
        cwd = self.path / folder
        cwd.mkdir(exist_ok=True)
        flags = f"{FLAGS} {KINDS[self.kind]}"
        is_repeated = "num_" in flags
        if (cwd / "results" / "run" / "config.json").exists() and not is_repeated:
            flags = "--resume results/run --data_dir ../data"
            flags += " --distribute workers" if self.kind == "two workers" else ""
        if self.kind != "two workers":
            return [Fork([MAIN, *flags.split()], cwd, environment())]
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
        workers = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
        for each in sockets:
            each.close()
        clusters = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
                    for index in range(2)]
        return [Fork([MAIN, *flags.split()], cwd, environment() | {
            "TF_CONFIG": json.dumps(cluster), "TF_NUM_INTRAOP_THREADS": "1"})
            for cluster in clusters]

    def run(self, folder: str) -> int:
        """Run to the end. Return the exit code, and note the messages of an error."""
        processes = self.start(folder)
        errors = [process.communicate()[1] for process in processes]
        code = max((process.returncode for process in processes), key=abs)
        if code:
            self.problems += errors
        return code

    def kill(self, folder: str, moment: float) -> float:
        """Run until the (first) process has used `moment` seconds of processor time. Return the
        seconds that it has used if it ended first, else 0."""
        processes, seconds, has_ended = self.start(folder), 0.0, False
        while not has_ended and seconds < moment:
            time.sleep(0.002)
            seconds = processor_seconds(processes[0].pid) or seconds
            has_ended = isinstance(processes[0].poll(), int)
        for process in [] if has_ended else processes:
            with suppress(ProcessLookupError):  # it has just ended
                process.kill()
        errors = [process.communicate()[1] for process in processes]
        if any("Traceback" in error for error in errors) or processes[0].returncode not in (0, -9):
            self.problems += errors
        return seconds if has_ended else 0.0

    def is_finished(self) -> bool:
        summary = self.path / "cut" / "results" / "run" / "summary.json"
        return summary.exists() and '"status": "finished"' in summary.read_text("utf-8")

    def chain(self, chance: random.Random, limit: int) -> tuple[int, bool]:
        """Kill a run up to `limit` times. Return how often, and whether its end is the same."""
        shutil.rmtree(self.path / "cut", ignore_errors=True)
        self.problems, kills = [], 0
        while kills < limit:
            if self.is_finished() or self.kill("cut", chance.uniform(0, self.seconds)):
                break
            kills += 1
        code = 0 if self.is_finished() else self.run("cut")
        ours, theirs = (content(self.path / name / "results" / "run")
                        for name in ("cut", "uninterrupted"))
        self.problems += [f"{name} differs" for name in sorted(ours.keys() | theirs.keys())
                          if ours.get(name) != theirs.get(name)]
        return kills, not code and not self.problems


def processor_seconds(process: int) -> float:
    """Return the processor time of a process, or 0 if it has ended."""
    try:
        content = Path(f"/proc/{process}/stat").read_text("utf-8")
    except OSError:
        return 0.0
    return sum(map(int, content.rpartition(")")[2].split()[11:13])) / os.sysconf("SC_CLK_TCK")


def content(folder: Path) -> dict[str, Any]:
    """Return the content of every file that has the same bytes in each run, and of the tables and
    settings without times; the other files by name only."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        found[name] = ""
        if path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                found[name] = [{key: value for key, value in row.items()
                                if key not in (*TIMES, *DIFFERENT)}
                               for row in csv.DictReader(file)]
        elif path.name in ("summary.json", "config.json"):
            found[name] = same(json.loads(path.read_text("utf-8")))
        elif path.name.startswith("parameters.data") or path.name.endswith("_record.txt"):
            found[name] = path.read_bytes()
    found.pop(".lock", None)
    return found


def same(record: Any) -> Any:
    """Return a record, with those that it contains, without its `DIFFERENT` keys."""
    if isinstance(record, list):
        return [same(each) for each in record]
    if not isinstance(record, dict):
        return record
    return {key: same(value) for key, value in record.items() if not key.startswith(DIFFERENT)}


def rows(kills: int = KILLS, kinds: tuple[str, ...] = tuple(KINDS), seed: int = 0,
         ) -> Iterator[Fault]:
    """Yield one row per kind of run, each with its part of the kills."""
    chance = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        Workspace(Path(folder)).make_data()
        for number, kind in enumerate(kinds):
            path = Path(folder) / str(number)
            path.mkdir()
            (path / "data").symlink_to(Path(folder) / "data")
            runs, tried, survived, message = Killed(path, kind), 0, 0, "resumed to the last bit"
            least = kills * (number + 1) // len(kinds) - kills * number // len(kinds)
            while tried < least:
                count, is_same = runs.chain(chance, min(CHAIN, least - tried))
                tried, survived = tried + count, survived + count * is_same
                if not is_same:
                    message = "; ".join(runs.problems)
                    print(kind, count, message, file=sys.stderr, flush=True)
            yield Fault(f"SIGKILL of {kind}, at random moments", tried, survived, tried - survived,
                        message)


def main() -> None:
    parser = argparse.ArgumentParser(prog="kills", description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=tuple(KINDS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for fault in rows(arguments.kills, tuple(arguments.kinds), arguments.seed):
        print(json.dumps(asdict(fault)), flush=True)


if __name__ == "__main__":
    sys.exit(run_program("kills", main))
