"""Confidence intervals of means, and paired differences, with Student's t."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# scipy is imported where it is used: most runs do not need its 30 MB of memory.


@dataclass(frozen=True)
class PairedDifference:
    """The difference of two measures of the same pairs, half its 95 % interval, and the two-sided p
    value."""

    num_pairs: int
    difference: float
    half: float
    p_value: float


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval, or nan for a single value."""
    if len(values) < 2:
        return values[0], float("nan")
    from scipy.special import stdtrit

    quantile = stdtrit(len(values) - 1, 0.975)
    return statistics.fmean(values), quantile * statistics.stdev(values) / len(values) ** 0.5


def paired_difference(values: Sequence[float] | np.ndarray,
                      others: Sequence[float] | np.ndarray) -> PairedDifference:
    """Return the mean difference of `values` from `others`, two or more pairs in the same order."""
    return by_student(len(values), *mean_difference(values, others))


def paired_rmse_difference(errors: np.ndarray, others: np.ndarray) -> PairedDifference:
    """Return the difference of the RMSEs of two models: RMSE(errors) - RMSE(others). The errors,
    float [pairs], are those of the same ratings in the same order."""
    return by_student(len(errors), *rmse_difference(errors, others))


def mean_difference(values: Sequence[float] | np.ndarray,
                    others: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the mean difference of pairs, and its standard error (nan for a single pair)."""
    differences = np.asarray(values, np.float64) - np.asarray(others, np.float64)
    if len(differences) < 2 or not np.ptp(differences):  # exact, without rounding of the mean
        return float(differences[0]), 0.0 if len(differences) > 1 else float("nan")
    error = differences.std(ddof=1) / len(differences) ** 0.5
    return float(differences.mean()), float(error)


def rmse_difference(errors: np.ndarray, others: np.ndarray) -> tuple[float, float]:
    """Return RMSE(errors) - RMSE(others), float [pairs], and its standard error.

    The difference equals that of the mean squared errors, divided by the sum of the RMSEs. The
    standard error is that of the mean squared errors, divided by the same sum.
    """
    squares, other_squares = (np.asarray(x, np.float64) ** 2 for x in (errors, others))
    mean, error = mean_difference(squares, other_squares)
    total = float(np.sqrt(squares.mean()) + np.sqrt(other_squares.mean()))
    return (mean / total, error / total) if total else (0.0, 0.0)


def by_student(number: int, difference: float, error: float) -> PairedDifference:
    """Return a difference of `number` pairs with its standard `error`, tested by Student's t."""
    from scipy.special import stdtr, stdtrit

    half = float(stdtrit(number - 1, 0.975)) * error
    p_value = 2 * float(stdtr(number - 1, -abs(difference) / error)) if error else float(
        difference == 0)
    return PairedDifference(number, difference, half, p_value)
