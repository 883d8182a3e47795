"""Confidence intervals of means, and paired differences, with Student's t."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

# scipy is imported where it is used: most runs do not need its 30 MB of memory.


@dataclass(frozen=True)
class PairedDifference:
    """The mean difference of pairs, half its 95 % interval, and the two-sided p value."""

    num_pairs: int
    mean: float
    half: float
    p_value: float


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval, or nan for a single value."""
    if len(values) < 2:
        return values[0], float("nan")
    from scipy.special import stdtrit

    quantile = stdtrit(len(values) - 1, 0.975)
    return statistics.fmean(values), quantile * statistics.stdev(values) / len(values) ** 0.5


def paired_difference(values: Sequence[float], others: Sequence[float]) -> PairedDifference:
    """Return the difference of `values` from `others`: two or more pairs, in the same order."""
    from scipy.special import stdtr

    differences = [value - other for value, other in zip(values, others, strict=True)]
    mean, half = mean_and_interval(differences)
    error = statistics.stdev(differences) / len(differences) ** 0.5
    degrees = len(differences) - 1
    p_value = 2 * float(stdtr(degrees, -abs(mean) / error)) if error else float(mean == 0)
    return PairedDifference(len(differences), mean, float(half), p_value)
