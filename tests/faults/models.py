"""Damage npz files of models, and check that each answers correctly or is refused with one line.

    python -m tests.faults.models               # 600 files with damaged bytes, and all kinds

Bytes are damaged at random, from one seed. Kinds of damage in the content, such as NaN, swapped
scales or permuted ids, are applied to each array that they fit, and the file is written again as
`np.savez` writes it. Both apply to a run's predictions.npz, an export, and a saved model. Files are
also damaged without `sha256`, as if an earlier version had written them. An answer must be that of
the undamaged file to the last bit.
"""

import argparse
import io
import json
import random
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from autorec_tf.serving.checked_npz import DIGESTS, OPTIONAL, with_digests
from autorec_tf.serving.npz import (
    content_of,
    model_content,
    prediction_content,
    read_npz,
    read_saved_model,
)
from autorec_tf.serving.recommender import predict, recommend, similar
from autorec_tf.system.errors import UserError
from tests.faults.fault import Fault

TRIED = 600
Content = dict[str, np.ndarray]
SUMMARY = {"final_test_rmse": 0.9, "status": "finished"}


def contents(run: Any) -> dict[str, Content]:
    """Return the content of each kind of file for a finished run, as it is written."""
    recommender = run.recommender({str(each): f"film {each}" for each in run.ratings.item_ids})
    return {
        "predictions": with_digests(prediction_content(run.config, run.fingerprint, recommender)),
        "export": with_digests(content_of(run, recommender)),
        "model": model_content(run, recommender, SUMMARY),
    }


def packed(content: Content) -> bytes:
    file = io.BytesIO()
    np.savez(file, **content)
    return file.getvalue()


def answer(path: Path, kind: str) -> list[Any]:
    """Return all that the program uses of a file, in a form that can be compared."""
    movies = read_npz(path)
    users, items = (x.ravel() for x in np.indices((len(movies.user_ids), len(movies.item_ids))))
    user, item = (int(x.argmax()) for x in (movies.user_ratings, movies.item_ratings))
    pairs = np.append(movies.user_ids[users], 999_983), np.append(movies.item_ids[items], 999_983)
    tables = [predict(movies, *pairs), recommend(movies, movies.user_ids[user]),
              similar(movies, movies.item_ids[item])]
    found: list[Any] = [table.to_json(double_precision=15) for table in tables]
    if kind == "model":
        saved = read_saved_model(path)
        arrays = [x for each in saved.parameters for x in each]
        arrays += [x for x in saved.values if x is not None]
        arrays += [x for sides in saved.priors for side in sides for x in side]
        arrays += [saved.ratings.users, saved.ratings.items, saved.ratings.values,
                   saved.train.indptr, saved.train.indices, saved.train.values]
        found += [np.asarray(x).tolist() for x in arrays]
        found += [saved.config.to_dict(), saved.summary, dict(saved.recommender.titles)]
    return found


class Judge:
    """Compares damaged files with the undamaged one, all in `folder`."""

    def __init__(self, folder: Path, kind: str, content: bytes) -> None:
        self.path, self.kind = folder / "damaged.npz", kind
        self.path.write_bytes(content)
        self.expected = answer(self.path, kind)

    def __call__(self, content: bytes) -> tuple[bool, str]:
        """Return whether the file is answered correctly or refused in one line, and the message,
        "" for the right answer."""
        self.path.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            try:
                found = answer(self.path, self.kind)
            except UserError as error:
                is_one_line = self.path.name in str(error) and "\n" not in str(error)
                return is_one_line, str(error)
            except Exception as error:
                return False, f"{type(error).__name__}: {error}"
        return found == self.expected, "" if found == self.expected else "a wrong answer"


# Damage of bytes.


def flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def overwritten(content: bytes, rng: random.Random) -> bytes:
    start, length = rng.randrange(len(content)), rng.choice([1, 4, 64, 4096])
    part = rng.choice([b"\0" * length, b"\xff" * length, rng.randbytes(length)])
    return (content[:start] + part + content[start + length :])[: len(content)]


def removed(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content))
    return content[:start] + content[start + rng.choice([1, 16, 5000]) :]


def inserted(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + rng.randbytes(rng.choice([1, 16, 5000])) + content[start:]


def truncated(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content))]


def in_the_directory(content: bytes, rng: random.Random) -> bytes:
    """Damage the zip directory or a header of an array, which are small parts of the file."""
    places = [i for mark in (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"\x93NUMPY")
              for i in range(len(content)) if content.startswith(mark, i)]
    damaged = bytearray(content)
    place = rng.choice(places) + rng.randrange(60)
    damaged[min(place, len(damaged) - 1)] = rng.randrange(256)
    return bytes(damaged)


BYTES = {"flipped bits": flipped, "overwritten": overwritten, "removed": removed,
         "inserted": inserted, "truncated": truncated, "directory": in_the_directory}


# Damage of the meaning: functions of an array, and the arrays that they fit.


def put(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    """Return a damage that sets one entry to `value`."""

    def damage(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array.reshape(-1)[array.size // 2] = value
        return array

    return damage


def set_to(value: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda _: np.asarray(value)


def as_json(change: Callable[[Any], Any]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.asarray(json.dumps(change(json.loads(str(array)))))


def repeat_first(array: np.ndarray) -> np.ndarray:
    return np.append(array[:-1], array[:1])


MATRICES = ("W_1", "codes_1", "V_1", "Y_1", "own_W_1", "columns_1_directions")
VECTORS = ("b_1", "mu_1", "c_1", "values_1", "rows_1_mean")
REALS = (*MATRICES, *VECTORS, "D_1", "cold_user_bias", "cold_item_bias", "cold_mean",
         "columns_1_noise", "rows_1_spread", "scale", "inner_scale", "weights", "values")
COUNTS = "user_ratings", "item_ratings"
IDS = "user_ids", "item_ids"
WORDS = "orientations", "output_activations", "hidden_activations"
JSONS = "config", "titles", "summary"
SCALES = "scale", "inner_scale", "cold_scale"
FINGERPRINTS = "fingerprint", "split_fingerprint"
TRIPLES = "users", "items", "train_indices"
ALL = (*REALS, *COUNTS, *IDS, *WORDS, *JSONS, *FINGERPRINTS, *TRIPLES, "cold_scale", "format",
       "version", "estimator", "name", "mapped", "train_indptr", "train_values", DIGESTS)

# Each kind: the arrays, and the damage.
RULES: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], Any]]] = {
    "missing": (tuple(n for n in ALL if n not in (DIGESTS, "estimator")), lambda x: None),
    "NaN": (REALS, put(np.nan)),
    "infinity": (REALS, put(np.inf)),
    "minus infinity": (REALS, put(-np.inf)),
    "a huge value": (MATRICES, put(1e30)),
    "float64": (MATRICES, lambda x: x.astype(np.float64)),
    "float16": (REALS, lambda x: x.astype(np.float16)),
    "int8": ((*REALS, *COUNTS, *IDS, *TRIPLES), lambda x: x.astype(np.int8)),
    "int64": (REALS, lambda x: x.astype(np.int64)),
    "complex": (REALS, lambda x: x.astype(np.complex64)),
    "bool": (REALS, lambda x: x.astype(bool)),
    "text": (REALS + COUNTS, lambda x: x.astype(str)),
    "bytes": (WORDS + JSONS, lambda x: np.char.encode(x)),
    "big-endian": (REALS + COUNTS + IDS, lambda x: x.astype(x.dtype.newbyteorder(">"))),
    "float ids": (IDS, lambda x: x.astype(np.float64)),
    "int32 ids": (IDS, lambda x: x.astype(np.int32)),
    "unsigned ids": (IDS, lambda x: x.astype(np.uint64)),
    "dates": (IDS, lambda x: x.astype("M8[s]")),
    "records": (IDS, lambda x: x.view([("id", x.dtype)])),
    "transposed": (MATRICES[:-1], lambda x: x.T),
    "flattened": ((*MATRICES, "D_1"), lambda x: x.reshape(-1)),
    "one axis more": (REALS + COUNTS + IDS + WORDS, lambda x: x[..., None]),
    "a single value": ((*MATRICES, *VECTORS, *IDS, *COUNTS, *SCALES, *WORDS),
                       lambda x: x.reshape(-1)[0]),
    "empty": ((*MATRICES, *VECTORS, *IDS, *COUNTS, *SCALES, *WORDS, "weights"), lambda x: x[:0]),
    "shorter": ((*MATRICES, *VECTORS, *IDS, *COUNTS, "weights", "cold_user_bias", "users"),
                lambda x: x[:-1]),
    "longer": ((*MATRICES, *VECTORS, *IDS, *COUNTS, *SCALES, "weights", *WORDS),
               lambda x: np.append(x, x[-1:], 0)),
    "a narrower matrix": (MATRICES[:2], lambda x: x[:, :-1]),
    "negative counts": (COUNTS, put(-1)),
    "repeated ids": (IDS, repeat_first),
    "permuted ids": (IDS, lambda x: np.roll(x, 1)),
    "reversed ids": (IDS, lambda x: x[::-1]),
    "two-dimensional ids": (IDS, lambda x: x.reshape(2, -1)),
    "swapped ends": (SCALES, lambda x: x[::-1]),
    "equal ends": (SCALES, lambda x: np.full(2, x[0])),
    "another inner scale": (("inner_scale",), set_to([0.0, 1.0])),
    "a range of cold pairs that is too wide": (("cold_scale",), set_to([-1e9, 1e9])),
    "NaN in a range": (("cold_scale",), put(np.nan)),
    "a negative weight": (("weights",), put(-0.5)),
    "weights of 0": (("weights",), lambda x: 0 * x),
    "an unknown word": (WORDS, put("rows")),
    "the other orientation": (("orientations",), lambda x: np.where(x == "item", "user", "item")),
    "another activation": (WORDS[1:], put("relu")),
    "code points beyond Unicode": (WORDS[:1],
                                   lambda x: (x.view(np.uint32) + 0x200000).view(x.dtype)),
    "version 0": (("version", "estimator"), set_to(0)),
    "version 1": (("version",), set_to(1)),
    "a later version": (("version", "estimator"), set_to(9)),
    "a version in words": (("version", "estimator"), set_to("two")),
    "a version that is a list": (("version",), set_to([2])),
    "another format": (("format",), set_to("other")),
    "a format that is a list": (("format",), set_to(["autorec"])),
    "no JSON": (JSONS, set_to("{")),
    "empty text": ((*JSONS, *FINGERPRINTS), set_to("")),
    "a JSON list": (JSONS, set_to("[]")),
    "a JSON number": (JSONS, set_to("1")),
    "JSON null": (JSONS, set_to("null")),
    "deep JSON": (JSONS, set_to("[" * 100_000)),
    "a number for text": (JSONS + FINGERPRINTS, set_to(3)),
    "titles that are numbers": (("titles",), as_json(lambda x: dict.fromkeys(x, 3))),
    "a summary without its result": (("summary",), set_to('{"status": "finished"}')),
    "a summary with a text for its result": (("summary",), set_to('{"final_test_rmse": "low"}')),
    "an unknown setting value": (("config",), as_json(lambda x: x | {"decoder": "other"})),
    "a setting of the wrong type": (("config",), as_json(lambda x: x | {"hidden_neuron": "six"})),
    "settings without layers": (("config",), as_json(lambda x: x | {"hidden_neuron": []})),
    "settings of another size": (("config",), as_json(lambda x: x | {"hidden_neuron": [7]})),
    "settings of more layers": (("config",), as_json(lambda x: x | {"hidden_neuron": [6, 6]})),
    "settings of another orientation": (("config",),
                                        as_json(lambda x: x | {"orientation": "user"})),
    "settings of another output": (("config",),
                                   as_json(lambda x: x | {"output_activation": "tanh"})),
    "settings of other inputs": (("config",), as_json(lambda x: x | {"input_encoding": "rating"})),
    "settings of another decoder": (("config",), as_json(lambda x: x | {"decoder": "own"})),
    "settings of a blend": (("config",), as_json(lambda x: x | {"members": ["item", "user"]})),
    "settings of other cold pairs": (("config",), as_json(lambda x: x | {"cold_rating": "paper"})),
    "a short fingerprint": (FINGERPRINTS, set_to("abc")),
    "a fingerprint of another split": (("split_fingerprint",), set_to("0" * 64)),
    "indices that are too large": (TRIPLES, put(1000)),
    "negative indices": (TRIPLES, put(-1)),
    "ratings beyond the scale": (("values",), put(99.0)),
    "other training ratings": (("train_values",), put(1.25)),
    "row starts that decrease": (("train_indptr",), put(-3)),
    "other numbers of ratings": (COUNTS, lambda x: x + 1),
    "unsorted rating values": (("values_1",), lambda x: x[::-1]),
    "a last row that is not 1": (("W_1",), lambda x: x + np.float32(1)),
    "other biases of rows": (("c_1",), lambda x: x + np.float32(1)),
    "held-out marks that are numbers": (("held_out",), lambda x: x.astype(np.int64)),
}
# Only `sha256` shows these.
CHANGED = {
    "a changed value": (("W_1", "b_1", "codes_1", "mu_1", "cold_mean", "cold_item_bias", "weights"),
                        lambda x: x + x.dtype.type(0.25)),
    "permuted rows": (("codes_1", "b_1", "cold_user_bias"), lambda x: np.roll(x, 1, 0)),
    "transposed directions": (MATRICES[-1:], lambda x: x.T),
    "negated": (("b_1", "mu_1", "cold_user_bias"), lambda x: -x),
    "shifted ids": (IDS, lambda x: x + 1),
    "zeros": (("b_1", "codes_1"), lambda x: 0 * x),
    "other ratings": (("values",), lambda x: x[::-1].copy()),
    "another fingerprint": (("fingerprint",), set_to("0" * 64)),
    "another name": (("name",), set_to("other")),
    "other titles": (("titles",), as_json(lambda x: dict.fromkeys(x, "one title"))),
    "another summary": (("summary",), set_to('{"final_test_rmse": 0.1}')),
    "another scale": (("scale",), lambda x: x - 1),
}


# Of a saved model without `sha256`, ids that were folded in follow the others in any order.
OF_FOLDED_IN_IDS = {"permuted ids", "reversed ids"}


def npy(array: np.ndarray, **options: Any) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, **options)
    return file.getvalue()


def members_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def zipped(members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return file.getvalue()


def with_member(name: str, change: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return a damage of the bytes of one array in its zip archive."""

    def damage(content: bytes) -> bytes:
        members = members_of(content)
        return zipped(members | {f"{name}.npy": change(members[f"{name}.npy"])})

    return damage


def repeated(content: bytes) -> bytes:
    file = io.BytesIO(content)
    with warnings.catch_warnings(), zipfile.ZipFile(file, "a") as archive:
        warnings.simplefilter("ignore")
        archive.writestr("b_1.npy", npy(np.zeros(3, np.float32)))
    return file.getvalue()


def claiming(shape: tuple[int, ...]) -> Callable[[bytes], bytes]:
    """Return a damage after which an array claims a `shape` that the file has no room for."""

    def damage(data: bytes) -> bytes:
        header = io.BytesIO()
        described = {"descr": "<f4", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        return header.getvalue() + data[128:]

    return damage


def commented(content: bytes) -> bytes:
    file = io.BytesIO(content)
    with zipfile.ZipFile(file, "a") as archive:
        archive.comment = b"note"
    return file.getvalue()


ARCHIVES: dict[str, Callable[[bytes], bytes]] = {
    "deflated": lambda x: zipped(members_of(x), zipfile.ZIP_DEFLATED),
    "bzip2": lambda x: zipped(members_of(x), zipfile.ZIP_BZIP2),
    "a repeated array": repeated,
    "bytes after the end": lambda x: x + b"\0",
    "bytes before the start": lambda x: b"\0" + x,
    "two files in one": lambda x: x + x,
    "a comment": commented,
    "only the end": lambda x: x[-22:],
    "an empty archive": lambda x: zipped({}),
    "an empty file": lambda x: b"",
    "text": lambda x: b"user,item,rating\n1,2,3\n",
    "one array": lambda x: npy(np.zeros(3)),
    "a member that is not an array": lambda x: zipped(members_of(x) | {"notes.txt": b"x"}),
    "a folder": lambda x: zipped(members_of(x) | {"folder/": b""}),
    "an array without content": with_member("b_1", lambda x: b""),
    "half an array": with_member("b_1", lambda x: x[: len(x) // 2]),
    "more than an array": with_member("b_1", lambda x: x + b"\0" * 4),
    "an array that claims terabytes": with_member("b_1", claiming((10**12,))),
    "an array that claims a negative size": with_member("b_1", claiming((-5,))),
    "an array of Python objects": with_member(
        "b_1", lambda x: npy(np.array([{}, []], object), allow_pickle=True)),
    "a pickle": with_member("b_1", lambda x: b"\x80\4N."),
    "a header that is code": with_member(
        "b_1", lambda x: b"\x93NUMPY\1\0\x20\0" + b"__import__('os').getcwd()".ljust(32)),
    "a header of nested lists": with_member(
        "b_1", lambda x: b"\x93NUMPY\1\0\xff\xff" + b"(" * 65535),
    "a later header": with_member("b_1", lambda x: x[:6] + b"\x04" + x[7:]),
}


class Outcome(NamedTuple):
    """The outcome of one damaged file."""

    damage: str
    array: str
    survived: bool
    message: str


def bytes_damaged(judge: Judge, content: Content, tried: int, seed: int = 0) -> Iterator[Outcome]:
    """Yield the outcome of `tried` files with damaged bytes."""
    rng, whole = random.Random(seed), packed(content)
    for number in range(tried):
        name, damage = list(BYTES.items())[number % len(BYTES)]
        yield Outcome(name, "", *judge(damage(whole, rng)))


def archives_damaged(judge: Judge, content: Content) -> Iterator[Outcome]:
    """Yield the outcome of each damage of the archive."""
    whole = packed(content)
    for name, damage in ARCHIVES.items():
        yield Outcome(name, "", *judge(damage(whole)))


def meaning_damaged(judge: Judge, content: Content, first_only: bool = False) -> Iterator[Outcome]:
    """Yield the outcome of each kind of damage to each array that it fits, or to the first one.
    Content without `sha256` is damaged only in ways that the rules show: files of earlier versions
    may lack an optional array."""
    kinds = RULES | (CHANGED if DIGESTS in content else {})
    optional = () if DIGESTS in content or judge.kind == "model" else OPTIONAL
    for name, (arrays, damage) in kinds.items():
        fitting = [array for array in arrays if array in content
                   and (name != "missing" or array not in optional)]
        if DIGESTS not in content and judge.kind == "model" and name in OF_FOLDED_IN_IDS:
            continue
        for array in fitting[: 1 if first_only else None]:
            damaged = content | {array: damage(content[array])}
            damaged = {n: x for n, x in damaged.items() if x is not None}
            yield Outcome(name, array, *judge(packed(damaged)))


def outcomes(run: Any, folder: Path, tried: int) -> Iterator[tuple[str, Outcome]]:
    """Yield all outcomes for the files of a finished run, each with the kind of the file."""
    for kind, content in contents(run).items():
        earlier = {name: x for name, x in content.items() if name != DIGESTS}
        for each in (content, earlier):
            judge = Judge(folder, kind, packed(each))
            for outcome in meaning_damaged(judge, each):
                yield kind, outcome
        for outcome in archives_damaged(judge, content):
            yield kind, outcome
        for outcome in bytes_damaged(judge, content, tried // 3):
            yield kind, outcome


def rows(tried: int = TRIED, show: bool = False) -> Iterator[Fault]:
    """Yield a row for each group of damages, and print the failures."""
    from autorec_tf.serving.finished_run import read_run  # imports TensorFlow
    from tests.finished import ONE_HOT, SVDPP, make_run

    groups: dict[str, list[Outcome]] = {}
    config = replace(SVDPP, input_encoding=ONE_HOT.input_encoding, cold_rating="mean",
                     rating_scale=(0.0, 10.0))
    with tempfile.TemporaryDirectory() as folder:
        made = make_run(Path(folder), config)
        for kind, outcome in outcomes(read_run(made.folder, str(made.data)), Path(folder), tried):
            group = outcome.damage if outcome.damage in BYTES else "content or archive"
            groups.setdefault(f"file of a model ({kind}): {group}", []).append(outcome)
            if show and not outcome.survived:
                print(kind, outcome)
    for name, group in groups.items():
        survived = [outcome for outcome in group if outcome.survived]
        message = next((outcome.message for outcome in survived if outcome.message), "")
        yield Fault(name, len(group), len(survived), len(group) - len(survived), message)


def main() -> int:
    parser = argparse.ArgumentParser(prog="models", description=__doc__.split("\n")[0])
    parser.add_argument("--tried", type=int, default=TRIED, help="files with damaged bytes")
    lost = 0
    for fault in rows(parser.parse_args().tried, show=True):
        print(f"{fault.fault}: {fault.survived:,} of {fault.tried:,}. {fault.message}")
        lost += fault.lost
    print(f"{len(RULES) + len(CHANGED)} kinds of damage to the content, {len(ARCHIVES)} to the "
          "archive.")
    return min(lost, 1)


if __name__ == "__main__":
    sys.exit(main())
