"""The plan of the house: who may import whom, where, and no circle."""

import ast
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGE = "autorec_tf"
FOLDERS = ("data", "model", "training", "evaluation", "records", "serving", "system")
SCRIPTS = {"main", "recommend", "export", "compare"}


def short(name):
    """A module's name without that of the package."""
    return name.removeprefix(f"{PACKAGE}.")


class Trees(Mapping):
    """The syntax tree of each module. It is parsed when a test asks for it, once, and so in one
    worker of pytest only."""

    paths = {
        short(".".join(path.relative_to(REPOSITORY).with_suffix("").parts)): path
        for pattern in ("*.py", f"{PACKAGE}/*.py", f"{PACKAGE}/*/*.py")
        for path in REPOSITORY.glob(pattern)
    }

    def __getitem__(self, name):
        return parsed(self.paths[name])

    def __contains__(self, name):
        return name in self.paths

    def __iter__(self):
        return iter(self.paths)

    def __len__(self):
        return len(self.paths)


@cache
def parsed(path):
    return ast.parse(path.read_text("utf-8"))


MODULES = Trees()
FLOORS = {
    "system": {"system"},
    "__init__": {"system"},
    "presets": {"system"},
    "config": {"presets", "system"},
    "resolution": {"presets", "config", "system"},
    "keywords": {"config", "system"},
    "data": {"data", "system"},
    "evaluation": {"evaluation", "data.ratings", "model.factors", "system"},
    "model": {"model", "config", "data.ratings", "system"},
    "AutoRec": {"model", "data.ratings", "config", "system"},
    "data_preprocessor": {"presets", "config", "resolution", "data", "system"},
    "training": {"training", "AutoRec", "model", "evaluation", "data.ratings", "config", "system"},
    "records": {"records", "evaluation", "data.ratings", "presets", "config", "resolution",
                "system"},
    "command_line": {"presets", "config", "resolution", "records.run_folder", "system"},
    "lambda_search": {"training", "AutoRec", "model", "evaluation", "data_preprocessor",
                      "data.ratings", "presets", "config", "system"},
    "experiments": {"lambda_search", "training", "AutoRec", "model", "evaluation",
                    "data_preprocessor", "data.ratings", "presets", "config", "resolution",
                    "system"},
    "warm_start": {"model.parameters", "data", "config", "system"},
    "serving": {"serving", "warm_start", "experiments", "training", "AutoRec", "model",
                "evaluation", "data", "data_preprocessor", "records.run_folder", "config",
                "resolution", "system"},
    "train_run": {"serving", "warm_start", "experiments", "model", "data", "data_preprocessor",
                  "records.progress", "records.console", "keywords", "config", "resolution",
                  "system"},
    "estimator": {"train_run", "serving", "data", "keywords", "resolution", "config", "system"},
    "train_api": {"estimator", "train_run", "data", "data_preprocessor", "records.console",
                  "keywords", "config", "resolution", "system"},
}
WITH_TENSORFLOW = {"AutoRec", "training.epochs", "training.pretraining",
                   "training.records", "training.trainer", "lambda_search", "experiments",
                   "train_run", "train_api",
                   "records.checkpoint", "records.tensorboard", "records.run_records"}
OPTIONAL = {"numba", "pyarrow", "scipy", "comet_ml", "everett", "resource"}  # or heavy and rare
NUMBA = {"model.sparse_engine"}  # which imports it at its top
# What a model imports when it is trained further, because it imports TensorFlow.
LATE = {"estimator": {"train_run"}}


@cache  # several tests look at one tree
def imports_of(tree):
    """(module, names, whether it stands at the top) of each import, ours by their full name."""
    return [*each_import(tree)]


def each_import(tree):
    """Yield what `imports_of` returns."""
    top = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, id(node) in top) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            below = [short(f"{node.module}.{alias.name}") for alias in node.names]
            yield from ((name, id(node) in top) for name in below if name in MODULES)
            yield short(node.module), id(node) in top


def ours(module):
    return {name for name, _ in imports_of(MODULES[module]) if name in MODULES}


@cache
def typing_only(tree):
    """The modules that are imported for type hints alone."""
    blocks = (node for node in ast.walk(tree) if isinstance(node, ast.If))
    typing = (block for block in blocks if "TYPE_CHECKING" in ast.dump(block.test))
    return {name for block in typing for name, _ in imports_of(block)}


def test_a_module_imports_only_what_its_floor_may():
    wrong = [
        (module, name) for module in set(MODULES) - SCRIPTS
        for name in ours(module) - typing_only(MODULES[module])
        if not {name, name.split(".")[0]} & FLOORS[module.split(".")[0]]
    ]
    assert wrong == []


def test_nobody_imports_a_script():
    assert {name for module in MODULES for name in ours(module)} & SCRIPTS == set()


def test_no_import_leads_in_a_circle():
    left = {module: ours(module) - typing_only(MODULES[module]) - {module} for module in MODULES}
    while free := [module for module, imported in left.items() if not imported & set(left)]:
        for module in free:
            del left[module]
    assert left == {}


def test_no_circle_of_folders():
    floors = {module: module.split(".")[0] for module in MODULES}
    arrows = {
        (floors[module], floors[name])
        for module in MODULES for name in ours(module) - typing_only(MODULES[module])
        if name != "model.factors"  # the one that evaluation takes, and that takes nothing
    }
    left = {floor: {b for a, b in arrows if a == floor} - {floor} for floor in floors.values()}
    while free := [floor for floor, below in left.items() if not below & set(left)]:
        for floor in free:
            del left[floor]
    assert left == {}


def starting_tensorflow():
    """The modules whose import imports TensorFlow."""
    at_top = {module: {name for name, is_at_top in imports_of(tree) if is_at_top}
              for module, tree in MODULES.items()}
    found = {"tensorflow"}
    while more := {module for module, names in at_top.items() if module not in found
                   and found & {*names, *(name.split(".")[0] for name in names)}}:
        found |= more
    return found - {"tensorflow"}


def test_tensorflow_is_imported_where_the_plan_says():
    importing = starting_tensorflow()
    allowed = WITH_TENSORFLOW | {m for m in MODULES if m.startswith(("model.", "serving."))}
    assert importing <= allowed
    assert {m for m in importing if m.startswith("serving.")} == {"serving.finished_run",
                                                                 "serving.saved_model"}
    assert "model.factors" not in importing


def test_late_imports_are_tensorflows_or_optional():
    for module in set(MODULES) - SCRIPTS:
        late = {name for name, at_top in imports_of(MODULES[module]) if not at_top}
        late -= typing_only(MODULES[module]) | LATE.get(module, set())
        late -= {"tensorflow"} if module in ("system.runtime", "system.distribution") else set()
        assert {name.split(".")[0] for name in late} <= OPTIONAL | {"model"} and all(
            name in NUMBA for name in late if name in MODULES
        ), module


def test_a_script_imports_late_in_one_block_after_its_arguments_are_parsed():
    for script in SCRIPTS:
        functions = functions_of(MODULES[script])
        assert sum(any(imports_of(function)) for function in functions) <= 1, script


def test_every_folder_has_a_door_of_one_docstring():
    for folder in (*FOLDERS, "tests", "benchmarks"):
        path = f"{PACKAGE}/{folder}" if folder in FOLDERS else folder
        tree = ast.parse((REPOSITORY / path / "__init__.py").read_text("utf-8"))
        assert len(tree.body) == 1 and ast.get_docstring(tree), folder


def test_the_root_has_six_modules():
    assert {path.stem for path in REPOSITORY.glob("*.py")} == SCRIPTS | {
        "AutoRec", "data_preprocessor"
    }


def functions_of(tree):
    return [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]


def test_the_loop_stands_in_one_function_of_main_three_frames_down():
    functions = {f.name: f for f in functions_of(MODULES["main"])}
    (loop,) = [f for f in functions.values() if "train_epochs" in ast.dump(f)]
    assert loop.end_lineno - loop.lineno + 1 <= 45
    calls = {
        name: {n.func.id for n in ast.walk(f) if isinstance(n, ast.Call) and hasattr(n.func, "id")}
        for name, f in functions.items()
    }
    assert loop.name in calls["run"] and "run" in calls["main"]


def test_no_function_is_longer_than_a_screen():
    longest = {
        f"{module}.{f.name}": f.end_lineno - f.lineno + 1
        for module, tree in MODULES.items() for f in functions_of(tree)
    }
    assert {name: lines for name, lines in longest.items() if lines > 60} == {}


def test_benchmarks_and_tests_do_not_import_each_other():
    for path in REPOSITORY.glob("benchmarks/*.py"):
        assert not re.search(r"^\s*(from|import) tests\b", path.read_text("utf-8"), re.M), path
    for path in Path(REPOSITORY, "tests", "faults").glob("*.py"):
        assert not re.search(r"^\s*(from|import) benchmarks\b", path.read_text("utf-8"), re.M), path
