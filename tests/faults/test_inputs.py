"""Damaged input of every kind is read right or refused in one line: a few of each here, and ten
thousand in `python -m tests.faults.inputs`."""

import random

import pytest

from tests.faults import inputs
from tests.faults.inputs import DAMAGES, FORMATS, slow, valid


def survived(rows):
    rows = list(rows)
    assert [row for row in rows if row.survived < row.tried or row.lost] == []
    return {row.fault: row for row in rows}


def test_damaged_files_of_ratings_are_read_right_or_refused(tmp_path):
    rows = survived(inputs.files(60 * len(DAMAGES), tmp_path))
    assert len(rows) == len(DAMAGES) and all(row.tried == 60 for row in rows.values())
    told = [row.fault for row in rows.values() if row.message]
    assert set(rows) - set(told) <= {f"file of ratings: {name}" for name in (
        "none", "CRLF", "byte-order mark")}


def test_damaged_archives_leave_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "ARCHIVES", 40)
    assert len(survived(inputs.archives(tmp_path))) == 4


def test_damaged_records_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "RECORDS", 150)
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
