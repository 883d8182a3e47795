"""Training in the Python API: `train` turns a DataFrame or a dataset into an `AutoRecModel`."""

import os
from typing import Any

import pandas as pd

from autorec_tf.config import Config
from autorec_tf.data.frame import FrameFile
from autorec_tf.data.ratings import Ratings
from autorec_tf.estimator import AutoRecModel
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.records.console import Console
from autorec_tf.resolution import over_preset
from autorec_tf.system.errors import UserError
from autorec_tf.train_run import FILE_SETTINGS, FOLDER_SETTINGS, train_run
from data_preprocessor import load_ratings, read_files, resolve


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
        return AutoRecModel(*train_run(config, known, console))


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
        files.append(FrameFile(test, columns, config.columns, name="test DataFrame"))
    known = read_files("DataFrame", files, config, console.log)
    return resolve(config, known), known
