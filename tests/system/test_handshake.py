"""The handshake alone, as threads of this process that talk over loopback."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from system import handshake
from system.distribution import Cluster
from system.errors import UserError
from system.handshake import STEPS, Handshake
from tests.conftest import REPOSITORY
from tests.program import environment, free_ports


class Worker(Handshake):
    """One whose end is noted, not brought about."""

    def __init__(self, cluster, patience=20.0, silence=5.0):
        self.ended, self.lines = threading.Event(), []
        super().__init__(cluster, self.lines.append, self.note, patience, silence)

    def note(self, reason):
        self.reason = reason
        self.ended.set()

    def why(self):
        assert self.ended.wait(20), "nothing ended it"
        return self.reason


def addresses(number):
    return tuple(f"127.0.0.1:{port}" for port in free_ports(number))


def together(*steps):
    """Run a function of each worker at once."""
    done = []
    for step in steps:
        threading.Thread(target=lambda step=step: done.append(step() or step), daemon=True).start()
    until(lambda: len(done) == len(steps))


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


@pytest.fixture
def no_watch(monkeypatch):
    """Without the process that ends a slow one; while that is made, it has this one's sockets."""
    monkeypatch.setattr(handshake, "killed_after", lambda *_: nullcontext())


@contextmanager
def answering(address, talk):
    """Another program at an address: `talk` has each connection."""
    host, port = address.split(":")
    with socket.create_server((host, int(port))) as server:
        def serve():
            for _ in range(9):
                try:
                    talk(server.accept()[0])
                except OSError:
                    return

        threading.Thread(target=serve, daemon=True).start()
        yield
        server.shutdown(socket.SHUT_RDWR)


def test_three_workers_come_to_each_step_together_and_leave_their_ports(no_watch, monkeypatch):
    monkeypatch.delenv("no_grpc_proxy", raising=False)
    at, order = addresses(3), []

    def work(worker):
        worker.wait("loaded")
        order.append("loaded")
        time.sleep(0.05 * worker.cluster.index)
        with worker.starting_tensorflow():
            order.append("starting")
            # The port is free, while the connections to it are still open.
            with socket.create_server(("", int(at[worker.cluster.index].split(":")[1]))):
                pass

    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(Cluster(at, index))) for index in range(3)]
        together(*(lambda worker=worker: work(worker) for worker in workers))
    assert order == ["loaded"] * 3 + ["starting"] * 3
    assert not any(worker.ended.is_set() or worker.lines for worker in workers)
    assert os.environ.pop("no_grpc_proxy") == "127.0.0.1,127.0.0.1,127.0.0.1"


def test_one_worker_alone_waits_for_nobody():
    with Worker(Cluster()) as alone:
        alone.wait("loaded")
        with alone.starting_tensorflow():
            pass
    with Worker(Cluster(addresses(1))) as alone, alone.starting_tensorflow():
        pass


def test_who_is_missing_is_said_now_and_then_and_at_last_given_up(monkeypatch):
    monkeypatch.setattr(handshake, "FIRST_WORD", 0.1)
    monkeypatch.setattr(handshake, "REMINDER", 0.2)
    here, there = addresses(2)
    with Worker(Cluster((here, there), 0), patience=1.0) as worker:
        with pytest.raises(UserError, match="not all workers were there after 1 seconds") as error:
            worker.wait("loaded")
    missing = f"worker 1 ({there}): Connection refused"
    assert missing in str(error.value)
    assert len(worker.lines) > 1 and set(worker.lines) == {f"Waiting for {missing}."}


def test_a_worker_that_is_there_and_reads_is_waited_for(monkeypatch):
    monkeypatch.setattr(handshake, "FIRST_WORD", 0.2)
    at = addresses(2)
    with Worker(Cluster(at, 0), patience=0.1) as first, Worker(Cluster(at, 1)) as second:
        until(lambda: first.steps[1] == STEPS.index("met"))
        together(lambda: first.wait("loaded"),
                 lambda: until(lambda: first.lines) or second.wait("loaded"))
    assert first.lines == [f"Waiting for worker 1 ({at[1]}), at work on its ratings."]


def test_a_port_that_is_taken_is_refused():
    at = addresses(2)
    for host in ("", "127.0.0.1"):
        with socket.create_server((host, int(at[0].split(":")[1]))):
            taken = r"this worker's in TF_CONFIG, cannot be opened \(Address already in use\)"
            with pytest.raises(UserError, match=taken):
                Worker(Cluster(at, 0)).__enter__()


HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
GRPC = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0x7F, 0xFF, 0xFF, 0xFF])  # its first frame
ELSE = "something else than a worker that waits to be started"


@pytest.mark.parametrize(
    "said, told",
    [
        (HTTP, f"{ELSE} answers at worker 1 .*s address .'HTTP/1.1 4"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", f"{ELSE}.*'SSH-2.0-OpenSSH_9.6'"),
        (GRPC, f"{ELSE} answers at .* .gRPC, as a worker of an earlier start.:"),
        (b"autorec-worker 2 1 0 0\n", ELSE),
        (b"autorec-worker x\n", ELSE),
        (b"\xff" * 10_000, ELSE),
        (b"autorec-worker 1 1 0123456789abcdef 5\n", "a worker of another cluster answers"),
        (b"", "says nothing"),
    ],
)
def test_something_else_at_a_workers_address_is_told_with_the_address(said, told):
    at, open_ones = addresses(2), []

    def talk(connection):
        open_ones.append(connection)
        connection.sendall(said)
        if said == GRPC:
            connection.close()

    with answering(at[1], talk), Worker(Cluster(at, 0), silence=0.3) as worker:
        reason = worker.why()
    assert at[1] in reason
    assert re.search(told, reason), reason


def test_who_hangs_up_is_asked_again():
    at = addresses(2)
    with answering(at[1], lambda connection: connection.close()):
        with Worker(Cluster(at, 0), patience=0.5) as worker:
            with pytest.raises(UserError, match="who answers there hangs up"):
                worker.wait("loaded")


def test_a_worker_at_the_address_of_another_is_told():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at[::-1], 0)):
        assert "a worker of another cluster answers" in first.why()
    at = addresses(3)
    with Worker(Cluster(at, 0)) as first:
        greeting = f"autorec-worker 1 2 {first.digest} 5\n".encode()
        with answering(at[1], lambda connection: connection.sendall(greeting)):
            assert f"worker 2 answers at worker 1 ({at[1]})'s address" in first.why()


def test_two_processes_with_one_index_are_told():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 1)) as second:
        second.wait("met")
        with socket.create_connection(("127.0.0.1", first.listener.getsockname()[1])) as third:
            third.sendall(second.greeting.rsplit(b" ", 1)[0] + b" 5\n")
            words = "two processes were started as worker 1, one of them at 127.0.0.1"
            assert words in first.why()
            told = next(line for line in third.makefile() if line.startswith("ended"))
        assert told.startswith(f"ended worker 0 ({at[0]}) ended: {words}")
        assert second.why().startswith(f"worker 0 ({at[0]}) ended: {words}")


def test_callers_that_are_no_workers_do_no_harm():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first:
        port = first.listener.getsockname()[1]
        for said in (b"", b"GET / HTTP/1.1\r\n\r\n", b"autorec-worker 1 7 0 0\n", b"\0" * 9999):
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall(said)
        with Worker(Cluster(at, 1)) as second:
            together(lambda: first.wait("loaded"), lambda: second.wait("loaded"))
            assert not first.ended.is_set() and not second.ended.is_set()


@pytest.mark.parametrize(
    "error, reason",
    [
        (UserError("no.csv, line 3: bad"), "no.csv, line 3: bad"),
        (KeyboardInterrupt(), "it was interrupted"),
        (SystemExit(143), "it was interrupted"),
        (ValueError("two\nlines"), r"ValueError: two\nlines"),
    ],
)
def test_a_worker_that_ends_tells_the_others_why(error, reason):
    at = addresses(3)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 2)) as last:
        with pytest.raises(type(error)), Worker(Cluster(at, 1)) as worker:
            worker.wait("met")
            raise error
        assert first.why() == last.why() == f"worker 1 ({at[1]}) ended: {reason}"


def test_a_worker_that_dies_without_a_word_ends_the_others():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first:
        greeting = f"autorec-worker 1 1 {first.digest} 5\nloaded\n".encode()

        def talk(connection):
            connection.sendall(greeting)
            connection.close()

        with answering(at[1], talk):
            assert first.why() == f"worker 1 ({at[1]}) ended without a word: start all again"


def test_a_worker_that_fails_while_tensorflow_starts_ends_the_others_and_later_does_not(no_watch):
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 1)) as second:
        def fail():
            with pytest.raises(UserError), second.starting_tensorflow():
                raise UserError("no GPU")

        def start():
            with first.starting_tensorflow():
                second.__exit__(UserError, UserError("no GPU"), None)
                first.why()

        together(fail, start)
        assert first.why() == f"worker 1 ({at[1]}) ended: no GPU"
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, pytest.raises(UserError):
        with Worker(Cluster(at, 1)) as second:
            def start(worker):
                with worker.starting_tensorflow():
                    pass

            together(lambda: start(first), lambda: start(second))
            raise UserError("later")
    assert not first.ended.is_set()


def test_a_block_that_takes_too_long_is_ended_even_if_no_thread_may_run():
    program = """
import ctypes, sys
from system.handshake import killed_after
with killed_after(30, "not so"):
    pass
with killed_after(0.2, "too long\\n"):
    ctypes.PyDLL(None).sleep(60)  # with the interpreter's lock
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50,
        env=environment(PYTHONPATH=str(REPOSITORY)),
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "too long\n")
