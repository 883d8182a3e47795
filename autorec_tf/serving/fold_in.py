"""New ratings taken into a finished run without training again.

What they belong to decides the way:

- A new *row* (an item, in item orientation) needs no training: its hidden code is a forward pass
  over its ratings, as that of every row. New ratings of a known row change its code likewise.
  With one-hot inputs, a rating of a value that was not trained on takes the vector of the nearest.
- A new *column* (a user, in item orientation) widens the input, and a model has weights for the
  columns that it was trained on only. The new columns of V, D, W and b alone are fitted, to the
  training objective over the rows that they rate, with all else frozen. With the decoder of SVD++,
  a new row's bias is fitted likewise; its Y_i, which no prediction of its own has part in, is the
  mean of the known ones.
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
TOLERANCE = 1e-5  # of the objective: the least relative gain of a step to go on


def fold_in(run: FinishedRun, users: np.ndarray, items: np.ndarray,
            values: np.ndarray) -> FinishedRun:
    """`run` with the ratings `values` of (user, item) id pairs, no pair twice, among its training
    ratings; they take the place of known ratings of the same pairs.

    New ids come after the known ones. Raises ValueError for a rating that is off the scale.
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
    inner = (*new[:2], known.unit.to_model(new[2]))
    by_user, by_item, values = renewed(trained, inner, len(item_ids))
    shape = len(item_ids), len(user_ids)
    train = RatingMatrix.from_triples(by_item, by_user, values, shape)
    members = tuple(
        WeightedModel(member.weight, widened(member.model, oriented(train, member.model.config)))
        for member in run.members
    )
    return replace(run, ratings=ratings, train=train, members=members)


def renewed(known: tuple[np.ndarray, ...], new: tuple[np.ndarray, ...],
            num_items: int) -> list[np.ndarray]:
    """The triples (users, items, values) `known`, less those of pairs in `new`, and then `new`."""
    pairs, new_pairs = (x[0].astype(np.int64) * num_items + x[1] for x in (known, new))
    kept = ~np.isin(pairs, new_pairs)
    return [np.append(old[kept], fresh) for old, fresh in zip(known, new, strict=True)]


def widened(model: AutoRec, matrix: RatingMatrix) -> AutoRec:
    """Return `model`, or, if `matrix` (its training ratings and new ones) has more columns, or more
    rows that have parameters, a wider model: what is new is fitted, all else is the same."""
    shape = matrix.num_columns, matrix.num_rows
    if all(p.shape(*shape) == tuple(x.shape)
           for p, x in zip(model.declared, model.parameters, strict=True)):
        return model
    wider = AutoRec(matrix.num_columns, model.config, model.scale, matrix.density,
                    values=model.values, num_rows=matrix.num_rows)
    new: dict[int, int] = {}  # where the new entries begin, of the parameters that are fitted
    for i, (ours, theirs) in enumerate(zip(wider.parameters, model.parameters, strict=True)):
        first = theirs.shape[0]
        if ours.shape == theirs.shape:
            ours.assign(theirs)
            continue
        if wider.declared[i].fitted:
            new[i] = first
        mean = tf.repeat(tf.reduce_mean(theirs, 0, True), ours.shape[0] - first, 0)
        ours.assign(tf.concat([theirs, mean], 0))
    known = model.V.shape[0], model.num_rows if model.decoder.by_column else matrix.num_rows
    ratings = wider.rows(matrix)._replace(**of_new(matrix, *known))
    fit_new(wider.with_config(fitting_config(wider.config, matrix)), new, ratings)
    return wider


def fitting_config(config: Config, matrix: RatingMatrix) -> Config:
    """A model's settings for `fit_new`: of a whole epoch at once, and without dropout."""
    config = replace(config, dropout=0.0, input_dropout=0.0)
    if config.regularization == "plain" and config.optimizer_method not in FULL_BATCH:
        # Plain Omega counts once in each mini-batch of an epoch.
        times = math.ceil(matrix.num_rows / config.batch_size)
        config = replace(config, lambda_encoder=times * config.encoder_lambda,
                         lambda_decoder=times * config.decoder_lambda,
                         lambda_one_hot=config.lambda_one_hot and times * config.lambda_one_hot)
    return config


def of_new(matrix: RatingMatrix, first_column: int, first_row: int) -> dict[str, tf.Tensor]:
    """What of `matrix`, as `SparseRows` names it, has to do with columns from `first_column` or
    rows from `first_row` on: rows that have nothing are empty."""
    concerned = np.arange(matrix.num_rows) >= first_row
    concerned[matrix.rows[matrix.indices >= first_column]] = True
    kept = concerned[matrix.rows]
    counts = np.where(concerned, matrix.row_counts, 0)
    parts = np.append(0, np.cumsum(counts)), matrix.indices[kept], matrix.values[kept]
    return dict(zip(("indptr", "indices", "values"), map(tf.constant, parts), strict=True))


def fit_new(model: AutoRec, grown: dict[int, int], ratings: SparseRows) -> None:
    """Minimise the objective over `ratings` in what is new, by L-BFGS: of the parameters that have
    `grown`, the entries from a number on."""
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
