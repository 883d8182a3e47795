"""The search for lambda of full-batch training, and the settings of `single` on other data."""

from dataclasses import replace

import numpy as np
import pytest

from autorec_tf import lambda_search
from autorec_tf.config import Config
from autorec_tf.data.ratings import Split, index_ratings
from autorec_tf.data.synthetic import ML_1M_ITEMS, ML_1M_USERS
from autorec_tf.evaluation.baseline import fit_baseline
from autorec_tf.experiments import train_model
from autorec_tf.lambda_search import LARGE_STEP, first_lambda, path, rmse_of_biases, search_lambda
from autorec_tf.model.lbfgs import assign
from autorec_tf.presets import BIASES_ONLY, CONVERGENCE
from autorec_tf.resolution import member_configs, model_configs, over_preset
from autorec_tf.system.errors import Diverged
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.trainer import build, initialise_biases, untrained
from data_preprocessor import FEW_PAIRS, full_batch_settings, resolve, split_of, validation_split
from tests.test_experiments import Records

pytestmark = pytest.mark.eager


def made_up(num_users=40, num_items=30, num_ratings=400):
    """Return ratings that are the sum of two biases and noise."""
    rng = np.random.default_rng(3)
    users, items = np.divmod(rng.permutation(num_users * num_items)[:num_ratings], num_items)
    values = 3 + rng.normal(size=num_users)[users] / 2 + rng.normal(size=num_items)[items] / 2
    values = np.clip(np.rint(values + rng.normal(size=num_ratings) / 2), 1, 5)
    return index_ratings("file.csv", users, items, values, (1.0, 5.0))


RATINGS = made_up()
CONFIG = replace(over_preset(dict(preset="single", hidden_neuron=(3,))), tune=("lambda_value",),
                 train_epoch=1, lbfgs_memory=2, random_seed=1, engine="dense")


def searched(rmse_of_lambda, biases=1.0):
    """Return the lambdas that the search tries if it finds these validation RMSEs."""
    rmses = []
    while (value := path(100.0, biases, rmses)[1]) is not None:
        rmses.append(biases if value == BIASES_ONLY else rmse_of_lambda(value))
    return path(100.0, biases, rmses)[0]


@pytest.mark.parametrize("best, expected", [
    (100.0, [100.0, 200.0, 50.0]),
    (200.0, [100.0, 200.0, 400.0]),
    (800.0, [100.0, 200.0, 400.0, 800.0, 1600.0]),
    (25.0, [100.0, 200.0, 50.0, 25.0, 12.5]),
])
def test_lambdas_are_doubled_or_halved_until_the_best_is_inside(best, expected):
    found = searched(lambda value: 0.8 + abs(np.log2(value / best)) / 10, biases=2.0)
    assert found == expected


def test_the_search_ends_where_the_rmse_hardly_changes():
    """Where the biases are about as good, larger steps are taken, and the last one leaves only
    them."""
    values = searched(lambda value: 1 + 10 / value)
    assert values[:3] == [100.0, 100.0 * LARGE_STEP, 100.0 * LARGE_STEP**2]
    assert values[-1] == BIASES_ONLY and len(values) < 7
    assert searched(lambda value: 0.9) == [100.0, 200.0]
    assert max(searched(lambda value: 1 + 1 / np.log2(value))) == BIASES_ONLY  # always falls


def test_the_first_lambda_grows_with_the_ratings():
    assert first_lambda(1_000) < first_lambda(100_000) < first_lambda(900_000)


def test_the_lambda_of_the_lowest_validation_rmse_is_chosen_and_a_resumed_search_agrees():
    records = Records()
    chosen = search_lambda(CONFIG, RATINGS, records)
    values = [point["lambda_value"] for point, _ in records.points]
    assert values[0] == first_lambda(324) and len(values) > 1
    assert chosen == values[int(np.argmin(records.tuned()))]
    stopped = Records(records.points[:-1])
    assert search_lambda(CONFIG, RATINGS, stopped) == chosen
    assert stopped.points == records.points


@pytest.mark.parametrize("optimizer", ["LBFGS", "RProp"])
def test_each_training_of_the_search_equals_that_of_a_new_model(optimizer):
    """Also with another lambda for V, which the search does not change."""
    config = replace(CONFIG, optimizer_method=optimizer, train_epoch=3, lambda_encoder=40.0)
    records, best, rmses = Records(), None, []
    search_lambda(config, RATINGS, records)
    split = validation_split(config, RATINGS)
    for point, rmse in records.points:
        if point["lambda_value"] == BIASES_ONLY:
            break
        model = build(replace(config, **point), split.train, (1.0, 5.0))
        if best:
            assign(model.parameters, best.parameters)
        *_, last = train_epochs(TrainState(model, split), split)
        assert rmse == pytest.approx(last.test_rmse, abs=1e-6)
        rmses.append(rmse)
        best = model if rmse == min(rmses) else best
    assert len(rmses) > 1


def test_after_a_training_that_diverges_the_next_one_has_the_same_start(monkeypatch):
    starts = []

    def diverges_first(state, split):
        starts.append([x.numpy() for x in state.model.parameters])
        if len(starts) == 1:
            for x in state.model.parameters:
                x.assign(np.nan * x)
            raise Diverged("a metric is not finite")
        yield from train_epochs(state, split)

    monkeypatch.setattr(lambda_search, "train_epochs", diverges_first)
    records = Records()
    search_lambda(CONFIG, RATINGS, records)
    assert records.tuned()[0] == np.inf and np.isfinite(records.tuned()[1])
    for first, second in zip(*starts[:2], strict=True):
        np.testing.assert_array_equal(first, second)


def test_with_biases_only_the_prediction_is_a_mean_and_two_damped_biases():
    """The exact solution, by alternating least squares: both biases have the damping 5, as in
    model/decoder.py (lambda 10, halved), and those of the users have a mean of their own."""
    split = split_of(CONFIG, RATINGS)
    config = replace(CONFIG, lambda_value=BIASES_ONLY, tolerance=0.0, train_epoch=11, tune=(),
                     lbfgs_memory=6, display_step=11, engine="sparse")
    model, _ = train_model(config, split, (1.0, 5.0), Records(), lambda: None)
    train, test = split.train, split.test
    b, c = np.zeros(train.num_columns), np.zeros(train.num_rows)
    for _ in range(2000):
        total = np.bincount(train.rows, train.values - b[train.indices], len(c))
        c = total / (train.row_counts + 5)
        total = np.bincount(train.indices, train.values - c[train.rows], len(b))
        b = (total + 5 * b.mean()) / (train.column_counts + 5)
    found = model.predict(model.rows(train), test.rows, test.indices)
    exact = b[test.indices] + c[test.rows]
    np.testing.assert_allclose(found, exact, atol=0.01)
    expected = np.sqrt(np.mean((exact - test.values) ** 2))
    assert rmse_of_biases(split, "svdpp") == pytest.approx(expected, abs=0.005)


def test_the_rmse_of_biases_without_row_biases_is_that_of_means_of_columns():
    for orientation in ("item", "user"):
        split = split_of(replace(CONFIG, orientation=orientation), RATINGS)
        train, test = split.train, split.test
        sums = np.bincount(train.indices, train.values, train.num_columns)
        assert train.column_counts.min() > 0
        means = (sums / train.column_counts)[test.indices]
        expected = np.sqrt(np.mean((means - test.values) ** 2))
        assert rmse_of_biases(split, "own") == pytest.approx(expected, abs=1e-6)


def test_the_start_of_single_predicts_the_biases():
    """With small W the first predictions hardly differ from two damped biases."""
    split = split_of(CONFIG, RATINGS)
    model = untrained(CONFIG, split.train, (1.0, 5.0), None)
    model.Wt.assign(1e-4 * model.Wt)
    initialise_biases(model, split.train)
    biases = fit_baseline(Split(split.train, split.train), dampings=(5, 5))
    pairs = split.test.rows, split.test.indices
    found = model.predict(model.rows(split.train), *pairs)
    np.testing.assert_allclose(found, biases.predict(*pairs), atol=1e-3)
    scaled = build(replace(CONFIG, output_activation="sigmoid"), split.train, (1.0, 5.0))
    assert len(set(scaled.b.numpy())) == 1  # the mean rating: c and f cannot be fitted at once


def test_single_is_adapted_to_all_data_but_movielens_1m():
    users, items = np.arange(900_000) % ML_1M_USERS, np.arange(900_000) % ML_1M_ITEMS
    like_ml_1m = index_ratings("file.csv", users, items, np.ones(900_000), (1.0, 5.0))
    assert full_batch_settings(like_ml_1m, Config()) == {}
    adapted = full_batch_settings(RATINGS, Config())
    units, of_ml_1m = (round(5.4 * 360 / 70),), 0.9 * 1_000_209 / ML_1M_ITEMS
    scale = adapted["input_scale"]
    assert scale == pytest.approx(18 * (360 / 30 / of_ml_1m) ** 0.25, rel=0.005)
    assert adapted == {"tune": ("lambda_value",), "hidden_neuron": units,
                       "input_scale": scale} | CONVERGENCE
    config = resolve(over_preset(dict(preset="single")), RATINGS)
    assert {name: getattr(config, name) for name in adapted} == adapted
    flags = dict(preset="single", lambda_value=9.0, hidden_neuron=(4,))
    given = resolve(over_preset(flags), RATINGS)
    assert (given.tune, given.lambda_value, given.hidden_neuron) == ((), 9.0, (4,))


@pytest.mark.parametrize("given", [dict(preset="single"), dict(members=("single", "item"))])
def test_lbfgs_keeps_fewer_pairs_of_a_large_model(given):
    config = resolve(over_preset(given | dict(hidden_neuron=(500,))), RATINGS)
    large = resolve(over_preset(given | dict(hidden_neuron=(400_000,))), RATINGS)
    for each in model_configs(config):
        assert each.lbfgs_memory == Config().lbfgs_memory
    for each in model_configs(large):
        assert each.lbfgs_memory == FEW_PAIRS < Config().lbfgs_memory
    adam = resolve(over_preset(dict(hidden_neuron=(400_000,))), RATINGS)
    assert adam.lbfgs_memory == Config().lbfgs_memory


def test_best_has_the_adapted_single_and_the_biases_on_other_data():
    config = resolve(over_preset(dict(preset="best")), RATINGS)
    assert config.members == (*("single",) * 3, "deep", "single_user", "biases")
    single, *_, deep, user, biases = member_configs(config)
    assert single.tune == user.tune == ("lambda_value",) and deep.tune == biases.tune == ()
    assert single.hidden_neuron < deep.hidden_neuron[:1] and biases.lambda_value == BIASES_ONLY
    assert resolve(over_preset(dict(members=("single", "deep"))), RATINGS).members == (
        "single", "deep")
