"""Mask operations, each named, applied in the order that the model's entry lists.

Masks are boolean (X, Y, Z) on the native canonical grid. Slices are separate 2D images unless
an operation says ``scope: volume``.
"""

import numpy as np

from sctseg7t.errors import ModelError

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)[..., None]


def apply(masks, steps, voxel_mm3):
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
        New arrays; the input is not changed.

    Raises
    ------
    ModelError
        Unknown operation, label or parameter.
    """
    masks = dict(masks)
    for step in steps:
        params = dict(step.get("params", {}))
        operation = OPERATIONS.get(step["op"])
        if operation is None:
            raise ModelError(f"post-processing step {step['op']!r} is unknown; known: {', '.join(OPERATIONS)}")
        label = params.pop("label", None)
        if "of" in params:
            params["of"] = masks.get(params["of"])
        if step["op"] == "remove_small":
            params["voxel_mm3"] = voxel_mm3
        for name in [label] if label else list(masks):
            if name not in masks:
                raise ModelError(f"post-processing step {step['op']}: the model has no output {name!r}")
            try:
                masks[name] = _in_box(operation, masks[name], params)
            except TypeError as err:
                raise ModelError(f"post-processing step {step['op']}: {err}") from err
    return masks


def override(steps, *, largest=None, fill=None, small=None, labels=()):
    """Edit a list of steps as the options ``-largest``, ``-fill-holes``, ``-remove-small`` ask.

    None leaves an operation as the model has it; 0 takes it out; anything else puts it in for
    every label (``small`` is a dict with ``min_voxels`` or ``min_mm3``).
    """
    changed = list(steps)
    for op, wanted, params in (("keep_largest", largest, {}), ("fill_holes", fill, {}), ("remove_small", small, small)):
        if wanted is None:
            continue
        changed = [s for s in changed if s["op"] != op]
        if wanted:
            # In front: what the model lists last ("inside") must also hold for the edited masks.
            changed[:0] = [{"op": op, "params": {"label": label, **params}} for label in labels]
    return changed


def keep_largest(mask, scope="slice"):
    """Keep the largest connected component, of each slice or of the volume."""
    from scipy import ndimage

    structure = np.ones((3, 3, 3), bool)
    if scope == "slice":
        structure[..., (0, 2)] = False
    labels, count = ndimage.label(mask, structure)
    if count == 0:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    if scope == "volume":
        return labels == sizes.argmax()
    kept = np.zeros(count + 1, bool)
    for k in range(mask.shape[2]):
        present = np.unique(labels[..., k])
        if present[-1]:
            kept[present[sizes[present].argmax()]] = True
    return kept[labels]


def fill_holes(mask):
    """Fill background that a slice's mask encloses."""
    from scipy import ndimage

    # Only in-plane neighbours connect; with a border, the outside is one region.
    padded = np.pad(~mask, ((1, 1), (1, 1), (0, 0)), constant_values=True)
    outside = np.zeros_like(padded)
    outside[(0, -1), :, :] = outside[:, (0, -1), :] = True
    reached = ndimage.binary_propagation(outside, np.pad(_CROSS, ((0, 0), (0, 0), (1, 1))), mask=padded)
    return ~reached[1:-1, 1:-1, :]


def remove_small(mask, voxel_mm3, min_voxels=None, min_mm3=None):
    """Remove in-plane components smaller than a number of voxels or a volume."""
    from scipy import ndimage

    limit = min_voxels if min_mm3 is None else min_mm3 / voxel_mm3
    structure = np.zeros((3, 3, 3), bool)
    structure[..., 1] = True
    labels, count = ndimage.label(mask, structure)
    large = np.bincount(labels.ravel(), minlength=count + 1) >= limit
    large[0] = False
    return large[labels]


def inside(mask, of):
    """Keep only what lies inside another mask."""
    return mask if of is None else mask & of


OPERATIONS = {
    "keep_largest": keep_largest,
    "fill_holes": fill_holes,
    "remove_small": remove_small,
    "inside": inside,
}


def _in_box(operation, mask, params):
    """Run an operation on the mask's bounding box: a cord is 5 % of its slice."""
    if not mask.any():
        return mask
    box = tuple(slice(a.min(), a.max() + 1) for a in map(np.flatnonzero, (mask.any((1, 2)), mask.any((0, 2)))))
    of = params.get("of")
    local = {**params, "of": of[box]} if of is not None else params
    out = np.zeros_like(mask)
    out[box] = operation(mask[box], **local)
    return out
