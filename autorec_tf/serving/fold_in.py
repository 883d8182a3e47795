"""Fold new ratings into a finished run without training again.

- A new *row* (an item, in item orientation) needs no training: its hidden code is a forward pass
  over its ratings, as for every row. New ratings of a known row change its code in the same way.
  With one-hot inputs, a rating of an unknown value uses the vector of the nearest known value.
- A new *column* (a user, in item orientation) needs new weights. Only the new columns of V, D, W
  and b are fitted, to the training objective over the rows that they rate; all other parameters
  are frozen. With the SVD++ decoder, the bias of a new row is fitted in the same way, and its Y_i,
  which no prediction for the row uses, is the mean of the known ones.
"""

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import FULL_BATCH, Config
from autorec_tf.data.ids import with_new
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.model.batch import SparseRows
from autorec_tf.model.lbfgs import LBFGS, Evaluation
from autorec_tf.serving.finished_run import FinishedRun, WeightedModel, oriented
from autorec_tf.training.trainer import Objective

MAX_STEPS = 100  # of L-BFGS
TOLERANCE = 1e-5  # the smallest relative decrease of the objective for another step


def fold_in(run: FinishedRun, users: np.ndarray, items: np.ndarray,
            values: np.ndarray) -> FinishedRun:
    """Return `run` with new ratings among its training ratings. New ids follow the known ones.

    Args:
        run: the finished run.
        users, items: [ratings], the ids of the new ratings, in which each pair occurs once.
        values: [ratings], on the file's scale. They replace known ratings of the same pairs.

    Raises:
        ValueError: if a rating is outside the scale.
    """
    known = run.ratings
    user_ids, item_ids = with_new(known.user_ids, users), with_new(known.item_ids, items)
    new = (
        pd.Index(user_ids).get_indexer(users).astype(np.int32),
        pd.Index(item_ids).get_indexer(items).astype(np.int32),
        np.asarray(values, known.values.dtype),
    )
    users, items, values = renewed((known.users, known.items, known.values), new, len(item_ids))
    ratings = Ratings(known.name, users, items, values, user_ids, item_ids, known.scale,
                      mapped=known.mapped)
    trained = run.train.indices, run.train.rows, run.train.values
    scaled = (*new[:2], known.unit.to_model(new[2]))
    by_user, by_item, values = renewed(trained, scaled, len(item_ids))
    shape = len(item_ids), len(user_ids)
    train = RatingMatrix.from_triples(by_item, by_user, values, shape)
    members = tuple(
        WeightedModel(member.weight, widened(member.model, oriented(train, member.model.config)))
        for member in run.members
    )
    return replace(run, ratings=ratings, train=train, members=members)


def renewed(known: tuple[np.ndarray, ...], new: tuple[np.ndarray, ...],
            num_items: int) -> list[np.ndarray]:
    """Return the triples (users, items, values) `known` without the pairs in `new`, then `new`."""
    pairs, new_pairs = (x[0].astype(np.int64) * num_items + x[1] for x in (known, new))
    is_unchanged = ~np.isin(pairs, new_pairs)
    return [np.append(old[is_unchanged], fresh) for old, fresh in zip(known, new, strict=True)]


def widened(model: AutoRec, matrix: RatingMatrix) -> AutoRec:
    """Return `model`, or a wider model if `matrix` (its training ratings and new ones) has more
    columns, or more rows that have parameters. Only the new parameters are fitted."""
    shape = matrix.num_columns, matrix.num_rows
    if all(p.shape(*shape) == tuple(x.shape)
           for p, x in zip(model.declared, model.parameters, strict=True)):
        return model
    wider = AutoRec(matrix.num_columns, model.config, model.scale, matrix.density,
                    values=model.values, num_rows=matrix.num_rows)
    new: dict[int, int] = {}  # the first new entry of each parameter that is fitted
    for i, (target, source) in enumerate(zip(wider.parameters, model.parameters, strict=True)):
        first = source.shape[0]
        if target.shape == source.shape:
            target.assign(source)
            continue
        if wider.declared[i].fitted:
            new[i] = first
        mean = tf.repeat(tf.reduce_mean(source, 0, True), target.shape[0] - first, 0)
        target.assign(tf.concat([source, mean], 0))
    known = model.V.shape[0], model.num_rows if model.decoder.by_column else matrix.num_rows
    ratings = wider.rows(matrix)._replace(**of_new(matrix, *known))
    fit_new(wider.with_config(fitting_config(wider.config, matrix)), new, ratings)
    return wider


def fitting_config(config: Config, matrix: RatingMatrix) -> Config:
    """Return a model's settings for `fit_new`: full-batch, and without dropout."""
    config = replace(config, dropout=0.0, input_dropout=0.0)
    if config.regularization == "plain" and config.optimizer_method not in FULL_BATCH:
        # The plain rule adds Omega once in each mini-batch of an epoch.
        batches = math.ceil(matrix.num_rows / config.batch_size)
        config = replace(config, lambda_encoder=batches * config.encoder_lambda,
                         lambda_decoder=batches * config.decoder_lambda,
                         lambda_one_hot=config.lambda_one_hot and batches * config.lambda_one_hot)
    return config


def of_new(matrix: RatingMatrix, first_column: int, first_row: int) -> dict[str, tf.Tensor]:
    """Return the fields of `SparseRows` for the rows of `matrix` that are new (from `first_row`) or
    have ratings in new columns (from `first_column`); all other rows are empty."""
    is_affected = np.arange(matrix.num_rows) >= first_row
    is_affected[matrix.rows[matrix.indices >= first_column]] = True
    of_rows = is_affected[matrix.rows]
    row_counts = np.where(is_affected, matrix.row_counts, 0)
    parts = np.append(0, np.cumsum(row_counts)), matrix.indices[of_rows], matrix.values[of_rows]
    return dict(zip(("indptr", "indices", "values"), map(tf.constant, parts), strict=True))


def fit_new(model: AutoRec, grown: dict[int, int], ratings: SparseRows) -> None:
    """Minimise the objective over `ratings` with L-BFGS in the new entries only: `grown` maps the
    index of a parameter to its first new entry."""
    parameters = [(model.parameters[i], first) for i, first in grown.items()]
    new = [tf.Variable(x[first:]) for x, first in parameters]
    optimizer, objective = LBFGS(new, model.config), Objective(model)

    def assign() -> None:
        for (x, first), part in zip(parameters, new, strict=True):
            x[first:].assign(part)

    def evaluate() -> Evaluation:
        assign()
        gradients, cost, squared_error = objective.full_gradients(ratings)
        return [gradients[i][first:] for i, first in grown.items()], cost, squared_error

    last = math.inf
    for _ in range(MAX_STEPS):
        cost = float(optimizer.step(evaluate, 0.0)[0])
        if not last - cost > TOLERANCE * cost:
            break
        last = cost
    assign()
