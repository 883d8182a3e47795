"""A run folder, read again: its settings, its ratings and split, and the models it trained.

    run = read_run("results/quick", "ml-1m")
    run.members[0].model.W, run.train, run.ratings.item_ids
"""

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec, choose_engine
from config import Config
from data.ratings import RatingMatrix, Ratings
from data_preprocessor import load_ratings, split_ratings
from experiments import member_configs
from model.batch import sparse_rows
from serving.recommender import Factors, Recommender
from system.errors import UserError
from system.runtime import num_threads


@dataclass(frozen=True, eq=False)
class Member:
    """A trained model and its weight: 1, or less in a blend. Its rows are what
    `model.config.orientation` says."""

    weight: float
    model: AutoRec


@dataclass(frozen=True, eq=False)
class FinishedRun:
    """Settings and fingerprint as recorded, all known ratings, those trained on (items x users),
    and the models."""

    config: Config
    fingerprint: str
    ratings: Ratings
    train: RatingMatrix
    members: tuple[Member, ...]

    def recommender(self, titles: Mapping[str, str] | None = None) -> Recommender:
        """What predicts for this run's ids, from its training ratings."""
        ratings = self.ratings
        shape = ratings.num_users, ratings.num_items
        return Recommender(
            user_ids=ratings.user_ids,
            item_ids=ratings.item_ids,
            user_ratings=self.train.column_counts,
            item_ratings=self.train.row_counts,
            scale=ratings.scale,
            factors=[self.factors(member) for member in self.members],
            rated=RatingMatrix.from_triples(ratings.users, ratings.items, ratings.values, shape),
            titles=titles or {},
        )

    def factors(self, member: Member) -> Factors:
        model, config = member.model, member.model.config
        return Factors(
            weight=member.weight,
            orientation=config.orientation,
            codes=model.codes(sparse_rows(oriented(self.train, config))).numpy(),
            Wt=model.Wt.numpy(),
            b=model.b.numpy(),
            output_activation=config.output_activation,
        )


def oriented(matrix: RatingMatrix, config: Config) -> RatingMatrix:
    """`matrix`, whose rows are items, as `config` wants its rows."""
    return matrix if config.orientation == "item" else matrix.transposed()


def read_run(folder: str | Path, data_dir: str | None = None) -> FinishedRun:
    """The run that left `folder`, with its ratings from `data_dir` (default: as for main.py).

    Raises UserError if the folder is none of a run or was damaged, or if the ratings are not
    those that the run was trained on.
    """
    path = Path(folder)
    record = read_record(path)
    config = recorded_config(path, record, data_dir)
    settings = recorded_members(path, config) if config.members else [(1.0, "parameters", config)]
    for _, name, _ in settings:
        if not (path / f"{name}.index").exists():
            raise UserError(f"{path} has no {name}.index: the run did not finish, or was damaged")
    ratings = load_ratings(config)
    if ratings.fingerprint != record.get("fingerprint"):
        raise UserError(
            f"the ratings in {config.ratings_folder()} are not those that {path} was trained on "
            "(their fingerprints differ): name the folder of those with --data_dir"
        )
    train = split_ratings(
        ratings, config.train_ratio, config.split_seed, validation_ratio=config.validation_ratio
    ).train
    members = tuple(
        Member(weight, read_model(path / name, member, train, ratings.scale))
        for weight, name, member in settings
    )
    return FinishedRun(config, ratings.fingerprint, ratings, train, members)


def read_record(path: Path) -> dict[str, Any]:
    """What config.json holds."""
    place = path / "config.json"
    if (path / "settings.json").exists() and not place.exists():
        raise UserError(f"{path} holds several splits: name one of them, as {path}/split_1994")
    try:
        record = json.loads(place.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(
            f"{path} is no run folder: cannot read {place} ({error.strerror})"
        ) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place} is damaged: it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise UserError(f"{place} is damaged: it holds no JSON object")
    return record


def recorded_config(path: Path, record: dict[str, Any], data_dir: str | None) -> Config:
    try:
        config = Config.from_record(record, data_dir=data_dir)
    except UserError as error:
        raise UserError(f"{path / 'config.json'}: {error}") from error
    if config.split_seed is None or config.dataset is None:
        raise UserError(f"{path / 'config.json'}: split_seed or dataset is missing")
    return config


def recorded_members(path: Path, config: Config) -> list[tuple[float, str, Config]]:
    """Weight, checkpoint's name and settings of each model of a blend."""
    place, settings = path / "members.csv", member_configs(replace(config, orientation="item"))
    try:
        with open(place, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        weights = [float(row["weight"]) for row in rows]
        same = [row["orientation"] for row in rows] == [each.orientation for each in settings]
    except OSError as error:
        raise UserError(
            f"cannot read {place} ({error.strerror}): the blend was not made"
        ) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{place} is damaged: no weight or orientation in it") from error
    if not same or not all(0 <= x < float("inf") for x in weights) or not any(weights):
        raise UserError(f"{place} does not go with the members in {path / 'config.json'}")
    models = zip(weights, settings, strict=True)
    return [(weight, f"parameters_{i}", each) for i, (weight, each) in enumerate(models, 1)]


def read_model(
    prefix: Path, config: Config, train: RatingMatrix, scale: tuple[float, float]
) -> AutoRec:
    """The model of `config` with the parameters that `AutoRec.save` wrote under `prefix`.

    Raises UserError if they cannot be read, do not fit, or are no numbers.
    """
    # How the gradients were computed does not matter any more, and another machine may lack it.
    config = replace(config, engine="auto", precision="float32")
    config = replace(config, engine=choose_engine(config, train.density))
    num_columns = oriented(train, config).num_columns
    model = AutoRec(num_columns, config, scale, num_threads())
    names = ["V", "W", "mu", "b"]
    names += [f"inner/{i}/{j}" for i in range(len(model.inner)) for j in range(2)]
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        values = [reader.get_tensor(f"{name}/.ATTRIBUTES/VARIABLE_VALUE") for name in names]
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"the parameters {prefix}.* are damaged, or of another model") from error
    values[1] = values[1].T
    for name, variable, value in zip(names, model.parameters, values, strict=True):
        if value.shape != tuple(variable.shape) or value.dtype != np.float32:
            raise UserError(
                f"the parameters {prefix}.* do not fit config.json and the ratings: {name} is "
                f"{value.dtype} {value.shape}"
            )
        if not np.isfinite(value).all():
            raise UserError(f"the parameters {prefix}.* are no numbers: the training diverged")
        variable.assign(value)
    return model
