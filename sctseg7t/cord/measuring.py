"""Measuring the cord's masks: those of a network that has just run, and those that exist already."""

from collections.abc import Mapping, Sequence

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.masks import Readable, labels_on_scan
from sctseg7t.image.volume import Volume
from sctseg7t.measure.checks import check_areas
from sctseg7t.measure.columns import TISSUES
from sctseg7t.measure.csa import CsaTable, measure_csa
from sctseg7t.text import ranges

# SCT numbers vertebrae and discs from 1, and the pontomedullary landmarks up to 60.
_HIGHEST_LEVEL = 60
# What a flag of a slice says to people.
_DOUBTS = {
    "locator_unsure": "the cord's place is unsure (taken from the neighbouring slices)",
    "touches_window_edge": "the cord touches the window's edge; its area may be cut",
    "touches_image_edge": "the cord is cut by the image's border",
    "voxels_missing": "voxels of the cord were NaN or infinite and are taken as 0",
}


def measure_volume(
    maps: Mapping[str, np.ndarray],
    affine: np.ndarray,
    *,
    image: np.ndarray | None = None,
    levels: np.ndarray | None = None,
    flags: Sequence[Sequence[str]] | None = None,
) -> CsaTable:
    """Measure the masks of one volume: all that the tables of a scan hold.

    Parameters
    ----------
    maps : dict of str to (X, Y, Z) array
        Masks or fractions by tissue, on a RAS+ canonical grid; tissues other than SC, GM and WM are left out.
    affine : (4, 4) array
        Of that grid.
    image : (X, Y, Z) array, optional
        The scan on that grid.
    levels : (X, Y, Z) int array, optional
        Vertebral labels on that grid.
    flags : sequence of sequences of str, optional
        What is doubtful about each slice already.
    """
    return measure_csa({name: maps[name] for name in TISSUES if name in maps}, affine, levels=levels, flags=flags)


def warning_lines(table: CsaTable) -> list[str]:
    """Doubts about a table's slices, in lines for people."""
    lines = []
    for flag, text in _DOUBTS.items():
        slices = sorted({row.slice for row in table.rows if flag in row.flags})
        if slices:
            lines.append(f"{flag}: {text} on slice {ranges(slices)}")
    return lines + [f"{warning.flag}: {warning.text}" for warning in check_areas(table)]


def read_levels(levels: Readable, volume: Volume) -> np.ndarray:
    """Vertebral labels (X, Y, Z) on the grid of a scan (InputError if they are none)."""
    found, name = labels_on_scan(levels, volume)
    low, high = int(found.min()), int(found.max())
    if low < 0 or high > _HIGHEST_LEVEL:
        raise InputError(
            f"{name}: holds values from {low} to {high}, which are not vertebral levels (1 to {_HIGHEST_LEVEL}); "
            "give a labelled cord or labels of single voxels"
        )
    if not high:
        raise InputError(
            f"{name}: holds no vertebral label within {volume.name}; give a labelled cord or labels of single voxels"
        )
    return found
