"""From a network's output to probability maps."""

from collections.abc import Callable
from typing import Any

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.runtime.ensemble import combine, members, spread
from sctseg7t.zoo.spec import ModelSpec

# A probability may be so far beyond 0 or 1 by rounding.
_SLACK = 1e-3


def network_maps(images: np.ndarray, session: Any, spec: ModelSpec) -> np.ndarray:
    """Run a network and give its maps as probabilities; those of several networks become one by the entry's rule.

    Parameters
    ----------
    images : (N, C, ...) float32
    session : Session or Ensemble
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
    found = [_maps_of(images, one, spec) for one in members(session)]
    return combine(found, spec.ensemble) if len(found) > 1 else found[0]


def mirrored_maps(
    images: np.ndarray,
    session: Any,
    spec: ModelSpec,
    axis: int,
    *,
    uncertainty: bool = False,
    each: Callable[[np.ndarray], np.ndarray] = lambda maps: maps,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Maps of one or several networks of images and, where the entry says so, of their mirror images.

    Parameters
    ----------
    images, session, spec
        As of :func:`network_maps`.
    axis : int
        Of left and right.
    uncertainty : bool
        Give the spread too: of several networks; of an image and its mirror image where there is one.
    each : callable
        What is done to the maps of each of several networks before they become one.

    Returns
    -------
    maps : (N, K, ...) float32
        Each network's are the mean over both images; ``spec.ensemble`` makes one of several.
    spread : (N, K, ...) float32 or None
    """
    flip, found, alone = bool(spec.test_time.get("flip_lr")), [], None
    for one in members(session):
        if not flip:
            found.append(_maps_of(images, one, spec))
            continue
        # The mean of both makes left and right equal by construction.
        both = _maps_of(np.concatenate([images, np.flip(images, axis)]), one, spec)
        looks = both[: len(images)], np.flip(both[len(images) :], axis)
        alone = looks
        found.append((looks[0] + looks[1]) / 2)
    if len(found) > 1:
        found = [each(maps) for maps in found]
    maps = combine(found, spec.ensemble)
    if not uncertainty:
        return maps, None
    if len(found) > 1:
        return maps, spread(found)
    if alone is None:
        alone = found[0], np.flip(_maps_of(np.flip(images, axis), members(session)[0], spec), axis)
    return maps, spread(alone)


def _maps_of(images, session, spec):
    """Maps of one network, checked."""
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
