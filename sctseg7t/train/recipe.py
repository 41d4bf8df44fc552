"""The recipe of a training: everything that its weights depend on, in one JSON file."""

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path

from sctseg7t.errors import InputError


@dataclass(frozen=True)
class TrainRecipe:
    """What a recipe file says. ``task`` is ``cord``, ``locator`` or ``brain_lesion``."""

    model: str
    task: str
    anatomy: list
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
    network: dict = field(default_factory=dict)
    simulation: dict = field(default_factory=dict)

    @classmethod
    def read(cls, path):
        """Read a recipe; InputError on an unreadable file, an unknown or missing name, or an impossible value."""
        try:
            values = json.loads(Path(path).read_text())
        except (OSError, ValueError) as err:
            raise InputError(f"{path}: not a readable JSON recipe ({err})") from err
        if not isinstance(values, dict):
            raise InputError(f"{path}: not a recipe; a recipe is a JSON object with model, task and anatomy")
        wrong = sorted(set(values) - {f.name for f in fields(cls)})
        if wrong:
            raise InputError(f"{path}: unknown name {wrong[0]!r} in the recipe")
        missing = [name for name in ("model", "task", "anatomy") if name not in values]
        if missing:
            raise InputError(f"{path}: the recipe lacks {missing[0]!r}")
        recipe = cls(**values)
        for name, (need, met) in _NEEDS.items():
            if not met(getattr(recipe, name)):
                raise InputError(f"{path}: {name} is {getattr(recipe, name)!r} in the recipe; it must be {need}")
        return recipe


def _number(low, high=math.inf, kind=(int, float)):
    return lambda value: isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high


_COUNT = ("a whole number, 1 or more", _number(1, kind=int))
_NEEDS = {
    "model": ("a name", lambda value: isinstance(value, str) and value != ""),
    "task": ("brain_lesion, cord or locator", lambda value: value in ("cord", "locator", "brain_lesion")),
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
