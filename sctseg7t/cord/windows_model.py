"""Networks that see a window of every slice, centred on the cord, in the anatomical frame."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from sctseg7t.image.frame import Frame
from sctseg7t.image.windows import restore_windows, sample_windows
from sctseg7t.inference.postprocess import components, keep_largest
from sctseg7t.inference.segmenter import check_needs
from sctseg7t.runtime.ensemble import Ensemble
from sctseg7t.runtime.maps import mirrored_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec, OutputSpec

# A window whose cord lies further than this from its centre is sampled again around it.
RECENTRE_MM = 2.0
# Below that a map shows nothing.
_FAINT = 0.01
# Cord this close to the window's border (mm) may be cut by it.
EDGE_MM = 0.5


@dataclass(frozen=True, eq=False)
class Fractions:
    """Tissue fractions on the native canonical grid.

    Attributes
    ----------
    maps : dict of str to (X, Y, Z) float32
        Mean probability over each voxel, by output name; GM never exceeds SC.
    touches_edge : (Z,) bool
        The cord reaches the border of the network's window.
    centres_vox : (Z, 2) float64
        Where the windows were, after re-centring.
    spread : dict of str to (X, Y, Z) float32
        How far what was said of each voxel lies apart, by output name; empty where nobody asked.
    """

    maps: dict
    touches_edge: np.ndarray
    centres_vox: np.ndarray
    spread: dict = field(default_factory=dict)


def segment_fractions(
    images: Sequence[np.ndarray],
    frame: Frame,
    centres_vox: np.ndarray,
    session: Session | Ensemble,
    spec: ModelSpec,
    *,
    uncertainty: bool = False,
) -> Fractions:
    """Run a window model along a centre line.

    Parameters
    ----------
    images : sequence of (X, Y, Z) array
        One a channel, all on the scan's grid.
    frame : Frame
        Of their slices.
    centres_vox : (Z, 2) array
    session : Session or Ensemble
    spec : ModelSpec
    uncertainty : bool
        Give the spread too.

    Returns
    -------
    Fractions

    Raises
    ------
    ModelError
        The entry asks for what window models cannot do, or the network lacks one of its outputs.
    """
    centres = np.array(centres_vox, float)
    maps, spread = _window_maps(images, frame, centres, session, spec, uncertainty)
    lead = lead_output(spec).channel
    if spec.centring["policy"] == "locator":
        moved = _recentred(maps[:, lead], frame, centres, spec)
        far = np.flatnonzero(frame.mm_between(moved, centres) > RECENTRE_MM)
        if far.size:
            centres[far] = moved[far]
            some = [image[..., far] for image in images]
            maps[far], again = _window_maps(some, frame, centres[far], session, spec, uncertainty)
            if spread is not None:
                spread[far] = again
    names = [output.name for output in spec.outputs]
    channels = np.stack([maps[:, output.channel] for output in spec.outputs], 1)
    if {"SC", "GM"} <= set(names):
        sc, gm = names.index("SC"), names.index("GM")
        channels[:, gm] = np.minimum(channels[:, gm], channels[:, sc])
    if spread is not None:
        channels = np.concatenate([channels, spread[:, [output.channel for output in spec.outputs]]], 1)
    native = restore_windows(channels, frame, images[0].shape, centres, spec.input.spacing_mm[0])
    apart = dict(zip(names, native[len(names) :]))
    return Fractions(dict(zip(names, native)), _touches_edge(maps[:, lead], spec), centres, apart)


def _window_maps(images, frame, centres, session, spec, uncertainty) -> tuple[np.ndarray, np.ndarray | None]:
    """Probability maps (Z, C, H, W) and their spread; rows to anterior, columns to the right."""
    size, spacing = spec.input.size[0], spec.input.spacing_mm[0]
    channels = []
    for image in images:
        windows, inside = sample_windows(image, frame, centres, size=size, spacing_mm=spacing)
        channels.append(zscore(windows, inside))
    stack = np.stack(channels, 1)
    transposed = spec.input.axes == "xy"
    stack = stack.swapaxes(2, 3) if transposed else stack
    found = mirrored_maps(
        stack,
        session,
        spec,
        2 if transposed else 3,
        uncertainty=uncertainty,
        each=lambda maps: only_largest(maps, spec),
    )
    # What lies beyond the scan was never seen.
    seen = inside[:, None]
    maps, spread = (part if part is None or not transposed else part.swapaxes(2, 3) for part in found)
    return maps * seen, None if spread is None else spread * seen


def only_largest(maps: np.ndarray, spec: ModelSpec) -> np.ndarray:
    """Maps (N, K, H, W) of one of several networks, with the largest piece alone of outputs whose entry says so."""
    for output in (one for one in spec.outputs if one.name in spec.ensemble_largest):
        fraction = maps[:, output.channel].transpose(1, 2, 0)
        there = fraction >= output.lowest
        kept = keep_largest(there)
        # A piece goes with its faint border, which would count in the area.
        pieces = components(fraction >= _FAINT, corners=True)
        own = np.isin(pieces, np.unique(pieces[kept])) & ~there
        maps[:, output.channel] = np.where(kept | own, fraction, 0).transpose(2, 0, 1)
    return maps


def check_spec(spec: ModelSpec) -> None:
    """Refuse an entry that the schema allows but window models cannot serve (ModelError naming the field)."""
    given, normalisation = spec.input, spec.input.normalisation
    needs = {
        "input.size must be square": given.size is not None and len(set(given.size)) == 1,
        "input.spacing_mm must be two numbers, the same along both axes": len(given.spacing_mm) == 2
        and len(set(given.spacing_mm)) == 1,
        "input.axes must be xy or yx": given.axes in ("xy", "yx"),
        "input.orientation must be RAS": given.orientation == "RAS",
        "input.channels must be as many as input.images": len(given.channels) == len(given.images),
        "input.interpolation must be linear": given.interpolation == "linear",
        "input.normalisation must be zscore with the scope slice": normalisation["name"] == "zscore"
        and normalisation["parameters"].get("scope", "slice") == "slice",
        "outputs must each have a suffix, and a threshold or the rule of the area": all(
            output.suffix and (output.threshold is not None or output.binarise == "area") for output in spec.outputs
        ),
        "centring.policy must be locator or image": spec.centring["policy"] in ("locator", "image"),
        "ensemble_largest must name outputs": set(spec.ensemble_largest) <= {output.name for output in spec.outputs},
    }
    check_needs(spec, needs)


def zscore(windows: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The z-score of each of (N, H, W) windows; pixels beyond the image become 0."""
    count = np.maximum(inside.sum((1, 2)), 1)
    # Double precision: the result must not depend on the scale or offset of the intensities.
    values = np.where(inside, windows, 0).astype(np.float64)
    mean = (values.sum((1, 2)) / count)[:, None, None]
    centred = np.where(inside, values - mean, 0)
    sd = np.sqrt((centred**2).sum((1, 2)) / count)[:, None, None]
    return np.where(sd > 0, centred / np.where(sd > 0, sd, 1), 0).astype(np.float32)


def lead_output(spec: ModelSpec) -> OutputSpec:
    """The output that stands for the whole cord: SC, or the only one there is."""
    names = [output.name for output in spec.outputs]
    return spec.outputs[names.index("SC") if "SC" in names else 0]


def _recentred(cord, frame, centres, spec):
    """Centre of mass of the cord's map in each window, in voxels; unchanged where it is empty."""
    weight = np.where(cord > 0.5, cord, 0).astype(float)
    total = weight.sum((1, 2))
    position = (np.arange(cord.shape[1]) - (cord.shape[1] - 1) / 2) * spec.input.spacing_mm[0]
    some = total > 0
    dx = np.where(some, (weight.sum(1) * position).sum(1) / np.where(some, total, 1), 0)
    dy = np.where(some, (weight.sum(2) * position).sum(1) / np.where(some, total, 1), 0)
    return centres + np.stack([dx, dy], 1) @ frame.frame_to_voxel.T


def _touches_edge(cord, spec):
    rim = max(1, int(round(EDGE_MM / spec.input.spacing_mm[0])))
    border = np.ones(cord.shape[1:], bool)
    border[rim:-rim, rim:-rim] = False
    return np.any(cord[:, border] > 0.5, axis=1)
