"""Named settings: presets, the members of blends, and the grid of --tune. Values only.

Priority, highest first: a flag or keyword that the user gives, the member's settings, the preset's
settings, the defaults of `Config`.
"""

from collections.abc import Sequence
from typing import Any

PRESETS: dict[str, dict[str, Any]] = {
    "default": {},
    "paper": {
        "regularization": "plain", "tune": ("lambda_value", "base_lr", "decay_epoch_step"),
        "train_epoch": 100,
    },
    "seed": {
        "orientation": "user", "train_ratio": 0.75, "regularization": "plain", "decay_rate": 0.96,
        "score_reconstruction": True,
    },
    "fast": {
        "regularization": "plain", "lambda_value": 13.0, "batch_size": 256, "base_lr": 0.005,
        "lr_schedule": "cosine", "warmup_epoch": 3, "adam_beta_1": 0.7, "adam_beta_2": 0.98,
        "average_decay": 0.9, "initial_bias": "mean", "mean_in_weights": 0.7, "init_stddev": 0.015,
        "train_epoch": 18, "display_step": 5,
    },
    "deep": {
        "regularization": "plain", "lambda_value": 0.2, "lambda_encoder": 25.0,
        "lambda_decoder": 25.0, "hidden_neuron": (500, 250, 500), "pretrain_epoch": 60,
        "input_dropout": 0.5, "base_lr": 0.005, "decay_epoch_step": 20, "train_epoch": 120,
    },
    "single": {
        "decoder": "svdpp", "leave_one_out": True, "leave_one_out_slope": "mean",
        "input_scale": 18.0, "initial_bias": "biases", "train_epoch": 170,
        "optimizer_method": "LBFGS", "regularization": "plain", "lambda_value": 450.0,
        "lambda_exponent": 0.3, "batch_size": 4096, "display_step": 5,
    },
    "average": {"members": ("single",) * 3},
    "best": {"members": ("single", "single", "single", "deep", "single_user")},
}

# Presets whose lambdas, chosen on MovieLens-1M, are scaled to other data.
SCALED_PRESETS = ("deep", "fast")

# The values that --tune tries, within bounds found by exploration. Each split makes its own choice.
GRID: dict[str, Sequence[Any]] = {
    "lambda_value": (30.0, 40.0),
    "base_lr": (0.003, 0.005),
    "decay_epoch_step": (15, 20),
}

BIASES_ONLY = 1e6  # a lambda with which V, W and Y stay near 0
# The end of full-batch training on other ratings than MovieLens-1M, for which the number of epochs
# of `single` was chosen.
CONVERGENCE: dict[str, Any] = {"tolerance": 0.005, "train_epoch": 300}

# The settings of each --members, which override those of the run. They were chosen on ratings held
# out of seed 1994's training ratings, separately for each model.
MEMBERS: dict[str, dict[str, Any]] = {
    "item": {"orientation": "item", "regularization": "plain", "lambda_value": 40.0,
             "base_lr": 0.005, "decay_epoch_step": 20, "train_epoch": 100},
    "denoising": {"orientation": "item", "regularization": "plain", "lambda_value": 20.0,
                  "input_dropout": 0.5, "base_lr": 0.005, "decay_epoch_step": 20,
                  "train_epoch": 100},
    "wide": {"orientation": "item", "regularization": "plain", "lambda_value": 15.0,
             "hidden_neuron": (1000,), "input_dropout": 0.7, "base_lr": 0.005,
             "decay_epoch_step": 15, "train_epoch": 75},
    "deep": {"orientation": "item", **PRESETS["deep"]},
    "weighted": {"orientation": "item", "regularization": "weighted", "lambda_value": 1.0,
                 "base_lr": 0.005, "decay_epoch_step": 20, "train_epoch": 100},
    "user": {"orientation": "user", "regularization": "weighted", "lambda_value": 1.0,
             "base_lr": 0.003, "decay_epoch_step": 25, "train_epoch": 120},
    "user_one_hot": {"orientation": "user", "regularization": "weighted", "lambda_value": 1.0,
                     "input_encoding": "one_hot", "lambda_one_hot": 0.3, "base_lr": 0.003,
                     "decay_epoch_step": 25, "train_epoch": 120},
    "single": {"orientation": "item", **PRESETS["single"]},
    "single_user": {**PRESETS["single"], "orientation": "user", "hidden_neuron": (200,),
                    "batch_size": 8192, "train_epoch": 200, "lambda_exponent": 0.5},
    "biases": {"orientation": "item", **PRESETS["single"], **CONVERGENCE, "hidden_neuron": (1,),
               "lambda_value": BIASES_ONLY},
}
# Settings of `single` in the versions that did not record those of members.
EARLIER_SINGLE: dict[str, Any] = {"input_scale": 0.0, "lambda_exponent": 0.0}
# Members that replace one-hot ones if the ratings have too many values.
WITHOUT_VALUES = {"user_one_hot": "user"}
