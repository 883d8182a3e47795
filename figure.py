"""The picture of a run: RMSE against epoch."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from records import EpochMetrics

PAPER_RMSE = {"item": 0.831, "user": 0.874}  # Table 1(a), ML-1M
TRAIN_COLOR, TEST_COLOR, PAPER_COLOR = "#7a8ba0", "#c8452f", "#333333"


def draw_rmse(
    path: Path, metrics: Sequence[EpochMetrics], dataset: str, orientation: str
) -> None:
    """Draw training and test RMSE of `metrics` into the PNG file `path`.

    The paper's RMSE is a thin line, on its own dataset only. The first epochs may leave the
    picture at the top: the axis is made for the rest.
    """
    evaluated = [m for m in metrics if m.test_rmse is not None]
    curves = [
        ("training (running)", TRAIN_COLOR, metrics, [m.train_rmse for m in metrics]),
        ("test", TEST_COLOR, evaluated, [m.test_rmse for m in evaluated]),
    ]
    with matplotlib.rc_context({"font.size": 11, "axes.spines.top": False,
                                "axes.spines.right": False}):  # fmt: skip
        figure = Figure(figsize=(8, 4.2), dpi=120, layout="constrained")
        axes = figure.add_subplot()
        for name, color, points, values in curves:
            marker = "o" if len(points) < 30 else None
            label = f"{name}: {values[-1]:.4f} at the end" if values else name
            axes.plot([m.epoch for m in points], values, color=color, marker=marker,
                      markersize=3, label=label)  # fmt: skip
        shown = [value for *_, values in curves for value in values[len(values) // 25 :]]
        if dataset == "ml-1m":
            paper = PAPER_RMSE[orientation]
            axes.axhline(paper, color=PAPER_COLOR, linewidth=0.8, linestyle="--",
                         label=f"paper's test RMSE: {paper}")  # fmt: skip
            shown.append(paper)
        margin = 0.05 * (max(shown) - min(shown)) or 0.05
        axes.set_ylim(min(shown) - margin, max(shown) + margin)
        axes.set(xlabel="epoch", ylabel="RMSE", title=f"AutoRec on {dataset}, {orientation} rows")
        axes.grid(axis="y", color="#e4e4e4", linewidth=0.8)
        axes.legend(frameon=False)
        figure.savefig(path)
