"""recommend.py as a user runs it: what it prints and writes, and what it refuses."""

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import main
import recommend
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import write_npz
from tests.facts import assert_names
from tests.finished import CONFIG, MEANS, as_own, make_run
from tests.serving.test_npz import rewritten

pytestmark = pytest.mark.eager

ROOT = Path(__file__).resolve().parent.parent
TITLES = "2::Alien (1979)::Horror\n5::Heat (1995)::Action\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    made = make_run(tmp_path_factory.mktemp("run"), CONFIG)
    (made.data / "movies.dat").write_text(TITLES, encoding="latin-1")
    run = read_run(made.folder, str(made.data))
    (made.folder / "export").mkdir()
    write_npz(made.folder / "export" / "autorec.npz", run, run.recommender())
    return made


@pytest.fixture
def ask(made, monkeypatch, capsys, tmp_path):
    """A function from arguments after the run folder to (exit code, stdout, stderr)."""
    monkeypatch.setattr(recommend, "start_tensorflow", lambda: None)  # it has started here
    monkeypatch.chdir(tmp_path)

    def ask(*arguments, run=made.folder):
        try:
            code = recommend.main([str(run), "--data_dir", str(made.data), *map(str, arguments)])
        except SystemExit as exit:
            code = exit.code
        return code, *capsys.readouterr()

    return ask


def assert_refused(answer, *facts):
    """It ends with exit code 2 and one line on stderr that names each of the `facts`."""
    code, out, error = answer
    assert (code, out) == (2, "") and error.startswith("recommend.py: error: ")
    assert error.count("\n") == 1 and len(error) < 400
    assert_names(error, *facts)


@pytest.mark.slow
def test_the_whole_program_answers_from_a_run_that_main_left(made, tmp_path, monkeypatch):
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # it has started here
    data = "--data_dir", str(made.data)
    assert main.main(["--comet", "off", "--train_epoch", "2", "--hidden_neuron", "4", "--run_name",
                      "run", "--results_dir", str(tmp_path), *data]) == 0
    question = "recommend.py", tmp_path / "run", "--user", "1", "-n", "3", "--json", *data
    done = subprocess.run(
        [sys.executable, *map(str, question)], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    records = json.loads(done.stdout)
    assert [record["rank"] for record in records] == [1, 2, 3]
    assert all(1 <= record["prediction"] <= 5 for record in records)


def test_a_user_gets_a_table_of_titles_predictions_and_what_stands_behind_them(made, ask):
    code, out, error = ask("--user", 1, "-n", 4)
    assert (code, error) == (0, "")
    heading, names, *rows = out.splitlines()
    assert_names(heading, "user 1,", f" {made.M[0].sum():.0f} training")
    assert names.split() == ["rank", "item", "title", "prediction", "ratings"]
    best = made.best(0, 4)
    for rank, (row, item) in enumerate(zip(rows, best, strict=True), 1):
        item_id = made.ratings.item_ids[item]
        title = {2: "Alien (1979)", 5: "Heat (1995)"}.get(item_id, str(item_id))
        rating = f"{made.predictions()[0, item]:.3f}"
        behind = f"{made.M[:, item].sum():.0f}"
        assert row.split() == [str(rank), str(item_id), *title.split(), rating, behind]


def test_similar_items_are_told_by_title(ask):
    code, out, _ = ask("--item", 2, "-n", 40)
    heading, _, *rows = out.splitlines()
    assert code == 0 and "Alien (1979)" in heading
    assert "Heat (1995)" in "".join(rows) and "Alien" not in "".join(rows)


def test_pairs_of_a_file_are_predicted_in_its_order(made, ask, tmp_path):
    ids = made.ratings
    order = np.random.default_rng(0).permutation(made.R.size)[:50]
    users, items = order // made.R.shape[1], order % made.R.shape[1]
    lines = [f"{ids.item_ids[i]}, x,{ids.user_ids[u]}" for u, i in zip(users, items, strict=True)]
    (tmp_path / "pairs.csv").write_text("\n".join(["item,note,user", *lines, "2,x,999", ""]))
    code, out, error = ask("--predict", "pairs.csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0 and len(rows) == 51
    found = [float(row["prediction"]) for row in rows]
    np.testing.assert_allclose(found, [*made.predictions()[users, items], 3], atol=1e-4)
    cold = ((made.M.sum(1)[users] == 0) | (made.M.sum(0)[items] == 0)).sum() + 1
    assert_names(error, f"{cold} of 51 pairs", " 3", "paper")
    assert error.count("\n") == 1
    assert [int(row["user"]) for row in rows[:-1]] == list(ids.user_ids[users])


def test_the_rule_for_cold_pairs_is_told_of_a_run_and_of_its_export(ask, tmp_path):
    made = make_run(tmp_path, MEANS)
    run = read_run(made.folder, str(made.data))
    write_npz(tmp_path / "run.npz", run, run.recommender())
    (tmp_path / "pairs.csv").write_text("user,item\n1,2\n1,999\n")
    for place in (made.folder, tmp_path / "run.npz"):
        code, _, error = ask("--data_dir", made.data, "--predict", "pairs.csv", run=place)
        assert code == 0 and error.count("\n") == 1 and "paper" not in error
        assert_names(error, "1 of 2 pairs", "means")


def test_the_runs_own_file_may_be_named_wherever_it_lies(made, ask, tmp_path):
    path = tmp_path / "far away" / "ml-1m"
    own = as_own(made, path, "own")
    expected = json.loads(ask("--user", 8, "--json")[1])
    code, out, error = ask("--dataset", path, "--user", 8, "--json", run=own.folder)
    found = json.loads(out)
    assert (code, error) == (0, "")
    assert [x["item"] for x in found] == [x["item"] for x in expected]
    assert [x["prediction"] for x in found] == [x["prediction"] for x in expected]
    nowhere = tmp_path / "nowhere"
    assert_refused(ask("--data_dir", nowhere, "--user", 8, run=own.folder),
                   "ml-1m", nowhere, "--data_dir", "--dataset")
    path.write_text("user,item,rating\n1,2,3\n1,5,4\n8,2,5\n")
    assert_refused(ask("--dataset", path, "--user", 8, run=own.folder), path, "fingerprints")
    assert_refused(ask("--test_file", path, "--user", 8, run=own.folder), "--test_file", path)


def test_titles_are_those_of_the_runs_own_dataset(made, monkeypatch, capsys, tmp_path):
    """And not of another one in whose folder, by the environment, MovieLens-1M lies."""
    monkeypatch.setattr(recommend, "start_tensorflow", lambda: None)
    monkeypatch.setenv("AUTOREC_DATA_DIR", str(made.data))
    with np.load(made.folder / "export" / "autorec.npz") as file:
        content = {name: file[name] for name in file if name != "sha256"}  # changed by hand
    config = json.loads(str(content["config"])) | {"dataset": "ml-20m"}
    np.savez(tmp_path / "other.npz", **content | {"config": json.dumps(config)})
    monkeypatch.chdir(tmp_path)
    assert recommend.main([str(tmp_path / "other.npz"), "--item", "2"]) == 0
    assert "Alien" not in capsys.readouterr().out
    (tmp_path / "ml-20m").mkdir()
    (tmp_path / "ml-20m" / "movies.csv").write_text("movieId,title,genres\n2,Ran,Drama\n")
    assert recommend.main([str(tmp_path / "other.npz"), "--item", "2"]) == 0
    assert "Ran," in capsys.readouterr().out.splitlines()[0]


def test_everybodys_best_are_written_whole(made, ask, tmp_path):
    code, out, error = ask("--all", "top.csv", "-n", 3)
    assert (code, out) == (0, "")
    assert_names(error.splitlines()[-1], "top.csv", " 3 ", "46 users")
    rows = list(csv.DictReader((tmp_path / "top.csv").open()))
    warm = np.flatnonzero(made.M.sum(1))
    assert len(rows) == 3 * len(warm) == 3 * 46
    for k, user in enumerate(warm):
        mine = rows[3 * k : 3 * k + 3]
        assert [int(row["user"]) for row in mine] == [made.ratings.user_ids[user]] * 3
        best = made.ratings.item_ids[made.best(user, 3)]
        assert [int(row["item"]) for row in mine] == list(best)
    assert [path.name for path in tmp_path.iterdir()] == ["top.csv"]


def test_a_failure_halfway_leaves_no_file(ask, tmp_path, monkeypatch):
    def half(*_):
        raise OSError(28, "full")
        yield

    monkeypatch.setattr(recommend, "top", half)
    assert_refused(ask("--all", "top.csv"), "top.csv", "(full)")
    assert list(tmp_path.iterdir()) == []


def test_an_answer_can_be_kept_as_csv_or_json(ask, tmp_path):
    assert ask("--user", 1, "--output", "best.csv")[:2] == (0, "")
    assert ask("--user", 1, "--output", "best.json", "--json")[:2] == (0, "")
    rows = list(csv.DictReader((tmp_path / "best.csv").open()))
    records = json.loads((tmp_path / "best.json").read_text())
    assert [row["item"] for row in rows] == [str(record["item"]) for record in records]
    before = (tmp_path / "best.csv").read_bytes()
    assert_refused(ask("--user", 1, "--output", "best.csv"), "best.csv")
    assert (tmp_path / "best.csv").read_bytes() == before


def test_an_export_answers_without_ratings_and_says_so(made, ask):
    export = made.folder / "export"
    code, out, error = ask("--user", 1, "-n", 50, run=export)
    assert code == 0 and error.count("\n") == 1 and "export" in error
    assert len(out.splitlines()) - 2 == (made.M.sum(0) > 0).sum()
    for question in (("--item", "2"), ("--item", "2", "--json")):
        assert ask(*question, run=export) == ask(*question)
    assert ask("--item", 2, run=export / "autorec.npz") == ask("--item", 2)
    assert "Alien" in ask("--item", 5, "-n", 50, run=export)[1]


@pytest.mark.parametrize("export", [False, True])
def test_pairs_may_stand_in_any_file_that_a_dataset_may_be(made, ask, tmp_path, export):
    run = made.folder / "export" if export else made.folder
    (tmp_path / "a.csv").write_text("user,item\n1,2\n8,5\n")
    expected = ask("--predict", "a.csv", run=run)
    assert expected[0] == 0 and expected[1].count("\n") == 3
    for text, flags in (
        ("1\t2\n8\t5\n", ()), ("userId;movieId;x\n1,0;2,0;y\n8,0;5,0;z\n".replace(",", "."), ()),
        ("1::2\n8::5\n", ()), ("a|b|c\n9|1|2\n9|8|5\n", ("--columns", "b, c,a")),
        ("1~2\n8~5\n", ("--read_csv", "sep=~")), ("\n1 2\n8 5\n", ()),
    ):
        (tmp_path / "b.txt").write_text(text)
        assert ask("--predict", "b.txt", *flags, run=run) == expected


def test_new_ratings_are_taken_in_from_a_run_its_predictions_and_its_export(
    made, ask, tmp_path, monkeypatch
):
    # Their embeddings remain with one rating more.
    often = made.ratings.user_ids[np.flatnonzero(made.M.sum(1) > 10)[:2]]
    item = made.ratings.item_ids[np.flatnonzero(made.M.sum(0) > 10)[0]]
    lines = [f"4.5,777,{often[0]}", f"2,777,{often[1]}", f"5,{item},9999"]
    (tmp_path / "new.csv").write_text("\n".join(["rating,item,user", *lines, ""]))
    folder, export = tmp_path / "run", made.folder / "export"
    shutil.copytree(made.folder, folder, ignore=shutil.ignore_patterns("export"))
    shutil.copy(export / "autorec.npz", folder / "predictions.npz")
    questions = ("--item", 777, "-n", 2), ("--user", 9999, "--json")
    expected = [ask("--ratings", "new.csv", *question) for question in questions]
    assert_names(expected[0][1].splitlines()[0], "item 777", "2 ratings")
    monkeypatch.setattr(recommend, "start_tensorflow", None)  # not needed from here
    for run in (folder, export):
        assert [ask("--ratings", "new.csv", *each, run=run) for each in questions] == expected
    (tmp_path / "known.csv").write_text(f"user,item,rating\n1,777,3\n{often[0]},{item},3\n")
    assert ask("--ratings", "known.csv", *questions[0], run=folder)[0] == 0
    assert_refused(ask("--ratings", "known.csv", "--item", 2, run=export), "1 of 2 ratings",
                   f"user {often[0]} ", f"item {item}", "export", "run folder")
    code, _, note = ask("--ratings", "new.csv", "--user", often[0], run=export)
    assert code == 0 and note.count("\n") == 1 and "export" in note


@pytest.mark.parametrize(
    "content, facts",
    [
        ("", ["no ratings"]),
        ("user,item,rating\n", ["no ratings"]),
        ("user,rating\n1,2\n", ["line 1", "'user,rating'"]),
        ("user,note,rating,x\n1,2,3,4\n", ["(user, note, rating, x)", "--columns"]),
        ("user,item,rating\n1,2,3\nx,2,3\n", ["line 3", "ids", "'x'"]),
        ("user,item,rating\n1,2.5,3\n", ["line 2", "ids", "'2.5'"]),
        ("user,item,rating\n1,2,3\n\n1,5,6\n", ["line 4", "'1,5,6'", "rating 6", "1 to 5"]),
        ("user,item,rating\n1,2,nan\n", ["line 2", "--no_rating"]),
        ("user,item,rating\n1,2,3\n1,2,4\n", ["line 3", "user 1", "item 2", "--duplicates"]),
        ("user,item,rating\n1,,3\n", ["line 2", "'1,,3'", "''"]),
        ("user,item,rating\n1,2\n", ["line 2", "'1,2'", "3 fields", "comma"]),
        ("user,item,rating\n1,2,3\n1,2,3,4,5\n", ["line 3", "'1,2,3,4,5'", "3 fields"]),
        ("user,item,rating\n1,2,3,4,5\n", ["line 2", "'1,2,3,4,5'", "3 fields"]),
        ("user,item,rating\n1,2,\xff\n".encode("latin-1"), ["line 2", "rating '\xff'"]),
    ],
)
def test_a_malformed_file_is_refused(ask, tmp_path, content, facts):
    content = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "new.csv").write_bytes(content)
    assert_refused(ask("--ratings", "new.csv", "--user", 1), "new.csv", *facts)


def test_ids_and_titles_survive_in_csv_and_are_escaped_for_people(made, ask, tmp_path,
                                                                   monkeypatch):
    ids = np.array(["=1+1", "-1", "a\u202eb", "\x1b[31m", "c\rd", *map(str, range(35))])
    rewritten(made.folder / "export" / "autorec.npz", tmp_path / "text.npz", item_ids=np.sort(ids))
    question = "--item", "-1", "-n", "50"
    shown = ask(*question, run=tmp_path / "text.npz")[1]
    assert_names(shown, r"a\u202eb", r"\x1b[31m", "=1+1")
    assert not {"\u202e", "\x1b"} & set(shown)

    def found(*flags):
        path = tmp_path / f"{len(flags)}.csv"
        assert ask(*question, "--output", path, *flags, run=tmp_path / "text.npz")[0] == 0
        with open(path, newline="", encoding="utf-8") as file:
            return [row["item"] for row in csv.DictReader(file)]

    plain, safe = found(), found("--spreadsheet")
    assert {"=1+1", "a\u202eb", "\x1b[31m", "c\rd"} < set(plain)
    assert {"'=1+1", r"a\u202eb", r"\x1b[31m", r"c\rd"} < set(safe)
    assert [x for x in plain if x.isdecimal()] == [x for x in safe if x.isdecimal()]
    (tmp_path / "pairs.csv").write_text("user,item\n1,=1+1\n1,a\u202eb\n1,-1\n", encoding="utf-8")
    question = "--predict", "pairs.csv"
    assert "\n1,a\u202eb," in ask(*question, run=tmp_path / "text.npz")[1]
    assert "\n1,'=1+1," in ask(*question, "--spreadsheet", run=tmp_path / "text.npz")[1]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert r"1,a\u202eb," in ask(*question, run=tmp_path / "text.npz")[1]


@pytest.mark.parametrize(
    "arguments, facts",
    [
        (("--user", 1, "--spreadsheet"), ["--spreadsheet", "--output"]),
        (("--user", 1, "--output", "x", "--json", "--spreadsheet"), ["--spreadsheet", "--json"]),
        (("--user", 3), ["user 3", "50 users"]),
        (("--user", "anna"), ["--user 'anna'", "numbers"]),
        (("--item", 1), ["item 1", "40 items"]),
        (("--predict", "nowhere.csv"), ["nowhere.csv", os.strerror(errno.ENOENT)]),
        (("--user", 1, "-n", 0), ["-n 0", "at least 1"]),
        (("--user", 1, "--item", 2), ["--user", "--item"]),
        ((), ["--user", "--item", "--predict", "--all"]),
        (("--all", "top.csv", "--json"), ["--all", "--json", "--output"]),
        (("--all", "nowhere/top.csv"), ["nowhere/top.csv", os.strerror(errno.ENOENT)]),
    ],
    ids=str,
)
def test_a_question_without_an_answer_is_refused(ask, arguments, facts):
    assert_refused(ask(*arguments), *facts)


def test_predictions_of_another_run_or_of_other_settings_are_refused(made, ask, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(made.folder, folder)
    shutil.copy(folder / "export" / "autorec.npz", folder / "predictions.npz")
    shutil.rmtree(folder / "export")
    question = "--user", 8, "--json"
    assert ask(*question, run=folder) == ask(*question)
    record = json.loads((folder / "config.json").read_text("utf-8"))
    checkpoint = {"settings": record | {"output_activation": "tanh"}}
    (folder / "checkpoint.json").write_text(json.dumps(checkpoint))
    facts = folder / "config.json", "output_activation", "tanh", "checkpoint.json"
    assert_refused(ask(*question, run=folder), *facts)
    (folder / "predictions.npz").rename(tmp_path / "other.npz")
    assert_refused(ask(*question, run=folder), *facts)
    (folder / "checkpoint.json").unlink()
    rewritten(tmp_path / "other.npz", folder / "predictions.npz", fingerprint="0" * 64)
    assert_refused(ask(*question, run=folder), folder / "predictions.npz", "fingerprint")
    ids = made.ratings.item_ids + 1
    rewritten(tmp_path / "other.npz", folder / "predictions.npz", item_ids=ids)
    assert_refused(ask(*question, run=folder), folder / "predictions.npz", "item_ids")


def test_no_run_at_all_is_refused(ask, tmp_path):
    assert_refused(ask("--user", 1, run=tmp_path), tmp_path / "config.json")
    (tmp_path / "x.npz").write_text("x")
    assert_refused(ask("--user", 1, run=tmp_path / "x.npz"), tmp_path / "x.npz", "Export")
