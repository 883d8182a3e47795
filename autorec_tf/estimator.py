"""A trained model in the Python API: prediction, recommendation, fold-in, saving and loading.

It consists of NumPy arrays and does not import TensorFlow, so it also works after a fork.
"""

import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.frame import FrameFile, as_pandas, frame_columns, user_frame
from autorec_tf.data.ids import known_ids, positions_of
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.serving.fold_in import fold_in
from autorec_tf.serving.new_user import for_new_user
from autorec_tf.serving.npz import model_content, read_saved_model
from autorec_tf.serving.recommender import (
    Choice,
    Recommender,
    at_least_1,
    cold_warning,
    predict_at,
    recommend,
    recommend_many,
    similar,
    similar_many,
    top,
)
from autorec_tf.serving.trained_run import FinishedRun
from autorec_tf.system.errors import AutoRecWarning, UserError, warn_caller
from autorec_tf.system.files import atomic_write


@dataclass(frozen=True, eq=False, repr=False)
class AutoRecModel:
    """A trained AutoRec, or a blend of several, with its ratings. `train` and `load` return it.

    Users and items are given by their ids in the ratings. 1, "1" and 1.0 are the same id. Ids are
    returned as int64 if all of them are whole numbers, and otherwise as text.

    Attributes:
        summary: Results of the training, as in main.py's summary.json.
        test_rmse: RMSE of the test ratings.
    """

    run: FinishedRun
    recommender: Recommender
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"<AutoRec on {self.run.ratings!r}, test RMSE {self.test_rmse:.4f}>"

    @property
    def test_rmse(self) -> float:
        """RMSE of the test ratings, predicted from training ratings only."""
        return self.summary["final_test_rmse"]

    def predict(self, users: Any, items: Any = None) -> np.ndarray:
        """Predict the ratings of (user, item) pairs.

        If the user or the item is unknown or has no training ratings, the prediction follows the
        setting `cold_rating`, and one AutoRecWarning names the first such pair and their number.

        Args:
            users: User ids, [pairs], in a list, an array or a Series; or one id; or, without
                `items`, a DataFrame of pairs, with columns as for `train`.
            items: Item ids, [pairs], or one id.

        Returns:
            Predicted ratings within the rating scale, float64 [pairs].

        Raises:
            UserError: The numbers of users and items differ, or ids are in a set, a nested list or
                a two-dimensional array.
        """
        with python_words():
            if items is not None:
                pairs = id_list(users, "users"), id_list(items, "items")
            else:
                pairs = pair_columns(users, self.run.config.columns)
        users, items = pairs
        user = positions_of(self.recommender.users, users)
        item = positions_of(self.recommender.items, items)
        if len(user) != len(item):
            raise UserError(f"{len(user):,} users and {len(item):,} items are not pairs. Give one "
                            "item for each user.")
        predictions, of_user, of_item = predict_at(self.recommender, user, item)
        if warning := cold_warning(users, items, of_user, of_item, self.run.config.cold_rating):
            warn_caller(warning)
        return predictions

    def recommend(self, user: Any = None, n: int = 10, *, users: Any = None, ratings: Any = None,
                  columns: Any = None, candidates: Any = None, exclude: Any = None,
                  include_rated: bool = False) -> pd.DataFrame:
        """Recommend the items with the highest predicted ratings that a user has not rated.

        Args:
            user: User id.
            n: Number of items.
            users: Several user ids, in place of `user`.
            ratings: In place of `user`, ratings of a person who is not in the model: a dictionary
                or a Series from items to ratings, or a DataFrame as for `fold_in`, perhaps without
                the column of the user. The model does not change, and items that it does not know
                are ignored, with an AutoRecWarning.
            columns: Column names of `ratings`, as for `fold_in`.
            candidates: Ids of the only items to choose from. Unknown ones are ignored, with an
                AutoRecWarning.
            exclude: Ids of items to leave out.
            include_rated: Whether to recommend items that the user has rated, too.

        Returns:
            DataFrame of `n` rows or fewer, with index `rank` (from 1) and columns `item`, `title`,
            `prediction` and `ratings`, the number of training ratings of the item. With `users`,
            `n` rows or fewer for each of them, in their order, with `user` and `rank` as the first
            columns.

        Raises:
            UserError: A user is unknown or has no training ratings, `ratings` are invalid or of
                unknown items only, or `n` is below 1.
        """
        if sum(each is not None for each in (user, users, ratings)) != 1:
            raise UserError("recommend needs one of user, users and ratings.")
        n, choice = at_least_1(n), self.choice(candidates, exclude, include_rated)
        if ratings is not None:
            with python_words():
                _, items, values = self.read(user_frame(ratings, as_setting("columns", columns),
                                                        self.run.config.columns), one_user=True)
            guest = for_new_user(self.run, self.recommender, items, values, log_warnings)
            return recommend(guest, 0, n, choice)
        if users is not None:
            wanted = known_ids(self.recommender.users, id_list(users, "users"))
            return recommend_many(self.recommender, wanted, n, choice)
        (user,) = known_ids(self.recommender.users, one_id(user, "user"))
        return recommend(self.recommender, user, n, choice)

    def recommend_all(self, n: int = 10, path: str | os.PathLike | None = None, *,
                      candidates: Any = None, exclude: Any = None,
                      include_rated: bool = False) -> Iterator[pd.DataFrame] | None:
        """Recommend items to every user with a training rating, some hundred users at a time.

        Args:
            n: Number of items for each user.
            path: New CSV file to write the recommendations to, in place of returning them.
            candidates, exclude, include_rated: As for `recommend`.

        Returns:
            Iterator over DataFrames with the columns `user`, `rank`, `item`, `prediction` and
            `ratings`, or None with `path`.

        Raises:
            UserError: `n` is below 1, or the file already exists or cannot be written.
        """
        choice = self.choice(candidates, exclude, include_rated)
        tables = top(self.recommender, at_least_1(n), choice)
        if not path:
            return tables
        with new_file(path) as unfinished, open(unfinished, "w", encoding="utf-8",
                                                newline="") as file:
            for number, table in enumerate(tables):
                table.to_csv(file, index=False, header=number == 0, float_format="%.4f",
                             lineterminator="\n")
        return None

    def similar(self, item: Any = None, n: int = 10, *, items: Any = None) -> pd.DataFrame:
        """Return the items that are most similar to `item` by the cosine of their embeddings.

        Args:
            item: Item id.
            n: Number of items.
            items: Several item ids, in place of `item`.

        Returns:
            DataFrame as from `recommend`, with a column `similarity` in place of `prediction`. With
            `items`, `similar_to` and `rank` are the first columns.

        Raises:
            UserError: The item is unknown or has no training ratings, or `n` is below 1.
        """
        if (item is not None) == (items is not None):
            raise UserError("similar needs one of item and items.")
        if items is not None:
            wanted = known_ids(self.recommender.items, id_list(items, "items"))
            return similar_many(self.recommender, wanted, at_least_1(n))
        (item,) = known_ids(self.recommender.items, one_id(item, "item"))
        return similar(self.recommender, item, n)

    def choice(self, candidates: Any, exclude: Any, include_rated: bool) -> Choice:
        """Return the rules for the items that `recommend` may choose."""
        excluded, only = np.zeros(0, np.int64), None
        if exclude is not None:
            excluded = positions_of(self.recommender.items, id_list(exclude, "exclude"))
            excluded = excluded[excluded >= 0]
        if candidates is not None:
            given = id_list(candidates, "candidates")
            only = positions_of(self.recommender.items, given)
            if (unknown := only < 0).any():
                first = list(given)[int(unknown.argmax())]
                warn_caller(AutoRecWarning(
                    f"{int(unknown.sum()):,} of {len(only):,} candidates are not among the items "
                    f"of the ratings, first {first}. They are ignored."))
            only = np.unique(only[only >= 0])
        return Choice(only, excluded, include_rated)

    def read(self, file: FrameFile,
             one_user: bool = False) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the user ids, the item ids and the ratings in `file`, read as for training. Raise
        UserError if they are invalid, or, with `one_user`, of several users."""
        users, items, values = self.run.read(file, log_warnings)
        if one_user and (users != users[0]).any():
            raise UserError(f"{file.path}: the ratings are of several users, such as {users[0]} "
                            f"and {users[users != users[0]][0]}. Pass the ratings of one person, "
                            "or use fold_in.")
        return users, items, values

    def fold_in(self, ratings: Any, columns: Any = None) -> "AutoRecModel":
        """Return a model that also uses new ratings, without training again.

        This model does not change, and the new model has the same summary. Repeated ratings of a
        pair that the training's setting `duplicates` resolves are an AutoRecWarning.

        Args:
            ratings: DataFrame or another table with `to_pandas()`, with columns as for `train`,
                and new or known users and items. A new rating
                replaces the known one of the same user and item.
            columns: Column names as for `train`; by default those of the training ratings.

        Returns:
            The new model.

        Raises:
            UserError: The ratings are invalid, or this model is from an export and knows both the
                user and the item of a rating.
        """
        with python_words():
            columns = as_setting("columns", columns)
            new = self.read(FrameFile(ratings, columns, self.run.config.columns))
            run = fold_in(self.run, *new)
        return AutoRecModel(run, run.recommender(self.recommender.titles), self.summary)

    def train_more(self, new_ratings: pd.DataFrame, test: pd.DataFrame | None = None,
                   complete: bool = False, progress: bool = True, columns: Any = None,
                   **settings: Any) -> "AutoRecModel":
        """Return a model that starts from this model's parameters and is trained on more ratings.

        This model does not change. Its training ratings remain training ratings and its test
        ratings test ratings, also with a new value. A tenth of the new pairs (see `train_ratio`)
        are test ratings, too. docs/using.md describes the default number of epochs.

        Args:
            new_ratings: DataFrame as for `train`, with new or known users and items. A new rating
                replaces the known one of the same user and item.
            test: DataFrame with more test ratings; all new pairs in `new_ratings` are then training
                ratings.
            complete: Whether the DataFrames contain all ratings; known ratings that are not in them
                are then dropped.
            progress: Whether to print progress to stdout.
            columns: Column names as for `train`; by default those of the training ratings.
            **settings: Settings as for `train`, such as `train_epoch=20`; by default those of this
                model. Settings that its parameters need cannot change.

        Returns:
            The new model.

        Raises:
            UserError: The ratings or the settings are invalid, this model is a blend or has
                validation ratings, or `test` contains training ratings of this model.
        """
        from autorec_tf.train_run import train_more

        frames = {"DataFrame": new_ratings}
        if test is not None:
            frames["test DataFrame"] = test
        return AutoRecModel(*train_more(self.run, self.summary.get("epochs"), frames, complete,
                                        progress, columns, settings))

    def save(self, path: str | os.PathLike) -> None:
        """Write the model and its ratings to a file for `load` or recommend.py.

        The format is described in autorec_tf/serving/npz.py.

        Args:
            path: New file, such as "model.npz".

        Raises:
            UserError: The file already exists or cannot be written.
        """
        content = model_content(self.run, self.recommender, self.summary)
        with new_file(path) as unfinished, open(unfinished, "wb") as file:
            np.savez(file, allow_pickle=False, **content)

    def __reduce__(self) -> tuple[Callable[[bytes], "AutoRecModel"], tuple[bytes]]:
        """Pickle and copy the content of `save`, which is checked when it is read."""
        file = io.BytesIO()
        np.savez(file, allow_pickle=False,
                 **model_content(self.run, self.recommender, self.summary))
        return unpickled, (file.getvalue(),)


@contextmanager
def new_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a path to write to, which becomes the new file `path` when it is complete. Raise
    UserError if `path` exists or cannot be written."""
    path = Path(path)
    if path.exists():
        raise UserError(f"{path} already exists and is never overwritten. Choose another name.")
    try:
        with atomic_write(path) as unfinished:
            yield unfinished
    except OSError as error:
        raise UserError(f"cannot write {path} ({error.strerror or error})") from error


def one_id(given: Any, name: str) -> list[Any]:
    """Return a list of the id `given`. Raise UserError if there are several."""
    if pd.api.types.is_list_like(given):
        raise UserError(f"{name} is a {type(given).__name__}, not one id. Pass several as "
                        f"{name}s=.")
    return [given]


def id_list(ids: Any, name: str) -> Any:
    """Return several ids, or one, or those in a table with one column, as a list, a one-dimensional
    array or a Series. Raise UserError, with the `name` of the argument, if they have no order or
    more than one dimension."""
    ids = as_pandas(ids)
    ids = ids.squeeze("columns") if isinstance(ids, pd.DataFrame) else ids
    if not pd.api.types.is_list_like(ids):
        return [ids.item() if isinstance(ids, np.ndarray) else ids]
    kind, shape = type(ids).__name__, getattr(ids, "shape", ())
    if isinstance(ids, set | frozenset | Mapping) or len(shape) > 1:
        of_shape = f" of shape {shape}" if shape else ""
        raise UserError(f"{name}: a {kind}{of_shape} is not a list of ids. Pass a list, a Series, "
                        "or an array of one dimension.")
    ids = ids if hasattr(ids, "dtype") else list(ids)
    if isinstance(ids, list) or ids.dtype == np.dtype(object):
        for position, one in enumerate(ids):
            if pd.api.types.is_list_like(one):
                raise UserError(f"{name}: entry {position} is a {type(one).__name__}, not an id. "
                                "Pass a list of numbers or text.")
    return ids


def pair_columns(pairs: Any, before: str | None) -> tuple[pd.Series, pd.Series]:
    """Return the users and the items of a table of pairs. Its columns have the names of earlier
    ratings, `before`, or usual names. Raise UserError if they are not found."""
    frame = as_pandas(pairs)
    if not isinstance(frame, pd.DataFrame):
        raise UserError("predict needs users and items, or a DataFrame of both. Pass the items, "
                        "too.")
    user, item = frame_columns(Path("DataFrame"), frame, None, before, 2)
    return frame.iloc[:, user], frame.iloc[:, item]


def log_warnings(line: str | AutoRecWarning) -> None:
    """Issue a warning, and ignore other lines."""
    if isinstance(line, AutoRecWarning):
        warn_caller(line)


def load(path: str | os.PathLike) -> AutoRecModel:
    """Load a model that `AutoRecModel.save` wrote, or an export.

    Its answers are the same to the last bit. The rating files and TensorFlow are not needed. An
    export holds no ratings: its model folds in new users and items only, does not leave out what
    known users have rated, and has the test RMSE NaN.

    Args:
        path: File from `AutoRecModel.save`, or `autorec.npz` from export.py.

    Returns:
        The model.

    Raises:
        UserError: The file cannot be read, is damaged, or is another kind of file.
    """
    return loaded(path)


def unpickled(content: bytes) -> AutoRecModel:
    """Return the model of `AutoRecModel.__reduce__`. Raise UserError as in `load`."""
    return loaded(PickledFile(content))


class PickledFile(io.BytesIO):
    """The content of a saved model within a pickle."""

    def __str__(self) -> str:
        return "the pickled model"


def loaded(path: str | os.PathLike | PickledFile) -> AutoRecModel:
    saved = read_saved_model(path)
    run = saved.run(f"the parameters in {path}")
    return AutoRecModel(run, saved.recommender, saved.summary)
