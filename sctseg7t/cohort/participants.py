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
    """

    columns: dict[str, str]
    rows: dict[str, dict[str, str]]
    descriptions: dict[str, str]

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
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        # What Excel saves as text on many machines.
        text = path.read_text(encoding="cp1252", errors="replace")
    except OSError as err:
        raise UsageError(f"{path}: cannot be read ({err.strerror}); give a participants.tsv") from err
    lines = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t"))
    header = [name.strip() for name in lines[0]] if lines else []
    if "participant_id" not in header:
        raise UsageError(f"{path}: has no column participant_id; it must be separated by tabs, as BIDS has it")
    rows = {}
    for line in lines[1:]:
        row = {name: "" if cell.strip() in ("n/a", "N/A") else cell.strip() for name, cell in zip(header, line)}
        subject = row.pop("participant_id", "").removeprefix("sub-")
        if subject:
            rows.setdefault(subject, row)
    ours, known = {}, {name.casefold() for name in taken}
    for name in header:
        if name and name != "participant_id":
            column = f"participant_{name}" if name.casefold() in known else name
            known.add(column.casefold())
            ours[column] = name
    described = read_json(path.with_suffix(".json"))
    descriptions = {name: str(e.get("Description", "")) for name, e in described.items() if isinstance(e, dict)}
    return Participants(ours, rows, descriptions)
