"""The report's tables and words on lesions; HTML and Markdown are two ways to write them."""

import math

import numpy as np

from sctseg7t.compare.lesion_study import LEAST_SUBJECTS, by_pair, load_names
from sctseg7t.compare.lesion_tables import what_of
from sctseg7t.compare.lesions import FALSE, MISSED, size_names
from sctseg7t.compare.sections import Table, cut_note, pair_name, tests_rows
from sctseg7t.compare.wording import NONE, Metric, count, interval, listed, number, p_text, signed
from sctseg7t.measure.lesion_matching import RULES

SHOWN_ITEMS, SHOWN_SCANS = 200, 1500
F1 = Metric("f1", "F1", "", 3, "high", "")
DICE = Metric("dice", "Dice", "", 3, "high", "")
_LABELS = {"f1": "F1", "dice": "Dice", "load_ml": "Load (mL)"}
_EMPTY = {"both": "both empty", "method": "method empty", "against": "{} empty"}
_WHAT = {"missed": "missed", "false": "false", "only_in_against": "second alone", "only_in_method": "first alone"}


def pairs(comparison):
    """(method, against) in the order of the methods."""
    order = {method: place for place, method in enumerate(comparison.methods)}
    return sorted(by_pair(comparison.lesions.rows), key=lambda pair: tuple(order.get(who, 99) for who in pair))


def rule_text(comparison):
    """The matching rule in a sentence, with its options."""
    if not comparison.lesions.rows:
        return "No two masks of lesions could be compared."
    how = comparison.lesions.rows[0].agreement
    rule = RULES[how.rule].replace(" `min_iou`", f" {how.min_iou:g}" if how.min_iou is not None else "")
    ignored = f"those of at most {how.ignored_up_to_mm3:g} mm³ left out" if how.ignored_up_to_mm3 else "none left out"
    lesion = f"A lesion is a connected component ({how.connectivity} neighbours a voxel; {ignored})."
    return f'Rule "{how.rule}", {rule}. {lesion}'


def headline_table(comparison):
    """Every method: lesions found and false, F1, Dice, volume."""
    known = {(row.method, row.against): row.numbers for row in comparison.lesions.summary if row.group == "all"}
    rows = []
    for pair in pairs(comparison):
        n = known[pair]
        rows.append(
            (
                pair_name(comparison, *pair),
                str(n["n_scans"]),
                number(n["f1_mean"], 3),
                number(n["f1_pooled"], 3),
                *_both(n, "sensitivity"),
                *_both(n, "precision"),
                number(n["fp_per_scan"], 1),
                number(n["dice_mean"], 3),
                number(n["dice_matched_mean"], 3),
                signed(n["volume_difference_ml_mean"], 2),
                signed(n["volume_difference_percent_median"], 1),
            )
        )
    columns = (
        _method(comparison),
        "Scans",
        "F1 mean",
        "F1 pooled",
        "Sensitivity mean",
        "pooled",
        "Precision mean",
        "pooled",
        f"{_false(comparison)} per scan",
        "Dice mean",
        "Dice of matched lesions",
        "Volume difference, mean (mL)",
        "Volume difference, median (%)",
    )
    note = f"{NONE}: in no scan defined (see Empty masks below)."
    return Table("Lesions: agreement over scans", columns, tuple(rows), (0,), note)


def counts_table(comparison):
    """Lesions counted over all scans."""
    rows = []
    for row in comparison.lesions.summary:
        if row.group == "all":
            n = row.numbers
            names = ("n_reference", "tp_reference", "fn", "n_mask", "tp_mask", "fp", "merged", "split")
            rows.append((pair_name(comparison, row.method, row.against), *(str(n[name]) for name in names)))
    other, own = ("Reference's", "Method's") if comparison.reference else ("Second's", "First's")
    columns = (
        _method(comparison),
        f"{other} lesions",
        "found (TP)",
        f"{_missed(comparison).lower()} (FN)",
        f"{own} lesions",
        "true (TP)",
        f"{_false(comparison).lower()} (FP)",
        "Merged",
        "Split",
    )
    return Table("Lesions: counts over all scans", columns, tuple(rows), (0,))


def load_table(comparison):
    """Dice and F1 by the load of the mask that is compared with."""
    rows, order = [], load_names()
    strata = [row for row in comparison.lesions.summary if row.group == "load"]
    for row in sorted(
        strata, key=lambda row: (order.index(row.name), pairs(comparison).index((row.method, row.against)))
    ):
        n = row.numbers
        rows.append(
            (
                row.name,
                pair_name(comparison, row.method, row.against),
                str(n["n_scans"]),
                number(n["dice_mean"], 3),
                number(n["dice_sd"], 3),
                number(n["f1_mean"], 3),
                number(n["sensitivity_pooled"], 3),
                number(n["precision_pooled"], 3),
                number(n["fp_per_scan"], 1),
                signed(n["volume_difference_ml_mean"], 2),
            )
        )
    columns = (
        f"Load of the {_other(comparison)}",
        _method(comparison),
        "Scans",
        "Dice mean",
        "Dice SD",
        "F1 mean",
        "Sensitivity pooled",
        "Precision pooled",
        f"{_false(comparison)} per scan",
        "Volume difference, mean (mL)",
    )
    return Table(
        "Lesions: by load of the scan", columns, tuple(rows), (0, 1), f"{NONE}: not defined, or one scan only."
    )


def size_table(comparison):
    """Detection by each lesion's own volume."""
    rows, order = [], size_names()
    strata = [row for row in comparison.lesions.summary if row.group == "size"]
    for row in sorted(
        strata, key=lambda row: (order.index(row.name), pairs(comparison).index((row.method, row.against)))
    ):
        n = row.numbers
        rows.append(
            (
                row.name.replace("mm3", "mm³").replace(">=", "≥"),
                pair_name(comparison, row.method, row.against),
                str(n["n_reference"]),
                str(n["tp_reference"]),
                number(n["sensitivity_pooled"], 3),
                str(n["n_mask"]),
                str(n["fp"]),
                number(n["precision_pooled"], 3),
            )
        )
    other, own = ("Reference's", "Method's") if comparison.reference else ("Second's", "First's")
    columns = (
        "Lesion's volume",
        _method(comparison),
        f"{other} lesions",
        "found",
        "Sensitivity",
        f"{own} lesions",
        _false(comparison).lower(),
        "Precision",
    )
    return Table(
        "Lesions: detection by size", columns, tuple(rows), (0, 1), f"{NONE}: there is no lesion of this size."
    )


def agreement_table(comparison):
    """Bland-Altman and ICC of loads."""
    rows = []
    for load in comparison.lesions.loads:
        found = load.bland_altman
        rows.append(
            (
                pair_name(comparison, load.method, load.against),
                str(found.n),
                signed(found.bias, 2),
                interval(found.bias_low, found.bias_high, 2),
                interval(found.lower, found.upper, 2),
                signed(found.bias_percent, 1),
                signed(found.slope, 3),
                p_text(found.slope_p),
                number(load.icc, 3),
                interval(load.icc_low, load.icc_high, 3),
            )
        )
    columns = (
        _method(comparison),
        "Scans",
        "Bias (mL)",
        "95% CI of bias (mL)",
        "Limits of agreement (mL)",
        "Bias (%)",
        "Proportional bias (mL per mL)",
        "p of it",
        "ICC(A,1)",
        f"{comparison.settings.confidence:.0%} CI of ICC",
    )
    note = f"{NONE}: not defined; limits need two scans, an ICC needs loads that vary."
    return Table("Lesion load: agreement scan by scan", columns, tuple(rows), (0,), note)


def repeatability_table(comparison):
    rows = tuple(
        (r.method, str(r.sessions), str(r.with_lesions), number(r.cov, 1), number(r.difference_ml, 3))
        for r in comparison.lesions.repeatability
    )
    columns = ("Method", "Sessions scanned twice", "with lesions", "CoV of load (%)", "Mean absolute difference (mL)")
    return Table("Lesion load: scan and rescan", columns, rows, (0,), f"{NONE}: no lesions in these sessions.")


def tests_table(comparison):
    rows = tests_rows(comparison, comparison.lesions.tests, lambda test: _LABELS.get(test.metric, test.metric))
    columns = (
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
    return Table("Lesions: tests over subjects", columns, tuple(row[1:] for row in rows), (0, 1, 2, 5, 8))


def tests_sentence(comparison):
    """What the tests say, or why there are none."""
    subjects = len({case.subject or case.name for case in comparison.cases if (case.name in _cases(comparison))})
    if (
        len({method for method, _ in pairs(comparison)} | ({a for _, a in pairs(comparison)} - {comparison.reference}))
        < 2
    ):
        return "Nothing to test: there is one method."
    if not comparison.lesions.tests:
        return (
            f"Not tested: of {count(subjects, 'subject')} too few have a value of both methods; with fewer than "
            f"{LEAST_SUBJECTS} no p of the signed-rank test can be below 0.05. A difference of means is no evidence."
        )
    alpha = 1 - comparison.settings.confidence
    won = [
        f"{_LABELS.get(t.metric, t.metric)} of {a} is higher than that of {b} (p {p_text(t.p_holm)})"
        for t in comparison.lesions.tests
        if t.p_holm < alpha and t.effect
        for a, b in [(t.first, t.second) if t.effect > 0 else (t.second, t.first)]
    ]
    over = "paired Wilcoxon test over subjects, corrected by Holm"
    return f"{listed(won)}; {over}." if won else f"No difference between methods is significant ({over})."


def items_table(comparison):
    """Missed and false lesions, largest first."""
    found = sorted(comparison.lesions.items, key=lambda item: (-item.volume_mm3, item.case, item.method, item.kind))
    rows = tuple(
        (
            item.case,
            pair_name(comparison, item.method, item.against),
            _WHAT[what_of(comparison, item)],
            str(item.id),
            number(item.volume_mm3, 1),
            number(item.diameter_mm, 1),
            str(item.slice),
            ", ".join(number(getattr(item, f"centroid_{axis}_mm"), 1) for axis in "ras"),
        )
        for item in found[:SHOWN_ITEMS]
    )
    columns = (
        "Scan",
        _method(comparison),
        "What",
        "Id",
        "Volume (mm³)",
        "Diameter (mm)",
        "Slice",
        "Centroid R, A, S (mm)",
    )
    note = cut_note(len(rows), len(found))
    return Table("Lesions without counterpart, largest first", columns, rows, (0, 1, 2, 7), note)


def scans_table(comparison):
    """One row a scan and method; empty masks named."""
    groups = {case.name: case.group for case in comparison.cases}
    rows, order = [], {pair: place for place, pair in enumerate(pairs(comparison))}
    for row in sorted(comparison.lesions.rows, key=lambda row: (row.case, order[row.method, row.against])):
        a = row.agreement
        rows.append(
            (
                row.case,
                groups.get(row.case) or NONE,
                pair_name(comparison, row.method, row.against),
                _EMPTY[row.empty].format(_other(comparison)) if row.empty else "",
                str(a.n_reference),
                str(a.n_mask),
                str(a.fn),
                str(a.fp),
                number(a.f1, 3),
                number(a.sensitivity, 3),
                number(a.precision, 3),
                number(a.dice, 3),
                number(a.dice_matched, 3),
                number(a.reference_ml, 2),
                number(a.mask_ml, 2),
                signed(a.volume_difference_ml, 2),
                signed(a.volume_difference_percent, 1),
            )
        )
    other, own = ("Reference's", "Method's") if comparison.reference else ("Second's", "First's")
    columns = (
        "Scan",
        "Group",
        _method(comparison),
        "Empty",
        f"{other} lesions",
        f"{own} lesions",
        f"{_missed(comparison)} (FN)",
        f"{_false(comparison)} (FP)",
        "F1",
        "Sensitivity",
        "Precision",
        "Dice",
        "Dice of matched",
        f"{other} load (mL)",
        f"{own} load (mL)",
        "Difference (mL)",
        "Difference (%)",
    )
    note = f"{NONE}: not defined, or no group in participants.tsv. {cut_note(min(len(rows), SHOWN_SCANS), len(rows))}"
    return Table("Lesions: every scan and method", columns, tuple(rows[:SHOWN_SCANS]), (0, 1, 2, 3), note.strip())


def definitions(comparison):
    """(what, definition) for the method's text."""
    mine, other = ("method", "reference") if comparison.reference else ("first method", "second method")
    return [
        ("Matching", rule_text(comparison)),
        (
            "Sensitivity, precision, F1",
            f"Of lesions: share of the {other}'s that are found; share of the {mine}'s that have a counterpart; their "
            "harmonic mean. A lesion can answer several, so both sides are counted (Commowick et al., Scientific "
            "Reports 2018). Mean: over scans in which it is defined. Pooled: all lesions of all scans together.",
        ),
        (f"{_false(comparison)} per scan", f"Lesions of the {mine} without counterpart, divided by scans."),
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


def settings_list(comparison):
    """(what, value) for the settings."""
    if not comparison.lesions.rows:
        return []
    how = comparison.lesions.rows[0].agreement
    return [("lesions", f'rule "{how.rule}", {how.connectivity} neighbours')]


def tally(items):
    """``2 missed (largest 120 mm³)`` of the items of one method and kind."""
    found = {kind: [item for item in items if item.kind == kind] for kind in (MISSED, FALSE)}
    return [
        f"{len(some)} {kind}" + (f", largest {number(max(item.volume_mm3 for item in some), 0)} mm³" if some else "")
        for kind, some in found.items()
    ]


def samples_of(comparison, metric):
    """(pair, values, names) of the scans of each method in which a measure is defined, sorted."""
    for pair in pairs(comparison):
        values = sorted(
            (float(getattr(row.agreement, metric.key)), row.case)
            for row in comparison.lesions.rows
            if (row.method, row.against) == pair and not math.isnan(getattr(row.agreement, metric.key))
        )
        yield pair, np.array([value for value, _ in values]), [name for _, name in values]


def _cases(comparison):
    return {row.case for row in comparison.lesions.rows}


def _both(numbers, name):
    return number(numbers[f"{name}_mean"], 3), number(numbers[f"{name}_pooled"], 3)


def _method(comparison):
    return "Method" if comparison.reference else "Methods"


def _other(comparison):
    return "reference" if comparison.reference else "second method"


def _missed(comparison):
    return "Missed" if comparison.reference else "Second alone"


def _false(comparison):
    return "False" if comparison.reference else "First alone"
