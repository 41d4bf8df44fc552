"""CSA tables on disk: tidy CSV, or the columns of sct_process_segmentation."""

import csv
import io
from datetime import datetime

from ..files import write_bytes
from .csa import MEASURES, CsaTable

TIDY_COLUMNS = (
    "filename",
    "volume",
    "slice",
    "z_mm",
    "level",
    "tissue",
    *MEASURES,
    "length_mm",
    "reason",
    "flags",
    "tool_version",
)
LEVEL_COLUMNS = (
    "filename",
    "volume",
    "level",
    "tissue",
    "n_slices",
    "n_averaged",
    "length_mm",
    *(f"{name}_{statistic}" for name in MEASURES for statistic in ("mean", "sd")),
    "reason",
    "tool_version",
)
_SCT_MEASURES = (
    "area",
    "angle_AP",
    "angle_RL",
    "diameter_AP",
    "diameter_RL",
    "eccentricity",
    "orientation",
    "solidity",
)
SCT_COLUMNS = (
    "Timestamp",
    "SCT Version",
    "Filename",
    "Slice (I->S)",
    "VertLevel",
    "DistancePMJ",
    *(f"{statistic}({name})" for name in _SCT_MEASURES for statistic in ("MEAN", "STD")),
    "SUM(length)",
)


def write_csv(tables, path, fmt="tidy", *, filename="", tool_version="", volume=None, tissues=None, timestamp=None):
    """Write one row for each volume, slice and tissue, in that order.

    Both formats: UTF-8, comma, LF, a header, empty cells for what is not known.

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
        Several are the volumes of one 4D image.
    path : path-like
    fmt : {"tidy", "sct"}
    filename : str or dict of str to str
        What to put in the file name column, maybe by tissue. "sct" with several
        tissues needs the dict.
    tool_version : str
    volume : int or sequence of int, optional
        Index of each table's volume; default 0, 1, ... for a sequence, empty for a
        single table.
    tissues : sequence of str, optional
        Write only these.
    timestamp : str, optional
        For "sct"; default now.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    ValueError
        If options do not fit together.
    """
    volumes = _numbered(tables, volume)
    rows = [(n, r) for n, table in volumes for r in table.rows if tissues is None or r.tissue in tissues]
    if fmt == "tidy":
        write_rows(path, TIDY_COLUMNS, [_tidy_row(n, r, filename, tool_version) for n, r in rows])
        return
    if fmt != "sct":
        raise ValueError(f'fmt must be "tidy" or "sct", not {fmt!r}')
    if isinstance(filename, str) and len({r.tissue for _, r in rows}) > 1:
        raise ValueError('fmt "sct" with several tissues needs filename as a dict, one mask name for each')
    timestamp = timestamp or datetime.now().strftime("%Y-%m-%d %H:%M:%S")
    many = any(n is not None for n, _ in volumes)
    columns = (*SCT_COLUMNS, "Volume") if many else SCT_COLUMNS
    write_rows(path, columns, [_sct_row(n, r, filename, tool_version, timestamp) for n, r in rows])


def write_level_csv(tables, path, *, filename="", tool_version="", volume=None, tissues=None):
    """Write one row for each volume, level (then "all") and tissue.

    Parameters and errors as for :func:`write_csv`.
    """
    records = []
    for number, table in _numbered(tables, volume):
        for row in table.level_rows:
            if tissues is not None and row.tissue not in tissues:
                continue
            record = {
                "filename": _name(filename, row.tissue),
                "volume": number,
                "level": row.level,
                "tissue": row.tissue,
                "n_slices": row.n_slices,
                "n_averaged": row.n_averaged,
                "length_mm": row.length_mm,
                "reason": row.reason,
                "tool_version": tool_version,
            }
            for name in MEASURES:
                record[f"{name}_mean"], record[f"{name}_sd"] = row.mean[name], row.sd[name]
            records.append(record)
    write_rows(path, LEVEL_COLUMNS, records)


def _numbered(tables, volume):
    if isinstance(tables, CsaTable):
        return [(volume, tables)]
    tables = list(tables)
    numbers = range(len(tables)) if volume is None else list(volume)
    if len(numbers) != len(tables):
        raise ValueError(f"{len(numbers)} volume numbers for {len(tables)} tables")
    return list(zip(numbers, tables, strict=True))


def _name(filename, tissue):
    return filename if isinstance(filename, str) else filename[tissue]


def _tidy_row(volume, row, filename, tool_version):
    record = {name: getattr(row, name) for name in TIDY_COLUMNS if hasattr(row, name)}
    return record | {
        "filename": _name(filename, row.tissue),
        "volume": volume,
        "tool_version": tool_version,
    }


def _sct_row(volume, row, filename, tool_version, timestamp):
    values = {
        "area": row.area_corrected_mm2,
        "angle_AP": None if row.angle_rl_deg is None else -row.angle_rl_deg,
        "angle_RL": row.angle_ap_deg,
        "diameter_AP": row.diameter_ap_mm,
        "diameter_RL": row.diameter_rl_mm,
        "eccentricity": row.eccentricity,
        "orientation": None if row.orientation_deg is None else abs(row.orientation_deg),
        "solidity": row.solidity,
    }
    record = {
        "Timestamp": timestamp,
        "SCT Version": tool_version,
        "Filename": _name(filename, row.tissue),
        "Slice (I->S)": row.slice,
        "VertLevel": row.level,
        "DistancePMJ": None,
        "SUM(length)": row.length_mm,
        "Volume": volume,
    }
    for name, value in values.items():
        record[f"MEAN({name})"] = value
        record[f"STD({name})"] = None if value is None else 0.0
    return record


def _cell(value):
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.4f}"
    return ";".join(value) if isinstance(value, (tuple, list)) else value


def write_rows(path, columns, records):
    """Write records as CSV: UTF-8, comma, LF, a header, floats to four digits, empty cells for None.

    Raises
    ------
    OutputError
        If the file cannot be written; an existing one is then untouched.
    """
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(record[name]) for name in columns] for record in records)
    write_bytes(path, stream.getvalue().encode("utf-8"))
