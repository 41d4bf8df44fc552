"""Decide whether an image holds axial slices along its third canonical axis."""

from collections.abc import Sequence

import numpy as np

from sctseg7t.errors import InputError

THICK_RATIO = 1.5
GM_LIMIT_MM = 0.9
SC_LIMIT_MM = 1.5
MAX_TILT_DEG = 45.0
# Beyond this angle from axial the slices are plainly of another plane.
_OTHER_PLANE_DEG = 60.0
_PLANES = ("sagittal", "coronal", "axial")
_ALONG = ("left-right", "posterior-anterior", "inferior-superior")


def slice_axis(spacing_mm: Sequence[float], shape_xyz: Sequence[int]) -> int:
    """Return the axis along which slices are stacked, or 2 where nothing tells.

    Parameters
    ----------
    spacing_mm, shape_xyz : sequence of 3
        Voxel size in mm and number of voxels per canonical axis.

    Returns
    -------
    int
        The axis with one voxel; else the axis whose spacing is over 1.5 times
        both others; else 2 (near-isotropic volumes are read as axial slices).
    """
    single = [axis for axis in range(3) if shape_xyz[axis] == 1]
    if single:
        return 2 if 2 in single else single[0]
    thickest = int(np.argmax(spacing_mm))
    others = [spacing_mm[axis] for axis in range(3) if axis != thickest]
    return thickest if spacing_mm[thickest] > THICK_RATIO * max(others) else 2


def tilt_deg(affine: np.ndarray, axis: int) -> float:
    """Return the angle in degrees (0-90) between a slice normal and world S.

    The normal is that of the plane spanned by the two axes other than `axis`,
    which differs from the direction of `axis` itself in a sheared grid.
    """
    first, second = (np.asarray(affine)[:3, a] for a in range(3) if a != axis)
    normal = np.cross(first, second)
    cosine = abs(normal[2]) / np.linalg.norm(normal)
    return float(np.degrees(np.arccos(min(1.0, cosine))))


def check_axial(affine: np.ndarray, shape_xyz: Sequence[int], name: str, *, oriented: bool) -> tuple[str, ...]:
    """Refuse images without axial slices; return warnings about usable ones.

    Parameters
    ----------
    affine : (4, 4) array
        Of the canonical (closest RAS+) grid, in mm.
    shape_xyz : sequence of 3 int
    name : str
        How to call the image in messages.
    oriented : bool
        Whether the header records an orientation at all.

    Returns
    -------
    tuple of str

    Raises
    ------
    InputError
        Slices of another plane, tilted over 45 degrees, or coarser than 1.5 mm.
    """
    spacing_mm = np.sqrt((np.asarray(affine)[:3, :3] ** 2).sum(axis=0))
    if sum(n == 1 for n in shape_xyz) > 1:
        text = "x".join(map(str, shape_xyz))
        raise InputError(f"{name}: has a single row of voxels (canonical shape {text}); give an image of axial slices")
    axis = slice_axis(spacing_mm, shape_xyz)
    tilt = tilt_deg(affine, axis)
    what = f"{spacing_mm[axis]:.3g} mm thick"
    if axis != 2 and not oriented:
        raise InputError(
            f"{name}: the header has no orientation and the slices ({what}) do not lie along the "
            "third voxel axis; set the orientation (sform or qform) or reorder the axes to axial slices"
        )
    if axis != 2 and tilt > _OTHER_PLANE_DEG:
        count = "single slice is" if shape_xyz[axis] == 1 else "slices are"
        raise InputError(
            f"{name}: {count} {_PLANES[axis]} ({what} along {_ALONG[axis]}); the segmentation "
            "needs axial slices: give an axial scan, or reslice a near-isotropic one"
        )
    if axis != 2 or tilt > MAX_TILT_DEG + 0.01:
        raise InputError(
            f"{name}: slices are tilted {tilt:.0f} degrees from axial, over {MAX_TILT_DEG:g} degrees, so "
            "which way is up in a slice is ambiguous; give slices closer to axial"
        )
    coarse_mm = float(max(spacing_mm[:2]))
    if coarse_mm > SC_LIMIT_MM + 1e-3:
        raise InputError(
            f"{name}: in-plane voxel size {coarse_mm:.3g} mm is too coarse to outline the cord "
            f"(limit {SC_LIMIT_MM:g} mm); use a scan of finer in-plane resolution"
        )
    if coarse_mm > GM_LIMIT_MM + 1e-3:
        return (f"in-plane {coarse_mm:.2f} mm is coarser than {GM_LIMIT_MM:g} mm: GM is unreliable",)
    return ()
