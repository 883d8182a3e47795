"""The run folder: what a run leaves on disk for people and programs to read."""

import csv
import hashlib
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
from scoring import Slice

RECONSTRUCTION = "reconstruction_rmse_test_ratings_as_input"
PACKAGES = ("tensorflow", "numpy", "pandas", "scipy", "numba", "comet-ml", "matplotlib")


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
    reconstruction_rmse_test_ratings_as_input: float | None  # only if asked for; no result
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
        """Make the folder."""
        try:
            make_folder(self.path)
        except FileExistsError:
            self.refuse()

    def refuse(self) -> NoReturn:
        raise UserError(
            f"{self.path} already exists and is never overwritten: choose another --run_name"
        )

    def add(self, metrics: EpochMetrics) -> None:
        """Append one epoch to metrics.csv, at once."""
        with open(self.path / "metrics.csv", "a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            if not self.metrics:
                writer.writerow([f.name for f in fields(EpochMetrics)])
            writer.writerow(astuple(metrics))
        self.metrics.append(metrics)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        """Write `content` under `name`, which appears only when it is whole."""
        write_json(self.path / name, content)

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


def tab_line(name: str, values: Sequence[float | None]) -> str:
    """`name` and each value, every one followed by a tab, as the earlier program wrote them."""
    return "\t".join([name, *map(str, values), "\n"])


def default_name(config: Config) -> str:
    """A run's name made of dataset, preset, seed, optimiser, learning rate and UTC time.

    A run over several splits has a digest of its settings for the time: the same command goes on
    in the same folder.
    """
    if config.num_splits == 1:
        last = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    else:
        settings = config.recorded() | {"num_splits": None}
        last = f"splits_{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]}"
    preset = "" if config.preset == "default" else f"{config.preset}_"
    return (
        f"{config.dataset}_{preset}seed{config.random_seed}_{config.optimizer_method.lower()}"
        f"_lr{config.base_lr:g}_{last}"
    )


def results(metrics: Sequence[EpochMetrics]) -> dict[str, Any]:
    """Final and best results. The final ones are the result, of the last evaluated epoch or of the
    one that validation ratings chose; the best epoch is chosen by looking at the test ratings, so
    it says how flat the end is and is never to be quoted as a score."""
    evaluated = [m for m in metrics if m.test_rmse is not None]
    found: dict[str, Any] = {"final_train_rmse": metrics[-1].train_rmse}
    if evaluated:
        final, best = evaluated[-1], min(evaluated, key=lambda m: m.test_rmse)
        if final.validation_rmse is not None:
            final = min(evaluated, key=lambda m: m.validation_rmse)
            found["final_validation_rmse"] = final.validation_rmse
        if (leaking := getattr(final, RECONSTRUCTION)) is not None:
            found[RECONSTRUCTION] = leaking
        found |= {
            "final_test_epoch": final.epoch,
            "final_test_rmse": final.test_rmse,
            "final_test_mae": final.test_mae,
            "best_test_epoch": best.epoch,
            "best_test_rmse": best.test_rmse,
            "best_test_mae": best.test_mae,
        }
    return found


def slice_rows(slices: Sequence[Slice]) -> list[dict[str, Any]]:
    """Slices as summary.json holds them."""
    return [
        {
            "training_ratings": part.label,
            "test_ratings": part.scores.num_ratings,
            "rmse": part.scores.rmse,
            "mae": part.scores.mae,
        }
        for part in slices
    ]


def make_folder(path: Path) -> None:
    """Make `path`, which must be new; FileExistsError if it is not, UserError if it cannot be."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot make the run folder {path} ({error.strerror}): choose another --results_dir"
        ) from error


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write `content` under a name that appears only when it is whole."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    os.replace(unfinished, path)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file that a run wrote; UserError if it was changed into something
    else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {path} ({error}): remove it, and the run goes on") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: remove it, and the run goes on")
    return content


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows`, all with the keys of the first, under a name that appears when it is whole."""
    unfinished = path.with_name(f"{path.name}.part")
    with open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    os.replace(unfinished, path)


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
