"""What is measured of a scan's masks to compare it with its cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.image.grid import Grid
from sctseg7t.inference.postprocess import components
from sctseg7t.measure.checks import TRUNCATED, usual_area
from sctseg7t.measure.csa import slice_areas

if TYPE_CHECKING:
    from sctseg7t.measure.lesions import LesionTable


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
    flags: Sequence[Sequence[str]] | None = None,
) -> Features:
    """Measure a scan's masks of the cord.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z) array
        ``SC`` and ``GM``, either may be missing; bool, or fractions in 0..1.
    grid : Grid
        That of the masks.
    name : str
    flags : sequence of sequences of str, optional
        Flags of each slice; truncated slices enter no area.
    """
    area = {tissue: slice_areas(masks[tissue], grid) for tissue in ("SC", "GM") if tissue in masks}
    values, slices = {}, {}

    def put(key, value, where=()):
        if value is not None and np.isfinite(value):
            values[key] = float(value)
            slices[key] = tuple(int(k) for k in where)

    whole = None if flags is None else np.array([not TRUNCATED.intersection(some) for some in flags])
    for tissue, per_slice in area.items():
        put(f"{tissue.lower()}_area_mm2", _median(per_slice, whole))
    if len(area) == 2:
        put("gm_sc_ratio", _median(_divide(area["GM"], area["SC"]), whole))
    if "SC" in masks:
        put("sc_jump", *_largest_jump(area["SC"]))
        put("edge_mm", *_edge_distance(masks["SC"], grid.spacing_mm))
    for tissue in area:
        put(f"{tissue.lower()}_asymmetry", _asymmetry(masks[tissue], masks.get("SC", masks[tissue])))
        put(f"{tissue.lower()}_pieces", *_pieces(masks[tissue]))
    if "SC" in area:
        put("sc_empty", *_count(area["SC"] == 0))
    if "GM" in area:
        put("gm_empty", *_count((area["GM"] == 0) & (area["SC"] > 0) if "SC" in area else area["GM"] == 0))
    for key, flag in (("window_edge", "touches_window_edge"), ("unsure", "locator_unsure")):
        if flags is not None:
            put(key, *_count(np.array([flag in some for some in flags])))
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
    total = table.summary()
    cut = [round(lesion.centroid_z_vox) for lesion in table.lesions if lesion.touches_edge]
    values = {"load_ml": total["load_ml"], "lesions": total["n_lesions"], "lesions_at_edge": len(cut)}
    # An implausible number of pieces is one whatever their size.
    values["lesion_pieces"] = len(table.lesions)
    if brain_ml is not None:
        values["brain_ml"] = brain_ml
    return Features(
        name, {key: float(value) for key, value in values.items()}, {"lesions_at_edge": tuple(sorted(set(cut)))}
    )


def _median(values, whole):
    known = np.isfinite(values) & (values > 0)
    if whole is not None and (known & whole).any():
        known &= whole
    return float(np.median(values[known])) if known.any() else None


def _divide(a, b):
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _largest_jump(area):
    """Largest relative difference of a slice's area from the usual one around it, and where."""
    known = {int(k): float(area[k]) for k in np.flatnonzero(area > 0)}
    usual = {k: usual_area(k, known) for k in known}
    jumps = {k: abs(known[k] - expected) / expected for k, expected in usual.items() if expected is not None}
    if not jumps:
        return None, ()
    worst = max(jumps, key=jumps.__getitem__)
    return jumps[worst], (worst,)


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


def _pieces(mask):
    """Most connected pieces in any slice, and where."""
    mask = np.asarray(mask) >= 0.5
    if not mask.any():
        return None, ()
    labels = components(mask, corners=True)
    count = np.array([len(np.unique(labels[..., k][mask[..., k]])) for k in range(mask.shape[2])])
    return count.max(), np.flatnonzero(count == count.max()) if count.max() > 1 else ()


def _edge_distance(mask, spacing_mm):
    """Least in-plane distance from the mask to the image's border, mm, and where."""
    mask = np.asarray(mask) >= 0.5
    best, where = None, ()
    for k in np.flatnonzero(mask.any(axis=(0, 1))):
        for axis in (0, 1):
            line = np.flatnonzero(mask[..., k].any(axis=1 - axis))
            distance = min(line[0], mask.shape[axis] - 1 - line[-1]) * float(spacing_mm[axis])
            if best is None or distance < best:
                best, where = distance, (k,)
    return best, where


def _count(which):
    where = np.flatnonzero(which)
    return len(where), where
