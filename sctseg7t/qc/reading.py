"""What a record's files hold now: scan and masks, read again from disk and checked against the sidecar."""

from dataclasses import dataclass, field

import nibabel as nib
import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.geometry import geometry_of
from sctseg7t.image.nifti import READ_ERRORS, read_image
from sctseg7t.image.volume import load


@dataclass(frozen=True, eq=False)
class Saved:
    """A scan and its masks on one canonical RAS+ grid.

    Attributes
    ----------
    image : (X, Y, Z, T) float32, or None where the scan cannot be read
    masks : dict of str to (X, Y, Z, T) array
        bool, or float32 fractions where the file is a soft mask.
    labels : (X, Y, Z, T) array, or None
        Map of lesion numbers.
    affine : (4, 4) array, or None where nothing could be read
    spacing_mm : tuple of 3 float
    sha256 : dict of str to str
        Of each mask's file as it is now.
    changed : tuple of str
        Tissues whose file is not the one that the sidecar names.
    problems : tuple of str
        For people.
    """

    image: np.ndarray | None = None
    masks: dict = field(default_factory=dict)
    labels: np.ndarray | None = None
    affine: np.ndarray | None = None
    spacing_mm: tuple = (1.0, 1.0, 1.0)
    sha256: dict = field(default_factory=dict)
    changed: tuple = ()
    problems: tuple = ()


def read_saved(record):
    """Read a record's scan and masks; what cannot be read is told in ``problems``.

    Parameters
    ----------
    record : Record

    Returns
    -------
    Saved
    """
    problems, changed, masks, sha256 = [], [], {}, {}
    image = affine = None
    volumes = (record.raw.get("options") or {}).get("volumes", "each")
    try:
        scan = load(record.image, volumes=volumes if volumes in ("each", "mean") else "each", axial=False)
        image, affine = scan.data, scan.affine
        stated = (record.raw.get("input") or {}).get("sha256")
        if stated and scan.sha256 != stated:
            problems.append(f"the scan {record.image.name} has changed since it was segmented")
    except InputError as err:
        problems.append(f"the scan cannot be shown: {err}")
    for name, path in record.masks.items():
        try:
            values, own, sha256[name] = _read_values(path)
        except InputError as err:
            problems.append(f"the {name} mask cannot be shown: {err}")
            continue
        if record.mask_sha256.get(name, sha256[name]) != sha256[name]:
            changed.append(name)
            problems.append(
                f"the {name} mask {path.name} was changed after it was written; this page shows it as it is now"
            )
        if affine is None:
            affine = own
        shape = image.shape if image is not None else next(iter(masks.values()), values).shape
        if not _fits(values, own, shape, affine):
            problems.append(f"the {name} mask {path.name} is not on the scan's grid; it is not shown")
            continue
        masks[name] = _as_mask(values)
    labels = None
    if record.labels and masks:
        try:
            labels, own, _ = _read_values(record.labels)
        except InputError as err:
            problems.append(f"the lesions' numbers cannot be read: {err}")
        else:
            labels = labels if _fits(labels, own, next(iter(masks.values())).shape, affine) else None
    spacing = (1.0, 1.0, 1.0) if affine is None else tuple(float(s) for s in nib.affines.voxel_sizes(affine))
    return Saved(image, masks, labels, affine, spacing, sha256, tuple(changed), tuple(problems))


def _fits(values, own, shape, affine):
    """Whether an image is on the grid of the scan; it may lack its further volumes."""
    same = values.shape[:3] == shape[:3] and values.shape[3] in (1, shape[3])
    return same and np.allclose(own, affine, atol=1e-3)


def _as_mask(values):
    mask = values != 0
    return mask if np.array_equal(values, mask) else np.clip(values, 0, 1).astype(np.float32)


def _read_values(path):
    """Voxels of a mask or label map in canonical order, their affine, and the file's hash."""
    image, digest = read_image(path)
    geometry = geometry_of(image.header, image.affine, image.shape, str(path), axial=False)
    try:
        values = np.asanyarray(image.dataobj)
    except READ_ERRORS as err:
        raise InputError(
            f"{path}: its voxels cannot be read ({' '.join(str(err).split())}); run the scan again"
        ) from err
    values = values.reshape((*image.shape, 1, 1)[:4], order="F")
    orientation = geometry.source.orientation
    flips = [axis for axis in range(3) if orientation[axis, 1] < 0]
    values = np.flip(values, flips).transpose(*np.argsort(orientation[:, 0]), 3)
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float32), nan=0.0)
    return values, geometry.affine, digest
