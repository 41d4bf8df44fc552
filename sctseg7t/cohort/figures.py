"""Figures of a cohort: areas along the cord by group, how each measure is distributed, and lesion loads."""

import csv
import itertools
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from sctseg7t.errors import UsageError
from sctseg7t.measure.checks import TRUNCATED
from sctseg7t.measure.columns import CSA_MEASURES, LOAD_COLUMNS, TISSUES
from sctseg7t.report import plotting

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
        No matplotlib, no such column, or nothing to draw.
    """
    if find_spec("matplotlib") is None:
        raise UsageError("figures need matplotlib; pip install 'sctseg7t[figures]'")
    rows = list(_slices(Path(out) / "cohort_slices.csv", group))
    loads = list(_loads(Path(out) / "cohort_scans.csv", group))
    if not rows and not loads:
        raise UsageError(f"{out}: has no measured slice and no lesion load to draw")
    folder = Path(out) / "figures"
    folder.mkdir(exist_ok=True)
    files = []
    for name, draw, data in (
        ("cohort_csa", _draw_areas, rows),
        ("cohort_measures", _draw_measures, rows),
        ("cohort_lesions", _draw_lesions, loads),
    ):
        if data:
            files += plotting.save(draw(data), folder / f"{name}.png", folder / f"{name}.svg")
    return files


# --- what is drawn --------------------------------------------------------------------


def _read(path: Path, group: str | None) -> Iterator[dict]:
    """Rows of a table that has the column to part by; none if there is no such table."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if group and group not in (reader.fieldnames or ()):
            raise UsageError(f"{path}: has no column {group} to part the figures by")
        for row in reader:
            part = (row[group] or "unknown") if group else "all"
            yield {**row, "subject": row["subject"] or row["scan"], "group": part}


def _slices(path: Path, group: str | None) -> Iterator[dict]:
    """Measured rows of the slice table: only what is drawn, as numbers."""
    for row in _read(path, group):
        if row["area_mm2"] and not TRUNCATED.intersection(row["flags"].split(";")):
            yield {
                **{name: row[name] for name in ("subject", "group", "tissue")},
                "level": int(row["level"]) if row["level"] else None,
                "slice": int(row["slice"]),
                **{name: float(row[name]) for name in _LABELS if row[name]},
            }


def _loads(path: Path, group: str | None) -> Iterator[dict]:
    """Rows of the scan table that have a lesion load: only what is drawn, as numbers."""
    for row in _read(path, group):
        if row.get("load_ml"):
            yield {**{name: row[name] for name in ("subject", "group")}, **{n: float(row[n]) for n in _LESIONS}}


def _groups(rows: list[dict]) -> list[str]:
    return sorted({row["group"] for row in rows})


def _means(rows: list[dict], measure: str, *keys: str, **only: str) -> dict[tuple, float]:
    """Mean of a measure over the rows that share the keys, of the rows with these values only."""
    values: dict[tuple, list[float]] = {}
    for row in rows:
        if measure in row and all(row[key] == value for key, value in only.items()):
            values.setdefault(tuple(row[key] for key in keys), []).append(row[measure])
    return {key: sum(some) / len(some) for key, some in values.items()}


def _subjects(rows: list[dict], measure: str, **only: str) -> list[list[float]]:
    """The subjects' means of a measure, of each group."""
    return [list(_means(rows, measure, "subject", group=name, **only).values()) for name in _groups(rows)]


# --- the figures ----------------------------------------------------------------------


def _draw_areas(rows):
    place = "level" if any(row["level"] is not None for row in rows) else "slice"
    measure = "area_corrected_mm2" if any("area_corrected_mm2" in row for row in rows) else "area_mm2"
    placed = [row for row in rows if row[place] is not None]
    tissues = [tissue for tissue in TISSUES if any(row["tissue"] == tissue for row in rows)]
    figure, axes = plotting.new_figure(1, len(tissues), 3.4, 3.0)
    for axis, tissue in zip(axes[0], tissues):
        for colour, name in zip(itertools.cycle(plotting.PALETTE), _groups(rows)):
            by_place = {}
            means = _means(placed, measure, "subject", place, tissue=tissue, group=name)
            for (_, at), mean in means.items():
                by_place.setdefault(at, []).append(mean)
            if by_place:
                at = sorted(by_place)
                spread = [float(np.std(by_place[x], ddof=1)) if len(by_place[x]) > 1 else 0.0 for x in at]
                label = f"{name} (n={len({subject for subject, _ in means})})"
                line = [float(np.mean(by_place[x])) for x in at]
                plotting.curve(axis, at, line, spread=spread, colour=colour, marker="o", label=label)
        axis.set_title(tissue)
        axis.set_xlabel("vertebral level" if place == "level" else "slice, inferior to superior")
        axis.set_ylim(bottom=0)
        if place == "level":
            # Superior at the left, as the levels are numbered.
            axis.set_xticks(sorted({row[place] for row in placed}))
    axes[0][0].set_ylabel(_LABELS[measure])
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def _draw_measures(rows):
    from matplotlib.patches import Patch

    tissues = [tissue for tissue in TISSUES if any(row["tissue"] == tissue for row in rows)]
    groups = _groups(rows)
    figure, axes = plotting.new_figure(len(tissues), len(_LABELS), 1.3 + 0.25 * len(groups), 2.0)
    for line, tissue in zip(axes, tissues):
        for axis, (measure, label) in zip(line, _LABELS.items()):
            if measure.startswith("angle") and tissue != tissues[0]:
                axis.set_visible(False)
                continue
            plotting.violins(axis, _subjects(rows, measure, tissue=tissue))
            axis.set_xticks([])
            axis.set_title(f"{tissue} {label}", fontsize=8)
    if len(groups) > 1:
        handles = [Patch(facecolor=colour) for colour, _ in zip(itertools.cycle(plotting.PALETTE), groups)]
        figure.legend(handles, groups, loc="outside lower center", ncols=min(len(groups), 6), frameon=False)
    return figure


def _draw_lesions(rows):
    groups = _groups(rows)
    figure, axes = plotting.new_figure(1, len(_LESIONS), 1.8 + 0.5 * len(groups), 3.0)
    for axis, (measure, label) in zip(axes[0], _LESIONS.items()):
        values = _subjects(rows, measure)
        # Linear up to 1, for a scan may have no lesion.
        axis.set_yscale("symlog", linthresh=1)
        named = [f"{name}\n(n={len(some)})" for name, some in zip(groups, values)]
        plotting.violins(axis, values, named, violin=False)
        top = max(row[measure] for row in rows)
        axis.set_yticks([tick for tick in _TICKS if tick <= max(top, 1)])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(bottom=-0.05)
        axis.set_ylabel(label)
    return figure
