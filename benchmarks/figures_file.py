"""The JSON file of a benchmark's figures (--json FILE), checked before anything is measured."""

import json
import tempfile
from pathlib import Path

from autorec_tf.system.errors import UserError


def check_writable(path: Path | None) -> None:
    """Create the folder of the file at `path`, if one was given. Raise UserError if the figures
    cannot be written there."""
    if not path:
        return
    if path.is_dir():
        raise UserError(f"--json {path}: this is a folder. Name a file.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise UserError(f"--json {path}: cannot write there ({error.strerror}). Name a file in "
                        "another folder.") from error


def read_earlier(path: Path | None) -> dict[str, float]:
    """Return the figures in the file at `path`, or {} without such a file. Raise UserError if it
    has anything else than a JSON object of numbers."""
    if not path or not path.exists():
        return {}
    remedy = "Name another file, or remove this one."
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"--json {path}: cannot read it as JSON ({error}). {remedy}") from error
    if not isinstance(figures, dict) or not all(
            type(value) in (int, float) for value in figures.values()):
        raise UserError(f"--json {path}: this is not a JSON object of numbers. {remedy}")
    return figures
