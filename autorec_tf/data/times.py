"""Timestamps as numbers that have the same order: numbers of one unit, or dates of one format."""

import calendar
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from warnings import catch_warnings

import numpy as np
import pandas as pd

DECIMAL_TIME = re.compile(r"-?\d{1,19}(\.\d*)?(e\+?\d{1,2})?", re.ASCII | re.IGNORECASE)
UNITS = {9: "seconds", 10: "seconds", 12: "milliseconds", 13: "milliseconds",  # by digits
         15: "microseconds", 16: "microseconds", 18: "nanoseconds", 19: "nanoseconds"}
DIGITS = re.compile(r"0\d{5}|0\d{7}", re.ASCII)  # a date without separators, day or month first
# The parts of a date, in order, and their formats for strptime; then the orders of the numbers that
# are left, where a year may have four digits.
PARTS = [(re.compile(pattern, re.IGNORECASE | re.ASCII), format) for pattern, format in (
    (r"(?<!\d)\d{1,2}:\d\d:\d\d\.\d+", "%H:%M:%S.%f"), (r"(?<!\d)\d{1,2}:\d\d:\d\d", "%H:%M:%S"),
    (r"(?<![\d+-])\d{1,2}:\d\d", "%H:%M"), (r"%H(\S*?)( ?)[ap]m\b", r"%I\1\2%p"),
    (r"(?<=%[SMfp])( ?)([+-]\d\d:?\d\d\b|Z$)", r"\1%z"), (r"\b(GMT|UTC)\b", "%Z"),
    *((rf"\b({'|'.join(names)})\b", format) for names, format in (
        (calendar.day_name, "%A"), (calendar.day_abbr, "%a"), (calendar.month_abbr[1:], "%b"),
        (calendar.month_name[1:], "%B"))),
)]
ORDERS = {"Y00": ["Ymd"], "00Y": ["dmY", "mdY"], "000": ["dmy", "mdy", "ymd"],
          "b0Y": ["dY"], "bY0": ["Yd"], "b00": ["dy"]}  # b: the month is a word


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
    parsed = dict[str, np.ndarray]()
    for each in formats:
        with catch_warnings(action="ignore"), suppress(ValueError, OverflowError, re.error):
            moments = pd.to_datetime(list(texts), format=each, utc=True).as_unit("us")
            parsed |= {} if moments.hasnans else {each: moments.asi8}
    if not parsed:
        other = "a date in the format of earlier ones" if "formats" in state else "a number or date"
        raise ValueError(f"the timestamp {texts[-1][:30]!r} is not {format or other} (name its "
                         "format, as in --timestamp_format '%d.%m.%Y %H:%M')")
    state["formats"] = ["ISO8601"] if "ISO8601" in parsed else list(parsed)
    times = parsed[state["formats"][0]]
    state.setdefault("first", (state["formats"][0], texts[0]))
    state["doubt"] = state.get("doubt") or any(np.any(x != times) for x in parsed.values())
    return times


def date_formats(text: str) -> list[str]:
    """Return the formats, as for strptime, that a date may have: day first, month first, and with a
    year of two digits also year first."""
    is_may = "may" in text.lower()  # both a short and a full name
    for pattern, format in PARTS:
        text = pattern.sub(format, text)
    other, *rest = re.split(r"\d+", text)
    numbers = "b" if re.search("%[bB]", text) else ""
    numbers += "".join("Y" if len(number) == 4 else "0" for number in re.findall(r"\d+", text))
    formats = [other + "".join(f"%{letter}{part}" for letter, part in zip(order, rest, strict=True))
               for order in ORDERS.get(numbers, [])]
    return formats + [each.replace("%b", "%B") for each in formats if is_may]


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
