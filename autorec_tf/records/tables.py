"""Markdown tables, and the numbers in them."""

from collections.abc import Iterable, Sequence

from autorec_tf.system.errors import printable


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
    lines = [[printable(cell).replace("|", "\\|") for cell in cells] for cells in lines]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    lines.insert(1, ["-" * max(width, 3) for width in widths])
    return "\n".join(
        line(*(f"{cell:{width}}" for cell, width in zip(cells, widths, strict=True)))
        for cells in lines
    )


def with_interval(mean: float, half: float | None) -> str:
    """Return a mean and half its interval, if there is one, as "0.8310 ± 0.0030"."""
    return f"{mean:.4f}" if half is None else f"{mean:.4f} ± {half:.4f}"
