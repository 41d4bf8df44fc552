"""Intervals of numbers whose values come in clusters: the slices and sessions of one subject are not independent."""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Jackknife:
    """Estimates, their standard errors, and the half widths of their confidence intervals, all of one shape."""

    value: np.ndarray
    error: np.ndarray
    half: np.ndarray
    degrees: int


def jackknife(
    estimate: Callable[[np.ndarray], np.ndarray], clusters: Sequence[Hashable] | np.ndarray, confidence: float = 0.95
) -> Jackknife:
    """Estimates with intervals that respect the clusters, by leaving out each of them in turn.

    The cluster jackknife with t quantiles of (clusters - 1) degrees of freedom: CV3 of MacKinnon, Nielsen and Webb
    (J Appl Econometrics 2023), who advise it where clusters are few. It draws no random number, and with few subjects
    it holds its level where a percentile bootstrap over subjects does not (held by a test). Estimates must be smooth
    functions of the values: a mean, limits of agreement, a slope; not a median.

    Parameters
    ----------
    estimate : callable
        From a boolean array, the values that are kept, to an array of estimates.
    clusters : (N,) sequence
        To which cluster each value belongs.
    confidence : float
        Of the intervals, 0..1.

    Returns
    -------
    Jackknife
        Error and half width are nan with fewer than two clusters, or where an estimate needs every cluster.
    """
    place, count = grouped(clusters)
    value = np.asarray(estimate(np.ones(len(place), bool)), float)
    if count < 2:
        nothing = np.full(value.shape, np.nan)
        return Jackknife(value, nothing, nothing, max(count - 1, 0))
    from scipy.stats import t

    without = np.stack([np.asarray(estimate(place != k), float) for k in range(count)])
    error = np.sqrt((count - 1) / count * ((without - value) ** 2).sum(0))
    return Jackknife(value, error, float(t.ppf((1 + confidence) / 2, count - 1)) * error, count - 1)


def grouped(clusters: Sequence[Hashable] | np.ndarray) -> tuple[np.ndarray, int]:
    """Each value's cluster as a number from 0, in the order of appearance, and how many there are."""
    numbers: dict[Hashable, int] = {}
    place = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], int)
    return place, len(numbers)
