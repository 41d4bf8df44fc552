"""The cord's masks where some were corrected: what follows from those, and all measured again."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from sctseg7t.cord.measuring import EMPTY, OF_THE_RUN, measure_volume, warning_lines, with_spread
from sctseg7t.cord.places import read_places
from sctseg7t.cord.segmenter import CordResult, missing_voxels
from sctseg7t.image.volume import Volume, to_native
from sctseg7t.measure.columns import TISSUES

GM_OUTSIDE = "gm_outside_sc"


def fit(
    masks: Mapping[str, np.ndarray], corrected: Collection[str], derived: Collection[str] = ("WM",)
) -> tuple[dict[str, np.ndarray], dict[str, int], np.ndarray]:
    """Make masks that were not corrected agree with those that were.

    GM of ours is kept within a corrected SC; a corrected GM is nobody's to cut. WM is SC without GM again.

    Parameters
    ----------
    masks : dict of str to (X, Y, Z, T) array
        bool, or fractions in 0..1.
    corrected : collection of str
        Tissues whose mask was corrected.
    derived : collection of str
        Tissues that follow from others.

    Returns
    -------
    masks : dict of str to (X, Y, Z, T) array
    cut : dict of str to int
        Voxels that a mask lost, by tissue.
    outside : (Z, T) bool
        Slices on which a corrected GM leaves SC.
    """
    masks, cut = dict(masks), {}
    outside: np.ndarray = np.zeros(next(iter(masks.values())).shape[2:], bool)
    if not {"SC", "GM"} <= set(masks):
        return masks, cut, outside
    beyond = masks["GM"] > masks["SC"]
    if "GM" in corrected:
        outside = np.asarray(beyond.any(axis=(0, 1)))
    elif "SC" in corrected and beyond.any():
        cut["GM"] = int(beyond.sum())
        masks["GM"] = np.minimum(masks["GM"], masks["SC"])
    if "WM" in derived and "WM" in masks and "WM" not in corrected:
        whole, part = masks["SC"], masks["GM"]
        masks["WM"] = whole & ~part if whole.dtype == part.dtype == bool else np.maximum(1.0 * whole - part, 0)
    return masks, cut, outside


def remeasure(
    volume: Volume,
    masks: Mapping[str, np.ndarray],
    corrected: Collection[str],
    *,
    derived: Collection[str],
    files: Mapping[str, Path],
    flags: Mapping[tuple[int, int], Collection[str]],
    details: Mapping[str, Any],
    soft: bool,
    spread: Mapping[tuple[int, int, str], float] = MappingProxyType({}),
) -> CordResult:
    """Measure a scan of which some masks were corrected, as its own run would have.

    Parameters
    ----------
    volume : Volume
        The scan.
    masks : dict of str to (X, Y, Z, T) array
        By tissue, corrected ones in place of ours, on the scan's canonical grid.
    corrected : collection of str
    derived : collection of str
        Tissues that follow from others.
    files : dict of str to Path
        That go with the scan, by role.
    flags : dict of (volume, slice) to collection of str
        Of the run that made our masks.
    details : dict
        What the run added to the scan's record; cords add nothing.
    soft : bool
        Masks of ours are fractions.
    spread : dict of (volume, slice, tissue) to float
        Of the run that made our masks.

    Returns
    -------
    CordResult
    """
    masks, cut, outside = fit(masks, corrected, derived)
    whole = (slice(None),) * 2
    tables, warnings = [], []
    places = read_places(files, volume, warnings)
    if "GM" in cut:
        warnings.append(f"GM lost {cut['GM']} voxels that are outside the corrected SC")
    for t in range(volume.data.shape[3]):
        tag = f"volume {t}: " if volume.data.shape[3] > 1 else ""
        maps = {tissue: masks[tissue][..., t] for tissue in TISSUES if tissue in masks}
        doubts = [
            [*((f for f in OF_THE_RUN if f in flags.get((t, k), ())) if "SC" not in corrected else ())]
            + ["voxels_missing"] * bool(gap)
            + [GM_OUTSIDE] * bool(outside[k, t])
            for k, gap in enumerate(missing_voxels(maps, volume, whole))
        ]
        table = measure_volume(maps, volume.affine, image=volume.data[..., t], flags=doubts, **places)
        warnings += [tag + text for text in warning_lines(table)]
        # Of a mask that somebody drew nothing is known.
        ours = {(k, name): value for (n, k, name), value in spread.items() if n == t and name not in corrected}
        tables.append(with_spread(table, ours))
    return CordResult(
        volume=volume,
        masks={name: to_native(volume, each, np.float32 if soft else np.uint8) for name, each in masks.items()},
        tables=tables,
        warnings=warnings,
        seconds={},
        nothing="" if any(each.any() for each in masks.values()) else EMPTY,
        corrected=tuple(sorted(corrected)),
        cut=cut,
    )
