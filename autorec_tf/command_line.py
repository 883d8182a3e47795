"""The command line of main.py: a flag for each setting, applied to a preset or to the run that is
resumed."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn, get_args, get_origin

from autorec_tf.config import Config, as_typed, flag_fields, setting_types
from autorec_tf.records.run_folder import config_of, read_record, read_summary, resumed_config
from autorec_tf.resolution import over_preset, over_start, uses_lbfgs
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
        "hidden_activation", "output_activation", "input_encoding", "input_scale",
        "leave_one_out", "leave_one_out_slope", "decoder", "initial_bias", "mean_in_weights",
        "init_stddev"),
    "objective and regularisation": (
        "regularization", "lambda_encoder", "lambda_decoder", "lambda_one_hot",
        "lambda_exponent", "lambda_factor", "dropout", "input_dropout"),
    "optimisation": (
        "start_from", "optimizer_method", "batch_size", "base_lr", "decay_epoch_step", "decay_rate",
        "lr_schedule", "warmup_epoch", "adam_beta_1", "adam_beta_2", "average_decay", "grad_clip",
        "pretrain_epoch", "random_seed"),
    "evaluation and validation": (
        "validation_ratio", "patience", "tolerance", "tune", "cold_rating", "relevant_rating",
        "ranked_users", "display_step", "score_reconstruction"),
    "repeated runs and blends": ("num_folds", "fold", "folds", "members"),
    "records and Comet": (
        "results_dir", "run_name", "checkpoint_every", "comet", "tensorboard"),
    "execution": ("engine", "precision", "distribute"),
}
# Names of settings in other programs.
OTHER_NAMES = {
    "learning_rate": "base_lr", "epochs": "train_epoch", "hidden_units": "hidden_neuron",
    "factors": "hidden_neuron", "layers": "hidden_neuron", "reg": "lambda_value",
    "l2": "lambda_value", "weight_decay": "lambda_value", "seed": "random_seed",
    "test_size": "train_ratio", "cv": "num_folds", "early_stopping": "patience",
    "output_dir": "results_dir", "path": "data_dir", "sep": "read_csv", "header": "read_csv",
    "encoding": "read_csv", "continue": "resume", "workers": "distribute",
}
LIST_WORD = r"[^][(){},;\s]+"  # a value in a list as other programs write it
METAVARS = {int: "N", float: "NUMBER", str: "TEXT"}


class Parser(argparse.ArgumentParser):
    """An argument parser that prints errors in one line, and prints as the programs do."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        # argparse of Python 3.11 to 3.13 takes -1e5 and -inf for flags.
        self._negative_number_matcher = re.compile(
            r"-(inf|nan|(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)$", re.I)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        given, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self.describe_unknown(unknown[0]))
        return given

    def describe_unknown(self, argument: str) -> str:
        """Return the problem with an argument that no flag takes, and the flag that is meant."""
        if not argument.startswith("-"):
            return f"{argument}: a value needs a flag before it"
        name = argument.split("=")[0]
        flags = {flag.replace("-", "_"): flag for flag in self._option_string_actions}
        flags |= {f"__{other}": f"--{ours}" for other, ours in OTHER_NAMES.items()
                  if f"--{ours}" in self._option_string_actions}
        close = get_close_matches(name.replace("-", "_"), flags, 1)
        meant = f". Did you mean {flags[close[0]]}?" if close else ""
        return f"{name} is not a flag of {self.prog}{meant}"

    def _print_message(self, message: str, file: Any = None) -> None:
        print_line(message, file or sys.stderr, end="")

    def error(self, message: str) -> NoReturn:
        text = printable(message)
        end = "." if text.endswith((".", "?")) else ""
        text = text.removesuffix(".")
        self.exit(2, f"{self.prog}: error: {text} (see --help){end}\n")


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


def value_of(value_type: Callable[[str], Any], choices: Sequence[str] | None,
             is_list: bool) -> Callable[[str], Any]:
    """Return the function that reads one value of a flag, in a list if `is_list`."""

    def read(text: str) -> Any:
        problem, words = f"invalid value {text!r}: must be ", re.findall(LIST_WORD, text)
        is_known = not choices or set(words) <= set(choices)
        is_other_list = is_list and words not in ([], [text]) and is_known
        if is_other_list:
            problem = f"invalid value {text!r}: a list is written with blanks, as in "
            problem += f"{' '.join(words)}; each value must be "
        try:
            value = value_type(text)
        except ValueError as error:
            kind = "a whole number" if value_type is int else "a number"
            raise argparse.ArgumentTypeError(problem + kind) from error
        if choices and value not in choices:
            by_name = {choice.lower(): choice for choice in choices}
            close = [] if is_other_list else get_close_matches(text.lower(), by_name, 1)
            meant = f". Did you mean {by_name[close[0]]}?" if close else ""
            raise argparse.ArgumentTypeError(f"{problem}one of {', '.join(choices)}{meant}")
        return value

    return read


def parse_arguments(arguments: Sequence[str] | None = None) -> Config:
    """Return the settings of a command line. Exit with code 2 if it is invalid.

    Flags override the preset. A setting that is given as a flag is not tuned.
    """
    parser = config_parser()
    given = vars(parser.parse_args(arguments))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        if "resume" in given:
            return resume_settings(given)
        return start_settings(given) if "start_from" in given else over_preset(given)
    except UserError as error:
        parser.error(str(error))


def config_parser() -> Parser:
    """Return the parser of main.py: the settings that most people need, examples, the others."""
    parser = Parser(
        prog="main.py", usage=USAGE, allow_abbrev=False, add_help=False,
        description="Train AutoRec (Sedhain et al., WWW 2015) and record the run.",
        argument_default=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter)
    types, fields = setting_types(), {f.name: f for f in flag_fields()}
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
            raise UserError(f"--{name} {as_typed(value)}: the run in {given['resume']} has "
                            f"{as_typed(before)}, which cannot change. Leave out --{name}.")
    longer = given.get("train_epoch", config.train_epoch) - config.train_epoch
    if longer and config.lr_schedule == "cosine":
        raise UserError(f"--train_epoch {given['train_epoch']}: the learning rate of the run in "
                        f"{given['resume']} reaches 0 after {config.train_epoch} epochs "
                        "(--lr_schedule cosine). Leave it out, or train the result further with "
                        "--start_from.")
    if longer < 0:
        raise UserError(f"--train_epoch {given['train_epoch']}: the run in {given['resume']} has "
                        f"{config.train_epoch} epochs, and can only be made longer")
    return replace(config, **{name: given[name] for name in changeable if name in given})


def start_settings(given: dict[str, Any]) -> Config:
    """Return the settings of a run that starts from the run in the folder `given["start_from"]`,
    overridden by `given`."""
    folder = Path(given["start_from"])
    before, epochs = config_of(folder, read_record(folder)), read_summary(folder).get("epochs")
    trained = epochs if type(epochs) is int and epochs > 0 else None
    return over_start(before, given, str(folder), trained)


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
        return settings | dict(type=boolean, nargs="?", const=True, metavar="true|false")
    choices = f.metadata["choices"]
    metavar = f"{{{','.join(choices)}}}" if choices else METAVARS[value_type]
    settings["type"] = value_of(value_type, choices, is_tuple)
    return settings | dict(metavar=f.metadata["metavar"] or metavar)
