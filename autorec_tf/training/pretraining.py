"""The greedy layer-wise pre-training of a deep model."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix
from autorec_tf.model.batch import sparse_rows
from autorec_tf.model.lbfgs import assign
from autorec_tf.system.distribution import Workers
from autorec_tf.system.random_streams import random_stream
from autorec_tf.training.trainer import Trainer, untrained

CODE_RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0)}


def pretrain(model: AutoRec, train: RatingMatrix,
             after_epoch: Callable[[int, int], object] = lambda done, total: None) -> None:
    """Pre-train a deep model greedily, layer by layer (the paper's section 3, "Going deeper").

    From the outside in, each pair of mirrored layers is trained for `pretrain_epoch` epochs as an
    autoencoder with one hidden layer: the outermost pair on the ratings, each other pair on the
    hidden codes of the pair before. The list of hidden sizes must be a palindrome of odd length,
    which Config checks. The optimiser state of `model` does not change. `after_epoch` is called
    after every epoch with the number of epochs done and that of all, and may raise to stop. If
    `pretrain_epoch` is 0, nothing is done.
    """
    config, sizes = model.config, model.config.hidden_neuron
    if not config.pretrain_epoch:
        return
    workers, done = model.shards.workers, itertools.count(1)
    total = config.pretrain_epoch * (1 + len(sizes) // 2)

    def count() -> None:
        after_epoch(next(done), total)

    shallow = train_shallow(train, config, sizes[0], model.scale, count, workers)
    assign(model.parameters[: len(shallow.parameters)], shallow.parameters)
    # An inner autoencoder reconstructs codes, which are all observed and in the range of g.
    inner = replace(config, engine="dense", precision="float32", lambda_encoder=None,
                    lambda_decoder=None, lambda_one_hot=None, input_encoding="rating",
                    decoder="own", output_activation=config.hidden_activation)
    code_range = CODE_RANGES.get(config.hidden_activation, model.scale)
    for i, size in enumerate(sizes[1 : len(sizes) // 2 + 1]):
        train = as_ratings(shallow.encode_all(sparse_rows(train)))
        shallow = train_shallow(train, inner, size, code_range, count)
        V, Wt, mu, b = shallow.parameters
        assign(model.inner[i], (V, mu))
        assign(model.inner[-1 - i], (tf.transpose(Wt), b))
    Trainer(model).synchronise()


def train_shallow(matrix: RatingMatrix, config: Config, hidden_neuron: int,
                  scale: tuple[float, float], after_epoch: Callable[[], object] = lambda: None,
                  workers: Workers | None = None) -> AutoRec:
    """Return an AutoRec with one hidden layer, trained on `matrix` for `pretrain_epoch` epochs. If
    `matrix` is a column shard, `workers` have the others."""
    config = replace(config, hidden_neuron=(hidden_neuron,), train_epoch=config.pretrain_epoch,
                     pretrain_epoch=0)
    model = untrained(config, matrix, scale, workers)
    trainer, rows = Trainer(model), model.rows(matrix)
    for epoch in range(1, config.train_epoch + 1):
        order = random_stream(config.random_seed, "pretraining", hidden_neuron, epoch)
        trainer.train_epoch(rows, order.permutation(matrix.num_rows), config.learning_rate(epoch))
        after_epoch()
    return model


def as_ratings(codes: tf.Tensor) -> RatingMatrix:
    """Return dense codes (rows, units) as a matrix with all entries observed."""
    rows, units = codes.shape
    indices = np.tile(np.arange(units, dtype=np.int32), rows)
    return RatingMatrix(np.arange(rows + 1) * units, indices, codes.numpy().ravel(), units)
