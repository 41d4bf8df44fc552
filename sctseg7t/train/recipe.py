"""The recipe of a training: everything that its weights depend on, in one JSON file."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError

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

    A recipe may name another as its ``base`` and say only what differs, as a JSON merge patch (RFC 7396): objects are
    merged, any other value takes the place of the base's, and null removes what the base has.

    Parameters
    ----------
    name : str or path
        A JSON file, or the name of a shipped recipe. A ``base`` is also looked for beside the file that names it.

    Raises
    ------
    InputError
        No such recipe, an unreadable file, an unknown or missing name in it, or an impossible value.
    """
    path = _find(name)
    values = _values(path)
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


def _find(name: str | Path, beside: Path = Path()) -> Path:
    for path in (beside / name, RECIPES / f"{name}.json"):
        if path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in RECIPES.glob("*.json")))
    raise InputError(f"{name}: no such recipe file; the shipped recipes are {shipped}")


def _values(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """What a file and its bases say together."""
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as err:
        raise InputError(f"{path}: not a readable JSON recipe ({err})") from err
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a recipe; a recipe is a JSON object with model, task and anatomy")
    if "base" not in values:
        return values
    base = values.pop("base")
    if not isinstance(base, str):
        raise InputError(f"{path}: base is {base!r} in the recipe; it must be the name or the file of a recipe")
    above = (*above, path.resolve())
    found = _find(base, path.parent)
    if found.resolve() in above:
        raise InputError(f"{path}: its base {base!r} leads back to the recipe itself")
    return _merged(_values(found, above), values)


def _merged(base: Any, changes: Any) -> Any:
    if not (isinstance(base, dict) and isinstance(changes, dict)):
        return changes
    whole = dict(base)
    for name, value in changes.items():
        if value is None:
            whole.pop(name, None)
        else:
            whole[name] = _merged(whole.get(name), value)
    return whole


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
