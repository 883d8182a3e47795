"""Ctrl-C and its like, once and twice."""

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
    """The user asked for the end, and what is at work cannot be ended halfway with a result."""


class Interruption:
    """Within it, the first signal only asks: the epoch at work is finished and recorded, and the
    run closes in order. The second ends the process at once.

    Python runs its handlers between two of its instructions, and an epoch is one call into
    TensorFlow. So a thread reads the signals, from a socket that the interpreter writes them to as
    they come. Signals are the main thread's: entered in another one, it leaves them alone.
    """

    def __init__(self) -> None:
        self.number = 0
        self.previous: dict[int, Any] = {}  # the handlers before

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
    """Write to stderr, if anybody is still there to read it. Not print: another thread may be in
    the middle of one, or have stderr held back."""
    with suppress(OSError):
        os.write(STDERR[0], text.encode())
