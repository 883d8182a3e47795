"""Train AutoRec and record the run.

    python main.py                            # item-based AutoRec on MovieLens-1M, 500 epochs
    python main.py --preset paper --num_splits 5
    python main.py --help                     # every setting and its default

Leaves a folder under results/ and a Comet experiment (an offline archive without an API key).
Exit codes: 0 finished, 2 unusable input, 130 ended by Ctrl-C with its records written.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from config import Config, parse_arguments
from data_preprocessor import Ratings, load_ratings
from errors import run_program
from interruption import Interruption
from records import default_name
from run import run_split
from runtime import share_freed_memory
from splits import SplitsFolder
from tracking import require_key


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
    ratings = load_ratings(config.dataset, config.ratings_folder(), config.random_seed)
    config = resolve(config, ratings)
    with Interruption() as interruption:
        if config.num_splits == 1:
            run_split(config, ratings, interruption, started)
        else:
            run_splits(config, ratings, interruption)
    return 130 if interruption.requested else 0


def resolve(config: Config, ratings: Ratings) -> Config:
    """`config` with what it left open filled in, so that the record says what was done."""
    split_seed = config.random_seed if config.split_seed is None else config.split_seed
    config = replace(config, dataset=ratings.name, split_seed=split_seed)
    return replace(config, run_name=config.run_name or default_name(config))


def run_splits(config: Config, ratings: Ratings, interruption: Interruption) -> None:
    """Run `num_splits` splits with consecutive seeds, and put a table over them.

    A split that an earlier run of the same command finished is not run again.
    """
    folder = SplitsFolder(config, ratings.fingerprint)
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
            print(f"{one.run_name} is finished: test RMSE {summary['final_test_rmse']:.4f}")
        else:
            summary = run_split(one, ratings, interruption, time.perf_counter())
        if interruption.requested:
            return
        folder.add(one, summary)
    print(folder.table())


if __name__ == "__main__":
    sys.exit(main())
