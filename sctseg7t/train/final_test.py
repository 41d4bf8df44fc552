"""The test part of a split: measured once, with the exported network, as a user's scans are segmented."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sctseg7t.compare.agreement_rows import case_values
from sctseg7t.compare.load_masks import LoadedCase
from sctseg7t.compare.types import COLUMNS, REFERENCE, Case, Settings
from sctseg7t.errors import InputError
from sctseg7t.files import read_json, write_csv, write_json
from sctseg7t.image.masks import read_mask
from sctseg7t.image.volume import Volume, load
from sctseg7t.inference.mask_names import LESION, STRUCTURES
from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.inference.segmenter import Options, Segmenter
from sctseg7t.train.run_folder import SITTINGS
from sctseg7t.train.scans.checks import lead_label, read_labels_of
from sctseg7t.train.scans.labelled import LabelFiles, LabelledScan, find_scans
from sctseg7t.train.scans.learning import SCANS, SPLITS
from sctseg7t.train.scans.splits import Split, read_splits
from sctseg7t.zoo.cache import file_digest

# A slice with a Dice at or below this, or without the label, is an outlier, as the studies have it.
OUTLIER = 0.7
TEST_ROWS, TESTED = "test.csv", "test.json"


def measure_scans(
    model: str | Path,
    scans: Sequence[LabelledScan],
    labels: Mapping[str, LabelFiles],
    threads: int | None = None,
    problems: list[str] | None = None,
) -> pd.DataFrame:
    """Segment labelled scans with a model and compare with their masks.

    Parameters
    ----------
    model : path
        An ONNX file with its entry beside it, or a name of the zoo.
    scans : list of LabelledScan
    labels : dict of str to LabelFiles
    threads : int, optional
    problems : list of str, optional
        Gets why a scan could not be segmented, in words; its Dice is 0.

    Returns
    -------
    DataFrame
        The long table of the comparison: a row for each scan, label, level (slice or scan) and metric. Only slices
        that were drawn count. A scan in which the model finds nothing has Dice 0.

    Raises
    ------
    InputError
        A file cannot be used.
    """
    segmenter = open_segmenter(model=str(model), device="cpu", threads=threads, options=Options(volumes="mean"))
    method = segmenter.model.spec.id
    parts = []
    for scan in scans:
        volume = load(scan.image, volumes="mean", axial=segmenter.axial)
        references = read_labels_of(scan, volume, labels)
        found = _found(segmenter, scan, volume, problems)
        lead = lead_label(references)
        drawn = references[lead].any((0, 1)) if lead else np.ones(volume.data.shape[2], bool)
        for name, reference in references.items():
            mask = found.get(name, np.zeros_like(reference)) & drawn
            # The comparison knows the structures of cords and brains; any other label is compared as a tissue is.
            structure = name if name in STRUCTURES else "SC"
            grids = (None, volume.grid) if structure == LESION else (volume.grid, None)
            loaded = LoadedCase(*grids, masks={(REFERENCE, structure): reference, (method, structure): mask})
            case = Case(scan.name, scan.subject)
            rows = case_values(case, loaded, [method], REFERENCE, Settings())
            parts.append(rows.assign(structure=name))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS)


def _found(
    segmenter: Segmenter, scan: LabelledScan, volume: Volume, problems: list[str] | None
) -> dict[str, np.ndarray]:
    """The model's masks of a scan; none where it finds nothing to segment."""
    taken = (*segmenter.model.spec.input.images[1:], *segmenter.labels)
    files = {role: path for role, path in scan.files.items() if role in taken}
    try:
        result = segmenter.run(scan.image, **files)
    except InputError as problem:
        if problems is not None:
            problems.append(f"{scan.name}: {problem}")
        return {}
    return {name: read_mask(image, volume).volume > 0 for name, image in result.masks.items()}


def evaluation(rows: pd.DataFrame, dataset: str) -> list[dict[str, Any]]:
    """What the entry and its card say of a measured test part."""
    told = []
    compared = rows[rows.against == REFERENCE]
    for structure, own in compared.groupby("structure", sort=False):
        scans, slices = own[own.level == "scan"], own[own.level == "slice"]
        for metric, name, unit in _TOLD:
            values = scans[scans.metric == metric].value
            if len(values):
                told.append(_row(dataset, structure, f"{name} per scan", values, unit))
        dice = slices[slices.metric == "dice"].value
        if len(dice):
            told.append(_row(dataset, structure, "Dice per slice", dice, "1"))
            share = pd.Series([float((dice <= OUTLIER).mean())])
            told.append(
                _row(dataset, structure, f"share of slices with a Dice of at most {OUTLIER}", share, "1", len(dice))
            )
    return told


_TOLD = (
    ("dice", "Dice", "1"),
    ("f1", "lesion-wise F1", "1"),
    ("size_difference_percent", "difference of the volume", "%"),
    ("volume_difference_percent", "difference of the load", "%"),
    ("hausdorff95_mm", "HD95", "mm"),
)


def _row(
    dataset: str, structure: Any, metric: str, values: pd.Series, unit: str, n: int | None = None
) -> dict[str, Any]:
    finite = values[np.isfinite(values)]
    row = {"dataset": dataset, "role": "test", "structure": str(structure), "metric": metric, "n": n or len(values)}
    row |= {"mean": round(float(finite.mean()), 4) if len(finite) else 0.0, "units": unit}
    return row | ({"sd": round(float(finite.std()), 4)} if len(finite) > 1 else {})


def final_test(run: Path, model: Path, labels: Mapping[str, LabelFiles]) -> tuple[list[dict[str, Any]], str]:
    """Measure the test part of a run's split, once: what the card says of it, and why it says nothing.

    The rows are kept in ``test.csv``. Other weights of the run are not measured there again: figures that one chooses
    by are no test.

    Parameters
    ----------
    run : Path
        Folder of a finished training on labelled scans.
    model : Path
        Its ONNX file, the entry beside it.
    labels : dict of str to LabelFiles

    Returns
    -------
    rows : list of dict
        Of the entry's ``evaluation``.
    why : str
        Why there are none, or fewer; else empty.
    """
    split = read_splits(run / SPLITS)[0]
    scans = split.scans("test", find_scans([run / SCANS], labels))
    if not scans:
        return [], "nobody is in the test part of its split"
    weights, told = file_digest(model), read_json(run / TESTED)
    if told and told.get("weights_sha256") != weights:
        return [], "the test part was measured with other weights of this run, and is measured once"
    if not told:
        problems: list[str] = []
        rows = measure_scans(model, scans, labels, problems=problems)
        write_csv(run / TEST_ROWS, list(rows.columns), rows.to_dict("records"))
        told = {
            "weights_sha256": weights,
            "splits_sha256": split.digest(),
            "problems": problems,
            "date": date.today().isoformat(),
            "evaluation": evaluation(rows, _named(read_json(run / SITTINGS).get("scans", {}), split)),
        }
        write_json(run / TESTED, told)
    failed = len(told.get("problems", ()))
    return told["evaluation"], f"{failed} of {len(scans)} test scans could not be segmented" if failed else ""


def _named(record: Mapping[str, Any], split: Split) -> str:
    source = ", ".join(record.get("sources", ["labelled scans"]))
    people = f"{len(split.test)} {'person' if len(split.test) == 1 else 'people'}"
    return f"{source}: {people}, neither trained nor validated on"
