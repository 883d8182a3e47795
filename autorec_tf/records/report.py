"""report.html: what a finished run is worth, on one page that needs nothing else.

It shows what config.json and summary.json hold, and what a person judges a model by: curves,
calibration, errors by rating, and what the model takes for similar. This file computes what the
page shows; its texts are those of the template beside it, which has no script and no address,
and escapes all values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from autorec_tf.config import Config
from autorec_tf.evaluation.metrics import RECONSTRUCTION
from autorec_tf.evaluation.similar_items import PopularItem
from autorec_tf.evaluation.slices import Bin
from autorec_tf.records.plots import draw_calibration, svg

CURVES_INCHES, CALIBRATION_INCHES = (5.8, 4.0), (5.0, 4.2)  # so that a phone shows their text


@dataclass(frozen=True)
class Neighbours:
    """An item with many training ratings, and the titles and similarities of those most like it."""

    title: str
    num_ratings: int
    nearest: Sequence[tuple[str, float]]


@dataclass
class ReportData:
    """What a report shows beside config.json and summary.json, as far as the run came."""

    curves: Figure | None = None
    by_value: Sequence[Bin] = ()
    calibration: Sequence[Bin] = ()
    neighbours: Sequence[Neighbours] = ()
    members: Sequence[Mapping[str, Any]] = ()


def neighbours_with_titles(popular: Sequence[PopularItem], item_ids: np.ndarray,
                           titles: Mapping[str, str]) -> list[Neighbours]:
    """Return `popular` with titles for indices; an item without one is called by its id."""

    def title(index: int) -> str:
        return titles.get(str(item_ids[index]), f"item {item_ids[index]}")

    return [
        Neighbours(title(item.index), item.num_ratings, [(title(i), x) for i, x in item.similar])
        for item in popular
    ]


def page(settings: Mapping[str, Any], summary: Mapping[str, Any], data: ReportData) -> str:
    """Return the report of a run: `settings` is its config.json, `summary` its summary.json."""
    defaults = Config().to_dict()
    return TEMPLATES.get_template("report.html").render(
        settings=settings, summary=summary, data=data, defaults=defaults,
        reconstruction=summary.get(RECONSTRUCTION),
        changed=[name for name in defaults if differs(settings[name], defaults[name])],
        curves=data.curves and svg(data.curves, CURVES_INCHES, "curves", curves_in_words(summary)),
        calibration=data.calibration and svg(
            draw_calibration(data.calibration), CALIBRATION_INCHES, "calibration",
            "Mean true rating against predicted rating; the table below has the numbers.",
        ),
    )


def curves_in_words(summary: Mapping[str, Any]) -> str:
    """Return what stands for the curves where they are not seen."""
    words = f"RMSE against epoch, {summary.get('epochs', 0)} epochs."
    if "final_test_rmse" in summary:
        words += (f" Training {summary['final_train_rmse']:.4f} at the end, test "
                  f"{summary['final_test_rmse']:.4f}.")
    return words


def differs(value: Any, default: Any) -> bool:
    """Return whether a setting is not its default; one that leaves it open never differs."""
    return default not in (None, (), "auto") and as_typed(value) != as_typed(default)


def as_typed(value: Any) -> str:
    """Return a setting, or a number of a table, as it is typed or read."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(as_typed, value)) or "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.5g}"
    return "–" if value is None else str(value)


def bar_style(value: float, largest: float, signed: bool) -> str:
    """Return the extent of the bar for `value`; a signed one begins in the middle."""
    fraction = value / largest if largest > 0 and np.isfinite(value / largest) else 0.0
    width = 100 * abs(fraction) / (2 if signed else 1)
    left = (50 - width if fraction < 0 else 50) if signed else 0
    return f"width:{width:.1f}%;margin-left:{left:.1f}%"


TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                        keep_trailing_newline=True)
TEMPLATES.filters |= {"number": format, "as_typed": as_typed, "bar_style": bar_style}
