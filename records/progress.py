"""What a person sees while a run goes on: one live line, or plain lines where output is no
terminal."""

import os
import shutil
import sys
from typing import TextIO

from evaluation.metrics import EpochMetrics


class Progress:
    """Progress of a run of `epochs` epochs on `dataset`, written to `stream`."""

    def __init__(self, dataset: str, epochs: int, stream: TextIO | None = None) -> None:
        self.dataset, self.epochs = dataset, epochs
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.held_out, self.test_rmse = "test", None
        self.line = ""

    def begin(self, name: str, epochs: int, held_out: str = "test") -> None:
        """Go over to the training called `name`, if it is another one than before; `held_out`
        says what the ratings on its test side are."""
        if name != self.dataset:
            self.close()
            self.dataset, self.epochs, self.held_out, self.test_rmse = name, epochs, held_out, None

    def show(self, metrics: EpochMetrics) -> None:
        """Renew the live line; where there is none, print a line if the epoch was evaluated."""
        if metrics.test_rmse is not None:
            self.test_rmse = metrics.test_rmse
        if not self.live:
            if metrics.test_rmse is not None:
                self.say(self.describe(metrics))
            return
        self.renew(self.describe(metrics))

    def count(self, done: int, total: int, seconds: float) -> None:
        """Renew the live line, if there is one, of something else than epochs: so many of `total`
        done in so many seconds."""
        if self.live:
            left = seconds / max(done, 1) * (total - done)
            self.renew(
                f"{self.dataset}  {done:,}/{total:,}  {clock(seconds)} elapsed  {clock(left)} left"
            )

    def renew(self, text: str) -> None:
        self.line = text[: shutil.get_terminal_size().columns - 1]
        tell(f"\r\033[K{self.line}", self.stream, "")

    def describe(self, metrics: EpochMetrics) -> str:
        left = metrics.elapsed_seconds / metrics.epoch * (self.epochs - metrics.epoch)
        width = len(str(self.epochs))
        test = "   -  " if self.test_rmse is None else f"{self.test_rmse:.4f}"
        if metrics.validation_rmse is not None:
            test += f"  validation RMSE {metrics.validation_rmse:.4f}"
        if metrics.reconstruction_rmse_test_ratings_as_input is not None:
            leaking = metrics.reconstruction_rmse_test_ratings_as_input
            test += f"  reconstruction RMSE (test ratings as input) {leaking:.4f}"
        return (
            f"{self.dataset}  epoch {metrics.epoch:{width}}/{self.epochs}  "
            f"train RMSE {metrics.train_rmse:.4f}  {self.held_out} RMSE {test}  "
            f"lr {metrics.learning_rate:.3g}  {clock(metrics.elapsed_seconds)} elapsed  "
            f"{clock(left)} left"
        )

    def say(self, text: str) -> None:
        """Print a line of its own, above the live line."""
        clear = "\r\033[K" if self.line else ""
        tell(f"{clear}{text}\n{self.line}", self.stream, "")

    def close(self) -> None:
        """End the live line; it stays readable."""
        if self.line:
            tell("", self.stream)
        self.line = ""


def tell(text: str, stream: TextIO | None = None, end: str = "\n") -> None:
    """Print at once. When nobody reads any more, nothing is said, and the run goes on."""
    stream = stream or sys.stdout
    try:
        print(text, end=end, file=stream, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def clock(seconds: float) -> str:
    """Seconds as m:ss, or h:mm:ss from one hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
