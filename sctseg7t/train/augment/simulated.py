"""Augmentation by the simulator: another image altogether, drawn on the anatomy of the training scans' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.simulate.anatomy import SIZE, SPACING_MM, AnatomyBank
from sctseg7t.simulate.cord import CordSimulator
from sctseg7t.train.scans.items import Item, Items

_TISSUES = ("SC", "GM")


class Simulated:
    """Simulated cord windows whose anatomy are the labels of the training scans.

    Parameters
    ----------
    items : Items
        Windows of 0.176 mm, with SC and GM.

    Raises
    ------
    InputError
        Items are something else.
    """

    def __init__(self, items: Items) -> None:
        found = [items.item(number) for number in range(len(items))] if len(items.size) == 2 else []
        whole = [one for one in found if one.known.all() and one.target.any((1, 2)).all()]
        spacings = {round(one.spacing_mm, 4) for one in whole}
        if set(items.labels) != set(_TISSUES) or spacings != {round(SPACING_MM, 4)} or max(items.size) > SIZE:
            raise InputError(
                f"simulated augmentation makes cord windows of {SPACING_MM:.3f} mm from masks of SC and GM, both of "
                "them; choose another augmentation"
            )
        self._order = [items.labels.index(name) for name in _TISSUES]
        self._bank = _bank(whole, self._order)
        self._simulators: dict[int, CordSimulator] = {}

    def __call__(self, item: Item, rng: np.random.Generator) -> Item:
        """A simulated window of anybody's anatomy in the training set."""
        size = item.inside.shape[0]
        simulator = self._simulators.setdefault(size, CordSimulator(self._bank, {}, size))
        batch = simulator.batch(1, int(rng.integers(2**40)))
        image = batch.image[0].numpy()
        target = np.empty_like(item.target)
        target[self._order] = batch.target[0].numpy()
        # Intensities start at 0, as those of a scan.
        return replace(
            item,
            image=np.repeat(image - image.min(), len(item.image), 0).astype(np.float32),
            target=target,
            inside=batch.inside[0, 0].numpy() > 0,
            known=np.ones(len(target), bool),
        )


def _bank(items: Sequence[Item], order: Sequence[int]) -> AnatomyBank:
    """The labels of windows as an anatomy bank; no two are neighbours there."""
    count = len(items)
    maps = np.zeros((count, 3, SIZE, SIZE), np.uint8)
    for row, one in zip(maps, items):
        first = [(SIZE - size) // 2 for size in one.inside.shape]
        middle = tuple(slice(at, at + size) for at, size in zip(first, one.inside.shape))
        row[(slice(0, 2), *middle)] = np.rint(one.target[order].clip(0, 1) * 255)
    people = np.array([one.subject for one in items])
    return AnatomyBank(maps, np.arange(count), np.ones(count, np.float32), np.full(count, "masks"), people)
