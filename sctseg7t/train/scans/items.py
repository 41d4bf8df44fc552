"""Items: what a network learns from, one window or patch of a labelled scan at a time. Needs no torch.

A source of items (:class:`Items`) draws them, an augmentation changes them (:mod:`.augmentation`), ``finish`` brings
them to what the network sees at inference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np


@dataclass(frozen=True, eq=False)
class Item:
    """One window (H, W) or patch (X, Y, Z) of a scan, with a margin for augmentation all round.

    Rows of a window go to anterior, columns to the right; a patch lies along R, A, S.

    Attributes
    ----------
    image : (C, ...) float32
        Intensities, before normalisation: 0 or more, 0 is no signal.
    target : (K, ...) float32
        Fractions 0..1, one map a label.
    inside : (...) bool
        Where the scan looked.
    known : (K,) bool
        Labels that were drawn here; of the others the target says nothing.
    priors : (P, ...) float32
        Maps of a template that the network takes too; they move with the image, their values stay.
    margin : int
        Samples on each side beyond what the network sees.
    spacing_mm : float
    scan, subject : str
    place : tuple of float
        Slice of a window, middle of a patch: voxels of the scan as prepared.
    """

    image: np.ndarray
    target: np.ndarray
    inside: np.ndarray
    known: np.ndarray
    priors: np.ndarray
    margin: int
    spacing_mm: float
    scan: str
    subject: str
    place: tuple[float, ...]

    def cropped(self) -> "Item":
        """The item without its margin."""
        if not self.margin:
            return self
        cut = (..., *[slice(self.margin, -self.margin)] * self.inside.ndim)
        parts = {name: getattr(self, name)[cut] for name in ("image", "target", "inside", "priors")}
        return replace(self, margin=0, **parts)


class Items(Protocol):
    """Where items come from: prepared scans of one part of a split."""

    labels: tuple[str, ...]
    # Sides of what the network sees, samples.
    size: tuple[int, ...]

    def __len__(self) -> int:
        """How many items there are, one after the other."""
        ...

    def item(self, index: int, margin: int = 0) -> Item:
        """An item at its own place."""
        ...

    def draw(self, rng: np.random.Generator, margin: int = 0) -> Item:
        """An item to train on, at a place that varies."""
        ...

    def finish(self, item: Item) -> Item:
        """An item without margin and normalised: its image is what the network gets."""
        ...


def stacked(items: Sequence[Item]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Finished items as a batch: images with priors (N, C + P, ...), targets and where they count (N, K, ...)."""
    images = np.stack([np.concatenate([item.image, item.priors]) for item in items])
    targets = np.stack([item.target for item in items])
    counts = [item.inside & item.known.reshape(-1, *[1] * item.inside.ndim) for item in items]
    return images.astype(np.float32), targets.astype(np.float32), np.stack(counts).astype(np.float32)
