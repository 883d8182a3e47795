"""All rules about ids: which ids are equal, how they are stored, and how they are looked up.

    ids = Ids()
    codes = ids.encode([parse_id(text, False) for text in ("7", "12", "7")])    # 0, 1, 0
    known, ranks = ids.ranked()                                                 # 7, 12 and 0, 1
    positions_of(pd.Index(known), ["7", 7.0, "abc"])                            # 0, 0, -1

"1", 1 and 1.0 are the same id: text that is written as a whole number is that number, and so is
every number of a column in which all are written as 1.0, or some as 1.5e+18. "007" and "+7" are
text. The ids of a table are int64 if all of them are whole numbers, and text otherwise.
"""

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from autorec_tf.system.errors import UserError
from autorec_tf.system.files import as_utf8

CACHED = 1 << 24  # smaller ids are looked up in an array
WHOLE_ID = re.compile(r"-?[1-9]\d{0,18}|0", re.ASCII)  # an id that is a number; "007" is not
WHOLE_FLOAT = re.compile(rf"({WHOLE_ID.pattern})(\.0*)?", re.ASCII)
EXPONENT = re.compile(r"-?\d(\.\d*)?[eE][+-]\d{1,2}", re.ASCII)  # of numpy, pandas and Excel


def whole_number(text: str) -> int | None:
    """Return an id as a number that fits int64, or None if it is text."""
    if WHOLE_ID.fullmatch(text) and abs(number := int(text)) < 2**63:
        return number
    return None


def whole_float(text: str) -> int | None:
    """Return an id written as 1, 1.0 or 1.5e+18 as a number that fits int64, or None if text."""
    if match := WHOLE_FLOAT.fullmatch(text):
        return whole_number(match[1])
    number = Fraction(text) if EXPONENT.fullmatch(text) else Fraction(1, 2)
    return int(number) if number.denominator == 1 and abs(number) < 2**63 else None


def id_text(one: Any) -> str:
    """Return an id as text, a time without its time of day if that is midnight."""
    is_time = isinstance(one, datetime | timedelta)
    return str(one).removesuffix(" 00:00:00") if is_time else str(one)


def parse_id(text: str, digits_only: bool, no_ids: Collection[str] = ()) -> int | str | None:
    """Return an id, as a number if it is written as one, or None if it is one of `no_ids`. Raise
    ValueError for text that cannot be an id, or, with `digits_only`, for anything except digits."""
    if no_ids and text.strip().lower() in no_ids:
        return None
    number = whole_number(text)
    if number is not None and not (digits_only and number < 0):
        return number
    if not text or text != text.strip():
        remedy = "" if text.strip() or digits_only else " (leave out such lines with --no_id NaN)"
        raise ValueError(f"the id {text[:20]!r} is empty, or has leading or trailing blanks"
                         f"{remedy}")
    if digits_only:
        raise ValueError(f"the id {text[:20]!r} is not a whole number")
    return text


class Ids:
    """The ids read so far, each with a code: 0, 1, ... in order of appearance."""

    def __init__(self) -> None:
        self.codes: dict[int | str | None, int] = {}  # left out: None
        self.lost: list[str] = []  # ids of a file that may have lost digits
        self.cache = np.empty(0, np.int32)  # the code of a small whole number, or -1

    def encode(self, ids: Any) -> np.ndarray:
        """Return the codes of a list of ids, or of an array of whole numbers from 0: int32."""
        if isinstance(ids, list) or ids.max() >= CACHED:
            return self.look_up(ids if isinstance(ids, list) else ids.tolist())
        if (missing := int(ids.max()) + 1 - len(self.cache)) > 0:
            self.cache = np.append(self.cache, np.full(missing, -1, np.int32))
        new = ids[self.cache[ids] < 0]
        self.cache[new] = self.look_up(new.tolist())
        return self.cache[ids]

    def look_up(self, ids: Sequence[int | str | None]) -> np.ndarray:
        seen = self.codes
        codes = (seen.setdefault(one, len(seen)) for one in ids)
        return np.fromiter(codes, np.int32, len(ids))

    def merge(self, column: "Ids", codes: np.ndarray, used_only: bool = False) -> np.ndarray:
        """Convert `codes` of a file's `column`, or only of those used, to codes in this object. A
        column of whole numbers that are all written as 1.0 is equal to one written as 1."""
        ids = list(column.codes)
        texts = [one for one in ids if type(one) is str]
        floats = {text: number for text in texts if (number := whole_float(text)) is not None}
        is_mixed = any(type(one) is int for one in ids) and not all(map(EXPONENT.fullmatch, texts))
        if texts and len(floats) == len(texts) and not is_mixed:
            # A rounded id has too few digits, or is so large that float64 has gaps.
            digits = {text: re.sub("[eE].*|[^0-9]", "", text) for text in floats}
            column.lost = [text for text, number in floats.items() if abs(number) > 2**53
                           or len(digits[text]) < len(str(abs(number)))]
            ids = [floats.get(str(one), one) for one in ids]
        merged = np.zeros(len(ids), np.int32)
        merged_codes = np.unique(codes) if used_only else np.arange(len(ids))
        merged[merged_codes] = self.look_up([ids[code] for code in merged_codes])
        return codes if np.array_equal(merged, np.arange(len(ids))) else merged[codes]

    def ranked(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the sorted ids, int64 or strings, and the rank of each code among them, int32."""
        numbers = all(type(one) is int for one in self.codes)
        kind = int if numbers else object
        ids = np.array([one if numbers else str(one) for one in self.codes], kind)
        ids, ranks = np.unique(ids, return_inverse=True)
        return ids, ranks.astype(np.int32)

    def like(self, known: np.ndarray, codes: np.ndarray,
             locate: Callable[[int], str]) -> np.ndarray:
        """Return the ids of `codes` in the type of the ids `known`: int64 or strings. Raise
        UserError for text if ids are whole numbers; `locate` names the line of a code's index."""
        ids = np.array(list(self.codes), object)
        if known.dtype.kind not in "iu":
            return np.array([str(one) for one in ids], object)[codes]
        is_text = np.array([type(one) is not int for one in ids])[codes]
        if is_text.any():
            index = int(is_text.argmax())
            raise UserError(f"{locate(index)}: the id {ids[codes[index]][:80]!r} is not a whole "
                            "number, unlike the ids of the training ratings. Correct it.")
        return ids.astype(np.int64)[codes]


def positions_of(known: pd.Index, ids: Any) -> np.ndarray:
    """Return the position of each of `ids` in `known`, or -1 if it is unknown: int64."""
    codes, distinct = pd.factorize(pd.Series(ids))
    texts = [id_text(one) for one in distinct]
    numbers = [whole_float(text) for text in texts]
    if known.dtype.kind in "iu":
        wanted = np.array([number or 0 for number in numbers], np.int64)
        is_number = [number is not None for number in numbers]
        positions = np.where(is_number, known.get_indexer(wanted), -1)
    else:
        plain = [str(n) if n is not None else t for t, n in zip(texts, numbers, strict=True)]
        as_given, positions = (known.get_indexer(np.array(x, object)) for x in (texts, plain))
        positions = np.where(as_given < 0, positions, as_given)
    return np.append(positions, -1)[codes]  # the code of a missing id is -1


def known_ids(known: pd.Index, ids: Any) -> list[Any]:
    """Return each of `ids` as it is in `known`, or unchanged if it is unknown."""
    positions = positions_of(known, ids)
    return [one if at < 0 else known[at] for one, at in zip(ids, positions, strict=True)]


def as_id(text: str, known: np.ndarray, flag: str) -> int | str:
    """Return the value of `flag` as it is in `known`, or unchanged if it is unknown. Raise
    UserError if it is text and ids are whole numbers."""
    text = as_utf8(text)
    if known.dtype.kind in "iu" and not isinstance(whole_float(text), int):
        raise UserError(f"{flag} {text[:80]!r}: the ids in these ratings are whole numbers, from "
                        f"{known.min()} to {known.max()}. Write the id as one of them.")
    return known_ids(pd.Index(known), [text])[0]


def with_new(known: np.ndarray, ids: np.ndarray) -> np.ndarray:
    """Return the ids `known`, followed by the new ones in `ids`, sorted."""
    new = pd.Index(ids).unique()
    dtype = known.dtype if known.dtype.kind in "iu" else object  # a fixed width would truncate text
    return np.append(known.astype(dtype), new[~new.isin(known)].sort_values().to_numpy(dtype))


def used_ids(indices: np.ndarray, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `indices` into those of `ids` that occur in them, int32, and these ids."""
    used, ranks = np.unique(indices, return_inverse=True)
    return ranks.astype(np.int32), ids[used]
