"""A brain's card: its lesions measured again from the mask on disk, and the slices that show them."""

import csv

import numpy as np

from sctseg7t.cohort.features import Features, lesion_features
from sctseg7t.measure.columns import LOCATIONS
from sctseg7t.measure.lesions import CONNECTIVITY, measure_lesions
from sctseg7t.qc.brain_view import choose_view
from sctseg7t.report import slice_images

COLUMNS = ("id", "counted", "volume_mm3", "diameter_mm", "location", "slice", "shown", "box", "flags")
# A mask in more pieces is noise: nobody reads on.
MOST_ROWS = 500
_MM3, _PART, _VOXELS = 0.05, 0.005, 0.05
_PLACE = ("volume_mm3", "centroid_x_vox", "centroid_y_vox", "centroid_z_vox")
_IS_CENTRE = [False, True, True, True]
# The largest that the page's share allows; noise needs the smaller ones.
_MOST_PIXELS = (256, 320), (192, 240), (128, 160)
_BYTES_PER_SCAN = 180_000


def add_lesions(content, saved, record):
    """Put slices, lesions and numbers of a brain into its card.

    Parameters
    ----------
    content : dict
        The card; gets ``size``, ``mm``, ``tiles``, ``rows`` (one a slice shown), ``lesions`` (rows of COLUMNS, largest
        first), ``lesion_columns``, ``load`` (totals), ``selection`` (how much of the scan is shown), ``overview``.
    saved : Saved
    record : Record

    Returns
    -------
    Features
    """
    mask = _lesion_mask(saved)
    if mask is None and saved.image is None:
        return Features(content["id"])
    count = max(data.shape[3] for data in (saved.image, *saved.masks.values()) if data is not None)
    if count > 1:
        content["problems"].append(f"the scan has {count} volumes; only the first is shown and measured")
    written, load = _read(record.table("lesions")), next(iter(_read(record.table("load")) or ()), {})
    features, table = Features(content["id"]), None
    if mask is not None:
        table = measure_lesions(mask, saved.affine, min_diameter_mm=_limit(load), connectivity=_neighbours(load))
        soft = saved.masks["LESION"].dtype != bool
        places = _places(table, written or ())
        if not soft:
            content["problems"] += _differences(table, places, written, load, saved.labels)
        content["load"] = _totals(table, places, load)
        features = lesion_features(table, name=content["id"], brain_ml=_brain_ml(record.raw))
    image = saved.image[..., 0] if saved.image is not None else None
    labels = table.labels if table else np.zeros(image.shape, np.int16)
    counted = [lesion.id for lesion in table.lesions if lesion.counted] if table else []
    view = choose_view(image, labels, counted, saved.spacing_mm, (record.raw.get("brain") or {}).get("box"))
    _add_slices(content, image, labels, view, saved)
    hidden = [number for number in counted if not view.shows(number)]
    with_lesions = sum(bool(view.areas[:, k].any()) for k in view.slices)
    content["selection"] = {"of": labels.shape[2], "with": with_lesions, "hidden": len(hidden), "counted": len(counted)}
    if table:
        content["lesion_columns"] = COLUMNS
        content["lesions"] = [_row(lesion, places, labels, view) for lesion in table.lesions[:MOST_ROWS]]
    return features


# --- pictures ------------------------------------------------------------------------


def _add_slices(content, image, labels, view, saved):
    content["size"], content["mm"] = list(view.window.size), [round(s, 4) for s in saved.spacing_mm]
    pictures = [None] * len(view.slices)
    if image is not None:
        planes = slice_images.to_grays(
            [slice_images.cut(image[..., k], view.window.start[k], view.window.size) for k in view.slices]
        )
        for most in _MOST_PIXELS:
            pictures = slice_images.encode_all([slice_images.shrink(plane, most) for plane in planes], _BYTES_PER_SCAN)
            if sum(map(len, pictures)) * 3 / 4 <= _BYTES_PER_SCAN:
                break
        content["overview"] = _overview(image, saved.spacing_mm, view)
    masks = {"LESION": labels[..., None] > 0} if "LESION" in saved.masks else {}
    pixel_mm2 = saved.spacing_mm[0] * saved.spacing_mm[1]
    for k, picture in zip(view.slices, pictures):
        paths = slice_images.mask_paths(masks, k, 0, view.window.start[k], view.window.size)
        content["tiles"].append({"t": 0, "k": k, "image": picture, "paths": paths})
        here = view.on_slice(k)
        area = round(float(view.areas[:, k].sum()) * pixel_mm2, 1)
        content["rows"].append({"t": 0, "k": k, "lesions": here[:MOST_ROWS], "area_mm2": area})


def _overview(image, spacing_mm, view):
    """A sagittal slice with a line for each axial one shown."""
    middle = view.window.start[0, 0] + view.window.size[0] // 2
    found = slice_images.overview(image[middle], spacing_mm[1:])
    depth = image.shape[2]
    return found | {"lines": [round(1 - (k + 0.5) / depth, 4) for k in view.slices]}


# --- numbers -------------------------------------------------------------------------


def _lesion_mask(saved):
    """Voxels of lesions; with a soft mask those that the run numbered, else those of half and more."""
    found = saved.masks.get("LESION")
    if found is None:
        return None
    if found.dtype != bool and saved.labels is not None:
        return saved.labels[..., 0] > 0
    return found[..., 0] >= 0.5


def _read(path):
    """Rows of a table, None where it cannot be had."""
    try:
        with open(path or "", newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def _places(table, written):
    """Row of each lesion in the table that the run wrote, by its place and volume: numbers change with the mask."""
    rows = [(row, [_number(row.get(name)) for name in _PLACE]) for row in written]
    rows = [(row, values) for row, values in rows if None not in values]
    if not rows:
        return {}
    there = np.array([values for _, values in rows])
    found = {}
    for lesion in table.lesions:
        here = np.array([getattr(lesion, name) for name in _PLACE])
        same = np.abs(there - here).max(axis=1, where=_IS_CENTRE, initial=0) < _VOXELS
        same &= _same(there[:, 0], here[0])
        if same.any():
            found[lesion.id] = rows[int(same.argmax())][0]
    return found


def _differences(table, places, written, load, labels):
    total = table.summary()
    if written is not None and not len(written) == len(places) == len(table.lesions):
        there = sum(_number(row.get("volume_mm3")) or 0 for row in written) / 1000
        yield (
            f"the lesion table is not that of the mask: it has {len(written)} lesions of {there:.2f} mL, the mask "
            f"{len(table.lesions)} of {total['load_ml']:.2f} mL; the numbers here are the mask's"
        )
    stated = {name: _number(load.get(name)) for name in ("load_ml", "n_lesions")}
    if stated["load_ml"] is not None and not (
        _same(1000 * stated["load_ml"], 1000 * total["load_ml"]) and stated["n_lesions"] == total["n_lesions"]
    ):
        yield (
            f"the table of lesion load is not that of the mask: it has {stated['n_lesions']:.0f} counted lesions and "
            f"{stated['load_ml']:.2f} mL, the mask {total['n_lesions']} and {total['load_ml']:.2f} mL"
        )
    if labels is not None and not np.array_equal(labels[..., 0], table.labels):
        yield "the label map does not number the lesions of the mask"


def _totals(table, places, load):
    """Counts and volumes, as the run has them in its table of load; locations only where they are known."""
    total = table.summary()
    known = bool(table.lesions) and any(row.get("location") for row in places.values())
    content = {name: total[name] for name in ("n_lesions", "n_small", "load_ml", "min_diameter_mm")}
    content["largest_mm3"] = total["largest_volume_mm3"]
    content["locations"] = {}
    if known:
        for name in (*LOCATIONS, None):
            here = [x for x in table.lesions if (places.get(x.id, {}).get("location") or None) == name]
            if name or here:
                content["locations"][name or "unknown"] = [
                    sum(x.counted for x in here),
                    round(sum(x.volume_mm3 for x in here) / 1000, 4),
                ]
    return content


def _row(lesion, places, labels, view):
    k = view.best_slice(lesion.id)
    return [
        lesion.id,
        int(lesion.counted),
        round(lesion.volume_mm3, 2),
        round(lesion.diameter_mm, 1),
        places.get(lesion.id, {}).get("location") or None,
        k,
        int(view.shows(lesion.id)),
        _box(labels[..., k] == lesion.id, view.window, k),
        list(lesion.flags),
    ]


def _box(plane, window, k):
    """Place of a lesion on the picture: column, row, width, height in voxels."""
    x, y = (np.flatnonzero(plane.any(axis=1 - axis)) for axis in (0, 1))
    column = int(window.start[k, 0]) + window.size[0] - 1 - int(x[-1])
    row = int(window.start[k, 1]) + window.size[1] - 1 - int(y[-1])
    return [column, row, int(x[-1] - x[0]) + 1, int(y[-1] - y[0]) + 1]


def _same(a, b):
    return abs(a - b) <= max(_MM3, _PART * b)  # mm3


def _limit(load):
    value = _number(load.get("min_diameter_mm"))
    return 3.0 if value is None or value < 0 else value


def _neighbours(load):
    value = _number(load.get("connectivity"))
    return int(value) if value in CONNECTIVITY else 26


def _brain_ml(raw):
    value = (raw.get("brain") or {}).get("brain_ml")
    return float(value) if isinstance(value, (int, float)) else None


def _number(text):
    try:
        return float(text)
    except (TypeError, ValueError):
        return None
