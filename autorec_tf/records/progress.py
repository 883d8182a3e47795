"""What a person sees of a run: its headline, one live line, or plain lines where output is no
terminal, and its closing lines."""

import shutil
import sys
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from autorec_tf.config import FULL_BATCH, Config
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics, cold_pairs
from autorec_tf.system.terminal import print_line


class Progress:
    """Progress of a run of `epochs` epochs on `dataset`, written to `stream`."""

    def __init__(self, dataset: str, epochs: int, stream: TextIO | None = None) -> None:
        self.dataset, self.epochs = dataset, epochs
        self.stream = stream or sys.stdout
        self.live = self.stream.isatty()
        self.held_out, self.line = "test", ""
        self.test_rmse: float | None = None

    def begin(self, name: str, epochs: int, held_out: str = "test") -> None:
        """Go over to the training `name`, if it is another; `held_out` names its test side."""
        if name != self.dataset:
            self.close()
            self.dataset, self.epochs, self.held_out, self.test_rmse = name, epochs, held_out, None

    def begin_member(self, dataset: str, config: Config, purpose: str, number: int) -> None:
        """Show the training of a blend's model from now on."""
        held_out = "validation" if purpose == "for the weights" else "test"
        self.begin(f"{dataset}{purpose}, model {number}", config.train_epoch, held_out)

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        """Print the validation RMSE of a point of --tune's grid."""
        values = ", ".join(f"{name} {value:g}" for name, value in point.items())
        self.print_line(f"{values}: validation RMSE {validation_rmse:.4f}")

    def log(self, metrics: EpochMetrics) -> None:
        """Renew the live line; where there is none, print a line if the epoch was evaluated."""
        if metrics.test_rmse is not None:
            self.test_rmse = metrics.test_rmse
        if self.live:
            self.renew(self.describe(metrics))
        elif metrics.test_rmse is not None:
            self.print_line(self.describe(metrics))

    def count(self, done: int, total: int, seconds: float) -> None:
        """Renew the live line, if there is one, with what is done of `total`, and the seconds."""
        if self.live:
            left = seconds / max(done, 1) * (total - done)
            times = f"{clock(seconds)} elapsed  {clock(left)} left"
            self.renew(f"{self.dataset}  {done:,}/{total:,}  {times}")

    def renew(self, text: str) -> None:
        self.line = text[: shutil.get_terminal_size().columns - 1]
        print_line(f"\r\033[K{self.line}", self.stream, "")

    def describe(self, metrics: EpochMetrics) -> str:
        left = metrics.elapsed_seconds / metrics.epoch * (self.epochs - metrics.epoch)
        width = len(str(self.epochs))
        test = "   -  " if self.test_rmse is None else f"{self.test_rmse:.4f}"
        if metrics.validation_rmse is not None:
            test += f"  validation RMSE {metrics.validation_rmse:.4f}"
        if (leaking := metrics.reconstruction_rmse_test_ratings_as_input) is not None:
            test += f"  reconstruction RMSE (test ratings as input) {leaking:.4f}"
        return (
            f"{self.dataset}  epoch {metrics.epoch:{width}}/{self.epochs}  "
            f"train RMSE {metrics.train_rmse:.4f}  {self.held_out} RMSE {test}  "
            f"lr {metrics.learning_rate:.3g}  {clock(metrics.elapsed_seconds)} elapsed  "
            f"{clock(left)} left"
        )

    def print_line(self, text: str) -> None:
        """Print a line of its own, above the live line."""
        clear = "\r\033[K" if self.line else ""
        print_line(f"{clear}{text}\n{self.line}", self.stream, "")

    def close(self) -> None:
        """End the live line; it stays readable."""
        if self.line:
            print_line("", self.stream)
        self.line = ""


def clock(seconds: float) -> str:
    """Return seconds as m:ss, or h:mm:ss from one hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def headline(config: Config, ratings: Ratings, split: Split) -> str:
    """Return what is going to be trained on what, in two lines."""
    how = f"split {config.split_seed}"
    if config.test_file or config.split == "time":
        how = f"split by {config.test_file or config.split}"
    elif config.folds:
        how = f"fold {config.folds[0]}"
    elif config.fold:
        how = f"fold {config.fold} of {config.num_folds} of split {config.split_seed}"
    scale, mean = ratings.scale, ratings.values.mean(dtype=np.float64)
    data = "\n".join([
        f"Data: {ratings.name}, {ratings.num_users:,} users x {ratings.num_items:,} items, "
        f"{len(split.train):,} training and {len(split.test):,} test ratings, {how}",
        f"Ratings: {scale[0]:.6g} to {scale[1]:.6g}, mean {mean:.6g}",
        *likely_mistakes(ratings, split),
    ])
    fitted = ""
    if (config.members or config.tune) and config.lambda_factor not in (None, 1.0):
        fitted = f"\nPlain lambdas x {config.lambda_factor:.3g}, for the ratings of a column here"
    if config.members:
        return f"{data}\nModels: AutoRec, {', '.join(config.members)}, blended{fitted}"
    hidden = ", ".join(map(str, config.hidden_neuron))
    hidden += " hidden units" + ", one-hot inputs" * (config.input_encoding == "one_hot")
    hidden += ", leaving one out" * config.leave_one_out
    hidden += ", SVD++'s decoder" * (config.decoder == "svdpp")
    rates = f" {config.base_lr:g} x {config.decay_rate:g} every {config.decay_epoch_step} epochs"
    if config.optimizer_method in FULL_BATCH:  # to which they mean little or nothing
        rates = ", full batch"
    tuned = f"\nTo be chosen by validation: {', '.join(config.tune)}" if config.tune else ""
    return (
        f"{data}\nModel: AutoRec, {config.orientation} rows, {hidden}, "
        f"{config.regularization} lambda {config.lambda_value:g}, {config.optimizer_method}{rates}"
        f"{tuned}{fitted}"
    )


def likely_mistakes(ratings: Ratings, split: Split) -> list[str]:
    """Return a line for each thing that is almost surely a mistake."""
    lines = []
    test, values = split.test, ratings.values
    cold = int(cold_pairs(split.train, test.rows, test.indices).sum())
    if cold > len(test) / 2:
        lines.append(f"warning: {cold:,} of {len(test):,} test ratings are of a user or an item "
                     "without training ratings: are ids spelled alike in both files?")
    if ratings.num_users == len(ratings) > 1:
        lines.append("warning: nobody rates twice: is the column of users one of row numbers? Name "
                     "the columns with --columns")
    low, high = np.quantile(values, [0.01, 0.99])
    if high - low < (values.max() - values.min()) / 2 and len(values) >= 100:
        lines.append(f"warning: all but a few ratings are {low:.6g} to {high:.6g}: if others are "
                     "none, leave them out with --no_rating, or say what the scale is with "
                     "--rating_scale")
    return lines


def closing_lines(summary: dict[str, Any], folder: Path, go_on: str) -> str:
    """Return the result, where it lies, and how to `go_on` after an interruption."""
    lines = []
    if "final_test_rmse" in summary:
        epoch = f" after epoch {summary['final_test_epoch']}" if "epochs" in summary else ""
        honest = "Honest test RMSE" if RECONSTRUCTION in summary else "Test RMSE"
        lines.append(f"{honest} {summary['final_test_rmse']:.4f}, MAE "
                     f"{summary['final_test_mae']:.4f}{epoch} ({summary['test_ratings']:,} test "
                     f"ratings, {summary['cold_test_ratings']} cold).")
    if "biases_test_rmse" in summary:
        lines.append(f"Without a model: user and item biases {summary['biases_test_rmse']:.4f}, "
                     f"the mean rating {summary['global_mean_test_rmse']:.4f}.")
        remedy = ("train longer, try another --lambda_value, or let validation choose, as --preset "
                  "paper does.")
        if summary["cold_test_ratings"] > summary["test_ratings"] / 2:
            remedy = "most test ratings are cold, and what is learned does not reach them."
        if not summary["final_test_rmse"] < summary["biases_test_rmse"]:
            lines.append(f"This is no better than the biases: {remedy}")
    if summary.get("ranked_users"):
        num_users = summary["ranked_users"]
        users = f"{num_users:,} users"
        if (drawn_from := summary.get("ranked_users_drawn_from", 0)) > num_users:
            users += f", drawn from {drawn_from:,} (--ranked_users)"
        lines.append(f"NDCG@10 {summary['ndcg_at_10']:.4f}, Recall@10 "
                     f"{summary['recall_at_10']:.4f} over {users}.")
    if RECONSTRUCTION in summary:
        lines.append(f"Reconstruction RMSE (test ratings as input) {summary[RECONSTRUCTION]:.4f}: "
                     "the earlier program's measure, no prediction.")
    if summary["status"] == "interrupted":
        lines.append(
            f"Interrupted after epoch {summary['epochs']}; its records are complete."
            if "epochs" in summary
            else "Interrupted before there was a result."
        )
        lines.append(f"To go on: {go_on}")
    lines.append(f"Results: {folder}")
    if summary["dataset"] == "synthetic":
        lines.append("These ratings were synthetic: the RMSE says nothing about MovieLens.")
    return "\n".join(lines)
