"""The last good state of a training, on disk completely or not at all."""

import json
import shutil
from pathlib import Path
from typing import Any

import tensorflow as tf

from autorec_tf.config import BEFORE, Config
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import read_json, write_json

VERSION = 1
FIELDS = {"version": int, "epoch": int, "seconds": float, "metrics": dict, "settings": dict}
DEFAULTS = json.loads(json.dumps(Config().to_dict())) | BEFORE  # of a version without a setting


class Checkpoint:
    """The state of a training in `folder`, in files whose names begin with `name`.

    `name`.json tells of which epoch it is, of which `settings`, and what else the caller gave; the
    variables are the TensorFlow checkpoint `name`-<epoch>. The former is replaced when the latter
    is whole, and only then is the one before removed: a process that dies at any instant leaves
    one or the other. TensorFlow keeps a checksum of every variable.
    """

    def __init__(self, folder: Path, name: str, settings: dict[str, Any]) -> None:
        self.folder, self.name, self.settings = folder, name, settings
        self.path = folder / f"{name}.json"

    def save(self, state: Any, epoch: int, seconds: float, metrics: dict[str, Any]) -> None:
        """Keep the variables of `state` (a tf.Module) after `epoch`, how long it took till then,
        and the position in metrics.csv. Raise OSError if that fails; what was kept before stays."""
        prefix = self.folder / f"{self.name}-{epoch}"
        try:
            state.write(prefix)
        except tf.errors.OpError as error:
            self.remove_old()
            reason = error.message.split("\n")[0].rpartition(";")[2].strip()
            raise OSError(None, reason, str(prefix)) from error
        content = {"version": VERSION, "epoch": epoch, "seconds": seconds, "metrics": metrics}
        write_json(self.path, content | {"settings": self.settings})
        self.remove_old()

    def load(self) -> dict[str, Any] | None:
        """Return what `save` was told, None if nothing; UserError for other settings or damage."""
        if not self.path.exists():
            return None
        content = read_json(self.path)
        typed = all(type(content.get(name)) is kind for name, kind in FIELDS.items())
        if not typed or content["version"] != VERSION or content["epoch"] < 1:
            raise UserError(f"{self.path} is no checkpoint of this version: {self.remedy()}")
        for name, value in self.settings.items():
            saved = content["settings"].get(name, DEFAULTS.get(name))
            if saved != value:
                raise UserError(f"{self.path} is of a run with {name} {saved}, not {value}: "
                                f"{self.remedy()}")
        return content

    def restore(self, state: Any) -> dict[str, Any] | None:
        """Set the variables of `state` to what is kept, and return what `load` does. Raise
        UserError for a checkpoint that is damaged or is not of such a state."""
        content = self.load()
        if content is None:
            self.remove_old()
            return None
        prefix = self.folder / f"{self.name}-{content['epoch']}"
        try:
            state.read(prefix)
        except Exception as error:  # what TensorFlow says of such files is of many kinds
            raise UserError(f"{prefix}.* is missing or damaged: {self.remedy()}") from error
        return content

    def remove_old(self) -> None:
        """Remove the variables of other epochs, and what a process that died has left."""
        current = f"{self.name}-{read_json(self.path)['epoch']}." if self.path.exists() else "/"
        for path in self.folder.glob(f"{self.name}-*"):
            if path.is_dir():  # TensorFlow writes in one, `name`-<epoch>_temp
                shutil.rmtree(path, ignore_errors=True)
            elif not path.name.startswith(current) or ".tempstate" in path.name:
                path.unlink(missing_ok=True)

    def remedy(self) -> str:
        return f"remove {self.path}, and the run begins again"
