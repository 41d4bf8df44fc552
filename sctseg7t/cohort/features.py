"""What is measured of a scan's masks to compare it with its cohort."""

from dataclasses import dataclass, field

import numpy as np

from sctseg7t.measure.checks import JUMP_REACH, TRUNCATED
from sctseg7t.postprocess import components


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
    values: dict = field(default_factory=dict)
    slices: dict = field(default_factory=dict)


def measure_features(masks, spacing_mm, *, name="", flags=None, uncertainty=None):
    """Measure a scan's masks.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z) array
        ``SC`` and ``GM``, either may be missing; bool, or fractions in 0..1.
    spacing_mm : sequence of 3 float
    name : str
    flags : sequence of sequences of str, optional
        Flags of each slice; truncated slices enter no area.
    uncertainty : float, optional
        Mean over the cord, as the segmentation recorded it.

    Returns
    -------
    Features
    """
    flags = [set(some) for some in flags] if flags is not None else None
    area = {t: _areas(masks[t], spacing_mm) for t in ("SC", "GM") if t in masks}
    values, slices = {}, {}

    def put(key, value, where=()):
        if value is not None and np.isfinite(value):
            values[key] = float(value)
            slices[key] = tuple(int(k) for k in where)

    whole = None if flags is None else np.array([not TRUNCATED & some for some in flags])
    for tissue, per_slice in area.items():
        put(f"{tissue.lower()}_area_mm2", _median(per_slice, whole))
    if len(area) == 2:
        put("gm_sc_ratio", _median(_divide(area["GM"], area["SC"]), whole))
    if "SC" in masks:
        put("sc_jump", *_largest_jump(area["SC"]))
        put("edge_mm", *_edge_distance(masks["SC"], spacing_mm))
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
    put("uncertainty", uncertainty)
    return Features(name, values, slices)


def lesion_features(table, *, name="", brain_ml=None):
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


def _areas(mask, spacing_mm):
    return np.asarray(mask).sum(axis=(0, 1), dtype=float) * float(spacing_mm[0] * spacing_mm[1])


def _median(values, whole):
    known = np.isfinite(values) & (values > 0)
    if whole is not None and (known & whole).any():
        known &= whole
    return float(np.median(values[known])) if known.any() else None


def _divide(a, b):
    return np.divide(a, b, out=np.full(len(a), np.nan), where=b > 0)


def _largest_jump(area):
    """Largest relative difference of a slice's area from the median of its neighbours'."""
    known = np.flatnonzero(area > 0)
    worst, where = None, ()
    for k in known:
        near = sorted((abs(m - k), m) for m in known if 0 < abs(m - k) <= JUMP_REACH)[:4]
        if len(near) < 2:
            continue
        # Of an even number the nearer of the two middle values, so that one bad slice accuses no good one.
        ordered = sorted(area[m] for _, m in near)
        usual = min(ordered[(len(near) - 1) // 2], ordered[len(near) // 2], key=lambda a: abs(area[k] - a))
        jump = abs(area[k] - usual) / usual
        if worst is None or jump > worst:
            worst, where = jump, (k,)
    return worst, where


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
