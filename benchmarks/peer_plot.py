"""The figure of peers: test RMSE against seconds, with the front of the methods that no other
method beats in both."""

from collections.abc import Collection, Iterator, Sequence
from itertools import product

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.ticker import LogLocator, NullLocator
from matplotlib.transforms import Bbox

from autorec_tf.records.plots import TEST_COLOR, style

DOT, GAP = 5, 2  # pixels: half of a dot, and between a label and everything else
PEER_COLOR = "#55657a"
DISTANCES = (9, 18, 30, 45, 64, 90)  # points, from a dot to its label
Point = tuple[str, float, float, list[float]]  # row, mean seconds, mean RMSE, RMSE of each split


def front(points: Sequence[tuple[str, float, float]]) -> list[str]:
    """Return the names of the (name, seconds, RMSE) that none beats in both, fastest first."""
    names, lowest = [], float("inf")
    for name, _, rmse in sorted(points, key=lambda point: point[1:]):
        if rmse < lowest:
            names.append(name)
            lowest = rmse
    return names


def draw(points: Sequence[Point], ours: Collection[str]) -> Figure:
    """Return the figure: a dot for the mean of each row, a dash for each split, and a line through
    the front. The rows of `ours` have another color."""
    with style():
        figure = Figure(figsize=(8, 6), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        axes.set(xscale="log", xlabel="seconds", ylabel="test RMSE",
                 title="MovieLens-1M: AutoRec (red) and its peers, mean and each split")
        axes.margins(x=0.12, y=0.08)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.grid(color="#e4e4e4", linewidth=0.8)
        axes.set_axisbelow(True)
        places = {name: (seconds, rmse) for name, seconds, rmse, _ in points}
        best = [places[name] for name in front([point[:3] for point in points])]
        (line,) = axes.plot(*zip(*best, strict=True), color="#333333", linewidth=0.9, zorder=1)
        line.set_label("front: no other method is faster and better")
        for name, seconds, rmse, each in points:
            color = TEST_COLOR if name in ours else PEER_COLOR
            axes.plot(seconds, rmse, "o", color=color, markersize=6)
            axes.plot([seconds] * len(each), each, "_", color=color, markersize=9)
        axes.legend(frameon=False, loc="upper right")
        figure.draw_without_rendering()  # the layout, which labels depend on
        figure.set_layout_engine("none")
        place_labels(axes, points, ours, line.get_path().transformed(axes.transData))
    return figure


def place_labels(
    axes: Axes, points: Sequence[Point], ours: Collection[str], line: Path
) -> None:
    """Add the name of each row near its dot, where it covers no dot, dash, label or `line`."""
    taken = [box_around(axes, seconds, [rmse, *each]) for _, seconds, rmse, each in points]
    legend = axes.get_legend()
    if legend:
        taken.append(legend.get_window_extent())
    left, low, right, high = axes.get_window_extent().extents
    for name, seconds, rmse, _ in points:
        color = TEST_COLOR if name in ours else PEER_COLOR
        for label in candidates(axes, name, (seconds, rmse), color):
            box = box_of(label).padded(GAP)
            x0, y0, x1, y1 = box.extents
            is_inside = left <= x0 and x1 <= right and low <= y0 and y1 <= high
            if is_inside and not box.count_overlaps(taken) and not line.intersects_bbox(box, False):
                break
            label.remove()
        else:
            label = axes.annotate(name, (seconds, rmse), (9, 0), textcoords="offset points")
        taken.append(box_of(label))


def box_around(axes: Axes, seconds: float, rmses: Sequence[float]) -> Bbox:
    """Return the box of a dot and its dashes, in pixels."""
    (x, low), (_, high) = axes.transData.transform([(seconds, min(rmses)), (seconds, max(rmses))])
    return Bbox.from_extents(x - DOT, low - DOT, x + DOT, high + DOT)


def box_of(label: Annotation) -> Bbox:
    """Return the box of a label, without the line to its dot, in pixels."""
    label.get_window_extent()  # computes the position
    return Text.get_window_extent(label)


def candidates(
    axes: Axes, name: str, place: tuple[float, float], color: str
) -> Iterator[Annotation]:
    """Yield labels around `place`, the nearest first; those further away have a thin line."""
    sides = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
    for distance, (x, y) in product(DISTANCES, sides):
        arrow = {"arrowstyle": "-", "color": color, "linewidth": 0.6, "shrinkA": 1, "shrinkB": 4}
        yield axes.annotate(
            name, place, (x * distance, y * distance), color=color, textcoords="offset points",
            ha={1: "left", 0: "center", -1: "right"}[x],
            va={1: "bottom", 0: "center", -1: "top"}[y],
            arrowprops=arrow if distance > DISTANCES[0] else None,
        )
