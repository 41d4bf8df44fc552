"""The grid of an image: what its header states, checked, and in canonical order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.orientations import inv_ornt_aff, io_orientation

from sctseg7t.errors import InputError
from sctseg7t.image.axial import check_axial

MIN_SPACING_MM, MAX_IN_PLANE_MM, MAX_SLICE_MM = 0.02, 10.0, 50.0
# NIfTI's units of length, in mm.
_UNITS_MM = {"meter": 1000.0, "micron": 0.001}
# Beyond this angle the two affines of a NIfTI header tell different anatomy.
_FORMS_DEG = 1.0


class Source(NamedTuple):
    """How an image was stored: what `to_native` needs.

    Attributes
    ----------
    header : nibabel header
        NIfTI-1 or NIfTI-2; None for an image in memory of another format.
    shape : tuple of int
        All stored axes, 2 or more.
    affine : (4, 4) float64
        In the units that the header states.
    orientation : (3, 2) array
        Per stored axis: its canonical axis, and -1 where it runs backwards
        (`nibabel.orientations.io_orientation`).
    """

    header: Any
    shape: tuple
    affine: np.ndarray
    orientation: np.ndarray


class Geometry(NamedTuple):
    """The grid of an image in canonical order, known from its header alone.

    Attributes
    ----------
    shape : tuple of 4 int
        (X, Y, Z, T).
    affine : (4, 4) float64
        Canonical voxel to world RAS, mm.
    spacing_mm : tuple of 3 float
    notes : tuple of str
        Warnings for the user.
    source : Source
    """

    shape: tuple
    affine: np.ndarray
    spacing_mm: tuple
    notes: tuple
    source: Source


def geometry_of(
    header: Any, affine: np.ndarray | None, shape: Sequence[int], name: str, *, axial: bool = True
) -> Geometry:
    """Check the geometry that a header states and return it in canonical order.

    Parameters
    ----------
    header : nibabel header
    affine : (4, 4) array
        In the units that the header states; in mm where it states none.
    shape : sequence of int
        All stored axes.
    name : str
        How to call the image in messages.
    axial : bool
        Require axial slices along the third canonical axis.

    Returns
    -------
    Geometry

    Raises
    ------
    InputError
    """
    shape = tuple(int(n) for n in shape)
    _check_shape(shape, name)
    kind = np.dtype(header.get_data_dtype()).kind
    if kind not in "biuf":
        what = "complex" if kind == "c" else "colour (RGB)"
        raise InputError(f"{name}: holds {what} voxels; give a magnitude (gray-scale) image")
    stored = _check_affine(affine, name)
    affine, notes = _in_mm(stored, header, name)
    orientation = io_orientation(affine)
    grid = (*shape, 1)[:3]
    canonical = affine @ inv_ornt_aff(orientation, grid) + 0.0
    order = np.argsort(orientation[:, 0])
    grid = tuple(grid[axis] for axis in order)
    spacing_mm = tuple(float(size) for size in voxel_sizes(canonical))
    oriented = is_oriented(header)
    notes += _header_notes(header, stored, shape, oriented)
    if axial:
        notes += check_axial(canonical, grid, name, oriented=oriented)
    header = header.copy() if isinstance(header, nib.Nifti1Header) else None
    source = Source(header, shape, stored, orientation)
    return Geometry((*grid, n_volumes(shape)), canonical, spacing_mm, notes, source)


def _header_notes(header, affine, shape, oriented):
    if not oriented:
        return ("header has no orientation (sform and qform codes are 0): left/right and up are unknown",)
    notes = ()
    axes = [axis for axis in range(min(3, len(shape))) if shape[axis] > 1]
    stated, used = (np.asarray(sizes)[axes] for sizes in (header.get_zooms(), voxel_sizes(affine)))
    if not np.allclose(stated, used, rtol=0.01):
        stated, used = (" x ".join(f"{size:.3g}" for size in sizes) for sizes in (stated, used))
        notes += (f"voxel size in the header ({stated} mm) disagrees with the affine ({used} mm): the affine is used",)
    if isinstance(header, nib.Nifti1Header) and int(header["sform_code"]) > 0 and int(header["qform_code"]) > 0:
        apart = _degrees_between(header, affine)
        if apart > _FORMS_DEG:
            notes += (
                f"qform and sform are {apart:.0f} degrees apart: the sform is used; correct the header if it is wrong",
            )
    return notes


def _degrees_between(header, affine):
    """Largest angle between the axes of the qform and those of another affine; 0 where the qform cannot be read."""
    try:
        qform = header.get_qform()
    except ValueError:
        return 0.0
    first, second = (each[:3, :3] / voxel_sizes(each) for each in (qform, affine))
    return float(np.degrees(np.arccos(np.clip((first * second).sum(0), -1, 1))).max())


def _in_mm(affine, header, name):
    """The affine in mm, and notes about the units that the header states."""
    unit = str(header.get_xyzt_units()[0]) if isinstance(header, nib.Nifti1Header) else "mm"
    factor = _UNITS_MM.get(unit)
    if factor:
        scaled = np.diag([factor, factor, factor, 1]) @ affine
        if not _implausible(scaled):
            return scaled, ()
        if not _implausible(affine):
            return affine, (f"the header states its sizes in {unit}s, which cannot be: they are read as mm",)
    problem = _implausible(affine)
    if problem:
        raise InputError(f"{name}: {problem}; correct the voxel size or the units (xyzt_units) in its header")
    return affine, ()


def _implausible(affine):
    """Why no scan has voxels of this size in mm; "" if one can."""
    sizes = voxel_sizes(affine)
    if sizes.min() >= MIN_SPACING_MM and sizes.max() <= MAX_SLICE_MM and np.sort(sizes)[1] <= MAX_IN_PLANE_MM:
        return ""
    text = " x ".join(f"{size:.4g}" for size in sizes)
    return (
        f"voxel size {text} mm is not plausible (in-plane {MIN_SPACING_MM:g} to {MAX_IN_PLANE_MM:g}, "
        f"slices up to {MAX_SLICE_MM:g})"
    )


def _check_shape(shape, name):
    text = "x".join(map(str, shape))
    if 0 in shape:
        raise InputError(f"{name}: has an axis without voxels (shape {text}); convert the scan again")
    if len(shape) < 2:
        raise InputError(f"{name}: has one axis (shape {text}); give an image of 2, 3 or 4 axes")
    if any(n != 1 for n in shape[4:]):
        raise InputError(f"{name}: has {len(shape)} axes (shape {text}); split it into images of at most 4 axes")


def _check_affine(affine, name):
    if affine is None:
        raise InputError(f"{name}: has no affine; set its sform or qform")
    affine = np.array(affine, dtype=np.float64)
    if not np.isfinite(affine).all():
        raise InputError(f"{name}: its affine (sform or qform) has NaN or infinite entries; correct the header")
    sizes = voxel_sizes(affine)
    if (sizes == 0).any() or abs(np.linalg.det(affine[:3, :3] / sizes)) < 1e-3:
        raise InputError(f"{name}: its affine (sform or qform) is singular; correct the header or convert it again")
    return affine


def is_oriented(header: Any) -> bool:
    """Return whether a header records how its voxels lie in the world."""
    if not isinstance(header, nib.Nifti1Header):
        # Analyze and SPM have no place for it; FreeSurfer always says it.
        return not isinstance(header, nib.AnalyzeHeader)
    return any(int(header[name]) > 0 for name in ("sform_code", "qform_code"))


def n_volumes(shape: Sequence[int]) -> int:
    """Return the number of volumes of a stored shape."""
    return shape[3] if len(shape) > 3 else 1
