"""The files of a dataset: published ones, which are downloaded if necessary, or the user's."""

import re
from collections.abc import Sequence
from pathlib import Path

from autorec_tf.data.datasets import DATASETS, Dataset, fetch
from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.foreign import refuse_folder_or_url
from autorec_tf.data.formats import NetflixFile, open_file
from autorec_tf.system.errors import AutoRecWarning, Log, UserError, printable


def has_a_name(dataset: str) -> bool:
    """Return whether `dataset` is the name of a known dataset, not a file of the user."""
    return dataset in (*DATASETS, "synthetic")


def plain_name(name: str) -> str:
    """Return a dataset name for the file `name` that is also a valid folder name."""
    plain = re.sub(r"[^\w .,+@()-]", "_", Path(name).name).encode()[-80:].decode(errors="ignore")
    plain = plain.strip(". ") or "file"
    return f"{plain}.file" if has_a_name(plain) else plain


def published_file(dataset: Dataset, folder: Path, required: bool,
                   log: Log) -> list[RatingsFile]:
    """Return the rating file of `dataset` in `folder`, downloaded if necessary. If that fails,
    raise UserError if the dataset is `required`, and return no file otherwise."""
    if dataset.layout is None:
        return [netflix_file(folder)]
    path = folder / dataset.ratings
    error = "" if path.exists() else download(folder, dataset)
    if error and required:
        raise UserError(f"{path}: the file does not exist, and {dataset.url} cannot be downloaded "
                        f"({error}). Connect to the network, name the folder of {dataset.ratings} "
                        "with --data_dir, or train on synthetic ratings with --dataset synthetic.")
    if error:
        log(AutoRecWarning(f"MovieLens-1M is not in {folder} and cannot be downloaded ({error}). "
                           "Training on synthetic ratings of its size instead: their RMSE is not "
                           "MovieLens-1M's."))
    return [] if error else [RatingsFile(dataset.layout, path)]


def download(folder: Path, dataset: Dataset) -> str:
    """Download `dataset` into `folder`. Return the reason if that fails, or "". The default folder,
    with the name of the dataset, is created when necessary; another one is a UserError."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file. Name the folder of the rating files with --data_dir.")
    if not folder.exists() and str(folder) != dataset.name:
        raise UserError(f"{folder} does not exist. Correct --data_dir, or create this folder to "
                        f"download {dataset.name} into it.")
    try:
        fetch(dataset, folder)
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


def fold_files(name: str, folder: Path, folds: Sequence[str],
               columns: tuple[str | None, str | None], read_csv: Sequence[str],
               log: Log) -> list[RatingsFile]:
    """Return the training and the test file of the first of `folds`. Files of a published dataset
    `name` are downloaded if necessary. Raise UserError if any file of any fold is missing."""
    dataset = DATASETS.get(name)
    layout = dataset and dataset.layout
    if has_a_name(name) and not layout:
        raise UserError(f"--folds {' '.join(folds)}: {name} has no published folds. Use "
                        "--num_folds.")
    paths, reason = [path for fold in folds for path in fold_paths(folder, fold)], ""
    missing = [path for path in paths if not path.is_file()]
    if missing and dataset and missing[0].name in dataset.files and (
            error := download(folder, dataset)):
        reason = f", and {dataset.url} cannot be downloaded ({error})"
    if missing := [path for path in paths if not path.is_file()]:
        raise UserError(f"--folds {' '.join(folds)}: {missing[0]} does not exist{reason}. Put it "
                        "there, or name the folder of the folds' files with --data_dir.")
    if layout:
        return [RatingsFile(layout, path) for path in paths[:2]]
    return [given_file("folds", str(path), None, each, read_csv, log)
            for path, each in zip(paths[:2], columns, strict=True)]


def fold_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the paths of the training and the test file of a fold, which may be missing."""
    other = folder / f"{name}.train"
    return other if other.is_file() else folder / f"{name}.base", folder / f"{name}.test"


def netflix_file(folder: Path) -> NetflixFile:
    """Return the user's files of the Netflix Prize in `folder`."""
    for pattern in ("combined_data_*.txt", "training_set/mv_*.txt", "mv_*.txt"):
        if paths := sorted(folder.glob(pattern)):
            return NetflixFile(*paths)
    raise UserError(f"{folder}: combined_data_1.txt and training_set/mv_*.txt do not exist. The "
                    "Netflix Prize's data can no longer be downloaded: put your files there, or "
                    "name their folder with --data_dir.")


def given_file(flag: str, name: str, data_dir: str | None, columns: str | None,
               read_csv: Sequence[str], log: Log) -> RatingsFile:
    """Return the file `name` that `flag` gives, perhaps in `data_dir`, and log its format."""
    path = Path(name)
    if not path.is_file() and data_dir:
        path = Path(data_dir) / name
    if not path.is_file():
        refuse_folder_or_url(name, path)
        if flag == "test_file":
            raise UserError(f"--test_file {name} is not a file. Name a file; its folder can be "
                            "given with --data_dir.")
        raise UserError(f"{name} is neither a file nor a known dataset. Name a file (its folder "
                        f"can be given with --data_dir), or one of {', '.join(DATASETS)}, "
                        "synthetic.")
    file = open_file(path, columns, read_csv)
    log(printable(f"Data file {file}"))
    return file
