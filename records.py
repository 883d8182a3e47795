"""The run folder: what a run leaves on disk for people and programs to read."""

import csv
import importlib.metadata
import json
import os
import platform
import subprocess
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from config import Config
from errors import UserError

PACKAGES = ("tensorflow", "numpy", "pandas", "numba", "comet-ml", "matplotlib")


@dataclass(frozen=True)
class EpochMetrics:
    """One row of metrics.csv; the test fields are None for an epoch that was not evaluated."""

    epoch: int
    learning_rate: float
    train_cost: float  # the sum of J(B) over the mini-batches, regularisation included
    train_rmse: float  # running: each mini-batch scored just before its update, unclipped
    test_cost: float | None  # the squared error summed over the test ratings
    test_rmse: float | None
    test_mae: float | None
    validation_rmse: float | None  # None without validation ratings, too
    reconstruction_rmse: float | None  # test ratings as input: only if asked for, never a result
    epoch_seconds: float  # of training and evaluation
    elapsed_seconds: float  # since the first epoch began


class RunFolder:
    """The folder `results_dir/name`, which must be new; `create` makes it.

    Raises UserError, here or in `create`, if it exists or cannot be made.
    """

    def __init__(self, results_dir: str, name: str) -> None:
        self.path = Path(results_dir) / name
        self.metrics: list[EpochMetrics] = []
        if self.path.exists():
            self.refuse()

    def create(self) -> None:
        """Make the folder, with an empty metrics.csv in it."""
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            self.refuse()
        except OSError as error:
            raise UserError(
                f"cannot make the run folder {self.path} ({error.strerror}): choose another "
                "--results_dir"
            ) from error
        self.metrics_file = open(self.path / "metrics.csv", "w", newline="", encoding="utf-8")
        self.write_row([f.name for f in fields(EpochMetrics)])

    def refuse(self) -> NoReturn:
        raise UserError(
            f"{self.path} already exists and is never overwritten: choose another --run_name"
        )

    def write_row(self, row: Sequence[Any]) -> None:
        csv.writer(self.metrics_file, lineterminator="\n").writerow(row)
        self.metrics_file.flush()  # so that a killed run keeps its rows

    def add(self, metrics: EpochMetrics) -> None:
        """Append one epoch to metrics.csv, at once."""
        self.metrics.append(metrics)
        self.write_row(astuple(metrics))

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write `content` under `name`, which appears only when it is whole."""
        unfinished = self.path / f"{name}.part"
        unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, self.path / name)

    def write_text_records(self, config: Config) -> None:
        """The three files of the earlier program: the settings as its `Namespace(...)` line, and
        costs and RMSEs as tab-separated lines; test_record.txt has evaluated epochs only."""
        settings = ", ".join(f"{name}={value!r}" for name, value in config.recorded().items())
        evaluated = [m for m in self.metrics if m.test_rmse is not None]
        texts = {
            "basic_info.txt": f"Namespace({settings})\n",
            "train_record.txt": tab_line("Cost:", [m.train_cost for m in self.metrics])
            + tab_line("RMSE:", [m.train_rmse for m in self.metrics]),
            "test_record.txt": tab_line("Cost:", [m.test_cost for m in evaluated])
            + tab_line("RMSE:", [m.test_rmse for m in evaluated]),
        }
        for name, text in texts.items():
            (self.path / name).write_text(text, encoding="utf-8")

    def close(self) -> None:
        self.metrics_file.close()


def tab_line(name: str, values: Sequence[float | None]) -> str:
    """`name` and each value, every one followed by a tab, as the earlier program wrote them."""
    return "\t".join([name, *map(str, values), "\n"])


def default_name(config: Config) -> str:
    """A run's name made of dataset, seed, optimiser, learning rate and UTC time."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    return (
        f"{config.dataset}_seed{config.random_seed}_{config.optimizer_method.lower()}"
        f"_lr{config.base_lr:g}_{time}"
    )


def results(metrics: Sequence[EpochMetrics]) -> dict[str, Any]:
    """Final and best results. The final ones are the result; the best epoch is chosen by looking
    at the test ratings, so it says how flat the end is and is never to be quoted as a score."""
    evaluated = [m for m in metrics if m.test_rmse is not None]
    found: dict[str, Any] = {"final_train_rmse": metrics[-1].train_rmse}
    if evaluated:
        final, best = evaluated[-1], min(evaluated, key=lambda m: m.test_rmse)
        found |= {
            "final_test_epoch": final.epoch,
            "final_test_rmse": final.test_rmse,
            "final_test_mae": final.test_mae,
            "best_test_epoch": best.epoch,
            "best_test_rmse": best.test_rmse,
            "best_test_mae": best.test_mae,
        }
    return found


def summarize(
    metrics: Sequence[EpochMetrics], train_epoch: int, facts: dict[str, Any], seconds: float
) -> dict[str, Any]:
    """What summary.json holds: a run of `train_epoch` epochs, or of fewer if it was interrupted."""
    return {
        "status": "finished" if len(metrics) == train_epoch else "interrupted",
        "dataset": facts["dataset"],
        "epochs": len(metrics),
        **results(metrics),
        "test_ratings": facts["test_ratings"],
        "cold_test_ratings": facts["cold_test_ratings"],
        "seconds": round(seconds, 3),
        "peak_memory_mb": peak_memory_mb(),
    }


def environment() -> dict[str, Any]:
    """What ran: versions, processor kind and the git commit; nothing that names the machine."""
    return {
        "python": platform.python_version(),
        "packages": {name: package_version(name) for name in PACKAGES},
        "system": platform.system(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "git_commit": git_commit(Path(__file__).parent),
    }


def package_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit(folder: Path) -> str | None:
    """The commit of the checkout in `folder`, with "-dirty" if tracked files differ from it."""
    if not (folder / ".git").exists():
        return None
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40",
               "--exclude=*"]  # fmt: skip
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def peak_memory_mb() -> float | None:
    """The largest resident memory of this process so far, in MB (10^6 bytes)."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux, whose ru_maxrss would count the process that started this one
        return int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
