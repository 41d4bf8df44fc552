"""The page of a study: its tables, figures and findings, as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sctseg7t.compare.cells import count, listed, number
from sctseg7t.files import write_bytes
from sctseg7t.report import plotting
from sctseg7t.study.analysis import Findings, analyse, difference, pairs_of_methods
from sctseg7t.study.cell_run import FAILED, OK, TEST
from sctseg7t.study.collect import TO_DO, Collected, states
from sctseg7t.study.config import Study
from sctseg7t.study.figures import figures
from sctseg7t.version import __version__

PAGE = "index.md"


def write_page(
    collected: Collected,
    study: Study,
    folder: str | Path,
    *,
    command: str,
    machine: str,
    data: str,
    sheets: Sequence[Path] = (),
) -> list[Path]:
    """Write a study's page, its figures beside it.

    Parameters
    ----------
    collected : Collected
    study : Study
    folder : path
        Made if need be.
    command : str
        What was typed.
    machine : str
        Where the trainings ran.
    data : str
        What they learned from, in a sentence.
    sheets : sequence of path
        Contact sheets, in the folder.

    Raises
    ------
    OutputError
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    findings = analyse(collected, study)
    drawn = {
        name: (text, plotting.save(figure, folder / f"{name}.png", dpi=110)[0])
        for name, text, figure in figures(findings)
    }
    counts = states(collected.cells)
    seconds = collected.cells.get("seconds", pd.Series(dtype=float)).fillna(0).sum()
    worked = collected.cells.get("cpu_seconds", pd.Series(dtype=float)).dropna()
    environment = Environment(
        loader=PackageLoader("sctseg7t.study", "assets"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    text = environment.get_template("page.md.j2").render(
        study=study,
        version=__version__,
        command=command,
        machine=machine,
        data=data,
        minutes=f"{seconds / 60:.0f}",
        cpu=f"{worked.mean():.0f} s of one core a training, mean of {len(worked)}" if len(worked) else "",
        trainings={"ok": counts.get(OK, 0), "failed": counts.get(FAILED, 0), "todo": counts.get(TO_DO, 0)},
        findings=list(sentences(findings, study)),
        sets=[_set(findings, study, of, drawn) for of in findings.comparisons],
        empty=_empty(findings),
        failed=_failed(collected.cells),
        sheets=[(path.stem.removeprefix("sheet_"), path.name) for path in sheets],
    )
    page = write_bytes(folder / PAGE, text.encode())
    return [page, *(path for _, path in drawn.values())]


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in row) + " |" for row in lines)


# --- findings -----------------------------------------------------------------------------


def sentences(findings: Findings, study: Study) -> Iterator[str]:
    """What was found, a sentence a set and structure: who is best, and what of that chance could not have made."""
    for of in findings.comparisons:
        own = findings.methods[findings.methods["set"] == of]
        for structure in dict.fromkeys(own.structure):
            rows = own[own.structure == structure].sort_values("mean_kept", ascending=False)
            trained = rows[~rows.method.isin(list(study.models))]
            if len(trained) < 2:
                continue
            best = trained.iloc[0]
            text = f"{_title(of)}, {structure}: the highest mean Dice has **{best.method}** ({best.mean_kept:.3f}). "
            yield text + _against(findings, study, of, structure, trained)
            models = rows[rows.method.isin(list(study.models))]
            if len(models):
                told = listed(f"{one.method} {one.mean_kept:.3f}" for one in models.itertuples())
                yield f"{_title(of)}, {structure}: not trained here, on the same scans: {told}."
    yield from _gains(findings, study)
    for row in findings.empty.itertuples() if len(findings.empty) else ():
        if row.empty or row.other_way:
            yield (
                f"{_title(str(row.set))}, {row.structure}, {row.method}: single-class networks left "
                f"{count(int(row.empty), 'slice')} of {row.slices} empty where the multi-class one did not "
                f"({row.usable} of them with a Dice above 0.7); the other way round {row.other_way}."
            )


def _against(findings: Findings, study: Study, of: str, structure: str, rows: pd.DataFrame) -> str:
    """Each method against its baseline: what is larger than chance, and what is not."""
    found: dict[str, dict[str, list[str]]] = {}
    for first, second in pairs_of_methods(list(rows.method), study.baseline):
        one = difference(findings, of, structure, first, second)
        if one["spread"] != one["spread"]:
            kind = "no seed repeated, so chance is not known:"
        elif one["within"]:
            kind = "no different (within the spread over seeds):"
        else:
            kind = f"{'above' if one['difference'] > 0 else 'below'} it by more than the spread over seeds:"
        found.setdefault(second, {}).setdefault(kind, []).append(f"{first} ({number(one['difference'], '+.3f')})")
    return " ".join(
        f"Against {second}, " + "; ".join(f"{kind} {listed(names)}" for kind, names in sorted(kinds.items())) + "."
        for second, kinds in found.items()
    )


def _gains(findings: Findings, study: Study) -> Iterator[str]:
    """Up to how many people a method is above its baseline."""
    curve = findings.curve
    if curve.empty or curve.patients.nunique() < 2:
        return
    for (of, structure), own in curve.groupby(["set", "structure"], sort=False):
        trained = [name for name in dict.fromkeys(own.method) if name not in study.models]
        for name, base in pairs_of_methods(trained, study.baseline):
            rows, others = (own[own.method == one].set_index("patients") for one in (name, base))
            told = []
            for amount in [one for one in rows.index if one in others.index]:
                gain = rows.mean_kept[amount] - others.mean_kept[amount]
                chance = max(rows.seed_sd[amount], others.seed_sd[amount])
                word = "" if abs(gain) > chance else " (within the spread over seeds)"
                word = word if chance == chance else " (spread not known)"
                told.append(f"{number(gain, '+.3f')} with {amount}{word}")
            # Of one number alone the comparison by person above tells more.
            if len(told) > 1:
                who = f"{name} against {base}, by people trained on"
                yield f"{_title(str(of))}, {structure}: {who}: {listed(told)}."


# --- tables -------------------------------------------------------------------------------


def _title(of: str) -> str:
    return "Test people" if of == TEST else of


def _set(findings: Findings, study: Study, of: str, drawn: dict[str, tuple[str, Path]]) -> dict[str, Any]:
    own = findings.methods[findings.methods["set"] == of]
    people = own.people.max() if len(own) else 0
    text, path = drawn[f"dice_{of}"]
    curve = drawn.get(f"curve_{of}")
    return {
        "title": f"{_title(of)} ({'1 person' if people == 1 else f'{people} people'})",
        "table": _methods(own, study, of),
        "alt": text,
        "figure": path.name,
        "curve": curve[1].name if curve else "",
        "curve_alt": curve[0] if curve else "",
        "tests": _tests(findings, study, of),
    }


def _methods(rows: pd.DataFrame, study: Study, of: str) -> str:
    published = [row for row in study.published.get("rows", []) if row["set"] == of]
    columns = (
        "class",
        "method",
        "trainings",
        "slices",
        "outliers",
        "mean",
        "median",
        "SD",
        "all",
        "seeds",
        "area ratio",
    )
    cells = []
    for structure in dict.fromkeys([*rows.structure, *(row["structure"] for row in published)]):
        for row in rows[rows.structure == structure].itertuples():
            values = (row.mean, row.median, row.sd, row.mean_kept)
            cells.append(
                (
                    structure,
                    row.method,
                    row.trainings if row.method not in study.models else "-",
                    row.units,
                    row.outliers,
                    *(number(value, ".3f") for value in values),
                    number(row.seed_sd, ".3f"),
                    number(row.area, ".2f"),
                )
            )
        for row in published:
            if row["structure"] == structure:
                told = (number(row.get(key, float("nan")), ".3f") for key in ("mean", "median", "sd"))
                cells.append(
                    (structure, f"*published: {row['method']}*", "", "", row.get("outliers", "-"), *told, "", "", "")
                )
    return table(columns, cells)


def _tests(findings: Findings, study: Study, of: str) -> str:
    compared, rows = findings.comparisons[of], []
    structures = dict.fromkeys(findings.methods[findings.methods["set"] == of].structure)
    for structure in structures:
        for first, second in pairs_of_methods(compared.methods, study.baseline):
            tests = findings.tests
            own = tests[(tests["set"] == of) & (tests.structure == structure)]
            own = own[own["first"].isin([first, second]) & own.second.isin([first, second])]
            if not len(own):
                continue
            found = difference(findings, of, structure, first, second)
            rows.append(
                (
                    structure,
                    first,
                    second,
                    number(found["difference"], "+.3f"),
                    number(found["spread"], ".3f"),
                    _word(found),
                    found["people"],
                    number(found["p"], "p") if found["people"] > 1 else "-",
                    number(float(own[own.test == "mann-whitney"].p_corrected.iloc[0]), "p"),
                )
            )
    columns = (
        "class",
        "method",
        "against",
        "difference by person",
        "seeds",
        "that is",
        "people",
        "p, Wilcoxon",
        "p, Mann-Whitney",
    )
    return table(columns, rows) if rows else ""


def _word(found: dict[str, Any]) -> str:
    """What a difference is against the spread over seeds."""
    if found["spread"] != found["spread"]:
        return "not known"
    return "within the spread" if found["within"] else "larger"


def _empty(findings: Findings) -> str:
    if not len(findings.empty):
        return ""
    columns = (
        "set",
        "class",
        "method",
        "slices",
        "empty in single-class only",
        "of these usable in multi-class",
        "empty in multi-class only",
    )
    rows = [
        (_title(str(row.set)), row.structure, row.method, row.slices, row.empty, row.usable, row.other_way)
        for row in findings.empty.itertuples()
    ]
    return table(columns, rows)


def _failed(cells: pd.DataFrame) -> str:
    own = cells[cells.status == FAILED]
    return table(("cell", "reason"), [(row.cell, row.reason) for row in own.itertuples()]) if len(own) else ""
