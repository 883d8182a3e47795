"""The command line of main.py: a flag for each setting, applied to a preset or to the run that is
resumed."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from autorec_tf.config import Config, flag_fields
from autorec_tf.records.run_folder import resumed_config
from autorec_tf.resolution import over_preset, uses_lbfgs
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.terminal import print_line

USAGE = "python main.py [--setting value ...]"
MOST_USED = ("dataset", "preset", "num_splits", "orientation", "hidden_neuron", "lambda_value",
             "train_epoch", "resume")
EXAMPLES = """\
python main.py                                 # I-AutoRec on MovieLens-1M
python main.py --preset paper --num_splits 5   # the paper's protocol
python main.py --dataset ratings.csv --preset single
python main.py --resume results/<run>          # continue an interrupted run
"""
# The groups of the other flags in --help, in its order.
GROUPS: dict[str, tuple[str, ...]] = {
    "data": (
        "data_dir", "columns", "test_columns", "read_csv", "duplicates", "no_rating", "no_id",
        "rating_scale", "map_scale", "split", "timestamp_format", "train_ratio", "split_seed",
        "test_file", "in_both"),
    "model": (
        "hidden_activation", "output_activation", "input_encoding", "leave_one_out", "decoder",
        "initial_bias"),
    "objective and regularisation": (
        "regularization", "lambda_encoder", "lambda_decoder", "lambda_one_hot", "lambda_factor",
        "dropout", "input_dropout"),
    "optimisation": (
        "optimizer_method", "batch_size", "base_lr", "decay_epoch_step", "decay_rate", "grad_clip",
        "pretrain_epoch", "random_seed"),
    "evaluation and validation": (
        "validation_ratio", "patience", "tolerance", "tune", "cold_rating", "relevant_rating",
        "ranked_users", "display_step", "score_reconstruction"),
    "repeated runs and blends": ("num_folds", "fold", "folds", "members"),
    "records and Comet": (
        "results_dir", "run_name", "checkpoint_every", "comet", "tensorboard"),
    "execution": ("engine", "precision", "distribute"),
}
METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


class Parser(argparse.ArgumentParser):
    """An argument parser that prints errors in one line, and prints as the programs do."""

    def _print_message(self, message: str, file: Any = None) -> None:
        print_line(message, file or sys.stderr, end="")

    def error(self, message: str) -> NoReturn:
        text = printable(message)
        end = "." if text.endswith(".") else ""
        self.exit(2, f"{self.prog}: error: {text.removesuffix('.')} (see --help){end}\n")


def add_data_flags(parser: Parser) -> None:
    """Add the flags that locate the rating files of a finished run."""
    for name, metavar, text in (
        ("data_dir", "FOLDER", "folder with the run's rating files (default: as for main.py)"),
        ("dataset", "FILE", "path of the run's rating file, if it was moved or renamed"),
        ("test_file", "FILE", "path of the run's file of test ratings, if it was moved or renamed"),
    ):
        parser.add_argument(f"--{name}", metavar=metavar, help=text)


def boolean(text: str) -> bool:
    """Return the value of `true` or `false`: bool("False") would be True."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def parse_arguments(arguments: Sequence[str] | None = None) -> Config:
    """Return the settings of a command line. Exit with code 2 if it is invalid.

    Flags override the preset. A setting that is given as a flag is not tuned.
    """
    parser = config_parser()
    given = vars(parser.parse_args(arguments))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return resume_settings(given) if "resume" in given else over_preset(given)
    except UserError as error:
        parser.error(str(error))


def config_parser() -> Parser:
    """Return the parser of main.py: the settings that most people need, examples, the others."""
    parser = Parser(
        prog="main.py", usage=USAGE, allow_abbrev=False, add_help=False,
        description="Train AutoRec (Sedhain et al., WWW 2015) and record the run.",
        argument_default=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter)
    types, fields = get_type_hints(Config), {f.name: f for f in flag_fields()}
    for title, names in {"settings that most people need": MOST_USED, **GROUPS}.items():
        group = parser.add_argument_group(title)
        for name in names:
            group.add_argument(f"--{name}", **flag_settings(fields[name], types[name]))
        if names == MOST_USED:
            parser.add_argument_group("examples", EXAMPLES)
    group.add_argument("-h", "--help", action="help", help="show this help and exit")
    return parser


def resume_settings(given: dict[str, Any]) -> Config:
    """Return the settings of the run in the folder `given["resume"]`, with those flags of `given`
    that may change: `dataset` and `test_file` may be new paths of the same ratings."""
    config = resumed_config(given["resume"])
    if not config.lbfgs_by_row and uses_lbfgs(config):
        raise UserError(f"{given['resume']} is an L-BFGS run of an earlier version, which this "
                        "version cannot continue. Start a new run, with another --run_name.")
    changeable = ["data_dir", "dataset", "comet", "tensorboard", "train_epoch", "distribute"]
    changeable += ["test_file"] if config.test_file else []
    for name, value in given.items():
        before = getattr(config, name)
        if name not in ("resume", *changeable) and value != before:
            raise UserError(f"--{name} {value}: the run in {given['resume']} has {before}, which "
                            f"cannot change. Leave out --{name}.")
    if given.get("train_epoch", config.train_epoch) < config.train_epoch:
        raise UserError(f"--train_epoch {given['train_epoch']}: the run in {given['resume']} has "
                        f"{config.train_epoch} epochs, and can only be made longer")
    return replace(config, **{name: given[name] for name in changeable if name in given})


def flag_settings(f: Any, hint: Any) -> dict[str, Any]:
    """Return the arguments of argparse for the flag of a field of type `hint`."""
    is_tuple = get_origin(hint) is tuple
    value_type = (*get_args(hint), hint)[0]  # int of int | None, and of tuple[int, ...]
    default = " ".join(map(str, f.default)) if is_tuple else f.default
    shown = str(default).lower() if value_type is bool else default
    text = f.metadata["text"] + ("" if default in (None, "") else f" (default: {shown})")
    settings: dict[str, Any] = dict(help=text, metavar=f.metadata["metavar"])
    if is_tuple:
        settings.update(nargs="+")
    if value_type is bool:
        settings.update(type=boolean, nargs="?", const=True, metavar="true|false")
    elif f.metadata["choices"]:
        settings.update(choices=f.metadata["choices"])
    else:
        metavar = f.metadata["metavar"] or METAVARS[value_type]
        settings.update(type=value_type, metavar=metavar)
    return settings
