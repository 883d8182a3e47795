"""Convert keyword arguments of the Python API to settings."""

import difflib
import reprlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, get_args, get_origin

import numpy as np

from autorec_tf.config import flag_fields, is_of, setting_types
from autorec_tf.system.errors import UserError, without_dashes


def as_setting(name: str, value: Any) -> Any:
    """Return a keyword argument with the type of the setting in `Config`.

    Lists become tuples, and NumPy numbers become Python numbers. Raise UserError for an
    unknown setting or a value of another type.
    """
    names = [f.name for f in flag_fields()]
    if name not in names:
        close = "".join(f", but {each} is" for each in difflib.get_close_matches(name, names, 1))
        raise UserError(f"{name} is not a setting{close}. See python main.py --help for all "
                        "settings.")
    hint = setting_types()[name]
    try:
        plain = as_plain(value, hint, joined=name in ("columns", "test_columns"))
    except (TypeError, ValueError):
        plain = value
    if not is_of(plain, hint):
        kind = hint if get_args(hint) else hint.__name__
        raise UserError(f"{name} {reprlib.repr(value)}: must be of type {kind}")
    return plain


def as_plain(value: Any, hint: Any, joined: bool = False) -> Any:
    """Return `value` with Python's types, converted to the type `hint` if possible. Several values
    become a tuple, or with `joined` one text with commas."""
    plain = np.asarray(value).tolist()
    if isinstance(plain, list) and joined:
        return ",".join(map(str, plain))
    if get_origin(hint) is tuple:
        values, (kind, *_) = plain if isinstance(plain, list) else [plain], get_args(hint)
        # Numbers in no_rating become text, as on the command line.
        return tuple(values if kind is int else map(kind, values))
    return float(plain) if type(plain) is int and float in (hint, *get_args(hint)) else plain


@contextmanager
def python_words() -> Iterator[None]:
    """Re-raise a UserError without the traceback of its cause, and with argument names in place of
    flags."""
    try:
        yield
    except UserError as error:
        raise type(error)(without_dashes(str(error))) from None
