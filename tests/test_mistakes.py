"""What is almost surely a mistake in the data is told in one line, and what fits is not."""

from dataclasses import replace

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS
from autorec_tf.records.progress import announce
from autorec_tf.records.run_warnings import last_warnings
from autorec_tf.system.errors import AutoRecWarning
from data_preprocessor import ratings_of_a_column, split_ratings
from tests.facts import assert_names


def ratings_of(users, items, values, scale=None):
    values = np.asarray(values, np.float64)
    scale = scale or (values.min(), values.max())
    return index_ratings("made up", np.asarray(users), np.asarray(items), values, scale)


def announced(ratings, ratio=0.8, **settings):
    """What is logged before training: lines and warnings."""
    config, told = Config(dataset="made up", split_seed=1, **settings), []
    split = split_ratings(ratings, ratio, 1, config.orientation)
    announce(config, ratings, split, told.append)
    return told


def lines(ratings, ratio=0.8, batch_size=4):
    """What main.py prints of it."""
    told = [f"warning: {each}" if isinstance(each, AutoRecWarning) else each
            for each in announced(ratings, ratio, batch_size=batch_size)]
    return "\n".join(told).splitlines()


def full(num_users=20, num_items=15, seed=1):
    users, items = np.divmod(np.arange(num_users * num_items), num_items)
    return users, items, np.random.default_rng(seed).integers(1, 6, num_users * num_items)


def test_scale_and_mean_rating_are_always_told():
    users, items, values = full()
    told = lines(ratings_of(users, items, values))
    assert any("1 to 5" in line and f"{values.mean():.6g}" in line for line in told)
    assert not any("warning" in line for line in told)


def test_row_numbers_taken_for_users_are_suspected():
    users, items, values = full()
    (line,) = [x for x in lines(ratings_of(np.arange(300), items, values)) if "--columns" in x]
    assert line.startswith("warning: ") and "--columns" in line


def test_test_ratings_that_are_mostly_cold_are_suspected():
    users, items, values = full()
    ratings = ratings_of(np.arange(300), items, values)
    for held_out in (None, np.arange(300) >= 240):  # the latter are those of a test file
        told = lines(replace(ratings, held_out=held_out))
        (cold,) = [x for x in told if "60 of 60" in x]
        assert cold.startswith("warning: ") and ("the same ids" in cold) == (held_out is not None)


@pytest.mark.parametrize("cold, told", [(9, True), (1, False)])
def test_cold_test_ratings_are_told_from_a_twentieth_on(cold, told):
    users, items, values = full()
    order = np.random.default_rng(1).permutation(300)
    held_out = np.zeros(300, bool)
    held_out[order[:60]] = True
    users[order[:cold]] = 100 + np.arange(cold)  # who have this rating alone
    ratings = replace(ratings_of(users, items, values), held_out=held_out)
    found = [x for x in lines(ratings) if x.startswith("warning: ")]
    assert bool(found) == told
    if told:
        assert_names(*found, f"{cold} of 60", "15%", "--cold_rating")


@pytest.mark.parametrize("far, told", [(99, True), (6, False)])
def test_a_few_values_that_stretch_the_scale_are_told(far, told):
    users, items, values = full()
    values[7] = far
    stretched = [x for x in lines(ratings_of(users, items, values)) if "--no_rating" in x]
    assert bool(stretched) == told
    if told:
        (line,) = stretched
        assert_names(line, "warning: ", " 1 to 5", "--rating_scale")


def test_a_column_of_movielens_1m_has_as_many_ratings_in_a_batch_as_arithmetic_says():
    counts = sum(ML_1M_COUNTS), ML_1M_USERS, ML_1M_ITEMS
    assert ratings_of_a_column(*counts, Config()) == pytest.approx(1_000_209 * 512 / 6040 / 3706)
    few_rows = ratings_of_a_column(1000, 50, 100, Config())  # a batch is all rows
    assert few_rows == pytest.approx(1000 * 100 / (50 * 100))


# Advice about settings.


@pytest.mark.parametrize("settings, flags", [
    ({}, ("15 items", "--batch_size 1,")),
    (dict(orientation="user", batch_size=20), ("20 users", "--batch_size 2,")),
    (dict(given=("hidden_neuron",), train_epoch=9), (" 9 epochs", "--preset single")),
    (dict(batch_size=14), None), (dict(given=("batch_size",)), None),
    (dict(optimizer_method="LBFGS"), None), (dict(members=("item",)), None),
    (dict(resume="run"), None),
])
def test_one_step_an_epoch_is_told_with_the_settings_for_more(settings, flags):
    found = [each for each in announced(ratings_of(*full()), **settings)
             if isinstance(each, AutoRecWarning)]
    assert bool(found) == bool(flags)
    if flags:
        assert_names(str(*found), *flags)


@pytest.mark.parametrize("shape, settings, is_better", [
    ((60, 49), {}, True), ((49, 60), {}, True), ((60, 50), {}, False),
    ((60, 49), dict(preset="paper"), True), ((60, 49), dict(preset="single"), False),
    ((60, 49), dict(preset="deep"), False), ((60, 49), dict(members=("user",)), False),
    ((60, 49), dict(optimizer_method="LBFGS"), False), ((60, 49), dict(resume="run"), False),
])
def test_a_better_preset_is_named_for_fewer_than_50_ratings_per_user_or_item(
    shape, settings, is_better
):
    told = announced(ratings_of(*full(*shape)), batch_size=9, **settings)
    advice = [each for each in told if "--preset single" in str(each)]
    assert bool(advice) == is_better
    if is_better:
        assert_names(*advice, f"{shape[1]:.1f}", f"{shape[0]:.1f}")


SUMMARY = dict(dataset="made up", preset="default", final_test_rmse=0.9, biases_test_rmse=0.9,
               epochs=3, test_ratings=10, cold_test_ratings=5)


@pytest.mark.parametrize("changes, facts", [
    ({}, ("0.9000", "--preset single", "--lambda_value", "longer")),
    (dict(final_test_rmse=float("nan")), ("nan",)),
    (dict(preset="single", converged=True), ("--lambda_value",)),
    (dict(preset="fast"), ("--preset single", "--lambda_value")),
    (dict(cold_test_ratings=6), ("cold",)),
    (dict(dataset="synthetic", final_test_rmse=0.8), ("synthetic",)),
    (dict(final_test_rmse=0.8), None),
])
def test_a_model_that_is_not_better_than_the_biases_is_told_with_a_remedy(changes, facts):
    found = last_warnings(SUMMARY | changes)
    assert len(found) == bool(facts)
    if facts:
        assert_names(str(*found), *facts)
        flags = {"--preset single", "--lambda_value", "longer"} - set(facts)
        assert not facts[0].startswith("--") or not any(flag in str(*found) for flag in flags)
