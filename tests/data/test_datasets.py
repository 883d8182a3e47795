"""The download of the published archives: whole and checked, or nothing at all."""

import builtins
import errno
import hashlib
import os
import re
import zipfile
from dataclasses import replace
from http.client import HTTPResponse

import pytest

from autorec_tf.config import Config
from autorec_tf.data import datasets
from autorec_tf.data.datasets import fetch
from data_preprocessor import load_ratings
from tests.conftest import MANY_TRIPLES, PUBLISHED, files_below, triples_of, zipped
from tests.facts import refused

TRIPLES = [(7, 30, 5), (2, 3952, 1), (7, 4, 3)]


@pytest.mark.parametrize("dataset", ["ml-1m", None])
def test_a_download_leaves_ratings_and_titles_and_nothing_else(serve, tmp_path, dataset):
    serve()
    (tmp_path / "data").mkdir()
    ratings = load_ratings(Config(dataset=dataset, data_dir=str(tmp_path / "data")))
    assert triples_of(ratings) == MANY_TRIPLES
    assert files_below(tmp_path) == ["data", "data/movies.dat", "data/ratings.dat"]


def test_the_downloaded_file_is_read_the_next_time(serve, tmp_path):
    server = serve()
    config = Config(dataset="ml-1m", data_dir=str(tmp_path))
    first, second = (load_ratings(config) for _ in range(2))
    assert first.fingerprint == second.fingerprint
    assert server.num_requests == 1


def test_an_archive_with_another_checksum_is_refused_and_removed(serve, tmp_path):
    server = serve(published=b"something else")
    for dataset in ("ml-1m", None):  # never a reason for the stand-in
        with refused("checksum", server.url, "--data_dir"):
            load_ratings(Config(dataset=dataset, data_dir=str(tmp_path)))
        assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "mood, reason",  # Python's own but for the first
    [
        ("cut", rf"\b\d+\b.*\b{len(PUBLISHED)}\b"),
        ("missing", "^Not Found$"),
        ("close", "closed connection"),
        ("nonsense", "^nonsense"),
        ("loop", "infinite loop"),
    ],
)
def test_a_transfer_that_fails_leaves_nothing_but_a_short_reason(serve, tmp_path, mood, reason):
    serve(mood=mood)
    with pytest.raises(OSError, match=reason) as error:
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert error.value.errno is None and len(str(error.value)) < 200
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("mood", ["moved", "unsized", "patient"])
def test_an_archive_that_comes_in_another_way_is_taken(serve, tmp_path, monkeypatch, mood):
    monkeypatch.setattr(datasets, "NETWORK_TIMEOUT", 5)
    serve(mood=mood)
    fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == ["movies.dat", "ratings.dat"]


def test_a_checksum_of_either_kind_is_that_of_the_archive(serve, tmp_path, monkeypatch):
    serve()
    known = replace(datasets.DATASETS["ml-1m"], digest=hashlib.md5(PUBLISHED).hexdigest())
    fetch(known, tmp_path / "whole")
    assert files_below(tmp_path / "whole") == ["movies.dat", "ratings.dat"]
    with refused("checksum", "--data_dir"):
        fetch(replace(known, digest=hashlib.md5(b"").hexdigest()), tmp_path / "other")
    assert files_below(tmp_path / "other") == []


@pytest.mark.parametrize("mood", ["hang", "stall"])
def test_a_server_that_falls_silent_is_given_up_after_the_timeout(
    serve, tmp_path, monkeypatch, mood
):
    monkeypatch.setattr(datasets, "NETWORK_TIMEOUT", 0.2)
    serve(mood=mood)
    with pytest.raises(OSError, match="timed out"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


def test_a_refused_connection_leaves_nothing(no_network, tmp_path):
    with pytest.raises(OSError, match="Connection refused"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "reader, method",
    [(HTTPResponse, "read1"), (zipfile.ZipExtFile, "read")],
    ids=["transferring", "unpacking"],
)
def test_an_interrupted_download_leaves_nothing_to_take_for_good(
    serve, tmp_path, monkeypatch, reader, method
):
    original, calls = getattr(reader, method), []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *args)

    serve()
    monkeypatch.setattr(datasets, "RECEIVED_BYTES", 1000)
    monkeypatch.setattr(reader, method, interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []
    assert triples_of(load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path)))) == MANY_TRIPLES


def test_what_a_killed_download_left_is_not_taken_for_the_data(serve, tmp_path, write_ratings):
    write_ratings(TRIPLES, tmp_path / ".download-x" / "ml-1m")
    (tmp_path / ".download-x" / "ml-1m.zip").write_bytes(b"half an archive")
    serve()
    assert triples_of(load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path)))) == MANY_TRIPLES


def test_folds_come_with_the_archive_and_replace_nothing_that_is_there(serve, tmp_path):
    names = datasets.DATASETS["ml-100k"].files
    lines = {name: b"1\t%d\t3\t9\n" % number for number, name in enumerate(names, 1)}
    serve(zipped({f"ml-100k/{name}": line for name, line in lines.items()}), name="ml-100k")
    folder = tmp_path / "data"
    folder.mkdir()
    config = Config(dataset="ml-100k", data_dir=str(folder), folds=("ua", "ub"))
    assert load_ratings(config).held_out.tolist() == [False, True]
    assert files_below(folder) == sorted(lines)
    (folder / "ub.test").unlink()
    (folder / "u.data").write_bytes(b"my own")
    load_ratings(config)
    assert (folder / "ub.test").read_bytes() == lines["ub.test"]
    assert (folder / "u.data").read_bytes() == b"my own"


def test_a_fold_that_cannot_be_fetched_is_one_line_with_the_remedy(no_network, tmp_path):
    config = Config(dataset="ml-100k", data_dir=str(tmp_path), folds=("u1",))
    with refused("--folds u1", tmp_path / "u1.base", no_network, "--data_dir", "refused"):
        load_ratings(config)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("dataset", ["ml-1m", None, "ml-100k"])
def test_a_mistyped_folder_is_named_and_not_created(no_network, tmp_path, dataset):
    (tmp_path / "file").write_bytes(b"")
    folds = ("u1",) if dataset == "ml-100k" else ()
    for name, fact in (("file", "is a file"), ("mistyped", "does not exist")):
        with refused(tmp_path / name, fact, "--data_dir"):
            load_ratings(Config(dataset=dataset, data_dir=str(tmp_path / name), folds=folds))
    assert files_below(tmp_path) == ["file"]


def test_the_default_folder_is_created_for_a_download_only(serve, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUTOREC_DATA_DIR", raising=False)
    serve(mood="close")
    with refused("--data_dir"):
        load_ratings(Config(dataset="ml-1m"))
    assert list(tmp_path.iterdir()) == []
    serve()
    assert triples_of(load_ratings(Config(dataset="ml-1m"))) == MANY_TRIPLES


def test_a_server_that_trickles_is_given_up_after_the_time_a_download_may_take(
    serve, tmp_path, monkeypatch
):
    monkeypatch.setattr(datasets, "PATIENCE", 0.5)
    monkeypatch.setattr(datasets, "LEAST_RATE", 1e9)
    serve(mood="trickle")
    with pytest.raises(OSError, match="slow"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("mood", ["trickle", "endless"])  # the size is promised, or is not
def test_a_server_that_sends_more_than_the_archive_is_given_up(
    serve, tmp_path, monkeypatch, mood
):
    serve(mood=mood)
    known = datasets.DATASETS["ml-1m"]
    monkeypatch.setitem(datasets.DATASETS, "ml-1m", replace(known, bytes=len(PUBLISHED) - 1))
    with refused("larger", datasets.DATASETS["ml-1m"].url, "--data_dir"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("file", ["ml-1m.zip", "movies.dat", "ratings.dat"])
def test_a_full_disk_is_told_and_leaves_nothing(serve, tmp_path, monkeypatch, file):
    original = builtins.open

    def full(path, mode="r", *args, **kwargs):
        if "w" in mode and str(path).endswith(file):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(path, mode, *args, **kwargs)

    serve()
    monkeypatch.setattr(builtins, "open", full)
    with refused(tmp_path, os.strerror(errno.ENOSPC), error=OSError):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "content, reason",
    [
        (zipped({"ml-1m/movies.dat": b"1::A::B\n"}), "ml-1m/ratings.dat"),
        (b"no archive", "zip file"),
        (PUBLISHED[:-30], "zip file"),
        (PUBLISHED.replace(b"::4::", b"::5::", 1), "CRC-32"),
    ],
    ids=["a member is missing", "no archive", "cut", "changed"],
)
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(serve, tmp_path, content, reason):
    server = serve(content)
    with refused(reason, server.url, "--data_dir"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("name", [name for name in datasets.DATASETS if name != "netflix"])
def test_every_archive_has_its_checksum_and_leaves_titles_and_ratings(serve, tmp_path, name):
    dataset = datasets.DATASETS[name]
    assert re.fullmatch(r"[0-9a-f]{32}|[0-9a-f]{64}", dataset.digest)
    assert dataset.url == f"https://files.grouplens.org/datasets/movielens/{name}.zip"
    serve(zipped({f"{dataset.inside}/{file}": b"x" for file in dataset.files}), name=name)
    fetch(datasets.DATASETS[name], tmp_path)
    assert files_below(tmp_path) == sorted(dataset.files)


def test_a_dataset_that_cannot_be_downloaded_says_where_its_files_go(tmp_path):
    with refused(tmp_path, "combined_data_1.txt", "training_set/mv_*.txt", "--data_dir"):
        load_ratings(Config(dataset="netflix", data_dir=str(tmp_path)))
