"""Which part of a brain scan the page shows: the window, the slices of the stack, and those laid out below it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.report.slice_images import Window, brain_window, head_box

# Slices laid out beside each other: at most, and as many as gaps are filled up to.
MOST, ENOUGH = 24, 16
# Closer ones look the same.
APART_MM = 3.0
# Above and below the brain, as many mm are in the stack.
_MARGIN_MM = 4.0
# Part of its largest area from which a lesion is well seen on a slice.
_SEEN = 0.4


@dataclass(frozen=True, eq=False)
class View:
    """The part of a brain scan that is shown.

    Attributes
    ----------
    stack : (first, end)
        The slices that can be scrolled through: all that hold brain, or lesions.
    slices : tuple of int
        Those laid out, sorted.
    window : Window
        The same on every slice.
    areas : (L + 1, Z) int array
        Voxels of each lesion (by id) on each slice; the background's are left 0.
    """

    stack: tuple[int, int]
    slices: tuple[int, ...]
    window: Window
    areas: np.ndarray

    def best_slice(self, lesion: int) -> int:
        """The slice that shows a lesion best: of those laid out if it is on one, else of all."""
        shown = max(self.slices, key=lambda k: self.areas[lesion, k], default=None)
        if shown is not None and self.areas[lesion, shown]:
            return shown
        return int(self.areas[lesion].argmax())

    def shows(self, lesion: int) -> bool:
        """Whether any voxel of a lesion is on a slice laid out."""
        return bool(self.areas[lesion, list(self.slices)].any())

    def on_slice(self, k: int) -> list[int]:
        """Lesions on a slice, the largest there first."""
        here = self.areas[:, k]
        return [int(n) for n in np.argsort(-here, kind="stable")[: np.count_nonzero(here)]]


def choose_view(
    image: np.ndarray | None,
    labels: np.ndarray,
    counted: Sequence[int],
    spacing_mm: Sequence[float],
    box: Any = None,
) -> View:
    """Choose slices and window.

    Parameters
    ----------
    image : (X, Y, Z) array, or None
    labels : (X, Y, Z) int array
        Lesion ids from 1, 0 outside.
    counted : sequence of int
        Lesions that should be seen, the most important first.
    spacing_mm : sequence of float
    box : sequence of (first, end), optional
        The brain's voxels along each axis; without, the head is found by its brightness, and the stack is the scan.
    """
    depth, where = labels.shape[2], np.nonzero(labels)
    ids = labels[where].astype(np.int64)
    count = int(ids.max(initial=0)) + 1
    areas = np.bincount(ids * depth + where[2], minlength=count * depth).reshape(count, depth)
    bright = head_box(image, labels.shape)
    brain = [(int(first), int(end)) for first, end in box] if box else [*bright[:2], (0, depth)]
    margin = int(np.ceil(_MARGIN_MM / spacing_mm[2]))
    low, high = max(0, brain[2][0] - margin), min(depth, brain[2][1] + margin)
    held = np.flatnonzero(areas.any(axis=0))
    if len(held):
        low, high = min(low, int(held[0])), max(high, int(held[-1]) + 1)
    full = max(low, bright[2][0]), min(high, bright[2][1])
    apart = int(np.ceil(APART_MM / spacing_mm[2]))
    slices = choose_slices(areas[list(counted)], (low, high), full if full[0] < full[1] else (low, high), apart)
    return View((low, high), slices, brain_window(labels, brain, spacing_mm), areas)


def choose_slices(
    areas: np.ndarray, stack: tuple[int, int], span: tuple[int, int] | None = None, apart: int = 1
) -> tuple[int, ...]:
    """Slices that show every lesion where it is large, as far as they reach, and others in the gaps between them.

    Lesion by lesion, in the order given, a slice is taken that shows it well unless a chosen one does already: that
    which shows most of those still to come well.

    Parameters
    ----------
    areas : (L, Z) array
        Of the lesions to be seen.
    stack : (first, end)
        All there are.
    span : (first, end), optional
        Where the gaps are filled, in their middle, the largest first; default the stack.
    apart : int
        Of slices nearer than that only one is taken.

    Returns
    -------
    tuple of int
        Sorted.
    """
    if stack[1] - stack[0] <= MOST:
        return tuple(range(*stack))
    first, end = span or stack
    chosen = _with_lesions(areas, MOST, apart)
    while len(chosen) < ENOUGH:
        edges = sorted({first - 1, end, *(k for k in chosen if first <= k < end)})
        low, high = max(zip(edges, edges[1:]), key=lambda gap: gap[1] - gap[0])
        if high - low < 2 * apart or high - low < 2:
            break
        chosen.append((low + high) // 2)
    return tuple(sorted(chosen))


def _with_lesions(areas, most, apart):
    chosen = []
    largest = areas.max(axis=1, initial=1)[:, None]
    well = (areas >= _SEEN * largest) & (areas > 0)
    waiting = np.ones(len(areas), bool)
    free = np.ones(areas.shape[1], bool)
    for n, area in enumerate(areas):
        if not waiting[n] or len(chosen) == most:
            continue
        good = np.flatnonzero(well[n] & free)
        if len(good):
            # Of slices that show as many, that where the lesion itself is largest.
            gain = well[np.ix_(waiting, good)].sum(axis=0) + area[good] / (largest[n] + 1)
            k = int(good[gain.argmax()])
            chosen.append(k)
            free[max(0, k - apart + 1) : k + apart] = False
            waiting &= ~well[:, k]
    return chosen
