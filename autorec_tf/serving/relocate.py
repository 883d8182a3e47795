"""Find the ratings of a run, even if their files were renamed or moved."""

import itertools
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.sources import has_a_name, plain_name
from autorec_tf.records.run_folder import read_marks
from autorec_tf.system.errors import AutoRecWarning, Log, UserError
from autorec_tf.system.files import from_utf8
from data_preprocessor import load_ratings


def load_again(config: Config, record: Mapping[str, Any], log: Log = print,
               marks: np.ndarray | None = None) -> Ratings:
    """Return the ratings of a run. If no ratings have the run's fingerprint, return those in the
    likeliest files.

    Args:
        config: the settings. A `dataset` or `test_file` that differs from `record` is the path of
            the file; otherwise it is found by its name, and by the fingerprint if several match.
        record: the content of the run's config.json.
        log: called with a line about the format of each file.
        marks: which ratings are test ratings, as from `read_marks`.

    Raises:
        UserError: if files are missing or malformed.
    """
    if config.folds:
        return load_ratings(config, log)
    flags = [
        flag for flag in ("dataset", "test_file") if (name := getattr(config, flag))
        and (name != record.get(flag) or not has_a_name(name))
    ]
    first: Ratings | UserError | None = None
    for paths in itertools.product(*(candidates(config, record, flag) for flag in flags)):
        lines: list[str | AutoRecWarning] = []
        path_by_flag: dict[str, Any] = dict(zip(flags, paths, strict=True))
        try:
            ratings = load_ratings(replace(config, **path_by_flag), lines.append)
        except UserError as error:
            first = first or error
            continue
        ratings = marked(replace(ratings, name=record.get("dataset") or ratings.name), marks)
        if ratings.fingerprint == record.get("fingerprint"):
            for line in lines:
                log(line)
            return ratings
        first = first if isinstance(first, Ratings) else ratings
    assert first is not None
    if isinstance(first, UserError):
        raise first
    return first


def marked(ratings: Ratings, marks: np.ndarray | None) -> Ratings:
    """Return `ratings` with the test ratings of `marks`, unless these are of another number of
    ratings."""
    if marks is not None and len(marks) == -(-len(ratings) // 8):
        held_out = np.unpackbits(marks, count=len(ratings)).astype(bool)
        return replace(ratings, held_out=held_out, times=None)
    return ratings


def ratings_of_run(path: Path, config: Config, record: Mapping[str, Any],
                   dataset: str | None = None, test_file: str | None = None) -> Ratings:
    """Return the ratings that a run was trained on.

    Args:
        path: the run folder.
        config: the settings in its config.json.
        record: the content of its config.json.
        dataset, test_file: the files to read, or None for those that the run names.

    Raises:
        UserError: if no ratings have the run's fingerprint.
    """
    if test_file and not config.test_file:
        raise UserError(f"--test_file {test_file}: the run in {path} has no test file. Leave out "
                        "--test_file.")
    config = replace(config, dataset=dataset or config.dataset,
                     test_file=test_file or config.test_file)
    ratings = load_again(config, record, lambda _: None, read_marks(path, record))
    if ratings.fingerprint != record.get("fingerprint"):
        where = " and ".join(map(str, ratings.files.values())) or config.ratings_folder()
        raise UserError(f"{path}: the run was not trained on the ratings in {where} (the "
                        "fingerprints differ). Name the folder of its ratings with --data_dir, or "
                        "their file with --dataset.")
    return ratings


def candidates(config: Config, record: Mapping[str, Any], flag: str) -> list[str]:
    """Return possible paths of the run's file for `flag`, the likeliest first: the path in `config`
    if it differs from the record; otherwise the files in --data_dir and the current folder with
    its name, or with a name that is recorded the same way; otherwise all files in --data_dir. Raise
    UserError if no file is found."""
    plain = getattr(config, flag)
    if plain != record.get(flag):
        return [plain]
    folders = list(dict.fromkeys((config.data_dir or ".", ".")))
    names = record.get("files")
    name = names.get(flag, plain) if isinstance(names, dict) else plain
    try:
        name = from_utf8(name)
    except (AttributeError, UnicodeError):  # the record was changed
        name = plain
    paths = [path for folder in folders if os.path.isfile(path := os.path.join(folder, name))]
    files = [path for folder in folders for path in files_in(folder)]
    paths += [path for path in files if plain_name(path) == plain and path not in paths]
    if config.data_dir and not paths:
        paths = files_in(config.data_dir)
    if not paths:
        raise UserError(f"{name}: the run's file is not in {' or '.join(folders)}. Name its folder "
                        f"with --data_dir, or the file with --{flag}.")
    return paths


def files_in(folder: str) -> list[str]:
    """Return the paths of the files in a folder, if it exists; none can be a dataset's name."""
    try:
        with os.scandir(folder) as entries:
            return sorted(os.path.join(folder, each.name) for each in entries if each.is_file())
    except OSError:
        return []
