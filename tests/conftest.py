"""What several test modules share: the real MovieLens-1M, and small files made up on the spot."""

import gc
import hashlib
import io
import os
import shlex
import socket
import sys
import zipfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from autorec_tf.config import DATA_DIR_VARIABLE
from autorec_tf.data import datasets
from data_preprocessor import read_ml_1m, split_ratings
from tests import forks
from tests.faults.archive_server import ArchiveServer

REPOSITORY = Path(__file__).resolve().parent.parent


def pytest_xdist_auto_num_workers():
    """One worker more than there are processors: many tests wait for a server or a process."""
    return 1 + len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def pytest_configure(config):
    """Start pytest's workers as forks of one process that has imported TensorFlow."""
    if forks.FORKS and set(config.option.tx) == {"popen"}:
        forks.start_server()
        python = shlex.join([sys.executable, forks.__file__])
        config.option.tx = [f"popen//python={python}"] * len(config.option.tx)


def pytest_collection_modifyitems(items):
    """Run the longest test first: other tests then run at the same time. Then run the tests of the
    real ratings, so that few workers read them."""
    items.sort(key=lambda item: ("test_workers.py" not in item.nodeid,
                                 "ml_1m_ratings" not in item.fixturenames))


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Import the modules as fast as the program does, without Keras, which TensorFlow imports if it
    can, and without garbage collection, which looks through hundreds of thousands of objects."""
    hidden = "keras" not in sys.modules
    if hidden:
        sys.modules["keras"] = None
    gc.disable()
    try:
        return (yield)
    finally:
        if hidden:
            del sys.modules["keras"]
        gc.freeze()  # what is imported stays
        gc.set_threshold(200_000, 20, 50)
        gc.enable()
    if tf := sys.modules.get("tensorflow"):
        tf.config.threading.set_inter_op_parallelism_threads(1)  # the workers share processors


def pytest_runtest_setup(item):
    """Make small trainings in this process fast: graphs run as they are traced, without being
    optimised first, and tests marked `eager`, but not `eager(False)`, trace none. Processes run
    what users run."""
    if tf := sys.modules.get("tensorflow"):
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
        eager = item.get_closest_marker("eager")
        tf.config.run_functions_eagerly(eager is not None and eager.args != (False,))


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


@pytest.fixture(scope="session")
def ml_1m_split(ml_1m_ratings):
    """Nine tenths of them for training."""
    return split_ratings(ml_1m_ratings, 0.9, 1994)


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


@pytest.fixture
def small_data(write_ratings, tmp_path):
    """A folder with a small ratings.dat of 60 users x 40 items, ids with gaps."""
    rng = np.random.default_rng(5)
    pairs = rng.permutation(60 * 40)[:900]
    triples = [(7 * (p // 40) + 1, 3 * (p % 40) + 2, int(rng.integers(1, 6))) for p in pairs]
    return write_ratings(triples, tmp_path / "data").parent


def triples_of(ratings):
    """(user id, item id, rating) of each rating, in order."""
    users = ratings.user_ids[ratings.users].tolist()
    items = ratings.item_ids[ratings.items].tolist()
    return list(zip(users, items, ratings.values.tolist(), strict=True))


def files_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def zipped(members):
    """A zip archive of {name: content}."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


MANY_TRIPLES = [(user, item, 4) for user in range(40) for item in range(40)]
PUBLISHED = zipped(
    {
        "ml-1m/movies.dat": b"1::Toy Story (1995)::Comedy\n",
        "ml-1m/ratings.dat": rating_lines(MANY_TRIPLES),
        "ml-1m/README": b"terms of use",
    }
)


@pytest.fixture
def serve(monkeypatch):
    """A function that starts a server of an archive and makes it the published one."""
    with ExitStack() as servers:

        def start(content=PUBLISHED, mood="ok", published=None, name="ml-1m"):
            server = servers.enter_context(ArchiveServer(content, mood))
            digest = hashlib.sha256(published or content).hexdigest()
            known = replace(datasets.DATASETS[name], digest=digest, bytes=len(content))
            monkeypatch.setitem(datasets.DATASETS, name, known)
            monkeypatch.setattr(datasets.Dataset, "url", server.url)
            return server

        monkeypatch.setenv("no_proxy", "*")
        yield start


@pytest.fixture
def no_network(monkeypatch):
    """The archive's address is one that refuses connections."""
    with socket.socket() as bound_but_deaf:
        bound_but_deaf.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound_but_deaf.getsockname()[1]}/ml-1m.zip"
        monkeypatch.setenv("no_proxy", "*")
        monkeypatch.setattr(datasets.Dataset, "url", url)
        yield url
