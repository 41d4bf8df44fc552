"""Means over the slices of a vertebral level, or of all slices."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from sctseg7t.measure.columns import CSA_MEASURES, names
from sctseg7t.measure.csa_row import REASONS, CsaRow
from sctseg7t.measure.flags import NOT_AVERAGED

MEASURES = names(CSA_MEASURES)


@dataclass(frozen=True)
class LevelRow:
    """One tissue over the slices of a vertebral level, or of all slices ("all").

    `mean` and `sd` map each name of MEASURES to a float or None. Slices that are
    empty, or flagged with one of NOT_AVERAGED, count in `n_slices`, not in `n_averaged` nor in any mean; those that
    are averaged are in `slices`. The SD has n - 1 in its denominator. Orientations are averaged as
    axes (179 and 1 degrees give 0). `length_mm` sums the slices' lengths along the
    centreline, those too.
    """

    tissue: str
    level: int | str
    n_slices: int
    n_averaged: int
    length_mm: float | None
    mean: dict[str, float | None]
    sd: dict[str, float | None]
    reason: tuple[str, ...] = ()
    slices: tuple[int, ...] = ()


def level_means(rows: Iterable[CsaRow]) -> tuple[LevelRow, ...]:
    """A row for each level, ascending, and "all" at the end; of each the tissues in the order of the rows."""
    rows = list(rows)
    tissues = dict.fromkeys(row.tissue for row in rows)
    groups = sorted({row.level for row in rows if row.level is not None})
    return tuple(
        _level_row(tissue, group, [r for r in rows if r.tissue == tissue and group in (r.level, "all")])
        for group in (*groups, "all")
        for tissue in tissues
    )


def _level_row(tissue, level, members):
    measured = [row for row in members if row.area_mm2 is not None]
    whole = [row for row in measured if not NOT_AVERAGED.intersection(row.flags)]
    mean, sd = {}, {}
    for name in MEASURES:
        values = np.array([v for row in whole if (v := getattr(row, name)) is not None])
        mean[name], sd[name] = _mean_sd(values, axial=name == "orientation_deg")
    lengths = [row.length_mm for row in measured]
    length = None if not lengths or None in lengths else sum(lengths)
    codes = {code for row in measured for code in row.reason}
    reason = [code for code in REASONS if code in codes]
    if len(whole) < 2:
        reason.append("single_value" if whole else "no_value")
    slices = tuple(row.slice for row in whole)
    return LevelRow(tissue, level, len(members), len(whole), length, mean, sd, tuple(reason), slices)


def _mean_sd(values, axial):
    """Mean and standard deviation (n - 1); of the angles of axes if `axial`: 179 and 1 degrees give 0."""
    if not len(values):
        return None, None
    mean = values.mean()
    spread = values - mean
    if axial:
        mean = 0.5 * np.degrees(np.angle(np.exp(2j * np.radians(values)).sum()))
        spread = (values - mean + 90) % 180 - 90
    sd = float(np.sqrt(np.sum(spread**2) / (len(values) - 1))) if len(values) > 1 else None
    return float(mean), sd
