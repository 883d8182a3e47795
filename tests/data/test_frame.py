"""A DataFrame is read as the CSV file would be that says the same, written by hand."""

import csv

import numpy as np
import pandas as pd
import pytest

from autorec_tf.data.delimited import Rules
from autorec_tf.data.formats import open_file
from autorec_tf.data.frame import FrameFile
from autorec_tf.data.merge import read_ratings
from autorec_tf.estimator import pair_columns
from tests.conftest import triples_of
from tests.facts import assert_names, refused

KINDS = {
    "whole numbers": ([3, 1, 20, 7], ["3", "1", "20", "7"]),
    "whole floats": ([3.0, 1.0, 20.0, 7.0], ["3.0", "1.0", "20.0", "7.0"]),
    "floats": ([3.5, 1.0, 20.0, 7.0], ["3.5", "1.0", "20.0", "7.0"]),
    "codes": (["007", "7", "7 a", "a,b"], ["007", "7", "7 a", "a,b"]),
    "quotes": (['a"b', '"', "é", "two\nlines"], ['a"b', '"', "é", "two\nlines"]),
    "mixed": ([3, "3a", np.int64(5), 2.0], ["3", "3a", "5", "2.0"]),
    "long": ([10**17, 10**18 - 1, -5, 2**40], [str(10**17), str(10**18 - 1), "-5", str(2**40)]),
    "bools": ([True, False, True, False], ["True", "False", "True", "False"]),
    "words": (["nan", "None", "NA", "null"], ["nan", "None", "NA", "null"]),
}


def write_csv(path, rows):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def same(one, other):
    return (one.fingerprint, triples_of(one), one.scale) == (
        other.fingerprint, triples_of(other), other.scale)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows", [1, 3, 100])
def test_ids_and_ratings_are_those_of_the_csv_file(kind, rows, tmp_path, monkeypatch):
    monkeypatch.setattr("autorec_tf.data.frame.ROWS", rows)
    ids, texts = KINDS[kind]
    values = [0.1, 4, 2.5, 1e-3]
    items = [5, 6, 7, 8]  # so that no pair stands twice
    frame = pd.DataFrame({"item": items, "user": ids, "rating": values})
    path = tmp_path / "ratings.csv"
    write_csv(path, [("item", "user", "rating"), *zip(items, texts, map(str, values), strict=True)])
    ours = read_ratings("made up", [FrameFile(frame)])
    assert same(ours, read_ratings("made up", [open_file(path)]))
    assert len(ours) == 4


@pytest.mark.parametrize(
    "times", [
        pd.to_datetime(["2024-03-01", "2024-02-28 23:59:59.5", "2024-03-01 12:00", "2023-12-31"],
                       format="mixed"),
        pd.to_datetime(["2024-03-01", "2024-02-28", "2024-03-02", "2023-12-31"]).tz_localize("UTC"),
        [30, 20, 40, 10], [3e9, 2e9, 4e9, 1e9], ["30", "20", "40", "10"],
    ],
)
@pytest.mark.parametrize("rows", [1, 100])
def test_timestamps_of_any_kind_order_the_ratings(times, rows, monkeypatch):
    monkeypatch.setattr("autorec_tf.data.frame.ROWS", rows)
    frame = pd.DataFrame({"user": 1, "item": range(4), "rating": [1, 2, 3, 4], "time": times})
    ratings = read_ratings("made up", [FrameFile(frame)], Rules(with_times=True), 0.5)
    assert ratings.held_out.tolist() == [True, False, True, False]


def test_a_row_is_located_by_position_and_by_its_label_if_that_is_another():
    frame = pd.DataFrame({"user": [1, 2], "item": [1, 2], "rating": [1, 2]})
    assert FrameFile(frame).locate(1) == "DataFrame, row 1"
    assert FrameFile(frame.set_axis(["a", "b"])).locate(1) == "DataFrame, row 1 (index 'b')"
    assert FrameFile(frame.set_axis([7, 5])).locate(1) == "DataFrame, row 1 (index 5)"
    pairs = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])
    assert FrameFile(frame.set_index(pairs)).locate(0) == "DataFrame, row 0 (index ('a', 1))"


@pytest.mark.parametrize("row", [0, 4, 9])
def test_the_first_malformed_row_is_named_also_after_ids_of_several_lines(row, monkeypatch):
    monkeypatch.setattr("autorec_tf.data.frame.ROWS", 4)
    ratings = [str(1 + i % 5) for i in range(10)]
    frame = pd.DataFrame({"user": [f"a\n{i}" for i in range(10)], "item": 1, "rating": ratings})
    frame.loc[row, "rating"] = "much"
    with refused() as error:
        read_ratings("made up", [FrameFile(frame)])
    message = str(error.value)
    assert message.startswith(f"DataFrame, row {row}: ")
    assert_names(message, rf"a\n{row}", "rating 'much'")


def test_a_frame_of_pairs_needs_no_ratings():
    frame = pd.DataFrame({"movieId": [1, 2], "userId": ["a", "b"]})
    assert [column.tolist() for column in pair_columns(frame, None)] == [["a", "b"], [1, 2]]
