"""The folder of a run over several splits, and the table over them."""

import json
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from config import Config
from errors import UserError
from records import RECONSTRUCTION, make_folder, read_json, write_csv, write_json

# What a table over several splits gives a mean of.
MEASURES = ("final_test_rmse", "final_test_mae", "ndcg_at_10", "recall_at_10",
            RECONSTRUCTION)  # fmt: skip


class SplitsFolder:
    """The folder `results_dir/run_name` of a run over several splits: a run folder for each, and
    the table over them. It may exist, if it holds the same settings.

    Raises UserError if it holds other ones, or cannot be made.
    """

    def __init__(self, config: Config, fingerprint: str) -> None:
        self.path = Path(config.results_dir) / config.run_name
        self.num_splits, self.rows = config.num_splits, []
        place = self.path / "settings.json"
        settings = config.recorded() | {"fingerprint": fingerprint}
        for name in ("num_splits", "display_step", "comet"):  # which may change
            del settings[name]
        # As JSON reads them again: tuples are lists there.
        settings = json.loads(json.dumps(settings))
        if place.exists():
            found = read_json(place)
            for name in settings:
                if found.get(name, settings[name]) != settings[name]:
                    raise UserError(
                        f"{self.path} holds splits of another {name} ({found[name]}, not "
                        f"{settings[name]}): choose another --run_name"
                    )
            return
        if self.path.exists():
            raise UserError(
                f"{self.path} already exists and holds no splits: choose another --run_name"
            )
        make_folder(self.path)
        write_json(place, settings)

    def finished(self, config: Config) -> dict[str, Any] | None:
        """The summary of a split that is finished; what is left of another one is removed."""
        place = self.path / config.run_name
        summary = place / "summary.json"
        if summary.exists() and (found := read_json(summary))["status"] == "finished":
            return found
        if place.exists():
            shutil.rmtree(place)
        return None

    def add(self, config: Config, summary: dict[str, Any]) -> None:
        """Note a finished split, and renew the table and its summary."""
        measures = {name: summary[name] for name in MEASURES if name in summary}
        row = {"split_seed": config.split_seed} | measures | {"seconds": summary["seconds"]}
        self.rows.append(row)
        write_csv(self.path / "splits.csv", self.rows)
        write_json(self.path / "summary.json", self.summary())

    def summary(self) -> dict[str, Any]:
        found = {
            "status": "finished" if len(self.rows) == self.num_splits else "interrupted",
            "num_splits": len(self.rows),
        }
        for name in list(self.rows[0])[1:]:
            mean, half = mean_and_interval([row[name] for row in self.rows])
            found[f"{name}_mean"] = mean
            if len(self.rows) > 1:  # JSON knows no nan
                found[f"{name}_ci95"] = half
        return found

    def table(self) -> str:
        """Every split and the mean with its 95 % interval, as Markdown."""
        names = list(self.rows[0])
        summary = self.summary()
        lines = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
        for row in self.rows:
            cells = (f"{x:.4f}" if isinstance(x, float) else str(x) for x in row.values())
            lines.append(f"| {' | '.join(cells)} |")
        means = (f"{summary[f'{n}_mean']:.4f} ± {summary[f'{n}_ci95']:.4f}" for n in names[1:])
        lines.append(f"| mean ± 95 % | {' | '.join(means)} |")
        return "\n".join([*lines, f"Results: {self.path}"])


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half the width of its 95 % interval by Student's t; nan for one value."""
    if len(values) < 2:
        return values[0], float("nan")
    from scipy.special import stdtrit  # memory that most runs need not spend

    quantile = stdtrit(len(values) - 1, 0.975)
    return statistics.fmean(values), quantile * statistics.stdev(values) / len(values) ** 0.5
