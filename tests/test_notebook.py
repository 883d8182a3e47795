"""The notebooks run, cell by cell, and their last expressions are what they are there to show."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.conftest import files_below
from tests.finished import make_run

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = ["recommend.ipynb", "train.ipynb"]


def shown_by(name, settings):
    """What the cells of a notebook show. The first one shows nothing, and `settings` are set after
    it."""
    notebook = json.loads((ROOT / name).read_text("utf-8"))
    sources = ["".join(x["source"]) for x in notebook["cells"] if x["cell_type"] == "code"]
    names, shown = {}, []
    for number, source in enumerate(sources):
        *body, last = ast.parse(source).body
        if not number or not isinstance(last, ast.Expr):
            body, last = [*body, last], None
        exec(compile(ast.Module(body, []), "notebook", "exec"), names)
        if last:
            shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
        if not number:
            names |= settings
    return shown


@pytest.mark.eager
def test_a_finished_run_shows_a_table_in_every_cell(tmp_path):
    made = make_run(tmp_path)
    _, *shown = shown_by("recommend.ipynb", {"RUN": made.folder, "DATA": str(made.data)})
    assert [type(each) for each in shown] == [pd.DataFrame] * 5
    assert [len(each) for each in shown] == [10, 10, 2, 6, 5]


def test_training_on_a_frame_shows_that_tastes_are_learned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    head, model, scores, liked, alike, pairs, new, again = shown_by("train.ipynb", {})
    assert len(head) == 5 and model.test_rmse == scores["final_test_rmse"]
    assert scores["final_test_rmse"] < scores["biases_test_rmse"]
    assert liked["item"].str.startswith("Horror").all() and len(liked) == 5
    assert alike["item"].str.startswith("Western").all() and len(alike) == 5
    assert pairs[0] > pairs[2] > pairs[1]
    assert new["item"].str.startswith("Western").all() and len(new) == 5
    pd.testing.assert_frame_equal(again, liked, check_exact=True)
    assert files_below(tmp_path) == []


IMPORTED = """
import json, os, sys
import autorec_tf
from autorec_tf.system.runtime import STDERR
class Watch:
    def find_spec(name, *_):
        if name == "tensorflow":
            os.write(1, b"held" if STDERR != [2] else b"shown")
            os._exit(0)
sys.meta_path.insert(0, Watch)
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]))
"""


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_log_of_tensorflow_is_held_back_where_a_notebook_imports_it(name):
    done = subprocess.run([sys.executable, "-c", IMPORTED, name], cwd=ROOT, capture_output=True)
    assert (done.stdout.split(b"\n")[-1], done.stderr) == (b"held", b"")


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_is_kept_without_outputs(name):
    cells = json.loads((ROOT / name).read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
