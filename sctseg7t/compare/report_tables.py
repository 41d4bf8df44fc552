"""The report's tables of tissues, and the lines for the console."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from sctseg7t.compare.analysis import KEPT, LEFT_OUT
from sctseg7t.compare.cells import (
    NONE,
    WITHHELD,
    Best,
    Column,
    Table,
    cell,
    count,
    listed,
    make_table,
    named,
    names_of_all,
    number,
    pair_column,
    pair_name,
)
from sctseg7t.compare.findings import best_of, flattering
from sctseg7t.compare.lesion_tables import lesion_summary
from sctseg7t.compare.metrics import TISSUE, metric_named
from sctseg7t.compare.types import LESION, STRUCTURES, Comparison

SHOWN_PROBLEMS, SHOWN_OUTLIERS, SHOWN_SCANS = 300, 400, 1500
# Of fewer subjects, limits of agreement and an ICC say next to nothing; of fewer than the second, little (Koo and Li,
# J Chiropr Med 2016, want 30 for an ICC).
TOO_FEW, _FEW = 5, 30


# --- what was compared -----------------------------------------------------------------------


def facts(comparison: Comparison) -> list[tuple[int, str]]:
    """Counts for the head of the report: (number, of what)."""
    slices, unmatched = comparison.slices(), comparison.unmatched
    compared = set(comparison.rows.case) | set(comparison.lesion_rows.case)
    subjects = {case.subject or case.name for case in comparison.cases if case.name in compared}
    found = [(len(compared), "scan"), (len(subjects), "subject")]
    if rescans := len(set(comparison.values.case) - compared):
        found.insert(1, (rescans, "further scan"))
    methods, problems = (len(comparison.methods), "method"), (len(comparison.problems), "problem")
    if comparison.has_tissues:
        outliers = (int((slices.outlier != "").sum()), "failure")
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


# --- summaries of tissues --------------------------------------------------------------------


def sizes_of(comparison: Comparison, structure: str, method: str, against: str) -> dict[str, Any]:
    """Agreement of a pair's areas or loads: fields of BlandAltman, ICC, ``n`` pairs of ``subjects``; {} where none."""
    table = comparison.agreement
    own = table[(table.structure == structure) & (table.method == method) & (table.against == against)]
    found = {row.measure.removeprefix("csa_").removeprefix("load_"): row.value for row in own.itertuples()}
    return {**found, "n": int(own.n.iloc[0]), "subjects": int(own.subjects.iloc[0])} if len(own) else {}


def few_subjects(numbers: dict[str, Any], *keys: str) -> dict[str, str]:
    """Shown in place of some numbers: nothing where subjects are too few for them, else with a mark where few."""
    if numbers["subjects"] < TOO_FEW:
        return dict.fromkeys(keys, WITHHELD)
    mark = "*" if numbers["subjects"] < _FEW else ""
    digits = {"icc_a1": ".3f", "icc_a1_low icc_a1_high": ".3f"}
    shown = {key: cell(numbers, key, digits.get(key, "+.2f")) for key in keys}
    return {key: text if text == NONE else f"{text}{mark}" for key, text in shown.items()}


FEW_NOTE = (
    f"{WITHHELD}: limits of agreement and ICC of fewer than {TOO_FEW} subjects say nothing of other subjects (the CSV "
    f"tables have them); *: of fewer than {_FEW}, so read the interval."
)


def headline_tables(comparison: Comparison) -> list[Table]:
    """The table to read first, one for each structure: all slices, with those that failed."""
    confidence = f"{comparison.settings.confidence:.0%} CI"
    columns = [
        pair_column(comparison),
        ("Slices", "n", "d"),
        ("Failures", "outliers", "d"),
        ("Dice mean", "mean", ".3f"),
        (confidence, "low high", ".3f"),
        ("Dice median", "median", ".3f"),
        ("HD95 median (mm)", "hd95", ".2f"),
        ("without HD95", "undefined", "d"),
        ("CSA error (mm²)", "error", ".2f"),
        ("CSA bias (mm²)", "bias", "+.2f"),
        ("95% CI", "bias_low bias_high", "+.2f"),
        ("Limits of agreement (mm²)", "lower upper", "+.2f"),
        ("CSA bias (%)", "bias_percent", "+.1f"),
        ("ICC", "icc_a1", ".3f"),
    ]
    found = []
    for structure in comparison.structures:
        rows, subjects = _headline_rows(comparison, structure), 0
        best = best_of(comparison, structure)[0] if comparison.settings.primary == "dice" else None
        flattered = {problem.method for problem in flattering(comparison) if problem.structure in (structure, None)}
        for row in rows:
            numbers = sizes_of(comparison, structure, row["method"], row["against"])
            row |= {**numbers, "n": row["n"], **few_subjects(numbers, "lower upper", "icc_a1")}
            subjects = max(subjects, numbers["subjects"])
            if row["method"] == best and best not in flattered:
                row["mean"] = Best(number(row["mean"], ".3f"))
        caption = f"{structure}, {STRUCTURES[structure]}: all slices, failures included ({count(subjects, 'subject')})"
        found.append(make_table(caption, rows, columns, f"{NONE}: not defined. {FEW_NOTE}"))
    return found


def _headline_rows(comparison: Comparison, structure: str, failures: str = KEPT, group: str = "") -> list[dict]:
    """Rows of Dice in slices, with the numbers of other metrics that stand beside it."""
    summary = comparison.summary
    own = summary[(summary.structure == structure) & (summary.level == "slice") & (summary.failures == failures)]
    own = own[own.group == group]
    by_metric = {key: some.set_index(["method", "against"]) for key, some in own.groupby("metric", sort=False)}
    rows = named(comparison, own[own.metric == "dice"])
    for row in rows:
        pair = row["method"], row["against"]
        distance, error, difference = (
            by_metric[key].loc[pair] for key in ("hausdorff95_mm", "size_error", "size_difference")
        )
        row |= {"hd95": distance["median"], "hd95_mean": distance["mean"], "undefined": int(distance.undefined)}
        row |= {"error": error["mean"], "difference": difference["mean"]}
    return rows


def without_failures_tables(comparison: Comparison) -> list[Table]:
    """The same as the 2021 study counts: failures left out."""
    columns = [
        pair_column(comparison),
        ("Slices", "n", "d"),
        ("Left out", "outliers", "d"),
        ("Dice mean", "mean", ".3f"),
        ("Dice median", "median", ".3f"),
        ("Dice SD", "sd", ".3f"),
        ("HD95 mean (mm)", "hd95_mean", ".2f"),
        ("CSA error (mm²)", "error", ".2f"),
        ("CSA bias (mm²)", "difference", "+.2f"),
    ]
    note = f"{NONE}: no slice is left, or one only."
    return [
        make_table(
            f"{structure}: without failures (Dice ≤ {comparison.settings.failure_dice:g} or a missing structure), as "
            "in the 2021 study",
            _headline_rows(comparison, structure, LEFT_OUT),
            columns,
            note,
        )
        for structure in comparison.structures
    ]


def group_tables(comparison: Comparison) -> list[Table]:
    """Methods by group of participants: all slices."""
    groups = [group for group in sorted(set(comparison.summary.group)) if group]
    columns = [
        ("Group", "group_name", None),
        pair_column(comparison),
        ("Subjects", "subjects", "d"),
        ("Slices", "n", "d"),
        ("Failures", "outliers", "d"),
        ("Dice mean", "mean", ".3f"),
        (f"{comparison.settings.confidence:.0%} CI", "low high", ".3f"),
        ("Dice median", "median", ".3f"),
        ("HD95 median (mm)", "hd95", ".2f"),
        ("CSA error (mm²)", "error", ".2f"),
        ("CSA bias (mm²)", "difference", "+.2f"),
    ]
    found = []
    for structure in comparison.structures if groups else ():
        rows = []
        for group in groups:
            rows += [{**row, "group_name": group} for row in _headline_rows(comparison, structure, KEPT, group)]
        found.append(make_table(f"{structure} by group: all slices, failures included", rows, columns))
    return found


def study_tables(comparison: Comparison, level: str = "slice", failures: str = KEPT) -> list[Table]:
    """Methods by metric for each structure: n, failures, mean, median, SD, interval."""
    kind = {"slice": "slices, in 2D", "level": "vertebral levels, in 3D", "scan": "scans, in 3D"}[level]
    trim, confidence = comparison.settings.trim, comparison.settings.confidence
    columns: list[Column] = [("Measure", "header", None), ("Method", "pair", None), ("n", "n", "d")]
    columns += [("Failures" if failures == KEPT else "Left out", "outliers", "d")]
    columns += [("Not defined", "undefined", "d")]
    numbers = [("Mean", "mean"), ("Median", "median"), ("SD", "sd")]
    numbers += [(f"Trimmed mean ({trim:.0%})", "trimmed_mean")] if trim else []
    numbers.append((f"{confidence:.0%} CI of the mean", "low high"))
    summary = comparison.summary[(comparison.summary.level == level) & (comparison.summary.failures == failures)]
    summary = summary[summary.group == ""]
    found = []
    for structure in comparison.structures:
        rows = []
        for metric in TISSUE:
            if metric.summarised and (metric.headline if level == "slice" else metric.definition):
                own = summary[(summary.structure == structure) & (summary.metric == metric.key)]
                sign = "+" if metric.better == "zero" else ""
                for row in named(comparison, own):
                    shown = {key: cell(row, key, f"{sign}.{metric.digits}f") for _, key in numbers}
                    rows.append({**row, "header": metric.header(level), **shown, "low": shown["low high"], "high": ""})
        if rows:
            every = [*columns, *((header, key, "") for header, key in numbers)]
            which = "failures included" if failures == KEPT else "failures left out, as in the 2021 study"
            note = (
                "Not defined: a distance of which one mask is empty; the mean is of the others, the median counts it "
            )
            note += f"as the largest. {NONE}: no value, or an interval of one subject."
            found.append(make_table(f"{structure}: all measures over {kind}; {which}", rows, every, note))
    return found


# --- tests -----------------------------------------------------------------------------------


def tests_table(comparison: Comparison, over: str, lesions: bool = False) -> Table:
    """Tests over subjects, or over slices."""
    tests = comparison.tests[(comparison.tests.over == over) & ((comparison.tests.structure == LESION) == lesions)]
    tests = tests.sort_values("role", ascending=False, kind="stable")
    confidence = comparison.settings.confidence
    subjects = over == "subject"
    better = "Better" if subjects else "Better, failures left out"
    columns: list[Column] = [
        ("Structure", "structure", None),
        ("Measure", "measure", None),
        ("First, second", "methods", None),
        ("n", "n", ""),
        *((("First − second", "difference", ""), (f"{confidence:.0%} CI", "interval", "")) if subjects else ()),
        ("Effect, −1 to 1", "rank_biserial", "+.2f"),
        *(((better, "better", None),) if comparison.reference else (("Larger", "larger", None),)),
        ("p", "p", "p"),
        *((("p, Holm", "corrected", ""),) if subjects and comparison.reference else ()),
    ]
    rows = []
    for test in tests.to_dict("records"):
        metric = metric_named(test["structure"], test["metric"])
        form = f"+.{metric.digits}f"
        effect = 0.0 if math.isnan(test["rank_biserial"]) else test["rank_biserial"]
        more = {
            "measure": metric.header(),
            "methods": "{first}, {second}".format(**test),
            "n": ("{n_first}" if test["n_first"] == test["n_second"] else "{n_first} / {n_second}").format(**test),
            "difference": number(test["difference"], form),
            "interval": cell(test, "difference_low difference_high", form),
            "better": test["better"] or NONE,
            "larger": test["first"] if effect > 0 else test["second"] if effect < 0 else NONE,
            "corrected": number(test["p_holm"], "p") if test["role"] == "primary" else "exploratory",
        }
        rows.append({**test, **more})
    part = "scans" if lesions else "slices, failures included"
    name = f"subjects: paired Wilcoxon test of each one's {part}"
    if not subjects:
        name = "slices, as in the 2021 study: Mann-Whitney test, failures left out"
    note = f"{NONE}: no test, or no interval: with fewer than 6 subjects none of 95% exists."
    return make_table(f"{'Lesions: tests' if lesions else 'Tests'} over {name}", rows, columns, note)


# --- areas and loads -------------------------------------------------------------------------


def agreement_table(comparison: Comparison, lesions: bool = False) -> Table:
    """Bland-Altman and ICC of areas (mm2, slice by slice) or loads (mL, scan by scan)."""
    unit, part, what = ("mL", "scan", "Lesion load") if lesions else ("mm²", "slice", "CSA")
    rows = []
    for structure, *pair in comparison.pairs:
        if (structure == LESION) == lesions:
            numbers = sizes_of(comparison, structure, *pair)
            hidden = few_subjects(numbers, "lower upper", "icc_a1", "icc_a1_low icc_a1_high")
            rows.append({"structure": structure, "pair": pair_name(comparison, *pair), **numbers, **hidden})
    columns = [
        ("Structure", "structure", None),
        pair_column(comparison),
        ("Subjects", "subjects", "d"),
        (f"{part.capitalize()}s", "n", "d"),
        (f"Bias ({unit})", "bias", "+.2f"),
        (f"95% CI of bias ({unit})", "bias_low bias_high", "+.2f"),
        (f"Limits of agreement ({unit})", "lower upper", "+.2f"),
        ("Bias (%)", "bias_percent", "+.1f"),
        (f"Proportional bias ({unit} per {unit})", "slope", "+.3f"),
        ("p of it", "slope_p", "p"),
        ("ICC(A,1) of subjects' means", "icc_a1", ".3f"),
        (f"{comparison.settings.confidence:.0%} CI of ICC", "icc_a1_low icc_a1_high", ".3f"),
    ]
    note = f"{NONE}: not defined; an interval needs two subjects, an ICC {'loads' if lesions else 'areas'} that vary. "
    return make_table(f"{what}: agreement {part} by {part}", rows, columns, note + FEW_NOTE)


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
        ("in one run only", "in_one_run", ".0f"),
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
        ("Failures", "n", "d"),
        ("Slices, from inferior", "slices", None),
    ]
    rows = named(comparison, rows.reset_index())
    return make_table("Failures by subject and slice", rows, columns, most=SHOWN_OUTLIERS)


def scans_table(comparison: Comparison) -> Table:
    """One row a scan, structure and method, of tissues: all slices, with those that failed."""
    slices, whole = comparison.slices(), comparison.rows[comparison.rows.level == "scan"]
    parts = slices.groupby(_PAIR_OF_SCAN)
    rows = parts[["dice", "size_method", "size_against"]].mean().join(parts.hausdorff95_mm.median())
    rows = rows.join(parts.agg(n=("outlier", "size"), outliers=("outlier", lambda why: (why != "").sum())))
    rows = rows.join(whole.set_index(_PAIR_OF_SCAN).dice.rename("whole")).reset_index()
    places = {pair: place for place, pair in enumerate(comparison.pairs)}
    pairs = zip(rows.structure, rows.method, rows.against)
    rows = rows.assign(place=[places[pair] for pair in pairs]).sort_values(["case", "place"])
    columns = [
        ("Scan", "case", None),
        ("Group", "group", None),
        ("Structure", "structure", None),
        ("Method", "pair", None),
        ("Slices", "n", "d"),
        ("Failures", "outliers", "d"),
        ("Dice mean", "dice", ".3f"),
        ("Dice in 3D", "whole", ".3f"),
        ("HD95 median (mm)", "hausdorff95_mm", ".2f"),
        ("Mean CSA (mm²)", "size_method", ".2f"),
        (f"Mean CSA of the {'reference' if comparison.reference else 'second'} (mm²)", "size_against", ".2f"),
    ]
    note = f"Slices in which either mask has the structure. {NONE}: no group in participants.tsv."
    return make_table("Every scan, structure and method", named(comparison, rows), columns, note, SHOWN_SCANS)


# --- the console -----------------------------------------------------------------------------


def summary_lines(comparison: Comparison) -> Iterator[str]:
    """Agreement of each method over all slices, and of lesions: lines for the console, plain ASCII."""
    head = ", ".join(count(n, thing) for n, thing in facts(comparison) if thing.endswith(("scan", "subject", "slice")))
    if comparison.reference is None:
        head += "; no reference: methods are compared with each other, and none is the truth"
    yield head
    who = "{method}" if comparison.reference else "{method} / {against}"
    for structure in comparison.structures:
        for row in _headline_rows(comparison, structure):
            numbers = "Dice {mean:.3f}, median {median:.3f}, HD95 median {hd95:.2f} mm, area error {error:.2f} mm2"
            failed = f" ({row['n']} slices, {row['outliers']} failed)"
            yield f"  {structure:3} {who.format(**row):24} {numbers.format(**row)}{failed}"
    for row in lesion_summary(comparison, "all"):
        means = {name: f"{row[f'{name}_mean']:.3f}" for name in ("f1", "sensitivity", "precision", "dice")}
        numbers = "F1 {f1}, sensitivity {sensitivity}, precision {precision}, Dice {dice}".format(**means)
        more = "{fp_per_scan:.1f} false a scan ({n_scans} scans)".format(**row)
        yield f"  LESION {who.format(**row):21} {numbers}, {more}"
