"""What two masks have in common (counts of voxels) and how far apart their boundaries are.

A boundary voxel has a face neighbour outside the mask; the array's border counts as outside.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from sctseg7t.image.grid import bounding_box


@dataclass(frozen=True)
class Counts:
    """Voxels in both masks and in each, with the ratios of them."""

    both: int
    in_reference: int
    in_mask: int

    @property
    def dice(self) -> float:
        """``2 TP / (2 TP + FP + FN)``."""
        return ratio(2 * self.both, self.in_reference + self.in_mask)

    @property
    def jaccard(self) -> float:
        """Intersection over union."""
        return ratio(self.both, self.in_reference + self.in_mask - self.both)

    @property
    def sensitivity(self) -> float:
        """Share of the reference in the mask."""
        return ratio(self.both, self.in_reference)

    @property
    def precision(self) -> float:
        """Share of the mask in the reference."""
        return ratio(self.both, self.in_mask)

    @property
    def volumetric_similarity(self) -> float:
        """1 minus the difference of the sizes over their sum."""
        return 1 - ratio(abs(self.in_reference - self.in_mask), self.in_reference + self.in_mask)


@dataclass(frozen=True, eq=False)
class Distances:
    """Of each direction (reference to mask, mask to reference), mm.

    `surface`: of every boundary voxel to the other boundary. `outside`: of the voxels
    that are not in the other mask, to it; `sizes`: voxels of each mask.
    """

    surface: tuple[np.ndarray, ...]
    outside: tuple[np.ndarray, ...]
    sizes: tuple[int, int]

    def hausdorff(self) -> float:
        """Largest distance between the surfaces."""
        return self._defined(lambda: max(float(d.max()) for d in self.surface))

    def hausdorff_all(self) -> float:
        """Largest distance from a voxel of one mask to the other mask."""
        return self._defined(lambda: max(float(d.max(initial=0)) for d in self.outside))

    def hausdorff95(self) -> float:
        """The larger of the 95th percentiles of the two directions."""
        return self._defined(lambda: max(float(np.percentile(d, 95)) for d in self.surface))

    def assd(self) -> float:
        """Mean distance between the surfaces."""
        return self._defined(lambda: float(np.concatenate(self.surface).mean()))

    def average_hausdorff(self, combine: Callable[[list[float]], float]) -> float:
        """Mean distance of a mask's voxels to the other mask; `combine` makes one number of the two directions."""
        return self._defined(lambda: float(combine([d.sum() / n for d, n in zip(self.outside, self.sizes)])))

    def within(self, tolerance_mm: float) -> float:
        """Share of both surfaces within a distance of the other one."""
        if not any(self.sizes):
            return float("nan")
        if not all(self.sizes):
            return 0.0
        # The tolerance is inclusive, whatever the last bit of a distance.
        return float((np.concatenate(self.surface) <= tolerance_mm * (1 + 1e-9)).mean())

    def _defined(self, value):
        if all(self.sizes):
            return value()
        return float("inf") if any(self.sizes) else float("nan")


def mask_counts(reference: np.ndarray, mask: np.ndarray) -> Counts:
    """Counts of two boolean masks of one shape."""
    return Counts(*(int(np.count_nonzero(part)) for part in (reference & mask, reference, mask)))


def mask_distances(reference: np.ndarray, mask: np.ndarray, spacing: Sequence[float] | None) -> Distances:
    """Distances of two boolean masks of one shape, from one exact Euclidean transform of each boundary.

    Nothing beyond both masks matters: crop with :func:`union_box` first.
    """
    sizes = (int(np.count_nonzero(reference)), int(np.count_nonzero(mask)))
    if not all(sizes):
        return Distances((), (), sizes)
    from scipy.ndimage import distance_transform_edt

    edges = [boundary(m) for m in (reference, mask)]
    to_reference, to_mask = (distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    surface = (to_mask[edges[0]], to_reference[edges[1]])
    # From outside, the nearest voxel of a mask is one of its boundary.
    outside = (to_mask[reference & ~mask], to_reference[mask & ~reference])
    return Distances(surface, outside, sizes)


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
