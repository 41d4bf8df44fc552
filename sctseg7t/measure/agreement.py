"""Agreement of two masks: overlap, surface distance, size.

Names and defaults follow Maier-Hein, Reinke et al., "Metrics reloaded", Nature Methods
2024. Surfaces are the centres of a mask's boundary voxels: those with a face neighbour
outside the mask, the image's border counting as outside. Lengths are in mm.

===================  ==================  =============================
case                 overlap             distances
===================  ==================  =============================
both masks empty     nan                 nan
one of them empty    0 (0/0 gives nan)   inf; normalised surface Dice 0
===================  ==================  =============================
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Agreement:
    """All measures of one pair of masks; each is described at the function of its name.

    `hausdorff_all_mm` and the average Hausdorff distances are between all voxels of
    the masks, the others between their surfaces. Sizes are mm2 for slices (2D) and
    mm3 for volumes (3D); `size_difference` is mask minus reference.
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


def compare_masks(reference, mask, spacing_mm, *, tolerance_mm=0.5):
    """Compare a mask with a reference; every measure from one distance transform of each.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
        Boolean, or 0 and 1. A volume is one 3D object: the whole face of its first and
        last slice is surface. For thick 2D slices use :func:`compare_slices`.
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
    reference, mask = _union_box(reference, mask)
    counts = _Counts.of(reference, mask)
    distances = _distances(reference, mask, spacing)
    voxel = float(np.prod(spacing))
    return Agreement(
        dice=counts.dice,
        jaccard=counts.jaccard,
        sensitivity=counts.sensitivity,
        precision=counts.precision,
        volumetric_similarity=counts.volumetric_similarity,
        hausdorff_mm=distances.hausdorff(),
        hausdorff_all_mm=distances.hausdorff_all(),
        hausdorff95_mm=distances.hausdorff95("directed"),
        assd_mm=distances.assd(),
        average_hausdorff_max_mm=distances.average_hausdorff(max),
        average_hausdorff_mean_mm=distances.average_hausdorff(_mean),
        normalised_surface_dice=distances.within(tolerance_mm),
        tolerance_mm=float(tolerance_mm),
        reference_size=counts.in_reference * voxel,
        mask_size=counts.in_mask * voxel,
        size_difference=(counts.in_mask - counts.in_reference) * voxel,
        size_difference_percent=100 * _ratio(counts.in_mask - counts.in_reference, counts.in_reference),
    )


def compare_slices(reference, mask, spacing_mm, *, tolerance_mm=0.5):
    """Compare slice by slice along the third axis, in 2D.

    Parameters
    ----------
    reference, mask : (X, Y, Z) array
    spacing_mm : sequence of float
        Of the first two axes; a third value is not used.
    tolerance_mm : float

    Returns
    -------
    list of Agreement, length Z
        See :func:`compare_masks`.
    """
    reference, mask, spacing = _checked(reference, mask, [*spacing_mm[:2], 1.0])
    pairs = zip(np.moveaxis(reference, 2, 0), np.moveaxis(mask, 2, 0))
    return [compare_masks(r, m, spacing[:2], tolerance_mm=tolerance_mm) for r, m in pairs]


# --- overlap and size --------------------------------------------------------------


def dice(reference, mask):
    """Dice (1945) coefficient, ``2 TP / (2 TP + FP + FN)``."""
    return _Counts.checked(reference, mask).dice


def jaccard(reference, mask):
    """Jaccard (1912) index, intersection over union: ``TP / (TP + FP + FN)``."""
    return _Counts.checked(reference, mask).jaccard


def sensitivity(reference, mask):
    """Share of the reference that the mask covers, ``TP / (TP + FN)``; nan for an empty reference."""
    return _Counts.checked(reference, mask).sensitivity


def precision(reference, mask):
    """Share of the mask that the reference covers, ``TP / (TP + FP)``; nan for an empty mask."""
    return _Counts.checked(reference, mask).precision


def volumetric_similarity(reference, mask):
    """``1 - |FN - FP| / (2 TP + FN + FP)``, VOLSMTY of Taha and Hanbury, BMC Medical Imaging 2015."""
    return _Counts.checked(reference, mask).volumetric_similarity


def size_difference(reference, mask, spacing_mm):
    """Mask minus reference: area in mm2 of a slice, volume in mm3 of a 3D image."""
    reference, mask, spacing = _checked(reference, mask, spacing_mm)
    return (int(mask.sum()) - int(reference.sum())) * float(np.prod(spacing))


# --- distances ---------------------------------------------------------------------


def hausdorff(reference, mask, spacing_mm, *, points="boundary"):
    """Hausdorff distance: the largest distance from a point of one mask to the other, mm.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
    spacing_mm : sequence of float
    points : {"boundary", "all"}
        ``boundary``: from surface to surface, as in MONAI and MetricsReloaded. ``all``: between the sets
        of all voxels, so that what lies inside the other mask is at distance 0: HDRFDST of Taha and
        Hanbury 2015, and ITK. They differ where a surface lies deep inside the other mask.
    """
    distances = _distances_of(reference, mask, spacing_mm)
    return _choose(points, {"boundary": distances.hausdorff, "all": distances.hausdorff_all})()


def hausdorff95(reference, mask, spacing_mm, *, definition="directed"):
    """95th percentile of the surface distances, mm.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
    spacing_mm : sequence of float
    definition : {"directed", "pooled"}
        ``directed``: the larger of the percentiles of the two directions, as in MetricsReloaded and
        MONAI. ``pooled``: the percentile of both directions' distances taken together, as in MedPy. Percentiles
        are interpolated linearly.
    """
    distances = _distances_of(reference, mask, spacing_mm)
    return distances.hausdorff95(_choose(definition, {name: name for name in ("directed", "pooled")}))


def assd(reference, mask, spacing_mm):
    """Average symmetric surface distance, mm: mean of both directions' surface distances taken together.

    Heimann et al., IEEE Trans Med Imaging 2009; as in MetricsReloaded and MONAI.
    """
    return _distances_of(reference, mask, spacing_mm).assd()


def average_hausdorff(reference, mask, spacing_mm, *, combine="max"):
    """Average Hausdorff distance (AVGDIST) between all voxels of the masks, mm.

    Each voxel of a mask has its distance to the other mask, 0 where they overlap; each
    direction is averaged over all voxels of its mask. Far smaller than the ASSD.

    Parameters
    ----------
    reference, mask : (X, Y) or (X, Y, Z) array
    spacing_mm : sequence of float
    combine : {"max", "mean"}
        ``max``: the larger of the two directions, as Taha and Hanbury 2015 define it. ``mean``: their
        mean, as in the code of their EvaluateSegmentation and in ITK.
    """
    distances = _distances_of(reference, mask, spacing_mm)
    return distances.average_hausdorff(_choose(combine, {"max": max, "mean": _mean}))


def normalised_surface_dice(reference, mask, spacing_mm, tolerance_mm):
    """Share of both surfaces' voxels that lie within a tolerance (mm) of the other surface.

    Nikolov et al., J Med Internet Res 2021; counted in boundary voxels as in MetricsReloaded
    and MONAI's default, not weighted by surface elements.
    """
    return _distances_of(reference, mask, spacing_mm).within(tolerance_mm)


# --- counts and distances of a pair --------------------------------------------------


@dataclass(frozen=True)
class _Counts:
    both: int
    in_reference: int
    in_mask: int

    @classmethod
    def of(cls, reference, mask):
        return cls(*(int(np.count_nonzero(part)) for part in (reference & mask, reference, mask)))

    @classmethod
    def checked(cls, reference, mask):
        return cls.of(*_checked(reference, mask, None)[:2])

    @property
    def dice(self):
        return _ratio(2 * self.both, self.in_reference + self.in_mask)

    @property
    def jaccard(self):
        return _ratio(self.both, self.in_reference + self.in_mask - self.both)

    @property
    def sensitivity(self):
        return _ratio(self.both, self.in_reference)

    @property
    def precision(self):
        return _ratio(self.both, self.in_mask)

    @property
    def volumetric_similarity(self):
        return 1 - _ratio(abs(self.in_reference - self.in_mask), self.in_reference + self.in_mask)


@dataclass(frozen=True, eq=False)
class _Distances:
    """Of each direction (reference to mask, mask to reference), mm.

    `surface`: of every boundary voxel to the other boundary. `outside`: of the voxels
    that are not in the other mask, to it; `sizes`: voxels of each mask.
    """

    surface: tuple
    outside: tuple
    sizes: tuple

    def hausdorff(self):
        return self._defined(lambda: max(float(d.max()) for d in self.surface))

    def hausdorff_all(self):
        return self._defined(lambda: max(float(d.max(initial=0)) for d in self.outside))

    def hausdorff95(self, definition):
        parts = [np.concatenate(self.surface)] if definition == "pooled" else self.surface
        return self._defined(lambda: max(float(np.percentile(d, 95)) for d in parts))

    def assd(self):
        return self._defined(lambda: float(np.concatenate(self.surface).mean()))

    def average_hausdorff(self, combine):
        return self._defined(lambda: float(combine([d.sum() / n for d, n in zip(self.outside, self.sizes)])))

    def within(self, tolerance_mm):
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


def _distances_of(reference, mask, spacing_mm):
    reference, mask, spacing = _checked(reference, mask, spacing_mm)
    return _distances(*_union_box(reference, mask), spacing)


def _distances(reference, mask, spacing):
    sizes = (int(np.count_nonzero(reference)), int(np.count_nonzero(mask)))
    if not all(sizes):
        return _Distances((), (), sizes)
    from scipy.ndimage import distance_transform_edt

    edges = [_boundary(m) for m in (reference, mask)]
    to_reference, to_mask = (distance_transform_edt(~edge, sampling=spacing) for edge in edges)
    surface = (to_mask[edges[0]], to_reference[edges[1]])
    # From outside, the nearest voxel of a mask is one of its boundary.
    outside = (to_mask[reference & ~mask], to_reference[mask & ~reference])
    return _Distances(surface, outside, sizes)


def _boundary(mask):
    padded = np.pad(mask, 1)
    core = tuple(slice(1, -1) for _ in mask.shape)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for window in (slice(None, -2), slice(2, None)):
            inside &= padded[core[:axis] + (window,) + core[axis + 1 :]]
    return mask & ~inside


def _union_box(reference, mask):
    union = reference | mask
    box = []
    for axis in range(union.ndim):
        line = np.flatnonzero(union.any(tuple(a for a in range(union.ndim) if a != axis)))
        box.append(slice(line[0], line[-1] + 1) if len(line) else slice(0, 1))
    return reference[tuple(box)], mask[tuple(box)]


def _checked(reference, mask, spacing_mm):
    reference, mask = (_boolean(np.asarray(m)) for m in (reference, mask))
    if reference.shape != mask.shape or reference.ndim not in (2, 3):
        raise ValueError(f"masks have shapes {reference.shape} and {mask.shape}; give two of one 2D or 3D shape")
    spacing = None if spacing_mm is None else tuple(float(s) for s in spacing_mm)
    if spacing is not None and (len(spacing) != reference.ndim or not min(spacing) > 0):
        raise ValueError(f"spacing {spacing} mm does not fit a {reference.ndim}D mask; give one length for each axis")
    return reference, mask, spacing


def _boolean(mask):
    if mask.dtype == bool:
        return mask
    found = mask != 0
    if not np.array_equal(mask, found):
        raise ValueError("masks must hold 0 and 1 only; threshold fractions first")
    return found


def _ratio(part, whole):
    return part / whole if whole else float("nan")


def _mean(values):
    return sum(values) / len(values)


def _choose(name, known):
    if name not in known:
        raise ValueError(f"{name!r}: choose one of {', '.join(known)}")
    return known[name]
