"""Measuring the cord's masks: those of a network that has just run, and those that exist already."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from sctseg7t.measure.checks import PAST_END, check_areas
from sctseg7t.measure.columns import TISSUES
from sctseg7t.measure.contrast import GM_CONTRAST_LOW, add_contrast, gm_contrast
from sctseg7t.measure.csa import CsaTable, measure_csa
from sctseg7t.measure.levels import Levels
from sctseg7t.text import ranges
from sctseg7t.version import __version__

# What is said of a scan whose masks have no voxel.
EMPTY = "the masks are empty"
CONTRAST_UNUSUAL = "contrast_unusual"
# Flags that tell how the network saw a slice, which no mask tells: they hold as long as the cord is the network's.
OF_THE_RUN = ("locator_unsure", "touches_window_edge", CONTRAST_UNUSUAL)
# What a flag of a slice says to people.
_DOUBTS = {
    "locator_unsure": "the cord's place is unsure (taken from the neighbouring slices) on {}",
    "touches_window_edge": "the cord touches the window's edge on {}; its area may be cut there",
    "touches_image_edge": "the cord is cut by the image's border on {}",
    "voxels_missing": "voxels of the cord were NaN or infinite, and are taken as 0, on {}",
    CONTRAST_UNUSUAL: "the cord is brighter than what surrounds it, as on no scan that the model was made for, on {}; "
    "no mask is to be trusted there",
    PAST_END: "SC widens as into the brainstem, or tapers as at the cord's end, on {}; no mean holds them",
    GM_CONTRAST_LOW: "gray matter cannot be told from white matter on {}; its area is not to be trusted there",
    "gm_outside_sc": "gray matter lies outside the cord on {}",
}


def measure_volume(
    maps: Mapping[str, np.ndarray],
    affine: np.ndarray,
    *,
    image: np.ndarray | None = None,
    levels: Levels | np.ndarray | None = None,
    pmj_mm: np.ndarray | None = None,
    flags: Sequence[Sequence[str]] | None = None,
    file_slices: Sequence[int] | None = None,
) -> CsaTable:
    """Measure the masks of one volume: all that the tables of a scan hold.

    Parameters
    ----------
    maps : dict of str to (X, Y, Z) array
        Masks or fractions by tissue, on a RAS+ canonical grid; tissues other than SC, GM and WM are left out. A network
        may draw none of these: the table is empty then.
    affine : (4, 4) array
        Of that grid.
    image : (X, Y, Z) array, optional
        The scan on that grid: how well it shows GM is measured too.
    levels : Levels or (X, Y, Z) int array, optional
        What tells the vertebral levels; :func:`sctseg7t.cord.places.read_places` reads it from files.
    pmj_mm : (3,) array, optional
        The pontomedullary junction, world RAS.
    flags : sequence of sequences of str, optional
        What is doubtful about each slice already.
    file_slices : sequence of int, optional
        Each slice's index in the file.

    Raises
    ------
    InputError
        The levels cannot be those of this cord.
    """
    tissues = {name: maps[name] for name in TISSUES if name in maps}
    if not tissues:
        return CsaTable((), ())
    table = measure_csa(tissues, affine, levels=levels, pmj_mm=pmj_mm, flags=flags, file_slices=file_slices)
    if image is None or not {"SC", "GM"} <= tissues.keys():
        return table
    return add_contrast(table, gm_contrast(image, tissues["GM"], tissues["SC"], affine))


def with_spread(table: CsaTable, values: Mapping[tuple[int, str], float]) -> CsaTable:
    """The table with the spread (by slice and tissue) in its rows of tissues that have an area."""
    if not values:
        return table
    rows = (replace(row, spread=values.get((row.slice, row.tissue)) if row.area_mm2 else None) for row in table.rows)
    return replace(table, rows=tuple(rows))


def warning_lines(table: CsaTable) -> list[str]:
    """Doubts about a table's slices, in lines for people."""
    lines = []
    for flag, text in _DOUBTS.items():
        slices = sorted({row.slice for row in table.rows if flag in row.flags})
        if slices:
            lines.append(f"{flag}: {text.format('slice ' + ranges(slices))}")
    return lines + [f"{found.flag}: {found.text}" for found in check_areas(table) if found.flag not in _DOUBTS]


def write_tables(
    measured: CsaTable | Sequence[CsaTable],
    tables: Mapping[str, Path],
    *,
    filename: str,
    masks: Mapping[str, Path],
    corrected: Sequence[str] = (),
) -> None:
    """Write the tables of one scan.

    Parameters
    ----------
    measured : CsaTable, or a list of them of a 4D scan
    tables : dict of str to Path
        Places by kind, see :data:`sctseg7t.inference.outputs.TABLES`.
    filename : str
        What the tables call the scan.
    masks : dict of str to Path
        By tissue: only these are written, and tables in SCT's columns name them.
    corrected : sequence of str
        Tissues of the scan whose mask somebody corrected; SCT's columns have no place for them.
    """
    from sctseg7t.measure.sct_tables import PER, write_sct_csv
    from sctseg7t.measure.tables import write_csa_csv, write_level_csv

    about = {"filename": filename, "tool_version": __version__, "tissues": tuple(masks), "corrected": tuple(corrected)}
    for kind, path in tables.items():
        kind, _, tissue = kind.partition(":")
        if tissue:
            write_sct_csv(measured, path, tissue, filename=masks[tissue].name, per=PER[kind])
        elif kind == "levels":
            write_level_csv(measured, path, **about)
        else:
            write_csa_csv(measured, path, **about)
