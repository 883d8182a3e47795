"""The epochs of a run: train, evaluate, measure."""

import time
from collections.abc import Callable, Iterator

from AutoRec import AutoRec
from batch import SparseRows, sparse_rows
from data_preprocessor import RatingMatrix, Split
from records import EpochMetrics
from scoring import Scores, cold_pairs, score
from streams import random_stream


def epochs(
    model: AutoRec, split: Split, reconstruction: Callable[[], Scores] | None = None
) -> Iterator[EpochMetrics]:
    """Train `model` on `split.train` for `train_epoch` epochs and yield each one's metrics.

    Every `display_step` epochs, and after the last, the test and validation ratings are predicted
    from the training ratings and scored. With validation ratings, training stops after
    `patience` epochs without a new lowest validation RMSE (0: never), and leaves the model, when
    this iterator ends or is closed, as it was at the lowest. `reconstruction` is the leaking
    measure of experiments.py, if that is to be recorded beside.
    """
    config, train = model.config, sparse_rows(split.train)
    test = HeldOut(model, split, split.test)
    validation = split.validation and HeldOut(model, split, split.validation)
    best = Best(model)
    started = time.perf_counter()
    try:
        for epoch in range(1, config.train_epoch + 1):
            epoch_started = time.perf_counter()
            learning_rate = config.learning_rate(epoch)
            order = random_stream(config.random_seed, "shuffle", epoch)
            cost, train_rmse = model.train_epoch(
                train, order.permutation(split.train.num_rows), learning_rate
            )
            evaluate = epoch % config.display_step == 0 or epoch == config.train_epoch
            scores = test(train) if evaluate else None
            held_out = validation(train) if evaluate and validation else None
            leaking = reconstruction() if evaluate and reconstruction else None
            if held_out:
                best.keep(epoch, held_out.rmse)
            now = time.perf_counter()
            yield EpochMetrics(
                epoch=epoch,
                learning_rate=learning_rate,
                train_cost=cost,
                train_rmse=train_rmse,
                test_cost=scores and scores.squared_error,
                test_rmse=scores and scores.rmse,
                test_mae=scores and scores.mae,
                validation_rmse=held_out and held_out.rmse,
                reconstruction_rmse_test_ratings_as_input=leaking and leaking.rmse,
                epoch_seconds=round(now - epoch_started, 4),
                elapsed_seconds=round(now - started, 4),
            )
            if held_out and config.patience and epoch - best.epoch >= config.patience:
                break
    finally:
        best.restore()


class HeldOut:
    """Scores of a model's predictions of the `held_out` ratings of a split."""

    def __init__(self, model: AutoRec, split: Split, held_out: RatingMatrix) -> None:
        self.model, self.held_out = model, held_out
        self.cold = cold_pairs(split.train, held_out.rows, held_out.indices)

    def __call__(self, inputs: SparseRows) -> Scores:
        """Predict from `inputs`, the training ratings, and score."""
        predictions = self.model.predict(inputs, self.held_out.rows, self.held_out.indices)
        return score(predictions, self.held_out.values, self.cold, self.model.scale)


class Best:
    """The epoch of the lowest validation RMSE, and the parameters after it."""

    def __init__(self, model: AutoRec) -> None:
        self.model, self.epoch, self.rmse, self.values = model, 0, float("inf"), None

    def keep(self, epoch: int, rmse: float) -> None:
        if rmse < self.rmse:
            self.epoch, self.rmse = epoch, rmse
            self.values = [x.numpy() for x in self.model.parameters]

    def restore(self) -> None:
        if self.values:
            for parameter, value in zip(self.model.parameters, self.values, strict=True):
                parameter.assign(value)
