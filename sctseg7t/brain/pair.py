"""Two scans of one brain made comparable: one grid halfway between them, one sharpness, one scale of intensities."""

from dataclasses import dataclass, replace

import numpy as np

from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.brain.rigid import Halfway, halfway
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid, voxel_mm3

# Percentiles of the brain by which intensities are matched; lesions, the brightest, do not rule.
_PERCENTILES = np.linspace(2, 92, 19)
# SD of what counts as drift between two scans, mm; and of the noise that is smoothed away before both are compared.
_DRIFT_MM, _SMOOTH_MM = 15.0, 1.0
# Medians of the brain from which tissue is as bright as lesions; lesion voxels that tell half of a scanner's contrast.
_BRIGHT, _FEW_VOXELS = 1.1, 200
# Not compared: this much inside the brain's border, where masks differ.
_BORDER_MM = 1.0


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan made ready: the brain is known, drift is corrected.

    Attributes
    ----------
    data : (X, Y, Z) float32
    affine : (4, 4) float64
        Canonical, mm.
    mask : (X, Y, Z) bool
        Brain.
    name : str
    """

    data: np.ndarray
    affine: np.ndarray
    mask: np.ndarray
    name: str


@dataclass(frozen=True, eq=False)
class Pair:
    """Two scans on their halfway grid, comparable voxel by voxel.

    Attributes
    ----------
    grid : Grid
        Isotropic, in the halfway world.
    now, before : (X, Y, Z) float32
        Follow-up and baseline, resampled once each; 1 is the median of the follow-up's brain; 0 outside.
    brain : (X, Y, Z) bool
        In both scans.
    compared : (X, Y, Z) bool
        Where changes are looked for: the brain without its border.
    motion : Halfway
    overlap : float
        Share of the smaller brain that the other scan sees too.
    likeness : float
        Correlation of the two images over the brain, smoothed and matched: 1 for a scan with itself.
    noise : float
        Robust SD of the difference, in medians of the brain.
    """

    grid: Grid
    now: np.ndarray
    before: np.ndarray
    brain: np.ndarray
    compared: np.ndarray
    motion: Halfway
    overlap: float
    likeness: float
    noise: float

    @property
    def difference(self) -> np.ndarray:
        """Follow-up minus baseline, in medians of the brain; 0 outside it."""
        return np.where(self.brain, self.now - self.before, 0).astype(np.float32)


def pair_up(now: Scan, before: Scan, *, spacing_mm: float = 1.0) -> Pair:
    """Align two scans of one person and make them comparable.

    The sharper scan is blurred to the other's voxels, direction by direction; the baseline's intensities are mapped to
    the follow-up's by percentiles of the brain, and the drift that is left between them is divided out (SD 15 mm).

    Parameters
    ----------
    now, before : Scan
        Follow-up and baseline.
    spacing_mm : float

    Returns
    -------
    Pair

    Raises
    ------
    InputError
        The brains have nothing in common.
    """
    from scipy import ndimage

    motion = halfway((now.data, now.affine, now.mask), (before.data, before.affine, before.mask))
    scans = (now, before)
    affines = motion.from_first @ now.affine, motion.from_second @ before.affine
    grid = grid_around(now.mask, affines[0], spacing_mm=spacing_mm)
    masks = [to_grid(scan.mask.astype(np.float32), affine, grid) > 0.5 for scan, affine in zip(scans, affines)]
    brain = masks[0] & masks[1]
    least = min(float(scan.mask.sum() * voxel_mm3(scan.affine)) for scan in scans)
    overlap = float(brain.sum() * grid.voxel_mm3 / max(least, 1.0))
    if not brain.any():
        raise InputError(f"{now.name}: its brain and that of {before.name} do not overlap; check that both are whole")
    spread = [affine[:3, :3] @ affine[:3, :3].T / 12 for affine in affines]
    images = []
    for scan, affine, own, other in zip(scans, affines, spread, spread[::-1]):
        image = to_grid(scan.data / np.float32(np.median(scan.data[scan.mask])), affine, grid)
        images.append(_blurred(image, (other - own) / spacing_mm**2))
    first, (second, core) = images[0], matched(images[1], images[0], brain, spacing_mm=spacing_mm)
    compared = ndimage.distance_transform_edt(brain, sampling=spacing_mm) > _BORDER_MM
    first, second = (np.where(brain, image, 0).astype(np.float32) for image in (first, second))
    return Pair(grid, first, second, brain, compared, motion, overlap, *_likeness(first, second, core, spacing_mm))


def matched(
    image: np.ndarray, like: np.ndarray, brain: np.ndarray, *, spacing_mm: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """An image with another's scale of intensities and its drift, and the core of the brain that told both.

    Parameters
    ----------
    image, like : (X, Y, Z) float32
        Aligned.
    brain : (X, Y, Z) bool
        In both.
    spacing_mm : float
    """
    from scipy import ndimage

    core = ndimage.binary_erosion(brain, iterations=2)
    image = _matched(image, like, core if core.any() else brain)
    return image * _drift(like, image, core, spacing_mm), core


def match_lesions(pair: Pair, lesions: np.ndarray) -> Pair:
    """The pair with the baseline's bright end matched too: a scanner's contrast makes all lesions brighter or fainter.

    Percentiles of the brain say nothing of the few brightest voxels. What most lesions have in common is the scanner's;
    with few of them less is taken over.

    Parameters
    ----------
    pair : Pair
    lesions : (X, Y, Z) bool
        Lesions of both times.
    """
    both = lesions & (np.minimum(pair.now, pair.before) > _BRIGHT)
    count = int(both.sum())
    if not count:
        return pair
    own, other = (float(np.median(image[both])) - _BRIGHT for image in (pair.before, pair.now))
    trust = count / (count + _FEW_VOXELS)
    factor = float(np.clip(other / max(own, 1e-3), 0.5, 2.0)) ** trust
    before = np.where(pair.before > _BRIGHT, _BRIGHT + factor * (pair.before - _BRIGHT), pair.before)
    return replace(pair, before=before.astype(np.float32))


def _blurred(image, covariance):
    """The image after a Gaussian of a covariance (voxels squared), of whose directions those below 0 are left out."""
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, 0)
    if values.max() < 0.02:
        return image
    covariance = (vectors * values) @ vectors.T
    steps = [np.fft.fftfreq(n) for n in image.shape[:2]] + [np.fft.rfftfreq(image.shape[2])]
    at = np.meshgrid(*steps, indexing="ij", sparse=True)
    power = sum(covariance[i, j] * at[i] * at[j] for i in range(3) for j in range(3))
    return np.fft.irfftn(np.fft.rfftn(image) * np.exp(-2 * np.pi**2 * power), image.shape).astype(np.float32)


def _matched(image, like, inside):
    """Intensities mapped so that the percentiles of the brain agree; in proportion beyond the last ones."""
    from scipy import ndimage

    own, other = (np.percentile(ndimage.gaussian_filter(a, 1.0)[inside], _PERCENTILES) for a in (image, like))
    # Equal percentiles (a brain of few values) would make the map jump.
    own = np.maximum.accumulate(own + 1e-6 * np.arange(len(own)))
    out = np.interp(image, own, other)
    out = np.where(image > own[-1], image * (other[-1] / max(own[-1], 1e-6)), out)
    return np.where(image < own[0], image * (other[0] / max(own[0], 1e-6)), out).astype(np.float32)


def _drift(now, before, inside, spacing_mm):
    """The smooth factor between two images: of the logarithm of their ratio in tissue, at half the resolution."""
    from scipy import ndimage

    tissue = inside & (np.minimum(now, before) > 0.6) & (np.maximum(now, before) < 1.5)
    ratio = np.log(np.maximum(now, 0.1) / np.maximum(before, 0.1)).clip(-0.3, 0.3)
    sigma = _DRIFT_MM / spacing_mm / 2
    weight, total = (
        ndimage.gaussian_filter(a[::2, ::2, ::2].astype(np.float32), sigma) for a in (tissue, ratio * tissue)
    )
    smooth = np.exp(total / np.maximum(weight, 1e-3))
    return ndimage.affine_transform(smooth, (0.5, 0.5, 0.5), output_shape=now.shape, order=1, mode="nearest")


def _likeness(now, before, inside, spacing_mm):
    from scipy import ndimage

    first, second = (ndimage.gaussian_filter(a, _SMOOTH_MM / spacing_mm)[inside] for a in (now, before))
    change = (now - before)[inside]
    spread = first.std() * second.std()
    alike = float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0
    return alike, float(1.4826 * np.median(np.abs(change - np.median(change))))
