"""New lesions between two FLAIR scans of one brain: in 3D patches, in slices, or as boxes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

import torch
from torch import Tensor

from sctseg7t.brain.boxes import MAPS
from sctseg7t.brain.pair_segmenter import BOXES, CHANGE, COMPARISON
from sctseg7t.simulate.anatomy import anatomy_folders
from sctseg7t.simulate.brain import bank, heads
from sctseg7t.simulate.brain.pair_patches import CHANNELS, PairBatch, PairSimulator, make_pair_simulator
from sctseg7t.train.box_targets import box_loss, change_scores
from sctseg7t.train.losses import cross_entropy, dice
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task

# What a network of slices takes in: its sides are multiples of it.
_MULTIPLE = 32
# Of lesions, and of new ones: what each counts, and what a marked voxel of it does. Lesions are a hundredth of the
# voxels, new ones a thousandth.
_WEIGHTS = ((0.5, 5.0), (1.0, 20.0))


class BrainPairTask(Task):
    """Probability of a lesion at the follow-up, and of a new one; a detector tells boxes of new ones instead."""

    example_model = "brain_new_lesion_difference"
    outputs = 2

    def __init__(self, boxes: bool = False) -> None:
        self.boxes, self.outputs = boxes, 1 + len(MAPS) if boxes else 2

    def bound(self, recipe: TrainRecipe) -> "BrainPairTask":
        """A detector where the recipe's network is one."""
        return BrainPairTask(recipe.network.get("kind") == "box_unet3d")

    def data_folders(self, items: Sequence[str]) -> Folders:
        return anatomy_folders(items, bank.EXPORTED | heads.EXPORTED)

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> PairSimulator:
        return make_pair_simulator(recipe.simulation, folders, root, log)

    def channels(self, recipe: TrainRecipe) -> tuple[str, ...]:
        """Input channels by name; of slices, each with its neighbours, both scans have several."""
        return tuple(recipe.simulation.get("channels", CHANNELS))

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        patches = recipe.simulation.get("patches", {})
        side, slices = patches.get("size", 64), patches.get("views", ())
        names = self.channels(recipe)
        if slices:
            return InputShape(len(names) - 2 + 2 * len(slices), (side, side + _MULTIPLE), free=True)
        return InputShape(len(names), (side,) * 3)

    def loss(self, logits: Tensor, batch: PairBatch) -> Tensor:
        """Cross-entropy plus soft Dice of each patch; what is new weighs twice as much as what is a lesion.

        Further heads of a network with deep supervision count half as much, each.
        """
        if self.boxes:
            return box_loss(logits, batch.target, batch.inside)
        heads = logits.unbind(1) if logits.dim() > batch.target.dim() else (logits,)
        weights = [0.5**k for k in range(len(heads))]
        parts = [weight * _maps_loss(head, batch) for weight, head in zip(weights, heads)]
        return torch.stack(parts).sum() / sum(weights)

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Of new lesions: voxel Dice; the share of them that is found, by size, and false ones a patch; Dice of all."""
        return change_scores(probability, target, boxes=self.boxes)

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        entry = super().entry(recipe)
        patches = recipe.simulation.get("patches", {})
        slices = patches.get("views", ())
        entry["input"]["channels"] = list(self.channels(recipe))
        if slices:
            entry["input"] |= {"axes": "xy", "size_multiple": _MULTIPLE}
            entry["input"]["sampling"] = {"method": "views", "slices_mm": list(slices)}
            entry["input"].pop("size", None)
        name = BOXES if self.boxes else CHANGE
        entry["outputs"][0]["threshold"] = 0.5
        meaning = "new since the baseline, as a map or as boxes; fills the mask NEWLESION"
        entry["outputs"].append({"name": name, "channel": 1, "threshold": 0.5, "meaning": meaning, "suffix": None})
        entry["comparison"] = dict(COMPARISON)
        return entry

    def training_data(self, recipe: TrainRecipe, record: Mapping[str, Any] | None = None) -> str:
        return f"simulated pairs of scans only; anatomy and shapes of lesions from {', '.join(recipe.anatomy)}"


def _maps_loss(logits, batch):
    known = batch.inside.expand_as(batch.target)
    parts = []
    for k, (weight, marked) in enumerate(_WEIGHTS):
        of = (logits[:, k : k + 1], batch.target[:, k : k + 1], known[:, k : k + 1])
        # The constant keeps patches in which nothing is new from counting every faint voxel as a total miss.
        parts.append(weight * (5 * cross_entropy(*of, marked=marked) + dice(*of, each=True, spare=20.0).mean(0)).sum())
    return torch.stack(parts).sum()


TASK = BrainPairTask()
