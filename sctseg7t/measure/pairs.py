"""What two masks have in common (counts of voxels) and how far apart their boundaries are.

A boundary voxel has a face neighbour outside the mask; the array's border counts as outside.
"""

from collections.abc import Sequence

import numpy as np

from sctseg7t.image.grid import bounding_box

DISTANCES = ("hausdorff", "hausdorff_all", "hausdorff95", "assd", "average_hausdorff_max", "average_hausdorff_mean")


def overlap(reference: np.ndarray, mask: np.ndarray) -> dict[str, float]:
    """Overlap of two boolean masks of one shape: dice, jaccard, sensitivity, precision, volumetric_similarity."""
    both, there, found = (int(np.count_nonzero(part)) for part in (reference & mask, reference, mask))
    return {
        "dice": ratio(2 * both, there + found),
        "jaccard": ratio(both, there + found - both),
        "sensitivity": ratio(both, there),
        "precision": ratio(both, found),
        "volumetric_similarity": 1 - ratio(abs(there - found), there + found),
    }


def distances(
    reference: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None, tolerance: float = 0.0
) -> dict[str, float]:
    """Distances of two boolean masks of one shape, from one exact Euclidean transform of each boundary.

    Nothing beyond both masks matters: crop with :func:`union_box` first.

    Returns
    -------
    dict of str to float
        ``DISTANCES`` and ``within``, the share of both surfaces within the tolerance of the other one; what they are
        is said at :class:`~sctseg7t.measure.agreement.Agreement`.
    """
    sizes = (int(np.count_nonzero(reference)), int(np.count_nonzero(mask)))
    if not all(sizes):
        alone = any(sizes)
        return {**dict.fromkeys(DISTANCES, np.inf if alone else np.nan), "within": 0.0 if alone else np.nan}
    from scipy.ndimage import distance_transform_edt

    edges = [boundary(m) for m in (reference, mask)]
    to_reference, to_mask = (distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    surface = (to_mask[edges[0]], to_reference[edges[1]])
    # From outside, the nearest voxel of a mask is one of its boundary.
    outside = (to_mask[reference & ~mask], to_reference[mask & ~reference])
    every, average = np.concatenate(surface), [float(apart.sum() / size) for apart, size in zip(outside, sizes)]
    return {
        "hausdorff": float(every.max()),
        "hausdorff_all": max(float(apart.max(initial=0)) for apart in outside),
        "hausdorff95": max(float(np.percentile(apart, 95)) for apart in surface),
        "assd": float(every.mean()),
        "average_hausdorff_max": max(average),
        "average_hausdorff_mean": sum(average) / 2,
        # The tolerance is inclusive, whatever the last bit of a distance.
        "within": float((every <= tolerance * (1 + 1e-9)).mean()),
    }


def boundary(mask: np.ndarray) -> np.ndarray:
    """Boundary voxels, a mask of the same shape."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        # Views with the axis first: writing to them writes to `inside`.
        to, of = np.moveaxis(inside, axis, 0), np.moveaxis(mask, axis, 0)
        to[0] = to[-1] = False
        to[1:] &= of[:-1]
        to[:-1] &= of[1:]
    return mask & ~inside


def union_box(reference: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both masks cropped to the smallest box that holds them; one voxel where both are empty."""
    box = bounding_box(reference | mask) or (slice(0, 1),) * reference.ndim
    return reference[box], mask[box]


def ratio(part: float, whole: float) -> float:
    """A share; nan of nothing."""
    return part / whole if whole else float("nan")
