"""What is almost surely a mistake in the data is told in one line, and what fits is not."""

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.data.synthetic import ML_1M_COUNTS, ML_1M_ITEMS, ML_1M_USERS
from autorec_tf.records.progress import headline
from data_preprocessor import ratings_of_a_column, split_ratings
from tests.facts import assert_names


def ratings_of(users, items, values, scale=None):
    values = np.asarray(values, np.float64)
    scale = scale or (values.min(), values.max())
    return index_ratings("made up", np.asarray(users), np.asarray(items), values, scale)


def lines(ratings, ratio=0.8):
    split = split_ratings(ratings, ratio, 1)
    return headline(Config(dataset="made up", split_seed=1), ratings, split).splitlines()


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
    cold = [x for x in lines(ratings_of(np.arange(300), items, values)) if "60 of 60" in x]
    assert len(cold) == 1
    assert_names(cold[0], "warning: ", "ids")


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
