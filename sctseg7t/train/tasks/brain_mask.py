"""The brain in a whole head, of any contrast and resolution: what finds it before anything is measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.simulate.anatomy import anatomy_folders
from sctseg7t.simulate.brain.heads import EXPORTED, HeadBatch, HeadSimulator, make_head_simulator
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task


class BrainMaskTask(Task):
    """Fraction of brain in each voxel of a coarse grid."""

    example_model = "brain_mask"

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy_folders(items, EXPORTED)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> HeadSimulator:
        return make_head_simulator(recipe.simulation, folders, log)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        return InputShape(1, tuple(recipe.simulation.get("size", (48, 64, 48))), free=True)

    def loss(self, logits: Tensor, batch: HeadBatch) -> Tensor:
        """Cross-entropy plus soft Dice of each head, inside the scan."""
        bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
        bce = (bce * batch.inside).sum() / batch.inside.sum().clamp(min=1)
        prob = torch.sigmoid(logits) * batch.inside
        overlap = (prob * batch.target).sum((1, 2, 3, 4))
        total = (prob**2).sum((1, 2, 3, 4)) + (batch.target**2).sum((1, 2, 3, 4))
        # The constant, 3 mL or so, keeps scans without a brain from counting every faint voxel as a total miss.
        return 2 * bce + (1 - (2 * overlap + 100) / (total + 100)).mean()

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Dice of the scans that show a brain (mean and 10th percentile), and the largest find where there is none."""
        hard, true = probability > 0.5, target > 0.5
        size = true.flatten(1).sum(1)
        both = (hard & true).flatten(1).sum(1)
        dice = 2 * both / (hard.flatten(1).sum(1) + size).clamp(min=1)
        shown = size > 0.02 * true[0].numel()
        empty = hard[size == 0].flatten(1).float().mean(1)
        return {
            "dice": round(dice[shown].mean().item(), 4) if shown.any() else 0.0,
            "dice_p10": round(dice[shown].quantile(0.1).item(), 4) if shown.any() else 0.0,
            "false_share": round(empty.max().item(), 4) if len(empty) else 0.0,
        }

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        entry = super().entry(recipe)
        entry["input"]["spacing_mm"] = [recipe.simulation.get("spacing_mm", 3.5)] * 3
        return entry


TASK = BrainMaskTask()
