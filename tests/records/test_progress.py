"""The live line of a count."""

import io

import pytest

from records.progress import Progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream, shown", [(Terminal(), True), (io.StringIO(), False)])
def test_a_count_is_a_live_line_and_nothing_where_there_is_no_terminal(stream, shown):
    progress = Progress("top.csv", 0, stream)
    progress.count(1000, 4000, 30)
    progress.close()
    line = "\r\033[Ktop.csv  1,000/4,000  0:30 elapsed  1:30 left\n"
    assert stream.getvalue() == (line if shown else "")
