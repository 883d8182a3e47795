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
from importlib.util import find_spec
from pathlib import Path

# Our modules outside this package, whose names other modules might have, too.
TOP_LEVEL = ("AutoRec", "data_preprocessor")
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


def refuse_foreign_modules() -> None:
    """Raise ImportError if another module with the name of one of ours precedes it on the path."""
    for name in TOP_LEVEL:
        ours = Path(__file__).resolve().parent.parent / f"{name}.py"
        spec = find_spec(name)
        origin = spec and spec.origin and Path(spec.origin).resolve()
        if origin and origin != ours:
            raise ImportError(
                f"{origin} would be imported instead of {ours}. Rename it, or run Python in "
                "another folder."
            )


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


refuse_foreign_modules()
