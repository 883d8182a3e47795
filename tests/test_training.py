"""What an epoch may see: training ratings to learn and predict from, test ratings to score, and
validation ratings to choose the epoch and the end by. Greedy layer-wise pre-training: what is
trained on what, and what it is worth."""

import gc
import weakref
from contextlib import closing
from dataclasses import replace
from functools import cache
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Split, index_ratings
from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics, Scores, cold_pairs, score
from autorec_tf.model.batch import sparse_rows
from autorec_tf.records.summary import results
from autorec_tf.training import epochs as training
from autorec_tf.training.epochs import (
    Evaluator,
    TrainState,
    train_epochs,
)
from autorec_tf.training.pretraining import as_ratings, pretrain, train_shallow
from autorec_tf.training.trainer import Trainer, build
from data_preprocessor import split_ratings
from tests.plain import final_predictions
from tests.reference import Reference

SCALE = (1.0, 5.0)
CONFIG = Config(hidden_neuron=8, batch_size=16, base_lr=0.02, train_epoch=3, engine="dense")


@cache
def random_split(validation_ratio=0.0, train_ratio=0.8):
    """With a validation ratio of 0.25 as many validation as test ratings: one graph predicts both.
    """
    rng = np.random.default_rng(2)
    pairs = rng.permutation(60 * 40)[:900]
    ratings = index_ratings("made up", pairs // 40, pairs % 40, rng.integers(1, 6, 900), SCALE)
    return split_ratings(ratings, train_ratio, seed=1, validation_ratio=validation_ratio)


def turned(matrix):
    """The same pairs with every rating r as 6 - r."""
    return RatingMatrix(matrix.indptr, matrix.indices, 6 - matrix.values, matrix.num_columns)


TRACED = {}


def train(split, config):
    """The model and the metrics of its epochs. A training with settings that differ in its end only
    has the graphs of an earlier one: all variables are reset, as by a checkpoint of epoch 0."""
    traced = replace(config, train_epoch=1, display_step=1, patience=0)
    key = id(split.train), bool(split.validation), traced
    if key not in TRACED:
        state = TrainState(build(config, split.train, SCALE), split)
        variables = [each.variable for each in state.stored().values()]
        TRACED[key] = split.train, state, [(x, x.numpy()) for x in variables]
    _, state, values = TRACED[key]
    for x, value in values:
        x.assign(value)
    state.model.config = config
    return state.model, [*train_epochs(state, split)]


def run(split, config=CONFIG):
    """Every epoch's metrics, and the raw predictions that were scored."""
    scored, finish = [], training.PredictionPostprocessor.__call__

    def watched(self, predictions):
        scored.append(predictions)
        return finish(self, predictions)

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(training.PredictionPostprocessor, "__call__", watched)
        _, metrics = train(split, config)
    return metrics, scored


# What several tests look at, and none changes.


@cache
def plain_run(config=CONFIG):
    return run(random_split(), config)


@cache
def overfitted():
    """The model, its metrics, and its parameters after each epoch."""
    model, metrics, after = build(OVERFITTING, random_split(0.25).train, SCALE), [], []
    for each in train_epochs(TrainState(model, random_split(0.25)), random_split(0.25)):
        metrics.append(each)
        after.append([x.numpy() for x in model.parameters])
    return model, metrics, after


def without_test_and_time(metrics: EpochMetrics):
    return metrics.epoch, metrics.learning_rate, metrics.train_cost, metrics.train_rmse


@pytest.mark.eager
def test_test_ratings_change_neither_training_nor_predictions():
    split = random_split()
    metrics, predictions = plain_run()
    other_metrics, other_predictions = run(Split(split.train, turned(split.test)))
    np.testing.assert_array_equal(predictions, other_predictions)
    assert [*map(without_test_and_time, metrics)] == [*map(without_test_and_time, other_metrics)]
    assert metrics[-1].test_rmse != other_metrics[-1].test_rmse


@pytest.mark.eager
def test_a_prediction_does_not_depend_on_which_other_ratings_are_tested():
    split = random_split()
    rows, columns, values = split.test.rows[::2], split.test.indices[::2], split.test.values[::2]
    half = RatingMatrix.from_triples(rows, columns, values, (40, 60))
    _, predictions = plain_run()
    _, fewer = run(Split(split.train, half))
    np.testing.assert_array_equal(np.array(predictions)[:, ::2], fewer)


@pytest.mark.eager
def test_only_every_display_step_and_the_last_epoch_are_evaluated_which_changes_no_other_number():
    often, _ = plain_run()
    seldom, predictions = run(random_split(), replace(CONFIG, display_step=2))
    assert [m.epoch for m in seldom if m.test_rmse is not None] == [2, 3]
    assert len(predictions) == 2
    assert [*map(without_test_and_time, often)] == [*map(without_test_and_time, seldom)]
    assert [m.test_rmse for m in often[1:]] == [m.test_rmse for m in seldom[1:]]


@pytest.mark.eager
def test_scores_apply_the_scale_and_the_cold_rule():
    split = random_split(train_ratio=0.1)
    model, test = AutoRec(split.train.num_columns, CONFIG, SCALE), split.test
    model.b.assign(np.linspace(-1, 8, split.train.num_columns))
    raw = model.predict(sparse_rows(split.train), test.rows, test.indices)
    cold = (split.train.row_counts[test.rows] == 0) | (split.train.column_counts[test.indices] == 0)
    assert cold.any() and raw[~cold].min() < 1 and raw[~cold].max() > 5
    error = np.where(cold, 3, np.clip(raw.astype(np.float64), 1, 5)) - test.values
    found = Evaluator(model, split, test)(sparse_rows(split.train))
    assert found.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-12)
    assert found.mae == pytest.approx(np.mean(np.abs(error)), rel=1e-12)
    assert found.num_ratings == len(test) == 810


# Validation

# These ratings are noise: the validation RMSE falls for some epochs and rises then.
OVERFITTING = Config(
    hidden_neuron=8, batch_size=20, base_lr=0.04, train_epoch=16, engine="dense", lambda_value=0,
    decay_epoch_step=1000, validation_ratio=0.25,
)


def rmse_of(model, split, held_out):
    predictions = model.predict(sparse_rows(split.train), held_out.rows, held_out.indices)
    cold = cold_pairs(split.train, held_out.rows, held_out.indices)
    return score(final_predictions(predictions, cold, SCALE), held_out.values).rmse


def lowest(metrics):
    return min((m for m in metrics if m.validation_rmse is not None),
               key=lambda m: m.validation_rmse)


@pytest.mark.eager
def test_the_validation_rmse_is_recorded_where_there_are_validation_ratings():
    _, metrics = train(random_split(0.25), replace(OVERFITTING, train_epoch=3, display_step=2))
    assert [m.validation_rmse is not None for m in metrics] == [False, True, True]
    assert metrics[-1].validation_rmse != metrics[-1].test_rmse
    metrics, _ = plain_run()
    assert [m.validation_rmse for m in metrics] == [None] * 3


def assert_best_so_far(model, split, metrics, after):
    """The model is that of the epoch with the lowest validation RMSE."""
    best = lowest(metrics)
    assert rmse_of(model, split, split.validation) == best.validation_rmse
    assert rmse_of(model, split, split.test) == best.test_rmse
    assert results(metrics)["final_test_rmse"] == best.test_rmse
    assert_same_parameters(model.parameters, after[best.epoch - 1])


def assert_same_parameters(some, others):
    for one, two in zip(some, others, strict=True):
        np.testing.assert_array_equal(one, two)


def test_the_model_ends_as_it_was_at_the_lowest_validation_rmse():
    model, metrics, after = overfitted()
    assert len(metrics) == 16 and 3 < lowest(metrics).epoch < 12
    assert_best_so_far(model, random_split(0.25), metrics, after)


def test_a_training_that_is_ended_early_leaves_the_best_epoch_until_then():
    """First at the best epoch so far, and after continuing, long after the best."""
    split = random_split(0.25)
    model = build(replace(OVERFITTING, input_encoding="one_hot"), split.train, SCALE)
    metrics, after, state = [], [], TrainState(model, split)
    for num_epochs in (4, 14):
        with closing(train_epochs(state, split)) as every_epoch:
            for each in islice(every_epoch, num_epochs - len(metrics)):
                metrics.append(each)
                after.append([x.numpy() for x in model.parameters])
        assert len(metrics) == num_epochs
        assert (lowest(metrics) is metrics[-1]) == (num_epochs < 14)
        assert_best_so_far(model, split, metrics, after)


@pytest.mark.parametrize("engine", ["dense", "sparse"])
def test_the_variables_of_a_finished_training_are_freed(engine):
    split = random_split()
    state = TrainState(build(replace(CONFIG, engine=engine), split.train, SCALE), split)
    list(train_epochs(state, split))
    handle = weakref.ref(state.model.V.handle)  # which a graph refers to, as long as it exists
    del state
    gc.collect()
    gc.collect()
    assert not handle()


def test_without_validation_ratings_the_model_ends_as_it_was_after_the_last_epoch():
    split = random_split()
    model, metrics = train(split, replace(OVERFITTING, validation_ratio=0.0, train_epoch=8))
    assert rmse_of(model, split, split.test) == metrics[-1].test_rmse
    assert metrics[-1].test_rmse > min(m.test_rmse for m in metrics) + 0.01


# Averages of the parameters

AVERAGED = replace(OVERFITTING, batch_size=8, train_epoch=6, average_decay=0.8)


def watched_steps(config, split, num_epochs):
    """The parameters after each step, those of the model after each epoch, and all metrics."""
    state, steps, after = TrainState(build(config, split.train, SCALE), split), [], []
    model, apply = state.model, state.trainer.optimizer.apply

    def apply_and_copy(*arguments):
        apply(*arguments)
        steps.append([x.numpy() for x in model.parameters])

    state.trainer.optimizer.apply = apply_and_copy
    with closing(train_epochs(state, split)) as epochs:
        metrics = []
        for each in islice(epochs, num_epochs):
            metrics.append(each)
            after.append([x.numpy() for x in model.parameters])
    return model, steps, after, metrics


@pytest.mark.eager
def test_after_an_epoch_the_model_has_the_average_of_every_third_step():
    split = random_split(0.25)
    model, steps, after, metrics = watched_steps(AVERAGED, split, 4)
    num_steps = len(steps) // 4
    assert num_steps == 5
    for epoch, parameters in enumerate(after, 1):
        seen = steps[: num_steps * epoch : 3]
        weights = 0.8 ** (3.0 * np.arange(len(seen))[::-1])
        for i, x in enumerate(parameters):
            values = np.array([each[i] for each in seen], np.float64)
            expected = np.tensordot(weights, values, 1) / weights.sum()
            np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6)
    assert_best_so_far(model, split, metrics, after)


@pytest.mark.eager
def test_averages_change_no_step():
    split = random_split(0.25)
    _, steps, _, metrics = watched_steps(AVERAGED, split, 3)
    _, others, after, other_metrics = watched_steps(replace(AVERAGED, average_decay=0.0), split, 3)
    for ours, theirs in zip(steps, others, strict=True):
        assert_same_parameters(ours, theirs)
    assert_same_parameters(after[-1], others[-1])
    for one, other in zip(metrics, other_metrics, strict=True):
        assert without_test_and_time(one) == without_test_and_time(other)
        assert one.test_rmse != other.test_rmse


def test_averages_are_those_of_uninterrupted_training_after_a_checkpoint(tmp_path):
    split = random_split(0.25)
    model, metrics = train(split, AVERAGED)
    state = TrainState(build(AVERAGED, split.train, SCALE), split)
    with closing(train_epochs(state, split)) as epochs:
        *_, third = islice(epochs, 3)
        state.write(tmp_path / "third")
    again = TrainState(build(AVERAGED, split.train, SCALE), split)
    again.read(tmp_path / "third")
    rest = [*train_epochs(again, split)]
    assert [third.test_rmse, *(m.test_rmse for m in rest)] == [m.test_rmse for m in metrics[2:]]
    assert_same_parameters(again.model.parameters, model.parameters)


def test_without_averages_a_checkpoint_has_no_variables_of_them():
    split = random_split()
    names = {*TrainState(build(CONFIG, split.train, SCALE), split).stored()}
    averaged = replace(CONFIG, average_decay=0.8)
    more = {*TrainState(build(averaged, split.train, SCALE), split).stored()}
    assert names < more and len(more) == len(names) + 4


@pytest.mark.parametrize("settings", [{}, {"output_activation": "sigmoid"}], ids=str)
def test_b_and_w_share_the_mean_rating(settings):
    train = random_split().train
    config = replace(CONFIG, initial_bias="mean", **settings)
    one, two = (build(replace(config, mean_in_weights=x), train, SCALE) for x in (0.0, 0.75))
    np.testing.assert_allclose(two.b, 0.25 * one.b, rtol=1e-6)
    shift = two.Wt - one.Wt
    np.testing.assert_allclose(shift, tf.fill(shift.shape, shift[0, 0]), rtol=1e-5)
    np.testing.assert_allclose(tf.reduce_sum(0.5 * shift, 1) + two.b, one.b, rtol=1e-5)


@pytest.mark.parametrize("patience", [1, 5])
def test_training_stops_after_as_many_epochs_as_its_patience_whatever_the_test_ratings(patience):
    """Test ratings choose neither the epoch nor the end."""
    split, (_, metrics, after) = random_split(0.25), overfitted()
    other = Split(split.train, turned(split.test), split.validation)
    model, stopped = train(other, replace(OVERFITTING, patience=patience))
    seen = [m.validation_rmse for m in metrics]
    first = next(
        epoch for epoch in range(1, 17) if epoch - 1 - np.argmin(seen[:epoch]) >= patience
    )
    assert patience < first < 16
    assert [*map(without_test_and_time, stopped)] == [
        *map(without_test_and_time, metrics[:first])
    ]
    assert [m.validation_rmse for m in stopped] == seen[:first]
    assert stopped[-1].test_rmse != metrics[first - 1].test_rmse
    assert_same_parameters(model.parameters, after[lowest(stopped).epoch - 1])


@pytest.mark.eager
def test_patience_counts_from_evaluated_epochs_only():
    """An epoch that is not evaluated cannot be the best epoch."""
    _, metrics = train(random_split(0.25), replace(OVERFITTING, display_step=3, patience=2))
    seen = [m.validation_rmse for m in metrics if m.validation_rmse is not None]
    assert len(metrics) == 3 * len(seen) < 16
    assert np.argmin(seen) == len(seen) - 2


@pytest.mark.eager
@pytest.mark.parametrize("method, tolerance", [("LBFGS", 0.6), ("RProp", 0.9)])
def test_training_stops_when_ten_epochs_have_lowered_the_objective_by_less(method, tolerance):
    config = replace(CONFIG, optimizer_method=method, batch_size=100, train_epoch=20,
                     lbfgs_memory=2, display_step=7, tolerance=tolerance)
    _, metrics = train(random_split(), config)
    costs, end = [m.train_cost for m in metrics], len(metrics)
    assert 11 < end < 20
    converged = [costs[i - 10] - costs[i] < tolerance * costs[i] for i in range(10, end)]
    assert converged == [False] * (end - 11) + [True]
    assert [m.epoch for m in metrics if m.test_rmse is not None] == sorted(
        {*range(7, end + 1, 7), end}
    )


def test_validation_ratings_choose_the_epoch_and_nothing_else():
    split = random_split(0.25)
    other = Split(split.train, split.test, split.train)  # which are remembered ever better
    (_, metrics, _), (_, other_metrics) = overfitted(), train(other, OVERFITTING)
    assert [*map(without_test_and_time, metrics)] == [*map(without_test_and_time, other_metrics)]
    assert [m.test_rmse for m in metrics] == [m.test_rmse for m in other_metrics]
    assert lowest(metrics).epoch < 12 < lowest(other_metrics).epoch


@pytest.mark.eager
def test_the_leaking_measure_is_recorded_only_if_it_is_given():
    split = random_split()
    model = AutoRec(split.train.num_columns, CONFIG, SCALE)
    leaking = Scores(rmse=0.25, mae=0.2, squared_error=1.0, num_ratings=16)
    metrics = [*train_epochs(TrainState(model, split), split, lambda: leaking)]
    assert [getattr(m, RECONSTRUCTION) for m in metrics] == [0.25] * 3
    assert [getattr(m, RECONSTRUCTION) for m in plain_run()[0]] == [None] * 3


# Pre-training

ROWS, COLUMNS = 60, 40
THREE, FIVE = (12, 5, 12), (12, 8, 5, 8, 12)


def deep(sizes=THREE, **settings):
    settings = dict(
        pretrain_epoch=2, base_lr=0.02, decay_epoch_step=100, lambda_value=0.01,
        batch_size=ROWS // 2) | settings
    return replace(CONFIG, hidden_neuron=sizes, **settings)


def deep_enough(sizes, activation):
    """The settings of a model that pre-training makes a good one; sigmoids learn slowly."""
    epochs, rate = (50, 0.3) if activation == "sigmoid" else (30, 0.08)
    return deep(sizes, hidden_activation=activation, pretrain_epoch=epochs, batch_size=ROWS,
                base_lr=rate)


def taste(seed=3):
    """Ratings that three kinds of rows and three kinds of columns explain, and their R and M."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(1, 6, (3, 3))
    R = kinds[np.arange(ROWS)[:, None] % 3, np.arange(COLUMNS) % 3].astype(np.float64)
    M = rng.random(R.shape) < 0.4
    rows, columns = (x.astype(np.int32) for x in np.nonzero(M))
    values = R[M].astype(np.float32)
    return RatingMatrix.from_triples(rows, columns, values, R.shape), R * M, M


@cache  # several tests look at one model
def pretrained(settings):
    model = build(settings, taste()[0], SCALE)
    pretrain(model, taste()[0])
    return model


def rmse(model, R, M):
    return np.sqrt(Reference.of(model).squared_error(R, M) / M.sum())


@pytest.mark.eager
@pytest.mark.parametrize(
    "sizes, encoding", [(THREE, "rating"), (THREE, "one_hot"), (FIVE, "rating")], ids=str
)
def test_every_layer_is_set_and_keeps_its_shape(sizes, encoding):
    settings = deep(sizes, input_encoding=encoding)
    random, model = build(settings, taste()[0], SCALE), pretrained(settings)
    assert len(model.parameters) == 4 + (encoding == "one_hot") + 2 * (len(sizes) - 1)
    for x, before in zip(model.parameters, random.parameters, strict=True):
        assert x.shape == before.shape
        assert not np.array_equal(x, before)


@pytest.mark.eager
@pytest.mark.parametrize("sizes, encoding", [(THREE, "one_hot"), (FIVE, "rating")], ids=str)
def test_the_outer_layers_are_those_of_an_autorec_of_one_hidden_layer(sizes, encoding):
    matrix, _, _ = taste()
    settings = deep(sizes, input_encoding=encoding)
    model = pretrained(settings)
    shallow = train_shallow(matrix, settings, sizes[0], SCALE)
    outer = model.parameters[: -2 * len(model.inner)]
    for ours, theirs in zip(outer, shallow.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    "sizes, activation", [(THREE, "sigmoid"), (FIVE, "tanh"), (THREE, "identity")], ids=str)
def test_each_inner_pair_reconstructs_the_codes_that_reach_it(sizes, activation):
    """Half the codes' variance at least, although fewer numbers pass. The model knows the training
    ratings before its first epoch."""
    matrix, R, M = taste()
    settings = deep_enough(sizes, activation)
    random, model = AutoRec(COLUMNS, settings, SCALE), pretrained(settings)
    assert rmse(model, R, M) < 0.6 * matrix.values.std() < rmse(random, R, M)
    (_, _, mu, _, *_), reference = model.parameters, Reference.of(model)
    g = {"sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh, "identity": lambda x: x}
    g = g[activation]
    codes = g(R @ reference.V + mu.numpy())
    for first, last in zip(model.inner, model.inner[::-1][: len(sizes) // 2], strict=False):
        (encoder, encoder_bias), (decoder, decoder_bias) = first, last
        inner = g(codes @ encoder.numpy() + encoder_bias.numpy())
        output = g(inner @ decoder.numpy() + decoder_bias.numpy())
        assert np.mean((output - codes) ** 2) < 0.5 * codes.var(0).mean()
        codes = inner


@pytest.mark.eager
def test_pretraining_leaves_the_optimiser_as_new():
    trainer = Trainer(pretrained(deep()))
    assert float(trainer.optimizer.t) == 0 and int(trainer.steps) == 0
    assert not any(m.numpy().any() for m in trainer.optimizer.m)


@pytest.mark.eager
def test_a_built_model_is_pretrained_if_that_is_asked_for():
    matrix, _, _ = taste()
    settings = deep()
    fresh = AutoRec(COLUMNS, settings, SCALE)
    assert np.array_equal(build(settings, matrix, SCALE).V, fresh.V)
    assert not np.array_equal(pretrained(settings).V, fresh.V)
    without = replace(settings, pretrain_epoch=0)
    model = build(without, matrix, SCALE)
    pretrain(model, matrix)
    for ours, theirs in zip(model.parameters, build(without, matrix, SCALE).parameters,
                            strict=True):
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.eager
def test_pretraining_can_be_ended_after_every_epoch():
    matrix, _, _ = taste()
    seen, epochs = [], 2 * (len(FIVE) // 2 + 1)
    model = AutoRec(COLUMNS, deep(FIVE), SCALE)
    pretrain(model, matrix, lambda *counts: seen.append(counts))
    assert seen == [(done, epochs) for done in range(1, epochs + 1)]

    def stop(done, total):
        seen.pop()
        if len(seen) < epochs - 2:  # in the second pair of layers
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(model, matrix, stop)
    assert len(seen) == epochs - 3


@pytest.mark.eager
def test_the_engines_pretrain_to_the_same_parameters():
    dense, sparse = (
        pretrained(deep(engine=engine)) for engine in ("dense", "sparse")
    )
    for one, two in zip(dense.parameters, sparse.parameters, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4)


def test_codes_become_a_matrix_of_which_all_is_observed():
    matrix, R, _ = taste()
    model = AutoRec(COLUMNS, deep(), SCALE)
    codes = model.encode_all(sparse_rows(matrix))
    full = as_ratings(codes)
    assert (full.num_rows, full.num_columns, full.density) == (ROWS, 12, 1)
    np.testing.assert_array_equal(full.values.reshape(ROWS, 12), codes)


def test_the_gradient_of_w_is_a_sum_of_at_most_two():
    """TensorFlow's AddN adds three tensors in any order, so that runs would differ."""
    config = Config(hidden_neuron=(4,), engine="sparse", leave_one_out=True,
                    input_encoding="one_hot")
    users, items = np.divmod(np.arange(0, 60, 7, np.int32), 6)
    values = np.arange(9, dtype=np.float32) % 5 + 1
    matrix = RatingMatrix.from_triples(users, items, values, (10, 6))
    trainer = Trainer(build(config, matrix, (1.0, 5.0)))
    rows = trainer.model.rows(matrix)
    step = tf.function(lambda: trainer.objective.gradients(rows, tf.range(10, dtype=tf.int64)))
    sums = [each for each in step.get_concrete_function().graph.get_operations()
            if each.type == "AddN" and each.outputs[0].shape == trainer.model.Wt.shape]
    assert {len(each.inputs) for each in sums} == {2}
