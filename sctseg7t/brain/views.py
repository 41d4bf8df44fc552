"""Slices of a brain as a network sees them: each with its neighbours, in the planes in which the scan is sharp.

A scan of thick slices is looked at in its own slices, one plane alone: between them it saw nothing. A scan of small
voxels is looked at in three planes, and a voxel's probability is the mean of them.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
from nibabel.affines import apply_affine, voxel_sizes

from sctseg7t.brain.isotropic_grid import grid_around
from sctseg7t.image.grid import Grid, bounding_box

# Where a slice's neighbours lie that are channels beside it. Between thick slices they are interpolated.
OFFSETS_MM = (-6.0, -3.0, -1.0, 0.0, 1.0, 3.0, 6.0)
# From this thickness on the scan's own slices are kept; thinner ones are sampled at the grid's spacing.
OWN_SLICES_MM = 2.0
# A view's axis, and the order in which its plane's axes are shown to the network: the longer one of a brain last.
PLANES = {2: (0, 1), 1: (0, 2), 0: (2, 1)}


def through_axis(spacing_mm: Sequence[float] | np.ndarray) -> int | None:
    """The axis along which slices are thick; None where none are."""
    axis = int(np.argmax(spacing_mm))
    return axis if spacing_mm[axis] >= OWN_SLICES_MM else None


def view_grid(mask: np.ndarray, affine: np.ndarray, *, spacing_mm: float = 1.0, margin_mm: float = 4.0) -> Grid:
    """The grid on which a brain is looked at: the scan's own slices if they are thick, else an isotropic one.

    Parameters
    ----------
    mask : (X, Y, Z) bool
        Brain.
    affine : (4, 4) array
        Canonical, mm.
    spacing_mm : float
        In the plane, or of the isotropic grid.
    margin_mm : float
        In the plane.
    """
    sizes = voxel_sizes(affine)
    axis = through_axis(sizes)
    box = bounding_box(mask) or tuple(slice(0, n) for n in mask.shape)
    if axis is None:
        return grid_around(mask, affine, spacing_mm=spacing_mm, margin_mm=margin_mm)
    grid, first, shape = affine.astype(float), np.zeros(3), []
    for a, part in enumerate(box):
        if a == axis:
            first[a] = part.start
            shape.append(part.stop - part.start)
            continue
        margin = margin_mm / sizes[a]
        first[a] = part.start - margin
        shape.append(int(np.ceil((part.stop - part.start + 2 * margin) * sizes[a] / spacing_mm)))
        grid[:3, a] *= spacing_mm / sizes[a]
    grid[:3, 3] = apply_affine(affine, first)
    x, y, z = shape
    return Grid((x, y, z), grid)


@functools.cache
def neighbours(step_mm: float) -> tuple[np.ndarray, np.ndarray]:
    """Which slices a slice's channels are made of.

    Parameters
    ----------
    step_mm : float
        From slice to slice.

    Returns
    -------
    steps : (N,) int array
        Slices from the middle one.
    weights : (len(OFFSETS_MM), N) float32
        Of each slice in each channel: linear between the two nearest.
    """
    at = np.array(OFFSETS_MM) / step_mm
    at[np.abs(at - np.round(at)) < 1e-3] = np.round(at[np.abs(at - np.round(at)) < 1e-3])
    low = np.floor(at).astype(int)
    steps = np.unique(np.concatenate([low, low[at > low] + 1]))
    weights = np.maximum(1 - np.abs(at[:, None] - steps[None]), 0)
    return steps, weights.astype(np.float32)


def slice_channels(stack: np.ndarray, index: int, step_mm: float, outside: float) -> np.ndarray:
    """Channels (len(OFFSETS_MM), A, B) of a slice of a stack (N, A, B); beyond the stack there is ``outside``."""
    steps, weights = neighbours(round(float(step_mm), 3))
    empty = np.full(stack.shape[1:], outside, np.float32)
    shown = [stack[index + k] if 0 <= index + k < len(stack) else empty for k in steps]
    return np.tensordot(weights, np.stack(shown), 1)


def view_probability(
    values: np.ndarray,
    inside: np.ndarray,
    spacing_mm: Sequence[float],
    network: Callable[[np.ndarray], np.ndarray],
    *,
    multiple: int = 16,
    batch: int = 4,
    planes: Sequence[int] = (2, 1, 0),
    told: Callable[[float], object] = lambda part: None,
) -> np.ndarray:
    """Probability of a lesion in every voxel of a brain's grid.

    Parameters
    ----------
    values : (X, Y, Z) float32
        Normalised; the least of it is no signal.
    inside : (X, Y, Z) bool
        Brain; the result is 0 outside it.
    spacing_mm : sequence of 3 float
        Of the grid: with one thick axis, as :func:`view_grid` makes it, or alike along all.
    network : callable
        (N, channels, A, B) to (N, 1, A, B).
    multiple : int
        Sides that the network takes are multiples of it.
    batch : int
        Slices at once.
    planes : sequence of int
        Axes of the views of a scan without thick slices.
    told : callable
        Called with the part of the slices that is done (0 to 1).
    """
    thick = through_axis(spacing_mm)
    axes = tuple(planes) if thick is None else (thick,)
    total, outside = np.zeros(values.shape, np.float32), float(values.min())
    box = bounding_box(inside)
    if box is None:
        return total
    count, done = sum(box[axis].stop - box[axis].start for axis in axes), 0
    for axis in axes:
        order = (axis, *PLANES[axis])
        stack, found = values.transpose(order), total.transpose(order)
        rows, columns = (box[a] for a in PLANES[axis])
        stack = stack[:, rows, columns]
        sides = [-(-n // multiple) * multiple for n in stack.shape[1:]]
        before = [(side - n) // 2 for side, n in zip(sides, stack.shape[1:])]
        pad = [(0, 0), *((b, side - n - b) for b, side, n in zip(before, sides, stack.shape[1:]))]
        stack = np.pad(stack, pad, constant_values=outside)
        part = tuple(slice(b, b + s.stop - s.start) for b, s in zip(before, (rows, columns)))
        numbers = range(box[axis].start, box[axis].stop)
        for first in range(0, len(numbers), batch):
            some = numbers[first : first + batch]
            shown = np.stack([slice_channels(stack, k, spacing_mm[axis], outside) for k in some])
            for k, probability in zip(some, network(shown)[:, 0]):
                found[k, rows, columns] += probability[part] / len(axes)
            done += len(some)
            told(done / count)
    return np.where(inside, total, np.float32(0))
