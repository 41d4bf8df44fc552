"""Writing the report: one HTML file that needs nothing else, its figures beside it for papers, and Markdown."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sctseg7t.compare import report_tables as tables
from sctseg7t.compare.pictures import lesion_pictures, worst_slice_pictures
from sctseg7t.compare.plots import Plot, plots
from sctseg7t.compare.types import LESION, STRUCTURES, Comparison
from sctseg7t.errors import OutputError
from sctseg7t.files import write_bytes
from sctseg7t.report import plotting
from sctseg7t.report.html import inline_assets, page_environment
from sctseg7t.version import __version__

REPORT = "report.html"
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def write_report(comparison: Comparison, folder: str | Path) -> Path:
    """Write ``report.html``, and its figures as ``figures/*.png`` and ``*.svg``.

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
        plotting.save(plot.figure, figures / f"{plot.name}.png", figures / f"{plot.name}.svg")
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
    environment.tests["best"] = lambda cell: isinstance(cell, tables.Best)
    found: dict[str, list] = {section: [] for section in ("main", "study", "areas", "lesions", "load")}
    for plot in plots(comparison) if drawn is None else drawn:
        found[plot.section].append((plot, plotting.as_data_uri(plot.figure)))
    return environment.get_template("report.html.j2").render(
        **inline_assets(environment, ["report.css"]),
        **_content(comparison),
        **_pictures(comparison),
        plots=found,
    )


def render_markdown(comparison: Comparison) -> str:
    """The text of :func:`write_markdown`."""
    environment = page_environment("sctseg7t.compare")
    environment.filters.update(plain=plain, table=as_table, count=tables.count)
    text = environment.get_template("report.md.j2").render(**_content(comparison))
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _content(comparison: Comparison) -> dict[str, Any]:
    """What both templates show, as plain values and tables."""
    best = [tables.best_of(comparison, structure, "dice")[1] for structure in comparison.structures]
    found = {
        "title": tables.title_of(comparison),
        "comparison": comparison,
        "facts": tables.facts(comparison),
        "banner": tables.banner(comparison),
        "methods": tables.methods_table(comparison),
        "settings": tables.settings_list(comparison),
        "cord": comparison.has_tissues,
        "lesions": None,
        "problem_counts": Counter(problem.kind for problem in comparison.problems).most_common(),
        "problems": tables.problems_table(comparison),
        "headline": tables.headline_tables(comparison),
        "cautions": [problem.message for problem in tables.flattering(comparison)],
        "sentences": [sentence for sentence in best if sentence],
        "summaries": tables.study_tables(comparison),
        "whole": [*tables.study_tables(comparison, "scan"), *tables.study_tables(comparison, "level")],
        "areas": tables.agreement_table(comparison),
        "repeatability": tables.repeatability_table(comparison),
        "subject_tests": tables.tests_table(comparison, "subject"),
        "slice_tests": tables.tests_table(comparison, "slice"),
        "outliers": tables.outliers_table(comparison),
        "scans": tables.scans_table(comparison),
        "definitions": tables.definitions(comparison),
        "legend": [(tables.colour_of(comparison, name), name) for name in tables.names_of_all(comparison)],
        "provenance": tables.provenance_list(comparison),
        "names": STRUCTURES,
        "version": __version__,
    }
    if comparison.has_lesions:
        found["lesions"] = {
            "rule": tables.rule_text(comparison),
            "headline": tables.lesion_headline_table(comparison),
            "cautions": [problem.message for problem in tables.flattering(comparison, lesions=True)],
            "counts": tables.lesion_counts_table(comparison),
            "by_load": tables.lesion_load_table(comparison),
            "by_size": tables.lesion_size_table(comparison),
            "agreement": tables.agreement_table(comparison, lesions=True),
            "repeatability": tables.repeatability_table(comparison, lesions=True),
            "sentence": tables.lesion_tests_sentence(comparison),
            "tests": tables.tests_table(comparison, "subject", lesions=True),
            "items": tables.lesion_items_table(comparison),
            "scans": tables.lesion_scans_table(comparison),
        }
    return found


def _pictures(comparison: Comparison) -> dict[str, Any]:
    slices, notes = worst_slice_pictures(comparison)
    lesions, lesion_notes = lesion_pictures(comparison) if comparison.pairs_of(LESION) else ([], [])
    return {
        "pictures": {structure: found for structure, found in slices.items() if found},
        "picture_notes": notes,
        "lesion_pictures": lesions,
        "lesion_picture_notes": lesion_notes,
    }


# --- Markdown --------------------------------------------------------------------------------


def as_table(table: tables.Table) -> str:
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
    return f"**{plain(cell)}** (best)" if isinstance(cell, tables.Best) else plain(cell)


def _line(cells) -> str:
    return f"| {' | '.join(cells)} |"
