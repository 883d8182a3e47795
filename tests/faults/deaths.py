"""Death, signals, full and vanishing disks, diverging numbers and rivals, on the real program.

    python -m tests.faults.deaths

Runs on small made-up ratings. A run has survived if it, or the run that resumes or repeats it,
ends with the records and variables of one that was left alone, to the last bit, times aside.
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
    """One row a fault."""
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        place.make_data()
        place.run("--run_name whole")
        yield killed_downloading(place)
        yield from killed(place, kills)
        yield signalled(place, [signal.SIGINT], 130, "Ctrl-C once")
        yield signalled(place, [signal.SIGTERM], 143, "SIGTERM once")
        yield signalled(place, [signal.SIGINT] * 2, 130, "Ctrl-C twice")
        yield unwritable(place, "disk full (a tmpfs of 3 MB)", "size=3m")
        yield unwritable(place, "read-only results folder", "ro")
        yield removed(place)
        yield diverged(place)
        yield rivals(place)
        yield side_by_side(place)


@dataclass
class Place:
    """A folder with ratings and runs."""

    path: Path

    def make_data(self) -> None:
        """Ratings of 300 users x 200 items, in MovieLens-1M's format."""
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
        """Exit code, output and error output."""
        process = self.start(flags)
        stdout, stderr = process.communicate()
        return process.returncode, stdout, stderr

    def run_folder(self, name: str) -> Path:
        return self.path / "results" / name

    def recover(self, name: str) -> tuple[int, str, str]:
        """Resume the run called `name`, or repeat it if it had not begun; a finished one is let
        be."""
        folder = self.run_folder(name)
        summary = folder / "summary.json"
        if summary.exists() and json.loads(summary.read_text("utf-8"))["status"] == "finished":
            return 0, "", ""
        if (folder / "config.json").exists():
            return self.run(f"--resume results/{name} --data_dir data")
        shutil.rmtree(folder, ignore_errors=True)
        return self.run(f"--run_name {name}")

    def is_whole(self, name: str) -> bool:
        """Whether the run has the metrics and parameters of the one that was left alone, all of
        its records, and nothing half-written."""
        found, expected = self.run_folder(name), self.run_folder("whole")
        names = [{p.name for p in folder.iterdir()} - {".lock"} for folder in (found, expected)]
        same_bytes = all(
            (found / each).read_bytes() == (expected / each).read_bytes()
            for each in ("parameters.data-00000-of-00001", "train_record.txt", "test_record.txt")
        )
        return names[0] == names[1] and same_bytes and metrics(found) == metrics(expected)

    def checkpoint(self, name: str) -> int:
        """The epoch of the checkpoint of a run, 0 if there is none."""
        path = self.run_folder(name) / "checkpoint.json"
        return json.loads(path.read_text(encoding="utf-8"))["epoch"] if path.exists() else 0


def environment() -> dict[str, str]:
    """The program's, without this user's settings of it."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COMET", "AUTOREC"))}
    return kept | {"PYTHONPATH": str(MAIN.parent)}


def metrics(folder: Path) -> list[list[str]]:
    """metrics.csv without its times."""
    lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    return [line.split(",")[: -len(TIMES)] for line in lines]


def killed(place: Place, kills: int) -> Iterator[Fault]:
    """SIGKILL at moments spread over a run's life; a row for each stage that it was in."""
    stages: dict[str, list[bool]] = {}
    started = time.perf_counter()
    place.run("--run_name timed")
    seconds = time.perf_counter() - started
    for i in range(kills):
        process = place.start("--run_name cut")
        try:
            process.wait(timeout=seconds * (i + 0.5) / kills)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
        folder = place.run_folder("cut")
        if process.returncode != 0:  # else it was faster than we
            stage = stage_of(folder)
            recovered = place.recover("cut")[0] == 0
            stages.setdefault(stage, []).append(recovered and place.is_whole("cut"))
        shutil.rmtree(folder, ignore_errors=True)
    for stage, survived in stages.items():
        yield Fault(f"SIGKILL {stage}", len(survived), sum(survived), survived.count(False),
                    "resumed: Going on after epoch ..." if "training" in stage or "writing" in stage
                    else "repeated")


# main.py, but for where MovieLens-1M comes from.
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


def killed_downloading(place: Place) -> Fault:
    """SIGKILL while the data is on its way: what arrived is not taken for the whole."""
    content, survived = io.BytesIO(), 0
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("ml-1m/movies.dat", "1::Toy Story (1995)::Animation\n")
        archive.write(place.path / "data" / "ratings.dat", "ml-1m/ratings.dat")
    content, fetched = content.getvalue(), place.path / "fetched"
    digest = hashlib.sha256(content).hexdigest()
    flags = FLAGS.replace("--data_dir data", "--data_dir fetched --run_name cut").split()
    for i in range(DOWNLOADS):
        with ArchiveServer(content, "stall") as server:
            command = [sys.executable, "-c", DOWNLOADING, server.url, digest, str(len(content))]
            process = subprocess.Popen([*command, *flags], cwd=place.path, env=environment(),
                                       stdout=subprocess.DEVNULL)
            wait_for(lambda server=server: server.num_requests > 0, process)
            time.sleep(0.1 * i)
            process.kill()
            process.wait()
        whole_before = (fetched / "ratings.dat").exists()
        with ArchiveServer(content) as server:
            command[3] = server.url
            code = subprocess.run([*command, *flags], cwd=place.path, env=environment(),
                                  capture_output=True).returncode
        survived += code == 0 and not whole_before and place.is_whole("cut")
        shutil.rmtree(place.run_folder("cut"))
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


def signalled(place: Place, signals: list[int], code: int, name: str, times: int = 3) -> Fault:
    survived, message = 0, ""
    for _ in range(times):
        process = place.start("--run_name cut")
        wait_for(lambda: (place.run_folder("cut") / "metrics.csv").exists(), process)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.05)
        try:
            process.wait(timeout=2 if len(signals) > 1 else 60)
        except subprocess.TimeoutExpired:
            process.kill()
        message = process.communicate()[1].strip().split("\n")[-1]
        done = process.returncode == code and place.recover("cut")[0] == 0
        survived += done and place.is_whole("cut")
        shutil.rmtree(place.run_folder("cut"))
    return Fault(name, times, survived, times - survived, message)


def unwritable(place: Place, name: str, options: str) -> Fault:
    """A results folder that cannot be written, or not to the end; recovered when it can."""
    with mounted(place.path / "results_small", options) as mount:
        if not mount:
            return Fault(name, 0, 0, 0, "not tried: mounting a tmpfs needs the right to")
        code, _, error = place.run("--run_name cut --results_dir results_small")
        told = code == 2 and len(error.splitlines()) == 1
        shutil.copytree(mount, place.path / "results", dirs_exist_ok=True)
    whole = place.recover("cut")[0] == 0 and place.is_whole("cut")
    shutil.rmtree(place.run_folder("cut"))
    return Fault(name, 1, int(told and whole), int(not whole), error.strip())


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


def removed(place: Place) -> Fault:
    process = place.start("--run_name cut")
    folder = place.run_folder("cut")
    wait_for(lambda: (folder / "checkpoint.json").exists(), process)
    shutil.move(folder, place.path / "gone")
    shutil.rmtree(place.path / "gone")
    error = process.communicate()[1].strip()
    told = process.returncode == 2 and len(error.splitlines()) == 1 and not folder.exists()
    whole = place.recover("cut")[0] == 0 and place.is_whole("cut")
    shutil.rmtree(folder)
    return Fault("results folder removed underneath", 1, int(told and whole), int(not whole), error)


def diverged(place: Place) -> Fault:
    flags = "--run_name cut --base_lr 1e6 --regularization plain"
    code, _, error = place.run(flags)
    told = code == 2 and len(error.splitlines()) == 1 and "learning rate" in error
    shutil.rmtree(place.run_folder("cut"))
    return Fault("numbers that diverge", 1, int(told), 0, error.strip())


def rivals(place: Place, times: int = 3) -> Fault:
    """Two runs with one name, and a third that resumes it: one wins, the others are told."""
    survived, message = 0, ""
    for _ in range(times):
        pair = [place.start("--run_name cut") for _ in range(2)]
        wait_for(lambda: (place.run_folder("cut") / "metrics.csv").exists(), *pair)
        pair.append(place.start("--resume results/cut --data_dir data --comet off"))
        ended = [(process.communicate()[1].strip(), process.returncode) for process in pair]
        losers = [error for error, code in ended if code == 2 and len(error.splitlines()) == 1]
        message = losers[-1] if losers else ""
        survived += len(losers) == 2 and place.is_whole("cut")
        shutil.rmtree(place.run_folder("cut"))
    return Fault("two runs with one name, a third resumes it", times, survived,
                 times - survived, message)


def side_by_side(place: Place, times: int = 4) -> Fault:
    """Runs that name themselves, started in the same second."""
    before = set((place.path / "results").iterdir())
    ended = [process.wait() for process in [place.start("") for _ in range(times)]]
    made = set((place.path / "results").iterdir()) - before
    survived = sum(place.is_whole(folder.name) for folder in made) if not any(ended) else 0
    for folder in made:
        shutil.rmtree(folder)
    return Fault("runs side by side", times, survived, times - survived, "each in its own folder")


def wait_for(condition: Callable[[], bool], *processes: subprocess.Popen) -> None:
    while not condition() and any(process.poll() is None for process in processes):
        time.sleep(0.02)


if __name__ == "__main__":
    main()
