"""Files of every format, as their publishers write them, to ratings; and what is refused."""

import csv
import itertools
import json
import re
import sys

import numpy as np
import pytest

import main
from autorec_tf.config import Config
from autorec_tf.data import datasets, delimited
from autorec_tf.data.sources import plain_name
from autorec_tf.resolution import split_configs
from data_preprocessor import load_ratings, split_ratings
from tests.conftest import triples_of, zipped
from tests.facts import assert_names, refused
from tests.figures import undrawn

ROLES = ("user", "item", "rating", "timestamp")
HALF_STARS = [(7, 30, 0.5), (2, 3952, 1.5), (7, 4, 3.0), (900, 30, 4.5), (2, 4, 5.0)]
WHOLE_STARS = [(7, 30, 5), (2, 3952, 1), (7, 4, 3), (900, 30, 4), (2, 4, 2)]
FORMATS = {  # of a line, the header, and the triples
    "ml-100k": ("{}\t{}\t{}\t{}\n", "", WHOLE_STARS),
    "ml-1m": ("{}::{}::{}::{}\n", "", WHOLE_STARS),
    "ml-10m": ("{}::{}::{:g}::{}\n", "", HALF_STARS),
    "ml-20m": ("{},{},{},{}\n", "userId,movieId,rating,timestamp\n", HALF_STARS),
}
FORMATS |= dict.fromkeys(("ml-25m", "ml-32m"), FORMATS["ml-20m"])


def in_format(name, triples=None):
    """Triples as the published dataset `name` writes them, bytes; timestamps rise."""
    line, header, own = FORMATS[name]
    rows = (line.format(*triple, 900_000_000 + n) for n, triple in enumerate(triples or own))
    return (header + "".join(rows)).encode()


def load(dataset, *, log=lambda _: None, **settings):
    return load_ratings(Config(dataset=str(dataset), **settings), log)


@pytest.fixture
def write(tmp_path):
    """A function that writes a file and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def refusal(dataset, **settings):
    """The message that refuses the data: one line."""
    with refused() as error:
        load(dataset, **settings)
    message = str(error.value)
    assert len(message) < 700
    return message


# The published datasets


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_dataset_is_read_without_a_word(write, name):
    path, said = write(f"data/{datasets.DATASETS[name].ratings}", in_format(name)), []
    ratings = load(name, data_dir=str(path.parent), log=said.append)
    assert triples_of(ratings) == FORMATS[name][2]
    assert ratings.scale == ((0.5, 5) if FORMATS[name][2] is HALF_STARS else (1, 5))
    assert (ratings.name, ratings.held_out, said) == (name, None, [])
    assert ratings.user_ids.dtype == ratings.item_ids.dtype == np.int64


@pytest.mark.parametrize("name", FORMATS)
def test_a_published_dataset_is_downloaded_with_its_titles(serve, tmp_path, name):
    dataset = datasets.DATASETS[name]
    content = dict.fromkeys(dataset.files, b"x") | {dataset.ratings: in_format(name)}
    serve(zipped({f"{dataset.inside}/{file}": text for file, text in content.items()}), name=name)
    (tmp_path / "there").mkdir()
    assert triples_of(load(name, data_dir=str(tmp_path / "there"))) == FORMATS[name][2]
    assert {path.name for path in (tmp_path / "there").iterdir()} == set(dataset.files)


@pytest.mark.parametrize("name", sorted(set(FORMATS) - {"ml-1m"}))
@pytest.mark.parametrize(
    "fields, wrong",
    [
        (("x", 1, 3), "id 'x'"), (("", 1, 3), "id ''"), ((1, 1, 6), "rating 6"),
        ((1, 1, 0), "rating 0"), ((1, 1, "nan"), "rating 'nan'"), ((1, 1, " 3"), "rating ' 3'"),
    ],
)
def test_a_published_file_with_a_bad_line_is_refused(write, name, fields, wrong):
    line = FORMATS[name][0].replace(":g", "").format(*fields, 5)
    path = write(datasets.DATASETS[name].ratings, in_format(name) + line.encode())
    number = 6 + bool(FORMATS[name][1])
    message = refusal(name, data_dir=str(path.parent))
    low, high = datasets.DATASETS[name].scale
    assert message.startswith(f"{path}, line {number}: {line.rstrip()!r}: ")
    assert_names(message, wrong, f" {low:g} to {high:g}")


def test_a_published_csv_without_its_header_is_refused(write):
    path = write("ratings.csv", in_format("ml-20m").split(b"\n", 1)[1])
    message = refusal("ml-20m", data_dir=str(path.parent))
    assert_names(message, f"{path}, line 1", "header", "userId,movieId,rating,timestamp")


# Netflix' files

NETFLIX = {
    "combined_data_1.txt": "8:\n1488844,3,2005-09-06\n822109,5,2005-05-13\n"
    "12:\n1488844,1,2005-12-26\n",
    "combined_data_2.txt": "4500:\n822109,4,2004-01-01\n",
}
NETFLIX_TRIPLES = [(1488844, 8, 3), (822109, 8, 5), (1488844, 12, 1), (822109, 4500, 4)]


@pytest.fixture(params=[1, 9, 1 << 22])
def blocks_of(request, monkeypatch):
    """Files are parsed so many bytes at a time."""
    monkeypatch.setattr(delimited, "READ_BYTES", request.param)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_netflix_files_are_read_as_one(write, blocks_of, end):
    for name, text in NETFLIX.items():
        path = write(name, text.replace("\n", end))
    ratings = load("netflix", data_dir=str(path.parent))
    assert triples_of(ratings) == NETFLIX_TRIPLES
    assert (ratings.name, ratings.scale) == ("netflix", (1, 5))


def test_netflix_training_set_has_a_file_a_movie(write):
    texts = "".join(NETFLIX.values()).replace(":\n", ":\r").split("\n")[:-1]
    movies = "\n".join(texts).replace("\r", "\n")
    for part in re.findall(r"\d+:\n(?:\d+,.*\n?)+", movies):
        path = write(f"training_set/mv_{int(part.split(':')[0]):07}.txt", part)
    assert triples_of(load("netflix", data_dir=str(path.parent.parent))) == NETFLIX_TRIPLES


def test_one_of_netflix_files_is_known_by_its_content(write):
    path, said = write("mine", NETFLIX["combined_data_1.txt"]), []
    assert triples_of(load(path, log=said.append)) == NETFLIX_TRIPLES[:3]
    assert "Netflix" in said[0]


@pytest.mark.parametrize(
    "line, number",
    [
        ("822109,6,2005-05-13", 3), ("822109,5", 3), ("822109,5,2005-05-13,1", 3),
        ("822109,5,yesterday", 3), ("822109,5,2005-13-13", 3), ("-822109,5,2005-05-13", 3),
        ("822109,-1,", 3), ("822109,-1,2005-05-13", 3), (",,", 3), ("", 3), ("8", 3), (":", 3),
        ("-0,5,2005-05-13", 3), ("822109,5,", 3), ("8:9:", 3),
    ],
)
def test_a_bad_line_of_netflix_is_named(write, blocks_of, line, number):
    path = write("combined_data_1.txt", f"8:\n1488844,3,2005-09-06\n{line}\n9:\n1,1,2005-01-01\n")
    message = refusal("netflix", data_dir=str(path.parent))
    assert message.startswith(f"{path}, line {number}: {line!r}: ")


def with_a_third_file(write, text):
    """The path of `text` as one more of Netflix' files."""
    for name, content in NETFLIX.items():
        write(name, content)
    return write("combined_data_3.txt", text)


def test_a_rating_before_the_first_movie_is_refused(write):
    path = with_a_third_file(write, "1,1,2005-01-01\n9:\n")
    message = refusal("netflix", data_dir=str(path.parent))
    assert message.startswith(f"{path}, line 1: '1,1,2005-01-01': ")
    assert_names(message, "id ''", "MovieID:", "CustomerID,Rating,YYYY-MM-DD")


def test_a_pair_that_two_of_netflix_files_hold_is_refused(write):
    path = with_a_third_file(write, "8:\n1,1,2005-01-01\n1488844,3,2005-09-06\n")
    message, first = refusal("netflix", data_dir=str(path.parent)), "combined_data_1.txt, line 2"
    assert_names(message, f"{path}, line 3", "user 1488844", "item 8", path.parent / first)


def test_netflix_is_split_by_date(write):
    path = write("combined_data_1.txt", NETFLIX["combined_data_1.txt"])
    ratings = load("netflix", data_dir=str(path.parent), split="time", train_ratio=0.7)
    assert ratings.held_out.tolist() == [False, False, True]


# Files of one's own

TEXT_TRIPLES = [("zoe", "The Matrix", 4.5), ("ann", "Up", 0.5), ("zoe", "Up", 3.0)]


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "crlf"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["no mark", "mark"])
@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL], ids=["plain", "quoted"])
@pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
@pytest.mark.parametrize("header", [None, ("userId", "title", "movieId", "rating")])
def test_what_a_csv_reader_reads_is_read(tmp_path, header, separator, quoting, mark, end):
    triples = [*TEXT_TRIPLES, ('say "hi"', f"a{separator}b", 1.0)]
    path = tmp_path / "ratings.csv"
    with open(path, "w", encoding="utf-8", newline="") as file:
        file.write(mark)
        writer = csv.writer(file, delimiter=separator, quoting=quoting, lineterminator=end)
        if header:
            writer.writerow(header)
        writer.writerows((user, "é, x", item, rating) for user, item, rating in triples)
    ratings = load(path, columns=None if header else "1,3,4")
    assert triples_of(ratings) == triples
    assert (ratings.name, ratings.scale) == ("ratings.csv", (0.5, 4.5))


@pytest.mark.parametrize(
    "content, columns, separator, others, sources",
    [
        ("\ufeffuserId,movieId,rating\r\n1,2,3\r\n3,2,4\r\n", None, "comma",
         {"a header", "byte-order", "CRLF"}, ("userId", "movieId", "rating")),
        ("1\t2\t3\t9\n3\t2\t4\t9\n", None, "tab", {"no header"}, (1, 2, 3, 4)),
        ("3;1;2\n4;3;2\n", "2,3,1", "semicolon", {"no header"}, (2, 3, 1)),
        ('stars,who,"what"\n3,1,2\n4,3,2\n', "who,what,stars", "comma", {"a header", "quotes"},
         ("who", "what", "stars")),
        ("1::2::3\n3::2::4\n", None, "::", {"no header"}, (1, 2, 3)),
    ],
)
def test_what_was_detected_is_said_in_one_line(
    write, content, columns, separator, others, sources
):
    path, lines = write("mine", content), []
    assert triples_of(load(path, columns=columns, log=lines.append)) == [(1, 2, 3), (3, 2, 4)]
    (line,) = lines
    separators, found = {"comma", "tab", "semicolon", "::"}, set(re.findall(
        r"a header|no header|byte-order|CRLF|quotes|comments|compressed|decimal", line))
    assert {each for each in separators if each in line} == {separator} and found == others
    parts = [part.split() for part in line.split(",")]
    said = {part[0]: part[-1] for part in parts if part[0] in ROLES}
    assert said == dict(zip(ROLES, map(str, sources), strict=False)) and " mine:" in line


def test_ids_are_numbers_if_all_are_and_else_the_text_itself(write):
    numbers = load(write("a.csv", "10,1,1\n9,1,2\n-3,1,3\n"))
    assert numbers.user_ids.tolist() == [-3, 9, 10] and numbers.user_ids.dtype == np.int64
    for odd in ("x", "007", "9" * 19, "+1", "1.0"):
        texts = load(write("b.csv", f"10,1,1\n9,1,2\n{odd},1,3\n"))
        assert texts.user_ids.tolist() == sorted(["10", "9", odd])
        assert texts.item_ids.tolist() == [1]


def test_a_file_with_double_colons_may_have_any_ids_and_ratings(write):
    ratings = load(write("mine.dat", "zoe::Up::-3.25\nann::Up::10\n"))
    assert triples_of(ratings) == [("zoe", "Up", -3.25), ("ann", "Up", 10)]
    assert ratings.scale == (-3.25, 10)


def test_the_scale_can_be_given_and_what_lies_outside_is_refused(write):
    path = write("a.csv", "1,1,2\n2,1,4\n")
    assert load(path).scale == (2, 4)
    assert load(path, rating_scale=(1.0, 5.0)).scale == (1, 5)
    message = refusal(path, rating_scale=(1.0, 3.0))
    assert_names(message, f"{path}, line 2: '2,1,4'", "rating 4", "1 to 3")


def test_ratings_that_are_all_alike_need_a_scale(write):
    path = write("a.csv", "1,1,4\n2,1,4\n")
    assert_names(refusal(path), path, "is 4", "--rating_scale LOW HIGH")
    assert load(path, rating_scale=(1.0, 5.0)).scale == (1, 5)


@pytest.mark.parametrize(
    "content, columns, facts",
    [
        (b"", None, ["no ratings"]),
        (b"user,item,rating\n", None, ["no ratings"]),
        (b"just text\n", None, ["line 1: 'just text'", "user", "item", "rating", "::"]),
        (b"1,2\n", None, ["line 1: '1,2'", "user", "item", "rating", "::"]),
        (b"who,what,stars\n1,2,3\n", None, ["header", "who", "what", "stars", "--columns"]),
        (b"user,item,rating,score\n1,2,3,4\n", None, ["header", "score", "--columns"]),
        (b"1,2,3\n", "1,2,4", ["--columns 1,2,4", "1 to 3"]),
        (b"a,b,c\n1,2,3\n", "a,b,d", ["--columns a,b,d", "a, b, c"]),
        (b"1,2,3\n\xc3\xa9,2,3\n1,\xe9,3\n", None, [r"line 3: '1,\\xe9,3'", "UTF-8", "encoding="]),
        (b"1,2,3\n1,4,3,5\n", None, ["line 2: '1,4,3,5'", "3 fields", "comma"]),
        (b"1,2,3\n1,4\n1,5,3,5\n", None, ["line 2: '1,4'", "3 fields", "2 lines"]),
        (b"1,2,3\n1,4 ,3\n", None, ["line 2: '1,4 ,3'", "id '4 '"]),
        (b"1,2,3\n1,,3\n", None, ["line 2: '1,,3'", "id ''"]),
        (b"1,2,3\n1,4,1e\n", None, ["line 2: '1,4,1e'", "rating '1e'"]),
        (b"1,2,3\n1,4,1e999\n", None, ["line 2: '1,4,1e999'", "rating '1e999'"]),
        (b"1,2,3\n1,4,\n1,5,nan\n", None, ["line 2", "2 of 3", "--no_rating NaN"]),
        (b"1,2,3,4\n1,2,3\n1,4,3,5,6\n", "1,2,3", ["line 2: '1,2,3'", "4 fields", "2 lines"]),
        (b"1,2,3,4,5\n1,2,3,4\n1,4,3,5\n", "1,2,3", ["line 2: '1,2,3,4'", "5 fields", "2 lines"]),
        (b"1,2,3\n1,4,inf\n", None, ["line 2: '1,4,inf'", "rating 'inf'"]),
        (b'1,2,3\n1,"4,3\n', None, ["""line 2: '1,"4,3'""", "quote", "quoting=3"]),
        (b'1,2,3\n1,4"5,3\n', None, ["""line 2: '1,4"5,3'""", "quote", "quoting=3"]),
        (b'1,2,3\n1,"4"5,3\n', None, ["""line 2: '1,"4"5,3'""", "quote", "quoting=3"]),
        (b"1,2,3\n1,4\r,3\n", None, [r"line 2: '1,4\r,3'", "control character"]),
        (b"1,2,3\n1,4\x00,3\n", None, [r"line 2: '1,4\x00,3'", "control character"]),
        (b'1::2::3\n"1"::4::3\n', None, ["""line 2: '"1"::4::3'""", "quote"]),
        (b"1,2,3\n1,2,4\n", None, ["line 2", "user 1", "item 2", "line 1"]),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(write, blocks_of, content, columns, facts):
    path = write("a.csv", content)
    assert_names(refusal(path, columns=columns), path, *facts)


def test_a_line_without_end_is_refused_within_bounded_memory(write, monkeypatch):
    import tracemalloc

    path = write("a.csv", b"1,2,3\n" + b"x" * 30_000_000)
    tracemalloc.start()
    try:
        assert "line 2: 'xxx" in refusal(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["nowhere.csv", "ml-5m", "."])
def test_a_name_that_is_neither_file_nor_dataset_is_refused(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    message = refusal(name)
    assert message.startswith(f"{name} ")
    assert_names(message, "--data_dir", *datasets.DATASETS, "synthetic")


@pytest.mark.parametrize(
    "path, name",
    [("/tmp/u1.base", "u1.base"), ("../..", "file"), ("a b/c:d é.csv", "c_d é.csv"),
     ("/x/ml-1m", "ml-1m.file"), ("x" * 300, "x" * 80), (".hidden", "hidden"), ("é" * 99, "é" * 40),
     ("a\n\x1b.csv", "a__.csv")],
)
def test_the_name_of_a_dataset_is_a_plain_one(path, name):
    assert plain_name(path) == name
    Config(run_name=plain_name(path))  # which refuses what could leave its folder


def test_the_fingerprint_works_with_ids_that_are_text(write):
    lines = ["zoe,Up,3", "ann,Up,4", "zoe,Jaws,3"]
    first, again, *others = (
        load(write(f"{number}.csv", "\n".join(text))).fingerprint
        for number, text in enumerate(
            [lines, lines, [*lines[1:], lines[0]], ["zoé,Up,3", *lines[1:]],
             ["zoe,Up,2", *lines[1:]], ["ann,Up,3", "zoe,Up,4", "ann,Jaws,3"]]
        )
    )
    assert first == again and len({first, *others}) == 5


# Parquet


@pytest.fixture
def write_parquet(tmp_path):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    def write(columns, name="ratings.parquet"):
        parquet.write_table(arrow.table(columns), tmp_path / name)
        return tmp_path / name

    return write


def test_a_parquet_file_is_read(write_parquet):
    path = write_parquet({"rating": [4.5, 0.5, 3.0], "userId": ["zoe", "ann", "zoe"],
                          "movieId": [3, 4, 4], "timestamp": [5, 6, 4]})
    ratings = load(path, split="time", train_ratio=0.7)
    assert triples_of(ratings) == [("zoe", 3, 4.5), ("ann", 4, 0.5), ("zoe", 4, 3.0)]
    assert ratings.held_out.tolist() == [False, True, False]
    assert load(path, columns="userId,timestamp,rating").item_ids.tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    "columns, facts",
    [
        ({"user": [1, None], "item": [1, 2], "rating": [1, 2]}, ["row 2: ',2,2'", "id ''"]),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, float("inf")]}, ["row 2", "rating 'inf'"]),
        ({"user": [1, 2], "item": [1, 2], "rating": [1, float("nan")]}, ["row 2", "--no_rating"]),
        ({"user": [[1], [2]], "item": [1, 2], "rating": [1, 2]}, ["Unsupported Type:list"]),
        ({"user": [1, 2], "item": [1, 2], "rating": ["1", "x"]}, ["row 2: '2,2,\"x\"'", "rating"]),
        ({"user": [1, 2], "item": [" a", "b"], "rating": [1, 2]}, ["row 1", "id ' a'"]),
        ({"who": [1, 2], "what": [1, 2], "rating": [1, 2]}, ["header", "who", "--columns"]),
        ({"user": ["a\nb", "c"], "item": [1, 2], "rating": [1, None]},
         ["row 2", "1 of 2", "--no_rating"]),
        ({"user": [1, 1], "item": [2, 2], "rating": [1, 2]}, [
            "row 2", "user 1", "item 2", "row 1"]),
    ],
)
def test_a_parquet_file_that_holds_something_else_is_refused(write_parquet, columns, facts):
    path = write_parquet(columns)
    assert_names(refusal(path), path, *facts)


def test_a_damaged_parquet_file_is_refused(write_parquet, tmp_path):
    content = write_parquet({"user": [1, 2], "item": [1, 2], "rating": [1, 2]}).read_bytes()
    for damaged in (content[:-9], content[:60], b"PAR1", content[:4] + bytes(len(content) - 4)):
        (tmp_path / "x").write_bytes(damaged)
        assert_names(refusal(tmp_path / "x"), tmp_path / "x", "Parquet")


def test_parquet_without_pyarrow_is_refused_with_its_name(write, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    path = write("ratings.parquet", b"PAR1")
    assert_names(refusal(path), path, "Parquet", "pip install", "pyarrow")


# Test ratings of one's own, and the latest ones


@pytest.fixture(scope="module")
def folds(tmp_path_factory):
    """MovieLens-100K made small: u.data and its five folds, in the published format."""
    folder, rng = tmp_path_factory.mktemp("ml-100k"), np.random.default_rng(3)
    pairs = rng.permutation(30 * 20)[:250]
    lines = [f"{1 + p // 20}\t{1 + p % 20}\t{rng.integers(1, 6)}\t{874965758 + p}\n" for p in pairs]
    (folder / "u.data").write_text("".join(lines))
    for fold in range(5):
        test = lines[50 * fold : 50 * fold + 50]
        (folder / f"u{fold + 1}.test").write_text("".join(test))
        (folder / f"u{fold + 1}.base").write_text("".join(x for x in lines if x not in test))
    return folder


@pytest.mark.parametrize("fold", range(1, 6))
@pytest.mark.parametrize("orientation", ["item", "user"])
def test_the_folds_of_ml_100k_are_split_as_they_are_published(folds, fold, orientation):
    base, test = folds / f"u{fold}.base", folds / f"u{fold}.test"
    ratings = load(base, test_file=str(test))
    split = split_ratings(ratings, 0.5, 7, orientation, 0.1)
    found = set()
    for part in (split.train, split.validation):
        found |= set(zip(part.rows, part.indices, part.values, strict=True))
    rows, columns = ("item_ids", "user_ids") if orientation == "item" else ("user_ids", "item_ids")
    place = slice(None) if orientation == "user" else slice(None, None, -1)

    def triples(pairs):
        return {
            (*(getattr(ratings, rows)[r], getattr(ratings, columns)[c])[place], v)
            for r, c, v in pairs
        }

    def published(path):
        rows = (line.split("\t")[:3] for line in path.read_text().splitlines())
        return {tuple(map(int, row)) for row in rows}

    assert triples(found) == published(base)
    pairs = zip(split.test.rows, split.test.indices, split.test.values, strict=True)
    assert triples(pairs) == published(test)
    assert (len(split.train), len(split.validation), len(split.test)) == (180, 20, 50)


def held_out_triples(ratings):
    """The triples on the test side, sorted."""
    every = zip(triples_of(ratings), ratings.held_out, strict=True)
    return sorted(triple for triple, is_test in every if is_test)


@pytest.mark.parametrize("name", ["ml-100k", "mine"])
def test_published_folds_are_the_whole_dataset_and_each_rating_is_tested_once(folds, name):
    """By their names: in the published format, or in one that is found out."""
    whole, tested, names = load("ml-100k", data_dir=str(folds)), [], ("u1", "u2", "u3", "u4", "u5")
    for fold in names:
        ratings = load(name, data_dir=str(folds), folds=(fold,))
        assert ratings.name == name
        assert ratings.user_ids.tolist() == whole.user_ids.tolist()
        assert ratings.item_ids.tolist() == whole.item_ids.tolist()
        assert sorted(triples_of(ratings)) == sorted(triples_of(whole))
        lines = (folds / f"{fold}.test").read_text().splitlines()
        published = sorted(tuple(map(int, line.split("\t")[:3])) for line in lines)
        assert held_out_triples(ratings) == published
        tested += published
    assert sorted(tested) == sorted(triples_of(whole))
    first = load(name, data_dir=str(folds), folds=names)  # which are not all kept in memory
    assert first.fingerprint == load(name, data_dir=str(folds), folds=("u1",)).fingerprint


def test_folds_of_ones_own_are_found_when_their_folder_has_a_plain_name(folds):
    config = Config(dataset=str(folds), folds=("u1", "u2"))
    resolved = main.resolve(config, load_ratings(config, lambda _: None))
    assert resolved.dataset == folds.name and str(folds) not in json.dumps(resolved.to_dict())
    sizes = [len(load_ratings(one, lambda _: None)) for one in split_configs(resolved)]
    assert sizes == [250, 250]


def test_a_fold_of_ones_own_may_be_called_train_and_be_of_any_format(write, tmp_path):
    write("mine/a.train", "user,item,rating\nx,1,3\ny,1,4\nx,1,3\n")
    write("mine/a.test", "rating;user;item\n2;z;5\n")
    said, settings = [], dict(folds=("a",), test_columns="user,item,rating")
    ratings = load(tmp_path / "mine", log=said.append, **settings)
    assert triples_of(ratings) == [("x", 1, 3), ("y", 1, 4), ("z", 5, 2)]
    assert held_out_triples(ratings) == [("z", 5, 2)] and ratings.name == "mine"
    named = [re.findall(r"a\.\w+", str(line)) for line in said]
    assert named == [["a.train"], ["a.test"], ["a.train"], ["a.test"]]  # it has a wider scale


@pytest.mark.parametrize(
    "name, names, facts",
    [
        ("ml-100k", ("u1", "u6"), ["--folds u1 u6", "{folds}/u6.base", "--data_dir"]),
        ("mine", ("u1", "u6"), ["--folds u1 u6", "{folds}/u6.base", "--data_dir"]),
        ("mine", ("half",), ["--folds half", "{folds}/half.test", "--data_dir"]),
        ("ml-1m", ("u1",), ["{folds}/u1.base, line 1: '", "UserID::MovieID"]),
        ("synthetic", ("u1",), ["--folds u1: synthetic "]),
        ("netflix", ("u1",), ["--folds u1: netflix "]),
    ],
)
def test_a_fold_that_is_not_there_is_refused_in_one_line(
    folds, monkeypatch, name, names, facts
):
    monkeypatch.setattr(delimited, "TRIES", 40)  # of 200 lines in another format
    (folds / "half.base").write_text("1\t1\t3\t1\n")
    message = refusal(name, data_dir=str(folds), folds=names)
    assert_names(message, *(str(fact).format(folds=folds) for fact in facts))


def test_given_test_ratings_do_not_depend_on_the_seed_and_validation_ratings_do(folds):
    ratings = load(folds / "u1.base", test_file=str(folds / "u1.test"))
    splits = [split_ratings(ratings, 0.9, seed, "item", 0.2) for seed in (1, 2)]
    first, second = ([*zip(s.test.rows, s.test.indices, strict=True)] for s in splits)
    assert first == second
    first, second = ([*zip(s.validation.rows, s.validation.indices, strict=True)] for s in splits)
    assert first != second and len(first) == len(second) == 40


def test_ids_of_the_test_file_alone_have_an_index(write):
    base = write("a.base", "1,1,3\n2,1,4\n")
    ratings = load(base, test_file=str(write("a.test", "x,1,3\n2,9,4\n")))
    assert ratings.user_ids.tolist() == ["1", "2", "x"] and ratings.item_ids.tolist() == [1, 9]
    split = split_ratings(ratings, 0.9, 1, "user")
    assert split.train.row_counts.tolist() == [1, 1, 0]
    assert split.train.column_counts.tolist() == [2, 0]
    assert split.test.row_counts.tolist() == [0, 1, 1]


def test_a_published_dataset_may_have_a_test_file(folds, write):
    test = write("mine.csv", "user,item,rating\n500,1,2.5\n")
    ratings = load("ml-100k", data_dir=str(folds), test_file=str(test))
    assert ratings.held_out.sum() == 1 and ratings.user_ids[-1] == 500 and len(ratings) == 251
    test = write("mine.csv", "500,1,9\n")
    message = refusal("ml-100k", data_dir=str(folds), test_file=str(test))
    assert_names(message, f"{test}, line 1", "rating 9", "1 to 5")


def test_a_test_file_that_is_not_there_is_refused_by_its_flag(write):
    message = refusal(write("a.csv", "1,1,3\n2,1,4\n"), test_file="u9.test")
    assert_names(message, "--test_file u9.test", "--data_dir")


@pytest.mark.parametrize("name", ["ml-100k", "ml-1m", "synthetic"])
def test_columns_of_a_dataset_that_has_its_own_are_refused(name, folds):
    message = refusal(name, columns="1,2,3", data_dir=str(folds))
    assert_names(message, "--columns 1,2,3", f" {name} ")


def test_a_pair_in_both_files_is_refused(write):
    base = write("a.csv", "user,item,rating\n1,1,3\n2,5,4\n")
    test = write("b.csv", "3,1,3\n2,5,4\n")
    message = refusal(base, test_file=str(test))
    assert_names(message, f"{test}, line 2", "user 2", "item 5", f"{base}, line 3")
    again = write("c.csv", "3,1,3\n3,1,4\n")
    message = refusal(base, test_file=str(again))
    assert_names(message, f"{again}, line 2", "user 3", "item 1", "line 1")


def test_the_fingerprint_tells_where_the_test_ratings_begin(write):
    lines = ["1,1,3\n", "2,1,4\n", "3,1,5\n", "4,1,2\n"]
    prints = {load(write("a", "".join(lines))).fingerprint}
    for n in (2, 3):
        base, test = write("a", "".join(lines[:n])), write("b", "".join(lines[n:]))
        prints.add(load(base, test_file=str(test)).fingerprint)
    assert len(prints) == 3


TIMED = "1,1,3,{}\n2,1,4,{}\n3,1,5,{}\n4,1,2,{}\n5,1,2,{}\n"


@pytest.mark.parametrize(
    "times, held_out",
    [
        ((5, 4, 3, 2, 1), [0, 1]), ((1, 9, 1, 1, 1), [1, 4]), ((-5, -4, -3, 0, 0), [3, 4]),
        ((9, 10, 8, 7, 100), [1, 4]),
        (("2005-01-03", "2005-01-02", "2004-12-31", "2005-01-02", "2003-01-01"), [0, 3]),
        (("2005-01-01T10:00:00+02:00", "2005-01-01T09:00:00Z", "2005-01-01T08:30:00Z",
          "2005-01-01", "2005-01-01 08:15"), [1, 2]),
    ],
)
def test_the_latest_ratings_are_the_test_side_and_ties_are_broken_by_the_order(
    write, blocks_of, times, held_out
):
    path = write("a.csv", TIMED.format(*times))
    ratings = load(path, split="time", train_ratio=0.6)
    assert np.flatnonzero(ratings.held_out).tolist() == held_out
    split = split_ratings(ratings, 0.6, 1, "user")
    assert np.flatnonzero(split.test.row_counts).tolist() == held_out


@pytest.mark.parametrize(
    "content, facts",
    [
        (TIMED.format(*[7] * 5), ["--split time", "all timestamps"]),
        (TIMED.replace(",{}", ""), ["--split time", "column", "--columns"]),
        (TIMED.format(1, 2, 3, "x", 5), ["line 4: '4,1,2,x'", "timestamp 'x'", "number"]),
        (TIMED.format(1, 2, 3, "2005-01-01", 5), [
            "line 4: '4,1,2,2005-01-01'", "timestamp '2005-01-01'", "number"]),
        (TIMED.format(1, 2, 3, "", 5), ["line 4: '4,1,2,'", "timestamp ''", "number"]),
    ],
)
def test_timestamps_that_cannot_part_the_ratings_are_refused(write, blocks_of, content, facts):
    path = write("a.csv", content)
    assert_names(refusal(path, split="time"), path, *facts)
    assert len(load(path)) == 5  # which do not matter otherwise


def test_ml_1m_is_split_by_time(ml_1m, ml_1m_ratings):
    ratings = load("ml-1m", data_dir=str(ml_1m), split="time")
    times = re.findall(rb"::(\d+)\r?\n", (ml_1m / "ratings.dat").read_bytes())
    times = np.array(times).astype(np.int64)
    assert len(times) == len(ratings)
    assert ratings.held_out.sum() == 100_021
    assert times[ratings.held_out].min() >= times[~ratings.held_out].max()
    assert ratings.fingerprint != ml_1m_ratings.fingerprint


# The whole program


@pytest.mark.slow
def test_a_fold_is_trained_by_a_command(folds, tmp_path, monkeypatch, capsys):
    flags = ("--dataset", folds / "u1.base", "--test_file", folds / "u1.test", "--comet", "off",
             "--hidden_neuron", 4, "--train_epoch", 2, "--run_name", "run")
    monkeypatch.chdir(tmp_path)
    code, (out, error) = undrawn(main.main)([*map(str, flags)]), capsys.readouterr()
    assert code == 0 and [x for x in error.splitlines() if "threads" not in x] == []
    (line,) = [line for line in out.splitlines() if "u1.test" in line and "200" in line]
    assert_names(line, "200 training", "50 test")
    config = json.loads((tmp_path / "results" / "run" / "config.json").read_text())
    expected = {"dataset": "u1.base", "test_file": "u1.test", "test_ratings": 50,
                "train_ratings": 200, "rating_scale": [1.0, 5.0]}
    assert {name: config[name] for name in expected} == expected
    assert str(folds) not in json.dumps(config)


def test_a_file_is_found_in_the_folder_of_the_data(write, monkeypatch, tmp_path):
    path = write("there/a.csv", "1,1,3\n2,1,4\n")
    monkeypatch.chdir(tmp_path)
    assert len(load("a.csv", data_dir=str(path.parent))) == 2
    write("a.csv", "1,1,3\n2,1,4\n3,1,4\n")  # named as it is, it comes first
    assert len(load("a.csv", data_dir=str(path.parent))) == 3


def test_blocks_of_any_size_give_the_same_ratings(write, monkeypatch):
    rng = np.random.default_rng(2)
    pairs = rng.permutation(900)[:60]
    text = "".join(f"{p // 30},{p % 30},{rng.integers(1, 9) / 2:g},{p}\n" for p in pairs)
    path, prints = write("a.csv", text), set()
    for size, quoted in itertools.product((1, 100, 1 << 22), (False, True)):
        monkeypatch.setattr(delimited, "READ_BYTES", size)
        path.write_text(re.sub(r"(?m)^(\d+)", r'"\1"', text) if quoted else text)
        prints.add(load(path).fingerprint)
    assert len(prints) == 1
