"""Networks that see a window of every slice, centred on the cord, in the anatomical frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sctseg7t.image.frame import Frame
from sctseg7t.image.windows import restore_windows, sample_windows
from sctseg7t.inference.segmenter import check_needs
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec, OutputSpec

# A window whose cord lies further than this from its centre is sampled again around it.
RECENTRE_MM = 2.0
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
    """

    maps: dict
    touches_edge: np.ndarray
    centres_vox: np.ndarray


def segment_fractions(
    images: Sequence[np.ndarray], frame: Frame, centres_vox: np.ndarray, session: Session, spec: ModelSpec
) -> Fractions:
    """Run a window model along a centre line.

    Parameters
    ----------
    images : sequence of (X, Y, Z) array
        One a channel, all on the scan's grid.
    frame : Frame
        Of their slices.
    centres_vox : (Z, 2) array
    session : Session
    spec : ModelSpec

    Returns
    -------
    Fractions

    Raises
    ------
    ModelError
        The entry asks for what window models cannot do, or the network lacks one of its outputs.
    """
    centres = np.array(centres_vox, float)
    maps = _window_maps(images, frame, centres, session, spec)
    lead = lead_output(spec).channel
    if spec.centring["policy"] == "locator":
        moved = _recentred(maps[:, lead], frame, centres, spec)
        far = np.flatnonzero(frame.mm_between(moved, centres) > RECENTRE_MM)
        if far.size:
            centres[far] = moved[far]
            maps[far] = _window_maps([image[..., far] for image in images], frame, centres[far], session, spec)
    names = [output.name for output in spec.outputs]
    channels = np.stack([maps[:, output.channel] for output in spec.outputs], 1)
    if {"SC", "GM"} <= set(names):
        sc, gm = names.index("SC"), names.index("GM")
        channels[:, gm] = np.minimum(channels[:, gm], channels[:, sc])
    native = restore_windows(channels, frame, images[0].shape, centres, spec.input.spacing_mm[0])
    return Fractions(dict(zip(names, native)), _touches_edge(maps[:, lead], spec), centres)


def _window_maps(images, frame, centres, session, spec):
    """Probability maps (Z, C, H, W); rows to anterior, columns to the right."""
    size, spacing = spec.input.size[0], spec.input.spacing_mm[0]
    channels = []
    for image in images:
        windows, inside = sample_windows(image, frame, centres, size=size, spacing_mm=spacing)
        channels.append(zscore(windows, inside))
    stack = np.stack(channels, 1)
    transposed = spec.input.axes == "xy"
    stack = stack.swapaxes(2, 3) if transposed else stack
    if spec.test_time.get("flip_lr"):
        # The mean of both makes left and right equal by construction.
        axis = 2 if transposed else 3
        both = network_maps(np.concatenate([stack, np.flip(stack, axis)]), session, spec)
        maps = (both[: len(stack)] + np.flip(both[len(stack) :], axis)) / 2
    else:
        maps = network_maps(stack, session, spec)
    maps = maps.swapaxes(2, 3) if transposed else maps
    # What lies beyond the scan was never seen.
    return maps * inside[:, None]


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
