"""Two simulated scans of one brain: some lesions are new, grown, shrunk or gone, and the scanner is another one."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from sctseg7t.measure.lesion_change import GROWN, NEW, STABLE, VANISHED
from sctseg7t.measure.lesions import label_lesions
from sctseg7t.simulate.brain import contrast, lesions, scanner, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.brain.bank import best_affine
from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.brain.template import Template
from sctseg7t.simulate.effect import EFFECTS, read_settings
from sctseg7t.simulate.scene import Draw

# New lesions keep this far from old ones, mm; and how large one is at most.
_APART_MM, _MOST_MM3 = 3.0, 1500
# How far a lesion's own softness reaches, by how much its border is evened out (SD) before it moves, and how far it
# moves at most; voxels.
_REACH_VOX, _EVEN_VOX, _FARTHEST_VOX = 3.0, 0.7, 4.0
# What differs between two scanners; the rest of the contrast is the person's.
_SCANNER = ("levels",)


@dataclass(frozen=True, eq=False)
class SimulatedPair:
    """Two scans of one brain, both at 1 mm on one grid.

    Attributes
    ----------
    now, before : (X, Y, Z) float32
        Stripped FLAIR over the median of the brain; 0 outside.
    lesions : (X, Y, Z) int
        Lesions of either time, numbered from 1.
    at_now, at_before : (X, Y, Z) bool
    fates : tuple of str
        What becomes of each lesion.
    to_template : (3, 4) float64
        Voxel to MNI mm, as a registration would find it.
    """

    now: np.ndarray
    before: np.ndarray
    lesions: np.ndarray
    at_now: np.ndarray
    at_before: np.ndarray
    fates: tuple[str, ...]
    to_template: np.ndarray


def simulate_pair(
    template: Template,
    shapes: lesions.LesionShapes | None,
    seed: int,
    *,
    shares: Mapping[str, float] | None = None,
    new: int = 0,
    growth: Sequence[float] = (1.5, 1.5),
    ventricles_mm: float = 0.0,
    recipe: Mapping[str, Any] | None = None,
) -> SimulatedPair:
    """Simulate a baseline and a follow-up; the same seed gives the same pair.

    Parameters
    ----------
    template : Template
    shapes : LesionShapes or None
        None: drawn lesions only.
    seed : int
    shares : dict, optional
        Probability of each fate of an old lesion (grown, shrunk, vanished); the rest is stable.
    new : int
        New lesions at most.
    growth : (low, high)
        Factor of volume of those that grow; its inverse for those that shrink.
    ventricles_mm : float
        Widening of the ventricles between the scans.
    recipe : dict, optional
        As for :func:`sctseg7t.simulate.brain.bank.simulate`.
    """
    settings, draw = read_settings("brain", recipe), Draw(seed, "pair")
    anatomy = BrainScene(template, shapes).run(settings, seed, ["anatomy"])
    # Effects of lesions begin with empty maps of their own: what is shared is not changed.
    first = copy.copy(anatomy).run(settings, seed, ["lesions"])
    second = copy.copy(first)
    second.lesion, second.gain, second.label = first.lesion.clone(), first.gain.clone(), first.label.clone()
    numbers = label_lesions(first.label.numpy()).astype(np.int32)
    fates = _evolve(first, second, numbers, dict(shares or {}), growth, draw)
    before = first.label.numpy().copy()
    now = second.label.numpy().copy()
    if new:
        other = copy.copy(anatomy).run(settings, seed + 500_009, ["lesions"])
        fates += _appear(second, other, numbers, now, new, draw)
    if ventricles_mm:
        _widen(second, ventricles_mm)
    reseed = {name: seed + 700_001 for name in _changing(settings)}
    stages = ["contrast", "acquisition"]
    first.run(settings, seed, stages)
    second.run(settings, seed, stages, reseed)
    followup, baseline = (scene.image.clamp(0, 60).numpy() for scene in (second, first))
    return SimulatedPair(followup, baseline, numbers, now, before, tuple(fates), best_affine(anatomy))


def _changing(settings):
    """Effects that another scanner or another day draws anew."""
    return [name for name in settings if name in _SCANNER or EFFECTS["brain"][name].stage == "acquisition"]


def _widen(scene, width_mm):
    """Wider ventricles."""
    fluid = torch.sigmoid(-(scene.ventricle - width_mm) / 0.35) * (scene.depth > 5)
    scene.ventricle, scene.lateral = scene.ventricle - width_mm, scene.lateral - width_mm
    scene.csf = torch.maximum(scene.csf, fluid)
    scene.wm, scene.gm = scene.wm * (1 - fluid), scene.gm * (1 - fluid)


def _evolve(first, second, numbers, shares, growth, draw):
    """Give each old lesion its fate at the second time: its border moves, or it goes."""
    fates = []
    names = (*shares, STABLE)
    odds = np.array([*shares.values(), max(0.0, 1 - sum(shares.values()))])
    label = second.label
    for number, box in enumerate(ndimage.find_objects(numbers), 1):
        fate = str(draw.rng.choice(names, p=odds / odds.sum()))
        fates.append(fate)
        factor = draw.rng.uniform(*growth)
        if fate == STABLE:
            continue
        box = tuple(slice(max(part.start - 6, 0), part.stop + 6) for part in box)
        own = numbers[box] == number
        others = (numbers[box] > 0) & ~own
        depth = _depth(own)
        near = (depth > -6) & ~ndimage.binary_dilation(others)
        tissue, held = 1 - second.csf[box].numpy(), second.lesion[box].numpy()
        if fate == VANISHED:
            opacity, shown = np.zeros(own.shape, np.float32), np.zeros(own.shape, bool)
        else:
            alone = np.where(near & (depth > -_REACH_VOX), held, 0)
            opacity, shown = _moved(alone, own, depth, factor if fate == GROWN else 1 / factor, near * tissue)
        gain = float(first.gain[box].numpy()[own].mean())
        opacity = np.where(near, opacity, held).astype(np.float32)
        second.lesion[box] = torch.from_numpy(opacity)
        second.gain[box] = torch.where(torch.from_numpy(near & ~own & (opacity > 0.02)), gain, second.gain[box])
        label[box] = torch.where(torch.from_numpy(near), torch.from_numpy(shown), label[box])
        numbers[box][near & shown] = number
    return fates


def _appear(second, other, numbers, now, most, draw):
    """Put lesions of another draw into the second scan, away from all others."""
    found = label_lesions(other.label.numpy())
    sizes = np.bincount(found.ravel())
    room = ndimage.distance_transform_edt(numbers == 0) > _APART_MM
    count = int(numbers.max())
    fates = []
    for number in draw.rng.permutation(np.arange(1, len(sizes))):
        own = found == number
        if len(fates) == most or sizes[number] > _MOST_MM3 or sizes[number] < 10 or not room[own].all():
            continue
        near = torch.from_numpy(ndimage.binary_dilation(own, iterations=3) & room)
        second.lesion = torch.where(near, torch.maximum(second.lesion, other.lesion), second.lesion)
        second.gain = torch.where(near, other.gain, second.gain)
        second.label = second.label | torch.from_numpy(own)
        count += 1
        numbers[own] = count
        now |= own
        fates.append(NEW)
    return fates


def _depth(mask):
    """Signed distance to the border in voxels, positive inside."""
    inner, outer = ndimage.distance_transform_edt(mask), ndimage.distance_transform_edt(~mask)
    return np.where(mask, inner - 0.5, 0.5 - outer)


def _moved(opacity, label, depth, factor, counts):
    """A lesion whose border has moved so that its volume has changed by a factor: opacity, and what is called lesion.

    All moves along the slope of the depth, so softness and brightness stay what they were. `counts`: what of each voxel
    can be of the lesion.
    """
    smooth = ndimage.gaussian_filter(depth, _EVEN_VOX)
    inwards = np.array(np.gradient(smooth))
    inwards /= np.maximum(np.linalg.norm(inwards, axis=0), 0.3)
    at = np.indices(opacity.shape)

    def taken(values, shift):
        return ndimage.map_coordinates(values, at + shift * inwards, order=1)

    # By halves: more shift, more volume.
    low, high = -_FARTHEST_VOX, _FARTHEST_VOX
    for _ in range(9):
        shift = (low + high) / 2
        small = (taken(opacity, shift) * counts).sum() < factor * opacity.sum()
        low, high = (shift, high) if small else (low, shift)
    moved = taken(opacity, (low + high) / 2) * counts
    # Borders move by parts of a voxel: the label takes as many voxels as its volume asks for, the surest first.
    rank = min(max(round(factor * label.sum()), 1), moved.size)
    least = np.partition(moved.ravel(), -rank)[-rank]
    return moved, moved >= max(least, 0.02)
