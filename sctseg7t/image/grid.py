"""Voxel grids: what they have in common, and moving labels from one to another."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from sctseg7t.image.frame import Frame, frame_of

# Positions this close to a border, in voxels, lie on it.
_EDGE = 1e-6
# Grids are the same if no voxel is further than this from its counterpart, in voxels.
_SAME = 0.05


@dataclass(frozen=True, eq=False)
class Grid:
    """A canonical RAS+ voxel grid.

    Attributes
    ----------
    shape : tuple of 3 int
        (X, Y, Z).
    affine : (4, 4) float64
        Voxel to world RAS, mm.
    name : str
        The file that it is of, for messages.
    """

    shape: tuple[int, int, int]
    affine: np.ndarray
    name: str = ""

    @cached_property
    def frame(self) -> Frame:
        """Anatomical axes of the slices."""
        return frame_of(self.affine)

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edges of a voxel."""
        x, y, z = voxel_sizes(self.affine)
        return float(x), float(y), float(z)

    @property
    def pixel_area_mm2(self) -> float:
        """Area of a voxel in its slice."""
        return float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel."""
        return voxel_mm3(self.affine)

    def corners_mm(self) -> np.ndarray:
        """World positions (8, 3) of the outermost voxels' centres."""
        return apply_affine(self.affine, corners([(0, n - 1) for n in self.shape]))

    def crop(self, box: tuple[slice, ...]) -> "Grid":
        """The part of the grid in a box, as :func:`bounding_box` gives it; fewer axes leave the last ones whole."""
        ends = [part.indices(n)[:2] for part, n in zip((*box, slice(None), slice(None)), self.shape)]
        moved = self.affine.copy()
        moved[:3, 3] = apply_affine(self.affine, [first for first, _ in ends])
        x, y, z = (stop - first for first, stop in ends)
        return Grid((x, y, z), moved, self.name)

    def same_as(self, other: "Grid") -> bool:
        """Whether two grids have the same voxels, to a twentieth of one."""
        if self.shape != other.shape:
            return False
        moved = np.linalg.norm(self.corners_mm() - other.corners_mm(), axis=1)
        return bool(moved.max() < _SAME * min(other.spacing_mm))

    def difference(self, other: "Grid") -> str:
        """How a grid differs from another, in words; "" where they are the same."""
        if self.shape != other.shape:
            sizes = (" x ".join(map(str, g.shape)) + " voxels of " + _mm(g.spacing_mm) for g in (self, other))
            return " against ".join(sizes)
        if self.same_as(other):
            return ""
        if not np.allclose(self.spacing_mm, other.spacing_mm, rtol=1e-3):
            return f"voxels of {_mm(self.spacing_mm)} against {_mm(other.spacing_mm)}"
        moved = self.corners_mm() - other.corners_mm()
        shift = moved.mean(0)
        if np.linalg.norm(moved - shift, axis=1).max() < _SAME * min(other.spacing_mm):
            return "moved by " + " / ".join(f"{v:+.2f}" for v in shift) + " mm to right / anterior / superior"
        farthest = float(np.linalg.norm(moved, axis=1).max())
        return f"turned or moved: corners lie up to {farthest:.2f} mm apart"


def voxel_mm3(affine: np.ndarray) -> float:
    """Volume of a voxel, given its affine in mm."""
    return float(abs(np.linalg.det(np.asarray(affine)[:3, :3])))


def corners(ends: list[tuple[float, float]]) -> np.ndarray:
    """The 8 corners (8, 3) of a box, given its lowest and highest position along each axis."""
    return np.array(np.meshgrid(*ends, indexing="ij")).reshape(3, -1).T


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...] | None:
    """Smallest box that holds all that is set in a mask.

    Parameters
    ----------
    mask : array of any number of axes
        Anything but 0 is set.
    margin : int
        Voxels more on every side, as far as the array goes.

    Returns
    -------
    tuple of slice, or None
        One an axis; None where nothing is set.
    """
    box = []
    for axis, n in enumerate(mask.shape):
        held = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not held.size:
            return None
        box.append(slice(max(int(held[0]) - margin, 0), min(int(held[-1]) + 1 + margin, n)))
    return tuple(box)


def resample_nearest(labels: np.ndarray, affine: np.ndarray, onto: Grid) -> np.ndarray:
    """Bring labels to another grid: the nearest voxel's value, 0 beyond them.

    Parameters
    ----------
    labels : (A, B, C) array
    affine : (4, 4) array
        Their voxel to world RAS, mm.
    onto : Grid

    Returns
    -------
    array of the grid's shape and the labels' type
    """
    out = np.zeros(onto.shape, labels.dtype, order="F")
    for k, inside, index in _nearest(labels.shape, affine, onto):
        out[..., k][inside] = labels[tuple(at[inside] for at in index)]
    return out


def resample(
    data: np.ndarray, matrix: np.ndarray, shape: Sequence[int], *, order: int = 1, outside: str = "zero"
) -> np.ndarray:
    """Sample an array at voxels `matrix` @ index.

    Parameters
    ----------
    data : (A, B, C) array
    matrix : (4, 4) array
        Voxel of the result to fractional voxel of `data`.
    shape : tuple of 3 int
    order : {0, 1, 3}
        0 keeps the data's type; else float32.
    outside : {"zero", "nearest"}
        What lies more than half a voxel beyond the outermost centres.

    Returns
    -------
    array of `shape`
    """
    from scipy import ndimage

    out = ndimage.affine_transform(
        data,
        by_axis(matrix[:3, :3]),
        matrix[:3, 3],
        tuple(shape),
        order=order,
        mode="nearest",
        output=data.dtype if order == 0 else np.float32,
    )
    if outside == "zero":
        index = np.ogrid[tuple(slice(n) for n in shape)]
        for axis in range(3):
            at = sum(matrix[axis, k] * index[k] for k in range(3)) + matrix[axis, 3]
            np.copyto(out, out.dtype.type(0), where=(at < -0.5 - _EDGE) | (at > data.shape[axis] - 0.5 + _EDGE))
    return out


def by_axis(linear: np.ndarray) -> np.ndarray:
    """The diagonal of a matrix that has nothing else: scipy then works axis by axis, several times faster."""
    return np.diag(linear) if np.allclose(linear, np.diag(np.diag(linear)), atol=1e-9) else linear


def overlaps(shape: tuple[int, ...], affine: np.ndarray, onto: Grid) -> bool:
    """Whether any voxel of a grid lies in an image of that shape and affine."""
    return any(inside.any() for _, inside, _ in _nearest(shape, affine, onto))


def _nearest(shape: tuple[int, ...], affine: np.ndarray, onto: Grid) -> Iterator:
    """Slice by slice of a grid: which voxels lie in an image, and the nearest voxel of it."""
    to_image = np.linalg.inv(affine) @ onto.affine
    i, j = np.arange(onto.shape[0])[:, None], np.arange(onto.shape[1])[None, :]
    for k in range(onto.shape[2]):
        # The small bias makes ties between two voxels fall the same way everywhere.
        index = [np.floor(a * i + b * j + c * k + d + 0.5 + 1e-6).astype(np.intp) for a, b, c, d in to_image[:3]]
        yield k, np.logical_and.reduce([(at >= 0) & (at < n) for at, n in zip(index, shape)]), index


def _mm(sizes: tuple[float, ...]) -> str:
    return " x ".join(f"{size:.4g}" for size in sizes) + " mm"
