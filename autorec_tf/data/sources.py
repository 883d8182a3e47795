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
    if not dataset.layout:
        for pattern in ("combined_data_*.txt", "training_set/mv_*.txt", "mv_*.txt"):
            if paths := sorted(folder.glob(pattern)):
                return [NetflixFile(*paths)]
        raise UserError(f"{folder}: combined_data_1.txt and training_set/mv_*.txt do not exist. "
                        "The Netflix Prize's data can no longer be downloaded: put your files "
                        "there, or name their folder with --data_dir.")
    path = folder / dataset.ratings
    problem = missing_file([path], folder, dataset)
    if problem and required:
        raise UserError(f"{problem}. Connect to the network, name the folder of {dataset.ratings} "
                        "with --data_dir, or train on synthetic ratings with --dataset synthetic.")
    if problem:
        log(AutoRecWarning(f"{problem}. Training on synthetic ratings of MovieLens-1M's size "
                           "instead: their RMSE is not MovieLens-1M's."))
    return [] if problem else [RatingsFile(dataset.layout, path)]


def missing_file(paths: Sequence[Path], folder: Path, dataset: Dataset | None) -> str:
    """Return which of `paths` does not exist and why, or "". Files of `dataset` are downloaded into
    `folder` if necessary. The default folder, with the name of the dataset, is created for that;
    another one that does not exist is a UserError."""
    missing, reason = [path for path in paths if not path.exists()], ""
    if missing and dataset and missing[0].name in dataset.files:
        if not folder.is_dir() and (folder.exists() or str(folder) != dataset.name):
            raise UserError(f"{folder} {'is a file' if folder.exists() else 'does not exist'}. "
                            "Correct --data_dir, or create this folder to download "
                            f"{dataset.name} into it.")
        try:
            fetch(dataset, folder)
        except OSError as error:
            reason = f", and {dataset.url} is not available ({str(error) or type(error).__name__})"
        missing = [path for path in paths if not path.exists()]
    return f"{missing[0]} does not exist{reason}" if missing else ""


def fold_files(name: str, folder: Path, folds: Sequence[str],
               columns: tuple[str | None, str | None], read_csv: Sequence[str],
               log: Log) -> list[RatingsFile]:
    """Return the training and the test file of the first of `folds`. Files of a published dataset
    `name` are downloaded if necessary. Raise UserError if any file of any fold is missing."""
    dataset, paths = DATASETS.get(name), list[Path]()
    layout = dataset and dataset.layout
    if has_a_name(name) and not layout:
        raise UserError(f"--folds {' '.join(folds)}: {name} has no published folds. Use "
                        "--num_folds.")
    for fold in folds:
        train = folder / f"{fold}.train"
        paths += [train if train.exists() else folder / f"{fold}.base", folder / f"{fold}.test"]
    if problem := missing_file(paths, folder, dataset):
        raise UserError(f"--folds {' '.join(folds)}: {problem}. Put it there, or name the folder "
                        "of the folds' files with --data_dir.")
    if layout:
        return [RatingsFile(layout, path) for path in paths[:2]]
    return [given_file("folds", str(path), None, each, read_csv, log)
            for path, each in zip(paths[:2], columns, strict=True)]


def given_file(flag: str, name: str, data_dir: str | None, columns: str | None,
               read_csv: Sequence[str], log: Log) -> RatingsFile:
    """Return the file `name` that `flag` gives, perhaps in `data_dir`, and log its format."""
    path = Path(name)
    if not path.is_file() and data_dir:
        path = Path(data_dir) / name
    if not path.is_file():
        refuse_folder_or_url(name, path)
        other = "" if flag == "test_file" else f", or one of {', '.join(DATASETS)}, synthetic"
        raise UserError(f"{'' if other else '--test_file '}{name} is not a file. Name a file (its "
                        f"folder can be given with --data_dir){other}.")
    file = open_file(path, columns, read_csv)
    log(printable(f"Data file {file}"))
    return file
