"""Networks that see whole slices along the array's own axes, as those of the Spinal Cord Toolbox do.

No anatomical frame here: the image is resampled along its own in-plane axes (in the order and direction of the file,
or flipped to an orientation), and a crop of whole pixels goes to the network: the middle of the image (sct_deepseg_gm:
Perone et al., Sci Rep 2018), or around the cord (sct_deepseg_sc: Gros et al., NeuroImage 2019).
"""

import functools

import numpy as np

from sctseg7t.cord.windows_model import EDGE_MM, Fractions, lead_output, only_largest
from sctseg7t.errors import ModelError
from sctseg7t.image.volume import Volume, from_order, to_order
from sctseg7t.inference.segmenter import check_needs
from sctseg7t.runtime.ensemble import Ensemble
from sctseg7t.runtime.maps import mirrored_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec


def slice_fractions(
    volume: Volume,
    data: np.ndarray,
    centres_vox: np.ndarray,
    session: Session | Ensemble,
    spec: ModelSpec,
    *,
    uncertainty: bool = False,
) -> Fractions:
    """Run a network over whole slices.

    Parameters
    ----------
    volume : Volume
        Lends the order of the stored axes.
    data : (X, Y, Z) array
        One volume of it.
    centres_vox : (Z, 2) array
        Centre of each slice's crop, canonical voxels.
    session : Session or Ensemble
    spec : ModelSpec
        With the sampling method ``slices``.
    uncertainty : bool
        Give the spread too.

    Returns
    -------
    Fractions
        Of float64. Where the entry cuts the network's map (``map_threshold``), the cut map resampled
        to the native grid.
    """
    sampling, spacing, size = spec.input.sampling, spec.input.spacing_mm, spec.input.size
    order = _slices_order(volume, spec.input.orientation)
    turned = to_order(data, order).astype(np.float64)
    shape = turned.shape
    height = to_order(np.broadcast_to(np.arange(shape[2]), data.shape), order)[0, 0]
    # In the pixels of the turned slices.
    centres = np.asarray(centres_vox, float)[height][:, [axis for axis, _ in order[:2]]]
    centres = np.where([way > 0 for _, way in order[:2]], centres, np.array(shape[:2]) - 1 - centres)
    voxel_mm = [volume.spacing_mm[axis] for axis, _ in order[:2]]
    grid = [int(np.round(n * mm / step)) for n, mm, step in zip(shape, voxel_mm, spacing)]
    if min(grid) < 1:
        raise ModelError(f"{spec.label}: a slice of {volume.name} is smaller than one of its {spacing[0]} mm pixels")
    fine = _resampled(turned, grid, sampling.resample)
    # First fine pixel of each slice's crop; the image's centre gives n // 2 - size // 2.
    middle = (centres + 0.5) * np.array(grid) / shape[:2] - 0.5
    starts = np.floor(middle + 0.5 + 1e-9).astype(int) - np.array(size) // 2
    crops = _crops(fine, starts, size, sampling.pad).astype(np.float32)
    across = 2 + next(n for n, (axis, _) in enumerate(order[:2]) if axis == 0)
    seen, each = _normalised(crops, spec)[:, None], functools.partial(only_largest, spec=spec)
    maps, spread = mirrored_maps(seen, session, spec, across, uncertainty=uncertainty, each=each)
    cut = {o.name: maps[:, o.channel] for o in spec.outputs}
    for o in spec.outputs:
        if o.map_threshold is not None:
            cut[o.name] = cut[o.name] > o.map_threshold
    edge = _touches_edge(cut[lead_output(spec).name], starts, grid, spacing)

    def native(part):
        whole = _pasted(part, starts, grid)
        return from_order(np.clip(_resampled(whole, shape[:2], sampling.resample), 0, 1), order)

    apart = {} if spread is None else {o.name: native(spread[:, o.channel]) for o in spec.outputs}
    found = {name: native(part) for name, part in cut.items()}
    return Fractions(found, edge[np.argsort(height)], np.asarray(centres_vox, float), apart)


def check_spec(spec: ModelSpec) -> None:
    """Refuse an entry that whole slices cannot serve (ModelError naming the field)."""
    given, normalisation = spec.input, spec.input.normalisation
    how = (normalisation["name"], normalisation.get("parameters", {}).get("scope"))
    needs = {
        "input.size must name two sides": given.size is not None and len(given.size) == 2,
        "input.spacing_mm must name two lengths": len(given.spacing_mm) == 2,
        "input.axes must be xy": given.axes == "xy",
        "input.channels must be one": len(given.channels) == 1,
        "input.interpolation must be linear": given.interpolation == "linear",
        "input.normalisation must be zscore or percentile, over the stack": how
        in (("zscore", "stack"), ("percentile", "stack")),
        "centring.policy must be locator or image": spec.centring["policy"] in ("locator", "image"),
        "ensemble_largest must name outputs": set(spec.ensemble_largest) <= {output.name for output in spec.outputs},
    }
    check_needs(spec, needs)


def _slices_order(volume, orientation):
    """Axes and directions of the network's slices (3 pairs), the slices' own axis last."""
    if orientation == "native":
        rows = [(int(axis), int(direction)) for axis, direction in volume.source.orientation]
        return [row for row in rows if row[0] != 2] + [row for row in rows if row[0] == 2]
    return [(axis, 1 if letter in "RAS" else -1) for axis, letter in enumerate(orientation)]


def _crops(fine, starts, size, pad):
    """Crops (Z, H, W) of the slices; beyond the image its mirror (edge repeated) or zero."""
    out = np.empty((fine.shape[2], *size))
    for k, start in enumerate(starts):
        index = [start[axis] + np.arange(size[axis]) for axis in (0, 1)]
        known = [(i >= 0) & (i < n) for i, n in zip(index, fine.shape)]
        mirrored = [np.minimum(i % (2 * n), 2 * n - 1 - i % (2 * n)) for i, n in zip(index, fine.shape)]
        out[k] = fine[np.ix_(*mirrored, [k])][..., 0]
        if pad == "constant":
            out[k] *= known[0][:, None] & known[1]
    return out


def _pasted(part, starts, grid):
    """Crops back into fine slices (grid..., Z); zero around them."""
    whole = np.zeros((*grid, len(part)))
    for k, start in enumerate(starts):
        low = np.maximum(start, 0)
        high = np.minimum(start + part.shape[1:], grid)
        inner = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start))
        whole[low[0] : high[0], low[1] : high[1], k] = part[k][inner]
    return whole


def _resampled(data, grid, how):
    """Linear resampling of the first two axes, edges repeated.

    ``centred``: same field of view; ``corner``: the first pixels share their centre.
    """
    # The toolbox resamples with scipy: at ratios such as 0.4 to 0.25 mm a cut mask comes back as exactly one half
    # in places, and only the same arithmetic puts those on the same side.
    from scipy.ndimage import affine_transform

    step = np.array([*(old / new for old, new in zip(data.shape, grid)), 1.0])
    offset = (step - 1) / 2 if how == "centred" else np.zeros(3)
    return affine_transform(data, step, offset, (*grid, data.shape[2]), order=1, mode="nearest")


def _normalised(crops, spec):
    parameters = spec.input.normalisation.get("parameters", {})
    if spec.input.normalisation["name"] == "zscore":
        spread = crops.std()
        return (crops - crops.mean()) / (spread if spread > 0 else 1)
    low, high = np.percentile(crops, (parameters["low"], parameters["high"])).astype(np.float32)
    scaled = np.clip((crops - low) / (high - low if high > low else 1), 0, 1) * np.float32(parameters.get("scale", 1))
    return (scaled - np.float32(parameters.get("mean", 0))) / np.float32(parameters.get("sd", 1))


def _touches_edge(maps, starts, grid, spacing):
    """Slices whose mask reaches the crop's border where that lies inside the image."""
    touches = np.zeros(len(maps), bool)
    for axis in (0, 1):
        rim = max(1, int(round(EDGE_MM / spacing[axis])))
        moved = np.moveaxis(maps, axis + 1, 1)
        touches |= (moved[:, :rim] > 0.5).any((1, 2)) & (starts[:, axis] > 0)
        touches |= (moved[:, -rim:] > 0.5).any((1, 2)) & (starts[:, axis] + maps.shape[axis + 1] < grid[axis])
    return touches
