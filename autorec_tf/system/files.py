"""Atomic files (a file gets its name only when it is complete), JSON, CSV, and folder locks."""

import csv
import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from autorec_tf.system.errors import UserError

UNSYNCABLE = {errno.EINVAL, errno.ENOTSUP, errno.EROFS}  # of file systems without fsync


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path for the content of `path`. It replaces `path` when the block ends, and
    is removed if the block fails. Its content is on disk before its name is."""
    unfinished = path.with_name(f"{path.name}.part")
    try:
        yield unfinished
        sync(unfinished)
        os.replace(unfinished, path)
        sync(path.parent)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def sync(path: Path) -> None:
    """Wait until the file or the names in the folder `path` are on disk, where the system can."""
    if path.is_dir() and os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNSYNCABLE:
            raise
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    with atomic_write(path) as unfinished:
        unfinished.write_text(text, encoding="utf-8")


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write `rows`, which all have the keys of the first row."""
    with atomic_write(path) as part, open(part, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def as_utf8(path: str | Path) -> str:
    """Return a path, or other text from the command line, decoded as UTF-8 in any locale, as
    TensorFlow expects it and records store it. Bytes that are not UTF-8 become lone surrogates."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def from_utf8(text: str) -> str:
    """Return the path that `as_utf8` converted to `text`."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file that a run wrote. Raise UserError if it is damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({error}). Remove it, and run again.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is damaged: it is not a JSON object. Remove it, and run again.")
    return content


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file that `write_csv` wrote, or [] without such a file."""
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def lock(folder: Path) -> FileLock:
    """Lock `folder` against other processes, until `unlock` or any end of this process. Raise
    UserError if another process has locked it."""
    file_lock = FileLock(folder / ".lock", timeout=0)
    try:
        file_lock.acquire()
    except Timeout as error:
        raise UserError(f"{folder} is in use by another run. Wait until it has ended.") from error
    except NotImplementedError as error:
        raise UserError(f"the file system of {folder} has no locks. Use a folder on another one, "
                        "with --results_dir.") from error
    except OSError as error:
        raise UserError(f"cannot write to {folder} ({error.strerror})") from error
    return file_lock


def unlock(file_lock: FileLock) -> None:
    with suppress(OSError):  # Windows cannot remove an open file
        Path(file_lock.lock_file).unlink()
    file_lock.release()


def make_folder(path: Path) -> None:
    """Create `path`. Raise FileExistsError if it exists, UserError if it cannot be created."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        raise
    except OSError as error:
        raise UserError(
            f"cannot create the run folder {path} ({error.strerror}). Choose another --results_dir."
        ) from error
