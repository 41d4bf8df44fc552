"""Summaries of measurements, and the agreement and repeatability of paired ones.

Slices of one subject are not independent: intervals and tests over slices are narrower
than the data warrant; give means of subjects beside them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """One sample: `n` finite values; the others are left out.

    `sd` is with n - 1. `trimmed_mean` leaves out a share at each end; (`low`, `high`) is its interval.
    """

    n: int
    mean: float
    median: float
    sd: float
    trimmed_mean: float
    low: float
    high: float


def summary(values: ArrayLike, trim: float = 0.0, confidence: float = 0.95) -> Summary:
    """Describe a sample.

    The mean's interval is Student's t; with trimming that of Tukey and McLaughlin, Sankhya A
    1963 (winsorised SD, n - 2g - 1 degrees of freedom).

    Parameters
    ----------
    values : (N,) array
        Values that are not finite are left out.
    trim : float
        Share cut at each end for the trimmed mean, 0 <= trim < 0.5; ``floor(trim * n)`` values.
    confidence : float
        Of the interval, 0..1.

    Returns
    -------
    Summary
        nan where undefined: everything without values, an SD and an interval of one.
    """
    given = np.asarray(values, float)
    kept = np.sort(given[np.isfinite(given)])
    n = len(kept)
    if not n:
        return Summary(0, *[NAN] * 6)
    cut = int(trim * n)
    trimmed = float(kept[cut : n - cut].mean())
    winsorised = np.clip(kept, kept[cut], kept[n - cut - 1])
    # The share kept, as counted; equal to 1 - 2 trim where trim * n is whole.
    error = _sd(winsorised) * np.sqrt(n) / (n - 2 * cut)
    half = float(_t_quantile(confidence, n - 2 * cut - 1) * error)
    mean, median = float(kept.mean()), float(np.median(kept))
    return Summary(n, mean, median, _sd(kept), trimmed, trimmed - half, trimmed + half)


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of paired measurements ``a`` and ``b``: differences a - b.

    `lower` and `upper` are the 95 % limits of agreement, bias -+ 1.96 SD (n - 1). The
    fields in percent are the same of the differences as a percentage of each pair's mean.
    Fields ending in `_low` and `_high` bound the 95 % confidence interval of the field they
    name. `slope` is the proportional bias: change of the difference per unit of the pair's
    mean (least squares, over `intercept`); `slope_p` tests it against 0 (t, n - 2).
    """

    n: int
    bias: float
    sd: float
    lower: float
    upper: float
    bias_percent: float
    sd_percent: float
    lower_percent: float
    upper_percent: float
    bias_low: float
    bias_high: float
    lower_low: float
    lower_high: float
    upper_low: float
    upper_high: float
    slope: float
    intercept: float
    slope_p: float


def bland_altman(a: ArrayLike, b: ArrayLike) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman, Lancet 1986; in percent: Stat Methods Med Res 1999).

    Standard errors are those of the 1999 paper: ``SD / sqrt(n)`` of the bias and
    ``SD sqrt(1/n + 1.96^2 / (2 (n - 1)))`` of a limit, with t of n - 1 degrees of freedom.

    Parameters
    ----------
    a, b : (N,) array
        Measurement and reference. Pairs with a value that is not finite are left out.

    Returns
    -------
    BlandAltman
        nan where undefined: no pair at all, an SD of one pair, a slope's p of two pairs or
        a slope of equal means.
    """
    x, y = _pairs(a, b)
    difference, mean, n = x - y, (x + y) / 2, len(x)
    bias, sd, lower, upper = _limits(difference)
    # A pair of zeros agrees; a mean of 0 otherwise has no percentage.
    percent = np.divide(200 * difference, x + y, out=np.where(x == y, 0.0, np.nan), where=x + y != 0)
    t = _t_quantile(0.95, n - 1)
    of_bias = t * sd / np.sqrt(n) if n > 1 else NAN
    of_limit = t * sd * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1))) if n > 1 else NAN
    intervals = [(bias, of_bias), (lower, of_limit), (upper, of_limit)]
    bounds = [float(value + side * half) for value, half in intervals for side in (-1, 1)]
    names = ("bias", "lower", "upper")
    in_percent = dict(zip(("bias", "sd", "lower", "upper"), _limits(percent)))
    return BlandAltman(
        n=n,
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        **{f"{name}_percent": value for name, value in in_percent.items()},
        **dict(zip((f"{name}_{end}" for name in names for end in ("low", "high")), bounds)),
        **dict(zip(("slope", "intercept", "slope_p"), _line(mean, difference))),
    )


def scan_rescan_cov(first: ArrayLike, second: ArrayLike, *more: ArrayLike) -> float:
    """Within-subject coefficient of variation of repeated measurements, percent.

    Root mean square over the subjects of SD / mean, where the SD (n - 1) is that of a subject's
    repeats, ``|d| / sqrt(2)`` of two: Gluer et al., Osteoporosis International 1995; the
    within-subject SD of Bland and Altman, BMJ 1996;313:106, relative to each subject's mean.

    Parameters
    ----------
    first, second, *more : (N,) array
        Positive; one list a repeat. Subjects with a value that is not finite are left out.

    Returns
    -------
    float
        nan without a subject.

    Raises
    ------
    ValueError
        Lengths differ, or the mean of a subject is not above 0.
    """
    repeats = np.stack(_pairs(first, second, *more))
    mean = repeats.mean(0)
    if not (mean > 0).all():
        raise ValueError("a coefficient of variation needs measurements above 0")
    return float(100 * np.sqrt(np.mean(repeats.var(0, ddof=1) / mean**2))) if len(mean) else NAN


def _line(mean, difference):
    """Slope, intercept and the slope's p of differences on means."""
    n = len(mean)
    spread = float(((mean - mean.mean()) ** 2).sum()) if n else 0.0
    if n < 2 or spread == 0:
        return NAN, NAN, NAN
    if np.ptp(difference) <= 1e-12 * abs(mean).max():
        # A constant difference; what is left is rounding.
        return 0.0, float(difference.mean()), NAN if n < 3 else 1.0
    slope = float(((mean - mean.mean()) * difference).sum() / spread)
    intercept = float(difference.mean() - slope * mean.mean())
    if n < 3:
        return slope, intercept, NAN
    from scipy.stats import t

    error = np.sqrt(((difference - intercept - slope * mean) ** 2).sum() / (n - 2) / spread)
    return slope, intercept, float(2 * t.sf(abs(slope) / error, n - 2)) if error else 0.0


def _pairs(*measurements):
    measurements = [np.asarray(m, float) for m in measurements]
    if measurements[0].ndim != 1 or any(m.shape != measurements[0].shape for m in measurements):
        shapes = " and ".join(str(m.shape) for m in measurements)
        raise ValueError(f"measurements have shapes {shapes}; give lists of one length")
    known = np.logical_and.reduce([np.isfinite(m) for m in measurements])
    return [m[known] for m in measurements]


def _limits(difference):
    bias = float(difference.mean()) if len(difference) else NAN
    sd = _sd(difference)
    return bias, sd, bias - 1.96 * sd, bias + 1.96 * sd


def _sd(values):
    return float(values.std(ddof=1)) if len(values) > 1 else NAN


def _t_quantile(confidence, degrees):
    """Two-sided; nan without a degree of freedom."""
    if degrees < 1:
        return NAN
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, degrees))
