"""Tables of one scan on disk: areas per slice and per level, lesions, lesion load."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.files import write_csv
from sctseg7t.measure.columns import (
    CSA_COLUMNS,
    LESION_COLUMNS,
    LEVEL_COLUMNS,
    LOAD_COLUMNS,
    SCT_COLUMNS,
    SCT_MEASURES,
    Column,
)
from sctseg7t.measure.csa import CsaTable
from sctseg7t.text import ranges

if TYPE_CHECKING:
    from sctseg7t.measure.lesions import LesionTable


def write_csa_csv(
    tables: CsaTable | Sequence[CsaTable],
    path: str | Path,
    fmt: str = "tidy",
    *,
    filename: str | Mapping[str, str] = "",
    tool_version: str = "",
    tissues: Sequence[str] | None = None,
) -> None:
    """Write one row for each volume, slice and tissue, in that order.

    "tidy": units in the column names; `reason` and `flags` hold codes joined by ";".

    "sct": the columns of sct_process_segmentation with ``-perslice 1``, with its
    conventions: area is the angle-corrected one (empty if there is none), ``angle_AP``
    is the rotation *about* the A-P axis (so minus our `angle_rl_deg`) and ``angle_RL``
    the one about the R-L axis (our `angle_ap_deg`), orientation is without sign, STD
    is 0 over the row's single slice. Tissues share the file, told apart by `Filename`,
    the name of that tissue's mask. A 4D image adds a last column ``Volume``.

    Parameters
    ----------
    tables : CsaTable or sequence of CsaTable
        Several are the volumes of one 4D image, numbered from 0; a single one has no number.
    path : path-like
    fmt : {"tidy", "sct"}
    filename : str or dict of str to str
        What to put in the file name column, maybe by tissue. "sct" with several
        tissues needs the dict.
    tool_version : str
    tissues : sequence of str, optional
        Write only these.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    volumes = _numbered(tables)
    rows = [(n, r) for n, table in volumes for r in table.rows if tissues is None or r.tissue in tissues]
    if fmt == "tidy":
        about = {"tool_version": tool_version}
        own = ({**vars(r), **about, "filename": _name(filename, r.tissue), "volume": n} for n, r in rows)
        write_csv(path, CSA_COLUMNS, own)
        return
    about = {"Timestamp": datetime.now().strftime("%Y-%m-%d %H:%M:%S"), "SCT Version": tool_version}
    volume = [Column("Volume")] if any(n is not None for n, _ in volumes) else []
    records = []
    for n, row in rows:
        record = {**about, **{column.name: n for column in volume}, "Filename": _name(filename, row.tissue)}
        record |= {"Slice (I->S)": row.slice, "VertLevel": row.level, "SUM(length)": row.length_mm}
        for column in SCT_MEASURES:
            value = getattr(row, column.name)
            if value is not None:
                record[f"MEAN({column.sct})"] = column.to_sct(value) if column.to_sct else value
                record[f"STD({column.sct})"] = 0.0
        records.append(record)
    write_csv(path, [*SCT_COLUMNS, *volume], records)


def write_level_csv(
    tables: CsaTable | Sequence[CsaTable],
    path: str | Path,
    *,
    filename: str | Mapping[str, str] = "",
    tool_version: str = "",
    tissues: Sequence[str] | None = None,
) -> None:
    """Write one row for each volume, level (then "all") and tissue.

    Parameters and errors as for :func:`write_csa_csv`.
    """
    write_csv(
        path,
        LEVEL_COLUMNS,
        (
            {
                "filename": _name(filename, row.tissue),
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
                "tool_version": tool_version,
            }
            for number, table in _numbered(tables)
            for row in table.level_rows
            if tissues is None or row.tissue in tissues
        ),
    )


def write_lesion_csv(table: "LesionTable", path: str | Path, *, filename: str = "", tool_version: str = "") -> None:
    """Write one row a lesion, largest first; a mask without lesions has the header only.

    `counted` is 1 or 0; `reason` and `flags` hold codes joined by ";".

    Parameters
    ----------
    table : sctseg7t.measure.lesions.LesionTable
    path : path-like
    filename : str
        For the first column: the mask's name.
    tool_version : str

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    shared = {"filename": filename, "tool_version": tool_version, "reason": table.reason}
    rows = ({**shared, **vars(lesion), "counted": int(lesion.counted)} for lesion in table.lesions)
    write_csv(path, LESION_COLUMNS, rows)


def write_load_csv(summaries: Mapping[str, Mapping[str, Any]], path: str | Path, *, tool_version: str = "") -> None:
    """Write one row a scan with its lesion load; a scan without lesions is a row of zeros.

    Parameters
    ----------
    summaries : dict of str to dict
        What `LesionTable.summary` gives, by the mask's name.
    path : path-like
    tool_version : str

    Raises
    ------
    OutputError
        As for :func:`write_lesion_csv`.
    """
    rows = ({**summary, "filename": name, "tool_version": tool_version} for name, summary in summaries.items())
    write_csv(path, LOAD_COLUMNS, rows)


def _numbered(tables: CsaTable | Sequence[CsaTable]) -> list[tuple[int | None, CsaTable]]:
    return [(None, tables)] if isinstance(tables, CsaTable) else list(enumerate(tables))


def _name(filename, tissue: str) -> str:
    return filename if isinstance(filename, str) else filename[tissue]
