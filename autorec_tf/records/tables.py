"""Markdown tables, and the numbers in them."""

from collections.abc import Iterable, Sequence

from autorec_tf.system.errors import printable


def line(*cells: object) -> str:
    """Return one row."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*names: str) -> str:
    """Return the two lines above the rows."""
    return f"{line(*names)}\n|{' --- |' * len(names)}"


def table(names: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a whole table."""
    return "\n".join([head(*names), *(line(*cells) for cells in rows)])


def aligned_table(rows: Sequence[dict[str, str]]) -> str:
    """Return a table of `rows`, all with the same keys, whose columns also align as plain text."""
    lines = [list(rows[0]), *(list(row.values()) for row in rows)]
    lines = [[printable(cell).replace("|", "\\|") for cell in cells] for cells in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(
        line(*(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)))
        for cells in lines
    )


def with_interval(mean: float, half: float | None) -> str:
    """Return a mean, and half its interval, if it has one, as "0.8310 ± 0.0030"."""
    return f"{mean:.4f}" if half is None else f"{mean:.4f} ± {half:.4f}"
