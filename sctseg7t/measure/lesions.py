"""Brain lesions in a mask: which there are, how large, where.

A lesion is a 26-connected component: voxels that share a face, an edge or a corner belong together. It is
*counted* from a largest diameter of 3 mm, the long axis that the McDonald criteria ask of a lesion (Thompson et al.,
Lancet Neurology 2018, glossary; MAGNIMS: Filippi et al., Brain 2019); a smaller one is listed and adds to the load.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.image.grid import bounding_box, voxel_mm3
from sctseg7t.measure.columns import LOCATIONS
from sctseg7t.measure.lesion_location import Regions, locate

CONNECTIVITY = {6: 1, 18: 2, 26: 3}
TOUCHES_EDGE = "touches_image_edge"
# Float noise of an affine must not uncount a lesion of exactly the limit.
_SLACK_MM = 1e-4
# Up to as many corners all distances are quicker than their convex hull.
_FEW_CORNERS = 150


@dataclass(frozen=True)
class Lesion:
    """One lesion. None where there is no value: the table's `reason` says why.

    `id` is its value in the label map; `flags` are the doubts about it, as codes. `diameter_mm` is the largest
    distance between corners of its voxels; `sphere_diameter_mm` that of the sphere of its volume. The centroid is given
    in scanner coordinates (mm; R, A, S positive) and in voxels of the canonical grid. Distances are the gaps between
    the lesion and the region, 0 where they touch.
    """

    id: int
    counted: bool
    n_voxels: int
    volume_mm3: float
    diameter_mm: float
    sphere_diameter_mm: float
    centroid_r_mm: float
    centroid_a_mm: float
    centroid_s_mm: float
    centroid_x_vox: float
    centroid_y_vox: float
    centroid_z_vox: float
    location: str | None = None
    distance_ventricles_mm: float | None = None
    distance_cortex_mm: float | None = None
    infratentorial_fraction: float | None = None
    probability_max: float | None = None
    probability_mean: float | None = None
    spread: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def touches_edge(self) -> bool:
        """Whether the image's edge may cut it."""
        return TOUCHES_EDGE in self.flags


@dataclass(frozen=True, eq=False)
class LesionTable:
    """The lesions of one mask, largest first.

    Attributes
    ----------
    lesions : tuple of Lesion
    labels : (X, Y, Z) int16
        Lesion ids, 0 outside; int32 above 32767 lesions.
    min_diameter_mm : float
    connectivity : {6, 18, 26}
    reason : tuple of str
        ``no_lesions``: the mask is empty, so that counts and volumes are zero, and there is no largest lesion.
        ``no_regions``: without maps of ventricles, cortex and infratentorial brain there is no location class.
    """

    lesions: tuple[Lesion, ...]
    labels: np.ndarray
    min_diameter_mm: float
    connectivity: int
    reason: tuple[str, ...] = ()

    def summary(self) -> dict:
        """Totals of the scan, a plain dict for JSON.

        Counts are of counted lesions, `n_small` of the others; volumes are of all of them, so that those of
        the locations sum to the load. An empty mask has zeros. None where there is no value.
        """
        small = [lesion for lesion in self.lesions if not lesion.counted]
        total: dict[str, Any] = {
            "n_lesions": len(self.lesions) - len(small),
            "n_small": len(small),
            "load_ml": _load_ml(self.lesions),
            "load_small_ml": _load_ml(small),
        }
        unknown = self.lesions and "no_regions" in self.reason
        for name in LOCATIONS:
            here = [lesion for lesion in self.lesions if lesion.location == name]
            total[f"n_{name}"] = None if unknown else sum(lesion.counted for lesion in here)
            total[f"{name}_ml"] = None if unknown else _load_ml(here)
        total["largest_volume_mm3"] = max((lesion.volume_mm3 for lesion in self.lesions), default=None)
        total["largest_diameter_mm"] = max((lesion.diameter_mm for lesion in self.lesions), default=None)
        return total | {
            "min_diameter_mm": self.min_diameter_mm,
            "connectivity": self.connectivity,
            "reason": list(self.reason),
            "flags": sorted({flag for lesion in self.lesions for flag in lesion.flags}),
        }


def measure_lesions(
    mask: np.ndarray,
    affine: np.ndarray,
    regions: Regions | None = None,
    *,
    min_diameter_mm: float = 3.0,
    probability: np.ndarray | None = None,
    spread: np.ndarray | None = None,
    connectivity: int = 26,
) -> LesionTable:
    """Label and measure the lesions of a mask.

    Parameters
    ----------
    mask : (X, Y, Z) array
        Boolean, or 0 and 1, in canonical voxel order.
    affine : (4, 4) array
        Canonical voxel to world RAS, mm; voxels may be anisotropic and oblique.
    regions : Regions, optional
        Without, lesions have no location; with, see :func:`~sctseg7t.measure.lesion_location.locate`.
    min_diameter_mm : float
        Lesions below are listed, not counted.
    probability : (X, Y, Z) array, optional
        Of lesion, for the largest and mean value in each.
    spread : (X, Y, Z) array, optional
        How far what was said of each voxel lies apart, for its mean in each.
    connectivity : {6, 18, 26}
        Neighbours: by faces; faces and edges; faces, edges and corners.

    Returns
    -------
    LesionTable

    Raises
    ------
    ValueError
        The mask is not 3D, or holds other values than 0 and 1.
    """
    mask, affine = boolean_mask(mask), np.asarray(affine, np.float64)
    labels = label_lesions(mask, connectivity)
    # Sorted by lesion, and where each lesion starts.
    voxels = np.argwhere(labels)
    voxels = voxels[np.argsort(labels[tuple(voxels.T)], kind="stable")]
    start = np.flatnonzero(np.diff(labels[tuple(voxels.T)], prepend=0))
    reason = () if len(start) else ("no_lesions",)
    if regions is None:
        reason += ("no_regions",)
    doubts = regions.doubts if regions else ()
    known = zip(
        np.split(voxels, start[1:]) if len(start) else [],
        locate(voxels, start, affine[:3, :3], regions),
        _chances(voxels, start, probability, spread),
    )
    lesions = tuple(
        _lesion(number, part, affine, mask.shape, min_diameter_mm, doubts, location | chance)
        for number, (part, location, chance) in enumerate(known, start=1)
    )
    return LesionTable(lesions, labels, float(min_diameter_mm), connectivity, reason)


def label_lesions(mask: np.ndarray, connectivity: int = 26) -> np.ndarray:
    """Number the connected components of a mask by volume, the largest first.

    Of equal ones, that comes first whose first voxel does (lowest x, then y, then z).

    Parameters
    ----------
    mask : (X, Y, Z) bool
    connectivity : {6, 18, 26}

    Returns
    -------
    (X, Y, Z) int16, int32 above 32767 components
    """
    from scipy.ndimage import generate_binary_structure, label

    if connectivity not in CONNECTIVITY:
        raise ValueError(f"connectivity must be 6, 18 or 26, not {connectivity!r}")
    labels = np.zeros(mask.shape, np.int16)
    box = bounding_box(mask)
    if box is None:
        return labels
    found = np.zeros(mask[box].shape, np.int32)
    label(mask[box], generate_binary_structure(3, CONNECTIVITY[connectivity]), output=found)
    _, first, size = np.unique(found[found > 0], return_index=True, return_counts=True)
    count = len(size)
    rank = np.zeros(count + 1, np.int16 if count <= np.iinfo(np.int16).max else np.int32)
    rank[1 + np.lexsort((first, -size))] = np.arange(1, count + 1)
    labels = labels.astype(rank.dtype, copy=False)
    labels[box] = rank[found]
    return labels


def largest_distance_mm(voxels: np.ndarray, linear: np.ndarray) -> float:
    """Largest distance between two corners of voxels.

    Exact: it is between vertices of the convex hull, whose corners are whole numbers before `linear` is applied.

    Parameters
    ----------
    voxels : (N, 3) int
    linear : (3, 3) array
        Voxel to mm.

    Returns
    -------
    float, mm
    """
    from scipy.spatial import ConvexHull
    from scipy.spatial.distance import pdist

    # Of each column along z the first and the last voxel: no other can be extreme.
    voxels = voxels[np.lexsort(voxels.T[::-1])]
    new = np.flatnonzero((np.diff(voxels[:, :2], axis=0) != 0).any(axis=1)) + 1
    ends = voxels[np.unique(np.concatenate([[0], new, new - 1, [len(voxels) - 1]]))]
    corners = (ends[:, None] + list(np.ndindex(2, 2, 2))).reshape(-1, 3)
    if len(corners) > _FEW_CORNERS:
        corners = corners[ConvexHull(corners).vertices]
    return float(pdist(corners @ np.asarray(linear).T).max())


def boolean_mask(mask: np.ndarray) -> np.ndarray:
    """A 3D mask as booleans; ValueError for other values than 0 and 1."""
    mask = np.asarray(mask)
    if mask.ndim != 3:
        raise ValueError(f"the mask has shape {mask.shape}; it must be 3D")
    found = mask != 0
    if mask.dtype != bool and not np.array_equal(mask, found):
        raise ValueError("the mask must hold 0 and 1 only; threshold fractions first")
    return found


# --- one lesion ----------------------------------------------------------------------


def _lesion(number, voxels, affine, shape, min_diameter_mm, doubts, extra):
    volume = len(voxels) * voxel_mm3(affine)
    centre = voxels.mean(axis=0)
    diameter = largest_distance_mm(voxels, affine[:3, :3])
    names = ("centroid_r_mm", "centroid_a_mm", "centroid_s_mm", "centroid_x_vox", "centroid_y_vox", "centroid_z_vox")
    place = np.concatenate([affine[:3, :3] @ centre + affine[:3, 3], centre])
    return Lesion(
        id=number,
        counted=diameter >= min_diameter_mm - _SLACK_MM,
        n_voxels=len(voxels),
        volume_mm3=volume,
        diameter_mm=diameter,
        sphere_diameter_mm=float(np.cbrt(6 * volume / np.pi)),
        flags=doubts + ((TOUCHES_EDGE,) if (voxels == 0).any() or (voxels == np.array(shape) - 1).any() else ()),
        **dict(zip(names, map(float, place))),
        **extra,
    )


def _load_ml(lesions):
    return sum(lesion.volume_mm3 for lesion in lesions) / 1000


# --- how sure -----------------------------------------------------------------------


def _chances(voxels, start, probability, spread):
    found = [{} for _ in start]
    for name, image in (("probability_mean", probability), ("spread", spread)):
        if image is None or not len(start):
            continue
        values = image[tuple(voxels.T)].astype(np.float64)
        mean = np.add.reduceat(values, start) / np.diff(start, append=len(voxels))
        most = np.maximum.reduceat(values, start)
        for own, some, largest in zip(found, mean, most):
            own[name] = float(some)
            if image is probability:
                own["probability_max"] = float(largest)
    return found
