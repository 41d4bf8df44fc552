"""Both times of a follow-up on its card: the scans in register, their difference, and what is new."""

from typing import Any

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.image.grid import Grid
from sctseg7t.image.masks import read_mask
from sctseg7t.inference.record import Record
from sctseg7t.qc.brain_stack import BYTES, encode_stack, lesion_runs, shown_range
from sctseg7t.qc.brain_view import View
from sctseg7t.qc.load_saved import number, read_rows

# Each of the three further stacks has this part of what the scan itself may take.
_SHARE = 0.5
# Differences shown as black and white, in medians of the brain.
_DIFFERENCE = (-0.4, 0.4)
COLUMNS = ("id", "kind", "volume_mm3", "change", "location", "slice", "at")
_MOST = 500


def add_times(content: dict[str, Any], record: Record, labels: np.ndarray, view: View, grid: Grid) -> None:
    """Put both times of a follow-up into its card; other scans are left as they are.

    Parameters
    ----------
    content : dict
        Gets ``times`` (stacks ``now``, ``before`` and ``difference``, see :func:`encode_stack`), ``fresh`` (runs of
        new lesions, see :func:`lesion_runs`), ``new_columns`` and ``new`` (rows of COLUMNS), ``followup`` (counts).
    record : Record
    labels : (X, Y, Z) int array
        All lesions.
    view : View
    grid : Grid
        Of the scan.
    """
    paths = [record.table(kind) for kind in ("baselineimage", "difference", "newlabels")]
    if not all(paths):
        return
    try:
        files = [read_mask(path) for path in paths if path]
    except InputError as err:
        content["problems"].append(f"the two times cannot be shown: {err}")
        return
    if not all(file.grid.same_as(grid) for file in files):
        content["problems"].append("the two times cannot be shown: they are not on the scan's grid")
        return
    before, difference, numbers = (np.nan_to_num(file.volume) for file in files)
    now, share = before + difference, int(_SHARE * BYTES)
    limits = shown_range(now, labels)
    content["times"] = {
        "now": encode_stack(now, labels, view.window, view.stack, limits=limits, share=share),
        "before": encode_stack(before, labels, view.window, view.stack, limits=limits, share=share),
        "difference": encode_stack(difference, labels, view.window, view.stack, limits=_DIFFERENCE, share=share),
    }
    numbers = numbers.astype(np.int32)
    content["fresh"] = lesion_runs(numbers, view.window, _MOST)
    content["new_columns"] = COLUMNS
    rows = read_rows(record.table("newlesions")) or []
    content["new"] = [_row(row, numbers, view) for row in rows[:_MOST] if (numbers == int(row["id"])).any()]
    content["followup"] = next(iter(read_rows(record.table("followup")) or ()), {})


def _row(row, numbers, view):
    voxels = np.argwhere(numbers == int(row["id"]))
    middle = voxels[((voxels - voxels.mean(axis=0)) ** 2).sum(axis=1).argmin()]
    k = int(middle[2])
    # As the screen has it: column and row from the top left.
    at = [int(first + n - 1 - v) for first, n, v in zip(view.window.start[k], view.window.size, middle)]
    volume, change = (number(row.get(name)) for name in ("volume_mm3", "change"))
    return [int(row["id"]), row.get("kind"), volume, change, row.get("location") or None, k, at]
