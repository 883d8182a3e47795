"""The benchmarks' own parts; what they measure is never a test."""

import json
import os
import re
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from autorec_tf.config import Config
from autorec_tf.resolution import over_preset
from autorec_tf.system.files import write_csv
from benchmarks import decay_rate, figures_file, fold_in, gpu, paper_tables, speed
from benchmarks.scale import SIZES, measure, size_of, write_ratings
from benchmarks.speed import BareProducts, FeedDict, Ours, dense
from data_preprocessor import read_ml_1m, split_ratings
from tests.facts import assert_names, refused
from tests.faults.comet import KEY, archived_epochs, leaking_files
from tests.forks import Fork

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def ratings_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("scale") / "ratings.dat"
    write_ratings(path, 300, 120, 4_000)
    return path


def test_made_up_ratings_have_the_size_asked_for_and_power_law_popularity(ratings_file):
    ratings = read_ml_1m(ratings_file)  # refuses a pair that stands twice
    assert (len(ratings), ratings.num_items) == (4_000, 120) and ratings.num_users <= 300
    popularity = np.sort(np.bincount(ratings.items))
    assert popularity[-12:].sum() > 5 * popularity[:12].sum()


def test_a_multiple_of_movielens_1m_keeps_its_density():
    users, items, ratings = size_of("10x")
    one_users, one_items, one_ratings = SIZES["ml-1m"]
    assert ratings == 10 * one_ratings
    assert ratings / users / items == pytest.approx(one_ratings / one_users / one_items, rel=1e-3)


@pytest.mark.eager
@pytest.mark.parametrize("preset", ["default", "single"])
def test_a_large_size_is_parsed_trained_and_tested(ratings_file, preset):
    settings = dict(preset=preset, engine="sparse", hidden_neuron=(8,), train_epoch=1)
    result = measure(ratings_file, over_preset(settings))
    names = {"parse_s", "split_s", "epoch_s", "test_s", "peak_gb"}
    assert names <= set(json.loads(json.dumps(result)))
    assert 0 < result["rmse"] < 4


@pytest.mark.eager
def test_every_way_of_an_epoch_runs(ratings_file):
    ratings = read_ml_1m(ratings_file)
    split = split_ratings(ratings, 0.9, 1)
    config = Config(hidden_neuron=8, batch_size=50, engine="dense")
    ways = FeedDict(split, config), BareProducts(split, config, "float32"), Ours(split, config)
    for way in ways:
        way.train()
        way.test()
    R, M = dense(split.train)
    assert M.sum() == len(split.train) and R.sum() == split.train.values.sum()


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"a": "b"}', b'{"a": true}', b"\xff"])
def test_a_file_that_has_no_figures_is_refused_before_anything_is_measured(
    tmp_path, monkeypatch, content
):
    path = tmp_path / "speed.json"
    path.write_bytes(content)
    monkeypatch.setattr(sys, "argv", ["speed", "--json", str(path)])
    monkeypatch.setattr(speed, "start_tensorflow", lambda: pytest.fail("it measures"))
    with refused("--json", str(path)):
        speed.main()
    assert path.read_bytes() == content


def test_a_path_where_figures_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "speed.json"):
        with refused("--json", str(path)):
            figures_file.check_writable(path)
    figures_file.check_writable(tmp_path / "new" / "speed.json")
    assert figures_file.read_earlier(tmp_path / "new" / "speed.json") == {}
    assert not list((tmp_path / "new").iterdir())


def test_quick_figures_include_the_second_core_and_are_added_to_the_earlier_ones(
    tmp_path, monkeypatch
):
    path = tmp_path / "speed.json"
    path.write_text('{"rmse_spread": 0.5, "second_core": 3}')
    monkeypatch.setattr(sys, "argv", ["speed", "--quick", "--json", str(path)])
    monkeypatch.setattr(speed, "start_tensorflow", lambda: None)
    monkeypatch.setattr(speed, "PARTS",
                        {name: lambda _, name=name: {name: 1.0} for name in speed.PARTS})
    speed.main()
    assert json.loads(path.read_text()) == {
        "rmse_spread": 0.5, "second_core": 1.0, "movielens_1m": 1.0, "whole_program": 1.0}


def test_without_a_gpu_one_line_says_what_it_needs(monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    with refused("GPU", "pip install 'tensorflow[and-cuda]'", "--device cpu"):
        gpu.machine("gpu")
    assert gpu.machine("cpu")["device"] == "cpu"


def test_a_step_that_fails_or_hangs_is_told_and_ends_alone(tmp_path, capfd):
    options = Namespace(device="cpu", epochs=1, dataset="none")
    (name, told), = gpu.run_step("tests", options, tmp_path, 0).items()
    assert name == "tests_failed" and " 0 s" in told
    told = gpu.run_step("nothing", options, tmp_path, 60)["nothing_failed"]
    assert_names(told, "code 2", "gpu: error: ", "--steps", "'nothing'")
    assert told[told.index("gpu: error: "):] in capfd.readouterr().err


def test_runs_are_compared_to_the_last_bit(tmp_path):
    metrics = dict(train_cost=9.0, train_rmse=0.5, test_rmse=0.8, test_mae=0.25)
    for name, change in (("a", {}), ("b", {}), ("c", {"train_rmse": np.nextafter(0.5, 1)})):
        (tmp_path / name).mkdir()
        write_csv(tmp_path / name / "metrics.csv", [metrics, metrics | change])
    a, b, c = (tmp_path / name for name in "abc")
    same, other = gpu.compare("again", a, b), gpu.compare("again", a, c)
    assert same == {"again_equals_once": True, "again_largest_difference": 0}
    assert other == {"again_equals_once": False, "again_largest_difference": 2**-52}


def start_step(command, **how):
    """Start a step as `gpu` does: the first one as it is, others as forks."""
    if "--steps=once" in command:
        return subprocess.Popen(command, **how)
    code = "from benchmarks.gpu import main; main()"
    return Fork(["-c", code, *command[3:]], ROOT, {**os.environ})


@pytest.mark.slow
def test_the_steps_for_a_gpu_run_on_a_cpu(ratings_file, tmp_path, monkeypatch):
    json_file = tmp_path / "gpu" / "gpu.json"
    flags = ["--device", "cpu", "--epochs", "2", "--dataset", str(ratings_file), "--json",
             str(json_file), "--steps", "once", "again", "mirrored", "float32_products"]
    monkeypatch.setattr(sys, "argv", ["gpu", *flags])
    processes = SimpleNamespace(Popen=start_step, TimeoutExpired=subprocess.TimeoutExpired)
    monkeypatch.setattr(gpu, "subprocess", processes)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")  # as it sets it
    monkeypatch.chdir(ROOT)
    gpu.main()  # whose steps are processes
    figures = json.loads(json_file.read_text("utf-8"))
    assert not [name for name in figures if name.endswith("_failed")]
    assert figures["again_equals_once"] and (figures["device"], figures["gpus"]) == ("cpu", 0)
    assert (figures["once_replicas"], figures["mirrored_replicas"]) == (1, 2)
    assert figures["mirrored_largest_difference"] < 1e-4
    assert 0 < figures["float32_products_share"]


def test_what_an_archive_lacks_or_gives_away_is_seen(tmp_path):
    metrics = {1: {"epoch": 1.0, "test_rmse": 0.9}, 2: {"epoch": 2.0, "test_rmse": 0.8}}
    logged = [(1, "test/rmse", 0.9), (2, "test/rmse", 0.7)]
    fields = ("epoch", "metricName", "metricValue")
    payloads = [{"metric": dict(zip(fields, one, strict=True))} for one in logged]
    lines = [json.dumps({"type": "metric_msg", "payload": payload}) for payload in payloads]
    with zipfile.ZipFile(tmp_path / "comet.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("messages.json", "\n".join(lines))
        archive.writestr("experiment.json", f"key {KEY}")
    assert archived_epochs(tmp_path / "comet.zip", metrics) == 1
    assert archived_epochs(tmp_path / "none.zip", metrics) is None
    assert leaking_files(tmp_path) == ["comet.zip/experiment.json"]


def test_no_benchmark_imports_a_test_and_no_fault_script_a_benchmark():
    for folder, forbidden in (("benchmarks", "tests"), ("tests/faults", "benchmarks")):
        for path in (ROOT / folder).glob("*.py"):
            imported = re.findall(
                r"^\s*(?:from|import) (\w+)", path.read_text("utf-8"), re.MULTILINE
            )
            assert forbidden not in imported, path


def test_what_benchmarks_leave_lies_beside_them():
    left = ROOT / "benchmarks" / "results"
    assert decay_rate.FOLDER.parent == paper_tables.FOLDER.parent == left
    assert fold_in.SUMMARY.parents[1] == left


def test_the_table_of_folding_in_is_means_over_seeds(tmp_path):
    path = tmp_path / "summary.csv"
    for seed, trained, folded in ((1, 0.8, 0.9), (2, 0.9, 1.0)):
        row = dict.fromkeys(fold_in.COLUMNS, 0.0) | {"rmse_trained_with_them": trained}
        row |= {"model": "user", "seed": seed, "new": "users", "are": "rows"}
        fold_in.append(path, row | {"rmse_folded_in": folded})
    *_, line = fold_in.table(path).splitlines()
    assert line == "| U-AutoRec | users (rows) | 0.8500 | 0.9500 | 2 |"
