"""Figures of a comparison: distributions of each metric, Bland-Altman of areas and loads; for page and papers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sctseg7t.compare.analysis import size_pairs
from sctseg7t.compare.metrics import Metric, metrics_of
from sctseg7t.compare.report_tables import colour_of, number, pair_name, sizes_of
from sctseg7t.compare.types import LESION, STRUCTURES, Comparison
from sctseg7t.report import plotting

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The palette in the order of the page's style sheet.
COLOURS = {f"m{n}": plotting.PALETTE[place] for n, place in enumerate((5, 4, 2, 3, 1, 0))} | {"pair": "#777777"}


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
    for metric in metrics_of(LESION):
        if metric.plot and comparison.has_lesions:
            yield from _violins(comparison, (LESION,), metric, "lesions")
    for structure in comparison.structures:
        yield from _bland_altman(comparison, structure, f"bland_altman_{structure}", "areas")
    yield from _bland_altman(comparison, LESION, "bland_altman_lesion_load", "load")


# --- distributions -----------------------------------------------------------------------


def _violins(comparison: Comparison, structures: Sequence[str], metric: Metric, section: str) -> Iterator[Plot]:
    """A panel a structure, a violin a pair of masks; values of outlier slices stand apart."""
    found = {}
    for structure in structures:
        rows = comparison.lesion_rows if structure == LESION else comparison.slices(structure)
        out = rows.outlier != "" if structure != LESION else pd.Series(False, rows.index)
        samples = []
        for method, against in comparison.pairs_of(structure):
            own = (rows.method == method) & (rows.against == against)
            values = rows[metric.key]
            kept, lost = values[own & ~out & np.isfinite(values)], values[own & out & values.notna()]
            samples.append(((method, against), np.sort(kept), np.sort(lost)))
        if any(len(kept) for _, kept, _ in samples):
            found[structure] = samples
    if not found:
        return
    figure, axes = plotting.new_figure(1, len(found), 1.4 + 0.8 * max(map(len, found.values())), 3.4)
    texts = []
    for axis, (structure, samples) in zip(axes[0], found.items()):
        short, told = [], []
        for pair, kept, lost in samples:
            label = pair_name(comparison, *pair)
            outliers = f", outliers {len(lost)}" if len(lost) else ""
            short.append(f"{label if len(label) <= 24 else f'{label[:23]}…'}\nn {len(kept)}{outliers}")
            median = number(float(np.median(kept)), f".{metric.digits}f") if len(kept) else ""
            words = f"median {median} of {len(kept)}, {len(lost)} outliers" if len(kept) else "has no value"
            told.append(f"{label} {words}")
        plotting.violins(
            axis,
            [kept for _, kept, _ in samples],
            short,
            colours=[COLOURS[_colour(comparison, *pair)] for pair, _, _ in samples],
            outliers=[lost for _, _, lost in samples],
            outliers_above=metric.better == "low",
        )
        for label in axis.get_xticklabels():
            label.set(rotation=30, ha="right", parse_math=False)
        axis.set_title(structure)
        axis.set_ylabel(metric.header())
        if metric.better == "zero":
            axis.axhline(0, color="0.5", linewidth=0.7, zorder=0)
        texts.append(f"{STRUCTURES[structure]}: {'; '.join(told)}")
    name = f"violins_{'lesion_' if section == 'lesions' else ''}{metric.key.removesuffix('_mm')}"
    yield Plot(name, section, metric.header(), f"{metric.header()} by method. {'. '.join(texts)}", figure)


def _colour(comparison: Comparison, method: str, against: str) -> str:
    """The method's, or that of a pair of methods."""
    return colour_of(comparison, method) if against == comparison.reference else "pair"


# --- Bland-Altman ------------------------------------------------------------------------


def _bland_altman(comparison: Comparison, structure: str, name: str, section: str) -> Iterator[Plot]:
    """A column a pair of masks; areas also in percent, loads, which can be 0, not. One scale for all pairs."""
    sizes = comparison.values[comparison.values.against == ""]
    shown = [
        (pair, sizes_of(comparison, structure, *pair), size_pairs(sizes, structure, *pair))
        for pair in comparison.pairs_of(structure)
    ]
    shown = [one for one in shown if one[1] and np.isfinite(one[1]["sd"])]
    if not shown:
        return
    unit, what = ("mL", "loads") if structure == LESION else ("mm²", "CSA")
    scales = (False,) if structure == LESION else (False, True)
    figure, axes = plotting.new_figure(len(scales), len(shown), 3.3, 2.6, sharey="row", sharex="all")
    texts = []
    for column, (pair, numbers, both) in enumerate(shown):
        label = pair_name(comparison, *pair)
        for line, percent in enumerate(scales):
            means, differences = (both["first"] + both["second"]) / 2, both["first"] - both["second"]
            plotting.bland_altman(
                axes[line][column],
                means.to_numpy(),
                (100 * differences / means if percent else differences).to_numpy(),
                lines=limits(numbers, percent),
                unit="%" if percent else unit,
                colour=COLOURS[_colour(comparison, *pair)],
                digits=1 if percent else 2,
            )
        axes[-1][column].set_xlabel(f"mean of the two {what} ({unit})")
        axes[0][column].set_title(f"{structure}: {label} (n {numbers['n']})", fontsize=8, parse_math=False)
        lines = ", ".join(f"{key} {number(numbers[key], '+.2f')} {unit}" for key in ("lower", "bias", "upper"))
        texts.append(f"{label}, {numbers['n']} pairs: {lines}")
    title = "Lesion load" if structure == LESION else f"{structure}, {STRUCTURES[structure]}"
    yield Plot(name, section, title, f"Bland-Altman plots of {title}. {'. '.join(texts)}", figure)


def limits(numbers: dict[str, float], percent: bool = False) -> list[tuple[str, float, float]]:
    """(name, value, half of its confidence interval) of the upper limit, the bias and the lower limit."""
    part = "_percent" if percent else ""
    # The intervals in percent are the same multiples of the SD.
    scale = numbers["sd_percent"] / numbers["sd"] if percent and numbers["sd"] else 1.0
    return [
        (name, numbers[key + part], scale * (numbers[f"{key}_high"] - numbers[f"{key}_low"]) / 2)
        for name, key in (("+1.96 SD", "upper"), ("bias", "bias"), ("-1.96 SD", "lower"))
    ]
