"""One model whose columns are divided among workers, as real processes: it is that of one process.
"""

import json

import pytest

from tests.conftest import REPOSITORY
from tests.forks import Fork
from tests.program import environment, free_ports
from tests.system.test_distribution import tf_config

SCRIPT = """
import json, os, sys
from dataclasses import replace
from pathlib import Path
import numpy as np
from autorec_tf.system.distribution import Workers, read_cluster
cluster = read_cluster("workers")
workers = Workers("workers", cluster)
import tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # starts faster
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split
from autorec_tf.evaluation.baseline import cold_baseline
from autorec_tf.model.column_shards import part_of
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.trainer import build

rng = np.random.default_rng(7)
ROWS, COLUMNS = 23, 37


def matrix(number):
    pairs = rng.choice(ROWS * COLUMNS, number, replace=False)
    rows, columns = pairs // COLUMNS, pairs % COLUMNS
    kept = (rows != 5) & (columns != 8)  # a row and a column of which nothing is known
    values = rng.integers(1, 6, number).astype(np.float32)
    return RatingMatrix.from_triples(
        rows[kept], columns[kept].astype(np.int32), values[kept], (ROWS, COLUMNS)
    )


def everything():
    rows, columns = np.divmod(np.arange(0, ROWS * COLUMNS, 5), COLUMNS)
    values = rng.integers(1, 6, len(rows)).astype(np.float32)
    return RatingMatrix.from_triples(rows, columns.astype(np.int32), values, (ROWS, COLUMNS))


split = Split(matrix(300), everything(), matrix(60))
part = part_of(split, cluster.index, cluster.size)
SAVED = 3  # the epoch of the checkpoint
BASE = Config(hidden_neuron=(6,), train_epoch=4, batch_size=9, base_lr=0.01, cold_rating="mean",
              distribute="workers", engine="sparse")
DEEP = dict(hidden_neuron=(6, 3, 6), pretrain_epoch=2, dropout=0.3, input_dropout=0.4)
SETTINGS = {
    "deep": dict(DEEP, input_encoding="one_hot", regularization="plain", lambda_value=0.1,
                 lambda_encoder=3.0, lambda_one_hot=0.3, lambda_exponent=0.4, grad_clip=True,
                 average_decay=0.7, decoder="biased"),
    "dense": dict(engine="dense", optimizer_method="RMSProp", output_activation="sigmoid",
                  initial_bias="mean", mean_in_weights=0.6, input_encoding="one_hot",
                  leave_one_out=True, input_dropout=0.4, input_scale=3.0),
    # More epochs than pairs, and three blocks of rows.
    "blocks": dict(optimizer_method="LBFGS", lbfgs_memory=2, decoder="svdpp", leave_one_out=True,
                   leave_one_out_slope="mean", initial_bias="biases", regularization="plain",
                   lambda_value=2.0, lambda_exponent=0.4, input_encoding="one_hot",
                   input_scale=6.0, tolerance=1e-6),
    "signs": dict(optimizer_method="RProp", decoder="svdpp", leave_one_out=True, batch_size=64,
                  initial_bias="mean", base_lr=0.1),
}


def trained(config, split, workers, resumed=None, saved=None):
    model = build(config, split.train, (1.0, 5.0), workers)
    state, metrics = TrainState(model, split), []
    if resumed:
        state.read(resumed)
    else:
        pretrain(model, split.train)
    for m in train_epochs(state, split):
        metrics.append([m.train_cost, m.train_rmse, m.test_rmse, m.test_mae, m.validation_rmse])
        if saved and m.epoch == SAVED:
            state.write(None if cluster.index else saved)
    return state, metrics


def predicted(state):
    factors, = state.model.factors(split.train)
    return [state.model.predict_test(split), factors.row_embeddings, factors.Wt, factors.b]


def assert_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


def by_one_process(name, config, prefix=None):
    # Metrics, predictions and D of a training in one process, which is the first worker's.
    path = folder / f"{name}.npz"
    if cluster.index == 0:
        tf.config.run_functions_eagerly(True)  # faster for so few steps
        state, metrics = trained(config, split, None, prefix)
        D = state.model.encoder.D
        np.savez(path, metrics, *predicted(state), [] if D is None else D)
        tf.config.run_functions_eagerly(False)
    workers.all_gather(0)
    with np.load(path) as file:
        metrics, *predictions, D = (file[key] for key in file.files)
    return metrics, predictions, D


folder = Path(sys.argv[1])
for name, settings in SETTINGS.items():
    config = replace(BASE, **settings)
    prefix = folder / name if name in ("deep", "blocks") else None
    state, metrics = trained(config, part, workers, saved=prefix)
    theirs, predictions, D = by_one_process(name, config)
    np.testing.assert_allclose(metrics, theirs, rtol=1e-5, err_msg=name)
    assert_equal(predicted(state), predictions)
    replicated = [x.numpy().tobytes() for p, x in zip(state.model.declared, state.model.parameters)
                  if not p.is_per_column]
    workers.assert_same_on_all_workers("parameters", replicated, name)
    if config.input_encoding == "one_hot":  # of a part, too, where a value may not occur
        assert state.model.values.tolist() == [1, 2, 3, 4, 5]
        assert_equal([state.model.shards.full_matrix(state.model.encoder.D)], [D])
    own = state.model.V.shape[0]
    assert own == part.train.num_columns < COLUMNS
    assert state.trainer.optimizer.state[0].shape[0] == own

    if not prefix:
        continue
    workers.all_gather(0)
    again, resumed = trained(config, part, workers, prefix)  # on the same number of workers
    assert resumed == metrics[SAVED:], name
    theirs, predictions, _ = by_one_process(f"{name}_resumed", config, prefix)
    np.testing.assert_allclose(resumed, theirs, rtol=1e-5, err_msg=name)
    assert_equal(predicted(again), predictions)
    state.model.save(None if cluster.index else f"{prefix}_parameters")
    workers.all_gather(0)
    reader = tf.train.load_checkpoint(f"{prefix}_parameters")
    W = reader.get_tensor("W/.ATTRIBUTES/VARIABLE_VALUE")
    np.testing.assert_array_equal(W.T, state.model.shards.full_matrix(state.model.Wt))
print(json.dumps([part.train.part.first, len(part.train)]))
"""


EXPERIMENTS = """
import math
import numpy as np
from autorec_tf.system.distribution import Workers, read_cluster
cluster = read_cluster("workers")
workers = Workers("workers", cluster)
import tensorflow as tf
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})  # starts faster
from autorec_tf.config import Config
from autorec_tf.experiments import blend, tune
from autorec_tf.presets import MEMBERS
from autorec_tf.records.run_records import Consensus
from tests.test_experiments import Records
from tests.test_lambda_search import RATINGS

SMALL = dict(hidden_neuron=(2,), train_epoch=1)
members = "single", "user_one_hot"
settings = [MEMBERS[name] | SMALL for name in members]
settings[0] |= dict(tune=("lambda_value",))
CONFIG = Config(members=members, member_settings=tuple(settings), engine="dense")


def done(*workers):
    # What is recorded of a blend and of a search on a grid, and the predictions of the blend.
    records, grid = Records(), Records()
    blended, split = blend(CONFIG, RATINGS, records, *workers)
    tune(Config(tune=("base_lr",), engine="dense", **SMALL), RATINGS, grid, *workers)
    factors = blended.factors(split.train)
    scores = [[row[name] for name in ("weight", "validation_rmse", "test_rmse", "lambda_value")]
              for row in records.members]
    return [scores, *([[*point.values(), rmse] for point, rmse in each.points]
                      for each in (records, grid)), blended.predict_test(split), factors[0].Wt,
            factors[1].row_embeddings]


ours = done(workers)
if cluster.index == 0:
    tf.config.run_functions_eagerly(True)  # faster for so few steps
    for a, b in zip(ours, done(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5)
first = cluster.index == 0
recorded = Consensus(workers, None, 1).first_workers([0.5, math.inf] if first else [])
assert recorded == [0.5, math.inf]
assert workers.of_first(np.array(2.5 if first else math.nan)) == 2.5
assert Consensus(workers, None, 1).first_workers([]) == []
"""


def printed_by_workers(count, script, *arguments):
    """Return what each of `count` workers printed that ran the same Python `script`."""
    addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
    processes = [
        Fork(["-c", script, *arguments], REPOSITORY,
             environment(TF_CONFIG=tf_config(index, addresses), TF_NUM_INTRAOP_THREADS="1"))
        for index in range(count)
    ]
    texts = [process.communicate(timeout=300) for process in processes]
    for process, (_, error) in zip(processes, texts, strict=True):
        assert process.returncode == 0, error[-3000:]
    return [text for text, _ in texts]


@pytest.mark.slow
def test_workers_tune_and_blend_as_one_process():
    printed_by_workers(2, EXPERIMENTS)


@pytest.mark.slow
def test_columns_divided_among_workers_train_and_predict_as_one_process(tmp_path):
    parts = [json.loads(text) for text in printed_by_workers(3, SCRIPT, tmp_path)]
    assert parts[0][0] == 0 and [first for first, _ in parts] == sorted({f for f, _ in parts})
    counts = [count for _, count in parts]
    assert max(counts) - min(counts) < 60  # of 270 or so
