"""The report's tables as Markdown, for a paper's supplement or a pull request."""

import re
from pathlib import Path

from sctseg7t.compare import lesion_sections, listings, sections
from sctseg7t.compare.report import banner, provenance, settings_of, title_of
from sctseg7t.compare.wording import METRICS, NONE, count
from sctseg7t.files import write_bytes

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#~$&])")


def write_markdown(comparison, path):
    """Write the tables of a comparison as Markdown.

    Parameters
    ----------
    comparison : Comparison
    path : path
        Its folder must exist.

    Returns
    -------
    Path

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    return write_bytes(Path(path), markdown(comparison).encode("utf-8", errors="replace"))


def markdown(comparison):
    """The text of :func:`write_markdown`."""
    facts = ", ".join(count(n, thing.removesuffix("s")) for n, thing in sections.facts(comparison))
    parts = [f"# {plain(title_of(comparison))}", plain(banner(comparison)), facts + "."]
    parts += ["## What was compared", as_table(sections.methods_table(comparison))]
    parts.append("\n".join(f"- {plain(name)}: {plain(value)}" for name, value in settings_of(comparison)))
    parts += _cord(comparison) if sections.has_cord(comparison) else []
    parts += _lesions(comparison) if comparison.lesions else []
    parts += ["## Problems", as_table(sections.problems_table(comparison))]
    parts += ["## Outliers", as_table(listings.outliers_table(comparison))] if sections.has_cord(comparison) else []
    parts.append("## Method")
    parts.append("\n".join(f"- **{plain(name)}**: {plain(text)}" for name, text in _definitions(comparison)))
    parts.append("\n".join(f"- {plain(name)}: {plain(value)}" for name, value in provenance(comparison)))
    return "\n\n".join(part for part in parts if part) + "\n"


def _definitions(comparison):
    if sections.has_cord(comparison):
        yield from ((m.header, m.definition) for m in METRICS if m.key in sections.STUDY)
    if comparison.lesions:
        yield from lesion_sections.definitions(comparison)


def _lesions(comparison):
    parts = ["## Lesions", plain(lesion_sections.rule_text(comparison))]
    tables = (
        lesion_sections.headline_table,
        lesion_sections.counts_table,
        lesion_sections.load_table,
        lesion_sections.size_table,
        lesion_sections.agreement_table,
        lesion_sections.repeatability_table,
    )
    parts += [as_table(table(comparison)) for table in tables]
    parts += [f"**{plain(problem.message)}**" for problem in sections.flattering(comparison, lesions=True)]
    parts.append(plain(lesion_sections.tests_sentence(comparison)))
    if comparison.lesions.tests:
        parts.append(as_table(lesion_sections.tests_table(comparison)))
    return [*parts, as_table(lesion_sections.scans_table(comparison))]


def _cord(comparison):
    parts = ["## Results"]
    parts += [as_table(table) for table in sections.headline_tables(comparison)]
    parts += [f"**{plain(problem.message)}**" for problem in sections.flattering(comparison)]
    best = (sections.best_of(comparison, structure, "dice")[1] for structure in comparison.structures)
    parts += [plain(sentence) for sentence in best if sentence]
    parts.append("## All measures")
    parts.append("Over slices, in 2D; outliers are counted and left out of the numbers.")
    parts += [as_table(table) for table in sections.study_tables(comparison)]
    parts += ["## CSA", as_table(listings.areas_table(comparison)), as_table(listings.repeatability_table(comparison))]
    parts.append("## Tests")
    parts.append("Slices of one subject are not independent: cite the tests over subjects.")
    parts += [as_table(sections.tests_table(comparison, unit)) for unit in ("subject", "slice")]
    return parts


def as_table(table):
    """A Table as a pipe table with its caption; one word where it is empty."""
    if not table.rows:
        return f"**{plain(table.caption)}**: none."
    rule = (":--" if place in table.words else "--:" for place in range(len(table.columns)))
    lines = [f"**{plain(table.caption)}**", "", _line(map(plain, table.columns)), _line(rule)]
    lines += [_line(_cell(cell) for cell in row) for row in table.rows]
    if table.note and (any(str(cell) == NONE for row in table.rows for cell in row) or "first" in table.note):
        lines += ["", plain(table.note)]
    return "\n".join(lines)


def plain(text):
    """Text without meaning to Markdown or HTML, on one line."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(text).split()))


def _cell(cell):
    return f"**{plain(cell)}** (best)" if isinstance(cell, sections.Best) else plain(cell)


def _line(cells):
    return f"| {' | '.join(cells)} |"
