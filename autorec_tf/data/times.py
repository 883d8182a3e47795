"""Timestamps as numbers that have the same order: numbers, or dates of one format."""

import re
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.data.dates import date_formats

DECIMAL_TIME = re.compile(r"-?\d{1,19}(\.\d*)?(e\+?\d{1,2})?", re.ASCII | re.IGNORECASE)
UNITS = {9: "seconds", 10: "seconds", 12: "milliseconds", 13: "milliseconds",  # by digits
         15: "microseconds", 16: "microseconds", 18: "nanoseconds", 19: "nanoseconds"}
DIGITS = re.compile(r"0\d{5}|0\d{7}", re.ASCII)  # a date without separators, day or month first


def parse_dates(texts: Sequence[str], format: str) -> np.ndarray | None:
    with warnings.catch_warnings(action="ignore"), suppress(ValueError, OverflowError, re.error):
        moments = pd.to_datetime(list(texts), format=format, utc=True).as_unit("us")
        return None if moments.hasnans else moments.asi8
    return None


def parse_times(texts: Sequence[str], state: dict[str, Any], format: str | None) -> np.ndarray:
    """Return timestamps as numbers that have the same order: numbers, or dates with or without a
    time of day. `state` keeps their kind, the formats that fit all dates so far, and the one that
    was used first. Raise ValueError for any other."""
    numbers = [not format and bool(DECIMAL_TIME.fullmatch(text)) for text in texts]
    if (dates := state.setdefault("dates", not any(numbers))) in numbers:
        kind = "date" if dates else "number"
        raise ValueError(f"the timestamp {texts[-1][:30]!r} is not a {kind}, unlike earlier ones")
    if not dates:
        return parse_numbers(texts, state)
    formats = [format] if format else state.get("formats") or ["ISO8601", *date_formats(texts[0])]
    parsed = {each: times for each in formats if (times := parse_dates(texts, each)) is not None}
    if not parsed:
        other = "a date in the format of earlier ones" if "formats" in state else "a number or date"
        raise ValueError(f"the timestamp {texts[-1][:30]!r} is not {format or other} (name its "
                         "format, as in --timestamp_format '%d.%m.%Y %H:%M')")
    state["formats"] = ["ISO8601"] if "ISO8601" in parsed else list(parsed)
    times = parsed[state["formats"][0]]
    state.setdefault("first", (state["formats"][0], texts[0]))
    state["doubt"] = state.get("doubt") or any(np.any(x != times) for x in parsed.values())
    return times


def parse_numbers(texts: Sequence[str], state: dict[str, Any]) -> np.ndarray:
    """Return timestamps that are numbers of one unit, which `state` keeps: int64 or float64."""
    for text in texts:
        unit = UNITS.get(len(text.lstrip("-").partition(".")[0]))
        if unit and state.setdefault("unit", unit) != unit:
            raise ValueError(f"the timestamp {text} is in {unit}, unlike earlier ones")
        if DIGITS.fullmatch(text):
            raise ValueError(f"the timestamp {text} may be a date. Name its format, as in "
                             "--timestamp_format %d%m%Y")
    with suppress(ValueError, OverflowError):
        return np.array([int(text) for text in texts], np.int64)
    return np.array([float(text) for text in texts])
