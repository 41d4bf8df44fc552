"""What a training task is: all that differs between trainings of cords, locators and brains.

A task is one file in ``sctseg7t/train/tasks`` with an object ``TASK`` in it. The name of the file is what a recipe
calls its ``task``; there is no other list. Loop, validation, export and command speak to the object alone.
"""

import copy
import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TextIO

from torch import Tensor, nn

from sctseg7t.errors import InputError
from sctseg7t.runtime import Session
from sctseg7t.train.named_networks import build_network
from sctseg7t.train.real_scans import Case
from sctseg7t.train.recipe import TrainRecipe
from sctseg7t.train.scans.entry import OF_THE_WEIGHTS
from sctseg7t.train.scans.learning import Learning
from sctseg7t.zoo.manifest import load_manifest
from sctseg7t.zoo.spec import ModelSpec

# To know their names none is imported.
TASKS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("tasks/[a-z]*.py")))
# Folder of each source that a simulator reads.
Folders = Mapping[str, str | Path]


class Batch(Protocol):
    """A dataclass of tensors; ``inside``, if it has one, is 0 where the image says nothing."""

    image: Tensor
    target: Tensor


class BatchSource(Protocol):
    """Where the batches of a training come from: a simulator."""

    def batch(self, count: int, seed: int) -> Any:
        """A :class:`Batch` of ``count`` images; the same seed gives the same batch, in any thread."""
        ...


@dataclass(frozen=True)
class InputShape:
    """What a network is given.

    Attributes
    ----------
    channels : int
    size : tuple of int
        Samples per axis.
    free : bool
        Any size will do, in multiples that the entry names; ``size`` is one to try it with.
    """

    channels: int
    size: tuple[int, ...]
    free: bool = False


class Task(ABC):
    """One kind of network to train.

    Attributes
    ----------
    outputs : int
        Maps that the network returns.
    labels : tuple of str
        What these are called in labelled scans; empty: the task's images cannot be mixed with such.
    example_model : str
        Model of the zoo whose entry a new model of this task starts from.
    scan_columns : tuple of str
        Columns of ``real.csv``: what is measured on real scans. Empty where nothing is.
    """

    outputs: int = 1
    # What they are, where labelled scans can be mixed with what the task simulates.
    labels: tuple[str, ...] = ()
    example_model: str
    scan_columns: tuple[str, ...] = ()

    def bound(self, recipe: TrainRecipe) -> "Task":
        """The task of one recipe; itself where the recipe changes nothing of it."""
        return self

    @abstractmethod
    def data_folders(self, items: Sequence[str]) -> Folders:
        """Folder of each source that the simulator needs, from the folders (or ``SOURCE=FOLDER``) that a user gives.

        Raises
        ------
        UsageError
            A folder holds nothing that the task can use.
        """

    @abstractmethod
    def simulator(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> BatchSource:
        """The simulator of the training images; what it stores for later runs goes into ``root``.

        Raises
        ------
        InputError
            A source lacks its files, or the recipe has an unknown setting.
        """

    def unseen(self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO) -> BatchSource | None:
        """The simulator of the images of validation, from anatomy that is not trained on; None: from the same."""
        return None

    def sources(
        self, recipe: TrainRecipe, folders: Folders, root: Path, log: TextIO, learning: Learning | None = None
    ) -> tuple[BatchSource, BatchSource]:
        """Where the batches of training and those of validation come from.

        Parameters
        ----------
        learning : Learning, optional
            Labelled scans, of tasks that learn from such.
        """
        source = self.simulator(recipe, folders, root, log)
        return source, self.unseen(recipe, folders, root, log) or source

    @abstractmethod
    def input_shape(self, recipe: TrainRecipe) -> InputShape:
        """What the network is given."""

    @abstractmethod
    def loss(self, logits: Tensor, batch: Any) -> Tensor:
        """What the training lessens, one number."""

    @abstractmethod
    def scores(self, probability: Tensor, target: Tensor) -> dict[str, float]:
        """Columns of ``curves.csv`` beside the loss, over all images (N, outputs, ...) held out of training."""

    def network(self, recipe: TrainRecipe) -> nn.Module:
        """The untrained network (InputError where the recipe does not describe one)."""
        shape = self.input_shape(recipe)
        return build_network(recipe, shape.channels, self.outputs, len(shape.size))

    def entry(self, recipe: TrainRecipe) -> dict[str, Any]:
        """Zoo entry of a model that no manifest knows yet; its files, training and test output are still to come."""
        entry = copy.deepcopy(load_manifest().versions(self.example_model)[-1].raw)
        entry = {name: value for name, value in entry.items() if name not in OF_THE_WEIGHTS}
        entry["input"]["field_T"] = []
        shape = self.input_shape(recipe)
        if not shape.free:
            entry["input"]["size"] = list(shape.size)
        return entry | {
            "id": recipe.model,
            "version": "1.0.0",
            "default": False,
            "description": f"Trained from the recipe {recipe.model}.",
            "licence": None,
            "files": [],
            "limitations": ["Checked on no real scan yet.", "A research tool; not a medical device."],
        }

    def training_data(self, recipe: TrainRecipe, record: Mapping[str, Any] | None = None) -> str:
        """What the network was trained on, in words; ``record``: of the labelled scans, if there were any."""
        return f"simulated images only; anatomy from {', '.join(recipe.anatomy)}"

    def score_scan(self, case: Case, session: Session, spec: ModelSpec) -> dict[str, float | None]:
        """Measure a network on a real scan: a value or None for each of ``scan_columns``."""
        raise NotImplementedError(f"{type(self).__name__} names no scan_columns")


def task_of(recipe: TrainRecipe) -> Task:
    """The task of a recipe (InputError if there is none of that name)."""
    if recipe.task not in TASKS:
        raise InputError(f"recipe of {recipe.model}: task {recipe.task!r} is unknown; use {', '.join(TASKS)}")
    return importlib.import_module(f"sctseg7t.train.tasks.{recipe.task}").TASK.bound(recipe)
