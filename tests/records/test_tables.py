"""Text of any kind in Markdown tables and in CSV for spreadsheets."""

import html
import re

import pytest

from autorec_tf.records.tables import as_markdown, for_spreadsheet
from autorec_tf.system.terminal import printable

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "[a](http://evil.com)",
    "![a](//evil.com/x.png)", "https://evil.com/?a=1&b=2", "WWW.evil.com", "&lt;b&gt;", "a|b",
    "`code`", "**bold** ~~no~~", "a\\|b", "\\<b>", "\\\\", "a\\", "a\nb",
    "\u202etxt.exe", "\x1b[31m",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_shows_text_as_it_is(text):
    """Decoded as CommonMark defines it, without further constructs."""
    escaped = as_markdown(text)
    assert html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", escaped)) == printable(text)
    assert not re.search(r"[<>\n]|://|www\.|(?<!\\)(\\\\)*[`*~\[\]|]", escaped, re.IGNORECASE)


def test_the_names_of_runs_are_not_changed():
    for name in ("ml-1m_seed1994_adam_lr0.001_20250101T000000Z", "a (b), 5+", "电影 é", "1:2"):
        assert as_markdown(name) == name


@pytest.mark.parametrize("text, cell", [
    ("=1+1", "'=1+1"), ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-x", "'-x"),
    ("@SUM(A1)", "'@SUM(A1)"), ("  =1", "'  =1"), ("\t=1", "'\\t=1"), ("a\r=1", "a\\r=1"),
    ("＝1", "'＝1"), ("-1+1", "'-1+1"), ("-1", "-1"), ("+1.5e3", "+1.5e3"), ("a=1", "a=1"),
    ("", ""), (-1, -1), (0.5, 0.5), (None, None),
])
def test_a_spreadsheet_gets_text_and_no_formulas(text, cell):
    assert for_spreadsheet(text) == cell
