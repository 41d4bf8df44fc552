"""Pictures of a cohort: areas along the cord by group, how each measure is distributed, and lesion loads."""

import csv
import statistics
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.measure.checks import TRUNCATED
from sctseg7t.measure.columns import CSA_MEASURES, LOAD_COLUMNS, TISSUES

# Okabe and Ito's colours, told apart by all kinds of colour vision.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#F0E442")
# The angles come last: they are those of the centre line, the same for every tissue.
_LABELS = {
    column.name: column.title
    for column in sorted(CSA_MEASURES, key=lambda column: column.name.startswith("angle"))
    if column.label
}
_AREA = "area_corrected_mm2"
_TICKS = (0, 0.5, *(step * ten for ten in (1, 10, 100, 1000) for step in (1, 2, 5)))
_LESIONS = {column.name: column.title for column in LOAD_COLUMNS if column.label}


def draw_cohort(out, group=None):
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
    try:
        import matplotlib
    except ImportError as err:
        raise UsageError("-figures: needs matplotlib; pip install 'sctseg7t[figures]'") from err
    rows = list(_rows(Path(out) / "cohort_slices.csv", group))
    loads = list(_loads(Path(out) / "cohort_scans.csv", group))
    if not rows and not loads:
        raise UsageError(f"-figures: {out} has no measured slice and no lesion load to draw")
    folder = Path(out) / "figures"
    folder.mkdir(exist_ok=True)
    # Text stays text in SVG, and the same data make the same file.
    settings = {
        "svg.fonttype": "none",
        "svg.hashsalt": "sctseg7t",
        "font.size": 9,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    drawn = {
        "cohort_csa": (_draw_areas, rows),
        "cohort_measures": (_draw_measures, rows),
        "cohort_lesions": (_draw_lesions, loads),
    }
    with matplotlib.rc_context(settings):
        return [path for name, (draw, data) in drawn.items() if data for path in _save(draw(data), folder / name)]


def _read(path, group):
    """Rows of a table that has the column to part by; none if there is no such table."""
    if not path.is_file():
        return
    with open(path, encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        if group and group not in (reader.fieldnames or ()):
            raise UsageError(f"-group {group}: is no column of {path}")
        for row in reader:
            yield {
                **row,
                "subject": row["subject"] or row["scan"],
                "group": (row[group] or "unknown") if group else "all",
            }


def _rows(path, group):
    """Measured rows of the slice table: only what is drawn, as numbers."""
    for row in _read(path, group):
        if row["area_mm2"] and not TRUNCATED & set(row["flags"].split(";")):
            yield {
                **{name: row[name] for name in ("subject", "group", "tissue")},
                "level": int(row["level"]) if row["level"] else None,
                "slice": int(row["slice"]),
                **{name: float(row[name]) for name in _LABELS if row[name]},
            }


def _loads(path, group):
    """Rows of the scan table that have a lesion load: only what is drawn, as numbers."""
    for row in _read(path, group):
        if row.get("load_ml"):
            yield {
                **{name: row[name] for name in ("subject", "group")},
                **{name: float(row[name]) for name in _LESIONS},
            }


def _tissues(rows):
    return [tissue for tissue in TISSUES if any(row["tissue"] == tissue for row in rows)]


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


def _draw_lesions(rows):
    groups = _groups(rows)
    figure, axes = _figure(len(_LESIONS), 1, 1.8 + 0.5 * len(groups), 3.0)
    for axis, (measure, label) in zip(axes[0], _LESIONS.items()):
        named = []
        for number, name in enumerate(groups):
            values = sorted(_means([r for r in rows if r["group"] == name], measure, "subject").values())
            _box(axis, number, values, COLOURS[number % len(COLOURS)])
            named.append(f"{name}\n(n={len(values)})")
        # Linear up to 1, for a scan may have no lesion.
        axis.set_yscale("symlog", linthresh=1)
        top = max((row[measure] for row in rows), default=0)
        axis.set_yticks([tick for tick in _TICKS if tick <= max(top, 1)])
        axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(bottom=-0.05)
        axis.set_xticks(range(len(groups)), named)
        axis.set_xlim(-0.7, len(groups) - 0.3)
        axis.set_ylabel(label)
    return figure


def _box(axis, at, values, colour):
    """Each value as a dot beside a box from quartile to quartile with the median as a line."""
    if len(values) > 4:
        quartiles = dict(zip(("q1", "med", "q3"), statistics.quantiles(values, n=4, method="inclusive")))
        box = {**quartiles, "whislo": values[0], "whishi": values[-1], "fliers": []}
        line = {"color": colour}
        axis.bxp(
            [box],
            [at - 0.18],
            widths=0.3,
            showfliers=False,
            manage_ticks=False,
            boxprops=line,
            whiskerprops=line,
            capprops=line,
            medianprops={**line, "linewidth": 2},
        )
    _dots(axis, at + 0.22, values, colour)


def _dots(axis, at, values, colour):
    # Spread sideways by rank, not by chance: the same data make the same picture.
    aside = [0.0 if len(values) == 1 else 0.06 * (k % 5 - 2) for k in range(len(values))]
    axis.plot([at + x for x in aside], values, ".", color=colour, markersize=4)


def _violin(axis, at, values, colour):
    """Each value as a dot, their median as a line, and a violin where there are enough for one."""
    if len(values) > 4 and values[0] < values[-1]:
        for body in axis.violinplot([values], [at], widths=0.8, showextrema=False)["bodies"]:
            body.set(facecolor=colour, alpha=0.3)
    _dots(axis, at, values, colour)
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
