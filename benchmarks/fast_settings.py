"""What each setting of --preset fast brings, by validation.

    python -m benchmarks.fast_settings

One tenth of the training ratings of the splits of seeds 2001 and 2002 is held out. Each variant of
the preset is trained on the rest, and the held-out ratings score each epoch. No test rating is
used. Writes benchmarks/results/fast_settings/summary.csv, and prints the table in
docs/numbers.md.
"""

import sys
from pathlib import Path
from typing import Any

from autorec_tf.records import tables
from autorec_tf.resolution import over_preset
from autorec_tf.system.errors import run_program
from autorec_tf.system.files import write_csv
from autorec_tf.system.runtime import start_tensorflow
from data_preprocessor import load_ratings, validation_split

SEEDS = (2001, 2002)
FOLDER = Path(__file__).parent / "results" / "fast_settings"
BOUNDS = (0.85, 0.84)
HEAD = tables.head("settings", *(f"validation RMSE, seed {seed}" for seed in SEEDS),
                   *(f"epochs until it is below {bound}" for bound in BOUNDS))
STEPS = {"lr_schedule": "step", "warmup_epoch": 0, "decay_epoch_step": 3}
PLAIN = {"regularization": "plain", "lambda_value": 40.0, "base_lr": 0.005}
VARIANTS: dict[str, dict[str, Any]] = {
    "`fast`": {"preset": "fast"},
    "14 epochs": {"preset": "fast", "train_epoch": 14},
    "22 epochs": {"preset": "fast", "train_epoch": 22},
    "no average of the parameters": {"preset": "fast", "average_decay": 0.0},
    "decay 0.95 of the average": {"preset": "fast", "average_decay": 0.95},
    "b = 0, and W = 0 on average, at the beginning": {
        "preset": "fast", "initial_bias": "zero", "mean_in_weights": 0.0},
    "b gives the whole mean rating": {"preset": "fast", "mean_in_weights": 0.0},
    "W gives the whole mean rating": {"preset": "fast", "mean_in_weights": 1.0},
    "λ = 10": {"preset": "fast", "lambda_value": 10.0},
    "λ = 16": {"preset": "fast", "lambda_value": 16.0},
    "batches of 512 rows, λ = 26": {"preset": "fast", "batch_size": 512, "lambda_value": 26.0},
    "learning rate 0.0035": {"preset": "fast", "base_lr": 0.0035},
    "learning rate 0.007": {"preset": "fast", "base_lr": 0.007},
    "no warm-up": {"preset": "fast", "warmup_epoch": 0},
    "the rate halves every 3 epochs": {"preset": "fast"} | STEPS,
    "Adam's usual β₁ = 0.9, β₂ = 0.999": {
        "preset": "fast", "adam_beta_1": 0.9, "adam_beta_2": 0.999},
    "V and W drawn with standard deviation 0.03": {"preset": "fast", "init_stddev": 0.03},
    "settings of `paper`: λ = 40, rate 0.005, which halves every 20 of 100 epochs": PLAIN | {
        "decay_epoch_step": 20, "train_epoch": 100},
    "these in 18 epochs; the rate halves every 3": PLAIN | {
        "decay_epoch_step": 3, "train_epoch": 18},
}


def main() -> None:
    start_tensorflow()
    FOLDER.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    print(HEAD)
    for name, settings in VARIANTS.items():
        rows.append({"settings": name})
        for seed in SEEDS:
            rows[-1] |= validate(settings, seed)
        write_csv(FOLDER / "summary.csv", rows)
        print(line(rows[-1]), flush=True)


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    epochs = (", ".join(str(row[f"below_{bound}_{s}"] or "–") for s in SEEDS) for bound in BOUNDS)
    return tables.line(row["settings"], *(f"{float(row[f'seed_{s}']):.4f}" for s in SEEDS), *epochs)


def validate(settings: dict[str, Any], seed: int) -> dict[str, Any]:
    """Return the RMSE of the held-out ratings after the last epoch, and the first epoch below each
    of `BOUNDS`, or None."""
    from autorec_tf.training.epochs import TrainState, train_epochs
    from autorec_tf.training.trainer import build

    config = over_preset(settings | {"dataset": "ml-1m", "random_seed": seed, "display_step": 1})
    ratings = load_ratings(config)
    split = validation_split(config, ratings)
    state = TrainState(build(config, split.train, ratings.unit.model_scale), split)
    rmse_by_epoch = {m.epoch: m.test_rmse for m in train_epochs(state, split)}
    found: dict[str, Any] = {f"seed_{seed}": round(rmse_by_epoch[config.train_epoch], 5)}
    for bound in BOUNDS:
        found[f"below_{bound}_{seed}"] = next(
            (epoch for epoch, rmse in rmse_by_epoch.items() if rmse < bound), None)
    return found


if __name__ == "__main__":
    sys.exit(run_program("fast_settings", main))
