"""The anatomy that brains are simulated from: the MNI152 maps and what follows from them, at 1 mm."""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage as ndi

from sctseg7t.brain.atlas import map_in_mni, stored_maps

MAPS = ("gm", "wm", "depth", "ventricle", "lateral")
_REACH_MM = 40.0


@dataclass(frozen=True, eq=False)
class Template:
    """Maps in RAS voxel order at 1 mm.

    Attributes
    ----------
    maps : (5, X, Y, Z) float32 tensor
        GM and WM fraction; signed distances in mm: inside the brain's surface, outside all ventricles, outside
        the lateral ones.
    priors : (2, X, Y, Z) float32 tensor
        GM and WM as nilearn has them: what a network gets as its prior.
    origin_mm : (3,) tuple
        MNI position of voxel (0, 0, 0).
    """

    maps: torch.Tensor
    priors: torch.Tensor
    origin_mm: tuple[float, ...]


@functools.cache
def load_template() -> Template:
    """Read the template."""
    stored, affine = stored_maps()
    t1, gm, wm = (stored[name].astype(np.float32) / np.float32(255) for name in ("t1", "gm", "wm"))
    maps = _derive(t1, gm, wm, np.asarray(map_in_mni("brain")[0]) > 0, affine)
    priors = np.stack([gm, wm])
    return Template(torch.from_numpy(maps), torch.from_numpy(priors), tuple(affine[:3, 3].tolist()))


def _derive(t1, gm, wm, brain, affine):
    depth = signed_distance(brain)
    x, y, z = (np.arange(n).reshape(np.roll((n, 1, 1), k)) + affine[k, 3] for k, n in enumerate(t1.shape))
    x = np.abs(x)
    low = (t1 < 0.52) & (depth > 10)
    # Boxes in MNI mm that hold the ventricles (the lateral ones by body and horns) and no cistern.
    body = (z > -4) & (z < 38) & (y < 42) & (y > -62) & (x < np.where(y > -20, 25, 42)) & ((x > 12) | (y > -28))
    horn = (x > 28) & (x < 42) & (y > -42) & (y < -4) & (z > -24) & (z < 4)
    third = (x < 6) & (y > -30) & (y < 12) & (z > -16) & (z < 14)
    fourth = (x < 11) & (y > -52) & (y < -34) & (z > -44) & (z < -18)
    lateral = low & (body | horn)
    ventricle, side = signed_distance(~(lateral | (low & (third | fourth)))), signed_distance(~lateral)
    # Partial volume of WM and fluid looks like GM in the maps: a thin shell around the ventricles.
    near = (np.abs(ventricle) < 4) & (x < 46)
    thin = np.where(near, gm - ndi.grey_opening(gm, size=(5, 5, 5)), 0).clip(0)
    gm, wm = gm - thin, wm + np.where(ventricle > 0, thin, 0)
    total = np.maximum(gm + wm, 1e-3)
    scale = np.where(total > 1, 1 / total, 1)
    return np.stack([gm * scale, wm * scale, depth, ventricle, side]).astype(np.float32)


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance inside (positive) or outside (negative) of a mask's border, mm, at most 40."""
    inside, outside = (ndi.distance_transform_edt(m) for m in (mask, ~mask))
    return np.clip(np.where(mask, inside - 0.5, 0.5 - outside), -_REACH_MM, _REACH_MM)
