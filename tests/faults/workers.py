"""SIGKILL of one of two workers, at times spread over a run.

    python -m tests.faults.workers                        # about ten minutes
    python -m tests.faults.workers --preset single        # L-BFGS over all rows

A run has survived if both of these are true. The other worker ends by itself with one line, or, if
it had not found the killed one yet, it still waits and can be stopped. The run then ends with the
metrics of an uninterrupted run: bit-identical if two workers resume it; with the RMSE of every
epoch within 1e-5 if one process or three workers do. A run that had not begun is repeated.
"""

import argparse
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

from tests.faults.deaths import FLAGS, MAIN, Workspace, environment, metrics, stage_of
from tests.faults.fault import Fault

PRESETS = {
    "default": FLAGS,
    "single": "--data_dir data --comet offline --preset single --hidden_neuron 100 --batch_size 64 "
              "--lambda_value 300 --train_epoch 20 --tolerance 0 --display_step 1 "
              "--checkpoint_every 1",
}
KILLS = 10
PATIENCE = 20.0  # seconds that the other worker may take to end
RMSES = ("train_rmse", "test_rmse")


def main() -> None:
    parser = argparse.ArgumentParser(prog="workers", description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default="default")
    parser.add_argument("--kills", type=int, default=KILLS, metavar="N")
    arguments = parser.parse_args()
    for fault in rows(PRESETS[arguments.preset], arguments.kills):
        print(json.dumps(asdict(fault)), flush=True)


def rows(settings: str, kills: int) -> Iterator[Fault]:
    """Yield one row per stage of the run with the flags `settings`."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.make_data()
        started = time.perf_counter()
        run_workers(workspace, 2, f"{settings} --run_name uninterrupted")
        seconds = time.perf_counter() - started
        stages: dict[str, list[bool]] = {}
        message = ""
        for i in range(kills):
            processes = start(workspace, 2, f"{settings} --run_name cut")
            time.sleep(seconds * (i + 0.5) / kills)
            processes[i % 2].kill()
            ended, error = end(processes, i % 2)
            message = error or message
            stage = stage_of(workspace.run_folder("cut"))
            survived = ended and all([resumes(workspace, settings, n) for n in (1, 2, 3)])
            stages.setdefault(stage, []).append(survived)
            shutil.rmtree(workspace.run_folder("cut"), ignore_errors=True)
        for stage, outcomes in stages.items():
            yield Fault(f"SIGKILL of a worker {stage}", len(outcomes), sum(outcomes),
                        outcomes.count(False), message)


def start(workspace: Workspace, count: int, flags: str) -> list[subprocess.Popen]:
    """Start `count` workers of one cluster, or a single process without a cluster."""
    with ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(count)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        workers = [f"127.0.0.1:{port.getsockname()[1]}" for port in ports]
    command = [sys.executable, str(MAIN), *flags.split()]
    if count > 1:
        command += ["--distribute", "workers"]
    processes = []
    for index in range(count):
        cluster = {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        variables = {"TF_CONFIG": json.dumps(cluster), "TF_NUM_INTRAOP_THREADS": "1"}
        processes.append(subprocess.Popen(
            command, cwd=workspace.path, env=environment() | (variables if count > 1 else {}),
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        ))
    return processes


def run_workers(workspace: Workspace, count: int, flags: str) -> bool:
    """Run `count` workers to their end; return whether all succeeded."""
    ended = [(process.communicate(), process.returncode)
             for process in start(workspace, count, flags)]
    return all(code == 0 for _, code in ended)


def end(processes: Sequence[subprocess.Popen], killed: int) -> tuple[bool, str]:
    """Wait for both workers. Return whether the other one ended in time, either finished or with
    one line, and that line. If it has not found the killed worker yet, it must end on SIGTERM."""
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
    lines = [line for line in error.splitlines() if line.startswith("main.py: error: ")]
    return other.returncode == 0 or len(lines) == 1, "".join(lines)


def resumes(workspace: Workspace, settings: str, count: int) -> bool:
    """Resume a copy of the killed run with `count` workers, or repeat it with the flags `settings`.
    Return whether its metrics equal those of the uninterrupted run."""
    name = f"again{count}"
    folder, cut = workspace.run_folder(name), workspace.run_folder("cut")
    summary = cut / "summary.json"
    if summary.exists() and json.loads(summary.read_text("utf-8"))["status"] == "finished":
        return True
    flags = f"{settings} --run_name {name}"
    if (cut / "config.json").exists():
        shutil.copytree(cut, folder)
        flags = f"--resume results/{name} --data_dir data"
    done = run_workers(workspace, count, flags)
    expected = metrics(workspace.run_folder("uninterrupted"))
    is_equal = done and is_same(metrics(folder), expected, exactly=count == 2)
    shutil.rmtree(folder, ignore_errors=True)
    return is_equal


def is_same(ours: list[list[str]], theirs: list[list[str]], exactly: bool) -> bool:
    if exactly or len(ours) != len(theirs):
        return ours == theirs
    at = [theirs[0].index(name) for name in RMSES]
    rmses = [[[float(line[i]) for i in at] for line in lines[1:]] for lines in (ours, theirs)]
    return bool(np.allclose(*rmses, rtol=0, atol=1e-5))


if __name__ == "__main__":
    main()
