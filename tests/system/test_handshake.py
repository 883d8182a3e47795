"""The handshake alone, as threads of this process that talk over loopback."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, nullcontext

import pytest

from autorec_tf.system import handshake
from autorec_tf.system.distribution import Cluster
from autorec_tf.system.errors import UserError
from autorec_tf.system.handshake import STEPS, Handshake
from tests.conftest import REPOSITORY
from tests.facts import assert_names, refused
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
        missing = f"worker 1 ({there}): {os.strerror(errno.ECONNREFUSED)}"
        with refused("1 seconds", missing):
            worker.wait("loaded")
    assert len(worker.lines) > 1 and all(missing in line for line in worker.lines)


def test_a_worker_that_is_there_and_reads_is_waited_for(monkeypatch):
    monkeypatch.setattr(handshake, "FIRST_WORD", 0.2)
    at = addresses(2)
    with Worker(Cluster(at, 0), patience=0.1) as first, Worker(Cluster(at, 1)) as second:
        until(lambda: first.steps[1] == STEPS.index("met"))
        together(lambda: first.wait("loaded"),
                 lambda: until(lambda: first.lines) or second.wait("loaded"))
    (line,) = first.lines
    assert_names(line, f"worker 1 ({at[1]})", "ratings")
    assert f"({at[1]}):" not in line  # as if it were missing, for a reason


def test_a_port_that_is_taken_is_refused():
    at = addresses(2)
    for host in ("", "127.0.0.1"):
        port = at[0].split(":")[1]
        with socket.create_server((host, int(port))):
            with refused(port, "TF_CONFIG", os.strerror(errno.EADDRINUSE)):
                Worker(Cluster(at, 0)).__enter__()


HTTP = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"
GRPC = bytes([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0x7F, 0xFF, 0xFF, 0xFF])  # its first frame


@pytest.mark.parametrize(
    "said, fact",
    [
        (HTTP, "'HTTP/1.1 4"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "'SSH-2.0-OpenSSH_9.6'"),
        (GRPC, "gRPC"),
        (b"autorec-worker 2 1 0 0\n", "'autorec-worker 2 1 0 0'"),
        (b"autorec-worker x\n", "'autorec-worker x'"),
        (b"\xff" * 10_000, repr("\ufffd" * 60)),
        (b"autorec-worker 1 1 0123456789abcdef 5\n", "TF_CONFIG"),
        (b"", "nothing"),
    ],
    ids=["HTTP", "SSH", "gRPC", "version 2", "no greeting", "bytes", "another cluster", "silence"],
)
def test_something_else_at_a_workers_address_is_told_with_the_address(said, fact, monkeypatch):
    monkeypatch.setattr(handshake, "LINGER", 0.05)  # nobody else is to hear of it
    at, open_ones = addresses(2), []

    def talk(connection):
        open_ones.append(connection)
        connection.sendall(said)
        if said == GRPC:
            connection.close()

    with answering(at[1], talk), Worker(Cluster(at, 0), silence=0.3) as worker:
        reason = worker.why()
    assert_names(reason, f"worker 1 ({at[1]})", fact)


def test_who_hangs_up_is_asked_again():
    at = addresses(2)
    with answering(at[1], lambda connection: connection.close()):
        with Worker(Cluster(at, 0), patience=0.5) as worker:
            with refused(f"worker 1 ({at[1]})", "0.5 seconds", "closes"):
                worker.wait("loaded")


def test_a_worker_at_the_address_of_another_is_told():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at[::-1], 0)):
        assert_names(first.why(), f"worker 1 ({at[1]})", "cluster", "TF_CONFIG")
    at = addresses(3)
    with Worker(Cluster(at, 0)) as first:
        greeting = f"autorec-worker 1 2 {first.digest} 5\n".encode()
        with answering(at[1], lambda connection: connection.sendall(greeting)):
            assert_names(first.why(), "worker 2", f"worker 1 ({at[1]})", "TF_CONFIG")


def test_two_processes_with_one_index_are_told():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 1)) as second:
        second.wait("met")
        with socket.create_connection(("127.0.0.1", first.listener.getsockname()[1])) as third:
            third.sendall(second.greeting.rsplit(b" ", 1)[0] + b" 5\n")
            assert_names(first.why(), "two processes", "worker 1", "127.0.0.1", "TF_CONFIG")
            told = next(line for line in third.makefile() if line.startswith("ended"))
        for reason in (told, second.why()):
            assert_names(reason, f"worker 0 ({at[0]})", first.reason)


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


def test_connections_that_come_and_go_leave_nothing_open():
    def descriptors():
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    at = addresses(2)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 1)) as second:
        port = first.listener.getsockname()[1]
        together(lambda: first.wait("met"), lambda: second.wait("met"))
        before = descriptors()
        for number in range(300):
            with socket.create_connection(("127.0.0.1", port)) as caller:
                caller.sendall((b"", b"x", first.greeting)[number % 3])
        until(lambda: descriptors() <= before)
        assert len(first.hearers) == 1
        together(lambda: first.wait("loaded"), lambda: second.wait("loaded"))


def test_who_sends_a_byte_now_and_then_waits_no_longer_than_others(monkeypatch):
    monkeypatch.setattr(handshake, "MOST_CALLERS", 2)
    at = addresses(2)
    with Worker(Cluster(at, 0), silence=0.5) as first, ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(at[0].split(":"))) for _ in range(2)]
        started, refused_at = time.monotonic(), []

        def drip():
            while time.monotonic() < started + 5 and len(refused_at) < 2:
                for caller in slow:
                    try:
                        caller.sendall(b"a")
                    except OSError:
                        refused_at.append(time.monotonic())
                time.sleep(0.05)

        threading.Thread(target=drip, daemon=True).start()
        second = stack.enter_context(Worker(Cluster(at, 1)))  # turned away until there is a place
        together(lambda: first.wait("loaded"), lambda: second.wait("loaded"))
        until(lambda: len(refused_at) >= 2)
        assert max(refused_at) < started + 3


def test_a_worker_that_is_reached_byte_by_byte_is_told():
    at = addresses(2)

    def drip(connection):
        for _ in range(100):
            connection.sendall(b"a")
            time.sleep(0.05)

    with answering(at[1], drip), Worker(Cluster(at, 0), silence=0.4) as first:
        assert_names(first.why(), f"worker 1 ({at[1]})", "'aaa")


@pytest.mark.parametrize("secrets", [("a", "a"), ("a", "b"), ("a", ""), ("", "a")])
def test_a_secret_authenticates_workers(secrets, monkeypatch):
    at, workers = addresses(2), []
    for index, secret in enumerate(secrets):
        monkeypatch.setenv(handshake.SECRET, secret)
        workers.append(Worker(Cluster(at, index)))
    first, second = workers
    with first, second:
        if secrets == ("a", "a"):
            together(lambda: first.wait("loaded"), lambda: second.wait("loaded"))
            assert not first.ended.is_set() and not second.ended.is_set()
        else:
            until(lambda: first.ended.is_set() or second.ended.is_set())
            reason = (first if first.ended.is_set() else second).reason
            assert_names(reason, "worker ", handshake.SECRET)
            assert not first.hearers and not second.hearers or "" in secrets


def test_a_proof_of_another_connection_admits_nobody(monkeypatch):
    monkeypatch.setenv(handshake.SECRET, "a")
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first:
        greeting = Worker(Cluster(at, 1)).greeting

        def ask(answer):
            """The number of lines that the worker sends to one who answers its nonce."""
            with socket.create_connection(at[0].split(":")) as caller, caller.makefile() as lines:
                caller.sendall(greeting)
                lines.readline()
                nonce = lines.readline().split()[1]
                caller.sendall(f"proof {answer(nonce)} 5\n".encode())
                return nonce, bool(lines.readline())

        nonce, admitted = ask(lambda nonce: first.proof(nonce, greeting))
        assert admitted
        assert ask(lambda _: first.proof(nonce, greeting))[1] is False


@pytest.mark.parametrize(
    "error, fact",
    [
        (UserError("no.csv, line 3: bad"), "no.csv, line 3: bad"),
        (KeyboardInterrupt(), "interrupted"),
        (SystemExit(143), "interrupted"),
        (ValueError("two\nlines"), r"ValueError: two\nlines"),
    ],
)
def test_a_worker_that_ends_tells_the_others_why(error, fact):
    at = addresses(3)
    with Worker(Cluster(at, 0)) as first, Worker(Cluster(at, 2)) as last:
        with pytest.raises(type(error)), Worker(Cluster(at, 1)) as worker:
            worker.wait("met")
            raise error
        assert first.why() == last.why()
        assert_names(first.reason, f"worker 1 ({at[1]})", fact)


def test_a_worker_that_dies_without_a_word_ends_the_others():
    at = addresses(2)
    with Worker(Cluster(at, 0)) as first:
        greeting = f"autorec-worker 1 1 {first.digest} 5\nloaded\n".encode()

        def talk(connection):
            connection.sendall(greeting)
            connection.close()

        with answering(at[1], talk):
            assert_names(first.why(), f"worker 1 ({at[1]})", "ended")


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
        assert_names(first.why(), f"worker 1 ({at[1]})", "no GPU")
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
from autorec_tf.system.handshake import killed_after
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
