"""Columns of participants.tsv and entities of names, by which the page sorts, filters and parts its scans."""

import re
from collections.abc import Sequence
from typing import Any

from sctseg7t.cohort.participants import Participants

# A column of more values is no group. What is no number either (names, dates, remarks) is not on the page at all:
# it would only tell who the participants are.
MOST_VALUES = 12
_NAMES = {"ses": "session", "acq": "acquisition"}


def add_groups(scans: Sequence[dict[str, Any]], people: Participants) -> list[dict[str, Any]]:
    """Put what each scan belongs to into its ``groups``, and say which columns there are.

    Parameters
    ----------
    scans : sequence of dict
        Of the page; with ``entities``.
    people : Participants

    Returns
    -------
    list of dict
        ``name`` of a column, and its ``values`` in order ("" is not known), None for numbers, which part nothing.
        Columns in which all scans are alike are left out.
    """
    own = [people.of(scan["entities"].get("sub", "")) for scan in scans]
    entities = sorted({key for scan in scans for key in scan["entities"]} - {"sub", "suffix"})
    columns: dict[str, list[str]] = {name: [row[name] for row in own] for name in people.columns}
    for key in entities:
        columns.setdefault(_NAMES.get(key) or key, [scan["entities"].get(key, "") for scan in scans])
    found = []
    for name, cells in columns.items():
        values = set(cells)
        if len(values) < 2 or not (len(values) <= MOST_VALUES or all(map(_is_number, values - {""}))):
            continue
        few = len(values) <= MOST_VALUES
        found.append({"name": name, "values": sorted(values, key=_order) if few else None})
        for scan, cell in zip(scans, cells):
            scan["groups"][name] = cell
    return found


def _is_number(text):
    try:
        return float(text) == float(text)
    except ValueError:
        return False


def _order(text):
    """Numbers within words count; what is not known comes last."""
    parts = re.split(r"(\d+)", text.casefold())
    return not text, [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in parts]
