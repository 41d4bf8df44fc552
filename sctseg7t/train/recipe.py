"""The recipe of a training: everything that its weights depend on, in one JSON file."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sctseg7t.errors import InputError
from sctseg7t.simulate.recipe_file import read_recipe_file

RECIPES = Path(__file__).parent / "recipes"
_SCHEMA = Path(__file__).parent / "assets/recipe.schema.json"


@dataclass(frozen=True)
class TrainRecipe:
    """What a recipe file says.

    Attributes
    ----------
    model : str
        Name of the model that comes out of it.
    task : str
        What the network learns, and from what: see :mod:`sctseg7t.train.task`.
    anatomy : list of str
        Sources of the anatomy that is simulated.
    warmup : int
        Steps in which the learning rate rises to its height.
    decay : float
        Share of the steps, at the end, in which it falls to zero.
    ema : float
        What the averaged weights keep of themselves at a step.
    held_out : list of str
        People of the anatomy that are never trained on: the images of validation are simulated from them.
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
    held_out: list[str] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    simulation: dict[str, Any] = field(default_factory=dict)

    def told(self) -> str:
        """The recipe as JSON; what is hashed. Where nobody is held out it says nothing of that, as before it could."""
        values = asdict(self)
        if not self.held_out:
            del values["held_out"]
        return json.dumps(values, indent=2)

    def stream(self, start: str = "") -> int:
        """Where the seeds of a run's batches begin: step ``k`` draws from this number plus ``k``.

        It is a hash of the model, the seed and the digest of the weights that the run starts from. So two runs in a
        row, or two models, never train on the same images, though their recipes have one seed.
        """
        told = json.dumps([self.model, self.task, self.seed, start]).encode()
        return int.from_bytes(hashlib.sha256(told).digest()[:5], "big") << 16

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
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    path, values = read_recipe_file(name, RECIPES)
    wrong = best_match(Draft202012Validator(json.loads(_SCHEMA.read_text())).iter_errors(values))
    if wrong:
        raise InputError(f"{path}: {wrong.json_path.removeprefix('$.')}: {wrong.message}")
    return TrainRecipe(**values)
