"""Reading masks and label images, and bringing them to the grid of a scan."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from nibabel.affines import apply_affine
from nibabel.spatialimages import SpatialImage

from sctseg7t.errors import InputError
from sctseg7t.image.geometry import geometry_of, is_oriented
from sctseg7t.image.grid import Grid, overlaps, resample_nearest
from sctseg7t.image.volume import Volume, from_order, open_image, stored_values

# A file's path, or an image in memory.
Readable = str | Path | SpatialImage


@dataclass(frozen=True, eq=False)
class Mask:
    """A mask or label file in canonical order.

    Attributes
    ----------
    data : (X, Y, Z, T) array
        Values as the file states them; nothing is rounded or cut.
    grid : Grid
        Its name is that of the file.
    path : Path or None
    sha256 : str or None
        Of the file as stored; None for an image in memory.
    oriented : bool
        Whether the header records how the voxels lie in the world.
    """

    data: np.ndarray
    grid: Grid
    path: Path | None
    sha256: str | None
    oriented: bool

    @property
    def volume(self) -> np.ndarray:
        """The only volume (X, Y, Z); InputError if there are several."""
        if self.data.shape[3] != 1:
            raise InputError(
                f"{self.grid.name}: has {self.data.shape[3]} volumes; give a mask or label image of one volume"
            )
        return self.data[..., 0]


def read_mask(source: Readable, like: Volume | None = None) -> Mask:
    """Read a mask or label image.

    Parameters
    ----------
    source : path or nibabel image
    like : Volume, optional
        The scan that it belongs to: lends its orientation to a mask that records none.

    Raises
    ------
    InputError
        The file or its geometry cannot be used; or it has no orientation and another shape than `like`.
    """
    image, path, sha256 = open_image(source)
    name = str(path) if path else "label image in memory"
    geometry = geometry_of(image.header, image.affine, image.shape, name, axial=False)
    oriented = is_oriented(image.header)
    orientation, affine = geometry.source.orientation, geometry.affine
    if like is not None and not oriented:
        if (*geometry.source.shape, 1)[:3] != (*like.source.shape, 1)[:3]:
            raise InputError(
                f"{name}: has no orientation and another shape than {like.name}; "
                "set its orientation (sform or qform) or draw it on that image"
            )
        orientation, affine = like.source.orientation, like.affine
    values = from_order(stored_values(image, name), orientation)
    return Mask(values, Grid(values.shape[:3], affine, name), path, sha256, oriented)


def read_labels(source: Readable, scan: Volume) -> tuple[np.ndarray, Grid]:
    """Read labels that belong to a scan, on their own canonical grid.

    Parameters
    ----------
    source : path or nibabel image
        Labels of one volume; soft masks are rounded.
    scan : Volume
        Lends its orientation to labels that record none.

    Returns
    -------
    labels : (A, B, C) int32
    grid : Grid

    Raises
    ------
    InputError
        Unusable file, or more than one volume.
    """
    mask = read_mask(source, scan)
    values = mask.volume.astype(np.float64)
    if not np.isfinite(values).all():
        raise InputError(f"{mask.grid.name}: has NaN or infinite voxels; replace them with 0")
    values = np.rint(values)
    if np.abs(values).max() > np.iinfo(np.int32).max:
        raise InputError(f"{mask.grid.name}: has values too large for labels; give a mask or label image")
    return np.asfortranarray(values.astype(np.int32)), mask.grid


def labels_on_scan(source: Readable, scan: Volume) -> tuple[np.ndarray, str]:
    """Bring a mask or label image onto the canonical grid of a scan.

    Parameters
    ----------
    source : path or nibabel image
        Labels of one volume; soft masks are rounded.
    scan : Volume

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
    labels, grid = read_labels(source, scan)
    if grid.same_as(scan.grid):
        return labels, grid.name
    if not overlaps(labels.shape, grid.affine, scan.grid):
        raise InputError(f"{grid.name}: does not overlap {scan.name}; give a mask or label image of the same scan")
    out = resample_nearest(labels, grid.affine, scan.grid)
    # Labels that no voxel took go to the voxels nearest to them.
    marked = np.argwhere(np.isin(labels, np.setdiff1d(labels[labels != 0], out)))
    where = np.floor(apply_affine(np.linalg.inv(scan.affine) @ grid.affine, marked) + 0.5).astype(np.intp)
    within = ((where >= 0) & (where < out.shape)).all(axis=1)
    where, value = where[within], labels[tuple(marked[within].T)]
    free = out[tuple(where.T)] == 0
    out[tuple(where[free].T)] = value[free]
    return out, grid.name
