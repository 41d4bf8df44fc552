"""Scan records: the JSON sidecar that each scan leaves is all that is kept about it."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.bids import entities_of
from sctseg7t.outputs import SIDECAR, TABLES, input_record

OK, FAILED = "ok", "failed"
# Outputs that are no masks: what they show is in a mask already.
LABELS = "LABELS"
CORD, BRAIN = "cord", "brain"
# Tables that every scan of a kind has.
TABLES_OF = {CORD: ("csa",), BRAIN: ("lesions", "load")}


@dataclass(frozen=True, eq=False)
class Record:
    """What is known about one scan.

    Attributes
    ----------
    path : Path
        The sidecar.
    image : Path
        The scan; it may be elsewhere or gone by now.
    masks : dict of str to Path
        By tissue; empty for a failed scan.
    labels : Path or None
        The map that numbers the lesions of a brain.
    status : str
        ``ok`` or ``failed``.
    error : str or None
        One line for people.
    entities : dict of str to str
        BIDS entities of the name, such as ``{"sub": "01", "ses": "2", "suffix": "T2starw"}``.
    name : str
        What the scan is called in tables and pages.
    raw : dict
        The sidecar's content.
    """

    path: Path
    image: Path
    masks: dict
    labels: Path | None
    status: str
    error: str | None
    entities: dict
    name: str
    raw: dict

    @property
    def error_kind(self):
        """``input``, ``crash``, ``timeout`` or ``killed``; None if all went well."""
        return self.raw.get("error_kind")

    @property
    def mask_sha256(self):
        """SHA-256 of every mask as it was written, by tissue."""
        files = self.raw.get("files", {})
        return {name: files[path.name]["sha256"] for name, path in self.masks.items() if path.name in files}

    @property
    def kind(self):
        """``cord`` or ``brain``; None for a failed scan, which has no outputs to tell."""
        if not self.masks:
            return None
        return BRAIN if "LESION" in self.masks and "SC" not in self.masks else CORD

    @property
    def csa(self):
        """Its area table, or None."""
        return self.table("csa")

    def table(self, kind):
        """Path of a table that the run wrote, or None.

        Parameters
        ----------
        kind : str
            See :data:`sctseg7t.outputs.TABLES`.
        """
        if self.status != OK:
            return None
        path = self.path.with_name(self.path.name.removesuffix(SIDECAR) + TABLES[kind])
        if "files" in self.raw:
            return path if path.name in self.raw["files"] else None
        return path if path.is_file() else None


def find_records(folder):
    """Read every sidecar below a folder.

    Parameters
    ----------
    folder : path

    Returns
    -------
    list of Record
        Sorted by path. One that cannot be read is a failed record that says so.
    """
    return [read_record(path) for path in sidecars(folder)]


def sidecars(folder):
    """Paths of the sidecars below a folder, sorted; hidden folders are not looked in."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(place) / name for name in files if name.endswith(SIDECAR) and not name.startswith(".")]
    return sorted(found)


def read_record(path):
    """Read one sidecar; one that cannot be read is a failed record that says so."""
    path = Path(path)
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return record_of(path, raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as err:
        stem = path.name.removesuffix(SIDECAR)
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:200]
        text = f"{path}: is no record of a scan ({reason}); delete it and run the scan again"
        raw = {"status": FAILED, "error": text, "error_kind": "input"}
        return Record(path, path.with_name(stem + ".nii.gz"), {}, None, FAILED, text, {}, stem, raw)


def failed_record(plan, error, kind="input"):
    """The record of a scan that left none on disk: a single run that failed.

    Parameters
    ----------
    plan : sctseg7t.outputs.Plan
    error : str
    kind : str
    """
    raw = {"status": FAILED, "error": error, "error_kind": kind, "entities": entities_of(plan.source)}
    return record_of(plan.sidecar, {**raw, "input": input_record(plan), "outputs": {}, "warnings": []})


def record_of(path, raw):
    """The record that a sidecar's content makes; sidecars without `status` are those of single runs."""
    path = Path(path)
    status = raw.get("status", OK if raw.get("usable", True) else FAILED)
    if status not in (OK, FAILED):
        raise ValueError(f"status is {status!r}, not {OK} or {FAILED}")
    given = raw["input"]
    error = raw.get("error")
    if status == FAILED and not error:
        error = next(iter(raw.get("warnings", ())), "failed")
    masks = {name: path.with_name(Path(file).name) for name, file in raw.get("outputs", {}).items()}
    labels = masks.pop(LABELS, None)
    return Record(
        path,
        Path(os.path.normpath(Path(os.path.realpath(path.parent)) / given.get("path", given["file"]))),
        masks if status == OK else {},
        labels if status == OK else None,
        status,
        error if status == FAILED else None,
        dict(raw.get("entities", {})),
        str(raw.get("name") or path.name.removesuffix(SIDECAR)),
        raw,
    )
