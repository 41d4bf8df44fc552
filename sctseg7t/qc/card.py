"""One scan's card as plain data: all that its part of the page shows."""

import hashlib
import json
import os
from dataclasses import dataclass

import numpy as np

from sctseg7t.cohort.features import Features
from sctseg7t.cohort.records import BRAIN
from sctseg7t.qc import lesions, numbers
from sctseg7t.qc.reading import read_saved
from sctseg7t.report import slice_images

TISSUES = ("SC", "GM", "WM")
_PROVENANCE = (
    "tool",
    "model",
    "locator",
    "brain",
    "input",
    "options",
    "device",
    "threads",
    "finished",
    "seconds",
    "software",
)


@dataclass(frozen=True, eq=False)
class Card:
    """What a page needs of a scan.

    Attributes
    ----------
    content : dict
        Plain values; the pictures are most of it. ``kind`` is ``cord`` or ``brain``, None for a failed scan.
    summary : dict
        What the list and the index need, small.
    features : Features
        For the cohort; without values where there are no masks.
    curves : dict of str to (Z,) array
        Area of SC and GM of each slice, mm2, NaN where empty.
    """

    content: dict
    summary: dict
    features: Features
    curves: dict


def make_card(record, folder):
    """Read a scan's files and make its card; whatever is wrong with them is told on it.

    Parameters
    ----------
    record : Record
    folder : Path
        The page's; sidecars are named relative to it.

    Returns
    -------
    Card
    """
    content = _identity(record, folder)
    if record.status != "ok":
        content["overview"] = _picture_of_failed(record)
        return _card(content, Features(content["id"]), [])
    try:
        return _card_of_masks(record, content)
    except MemoryError:
        reason = "not enough memory to show it"
    except Exception as err:  # noqa: BLE001
        # A page of many scans is not lost to one.
        reason = " ".join(f"{type(err).__name__}: {err}".split())
    content["problems"].append(f"this scan cannot be shown ({reason})")
    return _card(content, Features(content["id"]), [])


def scan_id(record, folder):
    """What a rating is filed under: the sidecar's path as seen from the page, the same on every run."""
    try:
        path = os.path.relpath(record.path, folder)
    except ValueError:
        # Another drive.
        path = os.path.abspath(record.path)
    return path.replace(os.sep, "/")


def _identity(record, folder):
    raw = record.raw
    return {
        "id": scan_id(record, folder),
        "name": record.name,
        "kind": record.kind,
        "image": record.image.name,
        "status": record.status,
        "error": record.error,
        "error_kind": record.error_kind,
        "entities": record.entities,
        "hash": _rating_hash({}, record),
        "masks": {},
        "warnings": [str(text) for text in raw.get("warnings") or ()],
        "problems": [],
        "provenance": {name: raw[name] for name in _PROVENANCE if name in raw},
        "tiles": [],
        "rows": [],
    }


def _card_of_masks(record, content):
    saved = read_saved(record)
    content["problems"] += saved.problems
    content["hash"] = _rating_hash(saved.sha256, record)
    content["masks"] = {
        name: {
            "file": path.name,
            "sha256": saved.sha256.get(name),
            "verified": name in record.mask_sha256 and name in saved.sha256 and name not in saved.changed,
            "changed": name in saved.changed,
            "soft": name in saved.masks and saved.masks[name].dtype != bool,
        }
        for name, path in record.masks.items()
    }
    if saved.affine is None or (saved.image is None and not saved.masks):
        return _card(content, Features(content["id"]), [])
    if record.kind == BRAIN:
        return _card(content, lesions.add_lesions(content, saved, record), [])
    table = numbers.read_table(record.table("csa"))
    rows, features, problems = numbers.measure(
        saved.masks, saved.affine, saved.spacing_mm, table, name=content["id"], uncertainty=_uncertainty(record.raw)
    )
    content["problems"] += problems
    content["rows"], content["columns"] = rows, numbers.SHOWN
    _add_pictures(content, saved)
    return _card(content, features, rows)


def _add_pictures(content, saved):
    shape = saved.image.shape if saved.image is not None else next(iter(saved.masks.values())).shape
    shown = np.zeros(shape[:3], bool)
    for data in saved.masks.values():
        shown |= (data >= 0.5).any(axis=3)
    window = slice_images.cord_window(shown, shape[:3], saved.spacing_mm)
    content["size"], content["mm"] = list(window.size), [round(s, 4) for s in saved.spacing_mm]
    count = max((data.shape[3] for data in saved.masks.values()), default=1)
    planes = []
    if saved.image is not None:
        parts = [
            [
                slice_images.cut(saved.image[..., k, min(t, shape[3] - 1)], window.start[k], window.size)
                for k in range(shape[2])
            ]
            for t in range(count)
        ]
        for part in parts:
            planes += slice_images.to_grays(part)
        middle = _middle(shown)
        content["overview"] = slice_images.overview(
            saved.image[..., middle, 0], saved.spacing_mm, window.start[middle], window.size
        )
    pictures = slice_images.encode_all(planes) if planes else [None] * (count * shape[2])
    for n, picture in enumerate(pictures):
        t, k = divmod(n, shape[2])
        paths = slice_images.mask_paths(saved.masks, k, t, window.start[k], window.size)
        content["tiles"].append({"t": t, "k": k, "image": picture, "paths": paths})


def _middle(shown):
    filled = np.flatnonzero(shown.any(axis=(0, 1)))
    return int(filled[len(filled) // 2]) if len(filled) else shown.shape[2] // 2


def _picture_of_failed(record):
    """A slice of a scan that failed, if it can be read: often enough to see why."""
    if record.error_kind in ("timeout", "killed"):
        return None
    try:
        from sctseg7t.image.volume import load

        scan = load(record.image, axial=False)
        return slice_images.overview(scan.data[..., scan.data.shape[2] // 2, 0], scan.spacing_mm)
    except Exception:  # noqa: BLE001
        return None


def _card(content, features, rows):
    first = [row for row in rows if row["t"] == 0]
    curves = {}
    for tissue in ("SC", "GM"):
        if any(tissue in row for row in first):
            curves[tissue] = np.array([_area(row, tissue) for row in first], float)
    summary = {name: content[name] for name in ("id", "name", "kind", "image", "status", "hash", "entities")}
    summary["tissues"] = list(content["masks"])
    summary["error"] = content["error"]
    summary["doubts"] = len(content["warnings"]) + len(content["problems"])
    summary["areas"] = [features.values.get("sc_area_mm2"), features.values.get("gm_area_mm2")]
    summary["lesions"] = [features.values.get("lesions"), features.values.get("load_ml")]
    return Card(content, summary, features, curves)


def _area(row, tissue):
    values = row.get(tissue)
    return np.nan if not values or values[0] is None else values[0]


def _rating_hash(sha256, record):
    """One hash for what a rating is about: the masks as they are, or the failure."""
    about = sorted(sha256.items()) if sha256 else [record.status, record.error]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:32]


def _uncertainty(raw):
    value = raw.get("uncertainty")
    if isinstance(value, dict):
        value = value.get("mean", value.get("SC"))
    return float(value) if isinstance(value, (int, float)) else None
