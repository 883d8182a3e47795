"""The records of a run in one object: run folder, progress line, checkpoint, Comet, TensorBoard.

    with open_records(config, ratings, split, folder, workers, interruption, started) as records:
        state = records.restore(TrainState(model, split))
        for metrics in train_epochs(state, split):
            records.log_epoch(metrics, state)
        records.finish(model, evaluate(model, split), titles)

With several workers, only the first writes a run folder; the others take the same steps and write
nothing. `RunRecords` and `WorkerRecords` implement the interface in training/records.py.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partialmethod
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.config import Config, flag_fields
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.evaluation.evaluate import Evaluation
from autorec_tf.evaluation.metrics import EpochMetrics, Scores, cold_pairs
from autorec_tf.records import run_folder
from autorec_tf.records.checkpoint import Checkpoint
from autorec_tf.records.comet import Tracker
from autorec_tf.records.paired_scores import paired_scores, write_paired_scores
from autorec_tf.records.plots import draw_rmse, draw_slices, write_png
from autorec_tf.records.progress import Progress, closing_lines
from autorec_tf.records.report import ReportData, neighbours_with_titles, page
from autorec_tf.records.run_folder import WHOLE, Part, RunFolder, resume_flags
from autorec_tf.records.summary import closing_entries, training_summary
from autorec_tf.records.tensorboard import Summaries, warn_if_missing
from autorec_tf.system.distribution import Workers
from autorec_tf.system.environment import environment
from autorec_tf.system.errors import Diverged, OutOfMemory, UserError, memory_ran_out
from autorec_tf.system.files import as_utf8, atomic_write, write_csv, write_text
from autorec_tf.system.interruption import Interrupted, Interruption
from autorec_tf.system.runtime import num_threads
from autorec_tf.system.terminal import print_line, program, shell

# Settings that concern only the records and change no result.
HOW_RECORDED = {"num_splits", "run_name", "display_step", "checkpoint_every", "comet",
                "tensorboard"}


@dataclass
class Consensus:
    """The common decisions of all workers: when to save a checkpoint, and when to stop."""

    workers: Workers
    interruption: Interruption
    checkpoint_every: int

    def assert_same_epoch(self, state: Any) -> None:
        self.workers.assert_same_on_all_workers(
            "checkpoints", int(state.epoch.numpy()),
            "For --resume, copy the current run folder of worker 0 to every worker.",
        )

    def first_workers(self, rmses: list[float]) -> list[float]:
        """Return the `rmses` of the first worker, which has the records."""
        if self.workers.cluster.size == 1:
            return rmses
        size = self.workers.all_gather(len(rmses))[0]
        return self.workers.of_first(np.resize(np.array(rmses), size)).tolist()

    def is_asked_to_stop(self) -> bool:
        """Return whether any worker was asked to stop; all workers then exit with its exit code. A
        signal that arrives after this exchange takes effect at the next epoch."""
        number = max(self.workers.all_gather(self.interruption.number))
        self.interruption.number = number or self.interruption.number
        return bool(number)

    def stop_if_asked(self) -> None:
        if self.is_asked_to_stop():
            raise Interrupted

    def save_or_stop(self, epoch: int, state: Any, save: Callable[[], object]) -> None:
        """Call `save` if a checkpoint is due, after the last epoch, and before an interruption."""
        asked = self.is_asked_to_stop()
        if asked or state.is_done or epoch % self.checkpoint_every == 0:
            save()
        if asked:
            raise Interrupted


def checkpoint_of(folder: Path, config: Config, ratings: Ratings,
                  name: str = run_folder.CHECKPOINT) -> Checkpoint:
    """Return the checkpoint `name` in `folder`, which is valid for these settings and ratings."""
    settings = config.to_dict() | {"fingerprint": ratings.fingerprint}
    for changeable in ("train_epoch", "comet", "tensorboard", "run_name"):
        del settings[changeable]
    return Checkpoint(folder, name, json.loads(json.dumps(settings)))


def member_checkpoint(purpose: str, number: int) -> str:
    """Return the name of the checkpoint of member `number` of a blend, trained for a `purpose`."""
    return f"{run_folder.CHECKPOINT} {purpose} model {number}".replace(" ", "_")


def is_started(config: Config) -> bool:
    """Return whether the run begins now, with the parameters of another run."""
    return bool(config.start_from and not config.resume)


class WorkerRecords:
    """The records of a worker that is not the first: the same steps, without writing files."""

    def __init__(self, config: Config, ratings: Ratings, consensus: Consensus) -> None:
        self.config, self.ratings, self.consensus = config, ratings, consensus
        self.stop_if_asked = consensus.stop_if_asked
        self.state: Any = None  # of the training
        self.summary: dict[str, Any] = {}

    def restore(self, state: Any) -> Any:
        self.state = self.restore_from(run_folder.CHECKPOINT, state)
        if is_started(self.config):
            state.write(None)
        return state

    def restore_from(self, name: str, state: Any) -> Any:
        if self.config.resume:
            folder = Path(self.config.resume)
            checkpoint_of(folder, self.config, self.ratings, name).restore(state)
        self.consensus.assert_same_epoch(state)
        return state

    def log_epoch(self, metrics: EpochMetrics, state: Any) -> None:
        """Send the first worker this worker's part of a checkpoint, if one is due."""
        self.consensus.save_or_stop(metrics.epoch, state, lambda: state.write(None))

    def finish(self, model: Any, evaluation: Evaluation, titles: Mapping[str, str],
               predictions: Callable[[], dict[str, Any]],
               reconstruction: Scores | None = None) -> None:
        """Send the first worker this worker's part of `model`, and print the number of epochs."""
        model.save(None)
        if self.state:
            done = int(self.state.epoch.numpy())
            print_line(f"Trained {done} of {self.config.train_epoch} epochs.")

    def tuned(self) -> list[float]:
        return self.consensus.first_workers([])

    def log_settings(self, config: Config) -> None:
        self.config = config

    def of_member(self, config: Config, purpose: str, number: int) -> "WorkerMemberRecords":
        self.stop_if_asked()
        return WorkerMemberRecords(self, member_checkpoint(purpose, number))

    def do_nothing(self, *_: Any, **__: Any) -> None:
        """Do nothing: the first worker writes and prints."""

    log_point = log_chosen = log_members = log_step = log_ranked = do_nothing

    def log_pretraining(self, done: int, total: int) -> None:
        self.stop_if_asked()


class WorkerMemberRecords:
    """The records of one training of a blend, of a worker that is not the first."""

    def __init__(self, run: WorkerRecords, name: str) -> None:
        self.run, self.name, self.log_epoch = run, name, run.log_epoch

    def restore(self, state: Any) -> Any:
        return self.run.restore_from(self.name, state)


class MemberRecords:
    """The records of one training of a blend: its progress line and its checkpoint."""

    def __init__(self, run: "RunRecords", checkpoint: Checkpoint) -> None:
        self.run, self.checkpoint = run, checkpoint

    def restore(self, state: Any) -> Any:
        return self.run.restore_from(self.checkpoint, state)

    def log_epoch(self, metrics: EpochMetrics, state: Any) -> None:
        self.run.progress.log(metrics)
        self.run.save_or_stop(self.checkpoint, metrics.epoch, state)


class RunRecords:
    """The records of a run. `started`: the start of the program (time.perf_counter). `place` names
    the split, if there are several."""

    def __init__(self, config: Config, ratings: Ratings, split: Split, folder: RunFolder,
                 consensus: Consensus, started: float, place: str = "") -> None:
        self.config = replace(config, run_name=folder.path.name)
        self.ratings, self.split, self.consensus = ratings, split, consensus
        self.workers, self.interruption = consensus.workers, consensus.interruption
        self.folder, self.path, self.started = folder, folder.path, started
        self.stop_if_asked = consensus.stop_if_asked
        self.seconds_before = 0.0  # of the run that is resumed
        self.state: Any = None  # of the training
        self.report = ReportData(given=config.given)
        self.tensorboard: Summaries | None = None
        self.progress = Progress(place)
        self.progress.begin(config)
        self.progress.print_line(f"Run folder: {folder.path}")
        key = folder.record().get("comet_experiment")
        self.comet = Tracker(config.comet, folder.path.name, folder.path, self.progress.print_line,
                             key)
        self.experiment_key = self.comet.experiment_key or key
        self.summary: dict[str, Any] = {
            "status": "interrupted", "dataset": ratings.name, "preset": config.preset
        }
        if ratings.held_out is not None and config.start_from and not config.test_file:
            folder.write_marks(ratings.held_out)
        self.log_settings(self.config)
        if config.members:
            self.comet.log_parameters(self.parameters)

    @property
    def seconds(self) -> float:
        return self.seconds_before + time.perf_counter() - self.started

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The facts about data and machine that all records contain."""
        train, test = self.split.train, self.split.test
        return {
            "num_users": self.ratings.num_users, "num_items": self.ratings.num_items,
            "num_ratings": len(self.ratings), "train_ratings": len(train),
            "test_ratings": len(test),
            "cold_test_ratings": int(cold_pairs(train, test.rows, test.indices).sum()),
            "fingerprint": self.ratings.fingerprint,
            "threads": num_threads(), "workers": self.workers.cluster.size,
            "replicas": self.workers.num_replicas,
        }

    @property
    def parameters(self) -> dict[str, Any]:
        """The facts, and the settings that affect results, except unset ones."""
        settings = self.config.to_dict()
        names = {f.name for f in flag_fields()} - HOW_RECORDED
        shown = {n: v for n, v in settings.items() if n in names and v not in (None, ())}
        scalars = {n: v[0] for n, v in shown.items() if isinstance(v, tuple) and len(v) == 1}
        return shown | scalars | self.facts

    def log_settings(self, config: Config) -> None:
        """Write `config` as the settings of the run from now on."""
        self.config = config
        self.settings = config.to_dict() | self.facts | environment()
        self.settings["comet_experiment"] = self.experiment_key
        self.settings["files"] = {
            flag: as_utf8(path.name) for flag, path in self.ratings.files.items()
        }
        self.folder.write_config(self.settings)

    def restore(self, state: Any) -> Any:
        """Return `state`, restored from the checkpoint of the run, and log the epochs before it
        again."""
        checkpoint = checkpoint_of(self.path, self.config, self.ratings)
        content = checkpoint.load()
        if self.config.start_from and self.config.resume and not content:
            raise UserError(f"{self.path} has no checkpoint, and its first parameters are those of "
                            f"{self.config.start_from}. Start the run again with --start_from.")
        self.folder.truncate_to(content and content["metrics"])
        if self.config.tensorboard:
            before = self.folder.metrics
            self.tensorboard = Summaries(self.path, before[-1].elapsed_seconds if before else 0.0)
            self.tensorboard.log_parameters(self.config.to_dict() | self.facts)
        self.comet.log_parameters(self.parameters)
        for metrics in self.folder.metrics:
            self.log(metrics)
        self.state = self.restore_from(checkpoint, state)
        if is_started(self.config):  # so that it can be resumed without the other run
            checkpoint.save(state, 0, self.seconds, self.folder.position())
        return state

    def restore_from(self, checkpoint: Checkpoint, state: Any) -> Any:
        if content := checkpoint.restore(state):
            self.seconds_before = max(self.seconds_before, content["seconds"])
            self.progress.print_line(f"Resuming after epoch {content['epoch']}.")
        self.consensus.assert_same_epoch(state)
        return state

    def log_epoch(self, metrics: EpochMetrics, state: Any) -> None:
        self.record(metrics)
        checkpoint = checkpoint_of(self.path, self.config, self.ratings)
        self.save_or_stop(checkpoint, metrics.epoch, state)

    def record(self, metrics: EpochMetrics) -> None:
        """Record an epoch in metrics.csv, Comet and TensorBoard, and on the progress line."""
        self.restore_missing()  # before a new metrics.csv would begin with this epoch
        self.folder.add(metrics)
        self.log(metrics)
        self.progress.log(metrics)

    def log(self, metrics: EpochMetrics) -> None:
        """Send metrics to Comet and TensorBoard."""
        for log in (self.comet, self.tensorboard):
            if log:
                log.log_metrics(asdict(metrics), metrics.epoch)

    def save_or_stop(self, checkpoint: Checkpoint, epoch: int, state: Any) -> None:
        """Save `state` if a checkpoint is due, and before Interrupted is raised."""
        self.restore_missing()
        self.consensus.save_or_stop(epoch, state, lambda: checkpoint.save(
            state, epoch, self.seconds, self.folder.position()
        ))

    def restore_missing(self) -> None:
        """Write the files that vanished during the run again, and warn."""
        for path in self.folder.missing():
            if path.name == run_folder.METRICS:
                self.folder.restore_metrics()
            else:
                self.folder.write_config(self.settings)
            self.progress.print_line(f"warning: {path} had been removed, and is written again")

    def tuned(self) -> list[float]:
        return self.consensus.first_workers(self.folder.tuned())

    def log_point(self, point: dict[str, Any], validation_rmse: float) -> None:
        self.folder.add_point(point, validation_rmse)
        self.progress.log_point(point, validation_rmse)

    def log_chosen(self, point: dict[str, Any]) -> None:
        self.progress.log_chosen(point)

    def log_step(self, what: str, done: int, total: int, ends_early: bool = False) -> None:
        self.progress.count(what, done, total, ends_early)

    log_ranked = partialmethod(log_step, "users ranked")

    def log_pretraining(self, done: int, total: int) -> None:
        self.log_step("pre-training epoch", done, total)
        self.stop_if_asked()

    def of_member(self, config: Config, purpose: str, number: int) -> MemberRecords:
        self.stop_if_asked()
        self.progress.begin_member(self.config, config, purpose, number)
        name = member_checkpoint(purpose, number)
        return MemberRecords(self, checkpoint_of(self.path, self.config, self.ratings, name))

    def log_members(self, rows: list[dict[str, Any]]) -> None:
        self.report.members = rows
        write_csv(self.path / run_folder.MEMBERS, rows)

    def finish(self, model: Any, evaluation: Evaluation, titles: Mapping[str, str],
               predictions: Callable[[], dict[str, Any]],
               reconstruction: Scores | None = None) -> None:
        self.progress.close()
        if self.tensorboard:
            self.tensorboard.close()
        metrics, orientation = self.folder.metrics, self.config.orientation
        path = self.path / run_folder.PREDICTIONS
        path.unlink(missing_ok=True)  # it belongs to other parameters
        model.save(self.path / run_folder.PARAMETERS)
        write_paired_scores(self.path / run_folder.TEST_SCORES, paired_scores(
            evaluation, self.split, self.ratings.fingerprint))
        done = self.state is None or self.state.is_done  # an unfinished blend has no result
        self.summary["status"] = "finished" if done else "interrupted"
        if self.state and self.state.trainer.has_converged:
            self.summary["converged"] = True
        by_user, by_item, dataset = evaluation.by_user, evaluation.by_item, self.ratings.name
        figures = {run_folder.SLICES: draw_slices(by_user, by_item, dataset, orientation)}
        if metrics:
            self.folder.write_text_records(self.config)
            self.report.curves = draw_rmse(metrics, dataset, orientation)
            figures = {run_folder.CURVES: self.report.curves} | figures
        for name, figure in figures.items():
            write_png(self.path / name, figure)
            self.comet.log_figure(self.path / name)
        with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, allow_pickle=False, **predictions())
        self.report.by_value, self.report.calibration = evaluation.by_value, evaluation.calibration
        self.report.neighbours = neighbours_with_titles(
            evaluation.popular_items, self.ratings.item_ids, titles
        )
        self.write_summary(self.summary | training_summary(metrics, evaluation, reconstruction))

    def end_early(self, status: str) -> None:
        """Write a summary without a result."""
        self.progress.close()
        self.write_summary(self.summary | {"status": status})

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Add the entries that all summaries have, and write report and summary."""
        self.summary = summary | closing_entries(self.split, self.seconds)
        report = page(self.settings, self.summary, self.report)
        write_text(self.path / run_folder.REPORT, report)
        self.comet.log_report(report)
        self.comet.log_summary(self.summary)
        # First close Comet: a run that dies meanwhile is not finished, and can be resumed.
        self.comet.close(hurry=lambda: self.interruption.requested)
        self.folder.write_summary(self.summary)


@contextmanager
def open_records(config: Config, ratings: Ratings, split: Split, folder: RunFolder | None,
                 workers: Workers, interruption: Interruption, started: float,
                 part: Part = WHOLE) -> Iterator[RunRecords | WorkerRecords]:
    """Open the records of a run, or those of a worker that is not the first if `folder` is None.

    Interrupted ends the block and is recorded as the status of the run, without a result. So is
    Diverged, which is raised again. Raise UserError if a record cannot be written, or another
    worker is lost.
    """
    settings = replace(config, comet="off", run_name=None).to_dict()
    workers.assert_same_on_all_workers("settings or ratings",
                                       (settings, ratings.fingerprint, workers.num_replicas),
                                       "Start all workers with the same flags and data.")
    consensus = Consensus(workers, interruption, config.checkpoint_every)
    if folder is None:
        print_line(f"Worker {workers.cluster.index} of {workers.cluster.size}: only the first "
                   "worker, 0, writes records.")
        with workers.report_lost_workers("Start all workers again: python main.py --resume <run "
                                         "folder of worker 0> --distribute workers"):
            with suppress(Interrupted):
                yield WorkerRecords(config, ratings, consensus)
            workers.wait_until_done()
        return
    with ExitStack() as stack:
        stack.callback(folder.close)
        if config.tensorboard:
            warn_if_missing(print_line)
        folder.create()
        flags = list(part.arguments) or resume_flags(config, ratings.files, folder.path)
        resume = shell([*program("main.py"), *flags])
        try:
            with workers.report_lost_workers(f"Start all workers again: {resume}"):
                records = RunRecords(config, ratings, split, folder, consensus, started, part.name)
                # Also after an error, so that an archive is written.
                stack.callback(records.comet.close, hurry=lambda: interruption.requested)
                stack.callback(records.progress.close)
                try:
                    yield records
                except Interrupted:
                    records.end_early("interrupted")
                except Diverged:
                    records.end_early("diverged")
                    raise
                workers.wait_until_done()  # the others wait until the records are written
        except Exception as error:
            if memory_ran_out(error):
                raise OutOfMemory(resume_hint(folder, resume)) from error
            if isinstance(error, OSError):
                raise UserError(unwritable(folder, error, resume)) from error
            raise
    print_line(closing_lines(records.summary, folder.path, resume))


def resume_hint(folder: RunFolder, resume: str) -> str:
    """Return the way to continue when memory ran out, if there is a checkpoint. `resume`: the
    command."""
    if not (folder.path / f"{run_folder.CHECKPOINT}.json").exists():
        return ""
    return f" The recorded epochs are kept. With more memory, continue with {resume}"


def unwritable(folder: RunFolder, error: OSError, resume: str) -> str:
    """Return the message about a record that cannot be written, and what to do. The command
    `resume` continues the run, if it has started."""
    if not folder.path.exists():
        return f"{folder.path} was removed during the run"
    problem = f"cannot write {error.filename or folder.path} ({error.strerror or error})"
    if folder.discard():
        return f"{problem}, so nothing was started. Fix this, or choose another --results_dir."
    return f"{problem}. Fix this, and continue with {resume}"
