"""The choice between the dense and the sparse engine."""

import importlib.util
import math
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.config import FULL_BATCH, Config
from autorec_tf.model.dense_engine import DenseEngine
from autorec_tf.system.errors import UserError

MOST_REUSED = 1 << 26  # bytes of a result whose memory is reused in a full batch
SPARSE_DENSITY = 0.2  # above this fraction of observed entries, `auto` chooses the dense engine


def choose_engine(config: Config, density: float) -> str:
    """Return the engine for a rating matrix of this density: "dense" or "sparse".

    "auto" is sparse for float32 on a CPU, if Numba is installed and at most `SPARSE_DENSITY` of the
    rating matrix is observed, and dense otherwise; with `--distribute mirrored` it is dense.

    Raises:
        UserError: "sparse" without Numba, or bfloat16 on a processor that only emulates it.
    """
    wanted, precision = config.engine, config.precision
    numba = importlib.util.find_spec("numba") is not None
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if precision == "bfloat16" and wanted == "sparse":
        raise UserError("--precision bfloat16: the sparse engine computes in float32. Use "
                        "--engine dense.")
    if precision == "bfloat16" and not on_gpu and not multiplies_bfloat16():
        raise UserError("--precision bfloat16: this processor only emulates bfloat16 (it has "
                        "neither AVX512_BF16 nor AMX), which is slower than float32. Use "
                        "--precision float32.")
    if wanted == "sparse" and not numba:
        raise UserError("--engine sparse needs Numba. Install it with pip install numba, or use "
                        "--engine dense.")
    if wanted != "auto":
        return wanted
    sparse = numba and not on_gpu and density <= SPARSE_DENSITY and precision == "float32"
    return "sparse" if sparse and config.distribute != "mirrored" else "dense"


def make_engine(config: Config, density: float) -> Any:
    """Return an engine of the kind that `choose_engine` returns."""
    if choose_engine(config, density) == "dense":
        return DenseEngine(config.precision)
    from autorec_tf.model.sparse_engine import SparseEngine  # only this module needs Numba

    # A large step over all ratings takes seconds: the time to allocate memory matters less.
    is_full_batch = config.optimizer_method in FULL_BATCH
    return SparseEngine(most_reused=MOST_REUSED if is_full_batch else math.inf)


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 products, according to Linux."""
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})
