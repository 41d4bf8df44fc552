"""The comparison's files: tables, JSON, report; all of them are put in place together."""

import contextlib
import csv
import io
import json
import math
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

from sctseg7t.compare.lesion_tables import agreement_rows, lesion_tables
from sctseg7t.errors import OutputError, UserError
from sctseg7t.files import write_bytes, write_json

JSON = "compare.json"
_CASE = ("case", "subject", "session", "run", "group")
_WHAT = ("structure", "method", "against")
_OVERLAP = ("dice", "jaccard", "sensitivity", "precision", "volumetric_similarity")
_DISTANCES = (
    "hausdorff_mm",
    "hausdorff_all_mm",
    "hausdorff95_mm",
    "assd_mm",
    "average_hausdorff_max_mm",
    "average_hausdorff_mean_mm",
    "normalised_surface_dice",
    "tolerance_mm",
)
# Column to the key of a row's voxels.
_VOXELS = {
    "HDRFDST_voxel": "HDRFDST",
    "AVGDIST_max_voxel": "AVGDIST_max",
    "AVGDIST_mean_voxel": "AVGDIST_mean",
    "VOLSMTY": "VOLSMTY",
}


def write_comparison(comparison, out, *, report=True):
    """Write every table, ``compare.json``, ``report.md`` and, if wanted, ``report.html`` with its figures.

    They are made in a hidden folder and moved once all are there; files of an earlier comparison that this one has
    not are removed.

    Parameters
    ----------
    comparison : Comparison
    out : path
        Made if need be.
    report : bool

    Returns
    -------
    files : list of Path
    failed : str or None
        Why there is no report though one was wanted.

    Raises
    ------
    OutputError
    """
    out = Path(out)
    _make(out)
    failed, stage = None, None
    try:
        stage = Path(tempfile.mkdtemp(prefix=".sct7t-compare-", dir=out))
        for name, (columns, rows) in tables(comparison).items():
            _write_csv(stage / f"{name}.csv", columns, rows)
        failed = _report(comparison, stage, report)
        made = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        write_json(stage / JSON, {**_content(comparison), "files": made})
        _move(stage, out, [*made, JSON])
    except OSError as err:
        raise OutputError(f"{out}: cannot be written ({err.strerror or err}); choose another -o") from err
    except OutputError as err:
        raise OutputError(str(err).replace(str(stage), str(out))) from err
    finally:
        if stage:
            shutil.rmtree(stage, ignore_errors=True)
    return [out / name for name in (*made, JSON)], failed


def tables(comparison):
    """Columns and rows of every table, by name of its file: those of slices and scans if there are masks of the cord,
    those of lesions if there are any of lesions.

    Returns
    -------
    dict of str to (tuple of str, list of dict)
    """
    cases = {case.name: _case_cells(case) for case in comparison.cases}
    cord = {
        "compare_slices": _row_table(comparison, cases, "slice", "csa", "mm2"),
        "compare_levels": _row_table(comparison, cases, "level", "volume", "mm3"),
        "compare_scans": _row_table(comparison, cases, "scan", "volume", "mm3"),
        "compare_areas": _areas(comparison, cases),
        "compare_summary": _summary(comparison),
        "compare_outliers": _outliers(comparison, cases),
    }
    found = cord if comparison.areas_mm2 or not comparison.lesions else {}
    if comparison.lesions:
        found |= lesion_tables(comparison, cases, _CASE)
    return {
        **found,
        "compare_tests": _tests(comparison),
        "compare_agreement": _agreement(comparison),
        "compare_problems": _problems(comparison),
    }


def _case_cells(case):
    return dict(zip(_CASE, (case.name, case.subject, case.session, case.run, case.group)))


def _row_table(comparison, cases, where, size, unit):
    index = () if where == "scan" else (where,)
    sizes = {
        f"{size}_method_{unit}": "mask_size",
        f"{size}_against_{unit}": "reference_size",
        f"{size}_difference_{unit}": "size_difference",
        f"{size}_difference_percent": "size_difference_percent",
    }
    columns = (*_CASE, *_WHAT, *index, "outlier", *_OVERLAP, *_DISTANCES, *sizes, *_VOXELS)
    rows = [
        {
            **cases[row.case],
            **{name: getattr(row, name) for name in (*_WHAT, "outlier")},
            where: row.index,
            **{name: getattr(row.agreement, name) for name in (*_OVERLAP, *_DISTANCES)},
            **{column: getattr(row.agreement, name) for column, name in sizes.items()},
            **{column: row.voxels[name] for column, name in _VOXELS.items()},
        }
        for row in comparison.rows
        if row.where == where
    ]
    return columns, rows


def _areas(comparison, cases):
    rows = [
        {**cases[case], "structure": structure, "method": method, "slice": int(k), "area_mm2": float(areas[k])}
        for (case, method, structure), areas in comparison.areas_mm2.items()
        for k in np.flatnonzero(np.isfinite(areas))
    ]
    return (*_CASE, "structure", "method", "slice", "area_mm2"), rows


def _summary(comparison):
    columns = (
        *_WHAT,
        "rows",
        "metric",
        "unit",
        "n",
        "outliers",
        "mean",
        "median",
        "sd",
        "trim",
        "trimmed_mean",
        "confidence",
        "mean_low",
        "mean_high",
    )
    settings = comparison.settings
    rows = [
        {
            **asdict(row),
            "rows": row.where,
            "trim": settings.trim,
            "confidence": settings.confidence,
            "mean_low": row.low,
            "mean_high": row.high,
        }
        for row in comparison.summary
    ]
    return columns, rows


def _outliers(comparison, cases):
    columns = (*_CASE, "slice", *_WHAT, "why", "dice")
    rows = [
        {
            **cases[row.case],
            **{name: getattr(row, name) for name in _WHAT},
            "slice": row.index,
            "why": row.outlier,
            "dice": row.agreement.dice,
        }
        for row in comparison.rows
        if row.where == "slice" and row.outlier
    ]
    return columns, rows


def _tests(comparison):
    columns = (
        "structure",
        "metric",
        "first",
        "second",
        "test",
        "unit",
        "n_first",
        "n_second",
        "statistic",
        "rank_biserial",
        "p",
        "p_holm",
    )
    rows = [
        {**asdict(test), "n_first": test.n[0], "n_second": test.n[1], "rank_biserial": test.effect}
        for test in (*comparison.tests, *(comparison.lesions.tests if comparison.lesions else ()))
    ]
    return columns, rows


def _agreement(comparison):
    """Bland-Altman and ICC of each pair of masks, and scan-rescan CoV: a row a measure."""
    percent = {"bias_percent", "sd_percent", "lower_percent", "upper_percent"}
    rows = []
    for found in comparison.areas:
        common = {"structure": found.structure, "method": found.method, "against": found.against}
        n = found.bland_altman.n
        for name, number in asdict(found.bland_altman).items():
            if name != "n":
                unit = "%" if name in percent else "" if name in ("slope", "slope_p") else "mm2"
                rows.append({**common, "measure": f"csa_{name}", "unit": unit, "n": n, "value": number})
        numbers = {"icc_a1": found.icc, "icc_a1_low": found.icc_low, "icc_a1_high": found.icc_high}
        rows += [{**common, "measure": name, "unit": "", "n": n, "value": value} for name, value in numbers.items()]
    for found in comparison.repeatability:
        common = {"structure": found.structure, "method": found.method, "against": "second run", "unit": "%"}
        for name, n, value in (
            ("csa_scan_rescan_cov_slice", found.slices, found.slice_cov),
            ("csa_scan_rescan_cov_scan", found.scans, found.scan_cov),
        ):
            rows.append({**common, "measure": name, "n": n, "value": value})
    rows += agreement_rows(comparison.lesions) if comparison.lesions else []
    return (*_WHAT, "measure", "unit", "n", "value"), rows


def _problems(comparison):
    columns = ("kind", "case", "method", "structure", "file", "left_out", "message")
    return columns, [{**asdict(problem), "left_out": int(problem.left_out)} for problem in comparison.problems]


def _content(comparison):
    """What ``compare.json`` says: settings, numbers, problems, and where all of it comes from."""
    return _plain(
        {
            "settings": asdict(comparison.settings),
            "methods": comparison.methods,
            "reference": comparison.reference,
            "structures": comparison.structures,
            "cases": [case.name for case in comparison.cases],
            "summary": [asdict(row) for row in comparison.summary],
            "tests": [asdict(test) for test in comparison.tests],
            "repeatability": [asdict(row) for row in comparison.repeatability],
            **_lesion_content(comparison.lesions),
            "problems": [asdict(problem) for problem in comparison.problems],
            "left_out": sum(problem.left_out for problem in comparison.problems),
            "provenance": comparison.provenance,
        }
    )


def _lesion_content(lesions):
    if lesions is None:
        return {}
    return {
        "lesion_summary": [asdict(row) for row in lesions.summary],
        "lesion_tests": [asdict(test) for test in lesions.tests],
        "lesion_repeatability": [asdict(row) for row in lesions.repeatability],
    }


def _plain(value):
    """JSON has no nan and no infinity."""
    if isinstance(value, dict):
        return {str(key): _plain(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else str(value)
    return value


# --- files -----------------------------------------------------------------------------


def _report(comparison, stage, wanted):
    """Write the report; why there is none, where something keeps it from being made: the tables are worth having."""
    try:
        from sctseg7t.compare.markdown import write_markdown

        write_markdown(comparison, stage / "report.md")
        if wanted:
            from sctseg7t.compare.report import write_report

            write_report(comparison, stage)
    except OutputError:
        raise
    except UserError as err:
        return str(err)
    except Exception as err:  # noqa: BLE001
        reason = " ".join(f"{type(err).__name__}: {err}".split())[:300]
        return f"internal error ({reason}); please report it; the tables are complete"
    return None


def _write_csv(path, columns, rows):
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, columns, extrasaction="ignore", lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(row.get(name)) for name in columns})
    write_bytes(path, stream.getvalue().encode())


def _cell(value):
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"
    # One cell is one line, whatever a file was called.
    return " ".join(value.split()) if isinstance(value, str) else value


def _make(out):
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"-o {out}: cannot be made ({err.strerror or err}); choose another folder") from err


def _move(stage, out, names):
    """Move the files into place; what an earlier comparison left and this one has not goes."""
    for name in set(_earlier(out)) - set(names):
        with contextlib.suppress(OSError):
            (out / name).unlink()
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if (out / name).is_dir():
            raise OutputError(f"{out / name}: is a folder; choose another -o or remove it")
        os.replace(stage / name, out / name)


def _earlier(out):
    try:
        files = json.loads((out / JSON).read_text(encoding="utf-8"))["files"]
        return [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    except (OSError, ValueError, KeyError, TypeError):
        return []
