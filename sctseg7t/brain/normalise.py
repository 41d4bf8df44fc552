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
        (99.5). ``zscore``: ``clip``. Of each: ``scope``, which is "mask".

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
    known = {"median": {"slope": 3.0, "clip": None}, "percentile": {"low": 0.5, "high": 99.5}, "zscore": {"clip": None}}
    if name not in known:
        raise ModelError(f"normalisation {name!r} is unknown for brains; known: {', '.join(known)}")
    used = {"scope": "mask", **known[name], **(parameters or {})}
    unknown = used.keys() - known[name].keys() - {"scope"}
    if unknown or used["scope"] != "mask":
        what = f"parameter {', '.join(sorted(unknown))}" if unknown else f"scope {used['scope']!r}"
        raise ModelError(f"normalisation {name}: {what} is unknown; known: {', '.join(known[name])}, and scope mask")
    if not mask.any():
        raise ValueError("the brain mask is empty")
    data = np.asarray(data, dtype=np.float32)
    inside = data[mask]
    if name == "median":
        median = float(np.median(inside))
        if median <= 0:
            raise ValueError("the brain's median intensity is not positive")
        out = np.where(mask, used["slope"] * (data / median - 1), -used["slope"])
    elif not inside.min() < inside.max():
        raise ValueError("the brain has one intensity only")
    elif name == "percentile":
        low, high = np.percentile(inside, (used["low"], used["high"]))
        if not low < high:
            raise ValueError("the brain has one intensity only")
        out = np.where(mask, np.clip((data - low) / (high - low), 0, 1), 0)
    else:
        inside = inside.astype(np.float64)
        out = (data - inside.mean()) / inside.std()
        out = np.where(mask, out, out[mask].min())
    return (np.clip(out, *used["clip"]) if used.get("clip") else out).astype(np.float32)


def saturate(data: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Intensities of a whole scan on a scale from 0 to 1 that neither bright fat nor the air around a head rules.

    ``I / (I + bright)``, where ``bright`` is the median of what exceeds the mean of the positive intensities. Not
    changed by a factor on I.

    Parameters
    ----------
    data : (X, Y, Z) float array
    seen : (X, Y, Z) bool
        Where the scan looked.

    Returns
    -------
    (X, Y, Z) float32
        0 for what is not positive, and where the scan did not look; all 0 without any signal.
    """
    values = np.where(seen, np.maximum(np.nan_to_num(np.asarray(data, np.float32)), 0), 0)
    signal = values[values > 0]
    if not signal.size:
        return values
    bright = np.median(signal[signal >= signal.mean()])
    return values / (values + bright)
