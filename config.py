"""Every hyper-parameter, once: its default, its range, its help and its command-line flag."""

import argparse
import math
import os
import reprlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from system.errors import UserError
from system.files import read_json

DATA_DIR_VARIABLE = "AUTOREC_DATA_DIR"
ACTIVATION_NAMES = ("identity", "sigmoid", "relu", "tanh", "elu")

Check = tuple[Callable[[Any], bool], str]
AT_LEAST_1: Check = (lambda x: x >= 1, "at least 1")
SHARE: Check = (lambda x: 0 <= x < 1, "at least 0 and less than 1")
NOT_NEGATIVE: Check = (lambda x: 0 <= x < math.inf, "0 or more")
POSITIVE: Check = (lambda x: 0 < x < math.inf, "greater than 0")
FRACTION: Check = (lambda x: 0 < x < 1, "between 0 and 1, both excluded")
RATE: Check = (lambda x: 0 < x <= 1, "greater than 0 and at most 1")
PLAIN_NAME: Check = (
    lambda x: x not in (".", "..") and x.isprintable() and not set(x) & set("/\\:")
    and 0 < len(x.encode()) <= 200,
    "a plain folder name, of at most 200 bytes and without / \\ or :",
)


def option(
    default: Any,
    group: str,
    text: str,
    check: Check | None = None,
    choices: Sequence[str] | None = None,
    place: bool = False,
) -> Any:
    """A field of `Config` that is also a flag. `place`: it says where a run is, not what, and no
    record repeats it."""
    return field(
        default=default,
        metadata=dict(group=group, text=text, check=check, choices=choices, place=place),
    )


def constant(value: Any) -> Any:
    """A field of `Config` that is recorded like the others and has no flag."""
    return field(default=value, init=False)


NOT_WITH_MEMBERS = ("tune", "validation_ratio", "patience", "score_reconstruction")
NOT_DISTRIBUTED = ("tune", "members", "pretrain_epoch")
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
    "best": {"members": ("deep", "wide", "weighted", "user")},
}  # fmt: skip


@dataclass(frozen=True)
class Config:
    """One run's settings. Raises `UserError` if a value is out of its range."""

    resume: str | None = option(
        None, "experiment",
        "go on with the run in this folder, from its last checkpoint; its settings are kept, "
        "but --train_epoch may grow",
        place=True,
    )
    preset: str = option(
        "default", "experiment",
        "settings to start from, which other flags override: paper (its I-AutoRec, lambda and "
        "learning rate chosen by validation), seed (the earlier program's protocol), best "
        "(several models, blended)",
        choices=tuple(PRESETS),
    )
    num_splits: int = option(
        1, "experiment",
        "repeat the run with as many consecutive seeds, and report mean and 95 %% interval",
        AT_LEAST_1,
    )
    tune: tuple[str, ...] = option(
        (), "experiment",
        "settings to choose from their grid (experiments.py) by validation ratings: lambda_value, "
        "base_lr, decay_epoch_step",
        choices=("lambda_value", "base_lr", "decay_epoch_step"),
    )
    members: tuple[str, ...] = option(
        (), "experiment",
        "models (experiments.py) to blend with weights learned on validation ratings: item, "
        "denoising, wide, deep, weighted, user",
        choices=("item", "denoising", "wide", "deep", "weighted", "user"),
    )
    score_reconstruction: bool = option(
        False, "experiment",
        "score the reconstruction of test ratings given as input, too: the earlier program's "
        "measure, which leaks",
    )
    dataset: str | None = option(
        None,
        "data",
        "which ratings to train on: ml-100k, ml-1m, ml-10m, ml-20m, ml-25m, ml-32m, netflix, "
        "synthetic, or a file of ratings; if not given, ml-1m, or the built-in synthetic stand-in "
        "where MovieLens-1M is neither on disk nor to be downloaded",
        (lambda x: 0 < len(x) and "\0" not in x, "a dataset's name or a file"),
    )
    data_dir: str | None = option(
        None, "data", "folder of the dataset's files (default: one of the dataset's name; for "
        f"ml-1m, ${DATA_DIR_VARIABLE} if that is set)", place=True,
    )
    columns: str | None = option(
        None, "data", "user, item, rating and perhaps timestamp of a file: names of its header, or "
        "positions from 1, as in userId,movieId,rating (default: what its header says, or the "
        "first)",
        (lambda x: len(set(x.split(","))) == len(x.split(",")) in (3, 4) and all(x.split(",")),
         "three or four different names or numbers, with commas between them"),
    )
    rating_scale: tuple[float, ...] = option(
        (), "data", "lowest and highest rating there can be, if they are not the dataset's",
        (lambda x: len(x) in (0, 2) and all(map(math.isfinite, x)) and list(x) == sorted(set(x)),
         "two numbers, the lower one first"),
    )
    test_file: str | None = option(
        None, "data", "file of the test ratings; those of --dataset are all for training "
        "(default: none)",
        (lambda x: 0 < len(x) and "\0" not in x, "a file"),
    )
    split: str = option(
        "random", "data", "which ratings are for testing: random ones, or the latest by timestamp",
        choices=("random", "time"),
    )
    train_ratio: float = option(0.9, "data", "share of the ratings to train on", FRACTION)
    validation_ratio: float = option(
        0.0, "data", "share of the training ratings to hold out and choose the epoch by", SHARE
    )
    split_seed: int | None = option(
        None, "data", "seed of the split (default: --random_seed)", NOT_NEGATIVE
    )
    orientation: str = option(
        "item",
        "model",
        "what a row is: item (I-AutoRec) or user (U-AutoRec)",
        choices=("item", "user"),
    )
    hidden_neuron: tuple[int, ...] = option(
        (500,), "model", "hidden units; several numbers make a deep model, as in 500 250 500",
        (lambda x: len(x) > 0 and min(x) >= 1, "one or more whole numbers, each at least 1"),
    )
    hidden_activation: str = option(
        "sigmoid", "model", "g, after every hidden layer", choices=ACTIVATION_NAMES
    )
    output_activation: str = option(
        "identity", "model", "f; sigmoid and tanh span the rating scale", choices=ACTIVATION_NAMES
    )
    initial_bias: str = option(
        "zero", "model", "where b starts: at 0, or where f gives the mean training rating",
        choices=("zero", "mean"),
    )
    lambda_value: float = option(1.0, "model", "regularisation strength, lambda", NOT_NEGATIVE)
    lambda_encoder: float | None = option(
        None, "model", "lambda of V alone (default: --lambda_value)", NOT_NEGATIVE
    )
    lambda_decoder: float | None = option(
        None, "model", "lambda of W alone (default: --lambda_value)", NOT_NEGATIVE
    )
    regularization: str = option(
        "weighted",
        "model",
        "weighted: a column's weights once per rating it has in the batch; "
        "plain: equation 2 of the paper, all weights once a batch",
        choices=("weighted", "plain"),
    )
    dropout: float = option(
        0.0, "model", "share of each hidden layer's units left out of a training step",
        SHARE,
    )
    input_dropout: float = option(
        0.0, "model", "share of the input ratings left out of a training step; all are "
        "reconstructed", SHARE,
    )
    train_epoch: int = option(500, "training", "number of epochs", AT_LEAST_1)
    batch_size: int = option(512, "training", "rows in a mini-batch", AT_LEAST_1)
    pretrain_epoch: int = option(
        0, "training", "epochs of greedy layer-wise pre-training of a deep model", NOT_NEGATIVE
    )
    optimizer_method: str = option(
        "Adam",
        "training",
        "optimiser; RProp and LBFGS take one step an epoch, on all rows at once",
        choices=("Adam", "RMSProp", "RProp", "LBFGS"),
    )
    engine: str = option(
        "auto",
        "training",
        "sparse: products of observed ratings only, for the CPU; dense: whole matrices; "
        "auto: whichever is faster here",
        choices=("auto", "dense", "sparse"),
    )
    precision: str = option(
        "float32",
        "training",
        "of the dense engine's products; parameters, loss and updates are float32 always",
        choices=("float32", "bfloat16"),
    )
    grad_clip: bool = option(
        False, "training", "clip each gradient component to [-5, 5]; alone, it means true"
    )
    base_lr: float = option(0.001, "training", "learning rate of the first epochs", POSITIVE)
    decay_epoch_step: int = option(
        50, "training", "epochs between two steps of the learning rate", AT_LEAST_1
    )
    decay_rate: float = option(
        0.5, "training", "factor of the learning rate at each step", RATE
    )
    patience: int = option(
        0, "training",
        "with --validation_ratio: stop after so many epochs without a new lowest validation "
        "RMSE; 0: never",
        NOT_NEGATIVE,
    )
    distribute: str | None = option(
        None,
        "training",
        "mirrored: on all GPUs of this machine; workers: on the machines in the environment "
        "variable TF_CONFIG, one process each (default: this process alone)",
        choices=("mirrored", "workers"),
        place=True,
    )
    random_seed: int = option(
        1994, "training", "seed of split, initialisation and shuffling", NOT_NEGATIVE
    )
    display_step: int = option(
        1, "output", "evaluate and print every so many epochs, and always the last", AT_LEAST_1
    )
    checkpoint_every: int = option(
        50, "output", "keep what --resume goes on from every so many epochs, and after the last",
        AT_LEAST_1,
    )
    results_dir: str = option("results", "output", "where run folders are made", place=True)
    run_name: str | None = option(
        None, "output", "name of the run folder (default: made of the settings and UTC time)",
        PLAIN_NAME,
    )
    comet: str = option(
        "auto",
        "output",
        "Comet experiment; auto: online if an API key is configured, else an offline archive",
        choices=("auto", "online", "offline", "off"),
    )
    tensorboard: bool = option(
        False, "output", "write summaries for TensorBoard into the run folder; alone, it means true"
    )

    init_stddev: float = constant(0.03)  # of the truncated normal that V and W start from
    grad_clip_limit: float = constant(5.0)
    adam_beta_1: float = constant(0.9)
    adam_beta_2: float = constant(0.999)
    adam_epsilon: float = constant(1e-8)
    rmsprop_decay: float = constant(0.9)
    rmsprop_epsilon: float = constant(1e-7)
    rprop_eta_plus: float = constant(1.2)
    rprop_eta_minus: float = constant(0.5)
    rprop_delta_min: float = constant(1e-6)
    rprop_delta_max: float = constant(50.0)
    lbfgs_memory: int = constant(10)  # pairs of s and y
    lbfgs_armijo: float = constant(1e-4)  # c1 and c2 of the weak Wolfe conditions
    lbfgs_wolfe: float = constant(0.9)
    lbfgs_max_trials: int = constant(25)  # evaluations in a line search
    lbfgs_min_cosine: float = constant(1e-7)  # between s and y: float32's rounding

    def __post_init__(self) -> None:
        if isinstance(self.hidden_neuron, int):  # Config(hidden_neuron=500), for convenience
            object.__setattr__(self, "hidden_neuron", (self.hidden_neuron,))
        for option_field in flag_fields():
            value, allowed = getattr(self, option_field.name), option_field.metadata
            if value is None:
                continue
            if allowed["check"] and not allowed["check"][0](value):
                raise UserError(f"--{option_field.name} {value!r}: must be {allowed['check'][1]}")
            several = value if isinstance(value, tuple) else (value,)
            if allowed["choices"] and not set(several) <= set(allowed["choices"]):
                names = ", ".join(allowed["choices"])
                raise UserError(f"--{option_field.name} {value!r}: must be one of {names}")
        self.check_combinations()

    def check_combinations(self) -> None:
        """Raise UserError for settings that would silently have no effect together."""
        sizes = self.hidden_neuron
        mirrored = len(sizes) > 1 and len(sizes) % 2 and sizes == sizes[::-1]
        if self.pretrain_epoch and not mirrored:
            raise UserError(
                f"--pretrain_epoch {self.pretrain_epoch}: layer-wise pre-training needs hidden "
                "layers that mirror each other around one in the middle, as in "
                "--hidden_neuron 500 250 500"
            )
        alone = [name for name in NOT_WITH_MEMBERS if getattr(self, name)]
        if self.members and alone:
            raise UserError(
                f"--{alone[0]} does not go with --members, which have settings of their own and "
                "hold out ratings for their weights"
            )
        if self.members and self.tensorboard:
            raise UserError("--tensorboard does not go with --members, whose epochs are not kept")
        if self.grad_clip and self.optimizer_method in ("RProp", "LBFGS"):
            raise UserError(
                f"--grad_clip does not go with {self.optimizer_method}: RProp uses the gradient's "
                "sign only, and L-BFGS needs the gradient itself"
            )
        if self.test_file and self.split == "time":
            raise UserError("--split time does not go with --test_file, which is the test side")
        if self.num_splits > 1 and (self.test_file or self.split == "time"):
            raise UserError(
                f"--num_splits {self.num_splits} needs random splits: --test_file and --split time "
                "are one"
            )
        if self.patience and not self.validation_ratio:
            raise UserError(f"--patience {self.patience} needs --validation_ratio")
        if self.distribute:
            self.check_distributed()

    def check_distributed(self) -> None:
        """Raise UserError for what several devices or machines do not do together."""
        alone = [f"--{name}" for name in NOT_DISTRIBUTED if getattr(self, name)]
        if self.engine == "sparse":
            alone.append("--engine sparse")
        if self.optimizer_method in ("RProp", "LBFGS"):
            alone.append(f"--optimizer_method {self.optimizer_method}")
        if self.num_splits > 1:
            alone.append(f"--num_splits {self.num_splits}")
        if alone:
            raise UserError(
                f"{alone[0]} does not go with --distribute, which trains one model by mini-batches "
                "and the dense engine: leave one of them out"
            )

    @classmethod
    def of_run(cls, folder: str | Path, **others: Any) -> "Config":
        """The settings of the run in `folder`, to go on with it, with `others` over them."""
        folder = Path(folder) if Path(folder).name.strip(".") else Path(folder).resolve()
        place = folder / "config.json"
        if (folder / "settings.json").exists():
            raise UserError(
                f"{folder} holds several splits: repeat the command that made it, and it goes on"
            )
        if not place.exists():
            raise UserError(f"{folder} holds no config.json of a run: nothing to go on with")
        where = dict(results_dir=str(folder.parent), run_name=folder.name, resume=str(folder))
        record = read_json(place)
        try:
            return cls.from_record(record, **where, **others)
        except UserError as error:
            raise UserError(f"{place}: {error}") from error

    @property
    def encoder_lambda(self) -> float:
        return self.lambda_value if self.lambda_encoder is None else self.lambda_encoder

    @property
    def decoder_lambda(self) -> float:
        return self.lambda_value if self.lambda_decoder is None else self.lambda_decoder

    def recorded(self) -> dict[str, Any]:
        """Every setting but the paths, which tell of a machine and not of the experiment."""
        places = {f.name for f in flag_fields() if f.metadata["place"]}
        return {name: value for name, value in asdict(self).items() if name not in places}

    @classmethod
    def from_record(cls, content: dict[str, Any], **others: Any) -> "Config":
        """The settings in `content`, what `recorded` returned and JSON kept, with `others` over
        them. One that is not there has its default, as a version that did not know it had.

        Raises UserError for a value of another type or out of range, and for a constant that this
        version has changed.
        """
        hints, settings = get_type_hints(cls), {}
        for f in fields(cls):
            if f.name in others or f.name not in content:
                continue
            value = content[f.name]
            value = tuple(value) if isinstance(value, list) else value
            if not is_of(value, hints[f.name]):
                raise UserError(
                    f"{f.name} is {reprlib.repr(content[f.name])}, which is no value for it"
                )
            if f.init:
                settings[f.name] = value
            elif value != f.default:
                raise UserError(
                    f"{f.name} is {reprlib.repr(value)}, and {f.default!r} in this version"
                )
        return cls(**settings, **others)

    def learning_rate(self, epoch: int) -> float:
        """The step-decayed learning rate of `epoch`, which counts from 1."""
        return self.base_lr * self.decay_rate ** ((epoch - 1) // self.decay_epoch_step)

    def ratings_folder(self) -> str:
        """`--data_dir`, or a folder of the dataset's name; for ml-1m, the environment's before
        that."""
        name = self.dataset or "ml-1m"
        set_folder = os.environ.get(DATA_DIR_VARIABLE) if name == "ml-1m" else None
        return self.data_dir or set_folder or name


def is_of(value: Any, hint: Any) -> bool:
    """Whether `value` is of the type `hint`, one of those that `Config` uses."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(is_of(x, get_args(hint)[0]) for x in value)
    if get_args(hint):  # of a union
        return any(is_of(value, each) for each in get_args(hint))
    if hint is float and type(value) is int:
        return True
    return type(value) is hint


def flag_fields() -> list:
    """The fields of `Config` that have a flag."""
    return [f for f in fields(Config) if f.init]


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def boolean(text: str) -> bool:
    """`true` or `false`, as a word: `bool("False")` would be true."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def parse_arguments(arguments: Sequence[str] | None = None) -> Config:
    """The configuration that a command line asks for. Exits with code 2 if it is unusable.

    A flag that is given overrides the preset, and is not tuned.
    """
    parser = Parser(
        prog="main.py",
        description="Train AutoRec (Sedhain et al., WWW 2015) and record the run.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    groups: dict[str, Any] = {}
    types = get_type_hints(Config)
    for f in flag_fields():
        group = f.metadata["group"]
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        groups[group].add_argument(f"--{f.name}", **flag_settings(f, types[f.name]))
    given = vars(parser.parse_args(arguments))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    if "resume" in given:
        try:
            return resumed(given)
        except UserError as error:
            parser.error(str(error))
    settings = PRESETS[given.get("preset", "default")] | given
    if "tune" not in given:
        settings["tune"] = tuple(name for name in settings.get("tune", ()) if name not in given)
    elif both := set(given["tune"]) & set(given):
        parser.error(f"--{both.pop()} is given, and to be chosen by --tune: leave one out")
    try:
        return Config(**settings)
    except UserError as error:
        parser.error(str(error))


def resumed(given: dict[str, Any]) -> Config:
    """The settings of the run in the folder `given["resume"]`, and of the flags `given` beside it
    those that may be others now."""
    free = ("data_dir", "comet", "tensorboard", "train_epoch", "distribute")
    config = Config.of_run(given["resume"])
    for name, value in given.items():
        found = getattr(config, name)
        if name not in ("resume", *free) and value != found:
            raise UserError(
                f"--{name} {value}: the run in {given['resume']} has {found}, and goes on with it"
            )
    if given.get("train_epoch", config.train_epoch) < config.train_epoch:
        raise UserError(
            f"--train_epoch {given['train_epoch']}: the run in {given['resume']} has "
            f"{config.train_epoch}, and may only be made longer"
        )
    return replace(config, **{name: given[name] for name in free if name in given})


def flag_settings(f: Any, hint: Any) -> dict[str, Any]:
    """What argparse needs to know of a field's flag."""
    several = get_origin(hint) is tuple
    value_type = (*get_args(hint), hint)[0]  # int of int | None, and of tuple[int, ...]
    default = " ".join(map(str, f.default)) if several else f.default
    shown = "" if default in (None, "") else f" (default: {default})"
    settings: dict[str, Any] = dict(help=f.metadata["text"] + shown)
    if several:
        settings.update(nargs="+", metavar="NAME" if f.metadata["choices"] else None)
    if value_type is bool:
        settings.update(type=boolean, nargs="?", const=True, metavar="true|false")
    elif f.metadata["choices"]:
        settings.update(choices=f.metadata["choices"])
    else:
        settings.update(type=value_type, metavar=value_type.__name__.upper())
    return settings
