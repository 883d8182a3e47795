"""A run folder is read as it was written, or refused in one line that says why."""

import json
from dataclasses import replace

import numpy as np
import pytest

from config import Config
from data_preprocessor import split_ratings
from serving.finished_run import read_run
from system.errors import UserError
from tests.finished import BLEND, CONFIG, make_run, save_random

DATA = "parameters.data-00000-of-00001"


def read(made):
    return read_run(made.folder, str(made.data))


def refused(made, *patterns):
    with pytest.raises(UserError) as caught:
        read(made)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    for pattern in (str(made.folder), *patterns):
        assert pattern in message
    return message


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
    refused(made, str(made.data), "fingerprints differ", "--data_dir")


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"hidden_neuron": "six"}, "hidden_neuron is 'six'"),
        ({"train_ratio": 7}, "--train_ratio 7"),
        ({"init_stddev": 1.0}, "init_stddev is 1.0"),
        ({"split_seed": None}, "split_seed or dataset is missing"),
        ({"fingerprint": None}, "fingerprints differ"),
        ({"hidden_neuron": [7]}, "do not fit"),
        ({"hidden_neuron": [6, 3, 6]}, "damaged, or of another model"),
        ({"orientation": "user"}, "do not fit"),
        ({"members": ["item"]}, "members.csv"),
    ],
    ids=str,
)
def test_a_tampered_config_is_refused(tmp_path, settings, message):
    made = make_run(tmp_path)
    change(made, **settings)
    refused(made, message)


@pytest.mark.parametrize("content", ["", "[]", "{", "\0", "null"])
def test_a_damaged_config_is_refused(tmp_path, content):
    made = make_run(tmp_path)
    (made.folder / "config.json").write_text(content)
    refused(made, "config.json is damaged")


def test_what_is_no_run_folder_is_refused(tmp_path):
    made = make_run(tmp_path)
    (made.folder / "config.json").unlink()
    refused(made, "is no run folder")
    (made.folder / "settings.json").write_text("{}")
    refused(made, "holds several splits", "split_1994")


def test_a_run_that_did_not_finish_is_refused(tmp_path):
    made = make_run(tmp_path)
    (made.folder / "parameters.index").unlink()
    refused(made, "has no parameters.index")


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
    refused(made, "parameters.*")


def test_parameters_that_are_no_numbers_are_refused(tmp_path):
    made = make_run(tmp_path)
    config = replace(CONFIG, output_activation="tanh")
    train = read(made).train
    run = read(made)
    run.members[0].model.b[3].assign(np.nan)
    run.members[0].model.save(made.folder / "parameters")
    refused(made, "are no numbers")
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
    refused(made, "members.csv")


def test_a_blend_without_one_of_its_models_is_refused(tmp_path):
    made = make_run(tmp_path, BLEND)
    (made.folder / "parameters_2.index").unlink()
    refused(made, "has no parameters_2.index")


def test_a_config_that_a_run_recorded_is_read_as_the_same_config():
    record = json.loads(json.dumps(BLEND.to_dict()))
    assert Config.from_dict(record) == BLEND
