"""Ctrl-C, once and twice."""

import os
import signal


class Interrupted(Exception):
    """The user asked for the end, and what is at work cannot be ended halfway with a result."""


class Interruption:
    """Within it, the first Ctrl-C only asks: the epoch at work is finished and recorded, and
    the run closes in order. The second raises KeyboardInterrupt at once."""

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "Interruption":
        self.previous = signal.signal(signal.SIGINT, self.request)
        return self

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGINT, self.previous)

    def request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        # Not print: the signal may have come in the middle of one.
        os.write(2, b"\nFinishing this epoch; press Ctrl-C again to stop at once.\n")
