"""MS lesions of the brain in slices of FLAIR with their neighbours, of any plane and thickness."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.brain.views import OFFSETS_MM
from sctseg7t.simulate.anatomy import anatomy_folders
from sctseg7t.simulate.brain import bank, heads
from sctseg7t.simulate.brain.slabs import SlabSimulator, make_slab_simulator
from sctseg7t.simulate.scene import Batch
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task
from sctseg7t.train.tasks import brain_lesion


class BrainSlabTask(Task):
    """Probability of a lesion in each pixel of a slice."""

    example_model = "brain_lesion_unet"

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy_folders(items, bank.EXPORTED | heads.EXPORTED)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> SlabSimulator:
        return make_slab_simulator(recipe.simulation, folders, root, log)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        size = recipe.simulation.get("slabs", {}).get("size", (160, 192))
        return InputShape(len(OFFSETS_MM), tuple(size), free=True)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy, of small lesions above all, plus soft Dice of each slice: one with a small lesion counts as
        much as one full of them."""
        bce = F.binary_cross_entropy_with_logits(logits, batch.target, weight=_weight(batch.target))
        prob = torch.sigmoid(logits)
        overlap = (prob * batch.target).sum((1, 2, 3))
        total = (prob**2).sum((1, 2, 3)) + batch.target.sum((1, 2, 3))
        # The constant keeps slices without lesions from counting every faint pixel as a total miss.
        return 10 * bce + (1 - (2 * overlap + 15) / (total + 15)).mean()

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """As of the network of 3D patches, by slice."""
        return brain_lesion.TASK.scores(probability, target)

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        entry = super().entry(recipe)
        entry["input"] |= {"sampling": {"method": "views"}, "axes": "xy", "channels": ["FLAIR"], "size_multiple": 16}
        del entry["input"]["size"]
        entry["outputs"][0]["threshold"] = 0.5
        return entry

    def training_data(self, recipe: TrainRecipe, record: Mapping[str, Any] | None = None) -> str:
        return brain_lesion.told(recipe, "slabs") or super().training_data(recipe, record)


def _weight(target):
    """Of each pixel: 1, and up to 5 in lesions, by how little of the 9 x 9 pixels around is lesion."""
    full = F.avg_pool2d(F.avg_pool2d(target, (9, 1), 1, (4, 0)), (1, 9), 1, (0, 4))
    return 1 + 4 * target * (1 - full) ** 3


TASK = BrainSlabTask()
