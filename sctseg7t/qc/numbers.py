"""The numbers beside the pictures: measured again from the masks on disk, compared with the table."""

import csv

import numpy as np

from sctseg7t.cohort.features import Features, measure_features
from sctseg7t.measure.csa import measure_csa
from sctseg7t.text import ranges

SHOWN = (
    "area_mm2",
    "area_corrected_mm2",
    "diameter_ap_mm",
    "diameter_rl_mm",
    "eccentricity",
    "solidity",
    "angle_ap_deg",
)
_DIGITS = {"area_mm2": 2, "area_corrected_mm2": 2, "eccentricity": 3, "solidity": 3}
# Half a pixel of rounding in the table's own digits is no difference.
_TOLERANCE_MM2, _TOLERANCE = 0.05, 0.005


def read_table(path):
    """What only the run itself could know: flags, levels, and the areas it wrote.

    Parameters
    ----------
    path : Path or None
        CSV as ``sct7t_deepseg`` writes it, tidy or in SCT's columns.

    Returns
    -------
    dict of (volume, slice, tissue) to dict
        ``flags`` (tuple), ``level`` (str or None), ``area_mm2``, ``area_corrected_mm2`` (float or None).
        Empty where there is no table. Tissue is None in SCT's columns.
    """
    if path is None:
        return {}
    try:
        with open(path, newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    found = {}
    for row in rows:
        sct = "Slice (I->S)" in row
        where = row.get("Slice (I->S)" if sct else "slice")
        if not (where or "").isdigit():
            continue
        volume = row.get("Volume" if sct else "volume") or "0"
        key = (int(volume), int(where), None if sct else row.get("tissue"))
        found[key] = {
            "flags": tuple(flag for flag in (row.get("flags") or "").split(";") if flag),
            "level": row.get("VertLevel" if sct else "level") or None,
            "area_mm2": None if sct else _number(row.get("area_mm2")),
            "area_corrected_mm2": _number(row.get("MEAN(area)" if sct else "area_corrected_mm2")),
        }
    return found


def measure(masks, affine, spacing_mm, table, *, name="", uncertainty=None):
    """Measure every volume's masks.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z, T) array
    affine : (4, 4) array
    spacing_mm : sequence of float
    table : dict
        From :func:`read_table`.

    Returns
    -------
    rows : list of dict
        One a volume and slice: ``t``, ``k``, ``level``, ``flags``, ``z_mm``, and the numbers of each tissue.
    features : Features
        Of a 4D scan, each measure's most unusual volume.
    problems : list of str
    """
    known = {tissue: masks[tissue] for tissue in ("SC", "GM", "WM") if tissue in masks}
    if not known:
        return [], Features(name), []
    box = _bounding_box(known)
    corner = np.eye(4)
    corner[:2, 3] = [part.start for part in box[:2]]
    count = max(data.shape[3] for data in known.values())
    rows, parts, different = [], [], []
    for t in range(count):
        volume = {tissue: data[..., min(t, data.shape[3] - 1)] for tissue, data in known.items()}
        flags = _slice_flags(table, t, next(iter(volume.values())).shape[2])
        csa = measure_csa({n: d[box] for n, d in volume.items()}, affine @ corner, flags=flags)
        rows += _rows(csa, t, table, flags)
        different += _differences(csa, t, table)
        parts.append(measure_features(volume, spacing_mm, name=name, flags=flags, uncertainty=uncertainty))
    problems = []
    if different:
        where = ranges(sorted({k for k, _ in different}))
        problems.append(
            f"the table's areas are not those of the masks on slice {where}; the numbers here are the masks'"
        )
    return rows, _most_unusual(parts, name), problems


def _bounding_box(known):
    """In plane around all masks, a pixel wider: its border is empty unless it is the image's."""
    union = np.logical_or.reduce([(data > 0).any(axis=(2, 3)) for data in known.values()])
    box = []
    for axis in (0, 1):
        line = np.flatnonzero(union.any(axis=1 - axis))
        first, last = (line[0], line[-1]) if len(line) else (0, 0)
        box.append(slice(max(0, int(first) - 1), int(last) + 2))
    return (*box, slice(None))


def _slice_flags(table, t, n_slices):
    flags = [[] for _ in range(n_slices)]
    for (volume, k, _), row in table.items():
        if volume == t and k < n_slices:
            # Those of areas are found again from the masks as they are now.
            own = [f for f in row["flags"] if f not in flags[k] and not f.startswith(("sc_", "gm_", "empty_"))]
            flags[k] += own
    return flags


def _rows(csa, t, table, flags):
    rows = {}
    for row in csa.rows:
        found = rows.setdefault(
            row.slice, {"t": t, "k": row.slice, "z": _round(row.z_mm, 2), "flags": list(flags[row.slice])}
        )
        found["flags"] += [flag for flag in row.flags if flag not in found["flags"]]
        # A slice without the cord says so; that it then also lacks GM is no news.
        found[row.tissue] = [_round(getattr(row, name), _DIGITS.get(name, 1)) for name in SHOWN]
        written = table.get((t, row.slice, row.tissue)) or table.get((t, row.slice, None))
        if written and written["level"]:
            found["level"] = written["level"]
    return [rows[k] for k in sorted(rows)]


def _differences(csa, t, table):
    for row in csa.rows:
        written = table.get((t, row.slice, row.tissue))
        if written is None:
            continue
        then, now = written["area_mm2"] or 0.0, row.area_mm2 or 0.0
        if abs(then - now) > max(_TOLERANCE_MM2, _TOLERANCE * then):
            yield row.slice, row.tissue


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


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None


def _round(value, digits):
    return None if value is None or not np.isfinite(value) else round(float(value), digits)
