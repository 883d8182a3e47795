"""The interface of records. Its implementations write a run folder, take part as another worker
(both in records/run_records.py), or print to the console (records/console.py)."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from autorec_tf.config import Config
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.evaluation.metrics import EpochMetrics, Scores
from autorec_tf.training.epochs import TrainState


class TrainingRecords(Protocol):
    """The records of one training; a blend has several."""

    def restore(self, state: TrainState) -> TrainState:
        """Return `state`, restored from the last checkpoint if there is one."""

    def log_epoch(self, metrics: EpochMetrics, state: TrainState) -> None:
        """Record an epoch, and save a checkpoint if one is due. Raise Interrupted if the user has
        asked the run to stop."""


class Records(TrainingRecords, Protocol):
    """The records of a run, or of a call of the Python API."""

    summary: dict[str, Any]  # the content of summary.json; complete after `finish`

    def stop_if_asked(self) -> None:
        """Raise Interrupted if the user has asked the run to stop."""

    def tuned(self) -> list[float]:
        """Return the validation RMSE of each grid point tried so far."""

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        """Record the validation RMSE of the next grid point."""

    def log_chosen(self, point: dict[str, Any]) -> None:
        """Show the grid point with the lowest validation RMSE."""

    def log_step(self, what: str, done: int, total: int, ends_early: bool = False) -> None:
        """Show that `done` of `total` steps of a task named `what` are done. With `ends_early`, it
        may end before the last step."""

    def log_pretraining(self, done: int, total: int) -> None:
        """Show the number of epochs of pre-training. Raise Interrupted as `stop_if_asked`."""

    def log_ranked(self, done: int, total: int) -> None:
        """Show that `done` of `total` users are ranked."""

    def log_settings(self, config: Config) -> None:
        """Record `config` as the settings of the run from now on."""

    def of_member(self, config: Config, purpose: str, number: int) -> TrainingRecords:
        """Return the records of a member of a blend; `purpose` is an experiments.Purpose."""

    def log_members(self, rows: list[dict[str, Any]]) -> None:
        """Record the settings, weights and scores of the members of a blend."""

    def finish(self, model: Any, evaluation: Evaluation, titles: Mapping[str, str],
               predictions: Callable[[], dict[str, Any]],
               reconstruction: Scores | None = None) -> None:
        """Record the result.

        Args:
            model: the trained model or blend.
            evaluation: its scores on the test ratings.
            titles: titles by item id.
            predictions: returns the arrays of predictions.npz, when they are computed.
            reconstruction: the scores of the leaking measure.
        """
