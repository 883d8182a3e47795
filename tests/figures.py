"""Runs of this process whose figures are empty: to draw them takes longer than to train."""

from functools import wraps

import pytest


def undrawn(function):
    """`function`, but runs that it makes write empty figures."""

    @wraps(function)
    def without_figures(*arguments, **settings):
        from autorec_tf.records import report, run_records

        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in ("draw_rmse", "draw_slices"):
                monkeypatch.setattr(run_records, name, lambda *_: "a figure")
            monkeypatch.setattr(run_records, "write_png", lambda path, _: path.write_bytes(b""))
            monkeypatch.setattr(report, "draw_calibration", lambda *_: "a figure")
            monkeypatch.setattr(report, "svg", lambda *_: "<svg/>")
            return function(*arguments, **settings)

    return without_figures


# main.py without figures, as the first arguments of a `Fork`.
MAIN_UNDRAWN = "-c", """
import sys
from autorec_tf.system.runtime import import_tensorflow, leave
import_tensorflow()
import main
from tests.figures import undrawn
leave(undrawn(main.main)(sys.argv[1:]))
"""
