"""Real scans into which gray matter of known area is painted, or whose cord is made larger or smaller.

Everything but the cord's inside stays the scan's own: coil profile, CSF, surroundings, pixel size. What is painted
has the slice's own contrast and noise, and the partial volume of its outline is exact.
"""

from dataclasses import dataclass, replace

import numpy as np
from perturb import Case

# The reference's outline is moved on a grid so many times finer than the scan's.
FINE = 5
# Painted white matter is at most this uneven (SD against its median).
NOISE = 0.05


@dataclass(frozen=True, eq=False)
class Painted:
    """A scan with known areas (mm2) in each slice, nan where nothing was painted."""

    case: Case
    gm_mm2: np.ndarray
    sc_mm2: np.ndarray


@dataclass(frozen=True)
class Paint:
    """How gray matter is painted.

    Attributes
    ----------
    form : str
        Key of ``FORMS``: which part of the outline moves.
    contrast : float
        Of GM to WM, against the slice's own; negative: GM darker.
    noise : float or None
        SD of the white noise, against the WM's median; None: the slice's own spread, at most ``NOISE``.
    """

    form: str = "whole"
    contrast: float = 1.0
    noise: float | None = None


# By form: share of the move that a position gets, from x and y (voxels, GM's centre 0, y to the front).
FORMS = {
    "whole": lambda x, y: np.ones_like(x),
    "front horns": lambda x, y: (y > 0).astype(float),
    "one side": lambda x, y: (x > 0).astype(float),
}


def paint(case, moved_px, how=Paint(), seed=0):
    """Gray matter whose outline is the reference's, moved out by so many pixels (None: none at all)."""
    from scipy.ndimage import binary_erosion

    rng = np.random.default_rng(seed)
    data = case.data.copy()
    area = float(np.prod(case.spacing_mm[:2]))
    gm_mm2, sc_mm2 = np.full((2, data.shape[2]), np.nan)
    for k in np.flatnonzero(case.sc.any((0, 1)) & case.gm.any((0, 1))):
        cord, gray, plane = case.sc[..., k], case.gm[..., k], case.data[..., k]
        inner = binary_erosion(cord)
        if not (inner & gray).any() or not (inner & ~gray).any():
            continue
        white = plane[inner & ~gray]
        level = np.median(white)
        spread = min(1.4826 * np.median(np.abs(white - level)), NOISE * level)
        contrast = how.contrast * (np.median(plane[inner & gray]) - level)
        fraction = np.zeros(plane.shape) if moved_px is None else _moved(gray, moved_px, how.form)
        fraction = fraction * inner
        sd = spread if how.noise is None else how.noise * level
        drawn = level + contrast * fraction + rng.normal(0, 1, plane.shape) * sd
        data[..., k][inner] = drawn[inner]
        gm_mm2[k], sc_mm2[k] = fraction.sum() * area, cord.sum() * area
    return Painted(replace(case, data=data.astype(np.float32)), gm_mm2, sc_mm2)


def _moved(gray, moved_px, form):
    """Partial volumes of a mask whose smoothed outline is moved out by so many pixels."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    box = _around(gray, 4)
    fine = np.kron(gray[box], np.ones((FINE, FINE)))
    inside = gaussian_filter(fine, 0.5 * FINE) > 0.5
    depth = distance_transform_edt(inside) - distance_transform_edt(~inside)
    # The outline runs half way between the grid's points.
    depth = (depth - 0.5 * np.sign(depth)) / FINE
    x, y = np.indices(inside.shape) / FINE
    cx, cy = (np.mean(axis[inside]) for axis in (x, y))
    moved = depth + moved_px * FORMS[form](x - cx, y - cy) > 0
    rows, columns = gray[box].shape
    out = np.zeros(gray.shape)
    out[box] = moved.reshape(rows, FINE, columns, FINE).mean((1, 3))
    return out


def _around(mask, margin_px):
    """Slices of the box around a mask."""
    ends = [(where.min() - margin_px, where.max() + margin_px + 1) for where in np.nonzero(mask)]
    return tuple(slice(max(low, 0), high) for low, high in ends)


def scaled_cord(case, percent, taper_mm=4.0):
    """The cord with all in it larger in area by so many percent; the CSF around gives way.

    Each slice is warped about its cord's centre: up to half a millimetre outside the cord by one factor, which falls
    to none at ``taper_mm``. Cubic splines interpolate; at 0 percent nothing does.
    """
    from scipy.ndimage import distance_transform_edt, map_coordinates

    factor = np.sqrt(1 + percent / 100)
    data = case.data.copy()
    spacing = case.spacing_mm[:2]
    area = float(np.prod(spacing))
    gm_mm2, sc_mm2 = np.full((2, data.shape[2]), np.nan)
    for k in np.flatnonzero(case.sc.any((0, 1)) & case.gm.any((0, 1))):
        cord, plane = case.sc[..., k], case.data[..., k]
        middle = np.argwhere(cord).mean(0)
        box = _around(cord, int(np.ceil((taper_mm + 2) / min(spacing))))
        # How far outside the cord a pixel of the result lies.
        away = distance_transform_edt(~cord[box], sampling=spacing)
        share = np.clip((taper_mm - away) / (taper_mm - 0.5 - abs(factor - 1) * 6), 0, 1)
        shift = (1 / factor - 1) * share
        places = [axis[box] for axis in np.indices(plane.shape)]
        at = [axis + (axis - centre) * shift for axis, centre in zip(places, middle)]
        if percent:
            data[..., k][box] = map_coordinates(plane, at, order=3, mode="nearest")
        grown = (1 + percent / 100) * area
        gm_mm2[k], sc_mm2[k] = case.gm[..., k].sum() * grown, cord.sum() * grown
    return Painted(replace(case, data=data), gm_mm2, sc_mm2)
