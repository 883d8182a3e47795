"""TensorBoard's view of a run: its settings and metrics as an event file.

TensorFlow's own writers put the machine's name into the file's name, and its `tf.summary.scalar`
needs TensorBoard, which TensorFlow brings no more from 2.21 on. But an event file is no more than
`Event` messages in a TFRecord file, and TensorFlow has both: TensorBoard is for looking only.
"""

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.records.tables import table
from autorec_tf.system.files import as_utf8

Event, Summary = tf.compat.v1.Event, tf.compat.v1.Summary

FOLDER = "tensorboard"  # within a run folder
NAME = "events.out.tfevents"  # what TensorBoard looks for
NOT_SHOWN = ("epoch", "elapsed_seconds")  # the axes


def warn_if_missing(warn: Callable[[str], object]) -> None:
    """Warn what it takes to look at summaries, where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        warn("TensorBoard is not installed here: to look at what --tensorboard writes, "
            "pip install tensorboard")


class Summaries:
    """The event file of the run in `run_dir`, a new one: what was there is removed.

    A run that is resumed logs its whole record again, from the first epoch on, so no step stands
    twice. `elapsed` is how many seconds of training that record is long. Every method raises
    OSError if it cannot write.
    """

    def __init__(self, run_dir: Path, elapsed: float = 0.0) -> None:
        self.folder, self.started = run_dir / FOLDER, time.time() - elapsed
        self.folder.mkdir(exist_ok=True)
        for old in self.folder.glob(f"{NAME}*"):
            old.unlink()
        # A new name, for a TensorBoard that is looking takes no notice of a file put in place.
        self.path = self.folder / f"{NAME}.{time.time_ns() // 1000}"
        with self.os_errors():
            self.writer = tf.io.TFRecordWriter(as_utf8(self.path))
        self.write(Event(wall_time=self.started, file_version="brain.Event:2"))

    def log_parameters(self, parameters: Mapping[str, Any]) -> None:
        """Log settings and facts as a text, a table in Markdown."""
        text = table(["setting", "value"], parameters.items())
        metadata = tf.compat.v1.SummaryMetadata(plugin_data={"plugin_name": "text"})
        tensor = tf.make_tensor_proto(text, tf.string)
        value = Summary.Value(tag="settings", metadata=metadata, tensor=tensor)
        self.write(Event(wall_time=self.started, step=0, summary=Summary(value=[value])))

    def log_metrics(self, metrics: Mapping[str, Any], epoch: int) -> None:
        """Logs a row of metrics.csv under its names, the epoch being the step; None is left
        out. The time is that of training, without the pauses of a run that was resumed."""
        values = [
            Summary.Value(tag=name, simple_value=value)
            for name, value in metrics.items()
            if value is not None and name not in NOT_SHOWN
        ]
        when = self.started + metrics["elapsed_seconds"]
        self.write(Event(wall_time=when, step=epoch, summary=Summary(value=values)))

    def close(self) -> None:
        """Ends the file, which is whole at any time."""
        self.writer.close()

    def write(self, event: tf.compat.v1.Event) -> None:
        """Append `event`, at once."""
        with self.os_errors():
            self.writer.write(event.SerializeToString())
            self.writer.flush()

    @contextmanager
    def os_errors(self) -> Iterator[None]:
        """TensorFlow's errors, as what they are."""
        try:
            yield
        except tf.errors.OpError as error:
            raise OSError(None, error.message.rpartition(";")[2].strip(), str(self.path)) from error
