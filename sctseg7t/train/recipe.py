"""The recipe of a training: everything that its weights depend on, in one JSON file."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError
from sctseg7t.simulate.recipe_file import read_recipe_file

RECIPES = Path(__file__).parent / "recipes"
# A task is a file, see sctseg7t.train.task; to know their names none is imported.
TASKS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("tasks/[a-z]*.py")))


@dataclass(frozen=True)
class TrainRecipe:
    """What a recipe file says.

    Attributes
    ----------
    model : str
        Name of the model that comes out of it.
    task : str
        One of ``TASKS``: what the network learns, and from what.
    anatomy : list of str
        Sources of the anatomy that is simulated.
    warmup : int
        Steps in which the learning rate rises to its height.
    decay : float
        Share of the steps, at the end, in which it falls to zero.
    ema : float
        What the averaged weights keep of themselves at a step.
    network : dict
        ``kind`` and settings of the network, see :func:`sctseg7t.train.networks.build_network`.
    simulation : dict
        Settings of the task's simulator.
    """

    model: str
    task: str
    anatomy: list[str]
    steps: int = 3000
    batch: int = 16
    learning_rate: float = 2.5e-3
    warmup: int = 100
    decay: float = 0.35
    weight_decay: float = 1e-4
    ema: float = 0.997
    seed: int = 7
    validate_every: int = 250
    validation_images: int = 96
    network: dict[str, Any] = field(default_factory=dict)
    simulation: dict[str, Any] = field(default_factory=dict)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step: it rises, is held, and falls linearly to zero."""
        warm = min(1.0, (step + 1) / max(self.warmup, 1))
        fall = (self.steps - step) / max(self.decay * self.steps, 1)
        return self.learning_rate * min(warm, fall, 1.0)


def read_recipe(name: str | Path) -> TrainRecipe:
    """Read a recipe.

    Parameters
    ----------
    name : str or path
        A JSON file, or the name of a shipped recipe. It may name a ``base``: :mod:`sctseg7t.simulate.recipe_file`.

    Raises
    ------
    InputError
        No such recipe, an unreadable file, an unknown or missing name in it, or an impossible value.
    """
    path, values = read_recipe_file(name, RECIPES)
    wrong = sorted(set(values) - {f.name for f in fields(TrainRecipe)})
    if wrong:
        raise InputError(f"{path}: unknown name {wrong[0]!r} in the recipe")
    missing = [name for name in ("model", "task", "anatomy") if name not in values]
    if missing:
        raise InputError(f"{path}: the recipe lacks {missing[0]!r}")
    recipe = TrainRecipe(**values)
    for name, (need, met) in _NEEDS.items():
        if not met(getattr(recipe, name)):
            raise InputError(f"{path}: {name} is {getattr(recipe, name)!r} in the recipe; it must be {need}")
    return recipe


def _number(low: float, high: float = math.inf, kind: Any = (int, float)) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


_COUNT = ("a whole number, 1 or more", _number(1, kind=int))
_NEEDS = {
    "model": ("a name", lambda value: isinstance(value, str) and value != ""),
    "task": (f"one of {', '.join(TASKS)}", lambda value: value in TASKS),
    "anatomy": ("a list of sources", lambda value: isinstance(value, list) and value != []),
    "network": ("an object", lambda value: isinstance(value, dict)),
    "simulation": ("an object", lambda value: isinstance(value, dict)),
    "steps": _COUNT,
    "batch": _COUNT,
    "validate_every": _COUNT,
    "validation_images": _COUNT,
    "warmup": ("a whole number, 0 or more", _number(0, kind=int)),
    "seed": ("a whole number, 0 or more", _number(0, kind=int)),
    "learning_rate": ("a number above 0", _number(1e-12)),
    "weight_decay": ("a number, 0 or more", _number(0)),
    "decay": ("between 0 and 1", _number(0, 1)),
    "ema": ("between 0 and 1", _number(0, 1)),
}
