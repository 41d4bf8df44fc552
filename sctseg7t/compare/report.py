"""Writing the report: one HTML file that needs nothing else, with its pictures beside it for papers."""

import math
from pathlib import Path

from sctseg7t.compare import lesion_sections, listings, sections
from sctseg7t.compare.figures import write_figures
from sctseg7t.compare.lesion_overlays import lesion_overlays
from sctseg7t.compare.overlays import overlays
from sctseg7t.compare.plots import LOAD, Sample, bland_altman, reach_of, violins, violins_of
from sctseg7t.compare.wording import BY_KEY, METRICS, NONE, STRUCTURES, count, listed
from sctseg7t.errors import OutputError, UsageError
from sctseg7t.files import writing
from sctseg7t.report.html import inline_assets, page_environment
from sctseg7t.version import __version__

REPORT = "report.html"
PLOTTED = ("dice", "hausdorff95_mm", "assd_mm", "size_difference")
STUDIED = ("HDRFDST", "AVGDIST_max", "VOLSMTY")
_EXPLAINED = (
    "dice",
    "hausdorff95_mm",
    "hausdorff_mm",
    "assd_mm",
    "normalised_surface_dice",
    "size_difference",
    "size_difference_percent",
    "HDRFDST",
    "AVGDIST_max",
    "AVGDIST_mean",
    "VOLSMTY",
)


def write_report(comparison, folder):
    """Write ``report.html`` and ``figures/*.png`` and ``*.svg``.

    Without matplotlib there are no figures; the page has its own plots and says what is missing.

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
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise OutputError(f"{folder}: cannot be made ({err.strerror or err}); choose another folder") from err
    figures, missing = [], ""
    try:
        figures = write_figures(comparison, folder / "figures")
    except UsageError as err:
        missing = str(err)
    path = folder / REPORT
    with writing(path) as stream:
        # Names that are no text in the file system's encoding come as lone surrogates.
        stream.write(render(comparison, figures, missing).encode("utf-8", errors="replace"))
    return path


def render(comparison, figures=(), missing=""):
    """The page as text; ``figures``: paths of the pictures beside it, ``missing``: why there are none."""
    environment = page_environment("sctseg7t.compare")
    environment.tests["best"] = lambda cell: isinstance(cell, sections.Best)
    environment.tests["dashed"] = lambda table: any(str(cell) == NONE for row in table.rows for cell in row)
    return environment.get_template("report.html.j2").render(
        **inline_assets(environment, ["report.css"]), **content(comparison, figures, missing)
    )


def content(comparison, figures=(), missing=""):
    """What the template shows, as plain values."""
    pictures, picture_notes = overlays(comparison)
    best = [sections.best_of(comparison, structure, "dice")[1] for structure in comparison.structures]
    return {
        "title": title_of(comparison),
        "comparison": comparison,
        "facts": sections.facts(comparison),
        "banner": banner(comparison),
        "methods": sections.methods_table(comparison),
        "settings": settings_of(comparison),
        "cord": sections.has_cord(comparison),
        "lesions": lesion_content(comparison) if comparison.lesions else None,
        "problem_counts": sections.problem_counts(comparison),
        "problems": sections.problems_table(comparison),
        "headline": sections.headline_tables(comparison),
        "cautions": [problem.message for problem in sections.flattering(comparison)],
        "sentences": [sentence for sentence in best if sentence],
        "plots": _plots(comparison, PLOTTED),
        "study_plots": _plots(comparison, STUDIED),
        "summaries": sections.study_tables(comparison),
        "whole": [*sections.study_tables(comparison, "scan"), *sections.study_tables(comparison, "level")],
        "areas": listings.areas_table(comparison),
        "area_plots": _area_plots(comparison),
        "repeatability": listings.repeatability_table(comparison),
        "subject_tests": sections.tests_table(comparison, "subject"),
        "slice_tests": sections.tests_table(comparison, "slice"),
        "legend": legend(comparison),
        "pictures": {structure: found for structure, found in pictures.items() if found},
        "picture_notes": picture_notes,
        "outliers": listings.outliers_table(comparison),
        "scans": listings.scans_table(comparison),
        "metrics": [BY_KEY[key] for key in _EXPLAINED],
        "provenance": provenance(comparison),
        "figures": [path.name for path in figures if path.suffix == ".svg"],
        "missing": missing,
        "names": STRUCTURES,
        "version": __version__,
    }


def lesion_content(comparison):
    """What the template shows of lesions."""
    pictures, notes = lesion_overlays(comparison)
    return {
        "rule": lesion_sections.rule_text(comparison),
        "headline": lesion_sections.headline_table(comparison),
        "cautions": [problem.message for problem in sections.flattering(comparison, lesions=True)],
        "counts": lesion_sections.counts_table(comparison),
        "by_load": lesion_sections.load_table(comparison),
        "by_size": lesion_sections.size_table(comparison),
        "plots": _lesion_plots(comparison),
        "load_plots": _load_plots(comparison),
        "agreement": lesion_sections.agreement_table(comparison),
        "repeatability": lesion_sections.repeatability_table(comparison),
        "sentence": lesion_sections.tests_sentence(comparison),
        "tests": lesion_sections.tests_table(comparison),
        "pictures": pictures,
        "picture_notes": notes,
        "items": lesion_sections.items_table(comparison),
        "scans": lesion_sections.scans_table(comparison),
        "definitions": lesion_sections.definitions(comparison),
    }


def settings_of(comparison):
    """(what, value) of the settings, with those of lesions."""
    more = lesion_sections.settings_list(comparison) if comparison.lesions else []
    return [*sections.settings_list(comparison), *more]


def _lesion_plots(comparison):
    """(measure, its plot) of F1 and Dice over scans."""
    found = []
    for metric in (lesion_sections.F1, lesion_sections.DICE):
        samples = [
            Sample(
                sections.pair_name(comparison, *pair),
                sections.pair_colour(comparison, *pair),
                values,
                names,
                values[:0],
            )
            for pair, values, names in lesion_sections.samples_of(comparison, metric)
        ]
        svg = violins_of(samples, "LESION", metric)
        if svg is not None:
            found.append((metric, svg))
    return found


def _load_plots(comparison):
    """(caption, SVG) of each two masks' loads, on one scale."""
    loads = [load for load in comparison.lesions.loads if math.isfinite(load.bland_altman.sd)]
    if not loads:
        return []
    lows, highs = zip(*(reach_of(load, intervals=False) for load in loads))
    drawn = []
    for load in loads:
        name = sections.pair_name(comparison, load.method, load.against)
        svg = bland_altman(comparison, load, reach=(min(lows), max(highs)), quantity=LOAD)
        drawn.append((f"{name} ({count(load.bland_altman.n, 'scan')})", svg))
    return drawn


def title_of(comparison):
    """What is compared with what, in one line."""
    methods = comparison.methods
    if comparison.reference and len(methods) == 1:
        return f"{methods[0]} against the reference"
    return f"Comparison of {listed(methods)}"


def banner(comparison):
    """One line on what is the truth here."""
    if comparison.reference:
        name = comparison.reference if comparison.reference == "reference" else f"reference {comparison.reference}"
        return (
            f"Every number is of a method against the {name}, and as good as it is: where the reference is wrong, "
            "a method that is right loses."
        )
    return (
        "No reference: agreement between methods says nothing about which is right. Each line compares two methods, "
        "of which neither is the truth; no method is called best."
    )


def legend(comparison):
    """(class of the colour, name) of each method and the reference."""
    names = [*comparison.methods, *([comparison.reference] if comparison.reference else [])]
    return [(sections.colour_of(comparison, name), name) for name in names]


def provenance(comparison):
    """(what, value) of the run: nested entries joined by dots, hashes of the masks left to the tables."""
    return list(_flat({key: value for key, value in comparison.provenance.items() if key != "inputs"}))


def _flat(value, name=""):
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name} {key}".strip())
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item, name)
    elif value is not None:
        yield name, str(value)


def _plots(comparison, keys):
    """(measure, its plots by structure), without the measures that have no value."""
    found = []
    for metric in METRICS:
        if metric.key in keys:
            drawn = [(s, violins(comparison, s, metric)) for s in comparison.structures]
            drawn = [(structure, svg) for structure, svg in drawn if svg is not None]
            if drawn:
                found.append((metric, drawn))
    return found


def _area_plots(comparison):
    """(structure, rows of (caption, SVG)): differences in mm2, then in percent, on one scale for all methods."""
    found = []
    for structure in comparison.structures:
        areas = [a for a in comparison.areas if a.structure == structure and math.isfinite(a.bland_altman.sd)]
        if areas:
            found.append((structure, [_area_line(comparison, areas, percent) for percent in (False, True)]))
    return found


def _area_line(comparison, areas, percent):
    lows, highs = zip(*(reach_of(area, percent) for area in areas))
    drawn = []
    for area in areas:
        name = sections.pair_name(comparison, area.method, area.against)
        svg = bland_altman(comparison, area, percent, (min(lows), max(highs)))
        drawn.append((f"{name}, {'%' if percent else 'mm²'} ({count(area.bland_altman.n, 'slice')})", svg))
    return drawn
