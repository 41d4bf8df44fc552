"""From a network's output to probability maps."""

from typing import Any

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.zoo.spec import ModelSpec


def network_maps(images: np.ndarray, session: Any, spec: ModelSpec) -> np.ndarray:
    """Run a network and give its maps as probabilities.

    Parameters
    ----------
    images : (N, C, ...) float32
    session : Session
        Anything whose ``run`` takes such images and gives (N, K, ...) maps.
    spec : ModelSpec
        Says whether the maps are logits, and how many there must be.

    Returns
    -------
    (N, K, ...) float32, 0..1

    Raises
    ------
    ModelError
        The network returns fewer maps than the entry lists.
    """
    maps = session.run(images)
    if max(output.channel for output in spec.outputs) >= maps.shape[1]:
        raise ModelError(f"{spec.label}: its network returns {maps.shape[1]} maps, fewer than its entry lists")
    return 1 / (1 + np.exp(-maps)) if spec.activation == "logits" else maps
