"""README and docs/ are correct: their figures, flags, commands, links and examples."""

import csv
import importlib.util
import io
import json
import re
import shlex
import statistics
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

import compare
import export
import main
import recommend
from autorec_tf.command_line import parse_arguments
from autorec_tf.config import DATA_DIR_VARIABLE, Config, flag_fields
from autorec_tf.data.datasets import DATASETS
from autorec_tf.data.synthetic import ML_1M_COUNTS
from autorec_tf.evaluation.baseline import fit_baseline
from autorec_tf.evaluation.metrics import EpochMetrics, score
from autorec_tf.records.progress import Progress, announce, closing_lines
from autorec_tf.system.distribution import Cluster, read_cluster
from benchmarks import decay_rate, fast_settings, fold_in, fold_in_few, serving, thin, warm_start
from benchmarks.scale import SIZES
from benchmarks.workers import BATCH_SIZE, HIDDEN, LATENCY, on_paper
from data_preprocessor import load_ratings, split_of
from examples import serve
from tests.conftest import rating_lines
from tests.facts import assert_names
from tests.faults.__main__ import line
from tests.faults.fault import Fault
from tests.figures import undrawn

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = REPOSITORY / "benchmarks" / "results"
PAGES = {
    str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8")
    for path in (REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md",
                 *sorted((REPOSITORY / "docs").glob("*.md")))
}
README, NUMBERS, SPEED = PAGES["README.md"], PAGES["docs/numbers.md"], PAGES["docs/speed.md"]
RELIABILITY, DATA = PAGES["docs/reliability.md"], PAGES["docs/data.md"]
DISTRIBUTED, USING = PAGES["docs/distributed.md"], PAGES["docs/using.md"]
SERVING = PAGES["docs/serving.md"]
(RUN,) = set(re.findall(r"results/ml-1m_[\w.-]+?Z", README + USING))
PARSERS = {
    "main.py": parse_arguments,
    "recommend.py": recommend.parse,
    "export.py": export.parse,
    "compare.py": compare.parse,
    "examples/serve.py": serve.parse_arguments,
}
ML_1M = sum(ML_1M_COUNTS)


def printed(page, by):
    """Return the output of the script `by` that `page` quotes."""
    mark = rf"<!-- (?:printed by {re.escape(by)}|what {re.escape(by)} printed) -->"
    (block,) = re.findall(rf"{mark}\n(.*?)\n<!-- end -->", page, re.S)
    return block


def read_rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def commands(page):
    """Return the commands of `page` for the programs in the root: (program, flags)."""
    blocks = re.findall(r"```sh\n(.*?)```", page, re.S)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += re.findall(r"`((?:\.venv/bin/)?python [^`]+)`", page)
    parts = [shlex.split(part) for line in lines for part in line.split(" && ")]
    parts = [part for part in parts if part[0].endswith("python") and part[1:2] != ["-c"]]
    return [(part[1], part[2:]) for part in parts if len(part) > 1]


def of_finished_runs(page):
    """Return the section of `page` with the most commands for finished runs, and its commands."""
    sections = [(each, commands(each)) for each in page.split("\n## ")]
    return max(sections, key=lambda each: sum(name != "main.py" for name, _ in each[1]))


def rows_of(table):
    """Return the cells of each row of a Markdown table."""
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("|")]


def paragraph(page, *facts):
    """Return the one paragraph of `page` that names all `facts`, as one line."""
    (found,) = [text for each in page.split("\n\n") if all(
        fact in (text := " ".join(each.split())) for fact in facts)]
    return found


def slugs(page):
    """Return the anchors of the page's headings, as GitHub derives them."""
    text = re.sub(r"```.*?```", "", page, flags=re.S)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


# Pages and their links.


def test_readme_is_short_and_begins_with_the_papers_own_protocol():
    assert len((REPOSITORY / "README.md").read_bytes()) <= 7_168
    (row,) = [row for row in rows_of((RESULTS / "paper_tables" / "table.md").read_text("utf-8"))
              if row[-1] == "`--preset paper --num_splits 5`"]
    assert re.findall(r"\b0\.\d+", README)[:2] == [row[1].split()[0], row[2]]
    table = README.split("| settings |")[1].split("\n\n")[0]
    presets = [re.search(r"--preset (\w+)", line) for line in table.splitlines()[2:]]
    assert [each and each[1] for each in presets] == ["paper", "fast", "single", "best", None]


def test_readme_leads_to_every_page_of_docs():
    assert [name for name in PAGES if name != "README.md" and f"]({name}" not in README] == []


@pytest.mark.parametrize("name", [name for name in PAGES if name != "README.md"])
def test_a_page_begins_with_links_to_its_sections(name):
    page = re.sub(r"```.*?```", "", PAGES[name], flags=re.S)
    linked = set(re.findall(r"\]\(#([\w-]+)\)", page.split("\n## ")[0]))
    assert slugs("\n".join(re.findall(r"^## .+$", page, re.MULTILINE))) <= linked


@pytest.mark.parametrize("name", PAGES)
def test_every_link_into_the_repository_leads_somewhere(name):
    page = REPOSITORY / name
    links = re.findall(r"\]\((?!https?:)([^)]+)\)", PAGES[name])
    assert links
    for link in links:
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists() and target.is_relative_to(REPOSITORY), link
        assert not anchor or anchor in slugs(target.read_text(encoding="utf-8")), link


def test_the_citation_is_of_the_paper_that_readme_links():
    citation = (REPOSITORY / "CITATION.cff").read_text(encoding="utf-8")
    doi = re.search(r"doi: (\S+)", citation)[1]
    assert f"[AutoRec](https://doi.org/{doi})" in " ".join(README.split())
    authors = re.findall(r"family-names: (\w+)", citation)
    assert authors == ["Sedhain", "Menon", "Sanner", "Xie"] and ", ".join(authors) in README


# Commands and flags.


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_understood(name, monkeypatch):
    monkeypatch.chdir(REPOSITORY)  # which contains the run to resume
    for program, flags in commands(PAGES[name].replace("results/<run>", RUN)):
        if program == "-m":
            assert importlib.util.find_spec(flags[0]), flags
        elif flags != ["--help"]:
            assert PARSERS[program](flags), (program, flags)


def test_the_commands_of_all_programs_are_found():
    assert {"main.py", "-m"} <= {program for program, _ in commands(README)}
    assert set(PARSERS) <= {program for program, _ in commands(USING + SERVING)}
    _, found = of_finished_runs(USING)
    assert {"recommend.py", "export.py"} <= {program for program, _ in found} and len(found) >= 6
    modules = {
        flags[0] for page in PAGES.values() for name, flags in commands(page) if name == "-m"
    }
    benchmarks = {"speed", "paper_tables", "decay_rate", "fold_in", "workers", "peers", "serving"}
    assert {f"benchmarks.{name}" for name in benchmarks} | {"tests.faults"} <= modules


def test_every_flag_that_is_named_is_one_of_main_or_of_the_program_in_question():
    of_main = {field.name for field in flag_fields()}
    of_recommend = set(vars(recommend.parse(["run", "--user", "1"])))
    others = of_recommend | set(vars(compare.parse(["run"]))) | set(vars(export.parse(["run"])))
    others |= set(vars(serve.parse_arguments(["model"])))
    for name in ("README.md", *(page for page in PAGES if page.startswith("docs/"))):
        flags = set(re.findall(r"`--(\w+)[ `]", PAGES[name]))
        assert flags <= of_main | others | {"help"}, name
    section, _ = of_finished_runs(USING)
    flags = set(re.findall(r"`--(\w+)[ `]", section))
    assert flags <= of_recommend | {"members"} and len(flags) > 5


def test_the_flags_that_one_needs_are_flags_and_no_more_than_eight():
    flags = re.findall(r"^\| `--(\w+)` \|", USING, re.MULTILINE)
    assert 5 <= len(set(flags)) == len(flags) <= 8
    assert set(flags) <= {field.name for field in flag_fields()}


@pytest.mark.eager
def test_the_commands_for_finished_runs_work_on_small_data(monkeypatch, tmp_path, capsys):
    section, found = of_finished_runs(USING)
    programs = {"main.py": undrawn(main.main), "recommend.py": recommend.main,
                "export.py": export.main}
    triples = [(1 + n // 20, 1 + n % 20, 1 + n * n % 5) for n in range(400) if n % 7]
    (tmp_path / "ratings.dat").write_bytes(rating_lines(triples))
    monkeypatch.setenv(DATA_DIR_VARIABLE, str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (pairs,) = re.findall(r"printf '(.*)' > pairs.csv", section)
    Path("pairs.csv").write_text(pairs.encode().decode("unicode_escape"))
    for program, flags in found:
        flags = [{"60": "2"}.get(flag, flag) for flag in flags]
        few = ["--comet", "off", "--hidden_neuron", "6"]
        flags += few * (program == "main.py")
        assert programs[program](flags) == 0, (program, flags)
    written = {"predictions.csv", "top.csv", "results/quick/export/autorec.npz"}
    assert all((tmp_path / name).is_file() for name in written)
    (code,) = re.findall(r"^python -c '(.*)'$", section, re.MULTILINE)
    capsys.readouterr()
    exec(compile(code, "using.md", "exec"), {})
    assert_names(capsys.readouterr().out, "'rating'", "'known'", "shape=(2,)")
    signatures = re.findall(r"^\| `(\w+)`.* \| `user`", SERVING, re.MULTILINE)
    loaded = tf.saved_model.load("results/quick/export/autorec/1")
    assert {*signatures, "serving_default"} == set(loaded.signatures)


def test_the_commands_for_other_data_read_it(monkeypatch, tmp_path):
    lines = [f"1\t{item}\t{1 + item % 5}\t{item}" for item in range(10)]
    monkeypatch.chdir(tmp_path)
    Path("ml-100k").mkdir()
    Path("ml-100k", "u1.base").write_text("\n".join(lines[:9]))
    Path("ml-100k", "u1.test").write_text(lines[9])
    text = "\n".join(["userId,movieId,rating,timestamp", *lines]).replace("\t", ",")
    Path("ratings.csv").write_text(text)
    configs = [parse_arguments(flags) for program, flags in commands(DATA) if program == "main.py"]
    held_out = [
        load_ratings(config, lambda _: None).held_out.tolist()
        for config in configs if config.dataset not in DATASETS
    ]
    assert len(held_out) == len(configs) - 2 and held_out == [[False] * 9 + [True]] * 2


def test_the_differences_between_runs_are_what_compare_prints(capsys):
    rows = ("default", "paper", "hidden_500", "best", "single")
    assert compare.main([str(RESULTS / "paper_tables" / row) for row in rows]) == 0
    lines = capsys.readouterr().out.partition("\n\n")[2].splitlines()
    assert printed(NUMBERS, "compare.py").splitlines() == [f"    {line}" for line in lines]


def test_every_published_dataset_has_a_row():
    table = DATA.split("| `--dataset` | ratings |")[1].split("\n\n")[0]
    named = set(re.findall(r"`([\w-]+)`", "".join(re.findall(r"^\|(.*?)\|", table, re.MULTILINE))))
    assert named == {*DATASETS, "synthetic"}


def test_the_tf_config_of_the_example_is_understood(monkeypatch):
    (text,) = re.findall(r"export TF_CONFIG='(.*)'", DISTRIBUTED)
    monkeypatch.setenv("TF_CONFIG", text)
    assert read_cluster("workers") == Cluster(("10.0.0.1:2222", "10.0.0.2:2222"), 0)


@pytest.mark.eager
def test_ten_lines_of_python_train_and_predict(monkeypatch, tmp_path, capsys):
    example = re.findall(r"```python\n(.*?)```", README, re.DOTALL)[0]
    assert len([line for line in example.splitlines() if line]) <= 10
    rng = np.random.default_rng(0)
    people, films = ("ann", "bob", "joe", "sue", "zoe"), ("Alien", "Heat", "Fargo", "Jaws", "Up")
    rows = [(p, f, rng.integers(1, 6)) for p in people for f in films if rng.random() < 0.8]
    monkeypatch.chdir(tmp_path)
    pd.DataFrame(rows, columns=["user", "item", "rating"]).to_csv("ratings.csv", index=False)
    names = {}
    few = "lambda_value=9.0, train_epoch=2"  # without a search for lambda
    quick = example.replace('preset="single"', f'preset="single", {few}')
    assert quick != example
    exec(compile(quick, "README.md", "exec"), names)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.npz", "ratings.csv"]
    assert f"{names['model'].test_rmse} [" in capsys.readouterr().out
    assert len(names["model"].predict(["ann"], ["Heat"])) == 1


@pytest.mark.slow
def test_the_python_example_runs(ml_1m, monkeypatch, tmp_path, capsys):
    (example,) = re.findall(r"```python\n(.*?)```", USING, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ml-1m").symlink_to(ml_1m)
    exec(compile(example.replace("train_epoch=20", "train_epoch=2"), "using.md", "exec"), {})
    *_, last, predictions = capsys.readouterr().out.splitlines()
    epoch, rmse = last.split()
    assert epoch == "2" and float(rmse) == pytest.approx(1.357, abs=0.02)
    assert len(predictions.strip("[]").split()) == 5


# Numbers.


def test_the_quoted_rmse_is_the_committed_runs_last_epoch():
    summary = json.loads((REPOSITORY / RUN / "summary.json").read_text(encoding="utf-8"))
    config = json.loads((REPOSITORY / RUN / "config.json").read_text(encoding="utf-8"))
    assert summary["final_test_epoch"] == 500 and summary["status"] == "finished"
    assert f"**{summary['final_test_rmse']:.4f}**" in USING
    assert summary["final_test_rmse"] <= 0.840
    assert summary["final_test_rmse"] <= summary["best_test_rmse"] + 0.002
    default = Config(rating_scale=(1.0, 5.0)).to_dict()  # the data's, as it was found
    unused = ("engine", "lbfgs_memory")  # recorded as chosen; of another optimiser
    defaults = {k: v for k, v in default.items() if v is not None and k not in unused}
    defaults = json.loads(json.dumps(defaults))  # where a tuple is a list
    # A flag that is younger than the run had its default.
    assert {name: config.get(name, default) for name, default in defaults.items()} == defaults


def test_the_quoted_time_memory_and_cold_ratings_are_the_committed_runs():
    summary = json.loads((REPOSITORY / RUN / "summary.json").read_text(encoding="utf-8"))
    seconds, gigabytes = summary["seconds"], summary["peak_memory_mb"] / 1000
    number = ML_1M - round(0.9 * ML_1M)
    assert_names(" ".join(USING.split()), f"{seconds:.0f} seconds", f"{gigabytes:.2f} GB")
    assert_names(NUMBERS, f"{summary['cold_test_ratings']} of {number:,}")


def test_the_output_in_readme_is_what_the_program_prints_of_the_committed_run(ml_1m_ratings):
    (shown,) = re.findall(r"\n\n```\n(.*?)\n```\n", README, re.DOTALL)
    config = Config(split_seed=1994)
    split = split_of(config, ml_1m_ratings)
    last = read_rows(REPOSITORY / RUN / "metrics.csv")[-1]
    metrics = EpochMetrics(**{name: float(cell) if cell else None for name, cell in last.items()}
                           | {"epoch": int(last["epoch"])})
    stream = io.StringIO()
    progress = Progress(stream=stream)
    progress.begin(config)
    progress.log(metrics)
    summary = json.loads((REPOSITORY / RUN / "summary.json").read_text(encoding="utf-8"))
    test, biases = split.test, fit_baseline(split)
    by_biases = score(biases.predict(test.rows, test.indices), test.values).rmse
    by_mean = score(np.full(len(test), biases.mean), test.values).rmse
    summary |= {"biases_test_rmse": by_biases, "global_mean_test_rmse": by_mean}
    # Slices and rankings of earlier versions are not compared with the biases and popularity.
    summary |= {f"by_training_ratings_of_the_{axis}": [] for axis in ("user", "item")}
    summary["ranked_users"] = 0
    announced = []
    announce(config, ml_1m_ratings, split, announced.append)
    assert len(announced) == 1  # and no warning or advice
    lines = "\n".join([*announced, stream.getvalue(),
                       closing_lines(summary, Path(RUN), "")]).splitlines()
    assert len(shown.splitlines()) == 4 and set(shown.splitlines()) <= set(lines), "\n".join(lines)


def test_the_output_in_readme_has_the_figures_of_the_committed_run():
    (shown,) = re.findall(r"\n\n```\n(.*?)\n```\n", README, re.DOTALL)
    summary = json.loads((REPOSITORY / RUN / "summary.json").read_text(encoding="utf-8"))
    measured = [summary[name] for name in ("final_train_rmse", "final_test_rmse", "final_test_mae")]
    (biases,) = [row["rmse"] for row in read_rows(RESULTS / "peers" / "peers.csv")
                 if (row["row"], row["split"]) == ("baseline_only", "1994")]
    assert_names(shown, *(f" {float(value):.4f}" for value in (*measured, biases)),
                 f"{summary['test_ratings']:,} ", f" {summary['cold_test_ratings']} cold")


def test_the_headline_numbers_are_the_tables():
    rows = {row["row"]: row for row in read_rows(RESULTS / "paper_tables" / "summary.csv")}
    for name in ("default", "paper", "fast", "single", "best"):
        mean, half = float(rows[name]["rmse_mean"]), float(rows[name]["rmse_ci95"])
        assert f"**{mean:.4f} ± {half:.4f}**" in README
    assert paragraph(README, "λ = 1", f"({float(rows['default_plain']['rmse_mean']):.4f})")


def test_the_seconds_memory_and_peers_in_readme_are_those_of_the_peers_table():
    splits = [str(seed) for seed in range(1994, 1999)]
    found = {}
    for row in read_rows(RESULTS / "peers" / "peers.csv"):
        if row["split"] in splits:
            measured = [float(row[name]) for name in ("rmse", "seconds", "peak_gb")]
            found.setdefault(row["row"], []).append(measured)
    means = {name: [statistics.fmean(each) for each in zip(*rows, strict=True)]
             for name, rows in found.items() if len(rows) == len(splits)}
    table = README.split("| settings |")[1].split("\n\n")[0]
    for name, word in (("paper", "paper`"), ("fast", "fast`"), ("single", "single`"),
                       ("best", "best`"), ("default", "default:")):
        (line,) = [line for line in table.splitlines() if word in line]
        _, seconds, gigabytes = means[name]
        assert line.endswith(f" | {seconds:.0f} | {gigabytes:.2f} |"), name
    line = paragraph(README, "docs/peers.md#results")
    surprise = "baseline_only", "knn_baseline", "svd", "svd_200", "svdpp"
    best = min(surprise, key=lambda name: means[name][0])
    for name in (best, "libmf", "myfm_probit", "fast", "single"):
        rmse, seconds, _ = means[name]
        assert f"{rmse:.4f} in {seconds:.0f} s" in line, name


def test_the_table_is_the_committed_one():
    table = (RESULTS / "paper_tables" / "table.md").read_text(encoding="utf-8")
    mark = "<!-- benchmarks/results/paper_tables/table.md -->"
    assert f"{mark}\n{table}<!-- end -->" in NUMBERS


def test_the_command_of_every_row_of_the_table_is_understood():
    table = (RESULTS / "paper_tables" / "table.md").read_text(encoding="utf-8")
    cells = [line.split(" | ")[-1] for line in table.splitlines()[2:]]
    flags = [shlex.split(cell.strip("`| ")) for cell in cells]
    assert len(flags) > 20 and all(parse_arguments(each) for each in flags)


def test_the_table_rounds_once_what_the_splits_say():
    folder = RESULTS / "paper_tables"
    rows = {row["row"]: row for row in read_rows(folder / "summary.csv")}
    several = [name for name, row in rows.items() if (folder / name / "settings.json").exists()]
    assert len(several) > 10
    for name in several:
        found = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
        for column, measure in (("rmse_mean", "mean"), ("rmse_ci95", "ci95")):
            shown, true = float(rows[name][column]), found[f"final_test_rmse_{measure}"]
            assert f"{shown:.4f}" == f"{true:.4f}"


def test_popularity_ranks_better_than_all_models_but_the_linear_ones():
    rows = {row.pop("row"): row for row in read_rows(RESULTS / "paper_tables" / "metrics.csv")}
    popularity = rows.pop("popularity")
    for measure in ("ndcg_at_10_mean", "recall_at_10_mean"):
        better = {name for name in rows if float(rows[name][measure]) > float(popularity[measure])}
        assert better <= {"act_identity_identity", "act_sigmoid_identity"}
    assert_names(NUMBERS, "metrics.csv", "`popularity`")  # where the page speaks of it
    presets = [float(rows[name]["ndcg_at_10_mean"])
               for name in ("default", "paper", "seed", "single", "best")]
    ndcg = float(popularity["ndcg_at_10_mean"])
    assert max(presets) < ndcg
    assert paragraph(README, "NDCG@10", f" {ndcg:.3f}", f" {max(presets):.3f}")


def test_the_default_decay_rate_is_the_one_that_validation_chose():
    rows = read_rows(decay_rate.FOLDER / "summary.csv")
    best = min(rows, key=lambda row: float(row["validation_rmse"]))
    assert float(best["decay_rate"]) == Config().decay_rate
    columns = "decay_rate", "validation_rmse", "train_rmse", "best_validation_rmse"
    lines = [decay_rate.line(*(float(row[name]) for name in columns)) for row in rows]
    assert printed(NUMBERS, "benchmarks.decay_rate") == "\n".join([decay_rate.HEAD, *lines])


def test_no_variant_of_fast_is_better_on_both_splits_and_its_figures_are_those_measured():
    """Those of the average are as good in the last epoch, up to noise: it acts before."""
    ours, *others = read_rows(fast_settings.FOLDER / "summary.csv")
    assert ours["settings"] == "`fast`"
    seeds = [f"seed_{seed}" for seed in fast_settings.SEEDS]
    averages = "no average of the parameters", "decay 0.95 of the average"
    for other in others:
        noise = 2e-4 if other["settings"] in averages else 0.0
        assert any(float(other[name]) > float(ours[name]) - noise for name in seeds)
    (without,) = [row for row in others if row["settings"] == averages[0]]
    for name in set(ours) - {"settings", *seeds}:
        assert int(ours[name]) < int(without[name])
    lines = [fast_settings.line(row) for row in (ours, *others)]
    assert printed(NUMBERS, "benchmarks.fast_settings") == "\n".join([fast_settings.HEAD, *lines])


def test_what_folding_in_costs_is_what_was_measured():
    rows = read_rows(fold_in.SUMMARY)
    table = printed(NUMBERS, "benchmarks.fold_in")
    assert table == fold_in.table(fold_in.SUMMARY)
    dropout = "I-AutoRec, `--input_dropout 0.5`"
    names = {"item": "I-AutoRec", "denoising": dropout, "user": "U-AutoRec"}
    for model, new, are in {(row["model"], row["new"], row["are"]) for row in rows}:
        found = [row for row in rows if (row["model"], row["new"]) == (model, new)]
        means = [
            statistics.fmean(float(row[name]) for row in found)
            for name in ("rmse_trained_with_them", "rmse_folded_in")
        ]
        line = f"| {new} ({are}) | {means[0]:.4f} | {means[1]:.4f} | {len(found)} |"
        assert f"| {names[model]} {line}" in table


def test_new_users_and_items_are_predicted_better_than_by_biases():
    rows = read_rows(fold_in_few.RESULTS)
    assert printed(NUMBERS, "benchmarks.fold_in_few") == fold_in_few.table(fold_in_few.RESULTS)
    for model, new, k in {(row["model"], row["new"], row["k"]) for row in rows}:
        found = [row for row in rows if (row["model"], row["new"], row["k"]) == (model, new, k)]
        biases, folded_in = (statistics.fmean(float(row[name]) for row in found)
                             for name in ("rmse_biases", "rmse_folded_in"))
        assert folded_in <= biases, (model, new, k)


def test_a_warm_start_needs_at_most_a_quarter_of_the_epochs():
    path = warm_start.FOLDER / warm_start.SUMMARY
    assert printed(NUMBERS, "benchmarks.warm_start") == warm_start.table(path)
    curves = read_rows(warm_start.FOLDER / warm_start.CURVES)
    for row in read_rows(path):
        of_start, of_random = (
            [float(x["test_rmse"]) for x in curves if x["preset"] == row["preset"]
             and x["training"] == training]
            for training in ("from the start", "from random parameters")
        )
        reached, epochs = int(row["epochs_to_rmse"]), int(row["epochs_from_random"])
        assert reached <= epochs / 4 and of_start[reached - 1] <= of_random[-1]


def test_what_new_items_lose_in_single_splits_is_what_was_measured():
    rows = [row for row in read_rows(fold_in.SUMMARY) if row["new"] == "items"]
    lost = [[float(row["difference"]) for row in rows if row["model"] == model]
            for model in ("item", "denoising")]
    ranges = [f"{min(each):.3f} to {max(each):.3f}" for each in lost]
    assert ranges[0] != ranges[1] and paragraph(NUMBERS, *ranges)


def test_the_speed_table_is_that_of_the_committed_figures():
    figures = json.loads((RESULTS / "speed" / "speed.json").read_text("utf-8"))
    table = printed(SPEED, "benchmarks.speed")
    dense, sparse, bfloat16, ml20m = "dense float32", "sparse", "dense bfloat16", "ml-20m"
    shown = {  # figure -> what its row names, and how it is written
        "dense_float32_over_matmuls": (dense, "bare", "{:.2f}"),
        "speedup_dense_over_feed_dict": ("earlier", dense, "{:.2f}"),
        "speedup_sparse_over_feed_dict": ("earlier", sparse, "{:.2f}"),
        "speedup_sparse_over_dense": (f"{dense} / {sparse}", "{:.2f}"),
        "first_epoch_s": ("first", "{:.1f} s"),
        "parse_s": (f"{ML_1M:,}", "{:.2f} s"),
        "peak_gb": ("memory", "{:.2f} GB"),
        "ml20m_peak_gb": (ml20m, sparse, "{:.2f}"),
        "ml20m_single_iteration_s": (ml20m, "{:.2f}"),
        "ml20m_single_peak_gb": (ml20m, "{:.2f}"),
        "second_core_worth": ("ratio", "{:.2f}"),
        "one_core_epoch_s": ("one core", "{:.3f}"),
        "netflix_epoch_s": ("netflix", sparse, "{:.2f}"),
        "netflix_peak_gb": ("netflix", sparse, "{:.2f}"),
        "dense_bfloat16_over_matmuls": (bfloat16, "bare", "{:.2f}"),
    }
    rows = rows_of(table)
    for figure, (*words, form) in shown.items():
        found = [row for row in rows if all(word in " | ".join(row) for word in words)]
        assert any(form.format(figures[figure]) in row for row in found), figure
    exponent, times = (figures[name] for name in (
        "ratings_exponent", "ml20m_speedup_sparse_over_dense"))
    assert_names(table.splitlines()[-1], f" {exponent:.2f};", f" {times:.1f} times")
    rmse = re.findall(r"^\| (?:dense|sparse) b?float\d+ \| (0\.\d{5}) \|$", table, re.MULTILINE)
    spread = max(map(float, rmse)) - min(map(float, rmse))
    assert len(rmse) == 3 and spread == pytest.approx(figures["rmse_spread"], abs=1.1e-5)


def test_readme_quotes_the_epoch_of_the_speed_table():
    table = printed(SPEED, "benchmarks.speed")
    (epoch,) = re.findall(r"\| sparse float32 \| ([\d.]+) \| [\d.]+ \|", table)
    assert f" {float(epoch):.2f} s " in " ".join(README.split())


def test_the_sizes_that_are_quoted_are_what_arithmetic_says():
    k, batch, float_bytes = Config().hidden_neuron[0], Config().batch_size, 4
    floats_a_column = (6 + 4) * k * float_bytes
    sizes = [f"{columns * floats_a_column / 1e9:.1f} GB" for columns in (480_189, 17_770)]
    assert paragraph(SPEED, "Netflix", "480,189", "17,770", *sizes)
    assert paragraph(DISTRIBUTED, f"{batch * k * float_bytes / 1e6:.2f} MB", f"k = {k}")


def test_the_table_of_faults_is_that_of_the_committed_rows_and_nothing_is_lost():
    rows = json.loads((RESULTS / "faults" / "faults.json").read_text("utf-8"))
    faults = [Fault(**row) for row in rows]
    table = printed(RELIABILITY, "tests.faults")
    assert table.splitlines()[2:] == [line(fault) for fault in faults]
    assert all(fault.survived == fault.tried and fault.lost == 0 for fault in faults)
    assert sum(fault.tried for fault in faults if fault.fault.startswith("file")) >= 10_000
    assert sum(fault.tried for fault in faults if fault.fault.startswith("SIGKILL")) >= 50


def test_what_a_second_worker_costs_is_what_was_measured():
    figures = json.loads((RESULTS / "workers" / "workers.json").read_text("utf-8"))
    table = printed(DISTRIBUTED, "benchmarks.workers")
    for name, shown in (("ml1m", "ml-1m"), ("ml20m", "ml-20m")):
        for run, label in (("process", "one process, two threads"),
                           ("workers", "two workers of one thread"),
                           ("thread", "one process, one thread")):
            seconds, peak = (figures[f"{name}_{run}_{each}"] for each in ("epoch_s", "peak_gb"))
            (row,) = [r for r in table.splitlines() if r.startswith(f"| {shown} | {label} |")]
            assert [float(cell) for cell in row.split("|")[3:6:2]] == pytest.approx(
                [seconds, peak], abs=0.006)
        assert on_paper(figures, shown) in table
    beginning = DISTRIBUTED.split("\n## ")[0]
    peaks = [f"{figures[f'ml20m_{run}_peak_gb']:.2f} GB" for run in ("workers", "thread")]
    assert paragraph(beginning, *peaks)
    assert figures["ml1m_workers_peak_gb"] > figures["ml1m_thread_peak_gb"]
    assert figures["ml1m_gbit1_epoch_s"] > figures["ml1m_thread_epoch_s"]
    longer = []  # percent, measured than calculated
    for name, size in (("ml1m", "ml-1m"), ("ml20m", "ml-20m")):
        steps = -(-SIZES[size][1] // BATCH_SIZE)
        for gbit in (1, 10):
            sums = 3 * steps * (4 * BATCH_SIZE * HIDDEN / (gbit * 1e9 / 8) + 2 * LATENCY)
            calculated = figures[f"{name}_thread_epoch_s"] / 2 + sums
            longer.append(100 * (figures[f"{name}_gbit{gbit}_epoch_s"] / calculated - 1))
    assert paragraph(DISTRIBUTED, f"{min(longer):.0f} % to {max(longer):.0f} %")
    assert figures["ml1m_rmse_difference"] < 1e-5 and figures["ml20m_rmse_difference"] < 1e-5


def test_the_table_of_thin_data_is_the_committed_results():
    page = (REPOSITORY / "docs" / "presets.md").read_text(encoding="utf-8")
    assert thin.table(read_rows(thin.RESULTS)) in page


def test_the_tables_of_serving_are_the_committed_figures():
    figures = json.loads((RESULTS / "serving" / "serving.json").read_text("utf-8"))
    assert printed(SERVING, "benchmarks.serving") == serving.printed(figures)
