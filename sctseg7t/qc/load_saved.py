"""A record's scan, masks and tables, read again from disk and checked against what the record says of them."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sctseg7t.cord.corrected import fit
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid
from sctseg7t.image.masks import read_mask
from sctseg7t.image.volume import load
from sctseg7t.inference import corrections
from sctseg7t.inference.record import CORD, Record


@dataclass(eq=False)
class Saved:
    """A scan and its masks on one canonical RAS+ grid.

    Attributes
    ----------
    image : (X, Y, Z, T) float32 array, or None where the scan cannot be read
    masks : dict of str to (X, Y, Z, T) array
        bool, or float32 fractions where the file is a soft mask.
    labels : (X, Y, Z, T) array, or None
        Map of lesion numbers.
    grid : Grid, or None where nothing could be read
    file_slices : tuple of int
        Index of each slice in the scan's file, see :attr:`sctseg7t.image.volume.Volume.file_slices`; empty where the
        scan cannot be read.
    sha256 : dict of str to str
        Of each mask's file as it is now.
    changed : list of str
        Tissues whose mask is not the one that the tables are of.
    corrected : tuple of str
        Tissues whose mask somebody corrected.
    problems : list of str
        For people.
    """

    image: np.ndarray | None = None
    masks: dict[str, np.ndarray] = field(default_factory=dict)
    labels: np.ndarray | None = None
    grid: Grid | None = None
    file_slices: tuple[int, ...] = ()
    sha256: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    corrected: tuple[str, ...] = ()
    problems: list[str] = field(default_factory=list)


def load_saved(record: Record) -> Saved:
    """Read a record's scan and masks; what cannot be read is told in ``problems``."""
    saved = Saved()
    volumes = (record.raw.get("options") or {}).get("volumes")
    try:
        scan = load(record.image, volumes="mean" if volumes == "mean" else "each", axial=False)
    except InputError as err:
        saved.problems.append(f"the scan cannot be shown: {err}")
    else:
        saved.image, saved.grid, saved.file_slices = scan.data, scan.grid, scan.file_slices
        if scan.sha256 != (record.raw.get("input") or {}).get("sha256", scan.sha256):
            saved.problems.append(f"the scan {record.image.name} has changed since it was segmented")
    try:
        found = corrections.of_record(record)
    except InputError as err:
        found = {}
        saved.problems.append(str(err))
    saved.corrected, measured = tuple(sorted(found)), corrections.same(found, record.raw)
    for name, path in record.masks.items():
        # What has been measured is in the record's own masks.
        _read_mask(record, name, found[name].path if name in found and not measured else path, saved)
    if found and record.kind == CORD and not measured:
        saved.problems.append(
            "masks were corrected after the tables were made; this page shows what counts now, sct7t_batch measures it"
        )
        if set(found) <= set(saved.masks):
            saved.masks = fit(saved.masks, found)[0]
    if record.labels and saved.masks:
        try:
            labels = read_mask(record.labels)
        except InputError as err:
            saved.problems.append(f"the lesions' numbers cannot be read: {err}")
        else:
            saved.labels = labels.data if _fits(labels, saved) else None
    return saved


def _read_mask(record, name, path, saved):
    try:
        mask = read_mask(path)
    except InputError as err:
        saved.problems.append(f"the {name} mask cannot be shown: {err}")
        return
    saved.sha256[name] = mask.sha256
    if path == record.masks[name] and record.mask_sha256.get(name, mask.sha256) != mask.sha256:
        saved.changed.append(name)
        saved.problems.append(
            f"the {name} mask {path.name} was changed after it was written; this page shows it as it is now"
        )
    saved.grid = saved.grid or mask.grid
    if not _fits(mask, saved):
        saved.problems.append(f"the {name} mask {path.name} is not on the scan's grid; it is not shown")
        return
    values = np.nan_to_num(mask.data, nan=0.0)
    binary = values != 0
    saved.masks[name] = binary if np.array_equal(values, binary) else np.clip(values, 0, 1).astype(np.float32)


def _fits(mask, saved):
    """Whether a mask is on the scan's grid; it may lack the scan's further volumes."""
    count = mask.data.shape[3]
    known = next((data.shape[3] for data in (saved.image, *saved.masks.values()) if data is not None), count)
    return mask.grid.same_as(saved.grid) and count in (1, known)


def read_rows(path: Path | None) -> list[dict[str, str]] | None:
    """Rows of a table that a run wrote; None where there is none, or it cannot be read."""
    try:
        with open(path or "", newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None


def number(text: str | None) -> float | None:
    """A cell of a table as a number; None where it holds none."""
    try:
        return float(text or "")
    except ValueError:
        return None
