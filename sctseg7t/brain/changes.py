"""What has changed between two scans of a brain: new lesions, lesions that grew, shrank or vanished."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from sctseg7t.brain.pair import Pair, match_lesions
from sctseg7t.errors import ModelError
from sctseg7t.measure.lesion_change import GROWN, NEW, SHRUNK, STABLE, VANISHED, LesionChange

_CORNERS = np.ones((3, 3, 3), bool)
# Values of the map of changes.
CODES = {NEW: 1, GROWN: 2, SHRUNK: 3, VANISHED: 4, STABLE: 5}
# The difference is smoothed by this (SD) before it is judged, mm.
_SMOOTH_MM = 0.7
# Around a lesion: what partial volume reaches, and where the tissue beside it is looked at; mm.
_REACH_MM, _RING_MM = 1.0, 4.0
# A lesion's border is told from this contrast on (medians of the brain); how wide its middle part is.
_LEAST_CONTRAST, _STEEP = 0.08, 0.6


@dataclass(frozen=True)
class Rule:
    """When tissue counts as changed; a model's entry may say otherwise (``comparison``).

    A region is where the smoothed difference exceeds `change`, the lesion's probability at the time that has the lesion
    exceeds `low_probability`, and that of the other time is below `probability`. It is a change if it reaches `peak`,
    `probability`, `gain` and `min_mm3`, and is as bright as a lesion at one time and as tissue at the other.

    Of a network that looks at both scans the probability is that of a change, and `gain`, `lesion` and `tissue` are
    not asked.

    Attributes
    ----------
    probability, low_probability : float
    change, peak : float
        Medians of the brain.
    peak_noise : float
        The peak in SD of the smoothed difference's own noise: the larger limit of the two holds.
    gain : float
        Difference of the two probabilities, somewhere in it.
    lesion, tissue : float
        Its mean intensity is at least the one with the lesion, and at most the other without; medians of the brain.
    min_mm3 : float
    growth : float
        Relative change of volume from which a lesion counts as grown; its inverse as shrunk.
    growth_noise : float
        And in SD of what noise alone makes of it.
    """

    probability: float = 0.5
    low_probability: float = 0.2
    change: float = 0.09
    peak: float = 0.15
    peak_noise: float = 4.6
    gain: float = 0.25
    lesion: float = 1.1
    tissue: float = 1.2
    min_mm3: float = 8.0
    growth: float = 0.25
    growth_noise: float = 3.0

    @staticmethod
    def read(given: Mapping[str, Any], label: str) -> "Rule":
        """The rule of a model's entry (ModelError for a name or value that is none)."""
        known = {field.name for field in fields(Rule)}
        for name, value in given.items():
            if name not in known:
                raise ModelError(f"{label}: comparison.{name} is unknown; known: {', '.join(sorted(known))}")
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise ModelError(f"{label}: comparison.{name} must be a number above 0, not {value!r}")
        return Rule(**given)


@dataclass(frozen=True, eq=False)
class Changes:
    """What has changed, on the halfway grid.

    Attributes
    ----------
    new : (X, Y, Z) bool
        Tissue that has become lesion, or a brighter one: new lesions, and where old ones have grown.
    gone : (X, Y, Z) bool
        Tissue that was lesion and is not, or a fainter one.
    now, before : (X, Y, Z) bool
        All lesions at each time. They differ only where the images do.
    lesions : (X, Y, Z) int32
        Each lesion of either time with its number, from 1.
    table : tuple of LesionChange
        In the order of the numbers.
    """

    new: np.ndarray
    gone: np.ndarray
    now: np.ndarray
    before: np.ndarray
    lesions: np.ndarray
    table: tuple[LesionChange, ...]

    def codes(self) -> np.ndarray:
        """The map of changes (X, Y, Z) uint8, see CODES: what is new and gone, and else each lesion by its status."""
        status = np.zeros(len(self.table) + 1, np.uint8)
        status[1:] = [CODES[row.status] for row in self.table]
        out = status[self.lesions]
        # Of a lesion that has grown here, the rest is as it was.
        whole = np.isin(out, (CODES[NEW], CODES[VANISHED]))
        out = np.where(self.lesions > 0, np.where(whole, out, CODES[STABLE]), 0).astype(np.uint8)
        out[self.new & (out == CODES[STABLE])] = CODES[GROWN]
        out[self.gone & (out == CODES[STABLE])] = CODES[SHRUNK]
        return out


def find_changes(
    pair: Pair,
    now: np.ndarray,
    before: np.ndarray,
    threshold: float,
    rule: Rule = Rule(),
    *,
    min_mm3: float = 3.0,
    seen: tuple[np.ndarray, np.ndarray] | None = None,
) -> Changes:
    """Judge the difference of two scans together with a lesion network's opinion of each.

    Where images do not differ, both times have the same lesions: the mean probability decides. So no lesion is won or
    lost because a probability crossed a threshold.

    Parameters
    ----------
    pair : Pair
    now, before : (X, Y, Z) float32
        Probability of lesion at each time.
    threshold : float
        From which it is one.
    rule : Rule
    min_mm3 : float
        Lesions that are smaller are left out.
    seen : two (X, Y, Z) float32, optional
        What a network that looks at both scans calls new, and gone: it decides, where the images differ at all.
    """
    from scipy import ndimage

    spacing = pair.grid.spacing_mm[0]
    pair = match_lesions(pair, (now + before) / 2 >= threshold)
    smooth = ndimage.gaussian_filter(pair.difference, _SMOOTH_MM / spacing)
    inside = smooth[pair.compared]
    noise = float(1.4826 * np.median(np.abs(inside - np.median(inside)))) if inside.size else 0.0
    peak = max(rule.peak, rule.peak_noise * noise)
    voxel_mm3 = pair.grid.voxel_mm3
    if seen is None:
        with_it, without = (now, pair.now), (before, pair.before)
        new = _regions(pair.compared, smooth, with_it, without, rule, peak, voxel_mm3)
        gone = _regions(pair.compared, -smooth, without, with_it, rule, peak, voxel_mm3)
    else:
        new = _seen_regions(pair.compared, smooth, seen[0], rule, peak, voxel_mm3)
        gone = _seen_regions(pair.compared, -smooth, seen[1], rule, peak, voxel_mm3)
    same = (now + before) / 2 >= threshold
    at_now = np.where(new, True, np.where(gone, now >= threshold, same)) & pair.brain
    at_before = np.where(gone, True, np.where(new, before >= threshold, same)) & pair.brain
    lesions, count = ndimage.label(at_now | at_before, _CORNERS)
    sizes = np.bincount(lesions.ravel()) * voxel_mm3
    kept = sizes >= min_mm3
    kept[0] = False
    # Largest first, as everywhere.
    order = np.argsort(-sizes[1:], kind="stable") + 1
    number = np.zeros(count + 1, np.int32)
    number[order[kept[order]]] = np.arange(1, kept.sum() + 1)
    lesions = number[lesions]
    at_now, at_before = at_now & (lesions > 0), at_before & (lesions > 0)
    table = tuple(_lesion_changes(pair, lesions, at_now, at_before, rule))
    return Changes(new & at_now, gone & at_before, at_now, at_before, lesions, table)


def _regions(inside, change, with_it, without, rule, peak, voxel_mm3):
    """Regions that are lesion at one time (probability, image) and were not at the other, as the rule asks."""
    (probability, image), (other, plain) = with_it, without
    chosen = inside & (change > rule.change) & (probability > rule.low_probability) & (other < rule.probability)
    means = ((image, rule.lesion, np.greater_equal), (plain, rule.tissue, np.less_equal))
    peaks = ((change, peak), (probability, rule.probability), (probability - other, rule.gain))
    return _kept(chosen, rule.min_mm3 / voxel_mm3, peaks, means)


def _seen_regions(inside, change, seen, rule, peak, voxel_mm3):
    """Regions that a network calls changed, and whose images differ."""
    chosen = inside & (change > rule.change) & (seen > rule.low_probability)
    return _kept(chosen, rule.min_mm3 / voxel_mm3, ((change, peak), (seen, rule.probability)))


def _kept(chosen, least, peaks, means=()):
    """Connected parts of at least so many voxels whose maxima reach their limits, and whose means compare as asked."""
    from scipy import ndimage

    labels, count = ndimage.label(chosen, _CORNERS)
    if not count:
        return chosen
    ids = np.arange(count + 1)
    kept = np.bincount(labels.ravel(), minlength=count + 1) >= least
    for values, limit in peaks:
        kept &= np.asarray(ndimage.maximum(values, labels, ids)) >= limit
    for values, limit, compare in means:
        kept &= compare(np.asarray(ndimage.mean(values, labels, ids)), limit)
    kept[0] = False
    return kept[labels]


def _lesion_changes(pair, lesions, at_now, at_before, rule):
    """Each lesion's volumes at both times and what has become of it."""
    from scipy import ndimage

    spacing, voxel_mm3 = pair.grid.spacing_mm[0], pair.grid.voxel_mm3
    reach, ring = (int(np.ceil(mm / spacing)) for mm in (_REACH_MM, _RING_MM))
    for number, box in enumerate(ndimage.find_objects(lesions), 1):
        box = tuple(
            slice(max(part.start - reach - ring, 0), min(part.stop + reach + ring, n))
            for part, n in zip(box, lesions.shape)
        )
        own = lesions[box] == number
        now_mm3, before_mm3 = (float((own & mask[box]).sum() * voxel_mm3) for mask in (at_now, at_before))
        difference = pair.now[box] - pair.before[box]
        change = float(difference[own].mean())
        if not before_mm3 or not now_mm3:
            yield LesionChange(number, NEW if now_mm3 else VANISHED, before_mm3, now_mm3, None, change)
            continue
        growth, error = _growth(pair, box, own, lesions[box] > 0, reach, ring)
        status, middle = STABLE, (now_mm3 + before_mm3) / 2
        of_masks = now_mm3 / before_mm3 - 1
        if growth is None or not _least(rule) <= of_masks <= rule.growth:
            # Too faint to tell its border, or plain: masks differ only where a change was found.
            growth, error = of_masks, 0.0
        if growth > max(rule.growth, rule.growth_noise * error):
            status = GROWN
        elif growth < -max(-_least(rule), rule.growth_noise * error):
            status = SHRUNK
        grown = max(growth, -0.95)
        yield LesionChange(
            number, status, 2 * middle / (2 + grown), 2 * middle * (1 + grown) / (2 + grown), float(growth), change
        )


def _least(rule):
    """Relative change of volume from which a lesion has shrunk: the inverse factor of growth."""
    return 1 / (1 + rule.growth) - 1


def _growth(pair, box, own, any_lesion, reach, ring):
    """Relative change of a lesion's volume, and its SD by noise; None and 0 for one that hardly stands out.

    A lesion's border moves by tenths of a voxel when it grows by half. Each time has its own scale: 0 is the tissue
    around the lesion, 1 its core. A voxel counts by how far it is between, steepest in the middle, so neither another
    contrast nor other tissue beside it makes a lesion grow.
    """
    from scipy import ndimage

    now, before = pair.now[box], pair.before[box]
    grown = ndimage.binary_dilation(own, _CORNERS, iterations=reach)
    around = ndimage.binary_dilation(grown, _CORNERS, iterations=ring) & ~grown & pair.brain[box]
    near = grown & pair.brain[box] & (own | ~any_lesion)
    around &= ~any_lesion & (np.minimum(now, before) > 0.7)
    mean = (now + before) / 2
    core = own & (mean >= np.percentile(mean[own], 70))
    if around.sum() < 20:
        return None, 0.0
    volumes, contrasts = [], []
    for image in (now, before):
        tissue = float(np.median(image[around]))
        contrast = float(image[core].mean()) - tissue
        if contrast < _LEAST_CONTRAST:
            return None, 0.0
        part = (image[near] - tissue) / contrast
        volumes.append(float(np.clip((part - 0.5) / _STEEP + 0.5, 0, 1).sum()))
        contrasts.append(contrast)
    if min(volumes) <= 0:
        return None, 0.0
    # Of the border's voxels, whose neighbours share noise: by interpolation, about eight are one.
    border = near & ~ndimage.binary_erosion(own, _CORNERS)
    error = pair.noise / np.mean(contrasts) / _STEEP * np.sqrt(8 * border.sum()) / np.mean(volumes) / 2
    return volumes[0] / volumes[1] - 1, float(error)
