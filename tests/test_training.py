"""What an epoch may see: training ratings to learn and predict from, test ratings to score, and
validation ratings to choose the epoch and the end by."""

from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest

import training
from AutoRec import AutoRec
from config import Config
from data.ratings import RatingMatrix, Split, index_ratings
from data_preprocessor import split_ratings
from evaluation.metrics import RECONSTRUCTION, EpochMetrics, cold_pairs, score
from model.batch import sparse_rows
from records.run_folder import results

SCALE = (1.0, 5.0)
CONFIG = Config(hidden_neuron=8, batch_size=16, base_lr=0.02, train_epoch=3, engine="dense")


def random_split(validation_ratio=0.0):
    rng = np.random.default_rng(2)
    pairs = rng.permutation(60 * 40)[:900]
    ratings = index_ratings("made up", pairs // 40, pairs % 40, rng.integers(1, 6, 900), SCALE)
    return split_ratings(ratings, 0.9, seed=1, validation_ratio=validation_ratio)


def turned(matrix):
    """The same pairs with every rating r as 6 - r."""
    return RatingMatrix(matrix.indptr, matrix.indices, 6 - matrix.values, matrix.num_columns)


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
    metrics, predictions = run(split, monkeypatch)
    other_metrics, other_predictions = run(Split(split.train, turned(split.test)), monkeypatch)
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
    seldom, _ = run(random_split(), monkeypatch, replace(CONFIG, display_step=3))
    assert [*map(without_test_and_time, often)] == [*map(without_test_and_time, seldom)]
    assert often[-1].test_rmse == seldom[-1].test_rmse


# Validation

# These ratings are noise: the validation RMSE falls for some epochs and rises then.
OVERFITTING = Config(
    hidden_neuron=8, batch_size=16, base_lr=0.02, train_epoch=40, engine="dense", lambda_value=0,
    decay_epoch_step=1000, validation_ratio=0.2,
)  # fmt: skip


def train(split, config, num_epochs=None):
    """The model and the metrics of `num_epochs` epochs, the iterator being closed then."""
    model = AutoRec(split.train.num_columns, config, SCALE)
    with closing(training.epochs(model, split)) as every_epoch:
        return model, [*islice(every_epoch, num_epochs)]


def rmse_of(model, split, held_out):
    predictions = model.predict(sparse_rows(split.train), held_out.rows, held_out.indices)
    cold = cold_pairs(split.train, held_out.rows, held_out.indices)
    return score(predictions, held_out.values, cold, SCALE).rmse


def lowest(metrics):
    return min((m for m in metrics if m.validation_rmse is not None),
               key=lambda m: m.validation_rmse)  # fmt: skip


def test_the_validation_rmse_is_recorded_where_there_are_validation_ratings():
    _, metrics = train(random_split(0.2), replace(OVERFITTING, train_epoch=3, display_step=2))
    assert [m.validation_rmse is not None for m in metrics] == [False, True, True]
    assert metrics[-1].validation_rmse != metrics[-1].test_rmse
    _, metrics = train(random_split(), replace(CONFIG, train_epoch=2))
    assert [m.validation_rmse for m in metrics] == [None, None]


def test_the_model_ends_as_it_was_at_the_lowest_validation_rmse():
    split = random_split(0.2)
    model, metrics = train(split, OVERFITTING)
    best = lowest(metrics)
    assert len(metrics) == 40 and 3 < best.epoch < 30
    assert rmse_of(model, split, split.validation) == best.validation_rmse
    assert rmse_of(model, split, split.test) == best.test_rmse
    assert results(metrics)["final_test_rmse"] == best.test_rmse
    as_long, _ = train(split, replace(OVERFITTING, train_epoch=best.epoch))
    for chosen, last in zip(model.parameters, as_long.parameters, strict=True):
        np.testing.assert_array_equal(chosen, last)


@pytest.mark.parametrize("num_epochs", [1, 4, 30])
def test_a_training_that_is_ended_early_leaves_the_best_epoch_until_then(num_epochs):
    split = random_split(0.2)
    model, metrics = train(split, OVERFITTING, num_epochs)
    assert len(metrics) == num_epochs
    assert (lowest(metrics) is metrics[-1]) == (num_epochs < 30)
    assert rmse_of(model, split, split.validation) == lowest(metrics).validation_rmse
    assert rmse_of(model, split, split.test) == results(metrics)["final_test_rmse"]


def test_without_validation_ratings_the_model_ends_as_it_was_after_the_last_epoch():
    split = random_split()
    model, metrics = train(split, replace(OVERFITTING, validation_ratio=0.0))
    assert rmse_of(model, split, split.test) == metrics[-1].test_rmse
    assert metrics[-1].test_rmse > min(m.test_rmse for m in metrics) + 0.01


@pytest.mark.parametrize("patience", [1, 5])
def test_training_stops_after_as_many_epochs_as_its_patience(patience):
    split = random_split(0.2)
    _, metrics = train(split, OVERFITTING)
    _, stopped = train(split, replace(OVERFITTING, patience=patience))
    seen = [m.validation_rmse for m in metrics]
    first = next(
        epoch for epoch in range(1, 41) if epoch - 1 - np.argmin(seen[:epoch]) >= patience
    )
    assert patience < first < 40
    assert [*map(without_test_and_time, stopped)] == [
        *map(without_test_and_time, metrics[:first])
    ]


def test_test_ratings_choose_neither_the_epoch_nor_the_end():
    split, config = random_split(0.2), replace(OVERFITTING, patience=5)
    other = Split(split.train, turned(split.test), split.validation)
    (model, metrics), (same_model, same_metrics) = (train(s, config) for s in (split, other))
    assert [m.validation_rmse for m in metrics] == [m.validation_rmse for m in same_metrics]
    assert metrics[-1].test_rmse != same_metrics[-1].test_rmse
    for one, two in zip(model.parameters, same_model.parameters, strict=True):
        np.testing.assert_array_equal(one, two)


def test_validation_ratings_choose_the_epoch_and_nothing_else():
    split = random_split(0.2)
    other = Split(split.train, split.test, split.train)  # which are remembered ever better
    (_, metrics), (_, other_metrics) = (train(s, OVERFITTING) for s in (split, other))
    assert [*map(without_test_and_time, metrics)] == [*map(without_test_and_time, other_metrics)]
    assert [m.test_rmse for m in metrics] == [m.test_rmse for m in other_metrics]
    assert lowest(metrics).epoch < 30 < lowest(other_metrics).epoch


def test_the_leaking_measure_is_recorded_only_if_it_is_given():
    split = random_split()
    model = AutoRec(split.train.num_columns, CONFIG, SCALE)
    seen = replace(score(np.ones(1), np.ones(1), np.zeros(1, bool), SCALE), rmse=0.25)
    metrics = [*training.epochs(model, split, lambda: seen)]
    assert [getattr(m, RECONSTRUCTION) for m in metrics] == [0.25] * 3
    assert [getattr(m, RECONSTRUCTION) for m in train(split, CONFIG)[1]] == [None] * 3
