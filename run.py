"""One run: a split of the ratings to a model, or several, to results and their records."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from config import Config
from data.ratings import Ratings, Split
from data.titles import read_titles
from data_preprocessor import split_ratings
from evaluation.metrics import RECONSTRUCTION, EpochMetrics, Scores, cold_pairs
from evaluation.similar_items import popular_items
from records.checkpoint import Checkpoint
from records.comet import Tracker
from records.plots import draw_rmse, draw_slices, write_png
from records.progress import Progress, tell
from records.report import ReportData, neighbours_with_titles, page
from records.run_folder import RunFolder, default_name, results, slice_rows
from system.distribution import Cluster, Replicas, read_cluster
from system.environment import environment, peak_memory_mb
from system.errors import Diverged, UserError
from system.files import read_csv, read_json, write_csv, write_text
from system.interruption import Interrupted, Interruption
from system.runtime import num_threads, start_tensorflow

if TYPE_CHECKING:
    from AutoRec import AutoRec
    from records.tensorboard import Summaries

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.


def run_split(
    config: Config, ratings: Ratings, interruption: Interruption, started: float
) -> dict[str, Any]:
    """Run `config` on its split and return the summary that the run folder holds.

    `started` is when the user's waiting began (time.perf_counter). Raises UserError if the
    settings do not fit the data or the machine, before anything is written. Of several workers,
    the first one does all this, and the others help and return no summary.
    """
    cluster = read_cluster(config.distribute)
    split = split_ratings(
        ratings, config.train_ratio, config.split_seed, config.orientation, config.validation_ratio
    )
    if cluster.index > 0:
        assist(config, ratings, split, interruption, cluster)
        return {}
    with ExitStack() as stack:
        folder = RunFolder(config.results_dir, config.run_name or default_name(config),
                           resume=bool(config.resume), chosen=bool(config.run_name))  # fmt: skip
        stack.callback(folder.close)
        record = read_json(folder.path / "config.json") if config.resume else {}
        if config.resume:
            check_resumable(config, ratings, folder, record)
        tell(headline(config, ratings, split))
        config, replicas = start(config, ratings, split, cluster)
        if config.tensorboard:
            from records.tensorboard import tell_if_missing

            tell_if_missing(tell)
        folder.create()
        config = replace(config, run_name=folder.path.name)
        progress = Progress(ratings.name, config.train_epoch)
        progress.say(f"Run folder: {folder.path}")
        key = record.get("comet_experiment")
        tracker = Tracker(config.comet, config.run_name, folder.path, progress.say, key)
        # Also after an error, for the sake of its archive.
        stack.callback(tracker.close, hurry=lambda: interruption.requested)
        stack.callback(progress.close)
        run = Run(
            config, ratings, split, folder, tracker, progress, interruption, started, replicas,
            experiment_key=tracker.experiment_key or key,
        )  # fmt: skip
        try:
            with replicas.together(f"start all workers again, with --resume {folder.path}"):
                summary = run.run()
                replicas.everyone(0)  # who else is there waits for this one's records
        except OSError as error:
            raise UserError(unwritable(folder, error)) from error
    tell(closing_lines(summary, folder))
    return summary


def start(
    config: Config, ratings: Ratings, split: Split, cluster: Cluster
) -> tuple[Config, Replicas]:
    """Start TensorFlow, and return `config` with its engine chosen, and what it is to run on.
    Raises UserError if other workers are not there, or were started with something else."""
    start_tensorflow()
    from AutoRec import choose_engine

    config = replace(config, engine=choose_engine(config, split.train.density))
    replicas = Replicas(config.distribute, cluster, tell)
    settings = replace(config, comet="off", run_name=None).recorded()
    replicas.agree(
        "settings or ratings", (settings, ratings.fingerprint, replicas.count),
        "start all workers with the same flags, on the same data",
    )  # fmt: skip
    return config, replicas


def assist(
    config: Config, ratings: Ratings, split: Split, interruption: Interruption, cluster: Cluster
) -> None:
    """Train the model of `run_split` as a worker that is not the first one: the same epochs,
    without records. It goes on from the same checkpoint, and ends when the first one does."""
    tell(headline(config, ratings, split))
    tell(f"Worker {cluster.index} of {cluster.size}: the first one, worker 0, keeps the records.")
    config, replicas = start(config, ratings, split, cluster)
    from experiments import build
    from training import State, epochs

    with replicas.together("start all workers again, with --resume and worker 0's run folder"):
        with replicas.scope():
            model = build(config, split, ratings.scale, num_threads())
        state = State(model, split)
        kept = kept_checkpoint(config, ratings, Path(config.resume or ""), "checkpoint")
        if config.resume and kept.load():
            kept.restore(state)
        agree_on_epoch(replicas, state)
        with closing(epochs(model, split, state=state)) as every_epoch:
            for _ in every_epoch:
                if asked_of_anyone(replicas, interruption):
                    break
        tell(f"Trained {int(state.epoch.numpy())} of {config.train_epoch} epochs.")
        replicas.everyone(0)


def agree_on_epoch(replicas: Replicas, state: Any) -> None:
    replicas.agree(
        "checkpoints", int(state.epoch.numpy()),
        "--resume needs worker 0's run folder, as it is now, at every worker",
    )  # fmt: skip


def asked_of_anyone(replicas: Replicas, interruption: Interruption) -> bool:
    """Whether any worker is to end; if so, all are, with the same exit code."""
    number = max(replicas.everyone(interruption.number))
    interruption.number = number or interruption.number
    return bool(number)


def kept_checkpoint(config: Config, ratings: Ratings, folder: Path, name: str) -> Checkpoint:
    """What is kept of a training in `folder`; it is for these settings and ratings alone."""
    settings = config.recorded() | {"fingerprint": ratings.fingerprint}
    for free in ("train_epoch", "comet", "tensorboard", "run_name"):  # which may change
        del settings[free]
    return Checkpoint(folder, name, json.loads(json.dumps(settings)))


def check_resumable(
    config: Config, ratings: Ratings, folder: RunFolder, record: dict[str, Any]
) -> None:
    """Raise UserError if the run in `folder`, begun as in `record`, cannot go on, or not with
    these ratings."""
    if record.get("fingerprint") != ratings.fingerprint:
        raise UserError(
            f"{folder.path} was begun with other ratings than these: name the folder of its own "
            "with --data_dir"
        )
    if folder.is_finished() and record["train_epoch"] >= config.train_epoch:
        raise UserError(
            f"{folder.path} is finished, with {config.train_epoch} epochs: only a larger "
            "--train_epoch makes it go on"
        )


def unwritable(folder: RunFolder, error: OSError) -> str:
    where = error.filename or folder.path
    if not folder.path.exists():
        return f"{folder.path} is gone: it was removed while the run went on"
    return (
        f"cannot write {where} ({error.strerror or error}): mend that, and go on with "
        f"--resume {folder.path}"
    )


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
    started: float
    replicas: Replicas
    experiment_key: str | None  # Comet's
    seconds_before: float = 0.0  # of what is resumed
    summaries: "Summaries | None" = None
    settings: dict[str, Any] = field(default_factory=dict)  # what config.json holds
    report_data: ReportData = field(default_factory=ReportData)

    def run(self) -> dict[str, Any]:
        """Train, judge, and return the summary, which is recorded last."""
        summary = {"status": "interrupted", "dataset": self.ratings.name,
                   "preset": self.config.preset}  # fmt: skip
        self.folder.reopen()
        self.record_settings()
        try:
            summary |= self.blend() if self.config.members else self.train()
        except Interrupted:
            self.progress.close()
        except Diverged:
            self.record_summary(summary | {"status": "diverged"})
            raise
        self.record_summary(summary)
        return summary

    @cached_property
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
            "fingerprint": self.ratings.fingerprint,
            "threads": num_threads(),
            "workers": self.replicas.cluster.size,
            "replicas": self.replicas.count,
        }

    def train(self) -> dict[str, Any]:
        """Train one model, its settings chosen first if `--tune` asks for that."""
        from evaluation.evaluate import item_vectors, user_blocks
        from experiments import build, reconstruction
        from model.batch import sparse_rows

        self.tune()
        config, folder = self.config, self.folder
        kept = self.checkpoint("checkpoint").load()
        folder.cut(kept and kept["metrics"])
        self.summaries = self.open_summaries()
        self.tracker.log_parameters(config.recorded() | self.facts)
        for metrics in folder.metrics:
            self.log(metrics)
        unbuilt = replace(config, pretrain_epoch=0) if kept else config
        with self.replicas.scope():
            model = build(
                unbuilt, self.split, self.ratings.scale, num_threads(), self.stop_if_asked
            )
        leaking = reconstruction(model, self.split) if config.score_reconstruction else None
        done = self.fit(model, self.split, "checkpoint", self.record, leaking)
        self.progress.close()
        if self.summaries:
            self.summaries.close()

        folder.write_text_records(config)
        model.save(folder.path / "parameters")
        curves = draw_rmse(folder.metrics, self.ratings.name, config.orientation)
        write_png(folder.path / "rmse.png", curves)
        self.tracker.log_figure(folder.path / "rmse.png")
        self.report_data.curves = curves
        found = results(folder.metrics)
        status = "finished" if done else "interrupted"
        found |= {"status": status, "epochs": len(folder.metrics)}
        if "final_validation_rmse" not in found:  # which chose an epoch; otherwise it is the last
            found["final_test_epoch"] = len(folder.metrics)
        if leaking:
            found[RECONSTRUCTION] = leaking().rmse
        split, test = self.split, self.split.test
        train = sparse_rows(split.train)
        predictions, codes = model.predict(train, test.rows, test.indices), model.codes(train)
        blocks = user_blocks(model, codes, config.orientation)
        learned = [(1.0, item_vectors(model, codes, config.orientation))]
        return found | self.judge(split, predictions, blocks, learned, config.orientation)

    def fit(
        self,
        model: "AutoRec",
        split: Split,
        name: str,
        record: Callable[[EpochMetrics], None],
        leaking: Callable[[], Scores] | None = None,
    ) -> bool:
        """Train `model` on `split`, from the checkpoint `name` on if there is one, and keep one.
        Returns whether that was done to its end, and not interrupted."""
        from training import State, epochs

        state, checkpoint = State(model, split), self.checkpoint(name)
        kept = checkpoint.restore(state)
        if kept:
            self.seconds_before = max(self.seconds_before, kept["seconds"])
            self.progress.say(f"Going on after epoch {kept['epoch']}.")
        agree_on_epoch(self.replicas, state)
        with closing(epochs(model, split, leaking, state)) as every_epoch:
            for metrics in every_epoch:
                record(metrics)
                asked, epoch = asked_of_anyone(self.replicas, self.interruption), metrics.epoch
                if asked or state.is_done or epoch % self.config.checkpoint_every == 0:
                    checkpoint.save(state, epoch, self.seconds, self.folder.mark())
                if asked:
                    break
        return state.is_done

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    def checkpoint(self, name: str) -> Checkpoint:
        return kept_checkpoint(self.config, self.ratings, self.folder.path, name)

    def stop_if_asked(self) -> None:
        if self.interruption.requested:
            raise Interrupted

    def tune(self) -> None:
        """Choose the settings in `config.tune` by validation ratings, and keep the table."""
        from experiments import grid, validation_rmse
        from training import epochs

        if not self.config.tune:
            return

        def train(model: "AutoRec", split: Split, label: str) -> None:
            for _ in epochs(model, split):
                self.stop_if_asked()

        place = self.folder.path / "tuning.csv"
        rows = read_csv(place)
        for point in grid(self.config)[len(rows) :]:
            rmse = validation_rmse(self.config, point, self.ratings, num_threads(), train)
            rows.append(point | {"validation_rmse": round(rmse, 5)})
            write_csv(place, rows)
            values = ", ".join(f"{name} {value:g}" for name, value in point.items())
            self.progress.say(f"{values}: validation RMSE {rmse:.4f}")
        try:
            rmses = [float(row["validation_rmse"]) for row in rows]
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{place} was changed: remove it, and tuning begins again") from error
        self.config = replace(self.config, **grid(self.config)[rmses.index(min(rmses))])
        self.record_settings()

    def blend(self) -> dict[str, Any]:
        """Train several models and blend them."""
        from experiments import FOR_WEIGHTS, blend

        self.tracker.log_parameters(self.config.recorded() | self.facts)

        def train(model: "AutoRec", split: Split, label: str) -> None:
            held_out = "validation" if label.startswith(FOR_WEIGHTS) else "test"
            name = f"{self.ratings.name}, {label}"
            self.progress.begin(name, model.config.train_epoch, held_out)
            name = f"checkpoint {label}".replace(" ", "_").replace(",", "")
            self.fit(model, split, name, self.progress.show)
            self.stop_if_asked()

        members, predictions, split = blend(
            self.config, self.ratings, num_threads(), train, self.stop_if_asked
        )
        self.progress.close()
        self.report_data.members = [member.row() for member in members]
        write_csv(self.folder.path / "members.csv", self.report_data.members)
        for number, member in enumerate(members, 1):
            member.model.save(self.folder.path / f"parameters_{number}")

        def predict_block(first: int, last: int) -> np.ndarray:
            return sum(member.weight * member.predict_block(first, last) for member in members)

        learned = [(member.weight, member.item_vectors) for member in members]
        found = self.judge(split, predictions, predict_block, learned, "item")
        return {"status": "finished"} | found

    def judge(
        self,
        split: Split,
        predictions: np.ndarray,
        predict_block: Callable[[int, int], np.ndarray],
        learned: list[tuple[float, np.ndarray]],
        orientation: str,
    ) -> dict[str, Any]:
        """What raw `predictions` of the test ratings are worth, all in all and by slices, and
        what the ranking of all items is; the slices are drawn, too, and more is found for the
        report, as what is similar by what each model has `learned` of the items."""
        from evaluation.evaluate import binned, ranked, scores, sliced

        scale = self.ratings.scale
        total = scores(split, predictions, scale)
        parts = sliced(split, predictions, scale, orientation)
        ranking = ranked(split, predict_block, orientation)
        path, name = self.folder.path / "slices.png", self.ratings.name
        write_png(path, draw_slices(parts["user"], parts["item"], name, self.config.orientation))
        self.tracker.log_figure(path)
        self.report_data.by_value, self.report_data.calibration = binned(split, predictions, scale)
        train, titles = split.train, read_titles(name, self.config.ratings_folder())
        counts = train.row_counts if orientation == "item" else train.column_counts
        popular, ids = popular_items(counts, learned), self.ratings.item_ids
        self.report_data.neighbours = neighbours_with_titles(popular, ids, titles)
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
        self.settings = self.config.recorded() | self.facts | environment()
        self.settings["comet_experiment"] = self.experiment_key
        self.folder.write_json("config.json", self.settings)

    def record_summary(self, summary: dict[str, Any]) -> None:
        """Add what every summary has, and write it, after the report of it."""
        summary |= {
            "test_ratings": len(self.split.test),
            "cold_test_ratings": self.facts["cold_test_ratings"],
            "seconds": round(self.seconds, 3),
            "peak_memory_mb": peak_memory_mb(),
        }
        report = page(self.settings, summary, self.report_data)
        write_text(self.folder.path / "report.html", report)
        self.tracker.log_summary(summary)
        # First Comet's record: a run that dies while it closes is not finished, and is resumed.
        self.tracker.close(hurry=lambda: self.interruption.requested)
        self.folder.write_json("summary.json", summary)

    def record(self, metrics: EpochMetrics) -> None:
        self.folder.add(metrics)
        self.log(metrics)
        self.progress.show(metrics)

    def log(self, metrics: EpochMetrics) -> None:
        """Send metrics to Comet and TensorBoard."""
        for log in filter(None, (self.tracker, self.summaries)):
            log.log_metrics(asdict(metrics), metrics.epoch)

    def open_summaries(self) -> "Summaries | None":
        """TensorBoard's file, if that is asked for, with the settings in it."""
        if not self.config.tensorboard:
            return None
        from records.tensorboard import Summaries

        kept = self.folder.metrics
        summaries = Summaries(self.folder.path, kept[-1].elapsed_seconds if kept else 0.0)
        summaries.log_parameters(self.config.recorded() | self.facts)
        return summaries


def headline(config: Config, ratings: Ratings, split: Split) -> str:
    """What is going to be trained on what, in two lines."""
    how = f"split {config.split_seed}"
    if config.test_file or config.split == "time":
        how = f"split by {config.test_file or config.split}"
    data = (
        f"Data: {ratings.name}, {ratings.num_users:,} users x {ratings.num_items:,} items, "
        f"{len(split.train):,} training and {len(split.test):,} test ratings, {how}"
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
        lines.append(f"To go on: python main.py --resume {folder.path}")
    lines.append(f"Results: {folder.path}")
    if summary["dataset"] == "synthetic":
        lines.append("These ratings were synthetic: the RMSE says nothing about MovieLens.")
    return "\n".join(lines)
