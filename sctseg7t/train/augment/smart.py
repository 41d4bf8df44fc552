"""Smart augmentation: what goes wrong in MRI, as TorchIO makes it.

TorchIO: Perez-Garcia et al., Comput Methods Programs Biomed 2021. All numbers are drawn here, so that an image replays
from its generator; place is changed in one resampling, not in TorchIO's two, which would smooth the image twice.
"""

from dataclasses import replace

import numpy as np
import torch

from sctseg7t.train.augment.warping import affine, control_points, warp
from sctseg7t.train.scans.items import Item

# Of the 2021 study. Its lengths are taken as samples: 4.5 mm of a window of 22.5 mm would fold the cord.
_DISPLACEMENT = (3.5, 4.5, 4.5)
_GHOSTS, _INTENSITY = 3, 0.8
# Share of k-space about its centre that ghosts leave alone.
_RESTORED = 0.02


def smart(item: Item, rng: np.random.Generator) -> Item:
    """Ghosts (up to 3, intensity up to 0.8), elastic displacement (3.5 and 4.5 samples), scale 1.1 and 5 degrees."""
    shape = item.inside.shape
    places = affine(rng, shape, degrees=5.0, scale=0.1)
    places = places + control_points(rng, shape, most=_DISPLACEMENT[: len(shape)])
    return ghosts(warp(item, places), rng)


def ghosts(item: Item, rng: np.random.Generator) -> Item:
    """Weak copies of the image along one of its axes."""
    from torchio.transforms import Ghosting

    axis, number = int(rng.integers(item.inside.ndim)), int(rng.integers(0, _GHOSTS + 1))
    transform = Ghosting(number, axis, float(rng.uniform(0, _INTENSITY)), restore=_RESTORED)
    image = torch.from_numpy(item.image)
    # TorchIO knows volumes only: a slice is a thin one.
    volume = image[..., None] if item.inside.ndim == 2 else image
    return replace(item, image=transform(volume).reshape(image.shape).clamp(min=0).numpy())
