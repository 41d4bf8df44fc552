"""Optimisers by name."""

from typing import Any

import torch

from sctseg7t.errors import InputError
from sctseg7t.train.recipe import TrainRecipe

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "sgd": torch.optim.SGD}


def make_optimiser(recipe: TrainRecipe, network: torch.nn.Module) -> torch.optim.Optimizer:
    """The optimiser of a recipe, on those parameters that learn (InputError for an unknown name or setting).

    ``{"name": "sgd", "momentum": 0.99, "nesterov": true}``; the default is AdamW.
    """
    told: dict[str, Any] = dict(recipe.optimiser)
    name = told.pop("name", "adamw")
    if name not in OPTIMISERS:
        raise InputError(f"recipe of {recipe.model}: optimiser {name!r} is unknown; use {', '.join(OPTIMISERS)}")
    learning = [parameter for parameter in network.parameters() if parameter.requires_grad]
    try:
        return OPTIMISERS[name](learning, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, **told)
    except (TypeError, ValueError) as err:
        raise InputError(f"recipe of {recipe.model}: optimiser {name}: {err}") from err
