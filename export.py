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
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from command_line import Parser
from system.errors import UserError, run_program
from system.runtime import start_tensorflow

# Modules that import TensorFlow are imported in functions, so that --help need not wait for it.


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    given = parse(arguments)
    return run_program("export.py", lambda: export(given.run, given.output, given.data_dir))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser("export.py", description="Export a finished run.", allow_abbrev=False)
    parser.add_argument("run", help="a run folder, as results/quick")
    parser.add_argument("--output", metavar="FOLDER", help="a new folder (default: RUN/export)")
    parser.add_argument("--data_dir", metavar="FOLDER", help="of the ratings, as for main.py")
    return parser.parse_args(arguments)


def export(run_folder: str, output: str | None, data_dir: str | None) -> None:
    """Export the run in `run_folder`. Raises UserError if it cannot be read, or `output` is there
    already or cannot be made."""
    target = Path(output or Path(run_folder) / "export")
    refuse_existing(target)
    start_tensorflow()
    from serving.finished_run import read_run
    from serving.npz import NAME, write_npz
    from serving.saved_model import save

    run = read_run(run_folder, data_dir)
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
        raise UserError(
            f"cannot write {target} ({error.strerror or error}): choose another --output"
        ) from error
    print(
        f"Exported to {target}: autorec/1 for TensorFlow, autorec.npz for NumPy and recommend.py.\n"
        "Neither holds a rating; whether they may be passed on is for the data's terms to say."
    )


def refuse_existing(target: Path) -> None:
    if target.exists():
        raise UserError(
            f"{target} already exists and is never overwritten: choose another --output"
        )


if __name__ == "__main__":
    sys.exit(main())
