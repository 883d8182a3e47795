"""The paper's tables and figure on MovieLens-1M, the earlier program's number, and ours.

    python -m benchmarks.paper_tables                   # all rows, hours on two cores
    python -m benchmarks.paper_tables paper best        # these rows only
    python -m benchmarks.paper_tables --render          # tables and figure from what is finished

Every row is a command line of main.py over random 90/10 splits, seeds 1994, 1995, ...; it can be
run alone. What is finished is not run again, so the script goes on where it was stopped. Writes
summary.csv, table.md and hidden_units.png into results/paper_tables/, where each row has the
folder of its splits.
"""

import argparse
import json
import math
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from errors import UserError, run_program
from records import read_json, write_csv
from splits import RECONSTRUCTION

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "results" / "paper_tables"


@dataclass(frozen=True)
class Row:
    """A row of the table: what main.py is told, over how many splits, and what others report."""

    name: str
    text: str
    arguments: str
    published: float | None = None
    num_splits: int = 5


PLAIN = "--regularization plain --lambda_value 40 --base_lr 0.005 --decay_epoch_step 20"
SHORT = "--train_epoch 100"
HIDDEN_UNITS = (10, 20, 40, 80, 100, 200, 300, 400, 500)

# In the order of their worth, as they take hours.
ROWS = [
    Row("default", "all defaults (weighted rule, not equation 2)", ""),
    Row("paper", "I-AutoRec, `--preset paper` (f identity, g sigmoid)", "--preset paper", 0.831),
]


if __name__ == "__main__":
    pass
