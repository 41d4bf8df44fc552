"""From a network's output to probability maps."""

from typing import Any

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.zoo.spec import ModelSpec

# A probability may be so far beyond 0 or 1 by rounding.
_SLACK = 1e-3


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
        The network's maps are not what the entry says: too few, of another size, no numbers, or no probabilities.
    """
    maps = session.run(images)
    shape = " x ".join(map(str, maps.shape))
    if maps.ndim != images.ndim or maps.shape[0] != images.shape[0] or maps.shape[2:] != images.shape[2:]:
        given = " x ".join(map(str, images.shape))
        raise ModelError(
            f"{spec.label}: its network returns {shape} for an input of {given}, and each pixel needs its own value; "
            "correct input.size in its entry, or give a network that keeps the size"
        )
    if max(output.channel for output in spec.outputs) >= maps.shape[1]:
        raise ModelError(
            f"{spec.label}: its network returns {maps.shape[1]} maps, fewer than its entry lists; "
            "correct outputs[].channel in its entry"
        )
    low, high = float(maps.min()), float(maps.max())
    if not np.isfinite([low, high]).all():
        raise ModelError(
            f"{spec.label}: its network returns NaN or infinite values; "
            "check input.normalisation in its entry, and how it was exported"
        )
    if spec.activation == "logits":
        # Beyond that the sigmoid is 0 or 1, and its exponential overflows.
        return 1 / (1 + np.exp(-np.clip(maps, -80, 80)))
    if low < -_SLACK or high > 1 + _SLACK:
        raise ModelError(
            f"{spec.label}: the outputs of its network span {low:.3g} to {high:.3g}, not 0 to 1; "
            "set activation to logits in its entry if they are logits"
        )
    return maps
