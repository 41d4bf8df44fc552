"""A cord's card: every slice as a picture, and its masks measured again and compared with the run's table."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.cohort.features import Features, measure_features
from sctseg7t.cord.measuring import measure_volume
from sctseg7t.image.grid import Grid
from sctseg7t.inference.record import Record
from sctseg7t.measure.checks import PAST_END
from sctseg7t.measure.columns import CSA_MEASURES, IMAGE_MEASURES, SPREAD, TISSUES
from sctseg7t.qc.cord_strip import sagittal_strip
from sctseg7t.qc.load_saved import Saved, number, read_rows
from sctseg7t.report.slice_images import cord_window, cut, encode_all, mask_paths, overview, to_grays
from sctseg7t.text import ranges

SHOWN = tuple(column for column in (*CSA_MEASURES, *IMAGE_MEASURES, SPREAD) if column.page_digits is not None)
_FOUND_AGAIN = ("sc_", "gm_", "empty_", PAST_END)
# Half a pixel of rounding in the table's own digits is no difference.
_TOLERANCE_MM2, _TOLERANCE = 0.05, 0.005


def add_cord(content: dict[str, Any], saved: Saved, grid: Grid, record: Record) -> Features:
    """Put slices and numbers of a cord into its card.

    Parameters
    ----------
    content : dict
        The card; gets ``size``, ``mm``, ``tiles``, ``overview``, ``sagittal`` (see :func:`sagittal_strip`), ``columns``
        (name, title, digits of each number) and ``rows``: one a volume and slice, with ``t``, ``k``, ``level``,
        ``flags`` and the numbers of each tissue.
    saved : Saved
    grid : Grid
        Of all that is saved.
    record : Record

    Returns
    -------
    Features
        Of a 4D scan, each measure's most unusual volume.
    """
    content["columns"] = [[column.name, column.title, column.page_digits] for column in SHOWN]
    known = {tissue: saved.masks[tissue] for tissue in TISSUES if tissue in saved.masks}
    table = read_csa_table(record.table("csa"))
    parts, different = [], set()
    for t in range(_n_volumes(known) if known else 0):
        volume = {tissue: data[..., min(t, data.shape[3] - 1)] for tissue, data in known.items()}
        flags = _slice_flags(table, t, grid.shape[2])
        image = None if saved.image is None else saved.image[..., min(t, saved.image.shape[3] - 1)]
        csa = measure_volume(volume, grid.affine, image=image, flags=flags)
        content["rows"] += _rows(csa, t, table)
        for row in csa.rows:
            written = table.get((t, row.slice, row.tissue))
            then, now = (written["area_mm2"] or 0.0, row.area_mm2 or 0.0) if written else (0.0, 0.0)
            if abs(then - now) > max(_TOLERANCE_MM2, _TOLERANCE * then):
                different.add(row.slice)
        now = [{flag for row in csa.rows if row.slice == k for flag in row.flags} for k in range(grid.shape[2])]
        parts.append(measure_features(volume, grid, name=content["id"], flags=now))
    if different:
        content["problems"].append(
            f"the table's areas are not those of the masks on slice {ranges(sorted(different))}; "
            "the numbers here are the masks'"
        )
    _add_pictures(content, saved, grid)
    content["sagittal"] = sagittal_strip(
        saved.image[..., 0] if saved.image is not None else None,
        {tissue: data[..., 0] for tissue, data in saved.masks.items()},
        grid.spacing_mm,
    )
    return _most_unusual(parts, content["id"])


def _n_volumes(masks):
    return max((data.shape[3] for data in masks.values()), default=1)


# --- numbers -------------------------------------------------------------------------


def read_csa_table(path: Path | None) -> dict[tuple[int, int, str | None], dict[str, Any]]:
    """What only the run itself could know: flags, levels, and the areas that it wrote.

    Parameters
    ----------
    path : Path or None
        CSV with our columns or with SCT's.

    Returns
    -------
    dict of (volume, slice, tissue) to dict
        ``flags`` (list), ``level`` (str or None), ``area_mm2`` and ``spread`` (float or None). Empty where there is no
        table. SCT's columns name neither tissue nor plain area: these are None.
    """
    found = {}
    for row in read_rows(path) or ():
        sct = "Slice (I->S)" in row
        where = row.get("Slice (I->S)" if sct else "slice") or ""
        if where.isdigit():
            volume = row.get("Volume" if sct else "volume") or "0"
            found[int(volume), int(where), None if sct else row.get("tissue")] = {
                "flags": [flag for flag in (row.get("flags") or "").split(";") if flag],
                "level": row.get("VertLevel" if sct else "level") or None,
                "area_mm2": number(row.get("area_mm2")),
                "spread": number(row.get("spread")),
            }
    return found


def _slice_flags(table, t, n_slices):
    flags = [[] for _ in range(n_slices)]
    for (volume, k, _), row in table.items():
        if volume == t and k < n_slices:
            # Those of areas and contrast are found again from the masks as they are now.
            flags[k] += [f for f in row["flags"] if f not in flags[k] and not f.startswith(_FOUND_AGAIN)]
    return flags


def _rows(csa, t, table):
    rows = {}
    for row in csa.rows:
        found = rows.setdefault(row.slice, {"t": t, "k": row.slice, "flags": []})
        found["flags"] += [flag for flag in row.flags if flag not in found["flags"]]
        written = table.get((t, row.slice, row.tissue)) or table.get((t, row.slice, None)) or {}
        # Masks do not tell how far networks disagreed about them.
        row = replace(row, spread=written.get("spread"))
        values = ((getattr(row, column.name), column.page_digits) for column in SHOWN)
        found[row.tissue] = [value if value is None else round(float(value), digits) for value, digits in values]
        if written.get("level"):
            found["level"] = written["level"]
    return [rows[k] for k in sorted(rows)]


def _most_unusual(parts, name):
    if len(parts) == 1:
        return parts[0]
    values, slices = {}, {}
    for key in {key for part in parts for key in part.values}:
        have = [part for part in parts if key in part.values]
        have.sort(key=lambda part: part.values[key])
        middle = key.endswith(("area_mm2", "ratio"))
        chosen = have[len(have) // 2] if middle else have[0] if key == "edge_mm" else have[-1]
        values[key], slices[key] = chosen.values[key], chosen.slices.get(key, ())
    return Features(name, values, slices)


# --- pictures ------------------------------------------------------------------------


def _add_pictures(content, saved, grid):
    depth, spacing_mm = grid.shape[2], grid.spacing_mm
    shown = np.zeros(grid.shape, bool)
    for data in saved.masks.values():
        shown |= (data >= 0.5).any(axis=3)
    window = cord_window(shown, shown.shape, spacing_mm)
    content["size"], content["mm"] = list(window.size), [round(s, 4) for s in spacing_mm]
    # Pictures of scans on one grid are put over each other by their first voxels, ``at``.
    content["grid"] = hashlib.sha256(repr((grid.shape, np.round(grid.affine, 3).tolist())).encode()).hexdigest()[:12]
    count = _n_volumes(saved.masks)
    pictures = [None] * (count * depth)
    if saved.image is not None:
        grays = []
        for t in range(count):
            volume = saved.image[..., min(t, saved.image.shape[3] - 1)]
            grays += to_grays([cut(volume[..., k], window.start[k], window.size) for k in range(depth)])
        pictures = encode_all(grays)
        filled = np.flatnonzero(shown.any(axis=(0, 1)))
        middle = int(filled[len(filled) // 2]) if len(filled) else depth // 2
        plane = saved.image[..., middle, 0]
        content["overview"] = overview(plane, spacing_mm, window.start[middle], window.size)
    for n, picture in enumerate(pictures):
        t, k = divmod(n, depth)
        paths = mask_paths(saved.masks, k, t, window.start[k], window.size)
        start = [int(first) for first in window.start[k]]
        content["tiles"].append({"t": t, "k": k, "at": start, "image": picture, "paths": paths})
