"""Resolve settings: apply presets and members, and list the settings of each run and model.

Priority, highest first: a flag or keyword that the user gives, the member's settings, the preset's
settings, the defaults of `Config`.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from autorec_tf.config import FULL_BATCH, Config, flag_fields
from autorec_tf.presets import EARLIER_SINGLE, MEMBERS, PRESETS, SCALED_PRESETS
from autorec_tf.system.errors import UserError


def over_preset(given: dict[str, Any]) -> Config:
    """Return the settings of a preset, overridden by the settings `given`.

    Args:
        given: Settings by name, from flags or keywords, possibly with "preset". They are not tuned.

    Raises:
        UserError: The settings are invalid.
    """
    settings = PRESETS.get(given.get("preset", "default"), {}) | given
    if "tune" not in given:
        settings["tune"] = tuple(name for name in settings.get("tune", ()) if name not in given)
    elif both := set(given["tune"]) & set(given):
        name = both.pop()
        raise UserError(f"--{name} is given, but --tune {name} would choose it. Leave one of them "
                        "out.")
    return Config(**settings, given=tuple(sorted(set(given) - {"preset"})))


def split_configs(config: Config) -> list[Config]:
    """Return the settings of each run that `config` repeats over splits or folds."""
    if config.num_folds:
        return [
            replace(config, fold=number, run_name=f"fold_{number}")
            for number in range(1, config.num_folds + 1)
        ]
    if config.folds:
        return [replace(config, folds=(name,), run_name=f"fold_{name}") for name in config.folds]
    seeds = [(config.random_seed + i, config.seed_of_split + i) for i in range(config.num_splits)]
    return [
        replace(config, num_splits=1, random_seed=seed, split_seed=split, run_name=f"split_{split}")
        for seed, split in seeds
    ]


def member_configs(config: Config) -> list[Config]:
    """Return the settings of each of `config.members`. Members share the split; initialisation and
    shuffling differ."""
    members = config.member_settings or earlier_member_settings(config)
    return [
        replace(config, **settings, members=(), member_settings=(),
                random_seed=config.random_seed + i)
        for i, settings in enumerate(members)
    ]


def adapt_single(config: Config, adapted: dict[str, Any]) -> Config:
    """Return `config` with the settings of its members. Those of `single`, as a preset or a member,
    are overridden by the settings `adapted` to the data. What the user gave overrides both."""
    if config.given is not None:
        return adapt_others(config, config.given, adapted)
    return replace(config, member_settings=earlier_member_settings(config))


def adapt_others(config: Config, given: Sequence[str], adapted: dict[str, Any]) -> Config:
    """Return `adapt_single` if the names of the settings that the user gave are known."""
    if {"lambda_value", "lambda_encoder", "lambda_decoder"} & set(given):
        given = [*given, "tune"]  # the user has chosen lambda
    adapted = {name: value for name, value in adapted.items() if name not in given}
    if config.preset == "single" and not config.members:
        config = replace(config, **adapted)
    if config.preset == "best" and adapted and "members" not in given:
        config = replace(config, members=(*config.members, "biases"))
    return replace(config, member_settings=over_members(config, config.given or (), adapted))


def earlier_member_settings(config: Config) -> tuple[dict[str, Any], ...]:
    """Return the settings of members by the rule of versions that did not record them: the run's
    setting if it differs from its default, else the member's."""
    default, names = Config(), [f.name for f in flag_fields() if f.name != "orientation"]
    return over_members(config, [n for n in names if getattr(config, n) != getattr(default, n)],
                        EARLIER_SINGLE)


def over_members(config: Config, names: Sequence[str],
                 single: dict[str, Any] | None = None) -> tuple[dict[str, Any], ...]:
    """Return the settings of each of `config.members`, with lambdas scaled to the data and those of
    `single` and `single_user` adapted, except that `names` are the run's."""
    factor, adapted = config.lambda_factor or 1.0, dict.fromkeys(("single", "single_user"), single)
    return tuple(
        {name: getattr(config, name) if name in names else value
         for name, value in
         (scale_lambdas(MEMBERS[member], factor) | (adapted.get(member) or {})).items()}
        for member in config.members
    )


def model_configs(config: Config) -> list[Config]:
    """Return the settings of each model of `config`; the split of members has items as rows."""
    if not config.members:
        return [config]
    return member_configs(replace(config, orientation="item"))


def uses_lbfgs(config: Config) -> bool:
    """Return whether L-BFGS trains a model of `config`."""
    return any(each.optimizer_method == "LBFGS" for each in model_configs(config))


def preset_lambdas(config: Config) -> dict[str, Any]:
    """Return the lambdas of the preset `deep` or `fast` that change when they are scaled to the
    data, as those of members are."""
    if config.preset not in SCALED_PRESETS:
        return {}
    settings = PRESETS[config.preset]
    rule = {name: getattr(config, name) for name in ("regularization", "optimizer_method")}
    scaled = scale_lambdas(settings | rule, config.lambda_factor or 1.0)
    return {name: scaled[name] for name, value in settings.items()
            if scaled[name] != value and name not in (*rule, *(config.given or ()))}


def scale_lambdas(member: dict[str, Any], factor: float) -> dict[str, Any]:
    """Return the settings of a member with its lambdas of V, D and W multiplied by `factor`.

    Only the plain rule over mini-batches is scaled. The lambda of a deep model's inner layers
    (`lambda_value`, if V and W have their own) is not.
    """
    if member["regularization"] != "plain" or member.get("optimizer_method") in FULL_BATCH:
        return member
    names = {"lambda_encoder", "lambda_decoder"} & set(member) or {"lambda_value"}
    names |= {"lambda_one_hot"} & set(member)
    return member | {name: factor * member[name] for name in names}


# Settings of the parameters, which a training that starts from another run cannot change.
OF_PARAMETERS = ("preset", "orientation", "hidden_neuron", "hidden_activation",
                 "output_activation", "input_encoding", "decoder", "map_scale")
# Settings that such a training cannot have: they choose other test ratings, hold out ratings that
# the start was trained on, or replace its parameters.
NOT_STARTED: dict[str, Any] = {
    "num_splits": 1, "num_folds": None, "fold": None, "folds": (), "members": (), "tune": (),
    "validation_ratio": 0.0, "patience": 0, "pretrain_epoch": 0, "initial_bias": "zero",
    "mean_in_weights": 0.0,
}
FRACTION = 4  # a started training has a quarter of the epochs of its start


def over_start(before: Config, given: dict[str, Any], start: str,
               trained_epochs: int | None = None) -> Config:
    """Return the settings of a training that starts from the parameters of another run.

    They are those of the run `before`, with a shortened schedule, overridden by the settings
    `given`.

    Args:
        before: The settings of the run.
        given: Settings by name, from flags or keywords.
        start: The name of the run in messages.
        trained_epochs: Number of epochs after which the run ended, if known.

    Raises:
        UserError: `before` is the run of a blend or has validation ratings, or a setting that is
            given is invalid or cannot change.
    """
    if before.members or before.validation_ratio:
        flag = "--members" if before.members else "--validation_ratio"
        raise UserError(f"{start} is a run with {flag}: its validation ratings are neither "
                        f"training nor test ratings. Start from a run without {flag}.")
    for name, value in given.items():
        if name in NOT_STARTED and value != NOT_STARTED[name]:
            raise UserError(f"--{name} cannot be combined with --start_from: the ratings of "
                            f"{start} are divided, and its parameters trained. Leave out "
                            f"--{name}.")
        if name in OF_PARAMETERS and value != getattr(before, name):
            raise UserError(f"--{name} {as_flag(value)}: {start} has "
                            f"{as_flag(getattr(before, name))}, which its parameters need. Leave "
                            f"out --{name}.")
    settings = NOT_STARTED | shortened_schedule(
        before, trained_epochs or before.train_epoch, given.get("train_epoch"))
    settings |= {"run_name": None, "engine": "auto", "lbfgs_by_row": True}
    if "test_file" in given:  # instead of the run's way to choose test ratings
        settings["split"] = "random"
    elif "split" in given:
        settings["test_file"] = None
    return replace(before, **settings | given, given=tuple(sorted(set(given) - {"preset"})))


def shortened_schedule(before: Config, trained: int, train_epoch: int | None) -> dict[str, Any]:
    """Return the number of epochs of a training that starts from `before`, and its learning rates:
    the schedule of `before` without its first quarter, in a quarter of its `trained` epochs, or in
    `train_epoch` epochs. A run that was itself started passes its schedule on.

    A full-batch optimiser does not stop early: near its end, an objective falls too slowly for
    `tolerance`, while new ratings still change the predictions."""
    if before.start_from:
        return {}
    first = trained // FRACTION
    epochs = train_epoch or -(-trained // FRACTION)
    settings: dict[str, Any] = {"train_epoch": epochs, "tolerance": 0.0}
    if before.optimizer_method not in FULL_BATCH:
        settings |= {"base_lr": before.learning_rate(first + 1), "warmup_epoch": 0}
        step = before.decay_epoch_step * epochs / (trained - first)
        settings["decay_epoch_step"] = max(1, round(step))
    return settings


def as_flag(value: Any) -> str:
    """Return a setting as it is given on the command line."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value).lower()
