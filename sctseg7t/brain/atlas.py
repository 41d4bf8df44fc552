"""The MNI152 template and its tissue maps, as nilearn ships them: nothing is downloaded."""

import importlib.util
from functools import cache
from pathlib import Path

import numpy as np

from sctseg7t.image.nifti import read_image

_FILES = {
    "t1": "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz",
    "gm": "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz",
    "wm": "mni_icbm152_wm_tal_nlin_sym_09a_converted.nii.gz",
}
# Height of the tentorium (MNI z, mm) over y (rows) and |x|: the dark sheet between the cerebellum and the lobes above
# it, read off this template's T1 image and smoothed.
_TENT_X, _TENT_Y = range(0, 61, 10), range(-100, -19, 10)
_TENT_Z = np.array(
    [
        [-22, -22, -22, -23, -23, -24, -24],
        [-19, -21, -21, -23, -22, -23, -24],
        [-15, -17, -18, -20, -22, -22, -23],
        [-6, -11, -15, -18, -21, -22, -23],
        [3, -6, -14, -18, -22, -24, -26],
        [6, -5, -15, -20, -25, -28, -30],
        [2, -8, -17, -23, -28, -31, -32],
        [3, -14, -30, -34, -36, -35, -36],
        [3, -16, -35, -38, -39, -39, -39],
    ],
    dtype=float,
)
_VENTRICLE_SEEDS = ((-10, 0, 22), (10, 0, 22), (-27, -46, 8), (27, -46, 8))
MAPS = ("t1", "gm", "wm", "csf", "brain", "ventricles", "infratentorial", "cortex")


@cache
def stored_maps() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The template's skull-stripped T1 image, GM and WM probability.

    ICBM152 2009a symmetric, 1 mm (Fonov et al., NeuroImage 2011).

    Returns
    -------
    maps : dict of str to (X, Y, Z) uint8
        ``t1``, ``gm``, ``wm``; 255 is 1. Do not write to them.
    affine : (4, 4) float64
        Voxel to MNI RAS, mm.
    """
    found = importlib.util.find_spec("nilearn")
    folder = Path(found.origin if found and found.origin else "").parent / "datasets" / "data"
    # Reading the files takes 0.2 s; importing nilearn for its loaders takes 2 s more.
    if all((folder / name).is_file() for name in _FILES.values()):
        images = {key: read_image(folder / name)[0] for key, name in _FILES.items()}
    else:
        from nilearn import datasets

        images = {
            key: getattr(datasets, f"load_mni152_{part}template")(1)
            for key, part in (("t1", ""), ("gm", "gm_"), ("wm", "wm_"))
        }
    maps = {}
    for key, image in images.items():
        values = np.asarray(image.dataobj, dtype=np.float32)
        maps[key] = np.rint(values * (255 / values.max())).astype(np.uint8)
    return maps, np.array(next(iter(images.values())).affine, dtype=np.float64)


@cache
def map_in_mni(name: str) -> tuple[np.ndarray, np.ndarray]:
    """One map in MNI space, at 1 mm.

    ``brain``: the template's brain, ventricles included. ``csf``: what of it is neither GM nor WM.
    ``ventricles``: the lateral ones. ``infratentorial``: brainstem and cerebellum, below the tentorium.
    ``cortex``: gray matter but for the deep nuclei and the cerebellum.

    Parameters
    ----------
    name : str
        One of `MAPS`.

    Returns
    -------
    values : (X, Y, Z) uint8
        255 is 1. Do not write to it.
    affine : (4, 4) float64
        Voxel to MNI RAS, mm.
    """
    maps, affine = stored_maps()
    if name in maps:
        return maps[name], affine
    # MNI x, y, z of every voxel, as arrays that broadcast: the template's axes are the world's.
    index = np.ogrid[tuple(slice(n) for n in maps["t1"].shape)]
    xyz = [affine[axis, axis] * at + affine[axis, 3] for axis, at in enumerate(index)]
    if name == "brain":
        from scipy import ndimage

        # nilearn's own mask: the T1 image above a fifth of its greatest value.
        values = ndimage.binary_fill_holes(maps["t1"] > 51)
    elif name == "csf":
        rest = 255 - maps["gm"].astype(np.int16) - maps["wm"]
        values = np.where(map_in_mni("brain")[0] > 0, np.clip(rest, 0, 255), 0).astype(np.uint8)
    elif name == "cortex":
        x, y, z = xyz
        nuclei = (np.abs(x) < 32) & (y > -36) & (y < 24) & (z > -12) & (z < 24)
        values = np.where(nuclei | (map_in_mni("infratentorial")[0] > 0), 0, maps["gm"]).astype(np.uint8)
    else:
        values = {"ventricles": _ventricles, "infratentorial": _infratentorial}[name](affine, *xyz)
    if values.dtype == bool:
        values = values.astype(np.uint8) * 255
    return values, affine


def _ventricles(affine, x, y, z):
    from scipy import ndimage

    box = (np.abs(x) < 42) & (y > -62) & (y < 42) & (z > -18) & (z < 34)
    # The cistern behind the third ventricle comes close.
    cistern = (y < -28) & (np.abs(x) < 14) & (z < 14)
    fluid = (map_in_mni("csf")[0] > 110) & box & ~cistern
    labels, _ = ndimage.label(fluid)
    kept = {labels[tuple(np.rint(np.linalg.inv(affine)[:3] @ (*seed, 1)).astype(int))] for seed in _VENTRICLE_SEEDS}
    return np.isin(labels, sorted(kept - {0}))


def _infratentorial(affine, x, y, z):
    from scipy import ndimage

    at = (np.clip(y, -100, -20) + 100) / 10 + 0 * x, np.clip(np.abs(x), 0, 60) / 10 + 0 * y
    tent = ndimage.map_coordinates(_TENT_Z, np.stack(at), order=1)
    cerebellum = (y < -26) & (z < tent)
    # The midbrain ends at the plane through the colliculi's upper edge and the mammillary bodies.
    half_width = np.minimum(np.clip(15 - (z + 14) * 0.25, 13, 19), 19 - 0.8 * np.maximum(y + 22, 0))
    brainstem = (y >= -40) & (z < -16.5 - 0.5 * y) & (np.abs(x) < half_width) & (y < -4)
    return (map_in_mni("brain")[0] > 0) & (cerebellum | brainstem)
