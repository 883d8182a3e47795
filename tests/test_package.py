"""The installed package: its contents, and other people's modules beside it."""

import os
import re
import shutil
import subprocess
import sys

import pytest

import autorec_tf
from tests.conftest import REPOSITORY
from tests.facts import assert_names
from tests.forks import Fork

QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3"}
FOREIGN = ("config.py", "model.py", "data/__init__.py", "system/__init__.py", "estimator.py")


def run(code, cwd, path):
    """Run Python in the folder `cwd`, with `path` behind it on the path of modules."""
    return subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, env=os.environ | QUIET | {"PYTHONPATH": str(path)},
        capture_output=True, text=True,
    )


@pytest.fixture
def project(tmp_path):
    """A folder with modules of somebody else, by names that many projects have."""
    folder = tmp_path / "project"
    for name in FOREIGN:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("raise SystemExit('foreign')\n", encoding="utf-8")
    return folder


def python_example():
    """README's first Python block, and a file of ratings for it."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    code = next(c for c in re.findall(r"```python\n(.*?)```", readme, re.S) if "read_csv" in c)
    users = ["ann", "bob", *(f"user {i}" for i in range(18))]
    items = ["Alien", "Heat", *(f"film {i}" for i in range(18))]
    lines = [f"{user},{item},{1 + (i * j) % 5}" for i, user in enumerate(users)
             for j, item in enumerate(items) if (i + 2 * j) % 3 or i < 2 > j]
    quick = code.replace('preset="single"', 'preset="single", train_epoch=2')
    assert quick != code
    return quick, "\n".join(["user,item,rating", *lines])


@pytest.mark.slow
def test_the_wheel_runs_the_readmes_example_beside_modules_of_the_same_names(project, tmp_path):
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True,
                             text=True, check=True).stdout.split("\0")
    wanted = ("autorec_tf/", "AutoRec.py", "data_preprocessor.py", "pyproject.toml", "README.md",
              "requirements.txt", "LICENSE")
    source = tmp_path / "source"
    for name in (name for name in tracked if name.startswith(wanted)):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    site = tmp_path / "site"  # what is in the wheel that pip builds and installs
    subprocess.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "-q", "install",
                    "--no-compile", "--no-deps", "--no-build-isolation", "--target", site, source],
                   check=True)
    (_,) = site.glob("autorec_tensorflow-*.dist-info")
    top = {path.name for path in site.iterdir() if path.suffix != ".dist-info"}
    assert top == {"autorec_tf", "AutoRec.py", "data_preprocessor.py"}
    assert {"report.html", "report.css"} <= set(os.listdir(site / "autorec_tf" / "records"))

    code, ratings = python_example()
    (project / "ratings.csv").write_text(ratings, encoding="utf-8")
    done = run(f"{code}\nimport autorec_tf; print(autorec_tf.__file__)", project, site)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == str(site / "autorec_tf" / "__init__.py")


@pytest.mark.parametrize("name", ["AutoRec.py", "data_preprocessor.py"])
def test_a_foreign_module_by_the_name_of_ours_is_refused_in_one_line(name, tmp_path):
    (tmp_path / name).write_text("", encoding="utf-8")
    done = run("import autorec_tf", tmp_path, REPOSITORY)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert str(tmp_path / name) in last and str(REPOSITORY / name) in last


@pytest.mark.parametrize("script", ["main", "compare", "recommend", "export"])
def test_missing_packages_are_named_in_one_line(script, tmp_path):
    path = REPOSITORY / f"{script}.py"
    done = subprocess.run([sys.executable, "-S", path, "--help"], cwd=tmp_path, text=True,
                          capture_output=True, check=False)  # -S: without installed packages
    assert (done.returncode, done.stdout) == (2, "") and len(done.stderr.splitlines()) == 1
    assert_names(done.stderr, path.name, "tensorflow", "pandas", "requirements.txt")


def test_an_old_python_is_refused(monkeypatch):
    monkeypatch.setattr(autorec_tf, "OLDEST", (3, 99))
    with pytest.raises(ImportError, match="3.99") as refused:
        autorec_tf.refuse_incomplete_installation()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in str(refused.value)


def test_importing_the_package_imports_neither_tensorflow_nor_pandas(project):
    code = "import sys, autorec_tf; print({'tensorflow', 'pandas', 'numpy'} & set(sys.modules))"
    done = run(code, project, REPOSITORY)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_what_the_package_offers_is_what_its_modules_define(project):
    code = ("import sys; sys.path.insert(0, '')\n"
            "from autorec_tf import AutoRecModel, Diverged, UserError, load, train\n"
            "import autorec_tf.train_api, autorec_tf.estimator, autorec_tf\n"
            "assert autorec_tf.train is train is autorec_tf.train_api.train\n"
            "assert autorec_tf.load is load and issubclass(Diverged, UserError)\n"
            "assert set(autorec_tf.__all__) <= set(dir(autorec_tf))")
    process = Fork(["-c", code], project, {**os.environ})
    assert process.wait() == 0, process.communicate()
