"""Positions, smooth fields and sampling in 3D that the brain's effects share."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


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


def rotation(angles_rad: Sequence[float]) -> Tensor:
    """(3, 3) rotation by angles around x, y and z."""
    a, b, c = angles_rad
    cos, sin = math.cos, math.sin
    rx = torch.tensor([[1, 0, 0], [0, cos(a), -sin(a)], [0, sin(a), cos(a)]])
    ry = torch.tensor([[cos(b), 0, sin(b)], [0, 1, 0], [-sin(b), 0, cos(b)]])
    rz = torch.tensor([[cos(c), -sin(c), 0], [sin(c), cos(c), 0], [0, 0, 1]])
    return rz @ ry @ rx
