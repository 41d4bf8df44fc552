"""The working grid of the brain: isotropic along the world's axes, and the way back that keeps lesion volumes."""

from collections.abc import Sequence

import numpy as np
from nibabel.affines import apply_affine

from sctseg7t.image.grid import Grid, bounding_box, by_axis, corners, resample

_EDGE = 1e-6
# Points at which a scan's voxel is integrated lie at most this far apart, in voxels of the working grid.
_STEP = 1.0


def grid_around(mask: np.ndarray, affine: np.ndarray, *, spacing_mm: float = 1.0, margin_mm: float = 5.0) -> Grid:
    """The isotropic grid that holds a mask and a margin, whatever way its image lies.

    Parameters
    ----------
    mask : (X, Y, Z) bool
        An empty one stands for the whole image.
    affine : (4, 4) array
        Canonical, mm.
    spacing_mm, margin_mm : float

    Returns
    -------
    Grid
        Voxel centres are whole multiples of the spacing in the world: a scan cropped elsewhere is sampled alike.
    """
    box = bounding_box(mask) or tuple(slice(0, n) for n in mask.shape)
    ends = apply_affine(affine, corners([(part.start - 0.5, part.stop - 0.5) for part in box]))
    first = np.floor((ends.min(axis=0) - margin_mm) / spacing_mm).astype(int)
    last = np.ceil((ends.max(axis=0) + margin_mm) / spacing_mm).astype(int)
    grid = np.diag([float(spacing_mm)] * 3 + [1.0])
    grid[:3, 3] = first * spacing_mm
    x, y, z = (last - first + 1).tolist()
    return Grid((x, y, z), grid)


def to_grid(data: np.ndarray, affine: np.ndarray, grid: Grid, *, order: int = 1) -> np.ndarray:
    """Sample an image on a grid, smoothed first along the axes on which the grid is the coarser one.

    Parameters
    ----------
    data : (X, Y, Z) array
    affine : (4, 4) array
        Canonical, mm.
    grid : Grid
    order : {0, 1, 3}
        0: nearest voxel, for masks and labels, of the data's own type; 1: linear; 3: cubic spline.

    Returns
    -------
    float32 array of the grid's shape
        0 beyond the image.
    """
    from scipy import ndimage

    matrix = np.linalg.inv(affine) @ grid.affine
    reach = apply_affine(matrix, corners([(0, n - 1) for n in grid.shape]))
    # A few voxels more than are sampled: what smoothing and splines look at.
    low = np.clip(np.floor(reach.min(axis=0)).astype(int) - 8, 0, data.shape)
    high = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 9, 0, data.shape)
    if (low >= high).any():
        return np.zeros(grid.shape, np.float32 if order else data.dtype)
    part = data[tuple(slice(a, b) for a, b in zip(low, high))]
    moved = matrix.copy()
    moved[:3, 3] -= low
    if order == 0:
        return resample(part, moved, grid.shape, order=0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    # A Gaussian of half the grid's step, less what the voxels average already.
    sigma = 0.5 * np.sqrt(np.maximum(grid.spacing_mm[0] ** 2 - spacing**2, 0)) / spacing
    part = np.ascontiguousarray(part, dtype=np.float32)
    if sigma.max() > 0.1:
        steps = by_axis(moved[:3, :3])
        if order == 1 and steps.ndim == 1:
            return _smoothed_along_axes(part, sigma, steps, moved[:3, 3], grid.shape)
        part = ndimage.gaussian_filter(part, sigma, mode="nearest", truncate=3)
    return resample(part, moved, grid.shape, order=order)


def _smoothed_along_axes(data, sigma, steps, start, shape):
    """Smooth and sample at `start` + `steps` * index in one product an axis: no voxel is smoothed that nobody asks for.

    As `gaussian_filter` and `resample` do it one after the other, several times faster.
    """
    for axis in np.argsort(np.divide(shape, data.shape)):
        weights = _weights(data.shape[axis], sigma[axis], start[axis] + steps[axis] * np.arange(shape[axis]))
        if axis == 0:
            data = (weights @ data.reshape(len(data), -1)).reshape(-1, *data.shape[1:])
        else:
            data = weights @ data if axis == 1 else data @ weights.T
    return data


def _weights(count, sigma, at):
    """How much each of `count` voxels adds to what lies `at` these places of a smoothed line, (M, N) float32."""
    from scipy import ndimage

    smooth = np.eye(count, dtype=np.float32)
    if sigma > 0:
        smooth = ndimage.gaussian_filter1d(smooth, sigma, axis=0, mode="nearest", truncate=3)
    inside = np.clip(at, 0, count - 1)
    low = np.minimum(inside.astype(int), max(count - 2, 0))
    part = (inside - low)[:, None]
    between = smooth[low] * (1 - part) + smooth[np.minimum(low + 1, count - 1)] * part
    between[(at < -0.5 - _EDGE) | (at > count - 0.5 + _EDGE)] = 0
    return between.astype(np.float32)


def to_native(values: np.ndarray, grid: Grid, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Mean of a map over every voxel of a scan.

    The map is read as trilinear between its voxels and 0 beyond its grid, and averaged over points spread in each
    voxel: its sum times the voxel's volume is kept whatever the voxels' size, anisotropy and direction.

    Parameters
    ----------
    values : (X', Y', Z') array
        On `grid`.
    grid : Grid
    affine, shape
        Of the scan, canonical; mm.

    Returns
    -------
    (X, Y, Z) float32
    """
    from scipy import ndimage

    out = np.zeros(shape, np.float32, order="F")
    box = bounding_box(values != 0)
    if box is None:
        return out
    # One voxel of zeros round what is not zero, into which the map falls off.
    source = np.pad(np.asarray(values, np.float32)[box], 1)
    matrix = np.linalg.inv(grid.affine) @ affine
    matrix[:3, 3] -= [part.start - 1 for part in box]
    ends = apply_affine(np.linalg.inv(matrix), corners([(0, n - 1) for n in source.shape]))
    low = np.clip(np.floor(ends.min(axis=0) - 0.5).astype(int), 0, shape)
    high = np.clip(np.ceil(ends.max(axis=0) + 0.5).astype(int) + 1, 0, shape)
    if (low >= high).any():
        return out
    counts = np.maximum(np.ceil(np.linalg.norm(matrix[:3, :3], axis=0) / _STEP - _EDGE).astype(int), 1)
    linear = by_axis(matrix[:3, :3])
    total = np.zeros(high - low, np.float32)
    for sub in np.ndindex(*counts):
        offset = (np.array(sub) + 0.5) / counts - 0.5
        start = matrix[:3, :3] @ (low + offset) + matrix[:3, 3]
        total += ndimage.affine_transform(source, linear, start, total.shape, order=1, mode="constant")
    out[tuple(slice(a, b) for a, b in zip(low, high))] = total / counts.prod()
    return out


def mask_to_native(
    mask: np.ndarray,
    grid: Grid,
    affine: np.ndarray,
    shape: Sequence[int],
    native: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Bring a binary mask to a scan's grid so that every lesion keeps its volume.

    A threshold of the resampled mask loses what is thinner than a voxel. Here each connected lesion gets as many voxels
    as its volume fills, to the nearest one: those that it covers most.

    Parameters
    ----------
    mask : (X', Y', Z') bool
        On `grid`.
    grid : Grid
    affine, shape
        Of the scan, canonical; mm.
    native : (X, Y, Z) float array, optional
        On the scan's grid; decides between voxels that the mask covers equally.

    Returns
    -------
    mask : (X, Y, Z) bool
        Lesions that touch on the scan's grid share their volume; one under half a voxel is lost.
    fraction : (X, Y, Z) float32
        The part of each voxel that the mask covers.
    """
    from scipy import ndimage

    fraction = to_native(mask, grid, affine, shape)
    out = np.zeros(shape, bool, order="F")
    labels, count = ndimage.label(fraction > 1e-3, np.ones((3, 3, 3), bool))
    if not count:
        return out, fraction
    at = np.flatnonzero(labels)
    label, covered = labels.ravel()[at], np.ascontiguousarray(fraction).ravel()[at]
    volume = np.bincount(label, covered, minlength=count + 1)
    tie = native if native is not None else ndimage.gaussian_filter(fraction, 1)
    order = np.lexsort((-np.ascontiguousarray(tie).ravel()[at], -np.round(covered, 3), label))
    first = np.searchsorted(label[order], np.arange(count + 1))
    rank = np.arange(len(at)) - first[label[order]]
    chosen = np.zeros(out.size, bool)
    chosen[at[order[rank < np.floor(np.round(volume, 3) + 0.5)[label[order]]]]] = True
    out[...] = chosen.reshape(shape)
    return out, fraction
