"""The declarations of all parameters of the model.

The model creates its variables from this list. Saving, loading, sharding over workers, adding rows
and columns, and the npz file iterate over it. Names on disk never change.

This module does not import TensorFlow.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from autorec_tf.config import Config
from autorec_tf.system.errors import UserError

COLUMN, ROW = "column", "row"
SVDPP_SCALE = 0.1  # s of the SVD++ decoder (decoder.py)


@dataclass(frozen=True)
class Parameter:
    """One float32 parameter. An empty `saved`, `npz` or `checkpoint` stands for `name`."""

    name: str
    axes: tuple[str | int, ...]  # COLUMN, ROW, or a number of units or rating values
    stddev: float = 0.0  # of the truncated normal of the initial values; 0: they are 0
    saved: str = ""  # name in the files of a finished run
    npz: str = ""  # name in an npz file; {} stands for the number of the member
    checkpoint: str = ""  # name in the checkpoint of a training
    transposed: bool = False  # in the files of a finished run and in npz files
    exists: bool = True  # in this model

    @property
    def is_per_column(self) -> bool:
        """Whether the parameter has an entry per column, so that workers divide it."""
        return COLUMN in self.axes

    @property
    def is_per_row(self) -> bool:
        """Whether the parameter has an entry per row. Each worker uses all of it, for the ratings
        of its columns."""
        return ROW in self.axes

    def shape(self, num_columns: int, num_rows: int) -> tuple[int, ...]:
        """Return the shape in a model with `num_columns` columns and `num_rows` rows."""
        sizes = {COLUMN: num_columns, ROW: num_rows}
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in self.axes)

    def npz_name(self, member: int) -> str:
        return (self.npz or f"{self.name}_{{}}").format(member)

    def oriented(self, values: np.ndarray) -> np.ndarray:
        """Convert `values` from the orientation of the model to that of a file, or back."""
        return values.T if self.transposed else values


def parameters_of(config: Config, num_values: int = 0) -> list[Parameter]:
    """Return the parameters of a model, in order. `num_values`: rating values of one-hot inputs."""
    first, last = config.hidden_neuron[0], config.hidden_neuron[-1]
    one_hot, svdpp = config.input_encoding == "one_hot", config.decoder == "svdpp"
    biased = config.decoder != "own"
    declared = [
        Parameter("V", (COLUMN, first), config.init_stddev),
        Parameter("Wt", (COLUMN, last), config.init_stddev, saved="W", transposed=True,
                  npz="own_W_{}" if biased else "W_{}"),
        Parameter("mu", (first,)),
        Parameter("b", (COLUMN,)),
        Parameter("D", (COLUMN, num_values, first), exists=one_hot),
        Parameter("Y", (ROW, last), checkpoint="svdpp/Y", exists=svdpp),
        Parameter("c", (ROW,), checkpoint="svdpp/c", exists=biased),
    ]
    for i, (inputs, outputs) in enumerate(pairwise(config.hidden_neuron)):
        declared += [
            Parameter(f"inner/{i}/0", (inputs, outputs), inputs**-0.5, npz=f"inner_{{}}_{i + 1}"),
            Parameter(f"inner/{i}/1", (outputs,), npz=f"inner_bias_{{}}_{i + 1}"),
        ]
    return [parameter for parameter in declared if parameter.exists]


@dataclass(frozen=True, eq=False)
class TrainedParameters:
    """The parameters of a trained model as arrays, without TensorFlow.

    Args:
        config: the settings of the model.
        values: the rating values of one-hot inputs (float32, ascending), or None.
        declared: the declarations of the parameters.
        parameters: float32, in the order of `declared`, in the orientation of the model.
    """

    config: Config
    values: np.ndarray | None
    declared: list[Parameter]
    parameters: list[np.ndarray]


def check_parameters(arrays: Sequence[np.ndarray], declared: Sequence[Parameter], num_columns: int,
                     num_rows: int, named: str) -> None:
    """Raise UserError unless `arrays` are finite float32 arrays of the `declared` shapes.

    Args:
        arrays: the parameters, in the order of `declared`.
        declared: their declarations.
        num_columns, num_rows: the size of the model.
        named: the name of the parameters in messages.
    """
    if len(arrays) != len(declared):
        raise UserError(f"{named}: there are {len(arrays)} parameters, but the settings require "
                        f"{len(declared)}")
    for parameter, array in zip(declared, arrays, strict=True):
        if array.shape != parameter.shape(num_columns, num_rows) or array.dtype != np.float32:
            raise UserError(f"{named}: {parameter.name} is {array.dtype} {array.shape}, which does "
                            "not match config.json and the ratings")
        if not np.isfinite(array).all():
            raise UserError(f"{named}: parameters contain NaN or infinity. The training diverged.")
