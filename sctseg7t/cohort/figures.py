"""Figures of a cohort: areas along the cord by group, how each measure is distributed, and lesion loads."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from sctseg7t.errors import UsageError
from sctseg7t.measure.columns import CSA_MEASURES, LOAD_COLUMNS, TISSUES
from sctseg7t.measure.flags import NOT_AVERAGED
from sctseg7t.report import plotting

if TYPE_CHECKING:
    from pandas import DataFrame

# The angles come last: they are those of the centre line, the same for every tissue.
_LABELS = {
    column.name: column.title
    for column in sorted(CSA_MEASURES, key=lambda column: column.name.startswith("angle"))
    if column.label
}
_LESIONS = {column.name: column.title for column in LOAD_COLUMNS if column.label}
_TICKS = (0, 0.5, *(step * ten for ten in (1, 10, 100, 1000) for step in (1, 2, 5)))


def draw_cohort(out: str | Path, group: str | None = None) -> list[Path]:
    """Draw a cohort's figures, PNG and SVG, from the tables in a folder: those that its scans have numbers for.

    ``cohort_csa``: mean area by vertebral level where there are levels, else by slice, with a band of one SD over the
    subjects, a line a group. ``cohort_measures``: a violin of the subjects' means of each measure, a group each.
    ``cohort_lesions``: lesion load and count, a box and a dot a subject; logarithmic from 1 on, as both are skewed.
    A subject with several scans counts once; slices that an edge cuts are left out.

    Parameters
    ----------
    out : path
        Folder with ``cohort_slices.csv`` or ``cohort_scans.csv``; pictures go to ``figures`` in it.
    group : str, optional
        Column to part the subjects by.

    Returns
    -------
    list of Path

    Raises
    ------
    UsageError
        No such column, or nothing to draw.
    """
    out = Path(out)
    rows = _read(out / "cohort_slices.csv", ("level", "slice", *_LABELS), "area_mm2", group)
    loads = _read(out / "cohort_scans.csv", tuple(_LESIONS), "load_ml", group)
    if len(rows):
        rows = rows[~rows["flags"].str.contains("|".join(NOT_AVERAGED), na=False)]
    if not len(rows) and not len(loads):
        raise UsageError(f"{out}: has no measured slice and no lesion load to draw")
    folder = out / "figures"
    folder.mkdir(exist_ok=True)
    files = []
    for name, draw, data in (
        ("cohort_csa", _draw_areas, rows),
        ("cohort_measures", _draw_measures, rows),
        ("cohort_lesions", _draw_lesions, loads),
    ):
        if len(data):
            files += plotting.save(draw(data), folder / f"{name}.png", folder / f"{name}.svg")
    return files


def _read(path: Path, columns: tuple[str, ...], measured: str, group: str | None) -> DataFrame:
    """Rows of a table in which something is measured; none if there is no such table."""
    import pandas

    if not path.is_file():
        return pandas.DataFrame()
    texts = {name: str for name in ("participant_id", "scan", "tissue", "flags", group) if name}
    # Only an empty cell is missing: a subject may be called NA.
    table = pandas.read_csv(
        path, usecols=lambda name: name in (*columns, *texts), dtype=texts, keep_default_na=False, na_values=[""]
    )
    if group and group not in table:
        raise UsageError(f"{path}: has no column {group} to part the figures by")
    table["participant_id"] = table["participant_id"].fillna(table["scan"])
    table["group"] = table[group].fillna("unknown") if group else "all"
    if measured not in table:
        return pandas.DataFrame()
    return table[table[measured].notna()]


def _subjects(rows: DataFrame, measure: str, groups: list[str]) -> list[list[float]]:
    """The subjects' means of a measure, of each group."""
    means = rows.groupby(["group", "participant_id"])[measure].mean().dropna()
    return [list(means.get(name, ())) for name in groups]


# --- the figures ----------------------------------------------------------------------


def _draw_areas(rows: DataFrame):
    place = "level" if rows["level"].notna().any() else "slice"
    measure = "area_corrected_mm2" if rows["area_corrected_mm2"].notna().any() else "area_mm2"
    tissues = [tissue for tissue in TISSUES if tissue in set(rows["tissue"])]
    figure, axes = plotting.new_figure(1, len(tissues), 3.4, 3.0)
    for axis, tissue in zip(axes[0], tissues):
        for colour, (name, part) in zip(itertools.cycle(plotting.PALETTE), rows.groupby("group")):
            means = part[part["tissue"] == tissue].groupby([place, "participant_id"])[measure].mean().dropna()
            if len(means):
                label = f"{name} (n={means.index.unique('participant_id').size})"
                along = means.groupby(level=place)
                line, spread = along.mean(), along.std().fillna(0)
                plotting.curve(axis, line.index, line, spread=spread, colour=colour, marker="o", label=label)
        axis.set_title(tissue)
        axis.set_xlabel("vertebral level" if place == "level" else "slice, inferior to superior")
        axis.set_ylim(bottom=0)
        if place == "level":
            # Superior at the left, as the levels are numbered.
            axis.set_xticks(sorted(rows[place].dropna().unique()))
    axes[0][0].set_ylabel(_LABELS[measure])
    axes[0][0].legend(frameon=False, fontsize=9)
    return figure


def _draw_measures(rows: DataFrame):
    from matplotlib.patches import Patch

    tissues = [tissue for tissue in TISSUES if tissue in set(rows["tissue"])]
    groups = sorted(set(rows["group"]))
    figure, axes = plotting.new_figure(len(tissues), len(_LABELS), 1.3 + 0.25 * len(groups), 2.0)
    for line, tissue in zip(axes, tissues):
        for axis, (measure, label) in zip(line, _LABELS.items()):
            if measure.startswith("angle") and tissue != tissues[0]:
                axis.set_visible(False)
                continue
            plotting.violins(axis, _subjects(rows[rows["tissue"] == tissue], measure, groups))
            axis.set_xticks([])
            axis.set_title(f"{tissue} {label}", fontsize=9)
    if len(groups) > 1:
        handles = [Patch(facecolor=colour) for colour, _ in zip(itertools.cycle(plotting.PALETTE), groups)]
        figure.legend(handles, groups, loc="outside lower center", ncols=min(len(groups), 6), frameon=False)
    return figure


def _draw_lesions(rows: DataFrame):
    groups = sorted(set(rows["group"]))
    figure, axes = plotting.new_figure(1, len(_LESIONS), 1.8 + 0.5 * len(groups), 3.0)
    for axis, (measure, label) in zip(axes[0], _LESIONS.items()):
        values = _subjects(rows, measure, groups)
        # Linear up to 1, for a scan may have no lesion.
        axis.set_yscale("symlog", linthresh=1)
        named = [f"{name}\n(n={len(some)})" for name, some in zip(groups, values)]
        plotting.violins(axis, values, named, violin=False)
        axis.set_yticks([tick for tick in _TICKS if tick <= max(rows[measure].max(), 1)])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(bottom=-0.05)
        axis.set_ylabel(label)
    return figure
