"""Several workers, as real processes on this machine, and several devices: they are one process."""

import json
import queue
import re
import signal
import socket
import threading
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from autorec_tf.config import Config
from autorec_tf.system.distribution import EXAMPLE, Cluster, Workers, read_cluster
from autorec_tf.system.errors import UserError
from autorec_tf.system.handshake import STEPS, Handshake
from tests.facts import assert_names, refused
from tests.figures import MAIN_UNDRAWN, undrawn
from tests.forks import Fork
from tests.program import (
    MAIN,
    environment,
    free_ports,
    read_json,
    read_metrics,
    wait_for,
)

# 40 rows of items in batches of 13: of the last one, a single row, one worker gets nothing.
SMALL = (
    "--comet off --hidden_neuron 8 --batch_size 13 --base_lr 0.005 --grad_clip "
    "--checkpoint_every 5 --train_epoch"
).split()
EPOCHS = 60  # enough of them that a signal comes before the last
PLAIN = ["--regularization", "plain", "--lambda_value", "20"]


def tf_config(index, addresses=("127.0.0.1:1", "127.0.0.1:2"), job="worker"):
    cluster = {"cluster": {"worker": list(addresses)}, "task": {"type": job, "index": index}}
    return json.dumps(cluster)


# Where gRPC would send what is for the other worker.
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "grpc_proxy"), "http://127.0.0.1:9")


def start_worker(index, addresses, *flags, cwd, program=None):
    """A worker, as main.py or, with the same flags, another `program` of Python."""
    python = ["-c", program] if program else [MAIN]
    return Fork(
        [*python, "--distribute", "workers", *flags], cwd,
        environment(TF_CONFIG=tf_config(index, addresses), TF_NUM_INTRAOP_THREADS="1", **PROXIES),
    )


def local_addresses():
    return [f"127.0.0.1:{port}" for port in free_ports(2)]


def listens(address):
    host, port = address.split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


class Pair:
    """Two workers, started by the same command, but for the flags that the second has besides."""

    def __init__(self, *flags, cwd, second=()):
        self.addresses = local_addresses()
        program = MAIN_UNDRAWN[1]
        self.processes = [start_worker(0, self.addresses, *flags, cwd=cwd, program=program)]
        if second:  # which may end at once: the first is there to hear of it
            wait_for(lambda: listens(self.addresses[0]), self.processes[0])
        self.processes.append(
            start_worker(1, self.addresses, *flags, *second, cwd=cwd, program=program))

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for process in self.processes:
            process.kill()

    def at_epoch(self, number, folder):
        """Return when so many epochs are recorded."""
        metrics = folder / "metrics.csv"
        wait_for(
            lambda: metrics.exists() and metrics.read_text("utf-8").count("\n") > number,
            self.processes[0], seconds=120,
        )

    def ends(self):
        """The exit codes, and what was printed and said on stderr."""
        texts = [process.communicate(timeout=100) for process in self.processes]
        return [p.returncode for p in self.processes], *zip(*texts, strict=True)


def first_epoch(printed):
    """The number of the first epoch that a run printed a line of."""
    return int(re.search(rf"epoch +(\d+)/{EPOCHS}", printed)[1])


def assert_one_line(errors, *facts):
    assert errors.startswith("main.py: error: ") and errors.count("\n") == 1
    assert_names(errors, *facts)


def assert_same_epochs(folder, other, count):
    ours, theirs = read_metrics(folder), read_metrics(other)
    assert [row["epoch"] for row in ours] == [str(1 + i) for i in range(count)]
    assert len(theirs) == count
    for name in ("train_rmse", "test_rmse", "test_mae"):
        values = [[float(row[name]) for row in rows] for rows in (ours, theirs)]
        assert values[0] == pytest.approx(values[1], abs=1e-5), name
    costs = [[float(row["train_cost"]) for row in rows] for rows in (ours, theirs)]
    assert costs[0] == pytest.approx(costs[1], rel=1e-5)


@pytest.fixture
def one_process(tmp_path, monkeypatch, capsys):
    """A function that runs flags in one process, which is this one, and returns what it printed."""
    import main

    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    monkeypatch.chdir(tmp_path)

    def run_flags(*flags):
        capsys.readouterr()
        assert undrawn(main.main)([*map(str, flags)]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run_flags


@pytest.mark.slow
def test_two_workers_that_are_interrupted_and_go_on_equal_one_process(
    small_data, tmp_path, one_process, monkeypatch
):
    flags, results = [*SMALL, EPOCHS, "--data_dir", small_data], tmp_path / "results"
    with monkeypatch.context() as patch:
        patch.setenv("TF_CONFIG", "means nothing alone")
        one_process(*flags, "--run_name", "one")
    with Pair(*flags, "--run_name", "two", cwd=tmp_path) as two:
        two.at_epoch(3, results / "two")
        two.processes[1].send_signal(signal.SIGTERM)
        codes, printed, errors = two.ends()
    assert codes == [143, 143]
    assert errors[0] == "" and "Ctrl-C" in errors[1]
    done = len(read_metrics(results / "two"))
    assert 3 < done < EPOCHS
    assert_names(printed[0], f"epoch {done}", f"--resume {Path('results') / 'two'}")
    assert f"{done} of {EPOCHS}" in printed[1]

    resume = "--resume", results / "two", "--data_dir", small_data
    with Pair(*resume, cwd=tmp_path) as two:
        codes, printed, errors = two.ends()
    assert (codes, errors) == ([0, 0], ("", ""))
    assert f"epoch {done}." in printed[0] and first_epoch(printed[0]) == done + 1
    assert_same_epochs(results / "two", results / "one", EPOCHS)
    records = [read_json(results / name / "config.json") for name in ("one", "two")]
    assert [(record["workers"], record["replicas"]) for record in records] == [(1, 1), (2, 2)]
    assert sorted(path.name for path in results.iterdir()) == ["one", "two"]
    assert "distribute" not in records[1] and "127.0.0.1" not in json.dumps(records[1])


@pytest.mark.slow
def test_a_first_worker_that_dies_ends_the_other(small_data, tmp_path):
    with Pair(*SMALL, EPOCHS, "--data_dir", small_data, "--run_name", "two", cwd=tmp_path) as two:
        two.at_epoch(3, tmp_path / "results" / "two")
        two.processes[0].kill()
        codes, _, errors = two.ends()
    assert codes == [-signal.SIGKILL, 2]
    assert_one_line(errors[1], "another worker", "main.py --resume", "--distribute workers")


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_other_and_one_process_goes_on(
    small_data, tmp_path, one_process
):
    flags, results = [*SMALL, EPOCHS, *PLAIN, "--data_dir", small_data], tmp_path / "results"
    with Pair(*flags, "--run_name", "two", cwd=tmp_path) as two:
        two.at_epoch(7, results / "two")
        two.processes[1].kill()
        codes, _, errors = two.ends()
    assert codes == [2, -signal.SIGKILL]
    again = f"--resume {Path('results') / 'two'} --data_dir {small_data} --distribute workers"
    assert_one_line(errors[0], "another worker", f"main.py {again}\n")
    assert not (results / "two" / "summary.json").exists()

    for name, start in (
        ("two", ["--resume", results / "two"]), ("one", [*flags, "--run_name", "one"])
    ):
        printed = one_process(*start, "--data_dir", small_data)
        assert (first_epoch(printed) > 5) == (name == "two")  # from a checkpoint
    assert_same_epochs(results / "two", results / "one", EPOCHS)


MIRRORED = """
import json, sys
import numpy as np, tensorflow as tf
tf.config.experimental.enable_op_determinism()
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # starts faster
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
from AutoRec import AutoRec
from autorec_tf.model.batch import sparse_rows
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.system.distribution import Cluster, Workers
from autorec_tf.training.trainer import Trainer

replicas = Workers("mirrored", Cluster())
assert replicas.num_replicas == 3 and replicas.all_gather(7) == [7]
tf.get_logger().setLevel("ERROR")
rng = np.random.default_rng(1)
dense = rng.integers(1, 6, (22, 9)) * (rng.random((22, 9)) < 0.5)
rows, columns = dense.nonzero()
indptr = np.searchsorted(rows, np.arange(23))
matrix = RatingMatrix(indptr, columns.astype(np.int32), dense[rows, columns].astype(np.float32), 9)

def build(variant):
    # Batches of 10, 10 and 2 rows for three replicas, and gradients that are clipped.
    config = Config(engine="dense", batch_size=10, base_lr=0.1, grad_clip=True, **variant)
    values = matrix.distinct if config.input_encoding == "one_hot" else None
    return AutoRec(9, config, values=values)

found = []
for variant in (
    dict(regularization="weighted", hidden_neuron=4, optimizer_method="RMSProp"),
    dict(regularization="weighted", hidden_neuron=(4, 3, 4), average_decay=0.5),
    dict(regularization="plain", hidden_neuron=(4, 3, 4), lambda_value=5,
         input_encoding="one_hot", lambda_one_hot=3),
):
    alone = build(variant)
    with replicas.scope():
        mirrored = build(variant)
    trainers = Trainer(alone), Trainer(mirrored)
    for epoch in range(3):
        order = np.random.default_rng(epoch).permutation(22)
        results = [each.train_epoch(sparse_rows(matrix), order, 0.1) for each in trainers]
    pairs = list(zip(alone.parameters, mirrored.parameters))
    found.append(dict(
        moved=float(np.abs(alone.V - build(variant).V).max()),
        differ=max(float(np.abs(a.numpy() - m.numpy()).max()) for a, m in pairs),
        replicas=max(float(np.abs(x.numpy() - m.values[0].numpy()).max())
                     for m in (*mirrored.parameters, *trainers[1].average.swapped)
                     for x in m.values),
        results=results, steps=[int(each.steps.numpy()) for each in trainers],
    ))

@tf.function
def dropped():
    return replicas.strategy.run(lambda: trainers[1].dropout()(tf.ones([1, 1000]), 0.5, 1))

parts = [x.numpy() for x in replicas.strategy.experimental_local_results(dropped())]
same = [float((parts[i] == parts[j]).mean()) for i, j in ((0, 1), (0, 2), (1, 2))]
print(json.dumps(dict(found=found, same=same)))
"""


@pytest.mark.slow
def test_mirrored_devices_train_to_the_same_parameters_and_drop_different_units(tmp_path):
    process = Fork(["-c", MIRRORED], tmp_path, environment())
    code = process.wait()
    printed, errors = process.communicate()
    assert code == 0, errors
    answer = json.loads(printed.splitlines()[-1])
    assert len(answer["found"]) == 3
    for found in answer["found"]:
        assert found["moved"] > 0.1 and found["differ"] < 1e-4 and found["replicas"] == 0
        assert found["results"][0] == pytest.approx(found["results"][1], rel=1e-5)
        assert found["steps"] == [9, 9]
    assert all(0.4 < share < 0.6 for share in answer["same"])


# Before TensorFlow has started


@pytest.mark.slow
def test_a_worker_that_refuses_its_input_ends_the_other_at_once(
    small_data, write_ratings, tmp_path
):
    flags = [*SMALL, EPOCHS, "--data_dir", small_data]
    write_ratings(b"1::2::9::3\n", tmp_path / "bad")
    with Pair(*flags, cwd=tmp_path, second=["--data_dir", "bad"]) as two:
        codes, _, errors = two.ends()
    assert codes == [2, 2] and "ratings.dat" in errors[1]
    reason = errors[1].removeprefix("main.py: error: ")
    assert_one_line(errors[0], f"worker 1 ({two.addresses[1]})", reason)
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_waiting_and_the_other_workers(number, code, small_data, tmp_path):
    here, there = local_addresses()
    waiting = start_worker(0, [here, there], *SMALL, EPOCHS, "--data_dir", small_data, cwd=tmp_path)
    reasons = queue.Queue()
    other = Handshake(Cluster((here, there), 1), print, reasons.put)
    with other:  # and reads its ratings
        wait_for(lambda: other.steps[0] == STEPS.index("loaded"), waiting)
        waiting.send_signal(number)
        _, errors = waiting.communicate(timeout=20)
        assert (waiting.returncode, errors.strip()) == (code, "main.py: interrupted")
        assert_names(reasons.get(timeout=20), f"worker 0 ({here})", "interrupted")
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_another_program_at_a_workers_address_is_told_at_once(small_data, tmp_path):
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        addresses = [local_addresses()[0], f"127.0.0.1:{server.server_port}"]
        worker = start_worker(0, addresses, *SMALL, 1, "--data_dir", small_data, cwd=tmp_path)
        _, errors = worker.communicate(timeout=60)
        server.shutdown()
    assert worker.returncode == 2
    assert_one_line(errors, f"worker 1 ({addresses[1]})", "HTML")


HURRIED = """
import sys
from autorec_tf.system import handshake
handshake.START = 1
import main
sys.exit(main.main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_a_worker_that_dies_while_tensorflow_starts_ends_the_other(index, small_data, tmp_path):
    addresses = local_addresses()
    flags = [*SMALL, 1, "--data_dir", small_data]
    worker = start_worker(index, addresses, *flags, cwd=tmp_path, program=HURRIED)
    dying = Handshake(Cluster(tuple(addresses), 1 - index), print, print)
    with dying:
        dying.wait("loaded")
        dying.wait("ready")
        dying.close_port()  # and TensorFlow never listens there
        _, errors = worker.communicate(timeout=90)
    assert worker.returncode == -signal.SIGKILL
    assert_one_line(errors, "TensorFlow", "start")
    assert not (tmp_path / "results").exists()


# What is refused


@pytest.mark.parametrize(
    "text, facts",
    [
        (None, ("--distribute workers", EXAMPLE)),
        ("", ("--distribute workers", EXAMPLE)),
        *((text, (f"TF_CONFIG {text} ", EXAMPLE)) for text in (
            "{", "[]", '{"cluster": {"worker": ["a:1"]}}',
            '{"cluster": {"worker": 5}, "task": {"type": "worker", "index": 0}}',
            tf_config(0, ["a"]),
        )),
        (tf_config(2), ("worker 2", EXAMPLE)),
        (tf_config(-1), ("worker -1", EXAMPLE)),
        (tf_config(0, ["a:1"], "ps"), ("ps 0", EXAMPLE)),
        (tf_config(0, ["a:1", "a:1"]), ("a:1, a:1", "host:port")),
        (tf_config(0, ["a:70000"]), ("a:70000", "host:port")),
    ],
)
def test_a_tf_config_that_cannot_be_used_is_refused(text, facts, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with refused("TF_CONFIG", *facts):
        read_cluster("workers")
    assert read_cluster(None) == read_cluster("mirrored") == Cluster()


def test_a_chief_is_the_first_worker(monkeypatch):
    content = {"cluster": {"worker": ["b:2", "c:3"], "chief": ["a:1"]}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(content | {"task": {"type": "worker", "index": 1}}))
    assert read_cluster("workers") == Cluster(("a:1", "b:2", "c:3"), 2)


def test_workers_that_were_started_differently_are_told_so():
    team = Workers(None, Cluster(("a:1", "b:2", "c:3"), 0))
    seen = []
    team.all_gather = lambda number: seen.append(number) or [number, number, number]
    team.assert_same_on_all_workers("settings", {"a": 1}, "mend it")
    team.assert_same_on_all_workers("settings", {"a": 2}, "mend it")
    assert seen[0] != seen[1]
    team.all_gather = lambda number: [number, number, number + 1]
    with refused("worker 2", "worker 0", "settings", "mend it"):
        team.assert_same_on_all_workers("settings", {"a": 1}, "mend it")


@pytest.mark.parametrize("lost_at", [1, 2])
def test_only_a_worker_lost_before_all_are_done_is_an_error(lost_at):
    import tensorflow as tf

    team, calls = Workers(None, Cluster(("a:1", "b:2"), 0)), []

    def all_gather(number):
        calls.append(number)
        if len(calls) == lost_at:
            raise tf.errors.UnavailableError(None, None, "gone")
        return [number, number]

    team.all_gather = all_gather
    with pytest.raises(tf.errors.UnavailableError) if lost_at == 1 else nullcontext():
        team.wait_until_done()
    assert len(calls) == lost_at


def test_mirrored_needs_several_devices():
    with refused("--distribute mirrored", "GPUs"):
        Workers("mirrored", Cluster())


def test_an_error_that_is_no_lost_worker_keeps_its_traceback():
    import tensorflow as tf

    team = Workers(None, Cluster(("a:1", "b:2"), 0))
    for error, raised in (
        (tf.errors.UnavailableError, UserError),
        (tf.errors.InvalidArgumentError, tf.errors.InvalidArgumentError),
    ):
        with pytest.raises(raised), team.report_lost_workers("mend it"):
            raise error(None, None, "so")


@pytest.mark.parametrize(
    "settings, named",
    [
        (dict(engine="sparse"), "--engine sparse"),
        (dict(num_splits=2), "--num_splits 2"),
        (dict(pretrain_epoch=2, hidden_neuron=(4, 2, 4)), "--pretrain_epoch"),
        (dict(optimizer_method="LBFGS"), "--optimizer_method LBFGS"),
        (dict(leave_one_out=True, leave_one_out_slope="mean"), "--leave_one_out_slope mean"),
        (dict(members=("item",)), "--members"),
        (dict(tune=("base_lr",)), "--tune"),
    ],
)
def test_settings_that_mirrored_refuses_are_those_of_workers(settings, named):
    with refused(named, "--distribute mirrored"):
        Config(distribute="mirrored", **settings)
    assert Config(distribute="workers", **settings).distribute == "workers"
