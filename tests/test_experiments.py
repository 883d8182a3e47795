"""Tuning, blends and the leaking measure: what each may see, and that it is what it says."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from autorec_tf import experiments
from autorec_tf.config import Config, flag_fields
from autorec_tf.data.ratings import Ratings, index_ratings
from autorec_tf.evaluation.metrics import cold_pairs, score
from autorec_tf.experiments import (
    STEPS_OUTWARDS,
    Purpose,
    blend,
    blend_weights,
    grid,
    reconstruction,
    train_members,
    tune,
    validation_rmse,
    validation_split,
)
from autorec_tf.model.batch import sparse_rows
from autorec_tf.presets import GRID, MEMBERS
from autorec_tf.resolution import member_configs
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.pretraining import pretrain
from autorec_tf.training.trainer import build
from data_preprocessor import split_ratings
from tests.plain import final_predictions
from tests.reference import Reference

pytestmark = pytest.mark.eager

NAMED = ("tune", "members")
SCALE = (1.0, 5.0)
CONFIG = Config(
    hidden_neuron=8, batch_size=32, base_lr=0.08, train_epoch=2, engine="dense", split_seed=1,
    regularization="plain",
)


def made_up_ratings():
    """Ratings of 60 users x 40 items that users and items explain in part."""
    rng = np.random.default_rng(2)
    pairs = rng.permutation(60 * 40)[:900]
    users, items = pairs // 40, pairs % 40
    values = np.clip(np.round(rng.normal(3 + (users % 3 - 1) + (items % 2 - 0.5), 0.7)), 1, 5)
    return index_ratings("made up", users, items, values, SCALE)


RATINGS = made_up_ratings()


def with_other_test_ratings(config=CONFIG):
    """The same ratings but for those on the test side of `config`'s split: r is 6 - r there."""
    test = split_ratings(RATINGS, config.train_ratio, config.split_seed).test
    tested = set(zip(test.rows.tolist(), test.indices.tolist(), strict=True))
    pairs = zip(RATINGS.items.tolist(), RATINGS.users.tolist(), strict=True)
    turned = np.array([pair in tested for pair in pairs])
    assert turned.sum() == 90
    values = np.where(turned, 6 - RATINGS.values, RATINGS.values)
    return Ratings("other", RATINGS.users, RATINGS.items, values, RATINGS.user_ids,
                   RATINGS.item_ids, SCALE)


SMALL_MEMBERS = {
    name: {"orientation": name, "lambda_value": value, "base_lr": 0.08, "regularization": "plain"}
    for name, value in (("item", 2.0), ("user", 1.0))
}


@pytest.fixture
def small_members(monkeypatch):
    """Members as small as `CONFIG`, whatever the program's are."""
    monkeypatch.setattr("autorec_tf.resolution.MEMBERS", SMALL_MEMBERS)


def as_member(name):
    return replace(CONFIG, **SMALL_MEMBERS[name])


class Records:
    """What an experiment records: points of the grid, settings, members, and the epochs of each
    training. It raises to end it all where there are `most` epochs."""

    def __init__(self, points=(), most=None):
        self.points, self.most = list(points), most
        self.settings = self.members = None
        self.trainings, self.epochs, self.times_asked = [], [], 0

    def tuned(self):
        return [rmse for _, rmse in self.points]

    def log_point(self, point, rmse):
        self.points.append((point, rmse))

    def log_settings(self, config):
        self.settings = config

    def of_member(self, config, purpose, number):
        self.trainings.append((purpose, number, config.orientation))
        return self

    def restore(self, state):
        return state

    def log_epoch(self, metrics, state):
        self.epochs.append(int(state.epoch.numpy()))
        if len(self.epochs) == self.most:
            raise KeyboardInterrupt

    def log_members(self, rows):
        self.members = rows

    def stop_if_asked(self):
        self.times_asked += 1

    def log_pretraining(self, done, total):
        self.stop_if_asked()

    def do_nothing(self, *_, **__):
        pass

    log_chosen = log_step = do_nothing


@cache
def blended(config, ratings=RATINGS):
    """The blend, its predictions of the test ratings, its split, and what was recorded."""
    records = Records()
    found, split = blend(config, ratings, records)
    return found, found.predict_test(split), split, records


@cache
def tuned(config):
    """The RMSE of each point of a grid over `LAMBDAS`."""
    return tuned_on(config, RATINGS)


def tuned_on(config, ratings):
    records = Records()
    tune(config, ratings, records)
    return records.tuned()


def trained(config, split):
    model = build(config, split.train, SCALE)
    pretrain(model, split.train)
    for _ in train_epochs(TrainState(model, split), split):
        pass
    return model


def rmse_of(predictions, split):
    """The RMSE of raw predictions of the test ratings."""
    cold = cold_pairs(split.train, split.test.rows, split.test.indices)
    return score(final_predictions(predictions, cold, SCALE), split.test.values).rmse


def assert_same_parameters(one, other):
    for ours, theirs in zip(one.parameters, other.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_a_flag_may_name_is_there_and_every_value_of_it_is_a_setting():
    choices = {f.name: set(f.metadata["choices"]) for f in flag_fields() if f.name in NAMED}
    assert choices == {"tune": set(GRID), "members": set(MEMBERS)}
    for name, values in GRID.items():
        assert len({replace(CONFIG, **{name: value}) for value in values}) == len(values) > 1
    for settings in MEMBERS.values():
        assert replace(CONFIG, **settings).orientation == settings["orientation"]


# Tuning


@pytest.mark.parametrize("names", [("lambda_value",), ("base_lr",), ("lambda_value", "base_lr")])
def test_every_point_is_in_the_grid_once(names):
    every = [{name: value} for name in names[:1] for value in GRID[name]]
    for name in names[1:]:
        every = [point | {name: value} for point in every for value in GRID[name]]
    assert grid(replace(CONFIG, tune=names)) == every


LAMBDAS = (0.1, 30.0)


@pytest.mark.parametrize("orientation, values", [("item", LAMBDAS), ("user", LAMBDAS[:1])])
def test_a_point_is_scored_by_the_last_epochs_rmse_of_validation_ratings(
    orientation, values, monkeypatch
):
    monkeypatch.setitem(GRID, "lambda_value", values)
    config = replace(CONFIG, tune=("lambda_value",), orientation=orientation)
    found = tuned(config)
    split = split_ratings(RATINGS, 0.9, 1, orientation, validation_ratio=0.1)
    for value, rmse in zip(values, found, strict=True):
        model = build(replace(config, lambda_value=value), split.train, SCALE)
        *_, last = train_epochs(TrainState(model, split), split)
        assert rmse == last.validation_rmse
    assert len(set(found)) == len(values)


def test_test_ratings_choose_no_setting(monkeypatch):
    monkeypatch.setitem(GRID, "lambda_value", LAMBDAS)
    config = replace(CONFIG, tune=("lambda_value",))
    assert tuned(config) == tuned_on(config, with_other_test_ratings())


def test_a_point_where_training_diverges_is_the_worst(monkeypatch):
    monkeypatch.setitem(GRID, "base_lr", (0.02, 1e30))
    found = tuned_on(replace(CONFIG, tune=("base_lr",)), RATINGS)
    assert np.isfinite(found[0]) and found[1] == np.inf


@pytest.mark.parametrize("orientation", ["item", "user"])
def test_settings_are_chosen_within_the_training_ratings_of_the_run(orientation):
    config = replace(CONFIG, orientation=orientation)
    part, whole = validation_split(config, RATINGS), split_ratings(RATINGS, 0.9, 1, orientation)
    assert (len(part.train), len(part.test), part.validation) == (729, 81, None)
    pairs = [
        set(zip(side.rows.tolist(), side.indices.tolist(), strict=True))
        for side in (part.train, part.test, whole.train)
    ]
    assert not pairs[0] & pairs[1] and pairs[0] | pairs[1] == pairs[2]


def test_a_point_is_pretrained_on_its_own_training_ratings():
    config, point = replace(CONFIG, hidden_neuron=(8, 4, 8), pretrain_epoch=1), {"base_lr": 0.03}
    records, part = Records(), validation_split(config, RATINGS)
    found = validation_rmse(config, point, RATINGS, records)
    assert found == rmse_of(trained(replace(config, **point), part).predict_test(part), part)
    assert records.times_asked == 2 + 2  # epochs of two layers, and of the whole


def test_tuning_takes_the_lowest_and_records_every_point(monkeypatch):
    monkeypatch.setattr(experiments, "validation_rmse", lambda config, point, *rest: (
        abs(point["lambda_value"] - 40) + point["base_lr"]))
    config, records = replace(CONFIG, tune=("lambda_value", "base_lr")), Records()
    found = tune(config, RATINGS, records)
    assert found == records.settings == replace(config, lambda_value=40.0, base_lr=0.003)
    assert [point for point, _ in records.points] == grid(config)
    assert records.tuned() == [10.003, 10.005, 0.003, 0.005]


def test_tuning_goes_on_after_the_points_that_were_tried(monkeypatch):
    monkeypatch.setattr(experiments, "validation_rmse", lambda *rest: 0.9)
    config = replace(CONFIG, tune=("lambda_value",))
    first, second = grid(config)
    for before, best in ((0.8, first), (0.9, first), (1.0, second)):
        records = Records([(first, before)])
        assert tune(config, RATINGS, records) == replace(config, **best)
        assert records.points == [(first, before), (second, 0.9)]


def test_tuning_goes_outwards_a_few_steps_while_the_last_one_is_best(monkeypatch):
    monkeypatch.setattr(experiments, "validation_rmse", lambda config, point, *rest: (
        100 - point["lambda_value"]))
    config, records = replace(CONFIG, tune=("lambda_value",), lambda_factor=0.5), Records()
    found = tune(config, RATINGS, records)
    lambdas = [point["lambda_value"] for point, _ in records.points]
    assert len(lambdas) == 2 + STEPS_OUTWARDS and lambdas == sorted(lambdas)
    assert found.lambda_value == lambdas[-1] > 100


def test_without_settings_to_tune_nothing_is_tried_nor_recorded():
    records = Records()
    assert tune(CONFIG, RATINGS, records) == CONFIG
    assert (records.points, records.settings) == ([], None)


# Blends


def test_known_weights_are_recovered():
    rng = np.random.default_rng(0)
    predictions = rng.normal(3, 1, (4, 500)).astype(np.float32)
    weights = np.array([0.7, 0.0, 0.25, 0.1])
    found = blend_weights(predictions, weights @ predictions)
    np.testing.assert_allclose(found, weights, atol=1e-6)


def test_no_weight_is_negative():
    rng = np.random.default_rng(0)
    predictions = rng.normal(3, 1, (2, 500))
    weights = blend_weights(predictions, predictions[0] - 0.5 * predictions[1])
    assert weights[1] == 0 < weights[0]


def test_weights_have_the_least_squared_error():
    rng = np.random.default_rng(0)
    ratings = rng.integers(1, 6, 300).astype(np.float32)
    predictions = (ratings + rng.normal(0, [[0.8], [0.9], [1.5]], (3, 300))).astype(np.float32)
    weights = blend_weights(predictions, ratings)
    assert weights.dtype == np.float64 and (weights > 0).all()
    normal_equations = predictions @ (weights @ predictions - ratings)
    np.testing.assert_allclose(normal_equations, 0, atol=1e-2)


@pytest.mark.usefixtures("small_members")
@pytest.mark.parametrize("name", ["item", "user"])
def test_a_blend_of_one_is_its_predictions_times_its_weight(name):
    config = replace(CONFIG, members=(name,))
    found, predictions, split, _ = blended(config)
    (member,) = found.members
    own = split if name == "item" else split.transposed()
    alone = trained(as_member(name), own)
    pairs = (split.test.rows, split.test.indices)
    expected = alone.predict(sparse_rows(own.train), *(pairs if name == "item" else pairs[::-1]))
    np.testing.assert_allclose(predictions, member.weight * np.clip(expected, 1, 5), rtol=1e-6)
    assert member.test_rmse == rmse_of(expected, split)
    assert member.config.orientation == name


@pytest.mark.usefixtures("small_members")
def test_a_weight_comes_from_a_model_that_has_not_seen_the_validation_ratings():
    (member,) = blended(replace(CONFIG, members=("item",)))[0].members
    part = validation_split(CONFIG, RATINGS)
    model = trained(as_member("item"), part)
    held = model.predict(sparse_rows(part.train), part.test.rows, part.test.indices)
    held, rated = np.clip(held, 1, 5).astype(np.float64), part.test.values.astype(np.float64)
    assert member.weight == pytest.approx(held @ rated / (held @ held), rel=1e-9)
    assert member.validation_rmse == rmse_of(held, part)


@pytest.mark.usefixtures("small_members")
def test_members_with_equal_settings_are_averaged_and_trained_once():
    found, predictions, split, records = blended(replace(CONFIG, members=("item", "item")))
    assert [(m.weight, m.validation_rmse) for m in found.members] == [(0.5, None)] * 2
    assert len(records.trainings) == 2
    models = [trained(replace(as_member("item"), random_seed=CONFIG.random_seed + i,
                              split_seed=CONFIG.seed_of_split), split) for i in range(2)]
    each = [model.predict(sparse_rows(split.train), split.test.rows, split.test.indices)
            for model in models]
    assert not np.allclose(*each)
    np.testing.assert_allclose(predictions, np.mean(np.clip(each, 1, 5), 0), rtol=1e-6)


@pytest.mark.usefixtures("small_members")
def test_test_ratings_change_no_weight_and_no_prediction():
    config = replace(CONFIG, members=("item", "user"))
    (found, predictions, split, _), (other, same_predictions, *_) = (
        blended(config, ratings) for ratings in (RATINGS, with_other_test_ratings())
    )
    members, same = found.members, other.members
    assert [m.weight for m in members] == [m.weight for m in same]
    assert [m.validation_rmse for m in members] == [m.validation_rmse for m in same]
    assert all(a.test_rmse != b.test_rmse for a, b in zip(members, same, strict=True))
    np.testing.assert_array_equal(predictions, same_predictions)
    factors = found.factors(split.train)
    assert [f.weight for f in factors] == [m.weight for m in members]
    total = sum(
        f.weight * np.clip(f.block(slice(0, 60))[split.test.indices, split.test.rows], 1, 5)
        for f in factors
    )
    np.testing.assert_allclose(predictions, total, atol=1e-5)


@pytest.mark.usefixtures("small_members")
def test_members_share_the_split_and_nothing_that_is_drawn():
    config = replace(CONFIG, members=("item", "user", "item"), random_seed=7)
    first, second, third = member_configs(config)
    assert [c.random_seed for c in (first, second, third)] == [7, 8, 9]
    assert [c.orientation for c in (first, second, third)] == ["item", "user", "item"]
    assert {c.split_seed for c in (first, second, third)} == {1}
    assert {c.members for c in (first, second, third)} == {()}
    assert replace(third, random_seed=7) == first


@pytest.mark.usefixtures("small_members")
def test_the_orientation_of_the_run_is_no_members():
    config = replace(CONFIG, members=("item",))
    found, predictions, *_ = blended(config)
    same, same_predictions, split, _ = blended(replace(config, orientation="user"))
    assert [m.row() for m in found.members] == [m.row() for m in same.members]
    np.testing.assert_array_equal(predictions, same_predictions)
    assert split.test.num_rows == RATINGS.num_items


@pytest.mark.usefixtures("small_members")
def test_every_member_is_trained_twice_and_recorded_when_all_are_trained():
    found, _, _, records = blended(replace(CONFIG, members=("item", "user")), RATINGS)
    assert records.trainings == [
        (Purpose.WEIGHTS.value, 1, "item"), (Purpose.WEIGHTS.value, 2, "user"),
        (Purpose.RESULT.value, 1, "item"), (Purpose.RESULT.value, 2, "user"),
    ]
    assert records.epochs == [1, 2] * 4
    assert records.members == [member.row() for member in found.members]
    assert [row["orientation"] for row in records.members] == ["item", "user"]


@pytest.mark.usefixtures("small_members")
def test_each_training_of_a_blend_can_end_it_all(monkeypatch):
    trained_on = []

    def watched(state, split, measure):
        trained_on.append(len(split.train))
        return train_epochs(state, split, measure)

    monkeypatch.setattr(experiments, "train_epochs", watched)
    config, records = replace(CONFIG, members=("item",)), Records(most=3)
    with pytest.raises(KeyboardInterrupt):
        blend(config, RATINGS, records)
    assert trained_on == [729, 810]
    assert records.trainings == [
        (Purpose.WEIGHTS.value, 1, "item"), (Purpose.RESULT.value, 1, "item")
    ]
    assert records.epochs == [1, 2, 1]
    assert records.members is None


@pytest.mark.usefixtures("small_members")
def test_a_member_is_pretrained_unless_it_is_restored():
    config = replace(CONFIG, members=("user",), hidden_neuron=(8, 4, 8), pretrain_epoch=1)
    (member,), split = member_configs(config), split_ratings(RATINGS, 0.9, 1)
    records = Records()
    (model,), (predictions,) = train_members(config, split, SCALE, Purpose.RESULT, records)
    expected = trained(member, split.transposed())
    assert_same_parameters(model, expected)
    assert records.times_asked == 2 and records.epochs == [1, 2]

    class Restoring(Records):
        def restore(self, state):
            state.epoch.assign(state.model.config.train_epoch)
            for x, saved in zip(state.model.parameters, expected.parameters, strict=True):
                x.assign(saved)
            return state

    records = Restoring()
    (model,), (same,) = train_members(config, split, SCALE, Purpose.RESULT, records)
    assert_same_parameters(model, expected)
    np.testing.assert_array_equal(predictions, same)
    assert records.times_asked == 0 and records.epochs == []


# The leaking measure


@pytest.mark.parametrize("orientation", ["item", "user"])
def test_the_leaking_measure_reconstructs_test_ratings_from_themselves(orientation):
    split = split_ratings(RATINGS, 0.75, 1, orientation)
    model = trained(replace(CONFIG, lambda_value=0.1), split)
    R = np.zeros((split.test.num_rows, split.test.num_columns))
    R[split.test.rows, split.test.indices] = split.test.values
    predicted = np.clip(Reference.of(model).predict(R), 1, 5)
    predicted[split.train.row_counts == 0] = predicted[:, split.train.column_counts == 0] = 3
    error = (predicted - R)[R > 0]
    leaking = reconstruction(model, split)()
    assert leaking.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
    assert leaking.num_ratings == len(split.test)
    honest = model.predict(sparse_rows(split.train), split.test.rows, split.test.indices)
    assert leaking.rmse != rmse_of(honest, split)
