"""Finding the cord: its centre on every slice, and how sure that is.

A network gives a heat map of every slice at 1 mm; the smoothest path of peaks through
the stack is the centre line (Viterbi search over the best peaks of each slice, as OptiC does
over a cost map: Gros et al., Med Image Anal 2018).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.volume import Volume
from sctseg7t.image.windows import resample_slices
from sctseg7t.runtime.ensemble import Ensemble
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.session import Session
from sctseg7t.zoo.spec import ModelSpec

# Heat below which a slice's own peak is no evidence of a cord.
UNSURE = 0.25
# A scan holds a cord if this share of its slices shows one this clearly. Brains and noise
# have single slices that look like a cord; cords are clear on most of theirs.
PRESENT = 0.65
# Where the first look finds none, a second one sees all a quarter larger, which shows small cords; it must be surer.
# By look: size of its pixels against the locator's own, and the share of slices.
LOOKS = ((1.0, 0.4), (0.8, 0.8))
_PEAKS = 12
_STEP_COST_PER_MM = 0.15
# A cord runs at up to this slope to the slices' normal; a step beyond it and a peak's error (mm) costs this much more.
_SLOPE, _PEAK_MM, _LEAP_COST_PER_MM = 2.0, 4.0, 3.0
_FLOOR = 1e-4


@dataclass(frozen=True, eq=False)
class CordPath:
    """The cord's centre on every slice.

    Attributes
    ----------
    centres_vox : (Z, 2) float64
        Fractional canonical voxel (i, j).
    confidence : (Z,) float64
        Height of the locator's heat map there, 0..1; 1 where the user gave the centre.
    unsure : (Z,) bool
        The slice itself does not show where the cord is; its neighbours placed the centre.
    source : str
        ``locator``, ``file`` or ``image``.
    """

    centres_vox: np.ndarray
    confidence: np.ndarray
    unsure: np.ndarray
    source: str


def locate(data: np.ndarray, affine: np.ndarray, session: Session | Ensemble, spec: ModelSpec) -> CordPath | None:
    """Find the cord with a locator network.

    Parameters
    ----------
    data : (X, Y, Z) array
    affine : (4, 4) array
        Canonical, mm.
    session : Session
    spec : ModelSpec
        Of the locator.

    Returns
    -------
    CordPath or None
        None: there is no cord in view.
    """
    looks = (_look(data, affine, session, spec, *look) for look in LOOKS)
    return next((path for path in looks if path is not None), None)


def _look(data, affine, session, spec, scale, share):
    spacing = spec.input.spacing_mm[0] * scale
    images, to_voxel = resample_slices(data, affine, spacing)
    heat = _heat(images, session, spec)
    # A slice that shows nothing must not pull the path: its peaks are anywhere.
    showing = np.flatnonzero(heat.max((1, 2)) >= UNSURE)
    if showing.size == 0:
        return None
    apart_mm = np.diff(showing) * np.linalg.norm(affine[:3, 2])
    rows, columns, value = _best_path(heat[showing], spacing, apart_mm)
    sure = value >= UNSURE
    if np.count_nonzero(value >= PRESENT) < share * len(heat):
        return None
    index = np.arange(len(heat))
    unsure = ~np.isin(index, showing[sure])
    # Where a slice shows nothing, its place is what its neighbours say.
    rows, columns = (np.interp(index, showing[sure], v[sure]) for v in (rows, columns))
    confidence = heat[index, np.rint(rows).astype(int), np.rint(columns).astype(int)].astype(float)
    confidence[showing[sure]] = value[sure]
    i, j = to_voxel(rows, columns)
    return CordPath(np.stack([i, j], 1), confidence, unsure, "locator")


def from_labels(labels: np.ndarray, labels_affine: np.ndarray, volume: Volume, name: str) -> CordPath:
    """Take the cord's centre from a mask or from point labels.

    Every non-zero voxel marks the cord; slices in between are interpolated, slices
    beyond take the nearest one's centre.

    Parameters
    ----------
    labels : (A, B, C) array
    labels_affine : (4, 4) array
        Voxel to world RAS, mm; the grid need not be that of the scan.
    volume : Volume
    name : str
        For messages.

    Raises
    ------
    InputError
        No label, or none within the scan.
    """
    marked = np.argwhere(labels > 0)
    if len(marked) == 0:
        raise InputError(f"{name}: marks no voxel; give a cord mask or point labels on the cord")
    world = labels_affine @ np.column_stack([marked, np.ones(len(marked))]).T
    i, j, k = (np.linalg.inv(volume.affine) @ world)[:3]
    shape = volume.data.shape
    near = (i > -1) & (i < shape[0]) & (j > -1) & (j < shape[1])
    slices = np.rint(k).astype(int)
    within = near & (slices >= 0) & (slices < shape[2])
    if not within.any():
        raise InputError(f"{name}: all its labels lie outside {volume.name}; give labels of the same scan")
    found = np.unique(slices[within])
    centre = np.array([[i[within & (slices == s)].mean(), j[within & (slices == s)].mean()] for s in found])
    every = np.arange(shape[2])
    centres = np.stack([np.interp(every, found, centre[:, axis]) for axis in (0, 1)], 1)
    return CordPath(centres, np.ones(shape[2]), np.zeros(shape[2], bool), "file")


def image_centre(shape: Sequence[int]) -> CordPath:
    """The centre of every slice, for models that were made to look there."""
    centre = (np.array(shape[:2]) - 1) / 2
    count = shape[2]
    return CordPath(np.tile(centre, (count, 1)), np.ones(count), np.zeros(count, bool), "image")


def _heat(images, session, spec):
    """Heat maps (Z, H, W) in 0..1 of whole slices, scaled slice by slice."""
    low, high = spec.input.normalisation["parameters"]["low"], spec.input.normalisation["parameters"]["high"]
    flat = images.reshape(len(images), -1)
    p_low, p_high = (v[:, None, None] for v in np.percentile(flat, (low, high), axis=1))
    scaled = np.clip((images - p_low) / np.maximum(p_high - p_low, 1e-12), -0.5, 2.0)
    heat = _mapped(scaled, session, spec)
    if spec.test_time.get("flip_lr"):
        # The mean of both makes left and right equal by construction.
        heat = (heat + _mapped(scaled[..., ::-1], session, spec)[..., ::-1]) / 2
    return heat


def _mapped(images, session, spec):
    """The network's map of (Z, H, W) images, padded to the size that it can take."""
    height, width = images.shape[1:]
    step = spec.input.size_multiple
    padded = np.zeros((len(images), 1, *(-(-n // step) * step for n in (height, width))), np.float32)
    padded[:, 0, :height, :width] = images
    return network_maps(padded, session, spec)[:, spec.outputs[0].channel, :height, :width]


def _best_path(heat, spacing_mm, apart_mm):
    """Row, column and heat of the smoothest likely path through slices that are so far apart."""
    peaks = [_peaks(plane) for plane in heat]
    cost = [-np.log(np.maximum(values, _FLOOR)) for _, values in peaks]
    total, back = [cost[0]], []
    for k in range(1, len(peaks)):
        step = np.linalg.norm(peaks[k][0][:, None] - peaks[k - 1][0][None], axis=2) * spacing_mm
        leap = np.maximum(step - _SLOPE * apart_mm[k - 1] - _PEAK_MM, 0)
        options = total[-1][None] + _STEP_COST_PER_MM * step + _LEAP_COST_PER_MM * leap
        back.append(options.argmin(1))
        total.append(cost[k] + options.min(1))
    choice = [int(total[-1].argmin())]
    for links in reversed(back):
        choice.append(int(links[choice[-1]]))
    chosen = [(where[c], values[c]) for (where, values), c in zip(peaks, reversed(choice))]
    place = np.array([_refine(plane, where) for plane, (where, _) in zip(heat, chosen)])
    return place[:, 0], place[:, 1], np.array([value for _, value in chosen], float)


def _peaks(plane):
    """The highest local maxima of a map: positions (K, 2) and values (K,)."""
    ringed = np.pad(plane, 1, constant_values=-np.inf)
    height, width = plane.shape
    around = [ringed[r : r + height, c : c + width] for r in range(3) for c in range(3) if (r, c) != (1, 1)]
    where = np.argwhere(plane >= np.max(around, axis=0))
    values = plane[where[:, 0], where[:, 1]]
    best = np.argsort(-values, kind="stable")[:_PEAKS]
    return where[best].astype(float), values[best]


def _refine(plane, where):
    """Sub-pixel peak: the centre of mass of the heat within 3 pixels of it."""
    r, c = where.astype(int)
    r0, c0 = max(r - 3, 0), max(c - 3, 0)
    patch = plane[r0 : r + 4, c0 : c + 4].astype(float)
    patch = np.maximum(patch - 0.3 * patch.max(), 0)
    if patch.sum() <= 0:
        return float(r), float(c)
    rows, columns = np.mgrid[r0 : r0 + patch.shape[0], c0 : c0 + patch.shape[1]]
    return (patch * rows).sum() / patch.sum(), (patch * columns).sum() / patch.sum()
