"""Command lines to `Config`: a flag for each of its fields, over a preset, or over the settings of
the run that is resumed."""

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NoReturn, get_args, get_origin, get_type_hints

from autorec_tf.config import Config, flag_fields
from autorec_tf.records.run_folder import resumed_config
from autorec_tf.resolution import over_preset
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.terminal import print_line


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, and which prints as the programs do."""

    def _print_message(self, message: str, file: Any = None) -> None:
        print_line(message, file or sys.stderr, end="")

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {printable(message)} (see --help)\n")


def add_data_flags(parser: Parser) -> None:
    """Add the flags that name the current files of a finished run's ratings."""
    parser.add_argument("--data_dir", metavar="FOLDER", help="of the ratings, as for main.py")
    for flag in ("--dataset", "--test_file"):
        parser.add_argument(flag, metavar="FILE", help="where the run's own lies now")


def boolean(text: str) -> bool:
    """`true` or `false`, as a word: `bool("False")` would be true."""
    words = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return words[text.lower()]


def parse_arguments(arguments: Sequence[str] | None = None) -> Config:
    """Return the configuration that a command line asks for. Exit with code 2 if it is unusable.

    A flag that is given overrides the preset, and is not tuned.
    """
    parser = Parser(prog="main.py",
                    description="Train AutoRec (Sedhain et al., WWW 2015) and record the run.",
                    allow_abbrev=False, argument_default=argparse.SUPPRESS)
    types = get_type_hints(Config)
    for group, flags in itertools.groupby(flag_fields(), lambda f: f.metadata["group"]):
        arguments_of = parser.add_argument_group(group)
        for f in flags:
            arguments_of.add_argument(f"--{f.name}", **flag_settings(f, types[f.name]))
    given = vars(parser.parse_args(arguments))
    given = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    try:
        return resume_settings(given) if "resume" in given else over_preset(given)
    except UserError as error:
        parser.error(str(error))


def resume_settings(given: dict[str, Any]) -> Config:
    """Return the settings of the run in the folder `given["resume"]`, and of the flags `given`
    beside it those that may be others now: `dataset` and `test_file` as places of the same
    ratings."""
    config = resumed_config(given["resume"])
    free = ["data_dir", "dataset", "comet", "tensorboard", "train_epoch", "distribute"]
    free += ["test_file"] if config.test_file else []
    for name, value in given.items():
        before = getattr(config, name)
        if name not in ("resume", *free) and value != before:
            raise UserError(f"--{name} {value}: the run in {given['resume']} has {before}, and "
                            "keeps it")
    if given.get("train_epoch", config.train_epoch) < config.train_epoch:
        raise UserError(f"--train_epoch {given['train_epoch']}: the run in {given['resume']} has "
                        f"{config.train_epoch}, and may only be made longer")
    return replace(config, **{name: given[name] for name in free if name in given})


def flag_settings(f: Any, hint: Any) -> dict[str, Any]:
    """Return what argparse needs to know of a field's flag."""
    several = get_origin(hint) is tuple
    value_type = (*get_args(hint), hint)[0]  # int of int | None, and of tuple[int, ...]
    default = " ".join(map(str, f.default)) if several else f.default
    told = "" if default in (None, "") else f" (default: {default})"
    settings: dict[str, Any] = dict(help=f.metadata["text"] + told)
    if several:
        settings.update(nargs="+", metavar="NAME" if f.metadata["choices"] else None)
    if value_type is bool:
        settings.update(type=boolean, nargs="?", const=True, metavar="true|false")
    elif f.metadata["choices"]:
        settings.update(choices=f.metadata["choices"])
    else:
        settings.update(type=value_type, metavar=value_type.__name__.upper())
    return settings
