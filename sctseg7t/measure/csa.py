"""Cross-sectional area (CSA) and shape of SC, GM and WM, slice by slice and per level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from sctseg7t.image.frame import frame_of
from sctseg7t.image.grid import bounding_box
from sctseg7t.measure.centreline import MAX_ANGLE_SD_DEG, fit_centreline
from sctseg7t.measure.checks import TRUNCATED, check_areas
from sctseg7t.measure.columns import CSA_MEASURES, TISSUES, names
from sctseg7t.measure.levels import slice_levels
from sctseg7t.measure.shape import slice_moments, slice_shape

MEASURES = names(CSA_MEASURES)
# What the codes in a row's `reason` mean.
REASONS = {
    "empty": "no fraction of this tissue reaches 0.01 here: nothing is measured",
    "single_slice": "the centreline needs two slices: no angle, area not corrected, shape as seen in the slice",
    "angle_uncertain": "centroids too close together or too far away for an angle known to 6 degrees: as above",
    "no_centreline": "no centroid to fit a centreline to: as above",
    "centreline_from_GM": "no SC: the centreline is that of GM (nothing is null for this)",
    "centreline_from_WM": "no SC: the centreline is that of WM (nothing is null for this)",
    "centreline_from_GM+WM": "no SC: the centreline is that of GM + WM (nothing is null for this)",
    "shape_too_small": "less than three full pixels: no shape",
    "shape_degenerate": "a line of pixels: no shape",
    "shape_isotropic": "the shape has no longer axis: no orientation",
    "single_value": "one slice has no standard deviation",
    "no_value": "no slice of the group has this tissue, untruncated",
}


@dataclass(frozen=True, kw_only=True)
class CsaRow:
    """One tissue in one slice: place, area and shape. None where unmeasured: `reason` says why (see REASONS).

    Diameters, eccentricity and orientation are those of the section perpendicular
    to the centreline wherever `area_corrected_mm2` exists, else of the slice.
    `angle_ap_deg` is the tilt of the centreline within the plane of the A-P axis and
    the slice normal (positive: leaning anterior going up), `angle_rl_deg` within that of
    the R-L axis (positive: leaning right).
    """

    tissue: str
    slice: int
    level: int | None = None
    z_mm: float | None = None
    area_mm2: float | None = None
    area_corrected_mm2: float | None = None
    angle_ap_deg: float | None = None
    angle_rl_deg: float | None = None
    diameter_ap_mm: float | None = None
    diameter_rl_mm: float | None = None
    eccentricity: float | None = None
    orientation_deg: float | None = None
    solidity: float | None = None
    length_mm: float | None = None
    reason: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()


@dataclass(frozen=True)
class LevelRow:
    """One tissue over the slices of a vertebral level, or of the whole stack ("all").

    `mean` and `sd` map each name of MEASURES to a float or None. Slices that are
    empty or truncated count in `n_slices`, not in `n_averaged` nor in
    any mean. The SD has n - 1 in its denominator. Orientations are averaged as
    axes (179 and 1 degrees give 0). `length_mm` sums the slices' lengths along the
    centreline, truncated ones too.
    """

    tissue: str
    level: int | str
    n_slices: int
    n_averaged: int
    length_mm: float | None
    mean: dict[str, float | None]
    sd: dict[str, float | None]
    reason: tuple[str, ...] = ()


@dataclass(frozen=True)
class CsaTable:
    """Measures of one 3D volume: `rows` by slice, then tissue; `level_rows` likewise."""

    rows: tuple[CsaRow, ...]
    level_rows: tuple[LevelRow, ...]

    def column(self, tissue: str, name: str) -> np.ndarray:
        """Values of one measure over the slices as a float array (Z,), NaN where None.

        Raises
        ------
        ValueError
            No such tissue in the table, or no such measure.
        """
        for what, asked, known in (
            ("tissue", tissue, {row.tissue for row in self.rows}),
            ("measure", name, {field.name for field in fields(CsaRow)}),
        ):
            if asked not in known:
                raise ValueError(f"{asked!r}: no such {what}; there are {', '.join(sorted(known))}")
        values = [getattr(row, name) for row in self.rows if row.tissue == tissue]
        return np.array([np.nan if value is None else value for value in values], dtype=float)


def measure_csa(
    fractions: Mapping[str, np.ndarray],
    affine: np.ndarray,
    *,
    levels: np.ndarray | None = None,
    flags: Sequence[Sequence[str]] | None = None,
) -> CsaTable:
    """Measure area and shape of each tissue in each slice.

    The area is the sum of the fractions times the pixel area, so a plateau of 0.6
    counts 0.6 of its area. The corrected area is multiplied by the cosine between
    centreline and slice normal. GM and WM are corrected with the centreline of SC.
    An empty slice has no area (None) rather than 0, which would spoil a mean.

    Parameters
    ----------
    fractions : dict of str to (X, Y, Z) array
        Fractions in 0..1 of any of "SC", "GM", "WM", on the RAS+ canonical grid; a hard
        mask has 0 and 1. Up to 0.001 beyond, as interpolation leaves, is clipped.
    affine : (4, 4) array
        Voxel to scanner mm; may be oblique, anisotropic, sheared. Slices lie along axis 2.
    levels : (X, Y, Z) int array, optional
        Vertebral labels; see :func:`sctseg7t.measure.levels.slice_levels`.
    flags : sequence of sequences of str, optional
        Per-slice flags, copied to the rows. A slice flagged "touches_window_edge" or
        "touches_image_edge" keeps its values but is left out of the level means.
        "touches_image_edge" is also set here.

    Returns
    -------
    CsaTable

    Raises
    ------
    ValueError
        If names, shapes or values of the fractions break the above.
    """
    fractions = _checked_fractions(fractions)
    shape = next(iter(fractions.values())).shape
    frame = frame_of(affine)
    moments, sums = {}, {}
    for name, array in fractions.items():
        moments[name], sums[name] = _slices(array)
    source, source_moments = _centreline_source(fractions, moments)
    centroid = np.array([m.centroid if m else (np.nan, np.nan) for m in source_moments])
    line = fit_centreline(centroid, np.array([m.pixels if m else 0.0 for m in source_moments]), frame)
    note = () if source == "SC" else (f"centreline_from_{source}",)
    n_known = sum(m is not None for m in source_moments)
    angle_reason = {0: "no_centreline", 1: "single_slice"}.get(n_known, "angle_uncertain")
    level = [None] * shape[2] if levels is None else slice_levels(levels, fractions.get("SC"), frame.step_mm)

    # Per slice: the outermost pixels hold half a pixel's worth of tissue.
    edge = {
        name: np.maximum(array[[0, -1]].max(axis=(0, 1)), array[:, [0, -1]].max(axis=(0, 1))) >= 0.5
        for name, array in fractions.items()
    }
    rows = []
    for k in range(shape[2]):
        height = line.position_mm[k, 2]
        slope = line.slope[k] if np.degrees(line.slope_sd[k]) <= MAX_ANGLE_SD_DEG else None
        for name in fractions:
            row = {"level": level[k], "z_mm": None if np.isnan(height) else float(height), "reason": ("empty",)}
            own = () if flags is None else tuple(flags[k])
            found = moments[name][k]
            if found is not None:
                own += ("touches_image_edge",) if edge[name][k] else ()
                area = row["area_mm2"] = float(sums[name][k]) * frame.pixel_area_mm2
                if slope is not None:
                    cosine = float(1 / np.sqrt(1 + np.sum(np.square(slope))))
                    row["angle_rl_deg"], row["angle_ap_deg"] = np.degrees(np.arctan(slope)).tolist()
                    row |= {"area_corrected_mm2": area * cosine, "length_mm": frame.step_mm / cosine}
                row |= slice_shape(found, frame.voxel_to_frame, slope)
                row["reason"] = (*(() if slope is not None else (angle_reason,)), *note, *row["reason"])
            rows.append(CsaRow(tissue=name, slice=k, flags=own, **row))
    doubts = {}
    for warning in check_areas(CsaTable(tuple(rows), ())):
        doubts.setdefault((warning.slice, warning.tissue), []).append(warning.flag)
    for n, row in enumerate(rows):
        more = doubts.get((row.slice, row.tissue), ())
        # A flag that was given and is found again stands once.
        rows[n] = replace(row, flags=tuple(dict.fromkeys((*row.flags, *more))))
    groups = sorted({row.level for row in rows if row.level is not None})
    level_rows = tuple(
        _level_row(name, group, [row for row in rows if row.tissue == name and group in (row.level, "all")])
        for group in (*groups, "all")
        for name in fractions
    )
    return CsaTable(tuple(rows), level_rows)


def _checked_fractions(fractions):
    unknown = set(fractions) - set(TISSUES)
    if unknown or not fractions:
        raise ValueError(f"fractions must name some of {TISSUES}, not {sorted(fractions)}")
    arrays = {name: np.asarray(fractions[name]) for name in TISSUES if name in fractions}
    shape = next(iter(arrays.values())).shape
    for name, array in arrays.items():
        if array.ndim != 3 or array.shape != shape or not array.size:
            raise ValueError(f"fractions of {name} have shape {array.shape}; all must be one (X, Y, Z)")
        lowest, highest = float(array.min()), float(array.max())
        if not (lowest >= -1e-3 and highest <= 1 + 1e-3):
            raise ValueError(f"fractions of {name} span {lowest} to {highest}; they must lie in 0..1")
        if lowest < 0 or highest > 1:
            arrays[name] = np.clip(array, 0, 1)
    return arrays


def _slices(array):
    """Moments of each slice, None where it is empty, and its sum."""
    box = bounding_box(array.any(axis=2))
    if box is None:
        return [None] * array.shape[2], np.zeros(array.shape[2])
    crop = np.ascontiguousarray(np.moveaxis(array[box], 2, 0))
    corner = tuple(part.start for part in box)
    moments = [m and replace(m, centroid=m.centroid + corner) for m in map(slice_moments, crop)]
    return moments, crop.sum(axis=(1, 2), dtype=float)


def _centreline_source(fractions, moments):
    if "SC" in fractions and any(moments["SC"]):
        return "SC", moments["SC"]
    inner = [name for name in fractions if name != "SC" and any(moments[name])]
    if len(inner) == 2:
        union = np.minimum(fractions["GM"] + fractions["WM"], 1)
        return "GM+WM", _slices(union)[0]
    name = inner[0] if inner else next(iter(fractions))
    return name, moments[name]


def _level_row(tissue, level, members):
    measured = [row for row in members if row.area_mm2 is not None]
    whole = [row for row in measured if not TRUNCATED.intersection(row.flags)]
    mean, sd = {}, {}
    for name in MEASURES:
        values = np.array([v for row in whole if (v := getattr(row, name)) is not None])
        mean[name], sd[name] = _mean_sd(values, axial=name == "orientation_deg")
    lengths = [row.length_mm for row in measured]
    length = None if not lengths or None in lengths else sum(lengths)
    codes = {code for row in measured for code in row.reason}
    reason = [code for code in REASONS if code in codes]
    if len(whole) < 2:
        reason.append("single_value" if whole else "no_value")
    return LevelRow(tissue, level, len(members), len(whole), length, mean, sd, tuple(reason))


def _mean_sd(values, axial):
    """Mean and standard deviation (n - 1); of the angles of axes if `axial`: 179 and 1 degrees give 0."""
    if not len(values):
        return None, None
    mean = values.mean()
    spread = values - mean
    if axial:
        mean = 0.5 * np.degrees(np.angle(np.exp(2j * np.radians(values)).sum()))
        spread = (values - mean + 90) % 180 - 90
    sd = float(np.sqrt(np.sum(spread**2) / (len(values) - 1))) if len(values) > 1 else None
    return float(mean), sd
