"""Greedy layer-wise pre-training: what is trained on what, and what it is worth."""

import numpy as np
import pytest

from AutoRec import AutoRec
from config import Config
from data.ratings import RatingMatrix, Split
from experiments import build
from model.batch import sparse_rows
from pretraining import as_ratings, fit, pretrain
from tests.reference import Reference

SCALE = (1.0, 5.0)
ROWS, COLUMNS = 60, 40
THREE, FIVE = (12, 5, 12), (12, 8, 5, 8, 12)
both_depths = pytest.mark.parametrize("sizes", [THREE, FIVE], ids=str)


def config(sizes=THREE, **settings):
    settings = dict(
        hidden_neuron=sizes, pretrain_epoch=40, batch_size=16, base_lr=0.02, lambda_value=0.01,
        engine="dense",
    ) | settings  # fmt: skip
    return Config(**settings)


def taste(seed=3):
    """Ratings that three kinds of rows and three kinds of columns explain, and their R and M."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(1, 6, (3, 3))
    R = kinds[np.arange(ROWS)[:, None] % 3, np.arange(COLUMNS) % 3].astype(np.float64)
    M = rng.random(R.shape) < 0.4
    rows, columns = (x.astype(np.int32) for x in np.nonzero(M))
    values = R[M].astype(np.float32)
    return RatingMatrix.from_triples(rows, columns, values, R.shape), R * M, M


def pretrained(settings, matrix):
    model = AutoRec(COLUMNS, settings, SCALE)
    pretrain(model, matrix)
    return model


def rmse(model, R, M):
    return np.sqrt(Reference.of(model).squared_error(R, M) / M.sum())


@both_depths
def test_every_layer_is_set_and_keeps_its_shape(sizes):
    matrix, _, _ = taste()
    random = AutoRec(COLUMNS, config(sizes), SCALE)
    model = pretrained(config(sizes, pretrain_epoch=1), matrix)
    assert len(model.parameters) == 4 + 2 * (len(sizes) - 1)
    for x, before in zip(model.parameters, random.parameters, strict=True):
        assert x.shape == before.shape
        assert not np.array_equal(x, before)


@both_depths
def test_the_outer_layers_are_those_of_an_autorec_of_one_hidden_layer(sizes):
    matrix, _, _ = taste()
    settings = config(sizes)
    model = pretrained(settings, matrix)
    shallow = fit(matrix, settings, sizes[0], SCALE)
    for ours, theirs in zip(model.parameters[:4], shallow.parameters, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@both_depths
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "identity"])
def test_each_inner_pair_reconstructs_the_codes_that_reach_it(sizes, activation):
    """Half the codes' variance at least, although fewer numbers pass."""
    matrix, R, _ = taste()
    model = pretrained(
        config(sizes, hidden_activation=activation, base_lr=0.01, pretrain_epoch=150), matrix
    )
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


@both_depths
def test_a_pretrained_model_knows_the_training_ratings_before_its_first_epoch(sizes):
    matrix, R, M = taste()
    random = AutoRec(COLUMNS, config(sizes), SCALE)
    model = pretrained(config(sizes, pretrain_epoch=150), matrix)
    assert rmse(model, R, M) < 0.6 * matrix.values.std() < rmse(random, R, M)


def test_pretraining_leaves_the_optimiser_as_new():
    matrix, _, _ = taste()
    model = pretrained(config(pretrain_epoch=2), matrix)
    assert float(model.optimizer.t) == 0 and int(model.steps) == 0
    assert not any(m.numpy().any() for m in model.optimizer.m)


def test_build_pretrains_if_that_is_asked_for_and_only_on_training_ratings():
    train, test, other = taste(3)[0], taste(4)[0], taste(5)[0]
    settings = config(pretrain_epoch=2)
    models = [build(settings, Split(train, side), SCALE, 1) for side in (test, other)]
    expected = pretrained(settings, train)
    for one, two, three in zip(*(m.parameters for m in (*models, expected)), strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(one, three)
    untrained = build(config(pretrain_epoch=0), Split(train, test), SCALE, 1)
    np.testing.assert_array_equal(untrained.V, AutoRec(COLUMNS, settings, SCALE).V)


def test_the_engines_pretrain_to_the_same_parameters():
    matrix, _, _ = taste()
    dense, sparse = (
        pretrained(config(pretrain_epoch=2, engine=engine), matrix)
        for engine in ("dense", "sparse")
    )
    for one, two in zip(dense.parameters, sparse.parameters, strict=True):
        np.testing.assert_allclose(one, two, rtol=0, atol=1e-4)


def test_codes_become_a_matrix_of_which_all_is_observed():
    matrix, R, _ = taste()
    model = AutoRec(COLUMNS, config(), SCALE)
    codes = model.codes(sparse_rows(matrix))
    full = as_ratings(codes)
    assert (full.num_rows, full.num_columns, full.density) == (ROWS, 12, 1)
    np.testing.assert_array_equal(full.values.reshape(ROWS, 12), codes)
