"""kill -9 of one of two workers, at moments spread over a run, and what becomes of both.

    python -m tests.faults.workers                        # about ten minutes

A run has survived if the other worker ends by itself and says so, or, where the two had not met,
still waits and can be ended; and if the run, gone on with by two workers, ends with the metrics of
one that was left alone, to the last bit, and by one process and by three workers, with the RMSE of
every epoch to 1e-5. One that had not begun is begun again.
"""

import json
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np

from tests.faults.deaths import FLAGS, MAIN, Place, environment, metrics, stage_of
from tests.faults.fault import Fault

KILLS = 10
PATIENCE = 20.0  # seconds that the other worker may take to end
RMSES = ("train_rmse", "test_rmse")


def main() -> None:
    for fault in rows():
        print(json.dumps(asdict(fault)), flush=True)


def rows(kills: int = KILLS) -> Iterator[Fault]:
    """One row a stage of the run's life."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.make_data()
        started = time.perf_counter()
        together(place, 2, "--run_name whole")
        seconds = time.perf_counter() - started
        stages: dict[str, list[bool]] = {}
        message = ""
        for i in range(kills):
            processes = start(place, 2, "--run_name cut")
            time.sleep(seconds * (i + 0.5) / kills)
            processes[i % 2].kill()
            ended, said = end(processes, i % 2)
            message = said or message
            stage = stage_of(place.run_folder("cut"))
            survived = ended and all([goes_on(place, count) for count in (1, 2, 3)])
            stages.setdefault(stage, []).append(survived)
            shutil.rmtree(place.run_folder("cut"), ignore_errors=True)
        for stage, outcomes in stages.items():
            yield Fault(f"SIGKILL of a worker {stage}", len(outcomes), sum(outcomes),
                        outcomes.count(False), message)


def start(place: Place, count: int, flags: str) -> list[subprocess.Popen]:
    """Start `count` workers of one cluster, or one process without any."""
    with ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(count)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]
    settings = "" if "--resume" in flags else FLAGS
    command = [sys.executable, str(MAIN), *settings.split(), *flags.split()]
    if count > 1:
        command += ["--distribute", "workers"]
    processes = []
    for index in range(count):
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        variables = {"TF_CONFIG": json.dumps(cluster), "TF_NUM_INTRAOP_THREADS": "1"}
        processes.append(subprocess.Popen(
            command, cwd=place.path, env=environment() | (variables if count > 1 else {}),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ))
    return processes


def together(place: Place, count: int, flags: str) -> bool:
    """Run `count` workers to their end; return whether all went well."""
    ended = [(process.communicate(), process.returncode)
             for process in start(place, count, flags)]
    return all(code == 0 for _, code in ended)


def end(processes: Sequence[subprocess.Popen], killed: int) -> tuple[bool, str]:
    """Wait for both workers; return whether the other one ended in time, in one line if it was not
    done already, and that line. One that has met nobody waits on, and ends when it is told to."""
    processes[killed].communicate()
    other = processes[1 - killed]
    try:
        error = other.communicate(timeout=PATIENCE)[1]
    except subprocess.TimeoutExpired:
        other.terminate()
        time.sleep(2)
        other.kill()
        other.communicate()
        return other.returncode == 128 + signal.SIGTERM, ""
    told = [line for line in error.splitlines() if line.startswith("main.py: error: ")]
    return other.returncode == 0 or len(told) == 1, "".join(told)


def goes_on(place: Place, count: int) -> bool:
    """Resume a copy of the run that was cut, by `count` workers, or begin it again; return whether
    its metrics are those of the run that was left alone."""
    name = f"again{count}"
    folder, cut = place.run_folder(name), place.run_folder("cut")
    summary = cut / "summary.json"
    if summary.exists() and json.loads(summary.read_text("utf-8"))["status"] == "finished":
        return True
    flags = f"--run_name {name}"
    if (cut / "config.json").exists():
        shutil.copytree(cut, folder)
        flags = f"--resume results/{name} --data_dir data"
    done = together(place, count, flags)
    same = done and is_same(metrics(folder), metrics(place.run_folder("whole")), exactly=count == 2)
    shutil.rmtree(folder, ignore_errors=True)
    return same


def is_same(ours: list[list[str]], theirs: list[list[str]], exactly: bool) -> bool:
    if exactly or len(ours) != len(theirs):
        return ours == theirs
    at = [theirs[0].index(name) for name in RMSES]
    rmses = [[[float(line[i]) for i in at] for line in lines[1:]] for lines in (ours, theirs)]
    return bool(np.allclose(*rmses, rtol=0, atol=1e-5))


if __name__ == "__main__":
    main()
