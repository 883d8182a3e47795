"""Which of the two engines serves here."""

import importlib.util
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.config import Config
from autorec_tf.model.dense_engine import DenseEngine
from autorec_tf.system.errors import UserError

SPARSE_DENSITY = 0.2  # `auto` multiplies dense blocks from this share of observed entries on


def choose_engine(config: Config, density: float) -> str:
    """Return the engine, "dense" or "sparse", that the configuration means here.

    "auto": sparse for float32 on a CPU, if Numba is there and at most `SPARSE_DENSITY` of the
    rating matrix is observed, else dense. Raise UserError for "sparse" without Numba, and for
    bfloat16 where it would not be faster. On several GPUs it is dense.
    """
    wanted, precision = config.engine, config.precision
    numba = importlib.util.find_spec("numba") is not None
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    if precision == "bfloat16" and wanted == "sparse":
        raise UserError("--precision bfloat16 is for --engine dense: the sparse engine is float32")
    if precision == "bfloat16" and not on_gpu and not multiplies_bfloat16():
        raise UserError("--precision bfloat16: this processor only emulates bfloat16 (it has "
                        "neither AVX512_BF16 nor AMX), which is slower than float32: use "
                        "--precision float32")
    if wanted == "sparse" and not numba:
        raise UserError("--engine sparse needs Numba: pip install numba, or use --engine dense")
    if wanted != "auto":
        return wanted
    sparse = numba and not on_gpu and density <= SPARSE_DENSITY and precision == "float32"
    return "sparse" if sparse and config.distribute != "mirrored" else "dense"


def make_engine(config: Config, density: float) -> Any:
    """Return the engine that `choose_engine` chooses."""
    if choose_engine(config, density) == "dense":
        return DenseEngine(config.precision)
    from autorec_tf.model.sparse_engine import SparseEngine  # Numba is needed here only

    return SparseEngine()


def multiplies_bfloat16() -> bool:
    """Return whether the processor has instructions for bfloat16 products, as Linux tells."""
    cpu = Path("/proc/cpuinfo")
    flags = set(cpu.read_text(encoding="utf-8").split()) if cpu.exists() else set()
    return bool(flags & {"avx512_bf16", "amx_bf16"})
