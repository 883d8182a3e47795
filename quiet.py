"""TensorFlow without its start-up messages."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


def import_tensorflow() -> ModuleType:
    """Import TensorFlow silently; what it printed is shown after all if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with quiet_stderr():  # its first lines are printed before that level is read
        import tensorflow
    return tensorflow


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Hold back all that is written to file descriptor 2, by native code too; on an exception,
    write it there after all."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            held.seek(0)
            os.write(stderr, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
