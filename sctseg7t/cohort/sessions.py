"""Sessions of a participant in order, and the earlier scan that a follow-up is compared with."""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from sctseg7t.cohort.find import Scan, some
from sctseg7t.errors import UsageError

# What a baseline can be asked for by, in place of a template of its path.
BASELINES = ("previous", "first")


def in_order(sessions: Iterable[str]) -> list[str]:
    """Labels of sessions in their order: session 10 comes after session 9."""
    return sorted(sessions, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", name)])


def pair_sessions(
    scans: Sequence[Scan], known: Sequence[Scan], which: str
) -> tuple[list[Scan], dict[str, Path], list[str]]:
    """Find the baseline of every scan that has one.

    Parameters
    ----------
    scans : sequence of Scan
        Those that are to be run.
    known : sequence of Scan
        All of the data set: a baseline need not be run itself.
    which : {"previous", "first"}
        The session before, or the participant's first.

    Returns
    -------
    followups : list of Scan
    baselines : dict of str to Path
        By the follow-up's name.
    notes : list of str
        What has no earlier session, in words.

    Raises
    ------
    UsageError
        No scan has an earlier one.
    """
    others: dict[tuple, dict[str, list[Scan]]] = {}
    for scan in known:
        others.setdefault(_who(scan), {}).setdefault(scan.entities.get("ses", ""), []).append(scan)
    baselines, alone, unclear = {}, [], []
    for scan in scans:
        sessions = others.get(_who(scan), {})
        order = in_order(session for session in sessions if session)
        own = scan.entities.get("ses", "")
        if own not in order[1:]:
            if len(order) < 2:
                alone.append(scan.name)
            continue
        chosen = order[0] if which == "first" else order[order.index(own) - 1]
        found = _alike(scan, sessions[chosen])
        if found:
            baselines[scan.name] = found.path
        else:
            unclear.append(scan.name)
    notes = []
    if alone:
        notes.append(f"one session only, nothing to compare with: {some(alone)}")
    if unclear:
        notes.append(f"several scans in the earlier session, none of the same run or acquisition: {some(unclear)}")
    followups = [scan for scan in scans if scan.name in baselines]
    if not followups:
        why = "; ".join(notes) or "no scan has a session (ses-) with an earlier one"
        raise UsageError(f"baseline {which}: there is no pair of sessions ({why})")
    return followups, baselines, notes


def _who(scan):
    """Participant and kind of scan."""
    return scan.entities.get("sub", scan.name), scan.entities.get("suffix", "")


def _alike(scan, candidates):
    """The candidate with the same entities but for the session; the only one, if there is one."""
    wanted = {key: value for key, value in scan.entities.items() if key != "ses"}
    same = [other for other in candidates if {k: v for k, v in other.entities.items() if k != "ses"} == wanted]
    return (same or (candidates if len(candidates) == 1 else [None]))[0]
