"""The segmenter of brain lesions whose network looks at slices with their neighbours."""

from dataclasses import replace
from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from sctseg7t.brain.by_load import fits
from sctseg7t.brain.isotropic_grid import to_native
from sctseg7t.brain.segmenter import BrainSegmenter, Prepared
from sctseg7t.brain.views import view_probability
from sctseg7t.image.grid import Grid
from sctseg7t.inference.segmenter import Clock, OpenModel
from sctseg7t.runtime.ensemble import spread
from sctseg7t.runtime.maps import network_maps
from sctseg7t.zoo.spec import ModelSpec


class ViewSegmenter(BrainSegmenter):
    """Segmenter of white matter lesions in FLAIR of any resolution: thick slices are never divided.

    An entry may name a model for scans of thinner slices (``thinner``): those are handed on to it, or, where it has a
    ``share``, looked at by both.
    """

    def __init__(self, model: OpenModel) -> None:
        super().__init__(model)
        self.thin = None
        if model.thin and model.spec.thinner:
            kind = ViewSegmenter if model.thin.spec.input.sampling.method == "views" else BrainSegmenter
            other = kind(model.thin)
            self.thin = BlendSegmenter(self, other) if "share" in model.spec.thinner else other

    def suited(self, affine: np.ndarray) -> BrainSegmenter:
        """This one, or that for thinner slices, which may hand on again."""
        thinner = self.model.spec.thinner
        if self.thin and thinner and voxel_sizes(affine).max() < thinner["below_mm"]:
            return self.thin.suited(affine)
        return self

    @classmethod
    def needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What an entry must say, in words, and whether it does."""
        given = spec.input
        return {
            "input.size must be left out, and input.size_multiple given": given.size is None,
            "input.axes must be xy": given.axes == "xy",
            "input.channels must be one contrast, whose neighbouring slices follow": len(given.channels) == 1,
            "thinner.by_load must hold loads that rise, and as many limits of each kind": fits(
                (spec.thinner or {}).get("by_load")
            ),
        } | cls.common_needs(spec)

    def _probability(self, channels, inside, grid, told, session=None):
        spec, session = self.model.spec, session or self.model.session
        return view_probability(
            channels[0],
            inside,
            grid.spacing_mm,
            lambda slices: network_maps(slices, session, spec)[:, [spec.outputs[0].channel]],
            multiple=spec.input.size_multiple,
            told=told,
        )


class BlendSegmenter(BrainSegmenter):
    """Two networks as one, each with its own sampling: the mean of what they say of each voxel.

    Parameters
    ----------
    first : ViewSegmenter
        Its grid and entry serve; ``thinner`` of it holds the ``share`` of the other one, and the limits of the mean.
    second : BrainSegmenter
    """

    def __init__(self, first: ViewSegmenter, second: BrainSegmenter) -> None:
        told = first.model.spec.thinner or {}
        super().__init__(first.model)
        # Their own spread is nobody's question: it would take each network twice.
        plain = [replace(one.model, options=replace(one.model.options, uncertainty=False)) for one in (first, second)]
        self.members = (ViewSegmenter(replace(plain[0], thin=None)), type(second)(plain[1]))
        self.share = float(told["share"])
        limits = {name: told[name] for name in ("threshold", "by_load") if name in told}
        output = replace(first.model.spec.outputs[0], **limits)
        self.model = replace(first.model, spec=replace(first.model.spec, outputs=(output,)))

    @property
    def network(self) -> str:
        """Both, with the share of each."""
        first, second = (member.network for member in self.members)
        return f"{1 - self.share:g} of {first}, {self.share:g} of {second}"

    def look_and_spread(
        self, ready: Prepared, affine: np.ndarray, clock: Clock | None = None
    ) -> tuple[Grid, np.ndarray, np.ndarray | None]:
        """The mean, on the first one's grid, and how far the two lie apart, where that is asked for."""
        grid, probability = self.members[0].look(ready, affine, clock)
        other_grid, other = self.members[1].look(ready, affine, clock)
        # The mean over each voxel: also where slices are thicker than the other's grid.
        other = to_native(other, other_grid, grid.affine, grid.shape)
        apart = spread([probability, other]) if self.model.options.uncertainty else None
        return grid, (1 - self.share) * probability + self.share * other, apart
