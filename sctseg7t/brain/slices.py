"""What a scan's slices hide: warnings where they are thick, or were thick before somebody resampled them."""

import numpy as np
from nibabel.affines import voxel_sizes

THICK_MM = 3.5
# Neighbours this far apart are compared, mm; along an axis they differ at least by this share of what they do along the
# axis between. Slices as they were acquired: 0.88 and more on seven scans of 1 to 4 mm; slices of 6 to 8 mm resampled
# to 0.7 or 1 mm: 0.47 to 0.60 on four scans (development scans, all).
_APART_MM, LEAST_SHARE = 2.0, 0.75


def thick_slices(affine: np.ndarray) -> tuple[str, ...]:
    """A warning where slices are so thick that they hide lesions."""
    thickest_mm = voxel_sizes(affine).max()
    warning = (
        f"thick_slices: slices are {thickest_mm:.1f} mm thick; lesions thinner than that may be missed or joined, and "
        "volumes are rough: off by a quarter on the average, by up to two thirds, on eight development scans of 1.5 T"
    )
    return (warning,) if thickest_mm > THICK_MM else ()


def resampled_slices(data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> tuple[str, ...]:
    """A warning where voxels are thin and the image is not: thick slices were resampled to thin ones.

    Parameters
    ----------
    data : (X, Y, Z) float array
    mask : (X, Y, Z) bool
        Brain.
    affine : (4, 4) array
        mm.
    """
    share = _sharpness_share(data, mask, voxel_sizes(affine))
    if share is None or share >= LEAST_SHARE:
        return ()
    return (
        "resampled_slices: voxels are small, but along one axis the image is blurred as if thick slices had been "
        f"resampled (neighbours differ by {share:.2f} of what they do along the others); loads may be several times "
        "too large: give the scan as it was acquired",
    )


def _sharpness_share(data, mask, sizes):
    """How much neighbours differ along the smoothest axis, as a share of the axis between; None of thick voxels."""
    if sizes.max() > _APART_MM or not mask.any():
        return None
    differences = []
    for axis, size in enumerate(sizes):
        step = max(1, round(_APART_MM / size))
        image, inside = np.moveaxis(data, axis, 0), np.moveaxis(mask, axis, 0)
        both = inside[step:] & inside[:-step]
        if not both.any():
            return None
        change = np.abs(image[step:][both] - image[:-step][both])
        # Lags are not quite alike: tissue changes with the root of the distance, about.
        differences.append(float(np.median(change)) / np.sqrt(step * size))
    least, between, _ = sorted(differences)
    return least / between if between > 0 else None
