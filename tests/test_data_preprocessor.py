"""Ids, split, rating matrices, the random streams that they draw from, and what is loaded."""

import errno
import hashlib
import os
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

import data_preprocessor
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings, index_ratings
from autorec_tf.model.column_shards import part_of
from autorec_tf.presets import PRESETS
from autorec_tf.resolution import member_configs, over_preset
from autorec_tf.system.random_streams import STREAMS, random_stream
from data_preprocessor import load_ratings, read_ml_1m, resolve, split_ratings
from tests.conftest import files_below, rating_lines, triples_of
from tests.facts import assert_names, refused

SCALE = (1.0, 5.0)
TRIPLES = [(7, 30, 5), (2, 3952, 1), (7, 4, 3), (900, 30, 4), (2, 4, 2), (900, 3952, 5)]
GOOD_LINES = rating_lines(TRIPLES)


def random_ratings(num_ratings=200, num_users=31, num_items=17, scale=SCALE):
    """Whole-number ratings on `scale` of random distinct pairs, in random order."""
    rng = np.random.default_rng(5)
    pairs = rng.choice(num_users * num_items, num_ratings, replace=False)
    values = rng.integers(scale[0], scale[1] + 1, num_ratings)
    return index_ratings("toy", pairs // num_items + 100, pairs % num_items + 7, values, scale)


def dense(matrix):
    """The rating matrix as a dense array, nan where a rating is missing."""
    array = np.full((matrix.num_rows, matrix.num_columns), np.nan, np.float32)
    for row in range(matrix.num_rows):
        for k in range(matrix.indptr[row], matrix.indptr[row + 1]):
            array[row, matrix.indices[k]] = matrix.values[k]
    return array


# Parsing the real files


def test_ml_1m_has_its_published_counts(ml_1m_ratings):
    assert len(ml_1m_ratings) == 1_000_209
    assert ml_1m_ratings.num_users == 6_040
    assert ml_1m_ratings.num_items == 3_706
    assert ml_1m_ratings.item_ids[-1] == 3_952
    counts = np.bincount(ml_1m_ratings.values.astype(int), minlength=6)
    assert counts.tolist() == [0, 56_174, 107_557, 261_197, 348_971, 226_310]
    assert repr(ml_1m_ratings) == (
        "<Ratings ml-1m: 6,040 users x 3,706 items, 1,000,209 ratings 1 to 5>"
    )


def test_ml_1m_equals_what_another_parser_reads(ml_1m, ml_1m_ratings):
    text = (ml_1m / "ratings.dat").read_text("latin-1")
    other = np.fromstring(text.replace("::", " "), np.int64, sep=" ").reshape(-1, 4)
    assert other[:3, :3].tolist() == [[1, 1193, 5], [1, 661, 3], [1, 914, 3]]
    assert np.array_equal(other[:, 0], ml_1m_ratings.user_ids[ml_1m_ratings.users])
    assert np.array_equal(other[:, 1], ml_1m_ratings.item_ids[ml_1m_ratings.items])
    assert np.array_equal(other[:, 2], ml_1m_ratings.values)


# What the format allows


@pytest.mark.parametrize(
    "content",
    [
        GOOD_LINES,
        GOOD_LINES.replace(b"\n", b"\r\n"),
        GOOD_LINES.removesuffix(b"\n"),
        rating_lines(TRIPLES, timestamp=0),
    ],
    ids=["unix", "crlf", "no newline at the end", "unknown timestamps"],
)
def test_a_file_in_the_published_format_is_read_in_file_order(write_ratings, content):
    ratings = read_ml_1m(write_ratings(content))
    assert triples_of(ratings) == TRIPLES
    assert ratings.name == "ml-1m"
    assert ratings.scale == (1.0, 5.0)


def test_a_single_rating_is_a_file(write_ratings):
    assert triples_of(read_ml_1m(write_ratings(b"3::8::1::0\n"))) == [(3, 8, 1)]


# What it does not

BAD_LINES = {
    "three fields": b"1::11::5",
    "five fields": b"1::11::5::978300760::7",
    "nine fields": b"1::11::5::978300760::1::2::3::4::5",
    "a colon at the end": b"1::11::5::978300760:",
    "empty": b"",
    "blanks": b"   ",
    "letters for a user": b"abc::11::5::978300760",
    "letters for a rating": b"1::11::good::978300760",
    "a missing rating": b"1::11::::978300760",
    "nan for a rating": b"1::11::nan::978300760",
    "half a star": b"1::11::3.5::978300760",
    "a float rating": b"1::11::4.0::978300760",
    "a float id": b"1.0::11::4::978300760",
    "a rating of 0": b"1::11::0::978300760",
    "a rating of 6": b"1::11::6::978300760",
    "a negative rating": b"1::11::-3::978300760",
    "a negative user": b"-1::11::5::978300760",
    "a negative item": b"1::-11::5::978300760",
    "an id of 20 digits": b"12345678901234567890::11::5::978300760",
    "single colons": b"1:11:5:978300760",
    "commas": b"1,11,5,978300760",
    "text between the colons": b"1:x:11::5::978300760",
    "a number between the colons": b"1:0:11::5::978300760",
    "a blank before a field": b"1:: 11::5::978300760",
    "quotes": b'"1"::11::5::978300760',
    "bytes that are not UTF-8": b"1::11\xe9::5::978300760",
    "a null byte": b"1::1\x001::5::978300760",
    "a header": b"UserID::MovieID::Rating::Timestamp",
    "a line cut short": b"1::11::",
}


@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("bad", BAD_LINES.values(), ids=BAD_LINES)
def test_a_bad_line_is_named_with_file_number_text_and_format(write_ratings, bad, place):
    lines = GOOD_LINES.splitlines()
    number = {"first": 1, "middle": 4, "last": 7}[place]
    lines.insert(number - 1, bad)
    path = write_ratings(b"\n".join(lines) + b"\n")
    shown = repr(bad.decode("utf-8", "backslashreplace"))
    with refused("UserID::MovieID::Rating::Timestamp", " 1 to 5") as error:
        read_ml_1m(path)
    assert str(error.value).startswith(f"{path}, line {number}: {shown}: ")


@pytest.mark.parametrize("bad", [b"1::11::5::978300760::7", b"1::11::5::978300760:"])
def test_a_file_of_nothing_but_long_lines_is_refused_at_its_first(write_ratings, bad):
    path = write_ratings(bad + b"\n" + bad.replace(b"11", b"12") + b"\n")
    with refused(f"{path}, line 1: ", " 2 lines"):
        read_ml_1m(path)


def test_the_first_of_two_bad_lines_is_named(write_ratings):
    path = write_ratings(GOOD_LINES + b"1::11::6::0\n" + GOOD_LINES + b"1::11::x::0\n")
    with refused(f"{path}, line 7: '1::11::6::0'", "2 lines"):
        read_ml_1m(path)


def test_a_file_that_ends_within_a_line_is_refused(write_ratings):
    path = write_ratings(GOOD_LINES + b"1::11::")
    with refused(f"{path}, line 7: '1::11::'", "4 fields"):
        read_ml_1m(path)


def test_the_message_about_a_very_long_line_is_short(write_ratings):
    path = write_ratings(GOOD_LINES + b"1::11::" + b"9" * 1_000_000 + b"::0\n")
    with refused(f"{path}, line 7: '1::11::999") as error:
        read_ml_1m(path)
    assert len(str(error.value)) - len(str(path)) < 250


def test_an_empty_file_is_refused(write_ratings):
    path = write_ratings(b"")
    with refused(path, "no ratings"):
        read_ml_1m(path)


def test_a_file_that_is_missing_and_a_folder_in_its_place_are_told_apart(tmp_path):
    missing = tmp_path / "ratings.dat"
    with refused(missing, os.strerror(errno.ENOENT)):
        read_ml_1m(missing)
    with refused(tmp_path, os.strerror(errno.EISDIR)):
        read_ml_1m(tmp_path)


def test_a_repeated_pair_names_both_lines(write_ratings):
    path = write_ratings(TRIPLES + [(3, 9, 4), (7, 4, 3), (7, 4, 3)])
    with refused(f"{path}, line 8", "user 7", "item 4", "line 3"):
        read_ml_1m(path)


def test_a_pair_repeated_with_another_rating_is_refused(write_ratings):
    path = write_ratings([(1, 1, 2), (1, 1, 3)])
    with refused(f"{path}, line 2", "user 1", "item 1", "line 1"):
        read_ml_1m(path)


def test_pairs_that_read_alike_without_the_colons_are_not_repeated(write_ratings):
    triples = [(1, 11, 3), (11, 1, 3), (111, 1, 3), (1, 111, 3)]
    assert triples_of(read_ml_1m(write_ratings(triples))) == triples


def test_pairs_of_very_large_ids_are_not_taken_for_repeated_ones(write_ratings):
    triples = [(user, 5, 3) for user in range(1, 34)] + [(1, 2**59 - 1, 3)]  # 32 * 2**59 = 2**64
    assert triples_of(read_ml_1m(write_ratings(triples))) == triples


# The fingerprint


def test_the_fingerprint_does_not_depend_on_line_ends_or_timestamps(write_ratings):
    variants = (
        GOOD_LINES,
        GOOD_LINES.replace(b"\n", b"\r\n"),
        GOOD_LINES.removesuffix(b"\n"),
        rating_lines(TRIPLES, timestamp=0),
    )
    assert len({read_ml_1m(write_ratings(content)).fingerprint for content in variants}) == 1


def test_the_fingerprint_is_the_hash_of_the_columns_of_ids_and_ratings(write_ratings):
    users, items, values = zip(*TRIPLES, strict=True)
    columns = np.array(users, "<i8"), np.array(items, "<i8"), np.array(values, "<f8")
    expected = hashlib.sha256(b"".join(column.tobytes() for column in columns)).hexdigest()
    assert read_ml_1m(write_ratings(TRIPLES)).fingerprint == expected


@pytest.mark.parametrize(
    "changed",
    [
        [(8, 30, 5), *TRIPLES[1:]],
        [(7, 31, 5), *TRIPLES[1:]],
        [(7, 30, 4), *TRIPLES[1:]],
        [TRIPLES[1], TRIPLES[0], *TRIPLES[2:]],
        TRIPLES[:-1],
        [(user + 1, item, value) for user, item, value in TRIPLES],
    ],
    ids=["a user", "an item", "a rating", "the order", "one fewer", "all users, same order"],
)
def test_the_fingerprint_depends_on_the_triples_and_their_order(write_ratings, changed):
    original = read_ml_1m(write_ratings(TRIPLES)).fingerprint
    assert read_ml_1m(write_ratings(changed)).fingerprint != original


# Ids and indices


def test_ids_with_gaps_become_dense_indices(write_ratings):
    ratings = read_ml_1m(write_ratings(TRIPLES))
    assert ratings.user_ids.tolist() == [2, 7, 900]
    assert ratings.item_ids.tolist() == [4, 30, 3952]
    assert ratings.users.tolist() == [1, 0, 1, 2, 0, 2]
    assert ratings.items.tolist() == [1, 2, 0, 1, 0, 2]
    assert (ratings.users.dtype, ratings.items.dtype) == (np.int32, np.int32)
    assert ratings.values.dtype == np.float32


def test_ids_of_ml_1m_are_sorted_and_every_index_occurs(ml_1m_ratings):
    for ids, indices in (
        (ml_1m_ratings.user_ids, ml_1m_ratings.users),
        (ml_1m_ratings.item_ids, ml_1m_ratings.items),
    ):
        assert np.all(np.diff(ids) > 0)
        assert np.array_equal(np.unique(indices), np.arange(len(ids)))


def test_ids_need_not_be_numbers():
    users, items = np.array(["zoe", "ann", "zoe"], object), np.array([5, 5, 1])
    ratings = index_ratings("toy", users, items, np.array([1, 2, 3]), SCALE)
    assert triples_of(ratings) == [("zoe", 5, 1), ("ann", 5, 2), ("zoe", 1, 3)]


# Carriers refuse what does not fit


def toy(**changed):
    fields = dict(
        name="toy",
        users=np.array([0, 1], np.int32),
        items=np.array([0, 2], np.int32),
        values=np.array([1, 5], np.float32),
        user_ids=np.array([10, 20]),
        item_ids=np.array([1, 2, 3]),
        scale=(1.0, 5.0),
    )
    return Ratings(**fields | changed)


@pytest.mark.parametrize(
    "changed, facts",
    [
        (dict(users=np.array([0])), ["length"]),
        (dict(values=np.array([1.0, 2.0, 3.0])), ["length"]),
        (dict(users=np.array([0, 2])), ["user index", "0..1"]),
        (dict(users=np.array([-1, 1])), ["user index", "0..1"]),
        (dict(items=np.array([0, 3])), ["item index", "0..2"]),
        (dict(values=np.array([0.5, 5.0])), ["rating", "(1.0, 5.0)"]),
        (dict(values=np.array([1.0, 5.5])), ["rating", "(1.0, 5.0)"]),
        (dict(values=np.array([1.0, np.nan])), ["rating", "(1.0, 5.0)"]),
    ],
)
def test_ratings_that_do_not_fit_each_other_are_refused(changed, facts):
    assert len(toy()) == 2
    with refused(*facts, error=ValueError):
        toy(**changed)


@pytest.mark.parametrize(
    "changed, facts",
    [
        (dict(indices=np.array([0, 1])), ["indptr", "indices", "values"]),
        (dict(values=np.ones(4)), ["indptr", "indices", "values"]),
        (dict(indptr=np.array([0, 2, 2])), ["indptr", "indices", "values"]),
        (dict(indptr=np.array([1, 2, 3])), ["indptr", "0"]),
        (dict(indptr=np.array([0, 4, 3])), ["indptr", "0"]),
        (dict(indices=np.array([0, 2, 4])), ["column index", "0..3"]),
        (dict(indices=np.array([0, -1, 1])), ["column index", "0..3"]),
    ],
)
def test_a_rating_matrix_whose_arrays_do_not_fit_is_refused(changed, facts):
    fields = dict(
        indptr=np.array([0, 2, 3]), indices=np.array([0, 2, 1]), values=np.ones(3), num_columns=4
    )
    assert len(RatingMatrix(**fields)) == 3
    with refused(*facts, error=ValueError):
        RatingMatrix(**fields | changed)


@pytest.mark.parametrize("rows, columns", [([0, 2], [0, 1]), ([0, -1], [0, 1]), ([0, 1], [0, 3])])
def test_triples_outside_the_shape_are_refused(rows, columns):
    with pytest.raises(ValueError):
        RatingMatrix.from_triples(np.array(rows), np.array(columns), np.ones(2), (2, 3))


# The rating matrix


def test_a_rating_matrix_equals_a_dense_reference():
    ratings = random_ratings()
    reference = np.full((ratings.num_items, ratings.num_users), np.nan, np.float32)
    reference[ratings.items, ratings.users] = ratings.values
    observed = ~np.isnan(reference)
    matrix = RatingMatrix.from_triples(
        ratings.items, ratings.users, ratings.values, reference.shape
    )
    assert np.array_equal(dense(matrix), reference, equal_nan=True)
    assert (matrix.num_rows, matrix.num_columns) == reference.shape
    assert matrix.row_counts.tolist() == observed.sum(axis=1).tolist()
    assert matrix.column_counts.tolist() == observed.sum(axis=0).tolist()
    assert matrix.rows.tolist() == np.nonzero(observed)[0].tolist()
    assert matrix.indices.tolist() == np.nonzero(observed)[1].tolist()  # ascending in each row
    assert matrix.density == observed.mean()
    assert repr(matrix) == "<RatingMatrix: 17 x 31, 200 ratings>"


def test_the_arrays_of_a_rating_matrix_have_the_documented_types():
    matrix = split_ratings(random_ratings(), 0.5, seed=1).train
    types = matrix.indptr.dtype, matrix.indices.dtype, matrix.values.dtype, matrix.rows.dtype
    assert types == (np.int64, np.int32, np.float32, np.int32)


def test_rows_and_columns_without_ratings_are_kept():
    matrix = RatingMatrix.from_triples(np.array([1]), np.array([2]), np.array([4.0]), (4, 5))
    assert matrix.row_counts.tolist() == [0, 1, 0, 0]
    assert matrix.column_counts.tolist() == [0, 0, 1, 0, 0]


def test_the_transpose_equals_a_dense_one_and_keeps_what_has_no_rating():
    matrix = split_ratings(random_ratings(), 0.3, seed=1).train
    wide = RatingMatrix(
        np.append(matrix.indptr, [len(matrix)] * 2), matrix.indices, matrix.values, 40
    )
    transposed = wide.transposed()
    assert (transposed.num_rows, transposed.num_columns) == (40, 19)
    assert np.array_equal(dense(transposed), dense(wide).T, equal_nan=True)
    assert all(np.all(np.diff(row) > 0) for row in np.split(
        transposed.indices, transposed.indptr[1:-1]
    ))
    assert (transposed.indptr.dtype, transposed.indices.dtype) == (np.int64, np.int32)


def test_rows_times_columns_may_exceed_32_bits():
    rows, columns = np.array([99_999, 0, 50_000, 99_999]), np.array([7, 199_999, 3, 5])
    matrix = RatingMatrix.from_triples(
        rows.astype(np.int32), columns.astype(np.int32), np.arange(1.0, 5.0), (100_000, 200_000)
    )
    assert matrix.rows.tolist() == [0, 50_000, 99_999, 99_999]
    assert matrix.indices.tolist() == [199_999, 3, 5, 7]
    assert matrix.values.tolist() == [2.0, 3.0, 4.0, 1.0]


def test_a_rating_of_zero_is_a_rating_and_not_a_missing_one():
    ratings = random_ratings(scale=(0.0, 2.0))
    zeros = int((ratings.values == 0).sum())
    split = split_ratings(ratings, 0.7, seed=1)
    assert zeros > 40
    parts = [split.unit.to_file(part.values) for part in (split.train, split.test)]
    assert sum(int((part == 0).sum()) for part in parts) == zeros
    assert set(split.train.values) == {1, 3, 5}  # what 0, 1 and 2 become
    assert split.train.row_counts.sum() + split.test.row_counts.sum() == 200
    assert split.train.column_counts.sum() == 140


# The split


@pytest.mark.parametrize("orientation", ["item", "user"])
def test_a_rating_is_in_train_or_in_test_and_never_in_both(orientation):
    ratings = random_ratings()
    reference = np.full((ratings.num_items, ratings.num_users), np.nan, np.float32)
    reference[ratings.items, ratings.users] = ratings.values
    if orientation == "user":
        reference = reference.T
    split = split_ratings(ratings, 0.8, seed=1, orientation=orientation)
    train, test = dense(split.train), dense(split.test)
    assert not np.any(~np.isnan(train) & ~np.isnan(test))
    assert np.array_equal(np.where(np.isnan(train), test, train), reference, equal_nan=True)


def test_train_and_test_of_ml_1m_add_up_to_all_of_it(ml_1m_ratings, ml_1m_split):
    split = ml_1m_split
    assert (len(split.train), len(split.test)) == (900_188, 100_021)
    pairs = np.concatenate(
        [part.rows.astype(np.int64) * 6_040 + part.indices for part in (split.train, split.test)]
    )
    pairs.sort()
    everything = np.sort(ml_1m_ratings.items.astype(np.int64) * 6_040 + ml_1m_ratings.users)
    assert np.array_equal(pairs, everything)


def test_the_same_seed_gives_the_same_split_and_another_seed_another():
    ratings = random_ratings()
    first, again, other = (dense(split_ratings(ratings, 0.9, s).test) for s in (1, 1, 2))
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


@pytest.mark.parametrize("ratio, num_train", [(0.9, 180), (0.5, 100), (0.1, 20), (0.333, 67)])
def test_the_ratio_is_the_share_of_training_ratings(ratio, num_train):
    split = split_ratings(random_ratings(), ratio, seed=1)
    assert (len(split.train), len(split.test)) == (num_train, 200 - num_train)


def test_the_split_is_drawn_from_the_whole_file():
    ratings = random_ratings(500)
    split = split_ratings(ratings, 0.5, seed=1)
    in_train = ~np.isnan(dense(split.train)[ratings.items, ratings.users])
    assert all(30 < part.sum() < 70 for part in np.split(in_train, 5))


def test_the_user_orientation_is_the_transpose_of_the_same_split():
    ratings = random_ratings()
    by_item = split_ratings(ratings, 0.8, seed=3)
    by_user = split_ratings(ratings, 0.8, seed=3, orientation="user")
    assert (by_user.train.num_rows, by_user.train.num_columns) == (31, 17)
    assert np.array_equal(dense(by_user.train), dense(by_item.train).T, equal_nan=True)
    assert np.array_equal(dense(by_user.test), dense(by_item.test).T, equal_nan=True)


@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_a_ratio_that_leaves_one_side_empty_is_refused(ratio):
    with refused(f"--train_ratio {ratio} ", " 200 "):
        split_ratings(random_ratings(), ratio, seed=1)


def merged(*parts):
    """The dense union of matrices that must not share a rating; nan where there is none."""
    union = np.full_like(dense(parts[0]), np.nan)
    for part in map(dense, parts):
        assert not np.any(~np.isnan(union) & ~np.isnan(part))
        union = np.where(np.isnan(part), union, part)
    return union


@pytest.mark.parametrize("orientation", ["item", "user"])
def test_validation_ratings_are_taken_from_the_training_ratings_and_leave_the_test_ratings(
    orientation,
):
    without = split_ratings(random_ratings(), 0.9, 1, orientation)
    split = split_ratings(random_ratings(), 0.9, 1, orientation, 0.25)
    assert without.validation is None
    assert (len(split.train), len(split.validation), len(split.test)) == (135, 45, 20)
    held = merged(split.train, split.validation)
    assert np.array_equal(held, dense(without.train), equal_nan=True)
    assert np.array_equal(dense(split.test), dense(without.test), equal_nan=True)
    merged(split.train, split.validation, split.test)


def test_the_same_ratings_are_held_out_in_both_orientations():
    by_item = split_ratings(random_ratings(), 0.9, 3, "item", 0.1)
    by_user = split_ratings(random_ratings(), 0.9, 3, "user", 0.1)
    for one, other in ((by_item, by_user), (by_item.transposed(), by_user.transposed())):
        assert np.array_equal(dense(one.train), dense(other.train).T, equal_nan=True)
        assert np.array_equal(dense(one.validation), dense(other.validation).T, equal_nan=True)
        assert np.array_equal(dense(one.test), dense(other.test).T, equal_nan=True)
    for side in ("train", "validation", "test"):
        turned, asked_for = getattr(by_item.transposed(), side), getattr(by_user, side)
        assert np.array_equal(dense(turned), dense(asked_for), equal_nan=True)


def test_a_split_without_validation_ratings_is_transposed_without_them():
    assert split_ratings(random_ratings(), 0.9, 1).transposed().validation is None


def test_the_same_seed_holds_out_the_same_ratings_and_another_seed_others():
    first, again, other = (
        dense(split_ratings(random_ratings(), 0.9, seed, validation_ratio=0.1).validation)
        for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again, equal_nan=True)
    assert not np.array_equal(first, other, equal_nan=True)


@pytest.mark.parametrize("ratio", [0.001, 0.999])
def test_a_validation_ratio_that_leaves_one_side_empty_is_refused(ratio):
    with refused(f"--validation_ratio {ratio} ", " 180 training"):
        split_ratings(random_ratings(), 0.9, 1, "item", ratio)


# Folds


@pytest.mark.parametrize("orientation", ["item", "user"])
@pytest.mark.parametrize("num_folds", [2, 3, 7, 200])
def test_the_folds_of_a_seed_test_every_rating_once(num_folds, orientation):
    ratings = random_ratings()
    whole = np.full((ratings.num_items, ratings.num_users), np.nan, np.float32)
    whole[ratings.items, ratings.users] = ratings.values
    whole = whole if orientation == "item" else whole.T
    times_tested = np.zeros(whole.shape, int)
    for fold in range(1, num_folds + 1):
        split = split_ratings(ratings, 0.9, 1, orientation, fold=(fold, num_folds))
        assert np.array_equal(merged(split.train, split.test), whole, equal_nan=True)
        assert len(split.test) in (200 // num_folds, 200 // num_folds + 1)
        times_tested[split.test.rows, split.test.indices] += 1
    assert np.array_equal(times_tested, ~np.isnan(whole))


@pytest.mark.parametrize("fold", [1, 2, 3])
def test_a_fold_is_a_part_of_the_ratings_in_the_order_of_the_seed(fold):
    ratings = random_ratings()
    split = split_ratings(ratings, 0.9, 5, fold=(fold, 3))
    order = random_stream(5, "split").permutation(200)
    part = np.array([0, 66, 133, 200])  # thirds of 200
    expected = order[part[fold - 1] : part[fold]]
    pairs = set(zip(ratings.items[expected], ratings.users[expected], strict=True))
    assert pairs == set(zip(split.test.rows, split.test.indices, strict=True))


def test_the_last_fold_is_the_random_split_of_its_share():
    fold, split = (split_ratings(random_ratings(), 0.9, 5, fold=f) for f in ((10, 10), None))
    for one, other in ((fold.train, split.train), (fold.test, split.test)):
        assert np.array_equal(dense(one), dense(other), equal_nan=True)


def test_validation_ratings_of_a_fold_are_some_of_its_training_ratings():
    for fold in ((1, 4), (3, 4)):
        without = split_ratings(random_ratings(), 0.9, 1, fold=fold)
        split = split_ratings(random_ratings(), 0.9, 1, "item", 0.2, fold)
        assert (len(split.train), len(split.validation), len(split.test)) == (120, 30, 50)
        held = merged(split.train, split.validation)
        assert np.array_equal(held, dense(without.train), equal_nan=True)
        assert np.array_equal(dense(split.test), dense(without.test), equal_nan=True)


def test_more_folds_than_ratings_are_refused(write_ratings):
    path = write_ratings([(1, 1, 5), (2, 1, 3), (3, 1, 2)])
    config = Config(dataset="ml-1m", data_dir=str(path.parent), num_folds=4)
    with refused("--num_folds 4", " 3 "):
        load_ratings(config)
    assert len(load_ratings(replace(config, num_folds=3))) == 3
    with refused("--num_folds 201", " 200 "):
        split_ratings(random_ratings(), 0.9, 1, fold=(1, 201))


# The random streams


def with_values(count):
    """200 ratings of so many values on a scale of 0 to 100, each value at least once."""
    ratings = random_ratings(scale=(0, 100))
    values = np.arange(200) % count * 100 / (count - 1)
    return replace(ratings, values=values.astype(np.float32))


@pytest.mark.parametrize(
    "settings, remedy",
    [
        ({"input_encoding": "one_hot"}, "--input_encoding rating"),
        ({"members": ("item", "user"), "input_encoding": "one_hot"}, "--members"),
    ],
)
def test_one_hot_inputs_are_for_20_values_of_training_ratings_at_most(settings, remedy):
    config, many = Config(**settings), with_values(21)
    assert resolve(config, with_values(20)).input_encoding == "one_hot"
    assert resolve(Config(), many).input_encoding == "rating"
    with refused("--input_encoding one_hot", " 21 ", " 20 ", remedy):
        resolve(config, many)
    assert resolve(config, replace(many, held_out=many.values == 100))  # that is for testing


def test_one_hot_inputs_are_chosen_where_values_are_few():
    config = Config(input_encoding="auto", lambda_one_hot=0.3)
    few, many = (resolve(config, with_values(count)) for count in (20, 21))
    assert (few.input_encoding, few.lambda_one_hot) == ("one_hot", 0.3)
    assert (many.input_encoding, many.lambda_one_hot) == ("rating", None)


def test_a_member_with_one_hot_inputs_does_without_where_values_are_many():
    config = Config(members=("single", "user_one_hot"))
    few, many = (resolve(config, with_values(count)) for count in (20, 21))
    assert few.members == config.members and many.members == ("single", "user")
    assert [each.input_encoding for each in member_configs(few)] == ["rating", "one_hot"]


def test_the_values_of_a_part_are_those_of_the_whole_matrix():
    split = split_ratings(with_values(20), 0.9, 1)
    values = split.train.distinct
    assert values.tolist() == sorted(set(split.train.values.tolist())) and len(values) == 20
    for number in range(3):
        part = part_of(split, number, 3).train
        np.testing.assert_array_equal(part.distinct, values)
    few = split.train.columns(0, 1)
    assert len(np.unique(few.values)) < 20
    np.testing.assert_array_equal(few.distinct, values)
    np.testing.assert_array_equal(split.train.transposed().distinct, values)


@pytest.mark.parametrize("other", STREAMS[1:])
def test_the_split_does_not_depend_on_what_another_stream_drew(other):
    ratings = random_ratings()
    before = split_ratings(ratings, 0.9, seed=1)
    np.random.seed(0)
    random_stream(1, other).random(100)
    after = split_ratings(ratings, 0.9, seed=1)
    assert np.array_equal(dense(before.test), dense(after.test), equal_nan=True)
    shuffled = random_stream(1, other).permutation(200)
    assert not np.array_equal(random_stream(1, "split").permutation(200), shuffled)


def test_each_name_seed_and_index_is_a_stream_of_its_own():
    streams = [(seed, name) for seed in (1, 2) for name in STREAMS]
    streams += [(1, "shuffle", epoch) for epoch in (1, 2, 3)]
    draws = [tuple(random_stream(*stream).integers(2**62, size=4)) for stream in streams]
    assert len(set(draws)) == len(streams)
    assert draws == [tuple(random_stream(*s).integers(2**62, size=4)) for s in streams]


@pytest.mark.parametrize(
    "position, name",
    [(0, "split"), (1, "initialisation"), (2, "shuffle"), (3, "synthetic"), (4, "dropout"),
     (5, "pretraining")],
)
def test_a_stream_keeps_the_numbers_that_published_results_came_from(position, name):
    expected = np.random.default_rng([1994, position, 7]).random(3)
    assert random_stream(1994, name, 7).random(3).tolist() == expected.tolist()


def test_an_unknown_stream_is_refused():
    with pytest.raises(ValueError):
        random_stream(1, "shufle")


# Memory


def test_memory_of_loading_and_splitting_grows_with_the_ratings_only(write_ratings):
    size = 20_000  # ratings, of as many users and items: 400 MB as a dense array of bytes
    path = write_ratings([(1_000_000_007 * n, 1_000_003 * n, 1 + n % 5) for n in range(size)])
    peak = peak_bytes(lambda: split_ratings(read_ml_1m(path), 0.9, seed=1))
    assert peak < 500 * size


def test_memory_of_a_split_does_not_grow_with_users_times_items():
    rng = np.random.default_rng(1)
    users, items = rng.integers(200_000, size=1_000), rng.integers(100_000, size=1_000)
    values = np.ones(1_000, np.float32)
    ids = np.arange(200_000), np.arange(100_000)
    ratings = Ratings("wide", users, items, values, *ids, scale=SCALE)
    for orientation in ("item", "user"):
        assert peak_bytes(lambda o=orientation: split_ratings(ratings, 0.9, 1, o)) < 20e6


def peak_bytes(function):
    """The most memory that `function` held at once."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# What is loaded when


@pytest.fixture
def small_stand_in(monkeypatch):
    """Few synthetic ratings, and the seeds that they were asked for with."""
    seeds = []

    def synthetic_ratings(seed):
        seeds.append(seed)
        return np.array([1, 2]), np.array([1, 1]), np.array([3, 4])

    monkeypatch.setattr(data_preprocessor, "synthetic_ratings", synthetic_ratings)
    return seeds


@pytest.mark.parametrize("dataset", ["ml-1m", None])
def test_a_file_on_disk_is_read_without_network_and_without_a_word(
    no_network, write_ratings, dataset
):
    folder, said = str(write_ratings(TRIPLES).parent), []
    ratings = load_ratings(Config(dataset=dataset, data_dir=folder), log=said.append)
    assert (ratings.name, triples_of(ratings)) == ("ml-1m", TRIPLES)
    assert said == []


def test_without_data_and_network_the_stand_in_is_announced(no_network, tmp_path, small_stand_in):
    said = []
    (tmp_path / "data").mkdir()
    config = Config(data_dir=str(tmp_path / "data"), random_seed=7)
    ratings = load_ratings(config, log=said.append)
    assert ratings.name == "synthetic"
    assert small_stand_in == [7]
    message = str(*said)
    assert "\n" not in message
    refusal = os.strerror(errno.ECONNREFUSED)
    assert_names(message, tmp_path / "data", refusal, "MovieLens", "synthetic", "RMSE")


def test_ml_1m_asked_for_by_name_is_never_the_stand_in(no_network, tmp_path, small_stand_in):
    said = []
    with refused(
        tmp_path / "ratings.dat", no_network, os.strerror(errno.ECONNREFUSED), "network",
        "--data_dir", "--dataset synthetic",
    ):
        load_ratings(Config(dataset="ml-1m", data_dir=str(tmp_path)), log=said.append)
    assert said == small_stand_in == []


@pytest.mark.parametrize("dataset", ["ml-1m", None])
def test_a_malformed_file_is_an_error_and_never_the_stand_in(
    no_network, write_ratings, small_stand_in, dataset
):
    path = write_ratings(GOOD_LINES + b"1::11::6::0\n")
    with refused(f"{path}, line 7: '1::11::6::0'", "rating 6"):
        load_ratings(Config(dataset=dataset, data_dir=str(path.parent)))
    assert small_stand_in == []


def test_synthetic_ignores_the_disk_and_the_network(
    serve, tmp_path, write_ratings, small_stand_in
):
    server, said = serve(), []
    for folder in (write_ratings(b"not ratings").parent, tmp_path / "nowhere"):
        config = Config(dataset="synthetic", data_dir=str(folder), random_seed=8)
        ratings = load_ratings(config, log=said.append)
        assert (ratings.name, ratings.scale, len(ratings)) == ("synthetic", (1.0, 5.0), 2)
    assert small_stand_in == [8, 8]
    assert server.num_requests == 0
    assert files_below(tmp_path) == ["ratings.dat"]
    assert said == []


@pytest.mark.parametrize(
    "orientation, rows, given, epochs",
    [
        ("item", (300, 3706), {}, (18, 3)),
        ("item", (300, 9000), {}, (18, 3)),
        ("item", (300, 100), {}, (270, 45)),  # 15 steps of MovieLens-1M in one
        ("item", (300, 600), {}, (90, 15)),
        ("user", (300, 9000), {}, (216, 36)),  # 24 steps in two
        ("item", (300, 100), {"train_epoch": 9}, (9, 3)),
        ("item", (300, 600), {"warmup_epoch": 2, "display_step": 1}, (90, 2)),
    ],
)
def test_fast_takes_as_many_steps_as_on_movielens_1m(orientation, rows, given, epochs):
    users, items = np.arange(9000) % rows[0], np.arange(9000) % rows[1]
    ratings = index_ratings("file.csv", users, items, 1.0 + users % 5, (1.0, 5.0))
    config = resolve(over_preset({"preset": "fast", "orientation": orientation} | given), ratings)
    assert (config.train_epoch, config.warmup_epoch) == epochs


@pytest.mark.parametrize(
    "given, start",
    [({}, ("zero", 0.0)), ({"mean_in_weights": 0.5}, ("mean", 0.5)),
     ({"initial_bias": "zero", "mean_in_weights": 0.0}, ("zero", 0.0))],
)
def test_fast_starts_without_the_mean_rating_on_other_data_than_movielens_1m(given, start):
    users, items = np.arange(9000) % 300, np.arange(9000) % 600
    ratings = index_ratings("file.csv", users, items, 1.0 + users % 5, (1.0, 5.0))
    config = resolve(over_preset({"preset": "fast"} | given), ratings)
    assert (config.initial_bias, config.mean_in_weights) == start
    assert config.average_decay == PRESETS["fast"]["average_decay"]


def test_fast_starts_with_the_mean_rating_on_data_of_movielens_1m_s_size():
    users, items = np.divmod(np.arange(0, 6040 * 3706, 23), 3706)  # 973,227 pairs
    ratings = index_ratings("ml-1m", users, items, 1.0 + users % 5, (1.0, 5.0))
    config = resolve(over_preset({"preset": "fast"}), ratings)
    assert (config.initial_bias, config.mean_in_weights, config.train_epoch) == ("mean", 0.7, 18)
