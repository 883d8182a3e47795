"""Delimited text: a rating a line, between separators."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from data.blocks import (
    CONTROL,
    PUBLISHED,
    WHOLE_TIME,
    Block,
    Scale,
    decoded,
    distinct,
    field_bounds,
    open_text,
    parse_id,
    parse_times,
    shown,
    text_blocks,
    text_lines,
    unix_lines,
    whole_numbers,
    without_end,
)
from data.layouts import MAX_LINE, Layout
from system.errors import UserError


class DelimitedFile:
    """Text with a rating a line, of the given layout."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout

    def __str__(self) -> str:
        return f"{self.path.name}: {self.layout}"

    def blocks(self, scale: Scale | None, with_times: bool) -> Iterator[Block]:
        """Yield the ratings, some lines at a time. Raise ValueError where a line is malformed."""
        self.check_times(with_times)
        with open_text(self.path) as file:
            if self.layout.header:
                self.check_header(file.readline(MAX_LINE))
            kinds: set[bool] = set()
            for text in text_blocks(file):
                yield self.parse(text, scale, with_times, kinds)

    def parse(
        self, text: bytes, scale: Scale | None, with_times: bool, kinds: set[bool]
    ) -> Block:
        """Return the ratings of some lines; `kinds` as in `check_line`."""
        text, layout, fields = unix_lines(text), self.layout, []
        if not text.isascii():
            text.decode()
        separator = layout.separator.encode()
        if layout.published and text.translate(None, PUBLISHED + separator + b'"\n'):
            raise ValueError("not the published format's characters")
        positions = layout.positions[: 4 if with_times else 3]
        if b'"' in text or separator == b"::" and b":::" in text:  # rare, so slowly
            rows = [self.checked(line) for line in text.removesuffix(b"\n").split(b"\n")]
            for row in rows:
                self.check_published(row)
            for i in positions:
                codes, texts = pd.factorize(np.array([row[i] for row in rows], object))
                fields.append((codes, texts.tolist()))
        else:
            starts, ends = field_bounds(text, separator, layout.width)
            if separator == b"::" and layout.published and text.count(b":") != 6 * len(ends):
                raise ValueError("a colon within a field")
            for codes, texts in (distinct(text, starts[:, i], ends[:, i]) for i in positions):
                numbers = whole_numbers(texts) if len(fields) < 2 else None
                fields.append((codes, decoded(texts) if numbers is None else numbers))
        users, items = (
            (codes, ids if isinstance(ids, np.ndarray) else self.parse_ids(ids))
            for codes, ids in fields[:2]
        )
        codes, texts = fields[2]
        values = np.array([self.parse_rating(text, scale) for text in texts])[codes]
        if not with_times:
            return Block(users, items, values)
        codes, texts = fields[3]
        times = parse_times(texts)[codes]
        check_kinds(kinds, texts[0])
        return Block(users, items, values, times)

    def parse_ids(self, texts: Sequence[str]) -> list[int | str]:
        return [parse_id(text, bool(self.layout.published)) for text in texts]

    def parse_rating(self, text: str, scale: Scale | None) -> float:
        if not self.layout.rating.fullmatch(text):
            raise ValueError(f"the rating {text[:20]!r} is no number of the format")
        if scale and not scale[0] <= float(text) <= scale[1]:
            raise ValueError(
                f"the rating {text} lies outside the scale {scale[0]:g} to {scale[1]:g}"
            )
        return float(text)

    def check_times(self, with_times: bool) -> None:
        if with_times and len(self.layout.positions) < 4:
            raise UserError(
                f"{self.path}: --split time needs a column of timestamps: name it as the fourth of "
                "--columns, or split at random"
            )

    def locate(self, row: int) -> str:
        return f"{self.path}, line {row + 1 + bool(self.layout.header)}"

    def malformed(self, scale: Scale | None, with_times: bool, error: Exception) -> UserError:
        """Return the error that names the first malformed line; slow, and only then run."""
        kinds: set[bool] = set()
        for number, line in enumerate(text_lines(self.path), start=1):
            try:
                if number == 1 and self.layout.header:
                    self.check_header(line)
                else:
                    self.check_line(line, scale, with_times, kinds)
            except ValueError as wrong:
                reason = "is not UTF-8" if isinstance(wrong, UnicodeDecodeError) else wrong
                remedy = self.layout.published or "correct or remove the line"
                return UserError(f"{self.path}, line {number}: {shown(line)}: {reason}: {remedy}")
        return UserError(f"{self.path} is not {self.layout}: {error}"[:500])

    def check_header(self, line: bytes) -> None:
        """Raise ValueError if `line` is not the header."""
        fields = self.checked(without_end(line))
        if tuple(field.strip() for field in fields) != self.layout.header:
            raise ValueError(f"expected the header {','.join(self.layout.header)}")

    def check_line(
        self, line: bytes, scale: Scale | None, with_times: bool, kinds: set[bool]
    ) -> None:
        """Raise ValueError if `line` is malformed; `kinds` are those of the timestamps so far."""
        fields = self.checked(without_end(line))
        user, item, rating, *time = (fields[i] for i in self.layout.positions)
        self.parse_ids([user, item])
        self.parse_rating(rating, scale)
        if with_times:
            parse_times(time)
            check_kinds(kinds, time[0])
        self.check_published(fields)

    def check_published(self, fields: Sequence[str]) -> None:
        """Raise ValueError if the file is MovieLens' and a field has another character than its."""
        if self.layout.published and "".join(fields).encode().translate(None, PUBLISHED):
            raise ValueError("a field that is no number")

    def checked(self, line: bytes) -> list[str]:
        """Return the fields of a line without its end. Raise ValueError if it has not those of the
        layout."""
        if len(line) >= MAX_LINE:
            raise ValueError(f"more than {MAX_LINE} bytes")
        if any(character in line for character in CONTROL):
            raise ValueError("a control character")
        fields = self.layout.split(line.decode())
        return fields


def check_kinds(kinds: set[bool], time: str) -> None:
    """Raise ValueError if not all timestamps are numbers, nor all dates: `kinds` so far."""
    kinds.add(bool(WHOLE_TIME.fullmatch(time)))
    if len(kinds) > 1:
        raise ValueError("a date among numbers, or the reverse")
