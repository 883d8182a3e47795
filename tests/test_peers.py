"""What the benchmark of peers is made of: splits, designs, records and the table."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from autorec_tf.config import DATA_DIR_VARIABLE, Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import read_csv
from benchmarks import peer_plot, peer_settings, peers
from benchmarks.peer_models import MODELS, one_hot_and_implicit, one_hot_days, predict_libmf
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


def test_the_days_of_a_split_are_those_of_its_pairs(tmp_path, small_data, monkeypatch):
    file = small_data / "ratings.dat"
    pairs = [line.split("::")[:3] for line in file.read_text(encoding="latin-1").splitlines()]
    file.write_text("".join(f"{'::'.join(pair)}::{86_400 * day + 5}\n"
                            for day, pair in enumerate(pairs, 11_000)), encoding="latin-1")
    expected = {(int(user), int(item)): day for day, (user, item, _) in enumerate(pairs, 11_000)}
    ratings = read_ml_1m(file)
    split = split_ratings(ratings, 0.5, 1994)
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(small_data))
    peers.write_split(tmp_path / "split.npz", split, 1994, days=peers.days_of(ratings))
    with np.load(tmp_path / "split.npz") as found:
        for part in ("", "test_"):
            users = ratings.user_ids[found[f"{part}users"]].tolist()
            items = ratings.item_ids[found[f"{part}items"]].tolist()
            days = [expected[pair] for pair in zip(users, items, strict=True)]
            assert found[f"{part}days"].tolist() == days


def test_a_day_without_training_ratings_has_no_feature():
    found = one_hot_days(np.array([7, 3, 5]), np.array([3, 7]))
    assert found.toarray().tolist() == [[0, 1], [1, 0], [0, 0]]


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


def test_libmf_has_the_training_ratings_in_rows_and_the_test_pairs_in_columns(monkeypatch):
    given = {}

    class MF:  # reads memory as the library does
        def __init__(self, **settings):
            given["settings"] = settings

        def fit(self, rows):
            given["rows"] = rows.astype(np.float32).ravel("K").reshape(-1, 3).tolist()

        def predict(self, pairs):
            users, items = np.split(pairs.astype(np.float32).ravel("K"), 2)
            return 10 * users + items

    package, module = ModuleType("libmf"), ModuleType("libmf.mf")
    package.mf, module.MF = module, MF
    monkeypatch.setitem(sys.modules, "libmf", package)
    monkeypatch.setitem(sys.modules, "libmf.mf", module)
    split = {name: np.array(values, np.int32) for name, values in (
        ("users", [0, 2]), ("items", [1, 0]), ("test_users", [1, 2, 0]), ("test_items", [0, 1, 1]))}
    split["ratings"] = np.array([5, 2], np.float32)
    settings = dict(k=3, l2=0.5, rate=0.1, iterations=4)
    assert predict_libmf(split, **settings).tolist() == [10, 21, 1]
    assert given["rows"] == [[0, 1, 5], [2, 0, 2]]
    assert predict_libmf(split, **settings, minus_mean=True).tolist() == [13.5, 24.5, 4.5]
    assert given["rows"] == [[0, 1, 1.5], [2, 0, -1.5]]
    penalties = {name: given["settings"][f"lambda_{name}"] for name in ("p1", "q1", "p2", "q2")}
    assert penalties == {"p1": 0, "q1": 0, "p2": 0.5, "q2": 0.5}


def test_a_peer_runs_where_tensorflow_is_not_installed():
    code = "import sys; sys.modules.update(autorec_tf=None, tensorflow=None); " \
           "import benchmarks.peer_models as m; print(m.runpy.run_path(str(m.ENVIRONMENT))" \
           "['peak_memory_mb']() > 1)"
    done = subprocess.run([sys.executable, "-c", code], cwd=peers.ROOT, capture_output=True,
                          text=True, check=True)
    assert done.stdout == "True\n"


def test_the_search_ends_where_no_change_of_one_setting_gains_enough():
    values = {"a": (1, 2, 3, 4), "b": (0.0, 0.5, 1.0)}
    tried = []

    def rmse_of(point):
        tried.append((point["a"], point["b"]))
        return 0.8 + 0.01 * abs(point["a"] - 3) + 0.0001 * abs(point["b"] - 1)

    found = peer_settings.search({"a": 1, "b": 0.5}, values, rmse_of)
    assert found == ({"a": 3, "b": 0.5}, pytest.approx(0.80005))  # b would gain 0.00005
    assert {(2, 0.5), (1, 0.0), (1, 1.0), (4, 0.5), (3, 1.0)} <= set(tried)
    assert (4, 1.0) not in tried


def test_settings_of_the_rows_are_those_that_the_search_found():
    lines = read_csv(peer_settings.FILE)
    for row, values in peer_settings.VALUES.items():
        assert all(start in values[name] for name, start in peer_settings.START[row].items())
        rmse = {line["settings"]: float(line["validation_rmse"])
                for line in lines if line["row"] == row}
        chosen, lowest = peer_settings.search(
            peer_settings.START[row], values, lambda point, rmse=rmse: rmse[json.dumps(point)])
        assert MODELS[row][1].keywords | {"minus_mean": False} == chosen | {"minus_mean": False}
        assert lowest < peer_settings.GAIN + min(rmse.values())


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
    best = [line for line in table.splitlines()[:7] if "`" in line]  # on the split of both
    assert [line.split(" | ")[1:] for line in best] == [
        ["`default`", "0.8300", "1,000", "1.00 |"], ["`svd`", "0.8500", "100", "0.50 |"]]
    assert "1994" in table.splitlines()[0] and "1995" not in table.splitlines()[0]
    (times,) = [line for line in table.splitlines() if "| 40 |" in line]
    assert times.endswith(" | – |") and "1 of 2" in times.split("|")[-3]
    machines = {line["processor"] for line in read_csv(tmp_path / peers.MACHINES)}
    assert_names(table.splitlines()[-1], *machines)
    assert (tmp_path / "peers.png").read_bytes().startswith(b"\x89PNG")
    text = page.read_text("utf-8")
    assert text.startswith(f"# Peers\n\n{peers.BEGIN}{table}") and text.endswith("\n\nAfter.\n")
    assert text.count(peers.END) == text.count("peers.png)") == 1


def test_each_program_has_the_row_with_its_lowest_rmse():
    def lines(rmse, *splits):
        return [dict(split=str(split), rmse=str(rmse), seconds="9", peak_gb="1")
                for split in splits]

    rows = {"svd": lines(0.87, 1, 2), "svdpp": lines(0.86, 1, 2), "myfm_mf": lines(0.83, 2),
            "myfm_dates": lines(0.81, 2), "default": lines(0.84, 2, 3), "paper": lines(0.82, 2, 3)}
    compared, text = peers.on_common_splits(rows)
    assert all([line["split"] for line in each] == ["2"] for each in compared.values())
    assert_names(text, "2")
    assert re.findall(r"`(\w+)` \| 0", peers.best_table(rows)) == [
        "myfm_dates", "paper", "myfm_mf", "svdpp"]
    assert peers.on_common_splits({"svd": lines(0.87, 1), "paper": lines(0.8, 2)})[0]["svd"]


def test_the_front_has_the_rows_that_none_beats_in_both():
    points = [("a", 1, 0.9), ("b", 2, 0.95), ("c", 3, 0.8), ("d", 3, 0.85), ("e", 9, 0.8)]
    assert peer_plot.front(points) == ["a", "c"]
    assert peer_plot.front(points[::-1]) == ["a", "c"]


def test_no_label_of_the_figure_covers_another_one_or_a_dot():
    rng = np.random.default_rng(5)
    seconds, rmse = rng.uniform(40, 90, 12), rng.uniform(0.83, 0.85, 12)  # crowded
    points = [(f"a_row_{n}", float(x), float(y), [float(y)] * 2)
              for n, (x, y) in enumerate(zip(seconds, rmse, strict=True))]
    figure = peer_plot.draw([*points, ("other", 800.0, 0.9, [0.9])], {"a_row_1"})
    (axes,) = figure.axes
    boxes = [peer_plot.box_of(text) for text in axes.texts]
    assert sorted(text.get_text() for text in axes.texts) == sorted(
        [name for name, *_ in points] + ["other"])
    dots = [peer_plot.box_around(axes, x, [y]) for _, x, y, _ in points]
    for number, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:number] + dots)
        assert axes.get_window_extent().count_contains([box.min, box.max]) == 2


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
