"""Agreement of two lesion masks, lesion by lesion.

A lesion is a connected component, a *true positive* one that has a counterpart in the other mask; what a counterpart
is, the matching rule says (see RULES). One lesion of one mask can answer several of the other, so both sides
are counted: sensitivity is the share of the reference's lesions that are found, precision the share of the
mask's lesions that are true, F1 their harmonic mean. With one counterpart each (rule "iou") all is as panoptica's
NaiveThresholdMatching counts it.

==============================  ===========  =========  ====  ================
case                            sensitivity  precision  F1    Dice
==============================  ===========  =========  ====  ================
both masks empty                nan          nan        nan   nan
reference empty, mask not       nan          0          0     0
mask empty, reference not       0            nan        0     0
no counterpart at all           0            0          0     as it is
==============================  ===========  =========  ====  ================
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sctseg7t.image.grid import voxel_mm3
from sctseg7t.measure.lesion_matching import Matching, lesion_overlap, match_lesions, matching
from sctseg7t.measure.lesions import boolean_mask
from sctseg7t.measure.pairs import overlap, ratio, union_box

# Limits between small, medium and large: of a lesion (mm3), of a scan's load (mL). Ours.
SIZE_LIMITS_MM3 = (10.0, 50.0)
LOAD_LIMITS_ML = (5.0, 15.0)


@dataclass(frozen=True)
class LesionAgreement:
    """Agreement of one pair of masks.

    `tp_reference` lesions of the reference are found, `fn` are not; `tp_mask` lesions of the mask are true, `fp` are
    not (with rule "iou" both true positives are one number). `merged` lesions of the mask share voxels with several
    of the reference, `split` ones of the reference with several of the mask. `dice` is of all voxels, `dice_matched`
    the mean over matched pairs (rule "iou") or over groups of lesions that their matches connect. Differences are
    mask minus reference. `by_size` counts lesions by their own volume, small, medium and large ones (SIZE_LIMITS_MM3):
    of the reference, found ones, of the mask, false ones. `missed` and `false` are ids in the label maps of
    :func:`label_lesions`.
    """

    how: Matching
    n_reference: int
    n_mask: int
    tp_reference: int
    tp_mask: int
    fn: int
    fp: int
    merged: int
    split: int
    sensitivity: float
    precision: float
    f1: float
    dice: float
    dice_matched: float
    reference_ml: float
    mask_ml: float
    volume_difference_ml: float
    volume_difference_percent: float
    by_size: tuple[tuple[int, int, int, int], ...]
    missed: tuple[int, ...]
    false: tuple[int, ...]


def compare_lesions(
    reference: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
    *,
    rule: str = "overlap",
    connectivity: int | None = None,
    min_iou: float = 0.1,
    ignored_up_to_mm3: float | None = None,
) -> LesionAgreement:
    """Compare the lesions of a mask with those of a reference.

    Parameters
    ----------
    reference, mask : (X, Y, Z) array
        Boolean, or 0 and 1.
    affine : (4, 4) array
        Voxel to world, mm.
    rule : {"overlap", "iou", "msseg"}
        See RULES.
    connectivity : {6, 18, 26}, optional
        Default 26 as in `measure_lesions`; "msseg" 6.
    min_iou : float
        For "iou".
    ignored_up_to_mm3 : float, optional
        Components of at most this volume are no lesions, in neither mask. Default 0; "msseg" 3. Volumes and Dice are
        of the whole masks.

    Returns
    -------
    LesionAgreement

    Raises
    ------
    ValueError
        Shapes, values or options do not fit.
    """
    how = matching(rule, connectivity, min_iou, ignored_up_to_mm3)
    if np.shape(reference) != np.shape(mask):
        raise ValueError(f"masks have shapes {np.shape(reference)} and {np.shape(mask)}; give two of one 3D shape")
    reference, mask = boolean_mask(reference), boolean_mask(mask)
    voxel = voxel_mm3(affine)
    voxels = [int(np.count_nonzero(m)) for m in (reference, mask)]
    shared = lesion_overlap(*union_box(reference, mask), how.connectivity, how.ignored_up_to_mm3 / voxel)
    found, true, links = match_lesions(shared, how.rule, how.min_iou)
    sizes = [size * voxel for size in (shared.reference_size, shared.mask_size)]
    sensitivity, precision = ratio(int(found.sum()), len(found)), ratio(int(true.sum()), len(true))
    reference_ml, mask_ml = (n * voxel / 1000 for n in voxels)
    return LesionAgreement(
        how=how,
        n_reference=len(found),
        n_mask=len(true),
        tp_reference=int(found.sum()),
        tp_mask=int(true.sum()),
        fn=int((~found).sum()),
        fp=int((~true).sum()),
        merged=_several(shared.j),
        split=_several(shared.i),
        sensitivity=sensitivity,
        precision=precision,
        f1=f1(sensitivity, precision),
        dice=overlap(reference, mask)["dice"],
        dice_matched=_dice_matched(shared, links),
        reference_ml=reference_ml,
        mask_ml=mask_ml,
        volume_difference_ml=mask_ml - reference_ml,
        volume_difference_percent=100 * ratio(voxels[1] - voxels[0], voxels[0]),
        by_size=_by_size(sizes, found, true),
        missed=tuple(int(i) + 1 for i in np.flatnonzero(~found)),
        false=tuple(int(j) + 1 for j in np.flatnonzero(~true)),
    )


def size_stratum(volumes_mm3: ArrayLike) -> np.ndarray:
    """Stratum of each lesion by its volume: 0 small, 1 medium, 2 large."""
    # As in every comparison of volumes here, float noise of the affine must not decide.
    return np.searchsorted(np.array(SIZE_LIMITS_MM3) * (1 - 1e-5), volumes_mm3, side="right")


def load_stratum(volume_ml: float) -> str:
    """Name of the stratum of a lesion load: "none", "<5 mL", "5-15 mL" (both included), ">15 mL".

    A scan without lesions stands alone: its Dice is 0 or nan whatever is found. The limits are ours.
    """
    low, high = LOAD_LIMITS_ML
    if volume_ml == 0:
        return "none"
    return f"<{low:g} mL" if volume_ml < low else f"{low:g}-{high:g} mL" if volume_ml <= high else f">{high:g} mL"


# --- numbers ---------------------------------------------------------------------------


def f1(sensitivity: float, precision: float) -> float:
    """Harmonic mean; 0 if one of them is and the other has no value."""
    if np.isnan(sensitivity) and np.isnan(precision):
        return float("nan")
    if not (sensitivity > 0 and precision > 0):
        return 0.0
    return 2 * sensitivity * precision / (sensitivity + precision)


def _dice_matched(overlap, links):
    """Mean Dice of the groups of lesions that matches connect (pairs, where matches are one to one)."""
    if not links.any():
        return float("nan")
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j, n = overlap.i[links], overlap.j[links], len(overlap.reference_size)
    size = np.concatenate([overlap.reference_size, overlap.mask_size])
    graph = coo_array((np.ones(len(i)), (i, n + j)), shape=(len(size), len(size)))
    group = connected_components(graph, directed=False)[1]
    matched = np.unique(np.concatenate([i, n + j]))
    total = np.bincount(group[matched], size[matched], minlength=group.max() + 1)
    shared = np.bincount(group[i], overlap.shared[links], minlength=group.max() + 1)
    return float((2 * shared[total > 0] / total[total > 0]).mean())


def _several(lesion):
    return int((np.bincount(lesion) > 1).sum()) if len(lesion) else 0


def _by_size(sizes_mm3, found, true):
    ours, theirs = map(size_stratum, sizes_mm3)
    groups = ours, ours[found], theirs, theirs[~true]
    return tuple(zip(*(np.bincount(group, minlength=len(SIZE_LIMITS_MM3) + 1).tolist() for group in groups)))
