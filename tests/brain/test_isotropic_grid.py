"""The brain's working grid: where it lies, and that volumes survive the way there and back."""

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from sctseg7t.brain.isotropic_grid import grid_around, mask_to_native, to_grid, to_native
from sctseg7t.image.grid import Grid, resample


def turned(degrees, spacing, origin=(-30.0, -40.0, -20.0)):
    """An affine turned about an oblique axis."""
    turn = nib.eulerangles.euler2mat(*np.deg2rad(degrees))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag(spacing), origin
    return affine


NATIVE = {
    "1x1x3": (np.diag([1, 1, 3, 1.0]), (60, 60, 20)),
    "shifted 1x1x3": (turned((0, 0, 0), (1, 1, 3), (0.4, 0.3, 1.1)), (60, 60, 20)),
    "0.5 iso": (np.diag([0.5, 0.5, 0.5, 1.0]), (120, 120, 120)),
    "oblique 0.7 iso": (turned((0.3, 12, -17), (0.7, 0.7, 0.7), (5, 12, -8)), (100, 100, 100)),
    "oblique 0.7x0.7x3": (turned((14, -9, 20), (0.7, 0.7, 3), (10, -5, 0)), (90, 90, 24)),
    "mirrored": (np.array([[-1, 0, 0, 60], [0, 1, 0, 0], [0, 0, 2, 0], [0, 0, 0, 1.0]]), (60, 60, 30)),
}
WORK = Grid((70, 70, 70), np.eye(4))


def ball(grid, centre, radius):
    points = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1) + grid.affine[:3, 3]
    return ((points - centre) ** 2).sum(-1) <= radius**2


@pytest.mark.parametrize("name", NATIVE)
def test_lesion_volume_comes_back(name):
    affine, shape = NATIVE[name]
    voxel = abs(np.linalg.det(affine[:3, :3]))
    for radius in (2.5, 4.0, 7.0):
        lesion = ball(WORK, (30.3, 29.6, 28.8), radius)
        mask, fraction = mask_to_native(lesion, WORK, affine, shape)
        assert fraction.sum() * voxel == pytest.approx(lesion.sum(), rel=0.02)
        # To the nearest voxel, and within 5 % where a voxel is less than that.
        assert abs(mask.sum() * voxel - lesion.sum()) <= max(0.05 * lesion.sum(), 0.6 * voxel)
        centre = np.argwhere(mask).mean(axis=0) @ affine[:3, :3].T + affine[:3, 3]
        assert np.linalg.norm(centre - (30.3, 29.6, 28.8)) < 0.6 * max(np.linalg.norm(affine[:3, :3], axis=0))


def test_lesions_do_not_share_their_volume():
    mask = ball(WORK, (15, 15, 15), 3) | ball(WORK, (45, 45, 45), 6)
    affine, shape = NATIVE["1x1x3"]
    back, _ = mask_to_native(mask, WORK, affine, shape)
    for half in (np.s_[:30], np.s_[30:]):
        assert back[half].sum() * 3 == pytest.approx(mask[half].sum(), rel=0.05)


def test_same_grid_changes_nothing():
    mask = ball(WORK, (30, 30, 30), 5)
    back, fraction = mask_to_native(mask, WORK, WORK.affine, WORK.shape)
    np.testing.assert_array_equal(back, mask)
    np.testing.assert_array_equal(fraction, mask)


def test_probability_decides_between_equal_voxels():
    mask = np.zeros(WORK.shape, bool)
    mask[20:30, 30, 20] = True
    # Two of ten 1 mm voxels' worth in a slice of 3 mm: three and a third voxels.
    probability = np.where(np.arange(70)[:, None, None] > 25, 0.9, 0.6) * mask
    back, _ = mask_to_native(mask, WORK, *NATIVE["1x1x3"], native=to_native(probability, WORK, *NATIVE["1x1x3"]))
    held = np.argwhere(back)[:, 0]
    assert len(held) == 3 and (held > 25).all()


def test_nothing_in_or_nothing_in_view_gives_nothing_out():
    back, fraction = mask_to_native(np.zeros(WORK.shape, bool), WORK, np.eye(4), (5, 6, 7))
    assert back.shape == fraction.shape == (5, 6, 7) and not back.any() and not fraction.any()
    beyond = turned((0, 0, 0), (1, 1, 1), (500, 0, 0))
    assert not to_native(np.ones(WORK.shape), WORK, beyond, (4, 4, 4)).any()


def test_grid_holds_the_mask_with_its_margin_and_ignores_cropping():
    affine, shape = NATIVE["oblique 0.7x0.7x3"]
    mask = np.zeros(shape, bool)
    mask[20:50, 30:70, 4:15] = True
    grid = grid_around(mask, affine, margin_mm=5)
    corners = np.argwhere(mask) @ affine[:3, :3].T + affine[:3, 3]
    low, high = grid.affine[:3, 3], grid.affine[:3, 3] + np.array(grid.shape) - 1
    assert (corners.min(0) - low >= 5 - 1e-9).all() and (high - corners.max(0) >= 5 - 1e-9).all()
    assert (corners.min(0) - low).max() < 8
    cropped = affine.copy()
    cropped[:3, 3] += affine[:3, :3] @ (10, 20, 2)
    again = grid_around(mask[10:, 20:, 2:], cropped, margin_mm=5)
    np.testing.assert_allclose(again.affine, grid.affine)
    assert again.shape == grid.shape


@pytest.mark.parametrize("name", NATIVE)
def test_a_smooth_image_is_sampled_where_it_lies(name):
    affine, shape = NATIVE[name]
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    world = index @ affine[:3, :3].T + affine[:3, 3]
    image = np.asfortranarray((world @ (1.0, 2.0, 3.0)).astype(np.float32))
    grid = grid_around(np.ones(shape, bool), affine, margin_mm=0)
    out = to_grid(image, affine, grid)
    points = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1) + grid.affine[:3, 3]
    voxel = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    inner = ((voxel > 4) & (voxel < np.array(shape) - 5)).all(-1)
    assert inner.any()
    np.testing.assert_allclose(out[inner], (points @ (1.0, 2.0, 3.0))[inner], atol=0.05)
    outside = ((voxel < -0.6) | (voxel > np.array(shape) - 0.4)).any(-1)
    assert not out[outside].any()


def test_finer_voxels_are_averaged():
    noise = np.random.default_rng(0).normal(size=(80, 80, 80)).astype(np.float32)
    affine = np.diag([0.5, 0.5, 0.5, 1])
    coarse = to_grid(noise, affine, Grid((40, 40, 40), np.eye(4)))
    assert coarse[5:-5, 5:-5, 5:-5].std() < 0.5


def test_labels_keep_their_type():
    labels = np.zeros((10, 10, 10), np.int16)
    labels[4:6] = 300
    out = to_grid(labels, np.eye(4), Grid((12, 10, 10), np.eye(4)), order=0)
    assert out.dtype == np.int16 and out[5, 0, 0] == 300 and not out[11].any()


@pytest.mark.parametrize("name", ["1x1x3", "shifted 1x1x3", "mirrored"])
@pytest.mark.parametrize("spacing_mm", [2.0, 3.5])
def test_coarse_sampling_is_smoothing_then_sampling(name, spacing_mm):
    affine, shape = NATIVE[name]
    data = np.random.default_rng(3).random(shape).astype(np.float32)
    grid = grid_around(np.ones(shape, bool), affine, spacing_mm=spacing_mm, margin_mm=6.0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    sigma = 0.5 * np.sqrt(np.maximum(spacing_mm**2 - spacing**2, 0)) / spacing
    smooth = ndimage.gaussian_filter(data, sigma, mode="nearest", truncate=3)
    expected = resample(smooth, np.linalg.inv(affine) @ grid.affine, grid.shape)
    np.testing.assert_allclose(to_grid(data, affine, grid), expected, atol=1e-5)
