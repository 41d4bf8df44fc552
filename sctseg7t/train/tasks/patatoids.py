"""Striped patatoids: whether a network can use a second image that is shifted, without any patient."""

from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from torch import Tensor
from torch.nn import functional as F

from sctseg7t.simulate.patatoids import PatatoidBatch, PatatoidSimulator
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.task import Folders, InputShape, Task


class PatatoidTask(Task):
    """The blobs that the second image has striped at +45 degrees, where they lie in the first."""

    example_model = "cord_gm_sc"

    def data_folders(self, items: Sequence[str]) -> Folders:
        return {}

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> PatatoidSimulator:
        return PatatoidSimulator(recipe.simulation)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        side = PatatoidSimulator(recipe.simulation).settings.size
        return InputShape(2, (side, side))

    def loss(self, logits: Tensor, batch: PatatoidBatch) -> Tensor:
        """Cross-entropy: its optimum is the probability, one half for what the second image does not show."""
        return F.binary_cross_entropy_with_logits(logits, batch.target)

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Dice at one half, over all images."""
        found, true = probability > 0.5, target > 0.5
        return {"dice": round((2 * (found & true).sum() / (found.sum() + true.sum()).clamp(min=1)).item(), 4)}

    def training_data(self, recipe: TrainRecipe, record: object = None) -> str:
        return "drawn patatoids; no patient"


TASK = PatatoidTask()
