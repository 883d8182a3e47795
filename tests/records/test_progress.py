"""The live line of a count, and the line about the slice where the model loses most."""

import io
import math

import pytest

from autorec_tf.records.progress import Progress, worst_slice
from tests.facts import assert_names


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, shown", [(Terminal(), True), (io.StringIO(), False)])
def test_a_count_is_a_live_line_and_nothing_where_there_is_no_terminal(
    stream, shown, monkeypatch
):
    seconds = iter((100.0, 110.0, 130.0))
    monkeypatch.setattr("time.perf_counter", lambda: next(seconds))
    progress = Progress("top.csv", stream)
    for done in (0, 500, 1500):
        progress.count("users", done, 4000)
    progress.close()
    if not shown:
        assert stream.getvalue() == ""
        return
    *_, line = stream.getvalue().split("\r\033[K")
    assert line.endswith("\n") and len(line.splitlines()) == 1
    assert_names(line, "top.csv", "users 1,500/4,000", "0:30 elapsed", "0:50 left")


def test_a_notebook_which_only_overwrites_shows_no_end_of_a_longer_line():
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.live = True
    progress.update(["a line", "with two fields"])
    progress.print_line("above")
    progress.update(["short"])
    progress.print_last("end")
    shown = []
    for line in stream.getvalue().replace("\033[K", "").split("\n"):
        screen = ""
        for text in line.split("\r"):
            screen = text + screen[len(text):]
        shown.append(screen.rstrip())
    assert shown == ["above", "end", ""]


def slice_row(label, number, rmse, biases, error):
    return {"training_ratings": label, "test_ratings": number, "rmse": rmse,
            "biases_rmse": biases, "difference_standard_error": error}


@pytest.mark.parametrize(
    "number, rmse, error, is_shown",
    [
        (2310, 1.0034, 0.002, True), (2310, 1.0034, 0.004, False), (99, 1.0034, 0.002, False),
        (2310, 0.9921, 0.0, False), (2310, 0.98, 0.002, False), (2310, math.nan, None, False),
    ],
)
def test_a_slice_that_loses_by_more_than_noise_is_shown(number, rmse, error, is_shown):
    part = slice_row("1–9", number, rmse, 0.9921, error)
    summary = {"by_training_ratings_of_the_user": [part],
               "by_training_ratings_of_the_item": [slice_row("1,000+", 5000, 0.8, 0.9, 0.001)]}
    lines = worst_slice(summary)
    assert len(lines) == is_shown
    for line in lines:
        assert_names(line, "users", " 1 to 9 ", "1.0034", "0.9921", "2,310")
        assert max(map(len, line.splitlines())) < 80


@pytest.mark.parametrize("label, words", [("0", "without"), ("1,000+", "1,000 or more")])
def test_the_slice_with_the_largest_loss_over_its_ratings_is_shown(label, words):
    summary = {"by_training_ratings_of_the_user": [slice_row("1–9", 100, 1.1, 0.9, 0.001)],
               "by_training_ratings_of_the_item": [slice_row(label, 9000, 0.95, 0.9, 0.001)]}
    (line,) = worst_slice(summary)
    assert_names(line, "items", words, "0.9500", "9,000")
