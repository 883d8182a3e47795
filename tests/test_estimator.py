"""A DataFrame goes in and what comes out is what main.py leaves, to the last bit."""

import errno
import json
import os
import pickle
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import compare
import export
import main
import recommend
from autorec_tf import AutoRecModel, AutoRecWarning, load, train
from autorec_tf.records.console import Console
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.npz import write_npz
from autorec_tf.serving.recommender import predict, similar
from autorec_tf.serving.recommender import recommend as recommend_from
from autorec_tf.system.errors import Diverged, UserError, without_dashes
from autorec_tf.train_api import read_given
from tests.conftest import files_below
from tests.facts import assert_names
from tests.facts import refused as told_refused
from tests.figures import undrawn
from tests.forks import Fork
from tests.program import read_json
from tests.serving.test_npz import rewritten

pytestmark = pytest.mark.eager

ROOT = Path(__file__).resolve().parent.parent
BLEND = dict(members=("item", "user"), train_epoch=2, input_encoding="one_hot")
QUICK = dict(hidden_neuron=6, train_epoch=2, batch_size=32, base_lr=0.02, progress=False)


def made_up(seed=3, num_users=30, num_items=20, count=400):
    """Ratings in halves of 0.5 to 5, with users that are numbers and items that are text."""
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(num_users * num_items)[:count]
    return pd.DataFrame({
        "user": 7 * (pairs // num_items) + 1,
        "item": [f"film {p % num_items}, part \"2\"" for p in pairs],
        "rating": rng.integers(1, 11, count) / 2,
    })


@pytest.fixture(scope="module")
def ratings():
    return made_up()


@pytest.fixture(scope="module")
def model(ratings):
    return train(ratings, **QUICK)


@pytest.fixture(scope="module")
def with_text(ratings):
    """A model, cold by the paper's rule, of ratings whose users are no whole numbers: 1 is 001."""
    odd = ratings.assign(user=ratings["user"].map(lambda x: f"00{x}" if x == 1 else x))
    return train(odd, cold_rating="paper", **QUICK)


@pytest.fixture(scope="module")
def trained(ratings, model):
    """`train` on the ratings; with settings that a test has used already, what it returned then."""
    models = {repr({}): model}

    def trained(**settings):
        if repr(settings) not in models:
            models[repr(settings)] = train(ratings, **QUICK | settings)
        return models[repr(settings)]

    return trained


@pytest.fixture(scope="module")
def left_by_main(ratings, tmp_path_factory):
    """The folder in which main.py left a run of the ratings, and what `run_main` returns; with
    settings that a test has used already, the same."""
    runs = {}

    def left_by_main(**settings):
        if repr(settings) not in runs:
            folder = tmp_path_factory.mktemp("left")
            runs[repr(settings)] = folder, run_main(folder, ratings, **QUICK | settings)
        return runs[repr(settings)]

    return left_by_main


def known(frame, **settings):
    """The ratings that `train` reads."""
    quick = QUICK | settings
    del quick["progress"]
    return read_given(frame, None, quick, Console(False))[1]


def flags(settings):
    """Settings as a command line has them."""
    words = []
    for name, value in settings.items():
        words += [f"--{name}", *map(str, value if isinstance(value, tuple) else [value])]
    return words


@undrawn
def run_main(folder, frame, **settings):
    """What main.py leaves of the CSV file of `frame`: run, summary and config.json."""
    frame.to_csv(folder / "ratings.csv", index=False)
    settings = settings | dict(dataset=folder / "ratings.csv", comet="off", run_name="run",
                               results_dir=folder)
    settings.pop("progress", None)
    assert main.main(flags(settings)) == 0
    record = folder / "run"
    return read_run(record, str(folder)), read_json(record / "summary.json"), read_json(
        record / "config.json")


def slow(**settings):
    return pytest.param(settings, marks=pytest.mark.slow)


def refused(call, *arguments, names, error=UserError, **settings):
    """`call` raises `error` with one line, without flags, that names each of `names`."""
    with told_refused(*names, error=error) as caught:
        call(*arguments, **settings)
    message = str(caught.value)
    assert "--" not in message.replace("--help", "")
    return message


def same_answers(one, other, users=(1, 8, 15, 99), n=30):
    """Whether two answer alike, to the last bit."""
    recommender = one.recommender
    items = [*recommender.item_ids, "unknown"]
    pairs = np.repeat(users, len(items)), np.tile(np.array(items, object), len(users))
    assert one.predict(*pairs).tolist() == other.predict(*pairs).tolist()
    for user in users[:-1]:
        pd.testing.assert_frame_equal(
            one.recommend(user, n), other.recommend(user, n), check_exact=True)
    for item in items[:3]:
        pd.testing.assert_frame_equal(
            one.similar(item, n), other.similar(item, n), check_exact=True)
    assert one.summary == other.summary


# The same numbers as main.py's.


@pytest.mark.parametrize(
    "settings",
    [
        dict(regularization="plain", lambda_value=3.0, engine="sparse", batch_size=16),
        slow(hidden_neuron=(6, 3, 6), pretrain_epoch=2, input_dropout=0.2, orientation="user"),
        slow(**BLEND),
        slow(preset="paper", train_epoch=1),
        slow(validation_ratio=0.2, patience=2, train_epoch=9, display_step=2),
        slow(rating_scale=(0.0, 10.0), score_reconstruction=True, engine="dense"),
    ],
)
def test_the_same_settings_give_what_main_gives_to_the_last_bit(
    settings, ratings, trained, left_by_main
):
    _, (run, summary, config) = left_by_main(**settings)
    ours = trained(**settings)
    theirs, recommender = run.recommender(), ours.recommender
    takes_time = {"seconds": 0, "peak_memory_mb": 0, "dataset": ""}
    assert ours.summary | takes_time == summary | takes_time
    assert ours.test_rmse == summary["final_test_rmse"]
    free = {"run_name", "comet", "dataset"}
    for name, value in json.loads(json.dumps(ours.run.config.to_dict())).items():
        assert name in free or config[name] == value, name
    for mine, its in zip(ours.run.members, run.members, strict=True):
        assert mine.weight == its.weight and mine.model.config.orientation == (
            its.model.config.orientation)
        for x, y in zip(mine.model.parameters, its.model.parameters, strict=True):
            np.testing.assert_array_equal(x, y)
    for user in recommender.user_ids[:5]:
        pd.testing.assert_frame_equal(
            ours.recommend(user, 9), recommend_from(theirs, user, 9), check_exact=True)
    item = recommender.item_ids[2]
    pd.testing.assert_frame_equal(ours.similar(item), similar(theirs, item), check_exact=True)
    pairs = ratings["user"].to_numpy(), ratings["item"].to_numpy()
    assert ours.predict(*pairs).tolist() == predict(theirs, *pairs)["prediction"].tolist()


def test_a_test_set_may_be_given_as_a_second_frame_and_warnings_are_those_of_main(
    ratings, tmp_path, capsys
):
    known, held_out = ratings[:350], ratings[350:].assign(user=lambda x: x["user"].where(
        x.index > 360, 1000 + x.index))  # cold users
    held_out.to_csv(tmp_path / "test.csv", index=False)
    again = pd.concat([known, known[:3]])
    settings = {name: value for name, value in QUICK.items() if name != "batch_size"}
    _, summary, _ = run_main(tmp_path, again, test_file=tmp_path / "test.csv", **settings)
    settings["test_columns"] = ["customer", "item", "rating"]
    customers, line = held_out.rename(columns={"user": "customer"}), sys._getframe().f_lineno + 2
    with warnings.catch_warnings(record=True, action="always", category=AutoRecWarning) as issued:
        ours = train(again, customers, **settings)
    assert {(each.filename, each.lineno) for each in issued} == {(__file__, line)}
    printed = [each.removeprefix("warning: ") for each in capsys.readouterr().out.splitlines()
               if each.startswith("warning: ")]
    texts = [str(each.message).replace("DataFrame:", "ratings.csv:") for each in issued]
    assert [without_dashes(each) for each in printed] == texts and len(texts) == 4
    assert ours.summary["test_ratings"] == 50 and ours.test_rmse == summary["final_test_rmse"]
    user, item = ratings.loc[349, ["user", "item"]]
    names = "test DataFrame", "row 0 (index 349)", f"user {user}", item, " DataFrame, row 349"
    refused(train, known, ratings[349:], names=names, **QUICK)


def test_the_latest_ratings_may_be_the_test_ratings(ratings, tmp_path):
    days = pd.Timestamp("2024-02-28 23:00") + pd.to_timedelta(np.arange(400)[::-1], "h")
    dated = ratings.assign(timestamp=days)
    _, summary, _ = run_main(tmp_path, dated, split="time", **QUICK)
    ours = train(dated, split="time", **QUICK)
    assert ours.run.ratings.held_out.tolist() == [True] * 40 + [False] * 360
    assert ours.test_rmse == summary["final_test_rmse"]
    names = "DataFrame", "split time", "timestamps", "columns"
    refused(train, ratings, split="time", names=names, **QUICK)


def test_equal_calls_in_one_process_give_equal_results_and_say_nothing_unless_asked(
    ratings, model, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    again = train(ratings, **QUICK)
    assert capsys.readouterr() == ("", "") and files_below(tmp_path) == []
    times = {"seconds": 0, "peak_memory_mb": 0}
    assert again.summary | times == model.summary | times
    for x, y in zip(again.run.members[0].model.parameters, model.run.members[0].model.parameters,
                    strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_dataset_may_be_named_or_be_a_file(ratings, model, tmp_path):
    path = tmp_path / "my ratings.csv"
    ratings.to_csv(path, index=False)
    for own in (known(path), known(str(path)), known(None, dataset=str(path))):
        assert own.name == "my ratings.csv" and own.fingerprint == model.run.fingerprint


@pytest.mark.slow
def test_movielens_1m_may_be_named_and_its_films_have_titles(ml_1m):
    ours = train(dataset="ml-1m", data_dir=str(ml_1m), hidden_neuron=4, train_epoch=1,
                 progress=False)
    assert ours.run.ratings.num_users == 6040
    assert "Toy Story (1995)" in ours.similar(3114)["title"].tolist() + ours.similar(
        3114, 3706)["title"].tolist()


# What a frame may hold.


IDS = {
    "numbers": lambda x: x,
    "text": lambda x: x.astype(str),
    "floats": lambda x: x.astype(float),
    "numpy's": lambda x: x.astype(np.int16),
    "nullable": lambda x: x.astype("Int64"),
    "categories": lambda x: x.astype(str).astype("category"),
    "objects": lambda x: pd.Series([np.int64(i) if i % 2 else str(i) for i in x], dtype=object),
}


@pytest.mark.parametrize("kind", IDS)
def test_the_kind_of_an_id_makes_no_difference_in_reading_or_asking(kind, ratings, model):
    other = ratings.assign(user=IDS[kind](ratings["user"]),
                           rating=ratings["rating"].astype("Float32"))
    other.index = other.index[::-1] + 5
    read = known(other)
    assert read.fingerprint == model.run.fingerprint and read.user_ids.dtype == np.int64
    expected = model.predict(ratings["user"].tolist(), ratings["item"].tolist()).tolist()
    assert model.predict(other["user"], ratings["item"].astype("category")).tolist() == expected
    pd.testing.assert_frame_equal(
        model.recommend(other["user"].iloc[0]), model.recommend(int(ratings["user"][0])))


def test_ids_that_are_no_numbers_stay_text(with_text):
    ids = with_text.recommender.user_ids
    assert "001" in ids and "8" in ids and "1" not in ids
    asked = with_text.predict(["001", 8, "8", 8.0, 1], ["film 3, part \"2\""] * 5)
    assert asked[1] == asked[2] == asked[3] and asked[4] != asked[0]


def test_columns_are_known_by_their_usual_names_or_named(ratings, model):
    for names in (["userId", "movieId", "score"], ["Customer ID", "ISBN", "Stars"]):
        renamed = ratings.set_axis(names, axis=1).assign(other=1)
        assert known(renamed).fingerprint == model.run.fingerprint
    shuffled = ratings.set_axis(["who", "what", 5], axis=1)[[5, "what", "who"]]
    read = known(shuffled, columns=("who", "what", 5))
    assert read.fingerprint == model.run.fingerprint
    refused(train, shuffled, names=("DataFrame", "(5, what, who)", "columns userId,movieId,rating"),
            **QUICK)
    names = "DataFrame", "columns a,b,c", "5, what, who"
    refused(train, shuffled, columns=("a", "b", "c"), names=names, **QUICK)


def test_missing_ratings_are_refused_or_left_out(ratings):
    some = ratings["rating"].where(~ratings.index.isin([4, 9, 17]))
    gaps = ratings.assign(rating=some).set_index(ratings.index + 100)
    names = "DataFrame, row 4 (index 104)", "3 of 400", "no_rating NaN"
    refused(train, gaps, names=names, **QUICK)
    without = known(ratings.drop([4, 9, 17]))
    assert known(gaps, no_rating="NaN").fingerprint == without.fingerprint
    worded = gaps.assign(rating=gaps["rating"].astype(object).where(gaps["rating"].notna(), "n/a"))
    assert known(worded, no_rating=("NaN", -1)).fingerprint == without.fingerprint


@pytest.mark.parametrize("duplicates", ["first", "last", "mean"])
def test_pairs_that_stand_twice_are_refused_or_by_the_rule(duplicates, ratings):
    twice = pd.concat([ratings, ratings[2:4].assign(rating=[1.5, 4.0])], ignore_index=True)
    user, item = ratings.loc[2, ["user", "item"]]
    names = ("DataFrame, row 400", f"user {user}", item, "row 2;", "2 pairs",
             "duplicates first, last or mean")
    refused(train, twice, names=names, **QUICK)
    once = twice.groupby(["user", "item"], sort=False)["rating"].agg(duplicates).reset_index()
    ours = known(twice, duplicates=duplicates)
    triples = [ours.user_ids[ours.users], ours.item_ids[ours.items], ours.values]
    frame = pd.DataFrame(dict(zip(once.columns, triples, strict=True)))
    frame, once = (x.sort_values(["user", "item"]).to_numpy() for x in (frame, once))
    assert (frame == once).all()


@pytest.mark.parametrize(
    "change, names",
    [
        (lambda x: x.assign(user=x["user"].where(x.index != 7)), ["DataFrame, row 7: ',", "''"]),
        (lambda x: x.assign(item=" a"), ["DataFrame, row 0: '", "' a'", "400 rows"]),
        (lambda x: x.assign(rating=x["rating"].astype(object).where(x.index != 300, "good")),
         ["DataFrame, row 300: '", "'good'"]),
        (lambda x: x.assign(rating=np.where(x.index == 3, np.inf, 1)),
         ["DataFrame, row 3: '", "'inf'"]),
        (lambda x: x[:0], ["DataFrame", "no rows"]), (lambda x: x["user"], ["Series", "DataFrame"]),
        (lambda x: None, ["NoneType", "DataFrame"]),
        (lambda x: x.assign(rating=3), ["DataFrame", " 3,", "rating_scale LOW HIGH"]),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line_that_says_where(change, names, ratings):
    refused(train, change(ratings), names=names, **QUICK)


def test_a_row_far_down_is_named_by_its_position_and_label(monkeypatch, ratings):
    monkeypatch.setattr("autorec_tf.data.frame.ROWS", 50)
    far = ratings.assign(rating=ratings["rating"].where(ratings.index != 333, 9.5))
    far.index = [f"row of {i}" for i in far.index]
    names = "DataFrame, row 333", f"(index {far.index[333]!r})", "9.5", "0.5 to 5"
    refused(train, far, rating_scale=(0.5, 5), names=names, **QUICK)


@pytest.mark.parametrize(
    "settings, names",
    [
        ({"base_lr": -1}, ["base_lr -1.0", "greater than 0"]),
        ({"bsae_lr": 1}, ["bsae_lr", " base_lr", "main.py --help"]),
        ({"hidden_neuron": "many"}, ["hidden_neuron 'many'", "int"]),
        ({"train_epoch": 2.5}, ["train_epoch 2.5", "int"]),
        ({"grad_clip": None}, ["grad_clip None", "bool"]),
        ({"preset": "good"}, ["preset 'good'", "default", "paper", "best"]),
        ({"preset": "paper", "tune": "base_lr"}, ["base_lr", "tune"]),
        ({"tensorboard": True}, ["tensorboard", "main.py"]),
        ({"num_splits": 5}, ["num_splits", "main.py"]),
        ({"dataset": "ml-1m"}, ["dataset", "DataFrame"]),
        ({"grad_clip_limit": 1}, ["grad_clip_limit", "main.py --help"]),
        ({"train_ratio": 0.9999}, ["train_ratio 0.9999", "400 ratings"]),
        ({"patience": 3}, ["patience 3", "validation_ratio"]),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_one_line(settings, names, ratings):
    refused(train, ratings, names=names, **QUICK | settings)


def test_a_training_that_diverges_says_so(ratings):
    settings = dict(base_lr=1e20, train_epoch=20, batch_size=8, regularization="plain")
    names = "epoch 1", "nan", "1e+20", "base_lr", "grad_clip"
    refused(train, ratings, names=names, error=Diverged, **QUICK | settings)


# What it says.


def test_progress_is_shown_on_stdout(ratings, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train(ratings, **QUICK | dict(progress=True, members=("item",)))
    out, error = capsys.readouterr()
    assert error == "" and out.count("epoch") == 4 == out.count("item (1 of 1)")
    assert_names(out, "DataFrame", "30 users", "20 items", "360 training", "40 test")
    assert files_below(tmp_path) == []


def test_a_notebook_renews_one_line(ratings, monkeypatch):
    written = []
    stream = type("OutStream", (), {
        "__module__": "ipykernel.iostream", "isatty": lambda _: False, "flush": lambda _: None,
        "write": lambda _, text: written.append(text),
    })
    monkeypatch.setattr(sys, "stdout", stream())
    train(ratings, **QUICK | dict(progress=True))
    lines = "".join(written).split("\n")
    (live,) = [line for line in lines if "epoch 2/2" in line]
    epochs = [text for text in live.replace("\033[K", "").split("\r") if text.strip()]
    assert len(epochs) == 2


# Predictions of pairs, unknown ids, new ratings.


def test_unknown_ids_are_predicted_by_the_cold_rule(ratings, model, with_text):
    item = ratings["item"][0]
    with pytest.warns(AutoRecWarning) as issued:
        found = with_text.predict([8, 999, None], ["nothing", item, item])
    (warning,) = issued
    assert_names(warning.message, "3 of 3 pairs", "user 8", "item nothing", " 3,")
    assert warning.filename == __file__
    assert found.tolist() == [3.0, 3.0, 3.0]
    by_mean = model.predict([999, 999], ["nothing", item])
    cold = model.recommender.cold
    index = list(model.recommender.item_ids).index(item)
    assert by_mean[0] == pytest.approx(cold.mean)
    assert by_mean[1] == pytest.approx(np.clip(cold.mean + cold.column_bias[index], 0.5, 5))
    assert by_mean.dtype == np.float64 and model.predict(1, item).shape == (1,)


def test_who_is_unknown_gets_one_line(model):
    refused(model.recommend, 999, names=["user 999", "30 users"])
    refused(model.similar, "Heat", names=["item Heat", "20 items"])
    refused(model.recommend, 1, 0, names=["n is 0", "at least 1"])
    refused(model.predict, [1, 2], ["a"], names=["2 users", "1 items"])


def test_recommendations_leave_out_what_the_user_has_rated(ratings, model):
    listed = model.recommend(8, 100)
    rated = set(ratings["item"][ratings["user"] == 8])
    assert rated & set(listed["item"]) == set() and len(listed) == 20 - len(rated)
    predictions = model.predict([8] * len(listed), listed["item"])
    np.testing.assert_allclose(listed["prediction"], predictions, rtol=1e-6)
    assert listed["prediction"].is_monotonic_decreasing


# Many at once.


def test_many_at_once_are_what_each_one_gets(model, tmp_path):
    users, items = model.recommender.user_ids, model.recommender.item_ids
    wanted = [*users[5:8], users[2], users[5]]
    rules = dict(candidates=items[3:17], exclude=[items[4], "unknown"], include_rated=True)
    for each in ({}, rules):
        together = model.recommend(users=wanted, n=4, **each)
        alone = [model.recommend(user, 4, **each).reset_index() for user in wanted]
        alone = [x.assign(user=user) for x, user in zip(alone, wanted, strict=True)]
        pd.testing.assert_frame_equal(together, pd.concat(alone, ignore_index=True)[
            ["user", "rank", "item", "title", "prediction", "ratings"]])
        everyone = pd.concat(model.recommend_all(4, **each), ignore_index=True)
        assert everyone["user"].unique().tolist() == users.tolist()
        pd.testing.assert_frame_equal(
            everyone[everyone["user"] == wanted[0]].reset_index(drop=True),
            alone[0][["user", "rank", "item", "prediction", "ratings"]])
    assert not model.recommend_all(4, tmp_path / "top.csv", **rules)
    written = pd.read_csv(tmp_path / "top.csv")
    pd.testing.assert_frame_equal(written, everyone, atol=1e-4, check_dtype=False)
    refused(model.recommend_all, 4, tmp_path / "top.csv", names=[tmp_path / "top.csv"])
    together = model.similar(items=items[:3], n=5)
    alone = pd.concat([model.similar(item, 5).reset_index() for item in items[:3]])
    pd.testing.assert_frame_equal(together.drop(columns="similar_to"),
                                  alone.reset_index(drop=True))
    assert together["similar_to"].tolist() == np.repeat(items[:3], 5).tolist()
    assert len(model.recommend(users=[])) == len(model.similar(items=[])) == 0


def test_candidates_and_exclusions_are_the_only_difference(ratings, model):
    items, rated = model.recommender.item_ids, set(ratings["item"][ratings["user"] == 8])
    everything = model.recommend(8, 20, include_rated=True)
    assert set(everything["item"]) == set(items) and rated
    left = everything[~everything["item"].isin([*rated, *items[:5]])]
    found = model.recommend(8, 20, exclude=items[:5])
    assert found["item"].tolist() == left["item"].tolist()
    with pytest.warns(AutoRecWarning, match="1 of 16 candidates .* unknown"):
        found = model.recommend(8, 20, candidates=[*items[:4:-1], "unknown"])
    assert found["item"].tolist() == left["item"].tolist()
    np.testing.assert_allclose(found["prediction"], left["prediction"])
    assert len(model.recommend(8, candidates=[])) == 0


TABLE = type("Table", (), {"__init__": lambda x, y: setattr(x, "content", y),
                           "to_pandas": lambda x: x.content})


@pytest.mark.parametrize(
    "kind", [list, tuple, np.array, pd.Series, pd.Index, pd.Categorical, iter, TABLE,
             lambda x: pd.DataFrame({"a": x}), lambda x: TABLE(pd.Series(x))])
def test_ids_may_be_in_a_list_an_array_a_series_or_a_frame_of_one_column(kind, model):
    users, items = model.recommender.user_ids[:4].tolist(), model.recommender.item_ids[:4].tolist()
    expected = model.predict(users, items).tolist()
    assert model.predict(kind(users), kind(items)).tolist() == expected
    pairs = pd.DataFrame({"x": 0, "item": items, "user": users})
    assert model.predict(pairs).tolist() == model.predict(TABLE(pairs)).tolist() == expected
    pd.testing.assert_frame_equal(model.recommend(users=kind(users), exclude=kind(items)),
                                  model.recommend(users=users, exclude=items))
    assert model.predict([], []).tolist() == []


@pytest.mark.parametrize(
    "ids, fact",
    [({1, 8}, "set"), (frozenset({1}), "frozenset"), ({1: 8}, "dict"), ([[1, 8]], "entry 0"),
     ([1, (8,)], "entry 1"), (np.array([[1, 8]]), "(1, 2)"), (pd.DataFrame([[1, 8]]), "(1, 2)"),
     (pd.Series([1, [8]]), "entry 1")], ids=repr)
def test_sets_nested_lists_and_tables_are_no_ids(ids, fact, model):
    item = model.recommender.item_ids[0]
    for name, call in (("users", lambda: model.predict(ids, [item])),
                       ("items", lambda: model.predict([1], ids)),
                       ("users", lambda: model.recommend(users=ids)),
                       ("items", lambda: model.similar(items=ids)),
                       ("candidates", lambda: model.recommend(1, candidates=ids)),
                       ("exclude", lambda: model.recommend(1, exclude=ids))):
        refused(call, names=[f"{name}: ", fact])
    refused(model.recommend, ids, names=["user is a", "users="])
    refused(model.similar, ids, names=["item is a", "items="])


def test_a_call_that_asks_for_nobody_or_for_unknown_ids_gets_one_line(model):
    refused(model.recommend, names=["user", "users", "ratings"])
    refused(model.recommend, 1, users=[1], names=["user", "users", "ratings"])
    refused(model.similar, names=["item", "items"])
    refused(model.recommend, users=[1, 999], names=["user 999"])
    refused(model.recommend, users=[1], n=2.5, names=["n is 2.5"])
    refused(model.predict, [1, 8], names=["items", "DataFrame"])
    refused(model.predict, pd.DataFrame({"x": [1], "y": [2]}), names=["x, y"])

    class Table:
        def to_pandas(self):
            raise ModuleNotFoundError("No module named 'pyarrow'")

    refused(train, Table(), names=["Table", "pyarrow"], **QUICK)
    refused(model.recommend, users=Table(), names=["Table", "pyarrow"])


# People who are not in the model.


@pytest.mark.parametrize("settings", [{}, dict(orientation="user"), slow(**BLEND)])
def test_a_new_person_gets_what_folding_in_recommends(settings, ratings, trained):
    model = trained(**settings)
    assert model.recommender.item_ratings.min() > 10  # or an item would be fitted again
    items = ratings["item"].unique()[:3].tolist()
    values = [5, 0.5, 4]
    frame = pd.DataFrame({"item": items, "rating": values})
    expected = model.fold_in(frame.assign(user=999)).recommend(999, 8)
    before = model.recommend(1, 20)
    for given in (frame, frame.assign(user=5), dict(zip(items, values, strict=True)), TABLE(frame),
                  pd.Series(values, items)):
        pd.testing.assert_frame_equal(model.recommend(ratings=given, n=8), expected,
                                      check_exact=True)
    shown = model.recommend(ratings=frame, n=30, include_rated=True, exclude=items[:1])
    assert set(shown["item"]) == set(model.recommender.item_ids) - {items[0]}
    with pytest.warns(AutoRecWarning, match="1 of the 4 .* new film"):
        found = model.recommend(ratings=dict(zip(items, values, strict=True)) | {"new film": 3},
                                n=8)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    pd.testing.assert_frame_equal(model.recommend(1, 20), before, check_exact=True)


def test_ratings_of_a_new_person_that_cannot_be_used_are_refused(ratings, model):
    item = ratings["item"][0]
    refused(model.recommend, ratings={"new film": 3}, names=["1 of the 1 ", "new film", "fold_in"])
    refused(model.recommend, ratings={}, names=["no rows"])
    refused(model.recommend, ratings={item: 7}, names=["row 0", "rating 7", "0.5 to 5"])
    refused(model.recommend, ratings=[item], names=["list", "DataFrame"])
    two = pd.DataFrame({"user": [1, 2], "item": item, "rating": [3, 4]})
    refused(model.recommend, ratings=two, names=["several users", " 1 ", " 2", "fold_in"])
    refused(model.recommend, ratings=two[["item"]], names=["DataFrame", "(item)"])
    refused(model.recommend, ratings=two[["item", "rating"]], names=["row 1", item, "duplicates"])


@pytest.mark.parametrize("settings", [{}, slow(**BLEND)])
def test_new_ratings_are_those_of_recommend_py(
    settings, ratings, trained, left_by_main, tmp_path, capsys
):
    items = ratings["item"].unique()
    new = pd.DataFrame({"user": [999, 999, 1], "item": [*items[:2], "new film"],
                        "rating": [5, 0.5, 4]})
    folder, _ = left_by_main(**settings)
    assert "rows_1_mean" in np.load(folder / "run" / "predictions.npz")  # without TensorFlow
    new.to_csv(tmp_path / "new.csv", index=False)
    capsys.readouterr()
    code = recommend.main([str(folder / "run"), "--data_dir", str(folder), "--ratings",
                           str(tmp_path / "new.csv"), "--user", "999", "--json"])
    assert code == 0
    theirs = json.loads(capsys.readouterr().out)
    model = trained(**settings)
    before = model.predict([1, 1], items[:2]).tolist()
    wider = model.fold_in(new.astype({"user": float}))
    ours = wider.recommend(999).reset_index()
    assert ours["item"].tolist() == [each["item"] for each in theirs]
    assert ours["prediction"].tolist() == pytest.approx(
        [each["prediction"] for each in theirs], abs=1e-9)
    assert model.predict([1, 1], items[:2]).tolist() == before
    refused(model.recommend, 999, names=["user 999"])
    assert not {*items[:2]} & {*ours["item"]}


def test_new_ratings_are_read_by_the_rules_of_training(ratings):
    named = ratings.set_axis(["who", "what", "stars"], axis=1)
    model = train(named, columns=("who", "what", "stars"), no_rating=("NaN", 0),
                  duplicates="last", **QUICK)
    item = named["what"][0]
    new = pd.DataFrame({"who": [999] * 3, "what": [item, item, named["what"][1]],
                        "stars": [1, 5, 0]})
    for frame in (new, new.set_axis(["user", "item", "rating"], axis=1)):
        with pytest.warns(AutoRecWarning, match="duplicates last") as issued:
            wider = model.fold_in(frame).run.ratings
        assert [each.filename for each in issued] == [__file__]
        (rating,) = wider.values[wider.user_ids[wider.users] == 999]
        assert rating == 5
    refused(model.fold_in, new.assign(stars=[1, 2, 7]),
            names=["DataFrame, row 2: '999,", "rating 7", "0.5 to 5"])
    refused(model.fold_in, new.assign(who="ann"), names=["DataFrame, row 0", "'ann'"])


# Saving.


@pytest.mark.parametrize(
    "settings",
    [
        slow(**BLEND),
        dict(input_encoding="one_hot", hidden_neuron=(6, 3, 6), orientation="user",
             output_activation="sigmoid"),
        # By `auto`, its inputs are one-hot; and each rating is predicted from the others.
        dict(preset="single", input_encoding="auto", orientation="user", train_epoch=1,
             engine="sparse"),
        dict(rating_scale=(0, 10), engine="dense", cold_rating="paper", split="time"),
    ],
)
def test_what_is_loaded_answers_as_before_to_the_last_bit(
    settings, ratings, trained, tmp_path
):
    if "split" in settings:
        model = train(ratings.assign(timestamp=np.arange(400)), **QUICK | settings)
    else:
        model = trained(**settings)
    model.save(tmp_path / "model.npz")
    assert files_below(tmp_path) == ["model.npz"]
    again = load(str(tmp_path / "model.npz"))
    same_answers(model, again)
    same_answers(again, pickle.loads(pickle.dumps(again)))
    assert repr(again) == repr(model) and again.run.fingerprint == model.run.fingerprint
    new = pd.DataFrame({"user": [99, 99, 1], "item": ["film 3, part \"2\"", "new", "new"],
                        "rating": [5, 1, 3.3]})  # 3.3 is new, too
    wider = model.fold_in(new)
    same_answers(wider, again.fold_in(new), (1, 99, 1000))
    wider.save(tmp_path / "wider.npz")
    same_answers(wider, load(tmp_path / "wider.npz"), (1, 99, 1000))


def test_a_saved_file_is_never_overwritten_and_appears_when_it_is_whole(
    model, tmp_path, monkeypatch
):
    path = tmp_path / "model.npz"
    path.write_text("mine")
    refused(model.save, path, names=[path])
    assert path.read_text() == "mine"
    nowhere = tmp_path / "no folder" / "model.npz"
    refused(model.save, nowhere, names=[nowhere, os.strerror(errno.ENOENT)])

    def fail(file, **_):
        file.write(b"half of it")
        raise OSError(28, "full")

    monkeypatch.setattr(np, "savez", fail)
    refused(model.save, tmp_path / "other.npz", names=[tmp_path / "other.npz", "full"])
    assert files_below(tmp_path) == ["model.npz"]


def test_recommend_py_reads_what_is_saved_and_leaves_out_what_was_rated(
    model, tmp_path, capsys
):
    model.save(tmp_path / "model.npz")
    assert recommend.main([str(tmp_path / "model.npz"), "--user", "8", "--json"]) == 0
    out, error = capsys.readouterr()
    assert error == ""
    assert [each["item"] for each in json.loads(out)] == model.recommend(8)["item"].tolist()


def test_what_is_damaged_or_something_else_is_refused_in_one_line(model, tmp_path):
    path = tmp_path / "model.npz"
    model.save(path)
    whole = path.read_bytes()
    rng, asked = np.random.default_rng(0), (model.recommender.user_ids[:20],
                                            model.recommender.item_ids[:20])
    expected, damaged = model.predict(*asked).tolist(), 0
    for _ in range(40):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(changed)
        try:
            assert load(path).predict(*asked).tolist() == expected  # what nobody reads was hit
        except UserError as error:
            assert "model.npz" in str(error) and "\n" not in str(error)
            damaged += 1
    assert damaged > 20
    for content in (b"", b"text", whole[: len(whole) // 2], b"PK\3\4"):
        path.write_bytes(content)
        refused(load, path, names=[path])
    none = tmp_path / "none.npz"
    refused(load, none, names=[none, os.strerror(errno.ENOENT)])
    np.savez(path, x=1)
    refused(load, path, names=[path, "'format'"])  # which it lacks


@pytest.mark.parametrize("changes, names", [
    ({"estimator": 2}, ["version 2", " 1 "]),
    ({"V_1": None, "estimator": None}, ["V_1", "missing"]),
    ({"users": np.zeros(0, np.int32), "items": np.zeros(0, np.int32),
      "values": np.zeros(0, np.float32)}, ["users", "empty"]),
    ({"mu_1": np.zeros(5, np.float32)}, ["mu_1", "float32 (5,)"]),
])
def test_a_file_of_another_kind_or_content_is_refused(changes, names, model, tmp_path):
    model.save(tmp_path / "model.npz")
    rewritten(tmp_path / "model.npz", tmp_path / "other.npz", **changes)
    refused(load, tmp_path / "other.npz", names=[tmp_path / "other.npz", *names])


@pytest.mark.parametrize("settings", [{}, slow(**BLEND), dict(
    preset="single", input_encoding="auto", orientation="user", train_epoch=1, engine="sparse")])
def test_an_export_takes_in_new_users_and_items_and_is_saved_with_them(
    settings, trained, tmp_path
):
    model = trained(**settings)
    write_npz(tmp_path / "autorec.npz", model.run, model.recommender)
    export, items = load(tmp_path / "autorec.npz"), model.recommender.item_ids
    assert np.isnan(export.test_rmse) and "0 ratings" in repr(export)
    assert export.predict([1, 8, 99], items[:3]).tolist() == model.predict(
        [1, 8, 99], items[:3]).tolist()
    person = pd.DataFrame({"user": 999, "item": items[:3], "rating": [5, 0.5, 4]})
    expected = model.fold_in(person).recommend(999)
    wider = export.fold_in(person)
    for each in (wider, pickle.loads(pickle.dumps(wider))):
        pd.testing.assert_frame_equal(each.recommend(999), expected, check_exact=True)
    pd.testing.assert_frame_equal(export.recommend(ratings=person), expected, check_exact=True)
    wider.save(tmp_path / "wider.npz")
    # Their ratings are complete, so that they may change; those of others are not.
    again = pd.DataFrame({"user": [999, 1], "item": [items[0], "new film"], "rating": [1, 3]})
    found = load(tmp_path / "wider.npz").fold_in(again)
    assert found.recommender.user_ratings[-1] == 3
    assert found.recommend(999).equals(model.fold_in(person).fold_in(again).recommend(999))
    refused(export.fold_in, pd.DataFrame({"user": [1, 999], "item": items[:2], "rating": 3}),
            names=["1 of 2 ratings", "user 1 ", items[0], "export"])


# Without TensorFlow, after a fork, in a pickle.


SERVER = """
import copy, os, pickle, sys
from importlib.util import find_spec
import pandas as pd
from autorec_tf import load

def answers(model):
    users, items = model.recommender.user_ids, model.recommender.item_ids
    wider = model.fold_in(pd.DataFrame({"user": [999, 999], "item": items[:2], "rating": [5, 1]}))
    return repr([model.predict(users[:9], items[:9]).tolist(), wider.recommend(999).to_json(),
                 model.recommend(users[0]).to_json(), model.similar(items[0]).to_json()])

model = load(sys.argv[1])
expected = answers(model)
print(expected)
child = os.fork() if hasattr(os, "fork") else 0
if not child and hasattr(os, "fork"):
    os._exit(answers(model) != expected)
if child:
    assert os.waitpid(child, 0)[1] == 0
assert answers(pickle.loads(pickle.dumps(model))) == answers(copy.deepcopy(model)) == expected
if find_spec("joblib"):
    import joblib
    joblib.dump(model, "model.joblib")
    assert answers(joblib.load("model.joblib")) == expected
assert "tensorflow" not in sys.modules
"""


def test_a_loaded_model_needs_no_tensorflow_and_works_after_a_fork_and_in_a_pickle(
    model, tmp_path
):
    model.save(tmp_path / "model.npz")
    done = subprocess.run([sys.executable, "-c", SERVER, tmp_path / "model.npz"], cwd=tmp_path,
                          env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True,
                          text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    here = {}
    exec(SERVER[: SERVER.index("model = load")], here)
    assert done.stdout == here["answers"](model) + "\n"


def test_a_pickle_of_another_version_is_refused_when_it_is_read(model, monkeypatch):
    monkeypatch.setattr("autorec_tf.serving.npz.MODEL_VERSION", 2)
    content = pickle.dumps(model)
    monkeypatch.undo()
    with told_refused("pickle", "version 2"):
        pickle.loads(content)


# In a thread, in another folder, after TensorFlow has been used.


def in_a_thread(function):
    done = []
    thread = threading.Thread(target=lambda: done.append(function()))
    thread.start()
    thread.join()
    return done[0]


@pytest.mark.slow
def test_everything_works_in_a_thread(ratings, model, tmp_path, capsys):
    frame = tmp_path / "frame.csv"
    ratings.to_csv(frame, index=False)
    quick = {k: v for k, v in QUICK.items() if k != "progress"}
    arguments = flags(quick | dict(dataset=frame, comet="offline", results_dir=tmp_path,
                                   run_name="run"))
    assert in_a_thread(lambda: undrawn(main.main)(arguments)) == 0
    assert read_json(tmp_path / "run" / "summary.json")["final_test_rmse"] == model.test_rmse
    folder, data = str(tmp_path / "run"), ["--data_dir", str(tmp_path)]
    capsys.readouterr()
    assert in_a_thread(lambda: recommend.main([folder, "--user", "8", "--json", *data])) == 0
    listed = [each["item"] for each in json.loads(capsys.readouterr().out)]
    assert listed == model.recommend(8)["item"].tolist()
    assert in_a_thread(lambda: export.main([folder, *data])) == 0
    assert in_a_thread(lambda: compare.main([folder])) == 0
    ours = in_a_thread(lambda: train(ratings, **QUICK))
    same_answers(ours, AutoRecModel(model.run, model.recommender, ours.summary))


USER = """
import sys
if sys.argv[1] == "used":
    import tensorflow as tf
    tf.zeros(1) + 1
import pandas as pd
from autorec_tf import load, train
if sys.argv[1] == "fresh":
    saved = load(sys.argv[2])
    print(saved.recommend(8).to_json(double_precision=15), saved.predict([8], [sys.argv[3]])[0])
ratings = pd.read_csv("ratings.csv")
model = train(ratings, hidden_neuron=6, train_epoch=2, batch_size=16, base_lr=0.02)
print("test_rmse", model.test_rmse)
if sys.argv[1] == "used":
    import main
    sys.stdout.flush()
    sys.exit(main.main(sys.argv[2:]))
"""


def another_process(run, folder, ratings, *arguments, **variables):
    """What a process is that uses the estimator in `folder`, which has folders of our names; `run`
    is `subprocess.run`, or starts a fork."""
    for name in ("data", "model", "records", "serving", "evaluation", "system", "tests"):
        (folder / name).mkdir(parents=True)
        (folder / name / "ratings.csv").write_text("mine")
    ratings.to_csv(folder / "ratings.csv", index=False)
    (folder / "use.py").write_text(USER)
    files = files_below(folder)
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    done = run([sys.executable, "use.py", *map(str, arguments)], cwd=folder,
               env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "epoch 2/2" in done.stdout and files_below(folder) == files
    return done, done.stdout.splitlines()


def fork(command, cwd, env, **_):
    process = Fork(command[1:], cwd, env)
    return subprocess.CompletedProcess(command, process.wait(), *process.communicate())


def rmse_of(lines):
    (line,) = [line for line in lines if line.startswith("test_rmse ")]
    return float(line.split()[1])


@pytest.mark.slow
def test_it_serves_another_folder_and_answers_there_as_before(ratings, model, tmp_path):
    model.save(tmp_path / "model.npz")
    item = model.recommender.item_ids[1]
    done, lines = another_process(
        subprocess.run, tmp_path / "mine", ratings, "fresh", tmp_path / "model.npz", item)
    table = model.recommend(8).to_json(double_precision=15)
    assert lines[0] == f"{table} {model.predict([8], [item])[0]}"
    assert rmse_of(lines) == pytest.approx(model.test_rmse, rel=1e-6)
    warning, line = done.stderr.splitlines()  # the only one, and the line that it is about
    assert "TensorFlow" not in done.stdout and line.strip() in USER
    assert_names(warning, "use.py:12: ", "AutoRecWarning")


@pytest.mark.slow
def test_it_and_main_work_where_tensorflow_has_been_used_and_main_records_its_threads(
    ratings, model, tmp_path
):
    quick = dict(dataset="ratings.csv", comet="off", run_name="run", train_epoch=1,
                 hidden_neuron=4, results_dir=tmp_path / "results")
    done, lines = another_process(
        fork, tmp_path / "mine", ratings, "used", *flags(quick), TF_CPP_MIN_LOG_LEVEL="3")
    threads = read_json(tmp_path / "results" / "run" / "config.json")["threads"]
    (told,) = [line for line in lines if "TensorFlow" in line]
    for line in (told, done.stderr.splitlines()[-1]):
        assert_names(line, "TensorFlow", f" {threads} threads")
    assert rmse_of(lines) == pytest.approx(model.test_rmse, rel=1e-6)
