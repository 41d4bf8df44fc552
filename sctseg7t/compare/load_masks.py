"""The masks of a scan on one grid: every file read once, checked, and what cannot be used told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from sctseg7t.compare.types import LESION, Case, Problem, Settings
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid, resample_nearest
from sctseg7t.image.masks import Mask, read_mask
from sctseg7t.image.volume import check_header
from sctseg7t.inference.corrections import corrected_output

# Stored fractions of 0 and 1 may be off by the rounding of a scaled integer.
_ROUNDING = 1e-4
_EMPTY = "every slice in which another mask has something counts as missing"
_EMPTY_LESIONS = "it has no lesions: F1 and Dice are 0 where the other mask has some, and not defined where it has none"
_Key = tuple[str, str]


@dataclass(eq=False)
class LoadedCase:
    """The masks of one scan.

    Attributes
    ----------
    grid : Grid or None
        Of the cord's tissues; None where no mask of them could be read.
    lesion_grid : Grid or None
        Of the lesions: a brain's scan is another than the cord's.
    masks : dict of (method, structure) to (X, Y, Z) bool
    levels : (X, Y, Z) int32 or None
    image_fits, lesion_image_fits : bool
        Whether the scan, if there is one, is on the grid of the tissues' or the lesions' masks.
    sha256 : dict of (method, structure) to str
    problems : list of Problem
    """

    grid: Grid | None = None
    lesion_grid: Grid | None = None
    masks: dict[_Key, np.ndarray] = field(default_factory=dict)
    levels: np.ndarray | None = None
    image_fits: bool = False
    lesion_image_fits: bool = False
    sha256: dict[_Key, str | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def load_case(case: Case, settings: Settings, reference: str | None = None) -> LoadedCase:
    """Read the masks of a case onto one grid: the reference's, else the scan's, else the first method's.

    Lesions have a grid of their own, chosen so among their masks. The same grid stored in another order or direction
    of axes is the same grid.

    Parameters
    ----------
    case : Case
    settings : Settings
        ``grids`` and ``threshold``.
    reference : str, optional
        Which of the methods is the reference.
    """
    loaded, read = LoadedCase(), {}

    def tell(kind, text, key=None, left_out=False, file=None):
        method, structure = key or (None, None)
        path = case.masks[key] if key else file
        loaded.problems.append(Problem(kind, text, left_out, case.name, method, structure, str(path)))

    # A reference that is moved to another grid is none: the others go to its.
    for key in sorted(case.masks, key=lambda key: key[0] != reference):
        path = case.masks[key]
        try:
            mask = read_mask(path)
            loaded.sha256[key] = mask.sha256
            values, kind, text = _as_mask(_one_volume(mask, path), path, settings.threshold)
        except InputError as err:
            tell("unreadable", str(err), key, left_out=True)
            continue
        if values is not None:
            read[key] = values, mask
            if not kind and not values.any():
                kind, text = "empty", f"{path}: is empty; {_EMPTY_LESIONS if key[1] == LESION else _EMPTY}"
        if kind:
            tell(kind, text, key, left_out=values is None)
        if key[0] != reference and corrected_output(path):
            tell("corrected", f"{path}: was corrected by hand; what is compared is not {key[0]}'s own mask", key)
    image = None
    if case.image is not None:
        try:
            geometry = check_header(case.image, axial=False)
            image = Grid(geometry.shape[:3], geometry.affine, str(case.image))
        except InputError as err:
            tell("unreadable", str(err), file=case.image)
    tissues, lesions = ({key: one for key, one in read.items() if (key[1] == LESION) is of} for of in (False, True))
    loaded.grid = _anchor(tissues, image if tissues or not lesions else None, reference)
    # The scan's only where lesions were drawn in it, for it can be the cord's.
    drawn = image is not None and any(mask.grid.same_as(image) for _, mask in lesions.values())
    loaded.lesion_grid = _anchor(lesions, image if drawn else None, reference)
    for key in case.masks:
        anchor = loaded.lesion_grid if key[1] == LESION else loaded.grid
        if key not in read or anchor is None:
            continue
        values, mask = read[key]
        moved, kind, text = _on_grid(case.masks[key], values, mask, anchor, settings.grids)
        if kind:
            tell(kind, text, key, left_out=moved is None)
        if moved is not None:
            loaded.masks[key] = moved
    anchor = loaded.grid or loaded.lesion_grid
    if image is not None:
        fits = [grid is not None and image.same_as(grid) for grid in (loaded.grid, loaded.lesion_grid)]
        loaded.image_fits, loaded.lesion_image_fits = fits
        if anchor and not any(fits):
            differs = image.difference(anchor)
            text = f"{case.image}: its grid is not that of the masks ({differs}); no picture is made of it"
            tell("grid", text, file=case.image)
    if loaded.grid and case.levels is not None:
        loaded.levels, kind, text = _levels(case.levels, loaded.grid)
        if kind:
            tell(kind, text, file=case.levels)
    return loaded


def _one_volume(mask: Mask, path: Path) -> np.ndarray:
    if mask.data.shape[3] != 1:
        raise InputError(f"{path}: has {mask.data.shape[3]} volumes; give a mask of one volume")
    return mask.data[..., 0]


def _as_mask(values: np.ndarray, path: Path, threshold: float | None) -> tuple[np.ndarray | None, str, str]:
    """Boolean array of a mask's values, None if they are no mask's; kind and text of what is to be told, or ""."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        return None, "nan", f"{path}: has {count} NaN or infinite voxels; replace them with 0"
    low, high = float(values.min()), float(values.max())
    mask = values > 0.5
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        if values.dtype.kind != "f" or np.abs(values - mask).max() <= _ROUNDING:
            return mask, "", ""
        if threshold is None:
            return None, "soft", f"{path}: holds fractions between 0 and 1; give -thr 0.5 to cut them there"
        return values >= threshold, "soft", f"{path}: fractions, cut at {threshold:g}"
    found = np.unique(values)
    if found.tolist() == [0, 255]:
        return mask, "values", f"{path}: holds 0 and 255; 255 is taken for the mask"
    if len(found) > 20 or not np.array_equal(found, np.round(found)):
        return None, "values", f"{path}: holds values from {low:g} to {high:g}, so it is no mask; give the mask"
    some = ", ".join(f"{value:g}" for value in found[:5]) + (" ..." if len(found) > 5 else "")
    return None, "values", f"{path}: holds the values {some}; write each tissue to a file of its own, 0 and 1"


def _anchor(read: Mapping[_Key, tuple[np.ndarray, Mask]], image: Grid | None, reference: str | None) -> Grid | None:
    """The grid that all masks go to."""
    for key, (_, mask) in read.items():
        if key[0] == reference:
            return mask.grid
    return image or next((mask.grid for _, mask in read.values()), None)


def _on_grid(
    path: Path, values: np.ndarray, mask: Mask, anchor: Grid, policy: str
) -> tuple[np.ndarray | None, str, str]:
    """The mask on the anchor's grid, None where it is refused; kind and text of what is to be told, or ""."""
    differs, where = mask.grid.difference(anchor), anchor.name or "the other masks"
    if not differs:
        return values, "", ""
    if not mask.oriented and mask.grid.shape == anchor.shape:
        return values, "grid", f"{path}: its header has no orientation; it is taken to lie on {where}"
    if policy == "refuse":
        text = f"{path}: its grid is not that of {where} ({differs}); bring it there, or give -grids resample"
        return None, "grid", text
    moved = resample_nearest(values, mask.grid.affine, anchor)
    if values.any() and not moved.any():
        return None, "grid", f"{path}: lies outside {where} ({differs}); give the mask of the same scan"
    return moved, "resampled", f"{path}: resampled to {where} ({differs}), nearest neighbour"


def _levels(path: Path, anchor: Grid) -> tuple[np.ndarray | None, str, str]:
    """Vertebral labels on the anchor's grid, or None; kind and text of what is to be told, or ""."""
    try:
        found = read_mask(path)
        labels = np.rint(np.nan_to_num(_one_volume(found, path).astype(np.float64))).astype(np.int32)
    except InputError as err:
        return None, "unreadable", f"{err}; no level is compared"
    differs = found.grid.difference(anchor)
    if labels.min() >= 0 and not differs:
        return labels, "", ""
    why = "it holds negative labels" if labels.min() < 0 else f"its grid is not that of the masks: {differs}"
    return None, "grid", f"{path}: no level is compared ({why}); give labels on the scan's grid"
