"""A run folder is read as it was written, or refused in one line that says why."""

import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.serving.finished_run import read_run
from data_preprocessor import split_ratings
from tests.facts import refused
from tests.finished import BLEND, CONFIG, make_run, save_random

DATA = "parameters.data-00000-of-00001"


def read(made):
    return read_run(made.folder, str(made.data))


def assert_refused(made, *facts):
    """Its run folder is refused in a short line that names it and each of the `facts`."""
    with refused(made.folder, *facts) as caught:
        read(made)
    assert len(str(caught.value)) < 400


def change(made, **settings):
    place = made.folder / "config.json"
    record = json.loads(place.read_text("utf-8")) | settings
    place.write_text(json.dumps(record), "utf-8")


def test_the_settings_the_split_and_the_ratings_are_the_runs(tmp_path):
    config = replace(CONFIG, validation_ratio=0.25, orientation="user")
    made = make_run(tmp_path, config)
    run = read(made)
    assert run.config == replace(config, data_dir=str(made.data), rating_scale=(1.0, 5.0))
    split = split_ratings(made.ratings, 0.8, 1, validation_ratio=0.25)
    assert np.array_equal(run.train.values, split.train.values)
    assert len(run.train) + len(split.validation) + len(split.test) == len(run.ratings)
    assert run.fingerprint == made.ratings.fingerprint


def test_a_run_of_another_engine_and_precision_is_read_on_this_machine(tmp_path):
    made = make_run(tmp_path)
    change(made, engine="dense", precision="bfloat16")
    assert read(made).members[0].model.config.precision == "float32"


def test_other_ratings_are_refused(tmp_path):
    made = make_run(tmp_path)
    ratings = made.data / "ratings.dat"
    lines = ratings.read_bytes().splitlines(keepends=True)
    ratings.write_bytes(b"".join(lines[:-1]))
    assert_refused(made, made.data, "fingerprints", "--data_dir")


@pytest.mark.parametrize(
    "settings, facts",
    [
        ({"hidden_neuron": "six"}, ["config.json", "hidden_neuron", "'six'"]),
        ({"train_ratio": 7}, ["--train_ratio 7"]),
        ({"grad_clip_limit": 1.0}, ["config.json", "grad_clip_limit", "1.0"]),
        ({"split_seed": None}, ["config.json", "split_seed"]),
        ({"fingerprint": None}, ["fingerprints", "--data_dir"]),
        ({"hidden_neuron": [7]}, ["parameters.*", "config.json", "V is float32"]),
        ({"hidden_neuron": [6, 3, 6]}, ["parameters.*", "damaged"]),
        ({"orientation": "user"}, ["parameters.*", "config.json", "V is float32"]),
        ({"members": ["item"]}, ["members.csv"]),
    ],
    ids=str,
)
def test_a_tampered_config_is_refused(tmp_path, settings, facts):
    made = make_run(tmp_path)
    change(made, **settings)
    assert_refused(made, *facts)


@pytest.mark.parametrize("content", ["", "[]", "{", "\0", "null"])
def test_a_damaged_config_is_refused(tmp_path, content):
    made = make_run(tmp_path)
    (made.folder / "config.json").write_text(content)
    assert_refused(made, made.folder / "config.json", "JSON")


def test_what_is_no_run_folder_is_refused(tmp_path):
    made = make_run(tmp_path)
    (made.folder / "config.json").unlink()
    assert_refused(made, made.folder / "config.json", os.strerror(errno.ENOENT))
    (made.folder / "settings.json").write_text("{}")
    assert_refused(made, made.folder / "split_1994")


def test_a_run_that_did_not_finish_is_refused(tmp_path):
    made = make_run(tmp_path)
    (made.folder / "parameters.index").unlink()
    assert_refused(made, "parameters.index")


@pytest.mark.parametrize("what", ["missing", "short", "empty", "changed", "index"])
def test_damaged_parameters_are_refused(tmp_path, what):
    made = make_run(tmp_path)
    place = made.folder / ("parameters.index" if what == "index" else DATA)
    content = bytearray(place.read_bytes())
    if what == "missing":
        place.unlink()
    else:
        content[len(content) // 2] ^= 255
        short = {"short": len(content) // 2, "empty": 0}
        place.write_bytes(content[: short.get(what, len(content))])
    assert_refused(made, "parameters.*")


def test_parameters_that_are_no_numbers_are_refused(tmp_path):
    made = make_run(tmp_path)
    config = replace(CONFIG, output_activation="tanh")
    train = read(made).train
    run = read(made)
    run.members[0].model.b[3].assign(np.nan)
    run.members[0].model.save(made.folder / "parameters")
    assert_refused(made, "parameters.*", "NaN")
    save_random(made.folder / "parameters", config, train, "item", 1)
    read(made)


@pytest.mark.parametrize(
    "content", ["", "weight\n1\n2\n", "weight,orientation\n0.5,item\n",
                "weight,orientation\n0.5,user\n0.5,item\n",
                "weight,orientation\n0.5,item\n-1,user\n",
                "weight,orientation\n0.5,item\nnan,user\n",
                "weight,orientation\nx,item\n0.5,user\n"],
)
def test_a_blend_without_its_weights_is_refused(tmp_path, content):
    made = make_run(tmp_path, BLEND)
    (made.folder / "members.csv").write_text(content)
    assert_refused(made, "members.csv")


def test_a_blend_without_one_of_its_models_is_refused(tmp_path):
    made = make_run(tmp_path, BLEND)
    (made.folder / "parameters_2.index").unlink()
    assert_refused(made, "parameters_2.index")


def test_a_config_that_a_run_recorded_is_read_as_the_same_config():
    record = json.loads(json.dumps(BLEND.to_dict()))
    assert Config.from_dict(record) == BLEND
