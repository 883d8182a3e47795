"""A finished run that can predict, recommend and fold in new ratings.

With its `known_factors`, it needs no TensorFlow: a loaded model consists of NumPy arrays only.
finished_run.py reads the runs of earlier versions, whose models are TensorFlow's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.delimited import RatingsFile, Rules
from autorec_tf.data.merge import read_more
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.model.factors import Factors
from autorec_tf.model.prior import Prior
from autorec_tf.serving.fold_in import learn_priors
from autorec_tf.serving.recommender import Recommender, cold_pairs, rated
from autorec_tf.system.errors import Log, UserError

NOTHING_FIXED = np.zeros(0, np.int64), np.zeros(0, np.int64)


class WeightedModel(NamedTuple):
    """A trained model and its weight in a blend, or 1."""

    weight: float
    model: Any  # TrainedParameters, or an AutoRec


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """A run that can predict.

    Args:
        config: the settings.
        fingerprint: the fingerprint of the ratings.
        ratings: all known ratings.
        train: the training ratings, items x users.
        members: the models of a blend, or one model.
        known_factors: the members ready to predict, if they are known already.
        known_priors: of each member's columns and rows, if they are known already.
        known_cold: the baseline that predicts cold pairs (rows are users), if it is known already.
        known_rated: users x items, all known ratings, if this matrix is known already.
        known_counts: the numbers of training ratings of users and of items, if they are known
            already.
        fixed: of an export, the indices of users and of items whose ratings it does not hold, which
            cannot be fitted again.
    """

    config: Config
    fingerprint: str
    ratings: Ratings
    train: RatingMatrix
    members: tuple[WeightedModel, ...]
    known_factors: tuple[Factors, ...] = ()
    known_priors: tuple[tuple[Prior, Prior], ...] = ()
    known_cold: Baseline | None = None
    known_rated: RatingMatrix | None = None
    known_counts: tuple[np.ndarray, ...] = ()
    fixed: tuple[np.ndarray, np.ndarray] = NOTHING_FIXED

    @property
    def is_export(self) -> bool:
        """Whether training ratings are missing, so that only new users and items can be fitted."""
        return len(self.fixed[0]) > 0

    @cached_property
    def factors(self) -> tuple[Factors, ...]:
        """The members ready to predict from the training ratings."""
        return self.known_factors or tuple(
            replace(factors, weight=member.weight)
            for member in self.members
            for factors in member.model.factors(oriented(self.train, member.model.config))
        )

    @cached_property
    def cold(self) -> Baseline:
        """The baseline that predicts cold pairs; its rows are users."""
        return self.known_cold or cold_pairs(self.config, self.ratings, self.train)

    @cached_property
    def rated(self) -> RatingMatrix:
        """All known ratings, users x items, which recommendations leave out."""
        return self.known_rated if self.known_rated is not None else rated(self.ratings)

    @cached_property
    def counts(self) -> tuple[np.ndarray, ...]:
        """The numbers of training ratings of users and of items: int64."""
        return self.known_counts or (self.train.column_counts, self.train.row_counts)

    @cached_property
    def priors(self) -> tuple[tuple[Prior, Prior], ...]:
        """What folding in expects of new columns and rows of each member, learned once. Raise
        UserError for an export of an earlier version."""
        if self.is_export and not self.known_priors:
            raise UserError("the export is of an earlier version and contains nothing that folding "
                            "in needs. Export the run again.")
        return self.known_priors or tuple(
            learn_priors(member.model, factors, oriented(self.train, member.model.config))
            for member, factors in zip(self.members, self.factors, strict=True)
        )

    def read(self, file: RatingsFile, log: Log) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the user ids, the item ids and the ratings in another `file`, read as those of
        this run."""
        config, known = self.config, self.ratings
        rules = Rules(known.scale, no_rating=config.no_rating, no_id=config.no_id)
        return read_more(file, (known.user_ids, known.item_ids), rules, config.duplicates, log)

    def recommender(self, titles: Mapping[str, str] | None = None) -> Recommender:
        """Return the recommender for this run's ids, which predicts from its training ratings."""
        ratings, (of_users, of_items) = self.ratings, self.counts
        return Recommender(ratings.user_ids, ratings.item_ids, of_users, of_items, ratings.unit,
                           self.cold, self.factors, self.rated, titles or {})


def oriented(matrix: RatingMatrix, config: Config) -> RatingMatrix:
    """Return `matrix`, whose rows are items, in the orientation of `config`."""
    return matrix if config.orientation == "item" else matrix.transposed()
