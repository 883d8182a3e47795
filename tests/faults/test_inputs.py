"""Damaged input of every kind is read right or refused in one line: a few of each here, and ten
thousand in `python -m tests.faults.inputs`."""

import random
from dataclasses import replace

import pytest

from autorec_tf.config import Config
from tests.faults import inputs
from tests.faults.inputs import DAMAGES, FORMATS, slow, valid
from tests.faults.kinds import KINDS


def survived(rows):
    rows = list(rows)
    assert [row for row in rows if row.survived < row.tried or row.lost] == []
    return {row.fault: row for row in rows}


def test_damaged_files_of_ratings_are_read_right_or_refused(tmp_path):
    tried = len(FORMATS)
    rows = survived(inputs.files(tried * len(DAMAGES), tmp_path))
    assert len(rows) == len(DAMAGES) and all(row.tried == tried for row in rows.values())
    untold = {fault.rpartition(": ")[2] for fault, row in rows.items() if not row.message}
    assert untold <= {"none", "CRLF", "byte-order mark"} < set(DAMAGES)


def test_files_of_the_kinds_that_people_have_are_read_exactly_or_refused_when_damaged(tmp_path):
    rows = survived(inputs.kinds(10 * len(KINDS), tmp_path))
    assert len(rows) == len(KINDS)
    assert all(row.tried == 10 and row.message for row in rows.values())  # some are refused


def test_a_wrong_rating_in_a_file_of_a_kind_is_seen(tmp_path):
    made = KINDS["decimal commas"](random.Random(1))
    path, config = tmp_path / "a.csv", Config(dataset=str(tmp_path / "a.csv"))
    path.write_bytes(made.content)
    assert inputs.verdict(path, config, made, 0, False)[0]
    wrong = [(user, item, rating + 1) for user, item, rating in made.triples]
    for is_damaged in (0, 1):
        verdict = inputs.verdict(path, config, replace(made, triples=wrong), is_damaged, False)
        assert verdict[:2] == (False, True)


def test_damaged_archives_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "ARCHIVES", 40)
    assert len(survived(inputs.archives(tmp_path))) == 4


def test_damaged_records_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "RECORDS", 35)
    assert len(survived(inputs.records(tmp_path))) == 7


@pytest.mark.slow
def test_damaged_files_end_the_command_with_code_2(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "COMMANDS", 2)
    survived(inputs.commands(tmp_path))


@pytest.mark.parametrize("format", FORMATS)
def test_the_slow_parser_reads_what_is_valid_and_refuses_damage(format):
    rng = random.Random(1)
    contents = [valid(format, rng) for _ in range(20)]
    assert all(len(slow(format, content)) == inputs.LINES for content in contents)
    cut = [DAMAGES["fields"](content, FORMATS[format][0], rng) for content in contents]
    assert sum(slow(format, content) is None for content in cut) > 10
