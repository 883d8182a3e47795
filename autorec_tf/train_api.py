"""Training from Python: a DataFrame or a dataset in, an `AutoRecModel` out."""

import os
from dataclasses import replace
from typing import Any

import pandas as pd

from autorec_tf.system.runtime import import_tensorflow, start_tensorflow

import_tensorflow()  # silently, before a module below does

from autorec_tf.config import Config
from autorec_tf.data.frame import FrameFile, second_frame
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.titles import read_titles
from autorec_tf.estimator import AutoRecModel
from autorec_tf.experiments import blend, evaluate_trained, train_model, tune
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.model.engines import choose_engine
from autorec_tf.records.console import Console
from autorec_tf.records.progress import headline
from autorec_tf.resolution import over_preset
from autorec_tf.serving.finished_run import finished_run
from autorec_tf.system.errors import UserError
from data_preprocessor import load_ratings, read_files, resolve, split_of

# What is for main.py's run folders, and for files where there is a DataFrame.
OF_FOLDERS = ("resume", "num_splits", "distribute", "results_dir", "run_name", "comet",
              "tensorboard", "checkpoint_every")
OF_FILES = ("dataset", "data_dir", "read_csv", "test_file")


def train(ratings: Any = None, test: pd.DataFrame | None = None, progress: bool = True,
          **settings: Any) -> AutoRecModel:
    """Train on `ratings` and return what predicts.

    ratings: a DataFrame with a column each for user, item and rating, and perhaps timestamp, named
    as in a CSV file's header, or by `columns=("customer", "product", "stars")`; or what --dataset
    takes, as "ml-1m" or a file. test: the test ratings, alike; by default a tenth is drawn.
    progress: whether to show the training's on stdout. settings: those of main.py, by the names of
    its flags. Missing ratings and pairs that stand twice are refused unless `no_rating=("NaN",)`
    and `duplicates="last"` (or first, mean) say what they mean.

    Raise UserError, of one line, for settings or ratings that cannot be used, and its subclass
    Diverged. Equal calls give equal results, to the last bit.
    """
    console = Console(progress)
    with python_words():
        config, known = read_given(ratings, test, settings, console)
        if config.is_repeated:
            raise UserError("several folds are for main.py: choose one, as in num_folds=5, fold=1")
        split = split_of(config, known)
        console.log(headline(config, known, split))
        start_tensorflow(console.log)
        config = replace(config, engine=choose_engine(config, split.train.density))
        console.begin(config, known, split)
        model: Any
        measure = None
        try:
            if config.members:
                model, split = blend(config, known, console)
            else:
                config = tune(config, known, console)
                model, measure = train_model(
                    config, split, known.unit.model_scale, console, console.stop_if_asked
                )
        finally:
            console.progress.close()
        evaluation = evaluate_trained(config, model, split, console.log_ranked)
        titles = read_titles(known.name, config.ratings_folder())
        console.finish(model, evaluation, titles, {}, measure and measure())
    parts = [(x.weight, x.model) for x in model.members] if config.members else [(1.0, model)]
    models = [(w, [x.numpy() for x in m.parameters], m.config, m.values) for w, m in parts]
    run = finished_run(models, config, known, split.by_item().train)
    return AutoRecModel(run, run.recommender(titles), console.summary)


def read_given(ratings: Any, test: Any, settings: dict[str, Any],
               console: Console) -> tuple[Config, Ratings]:
    """Return the settings of `train`, what they left open filled in, and all ratings."""
    if others := [name for name in OF_FOLDERS if name in settings]:
        raise UserError(f"{others[0]} is for main.py, which keeps run folders: leave it out")
    given = {name: as_setting(name, value) for name, value in settings.items()}
    if isinstance(ratings, str | os.PathLike):
        given["dataset"], ratings = os.fspath(ratings), None
    if ratings is None and given.get("dataset"):
        if test is not None:
            raise UserError("test is for ratings in a DataFrame: name a --test_file")
        config = over_preset(given)
        known = load_ratings(config, console.log)
        return resolve(config, known), known
    if both := [name for name in OF_FILES if name in given]:
        raise UserError(f"{both[0]} is for files, and there is a DataFrame: leave one out")
    config = over_preset(given | ({} if test is None else {"test_file": "test DataFrame"}))
    files = [FrameFile(ratings, config.columns)]
    if test is not None:
        columns = config.test_columns
        files.append(second_frame(test, columns, config.columns, name="test DataFrame"))
    known = read_files("DataFrame", files, config, console.log)
    return resolve(config, known), known
