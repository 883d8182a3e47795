"""Ids are asked for as they are read."""

import numpy as np
import pandas as pd
import pytest

from autorec_tf.data.ids import Ids, as_id, known_ids, parse_id
from tests.facts import refused

LARGE = 2**63 - 1


def read(*texts):
    """The distinct ids of a column, as they are stored."""
    ids, column = Ids(), Ids()
    ids.merge(column, column.encode([parse_id(text, False) for text in texts]))
    return ids.ranked()[0]


@pytest.mark.parametrize("texts", [
    ("7", "0", "-1", "1234567890123456789", str(LARGE), str(-LARGE)),
    ("1.0", "12345678901234567.0", "1234567890123456789.00", "-3."),
    ("7", "007", "+7", str(LARGE + 1), "12345678901234567890", "1.5", "x"),
], ids=["numbers", "decimals", "text"])
def test_an_id_is_found_as_it_is_written_in_the_ratings(texts):
    known = read(*texts)
    assert len(known) == len(texts) and (known.dtype == object) == ("x" in texts)
    found = [as_id(text, known, "--user") for text in texts]
    assert sorted(found) == list(known)
    assert known_ids(pd.Index(known), texts) == found


@pytest.mark.parametrize("text", ["007", "+7", "7.5", "1e3", " 7", "٧", "", str(2**63), "9" * 5000])
def test_text_is_refused_if_the_ids_are_whole_numbers(text):
    with refused("--item", repr(text[:80]), "-4", "19") as caught:
        as_id(text, np.array([-4, 19]), "--item")
    assert len(str(caught.value)) < 300
