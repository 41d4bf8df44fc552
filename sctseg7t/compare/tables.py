"""The comparison's files: CSV tables, JSON and report; all of them are put in place together."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sctseg7t.compare.metrics import AREA, BY_SIZE, COUNTS, ITEMS, LESIONS, TISSUE, size_strata
from sctseg7t.compare.types import COLUMNS, LESION, Comparison
from sctseg7t.errors import OutputError, UserError
from sctseg7t.files import json_value, write_csv, write_json
from sctseg7t.text import one_line

if TYPE_CHECKING:
    import pandas as pd

JSON = "compare.json"
_CASE = ("case", "subject", "session", "run", "group")
_WHAT = ("structure", "method", "against")
_PROBLEM = ("kind", "case", "method", "structure", "file", "left_out", "message")
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

    from sctseg7t.measure.lesion_matching import matching

    of, settings = comparison, comparison.settings
    cases = pd.DataFrame([{**vars(case), "case": case.name} for case in of.cases], columns=list(_CASE))

    def with_case(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.drop(columns=["subject"]).merge(cases, on="case", how="left")

    found = {}
    for level in ("slice", "level", "scan") if of.has_tissues else ():
        names = {metric.key: metric.column_at(level) for metric in TISSUE}
        rows = with_case(of.rows[of.rows.level == level].drop(columns=["level"])).rename(columns=names)
        columns = list(names.values())
        columns.insert(columns.index("normalised_surface_dice") + 1, "tolerance_mm")
        columns = [*_CASE, *_WHAT, *([level] if level != "scan" else ()), "outlier", *columns]
        rows = rows.rename(columns={"index": level}).assign(tolerance_mm=settings.tolerance_mm)
        found[f"compare_{level}s"] = columns, rows
    if of.has_tissues:
        areas = with_case(of.values[of.values.metric == AREA.key])
        areas = areas.rename(columns={"index": "slice", "value": AREA.key})
        found["compare_areas"] = [*_CASE, "structure", "method", "slice", AREA.key], areas
        summary = of.summary.rename(columns={"level": "rows", "low": "mean_low", "high": "mean_high"})
        columns = [*_WHAT, "rows", "group", "failures", "metric", "unit", "n", "subjects", "outliers", "undefined"]
        columns += ["mean", "median", "sd", "trim", "trimmed_mean", "confidence", "mean_low", "mean_high"]
        found["compare_summary"] = columns, summary.assign(trim=settings.trim, confidence=settings.confidence)
        slices = of.slices()
        outliers = with_case(slices[slices.outlier != ""]).rename(columns={"index": "slice", "outlier": "why"})
        found["compare_outliers"] = [*_CASE, "slice", *_WHAT, "why", "dice"], outliers
    if of.has_lesions:
        # How lesions were told apart and matched: columns that are the same in every row.
        how = asdict(matching(settings.lesion_rule, settings.connectivity))
        sizes = [f"{name}_{part}" for _, part in size_strata() for name in BY_SIZE]
        columns = [*_CASE, "method", "against", *how, "empty", *(metric.key for metric in LESIONS), "load_stratum"]
        lesions = with_case(of.lesion_rows).assign(**how).astype(dict.fromkeys([*COUNTS, *sizes], "Int64"))
        found["compare_lesions"] = [*columns, *sizes], lesions
        at = ITEMS.index("volume_mm3") + 1
        columns = [*ITEMS[:at], "size", *ITEMS[at:]]
        whole = ["id", "n_voxels", "slice", "first_slice", "last_slice"]
        # Where nothing is the reference a lesion is neither missed nor false: it is in one mask only.
        what = {} if of.reference else {"missed": "only_in_against", "false": "only_in_method"}
        items = (
            with_case(of.unmatched).astype(dict.fromkeys(whole, "Int64")).assign(what=of.unmatched.kind.replace(what))
        )
        found["compare_lesion_list"] = [*_CASE, "method", "against", "what", *columns], items
        columns = list(of.lesion_summary.columns)
        columns[2:2] = how
        columns.insert(columns.index("fp_per_scan") + 1, "confidence")
        rows = of.lesion_summary.assign(**how, confidence=settings.confidence)
        found["compare_lesion_summary"] = columns, rows
    problems = pd.DataFrame([vars(problem) for problem in of.problems], columns=list(_PROBLEM))
    return {
        **found,
        "compare_long": (COLUMNS, of.values),
        "compare_tests": (list(of.tests.columns), of.tests),
        "compare_agreement": (list(of.agreement.columns), of.agreement),
        "compare_problems": (list(_PROBLEM), problems.astype({"left_out": int})),
    }


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
