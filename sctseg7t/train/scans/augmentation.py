"""The augmentations by name, and their sums.

The eight methods of the 2021 study are the Spinal Cord Toolbox itself (1) and those of :data:`STUDY` (2 to 8).

A sum is understood as the study's data were made: smart and realistic images are added to the original ones, so an
image is the original, or one of the others, each equally often; the classical change of place comes on top, anew each
time an image is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.train.scans.items import Item, Items

# Another item of an item; all chance comes from the generator.
Augment = Callable[[Item, np.random.Generator], Item]
NONE = "none"
# Methods that stand beside the original images, and that which comes on top.
ADDED, ON_TOP = ("smart", "realistic", "simulated"), "classical"
# By their numbers in the 2021 study.
STUDY = {
    "none": 2,
    "classical": 3,
    "smart": 4,
    "realistic": 5,
    "smart+classical": 6,
    "realistic+classical": 7,
    "smart+realistic+classical": 8,
}


def parts_of(name: str) -> tuple[str, ...]:
    """The augmentations that a name is the sum of; of ``none`` there are none.

    Raises
    ------
    InputError
        One of them is unknown or there twice.
    """
    parts = () if name == NONE else tuple(name.split("+"))
    known = (*ADDED, ON_TOP)
    for part in parts:
        if part not in known or parts.count(part) > 1:
            raise InputError(
                f"augmentation {name!r} is unknown; give {NONE}, or one of {', '.join(known)}, "
                "or a sum: smart+classical"
            )
    return parts


def augmentation(name: str, items: Items, cache: Path) -> Augment:
    """The augmentation of a name, ready to use on the items.

    The same generator gives the same item. Image, target, inside and priors move together; the margin stays.

    Parameters
    ----------
    name : str
        ``none``, or a sum of ``classical``, ``smart``, ``realistic`` and ``simulated``: ``smart+classical``.
    items : Items
        Of the training scans: realistic and simulated augmentation draw on the anatomy of all of them.
    cache : path
        Folder for what is computed once.

    Raises
    ------
    InputError
        An unknown name, or items that it cannot be used on.
    """
    parts = parts_of(name)
    added = [_added(part, items, cache) for part in ADDED if part in parts]
    if ON_TOP in parts:
        from sctseg7t.train.augment.classical import classical

        on_top: Augment = classical
    else:
        on_top = _unchanged

    def change(item: Item, rng: np.random.Generator) -> Item:
        choice = int(rng.integers(len(added) + 1))
        return on_top(added[choice - 1](item, rng) if choice else item, rng)

    return change


def _unchanged(item: Item, rng: np.random.Generator) -> Item:
    return item


def _added(part: str, items: Items, cache: Path) -> Augment:
    # Each brings libraries that the others do without.
    if part == "smart":
        from sctseg7t.train.augment.smart import smart

        return smart
    if part == "realistic":
        from sctseg7t.train.augment.realistic import realistic

        return realistic(items, cache)
    from sctseg7t.train.augment.simulated import Simulated

    return Simulated(items)
