"""AutoRec from Python: a DataFrame goes in, and predictions come out.

    from autorec_tf.estimator import load, train

    model = train(ratings, hidden_neuron=100, train_epoch=200)   # pandas: user, item, rating
    model.predict(users, items)                                  # float64 array
    model.recommend("ann", n=10)                                 # DataFrame
    model.save("model.npz")
    load("model.npz").similar("Alien")

The settings are those of `python main.py --help`, and so are the results, to the last bit. Nothing
is written but by `save`. Mistakes raise `UserError`, of one line. TensorFlow is started as main.py
starts it: random operations of your own in this process want a seed from then on.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.system.runtime import import_tensorflow, start_tensorflow

import_tensorflow()  # silently, before a module below does

from autorec_tf.config import Config, model_configs, over_preset
from autorec_tf.data.blocks import Rules
from autorec_tf.data.frame import FrameFile
from autorec_tf.data.ids import known_id, positions_of
from autorec_tf.data.merge import read_more
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.data.titles import read_titles
from autorec_tf.experiments import blend, evaluate_trained, train_model, tune
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.model.engines import choose_engine
from autorec_tf.records.console import Console
from autorec_tf.records.progress import headline
from autorec_tf.serving.finished_run import FinishedRun, Member, with_parameters
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.npz import model_content, read_model
from autorec_tf.serving.recommender import Recommender, predict_at, recommend, similar
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import atomic_write
from data_preprocessor import load_ratings, read_files, resolve, split_of

# What is for main.py's run folders, and for files where there is a DataFrame.
OF_FOLDERS = ("resume", "num_splits", "distribute", "results_dir", "run_name", "comet",
              "tensorboard", "checkpoint_every")
OF_FILES = ("dataset", "data_dir", "read_csv", "test_file")


@dataclass(frozen=True, eq=False, repr=False)
class Estimator:
    """A trained AutoRec, or a blend of several, with its ratings.

    Ids are those of the ratings, by the rules for files: 1, "1" and 1.0 are one id, and ids come
    back as numbers if all are whole numbers, and else as text. `summary` holds what main.py writes
    to summary.json.
    """

    run: FinishedRun
    recommender: Recommender
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"<AutoRec on {self.run.ratings!r}, test RMSE {self.test_rmse:.4f}>"

    @property
    def test_rmse(self) -> float:
        """The RMSE of the test ratings, each predicted from training ratings alone."""
        return self.summary["final_test_rmse"]

    def predict(self, users: Any, items: Any) -> np.ndarray:
        """Return the predicted ratings of pairs of ids, within the scale: float64 [pairs]. Where
        user or item is unknown, or has no training rating, it is by the rule `cold_rating`."""
        user = positions_of(self.recommender.users, users)
        item = positions_of(self.recommender.items, items)
        if len(user) != len(item):
            raise UserError(f"{len(user):,} users and {len(item):,} items are no pairs")
        return predict_at(self.recommender, user, item)[0].astype(np.float64)

    def recommend(self, user: Any, n: int = 10) -> pd.DataFrame:
        """Return the `n` items that `user` is predicted to rate highest, of those not rated yet:
        item, title, prediction, ratings (training ratings of the item), by rank. Raise UserError
        for a user without training ratings."""
        return recommend(self.recommender, known_id(self.recommender.users, user), n)

    def similar(self, item: Any, n: int = 10) -> pd.DataFrame:
        """Return the `n` items most like `item`, as `recommend` does, with their similarity."""
        return similar(self.recommender, known_id(self.recommender.items, item), n)

    def fold_in(self, ratings: pd.DataFrame, columns: Any = None) -> "Estimator":
        """Return a model that knows the new `ratings`, too, of new or known users and items,
        without training again; this one stays as it is, and the summary is its. A rating takes the
        place of a known one of the same pair. `columns` as in `train`, by default the same."""
        with python_words():
            config, known = self.run.config, self.run.ratings
            file = new_file(ratings, as_setting("columns", columns), config.columns)
            ids = known.user_ids, known.item_ids
            rules = Rules(known.scale, no_rating=config.no_rating)
            new = read_more(file, ids, rules, config.duplicates, lambda _: None)
            run = fold_in(self.run, *new)
        return Estimator(run, run.recommender(self.recommender.titles), self.summary)

    def save(self, path: str | os.PathLike) -> None:
        """Write everything, the ratings too, to the new file `path`, for `load`. It is an export of
        serving/npz.py with more in it, so recommend.py reads it. Raise UserError if `path` is there
        already, or cannot be written."""
        path = Path(path)
        if path.exists():
            raise UserError(f"{path} already exists and is never overwritten: choose another name")
        content = model_content(self.run, self.recommender, self.summary)
        try:
            with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
                np.savez(file, allow_pickle=False, **content)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror or error})") from error


def train(
    ratings: Any = None, test: pd.DataFrame | None = None, progress: bool = True, **settings: Any
) -> Estimator:
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
    models = [
        (w, [x.numpy() for x in each.parameters], each.config, each.values) for w, each in parts
    ]
    run = finished_run(models, config, known, split.by_item().train)
    return Estimator(run, run.recommender(titles), console.summary)


def load(path: str | os.PathLike) -> Estimator:
    """Return what `Estimator.save` wrote to `path`: it answers as before, to the last bit, and
    needs no file of ratings. Raise UserError if the file is damaged, or another's."""
    start_tensorflow(lambda _: None)
    saved = read_model(path)
    config, recommender = saved.config, saved.recommender
    models = zip([f.weight for f in recommender.factors], saved.parameters,
                 model_configs(config), saved.values, strict=True)
    run = finished_run(models, config, saved.ratings, saved.train, f"the parameters in {path}")
    return Estimator(run, recommender, saved.summary)


def read_given(
    ratings: Any, test: Any, settings: dict[str, Any], console: Console
) -> tuple[Config, Ratings]:
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
        files.append(new_file(test, columns, config.columns, name="test DataFrame"))
    known = read_files("DataFrame", files, config, console.log)
    return resolve(config, known), known


def new_file(
    frame: pd.DataFrame, columns: str | None, before: str | None, name: str = "DataFrame"
) -> FrameFile:
    """Return a second DataFrame: its `columns`, or those named as `before`, or the usual ones."""
    try:
        return FrameFile(frame, columns or before, name=name)
    except UserError:
        if columns or not before:
            raise
        return FrameFile(frame, name=name)


def finished_run(
    models: Iterable[tuple[float, Sequence[np.ndarray], Config, np.ndarray | None]],
    config: Config, known: Ratings, train: RatingMatrix, named: str = "the parameters",
) -> FinishedRun:
    """Return what main.py would have left, read again. `models`: weight, parameters, settings and
    `AutoRec.values` of each; train: items x users."""
    scale = known.unit.model_scale
    members = tuple(
        Member(weight, with_parameters(values, own, train, scale, named, rating_values))
        for weight, values, own, rating_values in models
    )
    return FinishedRun(config, known.fingerprint, known, train, members)
