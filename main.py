"""Train AutoRec and record the run.

    python main.py                            # item-based AutoRec on MovieLens-1M, 500 epochs
    python main.py --preset paper --num_splits 5
    python main.py --resume results/<run>     # continue an interrupted run
    python main.py --help                     # all settings and their defaults

Write a run folder under results/ and a Comet experiment (an offline archive without an API key).
Exit codes: 0 finished, even if the reader of its output has closed the pipe; 2 invalid input or
folder; 130 or 143 stopped by Ctrl-C or SIGTERM, with the records written.
"""

import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

# NumPy's products are small here: its threads would mostly wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from autorec_tf.command_line import parse_arguments
from autorec_tf.config import Config
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.titles import read_titles
from autorec_tf.records.comet import require_key
from autorec_tf.records.progress import announce
from autorec_tf.records.repeated_runs import RepeatedRuns
from autorec_tf.records.run_folder import (
    WHOLE,
    Part,
    RunFolder,
    default_name,
    read_marks,
    read_record,
)
from autorec_tf.resolution import split_configs
from autorec_tf.serving.relocate import load_again
from autorec_tf.serving.start_run import read_start
from autorec_tf.system.distribution import read_cluster
from autorec_tf.system.errors import reported_errors
from autorec_tf.system.handshake import Handshake
from autorec_tf.system.interruption import Interrupted, Interruption, warn
from autorec_tf.system.runtime import leave, share_freed_memory, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line, program, shell
from autorec_tf.warm_start import Start
from data_preprocessor import is_large, load_ratings, resolve, split_of


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    config = parse_arguments(arguments)
    with reported_errors("main.py") as outcome:
        outcome.code = run(config, arguments if arguments is not None else sys.argv[1:])
    return outcome.code


def run(config: Config, arguments: Sequence[str]) -> int:
    """Load the ratings, train on one or several splits of them, and return the exit code.

    `arguments` are those of the command line that `config` was parsed from. With several published
    folds, the ratings loaded here are those of the first fold.

    Raises:
        UserError: The input is invalid.
    """
    started = time.perf_counter()
    share_freed_memory()
    with Handshake(read_cluster(config.distribute), print_line) as handshake:
        if config.comet == "online":
            require_key()
        start = None
        if config.resume:
            record = read_record(Path(config.resume))
            marks = read_marks(Path(config.resume), record)
            ratings = load_again(config, record, print_line, marks)
            config = replace(config, test_file=record.get("test_file"))
        elif config.start_from:
            config, start, ratings = read_start(config, print_line)
        else:
            ratings = load_ratings(config, print_line)
        config = resolve(config, ratings)
        handshake.wait("loaded")
        with Interruption() as interruption:
            if config.is_repeated:
                run_splits(config, ratings, handshake, interruption, arguments)
            else:
                run_split(config, ratings, handshake, interruption, started, start)
    return 128 + interruption.number if interruption.requested else 0


def run_split(config: Config, ratings: Ratings, handshake: Handshake, interruption: Interruption,
              started: float, start: Start | None = None, part: Part = WHOLE) -> dict[str, Any]:
    """Train on one split, evaluate, record, and return the summary (empty on later workers), from
    the parameters of the run `start`, if any. `started`: time.perf_counter() at the beginning."""
    split = split_of(config, ratings)
    folder: Any = None if handshake.cluster.index else RunFolder.of(config, ratings.fingerprint)
    announce(config, ratings, split, print_line)
    start_tensorflow(lean=handshake.cluster.size > 1, is_large=is_large(ratings, config),
                     is_program=True)
    from autorec_tf.experiments import blend, conclude, reconstruction, tune
    from autorec_tf.model.column_shards import own_part
    from autorec_tf.model.engines import choose_engine
    from autorec_tf.records.run_records import open_records
    from autorec_tf.serving.finished_run import start_parameters
    from autorec_tf.serving.npz import run_content
    from autorec_tf.training.epochs import TrainState, train_epochs
    from autorec_tf.training.pretraining import pretrain
    from autorec_tf.training.trainer import build

    config = replace(config, engine=choose_engine(config, split.train.density))
    workers = handshake.workers(config.distribute)
    local = own_part(split, workers)
    with open_records(config, ratings, split, folder, workers, interruption, started,
                      part) as records:
        trained, measure = None, None  # type: Any, Any
        if config.members:
            trained, split = blend(config, ratings, records, workers)
        else:
            config = tune(config, ratings, records, workers)
            first = start_parameters(start, ratings, split.train) if start else []
            with workers.scope():
                trained = model = build(config, local.train, split.unit.model_scale, workers, first)
            state = records.restore(TrainState(model, local))
            if state.is_new:
                pretrain(model, local.train, records.log_pretraining)
            measure = reconstruction(model, local) if config.score_reconstruction else None
            with closing(train_epochs(state, local, measure)) as epochs, suppress(Interrupted):
                for metrics in epochs:
                    records.log_epoch(metrics, state)
            state.trainer.release()
        del local  # free memory for the evaluation
        arrays = folder and partial(run_content, config, ratings, split, not interruption.requested)
        titles = read_titles(ratings.name, config.ratings_folder())
        conclude(config, split, trained, records, titles, measure and measure(), arrays)
    return records.summary


def run_splits(config: Config, ratings: Ratings, handshake: Handshake, interruption: Interruption,
               arguments: Sequence[str]) -> None:
    """Run several splits or folds, and write a table of their results. With `arguments`, main.py
    does this again.

    Splits that an earlier run of the same command finished are not run again; one that it began is
    resumed. All published folds are read before the first run to check them, and each fold is read
    again before its own run, so that only one is in memory.
    """
    if not config.run_name:
        config = replace(config, run_name=default_name(config))
        arguments = [*arguments, "--run_name", str(config.run_name)]
    configs, fingerprints = split_configs(config), [ratings.fingerprint]
    if config.folds:
        fingerprints += [load_ratings(fold, print_line).fingerprint for fold in configs[1:]]
    workers = None
    if handshake.cluster.size > 1:
        start_tensorflow(lean=True)
        workers = handshake.workers(config.distribute)
    with closing(RepeatedRuns(config, " ".join(fingerprints), workers)) as runs:
        for number, each in enumerate(configs, 1):
            each = replace(each, results_dir=str(runs.path))
            summary = runs.finished(each)
            if summary:
                print_line(f"{each.run_name} is finished: "
                           f"test RMSE {summary['final_test_rmse']:.4f}")
            else:
                started, each = time.perf_counter(), runs.unfinished(each)
                ratings = load_ratings(each, lambda _: None) if each.folds else ratings
                kind = "fold" if each.fold or each.folds else "split"
                part = Part(f"{kind} {number} of {len(configs)}", tuple(arguments))
                summary = run_split(each, ratings, handshake, interruption, started, part=part)
                gc.collect()  # its model is part of a cycle, and too few objects to be noticed
                gc.collect()  # what finalisers of the first have released
            if summary.get("status") != "interrupted":
                runs.add(each, summary)
            if interruption.requested:
                if summary.get("status") == "finished" and number < len(configs):
                    print_line(f"Resume with: {shell([*program('main.py'), *arguments])}")
                return
        print_line(runs.table())


def stop(number: int, _: object) -> None:
    """Exit on SIGTERM as on Ctrl-C, until a run has started."""
    warn("main.py: interrupted\n")
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    leave(main())
