"""Find the ratings of a run again, whatever their files are called now."""

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.sources import has_a_name, plain_name
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import from_utf8
from data_preprocessor import load_ratings


def load_again(config: Config, record: Mapping[str, Any],
               log: Callable[[str], None] = print) -> Ratings:
    """Return the ratings of a run from its settings `config` and the content `record` of its
    config.json. Where --dataset and --test_file differ from the record, they are the files' paths.

    The files are found by their names, and by the fingerprint if several have the name. If no
    ratings have the fingerprint, return those in the likeliest files. Raise UserError for files
    that are missing or malformed.
    """
    if config.folds:
        return load_ratings(config, log)
    flags = [
        flag for flag in ("dataset", "test_file") if (name := getattr(config, flag))
        and (name != record.get(flag) or not has_a_name(name))
    ]
    first: Ratings | UserError | None = None
    for paths in itertools.product(*(candidates(config, record, flag) for flag in flags)):
        lines: list[str] = []
        path_by_flag: dict[str, Any] = dict(zip(flags, paths, strict=True))
        try:
            ratings = load_ratings(replace(config, **path_by_flag), lines.append)
        except UserError as error:
            first = first or error
            continue
        ratings = replace(ratings, name=record.get("dataset") or ratings.name)
        if ratings.fingerprint == record.get("fingerprint"):
            for line in lines:
                log(line)
            return ratings
        first = first if isinstance(first, Ratings) else ratings
    assert first is not None
    if isinstance(first, UserError):
        raise first
    return first


def ratings_of_run(path: Path, config: Config, record: Mapping[str, Any],
                   dataset: str | None = None, test_file: str | None = None) -> Ratings:
    """Return the ratings that the run in the folder `path` was trained on, from the files `dataset`
    and `test_file` if they are given. `record` is the content of its config.json, `config` the
    settings in it. Raise UserError if no ratings have the run's fingerprint."""
    if test_file and not config.test_file:
        raise UserError(f"--test_file {test_file}: {path} had none")
    config = replace(config, dataset=dataset or config.dataset,
                     test_file=test_file or config.test_file)
    ratings = load_again(config, record, lambda _: None)
    if ratings.fingerprint != record.get("fingerprint"):
        where = " and ".join(map(str, ratings.files.values())) or config.ratings_folder()
        raise UserError(f"the ratings in {where} are not those that {path} was trained on (their "
                        "fingerprints differ): name the folder of those with --data_dir, or their "
                        "file with --dataset")
    return ratings


def candidates(config: Config, record: Mapping[str, Any], flag: str) -> list[str]:
    """Return possible paths of the file that a run was given by `flag`, the likeliest first: the
    path in `config` if it is not the record's; else files in --data_dir and the current folder of
    its name, or one that is recorded the same way; else all files in --data_dir. Raise UserError
    if there are none."""
    plain = getattr(config, flag)
    if plain != record.get(flag):
        return [plain]
    folders = list(dict.fromkeys((config.data_dir or ".", ".")))
    names = record.get("files")
    name = names.get(flag, plain) if isinstance(names, dict) else plain
    try:
        name = from_utf8(name)
    except (AttributeError, UnicodeError):  # it was changed
        name = plain
    paths = [path for folder in folders if os.path.isfile(path := os.path.join(folder, name))]
    every = [path for folder in folders for path in files_in(folder)]
    paths += [path for path in every if plain_name(path) == plain and path not in paths]
    if config.data_dir and not paths:
        paths = files_in(config.data_dir)
    if not paths:
        raise UserError(f"{name}, of which the run is, is not in {' or '.join(folders)}: name its "
                        f"folder with --data_dir, or the file with --{flag}")
    return paths


def files_in(folder: str) -> list[str]:
    """Return the files in a folder, if it is one: paths that cannot be a dataset's name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(os.path.join(folder, each.name) for each in entries if each.is_file())
    except OSError:
        return []
