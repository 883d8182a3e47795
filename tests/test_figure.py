"""What the pictures show, read back from the figure that was drawn."""

import math
from itertools import combinations

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from figure import draw_slices
from scoring import SLICE_EDGES, Scores, Slice


def part(low, high, rmse, num_ratings):
    return Slice(low, high, Scores(rmse, 0.7, rmse**2 * num_ratings, num_ratings, 0))


BY_USER = [part(10, 19, 1.2, 100), part(20, 49, 0.8, 300)]
BY_ITEM = [part(0, 0, 1.5, 10), part(1, 9, 1.0, 200), part(1000, None, 0.8, 190)]


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """A function that draws slices and returns the figure, laid out, and its PNG's bytes."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda self, path: (figures.append(self), save(self, path))
    )

    def draw(*arguments):
        draw_slices(tmp_path / "slices.png", *arguments)
        return figures[-1], (tmp_path / "slices.png").read_bytes()

    return draw


def shown_texts(figure):
    """The texts of the figure but the labels of ticks beyond the ends of the RMSE axis."""
    beyond = set()
    for axes in figure.axes:
        for value, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
            if not axes.get_xlim()[0] <= value <= axes.get_xlim()[1]:
                beyond.add(label)
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    return [text for text in texts if text not in beyond]


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def test_a_point_stands_at_the_rmse_of_each_slice_beside_its_label_and_count(drawn):
    figure, png = drawn(BY_USER, BY_ITEM, "ml-1m", "item")
    assert png.startswith(b"\x89PNG")
    assert figure.get_suptitle() == "AutoRec on ml-1m, item rows"
    for axes, parts, names, counts, what in zip(
        figure.axes,
        (BY_USER, BY_ITEM),
        (["10–19", "20–49"], ["0", "1–9", "1,000+"]),
        (["100", "300"], ["10", "200", "190"]),
        ("user", "item"),
        strict=True,
    ):
        line = axes.lines[1]
        assert list(line.get_xdata()) == [p.scores.rmse for p in parts]
        assert list(line.get_ydata()) == list(axes.get_yticks()) == list(range(len(parts)))
        assert labels(axes.yaxis) == names
        (right,) = axes.child_axes
        assert labels(right.yaxis) == counts
        assert list(right.get_yticks()) == list(line.get_ydata())
        assert axes.get_title("left") == f"training ratings of the {what}"


def test_the_line_is_the_rmse_of_all_test_ratings_and_not_the_mean_of_the_slices(drawn):
    figure, _ = drawn(BY_USER, BY_ITEM, "ml-1m", "item")
    overall = math.sqrt((1.2**2 * 100 + 0.8**2 * 300) / 400)
    for axes in figure.axes:
        assert axes.lines[0].get_xdata() == pytest.approx([overall] * 2, rel=1e-12)
    (text,) = figure.legends[0].get_texts()
    assert text.get_text() == f"all test ratings: {overall:.4f}"


@pytest.mark.parametrize("num_slices", [1, 2, len(SLICE_EDGES)])
def test_no_two_texts_overlap_and_none_leaves_the_picture(drawn, num_slices):
    highs = [*(edge - 1 for edge in SLICE_EDGES[1:]), None]
    full = [
        part(low, high, 1.9 - 0.1234 * k, 12_345_678)
        for k, (low, high) in enumerate(zip(SLICE_EDGES, highs, strict=True))
    ]
    figure, _ = drawn(full[-num_slices:], full, "synthetic", "user")
    boxes = [text.get_window_extent() for text in shown_texts(figure)]
    assert len(boxes) > 2 * (num_slices + len(full))
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    width, height = figure.bbox.size
    assert all(0 <= box.x0 and box.x1 <= width for box in boxes)
    assert all(0 <= box.y0 and box.y1 <= height for box in boxes)


def test_a_diverged_model_still_gets_its_picture(drawn):
    parts = [part(0, 9, math.nan, 10), part(10, None, math.nan, 10)]
    assert drawn(parts, parts, "ml-1m", "item")[1].startswith(b"\x89PNG")
