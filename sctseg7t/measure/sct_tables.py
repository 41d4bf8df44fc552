"""Tables of areas as the Spinal Cord Toolbox writes them: one file a mask, for scripts that read those."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np

from sctseg7t.files import writing
from sctseg7t.measure.columns import SCT_COLUMNS, SCT_MEASURES, names
from sctseg7t.measure.csa import CsaTable
from sctseg7t.text import ranges
from sctseg7t.version import __version__

# What a row is of, by kind of table.
PER = {"csa": "slice", "levels": "level"}


def write_sct_csv(
    tables: CsaTable | Sequence[CsaTable],
    path: str | Path,
    tissue: str,
    *,
    filename: str,
    per: str = "slice",
    levels: Sequence[int] = (),
) -> None:
    """Write the table of one mask with the columns and conventions of sct_process_segmentation (SCT 5.8 to 6.5).

    Text is quoted and numbers are not, lines end in CR LF, floats have all their digits, and what is not known is
    ``""``. The area is the angle-corrected one. ``angle_AP`` is the rotation *about* the A-P axis (so minus our
    `angle_rl_deg`) and ``angle_RL`` the one about the R-L axis (our `angle_ap_deg`); orientation is without sign. STD
    has n in its denominator (0 for one slice). Slices of a row are those that its means are of, as in ``3:5;7``: none
    that an edge cuts or a flag leaves out. ``SCT Version`` says that this tool wrote it. A 4D image adds a last column
    ``Volume``.

    Parameters
    ----------
    tables : CsaTable or sequence of CsaTable
        Several are the volumes of one 4D image.
    path : path-like
    tissue : str
    filename : str
        Of the mask.
    per : {"slice", "level", "all"}
        A row for each slice (``-perslice 1``), for each level (``-perlevel 1``), or one over all slices.
    levels : sequence of int
        With "all": levels that were chosen, for its ``VertLevel``.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    single = isinstance(tables, CsaTable)
    about = [datetime.now().strftime("%Y-%m-%d %H:%M:%S"), f"sctseg7t {__version__}", filename]
    with writing(path) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
        csv.writer(text).writerow([*names(SCT_COLUMNS), *([] if single else ["Volume"])])
        writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
        for number, table in enumerate([tables] if single else tables):
            rows = [row for row in table.rows if row.tissue == tissue]
            for group, level in _groups(table, tissue, rows, per, ranges(levels, ":", ";")):
                members = [row for row in rows if row.slice in group]
                pmj = members[0].distance_pmj_mm if per == "slice" else None
                shown = [ranges(group, ":", ";"), level, "" if pmj is None else pmj]
                writer.writerow([*about, *shown, *_values(members), *([] if single else [number])])
        text.detach()


def _groups(table, tissue, rows, per, chosen):
    """Slices and level of each row, from below."""
    if per == "slice":
        return [((row.slice,), "" if row.level is None else str(row.level)) for row in rows]
    means = [row for row in table.level_rows if row.tissue == tissue and (row.level == "all") == (per == "all")]
    # A level without any value is no row, as in SCT.
    found = [(row.slices, chosen if per == "all" else str(row.level)) for row in means if row.slices]
    return sorted(found)


def _values(members):
    """Mean and standard deviation of each measure, and the length; ``""`` where no slice has it."""
    cells = []
    for column in SCT_MEASURES:
        # SCT writes a normalised area in place of the other.
        normalised = column.sct == "area" and any(row.area_normalised_mm2 is not None for row in members)
        name = "area_normalised_mm2" if normalised else column.name
        known = [value for row in members if (value := getattr(row, name)) is not None]
        values = [column.to_sct(value) if column.to_sct else value for value in known]
        cells += [float(np.mean(values)), float(np.std(values))] if values else ["", ""]
    lengths = [row.length_mm for row in members if row.length_mm is not None]
    return [*cells, float(sum(lengths)) if lengths else ""]
