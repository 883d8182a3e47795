"""Tables, comments, numbers, encodings, ids and times as people bring them: the right ratings, or
one line whose advice leads to them."""

import gzip
import io
import json
import pickle
import re
import sqlite3
import tarfile
from contextlib import closing

import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse

from autorec_tf.data import delimited
from autorec_tf.data.frame import FrameFile
from autorec_tf.data.ids import as_id, positions_of
from autorec_tf.data.merge import read_ratings
from tests.conftest import triples_of, zipped
from tests.data.test_ratings_files import FILES, load, refusal, write
from tests.facts import assert_names, refused
from tests.faults.inputs import follow

SIXTY = pd.read_csv(FILES / "recbole.inter", sep="\t").iloc[:, :3]
SIXTY_TRIPLES = list(SIXTY.itertuples(index=False, name=None))


def counted(told):
    """The numbers in the lines after the one that describes the file."""
    return [int(number) for line in told[1:] for number in re.findall(r"\b\d+\b(?!\.)", str(line))]


# Tables of users x items

TABLE = np.array([[5, 0, 3, 1, 0, 2], [0, 4, 0, 2, 5, 0], [1, 0, 0, 5, 0, 4], [0, 3, 2, 0, 1, 5]])


def table_of(values, blank="0", separator=",", header=True, ids="user", number=str):
    """The text of a table, and its triples."""
    lines, triples = [], []
    if header:
        names = [f"{10 * n + 10}" for n in range(values.shape[1])]
        lines.append(separator.join([ids] * (ids != "none") + names))
    for row, cells in enumerate(values.tolist()):
        user = str(row) if ids == "none" else str(7 - row)
        shown = [number(cell) if cell else blank for cell in cells]
        lines.append(separator.join([user] * (ids != "none") + shown))
        first = ids != "none"
        triples += [(int(user), 10 * n + 10 if header else n + first, cell)
                    for n, cell in enumerate(cells) if cell]
    return "\n".join(lines) + "\n", sorted(triples)


@pytest.mark.parametrize(
    "settings",
    [{}, {"blank": ""}, {"blank": "99"}, {"blank": "NaN"}, {"blank": "-1"}, {"blank": "?"},
     {"ids": ""}, {"ids": "Unnamed: 0"}, {"ids": "name"}, {"separator": ";"}, {"separator": "\t"},
     {"header": False}, {"header": False, "ids": "none"}, {"header": False, "separator": " "},
     {"number": lambda x: f"{x}.0"},
     {"separator": ";", "blank": "", "number": lambda x: f"{x}".replace(".", ",")}],
)
def test_a_table_is_refused_and_the_advice_gives_its_ratings(tmp_path, settings):
    values = TABLE + 0.5 * (TABLE > 0) if "," in settings.get("number", str)(0.5) else TABLE
    text, triples = table_of(values, **settings)
    path = write(tmp_path, text)
    message = refusal(path)
    columns = text.partition("\n")[0].count(settings.get("separator", ",")) + 1
    assert_names(message, path, f"{columns} columns")
    ratings, _ = load(follow(message))
    assert sorted(triples_of(ratings)) == triples


def test_the_table_of_ratings_without_ids_is_recognised_by_its_many_columns(tmp_path):
    rng = np.random.default_rng(3)
    values = np.where(rng.random((9, 30)) < 0.4, 99, rng.uniform(-10, 10, (9, 30)).round(2))
    counts = (values != 99).sum(1)
    path = write(tmp_path, "".join(
        f"{count}," + ",".join(f"{x:g}" for x in row) + "\n"
        for count, row in zip([*counts[:8], counts[0]], values, strict=True)))
    ratings, _ = load(follow(refusal(path)))
    expected = [(u, i + 1, np.float32(values[u, i])) for u, i in np.argwhere(values != 99)]
    assert sorted(triples_of(ratings)) == expected


def test_pivot_zeros():
    table = pd.read_csv(FILES / "pivot_zeros.csv", index_col=0)
    message = refusal(FILES / "pivot_zeros.csv", duplicates="first")
    assert_names(message, FILES / "pivot_zeros.csv", "9 ", "melt", 'query("rating != 0")')
    assert table.shape == (12, 8)


@pytest.mark.parametrize(
    "text",
    ["1,10,3,978300760,0\n2,20,4,978300761,1\n3,30,5,978300762,0\n4,10,1,978300763,1\n",
     "0,5,10,3,978300760\n1,6,20,4,978300761\n2,5,30,5,978300762\n3,7,10,1,978300763\n",
     "1,1,3,2,4\n1,2,4,4,4\n2,1,5,1,2\n2,2,1,2,5\n3,1,2,5,1\n",
     "user,item,rating,a,b\n1,1,3,2,4\n2,1,4,4,4\n3,1,5,1,2\n"],
)
def test_a_list_of_ratings_with_more_columns_is_not_taken_for_a_table(tmp_path, text):
    assert len(load(write(tmp_path, text))[0]) == len(re.findall(r"(?m)^\d", text))


# Headers and comments


@pytest.mark.parametrize(
    "name",
    ["recbole.inter", "pandas_numbered_header.csv", "bom_middle.csv", "cr_only.csv", "mac.zip",
     "t_nano.csv"],
)
def test_a_file_of_sixty_ratings(name):
    settings = {"split": "time"} if name == "t_nano.csv" else {}
    ratings, told = load(FILES / name, **settings)
    assert (len(ratings) - (name == "bom_middle.csv"), ratings.num_users) == (60, 12)
    assert triples_of(ratings)[:60] == SIXTY_TRIPLES and counted(told) == []
    if settings:
        assert np.flatnonzero(ratings.held_out).tolist() == list(range(54, 60))


def test_hash_header():
    ratings, told = load(FILES / "hash_header.csv")
    lines = (FILES / "hash_header.csv").read_text().split()[1:]
    assert [(i, u, r) for u, i, r in triples_of(ratings)] == [
        tuple(map(int, line.split(","))) for line in lines]
    assert_names(told[0], "user from user", "item from item")


def test_hash_ids_noheader():
    path = FILES / "hash_ids_noheader.csv"
    assert_names(refusal(path), f"{path}, line 1: '#red,7,4'", "17 lines", "comment=#",
                 "comment=none")
    ratings, told = load(path, read_csv=("comment=none",))
    table = pd.read_csv(path, header=None)
    assert triples_of(ratings) == list(table.itertuples(index=False, name=None))
    ratings, told = load(path, read_csv=("comment=#",))
    assert len(ratings) == 43 and counted(told) == [17]


def test_matrix_market2():
    ratings, told = load(FILES / "matrix_market2.mtx")
    lines = [line.split() for line in (FILES / "matrix_market2.mtx").read_text().split("\n")[2:-1]]
    assert triples_of(ratings) == [tuple(map(int, line)) for line in lines]
    assert (len(ratings), ratings.scale) == (400, (1, 5))
    assert_names(told[0], "MatrixMarket")


@pytest.mark.parametrize(
    "text, triples, number",
    [
        ("# made by hand\n# userId\tmovieId\trating\n2\t1\t3\n3\t1\t4\n",
         [(2, 1, 3), (3, 1, 4)], 1),
        ("# item user rating\n2 1 3\n3 1 4\n# end\n", [(1, 2, 3), (1, 3, 4)], 1),
        ("% who,what,how\n2,1,3\n%\n3,1,4\n", [(2, 1, 3), (3, 1, 4)], 2),
        (",0,1,2\n0,4,3,5\n1,9,4,4\n", [(4, 3, 5), (9, 4, 4)], None),
        ("0,1,2,3\n4,3,5,978300760\n9,4,4,978300761\n", [(4, 3, 5), (9, 4, 4)], None),
        (",user,item,rating\n0,4,3,5\n1,9,4,4\n", [(4, 3, 5), (9, 4, 4)], None),
        ("User-ID;ISBN;Book-Rating\n4;3;5\n9;4;4\n", [(4, 3, 5), (9, 4, 4)], None),
        ("userId, jokeId, rating\n4, 3, 5\n9, 4, 4\n", [(4, 3, 5), (9, 4, 4)], None),
        ("RATING,what,User Id,timestamp\n5,3,4,1\n4,4,9,1\n", [(4, 3, 5), (9, 4, 4)], None),
        ("%%MatrixMarket matrix coordinate integer general\n%\n\n 9 4 2\n4 3 5\n9 4 4\n",
         [(4, 3, 5), (9, 4, 4)], 2),
        ("user,item,rating\n4,3,5\n\ufeff9,4,4\n", [(4, 3, 5), (9, 4, 4)], None),
    ],
)
def test_relatives_of_headers_and_comments_are_read(tmp_path, text, triples, number):
    ratings, told = load(write(tmp_path, text))
    assert triples_of(ratings) == triples
    assert counted(told) == ([number] if number else [])


@pytest.mark.parametrize(
    "text, settings, facts",
    [
        ("0,1,2\n0,4,3\n4,3,5\n", {}, ["line 1: '0,1,2'", "header=0", "header=none"]),
        ("# x\n1,1,3\n#2,1,4\n3,1,5\n", {}, ["line 3: '#2,1,4'", "comment=#", "comment=none"]),
        ("#1,1,3\n#2,1,4\n", {}, ["comment=none"]),
        ("userId,title,stars,note\n1,a,3,x\n", {}, ["userId", "stars", "--columns"]),
        ("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\n4\n", {}, ["mmread"]),
    ],
)
def test_what_may_be_a_header_or_a_comment_or_a_rating_is_refused(tmp_path, text, settings, facts):
    path = write(tmp_path, text)
    assert_names(refusal(path, **settings), path, *facts)


@pytest.mark.parametrize("value, number", [("0", 2), ("none", 3)])
def test_the_setting_for_the_header_decides(tmp_path, value, number):
    path = write(tmp_path, "0,1,2\n0,4,3\n4,3,5\n")
    assert len(load(path, read_csv=(f"header={value}",))[0]) == number


# Numbers that can be two things


def test_quoted_decimal_comma():
    ratings, told = load(FILES / "quoted_decimal_comma.csv")
    table = pd.read_csv(FILES / "quoted_decimal_comma.csv", decimal=",")
    assert triples_of(ratings) == list(table.itertuples(index=False, name=None))
    assert_names(told[0], "decimal commas")


def test_thousands_tab():
    path = FILES / "thousands_tab.tsv"
    assert_names(refusal(path), f"{path}, line 2", "'12,350'", "decimal=,", "thousands=,")
    for setting in ("decimal", "thousands"):
        ratings, _ = load(path, read_csv=(f"{setting}=,",))
        table = pd.read_csv(path, sep="\t", **{setting: ","})
        assert ratings.values.tolist() == pytest.approx(table["rating"].tolist())


def test_underscore_rating2():
    path = FILES / "underscore_rating2.csv"
    assert_names(refusal(path), f"{path}, line 3: '9,4,4_5'", "rating '4_5'", "12 lines")


@pytest.mark.parametrize(
    "text, settings, facts",
    [
        ("1;1;1.204\n2;1;640\n", ("decimal=,",), ["'1.204'", "decimal=.", "thousands=."]),
        ('1,1,"1,204"\n2,1,640\n', (), ["'1,204'", "decimal=,", "thousands=,"]),
        ('1;1;1,5\n2;1;1.5\n', (), ["'1,5'", "decimal=,", "thousands=,"]),
        ("1;1;4,5\n2;1;3\n", ("thousands=,",), ["'4,5'"]),
        ("1;1;1.204,5\n2;1;3,5\n", (), ["'1.204,5'", "thousands=."]),
        ("1\t1\t1_000\n2\t1\t3\n", (), ["'1_000'"]),
    ],
)
def test_a_number_that_can_be_two_things_is_refused_with_the_flags(tmp_path, text, settings, facts):
    assert_names(refusal(write(tmp_path, text), read_csv=settings), "line 1", *facts)


@pytest.mark.parametrize(
    "text, settings, values",
    [("1;1;1.204\n2;1;640\n", ("decimal=,", "thousands=."), [1204, 640]),
     ("1;1;1.204,5\n2;1;3,5\n", ("decimal=,", "thousands=."), [1204.5, 3.5]),
     ("1\t1\t1,204\n2\t1\t3,5\n", (), [1.204, 3.5]),
     ("1\t1\t0,204\n2\t1\t640\n", (), [0.204, 640])],
)
def test_numbers_are_read_as_flags_or_other_numbers_decide(tmp_path, text, settings, values):
    ratings, _ = load(write(tmp_path, text), read_csv=settings)
    assert ratings.values.tolist() == pytest.approx(values)


# Encodings, line ends and containers


def test_cp1252():
    ratings, told = load(FILES / "cp1252.csv")
    table = pd.read_csv(FILES / "cp1252.csv", encoding="cp1252")
    assert triples_of(ratings) == list(table.itertuples(index=False, name=None))
    assert "cp1252" in told[0]


PLAIN = "user,item,rating\nzoe,3,5\nann,4,4\nzoe,4,1\n"


@pytest.mark.parametrize(
    "content",
    [PLAIN.replace("\n", "\r").encode(), PLAIN.replace("\n", "\r\r\n").encode(),
     PLAIN.encode("utf-16-le"), PLAIN.encode("utf-16-be"), PLAIN.encode("utf-32"),
     PLAIN.replace("\n", "\r").encode("utf-16"),
     zipped({"data/": b"", "data/a.csv": PLAIN.encode(), "__MACOSX/data/._a.csv": b"\0\5",
             "data/.DS_Store": b"\0\1"})],
)
def test_relatives_of_encodings_and_containers_are_read(tmp_path, content):
    ratings, _ = load(write(tmp_path, content, "a.dat"))
    assert triples_of(ratings) == [("zoe", 3, 5), ("ann", 4, 4), ("zoe", 4, 1)]


def to_bytes(save):
    out = io.BytesIO()
    save(out)
    return out.getvalue()


def tar(members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def database():
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("create table 'my \"ratings' (user, item, rating)")
        rows = [("zoe", 3, 5), ("ann", 4, 4), ("zoe", 4, 1)]
        connection.executemany("insert into 'my \"ratings' values (?, ?, ?)", rows)
        connection.commit()
        return connection.serialize()


CELLS = np.array([[7, 3, 5], [9, 4, 4], [7, 4, 1]])
ROWS = [{"user": u, "item": i, "rating": r} for u, i, r in CELLS.tolist()]
SPARSE = scipy.sparse.coo_matrix((CELLS[:, 2], (CELLS[:, 0], CELLS[:, 1])))
TABLE_OF_ROWS = "%%MatrixMarket matrix array integer general\n3 5\n" + "\n".join(
    "5 0 2 1 4 0 3 0 1 0 0 4 2 0 5".split()) + "\n"


@pytest.mark.parametrize(
    "name, content, triples",
    [
        ("a.npy", to_bytes(lambda x: np.save(x, CELLS)), CELLS),
        ("a.npy", to_bytes(lambda x: np.save(x, CELLS.astype(float))), CELLS),
        ("a.npz", to_bytes(lambda x: scipy.sparse.save_npz(x, SPARSE)), CELLS),
        ("a.mat", to_bytes(lambda x: scipy.io.savemat(x, {"R": CELLS})), CELLS),
        ("a.db", database(), [("zoe", 3, 5), ("ann", 4, 4), ("zoe", 4, 1)]),
        ("a.json", json.dumps(ROWS), CELLS),
        ("a.json", json.dumps(ROWS, indent=2), CELLS),
        ("a.json", "\ufeff" + json.dumps(ROWS, indent=1), CELLS),
        ("a.json", "\n".join(map(json.dumps, ROWS)), CELLS),
        ("a.json", "\n".join(json.dumps({**row, "votes": [0, 1]}) for row in ROWS), CELLS),
        ("a.json", "\n".join(json.dumps(row, indent=1) for row in ROWS), CELLS),
        ("a.json", json.dumps({"ratings": ROWS}, indent=1), CELLS),
        ("a.json", pd.DataFrame(ROWS).to_json(), CELLS),
        ("a.json", pd.DataFrame(ROWS).to_json(orient="split"), CELLS),
        ("a.json", pd.DataFrame(ROWS).to_json(orient="values"), CELLS),
        ("a.json", "[7,3,5]\n[9,4,4]\n[7,4,1]\n", CELLS),
        ("a.json", json.dumps([{**row, "user": f"00{row['user']}"} for row in ROWS]),
         [(f"00{u}", i, r) for u, i, r in CELLS.tolist()]),
        ("a.mtx", TABLE_OF_ROWS, [(0, 0, 5), (0, 1, 1), (0, 2, 3), (0, 4, 2), (1, 1, 4), (2, 0, 2),
                                  (2, 2, 1), (2, 3, 4), (2, 4, 5)]),
        ("a.csv", "user,item,liked\n7,3,True\n9,4,False\n7,4,true\n",
         [(7, 3, 1), (9, 4, 0), (7, 4, 1)]),
        ("a.csv", "7;3;True\n9;4;FALSE\n", [(7, 3, 1), (9, 4, 0)]),
    ],
)
def test_the_advised_command_converts_the_file(tmp_path, name, content, triples):
    path = write(tmp_path, content, name)
    converted = follow(refusal(path))
    assert sorted(triples_of(load(converted)[0])) == sorted(map(tuple, map(list, triples)))


def test_json_array(tmp_path):
    path = write(tmp_path, (FILES / "json_array.json").read_bytes(), "json_array.json")
    ratings, _ = load(follow(refusal(path)))
    assert triples_of(ratings) == SIXTY_TRIPLES


@pytest.mark.parametrize(
    "name, content, facts",
    [
        ("a.tar", tar({"a.csv": PLAIN.encode()}), ["tarfile -e"]),
        ("a.tgz", gzip.compress(tar({"a.csv": PLAIN.encode()}), mtime=0), ["tarfile -e"]),
        ("a.csv.zst", b"\x28\xb5\x2f\xfd\0\0", ["zstd -d"]),
        ("a.feather", b"ARROW1\0\0", ["Feather", "read_feather"]),
        ("a.pkl", b"(lp0\n.", ["pickle", "read_pickle"]),
        ("a.dat", pickle.dumps([1]), ["pickle"]),
        ("a.h5", b"\x89HDF\r\n\x1a\n", ["HDF5", "read_hdf"]),
        ("a.csv", b"\n<!DOCTYPE html><html>", ["web page"]),
        ("a.json.gz", gzip.compress(json.dumps(ROWS).encode(), mtime=0), ["JSON", "Unpack"]),
        ("a.xlsx", b"PK\3\4", ["Excel", "read_excel"]),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_a_container_is_named_with_what_converts_it(tmp_path, name, content, facts):
    path = write(tmp_path, content, name)
    assert_names(refusal(path), path, *facts)


def test_a_folder_of_spark_is_converted_and_an_address_is_not_opened(tmp_path):
    folder = tmp_path / "out.csv"
    folder.mkdir()
    for number, lines in enumerate((["7,3,5", "9,4,4"], ["7,4,1"])):
        write(folder, "user,item,rating\n" + "\n".join(lines) + "\n", f"part-0000{number}.csv")
    write(folder, "", "_SUCCESS")
    assert triples_of(load(follow(refusal(folder)))[0]) == [(7, 3, 5), (9, 4, 4), (7, 4, 1)]
    assert_names(refusal("https://example.org/a.csv"), "https://example.org/a.csv", "curl -LO")


# Ids


def test_np_train():
    ratings, told = load(FILES / "np_train.txt", test_file=str(FILES / "np_test.csv"))
    train = np.loadtxt(FILES / "np_train.txt")
    test = np.loadtxt(FILES / "np_test.csv", delimiter=",")
    assert triples_of(ratings) == [tuple(row) for row in np.concatenate([train, test]).tolist()]
    assert ratings.user_ids.dtype == ratings.item_ids.dtype == np.int64


def test_ids_19digits():
    ratings, _ = load(FILES / "ids_19digits.csv")
    table = pd.read_csv(FILES / "ids_19digits.csv")
    assert triples_of(ratings) == list(table.itertuples(index=False, name=None))
    for user in ratings.user_ids.tolist():
        assert as_id(str(user), ratings.user_ids, "--user") == user


def test_missing_ids():
    path = FILES / "missing_ids.csv"
    assert_names(refusal(path), f"{path}, line 10: ',a,5'", "4 lines", "--no_id NaN")
    ratings, told = load(path, no_id=("NaN",))
    table = pd.read_csv(path).dropna().astype({"customer": int})
    assert triples_of(ratings) == list(table.itertuples(index=False, name=None))
    assert_names(told[-1], "4 of 24", "--no_id")


@pytest.mark.parametrize(
    "text, settings, triples, lost",
    [
        ("1.5E+18,1,3\n123,1,4\n", {}, [(15 * 10**17, 1, 3), (123, 1, 4)], 1),
        ("1e+06,1,3\n999999.0,1,4\n", {}, [(10**6, 1, 3), (999999, 1, 4)], 1),
        ("1.6777216e+07,1,3\n2.0,1,4\n", {}, [(16777216, 1, 3), (2, 1, 4)], 0),
        ("1.577134800018226944e+18,1,3\n2e+00,1,4\n", {},
         [(1577134800018226944, 1, 3), (2, 1, 4)], 1),
        ("12E4,1,3\nA1,1,4\n", {}, [("12E4", 1, 3), ("A1", 1, 4)], 0),
        ("1.5e-05,1,3\n2.0,1,4\n", {}, [("1.5e-05", 1, 3), ("2.0", 1, 4)], 0),
        ("1.0,1,3\n,1,4\nnan,2,4\n2.0,1,5\n", {"no_id": ("NaN",)}, [(1, 1, 3), (2, 1, 5)], 0),
        ("7,1,3\n0,1,4\nGuest,2,4\n8,1,5\n", {"no_id": ("0", "guest")},
         [(7, 1, 3), (8, 1, 5)], 0),
        (f"{'9' * 300},1,3\n{'x' * 5000},1,4\n", {}, [("9" * 300, 1, 3), ("x" * 5000, 1, 4)], 0),
    ],
)
def test_relatives_of_ids_are_read_and_lost_digits_told(tmp_path, text, settings, triples, lost):
    ratings, told = load(write(tmp_path, text), **settings)
    assert triples_of(ratings) == triples
    assert ratings.num_users == len({user for user, _, _ in triples})
    assert sum("digits" in str(line) for line in told) == lost


@pytest.mark.parametrize("text, known", [("7", 7), ("7.0", 7), ("7e+00", 7), ("07", 0), ("+7", 0)])
def test_an_id_on_the_command_line_is_the_one_in_a_file(text, known):
    if known:
        assert as_id(text, np.array([7, 9]), "--user") == known
    else:
        with refused("--user", repr(text)):
            as_id(text, np.array([7, 9]), "--user")


TIMES_OF_DAY = pd.to_datetime(["2024-01-01", "2024-01-02 10:00", "2024-01-03"], format="ISO8601")


@pytest.mark.parametrize("rows", [1, 100])
@pytest.mark.parametrize(
    "ids",
    [TIMES_OF_DAY, TIMES_OF_DAY.tz_localize("UTC"), pd.to_timedelta([1, 2.5, 3], "D"),
     [b"a", b"b", b"c"], np.array([1e18, 1.5e18, 3]), np.array([16777216, 2, 3], np.float32),
     list(TIMES_OF_DAY.date), np.array(["2024-01-01T10", "2024-01-02", "2024-02-01"], "M8[s]")],
)
def test_ids_of_a_frame_are_found_again_as_they_were_trained(monkeypatch, ids, rows):
    monkeypatch.setattr("autorec_tf.data.frame.ROWS", rows)
    frame = pd.DataFrame({"user": ids, "item": [1, 2, 3], "rating": [1, 2, 3]})
    ratings = read_ratings("made up", [FrameFile(frame)])
    known = pd.Index(ratings.user_ids)
    assert positions_of(known, ids).tolist() == ratings.users.tolist()
    assert [int(positions_of(known, [one])[0]) for one in frame["user"]] == ratings.users.tolist()


LONG = pd.DataFrame(CELLS, columns=["user", "item", "rating"])


@pytest.mark.parametrize(
    "frame, facts",
    [
        (LONG.set_index(["user", "item"]), ["reset_index()", "user, item"]),
        (LONG.set_index(["user", "item"])["rating"], ["reset_index()", "Series"]),
        (pd.DataFrame(TABLE, index=list("abcd")), ["melt", "reset_index()"]),
        (pd.DataFrame(TABLE).rename_axis("user").reset_index(), ["melt('user', "]),
        (LONG.assign(rating=[True, False, True]), ["row 0", "'True'", "astype(int)"]),
    ],
)
def test_a_frame_of_another_shape_is_refused_with_what_helps(frame, facts):
    with refused(*facts):
        read_ratings("made up", [FrameFile(frame)])


# Times


def test_t_dmy_ambiguous():
    path = FILES / "t_dmy_ambiguous.csv"
    message = refusal(path, split="time")
    assert_names(message, f"{path}, line 2", "01/01/2015", "--timestamp_format '%d/%m/%Y'",
                 "'%m/%d/%Y'")
    table = pd.read_csv(path)
    for format in re.findall("'(%[^']*)'", message):
        ratings, _ = load(path, split="time", timestamp_format=format)
        times = pd.to_datetime(table["timestamp"], format=format).to_numpy()
        assert times[ratings.held_out].min() >= times[~ratings.held_out].max()
    assert len(load(path)[0]) == 60


HOURS = [12, 1, 11, 0, 10, 23]


@pytest.mark.parametrize(
    "format, shown",
    [("%d/%m/%Y", 0), ("%m/%d/%Y", 0), ("%d.%m.%y", 1), ("%m/%d/%y %I:%M %p", 0), ("%b %d, %Y", 0),
     ("%d-%b-%y", 0), ("%A, %d %B %Y %H:%M:%S", 0), ("%a %b %d %H:%M:%S %Y", 0), ("%d%m%Y", 1),
     ("%Y/%m/%d %I:%M%p", 0), ("%d/%m/%Y %H:%M:%S+0200", 0), ("%a %b %d %H:%M:%S +0000 %Y", 0)],
)
@pytest.mark.parametrize("block", [60, 1 << 21])
def test_dates_are_decided_by_all_dates_or_a_format(tmp_path, monkeypatch, format, shown, block):
    monkeypatch.setattr(delimited, "READ_BYTES", block)
    days = pd.to_datetime(["2015-03-04", "2015-04-03", "2015-02-11", "2015-11-02", "2015-05-01",
                           "2014-12-31"]) + pd.to_timedelta(HOURS, "h")
    times = pd.to_datetime(days.strftime(format), format=format, utc=True)
    text = "".join(f"{n};1;{n};{time}\n" for n, time in enumerate(days.strftime(format)))
    path = write(tmp_path, text)
    if shown:
        assert_names(refusal(path, split="time"), "line 1", "--timestamp_format")
    settings = {"timestamp_format": format} if shown else {}
    ratings, _ = load(path, split="time", train_ratio=0.5, **settings)
    assert np.flatnonzero(ratings.held_out).tolist() == sorted(np.argsort(times)[3:])


@pytest.mark.parametrize(
    "times", [("03/04/15", "05/06/15"), ("01/02/2015 10:00", "02/01/2015 09:00"),
              ("3.4.2015", "4.3.2015"), ("04.05.", "05.04."), ("4 Mrz 2015", "5 Mrz 2015")])
def test_dates_that_can_be_two_things_are_refused(tmp_path, times):
    path = write(tmp_path, "".join(f"{n};1;{n};{time}\n" for n, time in enumerate(times)))
    assert_names(refusal(path, split="time"), f"{path}, line 1", times[0], "--timestamp_format '%d")


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_whole_timestamps_of_every_unit_are_exact(tmp_path, unit):
    start = 1_420_070_400 * unit
    times = [start + 1, start, start + 3, start + 2]
    path = write(tmp_path, "".join(f"{n},1,{n},{time}\n" for n, time in enumerate(times)))
    held_out = load(path, split="time", train_ratio=0.5)[0].held_out
    assert np.flatnonzero(held_out).tolist() == [2, 3]


# A test file


@pytest.mark.parametrize("side, left", [("train", [(1, 1, 3), (2, 5, 4), (3, 1, 3)]),
                                        ("test", [(1, 1, 3), (3, 1, 3), (2, 5, 2)])])
def test_a_flag_decides_the_side_of_a_pair_in_both_files(tmp_path, side, left):
    base = write(tmp_path, "1,1,3\n2,5,4\n")
    test = str(write(tmp_path, "3,1,3\n2,5,2\n", "b.csv"))
    assert_names(refusal(base, test_file=test), f"{test}, line 2", f"{base}, line 2", "--in_both",
                 "train", "test")
    ratings, told = load(base, test_file=test, in_both=side)
    assert triples_of(ratings) == left
    assert ratings.held_out.sum() == (1 if side == "train" else 2)
    assert_names([line for line in told if "--in_both" in str(line)][0], "1 ", side)


def test_a_test_file_on_a_wider_scale_is_reported(tmp_path):
    base, test = write(tmp_path, "1,1,3\n2,5,4\n"), write(tmp_path, "3,1,30\n2,1,2\n", "b.csv")
    _, told = load(base, test_file=str(test))
    assert_names(told[-1], "b.csv", "2 to 30", "3 to 4", "--rating_scale")
    assert len(load(base, test_file=str(test), rating_scale=(0.0, 30.0))[1]) == 2
