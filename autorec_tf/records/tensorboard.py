"""TensorBoard summaries: the settings and metrics of a run as an event file.

TensorFlow's writers put the name of the machine into the file name, and `tf.summary.scalar` needs
TensorBoard, which TensorFlow no longer installs as of 2.21. But an event file consists of `Event`
messages in a TFRecord file, and TensorFlow has both: TensorBoard is needed only to view it.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.records.tables import as_markdown, table
from autorec_tf.system.files import as_utf8

Event, Summary = tf.compat.v1.Event, tf.compat.v1.Summary

FOLDER = "tensorboard"  # within a run folder
NAME = "events.out.tfevents"  # prefix of the files that TensorBoard reads
NOT_SHOWN = ("epoch", "elapsed_seconds")  # the axes


def warn_if_missing(warn: Callable[[str], object]) -> None:
    """Warn if TensorBoard, which displays the summaries, is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        warn("warning: TensorBoard is not installed. To view summaries: pip install tensorboard")


class Summaries:
    """A new event file of the run in `run_dir`; existing event files are removed.

    A resumed run logs its record again from the first epoch, so no step appears twice. `elapsed` is
    the training time of that record, in seconds. Every method raises OSError if it cannot write.
    """

    def __init__(self, run_dir: Path, elapsed: float = 0.0) -> None:
        self.folder, self.started = run_dir / FOLDER, time.time() - elapsed
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.glob(f"{NAME}*"):
            old.unlink()
        # A new name, because a running TensorBoard does not notice that a file is replaced.
        self.path = self.folder / f"{NAME}.{time.time_ns() // 1000}"
        with self.os_errors():
            self.writer = tf.io.TFRecordWriter(as_utf8(self.path))
        self.write(Event(wall_time=self.started, file_version="brain.Event:2"))

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log settings and facts as a Markdown table."""
        cells = ((name, as_markdown(str(value))) for name, value in parameters.items())
        text = table(["setting", "value"], cells)
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "text"})
        tensor = tf.make_tensor_proto(text, tf.string)
        value = Summary.Value(tag="settings", metadata=metadata, tensor=tensor)
        self.write(Event(wall_time=self.started, step=0, summary=Summary(value=[value])))

    def log_metrics(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Log a row of metrics.csv under its names, with the epoch as the step; None is omitted.
        The wall time counts training only, without the pauses of a resumed run."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if value is not None and name not in NOT_SHOWN
        ]
        when = self.started + metrics["elapsed_seconds"]
        self.write(Event(wall_time=when, step=epoch, summary=Summary(value=values)))

    def close(self) -> None:
        """Close the file, which is complete at any time."""
        self.writer.close()

    def write(self, event: tf.compat.v1.Event) -> None:
        """Append `event`, and flush."""
        with self.os_errors():
            self.writer.write(event.SerializeToString())
            self.writer.flush()

    @contextmanager
    def os_errors(self) -> Iterator[None]:
        """Raise OSError instead of errors of TensorFlow."""
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(None, error.message.rpartition(";")[2].strip(), str(self.path)) from error
