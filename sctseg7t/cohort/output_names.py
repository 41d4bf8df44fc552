"""Where a data set's outputs go: BIDS derivatives, or the suffixes of the Spinal Cord Toolbox."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sctseg7t.bids import scan_stem
from sctseg7t.cohort.find import Scan
from sctseg7t.files import read_json, write_bytes, write_json
from sctseg7t.inference.outputs import SCT_TABLES, SIDECAR, TABLES, Plan, split_name
from sctseg7t.inference.record import LABELS, read_record
from sctseg7t.inference.roles import SCAN
from sctseg7t.version import __version__

_NOT_BIDS = (
    # The masks keep the scan's suffix before their label.
    "*_label-*",
    "*_desc-*_dseg.*",
    f"*{SIDECAR}",
    *(f"*{suffix}" for suffix in (*TABLES.values(), *SCT_TABLES.values())),
    "cohort_*",
    "figures/",
    "logs/",
    "replaced/",
    "qc*",
)


def plan_scan(
    scan: Scan,
    out: str | Path,
    suffixes: Mapping[str, str],
    *,
    names: str = "bids",
    soft: bool = False,
    tables: Sequence[str] = ("csa",),
    others: Mapping[str, Path] | None = None,
    corrections: Path | None = None,
) -> Plan:
    """Decide the outputs of one scan.

    Parameters
    ----------
    scan : Scan
    out : path
    suffixes : dict of str to str
        SCT-style suffix by tissue.
    names : {"bids", "sct"}
        ``bids``: ``sub-01/anat/sub-01_run-1_T2starw_label-SC_mask.nii.gz`` for scans that have such names. The scan's
        own name comes first, as spine-generic has it: strict BIDS would drop its suffix, and two contrasts of a
        subject would share a name. All others, and all with ``sct``, keep folder and name and get the suffix of the
        Spinal Cord Toolbox: ``sub-01/anat/sub-01_run-1_T2starw_seg.nii.gz``. The map of lesion numbers is
        ``sub-01/anat/sub-01_FLAIR_desc-lesions_dseg.nii.gz``.
    soft : bool
        Fractions are no masks: BIDS calls them ``probseg``.
    tables : sequence of str
        Kinds of tables to write, see :data:`sctseg7t.inference.outputs.TABLES`.
    others : dict of str to Path, optional
        Files that go with the scan, by role.
    corrections : Path, optional
        Folder in which corrected masks of the scan may lie.

    Returns
    -------
    Plan
    """
    stem, extension = split_name(scan.relative)
    place = Path(out) / PurePosixPath(scan.relative).parent
    if names == "bids" and scan.entities:
        # The scan's whole name, its suffix too: no two scans share it.
        stem, kind = scan_stem(scan.entities), "probseg" if soft else "mask"
        masks = {tissue: f"{stem}_label-{tissue}_{kind}{extension}" for tissue in suffixes}
        if LABELS in suffixes:
            masks[LABELS] = f"{stem}_desc-lesions_dseg{extension}"
    else:
        masks = {t: f"{stem}{suffix}{extension}" for t, suffix in suffixes.items()}
    return Plan(
        {SCAN: scan.path, **(others or {})},
        {tissue: place / name for tissue, name in masks.items()},
        {table: place / (stem + TABLES[table]) for table in tables},
        place / (stem + SIDECAR),
        corrections,
    )


def rename_old(plan_: Plan, entities: Mapping[str, str]) -> bool:
    """Give the outputs of a scan the names of now, where version 0.1 left them without the scan's suffix.

    Its record goes with them, so that a mask that was corrected by hand is still known as such.

    Parameters
    ----------
    plan_ : Plan
        The names of now.
    entities : dict of str to str
        Of the scan.

    Returns
    -------
    bool
        Whether there were any.
    """
    old, new = scan_stem({**entities, "suffix": ""}), scan_stem(entities)
    place, target = plan_.sidecar.parent, plan_.sidecar
    # The records of brains had the suffix, their masks had not.
    source = target if target.exists() else target.with_name(old + SIDECAR)
    raw = read_record(source).raw
    if not entities or raw.get("entities") != entities:
        return False

    files, masks = raw.get("files", {}), raw.get("outputs", {})
    names = {
        name: new + name.removeprefix(old)
        for name in (*files, *masks.values())
        if name.startswith(f"{old}_") and not name.startswith(new)
    }
    if not names and source == target:
        return False
    beside = {split_name(name)[0] + ".json": split_name(now)[0] + ".json" for name, now in names.items()}
    for name, now in (names | beside).items():
        if (place / name).is_file() and not (place / now).exists():
            os.replace(place / name, place / now)
    raw["files"] = {names.get(name, name): content for name, content in files.items()}
    raw["outputs"] = {tissue: names.get(name, name) for tissue, name in masks.items()}
    write_json(target, raw)
    if source != target:
        source.unlink()
    return True


def mask_metadata(plan_: Plan, relative: str) -> dict[Path, dict[str, Any]]:
    """JSON beside each mask, as BIDS has it: ``{path: content}``."""
    shared = {"RawSources": [f"bids:raw:{relative}"], "SpatialReference": "orig"}
    types = {"LESION": {"Type": "Lesion"}, LABELS: {}}
    return {
        path.with_name(split_name(path)[0] + ".json"): types.get(tissue, {"Type": "ROI"}) | shared
        for tissue, path in plan_.masks.items()
    }


def write_description(out: str | Path, source: str | Path, models: Sequence[Mapping[str, Any]]) -> None:
    """Write ``dataset_description.json`` and ``.bidsignore`` of the derivatives.

    Parameters
    ----------
    out, source : path
    models : list of dict
        Identity of every network: id, version, weights and hash.
    """
    out, source = Path(out), Path(source)
    given = read_json(source / "dataset_description.json")
    name = given.get("Name") or Path(os.path.abspath(source)).name
    try:
        link = Path(os.path.relpath(os.path.realpath(source), os.path.realpath(out))).as_posix()
    except ValueError:
        # Another drive, on Windows.
        link = Path(os.path.abspath(source)).as_uri()
    write_json(
        out / "dataset_description.json",
        {
            "Name": f"sctseg7t outputs of {name}",
            "BIDSVersion": "1.9.0",
            "DatasetType": "derivative",
            "GeneratedBy": [
                {
                    "Name": "sctseg7t",
                    "Version": __version__,
                    "Description": "masks of the spinal cord's tissues or of brain lesions, and their measures",
                    "Models": models,
                }
            ],
            "SourceDatasets": [{"URL": given.get("DatasetDOI") or link, "Name": name}],
            "DatasetLinks": {"raw": link},
        },
    )
    write_bytes(out / ".bidsignore", "".join(f"{line}\n" for line in _NOT_BIDS).encode())
