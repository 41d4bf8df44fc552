"""Rules that catch areas nobody should average unseen.

The limits are wide on purpose: they find failures, not disease. They bracket the
areas reported for the healthy and atrophied human cord from C1 to the conus.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sctseg7t.measure.columns import TISSUES

if TYPE_CHECKING:
    from sctseg7t.measure.csa import CsaTable

# Flags that say part of the tissue was cut off: such a slice enters no mean.
TRUNCATED = frozenset({"touches_window_edge", "touches_image_edge"})

JUMP_FRACTION = 0.25
JUMP_MM2 = 8.0
JUMP_REACH = 4
GM_SC_RATIO = (0.08, 0.5)
SC_AREA_MM2 = (20.0, 150.0)


@dataclass(frozen=True)
class AreaWarning:
    """One finding: `flag` for machines, `text` for people."""

    flag: str
    slice: int
    tissue: str
    text: str


def check_areas(table: CsaTable) -> list[AreaWarning]:
    """List what looks wrong in a :class:`~sctseg7t.measure.csa.CsaTable`.

    - ``empty_<tissue>``: the slice holds none of the tissue.
    - ``sc_area_jump``: SC differs from its neighbours (see :func:`usual_area`) by more than 25 % and
      more than 8 mm2.
    - ``sc_area_implausible``: SC outside 20..150 mm2.
    - ``gm_sc_ratio_implausible``: GM outside 8..50 % of SC (flag on GM).

    Areas are uncorrected, so that the rules do not depend on the centreline.
    `measure_csa` puts the same flags in the rows.

    Returns
    -------
    list of AreaWarning
        By slice, then tissue.
    """
    area, found = {}, []

    def add(flag, k, tissue, text):
        found.append(AreaWarning(flag, k, tissue, f"slice {k}: {text}"))

    for row in table.rows:
        area.setdefault(row.tissue, {})[row.slice] = row.area_mm2
        if "empty" in row.reason:
            add(f"empty_{row.tissue}", row.slice, row.tissue, f"no {row.tissue} found")
    cord = {k: value for k, value in area.get("SC", {}).items() if value is not None}
    for k, value in cord.items():
        usual = usual_area(k, cord)
        if usual is not None and abs(value - usual) > max(JUMP_MM2, JUMP_FRACTION * usual):
            add("sc_area_jump", k, "SC", f"SC {value:.1f} mm2, its neighbours {usual:.1f} mm2")
        low, high = SC_AREA_MM2
        if not low <= value <= high:
            add("sc_area_implausible", k, "SC", f"SC {value:.1f} mm2 is outside {low:.0f} to {high:.0f} mm2")
        gm = area.get("GM", {}).get(k)
        low, high = GM_SC_RATIO
        if gm is not None and not low <= gm / value <= high:
            text = f"GM is {100 * gm / value:.1f} % of SC (expected {100 * low:.0f} to {100 * high:.0f} %)"
            add("gm_sc_ratio_implausible", k, "GM", text)
    return sorted(found, key=lambda warning: (warning.slice, TISSUES.index(warning.tissue)))


def usual_area(k: int, areas: Mapping[int, float]) -> float | None:
    """The area to expect of a slice: the median of its neighbours.

    The neighbours are the four nearest slices at most JUMP_REACH away. Of an even number the nearer of the two
    middle values counts, so that one bad slice does not accuse the good ones around it.

    Parameters
    ----------
    k : int
        The slice.
    areas : dict of int to float
        Areas by slice, of `k` itself too; slices without tissue are not in it.

    Returns
    -------
    float or None
        None with fewer than two neighbours.
    """
    near = sorted((abs(m - k), m) for m in areas if 0 < abs(m - k) <= JUMP_REACH)[:4]
    if len(near) < 2:
        return None
    ordered = sorted(areas[m] for _, m in near)
    middle = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return min(middle, key=lambda area: abs(areas[k] - area))
