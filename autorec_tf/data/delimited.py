"""Read rating files block by block, so that memory grows with the ratings and not with the text.

    file = RatingsFile(sniff(path, start), path)
    _, chunk, state = next(file.chunks())
    users, items, values = file.parse(chunk, state)    # pandas parses some lines at a time

The line of a rating, and malformed lines, are found by bisection of the text.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from autorec_tf.data.foreign import BOOLEANS, command
from autorec_tf.data.headers import MISSING, NUMBER
from autorec_tf.data.ids import parse_id
from autorec_tf.data.layouts import BLANKS, MAX_LINE, Layout, quoted, split, unified
from autorec_tf.data.times import parse_times
from autorec_tf.system.errors import UserError

READ_BYTES = 1 << 21  # characters parsed at a time
DAMAGED = (EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
HIDDEN = re.compile(r"/$|(^|/)(__MACOSX/|\.|Thumbs\.db$|desktop\.ini$)")  # in a zip archive
LARGEST_RATING = float(np.finfo(np.float32).max)
UNIT = "\x1f"  # replaces a separator of several characters, which pandas' C engine lacks
NONE = "\x1e"  # a decimal point that no number has, so that an id of 1.0 is not read as 1
UNUSED = "S1"  # the type of a column that is not needed: only its first byte
TRIES = 4000  # at most, to find malformed lines
Scale = tuple[float, float]
Column = tuple[np.ndarray, Any]  # a code for each rating, and the id or text of each code
Block = list[Any]  # user and item columns; ratings (float64, nan if missing); perhaps times


@dataclass(frozen=True)
class Rules:
    """Which values of a file are ratings, and whether timestamps are read.

    Args:
        scale: the lowest and the highest valid rating, or None for any.
        with_times: whether timestamps are read, too.
        no_rating: numbers and words that mean "no rating". Any word leaves out all missing ratings.
        no_id: texts that mean "no id". A word for missing values leaves out empty ids, too.
        timestamp_format: the format of dates, as for `strptime`, or None to detect it.
    """

    scale: Scale | None = None
    with_times: bool = False
    no_rating: tuple[str, ...] = ()
    no_id: tuple[str, ...] = ()
    timestamp_format: str | None = None

    @property
    def words(self) -> set[str]:
        return {value.lower() for value in self.no_rating if not NUMBER.fullmatch(value)}

    @property
    def no_ids(self) -> set[str]:
        given = {value.strip().lower() for value in self.no_id}
        return given | (MISSING if given & MISSING else set())

    def left_out(self, values: np.ndarray) -> np.ndarray:
        """Return which ratings are left out (nan: are missing): bool [ratings]."""
        numbers = [float(number.replace(",", ".")) for number in self.no_rating
                   if NUMBER.fullmatch(number)]
        return np.isin(values, numbers) | (np.isnan(values) & bool(self.words))


ALL = Rules()


class RatingsFile:
    """Delimited text with one rating per line: one file, or several that are read as one."""

    noun = "line"

    def __init__(self, layout: Layout, *paths: Path) -> None:
        self.layout, self.paths, self.path, self.rules = layout, paths, paths[0], Rules()
        self.counts = Counter[str]()  # of the rows parsed so far, and of what is left out

    def __str__(self) -> str:
        return f"{self.path.name}: {self.layout}"

    def read(self) -> Iterator[str]:
        """Yield the lines after the header, many at a time."""
        with open_text(self.path, self.layout.encoding, self.layout.newline) as file:
            lines = [file.readline(MAX_LINE) for _ in range(self.layout.skipped)]
            header = self.layout.separator.join(self.layout.header)
            if self.layout.published and header and lines[0].rstrip("\r\n") != header:
                raise UserError(f"{self.path}, line 1: {lines[0][:80]!r}: the published header is "
                                f"missing. Line 1 must be {header}.")
            self.without_comments("".join(lines[: -1 if header else None]))
            yield from text_blocks(file, self.layout.quotechar)

    def parse(self, text: str, state: dict[str, Any]) -> Block:
        """Return the ratings in some lines of the file that has this `state`. Raise ValueError if a
        line is malformed."""
        layout, text = self.layout, check_text(text)
        for line in layout.doubtful.findall(text) if layout.doubtful else ():
            (row,) = split([line], layout.separator, layout.quotechar)
            rating = [row[i] for i in layout.positions[2:3] if len(row) == layout.width]
            if any(map(NUMBER.fullmatch, rating)):
                raise ValueError("the line is a comment or a rating (choose with --read_csv "
                                 f"comment={line[0]} or comment=none)")
        text = bare = self.without_comments(text)
        if layout.quotechar and layout.quotechar in text:
            bare = quoted(layout.separator, layout.quotechar).sub(r"\1_", text)
            if layout.quotechar in bare or layout.separator == "::":
                raise ValueError("a quote is not closed, is inside a field, or is in a file with "
                                 ":: (if quotes are text, use --read_csv quoting=3)")
        if not layout.published and not bare.strip():
            return []
        plain = is_plain(bare, layout.separator)
        try:
            table = self.table(text, bare, "int64" if plain else object)
        except (ValueError, OverflowError):
            table = self.table(text, bare, object)
        block = self.block(table, state)
        if layout.published and not plain:
            raise ValueError("a field is not a whole number")
        return block

    def without_comments(self, text: str) -> str:
        """Return `text` without comments. Lines that are comments are counted."""
        comment = self.layout.comment
        if not comment:
            return text
        found = [match.start() for match in comment.finditer(text) if not match[1]]
        self.counts["comment"] += sum(not start or text[start - 1] == "\n" for start in found)
        return comment.sub(r"\1", text)

    def records(self, text: str) -> list[str]:
        """Return the lines one by one; lines that a quoted field spans stay together."""
        quote, inside = self.layout.quotechar, "\ud800"  # which is in no text that is read
        if quote and quote in text:
            text = quoted(self.layout.separator, quote).sub(
                lambda field: field[0].replace("\n", inside), text)
        return [line.replace(inside, "\n") for line in io.StringIO(text, newline="\n")]

    def count(self, text: str) -> int:
        """Return the number of lines in a text, or of rows, whose ids may span several lines."""
        return len(self.records(text)) if self.noun == "row" else text.count("\n")

    def line_name(self, number: int) -> str:
        """Return the name of a line in messages; the first is 1."""
        return f"{self.path}, {self.noun} {number}"

    def table(self, text: str, bare: str, ids: Any) -> list[Column]:
        """Return the columns that are needed, with ids of the type `ids`. Raise ValueError if a
        line has another number of fields, or an id has another type."""
        layout, separator = self.layout, self.layout.separator
        blanks = separator == BLANKS
        if len(separator) > 1 and not blanks:
            text, separator = text.replace(separator, UNIT), UNIT
        positions = layout.positions[: 4 if self.rules.with_times or layout.time else 3]
        types: dict[int, Any] = dict.fromkeys(range(layout.width), UNUSED)
        types |= dict.fromkeys(positions, object) | dict.fromkeys(positions[:2], ids)
        # An extra first line sets the number of fields: pandas raises an error for a line with more
        # and fills up a line with fewer, which the total number of fields then shows.
        line = (" " if blanks else separator).join("0" * layout.width)
        hint = f" (or is a comment: --read_csv comment={text[0]})" if text[0] in "#%" else ""
        wrong = ValueError(f"the line must have {layout.width} fields, {layout.described}{hint}")
        try:
            table = pd.read_csv(
                io.StringIO(f"{line}\n{text}"), sep=separator, header=None, engine="c",
                names=range(layout.width), index_col=False, dtype=types, na_filter=False,
                quotechar=layout.quotechar or '"', decimal=NONE,
                quoting=csv.QUOTE_MINIMAL if layout.quotechar else csv.QUOTE_NONE,
                skipinitialspace=layout.skipinitialspace, skip_blank_lines=not layout.published,
            )
        except pd.errors.ParserError:
            raise wrong from None
        rows = len(table) - 1
        fields = len(bare.split()) if blanks else rows + bare.count(layout.separator)
        if fields != rows * layout.width:
            raise wrong
        return [pd.factorize(table[position].to_numpy()[1:]) for position in positions]

    def block(self, table: Sequence[Column], state: dict[str, Any]) -> Block:
        """Return the ratings in a table's columns. Raise ValueError for an invalid value."""
        layout, rules, digits_only = self.layout, self.rules, bool(self.layout.published)
        block: Block = []
        no_ids, has_ids = rules.no_ids, np.ones(len(table[0][0]), bool)
        for codes, ids in table[:2]:
            if no_ids or isinstance(ids[0], str):
                ids = [parse_id(str(text), digits_only, no_ids) for text in ids]
                has_ids &= np.array([one is not None for one in ids])[codes]
            block.append((codes, ids))
        codes, texts = table[2] if len(table) > 2 else (np.zeros(len(table[0][0]), int), ["0"])
        missing = MISSING | rules.words
        values = np.array([self.parse_rating(text, missing) for text in texts])
        no_rating, (low, high) = rules.left_out(values), rules.scale or (-np.inf, np.inf)
        for wrong in values[((values < low) | (values > high)) & ~no_rating]:
            raise ValueError(f"the rating {wrong:g} is outside the scale {low:g} to {high:g}")
        no_rating = no_rating[codes]
        block.append(values[codes])
        if len(table) > 3:
            codes, texts = table[3]
            if layout.time and not all(map(layout.time.fullmatch, texts)):
                raise ValueError("the date has another format")
            block.append(parse_times(texts, state, rules.timestamp_format)[codes])
        self.counts["row"] += len(has_ids)
        if no_ids or no_rating.any():
            left = has_ids & ~no_rating
            self.counts.update(id=(~has_ids).sum(), rating=(has_ids & no_rating).sum())
            (users, user_ids), (items, item_ids), *others = block
            block = [(users[left], user_ids), (items[left], item_ids), *(x[left] for x in others)]
        return block[: 4 if rules.with_times else 3]

    def parse_rating(self, text: str, missing: set[str]) -> float:
        """Return a rating, or nan if it is missing. Raise ValueError if it is invalid."""
        layout, value = self.layout, np.nan
        if not layout.published and text.strip().lower() in missing:
            return value
        if layout.rating.fullmatch(text):
            with suppress(ValueError):
                plain = text.strip().replace(layout.thousands, "")
                value = float(plain.replace(layout.decimal, "."))
        if not abs(value) <= LARGEST_RATING:
            kind = "valid" if layout.published else f"a finite number{self.hint(text)}"
            raise ValueError(f"the rating {text[:20]!r} is not {kind}")
        return value

    def hint(self, text: str) -> str:
        """Return how to read the rating `text`, or ""."""
        layout, text = self.layout, text.strip()
        if text.lower() in ("true", "false"):
            code = BOOLEANS.format(layout.separator, layout.skipped - bool(layout.header),
                                   layout.positions[2])
            remedy = command(code, self.path) if self.noun == "line" else "astype(int)"
            return f". Convert True and False with {remedy}"
        marks = re.findall("[.,]", text)
        if not marks or self.noun != "line" or not re.fullmatch(r"[-+]?[\d.,]+", text):
            return ""
        word = "or " if marks[0] == marks[-1] else ""
        return f" (name the separator: --read_csv decimal={marks[-1]} {word}thousands={marks[0]})"

    def chunks(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield blocks of text: the number of the first line, the text, and the state of the file,
        such as the kind of the timestamps so far."""
        for path in self.paths:
            self.path, number, state = path, self.layout.skipped + 1, dict[str, Any]()
            for chunk in self.read():
                yield number, chunk, state
                number += self.count(chunk)

    def search(self, wanted: Callable[[Any], bool]) -> Iterator[tuple[str, str, Any] | None]:
        """Yield the name, the text and the outcome of each line whose outcome is `wanted`. Text
        that contains such a line is halved; every other attempt yields None."""
        for number, chunk, state in self.chunks():
            parts = [chunk]  # in reverse order
            while parts:
                part, trial = parts.pop(), dict(state)
                try:
                    outcome: Any = self.parse(part, trial)
                except ValueError as error:
                    outcome = error
                is_wanted = wanted(outcome)
                if is_wanted and len(records := self.records(part)) > 1:
                    middle = len(records) // 2
                    parts += ["".join(records[middle:]), "".join(records[:middle])]
                    yield None
                    continue
                yield (self.line_name(number), part, outcome) if is_wanted else None
                state.update({} if isinstance(outcome, ValueError) else trial)
                number += self.count(part)

    def locate(self, index: int) -> str:
        """Return the file and line of a rating that is read. Slow: the file is parsed again."""

        def holds(block: Block) -> bool:
            nonlocal index
            num_ratings = len(block[2]) if block else 0
            if index < num_ratings:
                return True
            index -= num_ratings
            return False

        return next(line[0] for line in self.search(holds) if line)

    def malformed(self, error: Exception) -> UserError:
        """Return the error that names the first malformed line and their number. Slow."""
        tries, wrong = 0, list[tuple[str, str, Any]]()
        with suppress(OSError, UnicodeDecodeError, *DAMAGED):  # after that line, or in UTF-16
            lines = self.search(lambda outcome: isinstance(outcome, ValueError))
            for line in islice(lines, TRIES):
                tries += 1
                wrong += [line] if line else []
        if not wrong:
            return UserError(f"{self.path}: cannot be read as {self.layout}: {error}"[:500])
        name, whole, reason = wrong[0]
        start = whole.rstrip("\r\n")[:80].encode("utf-8", "surrogateescape")
        text = start.decode("utf-8", "backslashreplace")
        number = f"{'more than ' if tries == TRIES else ''}{len(wrong):,} {self.noun}s"
        total = f" (one of {number} that cannot be read)" if len(wrong) > 1 else ""
        expected = f" {self.layout.published}." if self.layout.published else ""
        return UserError(f"{name}: {text!r}: {reason}{total}.{expected} Fix or remove the "
                         f"{self.noun}.")


def is_plain(bare: str, separator: str) -> bool:
    """Return whether reading ids as numbers loses nothing: all fields are digits, without a minus
    sign or a leading 0."""
    if separator == "::" and bare.count(":") != 2 * bare.count("::"):
        return False
    classes = bytes.maketrans(b",23456789\n" + separator.encode()[-1:], b"x11111111,,")
    text = b"," + bare.encode().translate(classes)
    return not (text.translate(None, b"01,.-") or any(x in text for x in (b",00", b",01", b",-")))


def check_text(text: str) -> str:
    r"""Return `text` with line ends \n. Raise ValueError for a line that is too long, or is not in
    the file's encoding."""
    if len(text) - text.rfind("\n") > MAX_LINE:
        raise ValueError(f"the line has more than {MAX_LINE} characters")
    try:
        text.isascii() or text.encode()
    except UnicodeEncodeError:
        raise ValueError("the line is not UTF-8 (name another encoding, as in --read_csv "
                         "encoding=cp1252)") from None
    text = unified(text)
    if "\0" in text or "\r" in text:
        raise ValueError("the line has a control character")
    return text


def unreadable(path: Path, error: Exception) -> UserError:
    """Return the UserError for an `error` in reading or decompressing `path`."""
    if isinstance(error, OSError):
        return UserError(f"cannot read {path} ({error.strerror or error})")
    return UserError(f"{path}: the file is damaged ({error}). Compress it again.")


def open_binary(path: Path) -> Any:
    """Open `path`, decompressed. Raise UserError for an archive of several files, or locked."""
    with open(path, "rb") as file:
        start = file.read(6)
    for mark, opener in ((b"\x1f\x8b", gzip.open), (b"BZh", bz2.open), (b"\xfd7zXZ", lzma.open)):
        if start.startswith(mark):
            return opener(path)
    if not start.startswith(b"PK\3\4"):
        return open(path, "rb")
    archive = zipfile.ZipFile(path)
    names = [name for name in archive.namelist() if not HIDDEN.search(name)]
    with suppress(RuntimeError):  # a password, or another compression
        if len(names) == 1:
            return archive.open(names[0])
    raise UserError(f"{path}: the archive contains {len(names)} files, or needs a password or "
                    "another program. Unpack it, and name one of the files.")


def open_text(path: Path, encoding: str = "utf-8-sig", newline: str | None = "\n") -> TextIO:
    """Open `path` as text, decompressed and without a byte-order mark. Bytes that are not valid in
    `encoding` become surrogates, which cannot be encoded again."""
    return io.TextIOWrapper(open_binary(path), encoding, "surrogateescape", newline=newline)


def text_blocks(file: TextIO, quote: str = "") -> Iterator[str]:
    """Yield the rest of `file` in blocks of whole lines, some megabytes each. No block ends inside
    quotes. A line that is too long is cut, and nothing after it is read."""
    text = "\n"
    while text.endswith("\n") and (text := file.read(READ_BYTES)):
        end = len(text) + MAX_LINE
        while len(text) < end and (not text.endswith("\n") or quote and text.count(quote) % 2):
            if not (line := file.readline(MAX_LINE)):
                break
            text += line
        yield text
