"""Flags of doubtful slices: names for the table, and one line each for people."""

from sctseg7t.cord.locator import CordPath
from sctseg7t.cord.windows_model import Fractions
from sctseg7t.measure.checks import check_areas
from sctseg7t.measure.csa import CsaTable
from sctseg7t.text import ranges

_TEXTS = {
    "locator_unsure": "the cord's place is unsure (taken from the neighbouring slices)",
    "touches_window_edge": "the cord touches the window's edge; its area may be cut",
    "touches_image_edge": "the cord is cut by the image's border",
}


def slice_flags(path: CordPath, fractions: Fractions) -> list[list[str]]:
    """Flags of every slice that locating and segmenting raise.

    Parameters
    ----------
    path : CordPath
    fractions : Fractions

    Returns
    -------
    list of list of str
    """
    return [
        ["locator_unsure"] * bool(unsure) + ["touches_window_edge"] * bool(edge)
        for unsure, edge in zip(path.unsure, fractions.touches_edge)
    ]


def warning_lines(flags: list[list[str]], table: CsaTable) -> list[str]:
    """One line for each kind of doubt, with the slices it holds for.

    Parameters
    ----------
    flags : list of list of str
        From :func:`slice_flags`.
    table : CsaTable
    """
    cut = {row.slice for row in table.rows if "touches_image_edge" in row.flags}
    lines = []
    for flag, text in _TEXTS.items():
        slices = [k for k, names in enumerate(flags) if flag in names or (flag == "touches_image_edge" and k in cut)]
        if slices:
            lines.append(f"{flag}: {text} on slice {ranges(slices)}")
    return lines + [f"{warning.flag}: {warning.text}" for warning in check_areas(table)]
