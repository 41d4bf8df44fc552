"""Writing the report: one HTML file that needs nothing else, its figures beside it for papers, and Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sctseg7t.compare import cells, findings, lesion_tables
from sctseg7t.compare import report_tables as tables
from sctseg7t.compare.analysis import LEFT_OUT
from sctseg7t.compare.metrics import TISSUE, metric_named, primary_of
from sctseg7t.compare.pictures import lesion_pictures, worst_slice_pictures
from sctseg7t.compare.plots import Plot, plots
from sctseg7t.compare.types import STRUCTURES, Comparison
from sctseg7t.errors import OutputError
from sctseg7t.files import write_bytes
from sctseg7t.measure.lesion_matching import RULES, matching
from sctseg7t.report import plotting
from sctseg7t.report.html import inline_assets, page_environment
from sctseg7t.version import __version__

REPORT = "report.html"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def write_report(comparison: Comparison, folder: str | Path) -> Path:
    """Write ``report.html``, and its figures as ``figures/*.png`` (300 dpi), ``*.svg`` and ``*.pdf``.

    Parameters
    ----------
    comparison : Comparison
    folder : path
        Made if it does not exist.

    Returns
    -------
    Path
        Of ``report.html``.

    Raises
    ------
    OutputError
        The folder cannot be made or written.
    """
    figures = Path(folder) / "figures"
    try:
        figures.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another folder") from err
    drawn = list(plots(comparison))
    for plot in drawn:
        plotting.save(plot.figure, *(figures / f"{plot.name}.{kind}" for kind in ("png", "svg", "pdf")), dpi=300)
    # Names that are no text in the file system's encoding come as lone surrogates.
    return write_bytes(Path(folder) / REPORT, render(comparison, drawn).encode("utf-8", errors="replace"))


def write_markdown(comparison: Comparison, path: str | Path) -> Path:
    """Write the tables of a comparison as Markdown, for a paper's supplement or a pull request.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return write_bytes(path, render_markdown(comparison).encode("utf-8", errors="replace"))


def render(comparison: Comparison, drawn: Sequence[Plot] | None = None) -> str:
    """The page as text; ``drawn``: its figures, where they have been made (or are not wanted)."""
    environment = page_environment("sctseg7t.compare")
    environment.tests["best"] = lambda cell: isinstance(cell, cells.Best)
    found: dict[str, list] = {section: [] for section in ("main", "study", "areas", "lesions", "load")}
    for plot in plots(comparison) if drawn is None else drawn:
        found[plot.section].append((plot, plotting.as_data_uri(plot.figure)))
    slices, notes = worst_slice_pictures(comparison)
    lesions, lesion_notes = lesion_pictures(comparison)
    return environment.get_template("report.html.j2").render(
        **inline_assets(environment, ["report.css"]),
        **_content(comparison),
        pictures={structure: some for structure, some in slices.items() if some},
        picture_notes=notes,
        lesion_pictures=lesions,
        lesion_picture_notes=lesion_notes,
        plots=found,
    )


def render_markdown(comparison: Comparison) -> str:
    """The text of :func:`write_markdown`."""
    environment = page_environment("sctseg7t.compare")
    environment.filters.update(plain=plain, table=as_table, count=cells.count)
    text = environment.get_template("report.md.j2").render(**_content(comparison))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _content(comparison: Comparison) -> dict[str, Any]:
    """What both templates show, as plain values and tables."""
    of, how = comparison, None
    if len(of.lesion_rows):
        how = matching(of.settings.lesion_rule, of.settings.connectivity)
    metrics = [(metric.header(), metric.definition) for metric in TISSUE if of.has_tissues and metric.definition]
    return {
        "comparison": of,
        "cord": of.has_tissues,
        "who": cells.others_of(of),
        "matching": how,
        "rules": RULES,
        "metrics": metrics,
        "listed": cells.listed,
        "facts": tables.facts(of),
        "methods": tables.methods_table(of),
        "lesions": _lesions(of) if of.has_lesions else None,
        "problem_counts": Counter(problem.kind for problem in of.problems).most_common(),
        "problems": tables.problems_table(of),
        "headline": tables.headline_tables(of),
        "cautions": findings.cautions(of),
        "sentences": list(filter(None, (findings.best_of(of, structure)[1] for structure in of.structures))),
        "primary": metric_named("SC", primary_of("SC", of.settings.primary)).label,
        "groups": tables.group_tables(of),
        "without_failures": tables.without_failures_tables(of),
        "summaries": tables.study_tables(of),
        "study_summaries": tables.study_tables(of, failures=LEFT_OUT),
        "whole": [*tables.study_tables(of, "scan"), *tables.study_tables(of, "level")],
        "areas": tables.agreement_table(of),
        "repeatability": tables.repeatability_table(of),
        "subject_tests": tables.tests_table(of, "subject"),
        "slice_tests": tables.tests_table(of, "slice"),
        "outliers": tables.outliers_table(of),
        "scans": tables.scans_table(of),
        "legend": [(cells.colour_of(of, name), name) for name in cells.names_of_all(of)],
        "provenance": list(_flat({key: value for key, value in of.provenance.items() if key != "inputs"})),
        "names": STRUCTURES,
        "version": __version__,
    }


def _lesions(comparison: Comparison) -> dict[str, Any]:
    return {
        **lesion_tables.lesion_summary_tables(comparison),
        "cautions": findings.lesion_cautions(comparison),
        "agreement": tables.agreement_table(comparison, lesions=True),
        "repeatability": tables.repeatability_table(comparison, lesions=True),
        "sentence": findings.lesion_tests_sentence(comparison),
        "tests": tables.tests_table(comparison, "subject", lesions=True),
        "items": lesion_tables.lesion_items_table(comparison),
        "scans": lesion_tables.lesion_scans_table(comparison),
    }


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """(what, value) of nested entries, their names joined by blanks."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name} {key}".strip())
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item, name)
    elif value is not None:
        yield name, str(value)


# --- Markdown --------------------------------------------------------------------------------


def as_table(table: cells.Table) -> str:
    """A table as a pipe table with its caption; one word where it is empty."""
    if not table.rows:
        return f"**{plain(table.caption)}**: none."
    rule = (":--" if place in table.words else "--:" for place in range(len(table.columns)))
    lines = [f"**{plain(table.caption)}**", "", _line(map(plain, table.columns)), _line(rule)]
    lines += [_line(_cell(cell) for cell in row) for row in table.rows]
    notes = [table.note if table.dashed else "", table.cut]
    return "\n".join([*lines, *(f"\n{plain(note)}" for note in notes if note)])


def plain(text: object) -> str:
    """Text without meaning to Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _cell(cell) -> str:
    return f"**{plain(cell)}** (best)" if isinstance(cell, cells.Best) else plain(cell)


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
