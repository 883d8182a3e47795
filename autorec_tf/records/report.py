"""report.html: the report of a run, one self-contained page.

It shows the content of config.json and summary.json, the command that made the run, learning
curves, calibration, errors by rating, and similar items. This module computes the values; the texts
are in the template report.html, which has no scripts or links, and escapes all values.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure

from autorec_tf.config import Config, flag_fields
from autorec_tf.evaluation.metrics import RECONSTRUCTION
from autorec_tf.evaluation.similar_items import PopularItem
from autorec_tf.evaluation.slices import Bin
from autorec_tf.presets import CONVERGENCE
from autorec_tf.records.plots import draw_calibration, svg
from autorec_tf.resolution import over_members, over_preset
from autorec_tf.system.errors import printable
from autorec_tf.system.terminal import file_argument, shell

CURVES_INCHES, CALIBRATION_INCHES = (5.8, 4.0), (5.0, 4.2)  # so that text is readable on a phone
# Settings that the data or the machine determine if they are not given.
# Settings of the member `single`.
ADAPTED = ("tune", "hidden_neuron", "lambda_value", "input_scale", *CONVERGENCE)
RESOLVED = {"dataset", "rating_scale", "cold_rating", "lambda_factor", "engine"}
NOT_IN_COMMAND = {"preset", "num_splits", "run_name", "comet"}  # num_splits: each split has a run


@dataclass(frozen=True)
class Neighbours:
    """An item with many training ratings, and the titles and similarities of its nearest items."""

    title: str
    num_ratings: int
    nearest: Sequence[tuple[str, float]]


@dataclass
class ReportData:
    """The content of a report that is not in config.json or summary.json, as far as available.
    `given`: the names of the flags that the user gave, None if unknown."""

    curves: Figure | None = None
    by_value: Sequence[Bin] = ()
    calibration: Sequence[Bin] = ()
    neighbours: Sequence[Neighbours] = ()
    members: Sequence[Mapping[str, Any]] = ()
    given: Sequence[str] | None = None


def neighbours_with_titles(popular: Sequence[PopularItem], item_ids: np.ndarray,
                           titles: Mapping[str, str]) -> list[Neighbours]:
    """Return `popular` with titles instead of indices, or ids of items without a title."""

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
        command=equivalent_command(settings, data.given),
        curves=data.curves and svg(data.curves, CURVES_INCHES, "curves", curves_in_words(summary)),
        calibration=data.calibration and svg(
            draw_calibration(data.calibration), CALIBRATION_INCHES, "calibration",
            "Mean true rating against predicted rating; the table below has the numbers.",
        ),
    )


def equivalent_command(settings: Mapping[str, Any], given: Sequence[str] | None) -> str:
    """Return the command that repeats the run with these settings, without folders of the machine.

    The flags are the settings that differ from the preset, without results of --tune. `RESOLVED`
    settings are included only if they are in `given`, or if `given` is None, as in a resumed run.
    """
    hidden = NOT_IN_COMMAND | set(settings["tune"])
    if not (settings["tune"] or settings["members"]):
        hidden.add("lambda_factor")  # it has no effect
    preset = over_preset({"preset": settings["preset"]})
    overridden = {*member_overrides(settings), *preset.tune}
    files, command = settings.get("files", {}), ["python", "main.py"]
    if settings["preset"] != Config.preset:
        command += ["--preset", settings["preset"]]
    for name in (f.name for f in flag_fields()):
        value = settings.get(name)
        if name in hidden or value in (None, ()):
            continue
        is_default = value == getattr(preset, name)
        if name == "split_seed":
            is_default = value == settings["random_seed"]
        elif name in RESOLVED and value != "synthetic" and given is not None:
            is_default = name not in given
        if name in overridden or not is_default:
            command += [f"--{name}", *flag_values(value, files.get(name))]
    if settings.get("replicas", 1) > 1:
        command += ["--distribute", "workers" if settings["workers"] > 1 else "mirrored"]
    return printable(shell(command))


def member_overrides(settings: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the settings that override those of the members of a blend."""
    blend = Config(members=settings["members"], lambda_factor=settings["lambda_factor"])
    adapted = [  # to the data, as in every run on them
        {name: member[name] for name in ADAPTED if name in member}
        for member in settings["member_settings"] if member.get("tune")
    ]
    every = over_members(blend, (), *adapted[:1])
    for actual, usual in zip(settings["member_settings"], every, strict=False):
        yield from (name for name in actual if actual[name] != usual.get(name))


def flag_values(value: Any, file_name: str | None) -> list[str]:
    """Return the words after a flag for `value`, or for the user's file called `file_name`."""
    if file_name:
        return [file_argument(file_name if file_name == value else os.path.join(".", file_name))]
    if isinstance(value, (list, tuple)):
        return [word for each in value for word in flag_values(each, None)]
    if isinstance(value, float):
        return [f"{value:g}" if float(f"{value:g}") == value else repr(value)]
    return [str(value).lower() if isinstance(value, bool) else str(value)]


def curves_in_words(summary: Mapping[str, Any]) -> str:
    """Return the description of the curves for screen readers."""
    words = f"RMSE against epoch, {summary.get('epochs', 0)} epochs."
    if "final_test_rmse" in summary:
        words += (f" Training {summary['final_train_rmse']:.4f} at the end, test "
                  f"{summary['final_test_rmse']:.4f}.")
    return words


def differs(value: Any, default: Any) -> bool:
    """Return whether a setting differs from its default; an open default never differs."""
    return default not in (None, (), "auto") and as_typed(value) != as_typed(default)


def as_typed(value: Any) -> str:
    """Return a setting, or a number of a table, as text."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(as_typed, value)) or "–"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.5g}"
    return "–" if value is None else str(value)


def bar_style(value: float, largest: float, signed: bool) -> str:
    """Return the CSS width and margin of the bar for `value`; a signed bar begins in the middle."""
    fraction = value / largest if largest > 0 and np.isfinite(value / largest) else 0.0
    width = 100 * abs(fraction) / (2 if signed else 1)
    left = (50 - width if fraction < 0 else 50) if signed else 0
    return f"width:{width:.1f}%;margin-left:{left:.1f}%"


def shown(value: Any) -> Any:
    """Return a value of the template; text that is not marked safe becomes printable."""
    return printable(value) if type(value) is str else value


TEMPLATES = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True,
                        finalize=shown,
                        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
                        keep_trailing_newline=True)
TEMPLATES.filters |= {"number": format, "as_typed": as_typed, "bar_style": bar_style}
