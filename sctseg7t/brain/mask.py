"""The brain's mask: as it comes with a stripped scan, from a network, HD-BET, or the template and the dark edge."""

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.brain.register import Template, template_map
from sctseg7t.errors import InputError
from sctseg7t.image.grid import bounding_box, resample, voxel_mm3
from sctseg7t.image.masks import read_mask
from sctseg7t.text import one_line

# Mutual information of scan and template: brains with and without skull, FLAIR, T1 and T2, had 0.52 and more, scans of
# the cord 0.21 and less.
MIN_SIMILARITY = 0.35
VOLUME_ML = (600, 2200)
# A cut brain is smaller. Chosen, not measured: a third of a small brain.
LEAST_ML = 350
# Of a stripped image this much at least is what the network finds.
_STRIPPED_SHARE = 0.7
HOW = {
    "stripped": "already skull-stripped",
    "network": "network",
    "hd-bet": "HD-BET",
    "template": "MNI152 template and intensity",
}
_SPACING_MM = 1.5
# Nothing further outside the rough brain belongs to the mask: one that the template drew, and one of the network's.
REACH_MM, NETWORK_REACH_MM = 5.0, 3.0
# Of the local brightness of the brain's tissue.
_BRIGHT = 0.5
_OPEN_MM, _CLOSE_MM = 2.0, 8.0


def first_mask(
    data: np.ndarray,
    affine: np.ndarray,
    *,
    name: str = "image",
    method: str = "auto",
    finder: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
) -> tuple[np.ndarray | None, str]:
    """Find the brain without a template.

    Parameters
    ----------
    data : (X, Y, Z) float array
        T1-, T2-weighted or FLAIR.
    affine : (4, 4) array
        Canonical, mm.
    name : str
        For messages.
    method : {"auto", "stripped", "network", "hd-bet", "template"}
        ``auto``: what the scan shows already if it is stripped, else the network.
    finder : callable, optional
        The network: mask of an image and its affine, see :class:`sctseg7t.brain.find_brain.BrainFinder`.

    Returns
    -------
    mask : (X, Y, Z) bool or None
        Ventricles and the fluid in the sulci included. None: only the template can find it.
    how : str
        For people.

    Raises
    ------
    InputError
        No brain in view, or HD-BET failed.
    """
    if method == "network" and finder is None:
        raise InputError(f"{name}: no network is there that finds brains; give a brain mask")
    found = finder(data, affine) if finder and method in ("auto", "network") else None
    if method == "auto":
        if is_stripped(data, affine):
            # A head whose air is zero looks like a stripped brain, but most of it is none.
            alone = stripped_mask(data)
            if found is None or (alone & found).sum() >= _STRIPPED_SHARE * alone.sum():
                return alone, HOW["stripped"]
    if found is not None:
        check_volume(found, affine, name)
        return found, HOW["network"]
    if method == "stripped":
        return stripped_mask(data), HOW[method]
    if method == "hd-bet":
        return hd_bet(data, affine, name), HOW[method]
    return None, HOW["template"]


def template_mask(data: np.ndarray, affine: np.ndarray, template: Template, *, name: str = "image") -> np.ndarray:
    """The brain by the template and the dark edge, (X, Y, Z) bool (InputError where the template found no brain)."""
    check_similarity(template, name)
    return refine(data, affine, template_map(template, "brain", affine, data.shape) >= 0.5)


def check_similarity(template: Template, name: str = "image") -> None:
    """Refuse a scan on which the template found nothing like a brain (InputError)."""
    if template.similarity < MIN_SIMILARITY:
        raise InputError(
            f"{name}: no brain in view (agreement with the MNI template {template.similarity:.2f}, at least "
            f"{MIN_SIMILARITY:g} expected); give a scan of the whole brain, or its brain mask"
        )


def check_volume(mask: np.ndarray, affine: np.ndarray, name: str = "image") -> float:
    """Refuse a mask that has not the size of a brain, or of part of one (InputError); returns its volume in mL."""
    volume_ml = float(mask.sum() * voxel_mm3(affine) / 1000)
    if not LEAST_ML <= volume_ml <= VOLUME_ML[1]:
        raise InputError(
            f"{name}: no brain in view (its mask has {volume_ml:.0f} mL, {LEAST_ML} to {VOLUME_ML[1]} expected); "
            "give a scan of the whole brain, or its brain mask"
        )
    return volume_ml


def is_stripped(data: np.ndarray, affine: np.ndarray) -> bool:
    """Whether all but a brain-sized piece of the image is one constant value."""
    from scipy import ndimage

    background = data[0, 0, 0]
    rest = data != background
    volume_ml = rest.sum() * voxel_mm3(affine) / 1000
    # A head without its air is about three times a brain.
    if rest.mean() > 0.7 or not VOLUME_ML[0] <= volume_ml <= VOLUME_ML[1]:
        return False
    labels, _ = ndimage.label(rest[::2, ::2, ::2] if min(data.shape) > 60 else rest)
    sizes = np.bincount(labels.ravel())[1:]
    return bool(sizes.max() > 0.9 * sizes.sum())


def stripped_mask(data: np.ndarray) -> np.ndarray:
    """Mask of a stripped image: what is not background, its holes filled."""
    return filled(largest(data != data[0, 0, 0]))


def refine(data: np.ndarray, affine: np.ndarray, rough: np.ndarray, *, reach_mm: float = REACH_MM) -> np.ndarray:
    """Move a rough outline to the dark edge of the brain; better after bias correction.

    At 1.5 mm: bright voxels near the rough brain, parted from scalp and dura by an opening, the largest piece kept,
    its sulci closed; then back to the scan as a signed distance, which keeps the surface smooth.

    Parameters
    ----------
    data, affine
        As in `first_mask`.
    rough : (X, Y, Z) bool
        The brain, to within `reach_mm`.
    reach_mm : float

    Returns
    -------
    (X, Y, Z) bool
    """
    from scipy import ndimage

    grid = grid_around(rough, affine, spacing_mm=_SPACING_MM, margin_mm=reach_mm + _CLOSE_MM)
    image = to_grid(data, affine, grid)
    inside = to_grid(rough.astype(np.float32), affine, grid) >= 0.5
    depth = _signed_distance(inside)
    tissue = (image > _BRIGHT * _brightness(image, depth)) & (depth > -reach_mm) | (depth > 8)
    core = largest(ndimage.distance_transform_edt(tissue) * _SPACING_MM > _OPEN_MM)
    opened = tissue & (ndimage.distance_transform_edt(~core) * _SPACING_MM <= _OPEN_MM)
    closed = ndimage.distance_transform_edt(~(opened | (depth > reach_mm))) * _SPACING_MM <= _CLOSE_MM
    # Fluid that the scan's edge opens is still inside.
    mask = filled(ndimage.distance_transform_edt(closed) * _SPACING_MM > _CLOSE_MM)
    mask = largest(mask & (depth > -reach_mm))
    surface = ndimage.gaussian_filter(_signed_distance(mask), 0.7)
    out = np.zeros(data.shape, bool)
    # No voxel further from the rough brain than it may reach belongs to it.
    margin = int(np.ceil(2 * reach_mm / voxel_sizes(affine).min()))
    if (box := bounding_box(rough, margin)) is not None:
        matrix = np.linalg.inv(grid.affine) @ affine
        matrix[:3, 3] = apply_affine(matrix, [part.start for part in box])
        out[box] = resample(surface, matrix, out[box].shape, outside="nearest") > 0
    return out


def hd_bet(data: np.ndarray, affine: np.ndarray, name: str = "image") -> np.ndarray:
    """Run HD-BET (Isensee et al., Hum Brain Mapp 2019), where its command is installed.

    Parameters
    ----------
    data, affine, name
        As in `first_mask`.

    Returns
    -------
    (X, Y, Z) bool
    """
    with tempfile.TemporaryDirectory() as folder:
        scan, out = Path(folder) / "scan.nii.gz", Path(folder) / "brain.nii.gz"
        nib.save(nib.Nifti1Image(np.asarray(data, np.float32), affine), scan)
        command = ["hd-bet", "-i", scan, "-o", out, "-device", "cpu", "--disable_tta", "--save_bet_mask"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL)
        except OSError as err:
            raise InputError(f"{name}: HD-BET could not be started ({err}); give a brain mask") from err
        # Version 1 writes brain_mask.nii.gz, version 2 brain_bet.nii.gz.
        found = list(Path(folder).glob("brain_*.nii.gz"))
        if done.returncode or not found:
            said = one_line(done.stderr or done.stdout)[-200:]
            raise InputError(f"{name}: HD-BET failed ({said or 'it wrote no mask'}); give a brain mask")
        mask = read_mask(found[0]).volume > 0.5
    if mask.shape != data.shape:
        raise InputError(f"{name}: HD-BET's mask has another grid; give a brain mask")
    return mask


def _brightness(image, depth):
    """The brain tissue's own brightness around every voxel: drift and coil shading divided out (SD 15 mm)."""
    from scipy import ndimage

    median = np.median(image[depth > 4])
    tissue = (depth > 4) & (image > 0.7 * median) & (image < 1.4 * median)
    sigma = 15 / _SPACING_MM / 2
    weight = ndimage.gaussian_filter(tissue[::2, ::2, ::2].astype(np.float32), sigma)
    total = ndimage.gaussian_filter(np.where(tissue, image, 0)[::2, ::2, ::2].astype(np.float32), sigma)
    smooth = (total + 1e-3 * median) / (weight + 1e-3)
    return resample(smooth, np.diag([0.5, 0.5, 0.5, 1.0]), image.shape, outside="nearest")


def _signed_distance(mask):
    """Distance to the border in mm, positive inside: (X, Y, Z) float32."""
    from scipy import ndimage

    inner, outer = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    # Zero half a voxel from the last voxel's centre.
    return (np.where(mask, inner - 0.5, 0.5 - outer) * _SPACING_MM).astype(np.float32)


def largest(mask: np.ndarray) -> np.ndarray:
    """The largest piece of a mask, (X, Y, Z) bool; pieces that touch by a face are one."""
    from scipy import ndimage

    out, box = np.zeros(mask.shape, bool), bounding_box(mask)
    if box is not None:
        labels, _ = ndimage.label(mask[box])
        out[box] = labels == np.bincount(labels[mask[box]]).argmax()
    return out


def filled(mask: np.ndarray) -> np.ndarray:
    """A mask with what it encloses, (X, Y, Z) bool; what the image's border opens is not enclosed."""
    from scipy import ndimage

    out, box = np.zeros(mask.shape, bool), bounding_box(mask)
    if box is not None:
        labels, _ = ndimage.label(np.pad(~mask[box], 1, constant_values=True))
        out[box] = labels[1:-1, 1:-1, 1:-1] != labels[0, 0, 0]
    return out
