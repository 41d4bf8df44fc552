"""Labelled scans: windows of cords or patches of brains with any labels, as the entry of the model to be says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from torch import Tensor, nn

from sctseg7t.errors import InputError
from sctseg7t.simulate.scene import Batch
from sctseg7t.train.losses import deep_loss
from sctseg7t.train.named_networks import build_network
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.scans.augmentation import Augment, augmentation
from sctseg7t.train.scans.items import Item, Items, stacked
from sctseg7t.train.scans.labelled import label_map
from sctseg7t.train.scans.learning import Learning
from sctseg7t.train.scans.prepare import items_of, prepare_scans
from sctseg7t.train.task import BatchSource, Folders, InputShape, Task, task_of
from sctseg7t.zoo.manifest import parse_model
from sctseg7t.zoo.spec import ModelSpec

# Of what was made ready once, beside the runs.
PREPARED = "prepared"
# Samples around what a network sees, for augmentation: a window's corners turned by 20 degrees lie within.
MARGIN = {2: 24, 3: 8}
# What the loss is without a word in the recipe: of windows, and of patches, where lesions are a hundredth.
_LOSSES: dict[int, dict[str, Any]] = {
    2: {"name": "bce_dice", "bce": {"marked": 1.5}, "area": 0.5},
    3: {"name": "bce_dice", "bce": {"marked": 5.0}, "dice": {"each": True, "spare": 20.0}},
}


@dataclass(frozen=True)
class ScanBatch(Batch):
    """image (N, C, ...); target (N, K, ...) fractions; inside (N, K, ...): 1 where the target is known, else 0."""

    inside: Tensor


class ScanSource:
    """Batches of drawn, augmented items, and of simulated images among them.

    Parameters
    ----------
    items : Items
    augment : Augment
    simulator : BatchSource, optional
    share : float
        Of the images that are simulated.
    simulated : sequence of str
        What the simulator's maps are.
    """

    def __init__(
        self,
        items: Items | None,
        augment: Augment = lambda item, rng: item,
        simulator: BatchSource | None = None,
        share: float = 0.0,
        simulated: Sequence[str] = (),
        labels: Sequence[str] = (),
    ) -> None:
        self.items, self.augment, self.labels = items, augment, tuple(labels)
        self.simulator, self.share, self.simulated = simulator, share, tuple(simulated)

    def batch(self, count: int, seed: int) -> ScanBatch:
        """``count`` images; the same seed gives the same batch."""
        rng = np.random.default_rng(seed)
        # As many as the share says over many batches.
        drawn = int(np.floor(count * self.share + rng.random())) if self.simulator else 0
        parts = []
        if self.items is not None and count > drawn:
            margin = MARGIN[len(self.items.size)]
            made = [self.augment(self.items.draw(rng, margin), rng) for _ in range(count - drawn)]
            parts.append(_batch([self.items.finish(item) for item in made]))
        if drawn and self.simulator:
            parts.append(self._of_simulator(self.simulator.batch(drawn, seed)))
        return ScanBatch(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("image", "target", "inside"))
        )

    def every(self, count: int) -> list[ScanBatch]:
        """Every item once, at its own place, in batches of ``count``."""
        items = self.items
        if items is None:
            return []
        made = [items.finish(items.item(k)) for k in range(len(items))]
        return [_batch(made[k : k + count]) for k in range(0, len(made), count)]

    def _of_simulator(self, batch: Any) -> ScanBatch:
        """A simulated batch with the maps of this network; those that the simulator does not make are not known."""
        inside = getattr(batch, "inside", torch.ones_like(batch.target[:, :1]))
        target = torch.zeros(len(batch.image), len(self.labels), *batch.target.shape[2:])
        counts = torch.zeros_like(target)
        for k, name in enumerate(self.labels):
            if name in self.simulated:
                target[:, k] = batch.target[:, self.simulated.index(name)]
                counts[:, k] = inside[:, 0]
        return ScanBatch(batch.image, target, counts)


def _batch(items: Sequence[Item]) -> ScanBatch:
    return ScanBatch(*map(torch.from_numpy, stacked(items)))


class ScansTask(Task):
    """Fractions of any labels, from labelled scans, simulated images, or both."""

    def __init__(self, recipe: TrainRecipe | None = None) -> None:
        # Loss and labels are the recipe's.
        self.recipe = recipe or TrainRecipe("", "scans")

    def bound(self, recipe: TrainRecipe) -> "ScansTask":
        return ScansTask(recipe)

    def data_folders(self, items: Sequence[str]) -> Folders:
        # What simulates says what it needs, once the recipe is known.
        return {str(k): item for k, item in enumerate(items)}

    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> BatchSource:
        raise InputError(f"recipe of {recipe.model}: it learns from labelled scans; give some")

    def sources(
        self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO, learning: Learning | None = None
    ) -> tuple[ScanSource, ScanSource]:
        labels = label_map(recipe.labels)
        simulator, share, simulated = self._simulator(recipe, folders, root, log)
        only = ScanSource(None, simulator=simulator, share=1.0, simulated=simulated, labels=tuple(labels))
        if learning is None:
            if share < 1:
                raise InputError(f"recipe of {recipe.model}: it learns from labelled scans; give some")
            return only, only
        spec, cache = self.spec(recipe), (learning.cache or root / PREPARED)
        # The test part too: a file that is wrong there should be told now, not after the training.
        ready = prepare_scans(learning.scans, labels, spec, cache, log)
        parts = {
            part: items_of([ready[scan.name] for scan in scans], tuple(labels), spec, recipe.items)
            for part in ("train", "validation")
            if (scans := learning.part(part))
        }
        items = parts["train"]
        source = ScanSource(
            items, augmentation(recipe.augmentation, items, cache), simulator, share, simulated, tuple(labels)
        )
        return source, ScanSource(parts.get("validation", items), labels=tuple(labels))

    def _simulator(
        self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO
    ) -> tuple[BatchSource | None, float, tuple[str, ...]]:
        if not recipe.simulated:
            return None, 0.0, ()
        told = TrainRecipe(recipe.model, recipe.simulated["task"], recipe.anatomy, simulation=recipe.simulation)
        task = task_of(told)
        shapes = task.input_shape(told), self.input_shape(recipe)
        if not set(recipe.labels) & set(task.labels) or (shapes[0].channels, shapes[0].size) != (
            shapes[1].channels,
            shapes[1].size,
        ):
            raise InputError(
                f"recipe of {recipe.model}: task {told.task} simulates {', '.join(task.labels) or 'other things'} in "
                f"{shapes[0].channels} x {shapes[0].size}, not what its entry takes"
            )
        source = task.simulator(told, task.data_folders(list(map(str, folders.values()))), root, log)
        return source, float(recipe.simulated["share"]), task.labels

    def spec(self, recipe: TrainRecipe) -> ModelSpec:
        """The model to be, as inference will run it."""
        return parse_model(self.entry(recipe), Path("."))

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        if "outputs" not in recipe.entry:
            raise InputError(
                f"recipe of {recipe.model}: its entry is not complete; start from a model, or name one in it"
            )
        return dict(recipe.entry)

    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        given = self.entry(recipe)["input"]
        return InputShape(len(given.get("channels", ["any"])), tuple(given["size"]))

    def network(self, recipe: TrainRecipe) -> nn.Module:
        shape = self.input_shape(recipe)
        return build_network(recipe, shape.channels, len(recipe.labels), len(shape.size))

    def loss(self, logits: Tensor, batch: ScanBatch) -> Tensor:
        """What the recipe names, or what suits windows or patches."""
        told = self.recipe.loss or _LOSSES[batch.image.dim() - 2]
        return deep_loss(logits, batch.target, batch.inside, **told)

    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Of each label the mean Dice at one half of the images that show it, and the ratio of all areas."""
        row = {}
        for k, name in enumerate(self.recipe.labels):
            p, t = probability[:, k].flatten(1), target[:, k].flatten(1)
            hard_p, hard_t = p > 0.5, t > 0.5
            size = hard_p.sum(1) + hard_t.sum(1)
            dice = (2 * (hard_p & hard_t).sum(1) / size.clamp(min=1))[size > 0]
            row[f"dice_{name}"] = round(dice.mean().item(), 4) if len(dice) else 0.0
            row[f"area_ratio_{name}"] = round((p.sum() / t.sum().clamp(min=1e-6)).item(), 4)
        return row

    def training_data(self, recipe: TrainRecipe, record: Mapping[str, Any] | None = None) -> str:
        share = recipe.simulated.get("share", 0)
        simulated = f"simulated images (anatomy from {', '.join(recipe.anatomy)})"
        if not record:
            return f"{simulated[:16]} only {simulated[17:]}"
        told = record["train"]
        text = f"{told['scans']} labelled scans of {told['people']} people"
        return f"{text} and, as {share:.0%} of the images, {simulated}" if share else text


TASK = ScansTask()
