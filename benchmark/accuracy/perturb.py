"""Real scans changed in known ways, together with their reference masks.

Images and masks are arrays (x, y, z) of the canonical grid. Where a change needs interpolation, its
baseline is interpolated alike, so that what interpolation costs is not laid at the tool's door.
"""

from dataclasses import dataclass, replace

import nibabel as nib
import numpy as np


@dataclass(frozen=True, eq=False)
class Case:
    """A scan with its references, both boolean (x, y, z)."""

    data: np.ndarray
    affine: np.ndarray
    sc: np.ndarray
    gm: np.ndarray

    @classmethod
    def load(cls, scan):
        """The development scan in canonical order, as float32."""
        image = nib.as_closest_canonical(nib.load(scan.image))
        masks = [nib.as_closest_canonical(nib.load(path)).get_fdata() > 0.5 for path in (scan.sc, scan.gm)]
        return cls(image.get_fdata(dtype=np.float32), image.affine, *masks)

    @property
    def spacing_mm(self):
        return np.linalg.norm(self.affine[:3, :3], axis=0)

    @property
    def image(self):
        return nib.Nifti1Image(self.data.astype(np.float32), self.affine)

    def map(self, image, mask=None):
        """A copy with the image and the masks (default: alike) passed through functions of an array."""
        mask = mask or image
        return replace(self, data=image(self.data), sc=mask(self.sc), gm=mask(self.gm))

    def centre(self):
        """Middle of the cord in the slices' plane, voxels."""
        return np.argwhere(self.sc)[:, :2].mean(0)


# --- geometry -----------------------------------------------------------------------


def turned_voxels(case, degrees, field_mm=44.0):
    """The anatomy turned about the cord within the slices, on pixels of half the size around it.

    The image is interpolated by cubic splines, the masks linearly and cut at half; finer
    pixels keep thin horns whole. With 0 degrees this is the baseline of interpolation.
    """
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    spacing = case.spacing_mm[:2]
    shape = np.round(2 * field_mm / spacing).astype(int)
    matrix = np.diag(1 / spacing) @ np.array([[c, -s], [s, c]]) @ np.diag(spacing / 2)
    middle = (shape - 1) / 2
    moved = _interpolated(case, matrix, case.centre() - matrix @ middle, shape)
    affine = case.affine @ np.diag([0.5, 0.5, 1, 1])
    affine[:3, 3] += case.affine[:3, :2] @ (case.centre() - middle / 2)
    return replace(moved, affine=affine)


def turned_affine(case, degrees):
    """The same voxels in a scanner frame turned about the slice normal: nothing is interpolated."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    axes = case.affine[:3, :3] / case.spacing_mm
    turn = np.eye(4)
    # In the frame of the slices, whatever their own obliqueness.
    turn[:3, :3] = axes @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.linalg.inv(axes)
    return replace(case, affine=turn @ case.affine)


def off_centre(case, x_mm, y_mm, field_mm=40.0):
    """A square field of view with the cord so far from its middle; zeros beyond the image."""
    spacing = case.spacing_mm[:2]
    half = np.round(field_mm / 2 / spacing).astype(int)
    start = np.round(case.centre() - np.array([x_mm, y_mm]) / spacing).astype(int) - half
    pad = int(2 * half.max() + np.abs(start).max())

    def cut(array):
        padded = np.pad(array, [(pad, pad), (pad, pad), (0, 0)])
        return padded[tuple(slice(s + pad, s + pad + 2 * h) for s, h in zip(start, half))]

    moved = case.map(cut)
    affine = case.affine.copy()
    affine[:3, 3] += affine[:3, :2] @ start
    return replace(moved, affine=affine)


def tilted(case, degrees):
    """Slices that cut the cord obliquely, as far as a stack can show it without new slices.

    The cord is longer antero-posteriorly by 1 / cos, drifts by tan from slice to slice, and
    is blurred by what the slice's thickness covers of it. Only the blur interpolates.
    """
    slope = np.tan(np.radians(degrees))
    step = case.spacing_mm[2]
    shifts = np.round(
        (np.arange(case.data.shape[2]) - (case.data.shape[2] - 1) / 2) * step * slope / case.spacing_mm[1]
    )
    pad = int(np.abs(shifts).max())

    def drift(array):
        padded = np.pad(array, [(0, 0), (pad, pad), (0, 0)])
        return np.stack([np.roll(padded[..., k], int(shift), 1) for k, shift in enumerate(shifts)], -1)

    width = step * abs(slope) / case.spacing_mm[1]
    moved = case.map(lambda image: drift(_box_blur(image, width, 1)), drift)
    affine = case.affine @ np.diag([1, 1 / np.cos(np.radians(degrees)), 1, 1])
    return replace(moved, affine=affine)


def resampled(case, to_mm):
    """Another pixel size: averaged over larger pixels, or interpolated (cubic) to smaller ones."""
    shape = np.round(np.array(case.data.shape[:2]) * case.spacing_mm[:2] / to_mm).astype(int)
    ratio = to_mm / case.spacing_mm[:2]
    if ratio.max() > 1:

        def mean(array):
            return _averaged(_averaged(array, 0, ratio[0], shape[0]), 1, ratio[1], shape[1])

        moved = case.map(mean, lambda mask: mean(mask) >= 0.5)
    else:
        moved = _interpolated(case, np.diag(ratio), (ratio - 1) / 2, shape)
    affine = case.affine @ np.diag([*ratio, 1, 1])
    affine[:3, 3] = case.affine[:3, 3] + case.affine[:3, :2] @ ((ratio - 1) / 2)
    return replace(moved, affine=affine)


def _interpolated(case, matrix, offset, shape):
    """Pixel i of the result lies at ``matrix @ i + offset``; image by cubic splines, masks linearly, cut at half."""
    from scipy.ndimage import affine_transform

    def planes(array, order):
        array = array.astype(np.float32)
        found = [
            affine_transform(array[..., k], matrix, offset, tuple(shape), order=order, mode="nearest")
            for k in range(array.shape[2])
        ]
        return np.stack(found, -1)

    return case.map(lambda image: planes(image, 3), lambda mask: planes(mask, 1) >= 0.5)


def _averaged(array, axis, ratio, count):
    """Means over `count` stretches of `ratio` voxels, exactly, by way of the running sum."""
    moved = np.moveaxis(array, axis, -1)
    total = np.concatenate([np.zeros((*moved.shape[:-1], 1)), np.cumsum(moved, -1, dtype=float)], -1)
    edges = np.minimum(np.arange(count + 1) * ratio, moved.shape[-1])
    low = np.minimum(edges.astype(int), moved.shape[-1] - 1)
    at = total[..., low] + (edges - low) * (total[..., low + 1] - total[..., low])
    return np.moveaxis(np.diff(at, axis=-1) / np.diff(edges), -1, axis).astype(np.float32)


def _box_blur(array, width, axis):
    """Moving mean over a fractional number of voxels."""
    from scipy.ndimage import correlate1d

    whole = int(max(width - 1, 0) // 2)
    rest = max(width - 1 - 2 * whole, 0) / 2
    weights = np.array([rest, *[1.0] * (2 * whole + 1), rest])
    return correlate1d(array, weights / weights.sum(), axis=axis, mode="nearest")


# --- intensity ----------------------------------------------------------------------


def noisy(case, snr, seed=0):
    """Rician noise added; `snr` is the mean of the cord over the noise's SD."""
    rng = np.random.default_rng(seed)
    sigma = float(case.data[case.sc].mean()) / snr
    real, imaginary = rng.normal(0, sigma, (2, *case.data.shape))
    return replace(case, data=np.hypot(case.data + real, imaginary).astype(np.float32))


def dimmed_csf(case, share, reach_mm=8.0):
    """What is brighter than the cord around it keeps only a share of its contrast with the cord.

    The cord's outermost pixels, which hold some CSF, go along; the inner ones stay.
    """
    from scipy.ndimage import distance_transform_edt

    out = case.data.copy()
    for k in np.flatnonzero(case.sc.any((0, 1))):
        cord = case.sc[..., k]
        # White matter: GM is brighter than it, and what is as bright as GM at the edge is CSF.
        level = np.median(case.data[..., k][cord & ~case.gm[..., k]])
        inner = distance_transform_edt(cord) > 1
        near = distance_transform_edt(~cord, sampling=case.spacing_mm[:2]) <= reach_mm
        bright = near & ~inner & ~case.gm[..., k] & (case.data[..., k] > level)
        plane = out[..., k]
        plane[bright] = level + share * (plane[bright] - level)
    return replace(case, data=out)


def scaled(case, factor=1.0, offset=0.0):
    """Intensities times a factor, plus an offset."""
    return replace(case, data=case.data * np.float32(factor) + np.float32(offset))
