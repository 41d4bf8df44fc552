"""Lesion tables on disk: one row a lesion, and one row a scan."""

from .lesion_location import LOCATIONS
from .table import write_rows

LESION_COLUMNS = (
    "filename",
    "id",
    "counted",
    "n_voxels",
    "volume_mm3",
    "diameter_mm",
    "sphere_diameter_mm",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "centroid_x_vox",
    "centroid_y_vox",
    "centroid_z_vox",
    "location",
    "distance_ventricles_mm",
    "distance_cortex_mm",
    "infratentorial_fraction",
    "probability_max",
    "probability_mean",
    "reason",
    "flags",
    "tool_version",
)
SUMMARY_COLUMNS = (
    "filename",
    "n_lesions",
    "n_small",
    "load_ml",
    "load_small_ml",
    *(column for name in LOCATIONS for column in (f"n_{name}", f"{name}_ml")),
    "largest_volume_mm3",
    "largest_diameter_mm",
    "min_diameter_mm",
    "connectivity",
    "reason",
    "flags",
    "tool_version",
)


def write_lesion_csv(table, path, *, filename="", tool_version=""):
    """Write one row a lesion, largest first; a mask without lesions has the header only.

    UTF-8, comma, LF, a header, units in the column names, empty cells for what is not known; `counted` is 1
    or 0, `reason` and `flags` hold codes joined by ";".

    Parameters
    ----------
    table : LesionTable
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
    rows = []
    for lesion in table.lesions:
        values = {name: getattr(lesion, name) for name in LESION_COLUMNS if hasattr(lesion, name)}
        rows.append(shared | values | {"counted": int(lesion.counted)})
    write_rows(path, LESION_COLUMNS, rows)


def write_lesion_summary_csv(summaries, path, *, tool_version=""):
    """Write one row a scan; a scan without lesions is a row of zeros.

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
    rows = [{**summary, "filename": name, "tool_version": tool_version} for name, summary in summaries.items()]
    write_rows(path, SUMMARY_COLUMNS, rows)
