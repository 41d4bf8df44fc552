"""Corrected masks: which mask of a scan counts where somebody has drawn a better one than ours.

A mask is corrected in one of two ways. Somebody edits an output of ours where it lies: its content is then not the
recorded one. Or a mask of the scan lies in the data set's ``derivatives/labels``, where the Spinal Cord Toolbox's
manual_correction keeps what people have drawn: ``derivatives/labels/sub-001/anat/sub-001_T2starw_label-SC_seg.nii.gz``,
with its author in a JSON file beside it. A mask there counts before an edited output, and both before ours.

Whoever writes, measures, shows or compares a scan's masks asks this module.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sctseg7t.errors import InputError, UsageError
from sctseg7t.files import read_json
from sctseg7t.image.masks import read_mask
from sctseg7t.image.volume import Volume
from sctseg7t.inference.outputs import SIDECAR, TABLES, Plan, file_key, json_beside, sct_tables, split_name
from sctseg7t.inference.record import LABELS, Record, place_record, recorded_files
from sctseg7t.inference.roles import SCAN
from sctseg7t.zoo.cache import file_digest

EDITED, DRAWN = "edited", "labels"
# Where a data set keeps what people have drawn.
FOLDER = Path("derivatives", "labels")
# How masks are called there: as BIDS and spine-generic have it, as manual_correction names them by default, and the
# older names that said "manual".
_SUFFIXES = {
    "SC": ("_label-SC_seg", "_label-SC_mask", "_seg", "_seg-manual"),
    "GM": ("_label-GM_seg", "_label-GM_mask", "_gmseg", "_gmseg-manual"),
    "WM": ("_label-WM_seg", "_label-WM_mask", "_wmseg", "_wmseg-manual"),
    "LESION": (
        *("_label-LESION_seg", "_label-LESION_mask", "_label-lesion_seg", "_label-lesion_mask", "_label-lesion"),
        *("_lesionseg", "_lesionseg-manual", "_lesion", "_lesion-manual"),
    ),
}
# Stored 0 and 1 may be off by the rounding of a scaled integer.
_ROUNDING = 1e-4


@dataclass(frozen=True)
class Correction:
    """A mask that counts in place of ours.

    Attributes
    ----------
    tissue : str
    path : Path
    sha256 : str
        Of the file as it is.
    origin : {"edited", "labels"}
        An output of ours that somebody changed, or a file of the data set's folder of drawn masks.
    """

    tissue: str
    path: Path
    sha256: str
    origin: str

    def author(self) -> str:
        """Who drew it, as the JSON file beside it says; empty where none does."""
        content = read_json(json_beside(self.path))
        made = content.get("GeneratedBy")
        entries = [content, *(made if isinstance(made, list) else ())]
        names = [str(e["Author"]) for e in entries if isinstance(e, dict) and e.get("Author")]
        return names[-1] if names else ""

    def words(self) -> str:
        """A line for people."""
        author = self.author()
        by = f" by {author}" if author else ""
        where = f"{self.path.name}, as it was edited{by}" if self.origin == EDITED else f"{self.path}{by}"
        return f"corrected: {self.tissue} is not our mask but {where}"


def folder_of(scan: str | Path, given: str | None = None, place: str | Path = "") -> Path | None:
    """Folder in which drawn masks of a scan may lie; None if there is none.

    Parameters
    ----------
    scan : path
    given : str, optional
        Folder of drawn masks with the folders of a data set in it; ``none`` if none are to be used. Default: the
        ``derivatives/labels`` of the BIDS data set that the scan lies in.
    place : path
        Folder of the scan in its data set, where its path does not tell.

    Raises
    ------
    UsageError
        There is no such folder.
    """
    if given == "none":
        return None
    if given and not Path(given).is_dir():
        raise UsageError(f"{given}: there is no such folder of corrected masks; give another, or none")
    inside = Path(os.path.abspath(scan)).parent
    for above in (inside, *inside.parents):
        if above.name.startswith("sub-"):
            return Path(os.path.abspath(given) if given else above.parent / FOLDER) / inside.relative_to(above.parent)
    return Path(os.path.abspath(given)) / place if given else None


def find(plan: Plan, *, edited: bool = True) -> dict[str, Correction]:
    """The corrected masks of a scan, by tissue.

    Parameters
    ----------
    plan : Plan
        ``plan.corrections`` is the folder of drawn masks, if there may be any.
    edited : bool
        Count outputs that somebody changed.

    Raises
    ------
    InputError
        Two different drawn masks of a tissue, or one that cannot be read.
    """
    files, before = recorded_files(plan.sidecar), recorded(read_json(plan.sidecar))
    found = {}
    for tissue, path in plan.masks.items():
        if tissue == LABELS:
            # Made of the mask of lesions, never drawn.
            continue
        drawn = _drawn_files(plan, tissue)
        own = next((one for one in drawn if file_key(one) == file_key(path)), None)
        digests = {one: _digest(one) for one in drawn if one != own}
        if len(set(digests.values())) > 1:
            raise InputError(
                f"{', '.join(map(str, digests))}: differ, and both are {tissue} masks of the scan; keep one"
            )
        if digests:
            first = next(iter(digests))
            found[tissue] = Correction(tissue, first, digests[first], DRAWN)
        elif edited and path.is_file():
            digest, known = _digest(path), files.get(path.name, {}).get("sha256")
            if before.get(tissue, {}).get("origin") == EDITED:
                changed = digest != before[tissue].get("own_sha256")
            else:
                # Without a record it is somebody's own only if it lies where people keep what they draw.
                changed = digest != known if known else own is not None
            if changed:
                found[tissue] = Correction(tissue, path, digest, EDITED)
    return found


def of_record(record: Record) -> dict[str, Correction]:
    """The corrected masks of a recorded scan as they are now, by tissue; raises as :func:`find`."""
    return find(plan_of(record))


def corrected_output(path: Path) -> bool:
    """Whether a mask is an output of ours that somebody corrected, as the record beside it tells."""
    for sidecar in path.parent.glob(f"*{SIDECAR}"):
        outputs = read_json(sidecar).get("outputs") or {}
        tissue = next((tissue for tissue, name in outputs.items() if name == path.name), None)
        if tissue:
            known = recorded_files(sidecar).get(path.name, {}).get("sha256")
            return tissue in recorded(read_json(sidecar)) or (known is not None and _digest(path) != known)
    return False


def plan_of(record: Record) -> Plan:
    """The files that a record speaks of."""
    masks = {**record.masks, **({LABELS: record.labels} if record.labels else {})}
    tables = {kind: path for kind in TABLES if (path := record.table(kind))}
    tables |= {
        kind: path
        for kind, path in sct_tables(tables, record.masks).items()
        if path.name in record.raw.get("files", {})
    }
    return Plan({SCAN: record.image, **record.others}, masks, tables, record.path, _folder(record))


def recorded(raw: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The corrections that a record was made with, by tissue: ``origin``, ``sha256`` and more."""
    try:
        return dict(raw["corrections"]["masks"])
    except (KeyError, TypeError, ValueError):
        return {}


def same(found: Mapping[str, Correction], raw: Mapping[str, Any]) -> bool:
    """Whether a record was made with these corrections."""
    now = {tissue: (one.origin, one.sha256) for tissue, one in found.items()}
    return now == {tissue: (one.get("origin"), one.get("sha256")) for tissue, one in recorded(raw).items()}


def entry(plan: Plan, found: Mapping[str, Correction], cut: Mapping[str, int]) -> dict[str, Any]:
    """What a record keeps of corrections, so that they are known again.

    Parameters
    ----------
    plan : Plan
    found : dict of str to Correction
    cut : dict of str to int
        Voxels that masks of ours lost to corrected ones, by tissue.
    """
    raw, files, masks = read_json(plan.sidecar), recorded_files(plan.sidecar), {}
    for tissue, one in found.items():
        masks[tissue] = {"origin": one.origin, **place_record(plan, one.path), "sha256": one.sha256}
        if author := one.author():
            masks[tissue]["author"] = author
        if one.origin == EDITED:
            # Who restores our own mask has no correction any more.
            before = recorded(raw).get(tissue)
            ours = before.get("own_sha256") if before else files.get(one.path.name, {}).get("sha256")
            masks[tissue] |= {"own_sha256": ours} if ours else {}
    folder = place_record(plan, plan.corrections / "x") if plan.corrections else None
    return {"folder": folder and str(Path(folder["path"]).parent), "masks": masks, "cut": dict(cut)}


def ours_on_disk(plan: Plan, found: Mapping[str, Correction], derived: tuple[str, ...], *, cut: bool = False) -> bool:
    """Whether all masks that are not corrected lie there as the network left them, with the area table.

    Then what follows from a correction can be measured without the network.

    Parameters
    ----------
    plan : Plan
    found : dict of str to Correction
    derived : tuple of str
        Tissues that follow from others.
    cut : bool
        Take also masks that an earlier correction has cut.
    """
    raw = read_json(plan.sidecar)
    files, before = raw.get("files") or {}, recorded(raw)
    lost = {} if cut else (raw.get("corrections") or {}).get("cut") or {}
    tables = {path.name: None for path in plan.tables.values()}
    for tissue, path in plan.masks.items():
        if tissue not in (*found, *derived, LABELS):
            if tissue in lost or before.get(tissue, {}).get("origin") == DRAWN:
                return False
            tables[path.name] = before.get(tissue, {}).get("own_sha256")
    for name, digest in tables.items():
        path = plan.sidecar.with_name(name)
        known = digest or files.get(name, {}).get("sha256")
        if not known or not path.is_file() or _digest(path) != known:
            return False
    return True


def read(one: Correction, volume: Volume, *, soft: bool = False) -> np.ndarray:
    """A corrected mask on the grid of its scan.

    Parameters
    ----------
    one : Correction
    volume : Volume
        The scan.
    soft : bool
        Fractions are taken as they are.

    Returns
    -------
    (X, Y, Z, T) array
        bool, or float32 if `soft`.

    Raises
    ------
    InputError
        Unreadable, on another grid, or no mask.
    """
    mask = read_mask(one.path, volume)
    remedy = f"correct it on {volume.name}, or remove it to have our own mask"
    if difference := mask.grid.difference(volume.grid):
        raise InputError(
            f"{one.path}: the corrected {one.tissue} mask is not on the scan's grid ({difference}); {remedy}"
        )
    values, count = mask.data, volume.data.shape[3]
    if values.shape[3] != count:
        raise InputError(
            f"{one.path}: the corrected {one.tissue} mask has {values.shape[3]} volumes, the scan {count}; {remedy}"
        )
    if not np.isfinite(values).all():
        raise InputError(f"{one.path}: the corrected {one.tissue} mask has NaN or infinite voxels; replace them with 0")
    low, high, binary = float(values.min()), float(values.max()), values > 0.5
    if low < -_ROUNDING or high > 1 + _ROUNDING:
        if np.isin(values, (0, high)).all() and low >= 0:
            # Drawn with another value than 1, as labels of a painting program have it.
            return values > 0
        raise InputError(
            f"{one.path}: the corrected {one.tissue} mask holds values from {low:g} to {high:g}; save it as 0 and 1"
        )
    if soft:
        return np.clip(values, 0, 1).astype(np.float32)
    if np.abs(values - binary).max() > _ROUNDING:
        raise InputError(f"{one.path}: the corrected {one.tissue} mask holds fractions; save it as 0 and 1")
    return binary


def _drawn_files(plan: Plan, tissue: str) -> list[Path]:
    if plan.corrections is None or not plan.corrections.is_dir():
        return []
    stem = split_name(plan.source)[0]
    names = (stem + suffix + ending for suffix in _SUFFIXES.get(tissue, ()) for ending in (".nii.gz", ".nii"))
    return [path for name in names if (path := plan.corrections / name).is_file()]


def _folder(record: Record) -> Path | None:
    """Where drawn masks of a recorded scan may lie; a record of before there were any says nothing."""
    try:
        given = record.raw["corrections"]["folder"]
    except (KeyError, TypeError):
        return folder_of(record.image)
    return Path(os.path.normpath(Path(os.path.realpath(record.path.parent)) / given)) if given else None


def _digest(path: Path) -> str:
    try:
        return file_digest(path, "sha256")
    except OSError as err:
        raise InputError(f"{path}: the corrected mask cannot be read ({err.strerror or err}); check the file") from err
