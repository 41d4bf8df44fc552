"""Realistic augmentation: the contrast of one person on the anatomy of another.

An image goes through its own deformation field to a template, and through somebody else's to their anatomy; its labels
go with it. The fields (:mod:`.fields`) are between real people, no drawn ones; nothing of a test image is in them.

Windows: each slice of the training scans is an anatomy, and what is registered are its labels, smoothed: so fields do
not depend on contrast. Patches: each scan is one; lesions do not say where the rest lies, so it is the brain's image
that is registered, with what was marked painted over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from sctseg7t.errors import InputError
from sctseg7t.train.augment.fields import cached_fields
from sctseg7t.train.augment.warping import grid, warp
from sctseg7t.train.scans.items import Item, Items
from sctseg7t.train.scans.patches import BrainScan, PatchItems

# Every second sample of a window is registered: fields are smooth, and scans coarser than the windows cut from them.
_STEP = 2
# Of a volume, one every so many mm.
_STEP_MM = 4.0
# Samples by which labels are smoothed before.
_SMOOTH = 1.5


def realistic(items: Items, cache: Path) -> Realistic | RealisticVolumes:
    """The augmentation of windows or patches; its fields are computed once for a training set."""
    return RealisticVolumes(items, cache) if isinstance(items, PatchItems) else Realistic(items, cache)


class Realistic:
    """Windows of the training scans on each other's anatomy.

    Parameters
    ----------
    items : Items
        Of the training scans.
    cache : path
        Folder that keeps the fields: they are computed once for a training set.

    Raises
    ------
    InputError
        The items are of one person.
    """

    def __init__(self, items: Items, cache: str | Path) -> None:
        # By hand, for a drawn one is off its place.
        found = [items.item(number) for number in range(len(items))]
        self._items = items
        self._people = _several([one.subject for one in found])
        self._number = {(one.scan, one.place): number for number, one in enumerate(found)}
        shapes = [gaussian_filter(one.target.sum(0), _SMOOTH)[::_STEP, ::_STEP] for one in found]
        self.fields = cached_fields(shapes, _STEP, Path(cache))

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        """The item's slice on the anatomy of somebody else, drawn among the slices of all other people."""
        number = self._number[item.scan, item.place]
        target = int(rng.choice(np.flatnonzero(self._people != item.subject)))
        own = self._items.item(number, item.margin)
        corner = np.full(2, -item.margin)
        places = self.fields.places(number, target, own.inside.shape, corner)
        return warp(own, places + item.margin + _offset(item, own))


def _offset(item: Item, own: Item) -> np.ndarray:
    """By how much an item is off its slice's own place, samples: it was drawn so, and stays so."""
    middles = []
    for one in (own, item):
        weight = one.target.sum(0)
        where = grid(weight.shape)
        middles.append([(axis * weight).sum() / max(weight.sum(), 1e-6) for axis in where])
    return (np.array(middles[0]) - middles[1]).astype(np.float32).reshape(-1, 1, 1)


class RealisticVolumes:
    """Patches of the training scans on each other's anatomy.

    Parameters
    ----------
    items : PatchItems
        Of the training scans.
    cache : path
        Folder that keeps the fields.

    Raises
    ------
    InputError
        The items are of one person.
    """

    def __init__(self, items: PatchItems, cache: str | Path) -> None:
        self._items = items
        self._people = _several([one.scan.subject for one in items.scans])
        self._number = {one.scan.name: number for number, one in enumerate(items.scans)}
        step = max(round(_STEP_MM / items.spec.input.spacing_mm[0]), 1)
        # All on one grid, their middles together.
        sizes = np.array([one.inside.shape for one in items.scans])
        self._offsets = (sizes.max(0) - sizes) // 2
        shapes = [_shown(one, sizes.max(0), offset, step) for one, offset in zip(items.scans, self._offsets)]
        self.fields = cached_fields(shapes, step, Path(cache))

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        """The item's patch on the anatomy of somebody else, around the same place of the brain."""
        number = self._number[item.scan]
        target = int(rng.choice(np.flatnonzero(self._people != item.subject)))
        sides, offset = np.array(item.inside.shape), self._offsets[number]
        # Where the patch's middle lies in the other anatomy.
        middle = self.fields.places(target, number, (1, 1, 1), np.array(item.place) + offset).reshape(3)
        corner = np.round(middle - (sides - 1) / 2)
        places = self.fields.places(number, target, item.inside.shape, corner) - offset.reshape(3, 1, 1, 1)
        # As much more of the scan as the deformation reaches for, up to half of a patch.
        first = self._items.corner(item.place, item.margin).reshape(3, 1, 1, 1)
        beyond = max(float((first - places).max()), float((places - first).max() - (sides.min() - 1)), 0.0)
        more = min(int(np.ceil(beyond)), int(sides.min()) // 2)
        own = self._items.at(item.scan, item.place, item.margin + more)
        return replace(warp(own, places - (first - more)), margin=item.margin)


def _several(people: Sequence[str]) -> np.ndarray:
    """Whose anatomy each is (InputError where it is one person's)."""
    if len(set(people)) < 2:
        raise InputError("realistic augmentation puts images on other people's anatomy; train on two or more")
    return np.array(people)


def _shown(scan: BrainScan, size: np.ndarray, offset: np.ndarray, step: int) -> np.ndarray:
    """The brain's first image as it is registered: 1 is its median, and what was marked is that too."""
    image = np.where(scan.inside, scan.images[0].astype(np.float32), 0)
    image /= max(float(np.median(image[scan.inside])), 1e-6)
    image[scan.masks.any(0) & scan.inside] = 1
    whole = np.zeros(size, np.float32)
    whole[tuple(slice(at, at + n) for at, n in zip(offset, image.shape))] = image.clip(0, 2)
    return gaussian_filter(whole, step / 2)[(slice(None, None, step),) * 3]
