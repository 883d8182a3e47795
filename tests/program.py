"""The program as a process, and what it leaves."""

import csv
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

RECONSTRUCTION = "reconstruction_rmse_test_ratings_as_input"
MAIN = Path(__file__).resolve().parent.parent / "main.py"
NO_NETWORK = {"https_proxy": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
TIME_COLUMNS = ("epoch_seconds", "elapsed_seconds")


def command(*arguments):
    return [sys.executable, str(MAIN), *map(str, arguments)]


def environment(**changes):
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COMET", "AUTOREC"))}
    return kept | {"HOME": "/nonexistent"} | changes


def run_main(*arguments, cwd, **changes):
    return subprocess.run(
        command(*arguments), cwd=cwd, env=environment(**changes), capture_output=True, text=True
    )


def read_metrics(folder):
    with open(folder / "metrics.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_json(path):
    return json.loads(path.read_text(encoding="utf-8"))


def free_ports(number):
    """Ports of this machine that nothing listens at."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def wait_for(condition, process, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)


def interrupt_at(epoch, monkeypatch):
    """Have the runs of this process interrupted as soon as `epoch` is recorded."""
    from autorec_tf.records.run_records import RunRecords

    record = RunRecords.record

    def record_and_interrupt(self, metrics):
        record(self, metrics)
        self.interruption.number = 2 * (metrics.epoch == epoch)

    monkeypatch.setattr(RunRecords, "record", record_and_interrupt)
