"""Damaged npz files of models answer correctly or are refused: one of each kind here, and 3,000 in
`python -m tests.faults.models`."""

import io
from dataclasses import replace

import pytest

from autorec_tf.serving.checked_npz import DIGESTS
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import read_saved_model
from tests.facts import assert_names, refused
from tests.faults import models
from tests.faults.models import Judge, packed
from tests.finished import ONE_HOT, SVDPP, make_run

pytestmark = pytest.mark.eager


@pytest.fixture(scope="module")
def contents(tmp_path_factory):
    config = replace(SVDPP, input_encoding=ONE_HOT.input_encoding, cold_rating="mean",
                     rating_scale=(0.0, 10.0))
    made = make_run(tmp_path_factory.mktemp("run"), config)
    return models.contents(read_run(made.folder, str(made.data)))


def lost(outcomes):
    return [outcome for outcome in outcomes if not outcome.survived]


@pytest.mark.parametrize("kind", ["predictions", "model"])
def test_content_that_breaks_the_rules_is_refused_by_name_also_without_digests(
    contents, kind, tmp_path
):
    content = {name: x for name, x in contents[kind].items() if name != DIGESTS}
    outcomes = list(models.meaning_damaged(Judge(tmp_path, kind, packed(content)), content, True))
    assert len(outcomes) > {"predictions": 50, "model": 75}[kind] and lost(outcomes) == []
    for outcome in outcomes:
        if outcome.array != "config":  # or an array that its settings do not fit
            assert_names(outcome.message, "damaged.npz")
            assert outcome.message  # nothing was answered


def test_content_that_has_changed_within_the_rules_is_refused_by_its_digest(contents, tmp_path):
    content = contents["export"]
    judge = Judge(tmp_path, "export", packed(content))
    for name, (arrays, damage) in models.CHANGED.items():
        for array in set(arrays) & set(content):
            survived, message = judge(packed(content | {array: damage(content[array])}))
            assert survived, (name, array, message)
            if array in ("W_1", "b_1", "item_ids", "fingerprint"):
                assert_names(message, array)


@pytest.mark.parametrize("kind", ["export", "model"])
def test_damaged_archives_and_bytes_are_refused(contents, kind, tmp_path):
    judge = Judge(tmp_path, kind, packed(contents[kind]))
    archives = list(models.archives_damaged(judge, contents[kind]))
    assert len(archives) > 20 and lost(archives) == []
    assert all(outcome.message for outcome in archives)
    damaged = list(models.bytes_damaged(judge, contents[kind], 30))
    assert lost(damaged) == [] and sum(bool(outcome.message) for outcome in damaged) > 20


def test_a_stream_is_checked_as_a_file_is(contents):
    class Named(io.BytesIO):
        def __str__(self):
            return "the stream"

    whole = packed(contents["model"])
    stream = Named(whole)
    assert read_saved_model(stream).summary == models.SUMMARY
    with refused("the stream"):
        read_saved_model(Named(whole[:-1]))


def test_a_wrong_answer_is_noticed(contents, tmp_path):
    content = {name: x for name, x in contents["export"].items() if name != DIGESTS}
    judge = Judge(tmp_path, "export", packed(content))
    assert judge(packed(content)) == (True, "")
    assert not judge(packed(content | {"cold_mean": content["cold_mean"] + 1}))[0]
