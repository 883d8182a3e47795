"""README says what is so: its numbers, flags, links and example."""

import csv
import json
import re
import shlex
import statistics
from pathlib import Path

import pytest

import export
import recommend
from config import Config, flag_fields, parse_arguments
from data.datasets import DATASETS
from data_preprocessor import load_ratings
from system.distribution import Cluster, read_cluster
from tests.faults.__main__ import line
from tests.faults.fault import Fault

REPOSITORY = Path(__file__).resolve().parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def test_the_quoted_rmse_is_the_committed_runs_last_epoch():
    (folder,) = set(re.findall(r"results/ml-1m_[\w.-]+?Z", README))
    summary = json.loads((REPOSITORY / folder / "summary.json").read_text(encoding="utf-8"))
    config = json.loads((REPOSITORY / folder / "config.json").read_text(encoding="utf-8"))
    assert summary["final_test_epoch"] == 500 and summary["status"] == "finished"
    assert f"**{summary['final_test_rmse']:.4f}**" in README
    assert summary["final_test_rmse"] <= 0.840
    assert summary["final_test_rmse"] <= summary["best_test_rmse"] + 0.002
    default = Config(rating_scale=(1.0, 5.0)).recorded()  # the data's, as it was found
    defaults = {k: v for k, v in default.items() if v is not None and k != "engine"}
    defaults = json.loads(json.dumps(defaults))  # where a tuple is a list
    # A flag that is younger than the run had its default.
    assert {name: config.get(name, default) for name, default in defaults.items()} == defaults


def test_the_table_is_the_committed_one():
    table = (REPOSITORY / "benchmarks/results/paper_tables/table.md").read_text(encoding="utf-8")
    assert table in README


def test_the_table_rounds_once_what_the_splits_say():
    folder = REPOSITORY / "benchmarks/results/paper_tables"
    with open(folder / "summary.csv", encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    several = [name for name, row in rows.items() if (folder / name / "settings.json").exists()]
    assert len(several) > 10
    for name in several:
        found = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
        for column, measure in (("rmse_mean", "mean"), ("rmse_ci95", "ci95")):
            shown, true = float(rows[name][column]), found[f"final_test_rmse_{measure}"]
            assert f"{shown:.4f}" == f"{true:.4f}"


def test_the_default_decay_rate_is_the_one_that_validation_chose():
    with open(REPOSITORY / "benchmarks/results/decay_rate/summary.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    best = min(rows, key=lambda row: float(row["validation_rmse"]))
    assert float(best["decay_rate"]) == Config().decay_rate


def test_the_speed_table_is_that_of_the_committed_figures():
    place = REPOSITORY / "benchmarks/results/speed/speed.json"
    figures = json.loads(place.read_text("utf-8"))
    table = README.split("<!-- what benchmarks.speed printed -->")[1].split("<!-- end -->")[0]
    shown = {
        "dense_float32_over_matmuls": "five bare products | {:.2f} |",
        "speedup_sparse_over_feed_dict": "the earlier way / sparse | {:.2f} |",
        "speedup_sparse_over_dense": "dense float32 / sparse | {:.2f} |",
        "first_epoch_s": "| {:.1f} s |",
        "parse_s": "ratings | {:.2f} s |",
        "peak_gb": "peak resident memory | {:.2f} GB |",
        "netflix_epoch_s": "| {:.2f} |",
        "netflix_peak_gb": "| {:.2f} |",
        "ratings_exponent": "ratings ^ {:.2f};",
        "ml20m_speedup_sparse_over_dense": "sparse is {:.1f} times as fast as dense",
        "dense_bfloat16_over_matmuls": "five bare products | {:.2f} |",
    }
    for figure, text in shown.items():
        assert text.format(figures[figure]) in table, figure


def test_the_table_of_faults_is_that_of_the_committed_rows_and_nothing_is_lost():
    rows = json.loads((REPOSITORY / "benchmarks/results/faults/faults.json").read_text("utf-8"))
    faults = [Fault(**row) for row in rows]
    table = README.split("<!-- what tests.faults printed -->")[1].split("<!-- end -->")[0]
    assert table.strip().splitlines()[2:] == [line(fault) for fault in faults]
    assert all(fault.survived == fault.tried and fault.lost == 0 for fault in faults)
    assert sum(fault.tried for fault in faults if fault.fault.startswith("file")) >= 10_000
    assert sum(fault.tried for fault in faults if fault.fault.startswith("SIGKILL")) >= 50


def test_what_a_second_worker_costs_is_what_was_measured():
    place = REPOSITORY / "benchmarks/results/workers/workers.json"
    figures = json.loads(place.read_text("utf-8"))
    table = README.split("<!-- what benchmarks.workers printed -->")[1].split("<!-- end -->")[0]
    for name, shown in (("sparse", "sparse"), ("dense", "dense"),
                        ("dense_two_workers", "dense, two workers")):  # fmt: skip
        seconds, rmse = figures[f"{name}_epoch_s"], figures[f"{name}_rmse"]
        assert f"| {shown} | {seconds:.2f} | {rmse:.5f} |" in table
    for name in ("dense", "sparse"):
        ratio = f"Two workers take {figures[f'two_workers_over_{name}']:.2f} times as long as one"
        assert f"{ratio} {name} process." in table


def test_the_tf_config_of_the_example_is_understood(monkeypatch):
    (text,) = re.findall(r"export TF_CONFIG='(.*)'", README)
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster("workers") == Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), 0)


def test_the_commands_for_a_finished_run_are_understood():
    section = README.split("## Use a finished run")[1].split("\n## ")[0]
    commands = [shlex.split(line) for line in section.splitlines() if line.startswith("python ")]
    parsers = {"main.py": parse_arguments}
    parsers |= {"recommend.py": recommend.parse, "export.py": export.parse}
    understood = [c[1] for c in commands if c[1] in parsers and parsers[c[1]](c[2:])]
    assert set(understood) == set(parsers) and len(understood) == 6
    flags = re.findall(r"`--(\w+)[ `]", section)
    other = {"members", "input_dropout"}  # main.py's
    assert set(flags) <= set(vars(recommend.parse(["run", "--user", "1"]))) | other


def test_what_folding_in_costs_is_what_was_measured():
    with open(REPOSITORY / "benchmarks/results/fold_in/summary.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    dropout = "I-AutoRec, `--input_dropout 0.5`"
    names = {"item": "I-AutoRec", "denoising": dropout, "user": "U-AutoRec"}
    for model, new, are in {(row["model"], row["new"], row["are"]) for row in rows}:
        found = [row for row in rows if (row["model"], row["new"]) == (model, new)]
        means = [
            statistics.fmean(float(row[name]) for row in found)
            for name in ("rmse_trained_with_them", "rmse_folded_in")
        ]
        line = f"| {new} ({are}) | {means[0]:.4f} | {means[1]:.4f} | {len(found)} |"
        assert f"| {names[model]} {line}" in README


def test_the_commands_for_other_data_read_it(monkeypatch, tmp_path):
    lines = [f"1\t{item}\t{1 + item % 5}\t{item}" for item in range(10)]
    monkeypatch.chdir(tmp_path)
    Path("ml-100k").mkdir()
    Path("ml-100k", "u1.base").write_text("\n".join(lines[:9]))
    Path("ml-100k", "u1.test").write_text(lines[9])
    text = "\n".join(["userId,movieId,rating,timestamp", *lines]).replace("\t", ",")
    Path("ratings.csv").write_text(text)
    section = README.split("## Other data")[1].split("\n## ")[0]
    commands = [shlex.split(line)[2:] for line in section.splitlines() if "python " in line]
    configs = [parse_arguments(command) for command in commands]
    held_out = [
        load_ratings(config, lambda _: None).held_out.tolist()
        for config in configs if config.dataset not in DATASETS
    ]  # fmt: skip
    assert len(held_out) == len(configs) - 1 and held_out == [[False] * 9 + [True]] * 2


def test_every_flag_has_its_purpose_told():
    table = README.split("| flag | purpose |")[1].split("\n\n")[0]
    assert set(re.findall(r"`--(\w+)[ `]", table)) >= {f.name for f in flag_fields()}


def test_every_link_into_the_repository_leads_somewhere():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert len(links) > 10
    assert [link for link in links if not (REPOSITORY / link).exists()] == []


def test_the_citation_is_of_the_paper_that_readme_links():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    doi = re.search(r"doi: (\S+)", citation)[1]
    assert f"[AutoRec](https://doi.org/{doi})" in README
    authors = re.findall(r"family-names: (\w+)", citation)
    assert authors == ["Sedhain", "Menon", "Sanner", "Xie"] and ", ".join(authors) in README


def test_the_python_example_runs(ml_1m, monkeypatch, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ml-1m").symlink_to(ml_1m)
    exec(compile(example.replace("train_epoch=20", "train_epoch=2"), "README.md", "exec"), {})
    epoch, rmse = capsys.readouterr().out.splitlines()[-1].split()
    assert epoch == "2" and float(rmse) == pytest.approx(1.357, abs=0.02)


def test_the_headline_numbers_are_the_tables():
    with open(REPOSITORY / "benchmarks/results/paper_tables/summary.csv", encoding="utf-8") as file:
        rows = {row["row"]: row for row in csv.DictReader(file)}
    for name in ("default", "paper", "best"):
        mean, half = float(rows[name]["rmse_mean"]), float(rows[name]["rmse_ci95"])
        assert f"**{mean:.4f} ± {half:.4f}**" in README
