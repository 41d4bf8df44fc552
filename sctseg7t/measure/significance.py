"""Rank tests of two samples with effect sizes, the paired difference, and Holm's correction for many tests.

A value that is nan is left out (of a paired test with its pair). Infinite values are kept: a rank test asks only which
is larger, and an infinite distance is larger than any other.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
from numpy.typing import ArrayLike

NAN = float("nan")
# Up to as many values p is exact where no two are equal, and up to as many arrangements where some are.
EXACT_UP_TO, ARRANGEMENTS = 50, 20_000


@dataclass(frozen=True)
class RankTest:
    """A two-sided rank test of two samples.

    Attributes
    ----------
    n_first, n_second : int
        Values; of paired samples the pairs.
    statistic : float
        Mann-Whitney: U, pairs in which the value of ``a`` is larger, ties as one half. Wilcoxon: the smaller of the
        sums of ranks of positive and negative differences.
    rank_biserial : float
        Effect from -1 to 1, positive where ``a`` is larger: rank-biserial correlation and Cliff's delta; of pairs the
        share of positive ranks less that of negative ones (Kerby, Comprehensive Psychology 2014).
    p : float
    """

    n_first: int
    n_second: int
    statistic: float
    rank_biserial: float
    p: float


def mann_whitney(a: ArrayLike, b: ArrayLike) -> RankTest:
    """Mann-Whitney U test (Wilcoxon rank-sum), two-sided, by SciPy.

    p is exact with at most 50 values of which no two are equal, and where ties leave at most 20,000 arrangements to
    count; else from the normal approximation corrected for ties and continuity.

    Parameters
    ----------
    a, b : (N,), (M,) array
        Values that are nan are left out.

    Returns
    -------
    RankTest
        nan without values in either; p is 1 where all values are equal.
    """
    from scipy.stats import PermutationMethod, mannwhitneyu

    known = [values[~np.isnan(values)] for values in (np.asarray(a, float), np.asarray(b, float))]
    n_a, n_b = map(len, known)
    if not n_a or not n_b:
        return RankTest(n_a, n_b, NAN, NAN, NAN)
    together = np.concatenate(known)
    ties = len(np.unique(together)) < len(together)
    if not ties:
        method = "exact" if len(together) <= EXACT_UP_TO else "asymptotic"
    elif min(n_a, n_b) > 1 and comb(len(together), n_a) <= ARRANGEMENTS:
        method = PermutationMethod(n_resamples=ARRANGEMENTS)
    else:
        method = "asymptotic"
    # Ranks say all there is to a rank test, and are finite.
    ranks = np.unique(together, return_inverse=True)[1].astype(float)
    found = mannwhitneyu(ranks[:n_a], ranks[n_a:], method=method)
    u = float(found.statistic)
    p = 1.0 if ranks.max() == 0 else min(1.0, float(found.pvalue))
    return RankTest(n_a, n_b, u, 2 * u / (n_a * n_b) - 1, p)


def wilcoxon_signed_rank(a: ArrayLike, b: ArrayLike) -> RankTest:
    """Wilcoxon signed-rank test of paired samples, two-sided, by SciPy.

    Pairs that are equal take ranks, which are then left out (Pratt, JASA 1959): many ties speak for no difference.
    p is exact with at most 50 pairs of which no two differ alike and none is equal, and with at most 13 pairs in any
    case; else from the normal approximation corrected for ties and continuity.

    Parameters
    ----------
    a, b : (N,) array
        Pairs with a nan are left out; two infinities of one sign are equal.

    Returns
    -------
    RankTest
        nan without a pair; p is 1 and the effect 0 where all pairs are equal.
    """
    from scipy.stats import rankdata, wilcoxon

    a, b = np.asarray(a, float), np.asarray(b, float)
    if a.shape != b.shape:
        raise ValueError(f"samples have shapes {a.shape} and {b.shape}; give two lists of one length")
    difference = np.subtract(a, b, out=np.zeros(a.shape), where=a != b)
    difference = difference[~np.isnan(difference)]
    n = len(difference)
    if not n:
        return RankTest(0, 0, NAN, NAN, NAN)
    if not difference.any():
        return RankTest(n, n, 0.0, 0.0, 1.0)
    ranks = rankdata(abs(difference))
    plus, minus = (float(ranks[side].sum()) for side in (difference > 0, difference < 0))
    # Ranks in place of differences: infinite ones are no trouble, and equal ones stay equal to the last bit.
    signed = np.sign(difference) * ranks
    p = float(wilcoxon(signed, zero_method="pratt", correction=True, method="auto").pvalue)
    return RankTest(n, n, min(plus, minus), (plus - minus) / (plus + minus), min(1.0, p))


@dataclass(frozen=True)
class Shift:
    """By how much one of two paired samples is larger: an estimate with its interval."""

    value: float
    low: float
    high: float


def hodges_lehmann(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> Shift:
    """The typical difference a - b of paired samples: the median of the means of every two differences.

    The estimate that goes with the signed-rank test, and the interval of differences that the test does not refuse
    (Hodges and Lehmann, Ann Math Statist 1963; Hollander and Wolfe 1973). The interval is exact with at most 50 pairs,
    else from the normal approximation. Six pairs are the fewest that have one at 95 %.

    Parameters
    ----------
    a, b : (N,) array
        Pairs with a nan are left out; two infinities of one sign are equal.
    confidence : float

    Returns
    -------
    Shift
        nan where undefined: no pair, or an interval of too few.
    """
    a, b = np.asarray(a, float), np.asarray(b, float)
    difference = np.subtract(a, b, out=np.zeros(a.shape), where=a != b)
    difference = difference[~np.isnan(difference)]
    n = len(difference)
    if not n:
        return Shift(NAN, NAN, NAN)
    first, second = np.triu_indices(n)
    left, right = difference[first], difference[second]
    # Infinities of both signs are none.
    means = np.sort(np.add(left, right, out=np.zeros(len(left)), where=~(np.isinf(left) & (left == -right))) / 2)
    middle = means[[(len(means) - 1) // 2, len(means) // 2]]
    value = float(middle[0] if middle[0] == middle[1] else middle.mean())
    cut = _rank_sums_below(n, (1 - confidence) / 2)
    return Shift(value, *((float(means[cut - 1]), float(means[-cut])) if cut else (NAN, NAN)))


def _rank_sums_below(n: int, share: float) -> int:
    """How many of the smallest sums of signed ranks have together at most this probability."""
    if n > EXACT_UP_TO:
        from scipy.stats import norm

        sd = np.sqrt(n * (n + 1) * (2 * n + 1) / 24)
        return max(0, int(n * (n + 1) / 4 + norm.ppf(share) * sd))
    # Every rank is in the sum or not.
    counts = np.zeros(n * (n + 1) // 2 + 1)
    counts[0] = 1
    for rank in range(1, n + 1):
        counts[rank:] += counts[:-rank].copy()
    return int((np.cumsum(counts) / 2.0**n <= share).sum())


def holm(p_values: ArrayLike) -> np.ndarray:
    """P-values corrected for many tests: family-wise error rate (Holm, Scand J Statist 1979).

    Parameters
    ----------
    p_values : (N,) array
        From 0 to 1; a nan is no test, is not counted and stays nan.

    Returns
    -------
    (N,) array
        In the order given, not above 1.
    """
    given = np.asarray(p_values, float)
    known = ~np.isnan(given)
    p = given[known]
    order = np.argsort(p, kind="stable")
    p[order] = np.minimum(np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order]), 1)
    found = np.full(given.shape, np.nan)
    found[known] = p
    return found
