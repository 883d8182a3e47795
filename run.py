"""One run: a split of the ratings to a model, or several, to results and their records."""

import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from config import Config
from data_preprocessor import Ratings, Split, split_ratings
from figure import draw_rmse, draw_slices
from interruption import Interrupted, Interruption
from progress import Progress
from records import (
    RECONSTRUCTION,
    EpochMetrics,
    RunFolder,
    environment,
    peak_memory_mb,
    results,
    slice_rows,
    write_csv,
)
from runtime import num_threads, start_tensorflow
from scoring import cold_pairs
from tracking import Tracker

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.


def run_split(
    config: Config, ratings: Ratings, interruption: Interruption, started: float
) -> dict[str, Any]:
    """Run `config` on its split and return the summary that the run folder holds.

    `started` is when the user's waiting began (time.perf_counter). Raises UserError if the
    settings do not fit the data or the machine, before anything is written.
    """
    split = split_ratings(
        ratings, config.train_ratio, config.split_seed, config.orientation, config.validation_ratio
    )
    folder = RunFolder(config.results_dir, config.run_name)
    print(headline(config, ratings, split))
    start_tensorflow()
    from AutoRec import choose_engine

    config = replace(config, engine=choose_engine(config, split.train.density))
    progress = Progress(ratings.name, config.train_epoch)
    with ExitStack() as stack:
        folder.create()
        progress.say(f"Run folder: {folder.path}")
        tracker = Tracker(config.comet, config.run_name, folder.path, progress.say)
        stack.callback(tracker.close)  # also after an error, for the sake of its archive
        run = Run(config, ratings, split, folder, tracker, progress, interruption)
        summary = {"status": "interrupted", "dataset": ratings.name, "preset": config.preset}
        try:
            summary |= run.blend() if config.members else run.train()
        except Interrupted:
            progress.close()
        summary |= {
            "test_ratings": len(split.test),
            "cold_test_ratings": run.facts["cold_test_ratings"],
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mb": peak_memory_mb(),
        }
        folder.write_json("summary.json", summary)
        tracker.log_summary(summary)
    print(closing_lines(summary, folder))
    return summary


@dataclass
class Run:
    """What is trained, and where its records go."""

    config: Config
    ratings: Ratings
    split: Split
    folder: RunFolder
    tracker: Tracker
    progress: Progress
    interruption: Interruption

    @property
    def facts(self) -> dict[str, Any]:
        """The facts about data and machine that every record repeats."""
        train, test = self.split.train, self.split.test
        return {
            "num_users": self.ratings.num_users,
            "num_items": self.ratings.num_items,
            "num_ratings": len(self.ratings),
            "train_ratings": len(train),
            "test_ratings": len(test),
            "cold_test_ratings": int(cold_pairs(train, test.rows, test.indices).sum()),
            "rating_scale": list(self.ratings.scale),
            "fingerprint": self.ratings.fingerprint,
            "threads": num_threads(),
        }

    def train(self) -> dict[str, Any]:
        """Train one model, its settings chosen first if `--tune` asks for that."""
        from batch import sparse_rows
        from evaluation import user_blocks
        from experiments import build, reconstruction
        from training import epochs

        self.tune()
        self.record_settings()
        config, folder = self.config, self.folder
        model = build(config, self.split, self.ratings.scale, num_threads())
        leaking = reconstruction(model, self.split) if config.score_reconstruction else None
        with closing(epochs(model, self.split, leaking)) as every_epoch:
            for metrics in every_epoch:
                self.record(metrics)
                if self.interruption.requested:
                    break
        self.progress.close()

        folder.write_text_records(config)
        model.save(folder.path / "parameters")
        draw_rmse(folder.path / "rmse.png", folder.metrics, self.ratings.name, config.orientation)
        self.tracker.log_figure(folder.path / "rmse.png")
        found = results(folder.metrics)
        ended_early = self.interruption.requested and len(folder.metrics) < config.train_epoch
        status = "interrupted" if ended_early else "finished"
        found |= {"status": status, "epochs": len(folder.metrics)}
        if "final_validation_rmse" not in found:  # which chose an epoch; otherwise it is the last
            found["final_test_epoch"] = len(folder.metrics)
        if leaking:
            found[RECONSTRUCTION] = leaking().rmse
        split, test = self.split, self.split.test
        predictions = model.predict(sparse_rows(split.train), test.rows, test.indices)
        blocks = user_blocks(model, split, config.orientation)
        return found | self.judge(split, predictions, blocks, config.orientation)

    def tune(self) -> None:
        """Choose the settings in `config.tune` by validation ratings, and keep the table."""
        from experiments import tune

        if not self.config.tune:
            return
        rows = []
        for point, rmse in tune(self.config, self.ratings, num_threads()):
            rows.append(point | {"validation_rmse": round(rmse, 5)})
            values = ", ".join(f"{name} {value:g}" for name, value in point.items())
            self.progress.say(f"{values}: validation RMSE {rmse:.4f}")
            if self.interruption.requested:
                raise Interrupted
        write_csv(self.folder.path / "tuning.csv", rows)
        best = min(rows, key=lambda row: row["validation_rmse"])
        self.config = replace(self.config, **{name: best[name] for name in self.config.tune})

    def blend(self) -> dict[str, Any]:
        """Train several models and blend them."""
        from experiments import blend

        self.record_settings()

        def watch(label: str, config: Config, metrics: EpochMetrics) -> None:
            self.progress.begin(f"{self.ratings.name}, {label}", config.train_epoch)
            self.progress.show(metrics)
            if self.interruption.requested:
                raise Interrupted

        members, predictions, split = blend(self.config, self.ratings, num_threads(), watch)
        self.progress.close()
        write_csv(self.folder.path / "members.csv", [member.row() for member in members])
        for number, member in enumerate(members, 1):
            member.model.save(self.folder.path / f"parameters_{number}")

        def predict_block(first: int, last: int) -> np.ndarray:
            return sum(member.weight * member.predict_block(first, last) for member in members)

        return {"status": "finished"} | self.judge(split, predictions, predict_block, "item")

    def judge(
        self,
        split: Split,
        predictions: np.ndarray,
        predict_block: Callable[[int, int], np.ndarray],
        orientation: str,
    ) -> dict[str, Any]:
        """What raw `predictions` of the test ratings are worth, all in all and by slices, and
        what the ranking of all items is; the slices are drawn, too."""
        from evaluation import ranked, scores, sliced

        scale = self.ratings.scale
        total = scores(split, predictions, scale)
        parts = sliced(split, predictions, scale, orientation)
        ranking = ranked(split, predict_block, orientation)
        path = self.folder.path / "slices.png"
        draw_slices(path, parts["user"], parts["item"], self.ratings.name, self.config.orientation)
        self.tracker.log_figure(path)
        return {
            "final_test_rmse": total.rmse,
            "final_test_mae": total.mae,
            "ndcg_at_10": ranking.ndcg if ranking.num_users else None,
            "recall_at_10": ranking.recall if ranking.num_users else None,
            "ranked_users": ranking.num_users,
            "by_training_ratings_of_the_user": slice_rows(parts["user"]),
            "by_training_ratings_of_the_item": slice_rows(parts["item"]),
        }

    def record_settings(self) -> None:
        facts = self.config.recorded() | self.facts
        self.folder.write_json("config.json", facts | environment())
        self.tracker.log_parameters(facts)

    def record(self, metrics: EpochMetrics) -> None:
        self.folder.add(metrics)
        self.tracker.log_metrics(asdict(metrics), metrics.epoch)
        self.progress.show(metrics)


def headline(config: Config, ratings: Ratings, split: Split) -> str:
    """What is going to be trained on what, in two lines."""
    data = (
        f"Data: {ratings.name}, {ratings.num_users:,} users x {ratings.num_items:,} items, "
        f"{len(split.train):,} training and {len(split.test):,} test ratings, "
        f"split {config.split_seed}"
    )
    if config.members:
        return f"{data}\nModels: AutoRec, {', '.join(config.members)}, blended"
    hidden = ", ".join(map(str, config.hidden_neuron))
    tuned = f"\nTo be chosen by validation: {', '.join(config.tune)}" if config.tune else ""
    return (
        f"{data}\nModel: AutoRec, {config.orientation} rows, {hidden} hidden units, "
        f"{config.regularization} lambda {config.lambda_value:g}, {config.optimizer_method} "
        f"{config.base_lr:g} x {config.decay_rate:g} every {config.decay_epoch_step} epochs{tuned}"
    )


def closing_lines(summary: dict[str, Any], folder: RunFolder) -> str:
    """The result and where it lies; last, that it is not MovieLens' if it is not."""
    lines = []
    if "final_test_rmse" in summary:
        epoch = f" after epoch {summary['final_test_epoch']}" if "epochs" in summary else ""
        honest = "Honest test RMSE" if RECONSTRUCTION in summary else "Test RMSE"
        lines.append(
            f"{honest} {summary['final_test_rmse']:.4f}, MAE {summary['final_test_mae']:.4f}"
            f"{epoch} ({summary['test_ratings']:,} test ratings, "
            f"{summary['cold_test_ratings']} cold)."
        )
    if summary.get("ranked_users"):
        lines.append(
            f"NDCG@10 {summary['ndcg_at_10']:.4f}, Recall@10 {summary['recall_at_10']:.4f} "
            f"over {summary['ranked_users']:,} users."
        )
    if RECONSTRUCTION in summary:
        lines.append(
            f"Reconstruction RMSE (test ratings as input) {summary[RECONSTRUCTION]:.4f}: "
            "the earlier program's measure, no prediction."
        )
    if summary["status"] == "interrupted":
        lines.append(
            f"Interrupted after epoch {summary['epochs']}; its records are complete."
            if "epochs" in summary
            else "Interrupted before there was a result."
        )
    lines.append(f"Results: {folder.path}")
    if summary["dataset"] == "synthetic":
        lines.append("These ratings were synthetic: the RMSE says nothing about MovieLens.")
    return "\n".join(lines)
