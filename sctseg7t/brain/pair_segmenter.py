"""The segmenter of follow-up pairs whose network looks at both scans at once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sctseg7t.brain.boxes import MAPS, fill_boxes, find_boxes
from sctseg7t.brain.changes import Rule
from sctseg7t.brain.followup import BASELINE, FollowUpSegmenter
from sctseg7t.brain.pair import Pair
from sctseg7t.brain.segmenter import PRIORS, Prepared
from sctseg7t.image.grid import bounding_box
from sctseg7t.inference.segmenter import Clock
from sctseg7t.runtime.maps import network_maps
from sctseg7t.runtime.patches import sliding_patches
from sctseg7t.zoo.spec import ModelSpec

# What the second output of such a network is: a map of what is new, or a detector's maps.
CHANGE, BOXES = "CHANGE", "BOXES"
# What a new entry asks of the images beside the network's word, see sctseg7t.brain.changes.Rule.
COMPARISON = {"probability": 0.5, "low_probability": 0.3, "change": 0.04, "peak": 0.08, "peak_noise": 2.0, "min_mm3": 8}
_BATCH = 4
# A view's axis, then those of its plane.
_ORDERS = ((2, 0, 1), (1, 0, 2), (0, 1, 2))


class PairSegmenter(FollowUpSegmenter):
    """Segmenter of new and changed lesions by a network that is given both scans, in either order.

    Its first output is lesions of the scan that comes first, its second what is new in that one: a map, or boxes, which
    the difference of the scans fills. With the scans exchanged it says what is gone.
    """

    @classmethod
    def needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What an entry must say, in words, and whether it does."""
        given, views = spec.input, spec.input.sampling.method == "views"
        usual = cls.common_needs(spec) | cls.change_needs(spec)
        if views:
            return usual | {
                "input.size must be left out, and input.size_multiple given": given.size is None,
                "input.sampling.slices_mm must name slices": given.sampling.slices_mm,
                "input.axes must be xy": given.axes == "xy",
                f"input.channels must be one contrast and {BASELINE}": given.channels[1:] == (BASELINE,),
            }
        return usual | {
            "input.size must name three sides": given.size is not None and len(given.size) == 3,
            "input.axes must be xyz": given.axes == "xyz",
            f"input.channels must be one contrast, {BASELINE}, then some of {', '.join(PRIORS)}": given.channels[0]
            not in PRIORS
            and given.channels[1:2] == (BASELINE,)
            and set(given.channels[2:]) <= set(PRIORS),
        }

    @classmethod
    def output_needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What its outputs must be."""
        return {
            f"outputs must be lesions, with a suffix, then {CHANGE} or {BOXES}, each with a threshold": (
                len(spec.outputs) == 2
                and all(output.threshold is not None for output in spec.outputs)
                and spec.outputs[0].suffix
                and spec.outputs[1].name in (CHANGE, BOXES)
            )
        }

    def opinions(self, pair: Pair, ready: Prepared, clock: Clock | None = None) -> list[np.ndarray]:
        """Lesions at the follow-up and at the baseline, what is new, what is gone: (X, Y, Z) float32, 0 to 1."""
        clock, spec = clock or Clock(), self.model.spec
        now, before = (self._normalised(image, pair.brain) for image in (pair.now, pair.before))
        priors = self._priors(pair, ready)
        lesions, news = [], []
        for images, sign in (((now, before), 1), ((before, now), -1)):
            maps = self._maps(np.stack([*images, *priors]), pair.brain, clock.tell)
            lesions.append(maps[spec.outputs[0].channel])
            news.append(self._new(maps[spec.outputs[1].channel :], sign * pair.difference, pair))
        return [*lesions, *news]

    def _new(self, maps, difference, pair):
        """Chance of something new in each voxel."""
        output = self.model.spec.outputs[1]
        if output.name == CHANGE:
            return maps[0]
        from scipy import ndimage

        rule = Rule.read(self.model.spec.comparison, self.model.spec.label)
        smooth = ndimage.gaussian_filter(difference, 0.7 / pair.grid.spacing_mm[0])
        found = find_boxes(maps[: len(MAPS)], float(output.threshold or 0.5), pair.compared)
        filled = fill_boxes(found, smooth, rule.change)
        # A box was found or not: what it holds is as sure as the rule asks.
        return np.where(filled > 0, np.maximum(filled, rule.probability), filled)

    def _maps(self, channels, inside, told):
        """All maps of the network over the halfway grid, (K, X, Y, Z)."""
        spec = self.model.spec

        def network(images: np.ndarray) -> np.ndarray:
            return network_maps(images, self.model.session, spec)

        if spec.input.sampling.method == "views":
            offsets = [round(mm / spec.input.spacing_mm[0]) for mm in spec.input.sampling.slices_mm]
            return view_maps(channels, inside, network, offsets, spec.input.size_multiple, told)
        size, overlap = spec.input.size or (), spec.input.sampling.overlap
        return sliding_patches(channels, network, size=size, overlap=overlap, told=told, inside=inside)


def view_maps(
    images: np.ndarray,
    inside: np.ndarray,
    network: Callable[[np.ndarray], np.ndarray],
    offsets: Sequence[int],
    multiple: int,
    told: Callable[[float], object] = lambda part: None,
) -> np.ndarray:
    """Maps of a network of slices over several images, the mean of three planes: (K, X, Y, Z), 0 outside the brain.

    Parameters
    ----------
    images : (C, X, Y, Z) float32
        The least of each is no signal.
    inside : (X, Y, Z) bool
        Brain.
    network : callable
        (N, C x offsets, A, B) to (N, K, A, B).
    offsets : sequence of int
        Slices that are channels beside a slice, of each image.
    multiple : int
        Sides that the network takes are multiples of it.
    told : callable
        Called with the part of the slices that is done (0 to 1).
    """
    box, total = bounding_box(inside), np.zeros((0, *inside.shape), np.float32)
    if box is None:
        return np.zeros((1, *inside.shape), np.float32)
    for number, order in enumerate(_ORDERS):
        axis = order[0]
        stacks, pads = _padded(images.transpose(0, *(a + 1 for a in order)), box, order, multiple)
        reach = max(map(abs, offsets))
        stacks = np.pad(stacks, ((0, 0), (reach, reach), (0, 0), (0, 0)), mode="edge")
        for index in _batches(stacks.shape[1] - 2 * reach):
            slabs = [stacks[:, k + reach + step] for k in index for step in offsets]
            shown = np.stack(slabs).reshape(len(index), len(offsets), len(images), *stacks.shape[2:]).swapaxes(1, 2)
            maps = network(np.ascontiguousarray(shown.reshape(len(index), -1, *stacks.shape[2:])))
            if not total.size:
                total = np.zeros((maps.shape[1], *inside.shape), np.float32)
            into = total.transpose(0, *(a + 1 for a in order))[:, box[axis].start + index[0] :][:, : len(index)]
            into[:, :, box[order[1]], box[order[2]]] += maps[:, :, *pads].swapaxes(0, 1) / len(_ORDERS)
            told((number + (index[-1] + 1) / (stacks.shape[1] - 2 * reach)) / len(_ORDERS))
    return np.where(inside, total, np.float32(0))


def _batches(count: int) -> Iterator[range]:
    return (range(first, min(first + _BATCH, count)) for first in range(0, count, _BATCH))


def _padded(stacks, box, order, multiple):
    """The box of the stacks with sides that are multiples, and where in a slice it lies."""
    stacks = stacks[:, *(box[axis] for axis in order)]
    pads = [-n % multiple for n in stacks.shape[2:]]
    least = stacks.min((1, 2, 3))
    filled = np.empty((*stacks.shape[:2], *(n + pad for n, pad in zip(stacks.shape[2:], pads))), np.float32)
    filled[:] = least[:, None, None, None]
    place = tuple(slice(pad // 2, pad // 2 + n) for n, pad in zip(stacks.shape[2:], pads))
    filled[:, :, *place] = stacks
    return filled, place
