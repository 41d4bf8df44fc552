"""Where a brain lies in MNI space: one affine, which serves the mask, the tissue maps and the location classes."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from nibabel.affines import apply_affine

from sctseg7t.brain.atlas import map_in_mni
from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid, bounding_box, corners, resample

# The middle of the template's brain, about which it turns (MNI, mm), and the height of its top.
_CENTRE = np.array([0.0, -18.0, 8.0])
_TOP_MM = 78.0
# Brains are smaller than the template's on the average.
_SCALE = 0.92
# How far outside the brain the template says what is there: dark CSF, skull.
_RIM_MM = 8.0
_BINS = 16


@dataclass(frozen=True, eq=False)
class Template:
    """The MNI152 template laid on a scan.

    Attributes
    ----------
    scan_to_mni : (4, 4) float64
        Scan world RAS to MNI RAS, mm.
    similarity : float
        Mutual information (nats) of scan and template over the brain and its rim, after registration. 0 where they
        have nothing in common; see `MIN_SIMILARITY`.
    doubtful : bool
        It and the brain mask disagree: places that follow from it are flagged.
    """

    scan_to_mni: np.ndarray
    similarity: float
    doubtful: bool = False


def template_to_scan(data: np.ndarray, affine: np.ndarray, mask: np.ndarray | None = None) -> Template:
    """Register the MNI152 template to a scan: affine, by mutual information.

    A coarse search over positions and turns of 20 degrees, then gradient descent at 8 mm and, drift divided out, at 4
    and 3 mm (Mattes et al., IEEE TMI 2003, in SimpleITK). The template is drawn in grays (WM, GM, CSF) with a dark rim,
    so that T1, T2 and FLAIR, with and without skull, all share information with it. One thread, every voxel of the
    coarse grids: the same scan gives the same bits.

    Parameters
    ----------
    data : (X, Y, Z) float array
    affine : (4, 4) array
        Canonical, mm.
    mask : (X, Y, Z) bool, optional
        Brain. Everything else is taken as dark.

    Returns
    -------
    Template

    Raises
    ------
    InputError
        Too few slices or too small a view to hold a brain.
    """
    import SimpleITK as sitk

    check_extent(data.shape, affine)
    data = _clipped(data, mask)
    starts = _search(data, affine, None if mask is None else _middle(mask, affine))
    coarse = _fixed(8.0), _moving(data, affine, 8.0, 64.0)
    results = [_descend(sitk, *coarse, start, 4.0, 60) for start in starts]
    mni_to_scan, _ = max(results, key=lambda result: result[1])
    for spacing_mm in (4.0, 3.0):
        # Zeros around what was seen would pull on a brain that the view cuts: none here.
        image, grid = _moving(data, affine, spacing_mm, 0.0)
        flat = _flattened(image, grid, mni_to_scan)
        mni_to_scan, similarity = _descend(sitk, _fixed(spacing_mm), (flat, grid), mni_to_scan, 1.0, 80)
    return Template(np.linalg.inv(mni_to_scan), similarity)


def template_map(template: Template, name: str, affine: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """A map of the template on any grid of the scan.

    Parameters
    ----------
    template : Template
    name : str
        One of `atlas.MAPS`.
    affine, shape
        Of the grid, in the scan's world; mm.

    Returns
    -------
    (X, Y, Z) float32
        0 to 1, linear between voxels, 0 beyond the template.
    """
    values, mni_affine = map_in_mni(name)
    matrix = np.linalg.inv(mni_affine) @ template.scan_to_mni @ affine
    out = np.zeros(shape, np.float32)
    # Only where the map reaches: most of a head's scan shows no brain.
    ends = apply_affine(np.linalg.inv(matrix), corners(_ends(name)))
    low = np.clip(np.floor(ends.min(axis=0)).astype(int), 0, shape)
    high = np.clip(np.ceil(ends.max(axis=0)).astype(int) + 1, 0, shape)
    if (low < high).all():
        matrix[:3, 3] = apply_affine(matrix, low)
        # Bytes are sampled as they are: a float copy of the map would cost more than the sampling.
        found = resample(values, matrix, high - low, order=1)
        out[tuple(slice(a, b) for a, b in zip(low, high))] = found / np.float32(255)
    return out


@cache
def _ends(name):
    """By axis the voxels between which a map of the template is not zero, and one more: linear ones fall off to it."""
    box = bounding_box(map_in_mni(name)[0]) or ()
    return [(part.start - 1, part.stop) for part in box]


def agreement(template: Template, mask: np.ndarray, affine: np.ndarray) -> float:
    """Dice of the template's brain, laid on a scan, with the scan's brain mask."""
    laid = template_map(template, "brain", affine, mask.shape) >= 0.5
    return float(2 * (laid & mask).sum() / max(laid.sum() + mask.sum(), 1))


def tissue_contrast(template: Template, data: np.ndarray, mask: np.ndarray, affine: np.ndarray) -> float:
    """How strongly GM, WM and CSF differ where the template says that they lie: SD of the fit over the mean.

    Intensities are fitted by the template's tissue maps, linearly, at 4 mm. The outline of a head does not count: a
    skull that is filled evenly has 0, whatever its noise. Voxels at the mask's border are left out.
    """
    from scipy import ndimage

    grid = grid_around(mask, affine, spacing_mm=4.0, margin_mm=0.0)
    inside = ndimage.binary_erosion(to_grid(mask.astype(np.float32), affine, grid) > 0.9, iterations=2)
    values = to_grid(data, affine, grid)[inside].astype(np.float64)
    if values.size < 100 or not values.mean() > 0:
        return 0.0
    values = np.clip(values, *np.percentile(values, (1, 99)))
    maps = [template_map(template, name, grid.affine, grid.shape)[inside] for name in ("wm", "gm", "csf")]
    parts = np.stack([*maps, np.ones(len(values))], 1)
    return float((parts @ np.linalg.lstsq(parts, values, rcond=None)[0]).std() / values.mean())


def neutral_map(name: str, inside: np.ndarray) -> np.ndarray:
    """What stands for a map of the template where that cannot be laid on a scan: its mean over the brain.

    Parameters
    ----------
    name : str
        One of `atlas.MAPS`.
    inside : (X, Y, Z) bool
        The brain.

    Returns
    -------
    (X, Y, Z) float32
        0 outside the brain.
    """
    values, _ = map_in_mni(name)
    return np.where(inside, values[map_in_mni("brain")[0] > 127].mean() / 255, 0).astype(np.float32)


def check_extent(shape: Sequence[int], affine: np.ndarray, name: str = "image") -> None:
    """Refuse an image that cannot hold a brain: one slice, or less than 60 mm along an axis (InputError)."""
    extent = np.linalg.norm(np.asarray(affine)[:3, :3], axis=0) * shape[:3]
    text = " x ".join(f"{mm:.0f}" for mm in extent)
    if min(shape[:3]) < 8:
        raise InputError(f"{name}: has {min(shape[:3])} slice(s) of {text} mm in all; give a scan of the whole brain")
    if min(extent) < 60:
        raise InputError(f"{name}: sees only {text} mm, no brain fits in it; give a scan of the whole brain")


def _clipped(data, mask):
    data = np.asarray(data, dtype=np.float32)
    if mask is not None:
        data = np.where(mask, data, 0)
    # Fat and vessels would take all the histogram's bins.
    positive = data[::2, ::2, ::2][data[::2, ::2, ::2] > 0]
    return np.clip(data, 0, np.percentile(positive, 99.5)) if positive.size else data


@cache
def _fixed(spacing_mm):
    """The template drawn in five grays, where it counts, and its grid."""
    from scipy import ndimage

    wm, affine = map_in_mni("wm")
    grid_affine = np.diag([spacing_mm] * 3 + [1.0])
    grid_affine[:3, 3] = affine[:3, 3] - 16
    x, y, z = np.ceil((np.array(wm.shape) + 32) / spacing_mm).astype(int).tolist()
    grid = Grid((x, y, z), grid_affine)
    wm, gm, brain = (to_grid(map_in_mni(name)[0], affine, grid) / 255 for name in ("wm", "gm", "brain"))
    outside_mm = ndimage.distance_transform_edt(brain < 0.5) * spacing_mm
    rim = np.interp(outside_mm, [0, 2, 4, 8], [0.5, 0.35, 0.2, 0.15])
    drawn = np.where(brain >= 0.5, wm + 1.2 * gm + 0.45 * np.clip(1 - wm - gm, 0, 1), rim)
    return drawn.astype(np.float32), outside_mm <= _RIM_MM, grid


def _moving(data, affine, spacing_mm, margin_mm):
    whole = np.broadcast_to(np.True_, data.shape)
    grid = grid_around(whole, affine, spacing_mm=spacing_mm, margin_mm=margin_mm)
    return to_grid(data, affine, grid), grid


def _flattened(image, grid, mni_to_scan):
    """The image over the brightness of the brain around each voxel: drift, as strong as at 7 T, moves the optimum."""
    from scipy import ndimage

    inside = template_map(Template(np.linalg.inv(mni_to_scan), 0.0), "brain", grid.affine, grid.shape) > 0.9
    if not inside.any() or not image[inside].any():
        return image
    inside &= image > 0.4 * np.median(image[inside])
    sigma = 20.0 / grid.spacing_mm[0]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(inside, image, 0), sigma)
    floor = np.float32(1e-3)
    smooth = (total + floor * np.median(image[inside])) / (weight + floor)
    return np.minimum(image / smooth, 2).astype(np.float32)


def _search(data, affine, start=None):
    """The best few of many placements about a first guess of the middle, each as MNI-to-scan (4, 4)."""
    drawn, counts, fixed_grid = _fixed(8.0)
    moving, grid = _moving(data, affine, 8.0, 64.0)
    points = np.argwhere(counts) @ fixed_grid.affine[:3, :3] + fixed_grid.affine[:3, 3]
    classes = _binned(drawn[counts])
    values = _binned(moving)
    flat = values.ravel()
    to_voxel = np.linalg.inv(grid.affine)
    start = _head_centre(moving, grid) if start is None else start
    found = []
    shifts = list(itertools.product((-12, 0, 12), (-20, 0, 20), (-45, -30, -15, 0, 15, 30)))
    for angles in itertools.product((-20, 0, 20), repeat=3):
        turned = _SCALE * _rotation(angles)
        base = (to_voxel[:3, :3] @ turned @ (points - _CENTRE).T + to_voxel[:3, 3:]).astype(np.float32)
        for shift in shifts:
            # Voxel of each point, as its place in the flat array.
            place = np.zeros(len(points), np.int32)
            for line, moved, count in zip(base, to_voxel[:3, :3] @ (start + shift), values.shape):
                at = np.rint(line + np.float32(moved)).clip(0, count - 1)
                place = place * np.int32(count) + at.astype(np.int32)
            found.append((_mutual_information(classes, flat[place]), angles, shift))
    found.sort(key=lambda entry: -entry[0])
    return [_placement(_SCALE * _rotation(angles), start + shift) for _, angles, shift in found[:5]]


def _middle(mask, affine):
    """Centre of mass of a mask in the world, mm."""
    at = np.array([index.mean() for index in np.nonzero(mask)]) if mask.any() else np.array(mask.shape) / 2
    return affine[:3, :3] @ at + affine[:3, 3]


def _head_centre(moving, grid):
    """Where the template's centre would lie, were the highest bright voxels the scalp."""
    from scipy import ndimage

    bright = ndimage.binary_opening(moving > otsu(moving))
    points = np.argwhere(bright if bright.any() else moving > 0) @ grid.affine[:3, :3] + grid.affine[:3, 3]
    top = np.percentile(points[:, 2], 99.5)
    # What lies lower may be neck, which has another middle.
    head = points[points[:, 2] > top - 120]
    middle = (np.percentile(head, 2, axis=0) + np.percentile(head, 98, axis=0)) / 2
    return np.array([middle[0], middle[1], top - _SCALE * (_TOP_MM - _CENTRE[2])])


def otsu(values: np.ndarray) -> float:
    """Threshold that parts a histogram in two classes (Otsu, IEEE SMC 1979)."""
    counts, edges = np.histogram(values, 256)
    centres, weight = (edges[1:] + edges[:-1]) / 2, np.cumsum(counts) / counts.sum()
    mean = np.cumsum(counts * centres) / counts.sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = (mean[-1] * weight - mean) ** 2 / (weight * (1 - weight))
    return float(centres[np.argmax(np.nan_to_num(between, nan=-1.0, posinf=-1.0))])


def _binned(values):
    return np.minimum(values * (_BINS / (values.max() or 1)), _BINS - 1).astype(np.intp)


def _mutual_information(a, b):
    joint = np.bincount(a * _BINS + b, minlength=_BINS * _BINS).reshape(_BINS, _BINS) / len(a)
    product = joint.sum(1, keepdims=True) * joint.sum(0, keepdims=True)
    seen = joint > 0
    return float((joint[seen] * np.log(joint[seen] / product[seen])).sum())


def _rotation(angles_deg):
    (ca, cb, cc), (sa, sb, sc) = np.cos(np.deg2rad(angles_deg)), np.sin(np.deg2rad(angles_deg))
    about_x = np.array([[1, 0, 0], [0, ca, -sa], [0, sa, ca]])
    about_y = np.array([[cb, 0, sb], [0, 1, 0], [-sb, 0, cb]])
    about_z = np.array([[cc, -sc, 0], [sc, cc, 0], [0, 0, 1]])
    return about_z @ about_y @ about_x


def _placement(linear, centre):
    out = np.eye(4)
    out[:3, :3], out[:3, 3] = linear, centre - linear @ _CENTRE
    return out


def _descend(sitk, fixed, moving, start, step_mm, iterations):
    """Improve an MNI-to-scan affine; returns it and the mutual information reached."""
    (drawn, counts, fixed_grid), (image, grid) = fixed, moving
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    # The metric takes its number of threads from here, and sums in another order with each number.
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    transform = sitk.AffineTransform(3)
    transform.SetCenter(_CENTRE.tolist())
    transform.SetMatrix(start[:3, :3].ravel().tolist())
    transform.SetTranslation((start[:3, :3] @ _CENTRE + start[:3, 3] - _CENTRE).tolist())
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(32)
    method.SetMetricSamplingStrategy(method.NONE)
    method.SetMetricFixedMask(_itk(sitk, counts.astype(np.uint8), fixed_grid))
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(step_mm, 0.02, iterations, 0.6)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_itk(sitk, drawn, fixed_grid), _itk(sitk, image, grid))
    except RuntimeError:
        # All samples fell outside the scan.
        return start, 0.0
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return _placement(
        np.array(transform.GetMatrix()).reshape(3, 3), _CENTRE + np.array(transform.GetTranslation())
    ), -method.GetMetricValue()


def _itk(sitk, array, grid):
    """An ITK image whose world is ours (RAS, where ITK's own convention would be LPS)."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.T))
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.affine[:3, 3].tolist())
    return image
