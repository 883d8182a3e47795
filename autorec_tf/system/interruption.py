"""Ctrl-C, SIGTERM and SIGHUP: the first stops after the epoch, the second at once."""

import os
import signal
import socket
import threading
from contextlib import suppress
from typing import Any

from autorec_tf.system.runtime import STDERR

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP")
           if hasattr(signal, name)]


class Interrupted(Exception):
    """The user has asked the run to stop during work that has no partial result."""


class Interruption:
    """A context in which the first signal requests a stop: the current epoch is finished and
    recorded, and the run closes its records. The second signal ends the process at once.

    Python runs signal handlers between two bytecode instructions, and an epoch is a single call
    into TensorFlow. So a thread reads the signals from a socket, to which the interpreter writes
    them immediately. Only the main thread can set handlers: in another thread, this does nothing.
    """

    def __init__(self) -> None:
        self.number = 0
        self.previous: dict[int, Any] = {}  # the previous handlers

    @property
    def requested(self) -> bool:
        return bool(self.number)

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is not threading.main_thread():
            return self
        self.reader, self.writer = socket.socketpair()
        self.writer.setblocking(False)
        self.previous = {each: signal.signal(each, lambda *_: None) for each in SIGNALS}
        self.previous_fd = signal.set_wakeup_fd(self.writer.fileno())
        threading.Thread(target=self.watch, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        if not self.previous:
            return
        signal.set_wakeup_fd(self.previous_fd)
        for each, handler in self.previous.items():
            signal.signal(each, handler)
        self.writer.close()  # which ends the thread

    def watch(self) -> None:
        with self.reader:
            while number := self.reader.recv(1):
                self.request(number[0])

    def request(self, number: int) -> None:
        if number not in SIGNALS:
            return
        if self.requested:
            warn("\nStopped at once.\n")
            os._exit(128 + number)
        self.number = number
        warn("\nFinishing this epoch; press Ctrl-C again to stop at once.\n")


def warn(text: str) -> None:
    """Write to stderr, ignoring errors. Not print: another thread may be in the middle of a print,
    or may have redirected stderr."""
    with suppress(OSError):
        os.write(STDERR[0], text.encode())
