"""Small files of ratings as people have them, each of another kind, to the ratings they hold."""

import bz2
import gzip
import json
import lzma
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import main
from autorec_tf.config import Config
from autorec_tf.data import delimited
from autorec_tf.data.formats import open_file
from autorec_tf.data.ids import Ids
from autorec_tf.data.layouts import SETTINGS
from autorec_tf.data.merge import read
from data_preprocessor import load_ratings
from tests.conftest import triples_of
from tests.facts import assert_names, refused
from tests.figures import undrawn

FILES = Path(__file__).resolve().parents[1] / "ratings_files"


def load(path, **settings):
    """The ratings of a file, and what was told."""
    told = []
    return load_ratings(Config(dataset=str(path), **settings), told.append), told


def refusal(path, **settings):
    with refused() as error:
        load(path, **settings)
    return str(error.value)


def write(tmp_path, content, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize(
    "name, settings, ids, told",
    [
        ("sci.csv", {}, ("user", "item", "rating"), ["a header"]),
        ("fivedot.csv", {}, ("user", "item", "rating"), ["a header"]),
        ("kuai.csv", {}, ("user_id", "video_id", "watch_ratio"), ["a header"]),
        ("blanks.txt", {"header": None, "sep": r"\s+"}, (0, 1, 2), ["blanks", "no header"]),
        ("food.csv", {}, ("UserId", "ProductId", "Score"), ["a header", "quotes"]),
        ("us.tsv", {"sep": "\t", "quoting": 3}, ("customer_id", "product_id", "star_rating"),
         ["tab", "quotes", "text"]),
        ("decc.csv", {"sep": ";", "decimal": ","}, ("userId", "movieId", "rating"),
         ["semicolon", "a header", "decimal"]),
        ("blank1.csv", {}, ("userId", "movieId", "rating"), ["empty lines"]),
        ("hsp.csv", {"skipinitialspace": True}, ("userId", "movieId", "rating"), ["blanks"]),
        ("excelsep.csv", {"sep": ";", "skiprows": 1}, ("userId", "movieId", "rating"), ["sep=;"]),
        ("r.csv.gz", {}, ("userId", "movieId", "rating"), ["compressed"]),
    ],
)
def test_a_file_of_each_kind_is_read_as_pandas_reads_it_and_what_was_detected_is_told(
    name, settings, ids, told
):
    ratings, lines = load(FILES / name)
    table = pd.read_csv(FILES / name, **settings)
    user, item, rating = (table[column] for column in ids)
    expected = zip(user, item, rating.astype(np.float32).tolist(), strict=True)
    read = [(*pair, float(np.float32(value))) for *pair, value in triples_of(ratings)]
    assert read == list(expected)
    (line,) = lines
    assert_names(line, name, *told, *(each for each in ids if each not in (0, 1, 2)))


@pytest.mark.parametrize("name", ["food.csv", "us.tsv"])
def test_columns_may_be_named_with_blanks_around_them(name):
    header = (FILES / name).read_text().split("\n")[0].replace("\t", ",").split(",")
    chosen = ("UserId", "ProductId", "Score") if name == "food.csv" else (
        "customer_id", "product_id", "star_rating")
    assert set(chosen) <= set(header)
    assert load(FILES / name, columns=" , ".join(chosen))[0].fingerprint == (
        load(FILES / name)[0].fingerprint)


def test_pairs_that_stand_twice_are_refused_with_their_number_and_what_decides():
    assert_names(
        refusal(FILES / "dup.csv"), f"{FILES / 'dup.csv'}, line 521", "user 1", "item 2", "line 2",
        "2 pairs", "--duplicates", "first", "last", "mean",
    )


@pytest.mark.parametrize("by", ["first", "last", "mean"])
def test_a_flag_says_which_rating_of_a_pair_counts(by):
    ratings, told = load(FILES / "dup.csv", duplicates=by)
    table = pd.read_csv(FILES / "dup.csv")
    if by == "mean":
        expected = table.groupby(["user", "item"], sort=False)["rating"].mean().reset_index()
    else:
        expected = table.drop_duplicates(["user", "item"], keep=by)
    rows = zip(expected["user"], expected["item"], expected["rating"], strict=True)
    assert triples_of(ratings) == list(rows) and len(ratings) == 519
    assert_names(told[-1], "dup.csv", "2 ratings", f"--duplicates {by}")


def test_a_line_that_stands_twice_is_read_once_and_counted():
    ratings, told = load(FILES / "dup2.csv")
    assert len(ratings) == 519
    assert_names(told[-1], "dup2.csv", "1 rating ", "twice")


def test_which_duplicate_counts_may_depend_on_the_time_and_the_split_does(tmp_path):
    path = write(tmp_path, "1,1,3,10\n2,1,4,20\n1,1,5,30\n3,1,2,15\n")
    first, _ = load(path, duplicates="first", split="time", train_ratio=0.6)
    last, _ = load(path, duplicates="last", split="time", train_ratio=0.6)
    assert [triples_of(x)[int(x.held_out.argmax())] for x in (first, last)] == [
        (2, 1, 4), (1, 1, 5)]


def test_the_same_ids_are_the_same_in_a_test_file_that_writes_them_as_decimals():
    ratings, _ = load(FILES / "tr_int.csv", test_file=str(FILES / "te_float.csv"))
    assert (ratings.num_users, ratings.num_items, ratings.held_out.sum()) == (40, 25, 69)
    assert ratings.user_ids.tolist() == list(range(1, 41))


def test_ratings_that_mean_none_are_left_out_and_counted():
    assert load(FILES / "anime.csv")[0].scale == (-1, 10)
    ratings, told = load(FILES / "anime.csv", no_rating=("-1",))
    assert (len(ratings), ratings.scale) == (1595 - 565, (2, 10))
    assert_names(told[-1], "anime.csv", "565 of 1,595", "--no_rating")
    assert len(load(FILES / "anime.csv", no_rating=("-1",), rating_scale=(1.0, 10.0))[0]) == 1030


@pytest.mark.parametrize("word", ["NaN", "empty", "NULL"])
def test_a_missing_rating_is_refused_with_the_number_and_the_flag_that_leaves_them_out(word):
    message = refusal(FILES / "nan1.csv")
    assert_names(message, f"{FILES / 'nan1.csv'}, line 7", "1 of 519", "--no_rating NaN")
    ratings, told = load(FILES / "nan1.csv", no_rating=(word,))
    assert len(ratings) == 518
    assert_names(told[-1], "nan1.csv", "1 of 519", "--no_rating")


def test_a_table_with_row_numbers_is_read_as_it_is_and_told():
    ratings, told = load(FILES / "idx2.csv")
    assert (ratings.num_users, len(ratings), ratings.scale) == (519, 519, (1, 25))
    assert re.search(r"\buser\b[^,]* 1,", told[0])
    assert load(FILES / "idx2.csv", columns="2,3,4")[0].num_users == 40


# Relatives of these kinds


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, None])
def test_a_compressed_file_is_read(tmp_path, pack):
    content = (FILES / "tr_int.csv").read_bytes()
    path = tmp_path / "packed"
    if pack:
        path.write_bytes(pack(content))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ratings.csv", content)
    ratings, told = load(path)
    assert ratings.fingerprint == load(FILES / "tr_int.csv")[0].fingerprint
    assert "compressed" in told[0]
    path.write_bytes(path.read_bytes()[:-30])
    assert "damaged" in refusal(path)


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_told_and_read(tmp_path, encoding):
    path = write(tmp_path, "user,item,rating\nzoé,1,3\nann,1,4\n".encode(encoding))
    ratings, told = load(path)
    assert triples_of(ratings) == [("zoé", 1, 3), ("ann", 1, 4)] and encoding in told[0]


def test_utf_16_that_is_cut_short_is_refused(tmp_path):
    text = "1,1,3\n2,1,4\n".encode("utf-16")
    assert "utf-16" in refusal(write(tmp_path, text[:-1]))
    long = "".join(f"{n},1,{n % 5}\n" for n in range(200_000)).encode("utf-16")
    assert_names(refusal(write(tmp_path, long[:-1])), tmp_path / "a.csv", "utf-16", "truncated")


def test_settings_that_do_not_fit_a_file_are_refused_with_its_name(tmp_path):
    path = write(tmp_path, "1,1,3\n2,1,4\n")
    assert_names(refusal(path, read_csv=("encoding=utf-16",)), path, "utf-16", "--read_csv")
    assert str(path) in refusal(path, read_csv=("comment=%", "skiprows=9"))


def test_ids_in_braces_are_not_taken_for_json(tmp_path):
    assert len(load(write(tmp_path, "{a},1,3\n{b},1,4\n"))[0]) == 2


def test_utf_8_with_a_damaged_character_is_not_taken_for_latin_1(tmp_path):
    path = write(tmp_path, "1,é,3\n2,è,4\n".encode() + b"3,\xe9,4\n4,1,2\n")
    assert_names(refusal(path), f"{path}, line 3: '3,\\\\xe9,4'", "UTF-8")


@pytest.mark.parametrize(
    "content, settings, triples",
    [
        ("# a comment\n\nuser,item,rating\n1,C#,3\n# more\n2,C#,4\n", {},
         [(1, "C#", 3), (2, "C#", 4)]),
        ("% bip\n1 2 3\n2\t2   4\n", {}, [(1, 2, 3), (2, 2, 4)]),
        ("1 2\t3\n2\t2\t4\n5\t2\t5\n", {}, [(1, 2, 3), (2, 2, 4), (5, 2, 5)]),
        ("1\t2\t3\n2 2 4\n5 2\t5\n", {}, [(1, 2, 3), (2, 2, 4), (5, 2, 5)]),
        ("007,1,3\n7,1,4\n", {}, [("007", 1, 3), ("7", 1, 4)]),
        ("1,1,3\n01,1,4\n", {}, [("1", 1, 3), ("01", 1, 4)]),
        ("NA,null,3\nnan,null,4\n", {}, [("NA", "null", 3), ("nan", "null", 4)]),
        ("1.0,1,3\n2.00,1,4\n", {}, [(1, 1, 3), (2, 1, 4)]),
        ("1.0,1,3\n1,1,4\n", {}, [("1.0", 1, 3), ("1", 1, 4)]),
        ("1,-0,3\n2,0,4\n", {}, [(1, "-0", 3), (2, "0", 4)]),
        ("1,9007199254740993,3\n2,9007199254740992,4\n", {},
         [(1, 9007199254740993, 3), (2, 9007199254740992, 4)]),
        ('1,"a\nb",3\n2,"c ""d""",4\n', {}, [(1, "a\nb", 3), (2, 'c "d"', 4)]),
        ("1,2,.5\n2,2,+4e0\n3,2, 1\n", {}, [(1, 2, 0.5), (2, 2, 4), (3, 2, 1)]),
        ("x\nx\n1,2,3\n2,2,4\n", {"read_csv": ("skiprows=2",)}, [(1, 2, 3), (2, 2, 4)]),
        ("1~2~3\n2~2~4\n", {"read_csv": ("sep=~",)}, [(1, 2, 3), (2, 2, 4)]),
        ("1;2;1.000,5\n2;2;4\n", {"read_csv": ("decimal=,", "thousands=.")},
         [(1, 2, 1000.5), (2, 2, 4)]),
        ("1,'a,b',3\n2,c,4\n", {"read_csv": ("quotechar='",)}, [(1, "a,b", 3), (2, "c", 4)]),
        ("9,a,3\n8,b,4\n7,b,2\n", {"read_csv": ("header=0",), "columns": "1,2,3"},
         [(8, "b", 4), (7, "b", 2)]),
    ],
)
def test_relatives_of_these_kinds_are_read(tmp_path, content, settings, triples):
    assert triples_of(load(write(tmp_path, content), **settings)[0]) == triples


def test_a_lone_quote_far_into_a_tab_file_does_not_matter(tmp_path):
    lines = [f'{user}\t{item}\t{1 + item % 5}\t{"24" + chr(34) if user == 90 else "x"}\n'
             for user in range(100) for item in range(100)]
    ratings, told = load(write(tmp_path, "".join(lines), "a.tsv"))
    assert len(ratings) == 10_000
    assert_names(told[0], "quotes", "text")


@pytest.mark.parametrize(
    "name, content, remedy",
    [("a.json", '{"user": 1}\n', "read_json"), ("a.xlsx", "PK\3\4", "read_excel"),
     ("a.jsonl", '\n{"user": 1}\n', "read_json")],
)
def test_what_is_no_table_of_text_is_refused_with_the_remedy(tmp_path, name, content, remedy):
    path = write(tmp_path, content, name)
    assert f'pandas.{remedy}("{path}"' in refusal(path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs sh")
def test_the_remedy_for_json_works_in_a_shell(tmp_path):
    content = '{"user": 1, "item": 2, "rating": 3}\n{"user": 2, "item": 2, "rating": 4}\n'
    path = write(tmp_path, content, "it's \"mine\" $1.json")
    command = refusal(path).partition(" python ")[2]
    subprocess.run(["sh", "-c", f"{shlex.quote(sys.executable)} {command}"], check=True)
    assert triples_of(load(path.with_suffix(".csv"))[0]) == [(1, 2, 3), (2, 2, 4)]


TIMES = "1,1,3,{}\n2,1,4,{}\n3,1,5,{}\n4,1,2,{}\n"


@pytest.mark.parametrize(
    "times, latest",
    [
        (("978300760", "978300761.5", "978300761.25", "1"), 1),
        (("1356998400000", "1356998400001", "1356998400002", "1356998300000"), 2),
        (("03/04/2015", "12/31/2014", "01/02/2015", "02/28/2015"), 0),
        (("03/04/2015", "31/12/2014", "01/02/2015", "28/02/2015"), 0),
        (("2015/03/04 10:00", "2014/12/31 23:59", "2015/03/04 10:01", "2015/02/28 00:00"), 2),
        (("4 Mar 2015", "31 Dec 2014", "1 Feb 2015", "28 Feb 2015"), 0),
        (("2015-03-04T10:00:00.123456789", "2014-12-31", "2015-02-01", "2015-02-28"), 0),
    ],
)
def test_timestamps_of_common_kinds_order_the_ratings(tmp_path, times, latest):
    ratings, _ = load(write(tmp_path, TIMES.format(*times)), split="time", train_ratio=0.75)
    assert np.flatnonzero(ratings.held_out).tolist() == [latest]


@pytest.mark.parametrize(
    "times, facts",
    [
        (("978300760", "978300760000", "978300761", "1"),
         ["line 2: '2,1,4,978300760000'", "timestamp 978300760000", "milliseconds"]),
        (("2015-03-04", "2015-03-05", "03/04/2015", "1"),
         ["line 3: '3,1,5,03/04/2015'", "timestamp '03/04/2015'", "date", "2 lines"]),
        (("2015-03-04", "5", "2015-03-04", "1"),
         ["line 2: '2,1,4,5'", "timestamp '5'", "date", "2 lines"]),
        (("5", "", "7", "1"), ["line 2: '2,1,4,'", "timestamp ''", "number"]),
        (("soon", "", "7", "1"),
         ["line 1: '1,1,3,soon'", "timestamp 'soon'", "number", "date", "2 lines"]),
    ],
)
def test_mixed_kinds_of_timestamps_are_refused_with_the_line(tmp_path, times, facts):
    path = write(tmp_path, TIMES.format(*times))
    assert_names(refusal(path, split="time"), path, *facts)


def test_a_test_file_may_have_a_header_of_its_own(tmp_path):
    train = write(tmp_path, "who,what,stars\n1,1,3\n2,1,4\n")
    test = write(tmp_path, "rated;by;of\n3;1;2\n", "b.csv")
    names = dict(columns="who,what,stars", test_columns="by,of,rated")
    ratings, _ = load(train, test_file=str(test), **names)
    assert triples_of(ratings) == [(1, 1, 3), (2, 1, 4), (1, 2, 3)]


@pytest.mark.parametrize(
    "given, facts",
    [("nothing=1", ["KEY=VALUE", *SETTINGS]), ("decimal=ab", ["'ab'"]),
     ("encoding=klingon", ["'klingon'"])],
)
def test_what_pandas_cannot_be_told_is_refused(given, facts):
    assert_names(refusal(FILES / "decc.csv", read_csv=(given,)), f"--read_csv {given}", *facts)


def test_pairs_without_ratings_are_found_by_the_same_names(tmp_path):
    path = write(tmp_path, "x,what,who\n0,1,2\n0,3,4\n")
    users, items = Ids(), Ids()
    read(open_file(path, "who,what,stars", roles=2), users, items)
    assert (list(users.codes), list(items.codes)) == ([2, 4], [1, 3])


# What is refused is refused with its number


def lines_of(count):
    return [f"{user},{item},{1 + (user + item) % 5},{978300760 + user}\n"
            for user in range(count // 20) for item in range(20)]


@pytest.mark.parametrize("block", [400, 1 << 21])
@pytest.mark.parametrize(
    "wrong, settings, facts",
    [
        ("{},{},9,978300760", {"rating_scale": (1.0, 5.0)}, ["rating 9", "1 to 5"]),
        ("{},{},good,978300760", {}, ["rating 'good'"]),
        ("{},{},3", {}, ["4 fields"]),
        ("{},{},3,978300760,7", {}, ["4 fields"]),
        ("{},,3,978300760", {}, ["id ''"]),
        ("{},{},3,2005-01-01", {"split": "time"}, ["timestamp '2005-01-01'", "number"]),
        ("{},{},3,978300760000", {"split": "time"}, ["timestamp 978300760000", "milliseconds"]),
    ],
)
def test_malformed_lines_are_counted(tmp_path, monkeypatch, block, wrong, settings, facts):
    monkeypatch.setattr(delimited, "READ_BYTES", block)
    lines = lines_of(200)
    for number in (7, 8, 9, 50, 51, 120, 199):
        lines[number] = wrong.format(number // 20, number % 20) + "\n"
    path = write(tmp_path, "".join(lines))
    message = refusal(path, **settings)
    assert message.startswith(f"{path}, line 8: {lines[7].rstrip()!r}: ")
    assert_names(message, *facts, " 7 lines")


def test_lines_of_several_faults_are_counted_together_and_one_has_no_number(tmp_path):
    lines = lines_of(400)
    lines[5] = "x,y\n"
    assert not re.search(r"\d lines", refusal(write(tmp_path, "".join(lines))))
    lines[300] = "0,0,good,1\n"
    message = refusal(write(tmp_path, "".join(lines)))
    assert_names(message, "line 6: 'x,y'", "4 fields", " 2 lines")


def test_the_count_of_malformed_lines_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "TRIES", 400)
    lines = [line.replace(",9783", ",x,9783") for line in lines_of(2000)]
    message = refusal(write(tmp_path, "1,1,1,1\n" + "".join(lines)))
    (count,) = re.findall(r"(\d+) lines", message)
    assert "line 2: " in message and 190 <= int(count) < 200


def test_a_damaged_archive_does_not_hide_the_line_before_the_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(delimited, "READ_BYTES", 1000)
    packed = gzip.compress("".join([*lines_of(400)[:5], "x\n", *lines_of(4000)[5:]]).encode())
    path = write(tmp_path, packed[:-500], "a.csv.gz")
    assert_names(refusal(path), f"{path}, line 6: 'x'", "4 fields")


# Comments at the end of a line, and in the middle of the file


@pytest.mark.parametrize(
    "content, settings, triples",
    [
        ("# by hand\n1,1,3 # really\n2,1,4\n# the rest\n\n3,1,5  # \"good\"\n  # end\n", {},
         [(1, 1, 3), (2, 1, 4), (3, 1, 5)]),
        ("# x\nuser,item,rating # of us\n1,1,3\n2,1,4 #2\n", {}, [(1, 1, 3), (2, 1, 4)]),
        ("1,1,3# really\n2,1,4\n# the rest\n3,1,5\n", {"read_csv": ("comment=#",)},
         [(1, 1, 3), (2, 1, 4), (3, 1, 5)]),
        ("user,item,rating\n1,1,3 % x\n%\n2,1,4%5\n", {"read_csv": ("comment=%",)},
         [(1, 1, 3), (2, 1, 4)]),
        ('# x\n1,"a # b",3\n2,"c #",4 # "d\n3,"e",5\n', {},
         [(1, "a # b", 3), (2, "c #", 4), (3, "e", 5)]),
        ("# x\n1\t1\t3 # a\n2\t1\t4\n", {}, [(1, 1, 3), (2, 1, 4)]),
        ("# x\n1 1 3 # a\n2 1 4\n", {}, [(1, 1, 3), (2, 1, 4)]),
        ("# x\r\n1,1,3 # a\r\n2,1,4\r\n", {}, [(1, 1, 3), (2, 1, 4)]),
        ('# 5"\n1\t1\t3\t5" # a\n# y\n2\t1\t4\tx # "b\n', {}, [(1, 1, 3), (2, 1, 4)]),
    ],
)
def test_comments_are_no_part_of_a_line(tmp_path, content, settings, triples):
    ratings, told = load(write(tmp_path, content), **settings)
    assert triples_of(ratings) == triples and "comments after" in told[0]


@pytest.mark.parametrize(
    "content, settings, facts",
    [
        ("# x\n1,1,3\n2,1,4# five?\n", {}, ["line 3: '2,1,4# five?'", "rating '4# five?'"]),
        ("1,1,3\n2,1,4 # five?\n", {}, ["line 2: '2,1,4 # five?'", "rating '4 # five?'"]),
        ("1,1,3\n# x\n2,1,4\n", {}, ["line 2: '# x'", "3 fields"]),
        ('# say "x\n1,1,3\n2,1,bad\n3,1,4\n', {}, ["line 3: '2,1,bad'", "rating 'bad'"]),
        ("# x\n1,1,3\n2,The #1,4\n", {}, ["line 3: '2,The #1,4'", "3 fields"]),
        ("1,1,3\n2,C#,4\n", {"read_csv": ("comment=#",)}, ["line 2: '2,C#,4'", "3 fields"]),
    ],
)
def test_what_may_be_a_comment_is_never_taken_for_a_part_of_a_rating(
    tmp_path, content, settings, facts
):
    path = write(tmp_path, content)
    assert_names(refusal(path, **settings), path, *facts)


def test_a_pair_that_stands_twice_is_located_past_comments_and_empty_lines(tmp_path):
    path = write(tmp_path, '# x\n1,1,3 # a\n\n# y\n2,"1\n2",4\n\n1,1,5\n')
    assert_names(refusal(path), f"{path}, line 8", "user 1", "item 1", "line 2")


# The whole program, with all defaults


@pytest.fixture
def summary(capsys, monkeypatch):
    """A function that returns what a run on a ratings file ends with."""

    def summary(folder, name, *flags):
        monkeypatch.chdir(folder)
        command = ["--dataset", name, "--comet", "off", "--run_name", "run",
                   "--train_epoch", 150, "--display_step", 75, *flags]
        assert undrawn(main.main)([*map(str, command)]) == 0
        assert [x for x in capsys.readouterr().err.splitlines() if "threads" not in x] == []
        return json.loads((folder / "results" / "run" / "summary.json").read_text())

    return summary


@pytest.mark.slow
def test_s01_cold_pairs_on_a_scale_of_0_and_1_are_predicted_by_their_items_means(
    summary, tmp_path
):
    run = summary(tmp_path, FILES / "s01.csv", "--test_file", FILES / "t01.csv")
    train, test = (pd.read_csv(FILES / name, names=["user", "item", "rating"], header=0)
                   for name in ("s01.csv", "t01.csv"))
    assert not set(test["user"]) & set(train["user"]) and set(test["item"]) <= set(train["item"])
    errors = test["item"].map(train.groupby("item")["rating"].mean()) - test["rating"]
    rmse, mae = np.sqrt((errors**2).mean()), errors.abs().mean()
    assert run["final_test_rmse"] == pytest.approx(rmse, rel=0.03)
    assert run["final_test_mae"] == pytest.approx(mae, rel=0.08) and run["final_test_mae"] < 0.41
    assert run["final_test_rmse"] ** 2 <= run["final_test_mae"]  # as it is if no error exceeds 1


@pytest.mark.slow
def test_s100_ratings_from_0_to_100_are_trained_on_as_well_as_those_from_1_to_5(summary, tmp_path):
    table = pd.read_csv(FILES / "s100.csv")
    stars = table.assign(rating=1 + table["rating"] / 25)
    (tmp_path / "stars").mkdir()
    stars.to_csv(tmp_path / "stars" / "s5.csv", index=False)
    run = summary(tmp_path, FILES / "s100.csv")
    same = summary(tmp_path / "stars", "s5.csv")
    assert run["final_test_rmse"] <= 25 * same["final_test_rmse"] * 1.001
    assert run["final_test_rmse"] < run["global_mean_test_rmse"] == pytest.approx(
        25 * same["global_mean_test_rmse"])
