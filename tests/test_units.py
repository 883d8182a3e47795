"""Results do not depend on the unit of the ratings: RMSE of a * r + b is a times that of r."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingUnit, index_ratings
from autorec_tf.evaluation.evaluate import evaluate
from autorec_tf.experiments import blend, validation_rmse
from autorec_tf.records.summary import results
from autorec_tf.training.epochs import TrainState, train_epochs
from autorec_tf.training.trainer import build
from data_preprocessor import split_ratings

pytestmark = pytest.mark.eager

STARS = (1.0, 5.0)
CONFIG = Config(
    hidden_neuron=8, batch_size=64, base_lr=0.06, train_epoch=2, engine="dense", split_seed=1,
    cold_rating="mean",
)
SETTINGS = {
    "identity": {},
    "sigmoid": {"orientation": "user", "output_activation": "sigmoid", "validation_ratio": 0.2},
    "tanh": {"output_activation": "tanh", "engine": "sparse", "initial_bias": "mean"},
}
# What 1 and 5 become, the levels there are, and which of the settings are tried with them.
UNITS = {
    "0 and 1": ((0.0, 1.0), 2, "tanh"), "-10 to 10": ((-10.0, 10.0), 5, "sigmoid"),
    "100.01 to 100.05": ((100.01, 100.05), 5, "identity"),
    "millionths": ((1e-6, 5e-6), 5, "sigmoid"), "0 to 1e9": ((0.0, 1e9), 5, "identity"),
}
every_unit = pytest.mark.parametrize("unit", UNITS)


def ratings_on(scale, levels):
    """Ratings of 60 users x 40 items that both explain in part, on a scale of so many levels."""
    rng = np.random.default_rng(2)
    pairs = rng.permutation(60 * 40)[:700]
    users, items = pairs // 40, pairs % 40
    taste = np.clip(rng.normal(0.5 + (users % 3 - 1) / 6 + (items % 2 - 0.5) / 4, 0.2), 0, 1)
    values = scale[0] + np.round(taste * (levels - 1)) / (levels - 1) * (scale[1] - scale[0])
    values = values.clip(*scale)
    return index_ratings("made up", users, items, values, scale)


def trained(ratings, **settings):
    """The epochs' metrics and the evaluation of a small model; some test pairs are cold."""
    config = replace(CONFIG, **settings)
    split = split_ratings(ratings, 0.2, 1, config.orientation, config.validation_ratio)
    model = build(config, split.train, ratings.unit.model_scale)
    metrics = [*train_epochs(TrainState(model, split), split)]
    return metrics, evaluate(model, split, config.cold_rating), split


@cache
def trained_on_stars(levels, name):
    """What several units are compared with."""
    return trained(ratings_on(STARS, levels), **SETTINGS[name])


@cache
def worth_on_stars(levels):
    return validation_rmse(CONFIG, {"lambda_value": 0.5}, ratings_on(STARS, levels), Records())


def factor(scale):
    return (scale[1] - scale[0]) / 4


@every_unit
def test_errors_are_as_many_times_as_large_as_the_unit_is(unit):
    scale, levels, name = UNITS[unit]
    ours, found, split = trained(ratings_on(scale, levels), **SETTINGS[name])
    theirs, expected, _ = trained_on_stars(levels, name)
    a = factor(scale)
    assert split.unit == RatingUnit(scale, STARS)
    cold = (split.train.row_counts[split.test.rows] == 0).any()
    assert cold or (split.train.column_counts[split.test.indices] == 0).any()
    for name in ("scores", "biases", "global_mean"):
        one, other = getattr(found, name), getattr(expected, name)
        assert one.rmse == pytest.approx(a * other.rmse, rel=1e-3)
        assert one.mae == pytest.approx(a * other.mae, rel=1e-3)
        assert one.squared_error == pytest.approx(a**2 * other.squared_error, rel=1e-3)
    for one, other in zip(ours, theirs, strict=True):
        assert one.train_cost == pytest.approx(other.train_cost, rel=1e-3)
        for name in ("train_rmse", "test_rmse", "test_mae", "validation_rmse"):
            x, y = getattr(one, name), getattr(other, name)
            assert (x is None and y is None) or x == pytest.approx(a * y, rel=1e-3)
    assert results(ours)["final_test_rmse"] == pytest.approx(found.scores.rmse, rel=1e-5)
    assert found.ranking.num_users == expected.ranking.num_users > 0
    for one, other in ((found.by_user, expected.by_user), (found.by_item, expected.by_item)):
        assert [part.label for part in one] == [part.label for part in other]
        for x, y in zip(one, other, strict=True):
            assert x.scores.rmse == pytest.approx(a * y.scores.rmse, rel=2e-3)


@pytest.mark.parametrize("unit", ["0 and 1", "millionths", "0 to 1e9"])
def test_a_point_of_the_grid_is_worth_as_many_times_as_much(unit):
    scale, levels, _ = UNITS[unit]
    ours = validation_rmse(CONFIG, {"lambda_value": 0.5}, ratings_on(scale, levels), Records())
    assert ours == pytest.approx(factor(scale) * worth_on_stars(levels), rel=1e-3)


class Records:
    def of_member(self, *_):
        return self

    def restore(self, state):
        return state

    def log_epoch(self, *_):
        pass

    log_members = stop_if_asked = log_step = log_pretraining = log_epoch


def test_the_weights_of_a_blend_do_not_depend_on_the_unit(monkeypatch):
    members = {
        name: {"orientation": name, "lambda_value": 0.5, "regularization": "plain"}
        for name in ("item", "user")
    }
    monkeypatch.setattr("autorec_tf.resolution.MEMBERS", members)
    scale = (0.0, 100.0)
    config = replace(CONFIG, members=("item", "user"))
    (ours, split), (theirs, _) = (
        blend(config, ratings_on(x, 5), Records()) for x in (scale, STARS)
    )
    for one, other in zip(ours.members, theirs.members, strict=True):
        assert one.weight == pytest.approx(other.weight, rel=1e-3)
        assert one.test_rmse == pytest.approx(25 * other.test_rmse, rel=1e-3)
        assert one.validation_rmse == pytest.approx(25 * other.validation_rmse, rel=1e-3)
    assert evaluate(ours, split).scores.rmse > 1


# The map itself


@pytest.mark.parametrize("scale", [(1, 5), (0.5, 5), (0.5, 4), (1, 2), (3.1, 4.9)], ids=str)
def test_a_scale_within_stars_is_left_bit_for_bit(scale):
    rng = np.random.default_rng(1)
    values = rng.uniform(*scale, 500).astype(np.float32).clip(*np.float32(scale))
    unit = RatingUnit.of(scale)
    assert unit == RatingUnit(scale, scale)
    assert np.array_equal(unit.to_model(values).view(np.int32), values.view(np.int32))
    assert np.array_equal(unit.to_file(values).view(np.int32), values.view(np.int32))
    ratings = index_ratings("stars", np.arange(500), np.arange(500) % 7, values, scale)
    split = split_ratings(ratings, 0.5, 1)
    both = np.concatenate([split.train.values, split.test.values])
    assert np.array_equal(np.sort(both).view(np.int32), np.sort(ratings.values).view(np.int32))


@pytest.mark.parametrize(
    "scale", [(0, 1), (0, 5), (1, 5.5), (0.4, 5), (1, 100), (-1, 1), (1e-6, 5e-6), (0, 0.3)],
    ids=str,
)
def test_any_other_scale_becomes_1_to_5_and_comes_back(scale):
    unit = RatingUnit.of(scale)
    low, high = scale
    assert (unit.file_scale, unit.model_scale) == (scale, STARS)
    assert unit.factor == pytest.approx((high - low) / 4, rel=1e-15)
    ratings = np.linspace(low, high, 101)
    inner = unit.to_model(ratings)
    assert inner.dtype == np.float32 and (inner[0], inner[-1]) == STARS
    np.testing.assert_allclose(inner, np.linspace(1, 5, 101), rtol=1e-6)
    back = unit.to_file(inner)
    assert back.dtype == np.float64
    np.testing.assert_allclose(back, ratings, rtol=0, atol=1e-6 * (high - low))
    assert (back[0], back[-1]) == (low, pytest.approx(high, rel=1e-15))


def test_a_scale_is_left_as_it_is_if_it_is_not_to_be_mapped():
    assert RatingUnit.of((0.0, 100.0), mapped=False) == RatingUnit((0.0, 100.0), (0.0, 100.0))
    ratings = replace(ratings_on((0.0, 100.0), 5), mapped=False)
    split = split_ratings(ratings, 0.5, 1)
    assert split.unit.model_scale == (0, 100) and set(split.train.values) == {0, 25, 50, 75, 100}
    assert split.transposed().unit == split.unit


def test_a_rating_is_mapped_before_it_is_rounded():
    """100.01 to 100.05 have few bits left in single precision: 1..5 are exact only before."""
    values = np.array([100.01, 100.02, 100.03, 100.04, 100.05])
    ratings = index_ratings("fine", np.arange(5), np.arange(5), values, (100.01, 100.05))
    found = np.sort(ratings.unit.to_model(ratings.values))
    np.testing.assert_allclose(found, [1, 2, 3, 4, 5], rtol=0, atol=1e-6)
