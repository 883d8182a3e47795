"""Runs side by side: what their folders say, and the settings in which they differ."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import compare
from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.evaluation.ranking import RankingScores
from autorec_tf.records.paired_scores import PairedScores, paired_scores, write_paired_scores
from data_preprocessor import split_ratings
from tests.facts import assert_names

REPOSITORY = Path(__file__).resolve().parent.parent
RESULT = dict(status="finished", dataset="ml-1m", preset="default", final_test_rmse=0.83564,
              final_test_mae=0.655, ndcg_at_10=0.0939, seconds=237.4)
MEANS = dict(status="interrupted", num_splits=3, final_test_rmse_mean=0.82167,
             final_test_rmse_ci95=0.0029, final_test_mae_mean=0.644, final_test_mae_ci95=0.0023,
             seconds_mean=285.6, seconds_ci95=17.5)
SETTINGS = Config(dataset="ml-1m", split_seed=1994).to_dict()


def make(folder, record, summary, name="config.json"):
    folder.mkdir(parents=True)
    for file, content in ((name, record), ("summary.json", summary)):
        if content is not None:
            text = content if isinstance(content, str) else json.dumps(content)
            (folder / file).write_text(text, encoding="utf-8")
    return folder


def table_of(folders, capsys, *flags):
    """The rows that are printed, as {column: cell}, and what is told beside."""
    assert compare.main([*map(str, folders), *flags]) == 0
    out, err = capsys.readouterr()
    table = out.partition("\n\n")[0]  # differences may follow
    head, rule, *lines = ([cell.strip() for cell in line.split(" | ")]
                          for line in table.strip().replace("| ", "", 1).splitlines())
    clean = [[cell.strip("| ") for cell in line] for line in (head, rule, *lines)]
    assert set("".join(clean[1])) == {"-"}
    return [dict(zip(clean[0], line, strict=True)) for line in clean[2:]], err


def refusal(capsys):
    """The lines that are told by a program that prints no answer."""
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_a_row_is_what_the_folder_says(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    (row,), err = table_of([tmp_path / "a"], capsys)
    assert row == {
        "run": "a", "dataset": "ml-1m", "preset": "default", "splits": "1", "test RMSE": "0.8356",
        "MAE": "0.6550", "NDCG@10": "0.0939", "seconds": "237", "status": "finished",
    }
    assert err == ""


def test_several_splits_are_means_with_their_intervals(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS | dict(preset="best"), MEANS, "settings.json")
    (row,), _ = table_of([tmp_path / "a"], capsys)
    assert (row["test RMSE"], row["MAE"]) == ("0.8217 ± 0.0029", "0.6440 ± 0.0023")
    assert (row["splits"], row["status"], row["preset"]) == ("3", "interrupted", "best")
    assert (row["NDCG@10"], row["seconds"]) == ("", "286")


def test_only_settings_that_differ_are_shown(tmp_path, capsys):
    deep = dict(hidden_neuron=[500, 250, 500], base_lr=0.005, grad_clip=True)
    other = dict(run_name="x", comet="off", display_step=7, checkpoint_every=3)  # no matter
    make(tmp_path / "a", SETTINGS, RESULT)
    make(tmp_path / "b", SETTINGS | deep | other, RESULT)
    rows, _ = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    usual = {"run", "dataset", "preset", "splits", "test RMSE", "MAE", "NDCG@10", "seconds",
             "status"}
    assert rows[0].keys() - usual == {"hidden_neuron", "base_lr", "grad_clip"}
    assert [row["hidden_neuron"] for row in rows] == ["500", "500 250 500"]
    assert [row["base_lr"] for row in rows] == ["0.001", "0.005"]
    assert [row["grad_clip"] for row in rows] == ["False", "True"]


def test_a_setting_that_a_record_does_not_know_had_its_default(tmp_path, capsys):
    older = {name: value for name, value in SETTINGS.items() if name != "input_dropout"}
    make(tmp_path / "a", older, RESULT)
    make(tmp_path / "b", SETTINGS | dict(input_dropout=0.5), RESULT)
    make(tmp_path / "c", None, RESULT)  # nothing is known of it
    rows, _ = table_of([tmp_path / "a", tmp_path / "b", tmp_path / "c"], capsys)
    assert [row["input_dropout"] for row in rows] == ["0", "0.5", "?"]


def test_other_ratings_and_other_splits_are_seen(tmp_path, capsys):
    for name, seed in (("a", 1), ("b", 2)):
        seeds = dict(random_seed=seed, split_seed=seed, fingerprint=f"{name}123456789")
        make(tmp_path / name, SETTINGS | seeds, RESULT)
    rows, _ = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert [(row["random_seed"], row["fingerprint"]) for row in rows] == [
        ("1", "a1234567"), ("2", "b1234567")
    ]
    assert "split_seed" not in rows[0]  # the same again
    make(tmp_path / "c", SETTINGS | dict(random_seed=1, split_seed=3), RESULT)
    rows, _ = table_of([tmp_path / "a", tmp_path / "c"], capsys)
    assert [row["split_seed"] for row in rows] == ["1", "3"]


def test_what_a_record_leaves_open_is_no_difference(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS | dict(engine="sparse", rating_scale=[1.0, 5.0]), RESULT)
    make(tmp_path / "b", SETTINGS | dict(engine="auto", rating_scale=[]), MEANS, "settings.json")
    rows, _ = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert not {"engine", "rating_scale"} & rows[0].keys()
    make(tmp_path / "c", SETTINGS | dict(engine="dense"), RESULT)
    rows, _ = table_of([tmp_path / name for name in "abc"], capsys)
    assert [row["engine"] for row in rows] == ["sparse", "?", "dense"]


def test_what_each_split_chose_for_itself_is_no_default(tmp_path, capsys):
    tuned = dict(tune=["lambda_value"])
    make(tmp_path / "a", SETTINGS | tuned, MEANS, "settings.json")
    make(tmp_path / "b", SETTINGS | tuned | dict(lambda_value=40.0), RESULT)
    rows, _ = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert [row["lambda_value"] for row in rows] == ["chosen", "40"]


def test_a_reconstruction_has_its_full_name_and_is_no_test_rmse(tmp_path, capsys):
    leaking = dict(final_test_rmse=1.232, reconstruction_rmse_test_ratings_as_input=0.9102)
    make(tmp_path / "a", SETTINGS, RESULT | leaking)
    make(tmp_path / "b", SETTINGS, RESULT | dict(final_validation_rmse=0.84))
    rows, _ = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert rows[0]["test RMSE"] == "1.2320"
    name = "reconstruction RMSE (test ratings as input)"
    assert [row[name] for row in rows] == ["0.9102", ""]
    assert [row["validation RMSE"] for row in rows] == ["", "0.8400"]


def test_runs_are_sorted_the_best_first_and_those_without_a_result_last(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, None)
    make(tmp_path / "b", SETTINGS, RESULT | dict(final_test_rmse=0.9, ndcg_at_10=0.2))
    make(tmp_path / "c", SETTINGS, RESULT | dict(final_test_rmse=0.8, ndcg_at_10=0.1))
    folders = [tmp_path / name for name in "abc"]

    def order(*flags):
        return [row["run"] for row in table_of(folders, capsys, *flags)[0]]

    assert order() == ["a", "b", "c"]
    assert order("--sort", "rmse") == ["c", "b", "a"]
    assert order("--sort", "ndcg") == ["b", "c", "a"]
    assert "no result" in table_of(folders, capsys)[0][0]["status"]


def test_the_csv_file_has_every_digit_and_is_never_overwritten(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    make(tmp_path / "b", SETTINGS | dict(base_lr=0.005), MEANS, "settings.json")
    place = tmp_path / "runs.csv"
    table_of([tmp_path / "a", tmp_path / "b"], capsys, "--csv", str(place))
    with open(place, newline="", encoding="utf-8") as file:
        one, several = csv.DictReader(file)
    assert (one["final_test_rmse"], one["final_test_rmse_ci95"]) == ("0.83564", "")
    assert (several["final_test_rmse"], several["final_test_rmse_ci95"]) == ("0.82167", "0.0029")
    assert (one["base_lr"], several["base_lr"]) == ("0.001", "0.005")
    before = place.read_bytes()
    assert compare.main([str(tmp_path / "a"), "--csv", str(place)]) == 2
    (line,) = refusal(capsys)
    assert_names(line, place)
    assert place.read_bytes() == before


def make_splits(folder, scores, name="split_seed", **settings):
    """The folder of a run over splits: scores by split seed, or by fold."""
    record = SETTINGS | dict(fingerprint="f" * 64, run_name=folder.name) | settings
    values = list(scores.values())
    summary = MEANS | dict(num_splits=len(scores), final_test_rmse_mean=float(np.mean(values)))
    make(folder, record, summary, "settings.json")
    lines = [f"{name},final_test_rmse,seconds", *(f"{k},{v!r},1.5" for k, v in scores.items())]
    (folder / "splits.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def differences_of(folders, capsys, *flags):
    """What is told below the table: lines."""
    assert compare.main([*map(str, folders), *flags]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out.partition("\n\n")[2].splitlines()


def random_scores(seed, splits, shift=0.0, noise=0.0003):
    rng = np.random.default_rng(seed)
    common = np.random.default_rng(1).normal(0.83, 0.0025, 20)
    return {k: float(common[k] + shift + rng.normal(0, noise)) for k in splits}


def paired_t_test(a, b):
    from scipy import stats  # most of a second, in one worker of pytest alone

    return stats.ttest_rel(a, b)


@pytest.mark.parametrize("shift", [-0.0044, 0.0, 0.02])
@pytest.mark.parametrize("splits", [2, 3, 5, 12])
def test_a_paired_difference_is_scipys(shift, splits, tmp_path, capsys):
    a, b = (random_scores(seed, range(splits), by) for seed, by in ((3, 0), (4, shift)))
    make_splits(tmp_path / "a", a)
    make_splits(tmp_path / "b", b)
    table = tmp_path / "runs.csv"
    (line,) = differences_of([tmp_path / "a", tmp_path / "b"], capsys, "--csv", str(table))
    x, y = np.array(list(a.values())), np.array(list(b.values()))
    test = paired_t_test(y, x)
    mean, half = np.mean(y - x), np.ptp(test.confidence_interval(0.95)) / 2
    with open(table, newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    found = [float(second[f"paired_{name}"]) for name in ("difference", "difference_ci95", "p")]
    assert found == pytest.approx([mean, half, test.pvalue], rel=1e-6, abs=1e-12)
    assert (first["paired_p"], first["paired_difference"], second["paired_splits"]) == (
        "", "", str(splits)
    )
    p = test.pvalue
    assert_tells(line, f"{mean:+.4f} ± {half:.4f}", splits, f"{p:.1g}", p < 0.05)


def assert_tells(line, interval, splits, p, significant):
    """That `line` is the difference of b from a."""
    assert line.startswith("b - a: ")
    assert_names(line, "test RMSE", interval, f" {splits} splits", f"p = {p}:")
    assert "significant" in line and ("not significant" in line) != significant


def test_a_paired_difference_sees_what_the_means_intervals_hide(tmp_path, capsys):
    make_splits(tmp_path / "a", random_scores(3, range(5)))
    make_splits(tmp_path / "b", random_scores(4, range(5), -0.0010))
    (line,) = differences_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert "significant" in line and "not significant" not in line


def test_differences_are_from_the_first_run_in_the_table(tmp_path, capsys):
    for name, shift in (("a", 0.01), ("b", -0.01), ("c", 0.0)):
        make_splits(tmp_path / name, random_scores(ord(name), range(5), shift))
    make(tmp_path / "0", SETTINGS, RESULT)  # one split: nothing to be said of it
    folders = [tmp_path / name for name in "0abc"]
    assert [line[:5] for line in differences_of(folders, capsys)] == ["b - a", "c - a"]
    lines = differences_of(folders, capsys, "--sort", "rmse")
    assert [line[:5] for line in lines] == ["c - b", "a - b"]


def test_only_splits_that_both_have_are_compared(tmp_path, capsys):
    a, b = random_scores(3, range(5)), random_scores(4, range(3, 9), 0.01)
    make_splits(tmp_path / "a", a)
    make_splits(tmp_path / "b", b)
    (line,) = differences_of([tmp_path / "a", tmp_path / "b"], capsys)
    expected = paired_t_test([b[3], b[4]], [a[3], a[4]]).pvalue
    assert_names(line, " 2 splits", f"p = {expected:.1g}:")
    make_splits(tmp_path / "c", random_scores(4, range(4, 9)))
    assert differences_of([tmp_path / "a", tmp_path / "c"], capsys) == []


@pytest.mark.parametrize(
    "differs",
    [
        dict(train_ratio=0.75), dict(fingerprint="e" * 64), dict(dataset="a.csv", fingerprint=None),
        dict(name="fold", num_folds=5), dict(name="fold", num_folds=5, split_seed=7),
    ],
    ids=str,
)
def test_other_splits_are_not_compared(differs, tmp_path, capsys):
    make_splits(tmp_path / "a", random_scores(3, range(5)))
    make_splits(tmp_path / "b", random_scores(4, range(5), 0.01), **differs)
    summary = json.loads((tmp_path / "b" / "summary.json").read_text("utf-8"))
    summary["dataset"] = differs.get("dataset", "ml-1m")
    (tmp_path / "b" / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    assert differences_of([tmp_path / "a", tmp_path / "b"], capsys) == []


def test_other_models_and_records_without_a_fingerprint_are_compared(tmp_path, capsys):
    make_splits(tmp_path / "a", random_scores(3, range(5)), fingerprint=None)
    make_splits(tmp_path / "b", random_scores(4, range(5), 0.01), orientation="user",
                validation_ratio=0.1)
    make_splits(tmp_path / "c", random_scores(5, range(5), 0.01), random_seed=3)
    assert len(differences_of([tmp_path / name for name in "abc"], capsys)) == 2


def test_folds_are_compared_by_number_count_and_seed(tmp_path, capsys):
    folds = dict(name="fold", num_folds=5)
    make_splits(tmp_path / "a", random_scores(3, range(1, 6)), **folds)
    make_splits(tmp_path / "b", random_scores(4, range(1, 6), 0.01), **folds)
    make_splits(tmp_path / "c", random_scores(4, range(1, 6)), **folds | dict(split_seed=7))
    make_splits(tmp_path / "d", random_scores(4, range(1, 6)), **folds | dict(num_folds=6))
    (line,) = differences_of([tmp_path / name for name in "abcd"], capsys)
    assert line.startswith("b - a: ") and " 5 splits" in line


def test_published_folds_are_compared_by_name_and_fingerprint(tmp_path, capsys):
    def make_folds(folder, names, prints, seed):
        scores = random_scores(seed, range(len(names)), seed / 100)
        scores = {name: scores[k] for k, name in enumerate(names)}
        make_splits(tmp_path / folder, scores, "fold", folds=names, fingerprint=prints)

    make_folds("a", ["u1", "u2", "u3"], "1 2 3", 3)
    make_folds("b", ["u3", "u1"], "3 1", 4)  # in any order
    make_folds("c", ["u1", "u2", "u3"], "1 5 6", 5)  # only one is of the same ratings
    (line,) = differences_of([tmp_path / name for name in "abc"], capsys)
    assert line.startswith("b - a: ") and " 2 splits" in line


def test_each_measure_of_the_splits_is_tested(tmp_path, capsys):
    rng = np.random.default_rng(5)
    measures = {name: rng.normal(0.5, 0.1, (2, 4)) for name in ("mae", "ndcg", "recall")}
    columns = "final_test_mae", "ndcg_at_10", "recall_at_10"
    for number, run in enumerate("ab"):
        folder = make_splits(tmp_path / run, random_scores(number, range(4)))
        head, *lines = (folder / "splits.csv").read_text("utf-8").splitlines()
        rows = [",".join([line, *(repr(float(x[number][k])) for x in measures.values())])
                for k, line in enumerate(lines)]
        text = "\n".join([",".join([head, *columns]), *rows])
        (folder / "splits.csv").write_text(text, encoding="utf-8")
    make_splits(tmp_path / "older", random_scores(7, range(4)))  # without these measures
    table = tmp_path / "runs.csv"
    lines = differences_of([tmp_path / x for x in ("a", "b", "older")], capsys, "--csv", str(table))
    assert [line.split(": ")[0] for line in lines] == ["b - a"] * 4 + ["older - a"]
    with open(table, newline="", encoding="utf-8") as file:
        _, second, older = csv.DictReader(file)
    from scipy import stats

    for line, (name, (a, b)) in zip(lines[1:4], measures.items(), strict=True):
        p = stats.ttest_rel(b, a).pvalue
        assert float(second[f"paired_p_{name}"]) == pytest.approx(p, rel=1e-9)
        difference = float(second[f"paired_difference_{name}"])
        assert difference == pytest.approx(np.mean(b - a), rel=1e-9)
        assert name in line.lower()
        assert_names(line, f"{difference:+.4f}", " 4 splits", f"p = {p:.1g}:")
    assert older["paired_p_ndcg"] == "" and older["paired_p"] != ""


def make_single(folder, seed, **changes):
    """The folder of a run on one split, and its scores: of 500 test ratings, and of 40 users."""
    rng = np.random.default_rng(seed)
    users = np.sort(rng.choice(60, 40, replace=False))
    errors, ndcg, recall = (np.abs(rng.normal(0.7, 0.5, size)).astype(np.float32)
                            for size in (500, 40, 40))
    rmse = float(np.sqrt(np.mean(errors.astype(np.float64) ** 2)))
    make(folder, SETTINGS, RESULT | {"final_test_rmse": rmse})
    scores = replace(PairedScores("t" * 64, errors, 4.0, users, ndcg, recall), **changes)
    write_paired_scores(folder / "test_scores.npz", scores)
    return scores


def test_runs_on_one_split_are_compared_by_test_rating_and_by_user(tmp_path, capsys):
    a, b = (make_single(tmp_path / name, seed) for name, seed in (("a", 1), ("b", 2)))
    table = tmp_path / "runs.csv"
    lines = differences_of([tmp_path / "a", tmp_path / "b"], capsys, "--csv", str(table))
    with open(table, newline="", encoding="utf-8") as file:
        _, found = csv.DictReader(file)
    users = sorted({*a.users} & {*b.users})
    assert 20 < len(users) < 40
    counts = [found[f"paired_{unit}"] for unit in ("splits", "test_ratings", "users")]
    assert counts == ["", "500", str(len(users))]
    by_user = [[dict(zip(x.users, values, strict=True)) for values in (x.ndcg, x.recall)]
               for x in (b, a)]
    pairs = {"_mae": (b.errors, a.errors)}
    for k, name in enumerate(("_ndcg", "_recall")):
        pairs[name] = [[float(side[k][user]) for user in users] for side in by_user]
    squares = [x.errors.astype(np.float64) ** 2 for x in (b, a)]
    rmse = [np.sqrt(x.mean()) for x in squares]
    from scipy import stats

    for line, (suffix, (x, y)) in zip(lines, ({"": squares} | pairs).items(), strict=True):
        x, y = np.asarray(x, float), np.asarray(y, float)
        test = stats.ttest_rel(x, y)
        scale = sum(rmse) if suffix == "" else 1
        half = np.ptp(test.confidence_interval(0.95)) / 2 / scale
        difference = rmse[0] - rmse[1] if suffix == "" else np.mean(x) - np.mean(y)
        values = [float(found[f"paired_{key}"]) for key in (
            f"difference{suffix}", f"difference{suffix}_ci95", f"p{suffix}")]
        assert values == pytest.approx([difference, half, test.pvalue], rel=1e-5)
        unit = f"{len(users)} users" if suffix in ("_ndcg", "_recall") else "500 test ratings"
        assert_names(line, f"{difference:+.4f} ± {half:.4f}", unit)


@pytest.mark.parametrize("changes, lines", [(dict(test="u" * 64), 0), (dict(relevant=3.0), 2),
                                            (dict(users=np.arange(100, 140)), 2)])
def test_only_equal_test_ratings_and_equally_ranked_users_are_compared(
    changes, lines, tmp_path, capsys
):
    make(tmp_path / "older", SETTINGS, RESULT)  # an earlier version stored no scores
    make_single(tmp_path / "a", 1)
    make_single(tmp_path / "b", 2, **changes)
    folders = [tmp_path / name for name in ("older", "a", "b")]
    assert len(differences_of(folders, capsys)) == lines


@pytest.mark.parametrize("damage", ["cut", "missing", "shape", "of another run"])
def test_a_damaged_file_of_scores_is_reported_in_one_line(damage, tmp_path, capsys):
    make_single(tmp_path / "a", 1)
    short = np.zeros(3, np.float32)
    make_single(tmp_path / "b", 2, **({"ndcg": short} if damage == "shape" else {}))
    path = tmp_path / "b" / "test_scores.npz"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:900])
    if damage == "missing":
        np.savez(path, version=1)
    if damage == "of another run":
        shutil.copy(tmp_path / "a" / "test_scores.npz", path)
    rows, err = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert [row["run"] for row in rows] == ["a"]
    (line,) = err.splitlines()
    assert_names(line, path)


def test_the_test_ratings_are_recognised_in_both_orientations_and_by_their_values():
    rng = np.random.default_rng(1)
    users, items = np.divmod(rng.permutation(12 * 9)[:60], 9)
    ratings = index_ratings("made up", users, items, rng.integers(1, 6, 60), (1.0, 5.0))
    empty = RankingScores(0.0, 0.0, 0.0, 0, 0, np.arange(0), np.zeros((2, 0)))
    evaluation = SimpleNamespace(ranking=empty, errors=np.zeros(0), relevant=4.0)

    def digest(orientation="item", seed=1, fingerprint="f"):
        split = split_ratings(ratings, 0.8, seed, orientation)
        return paired_scores(evaluation, split, fingerprint).test

    assert digest() == digest("user")
    assert len({digest(), digest(seed=2), digest(fingerprint="g")}) == 3


@pytest.mark.parametrize("by, p", [(0.0, "1"), (0.25, "0")])
def test_differences_that_are_all_alike_are_no_numbers_that_are_none(by, p, tmp_path, capsys):
    make_splits(tmp_path / "a", {1: 0.5, 2: 0.75, 3: 1.0})
    make_splits(tmp_path / "b", {1: 0.5 + by, 2: 0.75 + by, 3: 1.0 + by})
    (line,) = differences_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert_tells(line, f"{by:+.4f} ± 0.0000", 3, p, p == "0")


@pytest.mark.parametrize(
    "text", ["split_seed\n1\n", "split_seed,final_test_rmse\n1,x\n", "\0", "fold\n",
             "split_seed,final_test_rmse\n1,nan\n", "split_seed,final_test_rmse\n1\n"],
)
def test_a_damaged_table_of_splits_is_told_in_one_line(text, tmp_path, capsys):
    make_splits(tmp_path / "a", {1: 0.5, 2: 0.75})
    make_splits(tmp_path / "b", {1: 0.5, 2: 0.75})
    (tmp_path / "b" / "splits.csv").write_text(text, encoding="utf-8")
    rows, err = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    harmless = text in ("fold\n", "\0")  # it has no line
    assert [row["run"] for row in rows] == ["a", "b"][: 1 + harmless]
    if not harmless:
        (line,) = err.splitlines()
        assert_names(line, tmp_path / "b" / "splits.csv")


def test_what_is_no_run_is_told_in_one_line(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    (tmp_path / "table.md").write_text("text", encoding="utf-8")
    make(tmp_path / "speed", None, dict(epoch_s=0.2))
    folders = [tmp_path / name for name in ("table.md", "a", "speed", "nowhere")]
    rows, err = table_of(folders, capsys)
    assert [row["run"] for row in rows] == ["a"]
    (line,) = err.splitlines()
    assert_names(line, *folders[:1], *folders[2:])
    assert str(tmp_path / "a") not in line


@pytest.mark.parametrize(
    "record, summary, facts",
    [
        ("{", RESULT, "config.json"),
        ("[]", RESULT, "config.json"),
        (SETTINGS, "\0", "summary.json"),
        (SETTINGS, RESULT | dict(final_test_rmse="0.8"), "summary.json final_test_rmse"),
        (SETTINGS, RESULT | dict(seconds=True), "summary.json seconds"),
        (SETTINGS, '{"status": "finished", "seconds": NaN}', "summary.json seconds"),
    ],
)
def test_a_damaged_run_is_left_out_in_one_line(record, summary, facts, tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    make(tmp_path / "b", record, summary)
    rows, err = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert [row["run"] for row in rows] == ["a"]
    (line,) = err.splitlines()
    file, *names = facts.split()
    assert_names(line, tmp_path / "b" / file, *names)


def test_settings_of_an_unexpected_kind_do_no_harm(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS | dict(tune=[[1]], base_lr="x"), RESULT | dict(dataset="a|b\n"))
    make(tmp_path / "b", SETTINGS, RESULT | dict(preset=None))
    assert compare.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    head, _, a, b = capsys.readouterr().out.splitlines()
    assert "| base_lr |" in head and "| a\\|b\\n " in a and "| x " in a and "| None " in b


def test_a_column_is_of_one_setting_of_one_member(tmp_path, capsys):
    blend, own = SETTINGS | dict(members=["wide"]), {"base_lr": 0.005, "hidden_neuron": [500]}
    make(tmp_path / "a", blend | dict(member_settings=[own]), RESULT)
    make(tmp_path / "b", blend | dict(member_settings=[own | {"hidden_neuron": [1000]}]), RESULT)
    make(tmp_path / "c", blend | dict(member_settings=[3]), RESULT)
    rows, _ = table_of([tmp_path / name for name in "abc"], capsys)
    assert [row["wide hidden_neuron"] for row in rows] == ["500", "1000", "?"]
    assert not {"member_settings", "wide base_lr"} & set(rows[0])


def test_names_can_do_no_harm_in_markdown_or_in_a_spreadsheet(tmp_path, capsys):
    for name in ("=1+1", "<b>x"):
        make(tmp_path / name, SETTINGS, RESULT | dict(dataset="[a](http://b)\u202e"))
    folders, table = [str(tmp_path / name) for name in ("=1+1", "<b>x")], tmp_path / "runs.csv"
    assert compare.main([*folders, "--csv", str(table), "--spreadsheet"]) == 0
    *_, a, b = capsys.readouterr().out.splitlines()
    assert a.startswith("| =1+1 ") and b.startswith("| &lt;b&gt;x ")
    assert_names(a, r"| \[a\](http:\//b)\u202e |")
    with open(table, newline="", encoding="utf-8") as file:
        assert [row["run"] for row in csv.DictReader(file)] == ["'=1+1", "<b>x"]
    with pytest.raises(SystemExit):
        compare.main([*folders, "--spreadsheet"])
    assert_names(refusal(capsys)[0], "--spreadsheet", "--csv")


def test_without_any_run_there_is_one_clear_line(tmp_path, capsys):
    assert compare.main([str(tmp_path)]) == 2
    left_out, line = refusal(capsys)
    assert_names(left_out, tmp_path)
    assert line.startswith("compare.py: error: ") and "results/*" in line


def test_the_committed_results_are_tabled(capsys):
    folders = sorted((REPOSITORY / "results").glob("ml-1m_*"))
    tables = REPOSITORY / "benchmarks" / "results" / "paper_tables"
    folders += sorted(tables.glob("*/"))
    rows, err = table_of(folders, capsys)
    assert len(rows) == len(folders) > 10 and err == ""
    by_name = {row["run"]: row for row in rows}
    best = tables / "best" / "summary.json"
    found = json.loads(best.read_text(encoding="utf-8"))
    shown = "{final_test_rmse_mean:.4f} ± {final_test_rmse_ci95:.4f}".format(**found)
    assert by_name["best"]["test RMSE"] == shown
    assert by_name["hidden_80"]["hidden_neuron"] == "80"
    assert by_name["paper"]["lambda_value"] == "chosen"
