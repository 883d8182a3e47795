"""What an event file of TensorBoard and an archive of Comet hold."""

import csv

import numpy as np
import tensorflow as tf


def events_of(folder):
    """The events of the one event file of a run folder, as TensorFlow reads them."""
    (path,) = (folder / "tensorboard").iterdir()
    return list(tf.compat.v1.train.summary_iterator(str(path)))


def scalars(events):
    """(step, tag) -> value; each of them stands once."""
    found = [
        ((event.step, value.tag), value.simple_value)
        for event in events
        for value in event.summary.value
        if value.HasField("simple_value")
    ]
    assert len(found) == len(dict(found)) > 0
    return dict(found)


def metrics_of(folder):
    """(epoch, name) -> what metrics.csv holds, to float32's precision, times of day aside."""
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return {
            (int(row["epoch"]), name): float(np.float32(cell))
            for row in csv.DictReader(file)
            for name, cell in row.items()
            if cell and name not in ("epoch", "elapsed_seconds")
        }
