"""Comet, online against a server on loopback, offline, and failing in each way that it can.

comet-ml keeps global state, so each run is a process of its own; a run is shared by the tests
that look at different sides of it. Most are forks of a process that has imported comet-ml; those
marked `new` import it themselves, as a user's run does.
"""

import atexit
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import fields
from functools import cache
from types import SimpleNamespace

import pytest

from autorec_tf.evaluation.metrics import EpochMetrics
from autorec_tf.records import comet
from tests.conftest import REPOSITORY
from tests.facts import assert_names, refused
from tests.faults.comet_server import CometServer
from tests.forks import FORKS, Imported, main_in_fork
from tests.program import read_json, read_metrics

pytestmark = pytest.mark.slow
KEY = "aB3dEf6hIj9kLm2nOp5qRs8tU"
USER = "telltale-user"
EPOCHS = 4
REPORT = "<!DOCTYPE html>\n<p>telltale</p>\n"
PNG = b"\x89PNG\r\n\x1a\n not much of a picture"

# What a training run does with a tracker. It fails if a line is said in another thread's voice.
RUN = """
import json, os, sys, threading, time
from pathlib import Path
mode, run_dir, timeout = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
streams, hook, finders = (sys.stdout, sys.stderr), sys.excepthook, list(sys.meta_path)
{before}
from autorec_tf.records.comet import Tracker

lines, slowest, asked = [], 0.0, []
def say(line):
    assert threading.current_thread() is threading.main_thread()
    lines.append(line)
def timed(call, *args):
    global slowest
    start = time.perf_counter()
    result = call(*args)
    slowest = max(slowest, time.perf_counter() - start)
    return result

tracker = timed(Tracker, mode, "telltale run", run_dir, say, {key!r})
timed(tracker.log_parameters, {{"hidden_neuron": 500, "data": {{"ratings": 1000209}}}})
for epoch in range(1, {epochs} + 1):
    time.sleep({pause})
    test = None if epoch % 2 else 2.0 / epoch
    train = float("nan") if epoch == 3 else 1.0 / epoch
    timed(tracker.log_metrics, {{"train_rmse": train, "test_rmse": test}}, epoch)
    {during}
timed(tracker.log_figure, run_dir / "rmse.png")
timed(tracker.log_report, {report!r})
timed(tracker.log_summary, {{
    "status": "finished", "dataset": "a parameter", "epochs": {epochs}, "final_test_rmse": 0.83,
    "biases_test_rmse": 0.9, "ndcg_at_10": None, "by_training_ratings_of_the_user": [{{"rmse": 1}}],
}})
time.sleep({pause})
comet = "comet_ml" in sys.modules
untouched = [streams == (sys.stdout, sys.stderr), hook is sys.excepthook, finders == sys.meta_path]
start = time.perf_counter()
try:
    tracker.close(timeout, hurry=lambda: bool(asked))
except KeyboardInterrupt:
    lines.append("interrupted")
close = time.perf_counter() - start
sentry = "sentry_sdk" in sys.modules and sys.modules["sentry_sdk"].get_client().is_active()
threads = [thread.name for thread in threading.enumerate()]
(run_dir / "seen.json").write_text(json.dumps(dict(
    lines=lines, slowest=slowest, close=close, key=tracker.experiment_key, closed_at=time.time(),
    comet=comet, sentry=sentry, untouched=untouched, threads=threads,
)))
print("the end")
"""


def track(
    folder, mode="auto", server=None, before="", during="", pause=0.1, timeout=30.0, env=(),
    key=None, new=False,
):
    """Runs RUN in a process of its own, and returns what there is to see of it."""
    run_dir = folder / "run"
    script = run_script(before, during, pause, key)
    process = run_python(folder, script, mode, run_dir, timeout, server=server, env=env, new=new)
    ended_at = time.time()
    assert process.returncode == 0, process.stderr
    seen = json.loads((run_dir / "seen.json").read_text())
    seen["exit"] = ended_at - seen["closed_at"]
    output = process.stdout + process.stderr
    return SimpleNamespace(folder=folder, archive=run_dir / "comet.zip", output=output, **seen)


def run_script(before="", during="", pause=0.1, key=None):
    return RUN.format(
        before=before, during=during, epochs=EPOCHS, pause=pause, key=key, report=REPORT
    )


@cache
def imported():
    """A server of forks that have imported comet-ml, with the settings that a run gives it."""
    server = Imported("comet_ml", comet.__name__, **comet.SETTINGS)
    atexit.register(server.close)
    return server


def run_python(folder, script, *arguments, server=None, env=(), new=False):
    for place in ("run", "telltale-home", "tmp"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / "run" / "rmse.png").write_bytes(PNG)
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COMET_")}
    clean |= {
        "HOME": str(folder / "telltale-home"),
        "USER": USER,
        "LOGNAME": USER,
        "TMPDIR": str(folder / "tmp"),
        "TELLTALE": "telltale-variable",
        "PYTHONPATH": str(REPOSITORY),
        # Patience belongs to comet-ml; the tests have little.
        "COMET_HTTP_SESSION_RETRY_TOTAL": "0",
    }
    if server:
        clean |= settings_of(server.url)
    arguments = ["-c", script, *map(str, arguments), "telltale-argument"]
    return run_process(arguments, folder, clean | dict(env), new)


def run_process(arguments, folder, env, new):
    """Runs Python in a fork that has imported comet-ml, or in a `new` process that has not."""
    if FORKS and not new:
        return imported().run(arguments, folder, env)
    return subprocess.run(
        [sys.executable, *arguments], env=env, cwd=folder, capture_output=True, text=True,
        timeout=60,
    )


def settings_of(url):
    return {"COMET_URL_OVERRIDE": url, "COMET_API_KEY": KEY}


def messages(archive):
    """The messages of an offline archive, as (type, payload)."""
    with zipfile.ZipFile(archive) as opened:
        assert opened.testzip() is None
        lines = opened.read("messages.json").decode().splitlines()
    return [(line["type"], line["payload"]) for line in map(json.loads, lines)]


def archived_metrics(archive):
    fields = ("metricName", "metricValue", "step", "epoch")
    logged = [payload["metric"] for kind, payload in messages(archive) if kind == "metric_msg"]
    return named(tuple(metric[field] for field in fields) for metric in logged)


def named(metrics):
    """The metrics but for the one that comet-ml logs unasked: how long the experiment lived."""
    return {metric for metric in metrics if metric[0] != "process duration"}


METRICS = {
    ("train/rmse", 1.0, 1, 1),
    ("train/rmse", 0.5, 2, 2),
    ("test/rmse", 1.0, 2, 2),
    ("train/rmse", "NaN", 3, 3),
    ("train/rmse", 0.25, 4, 4),
    ("test/rmse", 0.5, 4, 4),
    ("test/final_rmse", 0.83, 4, 4),
    ("test/biases_rmse", 0.9, 4, 4),
}


def telltales(run):
    """What must not leave the machine: the host, the user, folders, variables, arguments."""
    folders = [str(run.folder), sys.executable, os.getcwd()]
    words = [socket.gethostname(), USER, "telltale-home", "telltale-variable", "telltale-argument"]
    return re.compile("|".join(map(re.escape, folders)) + rf"|\b({'|'.join(words)})\b")


METRIC = "experiment/metric"
# As TensorFlow does when it saves a checkpoint: warnings of any library go to the terminal.
WARNINGS_SHOWN = "import logging; logging.basicConfig()"
CONNECTED = "while tracker._experiment is None: time.sleep(0.02)"  # however slow the machine


@pytest.fixture(scope="module")
def offline(tmp_path_factory):
    # comet-ml turns its error reports on in every second process, at random.
    always = "import random; random.random = lambda: 0.9"
    begun = "while not list(run_dir.glob('.comet-*')): time.sleep(0.02)"
    return track(tmp_path_factory.mktemp("offline"), before=always, during=begun, new=True)


@pytest.fixture(scope="module")
def online(tmp_path_factory):
    with CometServer() as server:
        run = track(
            tmp_path_factory.mktemp("online"), server=server, during=CONNECTED, pause=0.2, new=True
        )
    run.server = server
    return run


@pytest.fixture(scope="module")
def dropped(tmp_path_factory):
    """A run whose server dies as it gets the first metrics."""
    env = {"COMET_HTTP_SESSION_RETRY_TOTAL": "1"}
    with CometServer("drop", METRIC) as server:
        run = track(
            tmp_path_factory.mktemp("dropped"), server=server, before=WARNINGS_SHOWN, env=env,
            during=CONNECTED, pause=0.4, timeout=9,
        )
        assert server.experiments == {run.key} and not named(server.metrics)
    run.server = server
    return run


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    mine = {"COMET_PROJECT_NAME": "mine", "COMET_WORKSPACE": "ours"}
    no_figure = "(run_dir / 'rmse.png').unlink(missing_ok=True)"
    with CometServer() as server:
        run = track(tmp_path_factory.mktemp("mine"), server=server, during=no_figure, env=mine)
    run.server = server
    return run


@pytest.fixture(scope="module")
def rejected(tmp_path_factory):
    """A run whose key, which stands in a file, is refused."""
    folder = tmp_path_factory.mktemp("rejected")
    with CometServer("reject") as server:
        (folder / ".env").write_text(f"COMET_API_KEY={KEY}\nCOMET_URL_OVERRIDE={server.url}\n")
        run = track(folder)
    assert KEY in str(server.requests)  # or there would have been nothing to keep
    (folder / ".env").unlink()
    return run


def test_offline_archive_opens_and_holds_every_metric(offline):
    assert archived_metrics(offline.archive) == METRICS
    parameters = {
        payload["param"]["paramName"]: payload["param"]["paramValue"]
        for kind, payload in messages(offline.archive)
        if kind == "parameter_msg"
    }
    assert parameters == {"hidden_neuron": 500, "data|ratings": 1000209}


def test_archive_holds_only_what_was_named(offline):
    with zipfile.ZipFile(offline.archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    others = {p["key"] for kind, p in messages(offline.archive) if kind == "log_other"}
    assert others == {"Name", "status", "epochs", "offline_experiment", "hasNestedParams"}
    (image,) = (p for kind, p in messages(offline.archive) if kind == "file_upload")
    assert image["additional_params"]["figName"] == "rmse.png"
    assert files.keys() == {"experiment.json", "messages.json", image["file_path"]}
    assert files[image["file_path"]] == PNG
    kinds = {kind for kind, _ in messages(offline.archive)}
    assert kinds == {"parameter_msg", "metric_msg", "log_other", "file_upload", "htmlOverride"}


def test_archive_names_no_host_user_or_folder(offline):
    with zipfile.ZipFile(offline.archive) as opened:
        text = opened.read("messages.json").decode() + opened.read("experiment.json").decode()
    assert "telltale run" in text
    assert not telltales(offline).findall(text)


def test_offline_run_says_how_to_upload_and_nothing_else(offline):
    assert len(offline.lines) == 1 and tells_how_to_upload(offline.lines[0], offline.archive)
    assert offline.output == "the end\n"
    assert sorted(os.listdir(offline.archive.parent)) == ["comet.zip", "rmse.png", "seen.json"]
    assert not os.listdir(offline.folder / "tmp")


def upload(archive, server, folder, new=False):
    """Comet's own command."""
    arguments = ["-c", "from comet_ml.scripts.comet import main; main()", "upload", str(archive)]
    run_process(arguments, folder, os.environ | settings_of(server.url), new).check_returncode()


def test_archive_is_taken_by_comets_own_upload(offline, tmp_path):
    with CometServer() as server:
        upload(offline.archive, server, tmp_path, new=True)
    assert METRICS <= set(server.metrics)
    assert server.images == {"rmse.png": PNG} and server.html == REPORT
    assert server.experiments == {offline.key}


def keys_of_metrics(server):
    """The keys of the experiments that metrics were sent to."""
    return {
        body["experimentKey"]
        for path, _, body in server.requests
        if path.endswith("experiment/metric")
    }


@pytest.mark.parametrize("known", [True, False], ids=["known", "lost"])
def test_resumed_run_goes_on_in_its_experiment(known, tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    with CometServer() as server:
        if known:  # or the process that was killed had not reached the server yet
            server.experiments.add(key)
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "comet.zip").write_bytes(b"of the time before")
        run = track(tmp_path, server=server, key=key)
    assert run.key == key and server.experiments == {key} == keys_of_metrics(server)
    assert named(server.metrics) == METRICS  # the whole record, sent again
    assert run.lines == [f"Comet: http://127.0.0.1/someone/autorec/{key}"]
    assert not run.archive.exists()  # what it held is on the server now
    began_anew = any(path.endswith("add/run") and body.get("getOrCreateEnabled", True)
                     for path, _, body in server.requests)
    assert began_anew != known


def test_archive_of_a_run_that_began_online_goes_on_in_its_experiment(dropped, tmp_path):
    with CometServer() as recovered:
        recovered.experiments = set(dropped.server.experiments)
        upload(dropped.archive, recovered, tmp_path)
    assert recovered.experiments == {dropped.key} == keys_of_metrics(recovered)
    assert METRICS <= set(recovered.metrics)


def test_run_that_was_killed_is_resumed_to_a_whole_archive_of_its_experiment(tmp_path):
    key = "0123456789abcdef0123456789abcdef"
    kill = """
    while epoch == 4:
        time.sleep(0.1)
        if list(run_dir.glob(".comet-*/*")):
            os.kill(os.getpid(), 9)
"""
    script = run_script(during=kill, key=key)
    assert run_python(tmp_path, script, "offline", tmp_path / "run", 30).returncode == -9
    (left, figure) = sorted(os.listdir(tmp_path / "run"))
    assert left.startswith(".comet-") and figure == "rmse.png"
    run = track(tmp_path, key=key)
    assert run.key == key and archived_metrics(run.archive) == METRICS
    with zipfile.ZipFile(run.archive) as opened:
        assert json.loads(opened.read("experiment.json"))["offline_id"] == key
    assert sorted(os.listdir(tmp_path / "run")) == ["comet.zip", "rmse.png", "seen.json"]


def test_what_a_killed_process_left_is_removed_without_comet_too(tmp_path):
    (tmp_path / ".comet-abc").mkdir()
    (tmp_path / ".comet-abc" / "half.zip").touch()
    (tmp_path / "metrics.csv").touch()
    assert comet.Tracker("off", "run", tmp_path, print).experiment_key is None
    assert os.listdir(tmp_path) == ["metrics.csv"]


def test_online_run_reaches_the_server_with_step_and_epoch(online):
    server = online.server
    assert named(server.metrics) == METRICS
    assert server.parameters == {"hidden_neuron": 500, "data|ratings": 1000209}
    assert server.others["Name"] == "telltale run"
    assert server.others["status"] == "finished"
    assert server.images == {"rmse.png": PNG} and server.html == REPORT
    assert server.experiments == {online.key} and re.fullmatch("[0-9a-f]{32}", online.key)
    assert online.lines[0] == f"Comet: http://127.0.0.1/someone/autorec/{online.key}"
    assert len(online.lines) == 1 and not online.archive.exists()
    assert not os.listdir(online.folder / "tmp")


def test_online_run_sends_no_host_user_or_folder(online):
    sent = "\n".join(f"{path} {query} {body}" for path, query, body in online.server.requests)
    assert "telltale run" in sent
    assert not telltales(online).findall(sent)


def test_project_is_autorec_unless_the_environment_names_another(online, elsewhere):
    def project(server):
        start, *_ = (body for path, _, body in server.requests if path.endswith("add/run"))
        return start["projectName"], start["teamName"]

    assert project(online.server) == ("autorec", None)
    assert project(elsewhere.server) == ("mine", "ours")


def test_figure_that_is_not_there_is_left_out(elsewhere):
    assert len(elsewhere.lines) == 1 and elsewhere.lines[0].startswith("Comet: http:")
    assert named(elsewhere.server.metrics) == METRICS
    assert not elsewhere.server.images


def test_comets_error_reports_are_off(offline):
    assert offline.comet and not offline.sentry


@pytest.mark.parametrize("run", ["offline", "online"])
def test_stdout_is_left_alone(run, request):
    run = request.getfixturevalue(run)
    assert run.comet  # it was at work when these were looked at:
    assert run.untouched == [True, True, True]  # streams, exception hook, import hooks
    assert run.output == "the end\n"


def test_every_column_of_metrics_csv_has_a_name_in_comet():
    columns = {field.name for field in fields(EpochMetrics)} - {"epoch"}
    assert comet.CURVES.keys() == columns
    names = [*comet.CURVES.values(), *comet.RESULTS.values()]
    assert len(names) == len(set(names)) and all(name.count("/") == 1 for name in names)


def test_slow_import_holds_up_nothing(tmp_path):
    slow = tmp_path / "slow" / "comet_ml.py"
    slow.parent.mkdir()
    slow.write_text("import time; time.sleep(3); raise ImportError")
    before = f"sys.path.insert(0, {str(slow.parent)!r})"
    run = track(tmp_path, before=before, timeout=0.3, new=True)
    assert run.slowest < 1.5
    (warning,) = run.lines
    assert tells_of_no_record(warning, run) and "in time" in warning
    assert run.close < 1.5 and run.exit < 1.5


def test_wrong_key_warns_once_and_leaves_an_offline_archive(rejected):
    warning, upload = rejected.lines
    assert tells_how_to_upload(upload, rejected.archive)
    assert_names(warning, "key", "invalid", "training", rejected.archive)
    assert ". " not in warning  # comet-ml's next sentence is no longer true
    assert archived_metrics(rejected.archive) == METRICS


@pytest.mark.parametrize("run", ["online", "offline", "rejected"])
def test_key_is_in_no_file_and_no_message(run, request):
    assert_no_key(request.getfixturevalue(run))


def assert_no_key(run):
    """That the key is in nothing that the run said or left, archives included."""
    assert KEY not in "\n".join(run.lines) + run.output
    files = [path for path in run.folder.rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert KEY.encode() not in path.read_bytes()
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as opened:
                assert all(KEY.encode() not in opened.read(name) for name in opened.namelist())


@pytest.mark.parametrize(
    ("mood", "since", "spared", "says"),
    [
        ("error", "", 0, "500"),
        ("deny", "", 0, "401"),
        ("drop", "", 0, "reached"),
        ("hang", "", 0, "slow"),
        ("error", METRIC, 0, "500"),
        # All but the last lines were sent.
        ("drop", METRIC, 1, "answer|broke"),
        ("hang", "upload", 0, "slow"),
    ],
    ids="error deny drop hang error-midway drop-at-the-end hang-midway".split(),
)
def test_failing_server_warns_once_and_leaves_a_whole_archive(mood, since, spared, says, tmp_path):
    timeout = 6.0 if mood == "hang" else 30.0
    with CometServer(mood, since, spared) as server:
        # A failure midway needs the first metrics to be on their way before the end.
        midway = dict(during=CONNECTED, pause=0.4) if since else {}
        run = track(tmp_path, server=server, timeout=timeout, **midway)
    assert_warns_once(run, says, timeout, since)


def test_server_that_dies_midway_warns_once_and_says_nothing_of_its_own(dropped):
    assert_warns_once(dropped, "answer|failed", 9, METRIC)


def assert_warns_once(run, says, timeout, since):
    *address, warning, upload = run.lines
    assert len(address) == bool(since)
    address = address[0] if since else "Comet: http:"
    assert address.startswith("Comet: http:")
    assert warning.startswith("warning: Comet: ") and re.search(says, warning)
    assert tells_how_to_upload(upload, run.archive)
    assert archived_metrics(run.archive) == METRICS
    assert_no_key(run)
    assert run.slowest < 1.5 and run.close < timeout + 1
    assert run.exit < 3  # also while an upload hangs
    assert run.output == "the end\n"


@pytest.mark.parametrize("host", ["127.0.0.1:1", "no.such.host.invalid"])
def test_server_that_is_not_there_is_one_line_and_is_not_waited_for(host, tmp_path):
    env = settings_of(f"http://{host}/clientlib/")
    env["COMET_HTTP_SESSION_RETRY_TOTAL"] = "3"  # as it is without us
    run = track(tmp_path, before=WARNINGS_SHOWN, env=env, pause=0.6)
    warning, upload = run.lines
    assert warning.startswith("warning: Comet: ") and "\n" not in warning
    assert_names(warning, "reached", "training", run.archive)
    assert tells_how_to_upload(upload, run.archive) and archived_metrics(run.archive) == METRICS
    assert run.output == "the end\n"
    assert run.close < 6  # half of what it takes to ask again as often as while a run trains
    assert_no_key(run)


def test_server_that_is_unwell_at_first_is_asked_again(tmp_path):
    def recover():
        assert server.wait_for(lambda server: server.requests)
        server.mood = "ok"

    soon = "from autorec_tf.records import comet; comet.PAUSES = (0.1,) * 99"
    until_then = "while epoch == 4 and tracker._experiment is None: time.sleep(0.1)"
    with CometServer("error") as server:
        thread = threading.Thread(target=recover)
        thread.start()
        run = track(tmp_path, server=server, before=soon, during=until_then)
        thread.join()
    assert run.lines == [f"Comet: http://127.0.0.1/someone/autorec/{run.key}"]
    assert named(server.metrics) == METRICS and not run.archive.exists()


def test_slow_server_is_waited_for(tmp_path):
    with CometServer("slow") as server:
        run = track(tmp_path, server=server, pause=0)
    assert run.lines == [f"Comet: http://127.0.0.1/someone/autorec/{run.key}"]
    assert named(server.metrics) == METRICS and server.images == {"rmse.png": PNG}
    assert not run.archive.exists()


def test_silent_server_is_not_waited_for(tmp_path):
    with CometServer("hang") as server:
        impatient = "from autorec_tf.records import comet; comet.SILENCE = 1"
        run = track(tmp_path, server=server, before=impatient, timeout=90)
    assert "not answer" in run.lines[0]
    assert archived_metrics(run.archive) == METRICS
    assert run.close < 30


def test_ctrl_c_ends_the_wait_for_a_hanging_server(tmp_path):
    before = """
import signal
from autorec_tf.records.comet import Tracker

signal.signal(signal.SIGINT, signal.default_int_handler)  # which a job in the background lacks
wait = Tracker._wait
def interrupted(*args):
    Tracker._wait = wait
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    wait(*args)
Tracker._wait = interrupted
"""
    with CometServer("hang") as server:
        run = track(tmp_path, server=server, before=before)
    warning, upload, end = run.lines
    assert warning.startswith("warning: Comet: ") and end == "interrupted"
    assert tells_how_to_upload(upload, run.archive)
    assert archived_metrics(run.archive) == METRICS
    assert run.close < 8 and run.exit < 3


def test_signal_that_only_asks_ends_the_wait_for_a_hanging_server(tmp_path):
    during = "epoch == 4 and threading.Timer(1.5, lambda: asked.append(1)).start()"
    with CometServer("hang") as server:
        run = track(tmp_path, server=server, during=during, timeout=90)
    assert "not sent" in run.lines[0]
    assert archived_metrics(run.archive) == METRICS


def test_log_call_that_raises_warns_once_and_leaves_a_whole_archive(tmp_path):
    before = """
import comet_ml
def broken(self, *args, **kwargs):
    raise RuntimeError("a bug near " + os.environ["COMET_API_KEY"])
comet_ml.Experiment.log_metrics = broken
finders, hook = list(sys.meta_path), sys.excepthook
"""
    with CometServer() as server:
        run = track(tmp_path, server=server, before=before)
    _, warning, _ = run.lines
    assert "RuntimeError: a bug near <key>" in warning
    assert archived_metrics(run.archive) == METRICS


@pytest.mark.parametrize("mode", ["auto", "online"])
@pytest.mark.parametrize("error", ["ImportError('gone')", "SystemExit(3)", "MemoryError()"])
def test_broken_comet_package_warns_once(mode, error, tmp_path):
    broken = tmp_path / "broken" / "comet_ml.py"
    broken.parent.mkdir()
    broken.write_text(f"raise {error}")
    new = error.startswith("ImportError")  # in the other cases a fork imports it again
    before = f"sys.modules.pop('comet_ml', None); sys.path.insert(0, {str(broken.parent)!r})"
    run = track(tmp_path, mode, before=before, pause=0, new=new)
    (warning,) = run.lines
    assert_names(warning, "comet-ml", "import", "training", error.split("(")[0])
    assert tells_of_no_record(warning, run)


def test_missing_comet_package_warns_once(tmp_path):
    run = track(tmp_path, before="sys.modules['comet_ml'] = None", pause=0, new=True)
    (warning,) = run.lines
    assert_names(warning, "comet-ml", "import", "ModuleNotFoundError")
    assert tells_of_no_record(warning, run)


@pytest.mark.parametrize("begun", [False, True])
def test_run_folder_that_vanishes_warns_once(begun, tmp_path):
    gone = "import shutil; shutil.rmtree(run_dir, ignore_errors=True)"
    during = f"""
    while {begun} and epoch == 1 and not list(run_dir.glob('.comet-*')): time.sleep(0.02)
    {gone}
    epoch == 4 and (tracker.close(timeout), run_dir.mkdir())
"""
    run = track(tmp_path, before="" if begun else gone, during=during)
    (warning,) = run.lines
    assert tells_of_no_record(warning, run)


# The operating system's own error, for any file that would grow beyond a few lines.
LIMIT = "import comet_ml, resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({}, -1))"
MANY = "tracker.log_parameters({str(i): i for i in range(99)})"


def test_disk_that_is_full_for_a_moment_warns_once_and_leaves_no_half_archive(tmp_path):
    during = f"{MANY}; epoch == 4 and (time.sleep(1), {LIMIT.format(-1).split(';')[1].strip()})"
    run = track(tmp_path, before=LIMIT.format(2000), during=during)
    (warning,) = run.lines
    assert tells_of_no_record(warning, run)


def test_disk_that_is_full_at_the_end_warns_once_and_leaves_no_half_archive(tmp_path):
    big = "(run_dir / 'rmse.png').write_bytes(bytes(3800))"
    run = track(tmp_path, before=LIMIT.format(4000), during=big)
    (warning,) = run.lines
    assert tells_of_no_record(warning, run)


def test_failing_server_and_full_disk_leave_one_warning_and_no_promise(tmp_path):
    with CometServer("reject") as server:
        run = track(tmp_path, server=server, before=LIMIT.format(2000), during=MANY)
    warning, failure = run.lines
    assert warning.startswith("warning: Comet: ")
    assert failure.startswith("Comet: ") and "archive" in failure
    assert "upload" not in failure and not run.archive.exists()


def tells_how_to_upload(line, archive):
    return line.startswith("Comet: ") and line.endswith(f"comet upload {archive}`")


def tells_of_no_record(line, run):
    """Whether it is a warning that names no archive, and there is none."""
    named = "no Comet" not in line or str(run.archive) in line
    return line.startswith("warning: Comet: ") and not named and not run.archive.exists()


def test_upload_command_is_beside_this_python_where_the_shell_has_none(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert comet.comet_command() == "comet"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "comet").touch()
    assert comet.comet_command() == os.path.join("bin", "comet")


def test_off_never_imports_comet(tmp_path):
    run = track(tmp_path, "off", pause=0, new=True)
    assert not run.comet and run.threads == ["MainThread"]
    assert run.lines == [] and not run.archive.exists()


@pytest.fixture
def home(monkeypatch, tmp_path):
    """An empty home folder, away from where the test stands, and no key in the environment."""
    for folder in ("home", "here"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("COMET_API_KEY", "COMET_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_online_without_a_key_is_refused_in_one_line(home):
    with refused("--comet online", "COMET_API_KEY", "--comet offline"):
        comet.require_key()


@pytest.mark.parametrize("place", ["home", "here", "named"])
def test_key_is_found_in_the_environment_and_in_comets_own_file(place, home, monkeypatch):
    file = home.parent / place / ".comet.config"
    if place == "named":
        file = home.parent / "settings.ini"
        monkeypatch.setenv("COMET_CONFIG", str(file))
    file.write_text("no section, not a configuration")
    assert comet.find_key() is None
    file.write_text(f"[comet]\napi_key={KEY}\n")
    assert comet.find_key() == KEY
    comet.require_key()
    monkeypatch.setenv("COMET_API_KEY", "another")
    assert comet.find_key() == "another"


# Where a key stands, in the order in which it is looked for: (file, its content, the variable
# that names the file or holds the key, its value).
PLACES = {
    "environment": (None, "", "COMET_API_KEY", "0"),
    ".env": ("here/.env", "# ours\nOTHER = 1\nCOMET_API_KEY='1'\n", None, ""),
    "named folder": ("named/.comet.config", "[comet]\napi_key=2\n", "COMET_CONFIG", "../named"),
    "here": ("here/.comet.config", "[other]\nx=y\n[comet]\nworkspace=w\napi_key = 3 \n", None, ""),
    "home": ("home/.comet.config", "[comet]\napi_key=4\n", None, ""),
}
FIND = """
import json, os, sys
import comet_ml
from autorec_tf.records import comet
for folder, variables in json.loads(sys.argv[1]):
    os.chdir(os.path.join(folder, "here"))
    os.environ.update(variables, HOME=os.path.join(folder, "home"))
    print(json.dumps([comet.find_key(), comet_ml.get_config("comet.api_key") or None]))
    for name in variables:
        del os.environ[name]
"""


def test_key_is_found_where_comet_finds_it_and_in_its_order(tmp_path):
    quoted = ("home/.comet.config", "[comet]\napi_key='4'\n", None, "")
    older = ("named/old.ini", "[comet]\napi_key=5\n", "COMET_INI", "../named/old.ini")
    empty = (None, "", "COMET_API_KEY", "")
    cases = [[place] for place in PLACES.values()]
    cases += [list(PLACES.values())[first:] for first in range(len(PLACES))]
    cases += [[], [quoted], [older, PLACES["named folder"]], [empty, PLACES["home"]]]
    arguments = []
    for number, case in enumerate(cases):
        variables = {variable: value for _, _, variable, value in case if variable}
        for folder in ("home", "here", "named"):
            (tmp_path / str(number) / folder).mkdir(parents=True)
        for file, content, _, _ in case:
            if file:
                (tmp_path / str(number) / file).write_text(content)
        arguments.append((str(tmp_path / str(number)), variables))
    done = run_python(tmp_path / "run", FIND, json.dumps(arguments))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(found) == len(cases), done.stderr
    assert [ours for ours, _ in found] == [theirs for _, theirs in found]
    assert [ours for ours, _ in found[:10]] == list("01234") * 2
    assert [ours for ours, _ in found[10:]] == [None, "'4'", "5", None]


def test_key_in_a_file_that_comet_cannot_read_is_not_quoted(home, tmp_path):
    (tmp_path / "home" / ".comet.config").write_text(f"[comet]\napi_key {KEY}\n")
    run = track(tmp_path / "run", env={"HOME": str(tmp_path / "home")}, pause=0)
    (warning,) = run.lines
    assert warning.startswith("warning: Comet: ") and "<key>" in warning
    assert_no_key(run)


def test_program_keeps_a_key_that_stands_in_a_file_to_itself(tmp_path, write_ratings):
    """Its server dies midway; `rejected` is of a key that was refused."""
    data = write_ratings([(u, i, 1 + (u * i) % 5) for u in range(1, 20) for i in range(1, 15)])
    place = tmp_path / "place"
    (place / "tmp").mkdir(parents=True)
    with CometServer("drop", METRIC) as server:
        (tmp_path / ".env").write_text(f"COMET_API_KEY={KEY}\nCOMET_URL_OVERRIDE={server.url}\n")
        done = main_in_fork(
            "--train_epoch", 3, "--hidden_neuron", 8, "--batch_size", 8, "--data_dir", data.parent,
            "--results_dir", place, "--run_name", "run", cwd=tmp_path, HOME=str(place),
            TMPDIR=str(place / "tmp"),
        )
    assert done.returncode == 0 and done.stderr == ""
    assert KEY in str(server.requests)  # or there would have been nothing to keep
    assert done.stdout.count("warning: Comet: ") == 1
    lines = done.stdout.splitlines()
    assert_no_key(SimpleNamespace(folder=place, lines=lines, output=done.stderr))
    steps = {step for _, _, step, _ in archived_metrics(place / "run" / "comet.zip")}
    assert steps == {1, 2, 3}
    assert_archive_is_worth_opening(place / "run")


# What a person opens in Comet, after a run of the whole program


def assert_archive_is_worth_opening(folder):
    logged = messages(folder / "comet.zip")
    with zipfile.ZipFile(folder / "comet.zip") as opened:
        images = {
            payload["additional_params"]["figName"]: opened.read(payload["file_path"])
            for kind, payload in logged if kind == "file_upload"
        }
    assert_worth_opening(
        folder,
        {tuple(payload["metric"][field] for field in ("metricName", "metricValue", "step"))
         for kind, payload in logged if kind == "metric_msg"},
        {payload["param"]["paramName"]: payload["param"]["paramValue"]
         for kind, payload in logged if kind == "parameter_msg" and "param" in payload},
        [payload["htmlOverride"] for kind, payload in logged if kind == "htmlOverride"],
        images,
    )


def test_server_receives_result_baselines_report_and_figures_of_a_run(small_data, tmp_path):
    with CometServer() as server:
        folder = small_run(small_data, tmp_path, **settings_of(server.url))
    assert not (folder / "comet.zip").exists()
    metrics = {metric[:3] for metric in server.metrics}
    assert_worth_opening(folder, metrics, server.parameters, [server.html], server.images)
    assert_no_key(SimpleNamespace(folder=tmp_path, lines=[], output=""))


def small_run(small_data, folder, **env):
    done = main_in_fork(
        "--train_epoch", 3, "--hidden_neuron", 8, "--batch_size", 16, "--run_name", "run",
        "--data_dir", small_data, cwd=folder, **env,
    )
    assert done.returncode == 0 and done.stderr == ""
    (said,) = [line for line in done.stdout.splitlines() if "omet" in line]
    assert "Comet: " in said
    return folder / "results" / "run"


def assert_worth_opening(folder, metrics, parameters, reports, images):
    summary, last = read_json(folder / "summary.json"), read_metrics(folder)[-1]
    for name, value in (
        ("test/final_rmse", summary["final_test_rmse"]),
        ("test/final_mae", summary["final_test_mae"]),
        ("test/biases_rmse", summary["biases_test_rmse"]),
        ("test/global_mean_rmse", summary["global_mean_test_rmse"]),
        ("test/ndcg_at_10", summary["ndcg_at_10"]),
        ("test/coverage_at_10", summary["coverage_at_10"]),
        ("test/popularity_ndcg_at_10", summary["popularity_ndcg_at_10"]),
        ("test/popularity_recall_at_10", summary["popularity_recall_at_10"]),
        ("test/popularity_coverage_at_10", summary["popularity_coverage_at_10"]),
        ("train/final_rmse", summary["final_train_rmse"]),
        ("train/rmse", float(last["train_rmse"])),
        ("train/cost", float(last["train_cost"])),
        ("train/learning_rate", float(last["learning_rate"])),
        ("test/rmse", float(last["test_rmse"])),
        ("test/mae", float(last["test_mae"])),
        ("test/cost", float(last["test_cost"])),
        ("time/epoch_seconds", float(last["epoch_seconds"])),
        ("time/elapsed_seconds", float(last["elapsed_seconds"])),
    ):
        assert (name, value, 3) in metrics
    groups = {name.partition("/")[0] for name, *_ in metrics} - {"process duration"}
    assert groups == {"train", "test", "time"}
    assert (parameters["hidden_neuron"], parameters["optimizer_method"]) == (8, "Adam")
    assert not parameters.keys() & {"run_name", "comet", "members", "lbfgs_memory", "test_file"}
    assert reports == [(folder / "report.html").read_text("utf-8")]
    assert images == {n: (folder / n).read_bytes() for n in ("rmse.png", "slices.png")}


SLOW_START = """
start_thread = threading.Thread.start
def late(thread):  # as on a machine that has much else to do
    time.sleep(0.5 * (thread.name == "comet"))
    start_thread(thread)
threading.Thread.start = late
"""


def test_an_archive_whose_writer_starts_late_is_waited_for(tmp_path):
    with CometServer("deny") as server:
        run = track(tmp_path, server=server, before=SLOW_START)
    assert tells_how_to_upload(run.lines[-1], run.archive)
    assert archived_metrics(run.archive) == METRICS
