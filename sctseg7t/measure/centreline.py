"""The cord's centreline and its angle to the slices, from per-slice centroids.

Everything works in the slices' :class:`sctseg7t.image.frame.Frame`: ``r`` is its `e_x` (towards the right),
``a`` its `e_y` (anterior) and ``n`` the slice normal (superior).
"""

from dataclasses import dataclass

import numpy as np

from sctseg7t.image.frame import Frame

# The prior of the fit, in physical terms. The bend is the curvature that the whole
# stack shares, one over a radius of 150 mm (a cervical lordosis); the other one
# varies along the cord. Jitter: how far a slice's centroid strays by motion and
# segmentation noise.
BEND_SD_PER_MM = 1 / 150
CURVATURE_SD_PER_MM = 1 / 200
JITTER_SD_MM = 0.2
# Length over which the curvature keeps; larger is smoother.
SMOOTH_MM = 40.0
# An angle known no better than this is withheld; 6 degrees is 0.5 % of an area.
MAX_ANGLE_SD_DEG = 6.0
_HUBER_SDS = 2.0
# How far the line is taken to go on straight beyond the stack.
_BEYOND_MM = 500.0


@dataclass(frozen=True)
class Centreline:
    """A fitted centreline, evaluated at every slice of the stack.

    Attributes
    ----------
    position_mm : (Z, 3) array
        World position where the line meets each slice plane; NaN without any centroid.
    slope : (Z, 2) array
        ``d(r, a)/dn`` of the tangent: the tangents of the two angles; NaN if unknown.
    slope_sd : (Z,) array
        Standard deviation of each slope under the nominal jitter; inf if unknown.
    top : int
        Highest slice with a centroid; 0 without any.
    """

    position_mm: np.ndarray
    slope: np.ndarray
    slope_sd: np.ndarray
    top: int = 0

    def project(self, points_mm: np.ndarray, frame: Frame) -> tuple[np.ndarray, np.ndarray]:
        """The points of the line nearest to some points; it goes straight on beyond the stack.

        Parameters
        ----------
        points_mm : (N, 3) array
            World RAS, mm.
        frame : Frame
            As the line was fitted in.

        Returns
        -------
        slices : (N,) array
            Where on the line, as a fractional slice: below 0 or above Z - 1 beyond the stack. NaN if there is no line.
        distances_mm : (N,) array
        """
        ends = np.nan_to_num(self.slope[[0, -1]]) @ frame.axes[:2] + frame.axes[2]
        reach = _BEYOND_MM / frame.step_mm
        below, above = ends * [[-_BEYOND_MM], [_BEYOND_MM]] + self.position_mm[[0, -1]]
        path = np.vstack([below, self.position_mm, above])
        index = np.concatenate([[-reach], np.arange(len(self.position_mm)), [len(self.position_mm) - 1 + reach]])
        start, step = path[:-1], np.diff(path, axis=0)
        off = np.asarray(points_mm, float)[:, None] - start
        share = np.clip(np.sum(off * step, axis=2) / np.sum(step * step, axis=1), 0, 1)
        distance = np.linalg.norm(off - share[..., None] * step, axis=2)
        nearest = distance.argmin(axis=1)
        each = np.arange(len(nearest))
        return index[nearest] + share[each, nearest] * np.diff(index)[nearest], distance[each, nearest]

    def distance_from(self, point_mm: np.ndarray, frame: Frame) -> np.ndarray:
        """Distance (Z,) in mm along the line from the slices up to a point: negative for slices above it.

        From the highest slice with cord the way to a point above it is straight, as for the distance from the
        pontomedullary junction in sct_process_segmentation (Bedard & Cohen-Adad, Front Neuroimaging 2022).

        Parameters
        ----------
        point_mm : (3,) array
            World RAS, mm.
        frame : Frame
        """
        steps = np.linalg.norm(np.diff(self.position_mm, axis=0), axis=1)
        along = np.concatenate([[0.0], np.cumsum(steps)])
        (place,), _ = self.project(np.asarray(point_mm, float)[None], frame)
        if np.isnan(place) or place <= self.top:
            at = np.interp(place, np.arange(len(along)), along) if place >= 0 else place * frame.step_mm
            return at - along
        return np.linalg.norm(point_mm - self.position_mm[self.top]) + along[self.top] - along


def fit_centreline(centroid_ij: np.ndarray, area: np.ndarray, frame: Frame) -> Centreline:
    """Fit a smooth line through per-slice centroids.

    A straight line, a parabola with a prior on its curvature (SD 1/150 per mm) and
    a Gaussian process with a squared-exponential kernel of length 40 mm
    (curvature SD 1/200 per mm), seen through 0.2 mm of noise: universal kriging
    (Rasmussen & Williams, Gaussian Processes for Machine Learning, 2006, sections
    2.7 and 9.4). Hence short stacks get a nearly straight line, long ones follow
    real bends, and gaps and uneven spacing need no special case. With five slices
    or more, outlying centroids are down-weighted (Huber, 2 SD); slices with little
    area count less.

    Parameters
    ----------
    centroid_ij : (Z, 2) array
        Centroids in voxel indices; NaN rows where the slice has none.
    area : (Z,) array
        Tissue area of each slice, any unit (relative weights).
    frame : Frame

    Returns
    -------
    Centreline
    """
    n_slices = len(centroid_ij)
    height = frame.step_mm * np.arange(n_slices)
    index = np.flatnonzero(np.isfinite(centroid_ij).all(axis=1))
    nothing = np.full((n_slices, 2), np.nan), np.full(n_slices, np.inf)
    if not len(index):
        return Centreline(np.full((n_slices, 3), np.nan), *nothing)

    ijk = np.column_stack([centroid_ij[index], index, np.ones(len(index))])
    world = ijk @ frame.affine[:3].T
    origin = world.mean(axis=0)
    offset = (world - origin) @ frame.axes[:2].T
    height = height - height[index].mean()
    if len(index) == 1:
        place = _to_world(np.repeat(offset, n_slices, axis=0), height, origin, frame)
        return Centreline(place, *nothing, top=int(index[0]))

    typical = np.median(area[index])
    noise = JITTER_SD_MM**2 * np.maximum(1, typical / np.maximum(area[index], 1e-6 * typical))
    smoother = _Smoother(height[index], noise)
    _, slope_sd = smoother.slope_weights(height)
    smoother = _downweight_outliers(smoother, offset, noise)
    slope = smoother.slope_weights(height)[0] @ offset
    # Beyond the outermost centroids the place is held: only the angle is extrapolated.
    inside = np.clip(height, height[index[0]], height[index[-1]])
    place = smoother.value_weights(inside) @ offset
    return Centreline(_to_world(place, height, origin, frame), slope, slope_sd, int(index[-1]))


def _to_world(offset, height, origin, frame):
    return origin + np.column_stack([offset, height]) @ frame.axes


def _downweight_outliers(smoother, offset, noise):
    if len(noise) < 5:
        return smoother
    for _ in range(3):
        residual = np.linalg.norm(offset - smoother.value_weights(smoother.height) @ offset, axis=1)
        # 1.1774 is the median of a 2D residual's length in units of its SD.
        scale = max(JITTER_SD_MM, float(np.median(residual)) / 1.1774)
        weight = np.minimum(1, _HUBER_SDS * scale / np.maximum(residual, 1e-9))
        smoother = _Smoother(smoother.height, noise * (scale / JITTER_SD_MM) ** 2 / weight**2)
    return smoother


class _Smoother:
    """Linear smoother: line + bend + Gaussian process, for noisy values at ``height`` (mm)."""

    def __init__(self, height, noise):
        self.height = height
        # A squared-exponential process has curvature variance 3 A^2 / length^4.
        self.bend = BEND_SD_PER_MM**2 / 4
        self.variance = (CURVATURE_SD_PER_MM * SMOOTH_MM**2) ** 2 / 3
        self.basis = np.column_stack([np.ones_like(height), height])
        self.inverse = np.linalg.inv(self._kernel(height) + np.diag(noise))
        self.gram = np.linalg.inv(self.basis.T @ self.inverse @ self.basis)
        self.line = self.gram @ self.basis.T @ self.inverse
        self.rest = self.inverse @ (np.eye(len(height)) - self.basis @ self.line)

    def _kernel(self, at):
        return self.bend * np.multiply.outer(at**2, self.height**2) + self._local(at)

    def _local(self, at):
        return self.variance * np.exp(-0.5 * (np.subtract.outer(at, self.height) / SMOOTH_MM) ** 2)

    def value_weights(self, at):
        basis = np.column_stack([np.ones_like(at), at])
        return basis @ self.line + self._kernel(at) @ self.rest

    def slope_weights(self, at):
        """Weights (len(at), n) of the values in the slope, and the slope's SD."""
        kernel = -np.subtract.outer(at, self.height) / SMOOTH_MM**2 * self._local(at)
        kernel += 2 * self.bend * np.multiply.outer(at, self.height**2)
        basis = np.array([0.0, 1.0])
        known = kernel @ self.inverse
        unexplained = basis - known @ self.basis
        variance = (
            self.variance / SMOOTH_MM**2
            + 4 * self.bend * at**2
            - np.sum(known * kernel, axis=1)
            + np.sum(unexplained @ self.gram * unexplained, axis=1)
        )
        return basis @ self.line + kernel @ self.rest, np.sqrt(np.maximum(variance, 0))
