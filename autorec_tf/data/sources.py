"""Which files a dataset has: the published ones, fetched if need be, or the user's."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from autorec_tf.data.datasets import DATASETS, Dataset, fetch
from autorec_tf.data.delimited import RatingsFile
from autorec_tf.data.formats import open_file
from autorec_tf.data.netflix import NetflixFile
from autorec_tf.system.errors import UserError, printable


def has_a_name(dataset: str) -> bool:
    """Return whether a dataset has a name, and is not a file of the user's."""
    return dataset in (*DATASETS, "synthetic")


def plain_name(name: str) -> str:
    """Return a file's name as that of a dataset, which folders are named after."""
    plain = re.sub(r"[^\w .,+@()-]", "_", Path(name).name).encode()[-80:].decode(errors="ignore")
    plain = plain.strip(". ") or "file"
    return f"{plain}.file" if has_a_name(plain) else plain


def published_file(dataset: Dataset, folder: Path, required: bool,
                   log: Callable[[str], None]) -> list[RatingsFile]:
    """Return the file of the ratings of `dataset` in `folder`, fetched if need be. If that fails,
    raise UserError if it is `required`, and else return no file."""
    if dataset.layout is None:
        return [netflix_file(folder)]
    path = folder / dataset.ratings
    if not path.exists():
        try:
            fetch(dataset, folder)
        except OSError as error:
            if required:
                raise UserError(f"{path} is not there and {dataset.url} cannot be fetched "
                                f"({error}): connect to the network, name the folder of "
                                f"{dataset.ratings} with --data_dir, or train on made-up ratings "
                                "with --dataset synthetic") from error
            log(f"MovieLens-1M is not in {folder} and cannot be downloaded ({error}). Training on "
                "synthetic ratings of its size instead: their RMSE is not MovieLens'.")
            return []
    return [RatingsFile(dataset.layout, path)]


def fold_files(name: str, folder: Path, folds: Sequence[str],
               columns: tuple[str | None, str | None], read_csv: Sequence[str],
               log: Callable[[str], None]) -> list[RatingsFile]:
    """Return the training and the test file of the first of `folds`, those of a published dataset
    `name` fetched if need be. Raise UserError if any file of any fold is missing."""
    dataset = DATASETS.get(name)
    layout = dataset and dataset.layout
    if has_a_name(name) and not layout:
        raise UserError(f"--folds {' '.join(folds)}: {name} has no folds")
    every, reason = [path for fold in folds for path in fold_paths(folder, fold)], ""
    missing = next((path for path in every if not path.is_file()), None)
    if missing and dataset and missing.name in dataset.files:
        try:
            fetch(dataset, folder)
        except OSError as error:
            reason = f" and {dataset.url} cannot be fetched ({error})"
        missing = next((path for path in every if not path.is_file()), None)
    if missing:
        raise UserError(f"--folds {' '.join(folds)}: {missing} is not there{reason}: put it there, "
                        "or name the folder of the folds' files with --data_dir")
    paths = fold_paths(folder, folds[0])
    if layout:
        return [RatingsFile(layout, path) for path in paths]
    files = [open_file(p, c, read_csv) for p, c in zip(paths, columns, strict=True)]
    for file in files:
        log(printable(f"Data file {file}"))
    return files


def fold_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """Return the paths of the training and the test file of a fold, which may be missing."""
    other = folder / f"{name}.train"
    return other if other.is_file() else folder / f"{name}.base", folder / f"{name}.test"


def netflix_file(folder: Path) -> NetflixFile:
    """Return the user's files of the Netflix Prize in `folder`."""
    for pattern in ("combined_data_*.txt", "training_set/mv_*.txt", "mv_*.txt"):
        if paths := sorted(folder.glob(pattern)):
            return NetflixFile(*paths)
    raise UserError(f"{folder} holds no combined_data_1.txt and no training_set/mv_*.txt: Netflix' "
                    "data cannot be downloaded from its publisher any more; put your own files "
                    "there, or name their folder with --data_dir")


def given_file(flag: str, name: str, data_dir: str | None, columns: str | None,
               read_csv: Sequence[str], log: Callable[[str], None]) -> RatingsFile:
    """Return the file that the user names with `flag`, perhaps in `data_dir`; log its format."""
    path = Path(name)
    if not path.is_file() and data_dir:
        path = Path(data_dir) / name
    if not path.is_file() and flag == "test_file":
        raise UserError(f"--test_file {name} is not a file: name one, and its folder with "
                        "--data_dir if need be")
    if not path.is_file():
        raise UserError(f"{name} is not a file, and no dataset of that name is known: name a file "
                        "(or its folder with --data_dir), or one of "
                        f"{', '.join(DATASETS)}, synthetic")
    file = open_file(path, columns, read_csv)
    log(printable(f"Data file {file}"))
    return file
