"""TensorFlow checkpoints that are written, and read, a slice of a tensor at a time."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from autorec_tf.system.files import as_utf8

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of a variable's name, as tf.train.Checkpoint has it


class Slice(NamedTuple):
    """Some rows of a tensor, or columns if `axis` is 1, from `start` on; `shape` is the whole
    tensor's, or () if these are all its `values` (NumPy's or TensorFlow's)."""

    name: str
    shape: tuple[int, ...]
    start: int
    values: Any
    axis: int = 0


def specification(shape: tuple[int, ...], start: int, part: tuple[int, ...], axis: int = 0) -> str:
    """Return what TensorFlow calls shape and slice: "6 4 3,2:-" for rows 3 and 4 of a 6 x 4."""
    ranges = [f"{start},{part[i]}" if i == axis else "-" for i in range(len(shape))]
    return f"{' '.join(map(str, shape))} {':'.join(ranges)}" if shape else ""


def write_slices(prefix: Path, slices: Iterable[Slice], file_bytes: float = math.inf) -> None:
    """Write the tensors that `slices` make up as the checkpoint `prefix`, in files of at most
    `file_bytes`, of which one is in memory. Raise tf.errors.OpError if that fails."""
    files: list[str] = []
    pending: list[Slice] = []

    def write() -> None:
        files.append(f"{as_utf8(prefix)}_temp/part-{len(files):05}")
        tf.raw_ops.SaveV2(
            prefix=files[-1], tensor_names=[each.name for each in pending],
            tensors=[each.values for each in pending],
            shape_and_slices=[specification(x.shape, x.start, x.values.shape, x.axis)
                              for x in pending],
        )
        pending.clear()

    for each in slices:
        if file_bytes < math.inf and pending:
            if sum(one.values.nbytes for one in [*pending, each]) > file_bytes:
                write()
        pending.append(each)
    write()
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=files, destination_prefix=as_utf8(prefix))


def read_slice(prefix: Path, name: str, shape: tuple[int, ...], start: int, like: Any) -> Any:
    """Return as many rows of a tensor as `like` has, from `start`; raise tf.errors.OpError."""
    return tf.raw_ops.RestoreV2(
        prefix=as_utf8(prefix), tensor_names=[name], dtypes=[like.dtype],
        shape_and_slices=[specification(shape, start, tuple(like.shape))],
    )[0]
