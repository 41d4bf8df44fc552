"""The report's tables and the sentences on tests: text for HTML, Markdown and the console."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sctseg7t.compare.analysis import LEAST_SUBJECTS, load_names
from sctseg7t.compare.metrics import TISSUE, Metric, metric_named, pretty, size_strata
from sctseg7t.compare.types import LESION, STRUCTURES, Comparison, Problem

if TYPE_CHECKING:
    import pandas as pd

NONE = "-"
COLOURS = 6
SHOWN_PROBLEMS, SHOWN_OUTLIERS, SHOWN_SCANS, SHOWN_ITEMS = 300, 400, 1500, 200
_NO_SLICE = f"{NONE}: not defined, for no slice is left once outliers are out (an SD or interval needs two)."


# --- numbers and words -----------------------------------------------------------------------


def number(value: float | None, how: str = ".2f") -> str:
    """A number for people: "-" where it is not defined, never "-0.00".

    Parameters
    ----------
    value : float or None
    how : str
        A format specification; ``+`` shows the sign. ``p``: a p value, ``< 0.001`` below that.
    """
    if value is None or math.isnan(value):
        return NONE
    if how == "p":
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    text = f"{value:{how}}"
    return text.lstrip("+-") if float(text) == 0 else text


def count(n: int, thing: str) -> str:
    """``1 scan``, ``3 scans``."""
    plural = thing[:-1] + "ies" if thing.endswith("y") else thing + "s"
    return f"{n} {thing if n == 1 else plural}"


def listed(words: Iterable[object]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- tables ----------------------------------------------------------------------------------


class Best(str):
    """A cell that is better than all others by a test."""


@dataclass(frozen=True)
class Table:
    """Rows of text for people.

    Attributes
    ----------
    caption : str
    columns : tuple of str
    rows : tuple of tuple of str
    words : tuple of int
        Columns that hold words; the others hold numbers.
    note : str
        Below the table; "" for none. Shown where a cell is not defined.
    cut : str
        How many rows of how many are shown; "" where all are.
    """

    caption: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = (0,)
    note: str = ""
    cut: str = ""

    @property
    def dashed(self) -> bool:
        """Whether any cell is not defined."""
        return any(cell == NONE for row in self.rows for cell in row)


# Header, what a row has there, and how it is shown: None for words, else a format specification. Two names with a
# blank between make an interval.
Column = tuple[str, str, str | None]


def make_table(
    caption: str,
    rows: pd.DataFrame | Sequence[Mapping[str, Any]],
    columns: Sequence[Column],
    note: str = "",
    most: int | None = None,
) -> Table:
    """A table of rows by name, of which at most so many are shown."""
    shown = rows[:most]
    records = shown if isinstance(shown, Sequence) else shown.to_dict("records")
    cells = tuple(tuple(_cell(row, key, how) for _, key, how in columns) for row in records)
    cut = "" if len(shown) == len(rows) else f"The first {most} of {len(rows)} are shown; the CSV tables hold all."
    words = tuple(place for place, (_, _, how) in enumerate(columns) if how is None)
    return Table(caption, tuple(header for header, _, _ in columns), cells, words, note, cut)


def _cell(row: Mapping[str, Any], key: str, how: str | None) -> str:
    ends = [row[name] for name in key.split()]
    if isinstance(ends[0], str):
        return ends[0]
    found = [str(end or NONE) if how is None else number(end, how) for end in ends]
    return NONE if NONE in found else " to ".join(found)


# --- who is who ------------------------------------------------------------------------------


def pair_name(comparison: Comparison, method: str, against: str) -> str:
    """What a row of a table is called: the method, and without a reference what it is compared with."""
    return method if against == comparison.reference else f"{method} vs {against}"


def colour_of(comparison: Comparison, method: str) -> str:
    """Class of a method's colour, the same in all pictures: ``m0`` to ``m5``, or ``reference``."""
    if method == comparison.reference:
        return "reference"
    return f"m{comparison.methods.index(method) % COLOURS}"


def names_of_all(comparison: Comparison) -> list[str]:
    """The methods, and the reference if there is one."""
    return [*comparison.methods, *([comparison.reference] if comparison.reference else [])]


def others_of(comparison: Comparison) -> dict[str, str]:
    """What the two masks of a pair, and lesions of one alone, are called."""
    keys = ("mine", "own", "the_other", "other", "missed", "false")
    if comparison.reference:
        return dict(zip(keys, ("method", "Method's", "reference", "Reference's", "Missed", "False")))
    words = ("first method", "First's", "second method", "Second's", "Second alone", "First alone")
    return dict(zip(keys, words))


def _named(comparison: Comparison, rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows with the name of their ``pair``, and the ``group`` of their scan if they have one."""
    groups = {case.name: case.group for case in comparison.cases}
    return [
        {**row, "pair": pair_name(comparison, row["method"], row["against"]), "group": groups.get(row.get("case", ""))}
        for row in rows.to_dict("records")
    ]


def _pair_column(comparison: Comparison) -> Column:
    return "Method" if comparison.reference else "Methods", "pair", None


# --- what was compared -----------------------------------------------------------------------


def facts(comparison: Comparison) -> list[tuple[int, str]]:
    """Counts for the head of the report: (number, of what)."""
    slices, unmatched = comparison.slices(), comparison.unmatched
    compared = set(comparison.rows.case) | set(comparison.lesion_rows.case)
    subjects = {case.subject or case.name for case in comparison.cases if case.name in compared}
    found = [(len(compared), "scan"), (len(subjects), "subject")]
    methods, problems = (len(comparison.methods), "method"), (len(comparison.problems), "problem")
    if comparison.has_tissues:
        outliers = (int((slices.outlier != "").sum()), "outlier")
        return [*found, (len(slices[["case", "index"]].drop_duplicates()), "slice"), methods, outliers, problems]
    if comparison.reference:
        kinds = Counter(unmatched.kind)
        return [*found, methods, (kinds["missed"], "missed lesion"), (kinds["false"], "false lesion"), problems]
    return [*found, methods, (len(unmatched), "unmatched lesion"), problems]


def methods_table(comparison: Comparison) -> Table:
    """Each method and the reference: role, model, and in how many scans it has each structure."""
    having = Counter(key for case in comparison.cases for key in case.masks)
    tissues = {structure for _, structure in having}
    structures = [s for s in STRUCTURES if s in (*comparison.structures, LESION) and s in tissues] or sorted(tissues)
    rows = []
    for name in names_of_all(comparison):
        entry = (comparison.provenance.get("models") or {}).get(name) or {}
        model = str(entry.get("id") or entry.get("name") or name) if entry else NONE
        if entry.get("with"):
            # The network itself, and after it the one that finds the cord for it.
            model += f" (cord found by {listed(other.get('id') or other.get('name') for other in entry['with'])})"
        role = "REFERENCE" if name == comparison.reference else "method"
        weights = str(entry.get("sha256") or NONE)[:16]
        masks = {structure: having[name, structure] for structure in structures}
        rows.append({"name": name, "role": role, "model": model, **entry, "sha256": weights, **masks})
        rows[-1].setdefault("version", NONE)
    columns = [
        ("Name", "name", None),
        ("Role", "role", None),
        ("Model", "model", None),
        ("Version", "version", None),
        ("Weights, SHA-256", "sha256", None),
        *((f"{structure} masks", structure, "d") for structure in structures),
    ]
    note = f"{NONE}: masks that were given as files; what made them is not known here."
    return make_table("Methods and their masks", rows, columns, note)


def problems_table(comparison: Comparison) -> Table:
    """Every problem with its remedy, those that left a mask out first."""
    columns = [
        ("Kind", "kind", None),
        ("Scan", "case", None),
        ("Method", "method", None),
        ("Structure", "structure", None),
        ("What, and the remedy", "message", None),
        ("Mask", "use", None),
    ]
    ordered = sorted(comparison.problems, key=lambda p: (not p.left_out, p.kind, p.case or ""))
    rows = [{**asdict(problem), "use": "left out" if problem.left_out else "used"} for problem in ordered]
    return make_table("Problems, and what to do", rows, columns, most=SHOWN_PROBLEMS)


def flattering(comparison: Comparison, lesions: bool = False) -> list[Problem]:
    """Problems that make a method look better than it is: masks that are the reference's to the voxel."""
    found = [problem for problem in comparison.problems if problem.kind == "identical"] if comparison.reference else []
    return [problem for problem in found if (problem.structure == LESION) is lesions]


# --- summaries of tissues --------------------------------------------------------------------


def sizes_of(comparison: Comparison, structure: str, method: str, against: str) -> dict[str, float]:
    """Agreement of a pair's areas or loads: fields of BlandAltman, ICC, and the ``n`` of pairs; {} where none."""
    table = comparison.agreement
    own = table[(table.structure == structure) & (table.method == method) & (table.against == against)]
    found = {row.measure.removeprefix("csa_").removeprefix("load_"): row.value for row in own.itertuples()}
    return {**found, "n": int(own.n.iloc[0])} if len(own) else {}


def headline_tables(comparison: Comparison) -> list[Table]:
    """The table to read first, one for each structure."""
    columns = [
        _pair_column(comparison),
        ("Slices", "n", "d"),
        ("Outliers", "outliers", "d"),
        ("Dice mean", "mean", ".3f"),
        ("Dice median", "median", ".3f"),
        ("Dice SD", "dice_sd", ".3f"),
        ("HD95 mean (mm)", "hd95", ".2f"),
        ("CSA bias (mm²)", "bias", "+.2f"),
        ("Limits of agreement (mm²)", "lower upper", ".1f"),
        ("CSA bias (%)", "bias_percent", "+.1f"),
        ("ICC", "icc_a1", ".3f"),
    ]
    slices = comparison.summary[comparison.summary.level == "slice"]
    found = []
    for structure in comparison.structures:
        best, _ = best_of(comparison, structure, "dice")
        flattered = {problem.method for problem in flattering(comparison) if problem.structure in (structure, None)}
        dice, distances = (
            slices[(slices.structure == structure) & (slices.metric == key)] for key in ("dice", "hausdorff95_mm")
        )
        rows = _named(comparison, dice.assign(dice_sd=dice.sd, hd95=distances["mean"].to_numpy()))
        for row in rows:
            row |= {**sizes_of(comparison, structure, row["method"], row["against"]), "n": row["n"]}
            if row["method"] == best and best not in flattered:
                row["mean"] = Best(number(row["mean"], ".3f"))
        found.append(make_table(f"{structure}, {STRUCTURES[structure]}", rows, columns, _NO_SLICE))
    return found


def study_tables(comparison: Comparison, level: str = "slice") -> list[Table]:
    """Methods by metric for each structure: n, outliers, mean, median, SD, interval."""
    kind = {"slice": "slices, in 2D", "level": "vertebral levels, in 3D", "scan": "scans, in 3D"}[level]
    trim, confidence = comparison.settings.trim, comparison.settings.confidence
    columns = [("Measure", "header", None), ("Method", "pair", None), ("n", "n", "d"), ("Outliers", "outliers", "d")]
    numbers = [("Mean", "mean"), ("Median", "median"), ("SD", "sd")]
    numbers += [(f"Trimmed mean ({trim:.0%})", "trimmed_mean")] if trim else []
    numbers.append((f"{confidence:.0%} interval of the mean", "low high"))
    summary = comparison.summary[comparison.summary.level == level]
    found = []
    for structure in comparison.structures:
        rows = []
        for metric in TISSUE:
            if metric.summarised and (metric.headline if level == "slice" else metric.definition):
                own = summary[(summary.structure == structure) & (summary.metric == metric.key)]
                for row in _named(comparison, own):
                    shown = {key: _cell(row, key, f".{metric.digits}f") for _, key in numbers}
                    rows.append({**row, "header": metric.header(level), **shown, "low": shown["low high"], "high": ""})
        if rows:
            every = [*columns, *((header, key, "") for header, key in numbers)]
            found.append(make_table(f"{structure}: all measures over {kind}", rows, every, _NO_SLICE))
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
    over_subjects = comparison.tests[(comparison.tests.unit == "subject") & (comparison.tests.test == "wilcoxon")]
    tests = over_subjects[(over_subjects.structure == structure) & (over_subjects.metric == key)]
    if not len(tests):
        return None, f"{structure}: {metric.label} was not tested over subjects."
    subjects = int(tests.n_first.max())
    word = "lower" if metric.better == "low" else "higher"
    over = f"paired Wilcoxon test over {count(subjects, 'subject')}, corrected by Holm"
    won = _wins(comparison, tests, metric)
    if not won:
        family = int(over_subjects[over_subjects.structure != LESION].p.notna().sum())
        # All signs alike is the rarest outcome; Holm multiplies the smallest p by the number of tests.
        least = min(1.0, 2 * 0.5**subjects * max(family, 1))
        told = f"{structure}: no difference in {metric.label} between methods is significant ({over}). "
        told += f"The {word} mean is no evidence by itself."
        if least >= 1 - comparison.settings.confidence:
            of = f"{count(subjects, 'subject')} and {count(family, 'test')}"
            told += f" With {of} no p can be below {least:.2g} after correction."
        return None, told
    sentences = []
    for method, beaten in won.items():
        mean = {name: number(means.get(name), f".{metric.digits}f") for name in (method, *beaten)}
        against = listed(f"{other} ({mean[other]}, p {_equals(p)})" for other, p in beaten.items())
        sentences.append(f"{method} ({mean[method]}) is {word} than {against}")
    best = next((method for method, beaten in won.items() if set(means) - {method} <= set(beaten)), None)
    return best, f"{structure}, {metric.label}: {'; '.join(sentences)} ({over})."


def _wins(comparison: Comparison, tests: pd.DataFrame, metric: Metric) -> dict[str, dict[str, float]]:
    """Methods that are significantly better, with those that they beat and the corrected p."""
    won: dict[str, dict[str, float]] = defaultdict(dict)
    for test in tests.itertuples():
        if test.p_holm < 1 - comparison.settings.confidence and test.rank_biserial:
            first = (test.rank_biserial > 0) == (metric.better != "low")
            winner, loser = (test.first, test.second) if first else (test.second, test.first)
            won[winner][loser] = test.p_holm
    return won


def _equals(p: float) -> str:
    text = number(p, "p")
    return text if text.startswith("<") else f"= {text}"


def lesion_tests_sentence(comparison: Comparison) -> str:
    """What the tests of lesions say, or why there are none."""
    rows = comparison.lesion_rows
    if len((set(rows.method) | set(rows.against)) - {comparison.reference}) < 2:
        return "Nothing to test: there is one method."
    tests = comparison.tests[comparison.tests.structure == LESION]
    if not len(tests):
        return (
            f"Not tested: of {count(rows.subject.nunique(), 'subject')} too few have a value of both methods; with "
            f"fewer than {LEAST_SUBJECTS} no p of the signed-rank test can be below 0.05. A difference of means is no "
            "evidence."
        )
    won = []
    for key, own in tests.groupby("metric", sort=False):
        metric = metric_named(LESION, str(key))
        won += [
            f"{metric.label} of {method} is higher than that of {other} (p {number(p, 'p')})"
            for method, beaten in _wins(comparison, own, metric).items()
            for other, p in beaten.items()
        ]
    over = "paired Wilcoxon test over subjects, corrected by Holm"
    return f"{listed(won)}; {over}." if won else f"No difference between methods is significant ({over})."


def tests_table(comparison: Comparison, unit: str, lesions: bool = False) -> Table:
    """Tests over subjects, or over slices."""
    tests = comparison.tests[(comparison.tests.unit == unit) & ((comparison.tests.structure == LESION) == lesions)]
    alpha = 1 - comparison.settings.confidence
    columns = [
        ("Structure", "structure", None),
        ("Measure", "measure", None),
        ("Methods", "methods", None),
        ("Test", "name", None),
        ("n", "n", ""),
        ("Effect, -1 to 1", "rank_biserial", "+.2f"),
        ("Larger values", "larger", None),
        ("p", "p", "p"),
        ("p, Holm", "p_holm", "p"),
        (f"p < {alpha:.2g}", "significant", None),
    ]
    larger = {1: "{first}", -1: "{second}", 0: NONE}
    names = {"mann-whitney": "Mann-Whitney", "wilcoxon": "Wilcoxon, paired"}
    rows = [
        {
            **test,
            "measure": metric_named(test["structure"], test["metric"]).header(),
            "methods": "{first} vs {second}".format(**test),
            "name": names[test["test"]],
            "n": ("{n_first}" if test["n_first"] == test["n_second"] else "{n_first} / {n_second}").format(**test),
            "larger": larger[int(np.sign(np.nan_to_num(test["rank_biserial"])))].format(**test),
            "significant": NONE if math.isnan(test["p_holm"]) else "yes" if test["p_holm"] < alpha else "no",
        }
        for test in tests.to_dict("records")
    ]
    part = "scans" if lesions else "slices"
    over = f"subjects (each subject's mean over its {part})" if unit == "subject" else part
    note = f"{NONE}: no test, for there are too few pairs or all of them are equal."
    return make_table(f"{'Lesions: tests' if lesions else 'Tests'} over {over}", rows, columns, note)


# --- areas and loads -------------------------------------------------------------------------


def agreement_table(comparison: Comparison, lesions: bool = False) -> Table:
    """Bland-Altman and ICC of areas (mm2, slice by slice) or loads (mL, scan by scan)."""
    unit, part, what = ("mL", "scan", "Lesion load") if lesions else ("mm²", "slice", "CSA")
    rows = [
        {"structure": structure, "pair": pair_name(comparison, *pair), **sizes_of(comparison, structure, *pair)}
        for structure, *pair in comparison.pairs
        if (structure == LESION) == lesions
    ]
    columns = [
        ("Structure", "structure", None),
        _pair_column(comparison),
        (f"{part.capitalize()}s", "n", "d"),
        (f"Bias ({unit})", "bias", "+.2f"),
        (f"95% CI of bias ({unit})", "bias_low bias_high", ".2f"),
        (f"Limits of agreement ({unit})", "lower upper", ".2f"),
        ("Bias (%)", "bias_percent", "+.1f"),
        ("Limits of agreement (%)", "lower_percent upper_percent", ".1f"),
        (f"Proportional bias ({unit} per {unit})", "slope", "+.3f"),
        ("p of it", "slope_p", "p"),
        ("ICC(A,1)", "icc_a1", ".3f"),
        (f"{comparison.settings.confidence:.0%} CI of ICC", "icc_a1_low icc_a1_high", ".3f"),
    ]
    note = f"{NONE}: not defined; limits need two {part}s, an ICC needs {'loads' if lesions else 'areas'} that vary."
    return make_table(f"{what}: agreement {part} by {part}", rows, columns, note)


def repeatability_table(comparison: Comparison, lesions: bool = False) -> Table:
    """Scan and rescan: coefficients of variation of areas or loads."""
    table = comparison.agreement
    table = table[(table.against == "second run") & ((table.structure == LESION) == lesions)]
    order, structures = names_of_all(comparison), list(STRUCTURES)
    rows = []
    for (structure, method), own in table.groupby(["structure", "method"], sort=False):
        numbers = {row.measure.partition("scan_rescan_")[2]: row for row in own.itertuples()}
        found = {key: row.value for key, row in numbers.items()} | {f"n_{key}": row.n for key, row in numbers.items()}
        rows.append({"structure": structure, "method": method, **found})
    rows.sort(key=lambda row: (structures.index(row["structure"]), order.index(row["method"])))
    columns = [("Structure", "structure", None), ("Method", "method", None)]
    if lesions:
        columns += [
            ("Sessions scanned twice", "n_absolute_difference", "d"),
            ("with lesions", "n_cov", "d"),
            ("CoV of load (%)", "cov", ".1f"),
            ("Mean absolute difference (mL)", "absolute_difference", ".3f"),
        ]
        return make_table("Lesion load: scan and rescan", rows, columns, f"{NONE}: no lesions in these sessions.")
    columns += [
        ("Sessions scanned twice", "n_cov_scan", "d"),
        ("CoV of mean CSA (%)", "cov_scan", ".2f"),
        ("Pairs of slices", "n_cov_slice", "d"),
        ("CoV of slice CSA (%)", "cov_slice", ".2f"),
    ]
    return make_table("Scan and rescan: coefficient of variation of CSA", rows, columns)


# --- scans and slices ------------------------------------------------------------------------

_PAIR_OF_SCAN = ["case", "structure", "method", "against"]


def outliers_table(comparison: Comparison) -> Table:
    """Outlier slices: a row a scan, structure and method."""
    slices = comparison.slices().sort_values("index")
    slices = slices[slices.outlier != ""]
    whys = [f"Dice {number(dice)}" if why == "dice" else why for why, dice in zip(slices.outlier, slices.dice)]
    told = slices.assign(slices=[f"{int(k)} ({why})" for k, why in zip(slices["index"], whys)])
    rows = told.groupby(_PAIR_OF_SCAN).agg(
        subject=("subject", "first"), n=("slices", "size"), slices=("slices", ", ".join)
    )
    columns = [
        ("Subject", "subject", None),
        ("Scan", "case", None),
        ("Structure", "structure", None),
        ("Method", "pair", None),
        ("Outliers", "n", "d"),
        ("Slices, from inferior", "slices", None),
    ]
    rows = _named(comparison, rows.reset_index())
    return make_table("Outliers by subject and slice", rows, columns, most=SHOWN_OUTLIERS)


def scans_table(comparison: Comparison) -> Table:
    """One row a scan, structure and method, of tissues."""
    slices, whole = comparison.slices(), comparison.rows[comparison.rows.level == "scan"]
    kept = slices[slices.outlier == ""]
    means = kept.groupby(_PAIR_OF_SCAN)[["dice", "hausdorff95_mm"]].mean()
    rows = slices.groupby(_PAIR_OF_SCAN).agg(n=("outlier", "size"), outliers=("outlier", lambda why: (why != "").sum()))
    rows = rows.join(means).join(whole.set_index(_PAIR_OF_SCAN).dice.rename("whole")).reset_index()
    areas = comparison.values[comparison.values.metric == "area_mm2"]
    area = areas.groupby(["case", "structure", "method"]).value.mean()
    for name, who in (("own", "method"), ("other", "against")):
        rows = rows.join(area.rename(name), on=["case", "structure", who])
    places = {pair: place for place, pair in enumerate(comparison.pairs)}
    pairs = zip(rows.structure, rows.method, rows.against)
    rows = rows.assign(place=[places[pair] for pair in pairs]).sort_values(["case", "place"])
    columns = [
        ("Scan", "case", None),
        ("Group", "group", None),
        ("Structure", "structure", None),
        ("Method", "pair", None),
        ("Slices", "n", "d"),
        ("Outliers", "outliers", "d"),
        ("Dice mean", "dice", ".3f"),
        ("Dice in 3D", "whole", ".3f"),
        ("HD95 mean (mm)", "hausdorff95_mm", ".2f"),
        ("Mean CSA (mm²)", "own", ".2f"),
        ("Mean CSA of the other (mm²)", "other", ".2f"),
    ]
    note = (
        "Dice and HD95 means leave outliers out; mean CSA is of all slices in which the mask has the structure. "
        f"{NONE}: no such slice, or no group in participants.tsv."
    )
    return make_table("Every scan, structure and method", _named(comparison, rows), columns, note, SHOWN_SCANS)


# --- lesions ---------------------------------------------------------------------------------


def _lesion_summary(comparison: Comparison, group: str) -> list[dict[str, Any]]:
    """Rows of the summary of lesions, strata in their order and methods in theirs."""
    table = comparison.lesion_summary
    names = ["all", *load_names(), *(name for name, _ in size_strata())]
    pairs = comparison.pairs_of(LESION)
    rows = _named(comparison, table[table.group == group])
    return sorted(rows, key=lambda row: (names.index(row["name"]), pairs.index((row["method"], row["against"]))))


def lesion_summary_tables(comparison: Comparison) -> dict[str, Table]:
    """Agreement over scans (headline), counts over all scans, by load of the scan, by size of the lesion."""
    who = others_of(comparison)
    missed, false = who["missed"].lower(), who["false"].lower()
    overall = [
        _pair_column(comparison),
        ("Scans", "n_scans", "d"),
        ("F1 mean", "f1_mean", ".3f"),
        ("F1 pooled", "f1_pooled", ".3f"),
        ("Sensitivity mean", "sensitivity_mean", ".3f"),
        ("pooled", "sensitivity_pooled", ".3f"),
        ("Precision mean", "precision_mean", ".3f"),
        ("pooled", "precision_pooled", ".3f"),
        (f"{who['false']} per scan", "fp_per_scan", ".1f"),
        ("Dice mean", "dice_mean", ".3f"),
        ("Dice of matched lesions", "dice_matched_mean", ".3f"),
        ("Volume difference, mean (mL)", "volume_difference_ml_mean", "+.2f"),
        ("Volume difference, median (%)", "volume_difference_percent_median", "+.1f"),
    ]
    counts = [
        _pair_column(comparison),
        (f"{who['other']} lesions", "n_against", "d"),
        ("found (TP)", "tp_against", "d"),
        (f"{missed} (FN)", "fn", "d"),
        (f"{who['own']} lesions", "n_method", "d"),
        ("true (TP)", "tp_method", "d"),
        (f"{false} (FP)", "fp", "d"),
        ("Merged", "merged", "d"),
        ("Split", "split", "d"),
    ]
    by_load = [
        (f"Load of the {who['the_other']}", "name", None),
        _pair_column(comparison),
        ("Scans", "n_scans", "d"),
        ("Dice mean", "dice_mean", ".3f"),
        ("Dice SD", "dice_sd", ".3f"),
        ("F1 mean", "f1_mean", ".3f"),
        ("Sensitivity pooled", "sensitivity_pooled", ".3f"),
        ("Precision pooled", "precision_pooled", ".3f"),
        (f"{who['false']} per scan", "fp_per_scan", ".1f"),
        ("Volume difference, mean (mL)", "volume_difference_ml_mean", "+.2f"),
    ]
    by_size = [
        ("Lesion's volume", "name", None),
        _pair_column(comparison),
        (f"{who['other']} lesions", "n_against", "d"),
        ("found", "tp_against", "d"),
        ("Sensitivity", "sensitivity_pooled", ".3f"),
        (f"{who['own']} lesions", "n_method", "d"),
        (false, "fp", "d"),
        ("Precision", "precision_pooled", ".3f"),
    ]
    every = _lesion_summary(comparison, "all")
    sizes = [{**row, "name": pretty(row["name"]).replace(">=", "≥")} for row in _lesion_summary(comparison, "size")]
    in_none = f"{NONE}: in no scan defined (see Empty masks below)."
    one = f"{NONE}: not defined, or one scan only."
    loads = _lesion_summary(comparison, "load")
    return {
        "headline": make_table("Lesions: agreement over scans", every, overall, in_none),
        "counts": make_table("Lesions: counts over all scans", every, counts),
        "by_load": make_table("Lesions: by load of the scan", loads, by_load, one),
        "by_size": make_table(
            "Lesions: detection by size", sizes, by_size, f"{NONE}: there is no lesion of this size."
        ),
    }


def lesion_items_table(comparison: Comparison) -> Table:
    """Missed and false lesions, largest first."""
    what = {"missed": "missed", "false": "false"}
    if not comparison.reference:
        what = {"missed": "second alone", "false": "first alone"}
    columns = [
        ("Scan", "case", None),
        _pair_column(comparison),
        ("What", "what", None),
        ("Id", "id", ".0f"),
        ("Volume (mm³)", "volume_mm3", ".1f"),
        ("Diameter (mm)", "diameter_mm", ".1f"),
        ("Slice", "slice", ".0f"),
        ("Centroid R, A, S (mm)", "centre", None),
    ]
    order = ["volume_mm3", "case", "method", "kind"]
    items = comparison.unmatched.sort_values(order, ascending=[False, True, True, True], kind="stable")
    rows = [
        {
            **item,
            "what": what[item["kind"]],
            "centre": ", ".join(number(item[f"centroid_{axis}_mm"], ".1f") for axis in "ras"),
        }
        for item in _named(comparison, items)
    ]
    return make_table("Lesions without counterpart, largest first", rows, columns, most=SHOWN_ITEMS)


def lesion_scans_table(comparison: Comparison) -> Table:
    """One row a scan and method, of lesions; empty masks named."""
    who = others_of(comparison)
    empty = {"both": "both empty", "method": "method empty", "against": f"{who['the_other']} empty", "": ""}
    pairs = comparison.pairs_of(LESION)
    columns = [
        ("Scan", "case", None),
        ("Group", "group", None),
        _pair_column(comparison),
        ("Empty", "empty", None),
        (f"{who['other']} lesions", "n_against", ".0f"),
        (f"{who['own']} lesions", "n_method", ".0f"),
        (f"{who['missed']} (FN)", "fn", ".0f"),
        (f"{who['false']} (FP)", "fp", ".0f"),
        ("F1", "f1", ".3f"),
        ("Sensitivity", "sensitivity", ".3f"),
        ("Precision", "precision", ".3f"),
        ("Dice", "dice", ".3f"),
        ("Dice of matched", "dice_matched", ".3f"),
        (f"{who['other']} load (mL)", "load_against_ml", ".2f"),
        (f"{who['own']} load (mL)", "load_method_ml", ".2f"),
        ("Difference (mL)", "volume_difference_ml", "+.2f"),
        ("Difference (%)", "volume_difference_percent", "+.1f"),
    ]
    rows = [{**row, "empty": empty[row["empty"]]} for row in _named(comparison, comparison.lesion_rows)]
    rows.sort(key=lambda row: (row["case"], pairs.index((row["method"], row["against"]))))
    note = f"{NONE}: not defined, or no group in participants.tsv."
    return make_table("Lesions: every scan and method", rows, columns, note, SHOWN_SCANS)


# --- the console -----------------------------------------------------------------------------


def summary_lines(comparison: Comparison) -> Iterator[str]:
    """Dice per slice of each method, as in the study's table, and agreement of lesions: lines for the console."""
    head = count(len(comparison.cases), "scan")
    if comparison.reference is None:
        head += "; no reference: methods are compared with each other, and none is the truth"
    yield head
    summary = comparison.summary
    who = "{method}" if comparison.reference else "{method} / {against}"
    for row in summary[(summary.level == "slice") & (summary.metric == "dice")].to_dict("records"):
        numbers = "Dice {mean:.3f} +- {sd:.3f}, median {median:.3f} ({n} slices, {outliers} outliers left out)"
        yield f"  {row['structure']:3} {who.format(**row):24} {numbers.format(**row)}"
    for row in _lesion_summary(comparison, "all"):
        means = {name: number(row[f"{name}_mean"], ".3f") for name in ("f1", "sensitivity", "precision", "dice")}
        numbers = "F1 {f1}, sensitivity {sensitivity}, precision {precision}, Dice {dice}".format(**means)
        more = "{fp_per_scan:.1f} false a scan ({n_scans} scans)".format(**row)
        yield f"  LESION {who.format(**row):21} {numbers}, {more}"
