"""What the benchmark of peers is made of: splits, designs, records and the table."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import read_csv
from benchmarks import peers
from benchmarks.peer_models import MODELS, one_hot_and_implicit
from data_preprocessor import read_ml_1m, split_ratings
from tests.facts import assert_names, refused
from tests.forks import Fork

PEER = dict(rmse=0.85, seconds=100.0, peak_gb=0.5)
PAGE = f"# Peers\n\n{peers.BEGIN}Before.\n{peers.END}\n\nAfter.\n"


@pytest.fixture
def split(small_data):
    return split_ratings(read_ml_1m(small_data / "ratings.dat"), 0.5, 1994)


def triples(users, items, ratings):
    return sorted(zip(users.tolist(), items.tolist(), ratings.tolist(), strict=True))


def test_a_peer_learns_from_the_training_ratings_and_never_has_the_test_ratings(tmp_path, split):
    peers.write_split(tmp_path / "split.npz", split, 1994)
    with np.load(tmp_path / "split.npz") as found:
        given = dict(found)
    train, test = split.train, split.test
    learned = [given[name] for name in ("users", "items", "ratings")]
    assert triples(*learned) == triples(train.indices, train.rows, train.values)
    np.testing.assert_array_equal(given["test_items"], test.rows)
    np.testing.assert_array_equal(given["test_users"], test.indices)
    assert given["shape"].tolist() == [train.num_columns, train.num_rows]
    assert set(given) == {"users", "items", "ratings", "test_users", "test_items", "shape", "seed"}
    assert np.count_nonzero(np.diff(given["items"]) < 0) > len(train) / 4  # in no order


def test_the_split_is_that_of_main_with_the_same_seed(tmp_path, small_data, monkeypatch):
    ratings = read_ml_1m(small_data / "ratings.dat")
    seen = []

    def call(command, row, seed):
        given, left = command[-2:]
        with np.load(given) as found:
            seen.append(triples(found["users"], found["items"], found["ratings"]))
            number = len(found["test_users"])
        np.savez(left, predictions=np.full(number, 9.0), seconds=1.25, peak_mb=500.0)

    monkeypatch.setattr(peers, "call", call)
    line = peers.measure_peer("svd", 1995, ratings, Path("python"))
    config = Config(random_seed=1995)
    own = split_ratings(ratings, config.train_ratio, config.seed_of_split)
    assert seen == [triples(own.train.indices, own.train.rows, own.train.values)]
    rmse = np.sqrt(np.mean((5 - own.test.values.astype(np.float64)) ** 2))  # clipped
    assert line == {"rmse": round(float(rmse), 6), "seconds": 1.2, "peak_gb": 0.5}


def test_what_is_cold_counts_as_3_whatever_a_peer_predicts():
    train = np.array([[0, 0, 5.0], [1, 0, 4.0]])
    test = np.array([[0, 1, 1.0], [1, 0, 2.0]])  # item 1 is rated in test alone

    def matrix(part):
        users, items = part[:, 0].astype(np.int32), part[:, 1].astype(np.int32)
        values = part[:, 2].astype(np.float32)
        return RatingMatrix.from_triples(items, users, values, (2, 2))

    one = Split(matrix(train), matrix(test))
    assert one.test.rows.tolist() == [0, 1]
    rmse = peers.rmse_of(one, np.array([0.0, 5.0]))
    assert rmse == pytest.approx(np.sqrt(((1 - 2) ** 2 + (3 - 1) ** 2) / 2))


def test_the_design_of_svdpp_is_one_hot_and_what_was_rated_by_the_root_of_its_count():
    rng = np.random.default_rng(3)
    users, items = np.divmod(rng.permutation(5 * 7)[:14], 7)
    for own, others, shape in ((users, items, (6, 7)), (items, users, (7, 6))):
        expected = np.zeros((shape[0], sum(shape)))
        for row in range(shape[0]):
            expected[row, row] = 1
            rated = others[own == row]
            for column in rated:
                expected[row, shape[0] + column] = 1 / len(rated) ** 0.5
        found = one_hot_and_implicit(own, others, shape)
        assert found.format == "csr"
        np.testing.assert_allclose(found.toarray(), expected, rtol=1e-15)


def test_what_is_finished_is_not_measured_again_and_a_split_is_measured_in_one_go(tmp_path):
    rows = ["default", "svd"]
    everything = [("svd", 1994), ("default", 1994), ("svd", 1995), ("default", 1995)]
    assert peers.unfinished(tmp_path, rows, [1994, 1995]) == everything
    peers.record(tmp_path, "default", 1994, PEER, [])
    everything.remove(("default", 1994))
    assert peers.unfinished(tmp_path, rows, [1994, 1995]) == everything
    peers.record(tmp_path, "svd", 1995, PEER, [])
    assert peers.unfinished(tmp_path, rows, [1994, 1995]) == [("svd", 1994), ("default", 1995)]


def test_a_row_that_was_recorded_in_part_is_recorded_once(tmp_path):
    times = [{"below": "0.850", "seconds": 9.0}]
    peers.record(tmp_path, "default", 1994, PEER, times)
    (tmp_path / peers.RESULTS).unlink()  # killed before it was written
    peers.record(tmp_path, "default", 1994, PEER, [{"below": "0.850", "seconds": 8.0}])
    assert read_csv(tmp_path / peers.TIMES) == [
        {"row": "default", "split": "1994", "below": "0.850", "seconds": "8.0"}
    ]
    assert len(read_csv(tmp_path / peers.MACHINES)) == 1
    header = (tmp_path / peers.RESULTS).read_text("utf-8").splitlines()[0]
    assert header == "row,split,rmse,seconds,peak_gb"


def test_the_time_to_an_rmse_counts_what_passed_before_the_first_epoch():
    epochs = [{"test_rmse": rmse, "elapsed_seconds": seconds} for rmse, seconds in
              (("0.9", "1"), ("", "2"), ("0.845", "3"), ("0.851", "4"), ("0.84", "5"))]
    found = peers.time_to_rmse(epochs, 10.0, PEER)
    assert [line["seconds"] for line in found] == [13.0, "", ""]  # 0.84 is not below 0.84
    blend = peers.time_to_rmse([], 0.0, {"rmse": 0.835, "seconds": 600.0})
    assert [line["seconds"] for line in blend] == [600.0, 600.0, ""]
    assert [line["below"] for line in blend] == ["0.850", "0.840", "0.830"]


def test_a_split_that_was_run_for_the_tables_here_is_not_run_again(tmp_path, monkeypatch):
    monkeypatch.setattr(peers.paper_tables, "FOLDER", tmp_path)
    monkeypatch.setattr(peers, "call", lambda *_: pytest.fail("it is run again"))
    folder = tmp_path / "default" / "split_1994"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    lines = "epoch,test_rmse,elapsed_seconds\n1,,1.0\n2,0.839,2.0\n3,0.831,3.0\n"
    (folder / "metrics.csv").write_text(lines)
    summary = {"final_test_rmse": 0.831, "seconds": 20.0, "peak_memory_mb": 1500.0}
    (folder / "summary.json").write_text(json.dumps(summary))
    os.utime(folder / "summary.json", (100, 100))  # it began at 80
    os.utime(folder / "metrics.csv", (90, 90))  # 10 seconds later, of which 3 are of epochs
    line, times = peers.measure_ours("default", 1994)
    assert line == {"rmse": 0.831, "seconds": 20.0, "peak_gb": 1.5}
    assert [each["seconds"] for each in times] == [9.0, 9.0, ""]


def blocks_of(page):
    """The lines of the page's one generated block."""
    return page.split(peers.BEGIN)[1].split(peers.END)[0].splitlines()


def test_the_table_is_of_means_over_the_splits(tmp_path):
    page = tmp_path / "peers.md"
    page.write_text(PAGE, "utf-8")
    with refused("python -m benchmarks.peers"):
        peers.render(tmp_path, page)
    assert page.read_text("utf-8") == PAGE
    for split, rmse in ((1994, 0.83), (1995, 0.84)):
        line = dict(rmse=rmse, seconds=1000.0 * (split - 1993), peak_gb=1.0)
        passed = [("0.850", 40.0), ("0.840", 60.0 if split == 1994 else ""), ("0.830", "")]
        times = [{"below": below, "seconds": seconds} for below, seconds in passed]
        peers.record(tmp_path, "default", split, line, times)
    peers.record(tmp_path, "svd", 1994, PEER, [])
    for _ in range(2):  # what it wrote it renews
        peers.render(tmp_path, page)
    table = (tmp_path / "table.md").read_text("utf-8")
    # Student's t of two values: 12.706 standard errors, of 0.005.
    assert "| `default` | 0.8350 ± 0.0635 | 1,500 | 1.00 | 2 |" in table
    assert "| `svd` | 0.8500 | 100 | 0.50 | 1 |" in table
    (times,) = [line for line in table.splitlines() if "| 40 |" in line]
    assert times.endswith(" | – |") and "1 of 2" in times.split("|")[-3]
    machines = {line["processor"] for line in read_csv(tmp_path / peers.MACHINES)}
    assert_names(table.splitlines()[-1], *machines)
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text("utf-8")
    assert text.startswith(f"# Peers\n\n{peers.BEGIN}{table}") and text.endswith("\n\nAfter.\n")
    assert text.count(peers.END) == text.count("peers.png)") == 1


def test_the_page_has_what_was_measured_and_names_every_peer():
    text = peers.PAGE.read_text("utf-8")
    assert text.count(peers.BEGIN) == 1
    assert re.findall(r"^\| `(\w+)` \| [^\d]", text.split("## The methods")[1], re.M) == [*MODELS]
    table = peers.FOLDER / "table.md"
    if table.exists():
        assert f"{peers.BEGIN}{table.read_text('utf-8')}" in text
    else:
        assert "|" not in "".join(blocks_of(text))


def test_an_environment_that_cannot_be_made_is_told_in_a_line_and_leaves_nothing(
    tmp_path, monkeypatch
):
    wanted = tmp_path / "requirements-peers.txt"
    wanted.write_text("made-up-package==1\n")
    monkeypatch.setattr(peers, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(peers, "REQUIREMENTS", wanted)
    commands = []

    def fail(command, **_):
        commands.append(command)
        (tmp_path / "cache" / "environment").mkdir(parents=True, exist_ok=True)
        code = int("pip" in command)
        return subprocess.CompletedProcess(command, code, "", "one\nERROR: nothing\n" * code)

    monkeypatch.setattr(subprocess, "run", fail)
    with refused("requirements-peers.txt", "ERROR: nothing"):
        peers.make_environment()
    assert len(commands) == 2
    assert not (tmp_path / "cache" / "environment").exists()
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(
        command, (tmp_path / "cache" / "environment").mkdir(parents=True, exist_ok=True) or 0))
    python = peers.make_environment()
    monkeypatch.setattr(subprocess, "run", fail)
    assert peers.make_environment() == python and len(commands) == 2  # it is there
    wanted.write_text("another==2\n")
    with pytest.raises(UserError):
        peers.make_environment()


def test_a_row_that_does_not_exist_ends_with_a_line_and_2():
    run = "import runpy; runpy.run_module('benchmarks.peers', run_name='__main__')"
    process = Fork(["-c", run, "svdp"], peers.ROOT, {**os.environ})
    out, error = process.communicate()
    assert process.returncode == 2 and out == ""
    assert error.startswith("peers: error: ") and error.count("\n") == 1
    assert_names(error, " svdp:", *peers.TEXTS)


def test_a_peer_that_fails_ends_the_measuring_and_one_that_is_interrupted_interrupts():
    with refused("svd", "1994", "code 3"):
        peers.call([sys.executable, "-c", "raise SystemExit(3)"], "svd", 1994)
    with pytest.raises(KeyboardInterrupt):
        peers.call([sys.executable, "-c", "raise SystemExit(130)"], "default", 1994)
