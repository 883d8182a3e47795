"""The published datasets: their files, their sources, and the download.

    folder = Path("ml-20m")
    fetch(DATASETS["ml-20m"], folder)
    (folder / "ratings.csv").exists()
"""

import errno
import hashlib
import http.client
import os
import re
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from autorec_tf.data.layouts import Layout
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import sync

NETWORK_TIMEOUT = 30  # seconds without a byte
LEAST_RATE = 20_000  # bytes per second: the time limit of a download is its size by this rate,
PATIENCE = 600  # plus this number of seconds
RECEIVED_BYTES = 1 << 18  # at most, per read
FOLDS = tuple(f"u{fold}.{side}" for fold in "12345ab" for side in ("base", "test"))


@dataclass(frozen=True)
class Dataset:
    """A published dataset.

    Args:
        name: the value of `--dataset`.
        scale: the lowest and the highest rating.
        files: the files to unpack, the ratings last.
        layout: the layout of the rating file, or None for the Netflix Prize's files.
        bytes: the archive's size.
        digest: its SHA-256 or MD5, as published or as listed in TensorFlow Datasets.
        inside: the folder inside the archive.
    """

    name: str
    scale: tuple[float, float]
    files: tuple[str, ...]
    layout: Layout | None = None
    bytes: int = 0
    digest: str = ""
    inside: str = ""

    @property
    def url(self) -> str:
        return f"https://files.grouplens.org/datasets/movielens/{self.name}.zip"

    @property
    def ratings(self) -> str:
        """The name of the rating file."""
        return self.files[-1]


WHOLE, HALF = (1.0, 5.0), (0.5, 5.0)
DAT, CSV = ("movies.dat", "ratings.dat"), ("movies.csv", "ratings.csv")


def movielens(name: str, separator: str, scale: tuple[float, float], files: tuple[str, ...],
              bytes: int, digest: str, inside: str = "") -> Dataset:
    """Return a dataset whose ratings have four columns, in CSV files below a header."""
    header = ("userId", "movieId", "rating", "timestamp") if files == CSV else ()
    names = separator.join(header or ("UserID", "MovieID", "Rating", "Timestamp"))
    expected = f"Expected {names}, ratings from {scale[0]:g} to {scale[1]:g}".replace("\t", r"\t")
    rating = re.compile(r"\d" if scale == WHOLE else r"\d(\.[05])?", re.ASCII)
    layout = Layout(separator, 4, (0, 1, 2, 3), header, expected, rating,
                    skipped=int(bool(header)), quotechar="")
    return Dataset(name, scale, files, layout, bytes, digest, inside or name)


DATASETS = {dataset.name: dataset for dataset in (
    movielens("ml-100k", "\t", WHOLE, ("u.item", *FOLDS, "u.data"), 4_924_029,
              "50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229"),
    movielens("ml-1m", "::", WHOLE, DAT, 5_917_549,
              "a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20"),
    movielens("ml-10m", "::", HALF, DAT, 65_566_137,
              "ce571fd55effeba0271552578f2648bd", "ml-10M100K"),
    movielens("ml-20m", ",", HALF, CSV, 198_702_078,
              "96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3"),
    movielens("ml-25m", ",", HALF, CSV, 261_978_986,
              "8b21cfb7eb1706b4ec0aac894368d90acf26ebdfb6aced3ebd4ad5bd1eb9c6aa"),
    movielens("ml-32m", ",", HALF, CSV, 238_950_008, "d472be332d4daa821edc399621853b57"),
    Dataset("netflix", WHOLE, ("combined_data_1.txt",)),
)}


def fetch(dataset: Dataset, folder: Path) -> None:
    """Download the published archive and unpack its titles, folds and ratings into `folder`, except
    those that exist there.

    The checksum is verified first. Files are unpacked in a temporary folder, and each is moved to
    its final name only when it is complete, the ratings last. Raise OSError if the archive cannot
    be downloaded or written, UserError if it is not the published one.
    """
    is_new = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".download-", dir=folder, ignore_cleanup_errors=True
        ) as name:
            temporary = Path(name)
            download(dataset, temporary / f"{dataset.name}.zip")
            unpack(dataset, temporary / f"{dataset.name}.zip", temporary)
            for file in dataset.files:
                if not (folder / file).exists():
                    sync(temporary / dataset.inside / file)
                    os.replace(temporary / dataset.inside / file, folder / file)
    except OSError as error:
        if error.errno is None:  # a network error from `receive`
            raise
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error
    finally:
        if is_new:
            with suppress(OSError):  # the folder has files
                folder.rmdir()


def download(dataset: Dataset, path: Path) -> None:
    """Download the archive to `path` and verify its checksum."""
    kind = "md5" if len(dataset.digest) == 32 else "sha256"
    digest = hashlib.new(kind, usedforsecurity=False)
    with open(path, "wb") as file:
        for content in receive(dataset):
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != dataset.digest:
        raise not_published(dataset, "the downloaded file is not the published archive (wrong "
                                     "checksum)")


def not_published(dataset: Dataset, problem: str) -> UserError:
    """Return the error for an archive that is not the published one."""
    return UserError(f"{dataset.url}: {problem}. Try again, or download and unpack it yourself "
                     "and name its folder with --data_dir.")


def receive(dataset: Dataset) -> Iterator[bytes]:
    """Yield the archive in pieces as they arrive.

    Raise OSError, with only the reason and without an errno, if the network fails or the download
    takes too long, and UserError if more arrives than was published.
    """
    deadline, size = time.monotonic() + PATIENCE + dataset.bytes / LEAST_RATE, 0
    try:
        with urllib.request.urlopen(dataset.url, timeout=NETWORK_TIMEOUT) as response:
            promised = getattr(response, "length", None)  # None if the server does not send it
            while size != promised:
                # Not `read`, which would wait for a slow server until the piece is full.
                content = response.read1(RECEIVED_BYTES)
                size += len(content)
                if max(size, promised or 0) > dataset.bytes:
                    raise not_published(dataset, "the file is larger than the published archive")
                if time.monotonic() > deadline:
                    raise OSError("timed out: the server is too slow")
                if not content:
                    break
                yield content
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise OSError(getattr(reason, "strerror", None) or str(reason)) from error
    if promised is not None and size < promised:
        raise OSError(f"the download is incomplete: {size} of {promised} bytes")


def unpack(dataset: Dataset, archive: Path, folder: Path) -> None:
    """Extract the dataset's files to `folder`, below the folder that they have in the archive.
    Raise OSError if they cannot be written, UserError if they are missing or damaged."""
    try:
        with zipfile.ZipFile(archive) as members:
            members.extractall(folder, [f"{dataset.inside}/{file}" for file in dataset.files])
    except Exception as error:  # zipfile raises any type for a damaged archive
        # EINVAL: an offset outside the archive.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise not_published(dataset, f"the archive cannot be unpacked ({error})") from error
