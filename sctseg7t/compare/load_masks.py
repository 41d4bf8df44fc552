"""The masks of a scan on one grid: every file read once, checked, and what cannot be used told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from sctseg7t.compare.types import LESION, Case, Problem, Settings
from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid, resample_nearest
from sctseg7t.image.masks import Mask, read_mask

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


class _Refused(Exception):
    """A mask that cannot be used: the kind of its problem, and a sentence."""

    def __init__(self, kind: str, text: str):
        super().__init__(text)
        self.kind = kind


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
    loaded = LoadedCase()
    read = _read_all(case, settings, reference, loaded)
    image = _image_grid(case, loaded.problems)
    tissues, lesions = ({key: one for key, one in read.items() if (key[1] == LESION) is of} for of in (False, True))
    loaded.grid = _anchor(tissues, image if tissues or not lesions else None, reference)
    # The scan's only where lesions were drawn in it, for it can be the cord's.
    drawn = image is not None and any(mask.grid.same_as(image) for _, mask in lesions.values())
    loaded.lesion_grid = _anchor(lesions, image if drawn else None, reference)
    for key in case.masks:
        if key in read:
            onto = loaded.lesion_grid if key[1] == LESION else loaded.grid
            moved = _on_grid(case, key, *read[key], onto, settings.grids, loaded.problems)
            if moved is not None:
                loaded.masks[key] = moved
    if image is not None:
        _check_image(case, image, loaded)
    if loaded.grid:
        loaded.levels = _levels(case, loaded.grid, loaded.problems)
    return loaded


def _read_all(case, settings, reference, loaded) -> dict[_Key, tuple[np.ndarray, Mask]]:
    """Boolean array and file of every mask that can be used, the reference's first."""
    found = {}
    # A reference that is moved to another grid is none: the others go to its.
    for key in sorted(case.masks, key=lambda key: key[0] != reference):
        path = case.masks[key]
        try:
            mask = read_mask(path)
            loaded.sha256[key] = mask.sha256
            values, note = _as_mask(_one_volume(mask, path), path, settings.threshold)
        except InputError as err:
            loaded.problems.append(_problem("unreadable", case, key, str(err)))
            continue
        except _Refused as refused:
            loaded.problems.append(_problem(refused.kind, case, key, str(refused)))
            continue
        if note is None and not values.any():
            note = ("empty", f"{path}: is empty; {_EMPTY_LESIONS if key[1] == LESION else _EMPTY}")
        if note:
            loaded.problems.append(_problem(note[0], case, key, note[1], left_out=False))
        found[key] = values, mask
    return found


def _problem(kind, case, key, text, left_out=True):
    method, structure = key
    return Problem(kind, text, left_out, case.name, method, structure, str(case.masks[key]))


def _one_volume(mask: Mask, path) -> np.ndarray:
    if mask.data.shape[3] != 1:
        raise InputError(f"{path}: has {mask.data.shape[3]} volumes; give a mask of one volume")
    return mask.data[..., 0]


def _as_mask(values, path, threshold):
    """Boolean array of a mask's values, and a note (kind, text) or None; _Refused if they are no mask's."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        count = int((~np.isfinite(values)).sum())
        raise _Refused("nan", f"{path}: has {count} NaN or infinite voxels; replace them with 0")
    low, high = float(values.min()), float(values.max())
    mask = values > 0.5
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        if values.dtype.kind != "f" or np.abs(values - mask).max() <= _ROUNDING:
            return mask, None
        if threshold is None:
            raise _Refused("soft", f"{path}: holds fractions between 0 and 1; give -thr 0.5 to cut them there")
        return values >= threshold, ("soft", f"{path}: fractions, cut at {threshold:g}")
    found = np.unique(values)
    if found.tolist() == [0, 255]:
        return mask, ("values", f"{path}: holds 0 and 255; 255 is taken for the mask")
    some = ", ".join(f"{value:g}" for value in found[:5]) + (" ..." if len(found) > 5 else "")
    if len(found) > 20 or not np.array_equal(found, np.round(found)):
        raise _Refused("values", f"{path}: holds values from {low:g} to {high:g}, so it is no mask; give the mask")
    raise _Refused("values", f"{path}: holds the values {some}; write each tissue to a file of its own, 0 and 1")


# --- grids -------------------------------------------------------------------------------


def _image_grid(case, problems) -> Grid | None:
    from sctseg7t.image.volume import check_header

    if case.image is None:
        return None
    try:
        geometry = check_header(case.image, axial=False)
    except InputError as err:
        problems.append(Problem("unreadable", str(err), False, case.name, file=str(case.image)))
        return None
    return Grid(geometry.shape[:3], geometry.affine, str(case.image))


def _anchor(read: Mapping[_Key, tuple[np.ndarray, Mask]], image: Grid | None, reference: str | None) -> Grid | None:
    """The grid that all masks go to."""
    for key, (_, mask) in read.items():
        if key[0] == reference:
            return mask.grid
    return image or next((mask.grid for _, mask in read.values()), None)


def _on_grid(case, key, values, mask, anchor, policy, problems):
    """The mask on the anchor's grid; None, with a problem, where it is refused."""
    differs = mask.grid.difference(anchor)
    if not differs:
        return values
    path, where = case.masks[key], anchor.name or "the other masks"
    if not mask.oriented and mask.grid.shape == anchor.shape:
        text = f"{path}: its header has no orientation; it is taken to lie on {where}"
        problems.append(_problem("grid", case, key, text, left_out=False))
        return values
    if policy == "refuse":
        text = f"{path}: its grid is not that of {where} ({differs}); bring it there, or give -grids resample"
        problems.append(_problem("grid", case, key, text))
        return None
    moved = resample_nearest(values, mask.grid.affine, anchor)
    if values.any() and not moved.any():
        text = f"{path}: lies outside {where} ({differs}); give the mask of the same scan"
        problems.append(_problem("grid", case, key, text))
        return None
    text = f"{path}: resampled to {where} ({differs}), nearest neighbour"
    problems.append(_problem("resampled", case, key, text, left_out=False))
    return moved


def _check_image(case, image, loaded) -> None:
    """Whether the scan can be shown below the masks."""
    grids = loaded.grid, loaded.lesion_grid
    loaded.image_fits, loaded.lesion_image_fits = (grid is not None and image.same_as(grid) for grid in grids)
    anchor = loaded.grid or loaded.lesion_grid
    if anchor and not (loaded.image_fits or loaded.lesion_image_fits):
        differs = image.difference(anchor)
        text = f"{case.image}: its grid is not that of the masks ({differs}); no picture is made of it"
        loaded.problems.append(Problem("grid", text, False, case.name, file=str(case.image)))


def _levels(case, anchor, problems) -> np.ndarray | None:
    """Vertebral labels on the anchor's grid, or None."""
    if case.levels is None:
        return None
    try:
        found = read_mask(case.levels)
        labels = np.rint(np.nan_to_num(_one_volume(found, case.levels).astype(np.float64))).astype(np.int32)
    except InputError as err:
        text = f"{err}; no level is compared"
        problems.append(Problem("unreadable", text, False, case.name, file=str(case.levels)))
        return None
    differs = found.grid.difference(anchor)
    if labels.min() < 0 or differs:
        why = "it holds negative labels" if labels.min() < 0 else f"its grid is not that of the masks: {differs}"
        text = f"{case.levels}: no level is compared ({why}); give labels on the scan's grid"
        problems.append(Problem("grid", text, False, case.name, file=str(case.levels)))
        return None
    return labels
