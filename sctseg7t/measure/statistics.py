"""Agreement and repeatability of paired measurements."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BlandAltman:
    """Agreement of paired measurements ``a`` and ``b``: differences a - b.

    `lower` and `upper` are the 95 % limits of agreement, bias -+ 1.96 SD (n - 1). The
    fields in percent are the same of the differences as a percentage of each pair's mean.
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


def bland_altman(a, b):
    """Bias and limits of agreement (Bland and Altman, Lancet 1986; in percent: Stat Methods Med Res 1999).

    Parameters
    ----------
    a, b : (N,) array
        Measurement and reference. Pairs with a value that is not finite are left out.

    Returns
    -------
    BlandAltman
        nan where undefined: no pair at all, an SD of one pair.
    """
    a, b = _pairs(a, b)
    numbers = _limits(a - b)
    # A pair of zeros agrees; a mean of 0 otherwise has no percentage.
    percent = np.divide(200 * (a - b), a + b, out=np.where(a == b, 0.0, np.nan), where=a + b != 0)
    return BlandAltman(len(a), *numbers, *_limits(percent))


def scan_rescan_cov(first, second):
    """Within-subject coefficient of variation of repeated measurements, percent.

    Root mean square over the pairs of SD / mean, where the SD of a pair is ``|d| / sqrt(2)``:
    Gluer et al., Osteoporosis International 1995; the within-subject SD of Bland and Altman,
    BMJ 1996;313:106, relative to each subject's mean.

    Parameters
    ----------
    first, second : (N,) array
        Positive. Pairs with a value that is not finite are left out.

    Returns
    -------
    float
        nan without a pair.

    Raises
    ------
    ValueError
        Lengths differ, or the mean of a pair is not above 0.
    """
    first, second = _pairs(first, second)
    mean = (first + second) / 2
    if not (mean > 0).all():
        raise ValueError("a coefficient of variation needs measurements above 0")
    return float(100 * np.sqrt(np.mean((first - second) ** 2 / 2 / mean**2))) if len(mean) else float("nan")


def _pairs(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"measurements have shapes {a.shape} and {b.shape}; give two lists of one length")
    known = np.isfinite(a) & np.isfinite(b)
    return a[known], b[known]


def _limits(difference):
    bias = float(difference.mean()) if len(difference) else float("nan")
    sd = float(difference.std(ddof=1)) if len(difference) > 1 else float("nan")
    return bias, sd, bias - 1.96 * sd, bias + 1.96 * sd
