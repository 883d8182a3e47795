"""What the pictures show, read back from the figure that was drawn."""

import math
import xml.etree.ElementTree
from itertools import combinations

import pytest
from matplotlib.text import Text

from autorec_tf.evaluation.metrics import EpochMetrics, Scores
from autorec_tf.evaluation.slices import SLICE_EDGES, Bin, Slice
from autorec_tf.records.plots import draw_calibration, draw_rmse, draw_slices, svg, write_png
from tests.facts import assert_names


def part(low, high, rmse, num_ratings):
    """A slice in which the biases have an RMSE of 0.03 more."""
    scores, biases = (Scores(x, 0.7, x**2 * num_ratings, num_ratings) for x in (rmse, rmse + 0.03))
    return Slice(low, high, scores, biases, 0.01)


BY_USER = [part(10, 19, 1.2, 100), part(20, 49, 0.8, 300)]
BY_ITEM = [part(0, 0, 1.5, 10), part(1, 9, 1.0, 200), part(1000, None, 0.8, 190)]


def test_a_name_is_drawn_as_it_is_and_not_as_a_formula_or_reversed(tmp_path):
    figure = draw_slices(BY_USER, BY_ITEM, r"a$\frac$b\u202e" + "\u202e", "item")
    assert_names(figure.get_suptitle(), r"a$\frac$b\u202e\u202e")
    write_png(tmp_path / "slices.png", figure)  # a formula would be an error
    metrics = EpochMetrics(1, 0.1, 1.0, 0.9, 1.0, 0.8, 0.9, None, None, 1.0, 1.0)
    figure = draw_rmse([metrics], "$x_$", "item")
    assert_names(svg(figure, (5, 4), "curves", "RMSE"), "$x_$")


def laid_out(*arguments):
    figure = draw_slices(*arguments)
    figure.draw_without_rendering()
    return figure


def texts_in_view(figure):
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


def test_a_point_stands_at_the_rmse_of_each_slice_beside_its_label_and_count():
    figure = laid_out(BY_USER, BY_ITEM, "ml-1m", "item")
    assert_names(figure.get_suptitle(), "ml-1m", "item")
    for axes, parts, names, counts, what in zip(
        figure.axes,
        (BY_USER, BY_ITEM),
        (["10–19", "20–49"], ["0", "1–9", "1,000+"]),
        (["100", "300"], ["10", "200", "190"]),
        ("user", "item"),
        strict=True,
    ):
        _, line, of_biases = axes.lines
        assert list(line.get_xdata()) == [p.scores.rmse for p in parts]
        assert list(of_biases.get_xdata()) == [p.biases.rmse for p in parts]
        for each in (line, of_biases):
            assert list(each.get_ydata()) == list(axes.get_yticks()) == list(range(len(parts)))
        assert labels(axes.yaxis) == names
        (right,) = axes.child_axes
        assert labels(right.yaxis) == counts
        assert list(right.get_yticks()) == list(line.get_ydata())
        assert_names(axes.get_title("left"), "training", what)


def test_the_line_is_the_rmse_of_all_test_ratings_and_not_the_mean_of_the_slices():
    figure = draw_slices(BY_USER, BY_ITEM, "ml-1m", "item")
    overall = math.sqrt((1.2**2 * 100 + 0.8**2 * 300) / 400)
    for axes in figure.axes:
        assert axes.lines[0].get_xdata() == pytest.approx([overall] * 2, rel=1e-12)
    text, model, biases = (each.get_text() for each in figure.legends[0].get_texts())
    assert_names(text, "test", f"{overall:.4f}")
    assert "AutoRec" in model and "biases" in biases


@pytest.mark.parametrize("num_slices", [1, 2, len(SLICE_EDGES)])
def test_no_two_texts_overlap_and_none_leaves_the_picture(num_slices):
    highs = [*(edge - 1 for edge in SLICE_EDGES[1:]), None]
    full = [
        part(low, high, 1.9 - 0.1234 * k, 12_345_678)
        for k, (low, high) in enumerate(zip(SLICE_EDGES, highs, strict=True))
    ]
    figure = laid_out(full[-num_slices:], full, "synthetic", "user")
    texts = texts_in_view(figure)
    boxes = [text.get_window_extent() for text in texts]
    assert len(boxes) > 2 * (num_slices + len(full))
    # A single point has its value beside it.
    values = {text.get_text() for text in texts} & {f"{full[-1].scores.rmse:.4f}",
                                                    f"{full[-1].biases.rmse:.4f}"}
    assert len(values) == (2 if num_slices == 1 else 0)
    assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
    width, height = figure.bbox.size
    assert all(0 <= box.x0 and box.x1 <= width for box in boxes)
    assert all(0 <= box.y0 and box.y1 <= height for box in boxes)


@pytest.mark.parametrize("rmse", [math.nan, 0.8])
def test_a_model_gets_its_picture_even_if_it_diverged(rmse, tmp_path):
    parts = [part(0, 9, rmse, 10), part(10, None, rmse, 10)]
    write_png(tmp_path / "slices.png", draw_slices(parts, parts, "ml-1m", "item"))
    assert (tmp_path / "slices.png").read_bytes().startswith(b"\x89PNG")


def bin_of(mean_rating, mean_prediction, num_ratings):
    return Bin(1, 2, mean_rating, mean_prediction, Scores(1, 1, num_ratings, num_ratings))


def test_a_point_of_the_calibration_is_mean_rating_over_mean_prediction():
    figure = draw_calibration([bin_of(1.5, 1.2, 10), bin_of(4, 3.5, 30)])
    (axes,) = figure.axes
    diagonal, line = axes.lines
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == [1.2, 4]
    assert (list(line.get_xdata()), list(line.get_ydata())) == ([1.2, 3.5], [1.5, 4])
    (points,) = axes.collections
    assert points.get_offsets().tolist() == [[1.2, 1.5], [3.5, 4]]
    small, large = points.get_sizes() - 8
    assert large == 3 * small > 0


def epoch(number, train_rmse, test_rmse):
    return EpochMetrics(number, 0.1, 1.0, train_rmse, 1.0, test_rmse, 0.5, None, None, 1.0, 1.0)


def test_a_figure_saved_as_png_is_also_an_svg_for_a_page(tmp_path):
    figure = draw_rmse([epoch(1, 1.2, 1.1), epoch(2, 1.0, 0.95)], "ml-1m", "item")
    write_png(tmp_path / "rmse.png", figure)
    assert [path.name for path in tmp_path.iterdir()] == ["rmse.png"]
    texts = [svg(figure, (5, 4), name, 'a "curve" <b>') for name in ("one", "two")]
    assert texts[0] == svg(figure, (5, 4), "one", 'a "curve" <b>')
    ids = []
    for name, text in zip(("one", "two"), texts, strict=True):
        root = xml.etree.ElementTree.fromstring(
            text.replace("<svg ", '<svg xmlns:xlink="http://www.w3.org/1999/xlink" ', 1)
        )
        assert root.get("aria-label") == 'a "curve" <b>' and root.get("role") == "img"
        assert root.get("viewBox") == "0 0 360 288" and root.get("width") is None
        own = [node.get("id") for node in root.iter() if node.get("id")]
        links = [value for node in root.iter() for key, value in node.items() if "href" in key]
        clips = [node.get("clip-path") for node in root.iter() if node.get("clip-path")]
        assert len(set(own)) == len(own) > 10 and links and clips
        assert all(each.startswith(f"{name}-") for each in own)
        assert {link.removeprefix("#") for link in links} <= set(own)
        assert {clip.removeprefix("url(#").removesuffix(")") for clip in clips} <= set(own)
        words = "".join(root.itertext())
        assert "test: 0.9500" in words and "matplotlib" not in words.lower()
        ids += own
    assert len(set(ids)) == len(ids)
