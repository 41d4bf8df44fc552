"""participants.tsv: what is known about each subject, to stand beside its measures."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sctseg7t.errors import UsageError
from sctseg7t.files import read_json


@dataclass(frozen=True)
class Participants:
    """Columns of a participants.tsv by subject.

    Attributes
    ----------
    columns : dict of str to str
        Column of our tables to that of the file; they differ where ours has a column of that name.
    rows : dict of str to dict
        By subject without ``sub-``.
    descriptions : dict of str to str
        From participants.json, by column of the file.
    doubles : tuple of str
        Subjects with several rows that differ: which is right cannot be told, so that their cells are empty.
    """

    columns: dict[str, str]
    rows: dict[str, dict[str, str]]
    descriptions: dict[str, str]
    doubles: tuple[str, ...] = ()

    def of(self, subject: str) -> dict[str, str]:
        """Cells of a subject by column of our tables; empty where nothing is known."""
        row = self.rows.get(subject, {})
        return {ours: row.get(theirs, "") for ours, theirs in self.columns.items()}


def read_participants(path: str | Path, taken: Iterable[str] = ()) -> Participants:
    """Read a participants.tsv.

    Parameters
    ----------
    path : path
    taken : iterable of str
        Names that our tables use; a column of such a name gets the prefix ``participant_``.

    Returns
    -------
    Participants
        Cells ``n/a`` are empty.

    Raises
    ------
    UsageError
        Not readable, or without the column ``participant_id``.
    """
    path = Path(path)
    header, lines, descriptions = _read_tsv(path, "participant_id")
    rows, doubles = {}, []
    for row in lines:
        subject = row.pop("participant_id", "").removeprefix("sub-")
        if subject and rows.setdefault(subject, row) != row:
            rows[subject] = dict.fromkeys(row, "")
            doubles.append(subject)
    ours = _column_names(header, taken, "participant_")
    return Participants(ours, rows, descriptions, tuple(dict.fromkeys(doubles)))


@dataclass(frozen=True)
class Sessions:
    """Columns of the sessions.tsv of every subject, by subject and session.

    Attributes
    ----------
    columns, descriptions
        As of :class:`Participants`; a column whose name is taken gets the prefix ``session_``.
    rows : dict of (str, str) to dict
        By subject and session, without ``sub-`` and ``ses-``.
    """

    columns: dict[str, str]
    rows: dict[tuple[str, str], dict[str, str]]
    descriptions: dict[str, str]

    def of(self, subject: str, session: str) -> dict[str, str]:
        """Cells of a session by column of our tables; empty where nothing is known."""
        row = self.rows.get((subject, session), {})
        return {ours: row.get(theirs, "") for ours, theirs in self.columns.items()}


def read_sessions(root: str | Path, subjects: Iterable[str], taken: Iterable[str] = ()) -> Sessions:
    """Read ``sub-01/sub-01_sessions.tsv`` of the subjects of a BIDS data set that have one.

    Parameters
    ----------
    root : path
        Of the data set.
    subjects : iterable of str
        Without ``sub-``.
    taken : iterable of str
        Names that our tables use.

    Raises
    ------
    UsageError
        Not readable, or without the column ``session_id``.
    """
    header, rows, descriptions = [], {}, {}
    for subject in subjects:
        path = Path(root) / f"sub-{subject}" / f"sub-{subject}_sessions.tsv"
        if subject and path.is_file():
            names, lines, said = _read_tsv(path, "session_id")
            header += [name for name in names if name not in header]
            descriptions |= said
            rows |= {(subject, row.pop("session_id", "").removeprefix("ses-")): row for row in lines}
    return Sessions(_column_names(header, taken, "session_"), rows, descriptions)


def _read_tsv(path: Path, key: str) -> tuple[list[str], list[dict[str, str]], dict[str, str]]:
    """Header, rows and descriptions of columns of a BIDS table; UsageError where it has no column `key`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        # What Excel saves as text on many machines.
        text = path.read_text(encoding="cp1252", errors="replace")
    except OSError as err:
        raise UsageError(f"{path}: cannot be read ({err.strerror}); give a {path.name}") from err
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    header = [name.strip() for name in lines[0]] if lines else []
    if key not in header:
        raise UsageError(f"{path}: has no column {key}; it must be separated by tabs, as BIDS has it")
    rows = [
        {name: "" if cell.strip() in ("n/a", "N/A") else cell.strip() for name, cell in zip(header, line)}
        for line in lines[1:]
    ]
    described = read_json(path.with_suffix(".json"))
    descriptions = {name: str(e.get("Description", "")) for name, e in described.items() if isinstance(e, dict)}
    return [name for name in header if name and name != key], rows, descriptions


def _column_names(header: Iterable[str], taken: Iterable[str], prefix: str) -> dict[str, str]:
    """Column of our tables to that of a file; one whose name is taken gets the prefix."""
    ours, known = {}, {name.casefold() for name in taken}
    for name in header:
        column = f"{prefix}{name}" if name.casefold() in known else name
        known.add(column.casefold())
        ours[column] = name
    return ours
