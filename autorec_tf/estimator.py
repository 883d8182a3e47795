"""A trained model in Python: predictions, recommendations, new ratings, and its file.

The modules that import TensorFlow are imported where they are used.
"""

import os
from dataclasses import dataclass
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
from autorec_tf.serving.recommender import Recommender, predict_at, recommend, similar
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import atomic_write
from autorec_tf.system.runtime import start_tensorflow


@dataclass(frozen=True, eq=False, repr=False)
class AutoRecModel:
    """A trained AutoRec, or a blend of several, with its ratings.

    Ids are those of the ratings, by the rules for files: 1, "1" and 1.0 are one id, and ids come
    back as numbers if all are whole numbers, and else as text. `summary` holds what main.py writes
    to summary.json.
    """

    run: Any  # serving.finished_run.FinishedRun, which imports TensorFlow
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
            raise UserError(f"{len(user):,} users and {len(item):,} items are not pairs")
        return predict_at(self.recommender, user, item)[0].astype(np.float64)

    def recommend(self, user: Any, n: int = 10) -> pd.DataFrame:
        """Return the `n` items that `user` is predicted to rate highest, of those not rated yet:
        item, title, prediction, ratings (training ratings of the item), by rank. Raise UserError
        for a user without training ratings."""
        return recommend(self.recommender, known_id(self.recommender.users, user), n)

    def similar(self, item: Any, n: int = 10) -> pd.DataFrame:
        """Return the `n` items most like `item`, as `recommend` does, with their similarity."""
        return similar(self.recommender, known_id(self.recommender.items, item), n)

    def fold_in(self, ratings: pd.DataFrame, columns: Any = None) -> "AutoRecModel":
        """Return a model that knows the new `ratings`, too, of new or known users and items,
        without training again; this one stays as it is, and the summary is its. A rating takes the
        place of a known one of the same pair. `columns` as in `train`, by default the same."""
        from autorec_tf.serving.fold_in import fold_in

        with python_words():
            config, known = self.run.config, self.run.ratings
            file = second_frame(ratings, as_setting("columns", columns), config.columns)
            ids = known.user_ids, known.item_ids
            rules = Rules(known.scale, no_rating=config.no_rating)
            new = read_more(file, ids, rules, config.duplicates, lambda _: None)
            run = fold_in(self.run, *new)
        return AutoRecModel(run, run.recommender(self.recommender.titles), self.summary)

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


def load(path: str | os.PathLike) -> AutoRecModel:
    """Return what `AutoRecModel.save` wrote to `path`: it answers as before, to the last bit, and
    needs no file of ratings. Raise UserError if the file is damaged, or another's."""
    start_tensorflow(lambda _: None)
    from autorec_tf.serving.finished_run import finished_run

    saved = read_saved_model(path)
    config, recommender = saved.config, saved.recommender
    models = zip([f.weight for f in recommender.factors], saved.parameters,
                 model_configs(config), saved.values, strict=True)
    run = finished_run(models, config, saved.ratings, saved.train, f"the parameters in {path}")
    return AutoRecModel(run, recommender, saved.summary)
