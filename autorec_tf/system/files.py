"""Files that appear under their names only when they are whole."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autorec_tf.system.errors import UserError


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a path to write what is to be `path`: it takes that name, over what was there, when the
    block ends, and is removed if the block fails."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows`, all with the keys of the first."""
    with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def as_utf8(path: str | Path) -> str:
    """Return a path, or other text from the command line, as it is in UTF-8, whatever the locale:
    as TensorFlow takes it, and the same in every record. Bytes that are no UTF-8 stand in it as
    lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def from_utf8(text: str) -> str:
    """Return the path of which `as_utf8` made `text`."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that a run wrote; UserError if it was changed into something
    else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({error}): remove it, and run anew") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no JSON object: remove it, and run anew")
    return content


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file that `write_csv` wrote; none if there is no file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lock(folder: Path) -> FileLock:
    """Keep other processes out of `folder`, until `unlock` or the end of this one, however it
    comes. Raise UserError if another one has done so."""
    file_lock = FileLock(folder / ".lock", timeout=0)
    try:
        file_lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder} is in use by another run: wait for its end") from error
    except OSError as error:
        raise UserError(f"cannot write in {folder} ({error.strerror})") from error
    return file_lock


def unlock(file_lock: FileLock) -> None:
    with suppress(OSError):  # Windows removes no file that is open
        Path(file_lock.lock_file).unlink()
    file_lock.release()


def make_folder(path: Path) -> None:
    """Make `path`, which must be new; FileExistsError if it is not, UserError if it cannot be."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot make the run folder {path} ({error.strerror}): choose another --results_dir"
        ) from error
