"""Tables of one scan on disk: areas per slice and per level, lesions, lesion load."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.files import write_csv
from sctseg7t.measure.columns import (
    CHANGE_COLUMNS,
    CSA_COLUMNS,
    FOLLOWUP_COLUMNS,
    LESION_COLUMNS,
    LEVEL_COLUMNS,
    LOAD_COLUMNS,
    NEW_LESION_COLUMNS,
)
from sctseg7t.measure.csa import CsaTable
from sctseg7t.text import ranges

if TYPE_CHECKING:
    from sctseg7t.measure.followup import FollowUp
    from sctseg7t.measure.lesions import LesionTable


def write_csa_csv(
    tables: CsaTable | Sequence[CsaTable],
    path: str | Path,
    *,
    filename: str = "",
    tool_version: str = "",
    tissues: Sequence[str] | None = None,
    corrected: Sequence[str] = (),
) -> None:
    """Write one row for each volume, slice and tissue, in that order; `reason` and `flags` hold codes joined by ";".

    Parameters
    ----------
    tables : CsaTable or sequence of CsaTable
        Several are the volumes of one 4D image, numbered from 0; a single one has no number.
    path : path-like
    filename : str
        What to put in the file name column.
    tool_version : str
    tissues : sequence of str, optional
        Write only these.
    corrected : sequence of str
        Tissues of the scan whose mask somebody corrected.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    about = {"tool_version": tool_version, "filename": filename, "corrected": tuple(corrected)}
    rows = ((n, r) for n, table in _numbered(tables) for r in table.rows if tissues is None or r.tissue in tissues)
    write_csv(path, CSA_COLUMNS, ({**vars(row), **about, "volume": n} for n, row in rows))


def write_level_csv(
    tables: CsaTable | Sequence[CsaTable],
    path: str | Path,
    *,
    filename: str = "",
    tool_version: str = "",
    tissues: Sequence[str] | None = None,
    corrected: Sequence[str] = (),
) -> None:
    """Write one row for each volume, level (then "all") and tissue.

    Parameters and errors as for :func:`write_csa_csv`.
    """
    write_csv(
        path,
        LEVEL_COLUMNS,
        (
            {
                "filename": filename,
                "volume": number,
                "level": row.level,
                "tissue": row.tissue,
                "n_slices": row.n_slices,
                "n_averaged": row.n_averaged,
                "slices": ranges(row.slices, ":", ";"),
                "length_mm": row.length_mm,
                **{f"{name}_mean": value for name, value in row.mean.items()},
                **{f"{name}_sd": value for name, value in row.sd.items()},
                "reason": row.reason,
                "corrected": tuple(corrected),
                "tool_version": tool_version,
            }
            for number, table in _numbered(tables)
            for row in table.level_rows
            if tissues is None or row.tissue in tissues
        ),
    )


def write_lesion_csv(
    table: "LesionTable",
    path: str | Path,
    *,
    filename: str = "",
    tool_version: str = "",
    corrected: Sequence[str] = (),
) -> None:
    """Write one row a lesion, largest first; a mask without lesions has the header only.

    `counted` is 1 or 0; `reason` and `flags` hold codes joined by ";".

    Parameters
    ----------
    table : sctseg7t.measure.lesions.LesionTable
    path : path-like
    filename : str
        For the first column: the mask's name.
    tool_version : str
    corrected : sequence of str
        As for :func:`write_csa_csv`.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    shared = {
        "filename": filename,
        "tool_version": tool_version,
        "reason": table.reason,
        "corrected": tuple(corrected),
    }
    rows = ({**shared, **vars(lesion), "counted": int(lesion.counted)} for lesion in table.lesions)
    write_csv(path, LESION_COLUMNS, rows)


def write_load_csv(
    summaries: Mapping[str, Mapping[str, Any]],
    path: str | Path,
    *,
    tool_version: str = "",
    corrected: Sequence[str] = (),
) -> None:
    """Write one row a scan with its lesion load; a scan without lesions is a row of zeros.

    Parameters
    ----------
    summaries : dict of str to dict
        What `LesionTable.summary` gives, by the mask's name.
    path : path-like
    tool_version : str
    corrected : sequence of str
        As for :func:`write_csa_csv`.

    Raises
    ------
    OutputError
        As for :func:`write_lesion_csv`.
    """
    about = {"tool_version": tool_version, "corrected": tuple(corrected)}
    rows = ({**summary, "filename": name, **about} for name, summary in summaries.items())
    write_csv(path, LOAD_COLUMNS, rows)


def write_followup_csvs(
    followup: "FollowUp", tables: Mapping[str, Path], *, filename: str = "", tool_version: str = ""
) -> None:
    """Write the tables of a follow-up that a plan has: new lesions, every lesion's changes, one row of counts.

    Parameters
    ----------
    followup : sctseg7t.measure.followup.FollowUp
    tables : dict of str to Path
        Of the kinds ``newlesions``, ``changes`` and ``followup``.
    filename, tool_version : str
        As for :func:`write_lesion_csv`.

    Raises
    ------
    OutputError
        As for :func:`write_lesion_csv`.
    """
    shared = {"filename": filename, "tool_version": tool_version}
    if "newlesions" in tables:
        own = {**shared, "first_seen": followup.first_seen, "reason": followup.table.reason}
        parts = zip(followup.table.lesions, followup.kinds, followup.changes)
        rows = (
            {**own, **vars(lesion), "counted": int(lesion.counted), "kind": kind, "change": change}
            for lesion, kind, change in parts
        )
        write_csv(tables["newlesions"], NEW_LESION_COLUMNS, rows)
    if "changes" in tables:
        names = [
            c.name for c in CHANGE_COLUMNS if c.name not in ("filename", "tool_version") and "centroid" not in c.name
        ]
        middles = ({f"centroid_{axis}_mm": at for axis, at in zip("ras", centre)} for centre in followup.centres)
        rows = (
            {**shared, **{name: getattr(row, name) for name in names}, **middle}
            for row, middle in zip(followup.lesions, middles)
        )
        write_csv(tables["changes"], CHANGE_COLUMNS, rows)
    if "followup" in tables:
        known = {column.name for column in FOLLOWUP_COLUMNS}
        pair = {name: value for name, value in followup.details.items() if name in known}
        doubts = {"pair_warnings": tuple(followup.details.get("warnings", ()))}
        write_csv(tables["followup"], FOLLOWUP_COLUMNS, [{**shared, **followup.summary(), **pair, **doubts}])


def _numbered(tables: CsaTable | Sequence[CsaTable]) -> list[tuple[int | None, CsaTable]]:
    return [(None, tables)] if isinstance(tables, CsaTable) else list(enumerate(tables))
