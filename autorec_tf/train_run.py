"""Training for the Python API: from resolved settings and ratings to a run that can predict.

`train_run` trains a model or a blend. `train_more` trains a model further, on more ratings.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from autorec_tf.system.runtime import import_tensorflow, start_tensorflow

import_tensorflow()  # silently, before a module below imports it

from autorec_tf.config import Config
from autorec_tf.data.frame import FrameFile
from autorec_tf.data.ids import used_ids, with_new
from autorec_tf.data.ratings import Ratings, Split
from autorec_tf.data.titles import read_titles
from autorec_tf.experiments import blend, conclude, train_model, tune
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.model.engines import choose_engine
from autorec_tf.records.console import Console
from autorec_tf.records.progress import announce
from autorec_tf.resolution import over_start
from autorec_tf.serving.finished_run import finished_run
from autorec_tf.serving.fold_in import renewed
from autorec_tf.serving.recommender import Recommender
from autorec_tf.system.errors import UserError
from autorec_tf.warm_start import Start
from data_preprocessor import is_large, resolve, split_of

# Settings of main.py's run folders, and settings of files, which do not apply to a DataFrame.
FOLDER_SETTINGS = ("resume", "start_from", "num_splits", "distribute", "results_dir", "run_name",
                   "comet", "tensorboard", "checkpoint_every")
FILE_SETTINGS = ("dataset", "data_dir", "read_csv", "test_file")
FinishedRun = Any  # from serving


class Trained(NamedTuple):
    """What an `AutoRecModel` consists of."""

    run: FinishedRun
    recommender: Recommender
    summary: dict[str, Any]


def train_run(config: Config, known: Ratings, console: Console,
              start: Start | None = None, trained: Any = None) -> Trained:
    """Train on `known` ratings with resolved settings.

    Args:
        config: the settings.
        known: all ratings.
        console: records the training.
        start: the run that the training starts from, if any.
        trained: the model of `start`.
    """
    split = split_of(config, known)
    announce(config, known, split, console.log)
    start_tensorflow(console.log, is_large=is_large(known, config))
    config = replace(config, engine=choose_engine(config, split.train.density))
    console.begin(config, known, split)
    model: Any
    measure = None
    try:
        if config.members:
            model, split = blend(config, known, console)
        else:
            config = tune(config, known, console)
            first = first_parameters(start, trained, known, split) if start else []
            model, measure = train_model(config, split, known.unit.model_scale, console,
                                         console.log_pretraining, first)
    finally:
        console.progress.close()
    titles = read_titles(known.name, config.ratings_folder())
    conclude(config, split, model, console, titles, measure and measure())
    weighted = [(x.weight, x.model) for x in model.members] if config.members else [(1.0, model)]
    models = [(w, [x.numpy() for x in m.parameters], m.config, m.values) for w, m in weighted]
    run = finished_run(models, config, known, split.by_item().train)
    return Trained(run, run.recommender(titles), console.summary)


def first_parameters(start: Start, trained: Any, known: Ratings, split: Split) -> list[np.ndarray]:
    """Return the parameters of the model `trained` for the users and items of `known`."""
    arrays = [np.asarray(x) for x in trained.parameters]
    return start.widened(arrays, trained.values, known, split.train.distinct)


def train_more(run: FinishedRun, epochs: int | None, frames: Mapping[str, Any], complete: bool,
               progress: bool, columns: Any, settings: dict[str, Any]) -> Trained:
    """Return the result of `AutoRecModel.train_more` for a model that consists of `run`, which was
    trained for `epochs`. `frames`: the DataFrames of new ratings and of test ratings, by their
    names in messages."""
    console, start = Console(progress), Start("the model", run.config, run.ratings, run.train)
    with python_words():
        if any(map(len, run.fixed)):
            raise UserError("an export holds no ratings, so its model cannot be trained further. "
                            "Use the run folder, with --start_from, or a saved model.")
        if excluded := [x for x in (*FOLDER_SETTINGS, *FILE_SETTINGS) if x in settings]:
            raise UserError(f"{excluded[0]} is only for main.py, or for files. Leave it out.")
        given = {name: as_setting(name, value) for name, value in settings.items()}
        config = over_start(run.config, given, start.name, epochs)
        if config.rating_scale != run.config.rating_scale:
            raise UserError(f"--rating_scale: the model has {run.config.rating_scale}, which "
                            "cannot change. Leave it out.")
        test_file = "test DataFrame" if len(frames) > 1 else None
        if config.split == "time" and not test_file:
            raise UserError("--split time: a model does not contain the timestamps of its ratings. "
                            'Give the latest ratings as test, or use split="random".')
        config = replace(config, test_file=test_file, split="random")
        columns = as_setting("columns", columns)
        parts = [run.read(FrameFile(frame, columns, run.config.columns, name=name), console.log)
                 for name, frame in frames.items()]
        changed = with_ratings(run.ratings, parts, complete)
        if changed.held_out is not None:  # old test ratings, too
            changed = replace(changed, held_out=changed.held_out | start.sides_of(changed)[1])
        known = start.divided(changed, config)
        console.log(start.describe(known))
        config = replace(config, **start.settings(known))
        return train_run(resolve(config, known), known, console, start, run.members[0].model)


def with_ratings(known: Ratings, parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
                 complete: bool) -> Ratings:
    """Return `known` with more ratings, which replace those of the same pairs.

    Args:
        known: all ratings so far.
        parts: the user ids, item ids and ratings of new ratings, and perhaps of test ratings, which
            are then marked.
        complete: whether `parts` contain all ratings, so that the others are dropped.

    Raises:
        UserError: a pair is in both parts.
    """
    new_users, new_items, new_values = (np.concatenate(x) for x in zip(*parts, strict=True))
    user_ids, item_ids = with_new(known.user_ids, new_users), with_new(known.item_ids, new_items)
    new = (pd.Index(user_ids).get_indexer(new_users).astype(np.int32),
           pd.Index(item_ids).get_indexer(new_items).astype(np.int32),
           np.asarray(new_values, known.values.dtype))
    again = pd.DataFrame({"user": new[0], "item": new[1]}).duplicated()
    if again.any():
        index = int(again.argmax())
        raise UserError(f"user {new_users[index]} and item {new_items[index]} are in ratings and "
                        f"in test ({again.sum():,} such pairs). Remove them from one of the two.")
    kept = slice(0 if complete else None)
    before = known.users[kept], known.items[kept], known.values[kept]
    users, items, values = renewed(before, new, (len(item_ids), len(user_ids)))
    held_out = None
    if len(parts) > 1:
        held_out = np.arange(len(users)) >= len(users) - len(parts[1][0])
    users, user_ids = used_ids(users, user_ids)
    items, item_ids = used_ids(items, item_ids)
    return replace(known, users=users, items=items, values=values, user_ids=user_ids,
                   item_ids=item_ids, held_out=held_out, files={})
