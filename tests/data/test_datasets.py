"""The download of the published archives: whole and checked, or nothing at all."""

import re
import socket
import stat
import zipfile
from dataclasses import replace
from http.client import HTTPResponse

import pytest

from config import Config
from data import datasets
from data.datasets import fetch
from data_preprocessor import load_ratings
from system.errors import UserError
from tests.conftest import MANY_TRIPLES, PUBLISHED, files_below, rating_lines, triples_of, zipped

TRIPLES = [(7, 30, 5), (2, 3952, 1), (7, 4, 3)]


@pytest.mark.parametrize("dataset", ["ml-1m", None])
def test_a_download_leaves_ratings_and_titles_and_nothing_else(serve, tmp_path, dataset):
    serve()
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
        with pytest.raises(UserError, match="wrong checksum") as error:
            load_ratings(Config(dataset=dataset, data_dir=str(tmp_path)))
        assert server.url in str(error.value)
        assert "--data_dir" in str(error.value)
        assert files_below(tmp_path) == []


@pytest.mark.parametrize(
    "mood, reason", [("cut", "retrieval incomplete"), ("missing", "Not Found")]
)
def test_a_transfer_that_fails_leaves_nothing(serve, tmp_path, mood, reason):
    serve(mood=mood)
    with pytest.raises(OSError, match=reason):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


@pytest.mark.parametrize("mood", ["hang", "stall"])
def test_a_server_that_falls_silent_is_given_up_after_the_timeout(
    serve, tmp_path, monkeypatch, mood
):
    monkeypatch.setattr(datasets, "NETWORK_TIMEOUT", 0.2)
    serve(mood=mood)
    with pytest.raises(OSError, match="timed out"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []
    assert socket.getdefaulttimeout() is None


def test_a_refused_connection_leaves_nothing(no_network, tmp_path):
    with pytest.raises(OSError, match="Connection refused"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


def test_a_hostile_archive_writes_nothing_outside_the_folder(serve, tmp_path, monkeypatch):
    opened = []
    original = zipfile.ZipFile.open

    def spy(self, name, *args, **kwargs):
        opened.append(getattr(name, "filename", name))
        return original(self, name, *args, **kwargs)

    hostile = {
        "../evil": b"evil",
        "../../evil": b"evil",
        str(tmp_path / "evil"): b"evil",
        "ml-1m/../../../evil": b"evil",
        "ml-1m/movies.dat": b"1::A::B\n",
        "ml-1m/ratings.dat": rating_lines(TRIPLES),
    }
    serve(zipped(hostile))
    monkeypatch.setattr(zipfile.ZipFile, "open", spy)
    fetch(datasets.DATASETS["ml-1m"], tmp_path / "data")
    assert files_below(tmp_path) == ["data", "data/movies.dat", "data/ratings.dat"]
    assert opened == ["ml-1m/movies.dat", "ml-1m/ratings.dat"]


@pytest.mark.parametrize(
    "reader", [HTTPResponse, zipfile.ZipExtFile], ids=["transferring", "unpacking"]
)
def test_an_interrupted_download_leaves_nothing_to_take_for_good(
    serve, tmp_path, monkeypatch, reader
):
    original, calls = reader.read, []

    def interrupted(self, *args):
        calls.append(args)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(self, *args)

    serve()
    monkeypatch.setattr(reader, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []
    assert triples_of(load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path)))) == MANY_TRIPLES


def test_what_a_killed_download_left_is_not_taken_for_the_data(serve, tmp_path, write_ratings):
    write_ratings(TRIPLES, tmp_path / ".download-x" / "ml-1m")
    (tmp_path / ".download-x" / "ml-1m.zip").write_bytes(b"half an archive")
    serve()
    assert triples_of(load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path)))) == MANY_TRIPLES


def test_a_folder_that_cannot_be_made_is_named(serve, tmp_path):
    serve()
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=re.escape(f"cannot write to {tmp_path / 'file'}")):
        load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path / "file")))


def test_a_server_that_trickles_is_given_up_after_the_time_a_download_may_take(
    serve, tmp_path, monkeypatch
):
    monkeypatch.setattr(datasets, "PATIENCE", 0.5)
    monkeypatch.setattr(datasets, "LEAST_RATE", 1e9)
    serve(mood="trickle")
    with pytest.raises(OSError, match="too slow"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


def test_a_server_that_sends_more_than_the_archive_is_given_up(serve, tmp_path, monkeypatch):
    serve(mood="trickle")
    known = datasets.DATASETS["ml-1m"]
    monkeypatch.setitem(datasets.DATASETS, "ml-1m", replace(known, bytes=-1))
    with pytest.raises(UserError, match="larger than the published archive"):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


def link_to(target):
    """A zip archive whose ratings are a symbolic link."""
    info = zipfile.ZipInfo("ml-1m/ratings.dat")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped({"ml-1m/movies.dat": b"1::A::B\n", info: target})


@pytest.mark.parametrize(
    "content, reason",
    [
        (zipped({"ml-1m/movies.dat": b"1::A::B\n"}), "it has no ml-1m/ratings.dat"),
        (link_to(b"/etc/passwd"), "ml-1m/ratings.dat is too large, or no file"),
        (b"no archive", "File is not a zip file"),
        (PUBLISHED[:-30], "File is not a zip file"),
        (PUBLISHED.replace(b"::4::", b"::5::", 1), "Bad CRC-32"),
    ],
    ids=["a member is missing", "a link", "no archive", "cut", "changed"],
)
def test_an_archive_that_cannot_be_unpacked_leaves_nothing(serve, tmp_path, content, reason):
    serve(content)
    with pytest.raises(UserError, match=re.escape(reason)):
        fetch(datasets.DATASETS["ml-1m"], tmp_path)
    assert files_below(tmp_path) == []


def test_a_zip_bomb_is_not_unpacked(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "MAX_MEMBER", 1000)
    serve()
    with pytest.raises(UserError, match="too large"):
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
    with pytest.raises(UserError, match="holds no combined_data_1.txt .* --data_dir"):
        load_ratings(Config(dataset="netflix", data_dir=str(tmp_path)))
