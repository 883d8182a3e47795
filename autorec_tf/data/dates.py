"""The formats, as for strptime, that a date in text may have."""

import re

MONTHS = "jan(uary)? feb(ruary)? mar(ch)? apr(il)? may june? july? aug(ust)? sep(tember)? " \
    "oct(ober)? nov(ember)? dec(ember)?".split()
# The parts of a date, in order, and their formats for strptime; then the orders of the numbers that
# are left, where a year may have four digits.
PARTS = [(re.compile(pattern, re.IGNORECASE | re.ASCII), format) for pattern, format in (
    (r"(?<!\d)\d{1,2}:\d\d:\d\d\.\d+", "%H:%M:%S.%f"), (r"(?<!\d)\d{1,2}:\d\d:\d\d", "%H:%M:%S"),
    (r"(?<![\d+-])\d{1,2}:\d\d", "%H:%M"), (r"%H(\S*?)( ?)[ap]m\b", r"%I\1\2%p"),
    (r"(?<=%[SMfp])( ?)([+-]\d\d:?\d\d\b|Z$)", r"\1%z"), (r"\b(GMT|UTC)\b", "%Z"),
    (r"\b(mon|tues|wednes|thurs|fri|satur|sun)day\b", "%A"),
    (r"\b(mon|tue|wed|thu|fri|sat|sun)\b", "%a"),
    (rf"\b({'|'.join(month[:3] for month in MONTHS)})\b", "%b"),
    (rf"\b({'|'.join(MONTHS)})\b", "%B"),
)]
ORDERS = {"Y00": ["Ymd"], "00Y": ["dmY", "mdY"], "000": ["dmy", "mdy", "ymd"], "0Y": ["dY"],
          "Y0": ["Yd"], "00": ["dy"]}


def date_formats(text: str) -> list[str]:
    """Return the formats, as for strptime, that a date may have: day first, month first, and with a
    year of two digits also year first."""
    is_may = "may" in text.lower()  # both a short and a full name
    for pattern, format in PARTS:
        text = pattern.sub(format, text)
    other, *rest = re.split(r"\d+", text)
    numbers = "".join("Y" if len(number) == 4 else "0" for number in re.findall(r"\d+", text))
    formats = [other + "".join(f"%{letter}{part}" for letter, part in zip(order, rest, strict=True))
               for order in ORDERS.get(numbers, [])]
    return formats + [each.replace("%b", "%B") for each in formats if is_may]
