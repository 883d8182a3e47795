"""Fold new ratings into a finished run without training again.

New rows and columns get the embedding that their ratings make most likely, under a prior that is
learned from the training rows and columns (model/prior.py). This also applies to known ones whose
new ratings are at least a tenth of those known before. All other embeddings and all parameters
remain, so predictions of other known pairs do not change. With the SVD++ decoder, the weights of a
column are fitted around the sum of Y over its rows.

New columns have V_u = 0: their ratings do not change the hidden codes of known rows. Y_i of a new
row is the mean of the known ones. This module and its fit need no TensorFlow.
"""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.ids import with_new
from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.evaluation.baseline import ITEM_DAMPING, USER_DAMPING, Baseline
from autorec_tf.model.factors import Factors
from autorec_tf.model.parameters import COLUMN, ROW, SVDPP_SCALE, TrainedParameters
from autorec_tf.model.prior import POOLED_RATINGS, Observed, Prior, Sample, learn_prior
from autorec_tf.system.errors import UserError

MINIMUM = 0.1  # new ratings, as a fraction of those known before, by which known ones are fitted
SAMPLES, SAMPLE_RATINGS = 800, 200  # rows or columns that a prior is learned from; ratings of each
FEW = 3  # ratings that are known where a prior is learned for a few
POOLED = 100  # ratings of a row or column in its pooled regression
# With a sum over Y: the number of ratings with which it has 63 % of its size, and the
# `pooled_ratings` of the prior of columns.
IMPLICIT_RATINGS, POOLED_WITH_SUM = 4.0, 20.0
SPREADS = 0.3, 0.1  # of the priors of columns and of rows
SEARCHED = 50  # columns whose ratings are searched; for more, all ratings are sorted by column
Entries = dict[int, tuple[np.ndarray, np.ndarray]]  # other indices and ratings, by row or column
FinishedRun = Any  # from trained_run.py, which imports this module


def fold_in(run: FinishedRun, users: np.ndarray, items: np.ndarray,
            values: np.ndarray) -> FinishedRun:
    """Return `run` with new ratings among its training ratings. New ids follow the known ones.

    Args:
        run: the finished run.
        users, items: [ratings], the ids of the new ratings, in which each pair occurs once.
        values: [ratings], on the file's scale. They replace known ratings of the same pairs.

    Raises:
        UserError: if an export would need the earlier ratings of a user and an item.
        ValueError: if a rating is outside the scale.
    """
    known = run.ratings
    user_ids, item_ids = with_new(known.user_ids, users), with_new(known.item_ids, items)
    new = (
        pd.Index(user_ids).get_indexer(users).astype(np.int32),
        pd.Index(item_ids).get_indexer(items).astype(np.int32),
        np.asarray(values, known.values.dtype),
    )
    refuse_fixed(run, *new[:2])
    shape = len(item_ids), len(user_ids)
    triples = renewed((known.users, known.items, known.values), new, shape)
    ratings = replace(known, users=triples[0], items=triples[1], values=triples[2],
                      user_ids=user_ids, item_ids=item_ids, held_out=None, files={})
    scaled = np.asarray(known.unit.to_model(new[2]), np.float32)
    rated, _ = inserted(run.rated, *new, shape[::-1])
    train, is_new = inserted(run.train, new[1], new[0], scaled, shape)
    counts = tuple(grown(before, size) + np.bincount(index[is_new], minlength=size)
                   for before, index, size in zip(run.counts, new, shape[::-1], strict=False))
    of_users, of_items = (
        np.setdiff1d(fitted_again(before, index, size), fixed)
        for before, index, size, fixed in zip(run.counts, new, shape[::-1], run.fixed, strict=False)
    )
    by_user, by_item = columns_of(train, of_users), {i: row_of(train, i) for i in of_items}
    members, factors = [], []
    for member, before, priors in zip(run.members, run.factors, run.priors, strict=True):
        sides = (shape, by_item, by_user)
        if before.orientation == "user":
            sides = (shape[::-1], by_user, by_item)
        after, model = folded(member.model, before, priors, *sides)
        members.append(member._replace(model=model))
        factors.append(after)
    return replace(run, ratings=ratings, train=train, members=tuple(members),
                   known_factors=tuple(factors), known_priors=run.priors,
                   known_cold=cold_with(run, shape, by_user, by_item), known_rated=rated,
                   known_counts=counts)


def refuse_fixed(run: FinishedRun, users: np.ndarray, items: np.ndarray) -> None:
    """Raise UserError if both the user and the item of a new rating (indices) are known to an
    export, which does not hold their other ratings."""
    both = np.isin(users, run.fixed[0]) & np.isin(items, run.fixed[1])
    if both.any():
        first, known = int(both.argmax()), run.ratings
        raise UserError(
            f"{int(both.sum()):,} of {len(both):,} ratings are of a user and an item that the "
            f"export already knows, first user {known.user_ids[users[first]]} and item "
            f"{known.item_ids[items[first]]}. An export holds no ratings and folds in new users "
            "and new items only: leave these ratings out, or use the run folder.")


def cold_with(run: FinishedRun, shape: tuple[int, int], by_user: Entries,
              by_item: Entries) -> Baseline:
    """Return the baseline of `run` (rows are users) in a larger `shape` (items, users), with the
    biases of some users and items fitted to their ratings, first those of the users; the others
    remain."""
    cold = run.cold
    user_bias, item_bias = grown(cold.row_bias, shape[1]), grown(cold.column_bias, shape[0])
    if run.config.cold_rating == "mean":
        for u, (rated, ratings) in by_user.items():
            residuals = ratings - cold.mean - item_bias[rated]
            user_bias[u] = residuals.sum() / (USER_DAMPING + len(ratings))
        for i, (raters, ratings) in by_item.items():
            residuals = ratings - cold.mean - user_bias[raters]
            item_bias[i] = residuals.sum() / (ITEM_DAMPING + len(residuals))
    return replace(cold, row_bias=user_bias, column_bias=item_bias)


def row_of(matrix: RatingMatrix, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns that row `i` of `matrix` has ratings of, and the ratings."""
    part = slice(matrix.indptr[i], matrix.indptr[i + 1])
    return matrix.indices[part], matrix.values[part]


def columns_of(matrix: RatingMatrix, columns: np.ndarray) -> Entries:
    """Return the rows that each of some `columns` of `matrix` has ratings of, and the ratings."""
    if len(columns) > SEARCHED:
        by_column = matrix.transposed()
        return {u: row_of(by_column, u) for u in columns}
    entries = {}
    for u in columns:
        at = np.flatnonzero(matrix.indices == np.int32(u))
        entries[u] = np.searchsorted(matrix.indptr, at, "right") - 1, matrix.values[at]
    return entries


def fitted_again(known: np.ndarray, new: np.ndarray, size: int) -> np.ndarray:
    """Return the indices, below `size`, that are fitted: those with enough `new` ratings (an index
    each), compared with the numbers `known`."""
    counts = np.bincount(new, minlength=size)
    before = np.append(known, np.zeros(size - len(known), known.dtype))
    return np.flatnonzero((counts > 0) & (counts >= MINIMUM * before))


def renewed(known: tuple[np.ndarray, ...], new: tuple[np.ndarray, ...],
            shape: tuple[int, int]) -> list[np.ndarray]:
    """Return the triples (users, items, values) `known` without the pairs in `new`, then `new`.
    `shape`: the numbers of items and users."""
    is_rating_again = np.zeros(shape[1], bool)
    is_rating_again[new[0]] = True
    at = np.flatnonzero(is_rating_again[known[0]])
    pairs, new_pairs = (x[0].astype(np.int64) * shape[0] + x[1] for x in
                        ([known[0][at], known[1][at]], new))
    replaced = at[np.isin(pairs, new_pairs)]
    if len(replaced):
        known = tuple(np.delete(x, replaced) for x in known)
    return [np.append(old, fresh) for old, fresh in zip(known, new, strict=True)]


def inserted(matrix: RatingMatrix, rows: np.ndarray, columns: np.ndarray, values: np.ndarray,
             shape: tuple[int, int]) -> tuple[RatingMatrix, np.ndarray]:
    """Return `matrix` in the larger `shape` with more ratings, which replace those of the same
    pairs, and which ratings are of new pairs: bool. It is copied without sorting it again."""
    key = matrix.rows.astype(np.int64) * shape[1] + matrix.indices
    order = np.lexsort((columns, rows))
    is_new = np.empty(len(rows), bool)
    rows, columns, values = rows[order], columns[order], values[order]
    new = rows.astype(np.int64) * shape[1] + columns
    at = np.searchsorted(key, new)
    is_known = np.append(key, -1)[at] == new
    old = matrix.values.copy()
    old[at[is_known]] = values[is_known]
    at, fresh = at[~is_known], ~is_known
    is_new[order] = fresh
    counts = np.append(matrix.row_counts, np.zeros(shape[0] - matrix.num_rows, np.int64))
    counts += np.bincount(rows[fresh], minlength=shape[0])
    return RatingMatrix(np.append(0, np.cumsum(counts)),
                        np.insert(matrix.indices, at, columns[fresh]),
                        np.insert(old, at, values[fresh]), shape[1]), is_new


def folded(model: Any, before: Factors, priors: tuple[Prior, Prior], shape: tuple[int, int],
           by_row: Entries, by_column: Entries) -> tuple[Factors, TrainedParameters]:
    """Return the factors `before` and their `model` with some rows and columns fitted.

    Args:
        model: an `AutoRec`, or its parameters.
        before: its factors.
        priors: of its columns and of its rows.
        shape: the new numbers of rows and columns.
        by_row: the rows that are fitted: columns and ratings of all their training ratings, with
            the new ones.
        by_column: the same of the columns that are fitted.
    """
    codes, Wt, b = grown(before.row_embeddings, shape[0]), *(
        grown(x, shape[1]) for x in (before.Wt, before.b))
    after, Y = replace(before, row_embeddings=codes, Wt=Wt, b=b), implicit_vectors(model, before)
    if Y is not None:
        Y = grown(Y, shape[0], Y.mean(0))
    side = Side(after, Y)
    is_linear, f = before.output_activation == "identity", after.output
    is_open = np.zeros(shape[0], bool)
    is_open[list(by_row)] = True
    own: dict[int, np.ndarray] = {}  # W_u of each fitted column, without the sum over Y

    def fit_columns(but: np.ndarray) -> None:
        for u, (i, ratings) in by_column.items():
            use = ~but[i]
            w = priors[0].fit(side.column(i[use], ratings[use]), f, is_linear,
                              side.pooled_ratings)
            own[u] = w[:-1]
            side.set_column(u, i, w)

    fit_columns(is_open)
    for i, (u, ratings) in by_row.items():
        codes[i] = priors[1].fit(side.row(u, ratings), f, is_linear)
    if any(is_open[i].any() for i, _ in by_column.values()):
        fit_columns(np.zeros_like(is_open))
    return after, with_factors(model, after, Y, own)


class Side:
    """The training ratings of single rows and columns, as regressions on their embeddings.

    Args:
        factors: the embeddings of all rows and columns.
        Y: of a model with row biases, float32 (rows, l), 0 without the SVD++ decoder. The last unit
            of an embedding is then the bias of the row, and 1 in a column.
    """

    def __init__(self, factors: Factors, Y: np.ndarray | None) -> None:
        self.factors, self.Y = factors, Y
        self.units = factors.Wt.shape[1] - (Y is not None)
        has_sum = Y is not None and Y.any()
        self.pooled_ratings = POOLED_WITH_SUM if has_sum else POOLED_RATINGS

    def implicit(self, rows: np.ndarray) -> np.ndarray:
        """Return the sum of Y over `rows` in a column's weights: float64 [units]."""
        if self.Y is not None and len(rows):
            return implicit_weight(len(rows)) * self.Y[rows].sum(0, dtype=np.float64)
        return np.zeros(self.units)

    def column(self, rows: np.ndarray, ratings: np.ndarray) -> Observed:
        """Return the regression of a column's ratings on (W_u, b_u)."""
        inputs = self.column_inputs(rows).astype(np.float64)
        return Observed(inputs, self.offset(rows), ratings.astype(np.float64))

    def column_inputs(self, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """Return (h_i, 1) of `rows`: float32 (rows, units + 1)."""
        h = self.factors.row_embeddings[rows, : self.units]
        return np.concatenate([h, np.ones((len(h), 1), h.dtype)], 1)

    def offset(self, rows: np.ndarray, known: np.ndarray | None = None) -> np.ndarray:
        """Return the part of a column's predictions that does not depend on (W_u, b_u): float64
        [rows]. The sum over Y is that of the `known` rows; by default of `rows`, each rating
        without its own, as in leave-one-out training."""
        if self.Y is not None and len(rows):
            h, summed = self.factors.row_embeddings[rows], known if known is not None else rows
            x = h[:, -1] + np.einsum("ij,j->i", h[:, :-1], self.implicit(summed))
            if known is not None:
                return x
            own = np.einsum("ij,ij->i", h[:, :-1], self.Y[rows])
            return x - implicit_weight(len(h)) * own
        return np.zeros(len(rows))

    def row(self, columns: np.ndarray, ratings: np.ndarray) -> Observed:
        """Return the regression of a row's ratings of `columns` on its embedding."""
        inputs = self.factors.Wt[columns].astype(np.float64)
        return Observed(inputs, self.factors.b[columns].astype(np.float64),
                        ratings.astype(np.float64))

    def set_column(self, u: int, rows: np.ndarray, fitted: np.ndarray) -> None:
        self.factors.Wt[u, : self.units] = fitted[:-1] + self.implicit(rows)
        self.factors.Wt[u, self.units :] = 1.0
        self.factors.b[u] = fitted[-1]


def implicit_weight(count: int) -> float:
    """Return the weight of each Y_i in a column with `count` ratings: that of the SVD++ decoder,
    smaller with few ratings, because Y was learned from columns with more."""
    return SVDPP_SCALE / count**0.5 * (1 - math.exp(-count / IMPLICIT_RATINGS))


def learn_priors(model: Any, factors: Factors, matrix: RatingMatrix) -> tuple[Prior, Prior]:
    """Return the priors of a model's columns and rows.

    Args:
        model: an `AutoRec`, or its parameters.
        factors: its factors.
        matrix: its training ratings, in its orientation.
    """
    Y = implicit_vectors(model, factors)
    side, by_column = Side(factors, Y), matrix.transposed()
    own = parameter_of(model, "Wt") if Y is not None else factors.Wt  # without the sums over Y
    weights = np.concatenate([own, factors.b[:, None]], 1)  # (columns, units + 1)
    column_counts, row_counts = by_column.row_counts, matrix.row_counts

    def columns() -> Iterator[tuple[Sample, Sample]]:
        for _, at in samples(by_column):
            seen, others = by_column.indices[at], at[FEW:POOLED] if len(at) > FEW else at
            few = by_column.indices[others]
            yield (Sample(seen, side.offset(seen), by_column.values[at]),
                   Sample(few, side.offset(few, seen[:FEW]), by_column.values[others]))

    def rows() -> Iterator[tuple[Sample, Sample]]:
        for _, at in samples(matrix):
            columns = matrix.indices[at]
            seen = Sample(columns, factors.b[columns].astype(np.float64), matrix.values[at])
            yield seen, Sample(*(x[:POOLED] for x in seen))

    return (learn_prior(weights, column_counts, side.column_inputs(),
                        columns(), factors.output, SPREADS[0]),
            learn_prior(factors.row_embeddings, row_counts, factors.Wt, rows(), factors.output,
                        SPREADS[1]))


def samples(matrix: RatingMatrix) -> Iterator[tuple[int, np.ndarray]]:
    """Yield rows of `matrix`, drawn by their numbers of ratings, and positions of some of these."""
    rng, counts = np.random.default_rng(0), matrix.row_counts
    for row in rng.choice(len(counts), min(SAMPLES, 4 * len(counts)), p=counts / counts.sum()):
        at = np.arange(matrix.indptr[row], matrix.indptr[row + 1])
        yield int(row), rng.permutation(at)[:SAMPLE_RATINGS]


def parameter_of(model: Any, name: str) -> np.ndarray | None:
    """Return the parameter `name`, or None if `model` lacks it."""
    names = [parameter.name for parameter in model.declared]
    return np.asarray(model.parameters[names.index(name)]) if name in names else None


def implicit_vectors(model: Any, factors: Factors) -> np.ndarray | None:
    """Return Y of a `model` with row biases, 0 without the SVD++ decoder, None without row biases.
    `factors`: those of the model."""
    if model.config.decoder == "own":
        return None
    if (Y := parameter_of(model, "Y")) is not None:
        return Y
    return np.zeros((len(factors.row_embeddings), model.config.hidden_neuron[-1]), np.float32)


def grown(x: np.ndarray, size: int, fill: Any = 0.0) -> np.ndarray:
    """Return a copy of `x` with `size` rows, of which new ones are `fill`."""
    result = np.empty((size, *x.shape[1:]), x.dtype)
    result[: len(x)], result[len(x) :] = x, fill
    return result


def with_factors(model: Any, factors: Factors, Y: np.ndarray | None,
                 own: dict[int, np.ndarray]) -> TrainedParameters:
    """Return the parameters of `model` in the sizes of `factors`, with the `own` weights W_u of
    fitted columns. Those that only the encoder reads are 0 for new columns."""
    parameters = []
    for declared, x in zip(model.declared, map(np.asarray, model.parameters), strict=True):
        if Y is not None and declared.name == "Y":
            x = Y
        elif declared.name == "Wt":
            x = grown(x, len(factors.Wt))
            for u, weights in own.items():
                x[u] = weights
        elif declared.name == "b":
            x = factors.b
        elif declared.name == "c":
            x = factors.row_embeddings[:, -1].copy()
        elif COLUMN in declared.axes or ROW in declared.axes:
            size = len(factors.Wt if COLUMN in declared.axes else factors.row_embeddings)
            x = x if len(x) == size else grown(x, size)
        parameters.append(x)
    return TrainedParameters(model.config, model.values, model.declared, parameters)
