"""A run finds its ratings again, under whatever name and wherever they lie, and reads of them what
it read."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest

import main
from autorec_tf.command_line import parse_arguments
from autorec_tf.config import Config
from autorec_tf.records.run_folder import config_of, resume_flags
from autorec_tf.serving.relocate import load_again
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.files import as_utf8
from autorec_tf.system.terminal import shell
from data_preprocessor import load_ratings
from tests.conftest import rating_lines, triples_of
from tests.facts import assert_names, refused
from tests.finished import made_up_triples
from tests.forks import Fork
from tests.program import MAIN, environment, read_json, read_metrics, wait_for

ODD = ["#1 ratings&co.csv", "评分数据" * 7 + "电影", "ml-1m", "synthetic", "no_extension",
       " blank ", "-n", "a'b\"c`d$e.csv", "line\nend.csv", "\U0001f3ac.csv", "..csv", "%s{}\\.csv",
       os.fsdecode(b"caf\xe9 \xff.csv")]


def write(path, triples, separator=","):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = (separator.join(map(str, triple)) for triple in triples)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def trained(settings, folder):
    """What config.json holds of a run with these settings, read again, and its ratings."""
    ratings = load_ratings(settings, lambda _: None)
    files = {flag: as_utf8(path.name) for flag, path in ratings.files.items()}
    record = main.resolve(settings, ratings).to_dict()
    record |= {"fingerprint": ratings.fingerprint, "files": files}
    assert str(folder) not in json.dumps(record)  # paths tell of a machine
    return json.loads(json.dumps(record)), ratings


def again(record, **places):
    """The ratings of a run whose config.json holds `record`; fails for others than its own."""
    ratings = load_again(config_of("run", record, **places), record, lambda _: None)
    assert (ratings.fingerprint, ratings.name) == (record["fingerprint"], record["dataset"])
    return ratings


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_a_file_of_any_name_is_found_by_its_folder_by_itself_and_from_its_folder(
    name, tmp_path, monkeypatch
):
    path = write(tmp_path / "far" / name, made_up_triples())
    write(tmp_path / "far" / "other.csv", made_up_triples()[::-1])
    record, ratings = trained(Config(dataset=str(path)), tmp_path)
    assert record["dataset"] not in ("ml-1m", "synthetic")
    for places in ({"data_dir": str(path.parent)}, {"dataset": str(path)}):
        found = again(record, **places)
        assert triples_of(found) == triples_of(ratings) and found.files == {"dataset": path}
    with refused(printable(name), "--data_dir", "--dataset"):
        again(record)
    monkeypatch.chdir(path.parent)
    again(record)
    monkeypatch.chdir(tmp_path)
    again(record, data_dir="far")
    again(record | {"files": None}, data_dir="far")  # as older runs are
    path.rename(path.with_name("renamed"))
    again(record, data_dir="far")
    again(record, dataset="far/renamed")


def test_files_that_are_called_alike_are_told_apart_by_the_fingerprint(tmp_path):
    names = ["a:b.csv", "a;b.csv", "a_b.csv"]
    paths = [write(tmp_path / name, made_up_triples()[n:]) for n, name in enumerate(names)]
    for path in paths:
        record, _ = trained(Config(dataset=str(path)), tmp_path)
        assert record["dataset"] == "a_b.csv"
        for files in (record["files"], {}):
            assert again(record | {"files": files}, data_dir=str(tmp_path)).files["dataset"] == path


def test_ratings_and_test_ratings_may_lie_anywhere(tmp_path):
    triples = made_up_triples()
    train = write(tmp_path / "train" / "r.csv", triples[:500])
    test = write(tmp_path / "test" / "r.csv", triples[500:])  # called alike
    record, _ = trained(Config(dataset=str(train), test_file=str(test)), tmp_path)
    expected = {"dataset": train, "test_file": test}
    for places in (
        {"dataset": str(train), "test_file": str(test)},
        {"data_dir": str(train.parent), "test_file": str(test)},
        {"dataset": str(train), "data_dir": str(test.parent)},
    ):
        assert again(record, **places).files == expected
    both = tmp_path / "both"
    both.mkdir()
    test.rename(both / "t.csv")
    train.rename(both / "u.csv")
    found = again(record, data_dir=str(both))  # neither has its name
    assert found.files == {"dataset": both / "u.csv", "test_file": both / "t.csv"}


def test_published_ratings_are_found_in_another_file(tmp_path, write_ratings):
    folder = write_ratings(rating_lines(made_up_triples())).parent
    record, ratings = trained(Config(dataset="ml-1m", data_dir=str(folder)), tmp_path)
    assert record["files"] == {}
    (folder / "ratings.dat").rename(folder / "mine")
    found = again(record, dataset=str(folder / "mine"))
    assert triples_of(found) == triples_of(ratings)


LINES = ["x~u~i~r~t", *(f"0~{u}~{i}~{r},5~{t}" for t, (u, i, r) in enumerate(made_up_triples()))]
LINES += ["0~8~2~-1~9", "0~777~2~3,5~1", "0~777~2~4,5~2"]
NEEDED = dict(
    read_csv=("sep=~", "decimal=,"), columns="u,i,r,t", no_rating=("-1",), duplicates="last"
)


@pytest.mark.parametrize(
    "setting, value, other",
    [
        *((name, value, None) for name, value in NEEDED.items()),
        ("duplicates", "mean", "first"), ("duplicates", "first", "last"),
        ("columns", "i,u,r,t", "u,i,r,t"), ("rating_scale", (0.0, 10.0), (0.0, 9.0)),
        ("split", "time", "random"), ("map_scale", False, True),
    ],
)
def test_what_is_read_of_a_file_is_read_again(tmp_path, setting, value, other):
    path = tmp_path / "r.txt"
    path.write_text("\n".join([*LINES, ""]), encoding="utf-8")
    settings = Config(dataset=str(path), **NEEDED | {setting: value})
    record, ratings = trained(settings, tmp_path)
    found = again(record, data_dir=str(tmp_path))
    assert triples_of(found) == triples_of(ratings)
    assert (found.scale, found.mapped) == (ratings.scale, ratings.mapped)
    if ratings.held_out is not None:
        assert found.held_out.tolist() == ratings.held_out.tolist()
    # Without it, the same file is others' ratings, or none at all.
    changed = record | {setting: getattr(Config(), setting) if other is None else other}
    with pytest.raises((UserError, AssertionError)):
        found = again(json.loads(json.dumps(changed)), data_dir=str(tmp_path))
        assert (found.scale, found.mapped) == (ratings.scale, ratings.mapped)


def test_columns_of_a_test_file_are_read_again(tmp_path):
    triples = made_up_triples()
    train = write(tmp_path / "a" / "a.csv", [("who", "what", "how"), *triples[:500]])
    others = [("r", "u", "i"), *((r, u, i) for u, i, r in triples[500:])]
    test = write(tmp_path / "b" / "b.csv", others)
    settings = dict(columns="who,what,how", test_columns="u,i,r")
    record, ratings = trained(Config(dataset=str(train), test_file=str(test), **settings), tmp_path)
    places = {"dataset": str(train), "test_file": str(test)}
    assert triples_of(again(record, **places)) == triples_of(ratings)
    with refused(test, "who,what,how", "r, u, i"):
        again(record | {"test_columns": None}, **places)


@pytest.mark.parametrize(
    "files", [0, [], {"dataset": 3}, {"dataset": "\ud800"}, {"dataset": "a\0b"}], ids=ascii
)
def test_a_record_that_was_changed_is_no_worse_than_an_old_one(tmp_path, files):
    path = write(tmp_path / "r.csv", made_up_triples())
    record, _ = trained(Config(dataset=str(path)), tmp_path)
    again(record | {"files": files}, data_dir=str(tmp_path))
    with pytest.raises(UserError):
        load_again(Config(dataset="no"), {"files": files})


# The command to go on with


def test_the_command_to_go_on_with_names_what_would_not_be_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("far/r.csv", "r.csv", "it's far/test 1.csv", "-d/r.csv"):
        write(tmp_path / path, made_up_triples())

    def flags(files, folder="results/run", **settings):
        config = Config(**settings)
        return shell(resume_flags(config, {k: tmp_path.__class__(v) for k, v in files.items()},
                                  tmp_path.__class__(folder)))

    assert flags({}) == "--resume results/run"
    assert flags({}, data_dir="/d") == "--resume results/run --data_dir /d"
    assert flags({"dataset": "r.csv"}) == "--resume results/run"
    assert flags({"dataset": "far/r.csv"}) == "--resume results/run --dataset far/r.csv"
    assert flags({"dataset": "far/r.csv"}, data_dir="far") == "--resume results/run --data_dir far"
    if os.name != "nt":
        assert flags({"test_file": "it's far/test 1.csv"}, "a b") == (
            "--resume 'a b' --test_file 'it'\"'\"'s far/test 1.csv'"
        )
    assert flags({"dataset": "-d/r.csv"}, "-r/x", distribute="mirrored") == (
        "--resume ./-r/x --dataset ./-d/r.csv --distribute mirrored"
    )


@pytest.fixture
def unfinished(tmp_path, monkeypatch):
    """The folder of a run on two files of one's own that has not trained yet."""
    triples = made_up_triples()
    train, test = write(tmp_path / "a" / "r.csv", triples[:500]), write(
        tmp_path / "b" / "t.csv", triples[500:])
    record, _ = trained(Config(dataset=str(train), test_file=str(test)), tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return record


def test_dataset_and_test_file_are_places_and_no_changes_of_a_run(unfinished, tmp_path, capsys):
    config = parse_arguments("--resume run --dataset a/r.csv --test_file b/t.csv".split())
    assert load_again(config, unfinished).fingerprint == unfinished["fingerprint"]
    capsys.readouterr()
    assert main.main("--resume run --dataset a/r.csv --test_file a/r.csv".split()) == 2
    error = capsys.readouterr().err  # a rating for training and for testing
    assert error.count("a/r.csv, line 1") == 2
    write(tmp_path / "a" / "r.csv", made_up_triples()[1:500])
    assert main.main("--resume run --dataset a/r.csv --test_file b/t.csv".split()) == 2
    assert_names(capsys.readouterr().err, " run ", "--dataset")
    del unfinished["test_file"]
    (tmp_path / "run" / "config.json").write_text(json.dumps(unfinished), encoding="utf-8")
    with pytest.raises(SystemExit):
        parse_arguments("--resume run --test_file b/t.csv".split())
    assert_names(capsys.readouterr().err, "--test_file b/t.csv", " run ", "None")


def assert_is_interrupted(folder, output):
    """That every record of the run is there, up to the epoch that its output names."""
    summary, epochs = read_json(folder / "summary.json"), len(read_metrics(folder))
    assert (summary["status"], summary["epochs"]) == ("interrupted", epochs)
    (line,) = [line for line in output.splitlines() if line.startswith("Interrupted")]
    assert f"epoch {epochs};" in line
    _, costs = (folder / "train_record.txt").read_text("utf-8").splitlines()
    assert len(costs.split("\t")) == epochs + 2  # a name, and a tab after each value
    assert (folder / "comet.zip").exists() and (folder / "parameters.index").exists()
    assert (folder / "rmse.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_ctrl_c_writes_every_record_and_the_command_that_it_prints_continues_the_run(tmp_path):
    triples = made_up_triples()
    train = write(tmp_path / "it's far" / "#1 ratings&co.csv", triples[:550])
    test = write(tmp_path / "third \"place\"" / "ml-1m", triples[550:])
    flags = ["--comet", "offline", "--hidden_neuron", 2, "--train_epoch", 10**6, "--dataset",
             train.relative_to(tmp_path), "--test_file", test.relative_to(tmp_path),
             "--results_dir", "my results", "--run_name", "it's a \"run\" $HOME"]
    process = Fork([MAIN, *flags], tmp_path, environment())
    folder = tmp_path / "my results" / "it's a \"run\" $HOME"
    wait_for(lambda: (folder / "metrics.csv").exists(), process)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in errors
    assert_is_interrupted(folder, output)
    (line,) = [x.partition(": ")[2] for x in output.splitlines() if " --resume " in x]
    # A training that ends.
    epochs = len(read_metrics(folder))
    for name in ("config.json", "checkpoint.json"):
        text = (folder / name).read_text("utf-8")
        (folder / name).write_text(
            text.replace('"train_epoch": 1000000', f'"train_epoch": {epochs + 1}'), "utf-8"
        )
    words = subprocess.run(  # as the shell reads them
        ["sh", "-c", f"printf '%s\\0' {line}"], cwd=tmp_path, capture_output=True, text=True
    ).stdout.split("\0")[:-1]
    assert shutil.which(words[0]) == sys.executable
    process = Fork(words[1:], tmp_path, environment())
    assert process.wait() == 0
    output, errors = process.communicate()
    assert errors == "" and f" epoch {epochs}." in output
    assert [row["epoch"] for row in read_metrics(folder)] == [
        str(n) for n in range(1, epochs + 2)]
    assert read_json(folder / "summary.json")["status"] == "finished"
    assert str(tmp_path) not in (folder / "config.json").read_text("utf-8")
