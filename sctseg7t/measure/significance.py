"""Rank tests of two samples with effect sizes, and corrections for many tests.

A value that is nan is left out (of a paired test with its pair). Infinite values are kept:
a rank test asks only which is larger, and an infinite distance is larger than any other.
"""

from dataclasses import dataclass

import numpy as np

NAN = float("nan")
# Up to as many values the p-value is exact: 2^50 arrangements are counted without rounding.
EXACT_UP_TO = 50


@dataclass(frozen=True)
class MannWhitney:
    """Two independent samples.

    `u` counts the pairs in which the value of ``a`` is larger, ties as one half. `auc` is
    its share of all pairs: the chance that a value of ``a`` exceeds one of ``b`` (common
    language effect size). `effect`, from -1 to 1, is ``2 auc - 1``: rank-biserial correlation
    and Cliff's delta, positive where ``a`` is larger. `p` is two-sided, `method` ``exact`` or ``normal``.
    """

    n_a: int
    n_b: int
    u: float
    p: float
    effect: float
    auc: float
    method: str


@dataclass(frozen=True)
class Wilcoxon:
    """Paired samples, differences a - b.

    `n` pairs, `n_zero` of them equal. `rank_plus` and `rank_minus` are the sums of the
    ranks of positive and negative differences. `effect`, from -1 to 1, is the matched-pairs
    rank-biserial correlation ``(rank_plus - rank_minus) / (rank_plus + rank_minus)`` (Kerby,
    Comprehensive Psychology 2014), positive where ``a`` is larger. `p` is two-sided,
    `method` ``exact`` or ``normal``.
    """

    n: int
    n_zero: int
    rank_plus: float
    rank_minus: float
    p: float
    effect: float
    zeros: str
    method: str


def mann_whitney(a, b):
    """Mann-Whitney U test (Wilcoxon rank-sum), two-sided.

    With at most 50 values in all, p is exact given the ties (every way of choosing which
    ranks are those of ``a``, counted by Streitberg and Roehmel's shift algorithm, 1986): the smaller tail,
    doubled. Above, the normal approximation corrected for ties and continuity.

    Parameters
    ----------
    a, b : (N,), (M,) array
        Values that are nan are left out.

    Returns
    -------
    MannWhitney
        nan without values in either; p is 1 where all values are equal.
    """
    a, b = (_known(values) for values in (a, b))
    if not len(a) or not len(b):
        return MannWhitney(len(a), len(b), NAN, NAN, NAN, NAN, "exact")
    n_a, n_b = len(a), len(b)
    ranks = _ranks(np.concatenate([a, b]))
    total = ranks[:n_a].sum()
    u = float(total - n_a * (n_a + 1) / 2)
    if n_a + n_b <= EXACT_UP_TO:
        p, method = _tails(_sums_of_chosen(ranks, n_a), total), "exact"
    else:
        n = n_a + n_b
        variance = n_a * n_b / (n * (n - 1)) * ((ranks - ranks.mean()) ** 2).sum()
        p, method = _normal(total - n_a * (n + 1) / 2, variance), "normal"
    auc = u / (n_a * n_b)
    return MannWhitney(n_a, n_b, u, p, 2 * auc - 1, auc, method)


def wilcoxon_signed_rank(a, b, zeros="pratt"):
    """Wilcoxon signed-rank test of paired samples, two-sided.

    With at most 50 differences other than 0, p is exact given ties and zeros (every way of
    setting their signs): the smaller tail, doubled. Above, the normal approximation corrected for ties
    and continuity.

    Parameters
    ----------
    a, b : (N,) array
        Pairs with a nan are left out; two infinities of one sign are equal.
    zeros : {"pratt", "wilcox"}
        ``pratt`` (Pratt, JASA 1959): pairs that are equal take ranks, which are then left out;
        many ties then speak for no difference. ``wilcox`` (Wilcoxon 1945): they are left out first.

    Returns
    -------
    Wilcoxon
        nan without a pair; p is 1 and the effect 0 where all pairs are equal.
    """
    if zeros not in ("pratt", "wilcox"):
        raise ValueError(f"{zeros!r}: choose one of pratt, wilcox")
    difference = _differences(a, b)
    n, n_zero = len(difference), int((difference == 0).sum())
    if not n:
        return Wilcoxon(0, 0, NAN, NAN, NAN, NAN, zeros, "exact")
    if n == n_zero:
        return Wilcoxon(n, n_zero, 0.0, 0.0, 1.0, 0.0, zeros, "exact")
    other = difference != 0
    ranks = _ranks(abs(difference))[other] if zeros == "pratt" else _ranks(abs(difference[other]))
    plus, total = float(ranks[difference[other] > 0].sum()), float(ranks.sum())
    if len(ranks) <= EXACT_UP_TO:
        p, method = _tails(_sums_of_any(ranks), plus), "exact"
    else:
        p, method = _normal(plus - total / 2, (ranks**2).sum() / 4), "normal"
    return Wilcoxon(n, n_zero, plus, total - plus, p, (2 * plus - total) / total, zeros, method)


def holm(p_values):
    """P-values corrected for many tests: family-wise error rate (Holm, Scand J Statist 1979).

    Parameters
    ----------
    p_values : array
        From 0 to 1; a nan is no test, is not counted and stays nan.

    Returns
    -------
    (N,) array
        In the order given, not above 1.
    """
    return _corrected(p_values, lambda p: np.maximum.accumulate(np.arange(len(p), 0, -1) * p))


def benjamini_hochberg(p_values):
    """P-values corrected for many tests: false discovery rate (Benjamini and Hochberg, JRSS B 1995).

    Parameters and result as of :func:`holm`.
    """

    def step_up(p):
        scaled = p * len(p) / np.arange(1, len(p) + 1)
        return np.minimum.accumulate(scaled[::-1])[::-1]

    return _corrected(p_values, step_up)


def _corrected(p_values, step):
    """Correct the p-values that are there; `step` takes and returns them in ascending order."""
    p_values = np.asarray(p_values, float)
    known = ~np.isnan(p_values)
    p = p_values[known]
    if p_values.ndim != 1 or ((p < 0) | (p > 1)).any():
        raise ValueError("p-values must be a list of numbers from 0 to 1")
    order = np.argsort(p, kind="stable")
    p[order] = np.minimum(step(p[order]), 1)
    found = np.full(p_values.shape, np.nan)
    found[known] = p
    return found


def _known(values):
    values = np.asarray(values, float)
    if values.ndim != 1:
        raise ValueError(f"values have shape {values.shape}; give a list")
    return values[~np.isnan(values)]


def _differences(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"samples have shapes {a.shape} and {b.shape}; give two lists of one length")
    equal = a == b
    found = np.subtract(a, b, out=np.zeros(a.shape), where=~equal)
    return found[~np.isnan(found)]


def _ranks(values):
    """From 1; ties share the mean of their ranks."""
    _, position, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[position]


def _sums_of_any(ranks):
    """How many subsets of the ranks have each sum; index: twice the sum, as ranks may be halves."""
    counts = np.ones(1)
    for rank in np.rint(2 * ranks).astype(int):
        longer = np.pad(counts, (0, rank))
        longer[rank:] += counts
        counts = longer
    return counts


def _sums_of_chosen(ranks, size):
    """As :func:`_sums_of_any`, of the subsets of one size."""
    doubled = np.rint(2 * ranks).astype(int)
    counts = np.zeros((size + 1, doubled.sum() + 1))
    counts[0, 0] = 1
    for rank in doubled:
        # The right side is a copy, so that no rank is chosen twice.
        counts[1:, rank:] += counts[:-1, : counts.shape[1] - rank].copy()
    return counts[size]


def _tails(counts, found):
    """Two-sided p of a sum, given how many arrangements have each (index: twice the sum)."""
    at = int(round(2 * found))
    smaller = min(counts[: at + 1].sum(), counts[at:].sum())
    return float(min(1.0, 2 * smaller / counts.sum()))


def _normal(deviation, variance):
    """Two-sided p of a rank sum's deviation from its expected value, corrected for continuity."""
    from math import erfc, sqrt

    if variance <= 0:
        return 1.0
    return float(min(1.0, erfc(max(abs(deviation) - 0.5, 0.0) / sqrt(2 * variance))))
