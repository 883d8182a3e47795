"""Kills, signals, full and vanishing disks, divergence and competing runs, on the real program.

    python -m tests.faults.deaths

Runs on small synthetic ratings. A run has survived if it, or the run that resumes or repeats it,
ends with records and variables that are bit-identical to an uninterrupted run, except for times.
"""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from tests.faults.archive_server import ArchiveServer
from tests.faults.fault import Fault

MAIN = Path(__file__).resolve().parents[2] / "main.py"
FLAGS = (
    "--data_dir data --comet offline --hidden_neuron 300 --batch_size 16 --train_epoch 60 "
    "--checkpoint_every 1"
)
KILLS, DOWNLOADS = 60, 8
TIMES = ("epoch_seconds", "elapsed_seconds")


def main() -> None:
    for fault in rows():
        print(json.dumps(asdict(fault)), flush=True)


def rows(kills: int = KILLS) -> Iterator[Fault]:
    """Yield one row per fault."""
    with tempfile.TemporaryDirectory() as folder:
        workspace = Workspace(Path(folder))
        workspace.make_data()
        workspace.run("--run_name uninterrupted")
        yield killed_downloading(workspace)
        yield from killed(workspace, kills)
        yield signalled(workspace, [signal.SIGINT], 130, "Ctrl-C once")
        yield signalled(workspace, [signal.SIGTERM], 143, "SIGTERM once")
        yield signalled(workspace, [signal.SIGINT] * 2, 130, "Ctrl-C twice")
        yield unwritable(workspace, "disk full (a tmpfs of 3 MB)", "size=3m")
        yield unwritable(workspace, "read-only results folder", "ro")
        yield removed(workspace)
        yield diverged(workspace)
        yield rivals(workspace)
        yield side_by_side(workspace)


@dataclass
class Workspace:
    """A folder with ratings and runs."""

    path: Path

    def make_data(self) -> None:
        """Write ratings of 300 users x 200 items in MovieLens-1M's format."""
        rng = np.random.default_rng(1)
        pairs = rng.permutation(300 * 200)[:15000]
        values = rng.integers(1, 6, len(pairs))
        lines = (f"{p // 200 + 1}::{p % 200 + 1}::{r}::978300760\n"
                 for p, r in zip(pairs, values, strict=True))
        (self.path / "data").mkdir()
        (self.path / "data" / "ratings.dat").write_text("".join(lines), encoding="utf-8")

    def start(self, flags: str) -> subprocess.Popen:
        settings = "" if "--resume" in flags else FLAGS
        return subprocess.Popen(
            [sys.executable, str(MAIN), *settings.split(), *flags.split()], cwd=self.path,
            env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def run(self, flags: str) -> tuple[int, str, str]:
        """Return the exit code, the output and the error output."""
        process = self.start(flags)
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    def run_folder(self, name: str) -> Path:
        return self.path / "results" / name

    def recover(self, name: str) -> tuple[int, str, str]:
        """Resume the run called `name`, or repeat it if it had not begun, unless it is finished."""
        folder = self.run_folder(name)
        summary = folder / "summary.json"
        if summary.exists() and json.loads(summary.read_text("utf-8"))["status"] == "finished":
            return 0, "", ""
        if (folder / "config.json").exists():
            return self.run(f"--resume results/{name} --data_dir data")
        shutil.rmtree(folder, ignore_errors=True)
        return self.run(f"--run_name {name}")

    def is_complete(self, name: str) -> bool:
        """Return whether the run has the metrics and parameters of the uninterrupted run, all of
        its records, and no partial files."""
        found, expected = self.run_folder(name), self.run_folder("uninterrupted")
        names = [{p.name for p in folder.iterdir()} - {".lock"} for folder in (found, expected)]
        same_bytes = all(
            (found / each).read_bytes() == (expected / each).read_bytes()
            for each in ("parameters.data-00000-of-00001", "train_record.txt", "test_record.txt")
        )
        return names[0] == names[1] and same_bytes and metrics(found) == metrics(expected)

    def checkpoint(self, name: str) -> int:
        """Return the epoch of a run's checkpoint, or 0 without a checkpoint."""
        path = self.run_folder(name) / "checkpoint.json"
        return json.loads(path.read_text(encoding="utf-8"))["epoch"] if path.exists() else 0


def environment() -> dict[str, str]:
    """Return the environment of the program, without this user's settings."""
    others = {k: v for k, v in os.environ.items() if not k.startswith(("COMET", "AUTOREC"))}
    return others | {"PYTHONPATH": str(MAIN.parent)}


def metrics(folder: Path) -> list[list[str]]:
    """Return the cells of metrics.csv without its times."""
    lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    return [line.split(",")[: -len(TIMES)] for line in lines]


def killed(workspace: Workspace, kills: int) -> Iterator[Fault]:
    """Kill runs at times spread over their duration; yield one row per stage."""
    stages: dict[str, list[bool]] = {}
    started = time.perf_counter()
    workspace.run("--run_name timed")
    seconds = time.perf_counter() - started
    for i in range(kills):
        process = workspace.start("--run_name cut")
        try:
            process.wait(timeout=seconds * (i + 0.5) / kills)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        folder = workspace.run_folder("cut")
        if process.returncode != 0:  # else it ended first
            stage = stage_of(folder)
            recovered = workspace.recover("cut")[0] == 0
            stages.setdefault(stage, []).append(recovered and workspace.is_complete("cut"))
        shutil.rmtree(folder, ignore_errors=True)
    for stage, survived in stages.items():
        yield Fault(f"SIGKILL {stage}", len(survived), sum(survived), survived.count(False),
                    "resumed from the last checkpoint" if "training" in stage or "writing" in stage
                    else "repeated")


# main.py with another address for MovieLens-1M.
DOWNLOADING = """
import sys
from dataclasses import replace

from autorec_tf.data import datasets
import main

datasets.Dataset.url, digest, size = sys.argv[1:4]
small = replace(datasets.DATASETS["ml-1m"], digest=digest, bytes=int(size))
datasets.DATASETS["ml-1m"] = small
sys.exit(main.main(sys.argv[4:]))
"""


def killed_downloading(workspace: Workspace) -> Fault:
    """Kill runs while they download: a partial download must not be used."""
    content, survived = io.BytesIO(), 0
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ml-1m/movies.dat", "1::Toy Story (1995)::Animation\n")
        archive.write(workspace.path / "data" / "ratings.dat", "ml-1m/ratings.dat")
    content, fetched = content.getvalue(), workspace.path / "fetched"
    digest = hashlib.sha256(content).hexdigest()
    flags = FLAGS.replace("--data_dir data", "--data_dir fetched --run_name cut").split()
    for i in range(DOWNLOADS):
        fetched.mkdir()
        with ArchiveServer(content, "stall") as server:
            command = [sys.executable, "-c", DOWNLOADING, server.url, digest, str(len(content))]
            process = subprocess.Popen([*command, *flags], cwd=workspace.path, env=environment(),
                                       stdout=subprocess.DEVNULL)
            wait_for(lambda server=server: server.num_requests > 0, process)
            time.sleep(0.1 * i)
            process.kill()
            process.wait()
        complete_before = (fetched / "ratings.dat").exists()
        with ArchiveServer(content) as server:
            command[3] = server.url
            code = subprocess.run([*command, *flags], cwd=workspace.path, env=environment(),
                                  capture_output=True).returncode
        survived += code == 0 and not complete_before and workspace.is_complete("cut")
        shutil.rmtree(workspace.run_folder("cut"))
        shutil.rmtree(fetched)
    return Fault("SIGKILL while downloading", DOWNLOADS, survived, DOWNLOADS - survived, "repeated")


def stage_of(folder: Path) -> str:
    if not (folder / "config.json").exists():
        return "while starting and parsing"
    if not (folder / "metrics.csv").exists():
        return "while building the model"
    if (folder / "report.html").exists():
        return "while closing"
    return "while training, with checkpoints" if not (folder / "basic_info.txt").exists() else (
        "while writing the records"
    )


def signalled(workspace: Workspace, signals: list[int], code: int, name: str,
              times: int = 3) -> Fault:
    survived, message = 0, ""
    for _ in range(times):
        process = workspace.start("--run_name cut")
        wait_for(lambda: (workspace.run_folder("cut") / "metrics.csv").exists(), process)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.05)
        try:
            process.wait(timeout=2 if len(signals) > 1 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
        message = process.communicate()[1].strip().split("\n")[-1]
        done = process.returncode == code and workspace.recover("cut")[0] == 0
        survived += done and workspace.is_complete("cut")
        shutil.rmtree(workspace.run_folder("cut"))
    return Fault(name, times, survived, times - survived, message)


def unwritable(workspace: Workspace, name: str, options: str) -> Fault:
    """Fill or write-protect the results folder; recover the run when it is writable again."""
    with mounted(workspace.path / "results_small", options) as mount:
        if not mount:
            return Fault(name, 0, 0, 0, "not tried: mounting a tmpfs needs root rights")
        code, _, error = workspace.run("--run_name cut --results_dir results_small")
        one_line = code == 2 and len(error.splitlines()) == 1
        shutil.copytree(mount, workspace.path / "results", dirs_exist_ok=True)
    complete = workspace.recover("cut")[0] == 0 and workspace.is_complete("cut")
    shutil.rmtree(workspace.run_folder("cut"))
    return Fault(name, 1, int(one_line and complete), int(not complete), error.strip())


@contextmanager
def mounted(path: Path, options: str) -> Iterator[Path | None]:
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except FileNotFoundError:
        done = False
    try:
        yield path if done else None
    finally:
        if done:
            subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


def removed(workspace: Workspace) -> Fault:
    process = workspace.start("--run_name cut")
    folder = workspace.run_folder("cut")
    wait_for(lambda: (folder / "checkpoint.json").exists(), process)
    shutil.move(folder, workspace.path / "gone")
    shutil.rmtree(workspace.path / "gone")
    error = process.communicate()[1].strip()
    one_line = process.returncode == 2 and len(error.splitlines()) == 1 and not folder.exists()
    complete = workspace.recover("cut")[0] == 0 and workspace.is_complete("cut")
    shutil.rmtree(folder)
    return Fault("results folder removed underneath", 1, int(one_line and complete),
                 int(not complete), error)


def diverged(workspace: Workspace) -> Fault:
    flags = "--run_name cut --base_lr 1e6 --regularization plain"
    code, _, error = workspace.run(flags)
    one_line = code == 2 and len(error.splitlines()) == 1 and "learning rate" in error
    shutil.rmtree(workspace.run_folder("cut"))
    return Fault("numbers that diverge", 1, int(one_line), 0, error.strip())


def rivals(workspace: Workspace, times: int = 3) -> Fault:
    """Start two runs with one name, and a third that resumes it: two must end with one line."""
    survived, message = 0, ""
    for _ in range(times):
        pair = [workspace.start("--run_name cut") for _ in range(2)]
        wait_for(lambda: (workspace.run_folder("cut") / "metrics.csv").exists(), *pair)
        pair.append(workspace.start("--resume results/cut --data_dir data --comet off"))
        ended = [(process.communicate()[1].strip(), process.returncode) for process in pair]
        losers = [error for error, code in ended if code == 2 and len(error.splitlines()) == 1]
        message = losers[-1] if losers else ""
        survived += len(losers) == 2 and workspace.is_complete("cut")
        shutil.rmtree(workspace.run_folder("cut"))
    return Fault("two runs with one name, a third resumes it", times, survived,
                 times - survived, message)


def side_by_side(workspace: Workspace, times: int = 4) -> Fault:
    """Start runs without --run_name in the same second."""
    before = set((workspace.path / "results").iterdir())
    ended = [process.wait() for process in [workspace.start("") for _ in range(times)]]
    made = set((workspace.path / "results").iterdir()) - before
    survived = sum(workspace.is_complete(folder.name) for folder in made) if not any(ended) else 0
    for folder in made:
        shutil.rmtree(folder)
    return Fault("runs side by side", times, survived, times - survived, "each in its own folder")


def wait_for(condition: Callable[[], bool], *processes: subprocess.Popen) -> None:
    while not condition() and any(process.poll() is None for process in processes):
        time.sleep(0.02)


if __name__ == "__main__":
    main()
