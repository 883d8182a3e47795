"""What several test modules share: the real MovieLens-1M, and small files made up on the spot."""

import os
from pathlib import Path

import pytest

from config import DATA_DIR_VARIABLE
from data_preprocessor import read_ml_1m

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ml_1m():
    """The folder of the real MovieLens-1M; the test is skipped where there is none."""
    named = os.environ.get(DATA_DIR_VARIABLE)
    for folder in filter(None, (named, REPOSITORY / "ml-1m")):
        if (Path(folder) / "ratings.dat").is_file():
            return Path(folder).resolve()
    pytest.skip(
        f"needs the real MovieLens-1M: no ratings.dat in ${DATA_DIR_VARIABLE} ({named}) "
        f"nor in {REPOSITORY / 'ml-1m'}"
    )


@pytest.fixture(scope="session")
def ml_1m_ratings(ml_1m):
    """The real MovieLens-1M, parsed."""
    return read_ml_1m(ml_1m / "ratings.dat")


@pytest.fixture
def write_ratings(tmp_path):
    """A function that writes (user, item, rating) triples as `ratings.dat` and returns its path.

    It takes bytes too, for files that are not in the published format.
    """

    def write(content, folder=tmp_path):
        if not isinstance(content, bytes):
            content = rating_lines(content)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "ratings.dat"
        path.write_bytes(content)
        return path

    return write


def rating_lines(triples, timestamp=978300760):
    """Triples in MovieLens-1M's published format."""
    return b"".join(b"%d::%d::%d::%d\n" % (*triple, timestamp) for triple in triples)
