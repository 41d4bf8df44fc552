"""How well the masks of one scan agree: its rows of the long table."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.compare.load_masks import LoadedCase
from sctseg7t.compare.metrics import BY_SIZE, size_strata
from sctseg7t.compare.types import COLUMNS, LESION, STRUCTURES, Case, Settings
from sctseg7t.image.grid import bounding_box, voxel_mm3
from sctseg7t.measure.agreement import Agreement, compare_in_voxels, compare_masks
from sctseg7t.measure.lesion_agreement import LesionAgreement, compare_lesions
from sctseg7t.measure.lesions import label_lesions, largest_distance_mm
from sctseg7t.measure.levels import slice_levels

if TYPE_CHECKING:
    import pandas as pd

# Sides of a pixel that are equal to this are: then voxels are mm over its side.
_SQUARE = 1e-4
_RENAMED = {"mask_size": "size_method", "reference_size": "size_against"}
# "Reference" is kept for what is the truth.
_LESIONS_RENAMED = {
    "n_reference": "n_against",
    "n_mask": "n_method",
    "tp_reference": "tp_against",
    "tp_mask": "tp_method",
    "reference_ml": "load_against_ml",
    "mask_ml": "load_method_ml",
}
_LESIONS_KEPT = ("fn", "fp", "merged", "split", "sensitivity", "precision", "f1", "dice", "dice_matched")
# (structure, method, against, level, index, metrics)
_Record = tuple[str, str, str, str, float | None, Mapping[str, float]]


def pairs_of(
    masks: Container[tuple[str, str]], methods: Sequence[str], reference: str | None
) -> list[tuple[str, str, str]]:
    """What is compared with what in one scan: (structure, method, against).

    Parameters
    ----------
    masks : container of (method, structure)
    methods : sequence of str
    reference : str or None
        None: each pair of methods.
    """
    found = []
    for structure in STRUCTURES:
        there = [method for method in methods if (method, structure) in masks]
        if reference is None:
            found += [(structure, a, b) for a, b in combinations(there, 2)]
        elif (reference, structure) in masks:
            found += [(structure, method, reference) for method in there]
    return found


def case_values(
    case: Case, loaded: LoadedCase, methods: Sequence[str], reference: str | None, settings: Settings
) -> pd.DataFrame:
    """The rows of one scan in the long table.

    Slices are compared in 2D, levels and the scan in 3D; slices, levels and scans in which both masks are empty have
    no row. Lesions are compared in the whole scan, also where both masks are empty: a scan without lesions in which
    none is found is a result. The size of each mask alone stands with ``against`` empty.

    Parameters
    ----------
    case : Case
    loaded : LoadedCase
    methods, reference
        As for :func:`pairs_of`.
    settings : Settings

    Returns
    -------
    DataFrame
        With the columns ``COLUMNS``, without values that are not defined.
    """
    import pandas as pd

    records = [*_sizes(loaded), *_tissues(loaded, methods, reference, settings)]
    records += _lesions(loaded, methods, reference, settings)
    subject = case.subject or case.name
    rows = [
        (case.name, subject, *key, metric, float(value))
        for *key, metrics in records
        for metric, value in metrics.items()
        if value is not None and not np.isnan(value)
    ]
    return pd.DataFrame(rows, columns=COLUMNS).astype({"index": "Int64", "value": float})


def _sizes(loaded: LoadedCase) -> Iterator[_Record]:
    """Area of each mask in each slice, mm2; load of each lesion mask, mL."""
    for (method, structure), mask in loaded.masks.items():
        if structure == LESION and loaded.lesion_grid:
            load = float(mask.sum()) * loaded.lesion_grid.voxel_mm3 / 1000
            yield structure, method, "", "scan", None, {"load_ml": load}
        elif loaded.grid:
            areas = mask.sum((0, 1)) * loaded.grid.pixel_area_mm2
            for k in np.flatnonzero(areas):
                yield structure, method, "", "slice", int(k), {"area_mm2": areas[k]}


# --- tissues -----------------------------------------------------------------------------


def _tissues(loaded, methods, reference, settings) -> Iterator[_Record]:
    masks = {key: mask for key, mask in loaded.masks.items() if key[1] != LESION}
    if not masks:
        return
    # All slices stay.
    box = bounding_box(np.logical_or.reduce([mask.any(2) for mask in masks.values()])) or (slice(0, 1), slice(0, 1))
    masks = {key: mask[box] for key, mask in masks.items()}
    levels = None
    if loaded.levels is not None:
        cords = sorted((key for key in masks if key[1] == "SC"), key=lambda key: key[0] != reference)
        cord = loaded.masks[cords[0]] if cords else None
        levels = slice_levels(loaded.levels, cord, loaded.grid.spacing_mm[2])
    for structure, method, against in pairs_of(masks, methods, reference):
        pair = masks[against, structure], masks[method, structure]
        if settings.partial and against == reference:
            drawn = pair[0].any((0, 1))
            pair = pair[0], pair[1] & drawn
        for level, index, agreement, voxels in _compared(*pair, loaded.grid.spacing_mm, levels, settings.tolerance_mm):
            metrics = {_RENAMED.get(name, name): value for name, value in vars(agreement).items()}
            metrics["size_error"] = abs(agreement.size_difference)
            yield structure, method, against, level, index, {**metrics, **voxels}


def _compared(reference, mask, spacing_mm, levels, tolerance_mm) -> Iterator[tuple[str, int | None, Agreement, dict]]:
    marked = np.flatnonzero((reference | mask).any((0, 1)))
    for k in marked:
        one = reference[..., k], mask[..., k]
        agreement = compare_masks(*one, spacing_mm[:2], tolerance_mm=tolerance_mm)
        yield "slice", int(k), agreement, _in_voxels(*one, spacing_mm[:2], agreement)
    for level in sorted({int(level) for level in levels or () if level}):
        slices = np.array([one == level for one in levels])
        # Cut ends are surface, and slices stay where they are if others lie between them.
        part = reference & slices, mask & slices
        if part[0].any() or part[1].any():
            agreement = compare_masks(*part, spacing_mm, tolerance_mm=tolerance_mm)
            yield "level", level, agreement, compare_in_voxels(*part)
    if len(marked):
        agreement = compare_masks(reference, mask, spacing_mm, tolerance_mm=tolerance_mm)
        yield "scan", None, agreement, compare_in_voxels(reference, mask)


def _in_voxels(reference, mask, spacing_mm, agreement) -> dict[str, float]:
    """As :func:`compare_in_voxels`, without a second look where pixels are square."""
    side = spacing_mm[0]
    if abs(spacing_mm[1] / side - 1) > _SQUARE:
        return compare_in_voxels(reference, mask)
    return {
        "HDRFDST": agreement.hausdorff_all_mm / side,
        "AVGDIST_max": agreement.average_hausdorff_max_mm / side,
        "AVGDIST_mean": agreement.average_hausdorff_mean_mm / side,
        "VOLSMTY": agreement.volumetric_similarity,
    }


# --- lesions -----------------------------------------------------------------------------


def _lesions(loaded, methods, reference, settings) -> Iterator[_Record]:
    masks = {key: mask for key, mask in loaded.masks.items() if key[1] == LESION}
    for structure, method, against in pairs_of(masks, methods, reference):
        pair, affine = (masks[against, LESION], masks[method, LESION]), loaded.lesion_grid.affine
        found = compare_lesions(*pair, affine, rule=settings.lesion_rule, connectivity=settings.connectivity)
        who = structure, method, against
        yield *who, "scan", None, _lesion_metrics(found)
        unmatched = [(True, pair[0], found.missed), (False, pair[1], found.false)]
        items = [
            {"missed": missed, **numbers}
            for missed, mask, ids in unmatched
            for numbers in _measured(mask, affine, ids, found.how.connectivity)
        ]
        for place, item in enumerate(items):
            yield *who, "lesion", place, item


def _lesion_metrics(found: LesionAgreement) -> dict[str, float]:
    metrics = {name: getattr(found, field) for field, name in _LESIONS_RENAMED.items()}
    metrics |= {name: getattr(found, name) for name in _LESIONS_KEPT}
    metrics |= {
        "volume_difference_ml": found.volume_difference_ml,
        "volume_difference_percent": found.volume_difference_percent,
    }
    for stratum, (_, column) in zip(found.by_size, size_strata()):
        metrics |= {f"{name}_{column}": number for name, number in zip(BY_SIZE, stratum)}
    return metrics


def _measured(mask, affine, ids, connectivity) -> Iterator[dict[str, float]]:
    """Numbers of some lesions of a mask, largest first."""
    if not ids:
        return
    from scipy.ndimage import find_objects

    labels = label_lesions(mask, connectivity)
    boxes = find_objects(labels)
    for number in ids:
        box = boxes[number - 1]
        voxels = np.argwhere(labels[box] == number) + [side.start for side in box]
        centre = voxels.mean(0)
        slices, counts = np.unique(voxels[:, 2], return_counts=True)
        place = affine[:3, :3] @ centre + affine[:3, 3]
        yield {
            "id": number,
            "n_voxels": len(voxels),
            "volume_mm3": len(voxels) * voxel_mm3(affine),
            "diameter_mm": largest_distance_mm(voxels, affine[:3, :3]),
            **dict(zip(("centroid_r_mm", "centroid_a_mm", "centroid_s_mm"), place)),
            "centroid_x_vox": centre[0],
            "centroid_y_vox": centre[1],
            "slice": slices[counts.argmax()],
            "first_slice": slices[0],
            "last_slice": slices[-1],
        }
