"""Rules that catch areas nobody should average unseen.

The limits are wide on purpose: they find failures, not disease. They bracket the
areas reported for the healthy and atrophied human cord from C1 to the conus.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sctseg7t.measure.columns import TISSUES

if TYPE_CHECKING:
    from sctseg7t.measure.csa import CsaRow, CsaTable

PAST_END = "past_cord_end"
EXCLUDED = "excluded"

JUMP_FRACTION = 0.25
JUMP_MM2 = 8.0
JUMP_REACH = 4
GM_SC_RATIO = (0.08, 0.5)
SC_AREA_MM2 = (20.0, 150.0)
# An end of the stack is compared with so much of the cord next to it, and with no fewer slices.
END_REACH_MM = 40.0
END_SLICES = 3
# Into the brainstem the section grows, most of all from front to back, and gets round; the enlargements stay flat.
BRAINSTEM_AREA, BRAINSTEM_AP, BRAINSTEM_AP_MM, BRAINSTEM_AP_RL = 1.08, 1.14, 8.0, 0.75
# At the conus both diameters shrink.
CONUS_AREA, CONUS_AP, CONUS_RL = 0.65, 0.75, 0.8


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
    - ``past_cord_end``: SC belongs to the brainstem or the end of the conus (see :func:`past_cord_end`).

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
    for k, text in past_cord_end([row for row in table.rows if row.tissue == "SC"]).items():
        for tissue in area:
            add(PAST_END, k, tissue, text)
    return sorted(found, key=lambda warning: (warning.slice, TISSUES.index(warning.tissue)))


def past_cord_end(rows: Sequence[CsaRow]) -> dict[int, str]:
    """Slices at the ends of a stack that show no spinal cord any more.

    Each is compared with the medians over END_REACH_MM of the cord next to it, towards the middle of the stack. At the
    upper end it belongs to the brainstem if area and AP diameter are larger than those and the section is round; at
    the lower end to the tip of the conus if area and both diameters are smaller.

    Parameters
    ----------
    rows : sequence of CsaRow
        Of SC, from inferior to superior.

    Returns
    -------
    dict of int to str
        What was seen, by slice.
    """
    known = [row for row in rows if None not in (row.z_mm, *_section(row))]
    found = {}
    for order, name, beyond in ((known, "brainstem", _like_brainstem), (known[::-1], "end of the cord", _like_conus)):
        cord, strange = [], []
        for row in order:
            near = [_section(other) for other in cord if abs(other.z_mm - cord[-1].z_mm) <= END_REACH_MM]
            strange.append(len(near) >= END_SLICES and beyond(_section(row), np.median(near, axis=0)))
            if not strange[-1]:
                cord.append(row)
        # One strange slice within the cord is no end of it: from an end on most of them are strange.
        first = next((n for n, own in enumerate(strange) if own and 2 * sum(strange[n:]) > len(order) - n), len(order))
        for row in order[first:]:
            text = f"SC {row.area_mm2:.1f} mm2, {row.diameter_ap_mm:.1f} mm AP and {row.diameter_rl_mm:.1f} mm RL"
            found[row.slice] = f"{text}: {name}?"
    return found


def _section(row):
    return row.area_mm2, row.diameter_ap_mm, row.diameter_rl_mm


def _like_brainstem(own, usual):
    area, ap, rl = own
    grown = area >= BRAINSTEM_AREA * usual[0] and ap >= BRAINSTEM_AP * usual[1]
    return bool(grown and ap >= max(BRAINSTEM_AP_MM, BRAINSTEM_AP_RL * rl))


def _like_conus(own, usual):
    return bool(np.all(own <= usual * (CONUS_AREA, CONUS_AP, CONUS_RL)))


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
