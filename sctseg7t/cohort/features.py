"""What is measured of a scan's masks to compare it with its cohort."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.image.grid import Grid
from sctseg7t.inference.postprocess import components
from sctseg7t.measure.checks import usual_area
from sctseg7t.measure.flags import NOT_AVERAGED

if TYPE_CHECKING:
    from sctseg7t.measure.lesions import LesionTable

# Measures that count the slices with a flag.
_COUNTED = {
    "window_edge": "touches_window_edge",
    "unsure": "locator_unsure",
    "gm_unseen": "gm_contrast_low",
    "past_end": "past_cord_end",
    "unlike": "contrast_unusual",
}


@dataclass(frozen=True)
class Features:
    """Measures of one scan, by the names of :data:`sctseg7t.cohort.outliers.MEASURES`.

    Attributes
    ----------
    name : str
    values : dict of str to float
        Only what could be measured.
    slices : dict of str to tuple of int
        The slices that a value comes from, where it is not the whole stack's.
    """

    name: str
    values: dict[str, float] = field(default_factory=dict)
    slices: dict[str, tuple[int, ...]] = field(default_factory=dict)


def measure_features(
    masks: Mapping[str, np.ndarray],
    grid: Grid,
    *,
    name: str = "",
    flags: Sequence[Collection[str]] | None = None,
) -> Features:
    """Measure a scan's masks of the cord.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z) array
        ``SC`` and ``GM``, either may be missing; bool, or fractions in 0..1.
    grid : Grid
        That of the masks.
    name : str
    flags : sequence of collections of str, optional
        Flags of each slice; those with one of NOT_AVERAGED enter no area.
    """
    area = {
        tissue: np.asarray(masks[tissue]).sum(axis=(0, 1), dtype=float) * grid.pixel_area_mm2
        for tissue in ("SC", "GM")
        if tissue in masks
    }
    values, slices = {}, {}

    def put(key, value, where=()):
        if value is not None and np.isfinite(value):
            values[key] = float(value)
            slices[key] = tuple(int(k) for k in where)

    def put_count(key, which):
        put(key, np.count_nonzero(which), np.flatnonzero(which))

    whole = np.array([not NOT_AVERAGED.intersection(some) for some in flags or [()] * grid.shape[2]])
    for tissue, per_slice in area.items():
        inside, small = np.asarray(masks[tissue]) >= 0.5, tissue.lower()
        put(f"{small}_area_mm2", _median(per_slice, whole))
        put(f"{small}_asymmetry", _asymmetry(masks[tissue], masks.get("SC", masks[tissue])))
        if inside.any():
            labels = components(inside, corners=True)
            pieces = np.array([len(np.unique(labels[..., k][inside[..., k]])) for k in range(inside.shape[2])])
            put(f"{small}_pieces", pieces.max(), np.flatnonzero(pieces == pieces.max()) if pieces.max() > 1 else ())
    if "SC" in area:
        put("sc_jump", *_largest_jump(area["SC"]))
        put("edge_mm", *_edge_distance(np.asarray(masks["SC"]) >= 0.5, grid.spacing_mm))
        put_count("sc_empty", area["SC"] == 0)
    if "GM" in area:
        put_count("gm_empty", (area["GM"] == 0) & (area.get("SC", np.ones(grid.shape[2])) > 0))
    if len(area) == 2:
        with np.errstate(divide="ignore", invalid="ignore"):
            put("gm_sc_ratio", _median(area["GM"] / area["SC"], whole))
    for key, flag in _COUNTED.items():
        if flags is not None:
            put_count(key, [flag in some for some in flags])
    return Features(name, values, slices)


def lesion_features(table: LesionTable, *, name: str = "", brain_ml: float | None = None) -> Features:
    """Measures of a brain's lesions.

    Parameters
    ----------
    table : sctseg7t.measure.lesions.LesionTable
    name : str
    brain_ml : float, optional
        Volume of the brain mask, as the segmentation recorded it.

    Returns
    -------
    Features
        Slices are those of the canonical grid.
    """
    cut = [round(lesion.centroid_z_vox) for lesion in table.lesions if lesion.touches_edge]
    values = {
        "load_ml": sum(lesion.volume_mm3 for lesion in table.lesions) / 1000,
        "lesions": sum(lesion.counted for lesion in table.lesions),
        # An implausible number of pieces is one whatever their size.
        "lesion_pieces": len(table.lesions),
        "lesions_at_edge": len(cut),
        "brain_ml": brain_ml,
    }
    known = {key: float(value) for key, value in values.items() if value is not None}
    return Features(name, known, {"lesions_at_edge": tuple(sorted(set(cut)))})


def _median(values, whole):
    known = np.isfinite(values) & (values > 0)
    if (known & whole).any():
        known &= whole
    return float(np.median(values[known])) if known.any() else None


def _largest_jump(area):
    """Largest relative difference of a slice's area from the usual one around it, and where."""
    known = {int(k): float(area[k]) for k in np.flatnonzero(area > 0)}
    usual = {k: usual_area(k, known) for k in known}
    jumps = [(abs(known[k] - expected) / expected, k) for k, expected in usual.items() if expected is not None]
    if not jumps:
        return None, ()
    jump, worst = max(jumps, key=lambda found: found[0])
    return jump, (worst,)


def _asymmetry(mask, cord):
    """1 - Dice of a mask with its left-right mirror image about the cord's centre, median over slices."""
    found = []
    x = np.arange(mask.shape[0])
    for k in np.flatnonzero(np.asarray(cord).any(axis=(0, 1)) & np.asarray(mask).any(axis=(0, 1))):
        profile = np.asarray(cord[..., k]).sum(axis=1, dtype=float)
        mirror = int(round(2 * float((profile * x).sum() / profile.sum()))) - x
        inside = (mirror >= 0) & (mirror < len(x))
        flipped = np.zeros(mask.shape[:2], float)
        flipped[inside] = mask[mirror[inside], :, k]
        here = np.asarray(mask[..., k], float)
        found.append(1 - 2 * np.minimum(here, flipped).sum() / (here.sum() + flipped.sum()))
    return float(np.median(found)) if found else None


def _edge_distance(mask, spacing_mm):
    """Least in-plane distance from the mask to the image's border, mm, and where; infinite if the mask is empty."""
    sides = []
    for axis in (0, 1):
        line = mask.any(axis=1 - axis)
        sides += [line[way].argmax(axis=0) * float(spacing_mm[axis]) for way in (slice(None), slice(None, None, -1))]
    nearest = np.where(mask.any(axis=(0, 1)), np.min(sides, axis=0), np.inf)
    return nearest.min(), (nearest.argmin(),)
