"""Volume: an image in canonical voxel order, and the exact way back to its file."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike, DTypeLike

from sctseg7t.errors import InputError
from sctseg7t.image.frame import Frame
from sctseg7t.image.geometry import Geometry, Source, geometry_of, n_volumes
from sctseg7t.image.grid import Grid
from sctseg7t.image.nifti import READ_ERRORS, read_header, read_image
from sctseg7t.text import one_line, ranges


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
    missing : (X, Y, Z) bool or None
        Voxels that were NaN or infinite, in any volume, and are 0 in `data`. None where there are none.
    """

    data: np.ndarray
    affine: np.ndarray
    spacing_mm: tuple
    path: Path | None
    sha256: str | None
    notes: tuple
    blank_volumes: tuple
    source: Source
    missing: np.ndarray | None = None

    @property
    def name(self) -> str:
        """How messages call the image."""
        return str(self.path) if self.path else "image in memory"

    @cached_property
    def grid(self) -> Grid:
        """Its canonical voxel grid."""
        return Grid(self.data.shape[:3], self.affine, self.name)

    @property
    def frame(self) -> Frame:
        """Anatomical axes of its slices."""
        return self.grid.frame

    @property
    def file_slices(self) -> tuple[int, ...]:
        """Index of each slice in the file, along the axis that the slices are stacked on."""
        count = self.data.shape[2]
        upwards = next(way for axis, way in np.asarray(self.source.orientation) if axis == 2) > 0
        return tuple(range(count) if upwards else range(count - 1, -1, -1))


def load(source: str | Path | SpatialImage, *, volumes: str = "each", axial: bool = True, nan: str = "zero") -> Volume:
    """Load an image, checked and in canonical voxel order.

    Parameters
    ----------
    source : str, Path or nibabel SpatialImage
        2D (one slice), 3D or 4D; further axes must have length 1.
    volumes : {"each", "mean"}
        Keep the T volumes of a 4D image, or average them (in float64).
    axial : bool
        Require axial slices along the third canonical axis.
    nan : {"zero", "refuse"}
        Voxels that are NaN or infinite, as reslicing leaves at borders: take them as 0 and say so in the notes, or
        refuse the image.

    Returns
    -------
    Volume

    Raises
    ------
    InputError
        The file or its geometry is unusable, or all voxels are equal.
    """
    image, path, sha256 = open_image(source)
    name = str(path) if path else "image in memory"
    geometry = geometry_of(image.header, image.affine, image.shape, name, axial=axial)
    data = np.asfortranarray(from_order(stored_values(image, name, np.float32), geometry.source.orientation))
    missing, notes = None, geometry.notes
    finite = np.isfinite(data)
    if not finite.all():
        bad = data.size - int(finite.sum())
        what = f"{bad} NaN or infinite voxel{'s' * (bad > 1)}"
        if nan == "refuse" or not finite.any():
            raise InputError(f"{name}: has {what}; replace them (for example with 0)")
        data[~finite] = 0
        missing = np.logical_not(finite.all(axis=3))
        slices = ranges(np.flatnonzero(missing.any(axis=0).any(axis=0)))
        notes += (f"{what} taken as 0, on slice {slices}",)
    blank = _check_values(data, name)
    if blank:
        notes += (f"volume(s) {', '.join(map(str, blank))} of {data.shape[3]} (from 0) are blank",)
    if volumes == "mean" and data.shape[3] > 1:
        kept = [t for t in range(data.shape[3]) if t not in blank]
        mean = data[..., kept].mean(axis=3, dtype=np.float64, keepdims=True)
        data = np.asfortranarray(mean, dtype=np.float32)
    return Volume(data, geometry.affine, geometry.spacing_mm, path, sha256, notes, blank, geometry.source, missing)


def check_header(path: str | Path, *, axial: bool = True) -> Geometry:
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
    try:
        affine: Any = header.get_best_affine()
    except READ_ERRORS as error:
        raise InputError(f"{path}: its affine cannot be read ({error}); correct the header") from error
    return geometry_of(header, affine, header.get_data_shape(), str(path), axial=axial)


def to_native(volume: Volume, array: np.ndarray, dtype: DTypeLike) -> nib.Nifti1Image:
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
    shape = source.shape if n_volumes(array.shape) == count else source.shape[:3]
    stored = np.asfortranarray(to_order(stored, source.orientation).reshape(shape, order="F"))
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


def to_order(array: np.ndarray, orientation: ArrayLike) -> np.ndarray:
    """A canonical array (X, Y, Z, ...) with its axes in another order and direction (a view).

    Parameters
    ----------
    array : (X, Y, Z, ...) array
    orientation : (3, 2) array
        Per new axis: its canonical axis, and -1 where it runs backwards; a file's is ``source.orientation``.
    """
    order, directions = np.asarray(orientation, int).T
    flips = np.flatnonzero(directions < 0)
    return np.flip(array.transpose(*order, *range(3, array.ndim)), tuple(map(int, flips)))


def from_order(array: np.ndarray, orientation: ArrayLike) -> np.ndarray:
    """The inverse of :func:`to_order`."""
    axes, directions = np.asarray(orientation, int).T
    flips, order = np.flatnonzero(directions < 0), np.argsort(axes)
    return np.flip(array, tuple(map(int, flips))).transpose(*order, *range(3, array.ndim))


def open_image(source: str | Path | SpatialImage) -> tuple[SpatialImage, Path | None, str | None]:
    """Return (image, path or None, sha256 or None)."""
    if isinstance(source, SpatialImage):
        filename = source.get_filename()
        return source, Path(filename) if filename else None, None
    image, sha256 = read_image(source)
    return image, Path(source), sha256


def stored_values(image: SpatialImage, name: str, dtype: DTypeLike | None = None) -> np.ndarray:
    """Scaled voxel values as stored, axes beyond the fourth dropped: (X, Y, Z, T)."""
    try:
        values = np.asanyarray(image.dataobj)
    except READ_ERRORS as error:
        raise InputError(
            f"{name}: its voxels cannot be read ({one_line(error)}); copy or convert the scan again"
        ) from error
    shape = (*image.shape, 1, 1)[:4]
    # A finite value beyond float32 becomes infinite here, and is reported as such.
    with np.errstate(over="ignore"):
        return values.astype(dtype or values.dtype, copy=False).reshape(shape, order="F")


def _check_values(data, name):
    """Refuse unusable voxels; return the volumes in which all voxels are equal."""
    blank = tuple(t for t in range(data.shape[3]) if data[..., t].min() == data[..., t].max())
    if len(blank) == data.shape[3]:
        what = "are equal" if data.any() else "are zero"
        raise InputError(f"{name}: all voxels {what}; give the scan itself, or convert it again")
    return blank
