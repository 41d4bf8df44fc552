"""Shape of one tissue in one slice, from moments weighted by its fractions.

All lengths are in mm, so anisotropic and sheared pixels need no resampling.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.image.grid import bounding_box

# Fractions below this are background: no bearing on an area, but a lot on moments.
FLOOR = 0.01
_MIN_PIXELS = 3
_TURNS = 2 * np.pi * np.arange(128) / 128
_DIRECTIONS = np.column_stack([np.cos(_TURNS), np.sin(_TURNS)])


@dataclass(frozen=True)
class Moments:
    """Weighted moments of a slice in voxel indices (whole slice, not the crop).

    Attributes
    ----------
    centroid : (2,) array
    covariance : (2, 2) array
        In index units squared; the blur of partial volume is removed.
    pixels : float
        Sum of fractions over the highest fraction.
    patch : (I, J) array
        The slice cropped to the tissue, scaled to a maximum of 1.
    """

    centroid: np.ndarray
    covariance: np.ndarray
    pixels: float
    patch: np.ndarray


def slice_moments(fraction: np.ndarray) -> Moments | None:
    """Moments of a 2D fraction map (X, Y); None if no fraction reaches 0.01.

    A uniform shape sampled as a hard mask at pixel centres has the moments of the
    shape. As a partial-volume map it has been convolved with one pixel, whose
    second moment (1/12 of a pixel step squared, each way) is subtracted.
    """
    inside = fraction >= FLOOR
    box = bounding_box(inside)
    if box is None:
        return None
    patch = np.where(inside[box], fraction[box], 0).astype(float)
    patch /= patch.max()
    total = patch.sum()
    i, j = np.arange(patch.shape[0]), np.arange(patch.shape[1])
    along_i, along_j = patch.sum(axis=1) / total, patch.sum(axis=0) / total
    mean_i, mean_j = along_i @ i, along_j @ j
    i, j = i - mean_i, j - mean_j
    cross = i @ patch @ j / total
    covariance = np.array([[along_i @ (i * i), cross], [cross, along_j @ (j * j)]])
    if np.sum(patch * (1 - patch)) > 1e-3 * total:
        covariance -= np.eye(2) / 12
    centroid = np.array([mean_i + box[0].start, mean_j + box[1].start])
    return Moments(centroid, covariance, float(total), patch)


def slice_shape(moments: Moments, pixel: np.ndarray, slope: np.ndarray | None = None) -> dict[str, Any]:
    """Shape in the plane perpendicular to the cord, or in the slice.

    The diameters are the axes of the ellipse with the same second moments; the axis
    nearer to antero-posterior is AP, as in sct_process_segmentation (for WM, a ring,
    they exceed the outline by some 5 %). `orientation_deg` is the angle of the major
    axis to right-left, in (-90, 90], positive if its right end points anterior.

    Parameters
    ----------
    moments : Moments
    pixel : (2, 2) array
        Columns are the in-plane voxel steps in right, anterior coordinates, mm.
    slope : (2,) array, optional
        Centreline ``d(r, a)/dn``. If given, the section is projected along the
        centreline onto the plane perpendicular to it (turned there by the smallest
        rotation), which is exact for a cylinder. Solidity is the same in both.

    Returns
    -------
    dict
        ``diameter_ap_mm``, ``diameter_rl_mm``, ``eccentricity``, ``orientation_deg``, ``solidity``: those that are
        defined; ``reason``: the codes why the others are not.
    """
    if moments.pixels < _MIN_PIXELS:
        return {"reason": ("shape_too_small",)}
    step = pixel
    if slope is not None:
        cosine = 1 / np.sqrt(1 + slope @ slope)
        tangent = slope * cosine
        step = (np.eye(2) - np.outer(tangent, tangent) / (1 + cosine)) @ pixel
    covariance = step @ moments.covariance @ step.T
    (small, large), vectors = np.linalg.eigh(covariance)
    if small <= 1e-6 * large or large <= 0:
        return {"reason": ("shape_degenerate",)}
    minor, major = 4 * float(np.sqrt(small)), 4 * float(np.sqrt(large))
    # Area over that of the convex hull of the half-height outline: both scale alike under an affine map, so indices do.
    padded = np.pad(moments.patch, 1)
    i, lo, hi = _row_crossings(padded)
    j, left, right = _row_crossings(padded.T)
    hull = _hull_area(np.column_stack([np.concatenate([i, i, left, right]), np.concatenate([lo, hi, j, j])]))
    shape = {"solidity": min(1.0, moments.pixels / hull) if hull > 0 else None, "reason": ()}
    if large - small < 1e-6 * large:
        # A circle has diameters but no axes.
        return shape | {
            "diameter_ap_mm": major,
            "diameter_rl_mm": major,
            "eccentricity": 0.0,
            "reason": ("shape_isotropic",),
        }
    x, y = vectors[:, 1] if vectors[0, 1] > 0 else -vectors[:, 1]
    orientation = float(np.degrees(np.arctan2(y, x)))
    orientation = 90.0 if orientation <= -90 else orientation
    ap, rl = (minor, major) if abs(orientation) < 45 else (major, minor)
    return shape | {
        "diameter_ap_mm": ap,
        "diameter_rl_mm": rl,
        "eccentricity": float(np.sqrt(1 - small / large)),
        "orientation_deg": orientation,
    }


def _row_crossings(padded):
    """Rows that hold tissue, and the outermost half-height crossings of each."""
    inside = padded >= 0.5
    rows = np.flatnonzero(inside.any(axis=1))
    inside, values = inside[rows], padded[rows]
    line = np.arange(len(rows))
    lo = inside.argmax(axis=1)
    hi = inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    at_lo, at_hi = values[line, lo], values[line, hi]
    start = lo - (at_lo - 0.5) / (at_lo - values[line, lo - 1])
    stop = hi + (at_hi - 0.5) / (at_hi - values[line, hi + 1])
    return rows.astype(float), start, stop


def _hull_area(points):
    """Area of the convex hull of (n, 2) points, from their extremes in 128 directions.

    Never too large; too small by at most 0.04 % for a smooth outline.
    """
    x, y = points[(_DIRECTIONS @ points.T).argmax(axis=1)].T
    return 0.5 * abs(float(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1]))
