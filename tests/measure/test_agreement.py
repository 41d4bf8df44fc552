"""Agreement of masks: shapes with known answers, empty masks, levels, voxel units, bad input."""

import dataclasses
import math

import numpy as np
import pytest
from agreement_helpers import random_pairs

from sctseg7t.measure.agreement import compare_in_voxels, compare_masks

OVERLAP = ("dice", "jaccard", "sensitivity", "precision", "volumetric_similarity")
DISTANCES = (
    "hausdorff_mm",
    "hausdorff_all_mm",
    "hausdorff95_mm",
    "assd_mm",
    "average_hausdorff_max_mm",
    "average_hausdorff_mean_mm",
)


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
        assert compare_masks(disc(6, spacing), disc(4, spacing), spacing, tolerance_mm=2.2).normalised_surface_dice == 1

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
        found = compare_masks(reference, mask, (1, 1))
        assert found.hausdorff_all_mm == 1
        # The hole's rim is the four voxels beside it, the farthest one 12 from the outline.
        assert found.hausdorff_mm == 12

    def test_hd95_is_the_larger_of_the_two_directions(self):
        # One direction has a far fifth of its voxels, the other none.
        found = compare_masks(box((60, 3), (0, 40), (1, 2)), box((60, 3), (0, 50), (1, 2)), (1, 1))
        assert found.hausdorff95_mm == pytest.approx(np.percentile([*[0] * 40, *range(1, 11)], 95))

    def test_the_tolerance_is_inclusive(self):
        reference, mask = box((9, 9), (2, 5), (2, 5)), box((9, 9), (3, 6), (2, 5))
        assert compare_masks(reference, mask, (0.1, 0.1), tolerance_mm=0.1).normalised_surface_dice == 1
        assert compare_masks(reference, mask, (0.1, 0.1), tolerance_mm=0.099).normalised_surface_dice < 1

    def test_the_image_border_is_outside(self):
        full = np.ones((5, 5), bool)
        # The rim is the surface; its corner is sqrt(8) from the middle's single voxel.
        assert compare_masks(full, box((5, 5), (2, 3), (2, 3)), (1, 1)).hausdorff_mm == pytest.approx(math.sqrt(8))


class TestShifts:
    """The same shape, moved: distances are the shift or follow from it."""

    @pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.176, 0.176), (0.3, 2.0)])
    @pytest.mark.parametrize("shift", [0, 1, 4])
    def test_squares(self, shift, spacing):
        side = 10
        reference = box((30, 16), (2, 2 + side), (2, 2 + side))
        found = compare_masks(reference, np.roll(reference, shift, axis=0), spacing, tolerance_mm=shift * spacing[0])
        moved = shift * spacing[0]
        assert found.dice == pytest.approx(1 - shift / side)
        assert (found.hausdorff_mm, found.hausdorff_all_mm) == pytest.approx((moved, moved))
        # Rows 1..shift away, over all of the square; the same both ways.
        average = spacing[0] * sum(range(1, shift + 1)) / side
        assert found.average_hausdorff_max_mm == pytest.approx(average)
        assert found.average_hausdorff_mean_mm == pytest.approx(average)
        assert found.normalised_surface_dice == 1
        assert found.size_difference == 0

    def test_disc(self):
        spacing, shift = (0.05, 0.05), 1.0
        pair = disc(4, spacing), disc(4, spacing, centre_mm=(10 + shift, 10))
        found = compare_masks(*pair, spacing)
        lens = 2 * 16 * math.acos(shift / 8) - shift / 2 * math.sqrt(4 * 16 - shift**2)
        assert found.dice == pytest.approx(lens / (math.pi * 16), abs=0.002)
        assert found.hausdorff_mm == pytest.approx(shift, abs=0.05)
        # A point at angle t of one circle is | |4 (cos t, sin t) - (1, 0)| - 4 | from the other.
        angle = np.linspace(0, 2 * np.pi, 10000)
        apart = abs(np.hypot(4 * np.cos(angle) - shift, 4 * np.sin(angle)) - 4)
        assert found.assd_mm == pytest.approx(apart.mean(), abs=0.03)
        assert found.hausdorff95_mm == pytest.approx(np.percentile(apart, 95), abs=0.05)

    def test_spheres_in_anisotropic_voxels(self):
        spacing, shift = (0.25, 0.25, 0.5), 1.0
        grid = np.meshgrid(*(np.arange(n) * s for n, s in zip((50, 48, 24), spacing)), indexing="ij")
        pair = [(grid[0] - x) ** 2 + (grid[1] - 6) ** 2 + (grid[2] - 6) ** 2 <= 16 for x in (6, 6 + shift)]
        found = compare_masks(*pair, spacing)
        both = math.pi * (4 * 4 + shift) * (2 * 4 - shift) ** 2 / 12
        assert found.reference_size == pytest.approx(4 / 3 * math.pi * 64, rel=0.02)
        assert found.dice == pytest.approx(both / (4 / 3 * math.pi * 64), abs=0.005)
        assert found.hausdorff_mm == pytest.approx(shift, abs=0.01)

    def test_concentric_spheres(self):
        spacing = (0.2, 0.2, 0.4)
        grid = np.meshgrid(*(np.arange(n) * s for n, s in zip((62, 62, 32), spacing)), indexing="ij")
        pair = [sum((g - 6) ** 2 for g in grid) <= radius**2 for radius in (5, 3)]
        found = compare_masks(*pair, spacing, tolerance_mm=2.6)
        for name in ("hausdorff_mm", "hausdorff95_mm", "assd_mm"):
            assert getattr(found, name) == pytest.approx(2, abs=0.4), name
        assert found.volumetric_similarity == pytest.approx(2 * 27 / (27 + 125), rel=0.02)
        assert found.size_difference_percent == pytest.approx(100 * (27 / 125 - 1), rel=0.02)
        assert found.normalised_surface_dice == 1


class TestVoxelUnits:
    def test_are_the_values_in_mm_over_the_side_of_an_isotropic_voxel(self):
        for pair, spacing, _ in random_pairs(60, seed=5):
            side = spacing[0]
            found, mm = compare_in_voxels(*pair), compare_masks(*pair, (side,) * len(spacing))
            np.testing.assert_allclose(
                list(found.values()),
                (
                    mm.hausdorff_all_mm / side,
                    mm.average_hausdorff_max_mm / side,
                    mm.average_hausdorff_mean_mm / side,
                    mm.volumetric_similarity,
                ),
                rtol=1e-9,
            )

    def test_known_numbers(self):
        found = compare_in_voxels(box((12, 12), (2, 8), (2, 6)), box((12, 12), (2, 8), (2, 9)))
        average = 6 * (1 + 2 + 3) / 42
        wanted = {"HDRFDST": 3, "AVGDIST_max": average, "AVGDIST_mean": average / 2, "VOLSMTY": 1 - 18 / 66}
        assert found == pytest.approx(wanted)

    def test_empty(self):
        mask = box((4, 4), (0, 2), (0, 2))
        assert all(map(math.isnan, compare_in_voxels(mask & False, mask & False).values()))
        for pair in ((mask, mask & False), (mask & False, mask)):
            assert list(compare_in_voxels(*pair).values()) == [math.inf, math.inf, math.inf, 0]


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
        percent = found.size_difference_percent
        assert percent == -100 if swapped else math.isnan(percent)


class TestInput:
    def test_zeros_and_ones_of_any_type_serve(self):
        mask = disc(4, (1, 1))
        assert compare_masks(mask.astype(np.float32), mask.astype(np.uint8), (1, 1)).dice == 1

    @pytest.mark.parametrize(
        ("reference", "mask", "spacing", "message"),
        [
            (np.zeros((3, 3)), np.zeros((3, 4)), (1, 1), "shapes"),
            (np.zeros(3), np.zeros(3), (1,), "2D or 3D"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (1, 1, 1), "spacing"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (1, 0), "spacing"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (1, math.nan), "spacing"),
            (np.zeros((3, 3)), np.zeros((3, 3)), (math.inf, 1), "spacing"),
            (np.full((3, 3), math.nan), np.zeros((3, 3)), (1, 1), "0 and 1"),
            (np.full((3, 3), 0.5), np.zeros((3, 3)), (1, 1), "0 and 1"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, reference, mask, spacing, message):
        with pytest.raises(ValueError, match=message):
            compare_masks(reference, mask, spacing)


def test_distances_do_not_depend_on_what_lies_around():
    for pair, spacing, _ in random_pairs(20, seed=4):
        padded = [np.pad(mask, 5) for mask in pair]
        np.testing.assert_allclose(
            dataclasses.astuple(compare_masks(*padded, spacing)), dataclasses.astuple(compare_masks(*pair, spacing))
        )
