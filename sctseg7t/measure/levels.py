"""Vertebral level of each slice: from labels, from the discs between vertebrae, or from a list."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.frame import Frame
from sctseg7t.measure.centreline import Centreline

# Fewer labelled voxels a slice than this is a mark on a vertebra or disc, not a labelled cord.
_POINT_VOXELS = 10
# How far beyond the outermost point or disc a slice still takes its level.
POINT_REACH_MM = 10.0
# Points on the cord may lie this far outside its mask; those of discs lie further in front of it.
_OFF_CORD_MM = 1.0
# A disc's posterior edge lies within a centimetre or so of the cord's middle; labels of another scan do not.
_DISC_MM = 40.0


class Levels(Protocol):
    """What tells the vertebral level of slices."""

    def of_slices(self, cord: np.ndarray | None, line: Centreline, frame: Frame) -> list[int | None]:
        """Vertebral level per slice; None where it is not known.

        Parameters
        ----------
        cord : (X, Y, Z) array or None
            Fractions of the cord.
        line : Centreline
        frame : Frame

        Raises
        ------
        InputError
            These levels cannot be those of this cord.
        """
        ...

    def within(self, box: tuple[slice, ...]) -> "Levels":
        """The same for a part of each slice."""
        ...


@dataclass(frozen=True, eq=False)
class LabelledLevels:
    """Vertebral labels on the grid of the masks: a labelled cord, or points on it; see :func:`slice_levels`.

    Attributes
    ----------
    labels : (X, Y, Z) array of non-negative whole numbers
    name : str
        For messages.
    """

    labels: np.ndarray
    name: str = "vertebral labels"

    def of_slices(self, cord: np.ndarray | None, line: Centreline, frame: Frame) -> list[int | None]:
        """Vertebral level per slice (InputError for points that lie off the cord, as those of discs do)."""
        if cord is not None and _are_points(self.labels):
            off = _off_cord_mm(self.labels, cord, frame)
            if len(off) and np.median(off) > _OFF_CORD_MM:
                raise InputError(
                    f"{self.name}: its points lie off the cord (median {np.median(off):.1f} mm), as those of discs do; "
                    "give it as the file of the discs (discfile), or put the points on the cord"
                )
        return slice_levels(self.labels, cord, frame.step_mm)

    def within(self, box: tuple[slice, ...]) -> "LabelledLevels":
        """The same for a part of each slice."""
        return replace(self, labels=self.labels[box])


@dataclass(frozen=True, eq=False)
class DiscLevels:
    """The discs between vertebrae, as the Spinal Cord Toolbox labels them: disc n lies above vertebra n (3 is C2/C3).

    Each disc is projected onto the centreline (nearest point), and parts the slices there: a slice whose centre lies
    between discs n and n + 1 has level n. Beyond the outermost discs the next vertebra is taken to go on for 10 mm
    (SCT: without end). Between two discs that are no neighbours the level is not known (SCT: that of the upper one).

    Attributes
    ----------
    points_mm : dict of int to (3,) array
        World RAS by disc.
    name : str
        For messages.
    """

    points_mm: Mapping[int, np.ndarray]
    name: str = "disc labels"

    def of_slices(self, cord: np.ndarray | None, line: Centreline, frame: Frame) -> list[int | None]:
        """Vertebral level per slice (InputError for discs of another scan, or in a wrong order)."""
        count = len(line.position_mm)
        places, distances = line.project(
            np.stack([np.asarray(point, float) for point in self.points_mm.values()]), frame
        )
        if np.isnan(places).any():
            return [None] * count
        far = distances[(places > -1) & (places < count)]
        if len(far) and far.min() > _DISC_MM:
            raise InputError(
                f"{self.name}: its discs lie {far.min():.0f} mm or more from the cord; give labels of the same scan"
            )
        # From the lowest disc, which has the largest number, up.
        discs = sorted(zip(places, self.points_mm))
        numbers = [number for _, number in discs]
        if numbers != sorted(numbers, reverse=True):
            raise InputError(
                f"{self.name}: from below its discs are {', '.join(map(str, numbers))}; their numbers must fall going "
                "up (3 is C2/C3)"
            )
        reach = POINT_REACH_MM / frame.step_mm
        return [_between(k, discs, reach) for k in range(count)]

    def within(self, box: tuple[slice, ...]) -> "DiscLevels":
        """The same: discs are where they are."""
        return self


@dataclass(frozen=True)
class ListedLevels:
    """Levels by slice, as people note them for protocols whose slices are placed level by level.

    Attributes
    ----------
    levels : dict of int to int
        By slice from 0, inferior to superior.
    """

    levels: Mapping[int, int]

    def of_slices(self, cord: np.ndarray | None, line: Centreline, frame: Frame) -> list[int | None]:
        """Vertebral level per slice; None for a slice that is not listed."""
        return [self.levels.get(k) for k in range(len(line.position_mm))]

    def within(self, box: tuple[slice, ...]) -> "ListedLevels":
        """The same: a slice is one whatever its part."""
        return self


def _between(k, discs, reach):
    """Level of slice k between discs (place, number) from below; None if not known."""
    below = [number for place, number in discs if place < k]
    above = [number for place, number in discs if place >= k]
    if below and above:
        return above[0] if below[-1] == above[0] + 1 else None
    place, number = discs[0] if above else discs[-1]
    level = number if above else number - 1
    return level if abs(place - k) <= reach and level > 0 else None


def _are_points(labels):
    """Whether labels are single marks rather than a labelled cord."""
    counts = np.count_nonzero(labels, axis=(0, 1))
    return bool(counts.any()) and np.median(counts[counts > 0]) < _POINT_VOXELS


def _off_cord_mm(labels, cord, frame):
    """How far each point lies outside the cord's mask, in its slice, mm; 0 inside. Slices without cord are left out."""
    out = []
    for i, j, k in np.argwhere(labels):
        inside = np.argwhere(cord[..., k] >= 0.5)
        if len(inside):
            out.append(frame.mm_between(inside, np.array([[i, j]])).min())
    return np.array(out)


def slice_levels(levels: np.ndarray, cord: np.ndarray | None, step_mm: float) -> list[int | None]:
    """Vertebral level per slice, from a label volume on the same grid.

    A labelled cord or vertebra: the most frequent non-zero label inside the cord,
    or of the whole slice where the cord meets none (ties: the smaller label);
    slices without labels have no level. Point labels (fewer than 10 labelled voxels
    in the median labelled slice): every slice takes the label of the nearest
    labelled slice (ties: the inferior one), up to 10 mm beyond the outermost one.

    Parameters
    ----------
    levels : (X, Y, Z) array of non-negative whole numbers
    cord : (X, Y, Z) array or None
        Fractions of the cord.
    step_mm : float
        Distance between slices.

    Returns
    -------
    list of int or None, length Z

    Raises
    ------
    ValueError
        If labels are negative or not whole.
    """
    whole = np.asarray(levels).astype(int)
    if not np.array_equal(levels, whole) or whole.min(initial=0) < 0:
        raise ValueError("vertebral levels must be whole numbers, and not negative")
    levels, labelled = whole, whole > 0
    marked = np.flatnonzero(labelled.any(axis=(0, 1)))
    found: list[int | None] = [None] * levels.shape[2]
    for k in marked:
        inside = labelled[..., k] & (cord[..., k] >= 0.5) if cord is not None else labelled[..., k]
        chosen = inside if inside.any() else labelled[..., k]
        found[k] = int(np.bincount(levels[..., k][chosen]).argmax())
    if _are_points(levels):
        reach = POINT_REACH_MM / step_mm
        for k in range(levels.shape[2]):
            if marked[0] - reach <= k <= marked[-1] + reach:
                found[k] = found[marked[np.abs(marked - k).argmin()]]
    return found
