"""Greedy layer-wise pre-training of a deep AutoRec (the paper's section 3, "Going deeper").

From the outside in, each pair of mirrored layers is trained as an autoencoder of one hidden layer:
the outermost on the ratings, every other one on the hidden codes of the one before.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from config import Config
from data.ratings import RatingMatrix
from model.batch import sparse_rows
from system.random_streams import random_stream

CODE_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def pretrain(
    model: AutoRec,
    train: RatingMatrix,
    num_threads: int = 1,
    after_epoch: Callable[[], object] = lambda: None,
) -> None:
    """Set `model`'s parameters by `pretrain_epoch` epochs for each pair of mirrored layers;
    `after_epoch` is called after each of them.

    The model's hidden sizes must read the same backwards and be odd in number (Config sees to
    it). The optimiser's own state is not touched.
    """
    config, sizes = model.config, model.config.hidden_neuron
    shallow = fit(train, config, sizes[0], model.scale, num_threads, after_epoch)
    for ours, theirs in zip(model.parameters, shallow.parameters, strict=False):
        ours.assign(theirs)
    # An inner autoencoder reconstructs codes: all of them observed, within g's range.
    inner = replace(
        config, engine="dense", precision="float32", lambda_encoder=None, lambda_decoder=None,
        output_activation=config.hidden_activation,
    )  # fmt: skip
    code_range = CODE_RANGES.get(config.hidden_activation, model.scale)
    for i, size in enumerate(sizes[1 : len(sizes) // 2 + 1]):
        train = as_ratings(shallow.codes(sparse_rows(train)))
        shallow = fit(train, inner, size, code_range, 1, after_epoch)
        V, Wt, mu, b = shallow.parameters
        assign(model.inner[i], (V, mu))
        assign(model.inner[-1 - i], (tf.transpose(Wt), b))


def fit(
    matrix: RatingMatrix,
    config: Config,
    hidden_neuron: int,
    scale: tuple[float, float],
    num_threads: int = 1,
    after_epoch: Callable[[], object] = lambda: None,
) -> AutoRec:
    """An AutoRec of one hidden layer, trained on `matrix` for `pretrain_epoch` epochs."""
    config = replace(
        config,
        hidden_neuron=(hidden_neuron,),
        train_epoch=config.pretrain_epoch,
        pretrain_epoch=0,
    )
    model, rows = AutoRec(matrix.num_columns, config, scale, num_threads), sparse_rows(matrix)
    for epoch in range(1, config.train_epoch + 1):
        order = random_stream(config.random_seed, "pretraining", hidden_neuron, epoch)
        model.train_epoch(rows, order.permutation(matrix.num_rows), config.learning_rate(epoch))
        after_epoch()
    return model


def assign(variables: Sequence[tf.Variable], values: Sequence[tf.Tensor]) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def as_ratings(codes: tf.Tensor) -> RatingMatrix:
    """Dense codes [rows, units] as a matrix of which everything is observed."""
    rows, units = codes.shape
    indices = np.tile(np.arange(units, dtype=np.int32), rows)
    return RatingMatrix(np.arange(rows + 1) * units, indices, codes.numpy().ravel(), units)
