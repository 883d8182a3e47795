"""How a training is recorded: the interface of the run folder's records, of those of other workers,
and of the console (records/run_records.py, records/console.py)."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from autorec_tf.config import Config
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.evaluation.metrics import EpochMetrics, Scores
from autorec_tf.training.epochs import TrainState


class TrainingRecords(Protocol):
    """The records of one training, of which a blend has several."""

    def restore(self, state: TrainState) -> TrainState:
        """Return `state`, set to the last checkpoint if there is one."""

    def log_epoch(self, metrics: EpochMetrics, state: TrainState) -> None:
        """Record an epoch, perhaps in a checkpoint. Raise Interrupted if the run is to end."""


class Records(TrainingRecords, Protocol):
    """The records of a run, or of a call of the Python API."""

    summary: dict[str, Any]  # the content of summary.json; complete after `finish`

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the run is to end."""

    def tuned(self) -> list[float]:
        """Return the validation RMSE of each point of the grid that was tried."""

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        """Record the validation RMSE of the next point of the grid."""

    def log_settings(self, config: Config) -> None:
        """Record the settings of the run, which are `config` from now on."""

    def of_member(self, config: Config, purpose: str, number: int) -> TrainingRecords:
        """Return the records of a blend's model; `purpose` is a value of experiments.Purpose."""

    def log_members(self, rows: list[dict[str, Any]]) -> None:
        """Record the settings, weights and scores of a blend's models."""

    def log_ranked(self, done: int, total: int) -> None:
        """Show how many of `total` users are ranked."""

    def finish(self, model: Any, evaluation: Evaluation, titles: Mapping[str, str],
               predictions: Mapping[str, np.ndarray], reconstruction: Scores | None = None) -> None:
        """Record the result; `titles`: by item id; `predictions`: arrays to predict from."""
