"""Delimited text: a rating a line, between separators, parsed by pandas."""

import csv
import io
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from data.blocks import (
    MISSING,
    Block,
    BlockIds,
    Rules,
    check_text,
    open_text,
    parse_id,
    parse_times,
    shown,
    text_blocks,
)
from data.layouts import BLANKS, MAX_LINE, Layout, count
from system.errors import UserError

PUBLISHED = b"0123456789.-"  # the characters of MovieLens' fields
LARGEST_ID = 10**18 - 1  # that is a number
LARGEST_RATING = float(np.finfo(np.float32).max)
UNIT = "\x1f"  # stands for a separator of several characters, which pandas' C engine lacks
UNUSED = "S1"  # the type of a column that is not needed: its first byte


class DelimitedFile:
    """Text with a rating a line, of the given layout."""

    def __init__(self, path: Path, layout: Layout) -> None:
        self.path, self.layout = path, layout

    def __str__(self) -> str:
        return f"{self.path.name}: {self.layout}"

    def texts(self) -> Iterator[str]:
        """Yield the lines after the header, many at a time."""
        with open_text(self.path, self.layout.encoding) as file:
            for _ in range(self.layout.skipped):
                file.readline(MAX_LINE)
            yield from text_blocks(file, self.layout.quotechar)

    def blocks(self, rules: Rules) -> Iterator[Block]:
        """Yield the ratings, some lines at a time. Raise ValueError where a line is malformed."""
        if rules.with_times and len(self.layout.positions) < 4:
            raise UserError(
                f"{self.path}: --split time needs a column of timestamps: name it as the fourth of "
                "--columns, or split at random"
            )
        self.check_header()
        kinds: dict[str, Any] = {}
        for text in self.texts():
            if block := self.parse(text, rules, kinds):
                yield block

    def check_header(self) -> None:
        """Raise UserError if the file is a published one without its header."""
        with open_text(self.path, self.layout.encoding) as file:
            line = file.readline(MAX_LINE) if self.layout.published else ""
        names = tuple(name.strip() for name in self.layout.bare(line).split(","))
        if self.layout.published and self.layout.header and names != self.layout.header:
            raise line_error(
                self.path, 1, line, f"expected the header {','.join(self.layout.header)}",
                self.layout.published,
            )

    def parse(self, text: str, rules: Rules, kinds: dict[str, Any]) -> Block | None:
        """Return the ratings of some lines, if there are any. `kinds`: what those before held, as
        in `parse_times`. Raise ValueError if a line is malformed."""
        layout, text = self.layout, check_text(text)
        if layout.comment:
            text = re.sub(rf"(?m)^{re.escape(layout.comment)}.*\n?", "", text)
        bare = layout.bare(text)
        if not layout.published and not bare.strip():
            return None
        table, plain = None, self.is_plain(bare)
        if plain and "texts" not in kinds:
            try:
                table = self.table(text, bare, rules.with_times, "int64")
            except (ValueError, OverflowError):
                kinds["texts"] = True
        if table is None:
            table = self.table(text, bare, rules.with_times, object)
        rows, (user, item, *others) = table
        users, items = self.parse_ids(user), self.parse_ids(item)
        values = self.parse_ratings(others[0], rules) if others else np.zeros(rows)
        if layout.published and not plain:
            self.check_published(text, bare, rows)
        if not rules.with_times:
            return Block(users, items, values)
        codes, texts = others[1]
        return Block(users, items, values, parse_times(list(map(str, texts)), kinds)[codes])

    def is_plain(self, bare: str) -> bool:
        """Return whether no id loses anything when it is read as a number: digits alone stand
        between the separators, and no 0 before another one."""
        text, separator = bare.encode(), self.layout.separator.encode()
        if b"-0" in text or text.translate(None, PUBLISHED + separator + b"\n"):
            return False
        if separator == b"::" and text.count(b":") != 2 * text.count(b"::"):
            return False
        characters = np.frombuffer(b"\n" + text + b"\n", np.uint8)
        begins = (characters == ord("\n")) | (characters == separator[-1])
        zeros = np.flatnonzero(begins[:-2] & (characters[1:-1] == ord("0")))
        return not np.isin(characters[zeros + 2], list(b"0123456789")).any()

    def table(
        self, text: str, bare: str, with_times: bool, ids: Any
    ) -> tuple[int, list[BlockIds]]:
        """Return how many ratings there are, and the columns that are needed: ids of the type
        `ids`, and text as which of some texts each is, and these. Raise ValueError if a line has
        another number of fields, or an id is not of that type."""
        layout, separator = self.layout, self.layout.separator
        if len(separator) > 1 and separator != BLANKS:
            text, separator = text.replace(separator, UNIT), UNIT
        types: dict[int, Any] = dict.fromkeys(range(layout.width), UNUSED)
        types |= dict.fromkeys(layout.positions[: 3 + with_times], object)
        types |= dict.fromkeys(layout.positions[:2], ids)
        # The first line says how many fields pandas expects; a longer one is an error, and a
        # shorter one is filled up, so that all have the same if their sum is right.
        start = bare if layout.published else bare.lstrip(" \n")
        layout.check_fields(start.partition("\n")[0], 1)
        try:
            table = pd.read_csv(
                io.StringIO(text), sep=separator, header=None, names=range(layout.width),
                index_col=False, dtype=types, na_filter=False, engine="c",
                quotechar=layout.quotechar or '"',
                quoting=csv.QUOTE_MINIMAL if layout.quotechar else csv.QUOTE_NONE,
                skipinitialspace=layout.skipinitialspace, skip_blank_lines=not layout.published,
            )
        except pd.errors.ParserError:
            raise layout.other_fields() from None
        layout.check_fields(bare, len(table))
        columns: list[Any] = []
        dots = count(bare, ".") if ids is not object else 0
        for position in layout.positions[: 3 + with_times]:
            column = table[position].to_numpy()
            columns.append(pd.factorize(column) if column.dtype == object else column)
            if dots and column.dtype == object:
                codes, texts = columns[-1]
                dots -= int(np.array([text.count(".") for text in texts])[codes].sum())
        if dots:  # pandas would read an id of 1.0 as 1
            raise ValueError("an id that is no whole number")
        return len(table), columns

    def parse_ids(self, ids: Any) -> BlockIds:
        whole = bool(self.layout.published)
        if isinstance(ids, np.ndarray):
            lowest = 0 if whole else -LARGEST_ID
            if lowest <= ids.min() <= ids.max() <= LARGEST_ID:
                return ids
            ids = pd.factorize(ids)
        return ids[0], [parse_id(str(one), whole) for one in ids[1]]

    def parse_ratings(self, ratings: Any, rules: Rules) -> np.ndarray:
        missing, (codes, texts) = MISSING | rules.words, ratings
        values = np.array([self.parse_rating(text, missing) for text in texts])
        rules.check(values)
        return values[codes]

    def parse_rating(self, text: str, missing: set[str]) -> float:
        """Return a rating, nan if it is missing. Raise ValueError if it is no number of the
        format."""
        layout = self.layout
        if layout.rating:
            value = float(text) if layout.rating.fullmatch(text) else np.inf
        elif text.strip().lower() in missing:
            return np.nan
        else:
            plain = text.replace(layout.thousands, "") if layout.thousands else text
            try:
                value = float(plain.replace(layout.decimal, "."))
            except ValueError:
                value = np.inf
        if not abs(value) <= LARGEST_RATING:
            raise ValueError(f"the rating {text[:20]!r} is no number of the format")
        return value

    def check_published(self, text: str, bare: str, rows: int) -> None:
        """Raise ValueError if a field has another character than MovieLens' numbers."""
        separator = self.layout.separator
        allowed = PUBLISHED + separator.encode() + b'"\n'
        if text.encode().translate(None, allowed):
            raise ValueError("a field that is no number")
        if separator == "::" and bare.count(":") != 2 * bare.count("::"):
            raise ValueError("a colon within a field")
        if text is not bare:
            if bare.count("\n") != text.count("\n"):
                raise ValueError("a field that is no number")
            self.layout.check_fields(text, rows)

    def records(self, text: str) -> list[str]:
        """Return lines one by one, those together that a quoted field spans."""
        records, quote = [""], self.layout.quotechar
        for line in io.StringIO(text, newline="\n"):
            if quote and records[-1].count(quote) % 2:
                records[-1] += line
            else:
                records.append(line)
        return records[1:]

    def locate(self, row: int) -> str:
        """Return where a rating stands; slow: the file is read again."""
        comment, number = self.layout.comment, self.layout.skipped + 1
        for text in self.texts():
            for record in self.records(text):
                if record.strip() and not (comment and record.startswith(comment)):
                    if row == 0:
                        return f"{self.path}, line {number}"
                    row -= 1
                number += record.count("\n")
        raise IndexError(row)

    def malformed(self, rules: Rules, error: Exception) -> UserError:
        """Return the error that names the first malformed line; slow: of the lines that cannot be
        parsed together, the fewest from the first on are found."""
        kinds: dict[str, Any] = {}
        number = self.layout.skipped + 1
        with suppress(UnicodeDecodeError):  # of UTF-16
            for text in self.texts():
                before = dict(kinds)
                try:
                    self.parse(text, rules, kinds)
                except ValueError:
                    return self.first_malformed(text, number, rules, before)
                number += text.count("\n")
        return UserError(f"{self.path} is not {self.layout}: {error}"[:500])

    def first_malformed(
        self, text: str, number: int, rules: Rules, kinds: dict[str, Any]
    ) -> UserError:
        """Return the error about the first malformed line of `text`, whose first line has this
        `number`, by halving: it is the last of the fewest lines that cannot be parsed."""
        records, low, reason = self.records(text), 0, ValueError()
        high = len(records)
        while low < high:
            middle = (low + high) // 2
            try:
                self.parse("".join(records[: middle + 1]), rules, dict(kinds))
                low = middle + 1
            except ValueError as error:
                high, reason = middle, error
        number += sum(record.count("\n") for record in records[:high])
        return self.error_of(records[: high + 1], number, reason)

    def error_of(self, records: list[str], number: int, reason: object) -> UserError:
        """Return the error about the last of a text's `records`, which is line `number`."""
        return line_error(self.path, number, records[-1], reason, self.layout.published)


def line_error(
    path: Path, number: int, line: str, reason: object, published: str = ""
) -> UserError:
    """Return the error about a line, with what to do about it."""
    remedy = published or "correct or remove the line"
    for word, setting in (("quote", "quoting=3 if quotes are text"), ("UTF-8", "encoding=latin-1")):
        if word in str(reason) and not published:
            remedy += f", or try --read_csv {setting}"
    return UserError(f"{path}, line {number}: {shown(line)}: {reason}: {remedy}")
