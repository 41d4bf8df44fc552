"""One scan's card: all that its part of the page shows, as plain data."""

from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.cohort.features import Features
from sctseg7t.cohort.outliers import MEASURES
from sctseg7t.inference.record import BRAIN, CORD, FAILED, Record, rating_hash
from sctseg7t.qc.brain_card import add_brain
from sctseg7t.qc.cord_card import add_cord
from sctseg7t.qc.load_saved import load_saved
from sctseg7t.qc.mailable import reason_of, scan_id, without_folders
from sctseg7t.report.slice_images import overview
from sctseg7t.text import one_line

# Measures that the page shows beside the cohort's median.
COMPARED = tuple(measure for measure in MEASURES if measure.compared)
# What fills the card of a scan of each kind.
_ADD = {CORD: add_cord, BRAIN: add_brain}
# Entries of the record that the page shows as where the masks come from.
_PROVENANCE = (
    "tool",
    "model",
    "locator",
    "brain",
    "input",
    "inputs",
    "options",
    "device",
    "threads",
    "finished",
    "seconds",
    "software",
)


def summary_of(card: dict[str, Any]) -> dict[str, Any]:
    """What the list and the index of a page need of a card, small."""
    return {
        **{name: card[name] for name in ("id", "name", "kind", "image", "status", "error", "hash", "entities")},
        "tissues": list(card["masks"]),
        "corrected": [tissue for tissue, mask in card["masks"].items() if mask.get("corrected")],
    }


def curves_of(card: dict[str, Any]) -> dict[str, np.ndarray]:
    """Area of SC and GM of each slice (Z,) of a card's first volume, mm2, NaN where empty."""
    first = [row for row in card["rows"] if row["t"] == 0]
    return {
        # The first of the numbers is the area; None becomes NaN.
        tissue: np.array([row.get(tissue, [None])[0] for row in first], float)
        for tissue in ("SC", "GM")
        if any(tissue in row for row in first)
    }


def make_card(record: Record, folder: Path) -> dict[str, Any]:
    """Read a scan's files and make its card; whatever is wrong with them is told on it.

    Parameters
    ----------
    record : Record
    folder : Path
        The page's; sidecars are named relative to it.

    Returns
    -------
    dict
        Values that JSON has; the pictures are most of it. ``kind`` is ``cord`` or ``brain``, None for a failed scan.
    """
    content: dict[str, Any] = {
        "id": scan_id(record, folder),
        "name": record.name,
        "kind": record.kind,
        "image": record.image.name,
        "status": record.status,
        "error": reason_of(record),
        "entities": record.entities,
        "hash": rating_hash({}, record),
        "masks": {},
        "warnings": [str(text) for text in record.raw.get("warnings") or ()],
        "problems": [],
        "provenance": {name: record.raw[name] for name in _PROVENANCE if name in record.raw},
        "tiles": [],
        "rows": [],
    }
    features = Features(content["id"])
    if record.status == FAILED:
        content["overview"] = _picture_of_failed(record)
    else:
        try:
            features = _add_masks(record, content)
        except Exception as err:  # noqa: BLE001
            # A page of many scans is not lost to one.
            content["problems"].append(f"this scan cannot be shown ({one_line(f'{type(err).__name__}: {err}')})")
    content["values"], content["slices"] = features.values, features.slices
    content["measured"] = {
        m.name: m.text.format(features.values[m.name]) for m in COMPARED if m.name in features.values
    }
    for name in ("warnings", "problems", "provenance"):
        content[name] = without_folders(content[name], record)
    return content


def _add_masks(record, content):
    saved = load_saved(record)
    content["problems"] += saved.problems
    content["hash"] = rating_hash(saved.sha256, record)
    content["masks"] = {
        name: {
            "file": path.name,
            "sha256": saved.sha256.get(name),
            "verified": name in record.mask_sha256 and name in saved.sha256 and name not in saved.changed,
            "changed": name in saved.changed,
            "corrected": name in saved.corrected,
            "soft": name in saved.masks and saved.masks[name].dtype != bool,
        }
        for name, path in record.masks.items()
    }
    if saved.grid is None:
        return Features(content["id"])
    if saved.file_slices != tuple(range(len(saved.file_slices))):
        content["file_slices"] = saved.file_slices
    return _ADD[record.kind](content, saved, saved.grid, record)


def _picture_of_failed(record):
    """A slice of a scan that failed, if it can be read: often enough to see why."""
    if record.error_kind in ("timeout", "killed"):
        return None
    try:
        from sctseg7t.image.volume import load

        scan = load(record.image, axial=False)
        return overview(scan.data[..., scan.data.shape[2] // 2, 0], scan.grid.spacing_mm)
    except Exception:  # noqa: BLE001
        return None
