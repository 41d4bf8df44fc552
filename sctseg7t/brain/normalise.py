"""Intensities as a network wants them, by the names that a model's entry uses."""

import numpy as np

from sctseg7t.errors import ModelError


def normalise(data: np.ndarray, mask: np.ndarray, name: str, parameters: dict | None = None) -> np.ndarray:
    """Normalise an image by the intensities of its brain.

    ``median``: ``slope * (I / median - 1)``, median over the brain. Not changed by a factor on I; an offset on I does
    change it, since zero must mean no signal.

    ``percentile``: ``(I - p_low) / (p_high - p_low)`` cut to 0..1, percentiles over the brain; ``low`` 0 and ``high``
    100 are plain min-max. Changed by neither factor nor offset.

    ``zscore``: ``(I - mean) / SD`` over the brain. Changed by neither.

    Parameters
    ----------
    data : (X, Y, Z) float array
    mask : (X, Y, Z) bool
        Brain.
    name : {"median", "percentile", "zscore"}
    parameters : dict, optional
        ``median``: ``slope`` (3), ``clip`` ([low, high] of the result, none). ``percentile``: ``low`` (0.5), ``high``
        (99.5), ``scope`` ("mask", or "image": all voxels). ``zscore``: ``clip``.

    Returns
    -------
    (X, Y, Z) float32
        What lies outside the mask has the value of no signal: that of intensity 0 (``median``), 0 (``percentile``), the
        brain's least (``zscore``).

    Raises
    ------
    ModelError
        Unknown name or parameter.
    ValueError
        Empty mask, or a brain of one value.
    """
    if name not in _METHODS:
        raise ModelError(f"normalisation {name!r} is unknown for brains; known: {', '.join(_METHODS)}")
    if not mask.any():
        raise ValueError("the brain mask is empty")
    data = np.asarray(data, dtype=np.float32)
    try:
        return _METHODS[name](data, mask, **(parameters or {}))
    except TypeError as err:
        raise ModelError(f"normalisation {name}: {err}") from err


def _median(data, mask, *, slope=3.0, clip=None, scope="mask"):
    _check_scope(scope, ("mask",))
    median = float(np.median(data[mask]))
    if median <= 0:
        raise ValueError("the brain's median intensity is not positive")
    out = slope * (data / median - 1)
    return _clipped(np.where(mask, out, -slope), clip)


def _percentile(data, mask, *, low=0.5, high=99.5, scope="mask"):
    _check_scope(scope, ("mask", "image"))
    bottom, top = np.percentile(data[mask] if scope == "mask" else data, (low, high))
    if not top > bottom:
        raise ValueError("the brain has one intensity only")
    out = np.clip((data - bottom) / (top - bottom), 0, 1)
    return np.where(mask, out, 0).astype(np.float32)


def _zscore(data, mask, *, clip=None, scope="mask"):
    _check_scope(scope, ("mask",))
    inside = data[mask].astype(np.float64)
    if not inside.std() > 0:
        raise ValueError("the brain has one intensity only")
    out = (data - inside.mean()) / inside.std()
    return _clipped(np.where(mask, out, out[mask].min()), clip)


def _check_scope(scope, known):
    if scope not in known:
        raise ModelError(f"normalisation: scope {scope!r} is unknown; known: {', '.join(known)}")


def _clipped(values, clip):
    return (np.clip(values, *clip) if clip else values).astype(np.float32)


_METHODS = {"median": _median, "percentile": _percentile, "zscore": _zscore}
