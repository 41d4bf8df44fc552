"""Statistics against published worked examples, scipy, enumeration and simulation."""

import math
from itertools import combinations, product

import numpy as np
import pytest

from sctseg7t.measure.reliability import icc
from sctseg7t.measure.significance import hodges_lehmann, holm, mann_whitney, wilcoxon_signed_rank
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov, summary

stats = pytest.importorskip("scipy.stats")

# Shrout and Fleiss, Psychological Bulletin 1979, table 2: six subjects, four judges.
SHROUT_FLEISS = [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]]
# Bland and Altman, Lancet 1986, table 1: peak flow by two meters, first readings (l/min).
WRIGHT = [494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427]
MINI = [512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451]


class TestSummary:
    def test_known_numbers(self):
        found = summary([1, 2, 3, 4, 10])
        assert (found.n, found.mean, found.median) == (5, 4, 3)
        assert found.sd == pytest.approx(math.sqrt(50 / 4))
        # t of 4 degrees of freedom: 2.776.
        assert (found.low, found.high) == pytest.approx(
            (4 - 2.776 * math.sqrt(2.5), 4 + 2.776 * math.sqrt(2.5)), abs=0.001
        )
        assert found.trimmed_mean == found.mean

    @pytest.mark.parametrize("trim", [0.1, 0.2])
    def test_trimmed_mean_and_interval_are_scipys(self, trim):
        values = np.random.default_rng(0).standard_t(2, 40)
        found = summary(values, trim=trim, confidence=0.9)
        assert found.trimmed_mean == pytest.approx(stats.trim_mean(values, trim))
        low, high = stats.mstats.trimmed_mean_ci(values, limits=(trim, trim), alpha=0.1)
        assert (found.low, found.high) == pytest.approx((low, high))
        plain = summary(values, confidence=0.9)
        expected = stats.ttest_1samp(values, 0).confidence_interval(0.9)
        assert (plain.low, plain.high) == pytest.approx((expected.low, expected.high))

    def test_intervals_hold_their_level(self):
        rng = np.random.default_rng(0)
        found = [summary(rng.normal(3, 2, 20), confidence=0.8) for _ in range(1500)]
        assert np.mean([f.low < 3 < f.high for f in found]) == pytest.approx(0.8, abs=0.03)

    def test_values_that_are_not_finite_are_counted(self):
        found = summary([1, math.nan, 3, math.inf, -math.inf])
        assert (found.n, found.undefined, found.mean, found.median) == (2, 3, 2, 2)
        # The median takes infinite values for the largest.
        assert summary([1, 2, math.inf]).median == 2
        assert summary([1, math.inf, math.inf]).median == summary([math.inf] * 2).median == math.inf

    @pytest.mark.parametrize("subjects", [4, 10])
    def test_intervals_over_subjects_hold_their_level_where_others_do_not(self, subjects):
        rng = np.random.default_rng(0)
        inside = {"jackknife": 0, "slices": 0, "bootstrap": 0}
        for _ in range(400):
            sizes = rng.integers(6, 18, subjects)
            whose = np.repeat(np.arange(subjects), sizes)
            values = rng.normal(0, 1, subjects)[whose] + rng.normal(0, 1, sizes.sum())
            drawn = rng.integers(0, subjects, (300, subjects))
            means = np.bincount(whose, values)[drawn].sum(1) / sizes[drawn].sum(1)
            ours, naive = summary(values, subjects=whose), summary(values)
            inside["jackknife"] += ours.low < 0 < ours.high
            inside["slices"] += naive.low < 0 < naive.high
            inside["bootstrap"] += np.percentile(means, 2.5) < 0 < np.percentile(means, 97.5)
        assert inside["jackknife"] / 400 == pytest.approx(0.95, abs=0.03)
        assert inside["slices"] / 400 < 0.65 and inside["bootstrap"] < inside["jackknife"]

    def test_one_value_a_subject_is_the_plain_interval(self):
        values = np.random.default_rng(0).normal(size=12)
        assert summary(values, subjects=range(12)) == summary(values)
        one = summary(values, subjects=["a"] * 12)
        assert one.n_subjects == 1 and math.isnan(one.low) and one.mean == pytest.approx(values.mean())

    def test_few_values(self):
        none, one, two = summary([]), summary([7]), summary([7, 9], trim=0.4)
        assert none.n == 0
        assert all(math.isnan(v) for v in (none.mean, none.median, none.sd, none.trimmed_mean, none.low))
        assert (one.mean, one.median, one.trimmed_mean) == (7, 7, 7)
        assert all(math.isnan(v) for v in (one.sd, one.low, one.high))
        assert two.low == pytest.approx(8 - 12.706, abs=0.001)


class TestMannWhitney:
    def test_permeability(self):
        # Hollander and Wolfe, Nonparametric Statistical Methods 1973, p. 69; W = 35, one-sided p 0.1272.
        a = [0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46]
        b = [1.15, 0.88, 0.90, 0.74, 1.21]
        found = mann_whitney(a, b)
        assert (found.n_first, found.n_second, found.statistic) == (10, 5, 35)
        assert found.p == pytest.approx(2 * 0.1272, abs=1e-4)
        assert found.rank_biserial == pytest.approx(0.4)

    def test_exact_with_ties_counts_every_arrangement(self):
        rng = np.random.default_rng(0)
        for _ in range(20):
            a, b = rng.integers(0, 4, 4), rng.integers(1, 5, 5)
            ranks = stats.rankdata([*a, *b])
            sums = np.array([sum(chosen) for chosen in combinations(ranks, 4)])
            at = ranks[:4].sum()
            expected = min(1, 2 * min((sums <= at).mean(), (sums >= at).mean()))
            assert mann_whitney(a, b).p == pytest.approx(expected)

    def test_many_values_with_ties_are_scored_by_the_normal_approximation(self):
        rng = np.random.default_rng(1)
        a, b = np.round(rng.normal(size=60)), np.round(rng.normal(0.4, size=45))
        ranks = stats.rankdata([*a, *b])
        deviation = abs(ranks[:60].sum() - 60 * 106 / 2) - 0.5
        variance = 60 * 45 / (105 * 104) * ((ranks - 53) ** 2).sum()
        assert mann_whitney(a, b).p == pytest.approx(2 * stats.norm.sf(deviation / math.sqrt(variance)))

    def test_effect_is_cliffs_delta(self):
        rng = np.random.default_rng(2)
        a, b = rng.integers(0, 9, 30), rng.integers(2, 11, 40)
        delta = np.sign(a[:, None] - b).mean()
        assert mann_whitney(a, b).rank_biserial == pytest.approx(delta)
        assert mann_whitney(b, a).rank_biserial == pytest.approx(-delta)
        assert mann_whitney([1, 2], [3, 4, 5]).rank_biserial == -1

    def test_infinity_is_the_largest_rank_and_nan_is_left_out(self):
        found = mann_whitney([1, math.inf, math.nan, math.inf], [2, 3, math.nan])
        assert found == mann_whitney([1, 9, 9], [2, 3])
        assert (found.n_first, found.n_second) == (3, 2)

    def test_few_or_equal_values(self):
        for a, b in (([], [1]), ([1], []), ([math.nan], [1])):
            found = mann_whitney(a, b)
            assert math.isnan(found.p)
            assert math.isnan(found.rank_biserial)
        assert mann_whitney([1], [2]).p == 1
        assert mann_whitney([5] * 40, [5] * 40).p == 1
        assert mann_whitney([5] * 3, [5] * 3).rank_biserial == 0


class TestWilcoxon:
    def test_depression(self):
        # Hollander and Wolfe 1973, p. 29; V = 40, one-sided p 0.0195.
        a = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        b = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        found = wilcoxon_signed_rank(a, b)
        assert (found.n_first, found.statistic) == (9, 5)
        assert found.p == pytest.approx(2 * 0.01953125)
        assert found.rank_biserial == pytest.approx(35 / 45)

    def test_darwins_maize(self):
        # Differences of height of 15 pairs (Fisher, The Design of Experiments 1935); T = 24.
        d = np.array([6, 8, 14, 16, 23, 24, 28, 29, 41, -48, 49, 56, 60, -67, 75])
        found = wilcoxon_signed_rank(d, np.zeros(15))
        assert found.statistic == 24
        assert found.p == pytest.approx(0.041259765625)

    def test_exact_with_ties_and_zeros_counts_every_sign(self):
        rng = np.random.default_rng(3)
        for _ in range(20):
            d = rng.integers(-2, 4, 9)
            ranks = stats.rankdata(abs(d))[d != 0]
            sums = np.array([np.dot(signs, ranks) for signs in product((0, 1), repeat=len(ranks))])
            at = ranks[d[d != 0] > 0].sum()
            found = wilcoxon_signed_rank(d, np.zeros(9))
            assert (found.n_first, found.statistic) == (9, min(at, ranks.sum() - at))
            assert found.p == pytest.approx(min(1, 2 * min((sums <= at).mean(), (sums >= at).mean())))

    def test_many_pairs_with_ties_are_scored_by_the_normal_approximation(self):
        d = np.round(np.random.default_rng(4).normal(0.3, 1.2, 120))
        found = wilcoxon_signed_rank(d, np.zeros(120))
        ranks = stats.rankdata(abs(d))[d != 0]
        deviation = abs(found.statistic - ranks.sum() / 2) - 0.5
        assert found.p == pytest.approx(2 * stats.norm.sf(deviation / math.sqrt((ranks**2).sum() / 4)))

    def test_both_infinite_is_equal_and_nan_leaves_its_pair_out(self):
        inf = math.inf
        found = wilcoxon_signed_rank([1, inf, inf, math.nan, 3], [2, inf, 4, 1, 1])
        assert found == wilcoxon_signed_rank([1, 0, 9, 3], [2, 0, 4, 1])
        assert found.n_first == 4

    def test_few_or_equal_pairs(self):
        none = wilcoxon_signed_rank([], [])
        assert none.n_first == 0
        assert math.isnan(none.p)
        assert math.isnan(none.rank_biserial)
        same = wilcoxon_signed_rank([1, 2], [1, 2])
        assert (same.n_first, same.p, same.rank_biserial) == (2, 1, 0)
        assert wilcoxon_signed_rank([1], [0]).p == 1
        assert wilcoxon_signed_rank([1, 2], [0, 0]).p == 0.5

    def test_bad_input_is_refused(self):
        with pytest.raises(ValueError, match="one length"):
            wilcoxon_signed_rank([1, 2], [1])


class TestHodgesLehmann:
    def test_depression(self):
        # The data of the signed-rank test above; estimate and interval as R's wilcox.test(conf.int = TRUE) gives them.
        a = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
        b = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
        found = hodges_lehmann(a, b)
        assert (found.value, found.low, found.high) == pytest.approx((0.46, 0.010, 0.786))

    def test_the_interval_holds_what_the_test_does_not_refuse(self):
        rng = np.random.default_rng(5)
        for n in (6, 9, 20):
            d = rng.normal(0.5, 1, n)
            found = hodges_lehmann(d, np.zeros(n))
            for shift, refused in ((found.low - 1e-6, True), (found.low + 1e-6, False), (found.high + 1e-6, True)):
                assert (wilcoxon_signed_rank(d, np.full(n, shift)).p <= 0.05) == refused

    def test_few_pairs_and_infinities(self):
        five = hodges_lehmann([1, 2, 3, 4, 5], np.zeros(5))
        assert five.value == 3 and math.isnan(five.low)
        assert math.isnan(hodges_lehmann([], []).value)
        found = hodges_lehmann([math.inf, 1, 2, math.inf], [math.inf, 0, 0, 1])
        assert (found.value, math.isnan(found.high)) == (1.75, True)


class TestHolm:
    def test_published_example(self):
        # Benjamini and Hochberg, J R Stat Soc B 1995, section 3: 15 tests, of which Holm rejects three at 0.05.
        p = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344]
        p += [0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]
        assert (holm(p) <= 0.05).sum() == 3
        assert holm(p)[:3] == pytest.approx([15 * 0.0001, 14 * 0.0004, 13 * 0.0019])

    def test_order_is_kept_and_steps_never_fall(self):
        assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
        assert holm([0.9, 0.8]).tolist() == [1, 1]

    def test_edges(self):
        assert holm([]).shape == (0,)
        assert holm([0.3]) == pytest.approx([0.3])
        found = holm([0.01, math.nan, 0.02])
        assert np.isnan(found).tolist() == [False, True, False]
        np.testing.assert_allclose(found[[0, 2]], holm([0.01, 0.02]))


class TestIcc:
    def test_shrout_and_fleiss(self):
        # Value: Shrout and Fleiss 1979, table 4. Interval: pingouin 0.7, to the two digits it prints.
        found = icc(SHROUT_FLEISS)
        assert found.value == pytest.approx(0.29, abs=0.005)
        assert (found.low, found.high) == pytest.approx((0.02, 0.76), abs=0.005)

    def test_a_constant_bias_lowers_it(self):
        truth = np.random.default_rng(0).normal(70, 8, 50)
        pair = np.stack([truth, truth + 8], 1)
        assert icc(pair).value == pytest.approx(truth.var(ddof=1) / (truth.var(ddof=1) + 32), rel=1e-6)
        assert icc(np.stack([truth, truth], 1)).low == 1

    def test_interval_holds_its_level(self):
        rng = np.random.default_rng(1)
        inside = 0
        for _ in range(600):
            found = icc(rng.normal(0, 2, (20, 1)) + rng.normal(0, 1, (20, 3)), confidence=0.9)
            inside += found.low < 0.8 < found.high
        assert inside / 600 == pytest.approx(0.9, abs=0.035)

    def test_a_wider_level_is_wider(self):
        narrow, wide = icc(SHROUT_FLEISS, confidence=0.8), icc(SHROUT_FLEISS, confidence=0.99)
        assert wide.low < narrow.low < narrow.value < narrow.high < wide.high

    def test_subjects_with_a_gap_are_left_out(self):
        found = icc([*SHROUT_FLEISS, [1, 2, math.nan, 4], [1, math.inf, 3, 4]])
        assert found.value == icc(SHROUT_FLEISS).value

    def test_undefined(self):
        for x in (np.zeros((0, 2)), [[1, 2]], [[1], [2]], np.zeros((3, 0)), np.full((4, 3), 0.1)):
            found = icc(x)
            assert math.isnan(found.value), x
            assert math.isnan(found.low), x
        found = icc([[1, 2], [3, 1]])
        assert found.low <= found.value <= found.high


class TestBlandAltman:
    def test_published_example(self):
        found = bland_altman(WRIGHT, MINI)
        assert (found.n, found.bias, found.sd) == (17, pytest.approx(-2.1, abs=0.05), pytest.approx(38.8, abs=0.05))
        assert (found.bias_low, found.bias_high) == pytest.approx((-22.0, 17.8), abs=0.1)
        # The paper takes 2 SD, and sqrt(3 / n) SD for the standard error of a limit: half of 69.2 wide.
        assert found.lower_high - found.lower_low == pytest.approx(69.2, abs=0.5)
        assert found.upper_high - found.upper_low == pytest.approx(69.2, abs=0.5)
        assert (found.lower_low + found.lower_high) / 2 == pytest.approx(found.lower)

    def test_slope_is_the_regression_on_the_mean(self):
        a, b = np.array(WRIGHT, float), np.array(MINI, float)
        expected = stats.linregress((a + b) / 2, a - b)
        found = bland_altman(a, b)
        assert (found.slope, found.intercept, found.slope_p) == pytest.approx(
            (expected.slope, expected.intercept, expected.pvalue)
        )

    def test_finds_a_proportional_bias(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(40, 90, 80)
        found = bland_altman(1.1 * truth + rng.normal(0, 1, 80), truth)
        assert found.slope == pytest.approx(0.1 / 1.05, abs=0.02)
        assert found.slope_p < 1e-6
        constant = bland_altman(truth + 0.1, truth)
        assert (constant.slope, constant.slope_p) == (0, 1)

    def test_known_numbers(self):
        found = bland_altman([11, 22, 33], [9, 18, 27])
        assert (found.n, found.bias, found.sd) == (3, 4, 2)
        assert (found.lower, found.upper) == pytest.approx((4 - 3.92, 4 + 3.92))
        # 2 of 9 of each second measurement.
        assert (found.bias_percent, found.sd_percent) == (pytest.approx(200 / 9), pytest.approx(0, abs=1e-12))
        assert (found.lower_percent, found.upper_percent) == pytest.approx((200 / 9, 200 / 9))
        assert found.slope == pytest.approx(0.2)

    def test_limits_and_intervals_hold_their_level(self):
        rng = np.random.default_rng(0)
        b = rng.uniform(50, 100, 4000)
        d = rng.normal(1.5, 3, 4000)
        found = bland_altman(b + d, b)
        assert np.mean((d > found.lower) & (d < found.upper)) == pytest.approx(0.95, abs=0.01)
        assert found.bias == pytest.approx(1.5, abs=0.15)
        parts = [bland_altman(b[k : k + 20] + d[k : k + 20], b[k : k + 20]) for k in range(0, 4000, 20)]
        assert np.mean([p.bias_low < 1.5 < p.bias_high for p in parts]) == pytest.approx(0.95, abs=0.05)
        limit = 1.5 + 1.96 * 3
        assert np.mean([p.upper_low < limit < p.upper_high for p in parts]) == pytest.approx(0.95, abs=0.05)

    def test_missing_values_leave_their_pair_out(self):
        assert bland_altman([1, np.nan, 3], [1, 2, np.inf]).n == 1

    def test_few_pairs(self):
        none, one, two = bland_altman([], []), bland_altman([1], [2]), bland_altman([1, 4], [2, 3])
        assert none.n == 0
        assert math.isnan(none.bias)
        assert one.bias == -1
        assert all(math.isnan(v) for v in (one.sd, one.lower, one.bias_low, one.upper_high, one.slope))
        assert two.bias_low == pytest.approx(-12.706, abs=0.001)
        assert (two.slope, math.isnan(two.slope_p)) == (1, True)
        assert math.isnan(bland_altman([1, 2, 3], [3, 2, 1]).slope)

    def test_a_percentage_needs_something_to_be_of(self):
        assert bland_altman([1, 3], [0, 2]).bias_percent == 50
        assert math.isnan(bland_altman([1], [0]).bias_percent)

    def test_repeated_measures_have_the_variance_between_and_within_subjects(self):
        # Unequal groups: (0, 2), (4, 4, 7) and (9): mean squares 26.25 between (2) and 8/3 within (3 degrees).
        whose, d = ["a", "a", "b", "b", "b", "c"], np.array([0, 2, 4, 4, 7, 9.0])
        between = sum(n * (m - d.mean()) ** 2 for n, m in ((2, 1), (3, 5), (1, 9))) / 2
        within = (2 + 6) / 3
        share = (36 - (4 + 9 + 1)) / (2 * 6)
        found = bland_altman(50 + d, np.full(6, 50.0), whose)
        assert (found.n, found.n_subjects, found.bias) == (6, 3, pytest.approx(d.mean()))
        assert found.sd == pytest.approx(math.sqrt(within + (between - within) / share))
        # One pair a subject is the method of 1986.
        assert bland_altman(WRIGHT, MINI, range(17)) == bland_altman(WRIGHT, MINI)

    def test_limits_of_repeated_measures_hold_their_level(self):
        rng = np.random.default_rng(0)
        inside, covered = [], 0
        for _ in range(150):
            sizes = rng.integers(4, 16, 12)
            whose = np.repeat(np.arange(12), sizes)
            d = 1 + rng.normal(0, 2, 12)[whose] + rng.normal(0, 1, sizes.sum())
            found = bland_altman(80 + d, np.full(len(d), 80.0), whose)
            new = 1 + rng.normal(0, math.sqrt(5), 200)
            inside.append(np.mean((new > found.lower) & (new < found.upper)))
            covered += found.bias_low < 1 < found.bias_high
        assert np.mean(inside) == pytest.approx(0.95, abs=0.03)
        assert covered / 150 == pytest.approx(0.95, abs=0.05)

    def test_lengths_must_be_equal(self):
        with pytest.raises(ValueError, match="one length"):
            bland_altman([1, 2], [1])


class TestScanRescan:
    def test_known_numbers(self):
        # SD of (9, 11) is sqrt(2), 14.14 % of 10; the other pair adds nothing.
        assert scan_rescan_cov([9, 5], [11, 5]) == pytest.approx(100 * math.sqrt((0.02 + 0) / 2))
        assert scan_rescan_cov([9], [11]) == pytest.approx(100 * np.std([9, 11], ddof=1) / 10)
        assert scan_rescan_cov([9, 5], [11, 5], [10, 5]) == pytest.approx(100 * math.sqrt((0.01 + 0) / 2))

    @pytest.mark.parametrize("repeats", [2, 4])
    def test_finds_the_spread_that_was_put_in(self, repeats):
        rng = np.random.default_rng(0)
        truth = rng.uniform(10, 90, 5000)
        assert scan_rescan_cov(*truth * rng.normal(1, 0.03, (repeats, 5000))) == pytest.approx(3, rel=0.05)

    def test_a_subject_with_a_gap_is_left_out(self):
        assert scan_rescan_cov([9, 5], [11, np.nan]) == scan_rescan_cov([9], [11])
        assert scan_rescan_cov([9, 5], [11, 6], [10, np.inf]) == scan_rescan_cov([9], [11], [10])

    def test_needs_positive_values(self):
        with pytest.raises(ValueError, match="above 0"):
            scan_rescan_cov([0], [0])
        with pytest.raises(ValueError, match="one length"):
            scan_rescan_cov([1, 2], [1, 2], [1])
        assert math.isnan(scan_rescan_cov([], []))
