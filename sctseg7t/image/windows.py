"""In-plane windows around the cord, whole slices at low resolution, and the way back."""

from collections.abc import Callable

import numpy as np

from sctseg7t.image.frame import Frame, frame_of

SPACING_MM = 0.17578125
_EDGE = 1e-6
# The locator has learned slices turned by a little only.
_TURNED_DEG = 15.0


# Position (row, column) in a resampled slice to fractional voxel (i, j).
SliceMap = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def sample_windows(
    data_xyz: np.ndarray, frame: Frame, centres_vox: np.ndarray, *, size: int = 128, spacing_mm: float = SPACING_MM
) -> tuple[np.ndarray, np.ndarray]:
    """Sample a square window of every slice, centred on the cord, in the anatomical frame.

    Bilinear; where voxels are much finer than the window's pixels the mean of
    several points in each pixel is taken.

    Parameters
    ----------
    data_xyz : (X, Y, Z) float array
    frame : Frame
        Of the image.
    centres_vox : (Z, 2) array
        Fractional voxel (i, j) of each window's centre; NaN skips the slice.
    size : int
    spacing_mm : float

    Returns
    -------
    windows : (Z, size, size) float32
        Rows go to anterior, columns to the right: pixel (r, c) lies
        ((c - (size-1)/2), (r - (size-1)/2)) * spacing_mm from the centre along
        (e_x, e_y). Beyond the image the edge value is repeated; skipped slices are 0.
    inside : (Z, size, size) bool
        Whether the pixel's centre lies in the image.
    """
    centres = np.asarray(centres_vox, dtype=np.float64)
    steps = frame.frame_to_voxel * spacing_mm
    sub_columns, sub_rows = (_sub_offsets(np.abs(steps[:, axis]).max(), 1.5) for axis in (0, 1))
    position = np.arange(size) - (size - 1) / 2
    limits = np.array(data_xyz.shape[:2])
    windows = np.zeros((len(centres), size, size), np.float32)
    inside = np.zeros(windows.shape, bool)
    i_grid, j_grid = (row[0] * position[None, :] + row[1] * position[:, None] for row in steps)
    shifts = [steps @ (dx, dy) for dy in sub_rows for dx in sub_columns]
    for z, centre in enumerate(centres):
        if np.isnan(centre).any():
            continue
        i, j = i_grid + centre[0], j_grid + centre[1]
        inside[z] = _within(i, limits[0]) & _within(j, limits[1])
        for shift in shifts:
            windows[z] += _bilinear_clamped(data_xyz[..., z].T, j + shift[1], i + shift[0])
        if len(shifts) > 1:
            windows[z] /= len(shifts)
    return windows, inside


def restore_windows(
    maps: np.ndarray,
    frame: Frame,
    shape_xyz: tuple[int, ...],
    centres_vox: np.ndarray,
    spacing_mm: float = SPACING_MM,
) -> np.ndarray:
    """Average window maps over the area of each native voxel.

    The maps are read as bilinear between their pixels and zero beyond the
    window, and integrated over the voxel's outline in the slice plane, so that
    sum times pixel area is kept. Aligned voxels are integrated exactly,
    rotated or sheared ones on a sub-grid.

    Parameters
    ----------
    maps : (Z, C, H, W) float array
        As sampled by `sample_windows`.
    frame : Frame
    shape_xyz : tuple of 3 int
        Of the native canonical grid.
    centres_vox : (Z, 2) array
        As given to `sample_windows`.
    spacing_mm : float

    Returns
    -------
    (C, X, Y, Z) float32
        Zero outside the windows. Slices are contiguous.
    """
    maps = np.asarray(maps, dtype=np.float32)
    n_maps = maps.shape[1]
    centres = np.asarray(centres_vox, dtype=np.float64)
    out = np.zeros((n_maps, *shape_xyz[::-1]), np.float32)
    kept = np.flatnonzero(np.isfinite(centres).all(axis=1))
    if kept.size:
        restore = _restore_aligned if frame.aligned else _restore_rotated
        restore(out, maps, frame.voxel_to_frame / spacing_mm, centres, kept)
    return out.transpose(0, 3, 2, 1)


def box_around(
    centres_vox: np.ndarray, frame: Frame, shape_xyz: tuple[int, ...], reach_mm: float
) -> tuple[slice, slice]:
    """In-plane box (along i and j) that holds everything within a distance of any centre, clipped to the image.

    The cord and its windows are a few per cent of a slice; what is computed outside them is wasted.

    Parameters
    ----------
    centres_vox : (Z, 2) array
    frame : Frame
    shape_xyz : tuple of int
    reach_mm : float
    """
    reach = np.abs(frame.frame_to_voxel).sum(axis=1) * reach_mm
    low = np.maximum(np.floor(np.nanmin(centres_vox, axis=0) - reach), 0).astype(int)
    high = np.minimum(np.ceil(np.nanmax(centres_vox, axis=0) + reach) + 1, shape_xyz[:2]).astype(int)
    return slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))


def resample_slices(data_xyz: np.ndarray, affine: np.ndarray, spacing_mm: float = 1.0) -> tuple[np.ndarray, SliceMap]:
    """Resample whole slices, as the cord locator sees them: anatomical directions within 15 degrees.

    Grids that are turned no further are resampled along their voxel axes, others in the anatomical frame.

    Parameters
    ----------
    data_xyz : (X, Y, Z) float array
    affine : (4, 4) array
        Canonical, mm.
    spacing_mm : float

    Returns
    -------
    images : (Z, H, W) float32
        H = ceil(extent along j / spacing_mm), W along i; centred on the image.
        Means over the pixel's area where voxels are finer, linear where coarser. In the anatomical frame they are
        square, and hold the slice's lowest value beyond the image.
    to_voxel : SliceMap
        (row, column) of an image to fractional voxel (i, j).
    """
    frame = frame_of(affine)
    right, up = frame.voxel_to_frame[:, 0]
    if abs(np.degrees(np.arctan2(up, right))) > _TURNED_DEG:
        return _resample_turned(data_xyz, frame, spacing_mm)
    sizes_mm = np.linalg.norm(np.asarray(affine, dtype=np.float64)[:3, :2], axis=0)
    (x_weights, x_scale, x_offset), (y_weights, y_scale, y_offset) = (
        _axis_resampling(n, spacing_mm / size_mm) for n, size_mm in zip(data_xyz.shape[:2], sizes_mm)
    )
    slices = np.asarray(data_xyz, dtype=np.float32).transpose(2, 1, 0)
    images = y_weights @ (slices @ x_weights.T)
    return images, lambda row, column: (x_scale * np.asarray(column) + x_offset, y_scale * np.asarray(row) + y_offset)


def _resample_turned(data_xyz, frame, spacing_mm):
    """Whole slices on a square grid along the anatomical axes."""
    shape = np.array(data_xyz.shape[:2])
    extent_mm = (np.abs(frame.voxel_to_frame) @ shape).max()
    size = max(1, int(np.ceil(extent_mm / spacing_mm - _EDGE)))
    centre = (shape - 1) / 2
    centres = np.tile(centre, (data_xyz.shape[2], 1))
    images, inside = sample_windows(data_xyz, frame, centres, size=size, spacing_mm=spacing_mm)
    images = np.where(inside, images, data_xyz.min(axis=(0, 1))[:, None, None])

    def to_voxel(row, column):
        x, y = ((np.asarray(each) - (size - 1) / 2) * spacing_mm for each in (column, row))
        (xi, yi), (xj, yj) = frame.frame_to_voxel
        return xi * x + yi * y + centre[0], xj * x + yj * y + centre[1]

    return images.astype(np.float32), to_voxel


def _sub_offsets(step, threshold):
    """Offsets, in pixels, of the points averaged in a pixel that is `step` voxels wide."""
    count = int(np.ceil(step - _EDGE)) if step > threshold else 1
    return (np.arange(count) + 0.5) / count - 0.5


def _within(position, n):
    return (position >= -0.5 - _EDGE) & (position <= n - 0.5 + _EDGE)


def _bilinear_clamped(image, rows, columns):
    """Interpolate `image` at positions moved to the nearest one inside it."""
    height, width = image.shape
    rows, columns = np.clip(rows, 0, height - 1), np.clip(columns, 0, width - 1)
    top, left = int(rows.min()), int(columns.min())
    crop = np.ascontiguousarray(image[top : int(rows.max()) + 2, left : int(columns.max()) + 2], dtype=np.float32)
    return _gather(crop[None], rows - top, columns - left)[0]


def _gather(stack, rows, columns):
    """Bilinear values of each image of a (C, H, W) stack at positions inside it."""
    n_images, height, width = stack.shape
    r0, c0 = rows.astype(np.intp), columns.astype(np.intp)
    wr, wc = (rows - r0).astype(np.float32), (columns - c0).astype(np.float32)
    index = r0 * width + c0
    right = (c0 < width - 1).astype(np.intp)
    below = np.where(r0 < height - 1, width, 0)
    corners = (index, index + right, index + below, index + right + below)
    out = np.empty((n_images, *rows.shape), np.float32)
    for n, image in enumerate(stack.reshape(n_images, -1)):
        a, b, c, d = (image.take(corner) for corner in corners)
        upper = a + wc * (b - a)
        out[n] = upper + wr * (c + wc * (d - c) - upper)
    return out


def _restore_aligned(out_czyx, maps, to_pixels, centres, kept):
    height, width = maps.shape[2:]
    x_start, x_weights = _box_weights(centres[kept, 0], abs(to_pixels[0, 0]), width)
    y_start, y_weights = _box_weights(centres[kept, 1], abs(to_pixels[1, 1]), height)
    for z, x0, y0, x_w, y_w in zip(kept, x_start, y_start, x_weights, y_weights):
        box = y_w @ maps[z] @ x_w.T
        # Clipped to the image.
        y_from, y_to = np.clip((y0, y0 + box.shape[1]), 0, out_czyx.shape[2])
        x_from, x_to = np.clip((x0, x0 + box.shape[2]), 0, out_czyx.shape[3])
        out_czyx[:, z, y_from:y_to, x_from:x_to] = box[:, y_from - y0 : y_to - y0, x_from - x0 : x_to - x0]


def _box_weights(centres, voxel, n):
    """Weights of `n` map pixels in the mean over each voxel, `voxel` pixels wide.

    A map is a sum of triangles, one a pixel; a weight is a triangle's integral
    over the voxel. Returns the first voxel (Z,) and weights (Z, voxels, n).
    """
    half = (n + 1) / 2 / voxel + 0.5
    start = np.ceil(centres - half).astype(np.intp)
    edges = start[:, None] + np.arange(int(2 * half) + 2) - 0.5 - centres[:, None]
    distance = np.clip(edges[..., None] * voxel + (n - 1) / 2 - np.arange(n), -1, 1)
    integral = distance - 0.5 * distance * np.abs(distance)
    return start, (np.diff(integral, axis=1) / voxel).astype(np.float32)


def _restore_rotated(out_czyx, maps, to_pixels, centres, kept):
    n_y, n_x = out_czyx.shape[2:]
    size = np.array(maps.shape[:1:-1])
    i_subs, j_subs = (_sub_offsets(1.5 * np.linalg.norm(to_pixels[:, axis]), 1.0) for axis in (0, 1))
    subs = np.array([to_pixels @ (di, dj) for dj in j_subs for di in i_subs])
    # Half the window and the map's fall to zero, widened by half a voxel.
    reach = (size + 1) / 2 + np.abs(to_pixels).sum(axis=1) / 2
    span = np.abs(np.linalg.inv(to_pixels)) @ reach
    for z in kept:
        centre = centres[z]
        first = np.maximum(np.ceil(centre - span), 0).astype(np.intp)
        last = np.minimum(np.floor(centre + span) + 1, (n_x, n_y)).astype(np.intp)
        i, j = (grid.ravel() for grid in np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1])))
        x, y = to_pixels @ np.stack([i - centre[0], j - centre[1]])
        near = (np.abs(x) < reach[0]) & (np.abs(y) < reach[1])
        # One ring of zeros round the map; positions beyond it move onto the ring.
        ringed = np.pad(maps[z], ((0, 0), (1, 1), (1, 1)))
        columns = np.clip(subs[:, :1] + x[near] + (size[0] + 1) / 2, 0, size[0] + 1)
        rows = np.clip(subs[:, 1:] + y[near] + (size[1] + 1) / 2, 0, size[1] + 1)
        out_czyx[:, z, j[near], i[near]] = _gather(ringed, rows, columns).mean(axis=1)


def _axis_resampling(n, step):
    """Weights (m, n) from `n` voxels to pixels `step` voxels wide; scale and offset back."""
    m = max(1, int(np.ceil(n / step - _EDGE)))
    offset = (n - 1) / 2 - step * (m - 1) / 2
    centres = (step * np.arange(m) + offset)[:, None]
    voxels = np.arange(n)
    if step >= 1:
        overlap = np.minimum(centres + step / 2, voxels + 0.5) - np.maximum(centres - step / 2, voxels - 0.5)
        weights = np.maximum(overlap, 0)
    else:
        weights = np.maximum(1 - np.abs(np.clip(centres, 0, n - 1) - voxels), 0)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights.astype(np.float32), float(step), float(offset)
