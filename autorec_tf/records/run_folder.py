"""Run folders: the names of their files, writing, reading, and the lock."""

import csv
import hashlib
import io
import json
import reprlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import numpy as np
from filelock import FileLock

from autorec_tf.config import BEFORE, UNNAMED, Config
from autorec_tf.evaluation.metrics import EpochMetrics
from autorec_tf.resolution import earlier_member_settings
from autorec_tf.system import files
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import read_json, write_json
from autorec_tf.system.terminal import file_argument, shell

CONFIG, SUMMARY, METRICS = "config.json", "summary.json", "metrics.csv"
TUNING, MEMBERS = "tuning.csv", "members.csv"
PARAMETERS, CHECKPOINT = "parameters", "checkpoint"  # prefixes of TensorFlow's files
PREDICTIONS, TEST_SCORES = "predictions.npz", "test_scores.npz"
MARKS = "test_ratings.npy"  # which ratings a run tests on that starts from another run, as bits
REPORT, CURVES, SLICES = "report.html", "rmse.png", "slices.png"
SETTINGS, SPLITS = "settings.json", "splits.csv"  # in the folder of a run over several splits


class RunFolder:
    """The folder `results_dir/name` of one run, locked against other processes.

    `create` makes a new folder, under a different name if it exists and the user has not chosen
    `name`. With `resume`, the folder is the folder of an existing run.

    Raises:
        UserError: the folder already exists, is in use, or cannot be created (here or in `create`).
    """

    def __init__(self, results_dir: str | Path, name: str, resume: bool = False,
                 named_by_user: bool = True) -> None:
        self.path, self.resume = Path(results_dir) / name, resume
        self.named_by_user = named_by_user
        self.metrics: list[EpochMetrics] = []
        self.lock: FileLock | None = None
        if resume:
            self.lock = files.lock(self.path)
        elif named_by_user and self.path.exists() and not self.is_unused():
            raise self.taken()

    @classmethod
    def of(cls, config: Config, fingerprint: str) -> "RunFolder":
        """Return the folder of the run of `config`. Raise UserError like the constructor, and if
        its run cannot be continued, or not with ratings of this `fingerprint`."""
        name, named_by_user = config.run_name or default_name(config), bool(config.run_name)
        folder = cls(config.results_dir, name, bool(config.resume), named_by_user)
        try:
            if config.resume:
                folder.check_resumable(config, fingerprint)
        except UserError:
            folder.close()
            raise
        return folder

    def check_resumable(self, config: Config, fingerprint: str) -> None:
        record = self.record()
        if record.get("fingerprint") != fingerprint:
            raise UserError(f"{self.path} is a run on different ratings. Name the folder of its "
                            "ratings with --data_dir, or their file with --dataset.")
        if self.is_finished() and record["train_epoch"] >= config.train_epoch:
            remedy = "To continue it, give a larger --train_epoch."
            if config.lr_schedule == "cosine":  # which ends with the last epoch
                remedy = "To train its parameters further, give its folder to --start_from."
            raise UserError(f"{self.path} is finished, with {config.train_epoch} epochs. {remedy}")

    def record(self) -> dict[str, Any]:
        """Return the content of config.json, {} in a new folder."""
        return read_json(self.path / CONFIG) if self.resume else {}

    def create(self) -> None:
        """Create the folder of a new run. In a finished run that is to be continued, set the status
        to "interrupted", and keep its result."""
        first, number = self.path, count(2)
        while not self.resume:
            try:
                files.make_folder(self.path)
            except FileExistsError as error:
                if not self.named_by_user:
                    self.path = first.with_name(f"{first.name}_{next(number)}")
                    continue
                if not self.is_unused():
                    raise self.taken() from error
            self.lock = files.lock(self.path)
            return
        if self.is_finished():
            self.write_summary(read_json(self.path / SUMMARY) | {"status": "interrupted"})

    def is_unused(self) -> bool:
        """Return whether the folder was left by a run that could not start."""
        names = {path.name for path in self.path.iterdir()}
        return ".lock" in names and names <= {".lock", f"{CONFIG}.part"}

    def discard(self) -> bool:
        """Remove the folder of a run that could not start. Return whether it was removed."""
        if self.resume or not self.path.exists() or not self.is_unused():
            return False
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)
        return True

    def taken(self) -> UserError:
        unfinished = (self.path / CONFIG).exists() and not self.is_finished()
        resume = f", or continue its run with {shell(['--resume', self.path])}"
        return UserError(f"{self.path} already exists and is never overwritten. Choose another "
                         f"--run_name{resume if unfinished else '.'}")

    def is_finished(self) -> bool:
        return read_summary(self.path).get("status") == "finished"

    def close(self) -> None:
        """Release the lock on the folder."""
        if self.lock:
            files.unlock(self.lock)

    def add(self, metrics: EpochMetrics) -> None:
        """Append one epoch to metrics.csv."""
        with open(self.path / METRICS, "a", newline="", encoding="utf-8") as file:
            file.write(csv_text([metrics], header=not self.metrics))
        self.metrics.append(metrics)

    def missing(self) -> list[Path]:
        """Return the files that the run has written and that somebody has removed."""
        written = [CONFIG, *[METRICS][: len(self.metrics)]]
        return [self.path / name for name in written if not (self.path / name).exists()]

    def restore_metrics(self) -> None:
        """Write metrics.csv again."""
        files.write_text(self.path / METRICS, csv_text(self.metrics))

    def position(self) -> dict[str, Any]:
        """Return the current length and checksum of metrics.csv, for `truncate_to`."""
        content = (self.path / METRICS).read_bytes() if self.metrics else b""
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def truncate_to(self, position: Mapping[str, Any] | None) -> None:
        """Truncate metrics.csv to `position`, or to its beginning. Raise UserError if the content
        before `position` has changed."""
        path = self.path / METRICS
        if position is None:
            path.unlink(missing_ok=True)
            self.metrics = []
            return
        content = path.read_bytes() if path.exists() else b""
        content = content[: position.get("bytes")]
        if hashlib.sha256(content).hexdigest() != position.get("sha256"):
            raise UserError(f"{path} has changed since the last checkpoint. Restore it, or remove "
                            f"{self.path / CHECKPOINT}.json to start the run again from the "
                            "beginning.")
        with files.atomic_write(path) as unfinished:
            unfinished.write_bytes(content)
        hints, self.metrics = get_type_hints(EpochMetrics), []
        for row in csv.DictReader(io.StringIO(content.decode())):
            values: Any = ((int if hints[name] is int else float)(x) if x else None
                           for name, x in row.items())
            self.metrics.append(EpochMetrics(**dict(zip(row, values, strict=True))))

    def write_marks(self, held_out: np.ndarray) -> None:
        """Write which ratings are test ratings (bool [ratings]), for `read_marks`."""
        path = self.path / MARKS
        with files.atomic_write(path) as unfinished, open(unfinished, "wb") as file:
            np.save(file, np.packbits(held_out), allow_pickle=False)

    def write_config(self, settings: Mapping[str, Any]) -> None:
        write_json(self.path / CONFIG, settings)

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_json(self.path / SUMMARY, summary)

    def tuned(self) -> list[float]:
        """Return the validation RMSE of each grid point tried so far."""
        try:
            return [float(row["validation_rmse"]) for row in files.read_csv(self.path / TUNING)]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{self.path / TUNING} is damaged. Remove it to start tuning "
                            "again.") from error

    def add_point(self, point: Mapping[str, Any], validation_rmse: float) -> None:
        """Add a grid point to tuning.csv."""
        row = {**point, "validation_rmse": round(validation_rmse, 5)}
        files.write_csv(self.path / TUNING, [*files.read_csv(self.path / TUNING), row])

    def write_text_records(self, config: Config) -> None:
        """Write the three files of the earlier TensorFlow 1 program: the settings as a
        `Namespace(...)` line, and costs and RMSEs as tab-separated lines. test_record.txt has
        evaluated epochs only."""
        settings = ", ".join(f"{name}={value!r}" for name, value in config.to_dict().items())
        evaluated = [m for m in self.metrics if m.test_rmse is not None]
        texts = {
            "basic_info.txt": f"Namespace({settings})\n",
            "train_record.txt": tab_line("Cost:", [m.train_cost for m in self.metrics])
            + tab_line("RMSE:", [m.train_rmse for m in self.metrics]),
            "test_record.txt": tab_line("Cost:", [m.test_cost for m in evaluated])
            + tab_line("RMSE:", [m.test_rmse for m in evaluated]),
        }
        for name, text in texts.items():
            files.write_text(self.path / name, text)


def csv_text(rows: Sequence[EpochMetrics], header: bool = True) -> str:
    """Return epochs as lines of metrics.csv."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow([f.name for f in fields(EpochMetrics)])
    writer.writerows(astuple(row) for row in rows)
    return text.getvalue()


def read_record(folder: Path) -> dict[str, Any]:
    """Return the content of a run's config.json. Raise UserError if it is missing or damaged."""
    path = folder / CONFIG
    if (folder / SETTINGS).exists() and not path.exists():
        runs = (one.parent.name for one in sorted(folder.glob(f"*/{CONFIG}")))
        raise UserError(f"{folder} is the folder of several splits. Name one of them, as in "
                        f"{folder / next(runs, 'split_1994')}")
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{folder} is not a run folder: cannot read {path} "
                        f"({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged: it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{path} is damaged: it is not a JSON object")
    return record


def check_checkpoints(folder: Path, record: Mapping[str, Any]) -> None:
    """Raise UserError if a checkpoint in `folder` was written with other settings than `record`,
    the content of config.json. Damaged checkpoints are ignored: a finished run needs none."""
    record = json.loads(json.dumps(Config().to_dict())) | BEFORE | record
    for path in sorted(folder.glob(f"{CHECKPOINT}*.json")):
        try:
            settings = read_json(path).get("settings")
        except UserError:
            continue
        for name, value in settings.items() if isinstance(settings, dict) else ():
            if name in record and record[name] != value:
                raise UserError(f"{folder / CONFIG}: {name} is {reprlib.repr(record[name])}, but "
                                f"the run was trained with {reprlib.repr(value)} ({path.name}). "
                                f"Restore {CONFIG}.")


def read_marks(folder: Path, record: Mapping[str, Any]) -> np.ndarray | None:
    """Return which ratings are test ratings in a run that started from another run: uint8, eight
    ratings each. Return None for other runs, and with a test file. `record`: the content of
    config.json. Raise UserError if the file is missing or damaged."""
    if not record.get("start_from") or record.get("test_file"):
        return None
    path = folder / MARKS
    try:
        marks = np.load(path, allow_pickle=False)
        if marks.dtype != np.uint8 or marks.ndim != 1:
            raise ValueError(f"it contains {marks.dtype} {marks.shape}")
        return marks
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror or error}). Restore it from a copy "
                        "of the run folder.") from error
    except Exception as error:  # NumPy raises many types for damaged files
        raise UserError(f"{path} is damaged ({str(error) or type(error).__name__}). Restore it "
                        "from a copy of the run folder.") from error


def read_summary(folder: Path) -> dict[str, Any]:
    """Return the content of summary.json, {} without one."""
    return read_json(folder / SUMMARY) if (folder / SUMMARY).is_file() else {}


def read_settings(folder: Path) -> tuple[bool, dict[str, Any]]:
    """Return whether `folder` is the folder of several splits, and its settings, perhaps {}."""
    several = (folder / SETTINGS).exists()
    path = folder / (SETTINGS if several else CONFIG)
    return several, read_json(path) if path.is_file() else {}


def config_of(folder: Path, record: dict[str, Any], **others: Any) -> Config:
    """Return the settings in `record`, overridden by `others`. Raise UserError if they are
    unusable."""
    try:
        return Config.from_dict(record, **others)
    except UserError as error:
        raise UserError(f"{folder / CONFIG}: {error}") from error


def resumed_config(folder: str | Path, **others: Any) -> Config:
    """Return the settings that resume the run in `folder`, overridden by `others`."""
    folder = Path(folder) if Path(folder).name.strip(".") else Path(folder).resolve()
    if (folder / SETTINGS).exists():
        raise UserError(f"{folder} is the folder of several splits. To continue it, repeat the "
                        "command that started it.")
    if not (folder / CONFIG).exists():
        raise UserError(f"{folder} cannot be resumed: it has no {CONFIG} of a run")
    where = dict(results_dir=str(folder.parent), run_name=folder.name, resume=str(folder))
    return config_of(folder, read_json(folder / CONFIG), **where, **others)


class Part(NamedTuple):
    """One of the splits or folds of a run.

    Args:
        name: its name on the progress line.
        arguments: the arguments of main.py that complete all splits or folds.
    """

    name: str = ""
    arguments: tuple[str, ...] = ()


WHOLE = Part()  # of a run on one split


def resume_flags(config: Config, files: Mapping[str, Path], folder: Path) -> list[str]:
    """Return the flags with which main.py, started in the current folder, resumes the run of
    `config` in `folder`. `files`: the user's rating files, by flag."""
    flags = ["--resume", file_argument(folder)]
    if config.data_dir:
        flags += ["--data_dir", file_argument(config.data_dir)]
    searched = Path("."), Path(config.data_dir or ".")  # files in these need no flag
    for flag, path in files.items():
        flags += [f"--{flag}", file_argument(path)] if path.parent not in searched else []
    return [*flags, "--distribute", config.distribute] if config.distribute else flags


def read_member_weights(folder: Path, orientations: Sequence[str]) -> list[float]:
    """Return the weight of each member of a blend. Raise UserError if members.csv is damaged, or
    does not match members of these `orientations`."""
    path = folder / MEMBERS
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        weights = [float(row["weight"]) for row in rows]
        same = [row["orientation"] for row in rows] == list(orientations)
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): the run did not finish its "
                        "blend") from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged: it lacks a weight or an orientation") from error
    if not same or not all(0 <= x < float("inf") for x in weights) or not any(weights):
        raise UserError(f"{path} does not match the members in {folder / CONFIG}")
    return weights


def tab_line(name: str, values: Sequence[float | None]) -> str:
    """Return `name` and each value, followed by tabs, like the earlier TensorFlow 1 program."""
    return "\t".join([name, *map(str, values), "\n"])


def default_name(config: Config) -> str:
    """Return the default name of a run: dataset, preset, seed, optimiser, learning rate, UTC time.

    A run over several splits or folds has a digest of its settings instead of the time, so the same
    command continues in the same folder, even if a version without folds started it.
    """
    if not config.is_repeated:
        last = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    else:
        settings = config.to_dict() | {"num_splits": None}
        if config.member_settings == earlier_member_settings(config):  # as in earlier versions
            del settings["member_settings"]
        settings = {k: v for k, v in settings.items() if v or k not in UNNAMED}
        digest = hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:8]
        last = f"{'splits' if config.num_splits > 1 else 'folds'}_{digest}"
    preset = "" if config.preset == "default" else f"{config.preset}_"
    return (
        f"{config.dataset}_{preset}seed{config.random_seed}_{config.optimizer_method.lower()}"
        f"_lr{config.base_lr:g}_{last}"
    )
