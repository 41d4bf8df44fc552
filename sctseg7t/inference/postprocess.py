"""Mask operations, each named, applied in the order that the model's entry lists.

Masks are boolean (X, Y, Z) on the native canonical grid. Slices are separate 2D images unless
an operation says ``scope: volume``. In a slice, mask pixels connect also by their corners and
background pixels by their sides only, so a ring closed by corners encloses its hole.
"""

import inspect
import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from sctseg7t.errors import ModelError
from sctseg7t.image.grid import bounding_box
from sctseg7t.zoo.spec import OutputSpec


def apply(masks: Mapping[str, np.ndarray], steps: Sequence[dict], voxel_mm3: float) -> dict[str, np.ndarray]:
    """Apply post-processing steps in order.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z) bool
    steps : sequence of dict
        ``{"op": name, "params": {"label": ..., ...}}``, as in the manifest.
    voxel_mm3 : float

    Returns
    -------
    dict of str to (X, Y, Z) bool
        The input arrays are not changed; one that no step touched is returned as it is.

    Raises
    ------
    ModelError
        Unknown operation, label or parameter, whatever the masks hold.
    """
    masks = dict(masks)
    for step in steps:
        params = dict(step.get("params", {}))
        operation = OPERATIONS.get(step["op"])
        if operation is None:
            raise ModelError(f"post-processing step {step['op']!r} is unknown; known: {', '.join(OPERATIONS)}")
        label = params.pop("label", None)
        for name in (label, params.get("of")):
            if name is not None and name not in masks:
                raise ModelError(f"post-processing step {step['op']}: the model has no output {name!r}")
        if "of" in params:
            params["of"] = masks[params["of"]]
        if step["op"] == "remove_small":
            params["voxel_mm3"] = voxel_mm3
        for name in [label] if label else list(masks):
            try:
                inspect.signature(operation).bind(masks[name], **params)
                masks[name] = _in_box(operation, masks[name], params)
            except (TypeError, ValueError) as err:
                raise ModelError(f"post-processing step {step['op']}: {err}") from err
    return masks


def binary(fraction: np.ndarray, output: OutputSpec, threshold: float | None = None) -> np.ndarray:
    """Mask of one output as its entry's ``binarise`` says, or from a user's threshold on."""
    if threshold is None and output.binarise == "area":
        return area_matched(fraction, output.lowest)
    limit = threshold or output.threshold
    return fraction > limit if output.binarise == "above" else fraction >= limit


def area_matched(fraction: np.ndarray, lowest: float = 0.25) -> np.ndarray:
    """Binary mask whose area in each slice is that of the fractions, to the nearest voxel.

    A fixed threshold loses what is thinner than a voxel and its area jumps as a border crosses voxel
    centres; this takes the voxels of highest fraction instead, as many as the fractions sum to.

    Parameters
    ----------
    fraction : (X, Y, Z) float
    lowest : float
        No voxel below this fraction belongs to the mask, however uncertain the slice.

    Returns
    -------
    (X, Y, Z) bool
        Voxels of equal fraction stay together, so a mirrored image has the mirrored mask.
    """
    limit = np.full(fraction.shape[2], np.inf)
    for k, total in enumerate(fraction.sum((0, 1), dtype=np.float64)):
        # Rounded coarsely first: the sum's last bits depend on the order of the voxels.
        count = int(np.floor(round(total, 4) + 0.5))
        if count:
            values = np.sort(fraction[..., k][fraction[..., k] >= lowest])
            limit[k] = values[-count] if count <= values.size else lowest
    return fraction >= limit


def override(
    steps: Sequence[dict],
    *,
    largest: bool | None = None,
    fill: bool | None = None,
    small: dict | None = None,
    labels: Sequence[str] = (),
) -> list[dict]:
    """Edit a list of steps as the options ``-largest``, ``-fill-holes``, ``-remove-small`` ask.

    None leaves an operation as the model has it; 0 takes it out; anything else puts it in for
    every label (``small`` is a dict with ``min_voxels`` or ``min_mm3``; an empty one takes it out).
    """
    changed, added = list(steps), []
    for op, wanted in (("keep_largest", largest), ("fill_holes", fill), ("remove_small", small)):
        if wanted is None:
            continue
        changed = [s for s in changed if s["op"] != op]
        if wanted:
            params = wanted if isinstance(wanted, dict) else {}
            added += [{"op": op, "params": {"label": label, **params}} for label in labels]
    # In front: what the model lists last ("inside") must also hold for the edited masks.
    return added + changed


def keep_largest(mask: np.ndarray, scope: str = "slice") -> np.ndarray:
    """Keep the largest connected component, of each ``slice`` or of the ``volume``; of equals, the first."""
    if scope not in ("slice", "volume"):
        raise ValueError(f"scope {scope!r} is unknown; use slice or volume")
    labels = components(mask, corners=True, through_plane=scope == "volume")
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if scope == "volume":
        return mask & (labels == sizes.argmax())
    kept = np.zeros(len(sizes), bool)
    for k in np.flatnonzero(mask.any((0, 1))):
        present = np.unique(labels[..., k][mask[..., k]])
        kept[present[sizes[present].argmax()]] = True
    return kept[labels]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Fill background that a slice's mask encloses."""
    # The added border makes all that surrounds the mask of a slice one component, its first.
    labels = components(np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True), corners=False)
    return (labels != labels[0, 0])[1:-1, 1:-1]


def remove_small(
    mask: np.ndarray,
    voxel_mm3: float,
    min_voxels: int | None = None,
    min_mm3: float | None = None,
    scope: str = "slice",
) -> np.ndarray:
    """Remove components that are smaller than a number of voxels or a volume; one of exactly the limit is kept.

    In the ``slice`` scope a component never reaches beyond its slice, and its volume is its area times the slice
    thickness; in the ``volume`` scope it is one with what it touches in other slices, by corners too.
    """
    if scope not in ("slice", "volume"):
        raise ValueError(f"scope {scope!r} is unknown; use slice or volume")
    if min_voxels is not None and min_mm3 is None:
        limit = min_voxels
    elif min_mm3 is not None and min_voxels is None:
        # The voxel's volume comes from a float32 header: a limit of n voxels must not become n + 1.
        limit = min_mm3 / voxel_mm3 * (1 - 1e-5)
    else:
        raise ValueError("give either min_voxels or min_mm3")
    labels = components(mask, corners=True, through_plane=scope == "volume")
    large = np.bincount(labels.ravel()) >= limit
    large[0] = False
    return large[labels]


def components(mask: np.ndarray, corners: bool, through_plane: bool = False) -> np.ndarray:
    """Label connected components; numpy alone, since importing scipy costs more than all of this.

    Parameters
    ----------
    mask : (X, Y, Z) bool
    corners : bool
        Whether voxels that share only a corner or an edge are connected.
    through_plane : bool
        Whether neighbouring slices are connected.

    Returns
    -------
    (X, Y, Z) int
        0 in the background, else 1, 2, ... in the order of the components' first voxels.
    """
    padded = np.ascontiguousarray(np.pad(mask, 1))
    label = np.where(padded, np.arange(1, padded.size + 1).reshape(padded.shape), padded.size + 1)
    # Flat steps to half of a voxel's neighbours; the other half are their opposites.
    sides = [
        int(np.dot(step, padded.strides)) // padded.itemsize
        for step in itertools.product((-1, 0, 1), (-1, 0, 1), (-1, 0, 1) if through_plane else (0,))
        if step > (0, 0, 0) and (corners or np.abs(step).sum() == 1)
    ]
    flat = label.ravel()
    where = np.flatnonzero(padded)
    while True:
        before = flat[where]
        lowest = before
        for step in sides:
            lowest = np.minimum(lowest, np.minimum(flat[where + step], flat[where - step]))
        # A voxel may take over what its representative has found: paths shorten by half each time.
        flat[where] = lowest
        flat[where] = flat[flat[where] - 1]
        if np.array_equal(flat[where], before):
            break
    out = np.zeros(mask.shape, np.intp)
    # 1, 2, ... in the order of the lowest numbers.
    out[mask] = np.unique(flat[where], return_inverse=True)[1] + 1
    return out


def inside(mask: np.ndarray, of: np.ndarray) -> np.ndarray:
    """Keep only what lies inside another mask."""
    return mask & of


OPERATIONS = {
    "keep_largest": keep_largest,
    "fill_holes": fill_holes,
    "remove_small": remove_small,
    "inside": inside,
}


def _in_box(operation, mask, params):
    """Run an operation on the mask's bounding box: a cord is 5 % of its slice."""
    box = bounding_box(mask)
    if box is None:
        return mask
    # Whole stacks of slices: a step sees the empty ones between.
    box = box[:2]
    of = params.get("of")
    local = {**params, "of": of[box]} if of is not None else params
    out = np.zeros_like(mask)
    out[box] = operation(mask[box], **local)
    return out
