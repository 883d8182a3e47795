"""What is printed for people."""

import io
import unicodedata

import pytest

from autorec_tf.system.terminal import print_line, printable

UNSEEN = "\u034f\u115f\u1160\u17b4\u180b\u2800\u3164\ufe0f\uffa0\U000e0100"


def test_characters_that_nobody_sees_are_escaped_and_no_others():
    points = [*range(0xFFFF), *range(0x1F300, 0x1F700), *range(0xE0000, 0xE0200)]
    shown = {c for c in map(chr, points) if printable(c) == c}
    hidden = {c for c in map(chr, points) if unicodedata.category(c) in
              ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp")}
    assert not shown & hidden and not shown & set(UNSEEN)
    assert set("aZ0 -_<é电ß٧Ω") < shown and chr(0x1F600) in shown
    assert printable("a\u202eb\u200b\x1b[1m\n") == r"a\u202eb\u200b\x1b[1m\n"


@pytest.mark.parametrize("text, printed", [
    ("one\ntwo", "one\ntwo\n"), ("\r\033[Klive", "\r\033[Klive\n"),
    ("a\u202e\033[31m\r", "a\\u202e\\x1b[31m\\r\n"),
    (UserWarning("a\u200b"), "warning: a\\u200b\n"),
])
def test_a_line_has_only_the_control_characters_of_the_program(text, printed):
    stream = io.StringIO()
    print_line(text, stream)
    assert stream.getvalue() == printed
