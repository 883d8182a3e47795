"""The programs in a shell: into pipes that nobody reads, full disks, closed streams and terminals
of another encoding; and what of their output is the answer."""

import csv
import errno
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import export as export_program
import recommend as recommend_program
from autorec_tf.records.run_folder import PREDICTIONS
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import write_npz
from tests.conftest import REPOSITORY
from tests.facts import assert_names
from tests.finished import CONFIG, as_own, make_run
from tests.forks import Fork
from tests.program import environment, read_json, read_metrics

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")

TITLE = "Amélie 电影 (2001)"
OTHER_TERMINALS = {
    "ascii": {"PYTHONIOENCODING": "ascii"},
    "latin-1": {"PYTHONIOENCODING": "latin-1"},
    "C": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}
# Exit code of a program whose answer is its output, and whether its output and its talk are there.
STREAMS = {
    "a closed pipe": (0, False, True),
    "> /dev/full": (2, False, True),
    ">&-": (2, False, True),
    "2> /dev/full": (0, True, False),
    "2>&-": (0, True, False),
    "<&-": (0, True, True),
    "<&- 2>&-": (0, True, False),
    "<&- >&- 2>&-": (2, False, False),
}
# Those of programs that tell nothing beside their answer.
OF_THE_ANSWER = ("a closed pipe", "> /dev/full", ">&-", "<&- 2>&-", "<&- >&- 2>&-")


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A run on MovieLens-1M, so to speak, and what export.py makes of it."""
    made = make_run(tmp_path_factory.mktemp("runs"), CONFIG)
    lines = (f"{item}::{TITLE}::Drama\n" for item in made.ratings.item_ids)
    (made.data / "movies.dat").write_text("".join(lines), encoding="utf-8")
    run = read_run(made.folder, str(made.data))
    (made.folder / "export").mkdir()
    write_npz(made.folder / "export" / "autorec.npz", run, run.recommender())
    return made


@pytest.fixture(scope="module")
def own(named, tmp_path_factory):
    """The same on a file of one's own, with an odd name, in another folder."""
    path = tmp_path_factory.mktemp("far") / "#1 ratings&co 评分.csv"
    return as_own(named, path, "run of 'my own' 电影")


def line(script, *arguments):
    return shlex.join(map(str, [sys.executable, REPOSITORY / script, *arguments]))


def shell(command, cwd, **changes):
    """What a command did in a shell: its exit code is that of whichever part of it failed."""
    changes = {"PYTHONIOENCODING": "utf-8"} | changes
    if "LC_ALL" in changes:
        del changes["PYTHONIOENCODING"]
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], cwd=cwd, env=environment(**changes),
        capture_output=True,
    )
    return done.returncode, done.stdout, done.stderr.decode()


def into(stream, command, cwd):
    """What a command did into one of `STREAMS`."""
    if stream != "a closed pipe":
        return shell(f"{command} {stream}", cwd)
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "wb") as unread:
        done = subprocess.run(
            command, shell=True, cwd=cwd, env=environment(), stdout=unread, stderr=subprocess.PIPE
        )
    return done.returncode, b"", done.stderr.decode()


FORK_STREAMS = {
    "> /dev/full": {1: "/dev/full"}, "2> /dev/full": {2: "/dev/full"}, ">&-": {1: None},
    "<&- >&- 2>&-": {0: None, 1: None, 2: None},
}


def in_fork(stream, command, cwd):
    """What a command did into one of `STREAMS` with TensorFlow imported already: its exit code and
    stderr."""
    process = Fork(shlex.split(command)[1:], cwd, environment(), FORK_STREAMS[stream])
    return process.wait(), process.communicate()[1]


def within(program, made, *arguments, capsys, stream=None):
    """What a program on a run did in this process: into `stream`, a file, if that is given."""
    command = [made.folder, "--data_dir", made.data, *arguments]
    with pytest.MonkeyPatch.context() as patch:
        if stream:
            patch.setattr(sys, "stdout", stream)
        code = program.main([*map(str, command)])
    out, error = capsys.readouterr()
    told = [line for line in error.splitlines(keepends=True) if "threads" not in line]
    return code, out, "".join(told)


def lost_stream(name):
    """A file as standard output that loses what is written."""
    if name == "> /dev/full":
        return open("/dev/full", "w")
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


def recommend(made, *arguments):
    return line("recommend.py", made.folder, "--data_dir", made.data, *arguments)


@pytest.fixture
def made(request):
    return request.getfixturevalue(request.param)


# The answer


def are_the_best(out, made):
    """Whether JSON is what a run recommends to its first user, with titles if there are any."""
    records, best = json.loads(out), made.ratings.item_ids[made.best(0, 4)].tolist()
    titled = made.folder.name == "run"
    return out.isascii() and [record["item"] for record in records] == best and (
        all(record["title"] == TITLE for record in records) == titled
    )


BEST = ("--user", 1, "-n", 4, "--json")


@pytest.mark.slow
def test_json_goes_through_a_pipe(named, tmp_path):
    run = shutil.copytree(named.folder, tmp_path / "run")
    shutil.copy(run / "export" / "autorec.npz", run / PREDICTIONS)  # as main.py leaves them
    json_tool = f"{shlex.quote(sys.executable)} -m json.tool"
    command = recommend(replace(named, folder=run), *BEST)
    code, out, error = shell(f"{command} | {json_tool}", tmp_path)
    assert (code, error) == (0, "") and are_the_best(out, named)


@pytest.mark.slow
@pytest.mark.parametrize("made", ["named", "own"], indirect=True)
def test_a_run_answers_in_json(made, capsys):
    """The other run is on a file of an odd name."""
    code, out, error = within(recommend_program, made, *BEST, capsys=capsys)
    assert (code, error) == (0, "") and are_the_best(out, made)


def ask_for_predictions(made, folder):
    """Write the pairs that predictions are asked for; return their indices and what they are."""
    users, items = (x.ravel()[::7] for x in np.indices(made.R.shape))
    ids = zip(made.ratings.user_ids[users], made.ratings.item_ids[items], strict=True)
    pairs = [*(f"{user},{item}" for user, item in ids), "8,5", "8,999"]
    (folder / "pairs.csv").write_text("\n".join(["user,item", *pairs, ""]))
    return users, items, pairs


@pytest.mark.slow
def test_predictions_of_a_run_on_an_odd_file_go_into_a_file_in_a_plain_terminal(own, tmp_path):
    command = recommend(own, "--predict", "pairs.csv") + " > out.csv"
    asked = ask_for_predictions(own, tmp_path)
    code, _, error = shell(command, tmp_path, **OTHER_TERMINALS["C"])
    assert code == 0
    check_predictions(own, *asked, (tmp_path / "out.csv").read_text(), error)


@pytest.mark.slow
def test_predictions_are_those_of_the_run(named, tmp_path, capsys):
    asked = ask_for_predictions(named, tmp_path)
    code, *found = within(
        recommend_program, named, "--predict", tmp_path / "pairs.csv", capsys=capsys)
    assert code == 0
    check_predictions(named, *asked, *found)


def check_predictions(made, users, items, pairs, out, error):
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [f"{row['user']},{row['item']}" for row in rows] == pairs
    found = [float(row["prediction"]) for row in rows]
    np.testing.assert_allclose(found[:-2], made.predictions()[users, items], atol=1e-4)
    cold = (made.M.sum(1) == 0)[[*users, 1]] | (made.M.sum(0) == 0)[[*items, 1]]
    assert found[-1] == 3 and error.count("\n") == 1
    assert_names(error, f"{cold.sum() + 1} of {len(pairs)} ", " 3")


# What becomes of it

LOST = {"> /dev/full": errno.ENOSPC, ">&-": errno.EBADF}


def is_the_warning_of_a_full_disk(error, is_full):
    """Whether a program said in one line that the disk is full, or, if it is not, nothing."""
    return error == "" if not is_full else (
        error.startswith("warning: ") and error.count("\n") == 1
        and os.strerror(errno.ENOSPC) in error
    )


def commands(named, own):
    return {
        "main.py --help": (line("main.py", "--help"), b"--hidden_neuron"),
        "compare.py": (line("compare.py", named.folder, own.folder, "nowhere"), b"| ml-1m "),
        "recommend.py": (
            line("recommend.py", named.folder / "export", "--item", 2), b"item 2"
        ),
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "program, stream",
    [*(("compare.py", stream) for stream in STREAMS if stream != "<&- 2>&-"),
     *product(("main.py --help", "recommend.py"), OF_THE_ANSWER)],
)
def test_an_answer_is_given_or_the_exit_code_says_that_it_is_lost(
    program, stream, named, own, tmp_path
):
    command, answer = commands(named, own)[program]
    code, given, talks = STREAMS[stream]
    found, out, error = into(stream, command, tmp_path)
    assert (answer in out) == given
    lines = error.splitlines()
    if program == "main.py --help":  # which may be had again
        assert found == 0 and is_the_warning_of_a_full_disk(error, stream == "> /dev/full")
        return
    assert found == code
    if talks:
        notes = ["nowhere"] * (program == "compare.py")
        lost = [os.strerror(LOST[stream])] if code else []
        for told, fact in zip(lines, [*notes, *lost], strict=True):
            assert fact in told and told.startswith(f"{program}: error: ") == (fact in lost)
    else:
        assert error == ""


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["2>&-", "2> /dev/full", "<&- >&- 2>&-", ">&-"])
def test_a_mistake_has_its_exit_code_whoever_hears_of_it(stream, tmp_path):
    commands = [line("main.py", "--bogus"), line("compare.py", "nowhere")]
    for command in commands[: 1 if stream == ">&-" else 2]:
        code, out, error = into(stream, command, tmp_path)
        assert (code, out) == (2, b"") and ("error: " in error) == (stream == ">&-")


@pytest.fixture(scope="module")
def titled(named, tmp_path_factory):
    """A question whose answer has titles, and the answer in a terminal that shows all."""
    question = line("recommend.py", named.folder / "export", "--data_dir", named.data, "--item", 2)
    _, answer, _ = shell(question, tmp_path_factory.mktemp("titled"))
    assert TITLE in answer.decode()
    return question, answer.decode()


@pytest.mark.slow
@pytest.mark.parametrize("terminal", OTHER_TERMINALS)
def test_what_a_terminal_cannot_show_is_escaped(terminal, titled, tmp_path):
    question, answer = titled
    changes = OTHER_TERMINALS[terminal]
    code, out, error = shell(question, tmp_path, **changes)
    encoding = "latin-1" if terminal == "latin-1" else "ascii"
    assert (code, error) == (0, "")
    assert out == answer.encode(encoding, "backslashreplace")
    if terminal == "C":  # JSON is of ASCII in every one
        code, out, _ = shell(f"{question} --json", tmp_path, **changes)
        assert code == 0 and json.loads(out)[0]["title"] == TITLE


@pytest.mark.slow
@pytest.mark.parametrize("made, stream", [("named", "a closed pipe"), ("own", "> /dev/full")],
                         indirect=["made"])
def test_a_run_answers_as_its_export_does(made, stream, capsys):
    with lost_stream(stream) as lost:
        code, _, error = within(recommend_program, made, "--item", 2, capsys=capsys, stream=lost)
    assert code == STREAMS[stream][0] and len(error.splitlines()) == (code > 0)


@pytest.mark.slow
@pytest.mark.parametrize("made, stream", [("named", "a closed pipe"), ("own", "> /dev/full")],
                         indirect=["made"])
def test_an_export_is_whole_whoever_hears_of_it(made, stream, tmp_path, capsys):
    to = ("--output", tmp_path / "模型")
    with lost_stream(stream) as lost:
        code, _, error = within(export_program, made, *to, capsys=capsys, stream=lost)
    assert code == 0 and is_the_warning_of_a_full_disk(error, stream == "> /dev/full")
    assert sorted(os.listdir(tmp_path / "模型")) == ["autorec", "autorec.npz"]


@pytest.mark.slow
def test_an_export_is_told_of_in_a_plain_terminal_and_whole_without_any_stream(own, tmp_path):
    command = line("export.py", own.folder, "--data_dir", own.data, "--output", "模型")
    code, out, error = shell(command, tmp_path, **OTHER_TERMINALS["C"])
    assert (code, error) == (0, "") and out.isascii()
    assert b"autorec.npz" in out and rb"\u" in out  # the folder, escaped
    shutil.rmtree(tmp_path / "模型")
    assert in_fork("<&- >&- 2>&-", command, tmp_path) == (0, "")
    assert sorted(os.listdir(tmp_path / "模型")) == ["autorec", "autorec.npz"]


# A training


@pytest.fixture(scope="module")
def trained(own, tmp_path_factory):
    """The costs of a run whose output is read, in a plain terminal."""
    folder = tmp_path_factory.mktemp("trained")
    code, out, error = shell(training(own), folder, **OTHER_TERMINALS["C"])
    assert (code, error) == (0, "") and b"results/run" in out and out.isascii()
    record = read_json(folder / "results" / "run" / "config.json")
    assert record["files"] == {"dataset": "#1 ratings&co 评分.csv"}  # in whatever locale
    return costs(folder)


def training(made):
    (path,) = made.data.glob("*ratings*")
    where = ["--data_dir", made.data] if path.name == "ratings.dat" else ["--dataset", path]
    return line("main.py", "--comet", "off", "--hidden_neuron", 3, "--train_epoch", 3,
                "--run_name", "run", *where)


def costs(folder):
    assert read_json(folder / "results" / "run" / "summary.json")["status"] == "finished"
    return [row["train_cost"] for row in read_metrics(folder / "results" / "run")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "made, stream",
    [("own", "> /dev/full"), ("own", "<&- >&- 2>&-"), ("named", ">&-"), ("named", "2> /dev/full")],
    indirect=["made"],
)
def test_a_training_goes_on_without_its_output(made, stream, trained, tmp_path):
    """TensorFlow is imported without any stream too."""
    if stream == "<&- >&- 2>&-":
        code, _, error = into(stream, training(made), tmp_path)
    else:
        code, error = in_fork(stream, training(made), tmp_path)
    assert code == 0 and is_the_warning_of_a_full_disk(error, stream == "> /dev/full")
    assert costs(tmp_path) == trained  # and nothing of it went into its files


@pytest.mark.slow
def test_a_table_is_kept_though_its_print_is_lost(named, tmp_path):
    command = line("compare.py", named.folder, "--csv", "runs.csv")
    code, _, _ = into("> /dev/full", command, tmp_path)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "runs.csv").read_text("utf-8"))))
    assert code == 2 and [row["run"] for row in rows] == ["run"]
