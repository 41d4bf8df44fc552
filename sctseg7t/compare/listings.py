"""The report's longer tables: areas, repeatability, outliers, scans."""

import math
from collections import defaultdict

from sctseg7t.compare.sections import Table, cut_note, pair_name, pairs, place_of
from sctseg7t.compare.wording import NONE, OUTLIERS, interval, number, p_text, signed, value_of

SHOWN_OUTLIERS, SHOWN_SCANS = 400, 1500


def areas_table(comparison):
    rows = []
    for area in comparison.areas:
        found = area.bland_altman
        rows.append(
            (
                area.structure,
                pair_name(comparison, area.method, area.against),
                str(found.n),
                signed(found.bias, 2),
                interval(found.bias_low, found.bias_high, 2),
                interval(found.lower, found.upper, 2),
                signed(found.bias_percent, 1),
                interval(found.lower_percent, found.upper_percent, 1),
                signed(found.slope, 3),
                p_text(found.slope_p),
                number(area.icc, 3),
                interval(area.icc_low, area.icc_high, 3),
            )
        )
    columns = (
        "Structure",
        "Method",
        "Slices",
        "Bias (mm²)",
        "95% CI of bias (mm²)",
        "Limits of agreement (mm²)",
        "Bias (%)",
        "Limits of agreement (%)",
        "Proportional bias (mm² per mm²)",
        "p of it",
        "ICC(A,1)",
        f"{comparison.settings.confidence:.0%} CI of ICC",
    )
    note = f"{NONE}: not defined; limits need two slices, an ICC needs areas that vary."
    return Table("CSA: agreement slice by slice", columns, tuple(rows), (0, 1), note)


def repeatability_table(comparison):
    rows = tuple(
        (r.structure, r.method, str(r.scans), number(r.scan_cov, 2), str(r.slices), number(r.slice_cov, 2))
        for r in sorted(comparison.repeatability, key=lambda r: place_of(comparison, r.structure, r.method))
    )
    columns = (
        "Structure",
        "Method",
        "Sessions scanned twice",
        "CoV of mean CSA (%)",
        "Pairs of slices",
        "CoV of slice CSA (%)",
    )
    note = f"{NONE}: no session of this method has two runs with a slice at one height."
    return Table("Scan and rescan: coefficient of variation of CSA", columns, rows, (0, 1), note)


# --- scans and slices -----------------------------------------------------------------------


def outliers_table(comparison):
    """Outlier slices: a row a scan, structure and method."""
    found = defaultdict(list)
    for row in comparison.rows:
        if row.where == "slice" and row.outlier:
            found[row.case, row.structure, row.method, row.against].append(row)
    cases = {case.name: case for case in comparison.cases}
    rows = []
    for (name, structure, method, against), slices in sorted(found.items())[:SHOWN_OUTLIERS]:
        texts = [_outlier_text(row) for row in sorted(slices, key=lambda row: row.index or 0)]
        case = cases.get(name)
        rows.append(
            (
                (case and case.subject) or name,
                name,
                structure,
                pair_name(comparison, method, against),
                str(len(slices)),
                ", ".join(texts),
            )
        )
    return Table(
        "Outliers by subject and slice",
        ("Subject", "Scan", "Structure", "Method", "Outliers", "Slices, from inferior"),
        tuple(rows),
        (0, 1, 2, 3, 5),
        cut_note(len(rows), len(found)),
    )


def _outlier_text(row):
    why = OUTLIERS.get(row.outlier, row.outlier)
    return f"{row.index} ({why} {number(row.agreement.dice, 2)})" if row.outlier == "dice" else f"{row.index} ({why})"


def scans_table(comparison):
    """One row a scan, structure and method."""
    slices, whole = defaultdict(list), {}
    for row in comparison.rows:
        key = row.case, row.structure, row.method, row.against
        if row.where == "slice":
            slices[key].append(row)
        elif row.where == "scan":
            whole[key] = row
    rows = []
    for case in sorted(comparison.cases, key=lambda case: case.name):
        for structure in comparison.structures:
            for method, against in pairs(comparison, structure):
                key = case.name, structure, method, against
                if key in slices:
                    rows.append(_scan_cells(comparison, case, key, slices[key], whole.get(key)))
    columns = (
        "Scan",
        "Group",
        "Structure",
        "Method",
        "Slices",
        "Outliers",
        "Dice mean",
        "Dice in 3D",
        "HD95 mean (mm)",
        "Mean CSA (mm²)",
        "Mean CSA of the other (mm²)",
    )
    note = (
        f"Dice and HD95 means leave outliers out; mean CSA is of all slices in which the mask has the structure. "
        f"{NONE}: no such slice, or no group in participants.tsv. {cut_note(min(len(rows), SHOWN_SCANS), len(rows))}"
    )
    return Table("Every scan, structure and method", columns, tuple(rows[:SHOWN_SCANS]), (0, 1, 2, 3), note.strip())


def _scan_cells(comparison, case, key, slices, whole):
    _, structure, method, against = key
    kept = [row for row in slices if not row.outlier]
    areas = (comparison.areas_mm2.get((case.name, who, structure)) for who in (method, against))
    return (
        case.name,
        case.group or NONE,
        structure,
        pair_name(comparison, method, against),
        str(len(slices)),
        str(len(slices) - len(kept)),
        number(_mean(value_of(row, "dice") for row in kept), 3),
        number(whole.agreement.dice if whole else None, 3),
        number(_mean(value_of(row, "hausdorff95_mm") for row in kept), 2),
        *(number(None if area is None else _mean(area), 2) for area in areas),
    )


def _mean(values):
    finite = [float(value) for value in values if math.isfinite(value)]
    return sum(finite) / len(finite) if finite else math.nan
