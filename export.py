"""Export a finished run without its ratings, for serving or sharing.

    python export.py results/<run>                       # to results/<run>/export
    python export.py results/<run> --output models/movies

The folder must be new, and appears only when it is complete. It holds

    autorec/1/saved_model.pb ...    a SavedModel in TensorFlow Serving's layout
    autorec.npz                     all parameters; autorec_tf/serving/npz.py describes the format

The SavedModel has these signatures; ids are int64 or string, as in the ratings:

    predict, serving_default    user [pairs], item [pairs] -> rating float32 [pairs], known bool
    recommend                   user [users], n int32 [], exclude [users, any]
                                -> item, rating float32 [users, at most n], count int32, known bool
    all_items                   user [users] -> rating float32 [users, items], item [items]

Ratings are within the rating scale. If the user or the item has no training ratings, `known` is
false and the rating follows the run's --cold_rating. `recommend` leaves out the items in `exclude`,
because an export does not know which items a user has rated. `all_items` leaves out nothing.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from autorec_tf.command_line import Parser, add_data_flags
from autorec_tf.data.titles import read_titles
from autorec_tf.system.errors import UserError, run_program
from autorec_tf.system.runtime import leave, start_tensorflow
from autorec_tf.system.terminal import open_streams, print_line

# Modules that import TensorFlow are imported in functions: --help does not wait for TensorFlow.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    open_streams()
    given = parse(arguments)
    return run_program("export.py", lambda: export(given))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("export.py", description="Export a finished run without its ratings, as a "
                    "SavedModel and as autorec.npz.",
                    epilog="example: python export.py results/quick", allow_abbrev=False)
    parser.add_argument("run", help="a run folder, such as results/quick")
    parser.add_argument("--output", metavar="FOLDER", help="new folder for the export (default: "
                        "export in the run folder)")
    add_data_flags(parser)
    return parser.parse_args(arguments)


def export(given: argparse.Namespace) -> None:
    """Export a run. Raise UserError if it cannot be read, or the export cannot be written."""
    target = Path(given.output or Path(given.run) / "export")
    refuse_existing(target)
    start_tensorflow()
    from autorec_tf.serving.finished_run import read_run
    from autorec_tf.serving.npz import NAME, write_npz
    from autorec_tf.serving.saved_model import save

    run = read_run(given.run, given.data_dir, given.dataset, given.test_file)
    recommender = run.recommender(read_titles(run.ratings.name, run.config.ratings_folder()))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".export-", dir=target.parent) as folder:
            complete = Path(folder) / "export"
            complete.mkdir()
            write_npz(complete / NAME, run, recommender)
            save(recommender, complete / "autorec" / "1")
            refuse_existing(target)
            os.rename(complete, target)
    except OSError as error:
        raise UserError(f"cannot write {target} ({error.strerror or error}). Choose another "
                        "--output.") from error
    print_line(f"Exported to {target}: autorec/1 for TensorFlow, autorec.npz for NumPy and "
               "recommend.py.\nThe export holds no ratings. See the data's terms before you share "
               "it.")


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(f"{target} already exists and is never overwritten. Choose another "
                        "--output.")


if __name__ == "__main__":
    leave(main())
