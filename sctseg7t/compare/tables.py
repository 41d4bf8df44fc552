"""The comparison's files: CSV tables, JSON and report; all of them are put in place together."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.compare.metrics import AREA, BY_SIZE, COUNTS, ITEMS, LESIONS, TISSUE, size_strata
from sctseg7t.compare.types import COLUMNS, LESION, Comparison, Problem
from sctseg7t.errors import OutputError, UserError
from sctseg7t.files import json_value, write_csv, write_json
from sctseg7t.text import one_line

if TYPE_CHECKING:
    import pandas as pd

JSON = "compare.json"
_CASE = ("case", "subject", "session", "run", "group")
_WHAT = ("structure", "method", "against")
# Digits of a number that count.
_DIGITS = 6


def write_comparison(comparison: Comparison, out: str | Path, *, report: bool = True) -> tuple[list[Path], str | None]:
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
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{out}: cannot be made ({err.strerror or err}); choose another output folder") from err
    stage = None
    try:
        stage = Path(tempfile.mkdtemp(prefix=".sct7t-compare-", dir=out))
        for name, (columns, rows) in tables(comparison).items():
            write_csv(stage / f"{name}.csv", columns, _records(rows[list(columns)]), digits=_DIGITS)
        failed = _report(comparison, stage, report)
        made = sorted(path.relative_to(stage).as_posix() for path in stage.rglob("*") if path.is_file())
        write_json(stage / JSON, {**_content(comparison), "files": made})
        _move(stage, out, [*made, JSON])
    except OSError as err:
        raise OutputError(f"{out}: cannot be written ({err.strerror or err}); choose another output folder") from err
    except OutputError as err:
        raise OutputError(str(err).replace(str(stage), str(out))) from err
    finally:
        if stage:
            shutil.rmtree(stage, ignore_errors=True)
    return [out / name for name in (*made, JSON)], failed


def tables(comparison: Comparison) -> dict[str, tuple[list[str], pd.DataFrame]]:
    """Columns and rows of every table, by name of its file.

    Those of slices and scans are there if there are masks of the cord, those of lesions if there are any of lesions.
    """
    import pandas as pd

    cases = pd.DataFrame([{**vars(case), "case": case.name} for case in comparison.cases], columns=list(_CASE))
    found = {}
    if comparison.has_tissues:
        found = {
            "compare_slices": _rows(comparison, cases, "slice"),
            "compare_levels": _rows(comparison, cases, "level"),
            "compare_scans": _rows(comparison, cases, "scan"),
            "compare_areas": _areas(comparison, cases),
            "compare_summary": _summary(comparison),
            "compare_outliers": _outliers(comparison, cases),
        }
    if comparison.has_lesions:
        found |= {
            "compare_lesions": _lesions(comparison, cases),
            "compare_lesion_list": _lesion_list(comparison, cases),
            "compare_lesion_summary": _lesion_summary(comparison),
        }
    problems = pd.DataFrame([vars(problem) for problem in comparison.problems], columns=_names(Problem))
    problems["left_out"] = problems.left_out.astype(int)
    return {
        **found,
        "compare_long": (COLUMNS, comparison.values),
        "compare_tests": (list(comparison.tests.columns), comparison.tests),
        "compare_agreement": (list(comparison.agreement.columns), comparison.agreement),
        "compare_problems": (["kind", "case", "method", "structure", "file", "left_out", "message"], problems),
    }


def _names(record: type) -> list[str]:
    return [field.name for field in fields(record)]


def _with_case(rows: pd.DataFrame, cases: pd.DataFrame) -> pd.DataFrame:
    return rows.drop(columns=["subject"]).merge(cases, on="case", how="left")


def _rows(comparison, cases, level):
    """Rows of one level, with the tolerance of the surface Dice beside it."""
    rows = _with_case(comparison.rows[comparison.rows.level == level].drop(columns=["level"]), cases)
    names = {metric.key: metric.column_at(level) for metric in TISSUE}
    rows = rows.rename(columns=names | {"index": level}).assign(tolerance_mm=comparison.settings.tolerance_mm)
    columns = list(names.values())
    columns.insert(columns.index("normalised_surface_dice") + 1, "tolerance_mm")
    return [*_CASE, *_WHAT, *([level] if level != "scan" else ()), "outlier", *columns], rows


def _areas(comparison, cases):
    areas = comparison.values[comparison.values.metric == AREA.key]
    rows = _with_case(areas, cases).rename(columns={"index": "slice", "value": AREA.key})
    return [*_CASE, "structure", "method", "slice", AREA.key], rows


def _summary(comparison):
    settings = comparison.settings
    rows = comparison.summary.rename(columns={"level": "rows", "low": "mean_low", "high": "mean_high"})
    columns = [*_WHAT, "rows", "metric", "unit", "n", "outliers", "mean", "median", "sd", "trim", "trimmed_mean"]
    return [*columns, "confidence", "mean_low", "mean_high"], rows.assign(
        trim=settings.trim, confidence=settings.confidence
    )


def _outliers(comparison, cases):
    slices = comparison.slices()
    rows = _with_case(slices[slices.outlier != ""], cases).rename(columns={"index": "slice", "outlier": "why"})
    return [*_CASE, "slice", *_WHAT, "why", "dice"], rows


# --- lesions -------------------------------------------------------------------------------


def _how(comparison: Comparison) -> dict[str, Any]:
    """How lesions were told apart and matched: columns that are the same in every row."""
    from sctseg7t.measure.lesion_matching import matching

    return asdict(matching(comparison.settings.lesion_rule, comparison.settings.connectivity))


def _lesions(comparison, cases):
    sizes = [f"{name}_{part}" for _, part in size_strata() for name in BY_SIZE]
    how, metrics = _how(comparison), [metric.key for metric in LESIONS]
    rows = _with_case(comparison.lesion_rows, cases).assign(**how).astype(dict.fromkeys([*COUNTS, *sizes], "Int64"))
    return [*_CASE, "method", "against", *how, "empty", *metrics, "load_stratum", *sizes], rows


def _lesion_list(comparison, cases):
    whole = ["id", "n_voxels", "slice", "first_slice", "last_slice"]
    rows = _with_case(comparison.unmatched, cases).astype(dict.fromkeys(whole, "Int64"))
    rows["what"] = [what_of(comparison, kind) for kind in rows.kind]
    columns: list[str] = list(ITEMS)
    columns.insert(columns.index("volume_mm3") + 1, "size")
    return [*_CASE, "method", "against", "what", *columns], rows


def what_of(comparison: Comparison, kind: str) -> str:
    """``missed`` or ``false``; where nothing is the reference, in which mask alone the lesion is."""
    if comparison.reference:
        return kind
    return "only_in_against" if kind == "missed" else "only_in_method"


def _lesion_summary(comparison):
    how = _how(comparison)
    rows = comparison.lesion_summary.assign(**how, confidence=comparison.settings.confidence)
    columns = list(comparison.lesion_summary.columns)
    columns[2:2] = how
    columns.insert(columns.index("fp_per_scan") + 1, "confidence")
    return columns, rows


# --- JSON and files ------------------------------------------------------------------------


def _content(comparison: Comparison) -> dict[str, Any]:
    """What ``compare.json`` says: settings, numbers, problems, and where all of it comes from."""
    of = comparison
    lesions, repeated = of.tests.structure == LESION, of.agreement[of.agreement.against == "second run"]
    content = {
        "settings": asdict(of.settings),
        "methods": of.methods,
        "reference": of.reference,
        "structures": of.structures,
        "cases": [case.name for case in of.cases],
        "summary": _records(of.summary),
        "tests": _records(of.tests[~lesions]),
        "repeatability": _records(repeated[repeated.structure != LESION]),
        "problems": [asdict(problem) for problem in of.problems],
        "left_out": sum(problem.left_out for problem in of.problems),
        "provenance": of.provenance,
    }
    if of.has_lesions:
        content["lesion_summary"] = _records(of.lesion_summary)
        content["lesion_tests"] = _records(of.tests[lesions])
        content["lesion_repeatability"] = _records(repeated[repeated.structure == LESION])
    return json_value(content)


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as dicts of plain values; None where there is none."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _report(comparison: Comparison, stage: Path, wanted: bool) -> str | None:
    """Write the report; why there is none, where something keeps it from being made: the tables are worth having."""
    try:
        from sctseg7t.compare.report import write_markdown, write_report

        write_markdown(comparison, stage / "report.md")
        if wanted:
            write_report(comparison, stage)
    except OutputError:
        raise
    except UserError as err:
        return str(err)
    except Exception as err:  # noqa: BLE001
        reason = one_line(f"{type(err).__name__}: {err}", 300)
        return f"internal error ({reason}); please report it; the tables are complete"
    return None


def _move(stage: Path, out: Path, names: list[str]) -> None:
    """Move the files into place; what an earlier comparison left and this one has not goes."""
    for name in set(_earlier(out)) - set(names):
        with contextlib.suppress(OSError):
            (out / name).unlink()
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        if (out / name).is_dir():
            raise OutputError(f"{out / name}: is a folder; choose another output folder or remove it")
        os.replace(stage / name, out / name)


def _earlier(out: Path) -> list[str]:
    try:
        files = json.loads((out / JSON).read_text(encoding="utf-8"))["files"]
        return [name for name in files if not Path(name).is_absolute() and ".." not in Path(name).parts]
    except (OSError, ValueError, KeyError, TypeError):
        return []
