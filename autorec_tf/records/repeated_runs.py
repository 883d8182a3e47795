"""The folder of a run over several splits or folds, and its table of results."""

import json
import math
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from autorec_tf.config import UNNAMED, Config, as_typed
from autorec_tf.records import run_folder
from autorec_tf.records.run_folder import CONFIG, SETTINGS, SPLITS, SUMMARY
from autorec_tf.records.summary import AVERAGED, INTERVAL, MEAN, is_number, summary_of_splits
from autorec_tf.records.tables import aligned_table
from autorec_tf.resolution import earlier_member_settings, split_configs, uses_lbfgs
from autorec_tf.system.distribution import Workers
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import lock, make_folder, read_json, unlock, write_csv, write_json

# Columns of splits.csv in the printed table, and their titles.
SHOWN = {"split_seed": "split", "fold": "fold", "final_test_rmse": "RMSE", "final_test_mae": "MAE",
         "ndcg_at_10": "NDCG@10", "recall_at_10": "Recall@10", "biases_test_rmse": "biases RMSE",
         "seconds": "seconds"}


class RepeatedRuns:
    """The folder `results_dir/run_name` of a run over several splits or folds: a run folder for
    each split, and the table of results. It may already exist with the same settings. With several
    `workers`, only the first has the folder, and it sends the others the state of each split.

    Raises:
        UserError: the folder has other settings, or cannot be created.
    """

    def __init__(self, config: Config, fingerprint: str, workers: Workers | None = None) -> None:
        assert config.run_name
        self.path = Path(config.results_dir) / config.run_name
        self.workers, self.lock = workers, None
        self.is_first = not workers or workers.cluster.index == 0
        self.num_splits = len(split_configs(config))
        self.rows: list[dict[str, Any]] = []
        settings = config.to_dict() | {"fingerprint": fingerprint}
        for name in ("num_splits", "display_step", "checkpoint_every", "comet", "tensorboard"):
            del settings[name]  # these may change
        if not uses_lbfgs(config):  # an earlier version has other values
            settings = {n: value for n, value in settings.items() if not n.startswith("lbfgs_")}
        settings = json.loads(json.dumps(settings))  # as read from JSON, without tuples
        if not self.is_first:
            return
        with suppress(FileExistsError):
            make_folder(self.path)
        self.lock = lock(self.path)
        try:
            self.check(config, settings)
        except UserError:
            self.close()
            raise

    def check(self, config: Config, settings: dict[str, Any]) -> None:
        """Write the settings into a new folder. Raise UserError for an existing folder with other
        settings, or without settings."""
        path = self.path / SETTINGS
        if path.exists():
            before = read_json(path)
            earlier = json.loads(json.dumps(earlier_member_settings(config)))
            missing = UNNAMED | {"member_settings": earlier, "lbfgs_by_row": False}
            before["preset"] = settings["preset"]  # only a name for settings that are compared
            for name in settings:
                saved = before.get(name, missing.get(name, settings[name]))
                if saved != settings[name]:
                    raise UserError(f"{self.path} has splits with {name} {as_typed(saved)}, "
                                    f"not {as_typed(settings[name])}. Choose another --run_name.")
        elif any(path.name != ".lock" for path in self.path.iterdir()):
            raise UserError(f"{self.path} already exists and has no splits. Choose another "
                            "--run_name.")
        else:
            write_json(path, settings)

    def close(self) -> None:
        """Release the lock on the folder."""
        if self.lock:
            unlock(self.lock)

    def as_the_first(self, number: float) -> float:
        """Return the `number` that the first worker has."""
        return float(self.workers.sum(number * self.is_first)) if self.workers else number

    def unfinished(self, config: Config) -> Config:
        """Return the settings that resume the run of a split, or start it if it has not begun."""
        assert config.run_name
        folder = self.path / config.run_name
        if self.as_the_first((folder / CONFIG).exists()):
            return run_folder.resumed_config(
                folder, data_dir=config.data_dir, comet=config.comet,
                tensorboard=config.tensorboard, distribute=config.distribute)
        if self.is_first and folder.exists():
            shutil.rmtree(folder)
        return config

    def finished(self, config: Config) -> dict[str, Any] | None:
        """Return the summary of a split if it is finished; other workers get only the RMSE."""
        summary = self.read(config) if self.is_first else None
        rmse = self.as_the_first(summary["final_test_rmse"] if summary else -1.0)
        return None if rmse < 0 else summary or {"final_test_rmse": rmse}

    def read(self, config: Config) -> dict[str, Any] | None:
        """Return the summary of a split if it is finished. Raise UserError if it lacks the numbers
        of the table."""
        assert config.run_name
        folder = self.path / config.run_name
        summary = run_folder.read_summary(folder)
        if summary.get("status") != "finished":
            return None
        for name in ("seconds", *AVERAGED):
            value: Any = summary.get(name, 0.0 if name in AVERAGED[1:] else None)
            unranked = value is None and name in summary and name.endswith("_at_10")
            if not unranked and not is_number(value):
                raise UserError(f"{folder / SUMMARY} is damaged: {name} is not a number. Remove "
                                f"{folder} to run the split again.")
        return summary

    def add(self, config: Config, summary: dict[str, Any]) -> None:
        """Add a finished split, and write the table and its summary again."""
        if not self.is_first:
            return
        measures = {name: summary[name] for name in AVERAGED if summary.get(name) is not None}
        fold = config.fold or "".join(config.folds)
        which = {"fold": fold} if fold else {"split_seed": config.split_seed}
        row = which | measures | {"seconds": summary["seconds"]}
        names = [name for name in row if all(name in other for other in self.rows)]
        self.rows = [{name: other[name] for name in names} for other in (*self.rows, row)]
        write_csv(self.path / SPLITS, self.rows)
        write_json(self.path / SUMMARY, summary_of_splits(self.rows, self.num_splits))

    def table(self) -> str:
        """Return the most important columns of all splits, the means and half of their 95 %
        intervals, as Markdown of at most 80 columns."""
        if not self.is_first:
            return "Worker 0 prints the table of results."
        which, *names = (name for name in SHOWN if name in self.rows[0])
        summary = summary_of_splits(self.rows, self.num_splits)
        lines = [(str(row[which]), [row[name] for name in names]) for row in self.rows]
        for title, ending in (("mean", MEAN), ("± 95 %", INTERVAL)):
            lines.append((title, [summary.get(name + ending, math.nan) for name in names]))
        cells = [{SHOWN[which]: title} | {
            SHOWN[name]: f"{x:.{0 if name == 'seconds' else 4}f}"
            for name, x in zip(names, values, strict=True)} for title, values in lines]
        return f"{aligned_table(cells)}\nResults: {self.path}"
