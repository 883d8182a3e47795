"""Train AutoRec and record the run.

    python main.py                            # item-based AutoRec on MovieLens-1M, 500 epochs
    python main.py --orientation user --train_epoch 100
    python main.py --help                     # every setting and its default

Leaves a folder under results/ and a Comet experiment (an offline archive without an API key).
Exit codes: 0 finished, 2 unusable input, 130 ended by Ctrl-C with its records written.
"""

import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from typing import Any

from config import Config, parse_arguments
from data_preprocessor import Ratings, Split, load_ratings, split_ratings
from errors import run_program
from figure import draw_rmse
from progress import Progress
from records import RunFolder, default_name, environment, summarize
from runtime import num_threads, start_tensorflow
from scoring import cold_pairs
from tracking import Tracker, require_key


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    config = parse_arguments(arguments)
    return run_program("main.py", lambda: run(config))


def run(config: Config) -> int:
    """Ratings to split to model to epochs to records. Raises UserError for unusable input."""
    started = time.perf_counter()
    if config.comet == "online":
        require_key()
    ratings = load_ratings(config.dataset, config.ratings_folder(), config.random_seed)
    config = resolve(config, ratings)
    split = split_ratings(ratings, config.train_ratio, config.split_seed, config.orientation)
    folder = RunFolder(config.results_dir, config.run_name)
    print(headline(config, ratings, split))

    start_tensorflow()
    # Imported here, so that --help need not wait for TensorFlow.
    from AutoRec import AutoRec, choose_engine
    from training import epochs

    config = replace(config, engine=choose_engine(config, split.train.density))
    model = AutoRec(split.train.num_columns, config, ratings.scale, num_threads())

    progress = Progress(ratings.name, config.train_epoch)
    with Interruption() as interruption, ExitStack() as stack:
        folder.create()
        stack.callback(folder.close)
        progress.say(f"Run folder: {folder.path}")
        tracker = Tracker(config.comet, config.run_name, folder.path, progress.say)
        stack.callback(tracker.close)  # also after an error, for the sake of its archive
        facts = config.recorded() | describe(ratings, split) | {"threads": num_threads()}
        folder.write_json("config.json", facts | environment())
        tracker.log_parameters(facts)
        for metrics in epochs(model, split):
            folder.add(metrics)
            tracker.log_metrics(asdict(metrics), metrics.epoch)
            progress.show(metrics)
            if interruption.requested:
                break
        progress.close()

        seconds = time.perf_counter() - started
        summary = summarize(folder.metrics, config.train_epoch, facts, seconds)
        folder.write_text_records(config)
        folder.write_json("summary.json", summary)
        model.save(folder.path / "parameters")
        draw_rmse(folder.path / "rmse.png", folder.metrics, ratings.name, config.orientation)
        tracker.log_figure(folder.path / "rmse.png")
        tracker.log_summary(summary)
    print(closing_lines(summary, folder))
    return 130 if interruption.requested else 0


def resolve(config: Config, ratings: Ratings) -> Config:
    """`config` with what it left open filled in, so that the record says what was done."""
    split_seed = config.random_seed if config.split_seed is None else config.split_seed
    config = replace(config, dataset=ratings.name, split_seed=split_seed)
    return replace(config, run_name=config.run_name or default_name(config))


def describe(ratings: Ratings, split: Split) -> dict[str, Any]:
    """The facts about the data that every record repeats."""
    test = split.test
    return {
        "num_users": ratings.num_users,
        "num_items": ratings.num_items,
        "num_ratings": len(ratings),
        "train_ratings": len(split.train),
        "test_ratings": len(test),
        "cold_test_ratings": int(cold_pairs(split.train, test.rows, test.indices).sum()),
        "rating_scale": list(ratings.scale),
        "fingerprint": ratings.fingerprint,
    }


def headline(config: Config, ratings: Ratings, split: Split) -> str:
    """What is going to be trained on what, in two lines."""
    return (
        f"Data: {ratings.name}, {ratings.num_users:,} users x {ratings.num_items:,} items, "
        f"{len(split.train):,} training and {len(split.test):,} test ratings\n"
        f"Model: AutoRec, {config.orientation} rows, {config.hidden_neuron} hidden units, "
        f"{config.regularization} lambda {config.lambda_value:g}, {config.optimizer_method} "
        f"{config.base_lr:g} x {config.decay_rate:g} every {config.decay_epoch_step} epochs"
    )


def closing_lines(summary: dict[str, Any], folder: RunFolder) -> str:
    """The result and where it lies; last, that it is not MovieLens' if it is not."""
    lines = []
    if "final_test_rmse" in summary:
        lines.append(
            f"Test RMSE {summary['final_test_rmse']:.4f}, MAE {summary['final_test_mae']:.4f} "
            f"after epoch {summary['final_test_epoch']} "
            f"({summary['test_ratings']:,} test ratings, {summary['cold_test_ratings']} cold)."
        )
    if summary["status"] == "interrupted":
        lines.append(f"Interrupted after epoch {summary['epochs']}; its records are complete.")
    lines.append(f"Results: {folder.path}")
    if summary["dataset"] == "synthetic":
        lines.append("These ratings were synthetic: the RMSE says nothing about MovieLens.")
    return "\n".join(lines)


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


if __name__ == "__main__":
    sys.exit(main())
