"""The recipe of a training: everything that its weights depend on, in one JSON file."""

import hashlib
import json
import math
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from sctseg7t.simulate.recipe_file import check_values, read_recipe_file

RECIPES = Path(__file__).parent / "recipes"
_SCHEMA = Path(__file__).parent / "assets/recipe.schema.json"


@dataclass(frozen=True)
class Strategy:
    """What of a network stays as it was, and the share of the recipe's learning rate that it learns with.

    ``starts``: whether it begins with trained weights.
    """

    frozen: tuple[str, ...] = ()
    rate: float = 1.0
    starts: bool = True


# The five of the transfer-learning study. The encoder is the way down with the bottom, the decoder the way up; the
# head, which makes the maps, always learns.
STRATEGIES = {
    "scratch": Strategy(starts=False),
    "half_lr": Strategy(rate=0.5),
    "freeze_encoder": Strategy(frozen=("down", "bottom")),
    "freeze_decoder": Strategy(frozen=("up",)),
    "freeze_both": Strategy(frozen=("down", "bottom", "up")),
}
SCHEDULES = ("hold", "cosine", "poly", "constant")


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
    warmup : float
        Steps in which the learning rate rises to its height; below 1 the share of all steps. At most half of them.
    decay : float
        Share of the steps, at the end, in which it falls to zero (schedule ``hold``).
    ema : float
        What the averaged weights keep of themselves at a step.
    held_out : list of str
        People of the anatomy that are never trained on: the images of validation are simulated from them.
    network : dict
        ``kind`` and settings of the network, see :func:`sctseg7t.train.networks.build_network`.
    simulation : dict
        Settings of the task's simulator.
    entry : dict
        Of labelled scans: the zoo entry that the new model gets; ``model`` in it names the one that it derives from.
    labels : dict
        What masks are called, by label, in the order of the network's maps; see
        :func:`sctseg7t.train.scans.labelled.label_map`.
    images : dict
        Further images by role; see :func:`sctseg7t.train.scans.labelled.find_scans`.
    items : dict
        How windows or patches are drawn.
    augmentation : str
        By name, see :mod:`sctseg7t.train.scans.augmentation`.
    simulated : dict
        ``task`` and ``share`` of simulated images among the labelled ones.
    strategy : str
        Of transfer, by name; "": all layers learn at the recipe's rate.
    loss, optimiser : dict
        ``name`` and settings, see :mod:`sctseg7t.train.losses` and :func:`sctseg7t.train.optimisers.make_optimiser`.
    schedule : str
        Of the learning rate: ``hold`` (then a linear fall), ``cosine``, ``poly``, ``constant``.
    patience : int
        Validations without a lower loss after which the training ends; 0: it runs to its last step.
    least_gain : float
        By how much the loss must be lower to count.
    start_share : float
        Of labelled scans: the share that the weights which the run started from have in the exported network, which is
        the average of both. 0: the trained weights alone.
    """

    model: str
    task: str
    anatomy: list[str] = field(default_factory=list)
    steps: int = 3000
    batch: int = 16
    learning_rate: float = 2.5e-3
    warmup: float = 100
    decay: float = 0.35
    weight_decay: float = 1e-4
    ema: float = 0.997
    seed: int = 7
    validate_every: int = 250
    validation_images: int = 96
    held_out: list[str] = field(default_factory=list)
    network: dict[str, Any] = field(default_factory=dict)
    simulation: dict[str, Any] = field(default_factory=dict)
    entry: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, Any] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)
    items: dict[str, Any] = field(default_factory=dict)
    augmentation: str = "none"
    simulated: dict[str, Any] = field(default_factory=dict)
    strategy: str = ""
    loss: dict[str, Any] = field(default_factory=dict)
    optimiser: dict[str, Any] = field(default_factory=dict)
    schedule: str = "hold"
    patience: int = 0
    least_gain: float = 0.0
    start_share: float = 0.0

    def told(self) -> str:
        """The recipe as JSON; what is hashed. Of what came later it tells only what is not the default."""
        values = asdict(self)
        for item in fields(self):
            default = item.default if item.default_factory is MISSING else item.default_factory()
            if item.name in _CAME_LATER and values[item.name] == default:
                del values[item.name]
        return json.dumps(values, indent=2)

    def stream(self, start: str = "") -> int:
        """Where the seeds of a run's batches begin: step ``k`` draws from this number plus ``k``.

        It is a hash of the model, the seed and the digest of the weights that the run starts from. So two runs in a
        row, or two models, never train on the same images, though their recipes have one seed.
        """
        told = json.dumps([self.model, self.task, self.seed, start]).encode()
        return int.from_bytes(hashlib.sha256(told).digest()[:5], "big") << 16

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of a step: it rises, and then follows the schedule; the strategy takes its share of it."""
        rising = min(self.warmup * self.steps if self.warmup < 1 else self.warmup, self.steps / 2)
        warm, left = min(1.0, (step + 1) / max(rising, 1)), (self.steps - step) / self.steps
        height = {
            "hold": min(left / max(self.decay, 1 / self.steps), 1.0),
            "cosine": (1 - math.cos(math.pi * left)) / 2,
            "poly": left**0.9,
            "constant": 1.0,
        }[self.schedule]
        rate = STRATEGIES[self.strategy].rate if self.strategy else 1.0
        return self.learning_rate * rate * min(warm, height)


# Recipes that do not use these are told, and hashed, as they were before there were any.
_CAME_LATER = (
    *("held_out", "entry", "labels", "images", "items", "augmentation", "simulated", "strategy", "loss", "optimiser"),
    *("schedule", "patience", "least_gain", "start_share"),
)


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
    return recipe_of(values, path)


def recipe_of(values: dict[str, Any], path: str | Path) -> TrainRecipe:
    """A recipe of its values (InputError naming the path for an unknown or missing name, or an impossible value)."""
    check_values(values, _SCHEMA, path)
    return TrainRecipe(**values)
