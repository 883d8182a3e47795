"""Recommendations for a person who is not in the model, from a few ratings.

The model does not change: the person gets the embedding of a new user, as in fold_in.py, and nobody
else's is fitted again.
"""

from dataclasses import replace

import numpy as np

from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.model.factors import Factors
from autorec_tf.serving.fold_in import Side, implicit_vectors
from autorec_tf.serving.recommender import Recommender
from autorec_tf.serving.trained_run import FinishedRun
from autorec_tf.system.errors import AutoRecWarning, Log, UserError


def for_new_user(run: FinishedRun, recommender: Recommender, items: np.ndarray,
                 values: np.ndarray, log: Log) -> Recommender:
    """Return a recommender for a single new user, whose index is 0.

    Args:
        run: the finished run.
        recommender: the recommender of `run`.
        items: [ratings], the ids of the items that the user has rated, each once.
        values: [ratings], the ratings on the file's scale.
        log: called with a warning about items without training ratings, which are ignored.

    Raises:
        UserError: if none of the items has training ratings.
    """
    index = recommender.items.get_indexer(items)
    is_trained = (index >= 0) & (np.where(index < 0, 0, recommender.item_ratings[index]) > 0)
    if not is_trained.all():
        line = (f"{int((~is_trained).sum()):,} of the {len(items):,} rated items have no training "
                f"ratings, first item {items[int(is_trained.argmin())]}")
        if not is_trained.any():
            raise UserError(f"{line}. Pass ratings of items that the model knows, or use fold_in.")
        log(AutoRecWarning(f"{line}. Their ratings are ignored."))
    order = np.argsort(index[is_trained])
    index, values = index[is_trained][order].astype(np.int32), values[is_trained][order]
    ratings = np.asarray(run.ratings.unit.to_model(values), np.float32)
    rated = RatingMatrix(np.array([0, len(index)]), index, ratings, len(recommender.item_ids))
    return replace(recommender, user_ids=np.zeros(1, np.int64), user_ratings=rated.row_counts,
                   factors=fitted_user(run, index, ratings), rated=rated)


def fitted_user(run: FinishedRun, items: np.ndarray, ratings: np.ndarray) -> list[Factors]:
    """Return the factors of `run`, with the embedding of one new user in place of those of all
    users.

    Args:
        run: the finished run, which does not change.
        items: [ratings], the indices of the items that the user has rated, ascending.
        ratings: float32 [ratings], on the models' scale.
    """
    factors = []
    for member, f, (of_columns, of_rows) in zip(run.members, run.factors, run.priors, strict=True):
        side = Side(f, implicit_vectors(member.model, f))
        is_linear = f.output_activation == "identity"
        if f.orientation == "user":
            h = of_rows.fit(side.row(items, ratings), f.output, is_linear)
            factors.append(replace(f, row_embeddings=h[None].astype(np.float32)))
            continue
        w = of_columns.fit(side.column(items, ratings), f.output, is_linear, side.pooled_ratings)
        alone = replace(f, Wt=np.empty((1, f.Wt.shape[1]), np.float32), b=np.empty(1, np.float32))
        Side(alone, side.Y).set_column(0, items, w)
        factors.append(alone)
    return factors
