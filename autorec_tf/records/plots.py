"""The figures of a run: RMSE against epoch, RMSE against the number of training ratings, and
calibration. A figure is drawn once, and saved as PNG, as SVG, or as both."""

import html
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from autorec_tf.evaluation.metrics import RECONSTRUCTION, EpochMetrics
from autorec_tf.evaluation.slices import Bin, Slice
from autorec_tf.system.errors import printable
from autorec_tf.system.files import atomic_write

PAPER_RMSE = {"item": 0.831, "user": 0.874}  # Table 1(a), ML-1M
TRAIN_COLOR, TEST_COLOR, PAPER_COLOR = "#7a8ba0", "#c8452f", "#333333"
BIASES_COLOR = "#4a6fa5"
VALIDATION_COLOR, LEAKING_COLOR = "#2f7d5b", "#b08a2e"
STYLE = {"font.size": 11, "axes.spines.top": False, "axes.spines.right": False,
         "svg.fonttype": "none", "svg.hashsalt": "AutoRec",  # text as text, fixed ids
         "text.parse_math": False}  # a $ in a name is a $


@contextmanager
def style() -> Iterator[None]:
    """Draw in the style of this module, without warnings about missing glyphs in file names."""
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def write_png(path: Path, figure: Figure) -> None:
    """Write `figure` to `path`."""
    with style(), atomic_write(path) as unfinished:
        figure.savefig(unfinished, format="png")


def svg(figure: Figure, size: tuple[float, float], name: str, description: str) -> str:
    """Return `figure`, resized to `size` inches, as an SVG element for an HTML page.

    Its ids begin with `name`, so a page can contain several figures. `description` is the text for
    screen readers. The figure fills the available width, and uses the font of the page.
    """
    no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    text = io.StringIO()
    with style():
        figure.set_size_inches(size)
        figure.savefig(text, format="svg", metadata=no_metadata)
    content = text.getvalue()
    ((box, content),) = re.findall(r'<svg [^>]*(viewBox="[^"]*")[^>]*>(.*)', content, re.S)
    content = re.sub(r' id="|url\(#|xlink:href="#', rf"\g<0>{name}-", content)
    return f'<svg {box} role="img" aria-label="{html.escape(description)}">{content}'


def heading(dataset: str, orientation: str) -> str:
    return f"AutoRec on {printable(dataset)}, {orientation} rows"


def draw_rmse(metrics: Sequence[EpochMetrics], dataset: str, orientation: str) -> Figure:
    """Return a figure of the training and test RMSE of each epoch in `metrics`.

    On MovieLens-1M, a thin line shows the paper's RMSE. The first epochs may be above the top of
    the axis, which fits the later epochs.
    """
    curves = []
    for label, color, column in (
        ("training (running)", TRAIN_COLOR, "train_rmse"),
        ("test", TEST_COLOR, "test_rmse"),
        ("validation", VALIDATION_COLOR, "validation_rmse"),
        ("reconstruction (test ratings as input)", LEAKING_COLOR, RECONSTRUCTION),
    ):
        points = [m for m in metrics if getattr(m, column) is not None]
        if points or column == "test_rmse":
            curves.append((label, color, points, [getattr(m, column) for m in points]))
    with style():
        figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for name, color, points, values in curves:
            marker = "o" if len(points) < 30 else None
            label = f"{name}: {values[-1]:.4f} at the end" if values else name
            axes.plot([m.epoch for m in points], values, color=color, marker=marker,
                      markersize=3, label=label)
        in_view = [value for *_, values in curves for value in values[len(values) // 25 :]]
        if dataset == "ml-1m":
            paper = PAPER_RMSE[orientation]
            axes.axhline(paper, color=PAPER_COLOR, linewidth=0.8, linestyle="--",
                         label=f"paper's test RMSE: {paper}")
            in_view.append(paper)
        margin = 0.05 * (max(in_view) - min(in_view)) or 0.05
        axes.set_ylim(min(in_view) - margin, max(in_view) + margin)
        axes.set(xlabel="epoch", ylabel="RMSE", title=heading(dataset, orientation))
        axes.locator_params("x", integer=True)
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.legend(frameon=False)
    return figure


def draw_slices(by_user: Sequence[Slice], by_item: Sequence[Slice], dataset: str,
                orientation: str) -> Figure:
    """Return a figure of the test RMSE of each slice, of the model and of the biases, with its
    number of test ratings: users by number of training ratings on the left, items on the right.

    Both panels slice the same test ratings; a line in each shows the RMSE of all test ratings.
    """
    squared_error = sum(part.scores.squared_error for part in by_user)
    overall = float(np.sqrt(squared_error / sum(part.scores.num_ratings for part in by_user)))
    with style():
        height = 2.1 + 0.3 * max(len(by_user), len(by_item))
        figure = Figure(figsize=(9, height), dpi=120, layout="constrained")
        left, right = figure.subplots(1, 2, sharex=True)
        draw_panel(left, by_user, overall, "user")
        draw_panel(right, by_item, overall, "item")
        figure.legend(handles=left.lines, loc="outside lower center", ncols=3, frameon=False)
        figure.suptitle(heading(dataset, orientation))
    return figure


def draw_panel(axes: Axes, parts: Sequence[Slice], overall: float, side: str) -> None:
    """Draw the RMSEs of each slice, from few training ratings (top) to many, and its number of test
    ratings. `side`: "user" or "item"."""
    positions = range(len(parts))
    axes.axvline(overall, color=PAPER_COLOR, linewidth=0.8, linestyle="--",
                 label=f"all test ratings: {overall:.4f}")
    for name, label, color, marker, offset in (
        ("scores", "AutoRec", TEST_COLOR, "o", 8),
        ("biases", "biases of users and items", BIASES_COLOR, "s", -16),
    ):
        rmses = [getattr(part, name).rmse for part in parts]
        axes.plot(rmses, positions, color=color, marker=marker, markersize=5, linewidth=1,
                  label=label)
        if len(parts) == 1 and np.isfinite(rmses[0]):  # without a line, a point needs its value
            axes.annotate(f"{rmses[0]:.4f}", (rmses[0], 0), (0, offset), ha="center", color=color,
                          textcoords="offset points")
            axes.margins(x=0.2)
    axes.set_yticks(positions, [part.label for part in parts])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlabel("test RMSE")
    axes.set_title(f"training ratings of the {side}", loc="left", fontsize=11)
    axes.grid(axis="x", color="#e4e4e4", linewidth=0.8)
    counts = axes.secondary_yaxis("right")
    counts.set_yticks(positions, [f"{part.scores.num_ratings:,}" for part in parts])
    counts.tick_params(length=0, labelcolor=TRAIN_COLOR)
    counts.spines["right"].set_visible(False)
    axes.annotate("test ratings", (1, 1), (4, 6), xycoords="axes fraction", color=TRAIN_COLOR,
                  textcoords="offset points")


def draw_calibration(parts: Sequence[Bin]) -> Figure:
    """Return a figure of the mean true rating of each bin against its mean prediction. The area of
    a point is its fraction of the test ratings. The dashed line is perfect calibration."""
    predictions, ratings = ([getattr(part, name) for part in parts]
                            for name in ("mean_prediction", "mean_rating"))
    total = sum(part.scores.num_ratings for part in parts)
    ends = [min(predictions + ratings), max(predictions + ratings)]
    with style():
        figure = Figure(figsize=(5, 4.2), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(ends, ends, color=PAPER_COLOR, linewidth=0.8, linestyle="--",
                  label="perfect calibration")
        axes.plot(predictions, ratings, color=TEST_COLOR, linewidth=1)
        axes.scatter(predictions, ratings, [8 + 400 * p.scores.num_ratings / total for p in parts],
                     color=TEST_COLOR, zorder=3, label="bins of test ratings (area: number)")
        axes.set(xlabel="predicted rating", ylabel="mean true rating")
        axes.set_aspect("equal", adjustable="datalim")
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.legend(frameon=False, scatterpoints=1)
    return figure
