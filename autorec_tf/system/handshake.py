"""The workers of a cluster find each other before TensorFlow starts, and hear of each other's end.

TensorFlow would wait for an hour, deaf to signals, for a worker that never comes. So every worker
listens at its own address from the start of the program, and connects to all the others. The two
greet each other in one line:

    autorec-worker 1 <index> <digest of all addresses> <a number of the process>

Then the one that was called sends a line for each of STEPS that it comes to, or "ended <why>". A
connection that closes without a word is a worker that died. Knows nothing of ratings.
"""

import hashlib
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
PATIENCE, FIRST_WORD, REMINDER = 300.0, 30.0, 60.0  # seconds that a worker waits for the others,
# after which it first says for whom, and from then on between two such lines
SILENCE = 10.0  # seconds that who answers may take to greet; a worker that is busy is quicker
LINGER = 0.5  # seconds in which workers that have just started hear why this one ends
START = 60.0  # seconds that TensorFlow may take to start, once all workers are ready
LONGEST = 4096  # bytes of a line
KEEP_ALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}  # 30 s to a cut cable


def end_at_once(reason: str) -> None:
    """End the process, whatever its main thread is at: before TensorFlow has started there is
    nothing that a run has to close."""
    warn(f"main.py: error: {UserError(reason)}\n")  # which makes it one printable line
    os._exit(2)


class Handshake:
    """What a worker of `cluster` says to the others, and hears of them, until TensorFlow has
    started. Within it, an error of this worker ends the others, and theirs, or something else at
    their address, ends this process: by `end`, which is called in a thread with the reason."""

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
        self.processes = {cluster.index: number}  # the number of the process that is each worker
        self.others = [i for i in range(cluster.size) if i != cluster.index]
        self.steps = dict.fromkeys(self.others, -1)  # how far each is; -1: nobody has met it
        self.faults = dict.fromkeys(self.others, "")  # why it was not met
        self.said, self.hearers = self.greeting, list[socket.socket]()
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
            reason = "it had nothing to do"
        elif isinstance(error, (KeyboardInterrupt, SystemExit)):
            reason = "it was interrupted"
        else:
            reason = str(error) if isinstance(error, UserError) else f"{kind.__name__}: {error}"
        self.leave(reason, lambda _: None)
        self.close_port()

    def leave(self, reason: str, end: Callable[[str], object], relayed: bool = False) -> None:
        """Tell the others why this worker ends, and end it, unless TensorFlow has started."""
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
        """Send a line to all who listen now, or will."""
        content = f"{printable(line)[:LONGEST // 4]}\n".encode()
        with self.lock:
            self.said += content
            for each in self.hearers:
                with suppress(OSError):
                    each.sendall(content)

    # At this worker's address

    def accept(self) -> None:
        with self.listener:
            while not self.closed:
                with suppress(OSError):  # mostly, that nobody came in a while
                    caller = self.listener.accept()
                    threading.Thread(target=self.answer, args=caller, daemon=True).start()

    def answer(self, connection: socket.socket, address: tuple[Any, ...]) -> None:
        """Greet who calls. What is none of our workers may say anything."""
        connection.settimeout(self.silence)
        with self.lock, suppress(OSError):
            connection.sendall(self.said)
            self.hearers.append(connection)
        with suppress(OSError), connection.makefile("rb") as lines:
            index, digest, number = parse(lines.readline(LONGEST))
            if digest == self.digest and self.processes.setdefault(index, number) != number:
                host = address[0].removeprefix("::ffff:")
                self.leave(f"two processes were started as worker {index}, one of them at {host}: "
                           "give each an index of its own in TF_CONFIG", self.end)

    def close_port(self) -> None:
        """Leave the port to TensorFlow."""
        self.closed = True
        if self.cluster != Cluster():
            self.thread.join()

    # At the others'

    def follow(self, index: int) -> None:
        """Hear what another worker says, from its start until it has started TensorFlow."""
        while not self.over and not self.hear(index):
            time.sleep(0.2)

    def hear(self, index: int) -> bool:
        """Return whether somebody answered, after all that it said."""
        try:
            connection = socket.create_connection(
                host_and_port(self.cluster.addresses[index]), timeout=2
            )
        except (OSError, UnicodeError) as error:  # of a host's name
            self.faults[index] = getattr(error, "strerror", None) or str(error)
            return False
        with connection, connection.makefile("rb") as lines:
            connection.settimeout(self.silence)
            try:
                connection.sendall(self.greeting)
                first = connection.recv(LONGEST, socket.MSG_PEEK)
                with suppress(OSError):  # of who hangs up, or waits, in the middle of a line
                    first = lines.readline(LONGEST)
            except TimeoutError:
                self.leave(f"what listens at {self.names[index]}'s address says nothing: see that "
                           "it is a worker of this program, with nothing in between", self.end)
                return True
            except OSError:
                first = b""
            if not first:  # as a tunnel does whose other end is not there yet
                self.faults[index] = "who answers there hangs up"
                return False
            if fault := self.fault(index, first):
                self.leave(fault, self.end)
                return True
            self.steps[index] = 0
            keep_alive(connection)
            with suppress(OSError):
                for line in lines:
                    self.take(index, line.decode(errors="replace").strip())
            if STEPS[self.steps[index]] != "started":
                self.leave(f"{self.names[index]} ended without a word: start all again", self.end)
        return True

    def fault(self, index: int, greeting: bytes) -> str | None:
        """Return what is wrong with who greets like that at a worker's address."""
        found, digest, _ = parse(greeting)
        where = f"{self.names[index]}'s address"
        if not digest:
            text = repr(greeting.decode(errors="replace").strip()[:60])
            if greeting[:1] == b"\0" and greeting[3:4] == b"\4":  # HTTP/2's frame of settings
                text = "gRPC, as a worker of an earlier start"
            return (f"something else than a worker that waits to be started answers at {where} "
                    f"({text}): end it, or change the address for all")
        if digest != self.digest:
            return (f"a worker of another cluster answers at {where}: start all with the same "
                    "addresses in TF_CONFIG")
        if found != index:
            return (f"worker {found} answers at {where}: give each in TF_CONFIG the index of its "
                    "own address")
        return None

    def take(self, index: int, line: str) -> None:
        """Note what another worker says."""
        word, _, reason = line.partition(" ")
        if word == "ended":
            self.leave(reason, self.end, relayed=True)
        elif word in STEPS:
            self.steps[index] = STEPS.index(word)

    # Together

    def wait(self, step: str) -> None:
        """Say that this worker has come to one of STEPS, and return when all have. Raise UserError
        when one has not been met after a while."""
        self.say(step)
        started, told = time.monotonic(), FIRST_WORD - REMINDER
        while behind := [i for i in self.others if self.steps[i] < STEPS.index(step)]:
            waited = time.monotonic() - started
            missing = ", ".join(f"{self.names[i]}: {self.faults[i]}" for i in behind
                                if self.steps[i] < 0)
            if missing and waited > self.patience:
                raise UserError(f"not all workers were there after {self.patience:g} seconds "
                                f"({missing}): start all of TF_CONFIG, and see that its addresses "
                                "can be reached")
            if waited - told >= REMINDER:
                told = waited
                late = ", ".join(self.names[i] for i in behind if self.steps[i] >= 0)
                self.log("Waiting for " + "; and for ".join(
                    filter(None, (missing, late and f"{late}, at work on its ratings"))
                ) + ".")
            time.sleep(0.05)

    def workers(self, distribute: str | None) -> Workers:
        """Return the workers of the cluster, with TensorFlow started on all of them."""
        if not self.started:
            with self.starting_tensorflow():
                self.started = Workers(distribute, self.cluster)
        return self.started

    @contextmanager
    def starting_tensorflow(self) -> Iterator[None]:
        """Within it TensorFlow is to start, at this worker's port; the end of another is heard of
        until that is done."""
        if self.over or self.cluster == Cluster():
            yield
            return
        self.wait("loaded")  # who says "ready" has called all others, so they may close their ports
        self.wait("ready")
        self.close_port()
        # gRPC would send what goes to other workers to a proxy of the environment.
        hosts = (host_and_port(address)[0] for address in self.cluster.addresses)
        os.environ["no_grpc_proxy"] = ",".join(hosts)
        with killed_after(START, "main.py: error: TensorFlow did not start on all workers: one of "
                                 "them died, or cannot be reached; start all again\n"):
            yield
        with self.leaving:
            self.say("started")
            self.over = True
            for each in self.hearers:
                each.close()


WATCH = """
import os, select, signal, sys
if not select.select([0], [], [], float(sys.argv[1]))[0]:
    os.write(2, sys.argv[2].encode())
    os.kill(int(sys.argv[3]), signal.SIGKILL)
"""


@contextmanager
def killed_after(seconds: float, last_words: str) -> Iterator[None]:
    """A block that ends the process if it takes longer. Another process sees to it: TensorFlow
    holds the interpreter's lock while it waits, so no thread of ours and no signal's handler is
    heard."""
    command = [sys.executable, "-I", "-c", WATCH, str(seconds), last_words, str(os.getpid())]
    with subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True):
        yield  # at its end, the pipe is closed, which ends the other process


def listen(cluster: Cluster) -> socket.socket:
    """Return a socket at this worker's port. Raise UserError if it is taken."""
    port = host_and_port(cluster.addresses[cluster.index])[1]
    both = socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            ("", port), family=socket.AF_INET6 if both else socket.AF_INET, dualstack_ipv6=both
        )
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise UserError(f"port {port}, this worker's in TF_CONFIG, cannot be opened ({reason}): "
                        "end what uses it, or choose another for all workers") from error
    listener.settimeout(0.1)  # after which it looks whether it is to be closed
    return listener


def parse(greeting: bytes) -> tuple[int, str, str]:
    """Return the index, digest and number in a worker's first line; of another, no digest."""
    found = re.fullmatch(rb"autorec-worker 1 (\d{1,9}) (\w+) (\w+)\n", greeting)
    return (int(found[1]), found[2].decode(), found[3].decode()) if found else (-1, "", "")


def keep_alive(connection: socket.socket) -> None:
    """Wait for lines as long as the other machine is there."""
    connection.settimeout(None)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEP_ALIVE.items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
