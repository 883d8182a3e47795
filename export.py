"""Export a finished run, to be served or passed on without its ratings.

    python export.py results/<run>                       # to results/<run>/export
    python export.py results/<run> --output models/movies

The folder, which must be new and appears only when it is whole, holds

    autorec/1/saved_model.pb ...    a SavedModel in TensorFlow Serving's layout
    autorec.npz                     every parameter, see serving/npz.py

Signatures of the SavedModel; ids are int64 or string, as in the ratings:

    predict, serving_default    user [pairs], item [pairs] -> rating float32 [pairs], known bool
    all_items                   user [users] -> rating float32 [users, items], item [items]

A rating is within the scale; where user or item has no training rating (`known` is false), it is
what the run predicted of such pairs.
`all_items` leaves nothing out: who asks knows what the user has rated.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autorec_tf.command_line import Parser, add_data_flags
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.runtime import leave, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("export.py", lambda: export(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("export.py", description="Export a finished run.", allow_abbrev=False)
    parser.add_argument("run", help="a run folder, as results/quick")
    parser.add_argument("--output", metavar="FOLDER", help="a new folder (default: RUN/export)")
    add_data_flags(parser)
    return parser.parse_args(arguments)


def export(given: argparse.Namespace) -> None:
    """Export a run. Raises UserError if it cannot be read, or the folder cannot be made."""
    target = Path(given.output or Path(given.run) / "export")
    refuse_existing(target)
    start_tensorflow()
    from autorec_tf.serving.finished_run import read_run
    from autorec_tf.serving.npz import NAME, write_npz
    from autorec_tf.serving.saved_model import save

    run = read_run(given.run, given.data_dir, given.dataset, given.test_file)
    recommender = run.recommender()
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            whole = Path(folder) / "export"
            whole.mkdir()
            write_npz(whole / NAME, run, recommender)
            save(recommender, whole / "autorec" / "1")
            refuse_existing(target)
            os.rename(whole, target)
    except OSError as error:
        raise UserError(f"cannot write {target} ({error.strerror or error}): choose another "
                        "--output") from error
    print_line(f"Exported to {target}: autorec/1 for TensorFlow, autorec.npz for NumPy and "
               "recommend.py.\nNeither holds a rating; whether they may be passed on is for the "
               "data's terms to say.")


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target} already exists and is never overwritten: choose another "
                        "--output")


if __name__ == "__main__":
    leave(main())
