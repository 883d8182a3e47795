"""Runs side by side: what their folders say, and the settings in which they differ."""

import csv
import json
from pathlib import Path

import pytest

import compare
from config import Config

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
    head, rule, *lines = ([cell.strip() for cell in line.split(" | ")]
                          for line in out.strip().replace("| ", "", 1).splitlines())
    clean = [[cell.strip("| ") for cell in line] for line in (head, rule, *lines)]
    assert set("".join(clean[1])) == {"-"}
    return [dict(zip(clean[0], line, strict=True)) for line in clean[2:]], err


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
    assert table_of(folders, capsys)[0][0]["status"] == "no result yet"


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
    assert compare.main([str(tmp_path / "a"), "--csv", str(place)]) == 2
    assert "already exists and is never overwritten" in capsys.readouterr().err


def test_what_is_no_run_is_told_in_one_line(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    (tmp_path / "table.md").write_text("text", encoding="utf-8")
    make(tmp_path / "speed", None, dict(epoch_s=0.2))
    folders = [tmp_path / name for name in ("table.md", "a", "speed", "nowhere")]
    rows, err = table_of(folders, capsys)
    assert [row["run"] for row in rows] == ["a"]
    (line,) = err.splitlines()
    assert line.startswith("left out, as no run: ")
    assert all(name in line for name in ("table.md", "speed", "nowhere"))


@pytest.mark.parametrize(
    "record, summary, message",
    [
        ("{", RESULT, "config.json"),
        ("[]", RESULT, "config.json holds no JSON object"),
        (SETTINGS, "\0", "summary.json"),
        (SETTINGS, RESULT | dict(final_test_rmse="0.8"), "final_test_rmse is no number"),
        (SETTINGS, RESULT | dict(seconds=True), "seconds is no number"),
        (SETTINGS, '{"status": "finished", "seconds": NaN}', "seconds is no number"),
    ],
)
def test_a_damaged_run_is_left_out_in_one_line(record, summary, message, tmp_path, capsys):
    make(tmp_path / "a", SETTINGS, RESULT)
    make(tmp_path / "b", record, summary)
    rows, err = table_of([tmp_path / "a", tmp_path / "b"], capsys)
    assert [row["run"] for row in rows] == ["a"]
    (line,) = err.splitlines()
    assert line.startswith("left out: ") and message in line and str(tmp_path / "b") in line


def test_settings_of_an_unexpected_kind_do_no_harm(tmp_path, capsys):
    make(tmp_path / "a", SETTINGS | dict(tune=[[1]], base_lr="x"), RESULT | dict(dataset="a|b\n"))
    make(tmp_path / "b", SETTINGS, RESULT | dict(preset=None))
    assert compare.main([str(tmp_path / "a"), str(tmp_path / "b")]) == 0
    head, _, a, b = capsys.readouterr().out.splitlines()
    assert "| base_lr |" in head and "| a\\|b\\n " in a and "| x " in a and "| None " in b


def test_without_any_run_there_is_one_clear_line(tmp_path, capsys):
    assert compare.main([str(tmp_path)]) == 2
    assert "compare.py: error: no run among these folders" in capsys.readouterr().err


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
