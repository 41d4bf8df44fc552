"""MS lesions of the brain in 3D patches of FLAIR, with or without tissue priors."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor
from torch.nn import functional as F

from sctseg7t.simulate.anatomy import anatomy_folders
from sctseg7t.simulate.brain.bank import EXPORTED
from sctseg7t.simulate.brain.patches import CHANNELS, BrainSimulator, make_brain_simulator
from sctseg7t.simulate.scene import Batch
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task


class BrainLesionTask(Task):
    """Probability of a lesion in each voxel."""

    labels = ("LESION",)
    example_model = "brain_lesion_unet"

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy_folders(items, EXPORTED)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> BrainSimulator:
        return make_brain_simulator(recipe.simulation, folders, root, log)

    def channels(self, recipe: TrainRecipe) -> tuple[str, ...]:
        """Input channels by name."""
        return tuple(recipe.simulation.get("channels", CHANNELS))

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        side = recipe.simulation.get("patches", {}).get("size", 64)
        return InputShape(len(self.channels(recipe)), (side,) * 3)

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy plus soft Dice of each patch: one with a small lesion counts as much as one full of them."""
        bce = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
        # Lesions are a hundredth of the voxels.
        bce = (bce * (1 + 4 * batch.target)).mean()
        prob = torch.sigmoid(logits)
        overlap = (prob * batch.target).sum((1, 2, 3, 4))
        total = (prob**2).sum((1, 2, 3, 4)) + batch.target.sum((1, 2, 3, 4))
        # The constant keeps patches without lesions from counting every faint voxel as a total miss.
        dice = 1 - (2 * overlap + 20) / (total + 20)
        return 5 * bce + dice.mean()

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Dice and volume over all patches; the share of lesion patches where anything was found; false voxels."""
        hard, true = probability > 0.5, target > 0.5
        has = true.flatten(1).any(1)
        hit = (hard & true).flatten(1).any(1)
        dice = 2 * (hard & true).sum() / (hard.sum() + true.sum()).clamp(min=1)
        return {
            "dice_LESION": round(dice.item(), 4),
            "area_ratio_LESION": round((hard.sum() / true.sum().clamp(min=1)).item(), 4),
            "patches_hit": round(hit[has].float().mean().item() if has.any() else 0.0, 4),
            "false_share": round(((hard & ~true).sum() / hard.sum().clamp(min=1)).item(), 4),
        }

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        entry = super().entry(recipe)
        entry["input"]["channels"] = list(self.channels(recipe))
        # The example's threshold was chosen for its own weights.
        entry["outputs"][0]["threshold"] = 0.5
        return entry

    def training_data(self, recipe: TrainRecipe, record: Mapping[str, Any] | None = None) -> str:
        return told(recipe, "patches") or super().training_data(recipe, record)


def told(recipe: TrainRecipe, part: str) -> str:
    """What a recipe with real patients was trained on, in words; "" of one without. ``part``: where the share is."""
    real = [*recipe.simulation.get("real", ()), *recipe.simulation.get("healthy", ())]
    if not real:
        return ""
    share = recipe.simulation.get(part, {}).get("real_share", 0.5)
    anatomy = ", ".join(recipe.anatomy)
    return f"simulated images (anatomy from {anatomy}) and, as {share:.0%} of the images, real scans {', '.join(real)}"


TASK = BrainLesionTask()
