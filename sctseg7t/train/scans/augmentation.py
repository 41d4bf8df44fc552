"""Augmentations by name. Each is made once of the training scans, then changes one item after the other."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.train.scans.items import Item, Items

Augment = Callable[[Item, np.random.Generator], Item]
# Made of the training items, and a folder that may keep what is computed once (deformation fields).
Maker = Callable[[Items, Path], Augment]


def _none(items: Items, cache: Path) -> Augment:
    return lambda item, rng: item


AUGMENTATIONS: dict[str, Maker] = {"none": _none}


def augmentation(name: str, items: Items, cache: Path) -> Augment:
    """The augmentation of a name, ready to use on the items (InputError if there is none of that name).

    The same generator gives the same item. Image, target, inside and priors move together; the margin stays.
    """
    if name not in AUGMENTATIONS:
        raise InputError(f"augmentation {name!r} is unknown; known: {', '.join(AUGMENTATIONS)}")
    return AUGMENTATIONS[name](items, cache)
