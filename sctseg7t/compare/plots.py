"""Figures of a comparison: distributions, subjects by method, Bland-Altman of areas and loads; for page and papers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sctseg7t.compare.analysis import size_pairs
from sctseg7t.compare.cells import colour_of, count, number, pair_name
from sctseg7t.compare.metrics import Metric, metric_named, metrics_of, primary_of
from sctseg7t.compare.report_tables import TOO_FEW, sizes_of
from sctseg7t.compare.types import LESION, STRUCTURES, Comparison
from sctseg7t.report import plotting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The palette in the order of the page's style sheet.
COLOURS = {f"m{n}": plotting.PALETTE[place] for n, place in enumerate((5, 4, 2, 3, 1, 0))} | {"pair": "#777777"}
# Inches of a figure that uses the page's column, and of one that shares it. More panels do not make them narrower.
_WIDE, _HALF, _LEAST = 12.0, 5.9, 2.2
# More subjects than this are not told apart by colour; more methods than this have slanted names.
_SUBJECTS, _METHODS = 14, 4
_MARKS = "os"
_LONGEST = 15


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure, the name of its files, and where it stands in the report.

    Attributes
    ----------
    name : str
    section : str
        ``main``, ``study``, ``areas``, ``lesions`` or ``load``.
    title : str
    text : str
        What it shows, for those who cannot see it.
    figure : Figure
    """

    name: str
    section: str
    title: str
    text: str
    figure: Figure


def plots(comparison: Comparison) -> Iterator[Plot]:
    """Every figure of a comparison that has something to show."""
    for section in ("main", "study"):
        for metric in metrics_of("SC"):
            if metric.plot == section:
                yield from _violins(comparison, comparison.structures, metric, section)
        if section == "main":
            yield from _slopes(comparison, comparison.structures, "main")
    for metric in metrics_of(LESION):
        if metric.plot and comparison.has_lesions:
            yield from _violins(comparison, (LESION,), metric, "lesions")
    if comparison.has_lesions:
        yield from _slopes(comparison, (LESION,), "lesions")
    for structure in comparison.structures:
        yield from _bland_altman(comparison, structure, f"bland_altman_{structure}", "areas")
    yield from _bland_altman(comparison, LESION, "bland_altman_lesion_load", "load")


def _panels(count_: int, things: int) -> float:
    """Width of each of some panels that show so many things in all."""
    return max(_LEAST, (_WIDE if things > 4 else _HALF) / count_)


def _rows_of(comparison: Comparison, structure: str) -> pd.DataFrame:
    """Rows of slices, or of scans of lesions."""
    return comparison.lesion_rows if structure == LESION else comparison.slices(structure)


# --- distributions -----------------------------------------------------------------------


def _violins(comparison: Comparison, structures: Sequence[str], metric: Metric, section: str) -> Iterator[Plot]:
    """A panel a structure, a violin a pair of masks; slices in which the metric is not defined stand apart."""
    found = {}
    for structure in structures:
        rows = _rows_of(comparison, structure)
        samples = []
        for method, against in comparison.pairs_of(structure):
            values = rows[(rows.method == method) & (rows.against == against)][metric.key]
            finite = np.isfinite(values)
            lost = values[~finite] if structure != LESION else values[:0]
            samples.append(((method, against), np.sort(values[finite]), lost.to_numpy()))
        if any(len(kept) for _, kept, _ in samples):
            found[structure] = samples
    if not found:
        return
    most = max(map(len, found.values()))
    figure, axes = plotting.new_figure(1, len(found), _panels(len(found), sum(map(len, found.values()))), 3.6)
    texts = []
    for axis, (structure, samples) in zip(axes[0], found.items()):
        short, told = [], []
        for pair, kept, lost in samples:
            label = pair_name(comparison, *pair)
            undefined = f"\n{len(lost)} without" if len(lost) else ""
            short.append(f"{_short(label)}\nn {len(kept)}{undefined}")
            median = number(float(np.median(kept)), f".{metric.digits}f") if len(kept) else ""
            more = f", {len(lost)} not defined" if len(lost) else ""
            told.append(f"{label} " + (f"median {median} of {len(kept)}{more}" if len(kept) else "has no value"))
        plotting.violins(
            axis,
            [kept for _, kept, _ in samples],
            short,
            colours=[COLOURS[_colour(comparison, *pair)] for pair, _, _ in samples],
            outliers=[lost for _, _, lost in samples],
            outliers_above=metric.better == "low",
            outliers_label="not defined",
            within=metric.bounds,
        )
        _method_labels(axis, most)
        axis.set_title("Lesions" if structure == LESION else structure)
        axis.set_ylabel(metric.header())
        if metric.better == "zero":
            axis.axhline(0, color="0.5", linewidth=0.7, zorder=0)
        texts.append(f"{STRUCTURES[structure]}: {'; '.join(told)}")
    name = f"violins_{'lesion_' if section == 'lesions' else ''}{metric.key.removesuffix('_mm')}"
    yield Plot(name, section, metric.header(), f"{metric.header()} by method. {'. '.join(texts)}", figure)


def _colour(comparison: Comparison, method: str, against: str) -> str:
    """The method's, or that of a pair of methods."""
    return colour_of(comparison, method) if against == comparison.reference else "pair"


def _short(label: str) -> str:
    """A method's name on lines that are not too long, cut where it has too many."""
    words = re.findall(r"[^\s_-]+[\s_-]*|[\s_-]+", label)
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > _LONGEST:
            lines.append("")
        lines[-1] += word
    lines = [line.strip() for line in lines]
    lines = [line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…" for line in lines]
    return "\n".join(lines[:3]) + ("…" if len(lines) > 3 else "")


def _method_labels(axis: Axes, methods: int) -> None:
    """Names of methods below an axis: upright where there is room."""
    for label in axis.get_xticklabels():
        label.set(fontsize=9, parse_math=False)
        if methods > _METHODS:
            label.set(rotation=30, ha="right")


# --- subjects ----------------------------------------------------------------------------


def _slopes(comparison: Comparison, structures: Sequence[str], section: str) -> Iterator[Plot]:
    """A panel a structure, a line a subject: its value of the primary measure with each method."""
    found = {}
    for structure in structures:
        metric = metric_named(structure, primary_of(structure, comparison.settings.primary))
        rows = _rows_of(comparison, structure)
        centre = "median" if metric.is_distance else "mean"
        table = rows[rows.against == (comparison.reference or "")].groupby(["subject", "method"], sort=False)[
            metric.key
        ]
        values = table.agg(centre).unstack()
        values = values.reindex(columns=[m for m in comparison.methods if m in values])
        if values.shape[1] > 1 and len(values):
            found[structure] = metric, values
    if not found:
        return
    figure, axes = plotting.new_figure(1, len(found), _panels(len(found), len(found) + 2), 3.6)
    looks, texts = subject_looks(comparison), []
    for axis, (structure, (metric, values)) in zip(axes[0], found.items()):
        for subject, line in values.iterrows():
            finite = line.where(np.isfinite(line))
            axis.plot(range(len(line)), finite, label=str(subject), linewidth=1.2, markersize=5, **looks[str(subject)])
        axis.set_xticks(range(values.shape[1]), [_short(str(method)) for method in values.columns])
        axis.set_xlim(-0.3, values.shape[1] - 0.7)
        _method_labels(axis, values.shape[1])
        axis.set_title("Lesions" if structure == LESION else structure)
        axis.set_ylabel(f"{metric.header()}, a subject's {'median' if metric.is_distance else 'mean'}")
        means = ", ".join(f"{m} {number(float(values[m].mean()), f'.{metric.digits}f')}" for m in values.columns)
        texts.append(f"{STRUCTURES[structure]}, {count(len(values), 'subject')}: mean {means}")
    _legend(figure, axes[0][-1], len(looks))
    name = "subjects_lesion" if section == "lesions" else "subjects"
    title = f"Subjects: {next(iter(found.values()))[0].label} with each method"
    yield Plot(name, section, title, f"{title}, a line a subject. {'. '.join(texts)}", figure)


def subject_looks(comparison: Comparison) -> dict[str, dict[str, str]]:
    """Colour and marker of each subject, the same in all figures; one for all where there are many."""
    subjects = list(dict.fromkeys(case.subject or case.name for case in comparison.cases))
    if len(subjects) > _SUBJECTS:
        return {subject: {"color": "0.35", "marker": "o"} for subject in subjects}
    # The last two of the palette are black and a yellow that does not show on white.
    colours = plotting.PALETTE[:7]
    return {
        subject: {"color": colours[k % len(colours)], "marker": _MARKS[k // len(colours)]}
        for k, subject in enumerate(subjects)
    }


def _legend(figure: Figure, axis: Axes, subjects: int) -> None:
    """Whose the colours are, on the right of a figure; not where all are one."""
    handles, labels = axis.get_legend_handles_labels()
    if 1 < len(handles) and subjects <= _SUBJECTS:
        legend = figure.legend(handles, labels, loc="outside right upper", fontsize=9, title="subject", frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)


# --- Bland-Altman ------------------------------------------------------------------------


def _bland_altman(comparison: Comparison, structure: str, name: str, section: str) -> Iterator[Plot]:
    """A panel a pair of masks, dots in the colour of their subject; one scale for all pairs."""
    rows = comparison.lesion_rows if structure == LESION else comparison.rows
    shown = [
        (pair, sizes_of(comparison, structure, *pair), size_pairs(rows, structure, *pair))
        for pair in comparison.pairs_of(structure)
    ]
    shown = [one for one in shown if one[1] and np.isfinite(one[1]["sd"])]
    if not shown:
        return
    unit, what = ("mL", "loads") if structure == LESION else ("mm²", "CSA")
    of = "method − reference" if comparison.reference else "first − second"
    columns = min(len(shown), 3)
    lines = -(-len(shown) // columns)
    width = _panels(columns, 2 * columns + 1)
    figure, axes = plotting.new_figure(lines, columns, width, 3.8, sharey="all", sharex="all")
    texts, looks = [], subject_looks(comparison)
    for axis in axes.flat[len(shown) :]:
        axis.set_visible(False)
    for axis, (pair, numbers, both) in zip(axes.flat, shown):
        label = pair_name(comparison, *pair)
        # Limits of few subjects are withheld, as in the tables.
        shown_lines = ("lower", "bias", "upper") if numbers["subjects"] >= TOO_FEW else ("bias",)
        plotting.bland_altman(
            axis,
            ((both["first"] + both["second"]) / 2).to_numpy(float),
            (both["first"] - both["second"]).to_numpy(float),
            lines=[line for line, key in zip(limits(numbers), ("upper", "bias", "lower")) if key in shown_lines],
            unit=unit,
            groups=both.subject.astype(str).to_numpy(),
            looks=looks,
        )
        axis.set_ylabel(f"{of} ({unit})")
        axis.set_xlabel(f"mean of the two {what} ({unit})")
        people = count(numbers["subjects"], "subject")
        axis.set_title(f"{structure}: {label} (n {numbers['n']}, {people})", fontsize=9, parse_math=False)
        told = ", ".join(f"{key} {number(numbers[key], '+.2f')} {unit}" for key in shown_lines)
        texts.append(f"{label}, {numbers['n']} pairs of {people}: {told}")
    _legend(figure, axes.flat[0], len(looks))
    title = "Lesion load" if structure == LESION else f"{structure}, {STRUCTURES[structure]}"
    yield Plot(name, section, title, f"Bland-Altman plots of {title}. {'. '.join(texts)}", figure)


def limits(numbers: dict[str, float]) -> list[tuple[str, float, float]]:
    """(name, value, half of its confidence interval) of the upper limit, the bias and the lower limit."""
    return [
        (name, numbers[key], (numbers[f"{key}_high"] - numbers[f"{key}_low"]) / 2)
        for name, key in (("+1.96 SD", "upper"), ("bias", "bias"), ("−1.96 SD", "lower"))
    ]
