"""The report's tables and sentences, from a Comparison; HTML and Markdown are two ways to write them."""

import math
from collections import Counter, defaultdict
from dataclasses import dataclass

from sctseg7t.compare.names import LESION
from sctseg7t.compare.wording import (
    METRICS,
    NONE,
    STRUCTURES,
    count,
    interval,
    listed,
    metric_named,
    number,
    p_text,
    signed,
)

STUDY = ("dice", "HDRFDST", "AVGDIST_max", "AVGDIST_mean", "VOLSMTY", "hausdorff95_mm", "assd_mm", "size_difference")
COLOURS = 6
_SHOWN_PROBLEMS = 300
_NO_SLICE = f"{NONE}: not defined, for no slice is left once outliers are out (an SD or interval needs two)."


@dataclass(frozen=True)
class Best:
    """A cell that is better than all others by a test."""

    text: str

    def __str__(self):
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of text for people. ``words``: columns that hold words, the others hold numbers."""

    caption: str
    columns: tuple
    rows: tuple
    words: tuple = (0,)
    note: str = ""


def pair_name(comparison, method, against):
    """What a row of a table is called: the method, and without a reference what it is compared with."""
    return method if against == comparison.reference else f"{method} vs {against}"


def place_of(comparison, structure, method):
    """For sorting: structures and methods in the order of the comparison, the reference last."""
    orders = (structure, comparison.structures), (method, comparison.methods)
    return [names.index(name) if name in names else len(names) for name, names in orders]


def pairs(comparison, structure):
    """(method, against) that are compared for a structure, in the order of the methods."""
    found = {(row.method, row.against) for row in comparison.rows if row.structure == structure}
    found |= {(row.method, row.against) for row in comparison.summary if row.structure == structure}
    order = {method: place for place, method in enumerate(comparison.methods)}
    return sorted(found, key=lambda pair: (order.get(pair[0], 99), order.get(pair[1], 99), pair))


def colour_of(comparison, method):
    """Class of a method's colour, the same in all pictures: ``m0`` to ``m5``, or ``reference``."""
    if method == comparison.reference:
        return "reference"
    return f"m{comparison.methods.index(method) % COLOURS}" if method in comparison.methods else "pair"


def pair_colour(comparison, method, against):
    """Class of the colour of a comparison: the method's, and ``pair`` between two methods."""
    return colour_of(comparison, method) if against == comparison.reference else "pair"


def has_cord(comparison):
    """Whether the report is of slices of the cord; else it is of lesions alone."""
    return bool(comparison.rows) or not comparison.lesions


def facts(comparison):
    """Counts for the head of the report: (number, of what)."""
    compared = {row.case for row in (*comparison.rows, *(comparison.lesions.rows if comparison.lesions else ()))}
    subjects = {case.subject or case.name for case in comparison.cases if case.name in compared}
    slices = {(row.case, row.index) for row in comparison.rows if row.where == "slice"}
    outliers = sum(1 for row in comparison.rows if row.where == "slice" and row.outlier)
    found = [(len(compared), "scan"), (len(subjects), "subject")]
    methods, problems = (len(comparison.methods), "method"), (len(comparison.problems), "problem")
    if not has_cord(comparison):
        items = Counter(item.kind for item in comparison.lesions.items)
        alone = ("missed lesion", "false lesion") if comparison.reference else ("unmatched lesion",)
        numbers = (items["missed"], items["false"]) if comparison.reference else (sum(items.values()),)
        found += [methods, *zip(numbers, alone), problems]
    else:
        found += [(len(slices), "slice"), methods, (outliers, "outlier"), problems]
    return [(n, count(n, thing).split(" ", 1)[1]) for n, thing in found]


# --- what was compared -----------------------------------------------------------------


def methods_table(comparison):
    """Each method and the reference: role, model, and in how many scans it has each structure."""
    names = [*comparison.methods, *([comparison.reference] if comparison.reference else [])]
    having = {key[1] for case in comparison.cases for key in case.masks}
    lesions = (LESION,) if comparison.lesions and LESION in having else ()
    structures = (*comparison.structures, *lesions) or sorted(having)
    having = Counter((key[0], key[1]) for case in comparison.cases for key in case.masks)
    rows = []
    for name in names:
        model = model_of(comparison, name)
        role = "REFERENCE" if name == comparison.reference else "method"
        rows.append((name, role, *model, *(str(having[name, structure]) for structure in structures)))
    return Table(
        "Methods and their masks",
        ("Name", "Role", "Model", "Version", "Weights, SHA-256", *(f"{s} masks" for s in structures)),
        tuple(rows),
        (0, 1, 2, 3, 4),
        f"{NONE}: masks that were given as files; what made them is not known here.",
    )


def model_of(comparison, method):
    """(model, version, hash of weights) of a method as the provenance tells; "-" where it does not."""
    known = comparison.provenance.get("models") or {}
    found = known.get(method) if isinstance(known, dict) else None
    entries = [e for e in (found if isinstance(found, (list, tuple)) else [found]) if isinstance(e, dict)]
    if not entries:
        return (NONE, NONE, NONE)
    names = [str(entry.get("id") or entry.get("name") or method) for entry in entries]
    # The network itself, and after it the one that finds the cord for it.
    name = f"{names[0]} (cord found by {listed(names[1:])})" if len(names) > 1 else names[0]
    return name, str(entries[0].get("version") or NONE), str(entries[0].get("sha256") or NONE)[:16]


def settings_list(comparison):
    """(what, value) of the settings."""
    settings = comparison.settings
    grids = {"refuse": "refused", "resample": "resampled, nearest neighbour"}.get(settings.grids, settings.grids)
    of_slices = [
        ("outlier", f"a slice with Dice ≤ {settings.failure_dice:g}, or in which one mask is empty"),
        ("trimmed mean", f"{settings.trim:.0%} cut at each end" if settings.trim else "nothing cut"),
    ]
    return [
        *(of_slices if has_cord(comparison) else ()),
        ("confidence", f"{settings.confidence:.0%}"),
        *([("surface tolerance", f"{settings.tolerance_mm:g} mm")] if has_cord(comparison) else ()),
        ("masks on other grids", grids),
        ("soft masks", "refused" if settings.threshold is None else f"cut at {settings.threshold:g}"),
    ]


def problem_counts(comparison):
    """``3 grid, 1 soft``, most frequent first."""
    return Counter(problem.kind for problem in comparison.problems).most_common()


def problems_table(comparison):
    shown = sorted(comparison.problems, key=lambda p: (not p.left_out, p.kind, p.case or ""))[:_SHOWN_PROBLEMS]
    rows = tuple(
        (p.kind, p.case or NONE, p.method or NONE, p.structure or NONE, p.message, "left out" if p.left_out else "used")
        for p in shown
    )
    return Table(
        "Problems, and what to do",
        ("Kind", "Scan", "Method", "Structure", "What, and the remedy", "Mask"),
        rows,
        (0, 1, 2, 3, 4, 5),
        cut_note(len(rows), len(comparison.problems)),
    )


def flattering(comparison, lesions=False):
    """Problems that make a method look better than it is: masks that are the reference's to the voxel."""
    found = [problem for problem in comparison.problems if problem.kind == "identical"] if comparison.reference else []
    return [problem for problem in found if (problem.structure == LESION) is lesions]


# --- summaries ---------------------------------------------------------------------------


def summaries(comparison, where="slice"):
    """Summary rows by (structure, method, against, key of the measure)."""
    found = {}
    for row in comparison.summary:
        metric = metric_named(row.metric, row.unit)
        if row.where == where and metric:
            found.setdefault((row.structure, row.method, row.against, metric.key), row)
    return found


def headline_tables(comparison):
    """The table to read first, one for each structure."""
    known = summaries(comparison)
    areas = {(a.structure, a.method, a.against): a for a in comparison.areas}
    return [_headline(comparison, structure, known, areas) for structure in comparison.structures]


def _headline(comparison, structure, known, areas):
    best, _ = best_of(comparison, structure, "dice")
    flattered = {problem.method for problem in flattering(comparison) if problem.structure in (structure, None)}
    rows = []
    for method, against in pairs(comparison, structure):
        dice = known.get((structure, method, against, "dice"))
        hd95 = known.get((structure, method, against, "hausdorff95_mm"))
        area = areas.get((structure, method, against))
        cells = [number(dice and dice.mean, 3), number(dice and dice.median, 3), number(dice and dice.sd, 3)]
        if method == best and method not in flattered:
            cells[0] = Best(cells[0])
        bias = area.bland_altman if area else None
        rows.append(
            (
                pair_name(comparison, method, against),
                str(dice.n) if dice else NONE,
                str(dice.outliers) if dice else NONE,
                *cells,
                number(hd95 and hd95.mean, 2),
                signed(bias.bias, 2) if bias else NONE,
                interval(bias.lower, bias.upper, 1) if bias else NONE,
                signed(bias.bias_percent, 1) if bias else NONE,
                number(area.icc if area else None, 3),
            )
        )
    columns = (
        "Method" if comparison.reference else "Methods",
        "Slices",
        "Outliers",
        "Dice mean",
        "Dice median",
        "Dice SD",
        "HD95 mean (mm)",
        "CSA bias (mm²)",
        "Limits of agreement (mm²)",
        "CSA bias (%)",
        "ICC",
    )
    return Table(f"{structure}, {STRUCTURES.get(structure, '')}".rstrip(", "), columns, tuple(rows), (0,), _NO_SLICE)


def study_tables(comparison, where="slice"):
    """Methods by measure for each structure: n, outliers, mean, median, SD, interval."""
    known = summaries(comparison, where)
    tables = []
    for structure in comparison.structures:
        rows = []
        for metric in METRICS:
            if metric.key not in STUDY and where == "slice" and metric.key != "size_difference_percent":
                continue
            for method, against in pairs(comparison, structure):
                row = known.get((structure, method, against, metric.key))
                if row:
                    rows.append(_summary_cells(comparison, metric, row))
        if rows:
            kind = {"slice": "slices, in 2D", "level": "vertebral levels, in 3D", "scan": "scans, in 3D"}[where]
            tables.append(
                Table(
                    f"{structure}: all measures over {kind}",
                    _summary_columns(comparison),
                    tuple(rows),
                    (0, 1),
                    _NO_SLICE,
                )
            )
    return tables


def _summary_columns(comparison):
    trimmed = (f"Trimmed mean ({comparison.settings.trim:.0%})",) if comparison.settings.trim else ()
    level = f"{comparison.settings.confidence:.0%} interval of the mean"
    return ("Measure", "Method", "n", "Outliers", "Mean", "Median", "SD", *trimmed, level)


def _summary_cells(comparison, metric, row):
    unit = {"mm2": "mm²", "mm3": "mm³"}.get(row.unit, row.unit) or metric.unit
    label = metric.label.replace("CSA", "Volume") if unit == "mm³" else metric.label
    trimmed = (number(row.trimmed_mean, metric.digits),) if comparison.settings.trim else ()
    numbers = (number(value, metric.digits) for value in (row.mean, row.median, row.sd))
    return (
        f"{label} ({unit})" if unit else label,
        pair_name(comparison, row.method, row.against),
        str(row.n),
        str(row.outliers),
        *numbers,
        *trimmed,
        interval(row.low, row.high, metric.digits),
    )


# --- tests -------------------------------------------------------------------------------


def best_of(comparison, structure, key):
    """The method that a test shows to be better than every other, and the sentence that says so.

    Cited is the paired test over subjects; where that is not to be had, none.

    Returns
    -------
    method : str or None
    sentence : str
    """
    metric = metric_named(key)
    known = summaries(comparison)
    means = {
        method: known[structure, method, comparison.reference, key].mean
        for method in comparison.methods
        if (structure, method, comparison.reference, key) in known
    }
    means = {method: mean for method, mean in means.items() if math.isfinite(mean)}
    if comparison.reference is None or len(means) < 2:
        return None, ""
    tests = [
        test
        for test in comparison.tests
        if test.structure == structure
        and test.unit == "subject"
        and test.test == "wilcoxon"
        and metric_named(test.metric) == metric
    ]
    if not tests:
        return None, f"{structure}: {metric.label} was not tested over subjects."
    alpha = 1 - comparison.settings.confidence
    subjects = max(test.n[0] for test in tests)
    sign = -1 if metric.better == "low" else 1
    won = defaultdict(dict)
    for test in tests:
        if test.p_holm < alpha and test.effect:
            first = test.effect * sign > 0
            winner, loser = (test.first, test.second) if first else (test.second, test.first)
            won[winner][loser] = test.p_holm
    word = "lower" if metric.better == "low" else "higher"
    over = f"paired Wilcoxon test over {count(subjects, 'subject')}, corrected by Holm"
    if not won:
        few = _out_of_reach(comparison, subjects, alpha)
        return None, (
            f"{structure}: no difference in {metric.label} between methods is significant ({over}). "
            f"The {word} mean is no evidence by itself.{few}"
        )
    sentences = []
    for method, beaten in won.items():
        against = listed(
            f"{other} ({number(means.get(other), metric.digits)}, p {_equals(p)})" for other, p in beaten.items()
        )
        sentences.append(f"{method} ({number(means.get(method), metric.digits)}) is {word} than {against}")
    best = next((method for method, beaten in won.items() if set(means) - {method} <= set(beaten)), None)
    return best, f"{structure}, {metric.label}: {'; '.join(sentences)} ({over})."


def _out_of_reach(comparison, subjects, alpha):
    """Why no test could be significant, where it is the number of subjects; else ""."""
    family = sum(1 for t in comparison.tests if (t.unit, t.test) == ("subject", "wilcoxon") and math.isfinite(t.p))
    # All signs alike is the rarest outcome; Holm multiplies the smallest p by the number of tests.
    least = min(1.0, 2 * 0.5**subjects * max(family, 1))
    if least < alpha:
        return ""
    of = f"{count(subjects, 'subject')} and {count(family, 'test')}"
    return f" With {of} no p can be below {least:.2g} after correction."


def _equals(p):
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def tests_table(comparison, unit):
    """Tests over subjects, or over slices."""
    tests = [test for test in comparison.tests if test.unit == unit]
    rows = tests_rows(comparison, tests, _measure_of)
    columns = (
        "Structure",
        "Measure",
        "Methods",
        "Test",
        "n",
        "Effect, -1 to 1",
        "Larger values",
        "p",
        "p, Holm",
        f"p < {1 - comparison.settings.confidence:.2g}",
    )
    over = "subjects (each subject's mean over its slices)" if unit == "subject" else "slices"
    note = f"{NONE}: no test, for there are too few pairs or all of them are equal."
    return Table(f"Tests over {over}", columns, tuple(rows), (0, 1, 2, 3, 6, 9), note)


def _measure_of(test):
    metric = metric_named(test.metric)
    return metric.header if metric else test.metric


def tests_rows(comparison, tests, measure):
    """Cells of tests; ``measure``: from a test to the name of its measure."""
    rows = []
    for test in tests:
        larger = NONE if not test.effect or math.isnan(test.effect) else test.first if test.effect > 0 else test.second
        significant = "yes" if test.p_holm < 1 - comparison.settings.confidence else "no"
        n = str(test.n[0]) if test.n[0] == test.n[1] else f"{test.n[0]} / {test.n[1]}"
        rows.append(
            (
                test.structure,
                measure(test),
                f"{test.first} vs {test.second}",
                {"mann-whitney": "Mann-Whitney", "wilcoxon": "Wilcoxon, paired"}.get(test.test, test.test),
                n,
                signed(test.effect, 2),
                larger,
                p_text(test.p),
                p_text(test.p_holm),
                NONE if math.isnan(test.p_holm) else significant,
            )
        )
    return rows


def cut_note(shown, total):
    return "" if shown >= total else f"The first {shown} of {total} are shown; the CSV tables hold all."
