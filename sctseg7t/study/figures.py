"""Figures of a study: a box, a violin and every scan of each method, and the learning curve over patients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.report import plotting
from sctseg7t.study.analysis import Findings
from sctseg7t.study.collect import rows_of
from sctseg7t.study.people import ALL

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MARKS = "osD^vP*X"


def figures(findings: Findings) -> Iterator[tuple[str, str, Figure]]:
    """Name, words for those who cannot see it, and figure."""
    for of in findings.comparisons:
        structures = list(dict.fromkeys(findings.methods[findings.methods["set"] == of].structure))
        if structures:
            yield _distributions(findings, of, structures)
    if findings.curve.patients.nunique() > 1:
        yield from _curves(findings)


def _distributions(findings: Findings, of: str, structures: list[str]) -> tuple[str, str, Figure]:
    """A row a structure: slices as violin and box, and scans, each the mean of its slices, as points."""
    compared = findings.comparisons[of]
    count = len(compared.methods)
    figure, axes = plotting.new_figure(len(structures), 1, max(6.0, 1.1 * count + 1), 3.2)
    people = sorted({case.subject or case.name for case in compared.cases})
    for axis, structure in zip(axes[:, 0], structures):
        rows = rows_of(compared, structure)
        names = [name for name in compared.methods if (rows.method == name).any()]
        own = [rows[rows.method == name] for name in names]
        groups = [np.sort(some[some.outlier.isin(("", "dice"))].dice) for some in own]
        lost = [some[~some.outlier.isin(("", "dice"))].dice.to_numpy() for some in own]
        labels = [f"{_lines(name)}\n{(some.outlier != '').sum()} outliers" for name, some in zip(names, own)]
        plotting.violins(axis, groups, labels, outliers=lost, outliers_label="missing", within=(0, 1))
        # What is not above it is an outlier, as in the 2021 study.
        axis.axhline(compared.settings.failure_dice, color="0.5", linewidth=0.7, linestyle="--", zorder=0)
        for place, name in enumerate(names):
            scans = rows[rows.method == name].groupby(["subject", "scan", "case"]).dice.mean().reset_index()
            for number, person in enumerate(people):
                shown = scans[scans.subject == person].dice.to_numpy()
                look = {"marker": _MARKS[number % len(_MARKS)], "color": "black", "markerfacecolor": "white"}
                axis.plot(np.full(len(shown), place + 0.36), shown, linestyle="", markersize=4, **look)
        for label in axis.get_xticklabels():
            label.set_parse_math(False)
        axis.set_ylabel(f"{structure}: Dice")
    told = ", ".join(f"{person} {_NAMES[k % len(_NAMES)]}" for k, person in enumerate(people[: len(_NAMES)]))
    title = f"{of}: slices as violin, box and dots; white marks are scans" + (f" ({told})" if len(people) < 7 else "")
    figure.suptitle(title, fontsize=9)
    return f"dice_{of}", f"Dice by method, {of}: {title}", figure


def _lines(name: str) -> str:
    """A method's name on lines of its parts."""
    return name.replace("+", "+\n").replace(", ", ",\n")


_NAMES = ("circles", "squares", "diamonds", "triangles", "triangles down", "crosses")


def _curves(findings: Findings) -> Iterator[tuple[str, str, Figure]]:
    for of in findings.comparisons:
        curve = findings.curve[findings.curve["set"] == of]
        structures = list(dict.fromkeys(curve.structure))
        if not structures:
            continue
        figure, axes = plotting.new_figure(1, len(structures), 4.6, 3.6)
        amounts = list(dict.fromkeys(curve.patients))
        for axis, structure in zip(axes[0], structures):
            for number, name in enumerate(dict.fromkeys(curve.method)):
                own = curve[(curve.structure == structure) & (curve.method == name)]
                places = [amounts.index(value) for value in own.patients]
                colour = plotting.PALETTE[number % 7]
                band = np.nan_to_num(own.seed_sd.to_numpy(float))
                plotting.curve(axis, places, own.mean_kept, spread=band, colour=colour, label=name, marker="o")
            axis.set_xticks(range(len(amounts)), ["all" if n == ALL else str(n) for n in amounts])
            axis.set_xlabel("people trained on")
            axis.set_ylabel(f"{structure}: mean Dice, failures as 0")
        legend = axes[0][-1].legend(fontsize=9, frameon=False)
        for text in legend.get_texts():
            text.set_parse_math(False)
        yield f"curve_{of}", f"Learning curve, {of}: mean Dice by people trained on; bands: SD over seeds", figure
