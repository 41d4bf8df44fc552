"""Running a 3D network over overlapping patches of a volume."""

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from sctseg7t.image.grid import bounding_box


def sliding_patches(
    volume: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    *,
    size: Sequence[int] = (64, 64, 64),
    overlap: float = 0.5,
    inside: np.ndarray | None = None,
    told: Callable[[float], object] = lambda part: None,
) -> np.ndarray:
    """Run a 3D network over overlapping patches and blend what they say with Gaussian weights.

    Parameters
    ----------
    volume : (C, X, Y, Z) float32
        An axis shorter than a patch is filled up with the volume's least value per channel, and cut again.
    network : callable
        Takes (1, C, size, size, size) and gives (1, K, size, size, size).
    size : sequence of 3 int
        Edges of a patch, voxels.
    overlap : float
        Part of an edge that neighbours share at least; 0 or more, below 1.
    inside : (X, Y, Z) bool, optional
        Patches without a voxel of it are left out; the result is 0 outside it.
    told : callable
        Called with the part of the patches that is done (0 to 1).

    Returns
    -------
    (K, X, Y, Z) float32
        0 where no patch was run. A volume with nothing inside gives one run's K.
    """
    volume = np.asarray(volume, dtype=np.float32)
    shape = volume.shape[1:]
    size = tuple(size)
    padded, before = _filled(volume, size)
    starts = patch_starts(shape if inside is None else inside, size, overlap)
    # One patch at least: the number of outputs is the network's to say.
    starts = starts or [(0, 0, 0)]
    weight = gaussian_weight(size)
    total, blend = np.zeros(0, np.float32), np.zeros(padded.shape[1:], np.float32)
    for n, start in enumerate(starts, 1):
        at = _slices(start, size)
        (values,) = network(padded[None, :, *at])
        if not total.size:
            total = np.zeros((len(values), *padded.shape[1:]), np.float32)
        total[:, *at] += values * weight
        blend[at] += weight
        told(n / len(starts))
    np.divide(total, blend, out=total, where=blend > 0)
    total = total[:, *_slices(before, shape)]
    return total if inside is None else np.where(inside, total, np.float32(0))


def patch_starts(
    inside: np.ndarray | tuple[int, ...], size: Sequence[int], overlap: float
) -> list[tuple[int, int, int]]:
    """First voxels of the patches that are run, in the volume filled up to a patch's size.

    Parameters
    ----------
    inside : (X, Y, Z) bool, or a shape
        Patches cover the box of its voxels; those without any are left out.
    size : tuple of 3 int
    overlap : float

    Returns
    -------
    list of tuple of 3 int
    """
    if isinstance(inside, tuple):
        inside = np.broadcast_to(np.True_, inside)
    box = bounding_box(inside)
    if box is None:
        return []
    before = [max(n - m, 0) // 2 for n, m in zip(size, inside.shape)]
    axes = []
    for axis, (n, edge, pad) in enumerate(zip(inside.shape, size, before)):
        axes.append(_axis_starts(box[axis].start + pad, box[axis].stop + pad, max(n, edge), edge, overlap))
    # Sums over boxes from a cumulative table: nothing is read twice.
    whole = np.pad(inside, [(b, max(n, m) - b - m) for b, n, m in zip(before, size, inside.shape)])
    return [start for start in itertools.product(*axes) if whole[_slices(start, size)].any()]


def gaussian_weight(size: Sequence[int]) -> np.ndarray:
    """Blending weights of a patch: a Gaussian of an eighth of its edge, at least 1/1000 of the centre: float32."""
    weight = np.ones((1, 1, 1))
    for axis, n in enumerate(size):
        position = (np.arange(n) - (n - 1) / 2) / (n / 8)
        weight = weight * np.exp(-0.5 * position**2).reshape([-1 if k == axis else 1 for k in range(3)])
    return np.maximum(weight / weight.max(), 1e-3).astype(np.float32)


def _axis_starts(low, high, length, edge, overlap):
    """Evenly spread starts that cover low to high, as few as the overlap allows."""
    span = high - low
    if span <= edge:
        return [int(np.clip(low + (span - edge) // 2, 0, length - edge))]
    step = max(int(edge * (1 - overlap)), 1)
    count = -(-(span - edge) // step) + 1
    return [low + int(round(k * (span - edge) / (count - 1))) for k in range(count)]


def _filled(volume, size):
    before = [max(n - m, 0) // 2 for n, m in zip(size, volume.shape[1:])]
    after = [max(n - m, 0) - b for n, m, b in zip(size, volume.shape[1:], before)]
    if not any(before) and not any(after):
        return volume, before
    padded = np.empty((len(volume), *(m + a + b for m, a, b in zip(volume.shape[1:], before, after))), np.float32)
    for k, channel in enumerate(volume):
        padded[k] = np.pad(channel, list(zip(before, after)), constant_values=channel.min())
    return padded, before


def _slices(start, size):
    return tuple(slice(s, s + n) for s, n in zip(start, size))
