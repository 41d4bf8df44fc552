"""What is wrong with labelled scans, told file by file before anything trains. Needs no torch."""

from collections.abc import Mapping, Sequence

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.masks import read_mask
from sctseg7t.image.volume import Volume
from sctseg7t.inference.mask_names import LESION, STRUCTURES
from sctseg7t.train.scans.labelled import LabelFiles, LabelledScan

# Tissues that every slice of a cord has: where one was not drawn, nothing is known.
ALWAYS_THERE = tuple(name for name in STRUCTURES if name != LESION)
# Median area (mm2) over the slices of masks of cords, wide of what people have (SC 40 to 130, GM 7 to 25).
AREAS_MM2 = {"SC": (20.0, 250.0), "GM": (2.0, 60.0), "WM": (10.0, 200.0)}
# Parts of a GM or WM mask that lie within the SC mask at least, and of a brain's label that lie within the brain.
_WITHIN = 0.8
# A mask's centre further (mm) than this from where the cord is found is not a cord's.
_AWAY_MM = 10.0


def read_labels_of(scan: LabelledScan, volume: Volume, labels: Mapping[str, LabelFiles]) -> dict[str, np.ndarray]:
    """The masks of a scan, (X, Y, Z) bool by label, on its canonical grid.

    Raises
    ------
    InputError
        A mask is on another grid, holds values that the labels do not name, or is empty; names file and fault.
    """
    masks = {}
    for name, path in scan.masks.items():
        mask = read_mask(path, volume)
        if not mask.grid.same_as(volume.grid):
            raise InputError(
                f"{path}: is on another grid than {scan.image} ({mask.grid.difference(volume.grid)}); "
                "give the mask that was drawn on this image, or resample it"
            )
        values = mask.volume
        named = labels[name].values
        if not np.isfinite(values).all():
            raise InputError(f"{path}: has NaN or infinite voxels; replace them with 0")
        # A file may be the mask of several labels: what any of them names is known.
        known = {0, *named, *(v for n, p in scan.masks.items() if p == path for v in labels[n].values)}
        if named:
            strange = sorted(set(np.unique(values).tolist()) - known)
            if strange:
                some = ", ".join(f"{v:g}" for v in strange[:5])
                told = ", ".join(map(str, sorted(known)))
                raise InputError(f"{path}: holds the values {some}, which no label of the recipe names ({told})")
            masks[name] = np.isin(values, named)
        else:
            if values.min() < 0 or values.max() > 1:
                raise InputError(
                    f"{path}: holds values from {values.min():g} to {values.max():g}, a mask has 0 and 1; "
                    f"say in the recipe which values are {name}"
                )
            masks[name] = values >= 0.5
        if not masks[name].any():
            raise InputError(f"{path}: marks no voxel of {name} in {scan.image}; give the manual mask of this scan")
    return masks


def check_cord(
    scan: LabelledScan, masks: Mapping[str, np.ndarray], volume: Volume, found_vox: np.ndarray | None = None
) -> None:
    """Refuse masks that are not of a cord (InputError naming the file).

    Parameters
    ----------
    masks : dict of str to (X, Y, Z) bool
    found_vox : (Z, 2) array, optional
        Where the locator found the cord.
    """
    for name, mask in masks.items():
        areas = mask.sum((0, 1)) * volume.grid.pixel_area_mm2
        area = float(np.median(areas[areas > 0]))
        low, high = AREAS_MM2.get(name, (0.0, np.inf))
        if not low <= area <= high:
            raise InputError(
                f"{scan.masks[name]}: its area is {area:.4g} mm2 a slice, which no {STRUCTURES[name]} has "
                f"({low:g} to {high:g}); give the mask of {name}"
            )
    for name in {"GM", "WM"} & set(masks) if "SC" in masks else ():
        drawn = masks["SC"].any((0, 1))
        share = (masks[name] & masks["SC"])[..., drawn].sum() / max(masks[name][..., drawn].sum(), 1)
        if share < _WITHIN:
            raise InputError(
                f"{scan.masks[name]}: only {share:.0%} of {name} lies within {scan.masks['SC'].name}; "
                "give masks of one scan, each of its own tissue"
            )
    lead = lead_label(masks)
    if found_vox is None or lead is None:
        return
    shown = np.flatnonzero(masks[lead].any((0, 1)))
    centres = np.array([np.argwhere(masks[lead][..., k]).mean(0) for k in shown])
    away = float(np.median(volume.frame.mm_between(centres, found_vox[shown])))
    if away > _AWAY_MM:
        raise InputError(
            f"{scan.masks[lead]}: lies {away:.0f} mm from where the cord is found in {scan.image}; "
            "give the mask of the spinal cord"
        )


def check_brain(scan: LabelledScan, masks: Mapping[str, np.ndarray], brain: np.ndarray) -> None:
    """Refuse masks that do not lie in the brain (InputError naming the file)."""
    for name, mask in masks.items():
        share = (mask & brain).sum() / mask.sum()
        if share < _WITHIN:
            raise InputError(
                f"{scan.masks[name]}: only {share:.0%} of it lies in the brain that is found in {scan.image}; "
                "give the mask of this scan, or its brain mask"
            )
        if name == LESION and mask.sum() > 0.5 * brain.sum():
            raise InputError(f"{scan.masks[name]}: marks {mask.sum() / brain.sum():.0%} of the brain; give lesions")


def check_labels(scans: Sequence[LabelledScan], labels: Mapping[str, LabelFiles]) -> None:
    """Refuse a label of which no scan has a mask (InputError)."""
    for name, rule in labels.items():
        if not any(name in scan.masks for scan in scans):
            endings = ", ".join(f"SCAN_{ending}.nii.gz" for ending in rule.endings)
            raise InputError(f"label {name}: none of {len(scans)} scans has a mask of it ({endings})")


def lead_label(names: Mapping[str, object] | Sequence[str]) -> str | None:
    """The label that says where the cord is: SC, GM or WM; None where none of them is there."""
    return next((name for name in ("SC", "GM", "WM") if name in names), None)
