"""Resampling an item, and the drawn changes of place: where each sample of a new image comes from in the old one."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, zoom
from scipy.spatial.transform import Rotation
from torch.nn.functional import grid_sample

from sctseg7t.train.scans.items import Item


def grid(shape: Sequence[int]) -> np.ndarray:
    """Index of every sample, (dimensions, ...) float32."""
    return np.indices(shape, np.float32)


def warp(item: Item, places: np.ndarray) -> Item:
    """The item resampled: image, target, inside and priors alike.

    Parameters
    ----------
    item : Item
    places : (dimensions, ...) array
        Index in the item that each sample of the new one comes from. Beyond the border the border is repeated.
    """
    flat = np.concatenate([item.target, item.priors, item.inside[None]])
    flat = sample(flat, places).clip(0, 1)
    count = len(item.target)
    return replace(
        item,
        image=sample(item.image, places, sharp=True).clip(0),
        target=flat[:count],
        priors=flat[count:-1],
        inside=(flat[-1] > 0.5) & _within(places, item.inside.shape),
    )


def sample(channels: np.ndarray, places: np.ndarray, *, sharp: bool = False) -> np.ndarray:
    """Channels (C, ...) at places (dimensions, ...), linearly interpolated, (C, ...) float32.

    ``sharp``: in two dimensions cubic, which keeps the grain of an image; a volume has no time for it.
    """
    sizes = _along(channels.shape[1:])
    # torch has -1 and 1 at the first and the last sample, and the last axis first.
    where = (2 * places / np.maximum(sizes - 1, 1) - 1)[::-1]
    where = torch.from_numpy(np.ascontiguousarray(np.moveaxis(where, 0, -1), np.float32))
    values = torch.from_numpy(np.ascontiguousarray(channels, np.float32))
    mode = "bicubic" if sharp and len(places) == 2 else "bilinear"
    return grid_sample(values[None], where[None], mode, padding_mode="border", align_corners=True)[0].numpy()


def affine(
    rng: np.random.Generator, shape: Sequence[int], *, degrees: float, scale: float, shift: float = 0.0
) -> np.ndarray:
    """Places (dimensions, ...) after a turn about the middle, a scaling of each axis and a shift of so many samples."""
    count, sizes = len(shape), np.array(shape)
    angles = rng.uniform(-degrees, degrees, 3)
    if count == 2:
        angles[:2] = 0
    turn = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()[:count, :count]
    matrix = turn / rng.uniform(1 - scale, 1 + scale, count)
    moved = rng.uniform(-shift, shift, count)
    middle = (sizes - 1) / 2
    return np.tensordot(matrix, grid(shape) - _along(middle), 1).astype(np.float32) + _along(middle + moved)


def smoothed_noise(
    rng: np.random.Generator, shape: Sequence[int], *, alpha: tuple[float, float], sigma: tuple[float, float]
) -> np.ndarray:
    """Displacements (dimensions, ...) in samples: smoothed noise times alpha (Simard et al., ICDAR 2003)."""
    width, height = rng.uniform(*sigma), rng.uniform(*alpha)
    noise = rng.uniform(-1, 1, (len(shape), *shape)).astype(np.float32)
    return np.stack([gaussian_filter(one, width, mode="constant") for one in noise]) * np.float32(height)


def control_points(
    rng: np.random.Generator, shape: Sequence[int], *, most: Sequence[float], points: int = 7, locked: int = 2
) -> np.ndarray:
    """Displacements (dimensions, ...) in samples, at most so many along each axis: cubic between drawn control points.

    As TorchIO's elastic deformation; the outermost points stay in place.
    """
    inner = [points - 2 * locked] * len(shape)
    coarse = [np.pad(rng.uniform(-far, far, inner), locked) for far in most]
    factors = [size / points for size in shape]
    return np.stack([zoom(one, factors, order=3, mode="nearest", grid_mode=True) for one in coarse]).astype(np.float32)


def _within(places, shape):
    return ((places > -0.5) & (places < _along(shape) - 0.5)).all(0)


def _along(values):
    """One value an axis, beside an array of indices."""
    return np.asarray(values, np.float32).reshape(-1, *[1] * len(values))
