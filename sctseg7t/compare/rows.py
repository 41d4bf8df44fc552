"""How well the masks of one scan agree: a row for each slice, level and scan, and the areas of all.

Lesions are left out: a slice is no unit of a volume of lesions, see :mod:`sctseg7t.compare.lesions`.
"""

from dataclasses import asdict
from itertools import combinations

import numpy as np

from sctseg7t.compare.names import LESION, STRUCTURES
from sctseg7t.compare.records import Row
from sctseg7t.measure.agreement import compare_in_voxels, compare_levels, compare_masks
from sctseg7t.measure.levels import slice_levels

# Sides of a pixel that are equal to this are: then voxels are mm over its side.
_SQUARE = 1e-4


def pairs_of(masks, methods, reference):
    """What is compared with what in one scan: (structure, method, against).

    Parameters
    ----------
    masks : dict of (method, structure)
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


def case_rows(case, read, methods, reference, settings):
    """Rows of one scan.

    Slices are compared in 2D, levels and the scan in 3D. Slices in which both masks are empty have no row; nor have
    scans or levels in which both are.

    Parameters
    ----------
    case : Case
    read : ReadCase
    methods, reference
        As for :func:`pairs_of`.
    settings : Settings

    Returns
    -------
    list of Row
    """
    masks = _of_tissues(read)
    if read.grid is None or not masks:
        return []
    box = _box(masks.values())
    masks = {key: mask[box] for key, mask in masks.items()}
    levels = _levels(read, reference)
    rows = []
    for structure, method, against in pairs_of(masks, methods, reference):
        pair = masks[against, structure], masks[method, structure]
        rows += [
            Row(case.name, structure, method, against, where, index, agreement, voxels, _outlier(agreement, settings))
            for where, index, agreement, voxels in _compared(*pair, read.grid.spacing_mm, levels, settings)
        ]
    return rows


def case_areas(read):
    """CSA (Z,) in mm2 of every slice of every mask; nan where the slice has none.

    Returns
    -------
    dict of (method, structure) to array
    """
    found = {}
    for key, mask in _of_tissues(read).items():
        areas = mask.sum((0, 1)) * read.grid.pixel_mm2
        found[key] = np.where(areas > 0, areas, np.nan)
    return found


def _of_tissues(read):
    return {key: mask for key, mask in read.masks.items() if key[1] != LESION}


def _compared(reference, mask, spacing_mm, levels, settings):
    """Yield (where, index, Agreement, voxels) of one pair of masks."""
    tolerance = settings.tolerance_mm
    marked = np.flatnonzero((reference | mask).any((0, 1)))
    for k in marked:
        one = reference[..., k], mask[..., k]
        agreement = compare_masks(*one, spacing_mm[:2], tolerance_mm=tolerance)
        yield "slice", int(k), agreement, _in_voxels(*one, spacing_mm[:2], agreement)
    if levels:
        for level, agreement in compare_levels(reference, mask, spacing_mm, levels, tolerance_mm=tolerance).items():
            if agreement.reference_size or agreement.mask_size:
                part = np.array([one == level for one in levels])
                yield "level", level, agreement, asdict(compare_in_voxels(reference & part, mask & part))
    if len(marked):
        agreement = compare_masks(reference, mask, spacing_mm, tolerance_mm=tolerance)
        yield "scan", None, agreement, asdict(compare_in_voxels(reference, mask))


def _in_voxels(reference, mask, spacing_mm, agreement):
    """As :func:`compare_in_voxels`, without a second look where pixels are square."""
    side = spacing_mm[0]
    if abs(spacing_mm[1] / side - 1) > _SQUARE:
        return asdict(compare_in_voxels(reference, mask))
    return {
        "HDRFDST": agreement.hausdorff_all_mm / side,
        "AVGDIST_max": agreement.average_hausdorff_max_mm / side,
        "AVGDIST_mean": agreement.average_hausdorff_mean_mm / side,
        "VOLSMTY": agreement.volumetric_similarity,
    }


def _outlier(agreement, settings):
    if not agreement.mask_size:
        return "missing"
    if not agreement.reference_size:
        return "extra"
    return "dice" if agreement.dice <= settings.failure_dice else ""


def _box(masks):
    """In-plane box that holds all masks; all slices stay."""
    union = np.logical_or.reduce([mask.any(2) for mask in masks])
    if not union.any():
        return slice(0, 1), slice(0, 1), slice(None)
    spans = []
    for axis in (1, 0):
        line = np.flatnonzero(union.any(axis))
        spans.append(slice(int(line[0]), int(line[-1]) + 1))
    return (*spans, slice(None))


def _levels(read, reference):
    if read.levels is None:
        return None
    cords = [key for key in read.masks if key[1] == "SC"]
    cord = read.masks[min(cords, key=lambda key: key[0] != reference)] if cords else None
    return slice_levels(read.levels, cord, read.grid.spacing_mm[2])
