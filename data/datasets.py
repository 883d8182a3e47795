"""The published datasets: what they hold, where they come from, and how they are fetched.

    folder = fetch(DATASETS["ml-20m"], Path("ml-20m"))
    (folder / "ratings.csv").exists()
"""

import os
import re
import socket
import stat
import tempfile
import threading
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

from data.layouts import Layout
from system.errors import UserError
from system.runtime import import_tensorflow

NETWORK_TIMEOUT = 30  # seconds without a byte
LEAST_RATE = 20_000  # bytes a second, below which a download is given up
PATIENCE = 600  # seconds that it may take at any rate
MAX_MEMBER = 2 << 30  # bytes of one unpacked file; ml-32m's ratings.csv has 0.9 GB
COPIED_BYTES = 1 << 20
PAGE = "https://grouplens.org/datasets/movielens/"
FOLDS = tuple(f"u{fold}.{side}" for fold in range(1, 6) for side in ("base", "test"))


@dataclass(frozen=True)
class Dataset:
    """A published dataset.

    scale: lowest and highest rating; files: what is unpacked, the ratings last; layout: of the
    ratings, if they are delimited text; archive, bytes, digest: the address's last part, size, and
    SHA-256 or MD5 as published or as TensorFlow Datasets has it; inside: the archive's folder.
    """

    name: str
    scale: tuple[float, float]
    files: tuple[str, ...]
    layout: Layout | None = None  # of Netflix' files
    archive: str = ""
    bytes: int = 0
    digest: str = ""
    inside: str = ""

    @property
    def url(self) -> str:
        return f"https://files.grouplens.org/datasets/movielens/{self.archive}"

    @property
    def ratings(self) -> str:
        """The name of the file of ratings."""
        return self.files[-1]


WHOLE, HALF = (1.0, 5.0), (0.5, 5.0)
STARS, HALF_STARS = re.compile(r"\d", re.ASCII), re.compile(r"\d(\.[05])?", re.ASCII)


def layout(separator: str, rating: re.Pattern[str], *header: str) -> Layout:
    """The layout of a published file of four columns."""
    names = separator.join(header or ("UserID", "MovieID", "Rating", "Timestamp"))
    numbers = "whole numbers, the rating 1 to 5" if rating is STARS else "the rating 0.5 to 5"
    expected = f"expected {names}, {numbers}".replace("\t", " tab ")
    return Layout(separator, 4, (0, 1, 2, 3), header, expected, rating)


CSV = layout(",", HALF_STARS, "userId", "movieId", "rating", "timestamp")
DATASETS = {
    dataset.name: dataset
    for dataset in (
        Dataset(
            "ml-100k", WHOLE, ("u.item", *FOLDS, "u.data"), layout("\t", STARS),
            "ml-100k.zip", 4_924_029,
            "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229", "ml-100k",
        ),
        Dataset(
            "ml-1m", WHOLE, ("movies.dat", "ratings.dat"),
            layout("::", STARS), "ml-1m.zip", 5_917_549,
            "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20", "ml-1m",
        ),
        Dataset(
            "ml-10m", HALF, ("movies.dat", "ratings.dat"),
            layout("::", HALF_STARS), "ml-10m.zip", 65_566_137,
            "ce571fd55effeba0271552578f2648bd", "ml-10M100K",
        ),
        Dataset(
            "ml-20m", HALF, ("movies.csv", "ratings.csv"), CSV, "ml-20m.zip", 198_702_078,
            "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3", "ml-20m",
        ),
        Dataset(
            "ml-25m", HALF, ("movies.csv", "ratings.csv"), CSV, "ml-25m.zip", 261_978_986,
            "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa", "ml-25m",
        ),
        Dataset(
            "ml-32m", HALF, ("movies.csv", "ratings.csv"), CSV, "ml-32m.zip", 238_950_008,
            "d472be332d4daa821edc399621853b57", "ml-32m",
        ),
        Dataset("netflix", WHOLE, ("combined_data_1.txt",)),
    )
}  # fmt: skip


def fetch(dataset: Dataset, folder: Path) -> None:
    """Download the published archive and unpack its titles and ratings into `folder`.

    The archive is checked against its checksum before anything is unpacked, in a folder of its
    own, and each file appears under its name only when it is whole, the ratings last. Raises
    OSError if the archive cannot be fetched or kept, UserError if it is not the published one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        own = tempfile.TemporaryDirectory(
            prefix=".download-", dir=folder, ignore_cleanup_errors=True
        )
    except OSError as error:
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error
    with own as name:
        archive = download(dataset, Path(name))
        try:
            with zipfile.ZipFile(archive) as members:
                for file in dataset.files:
                    unpack(members, f"{dataset.inside}/{file}", Path(name) / file)
        except Exception as error:  # damaged archives make zipfile raise of every kind
            if isinstance(error, OSError) and error.errno:  # as of a full disk
                raise
            raise UserError(
                f"{dataset.url}: the archive cannot be unpacked ({error}): unpack it yourself and "
                "name its folder with --data_dir"
            ) from error
        for file in dataset.files:
            os.replace(Path(name) / file, folder / file)


def download(dataset: Dataset, folder: Path) -> Path:
    """The archive in `folder`, its checksum verified.

    A thread fetches it, as nothing else ends the wait for a server that sends a byte now and then.
    """
    get_file = import_tensorflow().keras.utils.get_file  # seconds, and most runs have the file
    done: list[object] = []

    def work() -> None:
        try:
            done.append(get_file(dataset.archive, dataset.url, cache_dir=str(folder),
                                 cache_subdir=".", file_hash=dataset.digest))  # fmt: skip
        except BaseException as error:  # KeyboardInterrupt, too: the caller raises it
            done.append(error)

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT)
    thread = threading.Thread(target=work, daemon=True)  # which does not outlive the program
    try:
        thread.start()
        wait(thread, dataset, folder / dataset.archive)
    finally:
        socket.setdefaulttimeout(before)
    (result,) = done
    if isinstance(result, ValueError):  # what get_file raises for a wrong checksum
        raise UserError(
            f"what {dataset.url} sent is not the published archive (wrong checksum): try again, "
            "or fetch it yourself and name its folder with --data_dir"
        ) from result
    if isinstance(result, Exception):  # get_file wraps a URLError in a bare Exception
        raise OSError(str(result).rpartition(" -- ")[2]) from result
    if isinstance(result, BaseException):
        raise result
    return Path(result)


def wait(thread: threading.Thread, dataset: Dataset, archive: Path) -> None:
    """Wait for the download to end. Raises OSError if it takes too long or sends too much."""
    deadline = time.monotonic() + PATIENCE + dataset.bytes / LEAST_RATE
    while thread.is_alive():
        thread.join(0.1)
        if time.monotonic() > deadline:
            raise OSError("timed out: the server is too slow")
        try:
            size = archive.stat().st_size
        except OSError:  # not there yet, or removed again
            continue
        if size > dataset.bytes:
            raise UserError(
                f"what {dataset.url} sends is larger than the published archive: try again, or "
                "fetch it yourself and name its folder with --data_dir"
            )


def unpack(members: zipfile.ZipFile, member: str, path: Path) -> None:
    """Copy one member to `path`. Raises ValueError if it is missing, too large or no file."""
    try:
        info = members.getinfo(member)
    except KeyError as error:
        raise ValueError(f"it has no {member}") from error
    mode = info.external_attr >> 16
    if info.file_size > MAX_MEMBER or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
        raise ValueError(f"{member} is too large, or no file")
    with members.open(info) as source, open(path, "xb") as target:
        size = 0
        while content := source.read(COPIED_BYTES):
            size += len(content)
            if size > MAX_MEMBER:
                raise ValueError(f"{member} is too large")
            target.write(content)
