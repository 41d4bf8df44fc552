"""Which part of a head is shown: the slices that show its lesions best, some without, and the field around it."""

from dataclasses import dataclass

import numpy as np

MOST = 24
# Lesions that were missed are on other slices: some of those are shown always, and more where there is room.
EMPTY, EMPTY_TO = 4, 16
# Part of its largest area from which a lesion is well seen on a slice.
_SEEN = 0.4
_MARGIN_MM = 4.0
# Part of the bright voxels' intensity (99th percentile) from which a voxel is of the head.
_HEAD = 0.15
# Part of the largest extent along a line from which the head is there, and of the largest slice that has brain.
_PROFILE, _BRAIN = 0.04, 0.45


@dataclass(frozen=True, eq=False)
class View:
    """What is shown of a head.

    Attributes
    ----------
    slices : tuple of int
        Sorted.
    start, size : tuple of 2 int
        First voxel and size of the field, the same on every slice.
    areas : (L + 1, Z) int
        Voxels of each lesion (by id) on each slice.
    """

    slices: tuple
    start: tuple
    size: tuple
    areas: np.ndarray

    def best_slice(self, lesion):
        """The slice that shows a lesion best: of those shown if it is on one, else of all."""
        shown = max(self.slices, key=lambda k: self.areas[lesion, k], default=None)
        if shown is not None and self.areas[lesion, shown]:
            return shown
        return int(self.areas[lesion].argmax())

    def shows(self, lesion):
        """Whether any voxel of a lesion is on a slice shown."""
        return bool(self.areas[lesion, list(self.slices)].any())

    def on_slice(self, k):
        """Lesions on a slice, the largest there first."""
        here = self.areas[:, k]
        return [int(n) for n in np.argsort(-here, kind="stable")[: np.count_nonzero(here)]]


def choose(image, labels, counted, spacing_mm, box=None):
    """Choose slices and field.

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

    Returns
    -------
    View
    """
    areas = slice_areas(labels)
    ends = _head(image, labels.shape) if not _is_box(box, labels.shape) else [tuple(map(int, pair)) for pair in box]
    slices = choose_slices(areas[list(counted)], areas.any(axis=0), ends[2])
    start, size = [], []
    for axis in (0, 1):
        margin = int(np.ceil(_MARGIN_MM / spacing_mm[axis]))
        held = np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis})))
        low = min(ends[axis][0], *(held[:1] if len(held) else [ends[axis][0]]))
        high = max(ends[axis][1], *(held[-1:] + 1 if len(held) else [ends[axis][1]]))
        first = max(0, int(low) - margin)
        start.append(first)
        size.append(min(labels.shape[axis], int(high) + margin) - first)
    return View(slices, tuple(start), tuple(size), areas)


def slice_areas(labels):
    """Voxels of each lesion on each slice: (L + 1, Z), the background's left 0."""
    depth = labels.shape[2]
    where = np.nonzero(labels)
    ids = labels[where].astype(np.int64)
    count = int(ids.max()) + 1 if len(ids) else 1
    return np.bincount(ids * depth + where[2], minlength=count * depth).reshape(count, depth)


def choose_slices(areas, filled, span, most=MOST):
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
    most : int

    Returns
    -------
    tuple of int
        Sorted.
    """
    depth = areas.shape[1]
    if depth <= most:
        return tuple(range(depth))
    free = [k for k in range(*span) if not filled[k]]
    chosen = _with_lesions(areas, most - len(_spread(free, span, EMPTY)))
    # Closer places where many have none near.
    tries = (_spread(free, span, count) for count in range(max(EMPTY, EMPTY_TO - len(chosen)), EMPTY_TO + 1))
    without = next((some for some in tries if len(some) >= EMPTY), _spread(free, span, EMPTY_TO))
    chosen += without[: most - len(chosen)]
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


def _head(image, shape):
    """The head's (first, end) along each axis; along the last one without the neck."""
    whole = [(0, n) for n in shape]
    if image is None:
        return whole
    few = image[::2, ::2, ::2]
    low, high = np.percentile(few, (1, 99))
    inside = few > low + _HEAD * (high - low)
    if not inside.any():
        return whole
    ends = []
    for axis, n in enumerate(shape):
        profile = inside.sum(axis=tuple({0, 1, 2} - {axis}))
        held = np.flatnonzero(profile >= (_BRAIN if axis == 2 else _PROFILE) * profile.max())
        ends.append((2 * int(held[0]), min(n, 2 * int(held[-1]) + 2)))
    return ends


def _is_box(box, shape):
    try:
        pairs = np.asarray(box, float)
    except (TypeError, ValueError):
        return False
    return pairs.shape == (3, 2) and all(0 <= a < b <= n for (a, b), n in zip(pairs, shape))
