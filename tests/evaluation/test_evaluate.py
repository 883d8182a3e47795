"""What a trained model is worth: every pair's prediction, slices and rankings, either way round."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.evaluation.baseline import Baseline
from autorec_tf.evaluation.evaluate import evaluate
from autorec_tf.evaluation.metrics import cold_pairs, score
from autorec_tf.evaluation.ranking import rank
from autorec_tf.evaluation.similar_items import popular_items
from autorec_tf.evaluation.slices import by_value, calibration
from autorec_tf.model.batch import sparse_rows
from autorec_tf.model.factors import Factors
from data_preprocessor import split_ratings
from tests import plain
from tests.plain import final_predictions

pytestmark = pytest.mark.eager

SCALE = (1.0, 5.0)
USERS, ITEMS = 60, 40
ORIENTATIONS = ("item", "user")
both_orientations = pytest.mark.parametrize("orientation", ORIENTATIONS)


def random_split(orientation="item", train_ratio=0.5, scale=SCALE):
    """A split of 60 users, 40 items that some of them rate, and one that everyone rates; `scale`
    is what their 1..5 are in the file."""
    rng = np.random.default_rng(2)
    pairs = rng.permutation(USERS * ITEMS)[:500]
    users, items = pairs // ITEMS, pairs % ITEMS
    users = np.append(users, np.arange(USERS))
    items = np.append(items, np.full(USERS, ITEMS))
    values = plain.to_file(rng.integers(1, 6, len(users)), scale)
    ratings = index_ratings("made up", users, items, values, scale)
    return split_ratings(ratings, train_ratio, 1, orientation)


def random_model(split, **settings):
    """A model with large parameters, so that predictions are far apart."""
    settings = dict(hidden_neuron=6, engine="dense", orientation=split.orientation) | settings
    model = AutoRec(split.train.num_columns, Config(**settings), SCALE)
    rng = np.random.default_rng(7)
    for x in model.parameters:
        x.assign(rng.normal(0, 0.5, x.shape).astype(np.float32))
    return model


def random_table(spread=1):
    return np.random.default_rng(0).normal(3, spread, (USERS, ITEMS + 1)).astype(np.float32)


@dataclass
class Table:
    """A model that predicts what is in a table, float32 [users, items]."""

    table: np.ndarray
    orientation: str

    def predict_test(self, split):
        table = self.table if self.orientation == "user" else self.table.T
        return table[split.test.rows, split.test.indices]

    def factors(self, train):
        """Codes and weights of which the one is the table and the other 1 or 0."""
        sides = np.eye(ITEMS + 1, dtype=np.float32), self.table
        codes, Wt = sides if self.orientation == "item" else sides[::-1]
        b = np.zeros(len(Wt), np.float32)
        return [Factors(self.orientation, codes, Wt, b, "identity", SCALE)]


@dataclass
class Blended:
    """Two models' predictions, summed by weight."""

    models: list
    weights: tuple

    def predict_test(self, split):
        both = (model.predict_test(split) for model in self.models)
        return sum(w * x for w, x in zip(self.weights, both, strict=True))

    def factors(self, train):
        both = (model.factors(train)[0] for model in self.models)
        return [replace(f, weight=w) for w, f in zip(self.weights, both, strict=True)]


def evaluated(table, orientation="item", train_ratio=0.5):
    return evaluate(Table(table, orientation), random_split(orientation, train_ratio))


DEEP = {"hidden_neuron": (6, 3, 4), "output_activation": "sigmoid", "dropout": 0.5}


@pytest.mark.parametrize(
    "orientation, engine, settings",  # any two values of two of them meet
    [("item", "dense", {}), ("item", "sparse", DEEP), ("user", "dense", DEEP),
     ("user", "sparse", {})], ids=str,
)
def test_factors_predict_all_pairs_as_the_model_does(orientation, engine, settings):
    split = random_split(orientation)
    model = random_model(split, engine=engine, **settings)
    users, items = (x.ravel() for x in np.indices((USERS, ITEMS + 1)))
    pairs = (items, users) if orientation == "item" else (users, items)
    expected = model.predict(sparse_rows(split.train), *pairs).reshape(USERS, ITEMS + 1)
    (factors,) = model.factors(split.train)
    np.testing.assert_allclose(factors.block(slice(0, USERS)), expected, atol=1e-5)
    np.testing.assert_allclose(factors.block(slice(17, 23)), expected[17:23], atol=1e-5)
    np.testing.assert_allclose(factors.pairs(users, items), expected.ravel(), atol=1e-5)
    table = expected.T if orientation == "item" else expected
    tested = table[split.test.rows, split.test.indices]
    np.testing.assert_allclose(model.predict_test(split), tested, atol=1e-5)
    assert expected.std() > 0.1


@both_orientations
def test_what_is_learned_of_items_is_their_codes_or_their_weights(orientation):
    split = random_split(orientation)
    model = random_model(split)
    found = model.factors(split.train)[0].item_embeddings
    codes = model.encode_all(sparse_rows(split.train))
    assert found.shape == (ITEMS + 1, 6)
    np.testing.assert_array_equal(found, codes if orientation == "item" else model.Wt)


@both_orientations
def test_scores_apply_the_scale_and_the_cold_rule(orientation):
    split, table = random_split(orientation, train_ratio=0.1), random_table(spread=3)
    test, model = split.test, Table(table, orientation)
    predictions = model.predict_test(split)
    cold = cold_pairs(split.train, test.rows, test.indices)
    assert cold.any() and not cold.all()
    final = np.where(cold, 3, np.clip(predictions.astype(np.float64), 1, 5))
    found = evaluate(model, split)
    assert found.scores == score(final, test.values)
    error = final - test.values
    assert found.scores.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-9)
    assert found.by_value == by_value(final, test.values, SCALE)
    assert found.calibration == calibration(final, test.values, SCALE)


@both_orientations
def test_slices_add_up_to_all_test_ratings(orientation):
    found = evaluated(random_table(), orientation)
    total = found.scores
    for axis in (found.by_user, found.by_item, found.by_value, found.calibration):
        assert len(axis) > 1
        assert sum(part.scores.num_ratings for part in axis) == total.num_ratings
        squared_error = sum(part.scores.squared_error for part in axis)
        assert squared_error == pytest.approx(total.squared_error, rel=1e-9)


def test_slices_are_the_same_in_both_orientations():
    one, other = (evaluated(random_table(), orientation) for orientation in ORIENTATIONS)
    for ours, theirs in ((one.by_user, other.by_user), (one.by_item, other.by_item)):
        assert [part.label for part in ours] == [part.label for part in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert a.biases.rmse == pytest.approx(b.biases.rmse, rel=1e-9)
            assert a.standard_error == pytest.approx(b.standard_error, rel=1e-9)
            assert a.scores.num_ratings == b.scores.num_ratings
            assert a.scores.rmse == pytest.approx(b.scores.rmse, rel=1e-12)
    assert [part.label for part in one.by_user] != [part.label for part in one.by_item]
    np.testing.assert_array_equal(one.errors, other.errors)
    assert plain.rmse(one.errors) == pytest.approx(one.scores.rmse, rel=1e-6)


def test_slices_count_the_training_ratings_of_users_and_of_items():
    split, found = random_split(), evaluated(random_table())
    of_user = split.train.column_counts[split.test.indices]
    of_item = split.train.row_counts[split.test.rows]
    for axis, counts in ((found.by_user, of_user), (found.by_item, of_item)):
        for part in axis:
            high = part.high if part.high is not None else np.inf
            assert part.scores.num_ratings == ((counts >= part.low) & (counts <= high)).sum()


def test_rankings_and_popular_items_are_the_same_in_both_orientations():
    one, other = (evaluated(random_table(), orientation) for orientation in ORIENTATIONS)
    assert one.ranking == other.ranking and one.popularity == other.popularity
    np.testing.assert_array_equal(one.ranking.of_users, other.ranking.of_users)
    assert 0 < one.ranking.ndcg < 1 and 0 < one.ranking.num_users <= USERS
    assert one.popular_items == other.popular_items
    assert one.popular_items[0].index == ITEMS  # which everyone rates


@both_orientations
def test_who_predicts_the_test_ratings_ranks_best(orientation):
    test = random_split("user").test
    table = np.zeros((USERS, ITEMS + 1), np.float32)
    table[test.rows, test.indices] = test.values
    best, worst = (evaluated(x, orientation).ranking for x in (table, -table))
    assert best.ndcg > 0.95 and worst.ndcg < 0.2


@both_orientations
def test_a_blend_is_scored_ranked_and_compared_by_its_weights(orientation):
    split, by_user = random_split(orientation), random_split("user")
    models = [Table(random_table(), orientation), random_model(split)]
    found = evaluate(Blended(models, (0.7, 0.4)), split)
    factors = [model.factors(split.train)[0] for model in models]
    predictions = 0.7 * models[0].predict_test(split) + 0.4 * models[1].predict_test(split)
    cold = cold_pairs(split.train, split.test.rows, split.test.indices)
    assert found.scores == score(final_predictions(predictions, cold, SCALE), split.test.values)
    table = 0.7 * factors[0].block(slice(None)) + 0.4 * factors[1].block(slice(None))
    threes = Baseline(3.0, np.zeros(USERS), np.zeros(ITEMS + 1))
    expected, popularity = rank(
        lambda users, items: table[users, items], by_user.train, by_user.test, threes
    )
    assert found.popularity == popularity
    assert found.ranking.ndcg == pytest.approx(expected.ndcg, rel=1e-9)
    assert found.ranking.recall == pytest.approx(expected.recall, rel=1e-9)
    embeddings = [(w, f.item_embeddings) for w, f in zip((0.7, 0.4), factors, strict=True)]
    assert found.popular_items == popular_items(by_user.train.column_counts, embeddings)


# Without a model, and in the file's unit

HUNDRED = (0.0, 100.0)


def known(split):
    """User, item and rating of the training and of the test ratings, these in the file's unit."""
    for part in (split.train, split.test):
        users, items, values = plain.by_user(part, split.orientation)
        yield users, items, plain.to_file(values, split.unit.file_scale)


@both_orientations
@pytest.mark.parametrize("scale", [SCALE, HUNDRED], ids=str)
def test_what_a_model_must_beat_equals_arithmetic_in_the_files_unit(orientation, scale):
    split = random_split(orientation, train_ratio=0.2, scale=scale)
    found = evaluate(Table(random_table(), orientation), split)
    train, (users, items, ratings) = known(split)
    mu, b_u, b_i = plain.biases(zip(*train, strict=True), USERS, ITEMS + 1)
    error = np.clip(mu + b_u[users] + b_i[items], *scale) - ratings
    assert found.biases.rmse == pytest.approx(plain.rmse(error), rel=1e-6)
    assert found.biases.mae == pytest.approx(np.mean(np.abs(error)), rel=1e-6)
    assert found.global_mean.rmse == pytest.approx(plain.rmse(mu - ratings), rel=1e-6)
    assert found.global_mean.num_ratings == found.biases.num_ratings == len(ratings)
    assert found.biases.rmse != found.global_mean.rmse
    for axis, ids in ((found.by_user, users), (found.by_item, items)):
        counts = np.bincount(train[0] if axis is found.by_user else train[1], minlength=USERS)[ids]
        for part in axis:
            high = part.high if part.high is not None else np.inf
            errors = error[(counts >= part.low) & (counts <= high)]
            assert part.biases.rmse == pytest.approx(plain.rmse(errors), rel=1e-6)


@both_orientations
@pytest.mark.parametrize("rule", ["paper", "mean"])
def test_scores_slices_and_bins_are_told_in_the_files_unit(orientation, rule):
    split, table = random_split(orientation, 0.1, HUNDRED), random_table(spread=3)
    model = Table(table, orientation)
    train, (users, items, ratings) = known(split)
    mu, b_u, b_i = plain.biases(zip(*train, strict=True), USERS, ITEMS + 1)
    cold = ~np.isin(users, train[0]) | ~np.isin(items, train[1])
    assert cold.any() and not cold.all()
    final = plain.final_predictions(
        plain.to_file(table[users, items], HUNDRED), cold, HUNDRED,
        3.0 if rule == "paper" else mu + b_u[users] + b_i[items],
    )
    found = evaluate(model, split, rule)
    assert found.scores.rmse == pytest.approx(plain.rmse(final - ratings), rel=1e-5)
    assert found.scores.mae == pytest.approx(np.mean(np.abs(final - ratings)), rel=1e-5)
    assert [part.mean_rating for part in found.by_value] == pytest.approx([0, 25, 50, 75, 100])
    assert found.calibration[0].low == 0 and found.calibration[-1].high == 100
    of_new = ~np.isin(users, train[0])
    assert (found.by_user[0].low, found.by_user[0].high) == (0, 0)
    assert found.by_user[0].scores.rmse == pytest.approx(
        plain.rmse((final - ratings)[of_new]), rel=1e-5
    )


@both_orientations
def test_what_is_relevant_is_told_in_the_files_unit(orientation):
    table, split = random_table(), random_split(orientation, scale=HUNDRED)
    model, stars = Table(table, orientation), random_split(orientation)
    usual = evaluate(model, split).ranking
    assert usual == evaluate(model, stars).ranking
    assert usual == evaluate(model, split, relevant=75.0).ranking
    higher = evaluate(model, split, relevant=75.1).ranking
    assert higher == evaluate(model, stars, relevant=5.0).ranking != usual
    lower = evaluate(model, split, relevant=50.0).ranking
    assert lower == evaluate(model, stars, relevant=3.0).ranking
    assert higher.num_users < usual.num_users < lower.num_users


@pytest.mark.parametrize(
    "scale, relevant",
    [((10.1, 10.5), 10.4), ((0.0, 0.7), 0.525), ((0.0, 0.4), 0.3), ((0.1, 0.5), 0.4),
     ((100.01, 100.05), 100.02)],
)
def test_a_rating_of_exactly_what_is_relevant_is_relevant(scale, relevant):
    least = 1 + round((relevant - scale[0]) / (scale[1] - scale[0]) * 4)
    model = Table(random_table(), "user")
    expected = evaluate(model, random_split("user"), relevant=float(least)).ranking
    found = evaluate(model, random_split("user", scale=scale), relevant=relevant).ranking
    assert found == expected
    if least == 4:
        assert evaluate(model, random_split("user", scale=scale)).ranking == expected


@pytest.mark.parametrize("scale, relevant", [((1.0, 3.0), 2.5), ((0.5, 4.0), 3.125)])
def test_on_other_stars_the_same_share_of_the_scale_is_relevant(scale, relevant):
    model, split = Table(random_table(), "user"), random_split("user", scale=scale)
    assert split.unit.model_scale == scale
    expected = evaluate(model, split, relevant=relevant).ranking
    assert expected.num_users > 30
    assert evaluate(model, split).ranking == expected


def test_a_scale_that_is_not_to_be_mapped_has_the_same_share_relevant():
    split = random_split("user", scale=HUNDRED)
    plainly = replace(
        split, train=replace(split.train, values=25 * (split.train.values - 1)),
        test=replace(split.test, values=25 * (split.test.values - 1)),
        unit=replace(split.unit, model_scale=HUNDRED),
    )
    model = Table(random_table(), "user")
    # Every item is warm, so that the cold rule has no say.
    assert split.train.column_counts.all()
    assert evaluate(model, plainly).ranking == evaluate(model, split).ranking


def test_as_many_users_are_ranked_as_is_asked_for():
    model, split = Table(random_table(), "item"), random_split()
    found = [evaluate(model, split, most_users=9, seed=seed).ranking for seed in (1, 1, 2)]
    assert found[0] == found[1] != found[2]
    assert {each.num_users for each in found} == {9}
