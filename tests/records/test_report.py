"""The report: its facts are the records', its text is only text, and a browser shows it."""

import html
import json
import math
import re
import shlex
import shutil
import subprocess
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError

import main
from autorec_tf.command_line import parse_arguments
from autorec_tf.config import Config
from autorec_tf.data.ratings import index_ratings
from autorec_tf.evaluation.metrics import EpochMetrics
from autorec_tf.evaluation.similar_items import PopularItem
from autorec_tf.evaluation.slices import by_value, calibration
from autorec_tf.records import report, run_records
from autorec_tf.records.plots import draw_rmse
from autorec_tf.records.report import Neighbours, ReportData, neighbours_with_titles, page
from autorec_tf.resolution import split_configs
from data_preprocessor import resolve
from tests.facts import assert_names
from tests.program import RECONSTRUCTION, interrupt_at

pytestmark = pytest.mark.eager

VOID = ("meta",)
CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
HOSTILE = "</title></style><script src='//a.b/c.js'>alert(1)</script><img src=x onerror=alert(1)>"


class Page(HTMLParser):
    """A page, read again: its elements, and the words of each kind of them. What is not closed in
    order, and an id that stands twice, is an error."""

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.words, self.ids = [], [], [], set()
        self.warnings = []  # the words of paragraphs of that class
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        assert len(dict(attributes)) == len(attributes)
        if own := dict(attributes).get("id"):
            assert own not in self.ids
            self.ids.add(own)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        assert "svg" in self.open  # where an element may close itself
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and "style" not in self.open:
            self.words.append((self.open[-1], " ".join(data.split())))
            if self.elements[-1] == ("p", {"class": "warning"}) and self.open[-1] == "p":
                self.warnings.append(self.words[-1][1])

    @property
    def text(self):
        return " ".join(data for _, data in self.words)

    def texts(self, tag):
        return [data for where, data in self.words if where == tag]

    def paragraph(self, *facts):
        """The only paragraph that names `facts`."""
        (found,) = [each for each in self.texts("p") if all(fact in each for fact in facts)]
        return found

    def facts(self):
        """What stands beside what in the lists of facts."""
        return dict(zip(self.texts("dt"), self.texts("dd"), strict=True))


def made_up(**changes):
    """config.json, summary.json and report data of a run that never was."""
    config = Config(dataset="ml-1m", split_seed=3, rating_scale=(1.0, 5.0), run_name="the run")
    settings = replace(config, **changes).to_dict() | {
        "num_users": 60, "num_items": 40, "num_ratings": 1200, "train_ratings": 1000,
        "test_ratings": 200, "cold_test_ratings": 2, "fingerprint": "f" * 64, "threads": 2,
        "python": "3.11.7", "packages": {"numpy": "2.4.6", "numba": None}, "system": "Linux",
        "machine": "x86_64", "cpus": 2, "git_commit": "c" * 40, "comet_experiment": None,
    }
    slices = [{"training_ratings": "1,000+", "test_ratings": 200, "rmse": 0.9, "mae": 0.7,
               "biases_rmse": 0.8765, "difference_standard_error": None},
              {"training_ratings": "1–9", "test_ratings": 9, "rmse": 0.91, "mae": 0.7,
               "biases_rmse": 0.9432, "difference_standard_error": 0.01}]
    summary = {
        "status": "finished", "dataset": settings["dataset"], "final_train_rmse": 0.7,
        "final_test_rmse": 0.87654, "final_test_mae": 0.65432, "final_test_epoch": 3, "epochs": 3,
        "best_test_epoch": 2, "best_test_rmse": 0.81234, "best_test_mae": 0.6, "ndcg_at_10": 0.01,
        "recall_at_10": None, "ranked_users": 1234, "test_ratings": 200, "cold_test_ratings": 2,
        "coverage_at_10": 0.2345, "popularity_ndcg_at_10": 0.12345,
        "popularity_recall_at_10": 0.06789, "popularity_coverage_at_10": 0.0123,
        "by_training_ratings_of_the_user": slices, "by_training_ratings_of_the_item": slices,
        "seconds": 12.345, "peak_memory_mb": 1059.9,
    }
    return settings, summary, replace(made_up_data())


@cache
def made_up_data():
    rng = np.random.default_rng(1)
    ratings = rng.integers(1, 6, 200)
    pairs = np.clip(ratings + rng.normal(0, 1, 200), 1, 5), ratings, (1.0, 5.0)
    metrics = [EpochMetrics(e, 0.1, 1.0, 1.5 / e, 1.0, 1.2 / e, 0.5, None, None, 1.0, 1.0)
               for e in (1, 2, 3)]
    return ReportData(
        draw_rmse(metrics, "ml-1m", "item"), by_value(*pairs), calibration(*pairs),
        [Neighbours("Alien (1979)", 400, [("Aliens (1986)", 0.987), ("item 7", -0.25)])],
    )


def test_the_facts_are_those_of_the_records():
    settings, summary, data = made_up(lambda_value=40.0, hidden_neuron=(6, 3, 6))
    read = Page(page(settings, summary, data))
    facts = read.facts()
    expected = {
        "test RMSE": "0.8765", "test MAE": "0.6543", "NDCG@10": "0.0100", "users": "60",
        "items": "40", "ratings": "1,200", "density": "50.00 %",
        "training ratings": "1,000", "validation ratings": "0", "test ratings": "200",
        "cold test ratings": "2", "rating scale": "1 to 5", "fingerprint": "f" * 64,
        "lambda_value": "40", "hidden_neuron": "6 3 6", "tune": "–", "grad_clip": "false",
        "threads": "2", "git commit": "c" * 40, "numpy": "2.4.6", "seconds": "12.345",
        "peak memory": "1,060 MB",
    }
    assert {name: facts[name] for name in expected} == expected
    assert set(facts) >= set(Config().to_dict()) and "numba" not in facts
    assert "Recall@10" not in facts
    for part in data.by_value:
        assert f"{part.scores.rmse:.4f}" in read.texts("td")
        assert f"{part.bias:+.4f}".replace("-", "−") in read.texts("td")
    better = [a for tag, a in read.elements if tag == "td" and a.get("class") == "better"]
    assert len(better) == 2 and {"0.8765", "0.9432"} <= {*read.texts("td")}  # on both axes
    assert_names(read.paragraph("0.1235"), "0.0679", "1.2 %")
    assert "23.4 %" in read.text or "23.5 %" in read.text
    for part in data.calibration:
        assert f"{part.mean_prediction:.3f}" in read.texts("td")
        assert f"{part.mean_rating:.3f}" in read.texts("td")
    assert read.texts("h3") == ["Alien (1979)"] and "400 training ratings" in read.text
    assert "Aliens (1986) 0.99 item 7 -0.25" in read.text
    changed = [a for _, a in read.elements if a.get("class") == "changed"]
    assert len(changed) == 2  # lambda_value and hidden_neuron: what is resolved is no change


def test_it_says_what_kind_of_result_it_is():
    def read(changed_summary=None, **changes):
        settings, summary, _ = made_up(**changes)
        summary |= {"test_ratings": 211, "cold_test_ratings": 23, "final_test_epoch": 17}
        return Page(page(settings, summary | (changed_summary or {}), ReportData()))

    def result(*args, **changes):
        """The paragraph below the numbers, which tells how they came about."""
        return read(*args, **changes).paragraph("211 ")

    plain = read()
    assert re.findall(r"\d+", plain.paragraph("211 ")) == ["17", "211", "23", "3", "90", "3"]
    assert_names(result(split_seed=41), "last epoch", "random", "90 %", "seed 41")
    assert_names(plain.paragraph("0.8123"), "lowest", "epoch 2", "not a result")
    assert plain.warnings == [] and "prediction" not in plain.paragraph("0.8123")
    assert not any("econstruction" in each for each in plain.texts("p"))
    chosen = result({"final_validation_rmse": 0.91, "final_test_epoch": 19}, validation_ratio=0.1)
    assert_names(chosen, "epoch 19", "validation", "0.9100")
    assert "last epoch" not in chosen
    assert_names(result(tune=("lambda_value", "base_lr")), "lambda_value", "base_lr")
    of_all = {"ranked_users_drawn_from": 1234}
    assert plain.text == read(of_all).text and "seed" not in plain.paragraph("1,234")
    drawn = read({"ranked_users_drawn_from": 5678}, random_seed=7).paragraph("1,234")
    assert_names(drawn, "seed 7", "5,678")
    by_time = result(split="time")
    assert "by time" in by_time and "90 %" in by_time and "seed" not in by_time
    assert "u1.test" in result(test_file="u1.test")
    leaking = read({RECONSTRUCTION: 0.5123}, score_reconstruction=True)
    facts = leaking.facts()
    assert [facts[name] for name in facts if name.startswith("honest ")] == ["0.8765"]
    assert "test RMSE" not in facts
    assert_names(leaking.paragraph("0.5123"), "Reconstruction RMSE", "as input", "not a prediction")
    made = read(dataset="synthetic")
    (heading,), (warning,) = made.texts("h1"), made.warnings
    assert "synthetic" in heading and "synthetic" not in plain.text
    assert_names(warning, "synthetic", "MovieLens")
    (warning,) = read({"status": "interrupted", "epochs": 29}).warnings
    assert_names(warning, "Interrupted", "epoch 29", "no result")


FILES = {"dataset": "r 1.csv", "test_file": "ml-1m"}


@pytest.mark.parametrize("given", ["known", "unknown"])
@pytest.mark.parametrize(
    "flags, expected",
    [
        ("", ""),
        ("--dataset synthetic --train_epoch 3", "--dataset synthetic --train_epoch 3"),
        ("--comet off --run_name a --results_dir b --data_dir c --grad_clip", "--grad_clip true"),
        ("--random_seed 5 --split_seed 5 --engine sparse", "--engine sparse --random_seed 5"),
        ("--split_seed 7 --relevant_rating 4.5", "--relevant_rating 4.5 --split_seed 7"),
        ("--num_folds 3 --fold 2", "--num_folds 3 --fold 2"),
        ("--preset single --leave_one_out false --base_lr 1e-9", None),
        ("--preset seed --rating_scale 0 10 --no_rating -1 NaN --read_csv sep=;", None),
        ("--preset paper", "--preset paper"),
        ("--preset paper --lambda_value 1 --cold_rating mean", None),
        ("--tune base_lr --lambda_factor 0.3 --input_encoding auto --lambda_one_hot 0.5", None),
        ("--preset best --base_lr 0.001 --orientation user", None),
        ("--preset seed --score_reconstruction false --members item user", None),
        ("--members item user_one_hot --lambda_value 40 --hidden_neuron 6 --random_seed 3", None),
        ("--dataset here/r --test_file there/ml-1m --columns a,b,c --hidden_neuron 6 3 6", None),
    ],
)
def test_its_command_gives_the_settings_of_the_run_again(flags, expected, given):
    """Except for the results of --tune. `given` is unknown in a resumed run."""
    count, rng = 60, np.random.default_rng(1)
    users, items = np.divmod(rng.permutation(count * count)[:900], count)
    name = "r_1.csv" if "r" in flags.split("/") else "ml-1m"
    name = "synthetic" if "synthetic" in flags else name
    ratings = index_ratings(name, users, items, rng.integers(1, 6, 900), (1.0, 5.0))

    def resolved(arguments):
        return resolve(parse_arguments(arguments), ratings)

    def comparable(config):
        content = replace(config, run_name=None, comet="off").to_dict()
        return {name: value for name, value in content.items() if name not in config.tune}

    config = resolved(flags.split())
    settings, summary, _ = made_up()
    settings |= replace(config, **dict.fromkeys(config.tune, 7)).to_dict()
    settings["files"] = FILES if "/" in flags else {}
    data = ReportData(given=config.given if given == "known" else None)
    (command,) = Page(page(settings, summary, data)).texts("code")
    words = shlex.split(command)
    assert words[:2] == ["python", "main.py"]
    again = resolved(words[2:])
    assert comparable(again) == comparable(config)
    if "/" in flags:
        files = [words[words.index(flag) + 1] for flag in ("--dataset", "--test_file")]
        assert files == ["./r 1.csv", "./ml-1m"]
    if expected is not None and given == "known":
        assert " ".join(words[2:]) == expected


def test_the_command_of_a_split_or_fold_is_of_that_one():
    for flags in ("--num_splits 2 --random_seed 4", "--num_folds 2", "--folds u1 u2 --dataset x"):
        for config in split_configs(parse_arguments(flags.split())):
            settings, summary, _ = made_up()
            settings |= replace(config, split_seed=config.seed_of_split).to_dict()
            (command,) = Page(page(settings, summary, ReportData(given=config.given))).texts("code")
            again = parse_arguments(shlex.split(command)[2:])
            for name in ("seed_of_split", "random_seed", "fold", "num_folds", "folds"):
                assert getattr(again, name) == getattr(config, name)
            assert not again.is_repeated


def test_a_run_without_a_result_has_a_report_that_says_so():
    settings, summary, _ = made_up()
    results = re.compile("final|best|by_|ndcg|recall|coverage|popularity|ranked|epochs")
    summary = {name: value for name, value in summary.items() if not results.match(name)}
    for status, word in (("interrupted", "Interrupted"), ("diverged", "diverged")):
        read = Page(page(settings, summary | {"status": status}, ReportData()))
        (warning,) = read.warnings
        assert_names(warning, word, "result")
        assert not re.search(r"\d", warning)
        assert read.texts("h2") == ["Data", "Configuration", "Environment"]


def hostile():
    """A run with markup in all that can hold any, and with very long names."""
    settings, summary, data = made_up(test_file=HOSTILE)
    settings |= {"run_name": HOSTILE + "x" * 200, "columns": HOSTILE, "dataset": HOSTILE,
                 "git_commit": "c" * 400, "fingerprint": HOSTILE}
    data.neighbours = [Neighbours(HOSTILE, 4, [(HOSTILE + "y" * 200, 0.5)])]
    data.members = [{"weight": 0.123456, "orientation": HOSTILE, "hidden": (500, 250, 500)}]
    return settings, summary, data


def test_markup_in_names_is_text():
    settings, summary, data = hostile()
    text = page(settings, summary, data)
    read = Page(text)
    tags = {tag for tag, _ in read.elements}
    assert tags >= {"svg", "table", "h3"} and not tags & {"script", "img", "a", "iframe", "link"}
    assert not [a for _, a in read.elements if any(name.startswith("on") for name in a)]
    for tag in ("title", "h1", "h3", "td", "dd", "span", "p"):
        assert any(HOSTILE in each for each in read.texts(tag)), tag
    assert "0.12346" in read.texts("td") and "500 250 500" in read.texts("td")


def test_characters_that_nobody_sees_are_escaped_on_the_page():
    hidden, shown = "a\u202e\u200b\x1b[0m\u3164", r"a\u202e\u200b\x1b[0m\u3164"
    settings, summary, data = made_up(test_file=hidden)
    data.neighbours = [Neighbours(hidden, 4, [(hidden, 0.5)])]
    data.members = [{"weight": 0.1, "orientation": hidden}]
    text = page(settings | {"run_name": hidden, "dataset": hidden}, summary, data)
    read = Page(text)
    assert not any(c in text for c in hidden[1:4])
    for tag in ("title", "td", "h3"):
        assert any(shown in each for each in read.texts(tag)), tag


def test_the_template_marks_only_our_own_pictures_as_safe():
    template = Path(report.__file__).with_name("report.html").read_text(encoding="utf-8")
    assert re.findall(r"\S+ ?\| ?safe\b", template) == ["curves | safe", "calibration | safe"]
    assert report.TEMPLATES.autoescape is True and "autoescape" not in template


def test_what_the_records_lack_is_an_error_and_no_gap_on_the_page():
    settings, summary, _ = made_up()
    del settings["fingerprint"]
    with pytest.raises(UndefinedError, match="fingerprint"):
        page(settings, summary, ReportData())


def test_it_needs_nothing_else():
    text = page(*made_up())
    read = Page(text)
    assert text.startswith("<!DOCTYPE html>\n") and "default-src 'none'" in text
    assert ("html", {"lang": "en"}) in read.elements and ("meta", {"charset": "utf-8"}) in (
        read.elements
    )
    assert read.texts("title") == ["AutoRec on ml-1m: the run"]
    values = [(name, value) for _, a in read.elements for name, value in a.items()]
    links = [value for name, value in values if name in ("src", "href", "xlink:href", "srcset")]
    assert links and all(link[1:] in read.ids and link[0] == "#" for link in links)
    assert not re.search(r"url\((?!#)|@import|javascript:|http-equiv=.refresh", text)
    addresses = [value for name, value in values if "://" in value and "xmlns" not in name]
    assert addresses == [] and "://" not in read.text
    for _, svg in [each for each in read.elements if each[0] == "svg"]:
        assert svg["role"] == "img" and len(svg["aria-label"]) > 20
    assert len(text) < 200_000


@pytest.mark.parametrize("value", [math.nan, 3.0])
def test_predictions_that_are_no_numbers_or_just_right_have_a_page(value):
    settings, summary, data = made_up()
    data.curves = None
    pairs = np.full(9, value), np.full(9, 3), (1.0, 5.0)
    data.by_value, data.calibration = by_value(*pairs), calibration(*pairs)
    for axis in ("user", "item"):
        rmse = data.by_value[0].scores.rmse
        summary[f"by_training_ratings_of_the_{axis}"][0] |= {"rmse": rmse, "mae": rmse}
    assert "Calibration" in Page(page(settings, summary, data)).texts("h2")


def test_neighbours_have_their_titles_or_else_their_ids():
    popular = [PopularItem(2, 7, [(0, 0.5), (1, -0.25)]), PopularItem(0, 5, [])]
    item_ids = np.array([10, 20, 30])
    assert neighbours_with_titles(popular, item_ids, {"10": "Alien", "40": "Dune"}) == [
        Neighbours("item 30", 7, [("Alien", 0.5), ("item 20", -0.25)]), Neighbours("Alien", 5, []),
    ]


# Of real runs


@pytest.fixture
def run_here(small_data, tmp_path, monkeypatch):
    """A function that runs flags within this process, and returns the report, read again, and the
    content of config.json and summary.json."""
    monkeypatch.setattr(main, "start_tensorflow", lambda **_: None)  # already running here
    monkeypatch.setattr(run_records, "write_png", lambda path, _: path.write_bytes(b"picture"))

    def run_flags(flags):
        small = "--comet off --hidden_neuron 8 --batch_size 32 --base_lr 0.1 --train_epoch 2"
        paths = ("--run_name", "run", "--data_dir", str(small_data), "--results_dir",
                 str(tmp_path))
        main.main([*small.split(), *paths, *flags.split()])
        text = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
        assert str(tmp_path) not in text and "\nNaN" not in text
        records = (tmp_path / "run" / f"{name}.json" for name in ("config", "summary"))
        return Page(text), *(json.loads(path.read_text(encoding="utf-8")) for path in records)

    return run_flags


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        "", "--orientation user --output_activation sigmoid", "--hidden_neuron 6 3 6",
        "--members item user", "--validation_ratio 0.2 --tune lambda_value",
        "--preset seed --display_step 2",
    ],
)
def test_every_kind_of_run_has_a_report_with_its_numbers(flags, run_here, small_data):
    titles = {3 * i + 2: f"<b>Film {i}</b> & co (1979)" for i in range(40)}
    lines = "".join(f"{item}::{title}::Horror\n" for item, title in titles.items())
    (small_data / "movies.dat").write_text(lines, encoding="utf-8")
    read, settings, summary = run_here(flags)
    facts = read.facts()
    honest = "honest " * ("seed" in flags) + "test RMSE"
    assert facts[honest] == f"{summary['final_test_rmse']:.4f}"
    assert facts["test MAE"] == f"{summary['final_test_mae']:.4f}"
    assert facts["fingerprint"] == settings["fingerprint"]
    assert facts["training ratings"] == str(settings["train_ratings"])
    assert facts["validation ratings"] == str(
        900 - settings["train_ratings"] - settings["test_ratings"]
    )
    for axis in ("user", "item"):
        for row in summary[f"by_training_ratings_of_the_{axis}"]:
            assert f"{row['rmse']:.4f}" in read.texts("td")
    nearest = read.texts("span")[::2]
    assert (len(read.texts("h3")), len(nearest)) == (8, 40)
    assert {*read.texts("h3"), *nearest} <= {*titles.values()}
    assert any("epoch" in each for each in read.texts("h2")) == ("members" not in flags)
    assert any("blend" in each for each in read.texts("h2")) == ("members" in flags)
    assert any("Reconstruction RMSE" in each for each in read.texts("p")) == ("seed" in flags)


@pytest.mark.slow
def test_an_interrupted_run_has_a_report_of_what_it_was_worth(run_here, monkeypatch):
    interrupt_at(1, monkeypatch)
    read, _, summary = run_here("--train_epoch 9")
    (warning,) = read.warnings
    assert_names(warning, "Interrupted", "epoch 1")
    assert read.facts()["test RMSE"] == f"{summary['final_test_rmse']:.4f}"


@pytest.mark.slow
def test_a_run_that_diverged_has_a_report_without_a_result(run_here):
    read, _, summary = run_here("--optimizer_method RMSProp --base_lr 1e30")
    assert summary["status"] == "diverged" and "test RMSE" not in read.facts()
    (warning,) = read.warnings
    assert "diverged" in warning


# In a browser

MEASURE = """
const screens = [...document.querySelectorAll('iframe')].map(frame => {
  const page = frame.contentDocument, root = page.documentElement;
  return {
    viewport: root.clientWidth, width: root.scrollWidth, height: root.scrollHeight,
    pictures: [...page.querySelectorAll('svg')].map(x => x.getBoundingClientRect().width),
    result: page.querySelector('.numbers dd')?.getBoundingClientRect().bottom,
    text: page.body.innerText, boxes: page.querySelectorAll('.scroll').length,
  };
});
document.body.replaceChildren(JSON.stringify(screens));
"""


@pytest.mark.slow
@pytest.mark.skipif(not CHROMIUM, reason="needs Chromium on the PATH")
@pytest.mark.parametrize("kind", [made_up, hostile])
def test_a_browser_shows_it_on_a_desk_and_on_a_phone_no_wider_than_the_screen(kind, tmp_path):
    content = html.escape(page(*kind()))
    frames = "".join(f'<iframe srcdoc="{content}" style="border:0;width:{width}px;height:800px">'
                     "</iframe>" for width in (1280, 390))
    path = tmp_path / "frames.html"
    script = f"<script>onload = () => {{ {MEASURE} }}</script>"
    path.write_text(f"<!DOCTYPE html><meta charset=utf-8>{frames}{script}", encoding="utf-8")
    done = subprocess.run(
        [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,900",
         "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True, text=True, encoding="utf-8", timeout=120,
    )
    (content,) = re.findall(r"<body>(.*)</body>", done.stdout, re.DOTALL)
    desk, phone = json.loads(html.unescape(content))
    for screen, width in ((desk, 1280), (phone, 390)):
        assert width - 20 <= screen["viewport"] <= width
        assert screen["width"] == screen["viewport"] and screen["height"] > 1000
        assert len(screen["pictures"]) == 2 and min(screen["pictures"]) > 0.3 * screen["viewport"]
        assert 50 < screen["result"] < 800 and screen["boxes"] >= 4
        for words in ("0.8765", "Calibration", "predicted rating", "Nearest items", "lambda_value"):
            assert words in screen["text"]
    assert phone["height"] > desk["height"]
