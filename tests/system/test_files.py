"""Files that appear when they are whole."""

import pytest

from autorec_tf.system.files import atomic_write, read_csv, read_json, write_csv, write_json
from tests.facts import refused


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "a"
    with atomic_write(path) as unfinished:
        unfinished.write_text("whole", encoding="utf-8")
        assert not path.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text(encoding="utf-8") == "whole"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_what_fails_leaves_the_file_that_was_there_and_nothing_else(error, tmp_path):
    path = tmp_path / "a"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(error), atomic_write(path) as unfinished:
        unfinished.write_text("half", encoding="utf-8")
        raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text(encoding="utf-8") == "old"


def test_rows_are_read_as_they_were_written(tmp_path):
    path = tmp_path / "a.csv"
    assert read_csv(path) == []
    write_csv(path, [{"x": 1, "y": 0.5}, {"x": 2, "y": None}])
    assert read_csv(path) == [{"x": "1", "y": "0.5"}, {"x": "2", "y": ""}]


def test_json_is_read_as_it_was_written(tmp_path):
    write_json(tmp_path / "a.json", {"x": [1, 0.1, None]})
    assert read_json(tmp_path / "a.json") == {"x": [1, 0.1, None]}


@pytest.mark.parametrize(
    "text, fact", [("{", "line 1"), ("[" * 10**5, "recursion"), ("[1]", "object")],
    ids=["cut off", "deeply nested", "no object"],
)
def test_a_changed_json_file_is_told_in_one_line(text, fact, tmp_path):
    path = tmp_path / "summary.json"
    path.write_text(text, encoding="utf-8")
    with refused(str(path), fact):
        read_json(path)
