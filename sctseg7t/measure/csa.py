"""Cross-sectional area (CSA) and shape of SC, GM and WM, slice by slice and per level."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from sctseg7t.image.frame import frame_of
from sctseg7t.image.grid import bounding_box
from sctseg7t.measure.centreline import MAX_ANGLE_SD_DEG, fit_centreline
from sctseg7t.measure.checks import EXCLUDED, check_areas
from sctseg7t.measure.columns import TISSUES
from sctseg7t.measure.csa_row import REASONS, CsaRow
from sctseg7t.measure.halves import beyond, roll
from sctseg7t.measure.level_means import MEASURES, LevelRow, level_means
from sctseg7t.measure.levels import LabelledLevels, Levels
from sctseg7t.measure.shape import slice_moments, slice_shape

__all__ = ["MEASURES", "REASONS", "CsaRow", "CsaTable", "LevelRow", "measure_csa"]


@dataclass(frozen=True)
class CsaTable:
    """Measures of one 3D volume: `rows` by slice, then tissue; `level_rows` by level, then tissue, "all" last."""

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

    def part(
        self,
        slices: Collection[int] | None = None,
        levels: Collection[int] | None = None,
        exclude: Collection[str] = (),
    ) -> "CsaTable":
        """Some of the rows, and the means over them.

        Parameters
        ----------
        slices, levels : collection of int, optional
            Rows of these slices, and of these levels, are kept.
        exclude : collection of str
            Flags: slices that have one of them, on any tissue, get the flag "excluded" and enter no mean.
        """
        out = {row.slice for row in self.rows if set(exclude) & set(row.flags)}
        rows = tuple(
            replace(row, flags=(*row.flags, EXCLUDED)) if row.slice in out else row
            for row in self.rows
            if (slices is None or row.slice in slices) and (levels is None or row.level in levels)
        )
        return CsaTable(rows, level_means(rows))


def measure_csa(
    fractions: Mapping[str, np.ndarray],
    affine: np.ndarray,
    *,
    levels: Levels | np.ndarray | None = None,
    pmj_mm: np.ndarray | None = None,
    flags: Sequence[Sequence[str]] | None = None,
    file_slices: Sequence[int] | None = None,
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
    levels : Levels or (X, Y, Z) int array, optional
        What tells the vertebral levels, see :mod:`sctseg7t.measure.levels`.
    pmj_mm : (3,) array, optional
        The pontomedullary junction, world RAS.
    flags : sequence of sequences of str, optional
        Per-slice flags, copied to the rows. A slice flagged "touches_window_edge" or
        "touches_image_edge" keeps its values but is left out of the level means.
        "touches_image_edge" is also set here.
    file_slices : sequence of int, optional
        Each slice's index in the file.

    Returns
    -------
    CsaTable

    Raises
    ------
    ValueError
        If names, shapes or values of the fractions break the above.
    InputError
        The levels cannot be those of this cord.
    """
    fractions = _checked_fractions(fractions)
    shape = next(iter(fractions.values())).shape
    frame = frame_of(affine)
    found = {name: _slices(array) for name, array in fractions.items()}
    source, source_moments = _centreline_source(fractions, found)
    centroid = np.array([m.centroid if m else (np.nan, np.nan) for m in source_moments])
    line = fit_centreline(centroid, np.array([m.pixels if m else 0.0 for m in source_moments]), frame)
    places = _places(shape[2], fractions.get("SC"), line, frame, levels, pmj_mm, file_slices)
    n_known = sum(m is not None for m in source_moments)
    no_angle = {0: "no_centreline", 1: "single_slice"}.get(n_known, "angle_uncertain")
    note = () if source == "SC" else (f"centreline_from_{source}",)

    axes = _halving_axes(source, source_moments, frame)
    halves = {name: own.halves(centroid, axes) * frame.pixel_area_mm2 for name, own in found.items()}
    # Per slice: the outermost pixels hold half a pixel's worth of tissue.
    edge = {
        name: np.maximum(array[[0, -1]].max(axis=(0, 1)), array[:, [0, -1]].max(axis=(0, 1))) >= 0.5
        for name, array in fractions.items()
    }
    rows = []
    for k in range(shape[2]):
        slope = line.slope[k] if np.degrees(line.slope_sd[k]) <= MAX_ANGLE_SD_DEG else None
        for name, own in found.items():
            row = {**places[k], "reason": ("empty",), "flags": () if flags is None else tuple(flags[k])}
            moments = own.moments[k]
            if moments is not None:
                row["flags"] += ("touches_image_edge",) if edge[name][k] else ()
                area = float(own.sums[k]) * frame.pixel_area_mm2
                row |= _section(area, moments, slope, frame)
                row |= _halves(area, *halves[name][:, k])
                reason = (() if slope is not None else (no_angle,)) + note + row["reason"]
                row["reason"] = reason + (() if "asymmetry" in row else ("no_midline",))
            rows.append(CsaRow(tissue=name, **row))
    rows = _flagged(rows)
    return CsaTable(rows, level_means(rows))


def _places(count, cord, line, frame, levels, pmj_mm, file_slices):
    """What each slice's rows have in common: where it is."""
    if isinstance(levels, np.ndarray):
        levels = LabelledLevels(levels)
    level = [None] * count if levels is None else levels.of_slices(cord, line, frame)
    distance = np.full(count, np.nan) if pmj_mm is None else line.distance_from(pmj_mm, frame)
    return [
        {
            "slice": k,
            "file_slice": None if file_slices is None else int(file_slices[k]),
            "level": level[k],
            "z_mm": _number(line.position_mm[k, 2]),
            "distance_pmj_mm": _number(distance[k]),
        }
        for k in range(count)
    ]


def _number(value):
    return None if np.isnan(value) else float(value)


def _section(area, moments, slope, frame):
    """Area, angles and shape of a slice's tissue: across the cord where the slope is known, else in the slice."""
    row = {"area_mm2": area}
    if slope is not None:
        cosine = float(1 / np.sqrt(1 + np.sum(np.square(slope))))
        row["angle_rl_deg"], row["angle_ap_deg"] = np.degrees(np.arctan(slope)).tolist()
        row |= {"area_corrected_mm2": area * cosine, "length_mm": frame.step_mm / cosine}
    return row | slice_shape(moments, frame.voxel_to_frame, slope)


def _flagged(rows):
    """Rows with the flags of :func:`check_areas` too; one that was given and is found again stands once."""
    doubts = {}
    for warning in check_areas(CsaTable(tuple(rows), ())):
        doubts.setdefault((warning.slice, warning.tissue), []).append(warning.flag)
    return tuple(
        replace(row, flags=tuple(dict.fromkeys((*row.flags, *doubts.get((row.slice, row.tissue), ()))))) for row in rows
    )


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


@dataclass(frozen=True)
class _Slices:
    """The slices of one tissue: (Z, I, J) fractions cut to it, the cut's corner, moments (or None) and sums."""

    cut: np.ndarray
    corner: np.ndarray
    moments: list
    sums: np.ndarray

    def halves(self, centres, axes):
        """Tissue to the right of the cord's centroid, and ventral to it, in pixels: (2, Z); NaN without a centroid."""
        return np.stack([beyond(self.cut, centres - self.corner, axis) for axis in axes])


def _slices(array):
    box = bounding_box(array.any(axis=2))
    if box is None:
        count = array.shape[2]
        return _Slices(np.zeros((count, 0, 0)), np.zeros(2), [None] * count, np.zeros(count))
    cut = np.ascontiguousarray(np.moveaxis(array[box], 2, 0))
    corner = np.array([part.start for part in box])
    moments = [m and replace(m, centroid=m.centroid + corner) for m in map(slice_moments, cut)]
    return _Slices(cut, corner, moments, cut.sum(axis=(1, 2), dtype=float))


def _halving_axes(source, moments, frame):
    """Way to the cord's right and to its front, in mm, of a voxel's step along i and along j."""
    pixel = frame.voxel_to_frame
    # Gray matter alone is no cord: its longer axis is another.
    cords = [m for m in moments if m] if source != "GM" else []
    turn = roll(pixel @ m.covariance @ pixel.T for m in cords)
    right, front = (np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))
    return np.array([right, front]) @ pixel


def _halves(area, right, ventral):
    """Values of a row's halves; none without a centroid of the cord."""
    if np.isnan(right):
        return {}
    return {
        "area_left_mm2": float(area - right),
        "area_right_mm2": float(right),
        "area_dorsal_mm2": float(area - ventral),
        "area_ventral_mm2": float(ventral),
        "asymmetry": float(1 - 2 * right / area),
    }


def _centreline_source(fractions, found):
    if "SC" in fractions and any(found["SC"].moments):
        return "SC", found["SC"].moments
    inner = [name for name in fractions if name != "SC" and any(found[name].moments)]
    if len(inner) == 2:
        union = np.minimum(fractions["GM"] + fractions["WM"], 1)
        return "GM+WM", _slices(union).moments
    name = inner[0] if inner else next(iter(fractions))
    return name, found[name].moments
