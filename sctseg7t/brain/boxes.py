"""Boxes around lesions, as a detector's maps tell them."""

from dataclasses import dataclass

import numpy as np

# Maps of a detector: objectness, and how far the sides of the box are from a voxel, as shares of LARGEST_VOX.
MAPS = ("objectness", "left", "right", "back", "front", "below", "above")
LARGEST_VOX = 32.0
# Of two boxes that share more than this of both together only the likelier one is kept.
_SAME = 0.2
# An untrained detector sees something everywhere.
_MOST = 500


@dataclass(frozen=True)
class Box:
    """A box on a grid.

    Attributes
    ----------
    low, high : (3,) tuple of float
        Corners, voxels: the first voxel's lower side is -0.5.
    chance : float
        Objectness.
    """

    low: tuple[float, ...]
    high: tuple[float, ...]
    chance: float

    @property
    def slices(self) -> tuple[slice, ...]:
        """Voxels whose middle is in it; one at least along each axis."""
        first = [max(int(np.ceil(a)), 0) for a in self.low]
        return tuple(slice(a, max(int(np.floor(b)) + 1, a + 1)) for a, b in zip(first, self.high))

    def shared(self, other: "Box") -> float:
        """Intersection over union with another box."""
        sides = [min(a, b) - max(c, d) for a, b, c, d in zip(self.high, other.high, self.low, other.low)]
        common = float(np.prod(np.maximum(sides, 0)))
        whole = sum(float(np.prod(np.subtract(box.high, box.low))) for box in (self, other))
        return common / max(whole - common, 1e-9)


def find_boxes(maps: np.ndarray, least: float, inside: np.ndarray | None = None) -> list[Box]:
    """Boxes of a detector's maps, the likeliest first.

    Parameters
    ----------
    maps : (7, X, Y, Z) float
        As ``MAPS`` lists them, all 0 to 1.
    least : float
        Objectness from which there is something.
    inside : (X, Y, Z) bool, optional
        Where middles may be.
    """
    from scipy import ndimage

    objectness = maps[0] if inside is None else np.where(inside, maps[0], 0)
    # Peaks of a smooth map; cells of two voxels have one value.
    smooth = ndimage.gaussian_filter(objectness, 0.7)
    peaks = (smooth >= ndimage.maximum_filter(smooth, 5)) & (objectness >= least)
    found = []
    places = np.argwhere(peaks)
    for at in places[np.argsort(-objectness[peaks])[:_MOST]]:
        sides = maps[(slice(1, None), *at)] * LARGEST_VOX
        low, high = (tuple(float(v) for v in part) for part in (at - sides[0::2], at + sides[1::2]))
        found.append(Box(low, high, float(objectness[tuple(at)])))
    kept: list[Box] = []
    for box in sorted(found, key=lambda box: -box.chance):
        if all(box.shared(other) <= _SAME for other in kept):
            kept.append(box)
    return kept


def fill_boxes(boxes: list[Box], change: np.ndarray, least: float) -> np.ndarray:
    """Chance of something new in each voxel (X, Y, Z) float32: in each box what has brightened by half of its peak.

    Parameters
    ----------
    boxes : list of Box
    change : (X, Y, Z) float
        Smoothed difference of the scans, medians of the brain.
    least : float
        Change that counts at all.
    """
    from scipy import ndimage

    out = np.zeros(change.shape, np.float32)
    for box in boxes:
        # A voxel more on each side: boxes are rough.
        part = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box.slices)
        own = change[part]
        if not own.size or own.max() <= least:
            continue
        labels, _ = ndimage.label(own > max(least, own.max() / 2), np.ones((3, 3, 3)))
        mine = labels == labels.flat[own.argmax()]
        out[part] = np.maximum(out[part], mine * np.float32(box.chance))
    return out
