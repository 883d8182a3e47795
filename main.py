"""Train AutoRec and record the run.

    python main.py                            # item-based AutoRec on MovieLens-1M, 500 epochs
    python main.py --preset paper --num_splits 5
    python main.py --resume results/<run>     # what was interrupted goes on
    python main.py --help                     # every setting and its default

Leaves a folder under results/ and a Comet experiment (an offline archive without an API key).
Exit codes: 0 finished, 2 unusable input or folder, 130 or 143 ended by Ctrl-C or SIGTERM with its
records written.
"""

import signal
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from config import Config, parse_arguments
from data.ratings import Ratings
from data_preprocessor import load_ratings, plain_name
from records.comet import require_key
from records.progress import tell
from records.repeated_runs import SplitsFolder
from records.run_folder import default_name
from run import run_split
from system.errors import run_program
from system.interruption import Interruption
from system.runtime import share_freed_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code."""
    config = parse_arguments(arguments)
    return run_program("main.py", lambda: run(config))


def run(config: Config) -> int:
    """Load the ratings and run one split of them, or several. Raises UserError for unusable
    input."""
    started = time.perf_counter()
    share_freed_memory()
    if config.comet == "online":
        require_key()
    ratings = load_ratings(config, tell)
    config = resolve(config, ratings)
    with Interruption() as interruption:
        if config.num_splits == 1:
            run_split(config, ratings, interruption, started)
        else:
            run_splits(config, ratings, interruption)
    return 128 + interruption.number if interruption.requested else 0


def resolve(config: Config, ratings: Ratings) -> Config:
    """`config` with what it left open filled in, so that the record says what was done."""
    split_seed = config.random_seed if config.split_seed is None else config.split_seed
    test_file = config.test_file and plain_name(config.test_file)  # paths tell of a machine
    return replace(
        config, dataset=ratings.name, split_seed=split_seed, test_file=test_file,
        rating_scale=ratings.scale,
    )  # fmt: skip


def run_splits(config: Config, ratings: Ratings, interruption: Interruption) -> None:
    """Run `num_splits` splits with consecutive seeds, and put a table over them.

    A split that an earlier run of the same command finished is not run again, and one that it
    began is gone on with.
    """
    config = replace(config, run_name=config.run_name or default_name(config))
    with closing(SplitsFolder(config, ratings.fingerprint)) as folder:
        for number in range(config.num_splits):
            one = replace(
                config,
                num_splits=1,
                random_seed=config.random_seed + number,
                split_seed=config.split_seed + number,
                results_dir=str(folder.path),
                run_name=f"split_{config.split_seed + number}",
            )
            summary = folder.finished(one)
            if summary:
                tell(f"{one.run_name} is finished: test RMSE {summary['final_test_rmse']:.4f}")
            else:
                one = folder.unfinished(one)
                summary = run_split(one, ratings, interruption, time.perf_counter())
            if interruption.requested:
                return
            folder.add(one, summary)
        tell(folder.table())


def stop(number: int, _: object) -> None:
    """Before there is a run to finish, SIGTERM is no more than a Ctrl-C."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    sys.exit(main())
