"""Checkpoints: the state of a training, always complete on disk."""

import json
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.config import BEFORE, Config
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import read_json, sync, write_json

VERSION = 1
FIELDS = {"version": int, "epoch": int, "seconds": float, "metrics": dict, "settings": dict}
# For settings that the version which wrote a checkpoint did not have.
DEFAULTS = json.loads(json.dumps(Config().to_dict())) | BEFORE


class Checkpoint:
    """The state of a training in `folder`, in files whose names begin with `name`.

    `name`.json contains the epoch, the `settings`, and further entries of `save`; the variables are
    in the TensorFlow checkpoint `name`-<epoch>. The JSON file is replaced when the variables are
    complete, and only then are the old variables removed: a process that dies at any instant leaves
    either the old or the new checkpoint. TensorFlow stores a checksum of every variable.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        self.folder, self.name, self.settings = folder, name, settings
        self.path = folder / f"{name}.json"

    def save(self, state: Any, epoch: int, seconds: float, metrics: dict[str, Any]) -> None:
        """Save the variables of `state` after `epoch`, the duration of the run so far, in seconds,
        and the position in metrics.csv. Raise OSError if that fails; the old checkpoint remains."""
        prefix = self.folder / f"{self.name}-{epoch}"
        try:
            state.write(prefix)
        except tf.errors.OpError as error:
            self.remove_old()
            reason = error.message.split("\n")[0].rpartition(";")[2].strip()
            raise OSError(None, reason, str(prefix)) from error
        for path in self.folder.glob(f"{prefix.name}.*"):
            sync(path)
        content = {"version": VERSION, "epoch": epoch, "seconds": seconds, "metrics": metrics}
        write_json(self.path, content | {"settings": self.settings})
        self.remove_old()

    def load(self) -> dict[str, Any] | None:
        """Return the content of the JSON file, None without one. Raise UserError for different
        settings or a damaged file."""
        if not self.path.exists():
            return None
        content = read_json(self.path)
        typed = all(type(content.get(name)) is kind for name, kind in FIELDS.items())
        if not typed or content["version"] != VERSION or content["epoch"] < 0:
            raise UserError(f"{self.path} is not a checkpoint of this version. {self.remedy()}")
        for name, value in self.settings.items():
            saved = content["settings"].get(name, DEFAULTS.get(name))
            if saved != value:
                raise UserError(f"{self.path} is the checkpoint of a run with {name} {saved}, not "
                                f"{value}. {self.remedy()}")
        return content

    def restore(self, state: Any) -> dict[str, Any] | None:
        """Restore the variables of `state`, and return the content of the JSON file, None without a
        checkpoint. Raise UserError if it is damaged or does not match `state`."""
        content = self.load()
        if content is None:
            self.remove_old()
            return None
        prefix = self.folder / f"{self.name}-{content['epoch']}"
        try:
            state.read(prefix)
        except Exception as error:  # TensorFlow raises many types for such files
            raise UserError(f"{prefix}.* is missing or damaged. {self.remedy()}") from error
        self.remove_old()  # of a process that died between two checkpoints
        return content

    def remove_old(self) -> None:
        """Remove the variables of other epochs, and temporary files of a process that died."""
        current = f"{self.name}-{read_json(self.path)['epoch']}." if self.path.exists() else "/"
        for path in self.folder.glob(f"{self.name}-*"):
            if path.is_dir():  # TensorFlow's temporary `name`-<epoch>_temp
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(current) or ".tempstate" in path.name:
                path.unlink(missing_ok=True)

    def remedy(self) -> str:
        return f"Remove {self.path} to start the run again from the beginning."
