"""Agreement of two masks: overlap, surface distance, size.

Names and defaults follow Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods
2024. Surfaces are the centres of a mask's boundary voxels: those with a face neighbour
outside the mask, the image's border counting as outside. Distances between those centres
are exact (a Euclidean distance transform, no chamfer weights, no rounding to voxels); a
binary mask says nothing of where inside a voxel its outline runs. Lengths are in mm.

===================  ==================  ==============================  ===============================
case                 overlap             distances                       sizes
===================  ==================  ==============================  ===============================
both masks empty     nan                 nan                             0; difference in percent nan
one of them empty    0 (0/0 gives nan)   inf; normalised surface Dice 0  as counted; in percent -100, or
                                                                         nan for an empty reference
===================  ==================  ==============================  ===============================

"0/0" is the sensitivity of an empty reference and the precision of an empty mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.pairs import mask_counts, mask_distances, ratio, union_box


@dataclass(frozen=True)
class Agreement:
    """All measures of one pair of masks.

    Attributes
    ----------
    dice : float
        ``2 TP / (2 TP + FP + FN)`` (Dice 1945).
    jaccard : float
        Intersection over union: ``TP / (TP + FP + FN)`` (Jaccard 1912).
    sensitivity, precision : float
        Share of the reference that the mask covers, and of the mask that the reference covers.
    volumetric_similarity : float
        ``1 - |FN - FP| / (2 TP + FN + FP)``: VOLSMTY of Taha and Hanbury, BMC Medical Imaging 2015.
    hausdorff_mm : float
        Largest distance from one surface to the other, as in MONAI and MetricsReloaded.
    hausdorff_all_mm : float
        The same between the sets of all voxels, so that what lies inside the other mask is at distance 0: HDRFDST of
        Taha and Hanbury 2015, and ITK.
    hausdorff95_mm : float
        95th percentile of the surface distances, interpolated linearly; the larger of the two directions, as in
        MetricsReloaded and MONAI.
    assd_mm : float
        Average symmetric surface distance: mean of both directions' distances taken together (Heimann et al., IEEE
        Trans Med Imaging 2009).
    average_hausdorff_max_mm, average_hausdorff_mean_mm : float
        Average Hausdorff distance between all voxels (AVGDIST): each direction averaged over all voxels of its mask,
        then the larger of the two, as Taha and Hanbury 2015 define it, or their mean, as in the code of their
        EvaluateSegmentation and in ITK. Far smaller than the ASSD.
    normalised_surface_dice : float
        Share of both surfaces' voxels within `tolerance_mm` of the other surface (Nikolov et al., JMIR 2021), counted
        in boundary voxels as in MetricsReloaded and MONAI's default.
    reference_size, mask_size, size_difference : float
        mm2 for slices (2D), mm3 for volumes (3D); the difference is mask minus reference.
    size_difference_percent : float
        Of the reference.
    """

    dice: float
    jaccard: float
    sensitivity: float
    precision: float
    volumetric_similarity: float
    hausdorff_mm: float
    hausdorff_all_mm: float
    hausdorff95_mm: float
    assd_mm: float
    average_hausdorff_max_mm: float
    average_hausdorff_mean_mm: float
    normalised_surface_dice: float
    tolerance_mm: float
    reference_size: float
    mask_size: float
    size_difference: float
    size_difference_percent: float


@dataclass(frozen=True)
class VoxelAgreement:
    """The 2021 study's measures under its names, distances in voxels, see :func:`compare_in_voxels`."""

    HDRFDST: float
    AVGDIST_max: float
    AVGDIST_mean: float
    VOLSMTY: float


def compare_masks(
    reference: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float], *, tolerance_mm: float = 0.5
) -> Agreement:
    """Compare a mask with a reference; every measure from one distance transform of each.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
        Boolean, or 0 and 1. A volume is one 3D object: the whole face of its first and
        last slice is surface. Thick slices are better compared one by one, in 2D.
    spacing_mm : sequence of float
        Voxel size along each axis.
    tolerance_mm : float
        For the normalised surface Dice.

    Returns
    -------
    Agreement

    Raises
    ------
    ValueError
        Shapes, values or spacing do not fit.
    """
    reference, mask, spacing = _checked(reference, mask, spacing_mm)
    reference, mask = union_box(reference, mask)
    counts = mask_counts(reference, mask)
    distances = mask_distances(reference, mask, spacing)
    voxel = float(np.prod(spacing_mm))
    return Agreement(
        dice=counts.dice,
        jaccard=counts.jaccard,
        sensitivity=counts.sensitivity,
        precision=counts.precision,
        volumetric_similarity=counts.volumetric_similarity,
        hausdorff_mm=distances.hausdorff(),
        hausdorff_all_mm=distances.hausdorff_all(),
        hausdorff95_mm=distances.hausdorff95(),
        assd_mm=distances.assd(),
        average_hausdorff_max_mm=distances.average_hausdorff(max),
        average_hausdorff_mean_mm=distances.average_hausdorff(_mean),
        normalised_surface_dice=distances.within(tolerance_mm),
        tolerance_mm=float(tolerance_mm),
        reference_size=counts.in_reference * voxel,
        mask_size=counts.in_mask * voxel,
        size_difference=(counts.in_mask - counts.in_reference) * voxel,
        size_difference_percent=100 * ratio(counts.in_mask - counts.in_reference, counts.in_reference),
    )


def compare_levels(
    reference: np.ndarray,
    mask: np.ndarray,
    spacing_mm: Sequence[float],
    levels: Sequence[int | None],
    *,
    tolerance_mm: float = 0.5,
) -> dict[int, Agreement]:
    """Compare in 3D the part of each vertebral level.

    Both masks are cut to the level's slices, which stay where they are if other slices
    lie between them. Cut ends are surface, as a volume's first and last slice are in
    :func:`compare_masks`: in a level of one or two slices every voxel is, which lowers
    the ASSD. What lies in another level counts for nothing.

    Parameters
    ----------
    reference, mask : (X, Y, Z) array
    spacing_mm : sequence of float
        Of the three axes.
    levels : sequence of int or None, length Z
        Level of each slice, as :func:`sctseg7t.measure.levels.slice_levels` returns it; None and 0: no level.
    tolerance_mm : float

    Returns
    -------
    dict of int to Agreement
        By level, in ascending order; levels in which both masks are empty too.

    Raises
    ------
    ValueError
        As :func:`compare_masks`, and if `levels` does not fit the third axis.
    """
    reference, mask, _ = _checked(reference, mask, spacing_mm)
    if reference.ndim != 3 or len(levels) != reference.shape[2]:
        raise ValueError(f"{len(levels)} levels do not fit masks of shape {reference.shape}; give one for each slice")
    found = {}
    for level in sorted({int(level) for level in levels if level}):
        part = np.array([one == level for one in levels])
        found[level] = compare_masks(reference & part, mask & part, spacing_mm, tolerance_mm=tolerance_mm)
    return found


def compare_in_voxels(reference: np.ndarray, mask: np.ndarray) -> VoxelAgreement:
    """HDRFDST, AVGDIST and VOLSMTY of Taha and Hanbury, BMC Medical Imaging 2015, with distances in voxels.

    Distances are on the index grid: neighbours along any axis are 1 apart, whatever their
    size. Where voxels are isotropic that is the value in mm over the voxel's side; in
    anisotropic voxels it is a number without a length, comparable only on the same grid.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
        The study measured slices, in 2D.

    Returns
    -------
    VoxelAgreement
        ``HDRFDST``: Hausdorff distance between all voxels. ``AVGDIST_max`` and ``AVGDIST_mean``: average Hausdorff
        distance, the larger of the two directions and their mean. ``VOLSMTY``: volumetric similarity, without unit.
        See :class:`Agreement`.
    """
    reference, mask, _ = _checked(reference, mask, None)
    reference, mask = union_box(reference, mask)
    distances = mask_distances(reference, mask, None)
    return VoxelAgreement(
        HDRFDST=distances.hausdorff_all(),
        AVGDIST_max=distances.average_hausdorff(max),
        AVGDIST_mean=distances.average_hausdorff(_mean),
        VOLSMTY=mask_counts(reference, mask).volumetric_similarity,
    )


def _checked(reference, mask, spacing_mm):
    reference, mask = (_boolean(np.asarray(m)) for m in (reference, mask))
    if reference.shape != mask.shape or reference.ndim not in (2, 3):
        raise ValueError(f"masks have shapes {reference.shape} and {mask.shape}; give two of one 2D or 3D shape")
    spacing = None if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    if spacing is not None and (len(spacing) != reference.ndim or not all(0 < s < np.inf for s in spacing)):
        raise ValueError(f"spacing {spacing} mm does not fit a {reference.ndim}D mask; give one length for each axis")
    return reference, mask, spacing


def _boolean(mask):
    if mask.dtype == bool:
        return mask
    found = mask != 0
    if not np.array_equal(mask, found):
        raise ValueError("masks must hold 0 and 1 only; threshold fractions first")
    return found


def _mean(values):
    return sum(values) / len(values)
