"""Two scans of one head aligned rigidly, halfway between them: neither is resampled more than the other."""

from dataclasses import dataclass

import numpy as np

from sctseg7t.brain.isotropic_grid import grid_around, to_grid

# Steps of the registration: spacing of the grid, first step of the descent; mm.
_LEVELS = ((4.0, 2.0), (2.0, 0.5))
_BINS = 32
# How far around the brain the images are compared.
_RIM_MM = 4.0


@dataclass(frozen=True, eq=False)
class Halfway:
    """Where two scans meet.

    Attributes
    ----------
    from_first, from_second : (4, 4) float64
        World RAS of each scan to the halfway world, mm; rigid.
    disagreement_mm : float
        How far apart the two ways of registering (first to second, second to first) put the brain's points at most: 0
        is perfect.
    turn_deg, shift_mm : float
        How much the head has moved between the scans, of the brain's centre.
    """

    from_first: np.ndarray
    from_second: np.ndarray
    disagreement_mm: float
    turn_deg: float
    shift_mm: float


def halfway(
    first: tuple[np.ndarray, np.ndarray, np.ndarray], second: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> Halfway:
    """Register two scans of one person, and part the way between them in two.

    Rigid, by mutual information (Mattes et al., IEEE TMI 2003, in SimpleITK) over the brain, from its centres on; once
    in either direction, and their mean is taken, so that the order of the scans does not matter. Half of a rigid
    transform is its matrix' square root (Reuter et al., NeuroImage 2010). One thread, every voxel of the coarse grids:
    the same scans give the same bits.

    Parameters
    ----------
    first, second : (data, affine, mask)
        (X, Y, Z) float array; (4, 4) voxel to world RAS, mm; (X, Y, Z) bool, brain.

    Returns
    -------
    Halfway
    """
    there, back = _register(first, second), np.linalg.inv(_register(second, first))
    between = back @ np.linalg.inv(there)
    rigid = _power(between, 0.5) @ there
    centre = _centre(*first[1:])
    points = _shell(*first[1:])
    apart = np.linalg.norm(_move(between, _move(there, points)) - _move(there, points), axis=1)
    half = _power(rigid, 0.5)
    return Halfway(
        half,
        np.linalg.inv(rigid @ np.linalg.inv(half)),
        float(apart.max()),
        float(np.rad2deg(_angle(rigid))),
        float(np.linalg.norm(_move(rigid, centre) - centre)),
    )


def itk_transform(matrix: np.ndarray) -> str:
    """A rigid matrix (RAS to RAS, mm) as the text of an ITK transform file, which ANTs, Slicer and ITK-SNAP read.

    ITK's transforms take points of the space that is resampled onto, in LPS, to the image.
    """
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps = flip @ matrix @ flip
    values = " ".join(f"{value:.12g}" for value in (*lps[:3, :3].ravel(), *lps[:3, 3]))
    return (
        "#Insight Transform File V1.0\n#Transform 0\nTransform: AffineTransform_double_3_3\n"
        f"Parameters: {values}\nFixedParameters: 0 0 0\n"
    )


def _register(fixed, moving):
    """The rigid matrix that takes the fixed scan's world to the moving one's."""
    import SimpleITK as sitk

    start = np.eye(4)
    start[:3, 3] = _centre(*moving[1:]) - _centre(*fixed[1:])
    for spacing_mm, step_mm in _LEVELS:
        start = _descend(sitk, fixed, moving, start, spacing_mm, step_mm)
    return start


def _descend(sitk, fixed, moving, start, spacing_mm, step_mm):
    images = [_coarse(sitk, data, affine, mask, spacing_mm) for data, affine, mask in (fixed, moving)]
    centre = _centre(*fixed[1:])
    transform = sitk.VersorRigid3DTransform()
    transform.SetCenter(centre.tolist())
    # Products of rounded matrices are not orthogonal enough for ITK.
    u, _, v = np.linalg.svd(start[:3, :3])
    transform.SetMatrix((u @ v).ravel().tolist())
    transform.SetTranslation((start[:3, :3] @ centre + start[:3, 3] - centre).tolist())
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(images[0][1])
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.005, 100, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(images[0][0], images[1][0])
    except RuntimeError:
        # All samples fell outside: the start was as good as it gets, and the overlap will tell.
        return start
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    out = np.eye(4)
    out[:3, :3] = np.array(transform.GetMatrix()).reshape(3, 3)
    out[:3, 3] = centre + np.array(transform.GetTranslation()) - out[:3, :3] @ centre
    return out


def _coarse(sitk, data, affine, mask, spacing_mm):
    """A scan on a coarse grid along the world, cut at 3 medians, and where it counts, as ITK images in RAS."""
    from scipy import ndimage

    grid = grid_around(mask, affine, spacing_mm=spacing_mm, margin_mm=12.0)
    inside = to_grid(mask.astype(np.float32), affine, grid) > 0.5
    image = np.clip(to_grid(data, affine, grid) / max(float(np.median(data[mask])), 1e-6), 0, 3)
    near = ndimage.distance_transform_edt(~inside) * spacing_mm <= _RIM_MM
    # What lies beyond the brain moves on its own, or was taken away in one of the two.
    image = np.where(near, image, 0)
    made = []
    for array in (image.astype(np.float32), inside.astype(np.uint8)):
        one = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
        one.SetSpacing(grid.spacing_mm)
        one.SetOrigin(grid.affine[:3, 3].tolist())
        made.append(one)
    return made


def _power(rigid, part):
    """A part of a rigid motion: turned by part of the angle about the same axis, moved along the same screw."""
    from scipy.linalg import expm, logm

    return np.real(expm(part * np.real(logm(rigid))))


def _angle(rigid):
    return np.arccos(np.clip((np.trace(rigid[:3, :3]) - 1) / 2, -1, 1))


def _centre(affine, mask):
    at = np.array([index.mean() for index in np.nonzero(mask)])
    return affine[:3, :3] @ at + affine[:3, 3]


def _shell(affine, mask):
    """Points of the brain's box, mm: where a turn shows most."""
    held = np.argwhere(mask)
    low, high = held.min(0), held.max(0)
    ends = np.array(np.meshgrid(*zip(low, high), indexing="ij")).reshape(3, -1).T
    return ends @ affine[:3, :3].T + affine[:3, 3]


def _move(matrix, points):
    return points @ matrix[:3, :3].T + matrix[:3, 3]
