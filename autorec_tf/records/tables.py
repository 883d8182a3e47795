"""Tables for people: Markdown, the numbers in it, and CSV for spreadsheets."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from autorec_tf.system.errors import printable

# What needs a backslash: one before punctuation, and the marks of emphasis, code, links and cells.
MARKDOWN = re.compile(r"\\(?=[!-/:-@\[-`{-~])|[`*~\[\]|]|(?<=:)//|(?<=\bwww)\.", re.IGNORECASE)
HTML = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
FORMULA = re.compile(r"[\s\ufeff]*[=+@\-\uff1d\uff0b\uff20\uff0d]")  # also in full width
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)


def as_markdown(text: str) -> str:
    """Return text that Markdown shows as it is: without HTML, links, emphasis and new cells."""
    return MARKDOWN.sub(r"\\\g<0>", printable(text)).translate(HTML)


def for_spreadsheet(cell: Any) -> Any:
    """Return a cell of a CSV file that a spreadsheet opens as text: an apostrophe precedes text
    that would otherwise be a formula, and text is printable. Numbers remain."""
    if not isinstance(cell, str):
        return cell
    is_formula = FORMULA.match(cell) and not NUMBER.fullmatch(cell)
    return f"'{printable(cell)}" if is_formula else printable(cell)


def line(*cells: object) -> str:
    """Return one row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*names: str) -> str:
    """Return the two header lines of a table."""
    return f"{line(*names)}\n|{' --- |' * len(names)}"


def table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a complete table."""
    return "\n".join([head(*names), *(line(*cells) for cells in rows)])


def aligned_table(rows: Sequence[dict[str, str]]) -> str:
    """Return a table of `rows`, which have the same keys, with columns aligned as plain text."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    lines = [[as_markdown(cell) for cell in cells] for cells in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(
        line(*(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)))
        for cells in lines
    )


def with_interval(mean: float, half: float | None) -> str:
    """Return a mean and half its interval, if there is one, as "0.8310 ± 0.0030"."""
    return f"{mean:.4f}" if half is None else f"{mean:.4f} ± {half:.4f}"
