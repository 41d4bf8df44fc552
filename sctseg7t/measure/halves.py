"""Left and right, dorsal and ventral halves of a tissue in each slice.

Lines through the cord's centroid part the slice: one along the cord's antero-posterior axis into left and right, one
along its right-left axis into dorsal and ventral. These are the halves of the quadrants of sct_process_segmentation
(Spinal Cord Toolbox, pull requests 4943 and 4958). There the axes follow the symmetry of the image; here they are the
scanner's R and A, turned by the roll that the cord's masks show, so that nothing but masks and affine is needed.
"""

from collections.abc import Iterable

import numpy as np

# A cord rounder than this (difference of its squared axes over their sum) has no roll to be seen.
_ROUND = 0.1


def roll(covariances: Iterable[np.ndarray]) -> float:
    """Angle in radians by which the cord is turned in its slices: 0 if its longer axis lies along right-left.

    It is that of the mean of the slices' shapes, so that a slice counts by how flat it is, and is the same for the
    whole stack. A cord that is round, or turned by more than 45 degrees, is taken as not turned.

    Parameters
    ----------
    covariances : iterable of (2, 2) array
        Second moments of the cord in each slice along right and anterior, mm2; an ellipse's are its squared semi-axes
        over 4.
    """
    shapes = [own / np.trace(own) for own in covariances if np.trace(own) > 0]
    if not shapes:
        return 0.0
    (xx, xy), (_, yy) = np.mean(shapes, axis=0)
    flat = np.hypot(xx - yy, 2 * xy)
    return float(0.5 * np.arctan2(2 * xy, xx - yy)) if flat > _ROUND and xx > yy else 0.0


def beyond(fractions: np.ndarray, centres: np.ndarray, axis: np.ndarray) -> np.ndarray:
    """Number of pixels' worth of tissue beyond a line through a point, slice by slice.

    A pixel that the line crosses is parted by it, exactly, whatever its shape and obliquity: the sums do not change
    with the order or direction in which the file stores its axes.

    Parameters
    ----------
    fractions : (Z, I, J) array
    centres : (Z, 2) array
        Points of the lines in pixel indices (i, j); NaN where there is none.
    axis : (2,) array
        Way along the direction in question (right, or anterior), in mm, of a step along i and along j.

    Returns
    -------
    (Z,) float array
        NaN where there is no point.
    """
    i, j = (np.arange(n) for n in fractions.shape[1:])
    along_i, along_j = axis[0] * (i - centres[:, :1]), axis[1] * (j - centres[:, 1:])
    share = _share_beyond(along_i[:, :, None] + along_j[:, None, :], *np.abs(axis))
    return np.einsum("zij,zij->z", fractions, share)


def _share_beyond(way: np.ndarray, a: float, b: float) -> np.ndarray:
    """Share of a pixel beyond 0, where its centre is `way` beyond it, and its sides are `a` and `b` long that way."""
    a, b = max(a, b), min(a, b)
    if b < 1e-6 * a:
        return np.clip(way / a + 0.5, 0, 1)
    # A parallelogram's profile is the convolution of two boxes; its integral is made of four parabolas.
    steps = ((a + b) / 2, 1), ((a - b) / 2, -1), ((b - a) / 2, -1), (-(a + b) / 2, 1)
    return np.sum([sign * np.maximum(way + step, 0) ** 2 for step, sign in steps], axis=0) / (2 * a * b)
