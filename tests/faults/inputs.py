"""Damage input files, and check that each is read correctly or refused with one line.

    python -m tests.faults.inputs               # 10,000 files, a minute or two
    python -m tests.faults.inputs --tried 1000

Valid files of every format are damaged at random, from one seed. A slow, simple reference parser
reads each of them. The program must read the same ratings, or refuse the file with a UserError of
one line, leave no files behind and use bounded memory. Some of the files are passed to
`python main.py`, which must end with exit code 2. Files in the variants that users have come from
`kinds`, which knows their content.
"""

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import shlex
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np

from autorec_tf.config import Config
from autorec_tf.data import datasets
from autorec_tf.data.ratings import RatingMatrix, Ratings, Split, index_ratings
from autorec_tf.records.checkpoint import Checkpoint
from autorec_tf.records.repeated_runs import RepeatedRuns
from autorec_tf.records.run_folder import RunFolder
from autorec_tf.system.environment import peak_memory_mb
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.runtime import import_tensorflow
from data_preprocessor import load_ratings
from tests.faults.fault import Fault
from tests.faults.kinds import CELLS, KINDS, Made, agrees, damaged

ROOT = Path(__file__).resolve().parents[2]
TRIED, COMMANDS, ARCHIVES, RECORDS = 10_000, 50, 400, 1_000
LINES = 12  # of a valid file
LONG_LINE = 10_000_000  # characters
MOST_GROWTH = 100.0  # MB of memory that a file with such a line may need
Triples = list[tuple[str, str, float]]

# The formats: separator, header, pattern of a rating, and scale.
FORMATS = {
    "ml-100k": ("\t", "", r"\d", (1, 5)),
    "ml-1m": ("::", "", r"\d", (1, 5)),
    "ml-10m": ("::", "", r"\d(\.[05])?", (0.5, 5)),
    "ml-20m": (",", "userId,movieId,rating,timestamp", r"\d(\.[05])?", (0.5, 5)),
    "a file": (",", "user,item,rating,note", "", None),
    "netflix": (",", "", "[1-5]", (1, 5)),
}


def valid(format: str, rng: random.Random) -> bytes:
    """Return a valid file."""
    separator, header, _, scale = FORMATS[format]
    pairs = rng.sample([(user, item) for user in range(1, 9) for item in range(1, 9)], LINES)
    if format == "netflix":
        lines = []
        for movie in sorted({item for _, item in pairs}):
            lines.append(f"{movie}:")
            lines += [f"{user * 1000003},{rng.randint(1, 5)},2005-0{rng.randint(1, 9)}-11"
                      for user, item in pairs if item == movie]
    else:
        half = format in ("ml-10m", "ml-20m", "a file")
        lines = [header] if header else []
        for user, item in pairs:
            value = rng.randint(1, 10) / 2 if half else rng.randint(1, 5)
            last = rng.choice(["", "é", '"x, ""y"""']) if format == "a file" else 978300760 + user
            name = f"u{user}" if format == "a file" and rng.random() < 0.5 else user
            lines.append(separator.join(map(str, (name, item, value, last))))
    end = rng.choice(["\n", "\n", "\r\n"])
    return (end.join(lines) + rng.choice([end, end, ""])).encode()


def in_a_line(change: Callable[[str, str, random.Random], str]) -> Callable[..., bytes]:
    """Return a damage that changes one line after the first."""

    def damage(content: bytes, separator: str, rng: random.Random) -> bytes:
        lines = content.decode().split("\n")
        number = rng.randrange(1, len(lines))
        lines[number] = change(lines[number], separator, rng)
        return "\n".join(lines).encode()

    return damage


def in_a_field(values: list[str]) -> Callable[..., bytes]:
    def change(line: str, separator: str, rng: random.Random) -> str:
        fields = line.split(separator)
        fields[rng.randrange(min(3, len(fields)))] = rng.choice(values)
        return separator.join(fields)

    return in_a_line(change)


def truncated(content: bytes, separator: str, rng: random.Random) -> bytes:
    return content[: rng.randrange(1, len(content))]


def binary(content: bytes, separator: str, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        damaged[rng.randrange(len(damaged))] = rng.randrange(256)
    return bytes(damaged)


def random_bytes(content: bytes, separator: str, rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(1, 400))


def inserted(content: bytes, separator: str, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    some = [b"\n", b"\r", b"\r\n", b"\0", b'"', b" ", b":", b",", b"\t", b"-", b"+", b".", b"0",
            b"\x1f", b"\x1a", b"\xc2\xa0", b"\xd9\xa3", b"\n\n"]
    return content[:at] + rng.choice(some) + content[at:]


def not_utf8(content: bytes, separator: str, rng: random.Random) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + rng.choice([b"\xe9", b"\xff\xfe", b"\xed\xa0\x80"]) + content[at:]


def wrong_separator(content: bytes, separator: str, rng: random.Random) -> bytes:
    return content.replace(separator.encode(), rng.choice([b";", b"|", b" ", b":", b"\t", b","]))


def duplicate(content: bytes, separator: str, rng: random.Random) -> bytes:
    lines = content.rstrip(b"\r\n").split(b"\n")
    return b"\n".join([*lines, rng.choice(lines[1:])]) + b"\n"


DAMAGES: dict[str, Callable[[bytes, str, random.Random], bytes]] = {
    "none": lambda content, separator, rng: content,
    "truncated": truncated,
    "bytes changed": binary,
    "bytes inserted": inserted,
    "random bytes": random_bytes,
    "not UTF-8": not_utf8,
    "CRLF": lambda content, separator, rng: content.replace(b"\n", b"\r\n"),
    "byte-order mark": lambda content, separator, rng: b"\xef\xbb\xbf" + content,
    "quoted": in_a_line(lambda line, s, rng: s.join(f'"{x}"' for x in line.split(s))),
    "quotes": in_a_field(['"', '"1', '1"', '"1""2"', '1"2"', '"1"2', '""']),
    "empty": lambda content, s, rng: rng.choice([b"", b"\n", b"\r\n", b" ", b"\xef\xbb\xbf"]),
    "header": lambda content, s, rng: s.join(("userId", "movieId", "rating", "x")).encode()
    + b"\n" + content,
    "wrong separator": wrong_separator,
    "NaN": in_a_field(["nan", "NaN", "inf", "-inf", "NA", "null", "None", ""]),
    "huge id": in_a_field(["9" * 18, "9" * 19, "1" + "0" * 18, "9" * 300, str(2**63), "0" * 30]),
    "negative": in_a_field(["-1", "-0", "-5", "--1", "-"]),
    "duplicate": duplicate,
    "float": in_a_field(["3.5", "4.0", "4.", ".5", "1e0", "3,5", "3.50", "+4", " 4", "4 ", "٣"]),
    "off the scale": in_a_field(["0", "6", "5.5", "10", "0.4", "100000"]),
    "fields": in_a_line(lambda line, s, rng: rng.choice([line + s, s + line, line + s + "1", "", s,
                                                         line.rpartition(s)[0]])),
}


# The slow reference parser.


def fields_of(line: str, separator: str) -> list[str] | None:
    """Return the fields of a line, read by character; None if its quotes are not valid CSV."""
    if separator == "::":
        return None if '"' in line else line.split("::")
    fields, text, state = [], "", "start"
    for character in line:
        if state == "quoted":
            if character == '"':
                state = "quote"
            else:
                text += character
        elif character == separator:
            fields.append(text)
            text, state = "", "start"
        elif character == '"':
            if state == "start":
                state = "quoted"
            elif state == "quote":
                text, state = text + '"', "quoted"
            else:
                return None
        elif state == "quote":
            return None
        else:
            text, state = text + character, "plain"
    return None if state == "quoted" else [*fields, text]


def slow(format: str, content: bytes) -> Triples | None:
    """Return the ratings in a file, or None if it must be refused."""
    separator, header, rating, scale = FORMATS[format]
    lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    lines = [line.removesuffix(b"\r").removesuffix(b"\r") for line in lines[:-1]] + (
        [lines[-1]] * (lines[-1] != b""))
    try:
        content.decode()
        encoding = "utf-8"
    except UnicodeDecodeError:
        if format != "a file" or not content.decode(errors="ignore").removeprefix(
            "\ufeff").isascii():
            return None
        encoding = "latin-1"
    texts = [line.decode(encoding) for line in lines]
    if any(len(line) >= 65_536 or set(line) & set(b"\r\0") for line in lines):
        return None
    if format == "netflix":
        triples = slow_netflix(texts)
    else:
        if header:
            # The header of a user's file determines its separator.
            candidates = [separator] if format != "a file" else [",", ";", "\t", "|"]
            found = [one for one in candidates if texts and is_header(format, texts[0], one)]
            if not found:
                return None
            separator = found[0]
            spaced = f"{separator} " in re.sub(r'"[^"]*"', "_", "\n".join(texts))
            del texts[0]
        triples = []
        for text in texts:
            if format == "a file" and not text.strip():
                continue
            if format != "a file" and '"' in text:
                return None
            fields = fields_of(text, separator)
            if not fields or len(fields) != 4 or not is_rating(rating, fields[2]):
                return None
            if format == "a file" and spaced:  # blanks follow the separators
                fields = [field.lstrip(" ") for field in fields]
            if format == "a file":
                good = all(x and x == x.strip() for x in fields[:2])
            else:
                good = all(re.fullmatch(r"0|[1-9][0-9]{0,18}", x) for x in fields[:2])
                good = good and all(int(x) < 2**63 for x in fields[:2])
                good = good and re.fullmatch(r"(?!-|0[0-9])[0-9.-]*", fields[3])
            if not good or (scale and not scale[0] <= float(fields[2]) <= scale[1]):
                return None
            triples.append((fields[0], fields[1], float(np.float32(float(fields[2])))))
    if format == "a file":  # a repeated line is read once
        triples = list(dict.fromkeys(triples))
    if not triples or len({triple[:2] for triple in triples}) < len(triples):
        return None
    return None if not scale and len({value for *_, value in triples}) == 1 else triples


def is_rating(pattern: str, text: str) -> bool:
    """Return whether `text` matches `pattern` or, if that is empty, is a number."""
    if pattern:
        return bool(re.fullmatch(pattern, text, re.ASCII))
    with contextlib.suppress(ValueError):
        return abs(float(text)) <= float(np.finfo(np.float32).max)
    return False


def is_header(format: str, text: str, separator: str) -> bool:
    """Return whether `text` is the published header, or one with user, item and rating."""
    if format != "a file":
        return text == FORMATS[format][1]
    names = [name.strip() for name in fields_of(text, separator) or []]
    plain = ["".join(filter(str.isalnum, name.lower())) for name in names]
    return len(plain) == 4 and plain[:3] == ["user", "item", "rating"] and plain[3] not in plain[:3]


def slow_netflix(texts: list[str]) -> Triples | None:
    movie, triples = None, []
    for text in texts:
        if re.fullmatch(r"(0|[1-9][0-9]{0,18}):", text) and int(text[:-1]) < 2**63:
            movie = str(int(text[:-1]))
            continue
        match = re.fullmatch(r"(0|[1-9][0-9]{0,18}),([1-5]),([0-9]{4})-([0-9]{2})-([0-9]{2})", text)
        if not match or movie is None or int(match[1]) >= 2**63:
            return None
        with contextlib.suppress(ValueError):
            np.datetime64(f"{match[3]}-{match[4]}-{match[5]}")
            if int(match[3]):
                triples.append((str(int(match[1])), movie, float(match[2])))
                continue
        return None
    return triples


# The faults.


class Count:
    """The tally of one fault."""

    def __init__(self, fault: str) -> None:
        self.row = Fault(fault, 0, 0, 0, "")

    def add(self, survived: bool, lost: bool = False, message: str = "") -> None:
        self.row.tried += 1
        self.row.survived += survived
        self.row.lost += lost
        if not survived:
            print(f"NOT SURVIVED: {self.row.fault}: {message[:300]}", file=sys.stderr)
        self.row.message = self.row.message or message


def file_of(format: str, folder: Path, content: bytes) -> tuple[Path, Config]:
    """Write the file; return its path and the configuration that reads it."""
    if format == "a file":
        path, config = folder / "mine.csv", dict(dataset=str(folder / "mine.csv"))
    else:
        path = folder / datasets.DATASETS[format].ratings
        config = dict(dataset=format, data_dir=str(folder))
    path.write_bytes(content)
    return path, Config(**config)


def attempt(path: Path, config: Config, expected: Triples | None) -> tuple[bool, bool, str]:
    """Return whether a file was read correctly or refused with one line, whether bad data was
    accepted, and the message."""
    before = sorted(path.parent.rglob("*"))
    try:
        found = triples_of(load_ratings(config, lambda _: None))
    except UserError as error:
        return expected is None and clear(str(error), path) and (
            before == sorted(path.parent.rglob("*"))
        ), False, str(error)
    except Exception as error:
        return False, False, f"{type(error).__name__}: {error} ({path.read_bytes()[:200]!r})"
    right = expected is not None and found == expected
    return right, not right, "" if right else f"read {path.read_bytes()!r}"


def clear(message: str, path: Path) -> bool:
    """Return whether a message is one line, names the file and is short enough to read."""
    return message.isprintable() and len(message) < 800 and str(path) in message


def triples_of(ratings: Ratings) -> Triples:
    users, items = ratings.user_ids[ratings.users], ratings.item_ids[ratings.items]
    ratings = zip(users, items, ratings.values, strict=True)
    return [(str(user), str(item), float(np.float32(value))) for user, item, value in ratings]


def files(tried: int, folder: Path) -> Iterator[Fault]:
    """Yield rows on damaged rating files, read in this process."""
    for number, (name, damage) in enumerate(DAMAGES.items()):
        count = Count(f"file of ratings: {name}")
        rng = random.Random(number)
        for turn in range(-(-tried // len(DAMAGES))):
            format = list(FORMATS)[turn % len(FORMATS)]
            content = damage(valid(format, rng), FORMATS[format][0], rng)
            path, config = file_of(format, folder, content)
            count.add(*attempt(path, config, slow(format, content)))
            path.unlink()
        yield count.row


def kinds(tried: int, folder: Path) -> Iterator[Fault]:
    """Yield rows on files in the variants that users have; every other one is damaged."""
    for number, (name, make) in enumerate(KINDS.items()):
        count, rng = Count(f"file as people have it: {name}"), random.Random(number)
        for turn in range(-(-tried // len(KINDS))):
            made = make(rng)
            content, cut = damaged(made.content, rng) if turn % 2 else (made.content, False)
            path, test = folder / "mine.csv", folder / "test.csv"
            path.write_bytes(content)
            test.write_bytes(made.test)
            settings = made.settings | ({"test_file": str(test)} if made.test else {})
            count.add(*verdict(path, Config(dataset=str(path), **settings), made, turn % 2, cut))
        yield count.row


def verdict(
    path: Path, config: Config, made: Made, is_damaged: int, cut: bool
) -> tuple[bool, bool, str]:
    """Return the same as `attempt`, for a file of a kind that may be damaged."""
    try:
        try:
            ratings = load_ratings(config, lambda _: None)
        except UserError as error:
            if not made.advice or "python -c" not in str(error):
                raise
            try:
                converted = follow(str(error))
            except ValueError as failure:  # pandas cannot read the damaged file
                raise error from failure
            ratings = load_ratings(replace(config, dataset=converted), lambda _: None)
    except UserError as error:
        return bool(is_damaged) and clear(str(error), path.parent), False, str(error)
    except Exception as error:
        return False, False, f"{type(error).__name__}: {error} ({path.read_bytes()!r})"
    found = triples_of(ratings)
    written = [(user, item, float(np.float32(rating))) for user, item, rating in made.triples]
    if is_damaged:
        right = agrees(found, written, cut, *([CELLS] if made.advice else []))
    else:
        held_out = ratings.held_out if made.latest else np.zeros(len(found), bool)
        latest = {found[n][:2] for n in np.flatnonzero(held_out)}
        right = found == written and latest == (made.latest or set())
    return right, not right, "" if right else f"read {path.read_bytes()!r}: {found}"


def follow(message: str) -> str:
    """Run the Python command that a message advises, and return the path of the file it writes."""
    code = shlex.split(message[message.index("python -c") :].partition(" (one of")[0])[2]
    path = re.findall(r'to_csv\("([^"]+)"', code)[-1]
    Path(path).unlink(missing_ok=True)
    exec(code, {})
    return path


def long_lines(folder: Path) -> Iterator[Fault]:
    """Yield a row on lines of ten million characters, whose memory is limited."""
    count = Count("file of ratings: a line of 10^7 characters")
    rng = random.Random(0)
    for format in FORMATS:
        good = valid(format, rng).rstrip(b"\r\n") + b"\n"
        for line in (b"1" * LONG_LINE, b"1,2,3," + b"x" * LONG_LINE, b'"' * LONG_LINE,
                     b",".join([b"1"] * (LONG_LINE // 2)), b"::" * (LONG_LINE // 2)):
            for content in (good + line, good + line + b"\n" + good, line, line + b"\n" + good):
                path, config = file_of(format, folder, content)
                before = fresh_peak()
                survived, lost, message = attempt(path, config, None)
                growth = peak_memory_mb() - before
                if growth > MOST_GROWTH:
                    survived, message = False, f"{growth:.0f} MB more: {message}"
                count.add(survived, lost, message)
                path.unlink()
    yield count.row


def fresh_peak() -> float:
    """Reset the peak of resident memory, if the system allows it, and return it in MB."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return peak_memory_mb()


def commands(folder: Path) -> Iterator[Fault]:
    """Yield a row on damaged files, passed to the command line."""
    rng, count = random.Random(1), Count("python main.py on a damaged file")
    damages, number = list(DAMAGES.values()), 0
    while count.row.tried < COMMANDS:
        number += 1
        format = rng.choice(list(FORMATS))
        content = damages[number % len(damages)](valid(format, rng), FORMATS[format][0], rng)
        if slow(format, content) is not None:
            continue  # a valid file would be trained on, which other tests cover
        path, config = file_of(format, folder, content)
        flags = ["--dataset", config.dataset]
        flags += ["--data_dir", config.data_dir] if config.data_dir else []
        done = subprocess.run(
            [sys.executable, str(ROOT / "main.py"), *flags, "--comet", "off"],
            cwd=folder, capture_output=True, text=True,
        )
        message = done.stderr.removesuffix("\n")
        left = [found for found in folder.iterdir() if found != path]
        one_line = message.startswith("main.py: error: ") and "\n" not in message
        count.add(done.returncode == 2 and one_line and not left, bool(left), message)
        path.unlink()
    yield count.row


def archives(folder: Path) -> Iterator[Fault]:
    """Yield rows on damaged archives, with the published checksum and with a matching one."""
    dataset, rng = datasets.DATASETS["ml-1m"], random.Random(2)
    titles, lines = b"1::A::B\n" * 99, b"1::1::5::0\n" * 99
    good = zipped({"ml-1m/movies.dat": titles, "ml-1m/ratings.dat": lines})

    def flipped() -> bytes:
        damaged = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        return bytes(damaged)

    def cut() -> bytes:
        return good[: rng.randrange(len(good))]

    cases: dict[str, tuple[int, bool, Callable[[], bytes]]] = {
        "truncated": (ARCHIVES // 4, False, cut),
        "wrong checksum": (ARCHIVES // 4, False, flipped),
        "truncated, checksum right": (ARCHIVES // 4, True, cut),
        "bytes changed, checksum right": (ARCHIVES // 4, True, flipped),
    }
    for name, (tried, known, make) in cases.items():
        count = Count(f"archive: {name}")
        for _ in range(tried):
            content = make()
            (folder / "served.zip").write_bytes(content)
            digest = hashlib.sha256(content if known else good).hexdigest()
            offered = replace(dataset, digest=digest, bytes=len(content))
            there = folder / "there"
            url = mock.patch.object(datasets.Dataset, "url", (folder / "served.zip").as_uri())
            before, message = sorted(folder.rglob("*")), ""
            with url:
                try:
                    datasets.fetch(offered, there)
                    survived = known or content == good
                except (UserError, OSError) as error:  # load_ratings reports these in one line
                    survived, message = "\n" not in str(error), str(error)
                except Exception as error:
                    survived, message = False, f"{type(error).__name__}: {error}"
            left = [path for path in sorted(folder.rglob("*")) if path not in (*before, there)]
            complete = {path.name for path in left} == {"movies.dat", "ratings.dat"}
            whole = not left or complete and not message
            count.add(survived and whole, not whole, message)
            for path in left:
                path.unlink()
        yield count.row


def zipped(members: dict) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return content.getvalue()


STRANGE = [None, True, -1, 0, 0.5, 1e308, 10**400, float("nan"), float("inf"), "", "x", "../../x",
           "\0", [], [[]], [None], {}, {"a": 1}, "9" * 9_000, [1e9] * 3]


def damaged_json(content: dict, rng: random.Random) -> bytes:
    """Return a JSON file with a changed value or changed bytes."""
    text = json.dumps(content, indent=2).encode()
    kind = rng.randrange(6)
    if kind == 0:
        return text[: rng.randrange(len(text))]
    if kind == 1:
        return binary(text, "", rng)
    if kind == 2:
        return rng.choice([b"", b"[]", b"null", b"1", b"[" * 100_000, b"\xff\xfe{}",
                           b'{"a":' * 9_000, b"NaN", b"9" * 9_999, rng.randbytes(99)])
    changed = dict(content)
    name = rng.choice(list(changed))
    if kind == 3:
        del changed[name]
    else:
        changed[name] = rng.choice(STRANGE)
    return json.dumps(changed).encode()


def records(folder: Path) -> Iterator[Fault]:
    """Yield rows on damaged records of earlier runs, which --resume and --num_splits read."""
    rng = random.Random(3)
    ratings = index_ratings("mine", np.arange(4), np.arange(4), np.array([1, 2, 3, 4]), (1.0, 4.0))
    config = Config(dataset="mine", num_splits=2, results_dir=str(folder), run_name="run",
                    split_seed=1)
    one = replace(config, num_splits=1, results_dir=str(folder / "run"), run_name="split_1")
    summary = {"status": "finished", "final_test_rmse": 0.9, "final_test_mae": 0.7,
               "ndcg_at_10": 0.3, "recall_at_10": 0.1, "seconds": 3.5}
    RepeatedRuns(config, ratings.fingerprint).close()
    (folder / "run" / "split_1").mkdir()
    settings = folder / "run" / "settings.json"
    parts = {
        "settings.json": (settings, json.loads(settings.read_text())),
        "summary.json": (folder / "run" / "split_1" / "summary.json", summary),
        "config.json": (folder / "run" / "split_1" / "config.json",
                        json.loads(json.dumps(one.to_dict())) | {"num_users": 4}),
    }

    def resume() -> None:
        splits = RepeatedRuns(config, ratings.fingerprint)
        try:
            found = splits.finished(one)
            if found:
                splits.add(one, found)
                splits.add(replace(one, split_seed=2), summary)
                splits.table()
            else:
                splits.unfinished(one)
        finally:
            splits.close()

    for name, (path, content) in parts.items():
        count = Count(f"record: {name}")
        for file, undamaged in parts.values():
            file.write_text(json.dumps(undamaged))
        if name == "config.json":
            parts["summary.json"][0].unlink()
        for _ in range(RECORDS // len(parts)):
            path.write_bytes(damaged_json(content, rng))
            count.add(*outcome_of(resume, path))
            if name == "config.json":
                (folder / "run" / "split_1").mkdir(exist_ok=True)
        yield count.row
    yield from metrics(folder, rng)
    yield from checkpoints(folder, rng)


def metrics(folder: Path, rng: random.Random) -> Iterator[Fault]:
    """Yield a row on metrics.csv: no change before the checkpoint's position is accepted."""
    count, path = Count("record: metrics.csv"), folder / "metrics" / "metrics.csv"
    path.parent.mkdir()
    good = (b"epoch,learning_rate,train_cost,train_rmse,test_cost,test_rmse,test_mae,"
            b"validation_rmse,reconstruction_rmse_test_ratings_as_input,epoch_seconds,"
            b"elapsed_seconds\n1,0.001,9.5,1.5,,,,,,0.1,0.1\n")
    position = {"bytes": len(good), "sha256": hashlib.sha256(good).hexdigest()}
    for _ in range(RECORDS // 4):
        content = rng.choice([truncated, binary, inserted, random_bytes, not_utf8])(good, "", rng)
        path.write_bytes(content)
        run = RunFolder(folder, "metrics", named_by_user=False)
        survived, _, message = outcome_of(lambda run=run: run.truncate_to(position), path)
        accepted = not message and content[: len(good)] != good
        count.add(survived and not accepted, accepted, message)
    yield count.row


def checkpoints(folder: Path, rng: random.Random) -> Iterator[Fault]:
    """Yield rows on the files of a checkpoint: no damaged one is accepted."""
    import_tensorflow()
    from AutoRec import AutoRec
    from autorec_tf.training.epochs import TrainState

    matrix = RatingMatrix.from_triples(*np.ones((3, 1), int), (2, 40))
    model = AutoRec(40, Config(hidden_neuron=(5,), engine="dense"))
    state, values = TrainState(model, Split(matrix, matrix)), model.V.numpy()
    state.epoch.assign(7)
    checkpoint = Checkpoint(folder, "checkpoint", {"random_seed": 1})
    checkpoint.save(state, 7, 1.5, {"bytes": 0, "sha256": ""})
    for path in sorted(folder.glob("checkpoint*")):
        count = Count(f"checkpoint: {path.name.removeprefix('checkpoint')}")
        good = path.read_bytes()
        for _ in range(RECORDS // 5):
            content = rng.choice([truncated, binary, inserted, random_bytes, not_utf8])(
                good, "", rng
            )
            path.write_bytes(content)
            model.V.assign(0 * values)
            survived, _, message = outcome_of(lambda: checkpoint.restore(state), path)
            wrong = not message and not np.array_equal(model.V, values)
            count.add(survived and not wrong, wrong, message)
        path.write_bytes(good)
        yield count.row


def outcome_of(function: Callable[[], None], path: Path) -> tuple[bool, bool, str]:
    """Return the same as `attempt`: survived if `function` succeeds or has a clear message."""
    try:
        function()
    except UserError as error:
        message = str(error)
        return "\n" not in message and len(message) < 1000, False, message
    except Exception as error:
        start = path.read_bytes()[:200] if path.exists() else b""
        return False, False, f"{type(error).__name__}: {error} ({start!r})"
    return True, False, ""


def rows(tried: int = TRIED) -> Iterator[Fault]:
    """Yield a row on every fault of input files."""
    read = (lambda folder: files(tried, folder), lambda folder: kinds(tried // 4, folder))
    for part in (*read, long_lines, archives, records, commands):
        with tempfile.TemporaryDirectory() as folder:
            yield from part(Path(folder).resolve())


def main() -> int:
    parser = argparse.ArgumentParser(prog="inputs", description=__doc__.split("\n")[0])
    parser.add_argument("--tried", type=int, default=TRIED, help="number of rating files to damage")
    total = Fault("all", 0, 0, 0, "")
    print("| fault | tried | survived | lost | message |\n| --- | --- | --- | --- | --- |")
    for row in (*rows(parser.parse_args().tried), total):
        print(f"| {row.fault} | {row.tried} | {row.survived} | {row.lost} | {row.message[:150]} |",
              flush=True)
        total.tried, total.survived = total.tried + row.tried, total.survived + row.survived
        total.lost += row.lost
    return int(total.survived < total.tried)


if __name__ == "__main__":
    sys.exit(run_program("inputs", main))
