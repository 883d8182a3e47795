"""What a message must name: facts, in any order and any sentence."""

from contextlib import contextmanager

import pytest

from autorec_tf.system.errors import UserError


@contextmanager
def refused(*facts, error=UserError):
    """Within it, `error` is raised with one line that names each of the `facts`."""
    with pytest.raises(error) as caught:
        yield caught
    assert_names(str(caught.value), *facts)
    assert "\n" not in str(caught.value)


def assert_names(text, *facts):
    """Assert that `text` or a warning names each of the `facts`: file, line, value, flag."""
    text = str(text)
    missing = [str(fact) for fact in facts if str(fact) not in text]
    assert not missing, f"{missing} not in: {text}"
