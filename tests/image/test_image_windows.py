"""Windows in the anatomical frame, whole slices, and the way back to voxels."""

import numpy as np
import pytest
from test_image_volume import affine_of, rotation

from sctseg7t.image.frame import frame_of
from sctseg7t.image.windows import SPACING_MM, resample_slices, restore_windows, sample_windows

SHEAR = np.array([[1, 0.15, 0.1], [0, 1, 0.2], [0, 0, 1]])
GRIDS = {
    "aligned": np.eye(3),
    "oblique": rotation(0, 25),
    "double oblique": rotation(0, 20) @ rotation(1, 15),
    "rotated in plane": rotation(2, 30),
    "sheared": SHEAR,
    "all": rotation(0, 20) @ rotation(2, -25) @ SHEAR,
}


def positions(size, spacing_mm):
    return (np.arange(size) - (size - 1) / 2) * spacing_mm


def worlds(affine, centres, size, spacing_mm):
    """World position of every window pixel, (Z, H, W, 3)."""
    frame = frame_of(affine)
    offset = positions(size, spacing_mm)
    plane = offset[None, :, None] * frame.e_x + offset[:, None, None] * frame.e_y
    points = np.column_stack([centres, np.arange(len(centres))])
    return (points @ affine[:3, :3].T + affine[:3, 3])[:, None, None] + plane


def on_voxels(function, affine, shape):
    index = np.moveaxis(np.indices(shape), 0, -1)
    return function(index @ affine[:3, :3].T + affine[:3, 3])


def ellipses(affine, centres, axes_mm, spacing_mm=SPACING_MM, size=128, soft_mm=0.3):
    offset = positions(size, spacing_mm)
    radius = np.hypot(offset[None, :] / axes_mm[0], offset[:, None] / axes_mm[1])
    soft = np.clip(0.5 + (1 - radius) * min(axes_mm) / soft_mm, 0, 1)
    return np.repeat(np.stack([soft, np.flip(soft, 0) ** 2])[None], len(centres), 0).astype(np.float32)


# --- frame


@pytest.mark.parametrize("name", GRIDS)
def test_frame_is_orthonormal_and_anatomical(name):
    affine = affine_of(GRIDS[name])
    frame = frame_of(affine)
    axes = np.stack([frame.e_x, frame.e_y, frame.normal])
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(axes) > 0 and (np.diag(axes) > 0.5).all()
    np.testing.assert_allclose(frame.normal @ affine[:3, :2], 0, atol=1e-12)
    # No component of R is left along e_y: e_x is the projection of R.
    assert abs(frame.e_y[0]) < 1e-12
    np.testing.assert_allclose(np.stack([frame.e_x, frame.e_y], 1) @ frame.voxel_to_frame, affine[:3, :2], atol=1e-9)
    np.testing.assert_allclose(frame.frame_to_voxel @ frame.voxel_to_frame, np.eye(2), atol=1e-12)
    assert frame.pixel_area_mm2 == pytest.approx(abs(np.linalg.det(frame.voxel_to_frame)))
    assert frame.pixel_area_mm2 * frame.step_mm == pytest.approx(abs(np.linalg.det(affine)))


def test_frame_of_unrotated_voxels_is_exact():
    for linear in (np.eye(3), rotation(0, 25), rotation(1, 25)):
        frame = frame_of(affine_of(linear))
        assert frame.aligned
        np.testing.assert_allclose(np.stack([frame.e_x, frame.e_y], 1), linear[:, :2], atol=1e-12)
    assert not frame_of(affine_of(rotation(2, 1))).aligned


# --- windows


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing", [(0.5, 0.4, 3.0), (0.09, 0.09, 3.0)])
def test_windows_of_a_ramp_are_exact(name, spacing):
    affine = affine_of(GRIDS[name], spacing)
    shape = (90, 100, 3)
    ramp = lambda world: 100 + world @ np.array([3.0, -2.0, 0.7])  # noqa: E731
    data = on_voxels(ramp, affine, shape).astype(np.float32)
    centres = np.array([[45.3, 50.0], [44.0, 49.5], [40.1, 51.9]])
    windows, inside = sample_windows(data, frame_of(affine), centres, size=24)
    assert windows.dtype == np.float32 and windows.shape == inside.shape == (3, 24, 24)
    points = worlds(affine, centres, 24, SPACING_MM)
    voxels = (points - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    edges = np.array(shape[:2]) - 0.5
    np.testing.assert_array_equal(inside, ((voxels[..., :2] > -0.5) & (voxels[..., :2] < edges)).all(axis=-1))
    interior = ((voxels[..., :2] > 2) & (voxels[..., :2] < edges - 2.5)).all(axis=-1)
    assert interior.mean() > 0.7
    np.testing.assert_allclose(windows[interior], ramp(points)[interior], atol=2e-4)


def test_outside_repeats_the_edge_and_says_so():
    data = np.random.default_rng(0).random((20, 30, 2), dtype=np.float32)
    affine = affine_of(spacing=(0.5, 0.5, 3))
    windows, inside = sample_windows(data, frame_of(affine), [[-0.4, 15], [-400, 15]], size=9, spacing_mm=0.5)
    np.testing.assert_array_equal(inside[0], np.repeat([[False] * 4 + [True] * 5], 9, 0))
    np.testing.assert_array_equal(windows[0, :, :5], np.repeat(data[0, 11:20, :1], 5, 1))
    assert not inside[1].any()
    np.testing.assert_array_equal(windows[1], np.repeat(data[0, 11:20, 1:], 9, 1))


def test_slice_without_a_centre_is_skipped():
    data, frame = np.ones((20, 30, 2), np.float32), frame_of(affine_of())
    centres = np.array([[np.nan, np.nan], [10, 15]])
    windows, inside = sample_windows(data, frame, centres, size=8)
    assert not windows[0].any() and not inside[0].any() and windows[1].all()
    back = restore_windows(np.ones((2, 1, 8, 8)), frame, data.shape, centres)
    assert not back[..., 0].any() and back[..., 1].any()


def test_fine_voxels_are_averaged():
    data = np.indices((120, 120, 1)).sum(axis=0).astype(np.float32) % 2
    affine = affine_of(spacing=(SPACING_MM / 4, SPACING_MM / 4, 3))
    windows, _ = sample_windows(data, frame_of(affine), [[59.7, 60.2]], size=16)
    assert np.abs(windows - 0.5).max() < 0.02


# --- back to voxels


@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("spacing", [(0.1, 0.1, 2), (0.17578125, 0.17578125, 3), (0.3, 0.5, 3), (0.9, 0.9, 5)])
def test_area_is_kept(name, spacing):
    affine = affine_of(GRIDS[name], spacing)
    shape = tuple(int(30 / size) for size in spacing[:2]) + (4,)
    centres = np.array(shape[:2]) / 2 + np.random.default_rng(0).random((4, 2))
    maps = ellipses(affine, centres, (6.5, 4.0))
    maps[:, 1] = ellipses(affine, centres, (2.0, 1.2))[:, 0]
    native = restore_windows(maps, frame_of(affine), shape, centres)
    assert native.dtype == np.float32 and native.shape == (2, *shape)
    pixel_mm2 = abs(np.linalg.det(frame_of(affine).voxel_to_frame))
    area = native.sum(axis=(1, 2)) * pixel_mm2
    expected = maps.sum(axis=(2, 3)).T * SPACING_MM**2
    np.testing.assert_allclose(area, expected, rtol=1e-5 if frame_of(affine).aligned else 0.005)
    assert native.min() >= 0 and native.max() < 1 + 1e-5


@pytest.mark.parametrize("name", GRIDS)
def test_restored_values_are_box_averages_at_the_right_place(name):
    """A disc restored from its window is the disc drawn on the voxels themselves."""
    affine = affine_of(GRIDS[name], (0.4, 0.5, 3))
    shape, radius, soft = (80, 80, 1), 5.0, 1.0
    centres = np.array([[38.3, 41.8]])
    to_frame = frame_of(affine).voxel_to_frame
    disc = lambda distance: np.clip(0.5 + (radius - distance) / soft, 0, 1)  # noqa: E731
    offset = positions(128, SPACING_MM)
    maps = disc(np.hypot(*np.meshgrid(offset - 1, offset + 2)))[None, None]
    native = restore_windows(maps, frame_of(affine), shape, centres)[0, ..., 0]
    fine = (np.arange(8) + 0.5) / 8 - 0.5
    truth = np.zeros(shape[:2])
    for di in fine:
        for dj in fine:
            index = np.moveaxis(np.indices(shape[:2]), 0, -1) + (di, dj) - centres[0]
            x, y = np.moveaxis(index @ to_frame.T, -1, 0)
            truth += disc(np.hypot(x - 1, y + 2)) / 64
    np.testing.assert_allclose(native, truth, atol=0.03)
    assert np.abs(native - truth).mean() < 0.001


@pytest.mark.parametrize("name", ["aligned", "all"])
def test_window_over_the_border_is_cut(name):
    affine = affine_of(GRIDS[name], (0.4, 0.4, 3))
    centres = np.array([[-2.0, 60.0], [58.0, 0.0], [500.0, 5.0], [-500.0, 5.0]])
    maps = np.ones((4, 1, 64, 64), np.float32)
    part = restore_windows(maps, frame_of(affine), (60, 61, 4), centres)[0]
    whole = restore_windows(maps, frame_of(affine), (160, 161, 4), centres + 50)[0][50:110, 50:111]
    np.testing.assert_allclose(part, whole, atol=1e-5)
    assert part[..., 0].any() and part[..., 1].any() and not part[..., 2:].any()


# --- whole slices


@pytest.mark.parametrize(
    "spacing, shape", [((0.3, 0.4, 3), (101, 93, 2)), ((1.2, 1.4, 5), (31, 20, 2)), ((0.18, 0.9, 2), (200, 41, 2))]
)
def test_slices_of_a_ramp_and_their_map(spacing, shape):
    data = np.fromfunction(lambda i, j, k: 2 * i - 3 * j + k, shape, dtype=np.float32)
    images, to_voxel = resample_slices(data, affine_of(spacing=spacing))
    height, width = (int(np.ceil(n * size - 1e-6)) for n, size in zip(shape[1::-1], spacing[1::-1]))
    assert images.shape == (2, height, width) and images.dtype == np.float32
    rows, columns = np.mgrid[2 : height - 2, 2 : width - 2]
    i, j = to_voxel(rows, columns)
    # Voxels are taken as flat when averaged, which moves a ramp by an eighth of a voxel at most.
    np.testing.assert_allclose(images[1, 2:-2, 2:-2], 2 * i - 3 * j + 1, atol=(2 + 3) / 8 + 1e-3)


def test_slices_are_area_means():
    data = np.random.default_rng(0).random((40, 60, 3), dtype=np.float32)
    images, _ = resample_slices(data, affine_of(spacing=(0.25, 0.5, 3)))
    np.testing.assert_allclose(images, data.reshape(10, 4, 30, 2, 3).mean(axis=(1, 3)).transpose(2, 1, 0), atol=1e-6)
    same, _ = resample_slices(data, affine_of(spacing=(1, 1, 3)))
    np.testing.assert_array_equal(same, data.transpose(2, 1, 0))


def test_slices_of_a_turned_grid_lie_along_the_anatomical_axes():
    """A grid turned by 40 degrees gives what the straight one gives, where both see the subject."""
    turn = np.radians(40)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine = affine_of(spacing=(0.5, 0.5, 3))
    turned = affine.copy()
    turned[:2, :2] = rotation @ affine[:2, :2]
    centre = (np.array([80, 100]) - 1) / 2

    def world(i, j):
        return (rotation @ (np.stack([i, j]).reshape(2, -1) - centre[:, None]) * 0.5).reshape(2, *np.shape(i))

    i, j = np.mgrid[:80, :100]
    x, y = world(i, j)
    data = np.repeat((3 * x - 2 * y)[..., None], 2, axis=2).astype(np.float32)
    images, to_voxel = resample_slices(data, turned)
    assert images.shape[1] == images.shape[2] >= 60
    size = images.shape[1]
    rows, columns = np.mgrid[size // 2 - 10 : size // 2 + 10, size // 2 - 10 : size // 2 + 10]
    x, y = world(*to_voxel(rows, columns))
    np.testing.assert_allclose(np.diff(x, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(np.diff(y, axis=0), 1, atol=1e-6)
    np.testing.assert_allclose(images[0][rows, columns], 3 * x - 2 * y, atol=0.05)
    assert images[0][0, 0] == data.min()
