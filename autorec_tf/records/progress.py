"""The output of a run: its first lines, a live progress line (plain lines if the output is not a
terminal), and its closing lines."""

import shutil
import sys
import time
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autorec_tf.config import FULL_BATCH, Config, point_text
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics
from autorec_tf.presets import SCALED_PRESETS
from autorec_tf.records.run_warnings import advice, first_warnings, last_warnings
from autorec_tf.system.errors import Log
from autorec_tf.system.terminal import print_line

UNKNOWN = "-:--"  # time
CLEAR = "\r\033[K"  # clears the line of a terminal
SHOWN_AFTER = 1  # seconds of a task before it has a live line
# Both axes have up to nine slices each, and one of them may seem worse by chance.
SLICE_RATINGS, NOISE = 100, 3  # the least test ratings, and the least loss in standard errors


class Progress:
    """The progress of a run, written to `stream` or stdout.

    On a terminal it is one live line, in which the most important fields come first, and fields
    that do not fit are left out. Otherwise it is a line for each epoch that was evaluated. `place`
    names the split, if the run has several.
    """

    def __init__(self, place: str = "", stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stdout
        self.live, self.line = self.stream.isatty(), ""
        self.place, self.places, self.purpose = place, [place], ""
        self.config, self.held_out = Config(), "test"
        self.test_rmse: float | None = None
        self.timer = Timer("epoch", 0)

    def begin(self, config: Config, member: str = "", purpose: str = "") -> None:
        """Begin to show a training of `config`, that of `member` in a blend with a `purpose`."""
        self.close()
        self.config, self.test_rmse = config, None
        self.held_out = "validation" if purpose == "for the weights" else "test"
        self.places, self.purpose, self.timer = [self.place, member], purpose, Timer("epoch", 0)

    def begin_member(self, blend: Config, config: Config, purpose: str, number: int) -> None:
        """Begin to show the training of member `number` of `blend` with its own `config`."""
        name = blend.members[number - 1]
        self.begin(config, f"{name} ({number} of {len(blend.members)})", purpose)

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        """Print the validation RMSE of a grid point of --tune."""
        self.print_last(f"{point_text(point)}: validation RMSE {validation_rmse:.4f}")

    def log_chosen(self, point: dict[str, Any]) -> None:
        """Print the grid point with the lowest validation RMSE."""
        self.print_line(f"Chosen by validation RMSE: {point_text(point)}")

    def log(self, metrics: EpochMetrics) -> None:
        """Update the live line; without one, print a line if the epoch was evaluated."""
        self.begin_task("epoch", 0)
        if metrics.test_rmse is not None:
            self.test_rmse = metrics.test_rmse
        left = self.timer.left(metrics.epoch, self.config.train_epoch, metrics.elapsed_seconds)
        fields = self.fields(metrics, left)
        if self.live:
            self.update(fields)
        elif metrics.test_rmse is not None:
            self.print_line("  ".join(fields))

    def fields(self, metrics: EpochMetrics, left: str) -> list[str]:
        """Return the fields of an epoch, the most important one first."""
        config = self.config
        test = "   -  " if self.test_rmse is None else f"{self.test_rmse:.4f}"
        ends_early = bool(config.tolerance or config.patience)
        fields = [counted("epoch", metrics.epoch, config.train_epoch), until_end(left, ends_early),
                  *self.places, f"{self.held_out} RMSE {test}"]
        if metrics.validation_rmse is not None:
            fields.append(f"validation RMSE {metrics.validation_rmse:.4f}")
        if (leaking := metrics.reconstruction_rmse_test_ratings_as_input) is not None:
            fields.append(f"reconstruction RMSE (test ratings as input) {leaking:.4f}")
        fields += [f"train RMSE {metrics.train_rmse:.4f}",
                   f"{clock(metrics.elapsed_seconds)} elapsed", self.purpose]
        if config.optimizer_method not in FULL_BATCH:  # where the rate has little or no effect
            fields.append(f"lr {metrics.learning_rate:.3g}")
        return [field for field in fields if field]

    def count(self, what: str, done: int, total: int, ends_early: bool = False) -> None:
        """Update the live line, if there is one, with `done` of `total` steps of `what`, once they
        have taken `SHOWN_AFTER` seconds. With `ends_early`, it may end before the last step."""
        now = time.perf_counter()
        self.begin_task(what, now)
        left, elapsed = self.timer.left(done, total, now), now - self.timer.started
        if self.live and elapsed > SHOWN_AFTER:
            fields = [counted(what, done, total), until_end(left, ends_early), *self.places,
                      f"{clock(elapsed)} elapsed"]
            self.update([field for field in fields if field])

    def begin_task(self, what: str, now: float) -> None:
        """Begin a new line for the task `what`, unless it is the current one."""
        if what != self.timer.what:
            self.close()
            self.timer = Timer(what, now)

    def update(self, fields: list[str]) -> None:
        """Show the fields that fit into the line, at least one."""
        width = shutil.get_terminal_size().columns - 1
        while len(fields) > 1 and len("  ".join(fields)) > width:
            fields = fields[:-1]
        clear, self.line = self.clear() or CLEAR, "  ".join(fields)[:width]
        print_line(f"{clear}{self.line}", self.stream, "")

    def clear(self) -> str:
        """Return the text that clears the live line, if there is one. A notebook, which does not
        interpret `CLEAR`, would show the end of the line after a shorter text: blanks replace it.
        """
        blanks = "" if self.stream.isatty() else f"{' ' * len(self.line)}{CLEAR}"
        return f"{CLEAR}{blanks}" if self.line else ""

    def print_last(self, text: str) -> None:
        """Print a line in place of the live line."""
        clear, self.line = self.clear(), ""
        print_line(f"{clear}{text}", self.stream)

    def print_line(self, text: str) -> None:
        """Print a line above the live line."""
        print_line(f"{self.clear()}{text}\n{self.line}", self.stream, "")

    def close(self) -> None:
        """End the live line, which stays visible."""
        if self.line:
            print_line("", self.stream)
        self.line = ""


class Timer:
    """The time left of a task named `what`. The first step is not extrapolated: TensorFlow compiles
    in it. `started` is in seconds."""

    def __init__(self, what: str, started: float) -> None:
        self.what, self.started = what, started
        self.first: tuple[int, float] | None = None

    def left(self, done: int, total: int, now: float) -> str:
        """Return the time until `total` steps are done, if `done` are done at second `now`."""
        if not self.first:
            self.first = done, now
        steps, seconds = done - self.first[0], now - self.first[1]
        if done >= total:
            return clock(0)
        return clock(seconds / steps * (total - done)) if steps > 0 else UNKNOWN


def counted(what: str, done: int, total: int) -> str:
    """Return the number of steps done, in a fixed width."""
    return f"{what} {done:{len(f'{total:,}')},}/{total:,}"


def until_end(left: str, ends_early: bool) -> str:
    """Return the time left, as an upper bound if `ends_early`."""
    return f"up to {left} left" if ends_early and left != UNKNOWN else f"{left} left"


def clock(seconds: float) -> str:
    """Return seconds as m:ss, or h:mm:ss from one hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def headline(config: Config, ratings: Ratings, split: Split) -> str:
    """Return the lines that describe data, split, model and training."""
    split_rule = f"random, seed {config.split_seed}"
    if config.test_file or config.split == "time":
        split_rule = f"by {config.test_file or config.split}"
    elif config.folds:
        split_rule = f"fold {config.folds[0]}"
    elif config.fold:
        split_rule = f"fold {config.fold} of {config.num_folds}, seed {config.split_seed}"
    if config.start_from and not config.test_file:
        split_rule = f"as in {config.start_from}, new ratings {split_rule}"
    (low, high), mean = ratings.scale, ratings.values.mean(dtype=np.float64)
    lines = [
        f"Data: {ratings.name}, {ratings.num_users:,} users x {ratings.num_items:,} items, "
        f"ratings {low:.6g} to {high:.6g}, mean {mean:.6g}",
        f"Split: {len(split.train):,} training and {len(split.test):,} test ratings, {split_rule}",
    ]
    if config.members:
        lines.append(f"Model: AutoRec, a blend of {', '.join(config.members)}")
    else:
        model = ", ".join(map(str, config.hidden_neuron)) + " hidden units"
        model += ", one-hot inputs" * (config.input_encoding == "one_hot")
        model += ", normalised inputs" * bool(config.input_scale)
        model += ", leave-one-out" * config.leave_one_out
        model += {"own": "", "biased": ", row biases", "svdpp": ", SVD++ decoder"}[config.decoder]
        rates = f"lr {config.base_lr:g} x {config.decay_rate:g} every"
        rates += f" {config.decay_epoch_step} epochs"
        if config.lr_schedule == "cosine":
            rates = f"lr {config.base_lr:g}, cosine"
        rates += " after warm-up" * bool(config.warmup_epoch)
        rates += ", averaged" * bool(config.average_decay)
        if config.optimizer_method in FULL_BATCH:  # where the rates have little or no effect
            rates = "full batch"
        if config.optimizer_method == "LBFGS":
            rates += f", history of {config.lbfgs_memory} pairs"
        lines.append(f"Model: AutoRec, {config.orientation} rows, {model}")
        strength = f"{config.lambda_value:g}" if "lambda_value" not in config.tune else "tuned"
        if config.lambda_exponent:
            strength += f", exponent {config.lambda_exponent:g}"
        lines.append(f"Training: {config.optimizer_method}, {rates}, lambda {strength} "
                     f"({config.regularization} rule)")
    if config.tune and not config.members:
        lines.append(f"Tuned on validation ratings: {', '.join(config.tune)}")
    by_grid = config.tune and config.optimizer_method not in FULL_BATCH
    is_scaled = config.members or by_grid or config.preset in SCALED_PRESETS
    if is_scaled and config.lambda_factor not in (None, 1.0):
        lines.append(f"Lambdas of the plain rule: x {config.lambda_factor:.3g}, adapted to the "
                     "ratings per column")
    return "\n".join(lines)


def announce(config: Config, ratings: Ratings, split: Split, log: Log) -> None:
    """Log the first lines of a run, the warnings before training, and the advice."""
    log(headline(config, ratings, split))
    for warning in first_warnings(config, ratings, split):
        log(warning)
    if not config.start_from and (line := advice(config, ratings, split)):
        log(line)


def closing_lines(summary: dict[str, Any], folder: Path, resume: str) -> str:
    """Return the result, the run folder, and the `resume` command of an interrupted run."""
    lines = []
    if "final_test_rmse" in summary:
        epoch = f" after epoch {summary['final_test_epoch']}" if "epochs" in summary else ""
        honest = "Honest test RMSE" if RECONSTRUCTION in summary else "Test RMSE"
        lines.append(f"{honest} {summary['final_test_rmse']:.4f}, MAE "
                     f"{summary['final_test_mae']:.4f}{epoch} ({summary['test_ratings']:,} test "
                     f"ratings, {summary['cold_test_ratings']} cold).")
    if summary.get("converged"):
        lines.append("Training stopped because the objective has converged (--tolerance).")
    if "biases_test_rmse" in summary:
        lines.append(f"Test RMSE without a model: biases {summary['biases_test_rmse']:.4f}, "
                     f"mean rating {summary['global_mean_test_rmse']:.4f}.")
        lines += worst_slice(summary)
    if summary.get("ranked_users"):
        num_users = summary["ranked_users"]
        users = f"{num_users:,} users"
        if (drawn_from := summary.get("ranked_users_drawn_from", 0)) > num_users:
            users += f", drawn from {drawn_from:,} (--ranked_users)"
        lines.append(f"{ranking_scores(summary, '')} over {users}.")
        lines.append(f"Ranking by popularity: {ranking_scores(summary, 'popularity_')}.")
    if RECONSTRUCTION in summary:
        lines.append(f"Reconstruction RMSE (test ratings as input) {summary[RECONSTRUCTION]:.4f}: "
                     "not a prediction,\nbut the measure of the earlier TensorFlow 1 program.")
    if summary["status"] == "interrupted":
        lines.append(
            f"Interrupted after epoch {summary['epochs']}; all records are written."
            if "epochs" in summary
            else "Interrupted before the run had a result."
        )
        lines.append(f"Resume with: {resume}")
    lines.append(f"Results: {folder}")
    lines += [f"warning: {warning}" for warning in last_warnings(summary)]
    return "\n".join(lines)


def ranking_scores(summary: Mapping[str, Any], prefix: str) -> str:
    """Return the scores of a ranking, whose names in the summary begin with `prefix`."""
    ndcg, recall, coverage = (summary[f"{prefix}{name}_at_10"]
                              for name in ("ndcg", "recall", "coverage"))
    return f"NDCG@10 {ndcg:.4f}, Recall@10 {recall:.4f}, coverage {100 * coverage:.1f} %"


def worst_slice(summary: Mapping[str, Any]) -> list[str]:
    """Return a line about the slice in which the model loses most to the biases, if it loses in any
    slice of `SLICE_RATINGS` or more test ratings by more than `NOISE` standard errors."""
    losses = [
        (part["test_ratings"] * (part["rmse"] ** 2 - part["biases_rmse"] ** 2), axis, part)
        for axis in ("user", "item") for part in summary[f"by_training_ratings_of_the_{axis}"]
        if part["test_ratings"] >= SLICE_RATINGS and part["difference_standard_error"] is not None
        and part["rmse"] - part["biases_rmse"] > NOISE * part["difference_standard_error"]
    ]
    if not losses:
        return []
    _, axis, part = max(losses, key=itemgetter(0))
    return [f"Worse than the biases for {axis}s {with_ratings(part['training_ratings'])}:\n"
            f"{part['rmse']:.4f} against {part['biases_rmse']:.4f} "
            f"({part['test_ratings']:,} test ratings)."]


def with_ratings(label: str) -> str:
    """Return the label of a slice (`Slice.label`) in words."""
    if label == "0":
        return "without training ratings"
    number = label.replace("+", " or more").replace("–", " to ")
    return f"with {number} training ratings"
