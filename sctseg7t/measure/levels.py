"""Vertebral level of each slice, from a label volume on the same grid."""

import numpy as np

# Fewer labelled voxels a slice than this is a mark on a vertebra or disc, not a labelled cord.
_POINT_VOXELS = 10
# How far beyond the outermost point labels a slice still takes their level.
POINT_REACH_MM = 10.0


def slice_levels(levels: np.ndarray, cord: np.ndarray | None, step_mm: float) -> list[int | None]:
    """Vertebral level per slice.

    A labelled cord or vertebra: the most frequent non-zero label inside the cord,
    or of the whole slice where the cord meets none (ties: the smaller label);
    slices without labels have no level. Point labels (fewer than 10 labelled voxels
    in the median labelled slice): every slice takes the label of the nearest
    labelled slice (ties: the inferior one), up to 10 mm beyond the outermost one.
    Disc labels therefore change half-way between discs, not at the disc.

    Parameters
    ----------
    levels : (X, Y, Z) array of non-negative whole numbers
    cord : (X, Y, Z) array or None
        Fractions of the cord.
    step_mm : float
        Distance between slices.

    Returns
    -------
    list of int or None, length Z

    Raises
    ------
    ValueError
        If labels are negative or not whole.
    """
    whole = np.asarray(levels).astype(int)
    if not np.array_equal(levels, whole) or whole.min(initial=0) < 0:
        raise ValueError("vertebral levels must be whole numbers, and not negative")
    levels, labelled = whole, whole > 0
    counts = labelled.sum(axis=(0, 1))
    marked = np.flatnonzero(counts)
    found: list[int | None] = [None] * levels.shape[2]
    for k in marked:
        inside = labelled[..., k] & (cord[..., k] >= 0.5) if cord is not None else labelled[..., k]
        chosen = inside if inside.any() else labelled[..., k]
        found[k] = int(np.bincount(levels[..., k][chosen]).argmax())
    if len(marked) and np.median(counts[marked]) < _POINT_VOXELS:
        reach = POINT_REACH_MM / step_mm
        for k in range(levels.shape[2]):
            if marked[0] - reach <= k <= marked[-1] + reach:
                found[k] = found[marked[np.abs(marked - k).argmin()]]
    return found
