"""Simulated axial T2*-weighted windows around the cord, with partial-volume labels.

The effects stand in three modules, in the order in which they work: ``shape`` (anatomy), ``contrast``,
``acquisition``. :class:`CordSimulator` runs them over a batch; ``batch(n, seed)`` is replayable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from sctseg7t.simulate import acquisition, contrast, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.anatomy import SPACING_MM, AnatomyBank
from sctseg7t.simulate.effect import read_settings
from sctseg7t.simulate.scene import CordScene


@dataclass(frozen=True)
class CordBatch:
    """image (N, 1, S, S) z-scored; target (N, 2, S, S) SC and GM fractions; inside (N, 1, S, S)."""

    image: torch.Tensor
    target: torch.Tensor
    inside: torch.Tensor


class CordSimulator:
    """Draws batches of simulated cord windows.

    Parameters
    ----------
    bank : AnatomyBank
    recipe : dict
        By effect: the settings that differ from its defaults, or False to leave it out.
    size : int
        Window size in pixels of 0.17578125 mm.

    Raises
    ------
    InputError
        The recipe names an unknown effect, setting or anatomy source.
    """

    def __init__(self, bank: AnatomyBank, recipe: Mapping[str, Any] | None = None, size: int = 128):
        self.settings = read_settings("cord", recipe)
        self.bank, self.size = bank, size
        self.bank.weights(self.settings["subject"]["source_weights"])

    def batch(self, count: int, seed: int) -> CordBatch:
        """Simulate ``count`` windows; the same seed gives the same windows."""
        scene = self.scene(count, seed)
        return CordBatch(_zscore(scene.image, scene.inside), scene.target, scene.inside)

    def scene(
        self,
        count: int,
        seed: int,
        *,
        index: torch.Tensor | None = None,
        drift_mm: tuple[float, float] = (0.0, 0.0),
        stages: Sequence[str] | None = None,
        reseed: Mapping[str, int] | None = None,
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
        """
        scene = CordScene(self.bank, count, self.size, SPACING_MM, drift_mm)
        if index is not None:
            scene.index = index
        return scene.run(self.settings, seed, stages, reseed)


def _zscore(image: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """Zero mean and unit SD over the pixels inside the image; zero outside."""
    count = inside.sum((1, 2, 3), keepdim=True)
    mean = (image * inside).sum((1, 2, 3), keepdim=True) / count
    var = (((image - mean) * inside) ** 2).sum((1, 2, 3), keepdim=True) / count
    return (image - mean) / torch.sqrt(var + 1e-8) * inside
