"""What the server of tests/forks.py imports before it forks; TensorFlow has no thread then."""

from autorec_tf.system.runtime import import_tensorflow

import_tensorflow()
import autorec_tf.records.run_records  # noqa: E402, F401
