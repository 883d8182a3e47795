"""TensorFlow checkpoints, written and read one slice of a tensor at a time."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import tensorflow as tf

from autorec_tf.system.files import as_utf8

SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"  # of variable names, as in tf.train.Checkpoint


class Slice(NamedTuple):
    """Some rows of a tensor, or columns if `axis` is 1, beginning at `start`. `values` is an array
    or tensor; `shape` is the complete tensor's, or () if `values` is the complete tensor."""

    name: str
    shape: tuple[int, ...]
    start: int
    values: Any
    axis: int = 0


def specification(shape: tuple[int, ...], start: int, part: tuple[int, ...], axis: int = 0) -> str:
    """Return TensorFlow's "shape and slice": "6 4 3,2:-" for rows 3 and 4 of a 6 x 4 tensor."""
    ranges = [f"{start},{part[i]}" if i == axis else "-" for i in range(len(shape))]
    return f"{' '.join(map(str, shape))} {':'.join(ranges)}" if shape else ""


def write_slices(prefix: Path, slices: Iterable[Slice], file_bytes: float = math.inf) -> None:
    """Write the tensors that consist of `slices` as the checkpoint `prefix`, in files of at most
    `file_bytes`, with one file at a time in memory. Raise tf.errors.OpError if that fails."""
    files: list[str] = []
    pending: list[Slice] = []

    def write() -> None:
        files.append(f"{as_utf8(prefix)}_temp/part-{len(files):05}")
        tf.raw_ops.SaveV2(
            prefix=files[-1], tensor_names=[x.name for x in pending],
            tensors=[x.values for x in pending],
            shape_and_slices=[specification(x.shape, x.start, x.values.shape, x.axis)
                              for x in pending],
        )
        pending.clear()

    for new in slices:
        if file_bytes < math.inf and pending:
            if sum(x.values.nbytes for x in [*pending, new]) > file_bytes:
                write()
        pending.append(new)
    write()
    tf.raw_ops.MergeV2Checkpoints(checkpoint_prefixes=files, destination_prefix=as_utf8(prefix))


def read_slice(prefix: Path, name: str, shape: tuple[int, ...], start: int, like: Any,
               dtype: tf.DType, axis: int = 0) -> Any:
    """Return a slice, of the shape of `like`, of a tensor of type `dtype`. It begins at `start` of
    `axis`. Raise tf.errors.OpError."""
    return tf.raw_ops.RestoreV2(
        prefix=as_utf8(prefix), tensor_names=[name], dtypes=[dtype],
        shape_and_slices=[specification(shape, start, tuple(like.shape), axis)],
    )[0]
