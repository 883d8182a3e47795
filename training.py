"""The epochs of a run: train, evaluate, measure."""

import time
from collections.abc import Iterator

from AutoRec import AutoRec, sparse_rows
from config import Config
from data_preprocessor import Split
from records import EpochMetrics
from scoring import cold_pairs, score
from streams import random_stream


def epochs(
    model: AutoRec, split: Split, scale: tuple[float, float], config: Config
) -> Iterator[EpochMetrics]:
    """Train `model` on `split.train` for `config.train_epoch` epochs and yield each one's metrics.

    Every `display_step` epochs, and after the last, the test ratings are predicted from the
    training ratings and scored.
    """
    train, test = sparse_rows(split.train), split.test
    cold = cold_pairs(split.train, test.rows, test.indices)
    started = time.perf_counter()
    for epoch in range(1, config.train_epoch + 1):
        epoch_started = time.perf_counter()
        learning_rate = config.learning_rate(epoch)
        order = random_stream(config.random_seed, "shuffle", epoch).permutation(test.num_rows)
        cost, train_rmse = model.train_epoch(train, order, learning_rate)
        scores = None
        if epoch % config.display_step == 0 or epoch == config.train_epoch:
            predictions = model.predict(train, test.rows, test.indices)
            scores = score(predictions, test.values, cold, scale)
        now = time.perf_counter()
        yield EpochMetrics(
            epoch=epoch,
            learning_rate=learning_rate,
            train_cost=cost,
            train_rmse=train_rmse,
            test_cost=scores and scores.squared_error,
            test_rmse=scores and scores.rmse,
            test_mae=scores and scores.mae,
            epoch_seconds=round(now - epoch_started, 4),
            elapsed_seconds=round(now - started, 4),
        )
