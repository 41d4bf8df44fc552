"""Pictures of a cohort: areas along the cord by group, and how each measure is distributed."""

import csv
import statistics
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.measure.checks import TRUNCATED

# Okabe and Ito's colours, told apart by all kinds of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
_LABELS = {
    "area_mm2": "area, mm²",
    "area_corrected_mm2": "corrected area, mm²",
    "diameter_ap_mm": "AP diameter, mm",
    "diameter_rl_mm": "RL diameter, mm",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "angle_ap_deg": "angle AP, °",
    "angle_rl_deg": "angle RL, °",
}
_AREA = "area_corrected_mm2"


def draw_cohort(out, group=None):
    """Draw ``cohort_csa`` and ``cohort_measures``, PNG and SVG, from the tables in a folder.

    ``cohort_csa``: mean area by vertebral level where there are levels, else by slice, with a band of one SD over the
    subjects, a line a group. ``cohort_measures``: a violin of the subjects' means of each measure, a group each.
    A subject with several scans counts once; slices that an edge cuts are left out.

    Parameters
    ----------
    out : path
        Folder with ``cohort_slices.csv``; pictures go to ``figures`` in it.
    group : str, optional
        Column to part the subjects by.

    Returns
    -------
    list of Path

    Raises
    ------
    UsageError
        No matplotlib, no such column, or no slice to draw.
    """
    try:
        import matplotlib
    except ImportError as err:
        raise UsageError("-figures: needs matplotlib; pip install 'sctseg7t[figures]'") from err
    rows = list(_rows(Path(out) / "cohort_slices.csv", group))
    if not rows:
        raise UsageError(f"-figures: {out} has no measured slice to draw")
    folder = Path(out) / "figures"
    folder.mkdir(exist_ok=True)
    # Text stays text in SVG, and the same data make the same file.
    settings = {"svg.fonttype": "none", "svg.hashsalt": "sctseg7t", "font.size": 9, "axes.spines.top": False,
                "axes.spines.right": False}  # fmt: skip
    with matplotlib.rc_context(settings):
        return [
            path
            for name, figure in (("cohort_csa", _draw_areas(rows)), ("cohort_measures", _draw_measures(rows)))
            for path in _save(figure, folder / name)
        ]


def _rows(path, group):
    """Measured rows of the slice table: only what is drawn, as numbers."""
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if group and group not in (reader.fieldnames or ()):
            raise UsageError(f"-group {group}: is no column of {path}")
        for row in reader:
            if row["area_mm2"] and not TRUNCATED & set(row["flags"].split(";")):
                yield {
                    "subject": row["subject"] or row["scan"],
                    "group": (row[group] or "unknown") if group else "all",
                    "tissue": row["tissue"],
                    "level": int(row["level"]) if row["level"] else None,
                    "slice": int(row["slice"]),
                    **{name: float(row[name]) for name in _LABELS if row[name]},
                }


def _tissues(rows):
    return [tissue for tissue in ("SC", "GM", "WM") if any(row["tissue"] == tissue for row in rows)]


def _groups(rows):
    return sorted({row["group"] for row in rows})


def _means(rows, measure, *keys):
    """Mean of a measure over the rows that share the keys."""
    sums = {}
    for row in rows:
        if measure in row:
            total = sums.setdefault(tuple(row[key] for key in keys), [0.0, 0])
            total[0] += row[measure]
            total[1] += 1
    return {key: total / count for key, (total, count) in sums.items()}


def _figure(columns, lines, width, height):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * lines), layout="constrained")
    return figure, figure.subplots(lines, columns, squeeze=False)


def _draw_areas(rows):
    import numpy as np

    place = "level" if any(row["level"] is not None for row in rows) else "slice"
    measure = _AREA if any(_AREA in row for row in rows) else "area_mm2"
    tissues, groups = _tissues(rows), _groups(rows)
    figure, axes = _figure(len(tissues), 1, 3.4, 3.0)
    for axis, tissue in zip(axes[0], tissues):
        for number, name in enumerate(groups):
            chosen = [r for r in rows if (r["tissue"], r["group"]) == (tissue, name) and r[place] is not None]
            by_place = {}
            for (_, at), mean in _means(chosen, measure, "subject", place).items():
                by_place.setdefault(at, []).append(mean)
            at = sorted(by_place)
            if not at:
                continue
            means = np.array([np.mean(by_place[x]) for x in at])
            spread = np.array([np.std(by_place[x], ddof=1) if len(by_place[x]) > 1 else 0.0 for x in at])
            colour = COLOURS[number % len(COLOURS)]
            subjects = len({r["subject"] for r in chosen})
            axis.plot(at, means, color=colour, marker="o", markersize=3, linewidth=1.2, label=f"{name} (n={subjects})")
            axis.fill_between(at, means - spread, means + spread, color=colour, alpha=0.2, linewidth=0)
        axis.set_title(tissue)
        axis.set_xlabel("vertebral level" if place == "level" else "slice, inferior to superior")
        axis.set_ylim(bottom=0)
        if place == "level":
            # Superior at the left, as the levels are numbered.
            axis.set_xticks(sorted({row[place] for row in rows if row[place] is not None}))
    axes[0][0].set_ylabel(_LABELS[measure])
    axes[0][0].legend(frameon=False, fontsize=8)
    return figure


def _draw_measures(rows):
    tissues, groups = _tissues(rows), _groups(rows)
    figure, axes = _figure(len(_LABELS), len(tissues), 1.3 + 0.25 * len(groups), 2.0)
    for line, tissue in zip(axes, tissues):
        for axis, (measure, label) in zip(line, _LABELS.items()):
            if measure.startswith("angle") and tissue != tissues[0]:
                # Of the centre line: the same for every tissue.
                axis.set_visible(False)
                continue
            for number, name in enumerate(groups):
                chosen = [r for r in rows if (r["tissue"], r["group"]) == (tissue, name)]
                values = sorted(_means(chosen, measure, "subject").values())
                if values:
                    _violin(axis, number, values, COLOURS[number % len(COLOURS)])
            axis.set_xticks([])
            axis.set_xlim(-0.7, len(groups) - 0.3)
            axis.set_title(f"{tissue} {label}", fontsize=8)
    if len(groups) > 1:
        handles = [_patch(COLOURS[k % len(COLOURS)]) for k in range(len(groups))]
        figure.legend(handles, groups, loc="outside lower center", ncols=min(len(groups), 6), frameon=False)
    return figure


def _violin(axis, at, values, colour):
    """Each value as a dot, their median as a line, and a violin where there are enough for one."""
    if len(values) > 4 and values[0] < values[-1]:
        for body in axis.violinplot([values], [at], widths=0.8, showextrema=False)["bodies"]:
            body.set(facecolor=colour, alpha=0.3)
    # Spread sideways by rank, not by chance: the same data make the same picture.
    aside = [0.0 if len(values) == 1 else 0.06 * (k % 5 - 2) for k in range(len(values))]
    axis.plot([at + x for x in aside], values, ".", color=colour, markersize=4)
    axis.plot([at - 0.3, at + 0.3], [statistics.median(values)] * 2, color=colour, linewidth=1.5)


def _patch(colour):
    from matplotlib.patches import Patch

    return Patch(facecolor=colour)


def _save(figure, stem):
    import io

    from sctseg7t.files import write_bytes

    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
        stream = io.BytesIO()
        figure.savefig(stream, format=kind, dpi=150, metadata=metadata)
        yield write_bytes(stem.with_suffix(f".{kind}"), stream.getvalue())
