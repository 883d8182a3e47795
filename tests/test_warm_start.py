"""A training that starts from a finished run: which ratings are for test, and where it starts."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import main
from autorec_tf import train
from autorec_tf.command_line import parse_arguments
from autorec_tf.config import Config
from autorec_tf.data.ratings import RatingMatrix, Ratings
from autorec_tf.model.parameters import COLUMN, ROW, parameters_of
from autorec_tf.records.run_folder import RunFolder
from autorec_tf.resolution import over_start
from autorec_tf.serving.finished_run import read_run
from autorec_tf.serving.start_run import beginning
from autorec_tf.training.trainer import build
from autorec_tf.warm_start import Start
from data_preprocessor import load_ratings, split_of
from tests.conftest import triples_of
from tests.facts import assert_names, refused
from tests.figures import undrawn
from tests.program import TIME_COLUMNS, read_json, read_metrics

pytestmark = pytest.mark.eager

CONFIG = Config(dataset="a.csv", split_seed=3, train_ratio=0.7, hidden_neuron=4, engine="dense")
SHAPES = [
    CONFIG, replace(CONFIG, orientation="user", hidden_neuron=(4, 3)),
    replace(CONFIG, input_encoding="one_hot"),
    replace(CONFIG, decoder="svdpp", optimizer_method="LBFGS", leave_one_out=True),
]


def rated(table):
    """{(user, item): (rating, time)} as Ratings, in this order."""
    (users, user_ids), (items, item_ids) = (
        pd.factorize(np.array([pair[axis] for pair in table], object), sort=True)
        for axis in (0, 1)
    )
    values, times = (np.array(x) for x in zip(*table.values(), strict=True))
    whole = all(isinstance(u, int) for u, _ in table)
    user_ids = user_ids.astype(int) if whole else user_ids.astype(str).astype(object)
    return Ratings("changed", users.astype(np.int32), items.astype(np.int32),
                   values.astype(np.float32), user_ids, item_ids.astype(int), (1.0, 5.0),
                   times=times)


def first_and_changed(seed, text=False):
    """Ratings, and the same with some removed, some of another value, and new ones among them,
    also of new users and items; with `text`, an id among the new ones is not a number."""
    rng = np.random.default_rng(seed)

    def draw(pairs):
        return {(int(p // 30), int(p % 30)): (int(rng.integers(1, 6)), int(rng.integers(99)))
                for p in pairs}

    pairs = rng.permutation(20 * 30)
    first = draw(pairs[:200][(pairs[:200] // 30 < 17) & (pairs[:200] % 30 > 2)])
    kept = [pair for pair in first if rng.random() < 0.8 and pair[0] != 5]
    new = pairs[200:260]
    changed = {pair: first[pair] for pair in kept} | draw(new[new // 30 != 5])
    changed |= {pair: (5, 1) for pair in kept[:9]}
    if text:
        changed = {(f"{user}" if user != 19 else "a b", item): x
                   for (user, item), x in changed.items()}
    pairs = list(changed.items())
    return first, dict(pairs[i] for i in rng.permutation(len(pairs)))


def start_of(table, config=CONFIG):
    ratings = replace(rated(table), times=None)
    train = split_of(replace(config, orientation="item"), ratings).train
    return Start("the start", config, ratings, train)


def sides(ratings, held_out):
    """The pairs of training and of test ratings, as text."""
    pairs = [(str(ratings.user_ids[u]), str(ratings.item_ids[i]))
             for u, i in zip(ratings.users, ratings.items, strict=True)]
    return tuple({pair for pair, is_test in zip(pairs, held_out, strict=True) if is_test == side}
                 for side in (False, True))


def old_sides(start):
    train = {(str(start.ratings.user_ids[u]), str(start.ratings.item_ids[i]))
             for i, u in zip(start.train.rows, start.train.indices, strict=True)}
    every, _ = sides(start.ratings, np.zeros(len(start.ratings), bool))
    return train, every - train


# The sides of the ratings


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("split", ["random", "time"])
def test_no_rating_changes_its_side(seed, split):
    first, changed = first_and_changed(seed, text=seed % 2 == 1)
    start, ratings = start_of(first), rated(changed)
    config = replace(CONFIG, split=split, start_from="a")
    divided = start.divided(ratings, config)
    (old_train, old_test), (train, test) = old_sides(start), sides(divided, divided.held_out)
    assert old_train & train and old_test & test
    assert not old_train & test and not old_test & train
    new = (train | test) - old_train - old_test
    assert len(new & train) == round(0.7 * len(new)) and len(new) > 50
    if split == "time":
        times = {(str(user), str(item)): time for (user, item), (_, time) in changed.items()}
        assert max(times[x] for x in new & train) <= min(times[x] for x in new & test)
    matrices = split_of(config, divided)  # what a model is trained and tested on
    for matrix, expected in ((matrices.train, train), (matrices.test, test)):
        pairs = zip(ratings.user_ids[matrix.indices], ratings.item_ids[matrix.rows], strict=True)
        assert {(str(u), str(i)) for u, i in pairs} == expected
    if split == "random":  # neither the order nor a value chooses the side of an old rating
        again = start.divided(rated(dict(sorted(changed.items(), key=str))), config)
        assert sides(again, again.held_out)[1] & (old_train | old_test) == test & old_test


@pytest.mark.parametrize("seed", range(3))
def test_a_training_rating_that_was_removed_and_comes_back_is_no_test_rating(seed):
    first, changed = first_and_changed(seed)
    start = start_of(first)
    trained_on, _ = old_sides(start)
    for table in (dict(list(first.items())[::2]), first, changed, first | changed):
        ratings = start.divided(rated(table), CONFIG)
        config = replace(CONFIG, **start.settings(ratings))
        train, test = sides(ratings, ratings.held_out)
        assert test and not test & trained_on
        trained_on |= train
        start = Start("the start", config, ratings, split_of(config, ratings).train)
    _, old_test = old_sides(start := start_of(first))
    kept = {pair: x for pair, x in first.items() if tuple(map(str, pair)) not in old_test}
    is_new = np.arange(len(kept) + 1) == len(kept)
    with_test = replace(rated(kept | {(99, 9): (3, 1)}), held_out=is_new)
    assert np.array_equal(start.divided(with_test, CONFIG).held_out, is_new)
    with refused(99, 9, "test"):
        replace(start, config=config).divided(with_test, CONFIG)


@pytest.mark.parametrize("exchanged", ["train", "test", None])
def test_a_test_file_cannot_exchange_sides(exchanged):
    first, changed = first_and_changed(1)
    start = start_of(first)
    old_train, old_test = old_sides(start)
    table = {pair: x for pair, x in changed.items()
             if exchanged == "test" or tuple(map(str, pair)) not in old_test}
    ratings = rated(table)
    names = [tuple(map(str, pair)) for pair in table]
    held_out = np.array([pair not in old_train and i % 2 > 0 for i, pair in enumerate(names)])
    if exchanged == "train":
        held_out[[pair in old_train for pair in names].index(True)] = True
    ratings, config = replace(ratings, held_out=held_out), replace(CONFIG, test_file="t.csv")
    if not exchanged:
        assert np.array_equal(start.divided(ratings, config).held_out, held_out)
        return
    side = old_train if exchanged == "train" else old_test
    wrong = [pair for pair, is_test in zip(names, held_out, strict=True)
             if pair in side and is_test == (exchanged == "train")]
    with refused(*wrong[0], len(wrong), start.name):
        start.divided(ratings, config)


def test_ratings_without_a_test_rating_or_without_any_of_the_start_are_refused():
    first, _ = first_and_changed(1)
    start = start_of(first)
    old_train, _ = old_sides(start)
    kept = {pair: x for pair, x in first.items() if tuple(map(str, pair)) in old_train}
    with refused("--test_file", "--train_ratio"):
        start.divided(rated(kept), CONFIG)
    with refused("changed", "--start_from"):
        start.divided(rated({(user + 100, item): x for (user, item), x in first.items()}), CONFIG)


@pytest.mark.parametrize("scale, activation, fits", [
    ((0.5, 5.0), "identity", True), ((0.5, 5.0), "sigmoid", False), ((1.0, 10.0), "identity", False)
])
def test_another_scale_is_refused_if_the_parameters_would_mean_something_else(
    scale, activation, fits
):
    first, changed = first_and_changed(1)
    start = start_of(first, replace(CONFIG, output_activation=activation))
    ratings = replace(rated(changed), scale=scale)
    if fits:
        assert start.divided(ratings, CONFIG).scale == scale
    else:
        with refused("--rating_scale", f"{scale[1]:g}"):
            start.divided(ratings, CONFIG)


# The first parameters


@pytest.mark.parametrize("config", SHAPES, ids=["item", "user_deep", "one_hot", "svdpp"])
def test_rows_and_columns_keep_their_parameters_and_new_ones_begin_at_zero_or_the_mean(config):
    first, changed = first_and_changed(2)
    start, rng = start_of(first, config), np.random.default_rng(0)
    ratings = start.divided(rated(changed), config)
    values = start.train.distinct if config.input_encoding == "one_hot" else None
    new_values = np.array([0.6, 1, 2, 3, 4, 4.6], np.float32)  # 0.6 is nearest to 1, 4.6 to 5
    declared = parameters_of(config, len(values) if values is not None else 0)
    axes = {"user": (start.ratings.user_ids, ratings.user_ids, start.train.column_counts),
            "item": (start.ratings.item_ids, ratings.item_ids, start.train.row_counts)}
    row, column = ("item", "user") if config.orientation == "item" else ("user", "item")
    axes |= {ROW: axes[row], COLUMN: axes[column]}
    old = [rng.normal(size=p.shape(len(axes[COLUMN][0]), len(axes[ROW][0]))).astype(np.float32)
           for p in declared]
    widened = start.widened(old, values, ratings, new_values)
    for parameter, before, after in zip(declared, old, widened, strict=True):
        assert after.dtype == np.float32
        if parameter.name == "D":
            before = before[:, [0, 0, 1, 2, 3, 4]]
        if not {ROW, COLUMN} & set(parameter.axes):
            assert np.array_equal(before, after)
            continue
        known, ids, counts = axes[parameter.axes[0]]
        mean = np.mean([x for x, count in zip(before, counts, strict=True) if count], 0)
        by_id = {one: x for one, x, count in zip(known, before, counts, strict=True) if count}
        assert set(ids) - set(by_id)
        for one, x in zip(ids, after, strict=True):
            fill = np.zeros_like(mean) if parameter.name in "VD" else mean
            np.testing.assert_allclose(x, by_id.get(one, fill), rtol=1e-5, atol=1e-6)


def test_new_columns_do_not_change_predictions_of_known_pairs():
    first, _ = first_and_changed(3)
    start = start_of(first)
    old = build(CONFIG, start.train, (1.0, 5.0))
    new = {(user + 50, item): x for (user, item), x in list(first.items())[:40] if user < 9}
    ratings = start.divided(rated(first | new), CONFIG)
    train = split_of(CONFIG, ratings).train
    first_values = start.widened([x.numpy() for x in old.parameters], None, ratings, train.distinct)
    model = build(CONFIG, train, (1.0, 5.0), start=first_values)
    pairs = start.train.rows, start.train.indices
    assert np.array_equal(ratings.user_ids[: len(start.ratings.user_ids)], start.ratings.user_ids)
    np.testing.assert_allclose(model.predict(model.rows(train), *pairs),
                               old.predict(old.rows(start.train), *pairs), rtol=1e-5)


def test_a_worker_takes_its_columns_of_the_start():
    rng = np.random.default_rng(0)
    train = RatingMatrix.from_triples(np.arange(6), np.arange(6), np.ones(6, np.float32), (6, 6))
    start = [rng.normal(size=p.shape(6, 6)).astype(np.float32) for p in parameters_of(CONFIG)]
    model = build(CONFIG, train.columns(2, 5), (1.0, 5.0), SimpleNamespace(), start)
    for parameter, x, full in zip(model.declared, model.parameters, start, strict=True):
        assert np.array_equal(x, full[2:5] if parameter.is_per_column else full)


# The settings


@pytest.mark.parametrize("given, flags", [
    ({"hidden_neuron": (5,)}, ("--hidden_neuron 5", "4")), ({"orientation": "user"}, ("item",)),
    ({"preset": "single"}, ("--preset single", "default")), ({"num_folds": 3}, ("--num_folds",)),
    ({"tune": ("lambda_value",)}, ("--tune",)), ({"members": ("item",)}, ("--members",)),
    ({"validation_ratio": 0.1}, ("--validation_ratio",)), ({"pretrain_epoch": 2}, ("--pretrain",)),
    ({"num_splits": 2}, ("--num_splits",)), ({"decoder": "svdpp"}, ("own",)),
])
def test_settings_that_the_parameters_or_the_sides_exclude_are_refused(given, flags):
    with refused(*flags, "results/a"):
        over_start(CONFIG, given | {"start_from": "results/a"}, "results/a")
    same = {name: getattr(CONFIG, name) for name in given}
    over_start(CONFIG, same | {"start_from": "results/a"}, "results/a")


@pytest.mark.parametrize("before", [dict(members=("item", "user")), dict(validation_ratio=0.2)])
def test_blends_and_runs_with_validation_ratings_are_no_start(before):
    with refused("results/a", f"--{next(iter(before))}"):
        over_start(replace(CONFIG, **before), {}, "results/a")


def test_a_started_run_has_the_later_schedule_in_fewer_epochs_and_passes_it_on():
    before = replace(CONFIG, train_epoch=40, base_lr=0.8, decay_epoch_step=10)
    after = over_start(before, {"start_from": "a"}, "a")
    assert (after.train_epoch, after.base_lr, after.decay_epoch_step) == (10, 0.4, 3)  # not 3.3
    again = over_start(after, {"start_from": "b"}, "b")
    assert (again.train_epoch, again.base_lr, again.decay_epoch_step) == (10, 0.4, 3)
    longer = over_start(before, {"start_from": "a", "train_epoch": 30}, "a")
    assert [longer.learning_rate(epoch) for epoch in range(1, 31)] == [
        before.learning_rate(epoch + 10) for epoch in range(1, 31)]
    given = over_start(before, {"start_from": "a", "base_lr": 0.1, "decay_epoch_step": 7}, "a")
    assert (given.base_lr, given.decay_epoch_step) == (0.1, 7)
    converged = replace(before, optimizer_method="RProp", tolerance=0.1)
    full_batch = over_start(converged, {"start_from": "a"}, "a", 21)  # epochs until then
    assert (full_batch.train_epoch, full_batch.base_lr, full_batch.tolerance) == (6, 0.8, 0)
    assert over_start(converged, {"start_from": "a", "tolerance": 0.2}, "a").tolerance == 0.2


# Runs


def lines(table):
    return "user,item,rating\n" + "".join(f"{u},{i},{r}\n" for (u, i), (r, _) in table.items())


@pytest.fixture(scope="module")
def start_run(tmp_path_factory):
    """The folder with the run `a` on a.csv, from which the runs of these tests start."""
    folder = tmp_path_factory.mktemp("start")
    first, changed = first_and_changed(4)
    (folder / "a.csv").write_text(lines(first), encoding="utf-8")
    (folder / "b.csv").write_text(lines(changed), encoding="utf-8")
    appended = first | {pair: x for pair, x in changed.items() if pair not in first}
    (folder / "appended.csv").write_text(lines(appended), encoding="utf-8")
    flags = "--hidden_neuron 4 --batch_size 32 --train_epoch 8 --base_lr 0.02 --comet off"
    assert run(folder, f"--dataset a.csv --run_name a {flags}") == 0
    return folder


@undrawn
def run(folder, flags):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
        patch.chdir(folder)
        return main.main(flags.split())


@pytest.fixture
def here(start_run, tmp_path):
    """A copy of that folder."""
    shutil.copytree(start_run, tmp_path, dirs_exist_ok=True)
    return tmp_path


def result(folder):
    rows = [{k: v for k, v in row.items() if k not in TIME_COLUMNS} for row in read_metrics(folder)]
    (member,) = read_run(folder, folder.parents[1]).members
    return rows, [x.numpy().tobytes() for x in member.model.parameters]


def test_a_started_run_needs_its_start_no_more_and_is_resumed_exactly(here, capsys):
    class Killed(BaseException):
        pass

    def die(*_):
        raise Killed

    assert run(here, "--start_from results/a --dataset b.csv --run_name whole") == 0
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunFolder, "add", die)  # in the first epoch
        run(here, "--start_from results/a --dataset b.csv --run_name cut")
    with pytest.raises(Killed), pytest.MonkeyPatch.context() as patch:
        patch.setattr("autorec_tf.records.run_records.Checkpoint.save", die)
        run(here, "--start_from results/a --dataset b.csv --run_name lost")
    shutil.rmtree(here / "results" / "a")
    (here / "a.csv").unlink()
    assert run(here, "--resume results/cut") == 0
    assert result(here / "results" / "cut") == result(here / "results" / "whole")
    record, summary = (read_json(here / "results" / "cut" / f"{name}.json")
                       for name in ("config", "summary"))
    assert record["start_from"] == "a" and len(record["start_fingerprint"]) == 64
    assert str(here) not in json.dumps(record) and summary["epochs"] == 2
    capsys.readouterr()
    assert run(here, "--resume results/lost") == 2
    assert_names(capsys.readouterr().err, "lost", "--start_from")
    marks = here / "results" / "whole" / "test_ratings.npy"
    marks.write_bytes(marks.read_bytes()[:-1])
    with refused(marks):
        read_run(here / "results" / "whole", here)


def test_a_start_on_the_same_ratings_begins_at_the_parameters_and_the_split_of_the_start(here):
    assert run(here, "--start_from results/a --base_lr 1e-30 --run_name same") == 0
    (_, before), (_, after) = (result(here / "results" / name) for name in ("a", "same"))
    assert before == after
    old, new = (read_run(here / "results" / name, here) for name in ("a", "same"))
    assert np.array_equal(old.train.indices, new.train.indices)
    assert np.array_equal(old.train.values, new.train.values)


def test_ratings_appended_to_the_file_need_no_copy_of_it_also_in_the_next_run(here, capsys):
    (here / "appended.csv").rename(here / "a.csv")
    assert run(here, "--start_from results/a --run_name b") == 0
    text = (here / "a.csv").read_text(encoding="utf-8")
    (here / "a.csv").write_text(text + "77,1,3\n78,1,3\n79,1,3\n", encoding="utf-8")
    assert run(here, "--start_from results/b --run_name c --train_ratio 0.99") == 0
    first, second = (read_run(here / "results" / name, here, dataset=str(file)) for name, file in
                     (("c", here / "a.csv"), ("c", here / "a.csv")))
    train, test = sides(first.ratings, first.ratings.held_out)
    assert {("77", "1"), ("78", "1"), ("79", "1")} <= train and second.fingerprint
    (here / "a.csv").write_text(lines(first_and_changed(5)[0]), encoding="utf-8")
    capsys.readouterr()
    assert run(here, "--start_from results/a --run_name d") == 2
    assert_names(capsys.readouterr().err, "results/a", "a.csv", "--data_dir")
    assert not (here / "results" / "d").exists()


@pytest.mark.parametrize("kind", ["random", "time", "file"])
def test_the_old_ratings_are_recognised_at_the_beginning_of_the_files(kind, tmp_path):
    first, changed = first_and_changed(6)
    new = {pair: x for pair, x in changed.items() if pair not in first}
    paths = tmp_path / "a.csv", tmp_path / "t.csv"
    tests = [{pair: x for pair, x in table.items() if sum(pair) % 3 < (kind == "file")}
             for table in (first, new)]
    trains = [{pair: x for pair, x in table.items() if pair not in test}
              for table, test in zip((first, new), tests, strict=True)]

    def loaded(number):
        for path, parts in zip(paths, (trains, tests), strict=True):
            rows = {pair: x for part in parts[:number] for pair, x in part.items()}
            path.write_text("user,item,rating,time\n" + "".join(
                f"{u},{i},{r},{t}\n" for (u, i), (r, t) in rows.items()), encoding="utf-8")
        return load_ratings(config, lambda _: None)

    config = Config(dataset=str(paths[0]), test_file=str(paths[1]) if kind == "file" else None,
                    split="time" if kind == "time" else "random", start_from="a")
    old = loaded(1)
    num_test = int(old.held_out.sum()) if old.held_out is not None else 1
    record = {"num_ratings": len(old), "train_ratings": len(old) - num_test,
              "test_ratings": num_test}
    assert not beginning(old, record | {"num_ratings": len(old) + 1}, config, None)
    found = beginning(loaded(2), record, replace(config, start_from=None), None)
    assert found.fingerprint == old.fingerprint and triples_of(found) == triples_of(old)


def test_what_is_no_finished_run_is_refused(here, capsys):
    summary = here / "results" / "a" / "summary.json"
    summary.write_text(json.dumps(read_json(summary) | {"status": "interrupted"}), encoding="utf-8")
    capsys.readouterr()
    assert run(here, "--start_from results/a --dataset b.csv") == 2
    assert_names(capsys.readouterr().err, "results/a", "--resume")
    for folder in ("nothing", "results"):
        with pytest.raises(SystemExit):
            parse_arguments(["--start_from", str(here / folder)])
        assert_names(capsys.readouterr().err, here / folder)


# In Python


def frame(table):
    return pd.DataFrame([(u, i, r) for (u, i), (r, _) in table.items()],
                        columns=["user", "item", "rating"])


def test_train_more_equals_main_to_the_last_bit(here):
    first, changed = first_and_changed(4)
    new = {pair: x for pair, x in changed.items() if pair not in first}
    users, items = (sorted({pair[axis] for pair in first}) for axis in (0, 1))
    new = {(u, i): x for (u, i), x in new.items() if u in users and i in items}
    (here / "b.csv").write_text(lines(first | new), encoding="utf-8")
    assert run(here, "--start_from results/a --dataset b.csv --run_name b") == 0
    settings = dict(hidden_neuron=4, batch_size=32, train_epoch=8, base_lr=0.02, progress=False)
    model = train(frame(first), **settings)
    more = model.train_more(frame(new), progress=False)
    summary = read_json(here / "results" / "b" / "summary.json")
    assert more.test_rmse == summary["final_test_rmse"] and more.summary["epochs"] == 2
    assert not model.run.ratings.held_out is not None


def test_train_more_keeps_the_sides_after_folding_in_and_with_test_ratings():
    first, changed = first_and_changed(4)
    new = frame({pair: x for pair, x in changed.items() if pair not in first})
    model = train(frame(first), hidden_neuron=3, train_epoch=2, progress=False).fold_in(new[:9])
    train_pairs, test_pairs = old_sides(
        Start("", model.run.config, model.run.ratings, model.run.train))
    folded = {(str(u), str(i)) for u, i in zip(new.user[:9], new.item[:9], strict=True)}
    assert folded <= train_pairs
    more = model.train_more(new[9:20], test=new[20:30], progress=False)
    train_now, test_now = sides(more.run.ratings, more.run.ratings.held_out)
    tested = {(str(u), str(i)) for u, i in zip(new.user[20:30], new.item[20:30], strict=True)}
    assert test_now == test_pairs | tested and train_pairs < train_now
    fewer = model.train_more(frame(changed), complete=True, progress=False)
    train_now, test_now = sides(fewer.run.ratings, fewer.run.ratings.held_out)
    assert train_now | test_now == {(str(u), str(i)) for u, i in changed}
    assert not train_now & test_pairs and not test_now & train_pairs
    with refused("test"):
        model.train_more(new[9:], test=new[:9], progress=False)
    with refused("run_name"):
        model.train_more(new[9:], run_name="a", progress=False)
    with refused("rating_scale"):
        model.train_more(new[9:], rating_scale=(0, 9), progress=False)
