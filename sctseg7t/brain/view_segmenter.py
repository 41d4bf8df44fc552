"""The segmenter of brain lesions whose network looks at slices with their neighbours."""

from typing import Any

import numpy as np
from nibabel.affines import voxel_sizes

from sctseg7t.brain.segmenter import BrainSegmenter
from sctseg7t.brain.views import view_probability
from sctseg7t.inference.segmenter import OpenModel
from sctseg7t.runtime.maps import network_maps
from sctseg7t.zoo.spec import ModelSpec


class ViewSegmenter(BrainSegmenter):
    """Segmenter of white matter lesions in FLAIR of any resolution: thick slices are never divided.

    An entry may name a model for scans of thinner slices (``thinner``): those are handed on to it.
    """

    def __init__(self, model: OpenModel) -> None:
        super().__init__(model)
        self.thin = BrainSegmenter(model.thin) if model.thin else None

    def suited(self, affine: np.ndarray) -> BrainSegmenter:
        """This one, or that for thinner slices."""
        thinner = self.model.spec.thinner
        return self.thin if self.thin and thinner and voxel_sizes(affine).max() < thinner["below_mm"] else self

    @classmethod
    def needs(cls, spec: ModelSpec) -> dict[str, Any]:
        """What an entry must say, in words, and whether it does."""
        given = spec.input
        return {
            "input.size must be left out, and input.size_multiple given": given.size is None,
            "input.axes must be xy": given.axes == "xy",
            "input.channels must be one contrast, whose neighbouring slices follow": len(given.channels) == 1,
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
