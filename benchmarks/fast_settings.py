"""What each setting of --preset fast brings, by validation.

    python -m benchmarks.fast_settings

One tenth of the training ratings of the splits of seeds 2001 and 2002 is held out. Each variant of
the preset is trained on the rest, and the held-out ratings score its last epoch. Test ratings are
not used. Writes benchmarks/results/fast_settings/summary.csv, and prints the table in
docs/numbers.md.
"""

import sys
from pathlib import Path
from typing import Any

from autorec_tf.records import tables
from autorec_tf.records.console import Console
from autorec_tf.resolution import over_preset
from autorec_tf.system.errors import run_program
from autorec_tf.system.files import write_csv
from autorec_tf.system.runtime import start_tensorflow
from data_preprocessor import load_ratings

SEEDS = (2001, 2002)
FOLDER = Path(__file__).parent / "results" / "fast_settings"
HEAD = tables.head("settings", *(f"validation RMSE, seed {seed}" for seed in SEEDS))
STEPS = {"lr_schedule": "step", "warmup_epoch": 0, "decay_epoch_step": 4}
PLAIN = {"regularization": "plain", "lambda_value": 40.0, "base_lr": 0.005}
VARIANTS: dict[str, dict[str, Any]] = {
    "`fast`": {"preset": "fast"},
    "16 epochs": {"preset": "fast", "train_epoch": 16},
    "28 epochs": {"preset": "fast", "train_epoch": 28},
    "λ = 10": {"preset": "fast", "lambda_value": 10.0},
    "λ = 16": {"preset": "fast", "lambda_value": 16.0},
    "batches of 512 rows, λ = 26": {"preset": "fast", "batch_size": 512, "lambda_value": 26.0},
    "learning rate 0.005": {"preset": "fast", "base_lr": 0.005},
    "learning rate 0.01": {"preset": "fast", "base_lr": 0.01},
    "no warm-up": {"preset": "fast", "warmup_epoch": 0},
    "the rate halves every 4 epochs": {"preset": "fast"} | STEPS,
    "Adam's usual β₁ = 0.9, β₂ = 0.999": {
        "preset": "fast", "adam_beta_1": 0.9, "adam_beta_2": 0.999},
    "V and W drawn with standard deviation 0.03": {"preset": "fast", "init_stddev": 0.03},
    "settings of `paper`: λ = 40, rate 0.005, which halves every 20 of 100 epochs": PLAIN | {
        "decay_epoch_step": 20, "train_epoch": 100},
    "these in 22 epochs; the rate halves every 4": PLAIN | {
        "decay_epoch_step": 4, "train_epoch": 22},
}


def main() -> None:
    start_tensorflow()
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print(HEAD)
    for name, settings in VARIANTS.items():
        rows.append({"settings": name} | {f"seed_{seed}": validate(settings, seed)
                                          for seed in SEEDS})
        write_csv(FOLDER / "summary.csv", rows)
        print(line(rows[-1]), flush=True)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    return tables.line(row["settings"], *(f"{float(row[f'seed_{s}']):.4f}" for s in SEEDS))


def validate(settings: dict[str, Any], seed: int) -> float:
    """Return the RMSE of the held-out ratings after the last epoch."""
    from autorec_tf.experiments import validation_rmse

    config = over_preset(settings | {"dataset": "ml-1m", "random_seed": seed})
    return round(validation_rmse(config, {}, load_ratings(config), Console(shown=False)), 5)


if __name__ == "__main__":
    sys.exit(run_program("fast_settings", main))
