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

from sctseg7t.measure.pairs import DISTANCES, distances, overlap, ratio, union_box


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
    reference_size: float
    mask_size: float
    size_difference: float
    size_difference_percent: float


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
    apart = distances(reference, mask, spacing, tolerance_mm)
    voxel = float(np.prod(spacing_mm))
    sizes = [int(np.count_nonzero(m)) for m in (reference, mask)]
    return Agreement(
        **overlap(reference, mask),
        **{f"{name}_mm": apart[name] for name in DISTANCES},
        normalised_surface_dice=apart["within"],
        reference_size=sizes[0] * voxel,
        mask_size=sizes[1] * voxel,
        size_difference=(sizes[1] - sizes[0]) * voxel,
        size_difference_percent=100 * ratio(sizes[1] - sizes[0], sizes[0]),
    )


def compare_in_voxels(reference: np.ndarray, mask: np.ndarray) -> dict[str, float]:
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
    dict of str to float
        ``HDRFDST``: Hausdorff distance between all voxels. ``AVGDIST_max`` and ``AVGDIST_mean``: average Hausdorff
        distance, the larger of the two directions and their mean. ``VOLSMTY``: volumetric similarity, without unit.
        See :class:`Agreement`.
    """
    reference, mask, _ = _checked(reference, mask, None)
    reference, mask = union_box(reference, mask)
    apart = distances(reference, mask, None)
    return {
        "HDRFDST": apart["hausdorff_all"],
        "AVGDIST_max": apart["average_hausdorff_max"],
        "AVGDIST_mean": apart["average_hausdorff_mean"],
        "VOLSMTY": overlap(reference, mask)["volumetric_similarity"],
    }


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
