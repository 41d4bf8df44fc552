"""Random fields, sampling and shapes that effects share: of slices (2D, mm) and of brains (3D, voxels of 1 mm)."""

import functools
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def smooth_noise(gen: torch.Generator, count: int, nodes: int, size: int) -> Tensor:
    """Smooth noise of about unit SD: a coarse grid of normal draws, bicubically enlarged.

    Returns (count, 1, size, size).
    """
    coarse = torch.randn(count, 1, nodes, nodes, generator=gen)
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=True)


def pixel_grid_mm(size: int, spacing_mm: float) -> tuple[Tensor, Tensor]:
    """Centred pixel coordinates in mm: (x, y), each (1, 1, size, size); row index is y."""
    axis = (torch.arange(size, dtype=torch.float32) - (size - 1) / 2) * spacing_mm
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return x[None, None], y[None, None]


def sample_mm(
    images: Tensor, x_mm: Tensor, y_mm: Tensor, spacing_mm: float, mode: str = "bilinear", padding: str = "zeros"
) -> Tensor:
    """Sample (N, C, S, S) images of a spacing at positions in mm from their centre."""
    half = images.shape[-1] / 2 * spacing_mm
    grid = torch.cat([x_mm, y_mm], 1).permute(0, 2, 3, 1) / half
    return F.grid_sample(images, grid, mode=mode, padding_mode=padding, align_corners=False)


def lowpass(images: Tensor, width_px: Tensor) -> Tensor:
    """Band-limit as an MRI acquisition of coarser pixels does (a cut in k-space).

    Parameters
    ----------
    images : (N, C, S, S) tensor
    width_px : (N, 2) tensor
        Acquired pixel size along (x, y) in units of the image's pixel, >= 1.

    Notes
    -----
    The cut has a slightly rounded edge (a Fermi window, as scanners apply), so the
    Gibbs ringing left at sharp borders has a realistic strength.
    """
    size = images.shape[-1]
    freq = torch.fft.fftfreq(size)
    cut_x, cut_y = (0.5 / width_px).unbind(1)
    fall = 0.02
    half = torch.fft.rfftfreq(size)
    win_x = torch.sigmoid((cut_x[:, None] - half[None]) / (fall * cut_x[:, None] * 4))
    win_y = torch.sigmoid((cut_y[:, None] - freq.abs()[None]) / (fall * cut_y[:, None] * 4))
    window = win_y[:, None, :, None] * win_x[:, None, None, :]
    return torch.fft.irfft2(torch.fft.rfft2(images) * window, s=images.shape[-2:])


def rotate(x: Tensor, y: Tensor, angle_rad: Tensor) -> tuple[Tensor, Tensor]:
    """Rotate coordinates by (N, 1, 1, 1) angles."""
    c, s = torch.cos(angle_rad), torch.sin(angle_rad)
    return c * x + s * y, c * y - s * x


def closed_contour(
    gen: torch.Generator,
    x: Tensor,
    y: Tensor,
    semi_x: Tensor | float,
    semi_y: Tensor | float,
    roughness: float = 0.05,
    triangle: Tensor | float = 0.0,
) -> Tensor:
    """Signed distance (mm, positive inside, approximate) to a random closed contour.

    An ellipse whose radius is modulated by low-order harmonics; ``triangle`` adds the
    rounded-triangle shape that the vertebral canal has, apex posterior.
    """
    n = x.shape[0]
    radius = torch.sqrt((x / semi_x) ** 2 + (y / semi_y) ** 2 + 1e-6)
    theta = torch.atan2(y / semi_y, x / semi_x)
    wave = triangle * torch.cos(3 * (theta - math.pi / 2 + math.pi / 3))
    for k in (2, 3, 4):
        phase = 2 * math.pi * torch.rand(n, 1, 1, 1, generator=gen)
        depth = roughness / (k - 1) * torch.randn(n, 1, 1, 1, generator=gen)
        wave = wave + depth * torch.cos(k * theta + phase)
    scale = torch.sqrt(x**2 + y**2 + 1e-6) / radius
    return (1 + wave - radius) * scale


def edge(distance_mm: Tensor, softness_mm: float = 0.12) -> Tensor:
    """Fraction inside a border at distance zero."""
    return torch.sigmoid(distance_mm / softness_mm)


def rician(image: Tensor, real: Tensor, imaginary: Tensor) -> Tensor:
    """Magnitude of an image with noise in both channels (Gudbjartsson and Patz, MRM 1995)."""
    return torch.sqrt((image + real) ** 2 + imaginary**2)


def segment_distance(x: Tensor, y: Tensor, ax: Tensor, ay: Tensor, bx: Tensor, by: Tensor) -> Tensor:
    """Distance of positions to the segment from a to b."""
    dx, dy = bx - ax, by - ay
    t = (((x - ax) * dx + (y - ay) * dy) / (dx * dx + dy * dy).clamp(min=1e-8)).clamp(0, 1)
    return torch.sqrt((x - ax - t * dx) ** 2 + (y - ay - t * dy) ** 2 + 1e-8)


# ---- brains -----------------------------------------------------------------------


@functools.lru_cache(maxsize=256)
def _basis(count, nodes):
    """Cubic B-spline weights of ``nodes + 3`` coefficients at ``count`` positions, (count, nodes + 3)."""
    at = torch.linspace(0, nodes - 1e-4, count)
    first, t = at.floor().long(), at - at.floor()
    weights = torch.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1) / 6
    full = torch.zeros(count, nodes + 3)
    full.scatter_(1, first[:, None] + torch.arange(4), weights)
    return full


def smooth_field(gen: torch.Generator, period_mm: float, shape: Sequence[int]) -> Tensor:
    """Smooth noise of zero mean and about unit SD, (X, Y, Z), on a B-spline grid.

    Parameters
    ----------
    gen : torch.Generator
    period_mm : float
        Distance of the grid's nodes at 1 mm voxels.
    shape : tuple of int
    """
    nodes = [max(1, round(n / period_mm)) for n in shape]
    field = torch.randn(*(n + 3 for n in nodes), generator=gen)
    for axis in (2, 1, 0):
        field = along(field, _basis(shape[axis], nodes[axis]), axis)
    # Sum of squares of the B-spline's weights, per axis.
    return field / 0.479**1.5


def voxel_positions(shape: Sequence[int]) -> Tensor:
    """Voxel indices, (3, X, Y, Z) float32."""
    return torch.stack(torch.meshgrid(*(torch.arange(n, dtype=torch.float32) for n in shape), indexing="ij"))


def apply_affine(matrix: Tensor, positions: Tensor) -> Tensor:
    """A (3, 4) matrix on (3, ...) positions."""
    moved = matrix[:, :3] @ positions.reshape(3, -1) + matrix[:, 3:]
    return moved.reshape(positions.shape)


def sample(volumes: Tensor, at_vox: Tensor, mode: str = "bilinear", padding: str = "border") -> Tensor:
    """Sample (C, X, Y, Z) volumes at (3, ...) voxel positions of theirs; (C, ...)."""
    size = torch.tensor(volumes.shape[1:], dtype=torch.float32).view(3, 1)
    grid = (2 * at_vox.reshape(3, -1) / (size - 1) - 1).flip(0).T
    found = F.grid_sample(
        volumes[None], grid.reshape(1, 1, 1, -1, 3), mode=mode, padding_mode=padding, align_corners=True
    )
    return found.reshape(len(volumes), *at_vox.shape[1:])


@functools.lru_cache(maxsize=256)
def _blur_matrix(count, sigma):
    at = torch.arange(count, dtype=torch.float32)
    weights = torch.exp(-((at[:, None] - at[None]) ** 2) / (2 * sigma**2))
    return weights / weights.sum(1, keepdim=True)


def gaussian(volume: Tensor, sigma_vox: float) -> Tensor:
    """Gaussian blur of (X, Y, Z). A product with a matrix per axis: the fastest on a CPU."""
    if sigma_vox > 0.15:
        for axis in range(3):
            volume = along(volume, _blur_matrix(volume.shape[axis], round(float(sigma_vox), 2)), axis)
    return volume


@functools.lru_cache(maxsize=64)
def _enlarging(count, step):
    """Linear interpolation from every ``step``-th voxel to all ``count``."""
    coarse = -(-count // step)
    at = (torch.arange(count, dtype=torch.float32) / step).clamp(max=coarse - 1)
    return (1 - (at[:, None] - torch.arange(coarse)[None]).abs()).clamp(min=0)


def enlarge(coarse: Tensor, shape: Sequence[int], step: int) -> Tensor:
    """(x, y, z) of every ``step``-th voxel to ``shape``, linearly."""
    for axis in (2, 1, 0):
        coarse = along(coarse, _enlarging(shape[axis], step), axis)
    return coarse


def along(volume: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Multiply (X, Y, Z) by an (M, N) matrix along an axis of N voxels."""
    dims: Any = ([axis], [1])
    return torch.tensordot(volume, matrix, dims).movedim(-1, axis)


def ball(positions: Tensor, centre: Sequence[float], radius: Sequence[float]) -> Tensor:
    """Smooth bump of height 1 around an MNI position, both sides of the midline; radii (3,) mm."""
    x, y, z = positions
    away = ((x.abs() - centre[0]) / radius[0]).square_()
    away += ((y - centre[1]) / radius[1]).square_()
    away += ((z - centre[2]) / radius[2]).square_()
    return away.square_().mul_(-0.5).exp_()


def box_around(centre: Iterable[Any], reach: int, shape: Sequence[int]) -> tuple[tuple[slice, ...], np.ndarray]:
    """Voxels up to ``reach`` from one along each axis, within a volume: their slices, and their offsets from it."""
    box = tuple(slice(max(int(c) - reach, 0), min(int(c) + reach + 1, n)) for c, n in zip(centre, shape))
    return box, np.stack(np.meshgrid(*(np.arange(b.start, b.stop) - c for b, c in zip(box, centre)), indexing="ij"))


def rotation(angles_rad: Sequence[float]) -> Tensor:
    """(3, 3) rotation by angles around x, y and z."""
    a, b, c = angles_rad
    cos, sin = math.cos, math.sin
    rx = torch.tensor([[1, 0, 0], [0, cos(a), -sin(a)], [0, sin(a), cos(a)]])
    ry = torch.tensor([[cos(b), 0, sin(b)], [0, 1, 0], [-sin(b), 0, cos(b)]])
    rz = torch.tensor([[cos(c), -sin(c), 0], [sin(c), cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx
