"""Simulated axial T2*-weighted windows around the cord, with partial-volume labels.

The effects stand in three modules, in the order in which they work: ``shape`` (anatomy), ``contrast``,
``acquisition``. :class:`CordSimulator` runs them over a batch; ``batch(n, seed)`` is replayable.
"""

from dataclasses import dataclass

import numpy as np
import torch

from sctseg7t.simulate import acquisition, contrast, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.anatomy import SPACING_MM, describe_horns, slice_weights
from sctseg7t.simulate.effect import EFFECTS, STAGES, Draw, Scene, read_settings


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

    def __init__(self, bank, recipe=None, size=128):
        self.settings = read_settings(recipe or {})
        self.bank, self.size = _Bank(bank), size
        self.bank.weights(self.settings["subject"]["source_weights"])

    def batch(self, count, seed):
        """Simulate ``count`` windows; the same seed gives the same windows."""
        scene = self.scene(count, seed)
        return CordBatch(_zscore(scene.image, scene.inside), scene.target, scene.inside)

    def scene(self, count, seed, *, index=None, drift_mm=(0.0, 0.0), stages=STAGES, reseed=None):
        """Run the effects of some stages.

        Parameters
        ----------
        count, seed : int
        index : (N,) tensor, optional
            Slices of the bank instead of drawn ones.
        drift_mm : pair
            Added to the cord's place.
        stages : sequence of str
        reseed : dict of str to int, optional
            Seeds of single effects.

        Returns
        -------
        Scene
        """
        with torch.no_grad():
            scene = Scene(self.bank, count, self.size, SPACING_MM, drift_mm)
            scene.index = index
            for name, settings in self.settings.items():
                if EFFECTS[name].stage in stages:
                    draw = Draw((reseed or {}).get(name, seed), name, count, self.size)
                    EFFECTS[name].apply(scene, draw, **settings)
                    scene.drawn[name] = draw.kept
        return scene


class _Bank:
    """The anatomy bank as tensors, with what the horn effects need of each slice."""

    def __init__(self, bank):
        self._bank, self._weights = bank, {}
        self.maps = torch.from_numpy(bank.maps)
        self.stack = torch.from_numpy(np.asarray(bank.stack))
        self.step_mm = torch.from_numpy(np.asarray(bank.step_mm))
        self._horns = {k: torch.from_numpy(v) for k, v in describe_horns(bank.maps).items()}

    def weights(self, shares):
        """Sampling weight of each slice, (N,)."""
        key = repr(shares)
        if key not in self._weights:
            self._weights[key] = slice_weights(self._bank, shares)
        return self._weights[key]

    def of(self, index, name):
        """A measure of the horns of slices, (N, 1, 1, 1), mm."""
        return self._horns[name][index].view(-1, 1, 1, 1)

    def neighbour(self, index, away_mm):
        """Slices (N,) that lie ``away_mm`` from others in their stack; themselves beyond its ends."""
        step = torch.round(away_mm / self.step_mm[index]).long()
        near = (index + step).clamp(0, len(self.maps) - 1)
        return torch.where(self.stack[near] == self.stack[index], near, index)


def _zscore(image, inside):
    """Zero mean and unit SD over the pixels inside the image; zero outside."""
    count = inside.sum((1, 2, 3), keepdim=True)
    mean = (image * inside).sum((1, 2, 3), keepdim=True) / count
    var = (((image - mean) * inside) ** 2).sum((1, 2, 3), keepdim=True) / count
    return (image - mean) / torch.sqrt(var + 1e-8) * inside
