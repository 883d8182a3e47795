"""The notebook runs, cell by cell, and its last expressions are what it is there to show."""

import ast
import json
from pathlib import Path

import pandas as pd

from tests.finished import make_run

NOTEBOOK = Path(__file__).resolve().parent.parent / "recommend.ipynb"


def test_every_cell_runs_and_shows_a_table(tmp_path, monkeypatch):
    monkeypatch.setattr("serving.fold_in.MAX_STEPS", 3)
    made = make_run(tmp_path)
    notebook = json.loads(NOTEBOOK.read_text("utf-8"))
    sources = ["".join(x["source"]) for x in notebook["cells"] if x["cell_type"] == "code"]
    names, shown = {}, []
    for source in sources:
        *body, last = ast.parse(source).body
        if not isinstance(last, ast.Expr):
            body, last = [*body, last], None
        exec(compile(ast.Module(body, []), "notebook", "exec"), names)
        if last:
            shown.append(eval(compile(ast.Expression(last.value), "notebook", "eval"), names))
        else:
            names |= {"RUN": made.folder, "DATA": str(made.data)}
    assert [type(each) for each in shown[1:]] == [pd.DataFrame] * 5
    assert [len(each) for each in shown[1:]] == [10, 10, 2, 6, 5]


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
