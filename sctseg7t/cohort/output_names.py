"""Where a data set's outputs go: BIDS derivatives, or the suffixes of the Spinal Cord Toolbox."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from sctseg7t.bids import derivative_stem
from sctseg7t.cohort.find import Scan
from sctseg7t.cohort.participants import read_json
from sctseg7t.files import write_bytes, write_json
from sctseg7t.inference.outputs import SIDECAR, TABLES, Plan, split_name
from sctseg7t.inference.record import LABELS
from sctseg7t.inference.roles import SCAN
from sctseg7t.version import __version__

_NOT_BIDS = (
    f"*{SIDECAR}",
    *(f"*{suffix}" for suffix in TABLES.values()),
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
) -> Plan:
    """Decide the outputs of one scan.

    Parameters
    ----------
    scan : Scan
    out : path
    suffixes : dict of str to str
        SCT-style suffix by tissue.
    names : {"bids", "sct"}
        ``bids``: ``sub-01/anat/sub-01_run-1_label-SC_mask.nii.gz`` for scans that have such names; all others, and
        all with ``sct``, keep folder and name and get the suffix: ``sub-01/anat/sub-01_run-1_T2starw_seg.nii.gz``.
        The map of lesion numbers is ``sub-01/anat/sub-01_desc-lesions_dseg.nii.gz``.
    soft : bool
        Fractions are no masks: BIDS calls them ``probseg``.
    tables : sequence of str
        Kinds of tables to write, see :data:`sctseg7t.inference.outputs.TABLES`.
    others : dict of str to Path, optional
        Files that go with the scan, by role.

    Returns
    -------
    Plan
    """
    stem, extension = split_name(scan.relative)
    place = Path(out) / PurePosixPath(scan.relative).parent
    if names == "bids" and scan.entities:
        kind = "probseg" if soft else "mask"
        stem = derivative_stem(scan.entities)
        masks = {t: f"{derivative_stem(scan.entities, t)}_{kind}{extension}" for t in suffixes}
        if LABELS in suffixes:
            # A subject's cord and brain can go to one folder: the brain's record keeps the name of its contrast.
            stem = f"{stem}_{scan.entities['suffix']}"
            # A scan's own description is kept before ours: without it two scans of one subject could share the name.
            described = {**scan.entities, "desc": scan.entities.get("desc", "") + "lesions"}
            masks[LABELS] = f"{derivative_stem(described)}_dseg{extension}"
    else:
        masks = {t: f"{stem}{suffix}{extension}" for t, suffix in suffixes.items()}
    return Plan(
        {SCAN: scan.path, **(others or {})},
        {tissue: place / name for tissue, name in masks.items()},
        {table: place / (stem + TABLES[table]) for table in tables},
        place / (stem + SIDECAR),
    )


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
