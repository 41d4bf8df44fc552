"""Intraclass correlation: how well measurements by several raters or methods, or repeats, agree."""

from dataclasses import dataclass

import numpy as np

from .statistics import NAN, check_confidence

KINDS = ("1", "A1", "C1", "Ak", "Ck")


@dataclass(frozen=True)
class Icc:
    """An intraclass correlation with its interval; `subjects` were complete and used, `left_out` were not."""

    kind: str
    value: float
    low: float
    high: float
    confidence: float
    subjects: int
    raters: int
    left_out: int


def icc(measurements, kind="A1", confidence=0.95):
    """Intraclass correlation coefficient (McGraw and Wong, Psychological Methods 1996).

    ======  ==============  ==============================================================
    kind    also known as   what it says
    ======  ==============  ==============================================================
    ``1``   ICC(1,1)        one-way: repeats without an order, as in scan and rescan
    ``A1``  ICC(2,1)        absolute agreement: a constant bias of one rater lowers it
    ``C1``  ICC(3,1)        consistency: each rater's constant bias is forgiven
    ``Ak``  ICC(2,k)        absolute agreement of the mean over all raters
    ``Ck``  ICC(3,k)        consistency of the mean over all raters; Cronbach's alpha
    ======  ==============  ==============================================================

    The second column is of Shrout and Fleiss, Psychological Bulletin 1979. Estimates can be
    negative. Intervals are McGraw and Wong's (exact but for A1 and Ak, where the degrees of
    freedom are Satterthwaite's).

    Parameters
    ----------
    measurements : (subjects, raters) array
        Subjects with a value that is not finite are left out.
    kind : {"1", "A1", "C1", "Ak", "Ck"}
    confidence : float

    Returns
    -------
    Icc
        nan where undefined: fewer than two subjects or raters, or nothing that varies but the raters.

    Raises
    ------
    ValueError
    """
    measurements = np.asarray(measurements, float)
    if measurements.ndim != 2:
        raise ValueError(f"measurements have shape {measurements.shape}; give subjects x raters")
    if kind not in KINDS:
        raise ValueError(f"{kind!r}: choose one of {', '.join(KINDS)}")
    check_confidence(confidence)
    used = measurements[np.isfinite(measurements).all(1)]
    n, k = used.shape
    found = (NAN, NAN, NAN)
    if n > 1 and k > 1:
        single = {"1": _one_way, "A": _absolute, "C": _consistent}[kind[0]]
        found = single(n, k, _squares(used), (1 - confidence) / 2)
        if kind[1:] == "k":
            found = [_of_mean(r, k) for r in found]
    return Icc(kind, *(float(r) for r in found), float(confidence), n, k, len(measurements) - n)


@dataclass(frozen=True)
class _Squares:
    """Mean squares of the analysis of variance."""

    subjects: float
    raters: float
    residual: float
    within: float


def _squares(x):
    n, k = x.shape
    rows, columns = x.mean(1, keepdims=True), x.mean(0, keepdims=True)
    found = (
        k * ((rows - x.mean()) ** 2).sum() / (n - 1),
        n * ((columns - x.mean()) ** 2).sum() / (k - 1),
        ((x - rows - columns + x.mean()) ** 2).sum() / ((n - 1) * (k - 1)),
        ((x - rows) ** 2).sum() / (n * (k - 1)),
    )
    rounding = n * k * (4 * np.finfo(float).eps * abs(x).max()) ** 2
    return _Squares(*(float(square) if square > rounding else 0.0 for square in found))


def _one_way(n, k, ms, alpha):
    return _from_ratio(ms.subjects, ms.within, k, alpha, (n - 1, n * (k - 1)))


def _consistent(n, k, ms, alpha):
    return _from_ratio(ms.subjects, ms.residual, k, alpha, (n - 1, (n - 1) * (k - 1)))


def _from_ratio(subjects, error, k, alpha, degrees):
    """(F - 1) / (F + k - 1) of F = subjects / error, and of F over its quantiles."""
    if subjects == error == 0:
        return NAN, NAN, NAN
    ratios = (1.0, *_f_quantiles(alpha, *degrees))
    return [(subjects - q * error) / (subjects + (k - 1) * q * error) for q in ratios]


def _absolute(n, k, ms, alpha):
    if ms.subjects == ms.residual == 0:
        return NAN, NAN, NAN
    if ms.raters == ms.residual == 0:
        return 1.0, 1.0, 1.0
    value = (ms.subjects - ms.residual) / (ms.subjects + (k - 1) * ms.residual + k / n * (ms.raters - ms.residual))
    # Satterthwaite's degrees of freedom; a and b are McGraw and Wong's, multiplied by n (1 - value).
    a, b = k * value * ms.raters, (n * (1 - value) + k * value * (n - 1)) * ms.residual
    degrees = (a + b) ** 2 / (a**2 / (k - 1) + b**2 / ((n - 1) * (k - 1)))
    error = k * ms.raters + (k * n - k - n) * ms.residual
    bounds = [
        n * (ms.subjects - q * ms.residual) / (q * error + n * ms.subjects) for q in _f_quantiles(alpha, n - 1, degrees)
    ]
    return value, *bounds


def _of_mean(single, k):
    """Spearman and Brown: the correlation of the mean of k raters."""
    return -np.inf if single <= -1 / (k - 1) else k * single / (1 + (k - 1) * single)


def _f_quantiles(alpha, between, within):
    """The upper and the lower quantile of F."""
    from scipy.stats import f

    return f.isf(alpha, between, within), f.ppf(alpha, between, within)
