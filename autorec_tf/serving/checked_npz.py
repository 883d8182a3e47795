"""The rules for the content of a model's npz file, and reading it by these rules.

    content = read_content("model.npz", Kind.MODEL)       # a dictionary of arrays

npz.py describes and writes the files. A new array needs one line in the tables below. Three things
protect an answer: the rules (types, shapes, ranges, relations between arrays), the SHA-256 of every
array in `sha256`, which files of earlier versions lack, and in a run folder the comparison with
config.json. The rules have the better messages, so they come first.

Without `sha256`, the order of ids can be checked only where it is known: ascending if nothing was
folded in. To change a file by hand, leave `sha256` out; then only the rules apply.
"""

import hashlib
import io
import json
import os
import re
import reprlib
from collections.abc import Callable, Mapping, Sequence
from enum import IntEnum
from typing import Any

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data.ratings import MAPPED, RatingMatrix, Ratings
from autorec_tf.model.factors import ACTIVATIONS
from autorec_tf.model.parameters import COLUMN, ROW, parameters_of
from autorec_tf.records.run_folder import CONFIG
from autorec_tf.resolution import model_configs
from autorec_tf.system.errors import UserError
from autorec_tf.system.npz_archive import Archive, Rule, is_finite, is_json_object

FORMAT, VERSION, MODEL_VERSION = "autorec", 2, 1
DIGESTS = "sha256"
# The names of the parameters of any model.
PARAMETER = re.compile(r"(V|W|own_W|mu|b|D|Y|c|values|codes|inner(_bias)?_\d+)_\d+")
PRIORS = "columns", "rows"
FIXED = "fixed_users", "fixed_items"
REMEDY = "Export the run or save the model again."
REMEDY_IN_RUN = "Remove the file, and the parameters of the run are used instead."
# Settings that may differ from config.json: they change no prediction, or continuing the run
# changes them. So may lambda, which is chosen for members.
MAY_DIFFER = {"run_name", "train_epoch", "engine", "display_step", "checkpoint_every", "comet",
              "tensorboard"}
LARGEST = 1e15  # products of larger parameters overflow float32
Content = dict[str, np.ndarray]


class Kind(IntEnum):
    """What a reader needs: predictions, all parameters as well, or a saved model with ratings."""

    PREDICTIONS = 1
    EXPORT = 2
    MODEL = 3


# Checks of values: each returns the problem with an array, or "".


def is_parameter(array: np.ndarray) -> str:
    if problem := is_finite(array):
        return problem
    is_large = array.size and max(-array.min(), array.max()) > LARGEST
    return f"contains values beyond {LARGEST:g}" if is_large else ""


def is_count(array: np.ndarray) -> str:
    is_negative = array.size and array.min() < 0
    return is_finite(array) or ("contains negative values" if is_negative else "")


def is_weights(array: np.ndarray) -> str:
    if problem := is_finite(array):
        return problem
    return "" if array.size and array.min() >= 0 and array.max() > 0 else (
        "must be 0 or more, and one must be positive")


def is_scale(array: np.ndarray) -> str:
    return is_finite(array) or is_range(array)


def is_range(array: np.ndarray) -> str:
    low, high = array
    return "" if low < high else f"is {low:g}, {high:g}: the lower end must come first"


def are_ids(array: np.ndarray) -> str:
    if not len(array):
        return "is empty"
    return "" if is_ascending(array) or len(np.unique(array)) == len(array) else "repeats an id"


def is_ascending(array: np.ndarray) -> bool:
    return bool(np.all(array[1:] > array[:-1]))


def is_ascending_index(array: np.ndarray) -> str:
    return "" if is_ascending(array) else "is not in ascending order"


def is_fingerprint(array: np.ndarray) -> str:
    return "" if re.fullmatch("[0-9a-f]{64}", str(array)) else "is not a SHA-256"


def is_titles(array: np.ndarray) -> str:
    if problem := is_json_object(array):
        return problem
    is_text = all(isinstance(title, str) for title in json.loads(str(array)).values())
    return "" if is_text else "contains a title that is not text"


def is_summary(array: np.ndarray) -> str:
    if problem := is_json_object(array):
        return problem
    rmse = json.loads(str(array)).get("final_test_rmse")
    return "" if type(rmse) in (int, float) else "lacks the number final_test_rmse"


def is_increasing(array: np.ndarray) -> str:
    return is_parameter(array) or ("" if is_ascending(array) else "is not in ascending order")


def is_settings(array: np.ndarray) -> str:
    if problem := is_json_object(array):
        return problem
    try:
        Config.from_dict(json.loads(str(array)))
        return ""
    except UserError as error:
        return f"contains invalid settings ({error})"


def one_of(*values: str) -> Callable[[np.ndarray], str]:
    """Return a check that all entries are among `values`."""
    return lambda array: "" if set(array.tolist()) <= set(values) else (
        f"must be {' or '.join(values)}")


# An array is in every file of its table. The first array with a named axis determines its size.
HEAD = {"format": Rule("U"), "version": Rule("i8")}
PREDICTIONS = {
    "config": Rule("U", (), is_settings),
    "fingerprint": Rule("U", (), is_fingerprint),
    "user_ids": Rule("i8 U", ("users",), are_ids),
    "item_ids": Rule("i8 U", ("items",), are_ids),
    "user_ratings": Rule("i8", ("users",), is_count),
    "item_ratings": Rule("i8", ("items",), is_count),
    "scale": Rule("f8", (2,), is_scale),
    "weights": Rule("f8", ("models",), is_weights),
    "orientations": Rule("U", ("models",), one_of("item", "user")),
    "output_activations": Rule("U", ("models",), one_of(*ACTIVATIONS)),
}
SINCE_VERSION_2 = {
    "inner_scale": Rule("f8", (2,), is_scale),
    "cold_mean": Rule("f8"),
    "cold_scale": Rule("f8", (2,), is_range),
    "cold_user_bias": Rule("f8", ("users",)),
    "cold_item_bias": Rule("f8", ("items",)),
}
EXPORT = {
    "split_fingerprint": Rule("U", (), is_fingerprint),
    "hidden_activations": Rule("U", ("models",), one_of(*ACTIVATIONS)),
}
MODEL = {
    "estimator": Rule("i8"),
    "name": Rule("U"),
    "users": Rule("i4", ("ratings",)),
    "items": Rule("i4", ("ratings",)),
    "values": Rule("f4 f8", ("ratings",)),
    "mapped": Rule("b1"),
    "train_indptr": Rule("i8", ("items + 1",)),
    "train_indices": Rule("i4", ("training ratings",)),
    "train_values": Rule("f4", ("training ratings",)),
    "titles": Rule("U", (), is_titles),
    "summary": Rule("U", (), is_summary),
}
OPTIONAL = {  # in any file, and read if it is there
    DIGESTS: Rule("U", (), is_json_object),
    "held_out": Rule("b1", ("ratings",)),  # of a saved model
    # Of a saved model that was loaded from an export.
    FIXED[0]: Rule("i8", (FIXED[0],), lambda x: is_count(x) or is_ascending_index(x)),
    FIXED[1]: Rule("i8", (FIXED[1],), lambda x: is_count(x) or is_ascending_index(x)),
    "titles": Rule("U", (), is_titles),
}
# Of each model's priors, for columns and for rows (model/prior.py).
PRIOR = {
    "mean": Rule("f4", ("embedding",), is_parameter),
    "pooled": Rule("f4", ("embedding",), is_parameter),
    "directions": Rule("f4", ("embedding", "directions"), is_parameter),
    "noise": Rule("f4", (), is_count),
    "centre": Rule("f4", ("embedding",), is_parameter),
    "spread": Rule("f4", (), is_count),
}


def read_content(path: str | os.PathLike | io.BytesIO, kind: Kind,
                 record: Mapping[str, Any] | None = None) -> Content:
    """Return the arrays that a reader of `kind` needs, and of a saved model all arrays.

    Args:
        path: the file, or its open content in memory.
        kind: the reader.
        record: the content of config.json, if the file is in a run folder.

    Raises:
        UserError: the file cannot be read, is damaged, does not follow the rules, is of a lesser
            kind, or belongs to another run.
    """
    with Archive(path, REMEDY_IN_RUN if record is not None else REMEDY) as archive:
        stored = kind_of(archive)
        if stored < kind:
            raise UserError(f"{path}: the file holds the predictions of a run and is not a saved "
                            "model. Name the run folder in recommend.py, or export the run.")
        content = archive.read(HEAD | PREDICTIONS)
        with archive.reported_damage("config"):
            config = Config.from_dict(json.loads(str(content["config"])))
            models = model_configs(config)
        check_settings(archive, content, models)
        tables = rules_by_kind(archive, content, models)
        refuse_others(archive, set().union(*tables.values()), content)
        for each, rules in tables.items():
            if each > stored:  # parameters that a file has beyond its kind
                rules = {name: rule for name, rule in rules.items()
                         if name in archive and each != Kind.MODEL}
            if each <= kind or stored != Kind.EXPORT:
                content |= archive.read(rules)
            else:  # not needed, and perhaps large
                archive.headers(rules)
        check_relations(archive, content, config, models)
        check_digests(archive, content)
        if record is not None:
            check_run(archive, content, record)
    return content


def kind_of(archive: Archive) -> Kind:
    """Return the kind of a file. Raise UserError if it has another format or version."""
    head = archive.read(HEAD)
    name, version = str(head["format"])[:20], int(head["version"])
    if name != FORMAT or not 1 <= version <= VERSION:
        raise archive.refusal(f"has the format {name} {version}, and only {FORMAT} {VERSION} and "
                              "older can be read")
    if "estimator" in archive:
        version = int(archive.read({"estimator": MODEL["estimator"]})["estimator"])
        if version != MODEL_VERSION:
            raise archive.refusal(f"has the version {version} of a saved model, and only version "
                                  f"{MODEL_VERSION} can be read")
        return Kind.MODEL
    return Kind.EXPORT if any(name in archive for name in EXPORT) else Kind.PREDICTIONS


def rules_by_kind(archive: Archive, content: Content,
                  models: Sequence[Config]) -> dict[Kind, dict[str, Rule]]:
    """Return the rules for the arrays of each kind of file that depend on its models."""
    rules: dict[Kind, dict[str, Rule]] = {
        Kind.PREDICTIONS: dict(SINCE_VERSION_2) if content["version"] > 1 else {},
        Kind.EXPORT: dict(EXPORT),
        Kind.MODEL: dict(MODEL),
    }
    rules[Kind.PREDICTIONS] |= {n: rule for n, rule in OPTIONAL.items() if n in archive}
    archive.sizes["items + 1"] = len(content["item_ids"]) + 1, "item_ids"
    has_priors = any(name.startswith(PRIORS) for name in archive.members)
    for number, config in enumerate(models, 1):
        rules[Kind.PREDICTIONS] |= prediction_rules(number, config)
        rules[Kind.EXPORT] |= parameter_rules(number, config)
        if has_priors:  # and Y, which folding in needs, too
            rules[Kind.PREDICTIONS] |= prior_rules(number, config)
            if (name := f"Y_{number}") in rules[Kind.EXPORT]:
                rules[Kind.PREDICTIONS][name] = rules[Kind.EXPORT][name]
    return rules


def refuse_others(archive: Archive, ruled: set[str], content: Content) -> None:
    """Raise UserError for a parameter, or an array of a later version, that has no rule: the
    settings or the version are then those of another file."""
    for name in sorted(set(archive.members) - ruled - set(content)):
        if PARAMETER.fullmatch(name) or name in SINCE_VERSION_2:
            raise archive.refusal("is not an array of a model with the settings in 'config' and "
                                  f"the version {content['version']}", name)


def axes_of(config: Config) -> tuple[str, str]:
    """Return the axes of the rows and the columns of a model."""
    return ("items", "users") if config.orientation == "item" else ("users", "items")


def units_of(config: Config) -> int:
    """Return the number of units of a row's embedding; the last one is c if rows have biases."""
    return config.hidden_neuron[-1] + (config.decoder != "own")


def prediction_rules(number: int, config: Config) -> dict[str, Rule]:
    (rows, columns), units = axes_of(config), units_of(config)
    shapes: dict[str, tuple[str | int, ...]] = {
        "codes": (rows, units), "W": (units, columns), "b": (columns,)}
    return {f"{n}_{number}": Rule("f4", axes, is_parameter) for n, axes in shapes.items()}


def parameter_rules(number: int, config: Config) -> dict[str, Rule]:
    """Return the rules for the parameters of a model, from their declarations."""
    rows, columns = axes_of(config)
    values = f"values_{number}"
    names: dict[str | int, str | int] = {ROW: rows, COLUMN: columns, 0: values}  # 0: unknown here
    rules = {}
    if config.input_encoding == "one_hot":
        rules[values] = Rule("f4", (values,), is_increasing)
    for parameter in parameters_of(config, num_values=0):
        axes: tuple[str | int, ...] = tuple(names.get(axis, axis) for axis in parameter.axes)
        axes = axes[::-1] if parameter.transposed else axes
        rules[parameter.npz_name(number)] = Rule("f4", axes, is_parameter)
    return rules


def prior_rules(number: int, config: Config) -> dict[str, Rule]:
    """Return the rules for the priors of a model. The embedding of a column includes its bias."""
    units = {PRIORS[0]: config.hidden_neuron[-1] + 1, PRIORS[1]: units_of(config)}
    rules = {}
    for side in PRIORS:
        sizes: dict[str | int, str | int] = {
            "embedding": units[side], "directions": f"directions of {side}_{number}"}
        for name, rule in PRIOR.items():
            axes = tuple(sizes[axis] for axis in rule.axes)
            rules[f"{side}_{number}_{name}"] = rule._replace(axes=axes)
    return rules


def check_settings(archive: Archive, content: Content, models: Sequence[Config]) -> None:
    """Raise UserError if the arrays that describe the models differ from the settings."""
    if len(content["weights"]) != len(models):
        raise archive.refusal(f"has {len(content['weights'])} entries, but the settings in "
                              f"'config' require {len(models)}", "weights")
    for name, setting in (("orientations", "orientation"),
                          ("output_activations", "output_activation"),
                          ("hidden_activations", "hidden_activation")):
        wanted = [getattr(config, setting) for config in models]
        if name in content and content[name].tolist() != wanted:
            raise archive.refusal(f"is {', '.join(content[name].tolist())}, but the settings in "
                                  f"'config' require {', '.join(wanted)}", name)


def check_relations(archive: Archive, content: Content, config: Config,
                    models: Sequence[Config]) -> None:
    """Raise UserError if arrays contradict each other."""
    check_settings(archive, content, models)
    if content["version"] > 1:
        check_scales(archive, content, config)
    if content["user_ratings"].sum() != content["item_ratings"].sum():
        raise archive.refusal("has another sum than 'user_ratings'", "item_ratings")
    for number, model in enumerate(models, 1):
        if model.decoder != "own":
            if not np.all(content[f"W_{number}"][-1] == 1):
                raise archive.refusal("must end with a row of ones", f"W_{number}")
            last = content[f"codes_{number}"][:, -1]
            if not np.array_equal(content.get(f"c_{number}", last), last):
                raise archive.refusal(f"differs from the last column of codes_{number}",
                                      f"c_{number}")
    for name in ("user_ids", "item_ids"):  # new ids follow the known ones
        may_be_folded_in = DIGESTS in content or "estimator" in content
        if not may_be_folded_in and not is_ascending(content[name]):
            raise archive.refusal("is not in ascending order", name)
    if "estimator" in content:
        check_ratings(archive, content)


def check_scales(archive: Archive, content: Content, config: Config) -> None:
    """Raise UserError if the scales, or the predictions of cold pairs, do not follow the
    settings."""
    file_scale, inner = (tuple(content[name].tolist()) for name in ("scale", "inner_scale"))
    if inner not in (file_scale, MAPPED):
        raise archive.refusal(f"is neither 'scale' nor {MAPPED[0]:g} to {MAPPED[1]:g}",
                              "inner_scale")
    is_mean = config.cold_rating == "mean"
    wanted = inner if is_mean else (-np.inf, np.inf)
    if tuple(content["cold_scale"].tolist()) != wanted:
        raise archive.refusal(f"does not follow the setting cold_rating {config.cold_rating}",
                              "cold_scale")
    for name in ("cold_user_bias", "cold_item_bias"):
        if not is_mean and content[name].any():
            raise archive.refusal(f"must be 0 by the setting cold_rating {config.cold_rating}",
                                  name)


def check_ratings(archive: Archive, content: Content) -> None:
    """Raise UserError if the ratings of a saved model are invalid, or the training ratings differ
    from their fingerprint or from the numbers of users and items."""
    users, items, indptr, indices, values = (content[name] for name in (
        "users", "items", "train_indptr", "train_indices", "train_values"))
    scale = tuple(content["scale"].tolist())
    if not len(users) and FIXED[0] not in content:
        raise archive.refusal("is empty", "users")
    try:
        ratings = Ratings("", users, items, content["values"], content["user_ids"],
                          content["item_ids"], scale, mapped=bool(content["mapped"]))
        train = RatingMatrix(indptr, indices, values, ratings.num_users)
    except ValueError as error:
        raise archive.refusal(f"contains invalid ratings ({error})") from error
    if content["version"] > 1 and list(ratings.unit.model_scale) != content["inner_scale"].tolist():
        raise archive.refusal("does not follow 'scale' and 'mapped'", "inner_scale")
    if split_fingerprint(train) != str(content["split_fingerprint"]):
        raise archive.refusal("is not the fingerprint of the training ratings",
                              "split_fingerprint")
    counts = {"user_ratings": train.column_counts, "item_ratings": train.row_counts}
    for (name, numbers), fixed in zip(counts.items(), FIXED, strict=True):
        index = content.get(fixed, np.zeros(0, np.int64))  # the ratings of these are not here
        if index.size and index[-1] >= len(numbers):
            raise archive.refusal(f"contains the index {index[-1]}, which does not exist", fixed)
        numbers[index] = content[name][index]
        if not np.array_equal(content[name], numbers):
            raise archive.refusal("differs from the training ratings", name)


def check_run(archive: Archive, content: Content, record: Mapping[str, Any]) -> None:
    """Raise UserError if a file in a run folder belongs to another run than its config.json."""
    stored = json.loads(str(content["config"])) | {"fingerprint": str(content["fingerprint"])}
    stored, record = comparable(stored), comparable(record)
    for name, value in stored.items():
        if name in record and record[name] != value:
            raise archive.refusal(f"belongs to another run: {name} is {reprlib.repr(value)}, but "
                                  f"{reprlib.repr(record[name])} in {CONFIG}")


def comparable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a run that must be the same in its predictions.npz."""
    compared = {name: value for name, value in settings.items() if name not in MAY_DIFFER}
    if isinstance(members := settings.get("member_settings"), list) and members:
        compared.pop("orientation", None)  # of no effect
        compared["member_settings"] = [
            {name: value for name, value in each.items() if name != "lambda_value"}
            if isinstance(each, dict) else each for each in members
        ]
    return compared


def with_digests(content: Mapping[str, Any]) -> Content:
    """Return `content` as arrays, with the SHA-256 of each."""
    arrays = {name: np.asarray(x) for name, x in content.items()}
    digests = {name: digest_of(x) for name, x in arrays.items()}
    return arrays | {DIGESTS: np.asarray(json.dumps(digests))}


def digest_of(array: np.ndarray) -> str:
    """Return the SHA-256 of an array: of its type, its shape, and its order and bytes as np.save
    writes them."""
    is_fortran = array.flags.f_contiguous and not array.flags.c_contiguous
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} {is_fortran} ".encode())
    stored = np.ascontiguousarray(array.T if is_fortran else array).reshape(-1)
    digest.update(stored.view(np.uint8).data)
    return digest.hexdigest()


def check_digests(archive: Archive, content: Content) -> None:
    """Raise UserError if an array has changed after the file was written, or one is missing."""
    if DIGESTS not in content:
        return
    digests = json.loads(str(content[DIGESTS]))
    if missing := [name for name in digests if name not in archive]:
        raise archive.refusal("is missing", missing[0])
    for name, array in content.items():
        if name != DIGESTS and digests.get(name) != digest_of(array):
            raise archive.refusal(f"has changed since the file was written (its SHA-256 is not the "
                                  f"one in '{DIGESTS}')", name)


def split_fingerprint(train: RatingMatrix) -> str:
    """Return the SHA-256 of training ratings, items x users."""
    digest = hashlib.sha256()
    for array, dtype in ((train.indptr, "<i8"), (train.indices, "<i4"), (train.values, "<f4")):
        digest.update(np.ascontiguousarray(array, dtype=dtype).data)
    return digest.hexdigest()
