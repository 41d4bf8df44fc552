"""Measures of a follow-up: new lesions, and each lesion's volume at both times."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from scipy import ndimage

from sctseg7t.measure.lesion_change import GROWN, NEW, STATUSES, VANISHED, LesionChange
from sctseg7t.measure.lesions import LesionTable

# More new T2 lesions than these within a year count in the Rio scores (Rio et al., Mult Scler 2009; modified: Sormani
# et al., Mult Scler 2013).
RIO = (2, 4)


@dataclass(frozen=True, eq=False)
class FollowUp:
    """New lesions of a follow-up scan, and all lesions at both times.

    Attributes
    ----------
    table : LesionTable
        Of what is new: new lesions, and what old ones have gained.
    kinds : tuple of str
        ``new`` or ``grown``, a lesion of the table each.
    changes : tuple of float
        Mean change of intensity in each, in medians of the brain.
    first_seen : str
        The follow-up's session or file.
    lesions : tuple
        Lesions of either time, largest first.
    centres : sequence of (r, a, s)
        Their middles in the follow-up's world, mm.
    details : dict
        Of the pair: motion, overlap, likeness, noise, warnings.
    """

    table: LesionTable
    kinds: tuple[str, ...]
    changes: tuple[float, ...]
    first_seen: str
    lesions: tuple[LesionChange, ...]
    centres: Sequence[Sequence[float]] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def about(self, details: Mapping[str, Any]) -> "FollowUp":
        """The same, with details of the pair."""
        return replace(self, details=details)

    def summary(self) -> dict[str, Any]:
        """Counts and volumes, a plain dict; zeros where nothing is new."""
        parts = list(zip(self.table.lesions, self.kinds))
        fresh = [lesion for lesion, kind in parts if kind == NEW]
        counted = sum(lesion.counted for lesion in fresh)
        total: dict[str, Any] = {
            "n_new": counted,
            "n_new_small": len(fresh) - counted,
            "new_ml": sum(lesion.volume_mm3 for lesion in fresh) / 1000,
            "n_enlarging": sum(kind == GROWN for _, kind in parts),
            "enlarging_ml": sum(lesion.volume_mm3 for lesion, kind in parts if kind == GROWN) / 1000,
        }
        total |= {f"more_than_{limit}_new": int(counted > limit) for limit in RIO}
        for status in STATUSES:
            total[f"n_lesions_{status}"] = sum(row.status == status for row in self.lesions)
        for name in ("grown", "shrunk", "stable"):
            kept = [row for row in self.lesions if row.status not in (NEW, VANISHED)]
            total[f"{name}_ml"] = sum(getattr(row, f"{name}_mm3") for row in kept) / 1000
        total["vanished_ml"] = sum(row.volume_before_mm3 for row in self.lesions if row.status == VANISHED) / 1000
        total["load_before_ml"] = sum(row.volume_before_mm3 for row in self.lesions) / 1000
        total["load_now_ml"] = sum(row.volume_now_mm3 for row in self.lesions) / 1000
        return total


def measure_followup(
    new: LesionTable,
    *,
    before: np.ndarray,
    difference: np.ndarray,
    changes: Sequence[LesionChange],
    centres: Sequence[Sequence[float]] = (),
    first_seen: str = "",
) -> FollowUp:
    """Tell new lesions from grown ones.

    Parameters
    ----------
    new : LesionTable
        Of the mask of what is new.
    before : (X, Y, Z) bool
        Lesions of the baseline, on the follow-up's grid: what touches one has grown, the rest is new.
    difference : (X, Y, Z) float
        Follow-up minus baseline, in medians of the brain.
    changes, centres, first_seen
        As of :class:`FollowUp`.
    """
    near = ndimage.binary_dilation(before, np.ones((3, 3, 3)))
    ids = range(1, len(new.lesions) + 1)
    touching = np.atleast_1d(ndimage.maximum(near, new.labels, ids)) if new.lesions else ()
    means = np.atleast_1d(ndimage.mean(difference, new.labels, ids)) if new.lesions else ()
    return FollowUp(
        new,
        tuple(GROWN if touches else NEW for touches in touching),
        tuple(float(value) for value in means),
        first_seen,
        tuple(changes),
        centres,
    )
