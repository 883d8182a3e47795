"""The records of a training without a run folder: a progress line, warnings, and a summary in
memory."""

import io
import sys
import time
from collections.abc import Callable, Mapping
from copy import copy
from functools import partialmethod
from typing import Any

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.evaluation.metrics import EpochMetrics, Scores
from autorec_tf.records.progress import Progress
from autorec_tf.records.run_warnings import last_warnings
from autorec_tf.records.summary import closing_entries, training_summary
from autorec_tf.system.errors import AutoRecWarning, warn_caller, without_dashes


class Console:
    """The records of the Python API (training/records.py), printed to stdout if `shown`."""

    config: Config
    split: Split

    def __init__(self, shown: bool) -> None:
        self.started = time.perf_counter()
        self.progress = Progress(stream=sys.stdout if shown else io.StringIO())
        # The output of a notebook is not a terminal, but can update a line.
        self.progress.live |= type(self.progress.stream).__module__.startswith("ipykernel.")
        self.metrics: list[EpochMetrics] = []
        self.rmses: list[float] = []  # of the grid points
        self.summary: dict[str, Any] = {}
        self.state: Any = None  # of the training

    def log(self, text: str | AutoRecWarning) -> None:
        """Print a line, or issue a warning, also if nothing is shown."""
        if isinstance(text, AutoRecWarning):
            warn_caller(text)
        else:
            self.progress.print_line(without_dashes(text.removeprefix("Data file ")))

    def begin(self, config: Config, ratings: Ratings, split: Split) -> None:
        """Begin to show the training on `split` of `ratings`."""
        self.config, self.split = config, split
        self.summary = {"status": "finished", "dataset": ratings.name, "preset": config.preset}
        self.progress.begin(config)

    def restore(self, state: Any) -> Any:
        self.state = state
        return state

    def log_epoch(self, metrics: EpochMetrics, state: Any) -> None:
        self.metrics.append(metrics)
        self.progress.log(metrics)

    def do_nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing: Ctrl-C raises KeyboardInterrupt, and nothing is written."""

    stop_if_asked = log_settings = log_members = do_nothing

    def tuned(self) -> list[float]:
        return self.rmses

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        self.rmses.append(round(validation_rmse, 5))  # as in tuning.csv
        self.progress.log_point(point, validation_rmse)

    def log_chosen(self, point: dict[str, Any]) -> None:
        self.progress.log_chosen(point)

    def log_step(self, what: str, done: int, total: int, ends_early: bool = False) -> None:
        self.progress.count(what, done, total, ends_early)

    log_ranked = partialmethod(log_step, "users ranked")
    log_pretraining = partialmethod(log_step, "pre-training epoch")

    def of_member(self, config: Config, purpose: str, number: int) -> "Console":
        self.progress.begin_member(self.config, config, purpose, number)
        member = copy(self)
        member.metrics = []  # the blend has no metrics of its epochs
        return member

    def finish(self, model: Any, evaluation: Evaluation, titles: Mapping[str, str],
               predictions: Callable[[], dict[str, Any]],
               reconstruction: Scores | None = None) -> None:
        self.summary |= training_summary(self.metrics, evaluation, reconstruction)
        self.summary |= closing_entries(self.split, time.perf_counter() - self.started)
        if self.state and self.state.trainer.has_converged:
            self.summary["converged"] = True
        for warning in last_warnings(self.summary):
            self.log(warning)
