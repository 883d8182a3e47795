"""Read the run that `--start_from` names, and the changed ratings of the new run.

The training and the test ratings of the old run must be known. Its ratings are the beginning of the
new ratings if these were appended to its file; otherwise they are read again from its own files.
This module does not import TensorFlow.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ids import used_ids
from autorec_tf.data.merge import latest
from autorec_tf.data.ratings import Ratings
from autorec_tf.data.sources import has_a_name
from autorec_tf.records.run_folder import (
    PARAMETERS,
    config_of,
    read_marks,
    read_record,
    read_summary,
)
from autorec_tf.serving.relocate import candidates, load_again, marked
from autorec_tf.system.errors import Log, UserError
from autorec_tf.warm_start import Start
from data_preprocessor import load_ratings, split_of


def read_start(config: Config, log: Log) -> tuple[Config, Start, Ratings]:
    """Return the settings of a new run, the run that it starts from, and its ratings.

    Args:
        config: the settings of the new run. A `dataset` or `test_file` of the old run is found by
            its name, as for --resume.
        log: called with lines about the rating files and the new ratings.

    Returns:
        `config` with the fingerprint of the parameters; the start; and the ratings of the new run,
        of which the test ratings are marked.

    Raises:
        UserError: the old run is not finished or damaged, its ratings are not found, or the new
            ratings do not fit them.
    """
    folder = Path(config.start_from or "")
    record, status = read_record(folder), read_summary(folder).get("status", "finished")
    if status != "finished" or not (folder / f"{PARAMETERS}.index").exists():
        raise UserError(f"--start_from {folder}: the run is not finished. Continue it with "
                        f"--resume {folder}, or start from another run.")
    before = config_of(folder, record, data_dir=config.data_dir)
    changed = load_ratings(replace(config, **paths_of(config, record)), log)
    ratings = earlier_ratings(folder, before, record, changed)
    train = split_of(replace(before, orientation="item"), ratings).train
    start = Start(str(folder), before, ratings, train, folder)
    divided = start.divided(changed, config)
    log(start.describe(divided))
    settings = start.settings(divided) | {"start_fingerprint": fingerprint(folder)}
    return replace(config, **settings), start, divided


def paths_of(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return the likeliest path of each file of the user that `config` names."""
    return {
        flag: candidates(config, record, flag)[0] for flag in ("dataset", "test_file")
        if (name := getattr(config, flag))
        and (name != record.get(flag) or not has_a_name(name))
    }


def earlier_ratings(folder: Path, before: Config, record: Mapping[str, Any],
                    changed: Ratings) -> Ratings:
    """Return the ratings of the run in `folder`, with its settings `before`. Raise UserError if
    they are neither the beginning of the `changed` ratings nor in files of the run's name."""
    marks, wanted = read_marks(folder, record), record.get("fingerprint")
    first = beginning(changed, record, before, marks)
    if first and first.fingerprint == wanted:
        low, high = before.rating_scale or first.scale
        return replace(first, scale=(low, high))
    for data_dir in dict.fromkeys((before.data_dir, None)):
        try:
            ratings = load_again(replace(before, data_dir=data_dir), record, lambda _: None, marks)
        except UserError:
            continue
        if ratings.fingerprint == wanted:
            return ratings
    raise UserError(f"--start_from {folder}: the ratings of this run are needed to recognise its "
                    f"test ratings, but {record.get('dataset')} with them was not found. Name its "
                    "folder with --data_dir, or append the new ratings to it.")


def beginning(ratings: Ratings, record: Mapping[str, Any], before: Config,
              marks: np.ndarray | None) -> Ratings | None:
    """Return the first of `ratings`, in the number of those of a run, with its test ratings,
    or None if there are fewer. With a test file, they are the first ones of both files.

    Args:
        ratings: the changed ratings.
        record: the content of the run's config.json.
        before: its settings.
        marks: its test ratings, as from `read_marks`.
    """
    counts: list[Any] = [record.get(f"{name}_ratings") for name in ("num", "train", "test")]
    if not all(type(count) is int and 0 < count <= len(ratings) for count in counts):
        return None
    chosen, held_out = np.arange(counts[0]), None
    if before.test_file and ratings.held_out is not None:
        sides = np.flatnonzero(~ratings.held_out), np.flatnonzero(ratings.held_out)
        chosen = np.concatenate([sides[0][: counts[1]], sides[1][: counts[2]]])
        held_out = ratings.held_out[chosen]
    elif before.split == "time" and ratings.times is not None and not before.start_from:
        if (times := ratings.times[chosen]).min() < times.max():
            held_out = latest(Path(ratings.name), times, before.train_ratio)
    users, user_ids = used_ids(ratings.users[chosen], ratings.user_ids)
    items, item_ids = used_ids(ratings.items[chosen], ratings.item_ids)
    first = replace(ratings, users=users, items=items, values=ratings.values[chosen],
                    user_ids=user_ids, item_ids=item_ids, held_out=held_out, times=None)
    return marked(first, marks)


def fingerprint(folder: Path) -> str:
    """Return the SHA-256 of the parameters in a run folder: of its files parameters.*, one after
    the other, sorted by name."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob(f"{PARAMETERS}.*")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
