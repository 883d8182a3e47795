"""Training in the Python API: `train` turns a DataFrame or a dataset into an `AutoRecModel`."""

import os
from dataclasses import replace
from typing import Any

import pandas as pd

from autorec_tf.system.runtime import import_tensorflow, start_tensorflow

import_tensorflow()  # silently, before a module below imports it

from autorec_tf.config import Config
from autorec_tf.data.frame import FrameFile, second_frame
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.titles import read_titles
from autorec_tf.estimator import AutoRecModel
from autorec_tf.experiments import blend, evaluate_trained, train_model, tune
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.model.engines import choose_engine
from autorec_tf.records.console import Console
from autorec_tf.records.progress import announce
from autorec_tf.resolution import over_preset
from autorec_tf.serving.finished_run import finished_run
from autorec_tf.system.errors import UserError
from data_preprocessor import load_ratings, read_files, resolve, split_of

# Settings of main.py's run folders, and settings of files, which do not apply to a DataFrame.
FOLDER_SETTINGS = ("resume", "num_splits", "distribute", "results_dir", "run_name", "comet",
                   "tensorboard", "checkpoint_every")
FILE_SETTINGS = ("dataset", "data_dir", "read_csv", "test_file")


def train(ratings: Any = None, test: pd.DataFrame | None = None, progress: bool = True,
          **settings: Any) -> AutoRecModel:
    """Train AutoRec on ratings and return the model.

    Equal calls return equal results, to the last bit. Only a named dataset's download is written.

    Args:
        ratings: DataFrame with one rating a row: a column each for user and item (numbers or text),
            rating (numbers) and, optionally, timestamp. Columns are found by their usual names,
            such as user, item, rating, or by `columns=("customer", "product", "stars")`. Also a
            table with `to_pandas()`, the name of a dataset ("ml-1m"), or the path of a rating file.
        test: DataFrame with the test ratings, in the same format. By default they are a random
            tenth of `ratings`; see the settings `train_ratio` and `split`.
        progress: Whether to print progress to stdout. Warnings are always issued.
        **settings: Settings of main.py by the names of their flags, such as `preset="single"`;
            `python main.py --help` lists them. Missing ratings and repeated (user, item) pairs are
            errors unless `no_rating=("NaN",)` skips the former and `duplicates="last"` (or "first",
            "mean") resolves the latter. Settings of run folders, such as `resume` and
            `num_splits`, are only for main.py.

    Returns:
        The trained model, or with `members` the blend.

    Raises:
        UserError: The settings or the ratings are invalid; the message is one line.
        Diverged: Training diverged (a subclass of UserError).

    Warns:
        AutoRecWarning: Likely mistakes and poor results; docs/using.md lists all warnings.
    """
    console = Console(progress)
    with python_words():
        config, known = read_given(ratings, test, settings, console)
        if config.is_repeated:
            raise UserError("several folds are only for main.py. Choose one fold, as in "
                            "num_folds=5, fold=1.")
        split = split_of(config, known)
        announce(config, known, split, console.log)
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
                    config, split, known.unit.model_scale, console, console.log_pretraining
                )
        finally:
            console.progress.close()
        evaluation = evaluate_trained(config, model, split, console.log_ranked)
        titles = read_titles(known.name, config.ratings_folder())
        console.finish(model, evaluation, titles, {}, measure and measure())
    weighted = [(x.weight, x.model) for x in model.members] if config.members else [(1.0, model)]
    models = [(w, [x.numpy() for x in m.parameters], m.config, m.values) for w, m in weighted]
    run = finished_run(models, config, known, split.by_item().train)
    return AutoRecModel(run, run.recommender(titles), console.summary)


def read_given(ratings: Any, test: Any, settings: dict[str, Any],
               console: Console) -> tuple[Config, Ratings]:
    """Return the resolved settings of `train`, and all ratings."""
    if excluded := [name for name in FOLDER_SETTINGS if name in settings]:
        raise UserError(f"{excluded[0]} is only for main.py, which writes run folders. Leave it "
                        "out.")
    given = {name: as_setting(name, value) for name, value in settings.items()}
    if isinstance(ratings, str | os.PathLike):
        given["dataset"], ratings = os.fspath(ratings), None
    if ratings is None and given.get("dataset"):
        if test is not None:
            raise UserError("test is only for ratings in a DataFrame. Use --test_file instead.")
        config = over_preset(given)
        known = load_ratings(config, console.log)
        return resolve(config, known), known
    if excluded := [name for name in FILE_SETTINGS if name in given]:
        raise UserError(f"{excluded[0]} is only for files, but the ratings are in a DataFrame. "
                        "Leave one of them out.")
    config = over_preset(given | ({} if test is None else {"test_file": "test DataFrame"}))
    files = [FrameFile(ratings, config.columns)]
    if test is not None:
        columns = config.test_columns
        files.append(second_frame(test, columns, config.columns, name="test DataFrame"))
    known = read_files("DataFrame", files, config, console.log)
    return resolve(config, known), known
