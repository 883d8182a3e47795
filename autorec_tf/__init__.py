"""AutoRec for TensorFlow, from Python.

    from autorec_tf import load, train

    model = train(ratings, hidden_neuron=100, train_epoch=200)   # pandas: user, item, rating
    model.predict(users, items)                                  # float64 array
    model.recommend("ann", n=10)                                 # DataFrame
    model.save("model.npz")
    load("model.npz").similar("Alien")

The settings are those of `python main.py --help`, and so are the results, to the last bit. Only
`save` writes. Mistakes raise `UserError`, of one line. Importing this package does not import
TensorFlow; training starts it as main.py does: from then on, your own random operations in this
process need a seed.
"""

import importlib
from importlib.util import find_spec
from pathlib import Path

# The modules beside this package, by whose names other modules go, too.
BESIDE = ("AutoRec", "data_preprocessor")
# The modules that define what this one offers.
LAZY = {
    "AutoRecModel": "autorec_tf.estimator",
    "Diverged": "autorec_tf.system.errors",
    "UserError": "autorec_tf.system.errors",
    "load": "autorec_tf.estimator",
    "train": "autorec_tf.train_api",
}
__all__ = ["AutoRecModel", "Diverged", "UserError", "load", "train"]


def refuse_foreign_modules() -> None:
    """Raise ImportError if a module by the name of one of ours comes before it on the path."""
    for name in BESIDE:
        ours = Path(__file__).resolve().parent.parent / f"{name}.py"
        spec = find_spec(name)
        origin = spec and spec.origin and Path(spec.origin).resolve()
        if origin and origin != ours:
            raise ImportError(
                f"{origin} is imported in place of {ours}: rename it, or run Python in another "
                "folder"
            )


def __getattr__(name: str) -> object:
    if name not in LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(LAZY[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


refuse_foreign_modules()
