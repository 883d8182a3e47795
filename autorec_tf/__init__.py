"""The Python API of AutoRec for TensorFlow.

    from autorec_tf import load, train

    model = train(ratings, preset="single")   # pandas: user, item, rating
    model.predict(users, items)               # float64 array
    model.recommend("ann", n=10)              # DataFrame
    model.save("model.npz")
    load("model.npz").similar("Alien")

`train` has the settings of `python main.py --help`, and returns the same results to the last bit.
Only `save` writes files, apart from the download of a named dataset. Invalid input raises
`UserError` with a message of one line. Likely mistakes in the ratings, and results that are not
better than biases of users and items, are warnings of the class `AutoRecWarning`.

Importing this package does not import TensorFlow, and a loaded model does not need it. `train`
starts TensorFlow with deterministic operations, as main.py does: afterwards, your own random
operations in this process need a seed.
"""

import importlib
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent
# Our modules outside this package, whose names other modules might have, too.
TOP_LEVEL = ("AutoRec", "data_preprocessor")
PACKAGES = ("tensorflow", "numpy", "pandas", "numba", "scipy", "matplotlib", "jinja2", "filelock")
OLDEST = (3, 11)  # version of Python; TensorFlow has no wheels for 3.14 yet
# The module that defines each public name.
LAZY = {
    "AutoRecModel": "autorec_tf.estimator",
    "AutoRecWarning": "autorec_tf.system.errors",
    "Diverged": "autorec_tf.system.errors",
    "UserError": "autorec_tf.system.errors",
    "load": "autorec_tf.estimator",
    "train": "autorec_tf.train_api",
}
__all__ = ["AutoRecModel", "AutoRecWarning", "Diverged", "UserError", "load", "train"]


def refuse_incomplete_installation() -> None:
    """Refuse a version of Python or an environment in which nothing here can run."""
    if sys.version_info < OLDEST:
        refuse(f"Python {'.'.join(map(str, OLDEST))} to 3.13 is required, and this is Python "
               f"{sys.version_info.major}.{sys.version_info.minor}. Create an environment with a "
               "newer one, and install requirements.txt there.")
    if missing := [name for name in PACKAGES if not find_spec(name)]:
        refuse(f"{', '.join(missing)} must be installed: "
               f"{sys.executable} -m pip install -r {ROOT / 'requirements.txt'}")


def refuse_foreign_modules() -> None:
    """Refuse to start if another module with the name of one of ours precedes it on the path."""
    for name in TOP_LEVEL:
        ours = ROOT / f"{name}.py"
        spec = find_spec(name)
        origin = spec and spec.origin and Path(spec.origin).resolve()
        if origin and origin != ours:
            refuse(f"{origin} would be imported instead of {ours}. Rename it, or run Python in "
                   "another folder.")


def refuse(message: str) -> NoReturn:
    """Raise ImportError, or end one of our scripts with a line on stderr and exit code 2."""
    script = Path(getattr(sys.modules["__main__"], "__file__", None) or ".").resolve()
    if script.parent == ROOT:
        print(f"{script.name}: error: {message}", file=sys.stderr)
        sys.exit(2)
    raise ImportError(message)


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(LAZY[name]), name)
    return value


def __dir__():  # type: ignore[no-untyped-def]  # list[str] is an error in Python 3.8
    return sorted({*globals(), *__all__})


refuse_incomplete_installation()
refuse_foreign_modules()
