"""Intensity drift over the brain: corrected by N4, and how to tell that it was corrected before."""

import numpy as np

from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.image.grid import resample

# Limit of `drift`: six corrected images (two patients, FLAIR, T1, T2) had 0.03 to 0.09, four raw FLAIR 0.13 to 0.21 and
# 0.02 once corrected.
CORRECTED = 0.11


def n4(
    data: np.ndarray,
    mask: np.ndarray,
    affine: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Correct smooth intensity drift with N4 (Tustison et al., IEEE TMI 2010), in SimpleITK.

    The field is found on a coarse isotropic grid, where it is as well determined as on the full one, and applied to
    the full image.

    Parameters
    ----------
    data : (X, Y, Z) float array
    mask : (X, Y, Z) bool
        Where the field is found: brain, roughly. Elsewhere it is continued.
    affine : (4, 4) array
        Canonical, mm.

    Returns
    -------
    corrected : (X, Y, Z) float32
        ``data / field``.
    field : (X, Y, Z) float32
        Its geometric mean in the mask is 1: the brain's intensity stays where it was.
    """
    import SimpleITK as sitk

    grid = grid_around(mask, affine, spacing_mm=6.0, margin_mm=12.0)
    coarse, inside = to_grid(data, affine, grid), to_grid(mask, affine, grid, order=0)
    # The logarithm has no use for what is zero or below.
    inside &= coarse > 0.01 * np.median(coarse[inside]) if inside.any() else False
    if inside.sum() < 100:
        raise ValueError("the mask holds too little to find a bias field")
    image, area = (
        sitk.GetImageFromArray(np.ascontiguousarray(a.T)) for a in (np.maximum(coarse, 1e-6), inside.astype(np.uint8))
    )
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    # At most, per level; each level halves the distance of the spline's control points.
    corrector.SetMaximumNumberOfIterations([50, 40, 30, 20])
    corrector.SetNumberOfControlPoints([4, 4, 4])
    corrector.Execute(image, area)
    log = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image)).T
    log = log - log[inside].mean()
    matrix = np.linalg.inv(grid.affine) @ affine
    field = np.exp(resample(log.astype(np.float32), matrix, data.shape, order=1, outside="nearest"))
    return np.asarray(data, np.float32) / field, field


def looks_corrected(data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> bool:
    """Whether the drift over the brain is so small that it was corrected before (see `drift`)."""
    return drift(data, mask, affine) < CORRECTED


def drift(data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> float:
    """Spread of the smooth intensity drift over the brain.

    Parameters
    ----------
    data : (X, Y, Z) float array
    mask : (X, Y, Z) bool
    affine : (4, 4) array
        Canonical, mm.

    Returns
    -------
    float
        95th minus 5th percentile of the logarithm of the smoothed intensity (Gaussian, 20 mm SD, of the voxels within
        40 % of the brain's median: neither fluid nor lesion counts).
    """
    from scipy import ndimage

    grid = grid_around(mask, affine, spacing_mm=4.0, margin_mm=0.0)
    coarse, inside = to_grid(data, affine, grid), to_grid(mask, affine, grid, order=0)
    if not inside.any():
        raise ValueError("the mask is empty")
    ratio = coarse / np.median(coarse[inside])
    tissue = inside & (ratio > 0.6) & (ratio < 1.4)
    weight = ndimage.gaussian_filter(tissue.astype(np.float32), 5)
    smooth = ndimage.gaussian_filter(np.where(tissue, np.log(np.maximum(ratio, 1e-3)), 0).astype(np.float32), 5)
    values = smooth[tissue] / weight[tissue]
    return float(np.subtract(*np.percentile(values, (95, 5))))
