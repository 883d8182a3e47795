"""Titles from the files of each publisher."""

import pytest

from autorec_tf.data.titles import read_titles

ML_1M = "1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les (1995)::Drama|Musical\n"
EXPECTED = {"1": "Toy Story (1995)", "2": "Misérables, Les (1995)"}


@pytest.mark.parametrize(
    "dataset, name, content",
    [
        ("ml-1m", "movies.dat", ML_1M.encode("latin-1")),
        ("ml-10m", "movies.dat", ML_1M.encode()),
        ("ml-1m", "movies.dat", ML_1M.replace("\n", "\r\n").encode("latin-1")),
        (
            "ml-100k",
            "u.item",
            "1|Toy Story (1995)|01-Jan-1995||http://x|0|1\n"
            "2|Misérables, Les (1995)|01-Jan-1995||http://y|0|0\n".encode("latin-1"),
        ),
        (
            "ml-20m",
            "movies.csv",
            'movieId,title,genres\r\n1,Toy Story (1995),Animation\r\n'
            '2,"Misérables, Les (1995)",Drama\r\n'.encode(),
        ),
        (
            "netflix",
            "movie_titles.csv",
            "1,1995,Toy Story\n2,1995,Misérables, Les".encode("latin-1"),
        ),
        ("netflix", "movie_titles.txt", "1,1995,Toy Story\n2,1995,Misérables, Les\n".encode()),
    ],
)
def test_the_titles_are_those_of_the_file(tmp_path, dataset, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_titles(dataset, tmp_path) == EXPECTED | (
        {"2": "Misérables, Les (1995)"} if dataset == "netflix" else {}
    )


def test_a_year_that_is_not_known_is_not_told(tmp_path):
    (tmp_path / "movie_titles.csv").write_text("4388,NULL,Ancient Civilizations: Rome, Pompeii\n")
    assert read_titles("netflix", tmp_path) == {"4388": "Ancient Civilizations: Rome, Pompeii"}


def test_without_a_file_there_are_no_titles(tmp_path):
    assert read_titles("ml-1m", tmp_path) == {}
    assert read_titles("ml-1m", tmp_path / "nowhere") == {}


@pytest.mark.parametrize("dataset", ["synthetic", "mine.csv"])
def test_other_ratings_do_not_take_the_titles_of_movielens(tmp_path, dataset):
    (tmp_path / "movies.dat").write_text(ML_1M)
    assert read_titles(dataset, tmp_path) == {}


def test_a_line_in_another_format_has_no_title(tmp_path):
    (tmp_path / "movies.dat").write_text("\n1\n2::\n3::Heat (1995)::Action\n")
    assert read_titles("ml-1m", tmp_path) == {"3": "Heat (1995)"}


def test_the_real_movies_have_titles(ml_1m):
    if not (ml_1m / "movies.dat").exists():
        pytest.skip("needs MovieLens-1M's movies.dat")
    titles = read_titles("ml-1m", ml_1m)
    assert len(titles) == 3883 and titles["1"] == "Toy Story (1995)"


def test_a_quote_that_is_never_closed_gives_no_titles(tmp_path):
    (tmp_path / "movies.csv").write_text('movieId,title\n1,"' + "x" * 200_000)
    assert read_titles("ml-20m", tmp_path) == {}
