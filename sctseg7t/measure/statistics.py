"""Summaries of measurements, and the agreement and repeatability of paired ones.

Slices and sessions of one subject are not independent: where it is told whose the values are, intervals are those of
:func:`sctseg7t.measure.clusters.jackknife` over subjects.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sctseg7t.measure.clusters import grouped, jackknife

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """One sample: `n` finite values of `n_subjects` subjects, and `undefined` ones that are nan or infinite.

    `sd` is with n - 1. `trimmed_mean` leaves out a share at each end; (`low`, `high`) is its interval. `median` takes
    infinite values as the largest or smallest, so that it is infinite where half of them are; the other fields leave
    them out.
    """

    n: int
    n_subjects: int
    undefined: int
    mean: float
    median: float
    sd: float
    trimmed_mean: float
    low: float
    high: float


def summary(
    values: ArrayLike,
    trim: float = 0.0,
    confidence: float = 0.95,
    subjects: Sequence[Hashable] | None = None,
) -> Summary:
    """Describe a sample.

    Where subjects have several values the mean's interval is the jackknife's over subjects; else it is Student's t;
    with trimming that of Tukey and McLaughlin, Sankhya A 1963 (winsorised SD, n - 2g - 1 degrees of freedom).

    Parameters
    ----------
    values : (N,) array
    trim : float
        Share cut at each end for the trimmed mean, 0 <= trim < 0.5; ``floor(trim * n)`` values.
    confidence : float
        Of the interval, 0..1.
    subjects : (N,) sequence, optional
        Whose each value is; default: each is another subject's.

    Returns
    -------
    Summary
        nan where undefined: everything without values, an SD and an interval of one.
    """
    given = np.asarray(values, float)
    finite = np.isfinite(given)
    known = given[~np.isnan(given)]
    median = float(_median(known)) if len(known) else NAN
    sample = given[finite]
    whose, people = grouped(range(len(sample)) if subjects is None else np.asarray(subjects, object)[finite])
    n = len(sample)
    counts = n, people, len(given) - n
    if not n:
        return Summary(*counts, NAN, median, *[NAN] * 4)
    if people < n:
        trimmed, half = _clustered_mean(sample, whose, trim, confidence)
    else:
        trimmed, half = _mean(np.sort(sample), trim, confidence)
    return Summary(*counts, float(sample.mean()), median, _sd(sample), trimmed, trimmed - half, trimmed + half)


def _median(known):
    """The median; of two infinite values in the middle it is infinite, not nan."""
    low, high = np.sort(known)[[(len(known) - 1) // 2, len(known) // 2]]
    return low if low == high else (low + high) / 2


def _mean(ordered, trim, confidence):
    """Trimmed mean of sorted independent values, and half of its interval."""
    n = len(ordered)
    cut = int(trim * n)
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    # The share kept, as counted; equal to 1 - 2 trim where trim * n is whole.
    error = _sd(winsorised) * np.sqrt(n) / (n - 2 * cut)
    return float(ordered[cut : n - cut].mean()), float(_t_quantile(confidence, n - 2 * cut - 1) * error)


def _clustered_mean(sample, whose, trim, confidence):
    def estimate(kept):
        ordered = np.sort(sample[kept])
        cut = int(trim * len(ordered))
        return ordered[cut : len(ordered) - cut].mean()

    found = jackknife(estimate, whose, confidence)
    return float(found.value), float(found.half)


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of `n` paired measurements ``a`` and ``b`` of `n_subjects` subjects: differences a - b.

    `lower` and `upper` are the 95 % limits of agreement, bias -+ 1.96 SD. The fields in percent are the same of the
    differences as a percentage of ``b``, of pairs in which b is not 0. Fields ending in `_low` and `_high` bound the
    95 % confidence interval of the field they name. `slope` is the proportional bias: change of the difference per
    unit of the pair's mean (least squares, over `intercept`); `slope_p` tests it against 0.
    """

    n: int
    n_subjects: int
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


def bland_altman(a: ArrayLike, b: ArrayLike, subjects: Sequence[Hashable] | None = None) -> BlandAltman:
    """Bias and limits of agreement (Bland and Altman, Lancet 1986).

    One pair a subject: intervals are those of their paper of 1999 (Stat Methods Med Res), ``SD / sqrt(n)`` of the bias
    and ``SD sqrt(1/n + 1.96^2 / (2 (n - 1)))`` of a limit, with t of n - 1 degrees of freedom. Several pairs a subject:
    the SD adds the variance between and within subjects, from a one-way analysis of variance, as in their paper of 2007
    (J Biopharm Stat 17:571, where the true value varies); intervals and the slope's p are the jackknife's over
    subjects.

    Parameters
    ----------
    a, b : (N,) array
        Measurement and reference. Pairs with a value that is not finite are left out.
    subjects : (N,) sequence, optional
        Whose each pair is; default: each is another subject's.

    Returns
    -------
    BlandAltman
        nan where undefined: no pair at all, an SD of one pair, intervals of one subject, a slope's p of two pairs or
        a slope of equal means.
    """
    known = np.isfinite(_same_length(a, b)).all(0)
    x, y = _same_length(a, b)[:, known]
    whose, people = grouped(range(len(x)) if subjects is None else np.asarray(subjects, object)[known])
    difference, mean, n = x - y, (x + y) / 2, len(x)
    bias, sd, lower, upper = _limits(difference, whose)
    percent = _limits(100 * difference[y != 0] / y[y != 0], whose[y != 0])
    line = _line(mean, difference)
    if people == n:
        t = _t_quantile(0.95, n - 1)
        of_bias = t * sd / np.sqrt(n) if n > 1 else NAN
        of_limit = t * sd * np.sqrt(1 / n + 1.96**2 / (2 * (n - 1))) if n > 1 else NAN
        halves = of_bias, of_limit, of_limit
    else:

        def estimate(kept):
            some = _limits(difference[kept], whose[kept])
            return np.array([some[0], some[2], some[3], _line(mean[kept], difference[kept])[0]])

        found = jackknife(estimate, whose)
        halves = found.half[:3]
        line = *line[:2], _t_test(line[0], found.error[3], found.degrees)
    names = ("bias", "lower", "upper")
    bounds = [float(v + side * half) for v, half in zip((bias, lower, upper), halves) for side in (-1, 1)]
    return BlandAltman(
        n=n,
        n_subjects=people,
        bias=bias,
        sd=sd,
        lower=lower,
        upper=upper,
        **{f"{name}_percent": value for name, value in zip(("bias", "sd", "lower", "upper"), percent)},
        **dict(zip((f"{name}_{end}" for name in names for end in ("low", "high")), bounds)),
        **dict(zip(("slope", "intercept", "slope_p"), line)),
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
    given = _same_length(first, second, *more)
    repeats = given[:, np.isfinite(given).all(0)]
    mean = repeats.mean(0)
    if not (mean > 0).all():
        raise ValueError("a coefficient of variation needs measurements above 0")
    return float(100 * np.sqrt(np.mean(repeats.var(0, ddof=1) / mean**2))) if len(mean) else NAN


def _line(mean, difference):
    """Slope, intercept and the slope's p of differences on means, as of independent pairs."""
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
    error = np.sqrt(((difference - intercept - slope * mean) ** 2).sum() / (n - 2) / spread)
    return slope, intercept, _t_test(slope, error, n - 2)


def _t_test(value, error, degrees):
    """Two-sided p of an estimate against 0."""
    if not np.isfinite(value) or not np.isfinite(error):
        return NAN
    if not error:
        return 0.0 if value else 1.0
    from scipy.stats import t

    return float(2 * t.sf(abs(value) / error, degrees))


def _same_length(*measurements):
    """Lists of one length, as the rows of an array."""
    measurements = [np.asarray(m, float) for m in measurements]
    if measurements[0].ndim != 1 or any(m.shape != measurements[0].shape for m in measurements):
        shapes = " and ".join(str(m.shape) for m in measurements)
        raise ValueError(f"measurements have shapes {shapes}; give lists of one length")
    return np.stack(measurements)


def _limits(difference, whose):
    """Bias, SD and limits of agreement; the SD is of one more pair, of one more subject."""
    bias = float(difference.mean()) if len(difference) else NAN
    sd = _sd_of_a_new_subject(difference, whose)
    return bias, sd, bias - 1.96 * sd, bias + 1.96 * sd


def _sd_of_a_new_subject(values, whose):
    """SD with the variance between and within subjects; the plain one where each subject has one value, or one all."""
    whose, people = grouped(whose)
    n = len(values)
    if people in (0, 1, n):
        return _sd(values)
    sizes = np.bincount(whose)
    means = np.bincount(whose, values) / sizes
    within = ((values - means[whose]) ** 2).sum() / (n - people)
    between = (sizes * (means - values.mean()) ** 2).sum() / (people - 1)
    # How much of the mean square between subjects is the variance between them, with groups of different size.
    share = (n**2 - (sizes**2).sum()) / ((people - 1) * n)
    return float(np.sqrt(within + max(0.0, (between - within) / share)))


def _sd(values):
    return float(values.std(ddof=1)) if len(values) > 1 else NAN


def _t_quantile(confidence, degrees):
    """Two-sided; nan without a degree of freedom."""
    if degrees < 1:
        return NAN
    from scipy.stats import t

    return float(t.ppf((1 + confidence) / 2, degrees))
