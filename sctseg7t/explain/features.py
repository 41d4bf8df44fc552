"""Features of one object in an image, and the reading of how they move while a network dreams of it."""

from collections.abc import Mapping, Sequence

import numpy as np

from sctseg7t.image.grid import bounding_box

# By name: unit and what it is.
FEATURES = {
    "intensity": ("SD of the image", "mean inside"),
    "contrast": ("SD of the image", "mean inside minus that of the rim around it"),
    "diameter": ("mm", "of the disc or sphere of its size"),
    "elongation": ("", "longest over shortest axis of the equivalent ellipse"),
    "sphericity": ("", "roundness: 1 for a disc or sphere, less for all else"),
    "texture": ("SD of the image", "SD inside of what is finer than two pixels"),
}
SENSITIVE, ROBUST, BLIND, OVER = "sensitive", "robust", "blind", "over-sensitive"
READINGS = {
    SENSITIVE: "moves into the range of real objects: the network asks for it",
    ROBUST: "begins in the range of real objects and stays there",
    BLIND: "stays outside the range of real objects: the network does not ask for it",
    OVER: "shoots out of the range of real objects: the more of it, the better",
}
# Pixels of the rim around an object.
_RIM = 3


def features_of(image: np.ndarray, mask: np.ndarray, spacing_mm: Sequence[float]) -> dict[str, float]:
    """Features of an object.

    Parameters
    ----------
    image : (X, Y) or (X, Y, Z) float array
        As the network sees it: z-scored.
    mask : bool array of its shape
        The object, one voxel or more.
    spacing_mm : sequence of float

    Returns
    -------
    dict of str to float
        A value for each of FEATURES; NaN where the object is too small to have one.
    """
    from scipy.ndimage import binary_dilation, gaussian_filter

    # All that matters lies near, and volumes are large.
    near = bounding_box(mask, margin=2 * _RIM)
    if near is not None:
        image, mask = image[near], mask[near]
    rim = binary_dilation(mask, iterations=_RIM) & ~mask
    fine = image - gaussian_filter(image, 1.0)
    inside, size = image[mask], mask.sum() * float(np.prod(spacing_mm))
    flat = mask.ndim == 2
    return {
        "intensity": float(inside.mean()),
        "contrast": float(inside.mean() - image[rim].mean()) if rim.any() else np.nan,
        "diameter": float(2 * np.sqrt(size / np.pi) if flat else np.cbrt(6 * size / np.pi)),
        "elongation": _elongation(mask, spacing_mm),
        "sphericity": _sphericity(mask, spacing_mm, size),
        "texture": float(fine[mask].std()),
    }


def _elongation(mask, spacing_mm):
    places = np.argwhere(mask) * np.asarray(spacing_mm)
    # A voxel has an extent of its own.
    spread = np.cov(places.T, bias=True) + np.diag(np.square(spacing_mm)) / 12
    values = np.linalg.eigvalsh(spread)
    return float(np.sqrt(values[-1] / values[0]))


def _sphericity(mask, spacing_mm, size):
    from skimage.measure import marching_cubes, mesh_surface_area, perimeter

    if mask.sum() < 4:
        return np.nan
    if mask.ndim == 2:
        return float(min(4 * np.pi * mask.sum() / max(perimeter(mask), 1e-6) ** 2, 1.0))
    corners, faces = marching_cubes(np.pad(mask, 1).astype(np.float32), 0.5, spacing=tuple(map(float, spacing_mm)))[:2]
    return float(min(np.pi ** (1 / 3) * (6 * size) ** (2 / 3) / mesh_surface_area(corners, faces), 1.0))


def reading(curve: Sequence[float] | np.ndarray) -> str:
    """How a feature moves, z-scored by real objects: sensitive, robust, blind or over-sensitive; "" without values.

    The range of real objects is -1 to 1 (Couteaux et al., Towards interpretability of segmentation networks by
    analyzing DeepDreams, 2019).
    """
    z = np.asarray(curve, float)
    z = z[np.isfinite(z)]
    if not z.size:
        return ""
    begins, ends = abs(z[0]) <= 1, abs(z[-1]) <= 1
    if ends:
        return ROBUST if begins else SENSITIVE
    # Within the range once, or past it to the other side, or further away than at first.
    left = (np.abs(z) <= 1).any() or z[0] * z[-1] < 0 or abs(z[-1]) > abs(z[0]) + 1
    return OVER if left else BLIND


def z_scores(values: Mapping[str, np.ndarray], objects: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Values of features, in SD of those of real objects from their mean."""
    found = {}
    for name, series in values.items():
        known = objects[name][np.isfinite(objects[name])]
        found[name] = (series - known.mean()) / max(float(known.std()), 1e-6)
    return found
