"""Recognise tables of users x items, which are not lists of ratings, and convert them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.data.foreign import python
from autorec_tf.system.errors import UserError

NUMBER = re.compile(r"[-+]?(\d+[.,]?\d*|[.,]\d+)([eE][-+]?\d+)?", re.ASCII)
MARKS = (0.0, 99.0, -1.0)  # values that may mean "not rated"
BLANK = {"", "nan", "na", "null", "none", "-", "?"}
MANY = 20  # columns, which a list of ratings rarely has
FEW_TEXTS = 0.05  # fraction of the cells of a damaged table
FEW_COLUMNS = 5  # at least, without a header


def numbers_of(rows: Sequence[Sequence[str]], most_text: float = 0) -> np.ndarray | None:
    """Return cells as numbers, nan if blank: float64 [rows, columns]. Return None if more than the
    fraction `most_text` of the cells are text, which is 0."""
    cells = [[cell.strip().lower().replace(",", ".") for cell in row] for row in rows]
    texts = {x for row in cells for x in row if x not in BLANK and not NUMBER.fullmatch(x)}
    are_texts = [x in texts for row in cells for x in row]
    if not are_texts or np.mean(are_texts) > most_text:
        return None
    texts_as_0 = dict.fromkeys(BLANK, "nan") | dict.fromkeys(texts, "0")
    return np.array([[texts_as_0.get(x, x) for x in row] for row in cells], np.float64)


def is_one_kind(values: np.ndarray) -> bool:
    """Return whether all columns may be ratings on the same scale: most reach its upper half."""
    values = np.where(np.isin(values, MARKS), np.nan, values)
    values = values[:, ~np.isnan(values).all(0)]
    if not values.size:
        return False
    middle = np.nanquantile(values, [0.05, 0.95]).mean()
    return bool(np.mean(np.nanmax(values, 0) >= middle) >= 0.75)


def table_in(rows: Sequence[Sequence[str]], is_named: bool,
             is_numbered: bool) -> tuple[bool, str, float | None] | None:
    """Recognise a table: all columns but the first contain numbers on one scale.

    Args:
        rows: the fields of the first lines.
        is_named: whether the first field is the name of a column of ids.
        is_numbered: whether the first line is the header of pandas for columns without names.

    Returns:
        Whether there is a header, whether the first column contains "ids", a "rating" or "other"
        numbers, and the number that means "not rated"; None if `rows` are not a table.
    """
    width, names = len(rows[0]), rows[0]
    rows = [row for row in rows if len(row) == width]
    numbers, own = numbers_of([names[1:]]), numbers_of([row[:1] for row in rows[1:]])
    is_named = is_named or own is not None and not NUMBER.fullmatch(names[0])
    values = numbers_of([row[1:] for row in rows[1:]], FEW_TEXTS)
    if not (values is not None and np.isfinite(values).any()):
        return None
    has_header = is_named or not (numbers is not None and (np.any(np.diff(numbers) <= 0) or (
        numbers.max() <= np.nanmax(values) and width <= MANY)))
    body = rows[has_header:]
    if width < (3 if has_header else FEW_COLUMNS) or len(body) < (1 if is_named else 3):
        return None
    if not has_header and numbers is not None:
        values = np.concatenate([numbers, values])
    if not is_one_kind(values):
        return None
    pairs = {tuple(row[1:3]) for row in body}  # of user and item, after the row number
    if is_numbered and width <= FEW_COLUMNS and len(pairs) == len(body):
        return None
    kinds, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    common, num_blanks = float(kinds[counts.argmax()]), int(np.isnan(values).sum())
    mark = common if common in MARKS and counts.max() > num_blanks else None
    is_unique, first = len({row[0] for row in body}) == len(body), "other"
    if own is not None and np.mean(np.isin(own, values) | np.isnan(own)) > 0.9:
        first = "rating"
    if is_unique and not (own is not None and np.any(own % 1 != 0)):
        first = "ids"
    is_table = first == "ids" or width > MANY or first == "rating" and width >= FEW_COLUMNS and (
        num_blanks or mark is not None)
    return (has_header, first, mark) if is_table else None


def refuse_table(path: Path, arguments: Mapping[str, Any],
                 found: tuple[bool, str, float | None],
                 rows: Sequence[Sequence[str]]) -> UserError:
    """Return the error for the table `rows`, with the command that converts it. `arguments` are
    those of pandas.read_csv for this file."""
    has_header, first, mark = found
    if odd := [number for number, row in enumerate(rows, 1) if len(row) != len(rows[0])]:
        return UserError(f"{path}: a table of users x items with {len(rows[0])} columns, except in "
                         f"row {odd[0]}. Correct that row.")
    cells = {cell for row in rows[has_header:] for cell in row[1:]}
    commas = "," if any("," in cell for cell in cells) else ""
    blank = sorted({cell.strip() for cell in cells if cell.strip().lower() in BLANK} - {""})
    given = {"decimal": commas, "na_values": blank, **arguments}
    shown = {name: value for name, value in given.items() if value and f"{name}={value}" != "sep=,"}
    shown |= {} if has_header else {"header": None}
    code = "import pandas; pandas.read_csv(SOURCE"
    code += "".join(f", {name}={value!r}" for name, value in shown.items())
    code += {"ids": ", converters={0: str}, index_col=0)", "rating": ")",
             "other": ").iloc[:, 1:]"}[first]
    code += '.melt(var_name="item", value_name="rating", ignore_index=False).rename_axis("user")'
    code += f'.query("rating != {mark:g}")' if mark is not None else ""
    absent = f"{mark:g} is" if mark is not None else "blank cells are"
    return UserError(f"{path}: {len(rows[0])} columns with numbers of one kind: a table of "
                     f"users x items, not one rating per line. Convert it ({absent} taken for no "
                     f"rating) with {python(f'{code}.dropna().to_csv(TARGET)', path)}")
