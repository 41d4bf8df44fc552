"""Lesions of simulated pairs: what becomes of each has the volume that was asked for."""

import copy

import numpy as np
import pytest
import torch

from sctseg7t.simulate.brain.pairs import _evolve
from sctseg7t.simulate.scene import Draw

SIDE = 40


class _Scene:
    """Two soft balls in tissue."""

    def __init__(self):
        self.csf = torch.zeros((SIDE,) * 3)
        away = [np.sqrt(((np.indices((SIDE,) * 3) - at) ** 2).sum(0)) for at in (12, 28)]
        soft = np.max([1 / (1 + np.exp((a - 4) / 0.5)) for a in away], 0).astype(np.float32)
        self.lesion, self.gain = torch.from_numpy(soft), torch.full((SIDE,) * 3, 0.4)
        self.label = self.lesion > 0.5


@pytest.mark.parametrize("fate, factor", [("grown", 1.5), ("grown", 3.0), ("shrunk", 1 / 1.5), ("vanished", 0.0)])
def test_a_lesion_changes_by_the_volume_that_is_asked_for(fate, factor):
    first = _Scene()
    second = copy.copy(first)
    second.lesion, second.gain, second.label = first.lesion.clone(), first.gain.clone(), first.label.clone()
    numbers = np.zeros((SIDE,) * 3, np.int32)
    numbers[:20], numbers[20:] = first.label.numpy()[:20], 2 * first.label.numpy()[20:]
    growth = (factor, factor) if factor > 1 else (1.5, 1.5)
    fates = _evolve(first, second, numbers, {fate: 1.0}, growth, Draw(1, "pair"))
    assert fates == [fate, fate]
    for half in (slice(None, 20), slice(20, None)):
        before, now = (float(scene.lesion[half].sum()) for scene in (first, second))
        assert now / before == pytest.approx(factor, abs=0.06)
        # What is called lesion follows, as far as whole voxels can.
        before, now = (float(scene.label[half].sum()) for scene in (first, second))
        assert now / before == pytest.approx(factor, rel=0.2)
