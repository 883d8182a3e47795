"""The handshake of the workers of a cluster, before TensorFlow starts: each worker finds the
others, and ends if one of them ends.

TensorFlow would wait an hour for a missing worker, and ignore signals meanwhile. So every worker
listens at its own address from the start of the program, and connects to all others. Both sides of
a connection send a greeting of one line:

    autorec-worker 1 <index> <digest of all addresses> <number of the process>

The side that connects sends it first. The side that accepted the connection then sends a line for
each of STEPS that it reaches, or "ended <reason>". A connection that closes without such a line
means that the worker died.

If the environment variable AUTOREC_SECRET is set, both sides prove that they have the same secret,
which is never sent. After the greetings they send

    prove <nonce>                   the side that accepted the connection
    proof <proof> <other nonce>     the other side
    proof <other proof>             the side that accepted the connection

where a proof is the HMAC-SHA256, with the secret as key, of the nonce and the own greeting.

Anything else at the port is ignored: its first line must be complete within `silence` seconds, and
MOST_CALLERS may be waiting for that at a time. This module does not depend on ratings.
"""

import hashlib
import hmac
import math
import os
import re
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from autorec_tf.system.distribution import Cluster, Workers, host_and_port
from autorec_tf.system.errors import UserError, printable
from autorec_tf.system.interruption import warn

STEPS = ("met", "loaded", "ready", "started")
# Seconds: the longest wait for the others, the wait before the first line that lists missing
# workers, and the time between two such lines.
PATIENCE, FIRST_WORD, REMINDER = 300.0, 30.0, 60.0
SILENCE = 10.0  # longest wait for a greeting, in seconds; even a busy worker answers faster
LINGER = 0.5  # seconds for workers that have just started to receive the reason of an end
START = 60.0  # longest start of TensorFlow, in seconds, once all workers are ready
LONGEST = 4096  # bytes of a line
MOST_CALLERS = 100  # connections that have not greeted yet
SECRET = "AUTOREC_SECRET"
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # 30 s to a lost connection


def end_at_once(reason: str) -> None:
    """End the process, whatever its main thread is doing: before TensorFlow has started, a run has
    nothing to close."""
    warn(f"main.py: error: {UserError(reason)}\n")  # UserError makes it one printable line
    os._exit(2)


class Handshake:
    """The communication of a worker with the other workers of `cluster`, until TensorFlow has
    started.

    Within the context, an error of this worker ends the others. An error of another worker, or a
    different program at its address, ends this process.

    Args:
        cluster: all workers.
        log: receives lines for the user.
        end: ends the process; called in a thread, with the reason.
        patience: longest wait for the other workers, in seconds.
        silence: longest wait for a greeting, in seconds.
    """

    def __init__(self, cluster: Cluster, log: Callable[[str], object],
                 end: Callable[[str], object] = end_at_once, patience: float = PATIENCE,
                 silence: float = SILENCE) -> None:
        self.cluster, self.log, self.end = cluster, log, end
        self.patience, self.silence = patience, silence
        addresses = cluster.addresses
        self.names = names = [f"worker {i} ({address})" for i, address in enumerate(addresses)]
        self.name = names[cluster.index]
        self.digest = hashlib.sha256(" ".join(addresses).encode()).hexdigest()[:16]
        number = secrets.token_hex(8)
        self.greeting = f"autorec-worker 1 {cluster.index} {self.digest} {number}\n".encode()
        self.processes = {cluster.index: number}  # the process number of each worker
        self.others = [i for i in range(cluster.size) if i != cluster.index]
        self.steps = dict.fromkeys(self.others, -1)  # the last step of each; -1: not connected
        self.faults = dict.fromkeys(self.others, "")  # why a worker is not connected
        self.secret = os.environ.get(SECRET, "").encode("utf-8", "surrogateescape")
        self.said, self.hearers = b"", list[socket.socket]()
        self.places = threading.BoundedSemaphore(MOST_CALLERS)
        self.lock, self.leaving = threading.Lock(), threading.Lock()
        self.over = self.closed = False
        self.started: Workers | None = None

    def __enter__(self) -> "Handshake":
        if self.cluster != Cluster():
            self.listener = listen(self.cluster)
            self.thread = threading.Thread(target=self.accept, daemon=True)
            self.thread.start()
            for index in self.others:
                threading.Thread(target=self.follow, args=(index,), daemon=True).start()
        return self

    def __exit__(self, kind: Any, error: BaseException | None, traceback: object) -> None:
        if error is None:
            reason = "it had nothing left to do"
        elif isinstance(error, (KeyboardInterrupt, SystemExit)):
            reason = "it was interrupted"
        else:
            reason = str(error) if isinstance(error, UserError) else f"{kind.__name__}: {error}"
        self.leave(reason, lambda _: None)
        self.close_port()

    def leave(self, reason: str, end: Callable[[str], object], relayed: bool = False) -> None:
        """Send the others the reason and end this worker, unless TensorFlow has started."""
        with self.leaving:
            if self.over:
                return
            self.over = True
            self.say("ended " + ("" if relayed else f"{self.name} ended: ") + reason)
            last = time.monotonic() + LINGER
            while len(self.processes) < self.cluster.size and time.monotonic() < last:
                time.sleep(0.02)
            end(reason)

    def say(self, line: str) -> None:
        """Send a line to all workers that are connected or will connect."""
        content = f"{printable(line)[:LONGEST // 4]}\n".encode()
        with self.lock:
            self.said += content
            for each in self.hearers:
                with suppress(OSError):
                    each.sendall(content)

    # Connections from other workers

    def accept(self) -> None:
        with self.listener:
            while not self.closed:
                with suppress(OSError):  # usually a timeout
                    connection, address = self.listener.accept()
                    if self.places.acquire(blocking=False):
                        arguments = connection, address[0]
                        threading.Thread(target=self.answer, args=arguments, daemon=True).start()
                    else:
                        connection.close()

    def answer(self, connection: socket.socket, host: str) -> None:
        """Answer a connection from `host`. Anything but a worker of this cluster is ignored."""
        with connection, suppress(OSError):
            try:
                lines = Lines(connection, self.silence)
                greeting = lines.read()
                is_worker = self.admits(connection, lines, greeting)
            finally:
                self.places.release()
            if is_worker:
                index, _, number = parse(greeting)
                self.meet(index, number, host.removeprefix("::ffff:"))
                self.send_steps(connection)

    def admits(self, connection: socket.socket, lines: "Lines", greeting: bytes) -> bool:
        """Return whether the `greeting` and, with a secret, the proof are from a worker of this
        cluster. Answer any worker with the own greeting."""
        _, digest, _ = parse(greeting)
        if digest:
            connection.sendall(self.greeting)
        if digest != self.digest or not self.secret:
            return digest == self.digest
        nonce = secrets.token_hex(16)
        connection.sendall(f"prove {nonce}\n".encode())
        word, proof, other = words(lines.read(), 3)
        if word != "proof" or not hmac.compare_digest(proof, self.proof(nonce, greeting)):
            return False
        connection.sendall(f"proof {self.proof(other, self.greeting)}\n".encode())
        return True

    def proof(self, nonce: str, greeting: bytes) -> str:
        return hmac.new(self.secret, nonce.encode() + greeting, "sha256").hexdigest()

    def meet(self, index: int, number: str, host: str) -> None:
        if self.processes.setdefault(index, number) != number:
            self.leave(f"two processes were started as worker {index}, one of them at {host}. "
                       "Give each worker a different index in TF_CONFIG.", self.end)

    def send_steps(self, connection: socket.socket) -> None:
        """Send a worker all lines of this one, until the worker closes the connection."""
        with self.lock:
            keep_alive(connection)
            connection.sendall(self.said)
            self.hearers.append(connection)
        with suppress(OSError):
            while connection.recv(LONGEST):
                pass
        with self.lock:
            self.hearers.remove(connection)

    def close_port(self) -> None:
        """Free the port for TensorFlow."""
        self.closed = True
        if self.cluster != Cluster():
            self.thread.join()

    # Connections to other workers

    def follow(self, index: int) -> None:
        """Read the lines of another worker until it has started TensorFlow; connect repeatedly."""
        while not self.over and not self.hear(index):
            time.sleep(0.2)

    def hear(self, index: int) -> bool:
        """Read the lines of another worker, and return whether anything has answered."""
        try:
            connection = socket.create_connection(
                host_and_port(self.cluster.addresses[index]), timeout=2
            )
        except (OSError, UnicodeError) as error:  # UnicodeError: a bad host name
            self.faults[index] = getattr(error, "strerror", None) or str(error)
            return False
        with connection:
            lines = Lines(connection, self.silence)
            try:
                connection.sendall(self.greeting)
                first = lines.read()
            except TimeoutError:
                self.leave(f"the process at the address of {self.names[index]} accepts connections "
                           "but sends nothing. Check that it is a worker of this program, and that "
                           "no proxy is in between.", self.end)
                return True
            except OSError:
                first = b""
            if not first:  # like a tunnel whose other end is not there yet
                self.faults[index] = "it closes the connection"
                return False
            if fault := self.fault(index, first) or self.fault_of_secret(index, lines, first):
                self.leave(fault, self.end)
                return True
            self.steps[index] = 0
            keep_alive(connection)
            lines.seconds = math.inf
            with suppress(OSError):
                while line := lines.read():
                    self.take(index, line.decode(errors="replace").strip())
            if STEPS[self.steps[index]] != "started":
                self.leave(f"{self.names[index]} ended without giving a reason. Start all workers "
                           "again.", self.end)
        return True

    def fault_of_secret(self, index: int, lines: "Lines", greeting: bytes) -> str | None:
        """Prove the secret to another worker, if there is one, and check its proof. Return the
        error, None if the proof is correct."""
        if not self.secret:
            return None
        nonce, proof = secrets.token_hex(16), ""
        with suppress(OSError):
            word, other, _ = words(lines.read(), 3)
            if word == "prove":
                line = f"proof {self.proof(other, self.greeting)} {nonce}\n"
                lines.connection.sendall(line.encode())
                word, proof, _ = words(lines.read(), 3)
        if hmac.compare_digest(proof, self.proof(nonce, greeting)):
            return None
        return (f"{self.names[index]} does not have the secret of this worker. Set {SECRET} to the "
                "same value for all workers.")

    def fault(self, index: int, greeting: bytes) -> str | None:
        """Return the error in the greeting from a worker's address, None if it is correct."""
        answering, digest, _ = parse(greeting)
        where = f"at the address of {self.names[index]}"
        if not digest:
            text = repr(greeting.decode(errors="replace").strip()[:60])
            if greeting[:1] == b"\0" and greeting[3:4] == b"\4":  # HTTP/2's frame of settings
                text = "gRPC, probably a worker of an earlier start"
            return (f"a different program answers {where} ({text}). End it, or change the address "
                    "in TF_CONFIG for all workers.")
        if digest != self.digest:
            return (f"a worker of a different cluster answers {where}. Start all workers with the "
                    "same addresses in TF_CONFIG.")
        if answering != index:
            return (f"worker {answering} answers {where}. Give each worker in TF_CONFIG the index "
                    "of its address.")
        return None

    def take(self, index: int, line: str) -> None:
        """Handle a line of another worker."""
        word, _, reason = line.partition(" ")
        if word == "ended":
            self.leave(reason, self.end, relayed=True)
        elif word == "prove":
            self.leave(f"{self.names[index]} requires a secret. Set {SECRET} to the same value for "
                       "all workers.", self.end)
        elif word in STEPS:
            self.steps[index] = STEPS.index(word)

    # Steps of all workers

    def wait(self, step: str) -> None:
        """Send the others that this worker has reached `step`, one of STEPS, and return when all
        have reached it. Raise UserError if a worker has not connected in time."""
        self.say(step)
        started, last_log = time.monotonic(), FIRST_WORD - REMINDER
        while behind := [i for i in self.others if self.steps[i] < STEPS.index(step)]:
            waited = time.monotonic() - started
            missing = ", ".join(f"{self.names[i]}: {self.faults[i]}" for i in behind
                                if self.steps[i] < 0)
            if missing and waited > self.patience:
                raise UserError(f"not all workers have connected after {self.patience:g} seconds "
                                f"({missing}). Start all workers of TF_CONFIG, and check that "
                                "their addresses can be reached.")
            if waited - last_log >= REMINDER:
                last_log = waited
                late = ", ".join(self.names[i] for i in behind if self.steps[i] >= 0)
                self.log("Waiting for " + "; and for ".join(
                    filter(None, (missing, late and f"{late} to load its ratings"))
                ) + ".")
            time.sleep(0.05)

    def workers(self, distribute: str | None) -> Workers:
        """Return the workers of the cluster, after TensorFlow has started on all of them."""
        if not self.started:
            with self.starting_tensorflow():
                self.started = Workers(distribute, self.cluster)
        return self.started

    @contextmanager
    def starting_tensorflow(self) -> Iterator[None]:
        """A context in which TensorFlow can start at this worker's port. Until it has started, the
        end of another worker ends this one."""
        if self.over or self.cluster == Cluster():
            yield
            return
        # A worker that sends "ready" has connected to all others, so they may close their ports.
        self.wait("loaded")
        self.wait("ready")
        self.close_port()
        # Without this, gRPC would connect to other workers through the proxy of the environment.
        hosts = (host_and_port(address)[0] for address in self.cluster.addresses)
        os.environ["no_grpc_proxy"] = ",".join(hosts)
        with killed_after(START, "main.py: error: TensorFlow did not start on all workers: one of "
                                 "them died, or cannot be reached. Start all workers again.\n"):
            yield
        with self.leaving:
            self.say("started")
            self.over = True
            with self.lock:
                for each in self.hearers:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)  # ends the thread that reads, too


class Lines:
    """The lines of a connection, each complete within `seconds`."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection, self.seconds, self.buffer = connection, seconds, b""

    def read(self) -> bytes:
        """Return the next line with its end, or what has arrived when the time is over, the line is
        too long, or the connection is closed. Raise OSError if nothing has arrived."""
        last = time.monotonic() + self.seconds
        while b"\n" not in self.buffer and len(self.buffer) < LONGEST:
            left = last - time.monotonic()
            self.connection.settimeout(None if left == math.inf else max(left, 0.001))
            try:
                content = self.connection.recv(LONGEST)
            except OSError:  # too late, or closed
                if not self.buffer:
                    raise
                break
            if not content:
                break
            self.buffer += content
        line, end, self.buffer = self.buffer.partition(b"\n")
        return line + end


def words(line: bytes, count: int) -> list[str]:
    """Return the first `count` words of a line, "" for missing ones."""
    found = line.decode("ascii", "replace").split()[:count]
    return found + [""] * (count - len(found))


WATCH = """
import os, select, signal, sys
if not select.select([0], [], [], float(sys.argv[1]))[0]:
    os.write(2, sys.argv[2].encode())
    os.kill(int(sys.argv[3]), signal.SIGKILL)
"""


@contextmanager
def killed_after(seconds: float, last_words: str) -> Iterator[None]:
    """Kill this process, after printing `last_words`, if the block takes longer than `seconds`.
    Another process does it: TensorFlow holds the interpreter lock while it waits, so threads and
    signal handlers of this process cannot run."""
    command = [sys.executable, "-I", "-c", WATCH, str(seconds), last_words, str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield  # afterwards the pipe is closed, which ends the other process


def listen(cluster: Cluster) -> socket.socket:
    """Return a socket that listens at this worker's port. Raise UserError if it is in use."""
    port = host_and_port(cluster.addresses[cluster.index])[1]
    both = socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"cannot open port {port}, this worker's port in TF_CONFIG ({reason}). End "
                        "the program that uses it, or change the port in TF_CONFIG for all "
                        "workers.") from error
    listener.settimeout(0.1)  # so that `accept` can check whether to close it
    return listener


def parse(greeting: bytes) -> tuple[int, str, str]:
    """Return index, digest and number in a worker's greeting, (-1, "", "") for any other line."""
    match = re.fullmatch(rb"autorec-worker 1 (\d{1,9}) (\w+) (\w+)\n", greeting)
    return (int(match[1]), match[2].decode(), match[3].decode()) if match else (-1, "", "")


def keep_alive(connection: socket.socket) -> None:
    """Wait for lines without a timeout, as long as the other machine can be reached."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
