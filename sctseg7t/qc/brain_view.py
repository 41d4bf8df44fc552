"""Which part of a brain scan the page shows: slices that show its lesions best, some without, and the window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sctseg7t.report.slice_images import Window, brain_window, head_box

MOST = 24
# Lesions that were missed are on other slices: some of those are shown always, and more where there is room.
EMPTY, EMPTY_TO = 4, 16
# Part of its largest area from which a lesion is well seen on a slice.
_SEEN = 0.4


@dataclass(frozen=True, eq=False)
class View:
    """The part of a brain scan that is shown.

    Attributes
    ----------
    slices : tuple of int
        Sorted.
    window : Window
        The same on every slice.
    areas : (L + 1, Z) int array
        Voxels of each lesion (by id) on each slice; the background's are left 0.
    """

    slices: tuple[int, ...]
    window: Window
    areas: np.ndarray

    def best_slice(self, lesion: int) -> int:
        """The slice that shows a lesion best: of those shown if it is on one, else of all."""
        shown = max(self.slices, key=lambda k: self.areas[lesion, k], default=None)
        if shown is not None and self.areas[lesion, shown]:
            return shown
        return int(self.areas[lesion].argmax())

    def shows(self, lesion: int) -> bool:
        """Whether any voxel of a lesion is on a slice shown."""
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
        The brain's voxels along each axis; without, the head is found by its brightness.
    """
    depth, where = labels.shape[2], np.nonzero(labels)
    ids = labels[where].astype(np.int64)
    count = int(ids.max(initial=0)) + 1
    areas = np.bincount(ids * depth + where[2], minlength=count * depth).reshape(count, depth)
    ends = [(int(first), int(end)) for first, end in box] if box else head_box(image, labels.shape)
    slices = choose_slices(areas[list(counted)], areas.sum(axis=0) > 0, ends[2])
    return View(slices, brain_window(labels, ends, spacing_mm), areas)


def choose_slices(areas: np.ndarray, filled: np.ndarray, span: tuple[int, int]) -> tuple[int, ...]:
    """Slices that show every lesion where it is large, as far as they reach, and some without any.

    Lesion by lesion, in the order given, a slice is taken that shows it well unless a chosen one does already: that
    which shows most of those still to come well.

    Parameters
    ----------
    areas : (L, Z) array
        Of the lesions to be seen.
    filled : (Z,) bool
        Slices with any lesion.
    span : (first, end)
        Where slices without lesions are chosen from, evenly spaced; where all have some and few are chosen, of those.

    Returns
    -------
    tuple of int
        Sorted.
    """
    depth = areas.shape[1]
    if depth <= MOST:
        return tuple(range(depth))
    free = [k for k in range(*span) if not filled[k]]
    chosen = _with_lesions(areas, MOST - len(_spread(free, span, EMPTY)))
    # Closer places where many have none near.
    tries = (_spread(free, span, count) for count in range(max(EMPTY, EMPTY_TO - len(chosen)), EMPTY_TO + 1))
    without = next((some for some in tries if len(some) >= EMPTY), _spread(free, span, EMPTY_TO))
    chosen += without[: MOST - len(chosen)]
    if len(chosen) < EMPTY_TO:
        chosen += _spread([k for k in range(*span) if k not in chosen], span, EMPTY_TO - len(chosen))
    return tuple(sorted(chosen))


def _spread(pool, span, count):
    """Of a pool of slices those nearest to evenly spaced places; none for a place that has none near."""
    step = (span[1] - span[0]) / count
    found = {}
    for target in span[0] + step * (np.arange(count) + 0.5):
        near = [k for k in pool if abs(k + 0.5 - target) <= step / 2 and k not in found]
        if near:
            found[min(near, key=lambda k: abs(k + 0.5 - target))] = None
    return list(found)


def _with_lesions(areas, most):
    chosen = []
    largest = areas.max(axis=1, initial=1)[:, None]
    well = (areas >= _SEEN * largest) & (areas > 0)
    waiting = np.ones(len(areas), bool)
    for n, area in enumerate(areas):
        if waiting[n] and len(chosen) < most:
            good = np.flatnonzero(well[n])
            # Of slices that show as many, that where the lesion itself is largest.
            gain = well[np.ix_(waiting, good)].sum(axis=0) + area[good] / (largest[n] + 1)
            chosen.append(int(good[gain.argmax()]))
            waiting &= ~well[:, chosen[-1]]
    return chosen
