"""Whether an image shows what a mask of gray matter claims: contrast and noise of GM against WM, slice by slice."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from sctseg7t.image.frame import frame_of
from sctseg7t.image.grid import bounding_box
from sctseg7t.measure.csa import CsaTable

GM_CONTRAST_LOW = "gm_contrast_low"
# The difference between GM and WM is less than this many of its standard errors where GM is not to be trusted.
LEAST_EVIDENCE = 5.0
# The border of a tissue is partial volume: so wide, or one pixel where pixels are larger.
_RIM_MM = 0.35
# Fewer pixels of WM tell neither field nor noise.
_FEWEST_WM = 12
# GM's own rim is left out where so much of it remains.
_CORE_SHARE = 0.25
_FEWEST_CORE = 6
# Neighbouring pixels of a scan are rarely equal; those of a mask or a label map mostly are.
_EQUAL_SHARE = 0.5
_TURNS = 3


@dataclass(frozen=True)
class SliceContrast:
    """GM against WM in one slice. None: too few pixels of either to tell, or no noise to compare with.

    Attributes
    ----------
    contrast : float or None
        (GM - WM) / the smaller of the two; negative where GM is darker.
    cnr : float or None
        (GM - WM) / noise SD.
    evidence : float or None
        (GM - WM) / its standard error, pixels taken as independent; 0 where the image has no noise, as masks have.
    """

    contrast: float | None = None
    cnr: float | None = None
    evidence: float | None = None


@dataclass(frozen=True)
class GmContrast:
    """What a slice shows of GM: under its own mask, and whether it can be told from WM."""

    own: SliceContrast
    low: bool


def gm_contrast(image: np.ndarray, gm: np.ndarray, sc: np.ndarray, affine: np.ndarray) -> list[GmContrast | None]:
    """Contrast and contrast-to-noise ratio of GM against WM under given masks, and whether they are enough.

    Both as in Cohen-Adad et al., "Comparison of multicenter MRI protocols for visualizing the spinal cord gray matter"
    (Magn Reson Med 2022), made robust: medians; no pixels at the border of SC nor between GM and WM; the smooth field
    is a plane fitted to WM with Huber's weights, and the noise is 1.4826 times the median absolute deviation from it.

    A mask that follows the noise finds contrast where there is none. So a slice is tried with its neighbours' masks
    too, moved by the distance of the cords' centres: their GM has the same place nearly, and their noise is another.
    GM can be told from WM if the slice's own mask and the better of its neighbours' show a difference of
    LEAST_EVIDENCE standard errors, of the same sign.

    Parameters
    ----------
    image : (X, Y, Z) array
    gm, sc : (X, Y, Z) array
        Masks or fractions, whoever drew them.
    affine : (4, 4) array
        Of their grid; slices lie along axis 2.

    Returns
    -------
    list of GmContrast or None
        None where the slice has no GM.
    """
    masks = np.stack([gm, sc]) >= 0.5
    box = bounding_box(np.any(masks, axis=(0, 3)), margin=1)
    found: list[GmContrast | None] = [None] * masks.shape[3]
    if box is None:
        return found
    pixel_mm = np.linalg.norm(frame_of(affine).voxel_to_frame, axis=0)
    rim = tuple(max(1, round(_RIM_MM / mm)) for mm in pixel_mm)
    planes = np.moveaxis(image[box], 2, 0).astype(float)
    grays, cords = np.moveaxis(masks[(slice(None), *box)], 3, 1)
    centres = [np.argwhere(cord).mean(0) if cord.any() else None for cord in cords]
    for k in np.flatnonzero(grays.any(axis=(1, 2))):
        centre = centres[k]
        if centre is None:
            found[k] = GmContrast(SliceContrast(), low=True)
            continue
        inner = shrunk(cords[k], rim)
        own = _slice(planes[k], grays[k], inner, rim)
        seen = [own.evidence or 0.0]
        sign = 1 if seen[0] > 0 else -1
        for j in (k - 1, k + 1):
            other = centres[j] if 0 <= j < len(centres) else None
            if other is not None and grays[j].any():
                moved = np.roll(grays[j], np.rint(centre - other).astype(int), (0, 1))
                seen.append(_slice(planes[k], moved, inner, rim).evidence or 0.0)
        best = max((sign * evidence for evidence in seen[1:]), default=abs(seen[0]))
        found[k] = GmContrast(own, low=min(abs(seen[0]), best) < LEAST_EVIDENCE)
    return found


def cord_contrast(image: np.ndarray, sc: np.ndarray, affine: np.ndarray) -> float | None:
    """How much brighter the surroundings are than the cord, in noise SDs: the median over the slices.

    Rings of 1 mm on both sides of the outline are compared, without its partial volume. Around a cord on T2*- and
    T2-weighted scans CSF is as bright or brighter; on T1-weighted ones it is dark.

    Parameters
    ----------
    image : (X, Y, Z) array
    sc : (X, Y, Z) array
        Mask or fractions.
    affine : (4, 4) array

    Returns
    -------
    float or None
        None where no slice can tell.
    """
    pixel_mm = np.linalg.norm(frame_of(affine).voxel_to_frame, axis=0)
    rim = tuple(max(1, round(_RIM_MM / mm)) for mm in pixel_mm)
    ring = tuple(max(1, round(1 / mm)) for mm in pixel_mm)
    found = []
    for k in range(sc.shape[2]):
        box = bounding_box(sc[..., k] >= 0.5, margin=max(rim) + max(ring))
        if box is None:
            continue
        plane, cord = image[(*box, k)].astype(float), sc[(*box, k)] >= 0.5
        inside, outside = shrunk(cord, rim), grown(cord, rim)
        within, beyond = plane[inside & ~shrunk(inside, ring)], plane[grown(outside, ring) & ~outside]
        if min(len(within), len(beyond)) < _FEWEST_WM:
            continue
        noise = 1.4826 * _middle(np.abs(within - _middle(within)))
        if noise > 0:
            found.append((_middle(beyond) - _middle(within)) / noise)
    return float(np.median(found)) if found else None


def add_contrast(table: CsaTable, shown: Sequence[GmContrast | None]) -> CsaTable:
    """The table with contrast and CNR in its rows of GM, and the flag on GM and WM where GM cannot be told from WM."""
    rows = []
    for row in table.rows:
        found = shown[row.slice]
        if found is not None and row.tissue in ("GM", "WM") and row.area_mm2 is not None:
            if found.low:
                row = replace(row, flags=tuple(dict.fromkeys((*row.flags, GM_CONTRAST_LOW))))
            if row.tissue == "GM":
                row = replace(row, gm_wm_contrast=found.own.contrast, gm_wm_cnr=found.own.cnr)
        rows.append(row)
    return replace(table, rows=tuple(rows))


def _slice(image, gm, cord, rim):
    """GM against WM in one image (X, Y), under a mask of GM and one of SC without its border."""
    wm, core = cord & ~grown(gm, rim), shrunk(gm, rim) & cord
    if np.count_nonzero(core) < max(_FEWEST_CORE, _CORE_SHARE * np.count_nonzero(gm)):
        core = gm & cord
    where, own = np.argwhere(wm), np.argwhere(core)
    if len(where) < _FEWEST_WM or not len(own):
        return SliceContrast()
    centre = where.mean(0)
    terms, own_terms = (np.column_stack([np.ones(len(at)), at - centre]) for at in (where, own))
    values, over = image[wm], image[core]
    weights = np.ones(len(values))
    for _ in range(_TURNS):
        weighted = terms.T * weights
        plane = np.linalg.lstsq(weighted @ terms, weighted @ values, rcond=None)[0]
        rest = values - terms @ plane
        noise = 1.4826 * _middle(np.abs(rest))
        weights = np.minimum(1, 1.345 * noise / np.maximum(np.abs(rest), 1e-30))
    level = float(plane[0])
    step = _middle(over - own_terms @ plane)
    darker = min(level, level + step)
    contrast = step / darker if darker > 0 else None
    if noise <= 1e-6 * max(abs(level), abs(step)) or _equal_share(image, cord) > _EQUAL_SHARE:
        return SliceContrast(contrast, evidence=0.0)
    return SliceContrast(contrast, step / noise, step / (noise * (1 / len(over) + 1 / len(rest)) ** 0.5))


def _middle(values):
    """The median; of an even number the upper one. A fraction of numpy.median's time."""
    half = len(values) // 2
    return float(np.partition(values, half)[half])


def _equal_share(image, cord):
    """Share of pixels within the cord that equal their next one."""
    pairs = cord[1:] & cord[:-1]
    return float(np.mean(image[1:][pairs] == image[:-1][pairs])) if pairs.any() else 0.0


def grown(mask: np.ndarray, pixels: Sequence[int]) -> np.ndarray:
    """A mask (X, Y) grown along each axis by so many pixels, to a diamond's reach."""
    mask = mask.copy()
    for step in range(max(pixels)):
        before = mask.copy()
        for axis, count in enumerate(pixels):
            if step < count:
                low, high = ((slice(None),) * axis + (part,) for part in (slice(None, -1), slice(1, None)))
                mask[low] |= before[high]
                mask[high] |= before[low]
    return mask


def shrunk(mask: np.ndarray, pixels: Sequence[int]) -> np.ndarray:
    """A mask (X, Y) without its border, as wide as :func:`grown` would make it; beyond the array there is none."""
    width = max(pixels)
    return ~grown(~np.pad(mask, width), pixels)[width:-width, width:-width]
