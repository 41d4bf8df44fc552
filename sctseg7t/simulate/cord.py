"""Simulated axial T2*-weighted windows around the cord, with partial-volume labels.

The effects stand in three modules, in the order in which they work: ``shape`` (anatomy), ``contrast``,
``acquisition``. :class:`CordSimulator` runs them over a batch; ``batch(n, seed)`` is replayable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from sctseg7t.simulate import acquisition, contrast, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.anatomy import SPACING_MM
from sctseg7t.simulate.scene import Batch, CordScene, SliceSimulator


@dataclass(frozen=True)
class CordBatch(Batch):
    """image (N, 1, S, S) z-scored; target (N, 2, S, S) SC and GM fractions; inside (N, 1, S, S)."""

    inside: torch.Tensor


class CordSimulator(SliceSimulator):
    """Draws batches of simulated cord windows, of pixels of 0.17578125 mm."""

    organ = "cord"

    def batch(self, count: int, seed: int) -> CordBatch:
        """Simulate ``count`` windows: zero mean and unit SD over the pixels inside the scan, zero outside."""
        scene = self.scene(count, seed)
        inside = scene.inside
        pixels = inside.sum((1, 2, 3), keepdim=True)
        image = scene.image - (scene.image * inside).sum((1, 2, 3), keepdim=True) / pixels
        var = ((image * inside) ** 2).sum((1, 2, 3), keepdim=True) / pixels
        return CordBatch(image / torch.sqrt(var + 1e-8) * inside, scene.target, inside)

    def scene(
        self,
        count: int,
        seed: int,
        *,
        index: torch.Tensor | None = None,
        drift_mm: tuple[float, float] = (0.0, 0.0),
        stages: Sequence[str] | None = None,
        reseed: Mapping[str, int] | None = None,
        along: Mapping[str, tuple[float, float]] | None = None,
    ) -> CordScene:
        """Run the effects of some stages.

        Parameters
        ----------
        count, seed : int
        index : (N,) tensor, optional
            Slices of the bank instead of drawn ones.
        drift_mm : pair
            Added to the cord's place.
        stages : sequence of str, optional
            None: all.
        reseed : dict of str to int, optional
            Seeds of single effects.
        along : dict of str to tuple of float, optional
            Of single effects: place along a stack and share that changes, as :class:`Draw` has them.
        """
        scene = CordScene(self.bank, count, self.size, SPACING_MM, drift_mm)
        if index is not None:
            scene.index = index
        return scene.run(self.settings, seed, stages, reseed, along)
