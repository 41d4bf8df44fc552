"""The report's tables and sentences, as text; HTML, Markdown and the console are ways to show them."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sctseg7t.compare.analysis import LEAST_SUBJECTS, load_names
from sctseg7t.compare.metrics import TISSUE, Metric, metric_named, pretty, size_strata
from sctseg7t.compare.tables import what_of
from sctseg7t.compare.types import LESION, REFERENCE, STRUCTURES, Comparison, Problem
from sctseg7t.measure.lesion_matching import RULES, matching

if TYPE_CHECKING:
    import pandas as pd

NONE = "-"
COLOURS = 6
SHOWN_PROBLEMS, SHOWN_OUTLIERS, SHOWN_SCANS, SHOWN_ITEMS = 300, 400, 1500, 200
_NO_SLICE = f"{NONE}: not defined, for no slice is left once outliers are out (an SD or interval needs two)."


# --- numbers and words -----------------------------------------------------------------------


def number(value: float | None, digits: int = 2) -> str:
    """A number for people: "-" where it is not defined, never "-0.00"."""
    if value is None or math.isnan(value):
        return NONE
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:.{digits}f}"
    return text.lstrip("-") if float(text) == 0 else text


def signed(value: float | None, digits: int = 2) -> str:
    """A difference: with its sign."""
    text = number(value, digits)
    return f"+{text}" if text[0].isdigit() and float(text) else text


def interval(low: float | None, high: float | None, digits: int = 2) -> str:
    """``low to high``, or "-"."""
    if any(v is None or math.isnan(v) for v in (low, high)):
        return NONE
    return f"{number(low, digits)} to {number(high, digits)}"


def p_text(p: float | None) -> str:
    """A p value: ``< 0.001`` below that."""
    if p is None or math.isnan(p):
        return NONE
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def count(n: int, thing: str) -> str:
    """``1 scan``, ``3 scans``."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{n} {thing if n == 1 else plural}"


def listed(words: Iterable[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- tables ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Best:
    """A cell that is better than all others by a test."""

    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Table:
    """Rows of text for people.

    Attributes
    ----------
    caption : str
    columns : tuple of str
    rows : tuple of tuple
        Of str or :class:`Best`.
    words : tuple of int
        Columns that hold words; the others hold numbers.
    note : str
        Below the table; "" for none. Shown where a cell is not defined, or rows were left out.
    cut : str
        How many rows of how many are shown; "" where all are.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple, ...]
    words: tuple[int, ...] = (0,)
    note: str = ""
    cut: str = ""

    @property
    def dashed(self) -> bool:
        """Whether any cell is not defined."""
        return any(str(cell) == NONE for row in self.rows for cell in row)


class Column(NamedTuple):
    """A column of a table: its header, what a row has there, and whether that is words."""

    header: str
    cell: Callable[[Any], object]
    words: bool = False


def make_table(
    caption: str, rows: Iterable[Any], columns: Sequence[Column], note: str = "", most: int | None = None
) -> Table:
    """A table of rows of any kind, of which at most so many are shown."""
    rows = list(rows)
    shown = rows[:most]
    cells = tuple(
        tuple(c if isinstance(c, Best) else str(c) for c in (one.cell(row) for one in columns)) for row in shown
    )
    cut = "" if len(shown) == len(rows) else f"The first {most} of {len(rows)} are shown; the CSV tables hold all."
    words = tuple(place for place, one in enumerate(columns) if one.words)
    return Table(caption, tuple(one.header for one in columns), cells, words, note, cut)


# --- who is who ------------------------------------------------------------------------------


def pair_name(comparison: Comparison, method: str, against: str) -> str:
    """What a row of a table is called: the method, and without a reference what it is compared with."""
    return method if against == comparison.reference else f"{method} vs {against}"


def colour_of(comparison: Comparison, method: str) -> str:
    """Class of a method's colour, the same in all pictures: ``m0`` to ``m5``, or ``reference``."""
    if method == comparison.reference:
        return "reference"
    return f"m{comparison.methods.index(method) % COLOURS}"


def pair_colour(comparison: Comparison, method: str, against: str) -> str:
    """Class of the colour of a comparison: the method's, and ``pair`` between two methods."""
    return colour_of(comparison, method) if against == comparison.reference else "pair"


def names_of_all(comparison: Comparison) -> list[str]:
    """The methods, and the reference if there is one."""
    return [*comparison.methods, *([comparison.reference] if comparison.reference else [])]


def _method_column(comparison: Comparison) -> Column:
    header = "Method" if comparison.reference else "Methods"
    return Column(header, lambda row: pair_name(comparison, row.method, row.against), True)


def _others(comparison: Comparison) -> dict[str, str]:
    """What the two masks of a pair, and lesions of one alone, are called."""
    if comparison.reference:
        return {
            "own": "Method's",
            "other": "Reference's",
            "the other": "reference",
            "missed": "Missed",
            "false": "False",
        }
    return {
        "own": "First's",
        "other": "Second's",
        "the other": "second method",
        "missed": "Second alone",
        "false": "First alone",
    }


# --- what was compared -----------------------------------------------------------------------


def title_of(comparison: Comparison) -> str:
    """What is compared with what, in one line."""
    methods = comparison.methods
    if comparison.reference and len(methods) == 1:
        return f"{methods[0]} against the reference"
    return f"Comparison of {listed(methods)}"


def banner(comparison: Comparison) -> str:
    """One line on what is the truth here."""
    if comparison.reference:
        name = REFERENCE if comparison.reference == REFERENCE else f"reference {comparison.reference}"
        return (
            f"Every number is of a method against the {name}, and as good as it is: where the reference is wrong, "
            "a method that is right loses."
        )
    return (
        "No reference: agreement between methods says nothing about which is right. Each line compares two methods, "
        "of which neither is the truth; no method is called best."
    )


def facts(comparison: Comparison) -> list[tuple[int, str]]:
    """Counts for the head of the report: (number, of what)."""
    slices, unmatched = comparison.slices(), comparison.unmatched
    compared = set(comparison.rows.case) | set(comparison.lesion_rows.case)
    subjects = {case.subject or case.name for case in comparison.cases if case.name in compared}
    found = [(len(compared), "scan"), (len(subjects), "subject")]
    methods, problems = (len(comparison.methods), "method"), (len(comparison.problems), "problem")
    if comparison.has_tissues:
        outliers = (int((slices.outlier != "").sum()), "outlier")
        found += [(len(slices[["case", "index"]].drop_duplicates()), "slice"), methods, outliers, problems]
    elif comparison.reference:
        kinds = Counter(unmatched.kind)
        found += [methods, (kinds["missed"], "missed lesion"), (kinds["false"], "false lesion"), problems]
    else:
        found += [methods, (len(unmatched), "unmatched lesion"), problems]
    return found


def methods_table(comparison: Comparison) -> Table:
    """Each method and the reference: role, model, and in how many scans it has each structure."""
    having = Counter(key for case in comparison.cases for key in case.masks)
    tissues = {structure for _, structure in having}
    structures = [s for s in STRUCTURES if s in (*comparison.structures, LESION) and s in tissues] or sorted(tissues)
    columns = [
        Column("Name", lambda name: name, True),
        Column("Role", lambda name: "REFERENCE" if name == comparison.reference else "method", True),
        Column("Model", lambda name: _model_of(comparison, name)[0], True),
        Column("Version", lambda name: _model_of(comparison, name)[1], True),
        Column("Weights, SHA-256", lambda name: _model_of(comparison, name)[2], True),
        *(Column(f"{s} masks", lambda name, s=s: having[name, s]) for s in structures),
    ]
    note = f"{NONE}: masks that were given as files; what made them is not known here."
    return make_table("Methods and their masks", names_of_all(comparison), columns, note)


def _model_of(comparison: Comparison, method: str) -> tuple[str, str, str]:
    """(model, version, hash of weights) of a method as the provenance tells; "-" where it does not."""
    entry = (comparison.provenance.get("models") or {}).get(method)
    if not entry:
        return NONE, NONE, NONE
    name = str(entry.get("id") or entry.get("name") or method)
    if entry.get("with"):
        # The network itself, and after it the one that finds the cord for it.
        name += f" (cord found by {listed(other.get('id') or other.get('name') for other in entry['with'])})"
    return name, str(entry.get("version") or NONE), str(entry.get("sha256") or NONE)[:16]


def settings_list(comparison: Comparison) -> list[tuple[str, str]]:
    """(what, value) of the settings."""
    settings, found = comparison.settings, []
    if comparison.has_tissues:
        found += [
            ("outlier", f"a slice with Dice ≤ {settings.failure_dice:g}, or in which one mask is empty"),
            ("trimmed mean", f"{settings.trim:.0%} cut at each end" if settings.trim else "nothing cut"),
            ("surface tolerance", f"{settings.tolerance_mm:g} mm"),
        ]
    found += [
        ("confidence", f"{settings.confidence:.0%}"),
        ("masks on other grids", {"refuse": "refused", "resample": "resampled, nearest neighbour"}[settings.grids]),
        ("soft masks", "refused" if settings.threshold is None else f"cut at {settings.threshold:g}"),
    ]
    if len(comparison.lesion_rows):
        how = matching(settings.lesion_rule, settings.connectivity)
        found.append(("lesions", f'rule "{how.rule}", {how.connectivity} neighbours'))
    return found


def problems_table(comparison: Comparison) -> Table:
    """Every problem with its remedy, those that left a mask out first."""
    columns = [
        Column("Kind", lambda p: p.kind, True),
        Column("Scan", lambda p: p.case or NONE, True),
        Column("Method", lambda p: p.method or NONE, True),
        Column("Structure", lambda p: p.structure or NONE, True),
        Column("What, and the remedy", lambda p: p.message, True),
        Column("Mask", lambda p: "left out" if p.left_out else "used", True),
    ]
    rows = sorted(comparison.problems, key=lambda p: (not p.left_out, p.kind, p.case or ""))
    return make_table("Problems, and what to do", rows, columns, most=SHOWN_PROBLEMS)


def flattering(comparison: Comparison, lesions: bool = False) -> list[Problem]:
    """Problems that make a method look better than it is: masks that are the reference's to the voxel."""
    found = [problem for problem in comparison.problems if problem.kind == "identical"] if comparison.reference else []
    return [problem for problem in found if (problem.structure == LESION) is lesions]


# --- summaries of tissues --------------------------------------------------------------------


def headline_tables(comparison: Comparison) -> list[Table]:
    """The table to read first, one for each structure."""
    return [_headline(comparison, structure) for structure in comparison.structures]


def _headline(comparison: Comparison, structure: str) -> Table:
    best, _ = best_of(comparison, structure, "dice")
    flattered = {problem.method for problem in flattering(comparison) if problem.structure in (structure, None)}
    slices = comparison.summary[(comparison.summary.structure == structure) & (comparison.summary.level == "slice")]
    rows = []
    for row in slices[slices.metric == "dice"].itertuples():
        sizes = sizes_of(comparison, structure, row.method, row.against)
        own = slices[(slices.method == row.method) & (slices.against == row.against)].set_index("metric")
        rows.append(
            _Numbers(row.method, row.against, {**sizes, "dice": row, "hd95": own.loc["hausdorff95_mm", "mean"]})
        )

    def dice_mean(row):
        cell = number(row.of["dice"].mean, 3)
        return Best(cell) if row.method == best and row.method not in flattered else cell

    columns = [
        _method_column(comparison),
        Column("Slices", lambda row: row.of["dice"].n),
        Column("Outliers", lambda row: row.of["dice"].outliers),
        Column("Dice mean", dice_mean),
        Column("Dice median", lambda row: number(row.of["dice"].median, 3)),
        Column("Dice SD", lambda row: number(row.of["dice"].sd, 3)),
        Column("HD95 mean (mm)", lambda row: number(row.of["hd95"], 2)),
        Column("CSA bias (mm²)", lambda row: signed(row.of.get("bias"), 2)),
        Column("Limits of agreement (mm²)", lambda row: interval(row.of.get("lower"), row.of.get("upper"), 1)),
        Column("CSA bias (%)", lambda row: signed(row.of.get("bias_percent"), 1)),
        Column("ICC", lambda row: number(row.of.get("icc_a1"), 3)),
    ]
    return make_table(f"{structure}, {STRUCTURES[structure]}", rows, columns, _NO_SLICE)


@dataclass(frozen=True)
class _Numbers:
    """A pair of masks and its numbers by name: a row of a table."""

    method: str
    against: str
    of: dict[str, Any]
    structure: str = ""


def sizes_of(comparison: Comparison, structure: str, method: str, against: str) -> dict[str, float]:
    """Agreement of a pair's areas or loads: fields of BlandAltman, ICC, and the ``n`` of pairs; {} where none."""
    table = comparison.agreement
    own = table[(table.structure == structure) & (table.method == method) & (table.against == against)]
    found = {row.measure.removeprefix("csa_").removeprefix("load_"): row.value for row in own.itertuples()}
    return {**found, "n": int(own.n.iloc[0])} if len(own) else {}


def study_tables(comparison: Comparison, level: str = "slice") -> list[Table]:
    """Methods by metric for each structure: n, outliers, mean, median, SD, interval."""
    shown = [m for m in TISSUE if m.summarised and (m.headline if level == "slice" else m.definition)]
    kind = {"slice": "slices, in 2D", "level": "vertebral levels, in 3D", "scan": "scans, in 3D"}[level]
    summary = comparison.summary[comparison.summary.level == level]
    trimmed = f"Trimmed mean ({comparison.settings.trim:.0%})"
    columns = [
        Column("Measure", lambda one: one[0].header(level), True),
        Column("Method", lambda one: pair_name(comparison, one[1].method, one[1].against), True),
        Column("n", lambda one: one[1].n),
        Column("Outliers", lambda one: one[1].outliers),
        Column("Mean", lambda one: number(one[1].mean, one[0].digits)),
        Column("Median", lambda one: number(one[1].median, one[0].digits)),
        Column("SD", lambda one: number(one[1].sd, one[0].digits)),
        *(
            [Column(trimmed, lambda one: number(one[1].trimmed_mean, one[0].digits))]
            if comparison.settings.trim
            else ()
        ),
        Column(
            f"{comparison.settings.confidence:.0%} interval of the mean",
            lambda one: interval(one[1].low, one[1].high, one[0].digits),
        ),
    ]
    found = []
    for structure in comparison.structures:
        own = summary[summary.structure == structure]
        rows = [(metric, row) for metric in shown for row in own[own.metric == metric.key].itertuples()]
        if rows:
            found.append(make_table(f"{structure}: all measures over {kind}", rows, columns, _NO_SLICE))
    return found


# --- tests -----------------------------------------------------------------------------------


def best_of(comparison: Comparison, structure: str, key: str) -> tuple[str | None, str]:
    """The method that a test shows to be better than every other, and the sentence that says so.

    Cited is the paired test over subjects; where that is not to be had, none.
    """
    metric = metric_named(structure, key)
    summary = comparison.summary[(comparison.summary.structure == structure) & (comparison.summary.level == "slice")]
    own = summary[(summary.metric == key) & (summary.against == comparison.reference)]
    means = {row.method: row.mean for row in own.itertuples() if math.isfinite(row.mean)}
    if comparison.reference is None or len(means) < 2:
        return None, ""
    over_subjects = _over_subjects(comparison.tests)
    tests = over_subjects[(over_subjects.structure == structure) & (over_subjects.metric == key)]
    if not len(tests):
        return None, f"{structure}: {metric.label} was not tested over subjects."
    subjects = int(tests.n_first.max())
    word = "lower" if metric.better == "low" else "higher"
    over = f"paired Wilcoxon test over {count(subjects, 'subject')}, corrected by Holm"
    won = _wins(comparison, tests, metric)
    if not won:
        few = _out_of_reach(comparison, subjects)
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


def _over_subjects(tests: pd.DataFrame) -> pd.DataFrame:
    return tests[(tests.unit == "subject") & (tests.test == "wilcoxon")]


def _wins(comparison: Comparison, tests: pd.DataFrame, metric: Metric) -> dict[str, dict[str, float]]:
    """Methods that are significantly better, with those that they beat and the corrected p."""
    won: dict[str, dict[str, float]] = defaultdict(dict)
    for test in tests.itertuples():
        if test.p_holm < 1 - comparison.settings.confidence and test.rank_biserial:
            first = (test.rank_biserial > 0) == (metric.better != "low")
            winner, loser = (test.first, test.second) if first else (test.second, test.first)
            won[winner][loser] = test.p_holm
    return won


def _out_of_reach(comparison: Comparison, subjects: int) -> str:
    """Why no test could be significant, where it is the number of subjects; else ""."""
    tests = _over_subjects(comparison.tests[comparison.tests.structure != LESION])
    family = int(tests.p.notna().sum())
    # All signs alike is the rarest outcome; Holm multiplies the smallest p by the number of tests.
    least = min(1.0, 2 * 0.5**subjects * max(family, 1))
    if least < 1 - comparison.settings.confidence:
        return ""
    of = f"{count(subjects, 'subject')} and {count(family, 'test')}"
    return f" With {of} no p can be below {least:.2g} after correction."


def _equals(p: float) -> str:
    text = p_text(p)
    return text if text.startswith("<") else f"= {text}"


def tests_table(comparison: Comparison, unit: str, lesions: bool = False) -> Table:
    """Tests over subjects, or over slices."""
    tests = comparison.tests[(comparison.tests.unit == unit) & ((comparison.tests.structure == LESION) == lesions)]
    alpha = 1 - comparison.settings.confidence

    def larger(test):
        if not test.rank_biserial or math.isnan(test.rank_biserial):
            return NONE
        return test.first if test.rank_biserial > 0 else test.second

    columns = [
        Column("Structure", lambda test: test.structure, True),
        Column("Measure", lambda test: metric_named(test.structure, test.metric).header(), True),
        Column("Methods", lambda test: f"{test.first} vs {test.second}", True),
        Column("Test", lambda test: {"mann-whitney": "Mann-Whitney", "wilcoxon": "Wilcoxon, paired"}[test.test], True),
        Column("n", lambda t: str(t.n_first) if t.n_first == t.n_second else f"{t.n_first} / {t.n_second}"),
        Column("Effect, -1 to 1", lambda test: signed(test.rank_biserial, 2)),
        Column("Larger values", larger, True),
        Column("p", lambda test: p_text(test.p)),
        Column("p, Holm", lambda test: p_text(test.p_holm)),
        Column(
            f"p < {alpha:.2g}",
            lambda t: NONE if math.isnan(t.p_holm) else "yes" if t.p_holm < alpha else "no",
            True,
        ),
    ]
    part = "scans" if lesions else "slices"
    over = f"subjects (each subject's mean over its {part})" if unit == "subject" else part
    note = f"{NONE}: no test, for there are too few pairs or all of them are equal."
    return make_table(f"{'Lesions: tests' if lesions else 'Tests'} over {over}", tests.itertuples(), columns, note)


# --- areas and loads -------------------------------------------------------------------------


def agreement_table(comparison: Comparison, lesions: bool = False) -> Table:
    """Bland-Altman and ICC of areas (mm2, slice by slice) or loads (mL, scan by scan)."""
    unit, part = ("mL", "scan") if lesions else ("mm²", "slice")
    rows = [
        _Numbers(method, against, sizes_of(comparison, structure, method, against), structure)
        for structure, method, against in comparison.pairs
        if (structure == LESION) == lesions
    ]
    columns = [
        Column("Structure", lambda row: row.structure, True),
        _method_column(comparison),
        Column(f"{part.capitalize()}s", lambda row: row.of["n"]),
        Column(f"Bias ({unit})", lambda row: signed(row.of["bias"], 2)),
        Column(f"95% CI of bias ({unit})", lambda row: interval(row.of["bias_low"], row.of["bias_high"], 2)),
        Column(f"Limits of agreement ({unit})", lambda row: interval(row.of["lower"], row.of["upper"], 2)),
        Column("Bias (%)", lambda row: signed(row.of["bias_percent"], 1)),
        Column("Limits of agreement (%)", lambda row: interval(row.of["lower_percent"], row.of["upper_percent"], 1)),
        Column(f"Proportional bias ({unit} per {unit})", lambda row: signed(row.of["slope"], 3)),
        Column("p of it", lambda row: p_text(row.of["slope_p"])),
        Column("ICC(A,1)", lambda row: number(row.of["icc_a1"], 3)),
        Column(
            f"{comparison.settings.confidence:.0%} CI of ICC",
            lambda row: interval(row.of["icc_a1_low"], row.of["icc_a1_high"], 3),
        ),
    ]
    what = "Lesion load" if lesions else "CSA"
    note = f"{NONE}: not defined; limits need two {part}s, an ICC needs {'loads' if lesions else 'areas'} that vary."
    return make_table(f"{what}: agreement {part} by {part}", rows, columns, note)


def repeatability_table(comparison: Comparison, lesions: bool = False) -> Table:
    """Scan and rescan: coefficients of variation of areas or loads."""
    table = comparison.agreement
    table = table[(table.against == "second run") & ((table.structure == LESION) == lesions)]
    order = {name: place for place, name in enumerate(names_of_all(comparison))}
    rows = [
        _Numbers(method, "", {row.measure: row for row in own.itertuples()}, structure)
        for (structure, method), own in table.groupby(["structure", "method"], sort=False)
    ]
    rows.sort(key=lambda row: (list(STRUCTURES).index(row.structure), order.get(row.method, len(order))))
    names = [Column("Structure", lambda row: row.structure, True), Column("Method", lambda row: row.method, True)]
    if lesions:
        cov, apart = "load_scan_rescan_cov", "load_scan_rescan_absolute_difference"
        columns = [
            *names,
            Column("Sessions scanned twice", lambda row: row.of[apart].n),
            Column("with lesions", lambda row: row.of[cov].n),
            Column("CoV of load (%)", lambda row: number(row.of[cov].value, 1)),
            Column("Mean absolute difference (mL)", lambda row: number(row.of[apart].value, 3)),
        ]
        note = f"{NONE}: no lesions in these sessions."
        return make_table("Lesion load: scan and rescan", rows, columns, note)
    scan, part = "csa_scan_rescan_cov_scan", "csa_scan_rescan_cov_slice"
    columns = [
        *names,
        Column("Sessions scanned twice", lambda row: row.of[scan].n),
        Column("CoV of mean CSA (%)", lambda row: number(row.of[scan].value, 2)),
        Column("Pairs of slices", lambda row: row.of[part].n),
        Column("CoV of slice CSA (%)", lambda row: number(row.of[part].value, 2)),
    ]
    note = f"{NONE}: no session of this method has two runs with a slice at one height."
    return make_table("Scan and rescan: coefficient of variation of CSA", rows, columns, note)


# --- scans and slices ------------------------------------------------------------------------


def outliers_table(comparison: Comparison) -> Table:
    """Outlier slices: a row a scan, structure and method."""
    slices = comparison.slices()
    groups = slices[slices.outlier != ""].groupby(["case", "structure", "method", "against"])

    def told(own):
        return ", ".join(
            f"{row.index} (Dice {number(row.dice, 2)})" if row.outlier == "dice" else f"{row.index} ({row.outlier})"
            for row in own.sort_values("index")[["index", "outlier", "dice"]].itertuples(index=False, name="Row")
        )

    subjects = {case.name: case.subject or case.name for case in comparison.cases}
    columns = [
        Column("Subject", lambda one: subjects.get(one[0][0], one[0][0]), True),
        Column("Scan", lambda one: one[0][0], True),
        Column("Structure", lambda one: one[0][1], True),
        Column("Method", lambda one: pair_name(comparison, *one[0][2:]), True),
        Column("Outliers", lambda one: len(one[1])),
        Column("Slices, from inferior", lambda one: told(one[1]), True),
    ]
    return make_table("Outliers by subject and slice", groups, columns, most=SHOWN_OUTLIERS)


def scans_table(comparison: Comparison) -> Table:
    """One row a scan, structure and method, of tissues."""
    rows = comparison.rows
    places = {pair: place for place, pair in enumerate(comparison.pairs)}
    areas = comparison.values[comparison.values.metric == "area_mm2"].groupby(["case", "method", "structure"]).value
    means = areas.mean().to_dict()
    whole = rows[rows.level == "scan"].set_index(["case", "structure", "method", "against"]).dice.to_dict()
    groups = dict(list(rows[rows.level == "slice"].groupby(["case", "structure", "method", "against"])))
    group_of = {case.name: case.group for case in comparison.cases}

    def kept(one):
        return groups[one][groups[one].outlier == ""]

    columns = [
        Column("Scan", lambda one: one[0], True),
        Column("Group", lambda one: group_of.get(one[0]) or NONE, True),
        Column("Structure", lambda one: one[1], True),
        Column("Method", lambda one: pair_name(comparison, *one[2:]), True),
        Column("Slices", lambda one: len(groups[one])),
        Column("Outliers", lambda one: len(groups[one]) - len(kept(one))),
        Column("Dice mean", lambda one: number(kept(one).dice.mean(), 3)),
        Column("Dice in 3D", lambda one: number(whole.get(one), 3)),
        Column("HD95 mean (mm)", lambda one: number(kept(one).hausdorff95_mm.mean(), 2)),
        Column("Mean CSA (mm²)", lambda one: number(means.get((one[0], one[2], one[1])), 2)),
        Column("Mean CSA of the other (mm²)", lambda one: number(means.get((one[0], one[3], one[1])), 2)),
    ]
    note = (
        "Dice and HD95 means leave outliers out; mean CSA is of all slices in which the mask has the structure. "
        f"{NONE}: no such slice, or no group in participants.tsv."
    )
    keys = sorted(groups, key=lambda one: (one[0], places[one[1:]]))
    return make_table("Every scan, structure and method", keys, columns, note, SHOWN_SCANS)


# --- lesions ---------------------------------------------------------------------------------


def rule_text(comparison: Comparison) -> str:
    """The matching rule in a sentence, with its options."""
    if not len(comparison.lesion_rows):
        return "No two masks of lesions could be compared."
    how = matching(comparison.settings.lesion_rule, comparison.settings.connectivity)
    rule = RULES[how.rule].replace(" `min_iou`", f" {how.min_iou:g}" if how.min_iou is not None else "")
    ignored = f"those of at most {how.ignored_up_to_mm3:g} mm³ left out" if how.ignored_up_to_mm3 else "none left out"
    lesion = f"A lesion is a connected component ({how.connectivity} neighbours a voxel; {ignored})."
    return f'Rule "{how.rule}", {rule}. {lesion}'


def _lesion_summary(comparison: Comparison, group: str) -> list[Any]:
    """Rows of the summary of lesions, strata in their order and methods in theirs."""
    table = comparison.lesion_summary
    names = ["all", *load_names(), *(name for name, _ in size_strata())]
    pairs = comparison.pairs_of(LESION)
    rows = table[table.group == group].itertuples()
    return sorted(rows, key=lambda row: (names.index(row.name), pairs.index((row.method, row.against))))


def lesion_headline_table(comparison: Comparison) -> Table:
    """Every method: lesions found and false, F1, Dice, volume."""
    columns = [
        _method_column(comparison),
        Column("Scans", lambda row: row.n_scans),
        Column("F1 mean", lambda row: number(row.f1_mean, 3)),
        Column("F1 pooled", lambda row: number(row.f1_pooled, 3)),
        Column("Sensitivity mean", lambda row: number(row.sensitivity_mean, 3)),
        Column("pooled", lambda row: number(row.sensitivity_pooled, 3)),
        Column("Precision mean", lambda row: number(row.precision_mean, 3)),
        Column("pooled", lambda row: number(row.precision_pooled, 3)),
        Column(f"{_others(comparison)['false']} per scan", lambda row: number(row.fp_per_scan, 1)),
        Column("Dice mean", lambda row: number(row.dice_mean, 3)),
        Column("Dice of matched lesions", lambda row: number(row.dice_matched_mean, 3)),
        Column("Volume difference, mean (mL)", lambda row: signed(row.volume_difference_ml_mean, 2)),
        Column("Volume difference, median (%)", lambda row: signed(row.volume_difference_percent_median, 1)),
    ]
    note = f"{NONE}: in no scan defined (see Empty masks below)."
    return make_table("Lesions: agreement over scans", _lesion_summary(comparison, "all"), columns, note)


def lesion_counts_table(comparison: Comparison) -> Table:
    """Lesions counted over all scans."""
    who = _others(comparison)
    columns = [
        _method_column(comparison),
        Column(f"{who['other']} lesions", lambda row: row.n_against),
        Column("found (TP)", lambda row: row.tp_against),
        Column(f"{who['missed'].lower()} (FN)", lambda row: row.fn),
        Column(f"{who['own']} lesions", lambda row: row.n_method),
        Column("true (TP)", lambda row: row.tp_method),
        Column(f"{who['false'].lower()} (FP)", lambda row: row.fp),
        Column("Merged", lambda row: row.merged),
        Column("Split", lambda row: row.split),
    ]
    return make_table("Lesions: counts over all scans", _lesion_summary(comparison, "all"), columns)


def lesion_load_table(comparison: Comparison) -> Table:
    """Dice and F1 by the load of the mask that is compared with."""
    who = _others(comparison)
    columns = [
        Column(f"Load of the {who['the other']}", lambda row: row.name, True),
        _method_column(comparison),
        Column("Scans", lambda row: row.n_scans),
        Column("Dice mean", lambda row: number(row.dice_mean, 3)),
        Column("Dice SD", lambda row: number(row.dice_sd, 3)),
        Column("F1 mean", lambda row: number(row.f1_mean, 3)),
        Column("Sensitivity pooled", lambda row: number(row.sensitivity_pooled, 3)),
        Column("Precision pooled", lambda row: number(row.precision_pooled, 3)),
        Column(f"{who['false']} per scan", lambda row: number(row.fp_per_scan, 1)),
        Column("Volume difference, mean (mL)", lambda row: signed(row.volume_difference_ml_mean, 2)),
    ]
    note = f"{NONE}: not defined, or one scan only."
    return make_table("Lesions: by load of the scan", _lesion_summary(comparison, "load"), columns, note)


def lesion_size_table(comparison: Comparison) -> Table:
    """Detection by each lesion's own volume."""
    who = _others(comparison)
    columns = [
        Column("Lesion's volume", lambda row: pretty(row.name).replace(">=", "≥"), True),
        _method_column(comparison),
        Column(f"{who['other']} lesions", lambda row: row.n_against),
        Column("found", lambda row: row.tp_against),
        Column("Sensitivity", lambda row: number(row.sensitivity_pooled, 3)),
        Column(f"{who['own']} lesions", lambda row: row.n_method),
        Column(who["false"].lower(), lambda row: row.fp),
        Column("Precision", lambda row: number(row.precision_pooled, 3)),
    ]
    note = f"{NONE}: there is no lesion of this size."
    return make_table("Lesions: detection by size", _lesion_summary(comparison, "size"), columns, note)


def lesion_tests_sentence(comparison: Comparison) -> str:
    """What the tests of lesions say, or why there are none."""
    rows = comparison.lesion_rows
    cases = set(rows.case)
    subjects = len({case.subject or case.name for case in comparison.cases if case.name in cases})
    if len((set(rows.method) | set(rows.against)) - {comparison.reference}) < 2:
        return "Nothing to test: there is one method."
    tests = comparison.tests[comparison.tests.structure == LESION]
    if not len(tests):
        return (
            f"Not tested: of {count(subjects, 'subject')} too few have a value of both methods; with fewer than "
            f"{LEAST_SUBJECTS} no p of the signed-rank test can be below 0.05. A difference of means is no evidence."
        )
    won = []
    for key, own in tests.groupby("metric", sort=False):
        metric = metric_named(LESION, str(key))
        won += [
            f"{metric.label} of {method} is higher than that of {other} (p {p_text(p)})"
            for method, beaten in _wins(comparison, own, metric).items()
            for other, p in beaten.items()
        ]
    over = "paired Wilcoxon test over subjects, corrected by Holm"
    return f"{listed(won)}; {over}." if won else f"No difference between methods is significant ({over})."


def lesion_items_table(comparison: Comparison) -> Table:
    """Missed and false lesions, largest first."""
    what = {"only_in_against": "second alone", "only_in_method": "first alone"}
    columns = [
        Column("Scan", lambda item: item.case, True),
        _method_column(comparison),
        Column("What", lambda item: what.get(what_of(comparison, item.kind), item.kind), True),
        Column("Id", lambda item: number(item.id, 0)),
        Column("Volume (mm³)", lambda item: number(item.volume_mm3, 1)),
        Column("Diameter (mm)", lambda item: number(item.diameter_mm, 1)),
        Column("Slice", lambda item: number(item.slice, 0)),
        Column(
            "Centroid R, A, S (mm)",
            lambda i: ", ".join(number(v, 1) for v in (i.centroid_r_mm, i.centroid_a_mm, i.centroid_s_mm)),
            True,
        ),
    ]
    rows = comparison.unmatched.sort_values(
        ["volume_mm3", "case", "method", "kind"], ascending=[False, True, True, True], kind="stable"
    )
    return make_table("Lesions without counterpart, largest first", rows.itertuples(), columns, most=SHOWN_ITEMS)


def lesion_scans_table(comparison: Comparison) -> Table:
    """One row a scan and method, of lesions; empty masks named."""
    who = _others(comparison)
    group_of = {case.name: case.group for case in comparison.cases}
    empty = {"both": "both empty", "method": "method empty", "against": f"{who['the other']} empty", "": ""}
    pairs = comparison.pairs_of(LESION)
    columns = [
        Column("Scan", lambda row: row.case, True),
        Column("Group", lambda row: group_of.get(row.case) or NONE, True),
        _method_column(comparison),
        Column("Empty", lambda row: empty[row.empty], True),
        Column(f"{who['other']} lesions", lambda row: number(row.n_against, 0)),
        Column(f"{who['own']} lesions", lambda row: number(row.n_method, 0)),
        Column(f"{who['missed']} (FN)", lambda row: number(row.fn, 0)),
        Column(f"{who['false']} (FP)", lambda row: number(row.fp, 0)),
        Column("F1", lambda row: number(row.f1, 3)),
        Column("Sensitivity", lambda row: number(row.sensitivity, 3)),
        Column("Precision", lambda row: number(row.precision, 3)),
        Column("Dice", lambda row: number(row.dice, 3)),
        Column("Dice of matched", lambda row: number(row.dice_matched, 3)),
        Column(f"{who['other']} load (mL)", lambda row: number(row.load_against_ml, 2)),
        Column(f"{who['own']} load (mL)", lambda row: number(row.load_method_ml, 2)),
        Column("Difference (mL)", lambda row: signed(row.volume_difference_ml, 2)),
        Column("Difference (%)", lambda row: signed(row.volume_difference_percent, 1)),
    ]
    rows = sorted(
        comparison.lesion_rows.itertuples(), key=lambda row: (row.case, pairs.index((row.method, row.against)))
    )
    note = f"{NONE}: not defined, or no group in participants.tsv."
    return make_table("Lesions: every scan and method", rows, columns, note, SHOWN_SCANS)


def tally(items: pd.DataFrame) -> list[str]:
    """``2 missed, largest 120 mm³`` of the lesions without counterpart of one method, missed and false ones."""
    found = []
    for kind in ("missed", "false"):
        volumes = items.volume_mm3[items.kind == kind]
        found.append(f"{len(volumes)} {kind}" + (f", largest {number(volumes.max(), 0)} mm³" if len(volumes) else ""))
    return found


# --- definitions -----------------------------------------------------------------------------


def definitions(comparison: Comparison) -> list[tuple[str, str]]:
    """(what, definition) for the report's section on method."""
    tissues, lesions = comparison.has_tissues, comparison.has_lesions
    found = _lesion_definitions(comparison) if lesions else []
    if tissues:
        other = REFERENCE if comparison.reference else "other"
        found += [(metric.header(), metric.definition) for metric in TISSUE if metric.definition]
        found += [
            ("TP, FP, FN", f"Voxels in both masks; in the method's alone; in the {other} alone."),
            (
                "Empty masks",
                "Both empty: the slice is not compared. One empty: Dice 0, distances infinite; the slice is an outlier "
                '("missing" or "extra").',
            ),
            (
                "Outliers",
                f"Dice ≤ {comparison.settings.failure_dice:g}, missing or extra: counted, and left out of means, "
                "medians, SD, intervals and tests. Areas (Bland-Altman, ICC) keep slices of low Dice.",
            ),
            (
                "Distances",
                "Between centres of boundary voxels, exact (Euclidean), in mm; those in voxels are on the index grid.",
            ),
        ]
    tests = "Wilcoxon signed-rank on pairs; Mann-Whitney on all slices, as in the 2021 study."
    return [
        *found,
        (
            "Bland-Altman",
            "Bias and bias ± 1.96 SD of differences, with t intervals (Bland and Altman, Lancet 1986; Stat Methods Med "
            "Res 1999). In percent of each pair's mean.",
        ),
        (
            "ICC",
            "ICC(A,1): two-way, absolute agreement, single measurement (McGraw and Wong, Psychological Methods 1996).",
        ),
        (
            "CoV",
            "Root mean square over pairs of SD / mean of two runs (Glüer et al., Osteoporosis International 1995).",
        ),
        (
            "Tests",
            f"{tests if tissues else 'Wilcoxon signed-rank on the means of subjects.'} Two-sided. "
            "p corrected by Holm (1979).",
        ),
    ]


def _lesion_definitions(comparison: Comparison) -> list[tuple[str, str]]:
    mine, other = ("method", "reference") if comparison.reference else ("first method", "second method")
    return [
        ("Matching", rule_text(comparison)),
        (
            "Sensitivity, precision, F1",
            f"Of lesions: share of the {other}'s that are found; share of the {mine}'s that have a counterpart; their "
            "harmonic mean. A lesion can answer several, so both sides are counted (Commowick et al., Scientific "
            "Reports 2018). Mean: over scans in which it is defined. Pooled: all lesions of all scans together.",
        ),
        (
            f"{_others(comparison)['false']} per scan",
            f"Lesions of the {mine} without counterpart, divided by scans.",
        ),
        (
            "Dice of lesions",
            "Of all voxels of the volume, small lesions too (Dice 1945). It grows with the load, so it "
            "is given by load: below 5, 5 to 15, above 15 mL (limits of this tool).",
        ),
        (
            "Dice of matched lesions",
            "Mean over matched pairs, or over groups of lesions that matches connect: how well "
            "lesions that were found are outlined.",
        ),
        ("Volume difference", f"Load of the {mine} minus that of the {other}, mL; in percent of the latter."),
        ("Merged, split", f"Lesions of the {mine} that share voxels with several of the {other}; the other way round."),
        (
            "Size",
            "A lesion's own volume: voxels times their volume; below 10, 10 to 50, from 50 mm³ on (limits of this "
            "tool).",
        ),
        (
            "Empty masks of lesions",
            f"Both empty: nothing there and nothing found: sensitivity, precision, F1 and "
            f"Dice are not defined ({NONE}) and in no mean. {other.capitalize()} empty, {mine} not: precision, F1 and "
            f"Dice are 0. {mine.capitalize()} empty, {other} not: sensitivity, F1 and Dice are 0. Such scans count for "
            f"lesions per scan and for the load.",
        ),
        (
            "Slices",
            "Lesions are compared in the whole volume. There are no rows, means or outliers of slices for them: "
            "most slices hold none, and a lesion crosses several.",
        ),
    ]


def provenance_list(comparison: Comparison) -> list[tuple[str, str]]:
    """(what, value) of the run: nested entries joined by blanks, hashes of the masks left to the tables."""
    return list(_flat({key: value for key, value in comparison.provenance.items() if key != "inputs"}))


def _flat(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, f"{name} {key}".strip())
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _flat(item, name)
    elif value is not None:
        yield name, str(value)


# --- the console -----------------------------------------------------------------------------


def summary_lines(comparison: Comparison) -> Iterator[str]:
    """Dice per slice of each method, as in the study's table, and agreement of lesions: lines for the console."""
    head = count(len(comparison.cases), "scan")
    if comparison.reference is None:
        head += "; no reference: methods are compared with each other, and none is the truth"
    yield head

    def who(row):
        return row.method if comparison.reference else f"{row.method} / {row.against}"

    summary = comparison.summary
    for row in summary[(summary.level == "slice") & (summary.metric == "dice")].itertuples():
        yield (
            f"  {row.structure:3} {who(row):24} Dice {row.mean:.3f} +- {row.sd:.3f}, median {row.median:.3f} "
            f"({row.n} slices, {row.outliers} outliers left out)"
        )
    for row in _lesion_summary(comparison, "all"):
        yield (
            f"  LESION {who(row):21} F1 {number(row.f1_mean, 3)}, sensitivity {number(row.sensitivity_mean, 3)}, "
            f"precision {number(row.precision_mean, 3)}, Dice {number(row.dice_mean, 3)}, "
            f"{row.fp_per_scan:.1f} false a scan ({row.n_scans} scans)"
        )
