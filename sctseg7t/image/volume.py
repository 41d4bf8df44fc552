"""Volume: an image in canonical voxel order, and the exact way back to its file."""

import os
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage

from sctseg7t.errors import InputError
from sctseg7t.image.geometry import Geometry, Source, geometry_of, is_oriented, n_volumes
from sctseg7t.image.nifti import READ_ERRORS, read_header, read_image, save

__all__ = [
    "Geometry",
    "Source",
    "Volume",
    "check_header",
    "load",
    "load_labels",
    "resample_nearest_to",
    "save",
    "to_native",
]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image in closest-canonical RAS+ voxel order (flips and permutation only).

    Attributes
    ----------
    data : (X, Y, Z, T) float32
        Fortran order, so that a slice is contiguous. Slices go inferior to superior.
    affine : (4, 4) float64
        Canonical voxel to world RAS, mm.
    spacing_mm : tuple of 3 float
    path : Path or None
    sha256 : str or None
        Of the file as stored; None for an image in memory.
    notes : tuple of str
        Warnings for the user.
    blank_volumes : tuple of int
        Stored volumes (from 0) in which all voxels are equal. They are left
        out of the mean.
    source : Source
    """

    data: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple
    path: Path | None
    sha256: str | None
    notes: tuple
    blank_volumes: tuple
    source: Source

    @property
    def name(self):
        """How messages call the image."""
        return str(self.path) if self.path else "image in memory"


def load(source, *, volumes="each", axial=True):
    """Load an image, checked and in canonical voxel order.

    Parameters
    ----------
    source : str, Path or nibabel SpatialImage
        2D (one slice), 3D or 4D; further axes must have length 1.
    volumes : {"each", "mean"}
        Keep the T volumes of a 4D image, or average them (in float64).
    axial : bool
        Require axial slices along the third canonical axis.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        The file or its geometry is unusable, voxels are NaN or infinite, or
        all are equal.
    """
    if volumes not in ("each", "mean"):
        raise ValueError(f"volumes must be 'each' or 'mean', not {volumes!r}")
    image, path, sha256 = _open(source)
    name = str(path) if path else "image in memory"
    geometry = geometry_of(image.header, image.affine, image.shape, name, axial=axial)
    data = _canonical(_values(image, name, np.float32), geometry)
    blank = _check_values(data, name)
    notes = geometry.notes
    if blank:
        notes += (f"volume(s) {', '.join(map(str, blank))} of {data.shape[3]} (from 0) are blank",)
    if volumes == "mean" and data.shape[3] > 1:
        kept = [t for t in range(data.shape[3]) if t not in blank]
        mean = data[..., kept].mean(axis=3, dtype=np.float64, keepdims=True)
        data = np.asfortranarray(mean, dtype=np.float32)
    return Volume(data, geometry.affine, geometry.spacing_mm, path, sha256, notes, blank, geometry.source)


def check_header(path, *, axial=True):
    """Check a file as `load` would, without reading its voxels.

    Parameters
    ----------
    path : str or Path
    axial : bool
        As in `load`.

    Returns
    -------
    Geometry

    Raises
    ------
    InputError
    """
    header = read_header(path)
    return geometry_of(header, _best_affine(header, str(path)), header.get_data_shape(), str(path), axial=axial)


def to_native(volume, array, dtype):
    """Put an array on the grid of the file that `volume` came from.

    Parameters
    ----------
    volume : Volume
    array : (X, Y, Z) or (X, Y, Z, T) array
        On the canonical grid of `volume`.
    dtype : numpy dtype
        Stored as such, unscaled: uint8 for masks, float32 for soft results.

    Returns
    -------
    nibabel.Nifti1Image or nibabel.Nifti2Image
        With the source's voxel order, shape, affine, qform, sform, both codes
        and units. The volume axis is there when `array` has all the source's
        volumes. Fields about the source's intensities are cleared.
    """
    array, dtype = np.asarray(array), np.dtype(dtype)
    count = n_volumes(volume.source.shape)
    grid = volume.data.shape[:3]
    if array.shape not in (grid, (*grid, 1), (*grid, count)):
        raise ValueError(f"array of shape {array.shape} does not fit the canonical grid {grid} x {count}")
    stored = array.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(stored, array):
        raise ValueError(f"array holds values that {dtype} cannot store")
    source = volume.source
    stored = to_order(stored, source.orientation)
    shape = source.shape if n_volumes(array.shape) == count else source.shape[:3]
    stored = np.asfortranarray(stored.reshape(shape, order="F"))
    return _image_like(stored, source)


def to_order(array, orientation):
    """A canonical array (X, Y, Z, ...) with its axes in another order and direction (a view).

    Parameters
    ----------
    array : (X, Y, Z, ...) array
    orientation : (3, 2) array
        Per new axis: its canonical axis, and -1 where it runs backwards; a file's is ``source.orientation``.
    """
    order = [int(axis) for axis, _ in orientation]
    flips = [new for new, (_, direction) in enumerate(orientation) if direction < 0]
    return np.flip(array.transpose(*order, *range(3, array.ndim)), flips)


def from_order(array, orientation):
    """The inverse of :func:`to_order`."""
    flips = [new for new, (_, direction) in enumerate(orientation) if direction < 0]
    order = np.argsort([axis for axis, _ in orientation])
    return np.flip(array, flips).transpose(*order, *range(3, array.ndim))


def load_labels(image, volume):
    """Load a mask or label image that belongs to `volume`, on its own canonical grid.

    Parameters
    ----------
    image : str, Path or nibabel SpatialImage
        3D labels; soft masks are rounded.
    volume : Volume
        Lends its affine to labels of its shape that record no orientation.

    Returns
    -------
    labels : (A, B, C) int32
    affine : (4, 4) float64
        Voxel to world RAS, mm.
    name : str
        For messages.

    Raises
    ------
    InputError
        Unusable file, or more than one volume.
    """
    image, path, _ = _open(image)
    name = str(path) if path else "label image in memory"
    geometry = geometry_of(image.header, image.affine, image.shape, name, axial=False)
    if geometry.shape[3] != 1:
        raise InputError(f"{name}: has {geometry.shape[3]} volumes; give a mask or label image of one volume")
    values = _values(image, name, np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{name}: has NaN or infinite voxels; replace them with 0")
    values = np.rint(values)
    if np.abs(values).max() > np.iinfo(np.int32).max:
        raise InputError(f"{name}: has values too large for labels; give a mask or label image")
    values = values.astype(np.int32)
    if not is_oriented(image.header):
        if (*geometry.source.shape, 1)[:3] != (*volume.source.shape, 1)[:3]:
            raise InputError(
                f"{name}: has no orientation and another shape than {volume.name}; "
                "set its orientation (sform or qform) or draw it on that image"
            )
        geometry = geometry._replace(source=volume.source._replace(shape=geometry.source.shape), affine=volume.affine)
    return _canonical(values, geometry)[..., 0], geometry.affine, name


def resample_nearest_to(image, volume):
    """Bring a mask or label image onto the canonical grid of `volume`.

    Parameters
    ----------
    image : str, Path or nibabel SpatialImage
        3D labels; soft masks are rounded.
    volume : Volume

    Returns
    -------
    labels : (X, Y, Z) int32
        An exact copy where the grids agree, else the nearest voxel through the
        two affines, 0 outside the field of view. Labels too small to be the nearest
        of any voxel (points between coarse slices) go to the voxel nearest to them.
    name : str
        For messages.

    Raises
    ------
    InputError
        Unusable file, more than one volume, or no common field of view.
    """
    labels, affine, name = load_labels(image, volume)
    grid = volume.data.shape[:3]
    if labels.shape == grid and _same_grid(affine, volume.affine, grid):
        return labels, name
    out = _nearest(labels, np.linalg.inv(affine) @ volume.affine, grid, name, volume.name)
    _add_lost(out, labels, np.linalg.inv(volume.affine) @ affine)
    return out, name


def _add_lost(out, labels, to_out):
    """Put labels that none of `out`'s voxels took into the voxels nearest to them."""
    lost = np.setdiff1d(labels[labels != 0], out)
    marked = np.argwhere(np.isin(labels, lost)) if lost.size else np.zeros((0, 3), int)
    where = np.floor(marked @ to_out[:3, :3].T + to_out[:3, 3] + 0.5).astype(np.intp)
    within = ((where >= 0) & (where < out.shape)).all(axis=1)
    where, value = where[within], labels[tuple(marked[within].T)]
    free = out[tuple(where.T)] == 0
    out[tuple(where[free].T)] = value[free]


def _open(source):
    """Return (image, path or None, sha256 or None)."""
    if isinstance(source, SpatialImage):
        filename = source.get_filename()
        return source, Path(filename) if filename else None, None
    if not isinstance(source, (str, os.PathLike)):
        raise TypeError(f"source must be a path or a nibabel image, not {type(source).__name__}")
    image, sha256 = read_image(source)
    return image, Path(source), sha256


def _best_affine(header, name):
    try:
        return header.get_best_affine()
    except READ_ERRORS as error:
        raise InputError(f"{name}: its affine cannot be read ({error}); correct the header") from error


def _values(image, name, dtype):
    """Scaled voxel values as stored, axes beyond the fourth dropped: (X, Y, Z, T)."""
    try:
        values = np.asanyarray(image.dataobj)
    except READ_ERRORS as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{name}: its voxels cannot be read ({reason}); copy or convert the scan again") from error
    shape = (*image.shape, 1, 1)[:4]
    # A finite value beyond float32 becomes infinite here, and is reported as such.
    with np.errstate(over="ignore"):
        return values.astype(dtype, copy=False).reshape(shape, order="F")


def _canonical(values, geometry):
    return np.asfortranarray(from_order(values, geometry.source.orientation))


def _check_values(data, name):
    """Refuse unusable voxels; return the volumes in which all voxels are equal."""
    bad = data.size - int(np.isfinite(data).sum())
    if bad:
        raise InputError(f"{name}: has {bad} NaN or infinite voxel{'s' * (bad > 1)}; replace them (for example with 0)")
    blank = tuple(t for t in range(data.shape[3]) if data[..., t].min() == data[..., t].max())
    if len(blank) == data.shape[3]:
        what = "are equal" if data.any() else "are zero"
        raise InputError(f"{name}: all voxels {what}; give the scan itself, or convert it again")
    return blank


def _image_like(stored, source):
    if source.header is None:
        image = nib.Nifti1Image(stored, source.affine)
        image.header.set_xyzt_units("mm")
        return image
    header = source.header.copy()
    # Only new objects here: extensions and text fields may describe the subject or the intensities.
    header.extensions.clear()
    for field in ("descrip", "aux_file", "intent_name"):
        header[field] = b""
    for field in ("cal_min", "cal_max", "intent_code", "intent_p1", "intent_p2", "intent_p3"):
        header[field] = 0
    header.set_data_dtype(stored.dtype)
    image_class = nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
    image = image_class(stored, source.affine, header)
    image.header.set_slope_inter(1, 0)
    return image


def _same_grid(affine, other, grid):
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in grid], indexing="ij")).reshape(3, -1)
    shift_mm = np.abs((affine - other)[:3] @ np.vstack([corners, np.ones(8)])).max()
    return shift_mm < 0.05 * nib.affines.voxel_sizes(other).min()


def _nearest(labels, to_label, grid, name, other):
    i, j = np.arange(grid[0])[:, None], np.arange(grid[1])[None, :]
    out = np.zeros(grid, np.int32, order="F")
    overlap = False
    for k in range(grid[2]):
        inside, index = True, []
        for axis in range(3):
            a, b, c, d = to_label[axis]
            # The small bias makes ties between two voxels fall the same way everywhere.
            nearest = np.floor(a * i + b * j + c * k + d + 0.5 + 1e-6).astype(np.intp)
            inside = inside & (nearest >= 0) & (nearest < labels.shape[axis])
            index.append(nearest)
        overlap = overlap or bool(inside.any())
        out[..., k][inside] = labels[tuple(axis[inside] for axis in index)]
    if not overlap:
        raise InputError(f"{name}: does not overlap {other}; give a mask or label image of the same scan")
    return out
