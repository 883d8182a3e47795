"""The server of tests/forks.py. It imports before it forks; TensorFlow has no thread then."""

from autorec_tf.system.runtime import import_tensorflow

import_tensorflow()
import gc  # noqa: E402
import socket  # noqa: E402
import sys  # noqa: E402

import scipy.io  # noqa: E402, F401
import scipy.sparse  # noqa: E402, F401

import autorec_tf.model.sparse_engine  # noqa: E402, F401
import autorec_tf.records.run_records  # noqa: E402, F401
from tests import forks  # noqa: E402

if __name__ == "__main__":
    gc.freeze()  # or every fork would collect what it has imported
    forks.serve(socket.socket(fileno=int(sys.argv[1])))
