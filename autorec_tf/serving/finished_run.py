"""Read a run folder: the settings, the ratings and their split, and the trained models.

    run = read_run("results/quick", "ml-1m")
    run.members[0].model.W, run.train, run.ratings.item_ids
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from AutoRec import AutoRec
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.model.column_shards import SUFFIX
from autorec_tf.model.parameters import TrainedParameters, check_parameters, parameters_of
from autorec_tf.records import run_folder
from autorec_tf.records.run_folder import CONFIG, PARAMETERS
from autorec_tf.resolution import model_configs
from autorec_tf.serving.relocate import ratings_of_run
from autorec_tf.serving.trained_run import FinishedRun, WeightedModel, oriented
from autorec_tf.system.errors import UserError
from autorec_tf.system.files import as_utf8
from autorec_tf.warm_start import Start
from data_preprocessor import split_of


def read_run(folder: str | Path, data_dir: str | None = None, dataset: str | None = None,
             test_file: str | None = None) -> FinishedRun:
    """Return the run in a run folder, with its ratings.

    Args:
        folder: the run folder.
        data_dir: the folder of the ratings (default: as for main.py).
        dataset: the rating file, if it has moved.
        test_file: the file of test ratings, if it has moved.

    Raises:
        UserError: if `folder` is not a run folder or is damaged, or if the run was trained on other
            ratings.
    """
    path = Path(folder)
    record = run_folder.read_record(path)
    config = run_folder.config_of(path, record, data_dir=data_dir)
    if config.split_seed is None or config.dataset is None:
        raise UserError(f"{path / CONFIG}: split_seed or dataset is missing")
    if config.is_repeated:
        raise UserError(f"{path / CONFIG}: the settings describe several runs. Name the folder "
                        "of one run.")
    run_folder.check_checkpoints(path, record)
    settings = [(1.0, PARAMETERS, config)]
    if config.members:
        models = model_configs(config)
        weights = run_folder.read_member_weights(path, [each.orientation for each in models])
        settings = [
            (weight, f"{PARAMETERS}_{number}", each)
            for number, (weight, each) in enumerate(zip(weights, models, strict=True), 1)
        ]
    for _, name, _ in settings:
        if not (path / f"{name}.index").exists():
            raise UserError(f"{path}: {name}.index is missing. The run did not finish, or its "
                            "folder is damaged.")
    ratings = ratings_of_run(path, config, record, dataset, test_file)
    train = split_of(replace(config, orientation="item"), ratings).train
    members = tuple(
        WeightedModel(weight, read_parameters(path / name, member, train, ratings.unit.model_scale))
        for weight, name, member in settings
    )
    return FinishedRun(config, ratings.fingerprint, ratings, train, members)


def read_parameters(prefix: Path, config: Config, train: RatingMatrix,
                    scale: tuple[float, float]) -> AutoRec:
    """Return the model of `config` with the parameters that `AutoRec.save` wrote under `prefix`.

    Raise UserError if they cannot be read, have other shapes, or contain NaN or infinity.
    """
    try:
        reader = tf.train.load_checkpoint(as_utf8(prefix))
        values = [
            parameter.oriented(reader.get_tensor(f"{parameter.saved or parameter.name}{SUFFIX}"))
            for parameter in parameters_of(config)
        ]
    except (tf.errors.OpError, IndexError, RuntimeError, ValueError) as error:
        raise UserError(f"{prefix}.*: the parameters are damaged, or belong to another "
                        "model") from error
    return with_parameters(values, config, train, scale, f"{prefix}.*")


def start_parameters(start: Start, ratings: Ratings, train: RatingMatrix) -> list[np.ndarray]:
    """Return the parameters of the run `start` in its folder, for the users and items of changed
    `ratings`, of which `train` are the training ratings. Raise UserError as `read_parameters`."""
    assert start.folder
    model = read_parameters(start.folder / PARAMETERS, start.config, start.train,
                            start.ratings.unit.model_scale)
    return start.widened([x.numpy() for x in model.parameters], model.values, ratings,
                         train.distinct)


def with_parameters(values: Sequence[np.ndarray], config: Config, train: RatingMatrix,
                    scale: tuple[float, float], named: str,
                    rating_values: np.ndarray | None = None) -> AutoRec:
    """Return a trained model with given parameters.

    Args:
        values: the parameters, float32, in the order of `AutoRec.parameters`.
        config: the model's settings.
        train: its training ratings, items x users.
        scale: the scale of `train`, lowest and highest.
        named: the name of the parameters in messages.
        rating_values: float32, the values of one-hot inputs, if `train` has more than these.

    Raises:
        UserError: if the parameters have other shapes, or contain NaN or infinity.
    """
    # The trained model does not depend on the engine, which another machine may lack.
    config = replace(config, engine="auto", precision="float32")
    if config.input_encoding == "one_hot" and rating_values is None:
        rating_values = train.distinct
    matrix = oriented(train, config)
    model = AutoRec(matrix.num_columns, config, scale, train.density, values=rating_values,
                    num_rows=matrix.num_rows)
    check_parameters(values, model.declared, matrix.num_columns, matrix.num_rows, named)
    for variable, value in zip(model.parameters, values, strict=True):
        variable.assign(value)
    return model


def finished_run(models: Iterable[tuple[float, Sequence[np.ndarray], Config, np.ndarray | None]],
                 config: Config, known: Ratings, train: RatingMatrix) -> FinishedRun:
    """Return the run that `read_run` would return after main.py, with all parameters as arrays.

    Args:
        models: the weight, parameters, settings and `AutoRec.values` of each model.
        config: the settings of the run.
        known: all ratings.
        train: the training ratings, items x users.
    """
    scale, in_tensorflow, as_arrays = known.unit.model_scale, [], []
    for weight, values, each, rating_values in models:
        model = with_parameters(values, each, train, scale, "the parameters", rating_values)
        arrays = TrainedParameters(model.config, rating_values, model.declared, list(values))
        in_tensorflow.append(WeightedModel(weight, model))
        as_arrays.append(WeightedModel(weight, arrays))
    run = FinishedRun(config, known.fingerprint, known, train, tuple(in_tensorflow))
    return replace(run, members=tuple(as_arrays), known_factors=run.factors)
