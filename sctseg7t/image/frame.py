"""The anatomical axes of a stack of slices."""

from dataclasses import dataclass

import numpy as np

# Grids this close to the anatomical axes (radians) are taken as aligned: 1 micron over a window.
_ALIGNED = 1e-4


@dataclass(frozen=True, eq=False)
class Frame:
    """Orthonormal anatomical axes of the slice plane.

    Attributes
    ----------
    e_x, e_y, normal : (3,) float64
        Unit vectors in world RAS, towards right, anterior and superior. `e_x`
        is world R projected onto the slice plane.
    voxel_to_frame : (2, 2) float64
        Voxel steps (i, j) to mm along (e_x, e_y).
    frame_to_voxel : (2, 2) float64
        Its inverse.
    pixel_area_mm2 : float
        Area of a voxel in its slice; right for sheared grids.
    step_mm : float
        Distance between the planes of neighbouring slices.
    affine : (4, 4) float64
        Voxel to world RAS, mm.
    """

    e_x: np.ndarray
    e_y: np.ndarray
    normal: np.ndarray
    voxel_to_frame: np.ndarray
    frame_to_voxel: np.ndarray
    pixel_area_mm2: float
    step_mm: float
    affine: np.ndarray

    @property
    def axes(self) -> np.ndarray:
        """`e_x`, `e_y` and `normal` as the rows of a (3, 3) array."""
        return np.stack([self.e_x, self.e_y, self.normal])

    @property
    def aligned(self) -> bool:
        """Whether the voxel axes lie along `e_x` and `e_y`."""
        (xi, xj), (yi, yj) = self.voxel_to_frame
        return bool(xj == 0 and yi == 0 and xi > 0 and yj > 0)

    def mm_between(self, a_vox: np.ndarray, b_vox: np.ndarray) -> np.ndarray:
        """In-plane distance (N,) in mm between two (N, 2) sets of voxel positions."""
        return np.linalg.norm((np.asarray(a_vox) - b_vox) @ self.voxel_to_frame.T, axis=1)


def frame_of(affine: np.ndarray) -> Frame:
    """Build the anatomical frame of the slices along the third axis of a canonical grid.

    Parameters
    ----------
    affine : (4, 4) array
        Canonical voxel to world RAS, mm; oblique or sheared as may be.

    Raises
    ------
    ValueError
        The affine is not invertible, the slices are sagittal, or they run from superior to inferior.
    """
    affine = np.array(affine, dtype=np.float64)
    columns, step = affine[:3, :2], affine[:3, 2]
    normal = np.cross(columns[:, 0], columns[:, 1])
    pixel_area_mm2 = float(np.linalg.norm(normal))
    if pixel_area_mm2 == 0 or abs(normal @ step) <= 1e-9 * pixel_area_mm2 * np.linalg.norm(step):
        raise ValueError("affine is singular")
    normal /= pixel_area_mm2 * (1 if normal[2] >= 0 else -1)
    step_mm = float(normal @ step)
    if step_mm < 0 and normal[2] > 0.99:
        raise ValueError("slices along axis 2 run superior to inferior; reorient to RAS+ first")
    e_x = np.array([1.0, 0.0, 0.0]) - normal[0] * normal
    if np.linalg.norm(e_x) < 1e-3:
        raise ValueError("the slices are sagittal: they have no left-right axis in the plane")
    e_x /= np.linalg.norm(e_x)
    e_y = np.cross(normal, e_x)
    to_frame = np.stack([e_x, e_y]) @ columns
    sizes = np.linalg.norm(columns, axis=0)
    if abs(to_frame[0, 1]) < _ALIGNED * sizes[1] and abs(to_frame[1, 0]) < _ALIGNED * sizes[0]:
        to_frame = np.diag(sizes * np.sign(np.diag(to_frame)))
    return Frame(e_x, e_y, normal, to_frame, np.linalg.inv(to_frame), pixel_area_mm2, abs(step_mm), affine)
