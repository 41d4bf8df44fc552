"""A brain's card: its slices, and its lesions measured again and compared with the run's tables."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from sctseg7t.cohort.features import Features, lesion_features
from sctseg7t.image.grid import Grid
from sctseg7t.inference.record import Record
from sctseg7t.measure.columns import LOCATIONS
from sctseg7t.measure.lesions import CONNECTIVITY, LesionTable, measure_lesions
from sctseg7t.qc.brain_stack import encode_stack, lesion_runs
from sctseg7t.qc.brain_times import add_times
from sctseg7t.qc.brain_view import choose_view
from sctseg7t.qc.load_saved import Saved, number, read_rows

COLUMNS = ("id", "counted", "volume_mm3", "diameter_mm", "location", "slice", "at", "spread", "flags")
# A mask in more pieces is noise: nobody reads on.
MOST_ROWS = 500
# Some groups count lesions from this volume on.
LARGE_MM3 = 10.0
# Volumes within 0.05 mm3 or half a percent are the same, and places within 0.05 voxel.
_MM3, _PART, _VOXELS = 0.05, 0.005, 0.05
_CENTRE = ("centroid_x_vox", "centroid_y_vox", "centroid_z_vox")


def add_brain(content: dict[str, Any], saved: Saved, grid: Grid, record: Record) -> Features:
    """Put slices, lesions and numbers of a brain into its card.

    Parameters
    ----------
    content : dict
        The card; gets ``size``, ``mm``, ``tiles`` (all slices of the stack), ``montage`` (those laid out), ``stack``
        (their pictures, see :func:`encode_stack`), ``runs`` (see :func:`lesion_runs`), ``rows`` (one a slice with
        lesions), ``lesions`` (rows of COLUMNS, largest first), ``lesion_columns``, ``load`` (totals), ``selection``
        (how much of the scan is shown).
    saved : Saved
    grid : Grid
        Of all that is saved.
    record : Record

    Returns
    -------
    Features
    """
    features, table, places = Features(content["id"]), None, {}
    mask = saved.masks.get("LESION")
    if mask is None and saved.image is None:
        return features
    count = max(data.shape[3] for data in (saved.image, *saved.masks.values()) if data is not None)
    if count > 1:
        content["problems"].append(f"the scan has {count} volumes; only the first is shown and measured")
    about = record.raw.get("brain") or {}
    if mask is not None:
        written, load = read_rows(record.table("lesions")), _load_row(record)
        table = lesions_of(saved, grid, record)
        places = _places(table, written or ())
        if saved.masks["LESION"].dtype == bool:
            content["problems"] += _differences(table, places, written, load, saved.labels)
        content["load"] = _totals(table, places)
        features = lesion_features(table, name=content["id"], brain_ml=about.get("brain_ml"))
    image = saved.image[..., 0] if saved.image is not None else None
    labels = table.labels if table else np.zeros(grid.shape, np.int16)
    counted = [lesion.id for lesion in table.lesions if lesion.counted] if table else []
    view = choose_view(image, labels, counted, grid.spacing_mm, about.get("box"))
    _add_slices(content, image, labels, view, grid)
    add_times(content, record, labels, view, grid)
    hidden = [lesion for lesion in counted if not view.shows(lesion)]
    content["selection"] = {"of": labels.shape[2], "hidden": len(hidden), "counted": len(counted)}
    if table:
        content["lesion_columns"] = COLUMNS
        content["lesions"] = [_row(lesion, places, labels, view) for lesion in table.lesions[:MOST_ROWS]]
    return features


def lesions_of(saved: Saved, grid: Grid, record: Record) -> LesionTable:
    """Measure the lesions of a saved mask as the run did."""
    load = _load_row(record)
    limit_mm, neighbours = number(load.get("min_diameter_mm")), number(load.get("connectivity"))
    return measure_lesions(
        _lesion_mask(saved),
        grid.affine,
        min_diameter_mm=3.0 if limit_mm is None else limit_mm,
        connectivity=int(neighbours) if neighbours in CONNECTIVITY else 26,
    )


def _load_row(record):
    return next(iter(read_rows(record.table("load")) or ()), {})


# --- pictures ------------------------------------------------------------------------


def _add_slices(content, image, labels, view, grid):
    content["size"], content["mm"] = list(view.window.size), [round(s, 4) for s in grid.spacing_mm]
    content["montage"] = list(view.slices)
    content["runs"] = lesion_runs(labels, view.window, MOST_ROWS)
    if image is not None:
        content["stack"] = encode_stack(image, labels, view.window, view.stack)
    for k in range(*view.stack):
        content["tiles"].append({"t": 0, "k": k})
        lesions = view.on_slice(k)
        if lesions:
            area = round(float(view.areas[:, k].sum()) * grid.pixel_area_mm2, 1)
            content["rows"].append({"t": 0, "k": k, "lesions": lesions[:MOST_ROWS], "area_mm2": area})


# --- numbers -------------------------------------------------------------------------


def _lesion_mask(saved):
    """Voxels of lesions; with a soft mask those that the run numbered, else those of half and more."""
    found = saved.masks["LESION"]
    if found.dtype != bool and saved.labels is not None:
        return saved.labels[..., 0] > 0
    return found[..., 0] >= 0.5


def _places(table, written):
    """Row of each lesion in the table that the run wrote, by its volume and centre: ids change with the mask."""
    there = np.array([[number(row.get(name)) for name in ("volume_mm3", *_CENTRE)] for row in written], float)
    if not len(there):
        return {}
    found = {}
    for lesion in table.lesions:
        centre = [getattr(lesion, name) for name in _CENTRE]
        same = _same(there[:, 0], lesion.volume_mm3) & (np.abs(there[:, 1:] - centre).max(axis=1) < _VOXELS)
        if same.any():
            found[lesion.id] = written[int(same.argmax())]
    return found


def _differences(table, places, written, load, labels) -> Iterator[str]:
    total = table.summary()
    if written is not None and not len(written) == len(places) == len(table.lesions):
        there = sum(number(row.get("volume_mm3")) or 0 for row in written) / 1000
        yield (
            f"the lesion table is not that of the mask: it has {len(written)} lesions of {there:.2f} mL, the mask "
            f"{len(table.lesions)} of {total['load_ml']:.2f} mL; the numbers here are the mask's"
        )
    load_ml, n_lesions = number(load.get("load_ml")), number(load.get("n_lesions"))
    same = load_ml is not None and _same(1000 * load_ml, 1000 * total["load_ml"]) and n_lesions == total["n_lesions"]
    if load_ml is not None and not same:
        yield (
            f"the table of lesion load is not that of the mask: it has {load.get('n_lesions')} counted lesions and "
            f"{load_ml:.2f} mL, the mask {total['n_lesions']} and {total['load_ml']:.2f} mL"
        )
    if labels is not None and not np.array_equal(labels[..., 0], table.labels):
        yield "the label map does not number the lesions of the mask"


def _totals(table, places):
    """Counts and volumes, as the run has them in its table of load; locations only where they are known."""
    total = table.summary()
    content = {name: total[name] for name in ("n_lesions", "n_small", "load_ml", "min_diameter_mm")}
    content["n_large"] = sum(lesion.counted and lesion.volume_mm3 >= LARGE_MM3 for lesion in table.lesions)
    content["locations"] = {}
    if any(row.get("location") for row in places.values()):
        for name in (*LOCATIONS, None):
            here = [x for x in table.lesions if (places.get(x.id, {}).get("location") or None) == name]
            if name or here:
                volume_ml = round(sum(x.volume_mm3 for x in here) / 1000, 4)
                content["locations"][name or "unknown"] = [sum(x.counted for x in here), volume_ml]
    return content


def _row(lesion, places, labels, view):
    k, written = view.best_slice(lesion.id), places.get(lesion.id, {})
    # The lesion's voxel there that is nearest to its middle, as column and row of the picture.
    voxels = np.argwhere(labels[..., k] == lesion.id)
    nearest = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    at = [int(first + n - 1 - v) for first, n, v in zip(view.window.start[k], view.window.size, nearest)]
    return [
        lesion.id,
        int(lesion.counted),
        round(lesion.volume_mm3, 2),
        round(lesion.diameter_mm, 1),
        written.get("location") or None,
        k,
        at,
        number(written.get("spread")),
        # The run knows more doubts than the mask shows: those about the place.
        [flag for flag in (written.get("flags") or "").split(";") if flag] or list(lesion.flags),
    ]


def _same(a, b):
    """Whether volumes in mm3 are the same but for rounding."""
    return np.abs(a - b) <= max(_MM3, _PART * b)
