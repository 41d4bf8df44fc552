"""Agreement of masks: against shapes with known answers, and against SimpleITK and MONAI on random pairs."""

import dataclasses
import math

import numpy as np
import pytest

from sctseg7t.measure import agreement
from sctseg7t.measure.agreement import compare_masks, compare_slices
from sctseg7t.measure.statistics import bland_altman, scan_rescan_cov

pytest.importorskip("scipy")

OVERLAP = ("dice", "jaccard", "sensitivity", "precision", "volumetric_similarity")
DISTANCES = (
    "hausdorff_mm", "hausdorff_all_mm", "hausdorff95_mm", "assd_mm",
    "average_hausdorff_max_mm", "average_hausdorff_mean_mm",
)  # fmt: skip


def box(shape, *limits):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(*pair) for pair in limits)] = True
    return mask


def disc(radius_mm, spacing, centre_mm=(10, 10), size_mm=20):
    x, y = (np.arange(round(size_mm / s)) * s for s in spacing)
    return (x[:, None] - centre_mm[0]) ** 2 + (y - centre_mm[1]) ** 2 <= radius_mm**2


# ---- known answers ---------------------------------------------------------------


class TestKnownShapes:
    def test_a_mask_agrees_with_itself(self):
        found = compare_masks(*[disc(5, (0.5, 0.5))] * 2, (0.5, 0.5))
        assert [getattr(found, name) for name in OVERLAP] == [1] * 5
        assert [getattr(found, name) for name in DISTANCES] == [0] * 6
        assert (found.normalised_surface_dice, found.size_difference) == (1, 0)

    def test_rectangles_one_inside_the_other(self):
        reference, mask = box((12, 12), (2, 8), (2, 6)), box((12, 12), (2, 8), (2, 9))
        found = compare_masks(reference, mask, (0.5, 2.0))
        assert found.dice == pytest.approx(2 * 24 / (24 + 42))
        assert found.jaccard == pytest.approx(24 / 42)
        assert (found.sensitivity, found.precision) == (1, pytest.approx(24 / 42))
        assert found.volumetric_similarity == pytest.approx(1 - 18 / 66)
        assert (found.reference_size, found.mask_size, found.size_difference) == (24, 42, 18)
        assert found.size_difference_percent == pytest.approx(75)
        # Three columns of 2 mm; from the reference's last column the nearest edge is the mask's short side.
        assert found.hausdorff_mm == 6
        assert found.hausdorff_all_mm == 6
        # 18 extra voxels at 2, 4 and 6 mm, over 42 voxels one way and none the other.
        assert found.average_hausdorff_max_mm == pytest.approx(6 * (2 + 4 + 6) / 42)
        assert found.average_hausdorff_mean_mm == pytest.approx(6 * (2 + 4 + 6) / 42 / 2)

    def test_concentric_discs(self):
        spacing = (0.1, 0.1)
        found = compare_masks(disc(6, spacing), disc(4, spacing), spacing, tolerance_mm=1.8)
        assert found.dice == pytest.approx(2 * 16 / (16 + 36), abs=0.01)
        assert found.reference_size == pytest.approx(math.pi * 36, rel=0.01)
        for name in ("hausdorff_mm", "hausdorff95_mm", "assd_mm"):
            assert getattr(found, name) == pytest.approx(2, abs=0.12)
        # Over the ring from 4 to 6 mm: the mean distance to the smaller disc, over all of the larger.
        ring = 2 * math.pi * ((6**3 - 4**3) / 3 - 4 * (6**2 - 4**2) / 2)
        assert found.average_hausdorff_max_mm == pytest.approx(ring / (math.pi * 36), rel=0.03)
        assert found.average_hausdorff_mean_mm == pytest.approx(found.average_hausdorff_max_mm / 2)
        assert found.normalised_surface_dice < 0.05
        assert agreement.normalised_surface_dice(disc(6, spacing), disc(4, spacing), spacing, 2.2) == 1

    def test_single_voxels_are_their_distance_apart(self):
        reference, mask = np.zeros((2, 9, 9, 9), bool)
        reference[1, 2, 3] = mask[4, 6, 8] = True
        spacing = (0.2, 0.5, 3.0)
        expected = math.sqrt(0.6**2 + 2**2 + 15**2)
        found = compare_masks(reference, mask, spacing)
        assert found.dice == 0
        assert [getattr(found, name) for name in DISTANCES] == pytest.approx([expected] * 6)
        assert found.reference_size == pytest.approx(0.3)

    def test_a_hole_is_a_surface_but_no_voxel_outside(self):
        reference, mask = box((30, 30), (2, 28), (2, 28)), box((30, 30), (2, 28), (2, 28))
        mask[15, 15] = False
        assert agreement.hausdorff(reference, mask, (1, 1), points="all") == 1
        # The hole's rim is the four voxels beside it, the farthest one 12 from the outline.
        assert agreement.hausdorff(reference, mask, (1, 1)) == 12

    def test_both_definitions_of_hd95(self):
        # One direction has a far fifth of its voxels, the other none.
        reference = box((60, 3), (0, 40), (1, 2))
        mask = box((60, 3), (0, 50), (1, 2))
        directed = agreement.hausdorff95(reference, mask, (1, 1))
        pooled = agreement.hausdorff95(reference, mask, (1, 1), definition="pooled")
        distances = [*[0] * 40, *range(1, 11)]
        assert directed == pytest.approx(np.percentile(distances, 95))
        assert pooled == pytest.approx(np.percentile([*distances, *[0] * 40], 95))
        assert pooled < directed

    def test_the_tolerance_is_inclusive(self):
        reference, mask = box((9, 9), (2, 5), (2, 5)), box((9, 9), (3, 6), (2, 5))
        assert agreement.normalised_surface_dice(reference, mask, (0.1, 0.1), 0.1) == 1
        assert agreement.normalised_surface_dice(reference, mask, (0.1, 0.1), 0.099) < 1

    def test_the_image_border_is_outside(self):
        full = np.ones((5, 5), bool)
        # The rim is the surface; its corner is sqrt(8) from the middle's single voxel.
        assert agreement.hausdorff(full, box((5, 5), (2, 3), (2, 3)), (1, 1)) == pytest.approx(math.sqrt(8))


class TestEmpty:
    def test_both(self):
        found = compare_masks(*np.zeros((2, 4, 4), bool), (1, 1))
        for name in (*OVERLAP, *DISTANCES, "normalised_surface_dice", "size_difference_percent"):
            assert math.isnan(getattr(found, name)), name
        assert found.size_difference == 0

    @pytest.mark.parametrize("swapped", [False, True])
    def test_one(self, swapped):
        pair = [np.zeros((4, 4), bool), box((4, 4), (0, 2), (0, 2))]
        found = compare_masks(*pair[:: -1 if swapped else 1], (1, 1))
        assert (found.dice, found.jaccard, found.volumetric_similarity, found.normalised_surface_dice) == (0, 0, 0, 0)
        assert [getattr(found, name) for name in DISTANCES] == [math.inf] * 6
        defined, undefined = ("sensitivity", "precision") if swapped else ("precision", "sensitivity")
        assert getattr(found, defined) == 0
        assert math.isnan(getattr(found, undefined))
        assert found.size_difference == (-4 if swapped else 4)


class TestInput:
    def test_zeros_and_ones_of_any_type_serve(self):
        mask = disc(4, (1, 1))
        assert agreement.dice(mask.astype(np.float32), mask.astype(np.uint8)) == 1

    @pytest.mark.parametrize(
        ("reference", "mask", "spacing", "message"),
        [
            (np.zeros((3, 3)), np.zeros((3, 4)), (1, 1), "shapes"),
            (np.zeros(3), np.zeros(3), (1,), "2D or 3D"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (1, 1, 1), "spacing"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (1, 0), "spacing"),
            (np.full((3, 3), 0.5), np.zeros((3, 3)), (1, 1), "0 and 1"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, reference, mask, spacing, message):
        with pytest.raises(ValueError, match=message):
            compare_masks(reference, mask, spacing)

    @pytest.mark.parametrize(
        ("function", "option"),
        [("hausdorff", "points"), ("hausdorff95", "definition"), ("average_hausdorff", "combine")],
    )
    def test_unknown_definitions_are_refused(self, function, option):
        with pytest.raises(ValueError, match="choose one of"):
            getattr(agreement, function)(*np.ones((2, 3, 3), bool), (1, 1), **{option: "other"})


# ---- one pass, slices, functions -------------------------------------------------


def random_pairs(count, seed=0):
    """Pairs in 2D and 3D: blobs, speckle, single voxels, masks at the border, empty ones, anisotropic spacing."""
    rng = np.random.default_rng(seed)
    for n in range(count):
        ndim = 2 + n % 2
        shape = tuple(rng.integers(4, 14, ndim))
        spacing = tuple(float(s) for s in rng.uniform(0.2, 1.0, ndim) * (1, 1, 5)[:ndim])
        yield tuple(_random_mask(rng, shape, n + k) for k in (0, 3)), spacing


def _random_mask(rng, shape, kind):
    if kind % 11 == 0:
        return np.zeros(shape, bool)
    mask = np.zeros(shape, bool)
    if kind % 11 == 1:
        mask[tuple(rng.integers(0, shape))] = True
        return mask
    if kind % 11 < 5:
        return rng.random(shape) < rng.uniform(0.05, 0.9)
    grid = np.meshgrid(*(np.arange(n) for n in shape), indexing="ij")
    centre, radius = rng.uniform(0, shape), rng.uniform(1, 7)
    mask = sum((g - c) ** 2 for g, c in zip(grid, centre)) <= radius**2
    if kind % 11 == 5:
        mask[0] = True
    return mask


def test_functions_return_what_compare_masks_does():
    for pair, spacing in random_pairs(40, seed=3):
        found = compare_masks(*pair, spacing, tolerance_mm=0.7)
        single = {name: getattr(agreement, name)(*pair) for name in OVERLAP} | {
            "hausdorff_mm": agreement.hausdorff(*pair, spacing),
            "hausdorff_all_mm": agreement.hausdorff(*pair, spacing, points="all"),
            "hausdorff95_mm": agreement.hausdorff95(*pair, spacing),
            "assd_mm": agreement.assd(*pair, spacing),
            "average_hausdorff_max_mm": agreement.average_hausdorff(*pair, spacing),
            "average_hausdorff_mean_mm": agreement.average_hausdorff(*pair, spacing, combine="mean"),
            "normalised_surface_dice": agreement.normalised_surface_dice(*pair, spacing, 0.7),
            "size_difference": agreement.size_difference(*pair, spacing),
        }
        np.testing.assert_allclose([getattr(found, name) for name in single], list(single.values()), rtol=1e-12)


def test_distances_do_not_depend_on_what_lies_around():
    for pair, spacing in random_pairs(20, seed=4):
        padded = [np.pad(mask, 5) for mask in pair]
        np.testing.assert_allclose(
            dataclasses.astuple(compare_masks(*padded, spacing)), dataclasses.astuple(compare_masks(*pair, spacing))
        )


def test_slices_are_compared_in_2d():
    rng = np.random.default_rng(0)
    reference, mask = rng.random((2, 9, 8, 5)) < 0.4
    mask[..., 2] = False
    found = compare_slices(reference, mask, (0.3, 0.6, 5.0), tolerance_mm=0.4)
    assert len(found) == 5
    for k, one in enumerate(found):
        expected = compare_masks(reference[..., k], mask[..., k], (0.3, 0.6), tolerance_mm=0.4)
        np.testing.assert_equal(dataclasses.astuple(one), dataclasses.astuple(expected))
    assert found[2].hausdorff_mm == math.inf


# ---- independent libraries -------------------------------------------------------


def boundary(mask):
    from scipy.ndimage import binary_erosion

    return mask & ~binary_erosion(mask)


@pytest.fixture(scope="module")
def sitk():
    return pytest.importorskip("SimpleITK")


class TestSimpleITK:
    """LabelOverlapMeasures and HausdorffDistance, of the masks (all voxels) and of their boundaries."""

    def image(self, sitk, mask, spacing):
        image = sitk.GetImageFromArray(mask.astype(np.uint8).transpose())
        image.SetSpacing(spacing)
        return image

    def hausdorff(self, sitk, pair, spacing):
        measure = sitk.HausdorffDistanceImageFilter()
        measure.Execute(*(self.image(sitk, mask, spacing) for mask in pair))
        return measure.GetHausdorffDistance(), measure.GetAverageHausdorffDistance()

    def test_distances(self, sitk):
        compared = 0
        for pair, spacing in random_pairs(400):
            if not all(mask.any() for mask in pair):
                continue
            found = compare_masks(*pair, spacing)
            largest, mean = self.hausdorff(sitk, pair, spacing)
            assert (found.hausdorff_all_mm, found.average_hausdorff_mean_mm) == pytest.approx((largest, mean), rel=1e-5)
            largest, _ = self.hausdorff(sitk, [boundary(mask) for mask in pair], spacing)
            assert found.hausdorff_mm == pytest.approx(largest, rel=1e-5)
            compared += 1
        assert compared > 300

    def test_overlap(self, sitk):
        compared = 0
        for pair, spacing in random_pairs(400, seed=1):
            if not all(mask.any() for mask in pair):
                continue
            measure = sitk.LabelOverlapMeasuresImageFilter()
            # The reference is ITK's second argument.
            measure.Execute(*(self.image(sitk, mask, spacing) for mask in pair[::-1]))
            found = compare_masks(*pair, spacing)
            # ITK's volume similarity is signed and twice as large.
            expected = (
                measure.GetDiceCoefficient(), measure.GetJaccardCoefficient(), 1 - measure.GetFalseNegativeError(),
                1 - measure.GetFalseDiscoveryRate(), 1 - abs(measure.GetVolumeSimilarity()) / 2,
            )  # fmt: skip
            got = tuple(getattr(found, name) for name in OVERLAP)
            assert got == pytest.approx(expected, rel=1e-6)
            compared += 1
        assert compared > 300


@pytest.mark.filterwarnings("ignore")
def test_distances_match_monai():
    """HD, HD95 (directed), ASSD, MONAI's values for empty masks, and its surface Dice."""
    torch = pytest.importorskip("torch")
    metrics = pytest.importorskip("monai.metrics")
    for pair, spacing in random_pairs(330, seed=2):
        reference, mask = (torch.from_numpy(m)[None, None] for m in pair)
        options = {"include_background": True, "spacing": spacing}
        expected = {
            "hausdorff_mm": metrics.compute_hausdorff_distance(mask, reference, **options),
            "assd_mm": metrics.compute_average_surface_distance(mask, reference, symmetric=True, **options),
            "normalised_surface_dice": metrics.compute_surface_dice(mask, reference, [0.8], **options),
        }
        if all(m.any() for m in pair):
            # With one empty mask its percentile of infinities and its Dice are nan; ours are inf and 0.
            expected["hausdorff95_mm"] = metrics.compute_hausdorff_distance(mask, reference, percentile=95, **options)
            expected["dice"] = metrics.compute_dice(mask, reference, include_background=True)
        found = compare_masks(*pair, spacing, tolerance_mm=0.8)
        got = [getattr(found, name) for name in expected]
        np.testing.assert_allclose(got, [float(value) for value in expected.values()], rtol=1e-5)


# ---- measurements ----------------------------------------------------------------


class TestBlandAltman:
    def test_known_numbers(self):
        found = bland_altman([11, 22, 33], [9, 18, 27])
        assert (found.n, found.bias, found.sd) == (3, 4, 2)
        assert (found.lower, found.upper) == pytest.approx((4 - 3.92, 4 + 3.92))
        # 20 % of each pair's mean.
        assert (found.bias_percent, found.sd_percent) == (pytest.approx(20), pytest.approx(0, abs=1e-12))
        assert (found.lower_percent, found.upper_percent) == pytest.approx((20, 20))

    def test_limits_hold_95_percent_of_normal_differences(self):
        rng = np.random.default_rng(0)
        b = rng.uniform(50, 100, 4000)
        d = rng.normal(1.5, 3, 4000)
        found = bland_altman(b + d, b)
        assert np.mean((d > found.lower) & (d < found.upper)) == pytest.approx(0.95, abs=0.01)
        assert found.bias == pytest.approx(1.5, abs=0.15)

    def test_missing_values_leave_their_pair_out(self):
        assert bland_altman([1, np.nan, 3], [1, 2, np.inf]).n == 1
        none = bland_altman([], [])
        assert none.n == 0
        assert math.isnan(none.bias)
        assert math.isnan(bland_altman([1], [2]).sd)

    def test_pairs_of_zeros_agree(self):
        assert bland_altman([0, 2], [0, 2]).bias_percent == 0

    def test_lengths_must_be_equal(self):
        with pytest.raises(ValueError, match="one length"):
            bland_altman([1, 2], [1])


class TestScanRescan:
    def test_known_numbers(self):
        # SD of (9, 11) is sqrt(2), 14.14 % of 10; the other pair adds nothing.
        assert scan_rescan_cov([9, 5], [11, 5]) == pytest.approx(100 * math.sqrt((0.02 + 0) / 2))
        assert scan_rescan_cov([9], [11]) == pytest.approx(100 * np.std([9, 11], ddof=1) / 10)

    def test_finds_the_spread_that_was_put_in(self):
        rng = np.random.default_rng(0)
        truth = rng.uniform(10, 90, 5000)
        first, second = truth * rng.normal(1, 0.03, (2, 5000))
        assert scan_rescan_cov(first, second) == pytest.approx(3, rel=0.05)

    def test_needs_positive_values(self):
        with pytest.raises(ValueError, match="above 0"):
            scan_rescan_cov([0], [0])
        assert math.isnan(scan_rescan_cov([], []))
