"""Vertebral level of each slice, from labelled cords, points, discs and lists; distance from the PMJ."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sctseg7t.errors import InputError
from sctseg7t.measure.csa import measure_csa
from sctseg7t.measure.levels import DiscLevels, LabelledLevels, ListedLevels, slice_levels


def test_majority_inside_the_cord_wins():
    levels = np.zeros((10, 10, 3), int)
    levels[:, :6] = 5
    levels[2:4, 2:4, 1] = 4
    cord = np.zeros(levels.shape)
    cord[2:4, 2:5] = 1
    assert slice_levels(levels, cord, 3.0) == [5, 4, 5]
    assert slice_levels(levels, None, 3.0) == [5, 5, 5]


def test_labels_beside_the_cord_count_where_none_are_inside():
    levels = np.zeros((10, 10, 2), int)
    levels[6:, 6:] = 7
    cord = np.zeros(levels.shape)
    cord[:3, :3] = 1
    assert slice_levels(levels, cord, 3.0) == [7, 7]


def test_labelled_cord_does_not_spread_to_unlabelled_slices():
    levels = np.zeros((10, 10, 4), int)
    levels[2:8, 2:8, 1:3] = 3
    assert slice_levels(levels, None, 1.0) == [None, 3, 3, None]


def test_point_labels_reach_the_nearest_slices():
    levels = np.zeros((10, 10, 14), int)
    levels[5, 5, 4] = 4
    levels[5, 5, 9] = 3
    found = slice_levels(levels.astype(float), None, 3.0)
    assert found == [None] + [4] * 6 + [3] * 6 + [None]
    # A tie goes to the inferior one.
    levels[5, 5, 8] = 3
    assert slice_levels(levels, None, 3.0)[6] == 4


# --- discs, lists and the pontomedullary junction, in a leaning stack ------------------------

STEP = 4.0


def stack(lean=(0.0, 0.0), count=12, turn=None):
    """A cord of 12 x 12 mm discs whose middle moves by `lean` mm a mm, its affine, and world places along it."""
    affine = np.diag([0.5, 0.5, STEP, 1.0])
    affine[:3, 3] = (-20, -30, 100)
    affine = (np.eye(4) if turn is None else turn) @ affine
    i, j, k = np.meshgrid(np.arange(80), np.arange(80), np.arange(count), indexing="ij")
    middle = [39.5 + slope * STEP * (k - (count - 1) / 2) / 0.5 for slope in lean]
    cord = ((i - middle[0]) ** 2 + (j - middle[1]) ** 2 <= 12**2).astype(float)

    def world(k, right=0.0, front=0.0):
        """A point at slice k of the line, moved in the slice by mm."""
        voxel = [39.5 + lean[n] * STEP * (k - (count - 1) / 2) / 0.5 + 2 * off for n, off in enumerate((right, front))]
        return affine[:3] @ [*voxel, k, 1]

    return cord, affine, world


def levels_of(levels, cord, affine):
    table = measure_csa({"SC": cord}, affine, levels=levels)
    return [row.level for row in table.rows]


@pytest.mark.parametrize("tilt", [0, 20])
def test_discs_part_the_slices(tilt):
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("x", tilt, degrees=True).as_matrix()
    cord, affine, world = stack(turn=turn)
    # Posterior edges of discs lie some mm in front of the cord.
    discs = DiscLevels({4: world(7.4, front=7), 5: world(3.6, front=7)})
    # 10 mm beyond the outermost discs are two slices of 4 mm.
    assert levels_of(discs, cord, affine) == [None] * 2 + [5] * 2 + [4] * 4 + [3] * 2 + [None] * 2


def test_discs_are_projected_at_right_angles_to_the_cord():
    cord, affine, world = stack(lean=(0.0, 0.5))
    # 8 mm in front, square to a line that leans 0.5 forward: that is 8 * 0.5 / (1 + 0.25) = 3.2 mm further up it.
    place = world(5.0, front=8)
    line_slice = 5.0 + 8 * 0.5 / 1.25 / STEP
    found = levels_of(DiscLevels({4: place}), cord, affine)
    assert found.index(3) == int(np.ceil(line_slice)) and found[found.index(3) - 1] == 4
    row = next(r for r in measure_csa({"SC": cord}, affine, pmj_mm=place).rows if r.slice == 2)
    assert row.distance_pmj_mm == pytest.approx((line_slice - 2) * STEP * np.sqrt(1.25), rel=0.02)


def test_what_discs_do_not_tell():
    cord, affine, world = stack()
    # Between discs 3 and 5 the level changes from C3 to C4 somewhere.
    assert levels_of(DiscLevels({3: world(9.5), 5: world(1.5)}), cord, affine)[2:10] == [None] * 8
    # Above the disc on top of C1 there is no vertebra.
    assert levels_of(DiscLevels({1: world(6.5)}), cord, affine)[5:9] == [1, 1, None, None]
    with pytest.raises(InputError, match="their numbers must fall"):
        levels_of(DiscLevels({4: world(1.5), 5: world(7.5)}), cord, affine)
    with pytest.raises(InputError, match="labels of the same scan"):
        levels_of(DiscLevels({4: world(5.5, right=60)}), cord, affine)
    assert levels_of(DiscLevels({4: world(5)}), np.zeros_like(cord), affine) == [None] * 12


def test_discs_given_as_levels_are_noticed():
    cord, affine, _ = stack()
    labels = np.zeros(cord.shape, int)
    labels[39, 39 + 24, 8], labels[39, 39 + 24, 4] = 4, 5
    with pytest.raises(
        InputError, match=r"its points lie off the cord \(median 6.0 mm\), as those of discs do.*discfile"
    ):
        levels_of(LabelledLevels(labels, "x.nii.gz"), cord, affine)
    on = np.roll(labels, -20, axis=1)
    assert (
        levels_of(LabelledLevels(on), cord, affine)
        == levels_of(on, cord, affine)
        == [None] * 2 + [5] * 5 + [4] * 4 + [None]
    )


def test_listed_levels():
    cord, affine, _ = stack(count=3)
    assert levels_of(ListedLevels({0: 5, 2: 3}), cord, affine) == [5, None, 3]


def test_distance_from_the_pmj():
    cord, affine, world = stack()
    above = [row.distance_pmj_mm for row in measure_csa({"SC": cord}, affine, pmj_mm=world(20)).rows]
    assert above == pytest.approx([(20 - k) * STEP for k in range(12)], abs=1e-6)
    within = [row.distance_pmj_mm for row in measure_csa({"SC": cord}, affine, pmj_mm=world(9, front=3)).rows]
    assert within == pytest.approx([(9 - k) * STEP for k in range(12)], abs=1e-6)
    # From the highest slice with cord it is straight to a point off the line.
    cord[..., 10:] = 0
    off = measure_csa({"SC": cord}, affine, pmj_mm=world(19, front=30)).rows
    assert off[9].distance_pmj_mm == pytest.approx(np.hypot(40, 30)) and off[0].distance_pmj_mm == pytest.approx(86)
