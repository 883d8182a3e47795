"""The run folder: what a run leaves on disk for people and programs to read."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import astuple, fields
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, get_type_hints

from filelock import FileLock

from config import Config
from evaluation.metrics import RECONSTRUCTION, EpochMetrics
from evaluation.slices import Slice
from system.errors import UserError
from system.files import lock, make_folder, read_json, unlock, whole, write_json, write_text


class RunFolder:
    """The folder `results_dir/name` of one run, which nobody else may use meanwhile.

    It must be new, and `create` makes it, under another name if it is taken and `name` is not the
    user's; or, with `resume`, it is that of a run that did not finish. Raises UserError, here or
    in `create`, if the folder is taken, in use, or cannot be made.
    """

    def __init__(
        self, results_dir: str | Path, name: str, resume: bool = False, chosen: bool = True
    ) -> None:
        self.path, self.resume, self.chosen = Path(results_dir) / name, resume, chosen
        self.metrics: list[EpochMetrics] = []
        self.held: FileLock | None = None
        if resume:
            self.held = lock(self.path)
        elif chosen and self.path.exists():
            raise self.taken()

    def create(self) -> None:
        """Make the folder, if it is to be a new one."""
        first, number = self.path, count(2)
        while not self.resume:
            try:
                make_folder(self.path)
                self.held = lock(self.path)
                return
            except FileExistsError as error:
                if self.chosen:
                    raise self.taken() from error
                self.path = first.with_name(f"{first.name}_{next(number)}")

    def taken(self) -> UserError:
        unfinished = (self.path / "config.json").exists() and not self.is_finished()
        go_on = f", or go on with it: --resume {self.path}" if unfinished else ""
        return UserError(
            f"{self.path} already exists and is never overwritten: choose another --run_name{go_on}"
        )

    def is_finished(self) -> bool:
        summary = self.path / "summary.json"
        return summary.exists() and read_json(summary).get("status") == "finished"

    def reopen(self) -> None:
        """A finished run that is to go on is finished no more; its result stays."""
        if self.is_finished():
            summary = self.path / "summary.json"
            write_json(summary, read_json(summary) | {"status": "interrupted"})

    def close(self) -> None:
        """Let go of the folder."""
        if self.held:
            unlock(self.held)

    def add(self, metrics: EpochMetrics) -> None:
        """Append one epoch to metrics.csv, at once."""
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        if not self.metrics:
            writer.writerow([f.name for f in fields(EpochMetrics)])
        writer.writerow(astuple(metrics))
        with open(self.path / "metrics.csv", "a", newline="", encoding="utf-8") as file:
            file.write(text.getvalue())
        self.metrics.append(metrics)

    def mark(self) -> dict[str, Any]:
        """How far metrics.csv goes now, for `cut`."""
        place = self.path / "metrics.csv"
        content = place.read_bytes() if self.metrics else b""
        return {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    def cut(self, mark: dict[str, Any] | None) -> None:
        """Go back to a `mark` in metrics.csv, or to its beginning; UserError if what lies before
        was changed since."""
        place = self.path / "metrics.csv"
        if mark is None:
            place.unlink(missing_ok=True)
            self.metrics = []
            return
        content = place.read_bytes() if place.exists() else b""
        content = content[: mark.get("bytes")]
        if hashlib.sha256(content).hexdigest() != mark.get("sha256"):
            raise UserError(
                f"{place} was changed since the last checkpoint: put it back, or remove "
                f"{self.path / 'checkpoint.json'}, and the run begins again"
            )
        with whole(place) as unfinished:
            unfinished.write_bytes(content)
        hints = get_type_hints(EpochMetrics)
        self.metrics = [
            EpochMetrics(**{name: cell(text, hints[name]) for name, text in row.items()})
            for row in csv.DictReader(io.StringIO(content.decode()))
        ]

    def write_json(self, name: str, content: dict[str, Any]) -> None:
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
            write_text(self.path / name, text)


def cell(text: str, hint: Any) -> int | float | None:
    """A value of metrics.csv, read again; nothing is None."""
    if not text:
        return None
    return int(text) if hint is int else float(text)


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
