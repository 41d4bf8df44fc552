"""Intraclass correlation: how well measurements by several raters or methods agree."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sctseg7t.measure.statistics import NAN


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation with its interval."""

    value: float
    low: float
    high: float


def icc(measurements: ArrayLike, confidence: float = 0.95) -> Icc:
    """Intraclass correlation ICC(A,1): two-way, absolute agreement, single measurement.

    McGraw and Wong, Psychological Methods 1996; ICC(2,1) of Shrout and Fleiss, Psychological Bulletin 1979. A constant
    bias of one rater lowers it; it can be negative. The interval is McGraw and Wong's, with Satterthwaite's degrees of
    freedom.

    Parameters
    ----------
    measurements : (subjects, raters) array
        Subjects with a value that is not finite are left out.
    confidence : float

    Returns
    -------
    Icc
        nan where undefined: fewer than two subjects or raters, or nothing that varies but the raters.
    """
    given = np.asarray(measurements, float)
    used = given[np.isfinite(given).all(1)]
    if min(used.shape) < 2:
        return Icc(NAN, NAN, NAN)
    return Icc(*map(float, _absolute_agreement(used, (1 - confidence) / 2)))


def _absolute_agreement(x: np.ndarray, alpha: float) -> tuple[float, float, float]:
    """Value and bounds."""
    from scipy.stats import f

    n, k = x.shape
    subjects, raters, residual = _mean_squares(x)
    if subjects == residual == 0:
        return NAN, NAN, NAN
    if raters == residual == 0:
        return 1.0, 1.0, 1.0
    value = (subjects - residual) / (subjects + (k - 1) * residual + k / n * (raters - residual))
    # Satterthwaite's degrees of freedom; a and b are McGraw and Wong's, multiplied by n (1 - value).
    a, b = k * value * raters, (n * (1 - value) + k * value * (n - 1)) * residual
    degrees = (a + b) ** 2 / (a**2 / (k - 1) + b**2 / ((n - 1) * (k - 1)))
    error = k * raters + (k * n - k - n) * residual
    quantiles = f.isf(alpha, n - 1, degrees), f.ppf(alpha, n - 1, degrees)
    low, high = (n * (subjects - q * residual) / (q * error + n * subjects) for q in quantiles)
    return value, low, high


def _mean_squares(x: np.ndarray) -> tuple[float, float, float]:
    """Of subjects, raters and residual, in the analysis of variance."""
    n, k = x.shape
    rows, columns = x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    found = (
        k * ((rows - x.mean()) ** 2).sum() / (n - 1),
        n * ((columns - x.mean()) ** 2).sum() / (k - 1),
        ((x - rows - columns + x.mean()) ** 2).sum() / ((n - 1) * (k - 1)),
    )
    rounding = n * k * (4 * np.finfo(float).eps * abs(x).max()) ** 2
    subjects, raters, residual = (float(square) if square > rounding else 0.0 for square in found)
    return subjects, raters, residual
