"""Who is whose: scans under several subject labels that are of one person count as one subject."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from sctseg7t.compare.types import Case, Problem
from sctseg7t.errors import UsageError

# A session that was put into the label of the subject: 10062Ses1, P3_visit2.
_SESSION = re.compile(r"(.+?)[-_]?(?:ses|session|visit|scan|tp|time|day|month)[-_]?\d+", re.IGNORECASE)


def persons(cases: Sequence[Case], told: str, participants: Mapping[str, Mapping[str, str]]) -> list[Case]:
    """The cases with the person as their subject.

    Parameters
    ----------
    cases : sequence of Case
    told : str
        A column of participants.tsv, or else a regular expression that is searched in the subject's label (of scans
        without a BIDS name in the scan's name): what its first group matches, or all of it if it has none. A label in
        which it is not found stays as it is.
    participants : dict of str to dict
        Columns of participants.tsv by subject label.

    Raises
    ------
    UsageError
        It is no column and no regular expression, or one that is found in no label.
    """
    labels = [case.subject or case.name for case in cases]
    if any(told in row for row in participants.values()):
        own = [participants.get(label, {}).get(told) or label for label in labels]
    else:
        try:
            pattern = re.compile(told)
        except re.error as err:
            what = f"no column of participants.tsv, and no regular expression ({err})"
            raise UsageError(f"subject {told}: {what}; give one of these") from err
        found = [pattern.search(label) for label in labels]
        if not any(found):
            some = ", ".join(dict.fromkeys(labels[:3]))
            raise UsageError(
                f"subject {told}: no column of participants.tsv, and found in no subject's label (such as {some}); "
                r"give a column, or a regular expression with the person in parentheses: '(\d+)Ses'"
            )
        own = [(match[1] if pattern.groups else match[0]) if match else label for match, label in zip(found, labels)]
    return [replace(case, subject=person or label) for case, person, label in zip(cases, own, labels)]


def person_perhaps(label: str) -> str:
    """A subject's label without the session that may have been put into it: 10062 of 10062Ses1."""
    match = _SESSION.fullmatch(label)
    return match[1] if match else label


def one_person_perhaps(cases: Sequence[Case]) -> Iterator[Problem]:
    """Notes on subject labels that differ by a session only: two such labels would count as two subjects."""
    labels = defaultdict(set)
    for case in cases:
        if case.subject and (person := person_perhaps(case.subject)) != case.subject:
            labels[person].add(case.subject)
    for person, found in sorted(labels.items()):
        if len(found) > 1:
            names = " and ".join(sorted(found))
            text = f"{names} look like sessions of one person ({person}) and count as {len(found)} subjects; "
            text += "if they are, say so: -subject COLUMN of participants.tsv, or -subject REGEX"
            yield Problem("subject", text, False)
