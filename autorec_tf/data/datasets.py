"""The published datasets: what they hold, where they come from, and how they are fetched.

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
from dataclasses import dataclass
from pathlib import Path

from autorec_tf.data.layouts import Layout
from autorec_tf.system.errors import UserError

NETWORK_TIMEOUT = 30  # seconds without a byte
LEAST_RATE = 20_000  # bytes a second, below which a download is given up
PATIENCE = 600  # seconds that it may take at any rate
RECEIVED_BYTES = 1 << 18  # at most, at a time
FOLDS = tuple(f"u{fold}.{side}" for fold in "12345ab" for side in ("base", "test"))


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
    """Return the layout of a published file of four columns."""
    names = separator.join(header or ("UserID", "MovieID", "Rating", "Timestamp"))
    numbers = "whole numbers, the rating 1 to 5" if rating is STARS else "the rating 0.5 to 5"
    expected = f"expected {names}, {numbers}".replace("\t", " tab ")
    return Layout(
        separator, 4, (0, 1, 2, 3), header, expected, rating, skipped=int(bool(header)),
        quotechar="",
    )


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
}


def fetch(dataset: Dataset, folder: Path) -> None:
    """Download the published archive and unpack its titles, folds and ratings into `folder`, those
    that are not there.

    The archive is checked against its checksum before anything is unpacked, in a folder of its
    own, and each file appears under its name only when it is whole, the ratings last. Raise
    OSError if the archive cannot be fetched or kept, UserError if it is not the published one.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(
            prefix=".download-", dir=folder, ignore_cleanup_errors=True
        ) as name:
            own = Path(name)
            download(dataset, own / dataset.archive)
            unpack(dataset, own / dataset.archive, own)
            for file in dataset.files:
                if not (folder / file).exists():
                    os.replace(own / dataset.inside / file, folder / file)
    except OSError as error:
        if error.errno is None:  # the network's, from `receive`
            raise
        raise OSError(f"cannot write to {folder}: {error.strerror}") from error


def download(dataset: Dataset, path: Path) -> None:
    """Write the archive to `path`, its checksum verified."""
    if len(dataset.digest) == 32:
        digest = hashlib.md5(usedforsecurity=False)
    else:
        digest = hashlib.sha256()
    with open(path, "wb") as file:
        for content in receive(dataset):
            digest.update(content)
            file.write(content)
    if digest.hexdigest() != dataset.digest:
        raise UserError(
            f"what {dataset.url} sent is not the published archive (wrong checksum): try again, "
            "or fetch it yourself and name its folder with --data_dir"
        )


def receive(dataset: Dataset) -> Iterator[bytes]:
    """Yield the archive piece by piece, as it comes.

    Raise OSError, with no more than the reason and without an errno, if the network fails or the
    whole takes too long; UserError if more comes than was published.
    """
    deadline, size = time.monotonic() + PATIENCE + dataset.bytes / LEAST_RATE, 0
    try:
        with urllib.request.urlopen(dataset.url, timeout=NETWORK_TIMEOUT) as response:
            promised = getattr(response, "length", None)  # None if the server does not say
            while size != promised:
                # Not `read`: for a server that trickles it would wait till the piece is full.
                content = response.read1(RECEIVED_BYTES)
                size += len(content)
                if max(size, promised or 0) > dataset.bytes:
                    raise UserError(
                        f"what {dataset.url} sends is larger than the published archive: try "
                        "again, or fetch it yourself and name its folder with --data_dir"
                    )
                if time.monotonic() > deadline:
                    raise OSError("timed out: the server is too slow")
                if not content:
                    break
                yield content
    except (OSError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise OSError(getattr(reason, "strerror", None) or str(reason)) from error
    if promised is not None and size < promised:
        raise OSError(f"retrieval incomplete: got only {size} out of {promised} bytes")


def unpack(dataset: Dataset, archive: Path, folder: Path) -> None:
    """Extract the titles and ratings to `folder`, below the archive's own folder. Raise OSError if
    they cannot be written, UserError if they are not there or damaged."""
    try:
        with zipfile.ZipFile(archive) as members:
            for file in dataset.files:
                member = f"{dataset.inside}/{file}"
                if member not in members.namelist():
                    raise ValueError(f"it has no {member}")
                members.extract(member, folder)
    except Exception as error:  # damaged archives make zipfile raise of every kind
        # EINVAL is of an offset that lies outside the archive.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise
        raise UserError(
            f"{dataset.url}: the archive cannot be unpacked ({error}): unpack it yourself and "
            "name its folder with --data_dir"
        ) from error
