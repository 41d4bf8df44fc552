"""Lesions of one scan: how two masks agree lesion by lesion, and the lesions that have no counterpart."""

from dataclasses import dataclass

import numpy as np

from sctseg7t.compare.names import LESION
from sctseg7t.compare.rows import pairs_of
from sctseg7t.measure.lesion_agreement import SIZE_LIMITS_MM3, LesionAgreement, compare_lesions
from sctseg7t.measure.lesions import label_lesions, largest_distance_mm, voxel_mm3

MISSED, FALSE = "missed", "false"


@dataclass(frozen=True)
class LesionRow:
    """Agreement of a method's lesions with another mask's in one scan. ``against`` stands for the reference."""

    case: str
    method: str
    against: str
    agreement: LesionAgreement

    @property
    def empty(self):
        """Which mask has no lesion: ``both``, ``method``, ``against`` or ``""``."""
        without = self.agreement.mask_ml == 0, self.agreement.reference_ml == 0
        return {(True, True): "both", (True, False): "method", (False, True): "against"}.get(without, "")


@dataclass(frozen=True)
class LesionItem:
    """A lesion without counterpart: ``missed`` by the method, or ``false``, in its mask alone.

    ``id`` is that of :func:`~sctseg7t.measure.lesions.label_lesions`: 1 is the largest of its mask. Slices are axial,
    counted from inferior; ``slice`` has most of the lesion.
    """

    case: str
    method: str
    against: str
    kind: str
    id: int
    n_voxels: int
    volume_mm3: float
    size: str
    diameter_mm: float
    centroid_r_mm: float
    centroid_a_mm: float
    centroid_s_mm: float
    centroid_x_vox: float
    centroid_y_vox: float
    slice: int
    first_slice: int
    last_slice: int


@dataclass(frozen=True)
class LesionStudy:
    """Lesions of all scans.

    Attributes
    ----------
    rows : tuple of LesionRow
    items : tuple of LesionItem
    loads_ml : dict of (case, method) to float
        Of every mask, the reference's too.
    summary : tuple of LesionSummary
    tests : tuple of TestRow
        Over subjects.
    loads : tuple of AreaAgreement
        Of loads, mL, one a scan.
    repeatability : tuple of LoadRepeatability
    """

    rows: tuple
    items: tuple
    loads_ml: dict
    summary: tuple = ()
    tests: tuple = ()
    loads: tuple = ()
    repeatability: tuple = ()


def case_lesions(case, read, methods, reference, settings):
    """Lesion-wise agreement of one scan's masks.

    Masks that are both empty have a row as well: a scan without lesions in which none is found is a result.

    Parameters
    ----------
    case : Case
    read : ReadCase
    methods, reference
        As for :func:`~sctseg7t.compare.rows.pairs_of`.
    settings : Settings

    Returns
    -------
    rows : list of LesionRow
    items : list of LesionItem
    """
    masks = {key: mask for key, mask in read.masks.items() if key[1] == LESION}
    rows, items = [], []
    for _, method, against in pairs_of(masks, methods, reference):
        pair = masks[against, LESION], masks[method, LESION]
        agreement = compare_lesions(
            *pair, read.lesion_grid.affine, rule=settings.lesion_rule, connectivity=settings.connectivity
        )
        rows.append(LesionRow(case.name, method, against, agreement))
        who = case.name, method, against
        for kind, mask, ids in zip((MISSED, FALSE), pair, (agreement.missed, agreement.false)):
            found = _measured(mask, read.lesion_grid.affine, ids, agreement.connectivity)
            items += [LesionItem(*who, kind, **numbers) for numbers in found]
    return rows, items


def loads_ml(read):
    """Volume, mL, of each lesion mask: dict of method to float."""
    return {
        method: float(mask.sum()) * voxel_mm3(read.lesion_grid.affine) / 1000
        for (method, structure), mask in read.masks.items()
        if structure == LESION
    }


def size_names():
    """Names of the strata of size, as :class:`~sctseg7t.measure.lesion_agreement.LesionAgreement` has them."""
    low, high = SIZE_LIMITS_MM3
    return f"<{low:g} mm3", f"{low:g}-{high:g} mm3", f">={high:g} mm3"


def _size_name(volume_mm3):
    return size_names()[sum(volume_mm3 >= limit * (1 - 1e-5) for limit in SIZE_LIMITS_MM3)]


def _measured(mask, affine, ids, connectivity):
    """Numbers of some lesions of a mask, largest first."""
    if not ids:
        return
    from scipy.ndimage import find_objects

    labels = label_lesions(mask, connectivity)
    boxes = find_objects(labels)
    for number in ids:
        box = boxes[number - 1]
        voxels = np.argwhere(labels[box] == number) + [side.start for side in box]
        centre, volume = voxels.mean(0), len(voxels) * voxel_mm3(affine)
        slices, counts = np.unique(voxels[:, 2], return_counts=True)
        place = affine[:3, :3] @ centre + affine[:3, 3]
        yield {
            "id": int(number),
            "n_voxels": len(voxels),
            "volume_mm3": volume,
            "size": _size_name(volume),
            "diameter_mm": largest_distance_mm(voxels, affine[:3, :3]),
            **dict(zip(("centroid_r_mm", "centroid_a_mm", "centroid_s_mm"), map(float, place))),
            "centroid_x_vox": float(centre[0]),
            "centroid_y_vox": float(centre[1]),
            "slice": int(slices[counts.argmax()]),
            "first_slice": int(slices[0]),
            "last_slice": int(slices[-1]),
        }
