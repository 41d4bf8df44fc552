"""Classical augmentation: an affine change of place, and now and then an elastic one."""

import numpy as np

from sctseg7t.train.augment.warping import affine, smoothed_noise, warp
from sctseg7t.train.scans.items import Item

_ELASTIC_P = 0.1


def classical(item: Item, rng: np.random.Generator) -> Item:
    """Turn up to 5 degrees, scale by up to 20 %, shift by up to 5 % of the extent; in one of ten images elastic too.

    The numbers are those of the public 7 T model: its elastic deformation is noise smoothed by 3.5-4.5 samples, times
    28-30.
    """
    shape = item.inside.shape
    # Of what the network sees, without the margin.
    shift = 0.05 * (min(shape) - 2 * item.margin)
    places = affine(rng, shape, degrees=5.0, scale=0.2, shift=shift)
    if rng.random() < _ELASTIC_P:
        places = places + smoothed_noise(rng, shape, alpha=(28.0, 30.0), sigma=(3.5, 4.5))
    return warp(item, places)
