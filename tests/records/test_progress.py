"""The live line of a count."""

import io

import pytest

from autorec_tf.records.progress import Progress
from tests.facts import assert_names


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, shown", [(Terminal(), True), (io.StringIO(), False)])
def test_a_count_is_a_live_line_and_nothing_where_there_is_no_terminal(stream, shown):
    progress = Progress("top.csv", 0, stream)
    progress.count(1000, 4000, 30)
    progress.close()
    if not shown:
        assert stream.getvalue() == ""
        return
    start, line = stream.getvalue().split("\033[K")
    assert start == "\r" and line.endswith("\n") and len(line.splitlines()) == 1
    assert_names(line, "top.csv", "1,000/4,000", "0:30 elapsed", "1:30 left")
