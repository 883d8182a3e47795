"""What a training tells where there is no run folder: the live line, and nothing that is kept."""

import io
import sys
from collections.abc import Sequence
from typing import Any

from autorec_tf.config import Config
from autorec_tf.evaluation.metrics import EpochMetrics
from autorec_tf.records.progress import Progress
from autorec_tf.system.errors import without_dashes


class Console:
    """What experiments.py wants for `records`, shown on stdout, or nowhere."""

    def __init__(self, shown: bool) -> None:
        self.progress = Progress("", 0, sys.stdout if shown else io.StringIO())
        # A notebook's output is no terminal, and renews a line all the same.
        self.progress.live |= type(self.progress.stream).__module__.startswith("ipykernel.")
        self.epochs: list[EpochMetrics] = []
        self.rmses: list[float] = []  # of what was tuned

    def log(self, text: str) -> None:
        self.progress.print_line(without_dashes(text.removeprefix("Data file ")))

    def log_epoch(self, metrics: EpochMetrics, state: Any = None) -> None:
        self.progress.log(metrics)

    def restore(self, state: Any) -> Any:
        return state

    def stop_if_asked(self) -> None:
        """Ctrl-C raises KeyboardInterrupt here."""

    def tuned(self) -> list[float]:
        return self.rmses

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        self.rmses.append(round(validation_rmse, 5))  # as in tuning.csv
        values = ", ".join(f"{name} {value:g}" for name, value in point.items())
        self.log(f"{values}: validation RMSE {validation_rmse:.4f}")

    def log_settings(self, config: Config) -> None:
        pass

    def of_member(self, config: Config, purpose: str, number: int) -> "Console":
        held_out = "validation" if purpose == "for the weights" else "test"
        self.progress.begin(f"{purpose}, model {number}", config.train_epoch, held_out)
        return self

    def log_members(self, rows: Sequence[dict[str, Any]]) -> None:
        pass
