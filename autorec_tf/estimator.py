"""A trained model in the Python API: prediction, recommendation, fold-in, saving and loading.

Modules that import TensorFlow are imported in functions.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.blocks import Rules
from autorec_tf.data.frame import second_frame
from autorec_tf.data.ids import known_id, positions_of
from autorec_tf.data.merge import read_more
from autorec_tf.keywords import as_setting, python_words
from autorec_tf.resolution import model_configs
from autorec_tf.serving.npz import model_content, read_saved_model
from autorec_tf.serving.recommender import (
    Recommender,
    cold_warning,
    predict_at,
    recommend,
    similar,
)
from autorec_tf.system.errors import AutoRecWarning, UserError, warn_caller
from autorec_tf.system.files import atomic_write
from autorec_tf.system.runtime import start_tensorflow


@dataclass(frozen=True, eq=False, repr=False)
class AutoRecModel:
    """A trained AutoRec, or a blend of several, with its ratings. `train` and `load` return it.

    Users and items are given by their ids in the ratings. 1, "1" and 1.0 are the same id. Ids are
    returned as int64 if all of them are whole numbers, and otherwise as text.

    Attributes:
        summary: Results of the training, as in main.py's summary.json.
        test_rmse: RMSE of the test ratings.
    """

    run: Any  # a serving.finished_run.FinishedRun; that module imports TensorFlow
    recommender: Recommender
    summary: dict[str, Any]

    def __repr__(self) -> str:
        return f"<AutoRec on {self.run.ratings!r}, test RMSE {self.test_rmse:.4f}>"

    @property
    def test_rmse(self) -> float:
        """RMSE of the test ratings, predicted from training ratings only."""
        return self.summary["final_test_rmse"]

    def predict(self, users: Any, items: Any) -> np.ndarray:
        """Predict the ratings of (user, item) pairs.

        If the user or the item is unknown or has no training ratings, the prediction follows the
        setting `cold_rating`, and one AutoRecWarning names the first such pair and their number.

        Args:
            users: User ids, [pairs], or one id.
            items: Item ids, [pairs], or one id.

        Returns:
            Predicted ratings within the rating scale, float64 [pairs].

        Raises:
            UserError: The numbers of users and items differ.
        """
        user = positions_of(self.recommender.users, users)
        item = positions_of(self.recommender.items, items)
        if len(user) != len(item):
            raise UserError(f"{len(user):,} users and {len(item):,} items are not pairs. Give one "
                            "item for each user.")
        predictions, of_user, of_item = predict_at(self.recommender, user, item)
        if warning := cold_warning(users, items, of_user, of_item, self.run.config.cold_rating):
            warn_caller(warning)
        return predictions.astype(np.float64)

    def recommend(self, user: Any, n: int = 10) -> pd.DataFrame:
        """Recommend the items with the highest predicted ratings that `user` has not rated.

        Args:
            user: User id.
            n: Number of items.

        Returns:
            DataFrame of `n` rows or fewer, with index `rank` (from 1) and columns `item`, `title`,
            `prediction` and `ratings`, the number of training ratings of the item.

        Raises:
            UserError: The user is unknown or has no training ratings, or `n` is below 1.
        """
        return recommend(self.recommender, known_id(self.recommender.users, user), n)

    def similar(self, item: Any, n: int = 10) -> pd.DataFrame:
        """Return the items that are most similar to `item` by the cosine of their embeddings.

        Args:
            item: Item id.
            n: Number of items.

        Returns:
            DataFrame as from `recommend`, with a column `similarity` in place of `prediction`.

        Raises:
            UserError: The item is unknown or has no training ratings, or `n` is below 1.
        """
        return similar(self.recommender, known_id(self.recommender.items, item), n)

    def fold_in(self, ratings: pd.DataFrame, columns: Any = None) -> "AutoRecModel":
        """Return a model that also uses new ratings, without training again.

        This model does not change, and the new model has the same summary. Repeated ratings of a
        pair that the training's setting `duplicates` resolves are an AutoRecWarning.

        Args:
            ratings: DataFrame as for `train`, with new or known users and items. A new rating
                replaces the known one of the same user and item.
            columns: Column names as for `train`; by default those of the training ratings.

        Returns:
            The new model.

        Raises:
            UserError: The ratings are invalid.
        """
        from autorec_tf.serving.fold_in import fold_in

        with python_words():
            config, known = self.run.config, self.run.ratings
            file = second_frame(ratings, as_setting("columns", columns), config.columns)
            ids = known.user_ids, known.item_ids
            rules = Rules(known.scale, no_rating=config.no_rating, no_id=config.no_id)
            new = read_more(file, ids, rules, config.duplicates, log_warnings)
            run = fold_in(self.run, *new)
        return AutoRecModel(run, run.recommender(self.recommender.titles), self.summary)

    def save(self, path: str | os.PathLike) -> None:
        """Write the model and its ratings to a file for `load` or recommend.py.

        The format is described in autorec_tf/serving/npz.py.

        Args:
            path: New file, such as "model.npz".

        Raises:
            UserError: The file already exists or cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise UserError(f"{path} already exists and is never overwritten. Choose another "
                            "name.")
        content = model_content(self.run, self.recommender, self.summary)
        try:
            with atomic_write(path) as unfinished, open(unfinished, "wb") as file:
                np.savez(file, allow_pickle=False, **content)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror or error})") from error


def log_warnings(line: str | AutoRecWarning) -> None:
    """Issue a warning, and ignore other lines."""
    if isinstance(line, AutoRecWarning):
        warn_caller(line)


def load(path: str | os.PathLike) -> AutoRecModel:
    """Load a model that `AutoRecModel.save` wrote.

    Its answers are the same to the last bit. The rating files are not needed.

    Args:
        path: File from `AutoRecModel.save`.

    Returns:
        The model.

    Raises:
        UserError: The file cannot be read, is damaged, or is not from `AutoRecModel.save`.
    """
    start_tensorflow(lambda _: None)
    from autorec_tf.serving.finished_run import finished_run

    saved = read_saved_model(path)
    config, recommender = saved.config, saved.recommender
    models = zip([f.weight for f in recommender.factors], saved.parameters,
                 model_configs(config), saved.values, strict=True)
    run = finished_run(models, config, saved.ratings, saved.train, f"the parameters in {path}")
    run = replace(run, known_factors=tuple(recommender.factors), known_priors=saved.priors,
                  known_cold=recommender.cold)
    return AutoRecModel(run, recommender, saved.summary)
