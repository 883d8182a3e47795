"""What an epoch may see: training ratings to learn and predict from, test ratings to score."""

import numpy as np

import training
from AutoRec import AutoRec
from config import Config
from data_preprocessor import RatingMatrix, Split, index_ratings, split_ratings
from records import EpochMetrics

SCALE = (1.0, 5.0)
CONFIG = Config(hidden_neuron=8, batch_size=16, base_lr=0.02, train_epoch=3, engine="dense")


def random_split():
    rng = np.random.default_rng(2)
    pairs = rng.permutation(60 * 40)[:900]
    ratings = index_ratings("made up", pairs // 40, pairs % 40, rng.integers(1, 6, 900), SCALE)
    return split_ratings(ratings, 0.9, seed=1)


def run(split, monkeypatch, config=CONFIG):
    """Every epoch's metrics, and the raw predictions that were scored."""
    scored, true_score = [], training.score

    def score(predictions, *rest):
        scored.append(predictions)
        return true_score(predictions, *rest)

    monkeypatch.setattr(training, "score", score)
    model = AutoRec(split.train.num_columns, config, SCALE)
    metrics = list(training.epochs(model, split))
    monkeypatch.undo()
    return metrics, scored


def without_test_and_time(metrics: EpochMetrics):
    return metrics.epoch, metrics.learning_rate, metrics.train_cost, metrics.train_rmse


def test_test_ratings_change_neither_training_nor_predictions(monkeypatch):
    split = random_split()
    turned = RatingMatrix(split.test.indptr, split.test.indices, 6 - split.test.values, 60)
    metrics, predictions = run(split, monkeypatch)
    other_metrics, other_predictions = run(Split(split.train, turned), monkeypatch)
    np.testing.assert_array_equal(predictions, other_predictions)
    assert [*map(without_test_and_time, metrics)] == [*map(without_test_and_time, other_metrics)]
    assert metrics[-1].test_rmse != other_metrics[-1].test_rmse


def test_a_prediction_does_not_depend_on_which_other_ratings_are_tested(monkeypatch):
    split = random_split()
    rows, columns, values = split.test.rows[::2], split.test.indices[::2], split.test.values[::2]
    half = RatingMatrix.from_triples(rows, columns, values, (40, 60))
    _, predictions = run(split, monkeypatch)
    _, fewer = run(Split(split.train, half), monkeypatch)
    np.testing.assert_array_equal(np.array(predictions)[:, ::2], fewer)


def test_only_every_display_step_and_the_last_epoch_are_evaluated(monkeypatch):
    config = Config(hidden_neuron=4, train_epoch=5, display_step=2, engine="dense")
    metrics, predictions = run(random_split(), monkeypatch, config)
    assert [m.epoch for m in metrics if m.test_rmse is not None] == [2, 4, 5]
    assert len(predictions) == 3


def test_evaluating_less_often_changes_no_other_number(monkeypatch):
    often, _ = run(random_split(), monkeypatch)
    seldom, _ = run(random_split(), monkeypatch, Config(**vars_of(CONFIG) | {"display_step": 3}))
    assert [*map(without_test_and_time, often)] == [*map(without_test_and_time, seldom)]
    assert often[-1].test_rmse == seldom[-1].test_rmse


def vars_of(config):
    names = ("hidden_neuron", "batch_size", "base_lr", "train_epoch", "engine")
    return {name: getattr(config, name) for name in names}
