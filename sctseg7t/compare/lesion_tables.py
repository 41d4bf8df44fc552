"""The report's tables of lesions."""

from __future__ import annotations

from typing import Any

from sctseg7t.compare.analysis import load_names
from sctseg7t.compare.cells import NONE, Table, make_table, named, number, others_of, pair_column
from sctseg7t.compare.metrics import pretty, size_strata
from sctseg7t.compare.types import LESION, Comparison

SHOWN_SCANS, SHOWN_ITEMS = 1500, 200


def lesion_summary(comparison: Comparison, group: str) -> list[dict[str, Any]]:
    """Rows of the summary of lesions, strata in their order and methods in theirs."""
    table = comparison.lesion_summary
    names = ["all", *load_names(), *(name for name, _ in size_strata())]
    pairs = comparison.pairs_of(LESION)
    rows = named(comparison, table[table.group == group])
    return sorted(rows, key=lambda row: (names.index(row["name"]), pairs.index((row["method"], row["against"]))))


def lesion_summary_tables(comparison: Comparison) -> dict[str, Table]:
    """Agreement over scans (headline), counts over all scans, by load of the scan, by size of the lesion."""
    who = others_of(comparison)
    missed, false = who["missed"].lower(), who["false"].lower()
    overall = [
        pair_column(comparison),
        ("Scans", "n_scans", "d"),
        ("F1 mean", "f1_mean", ".3f"),
        (f"{comparison.settings.confidence:.0%} CI", "f1_low f1_high", ".3f"),
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
        pair_column(comparison),
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
        pair_column(comparison),
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
        pair_column(comparison),
        (f"{who['other']} lesions", "n_against", "d"),
        ("found", "tp_against", "d"),
        ("Sensitivity", "sensitivity_pooled", ".3f"),
        (f"{who['own']} lesions", "n_method", "d"),
        (false, "fp", "d"),
        ("Precision", "precision_pooled", ".3f"),
    ]
    every = lesion_summary(comparison, "all")
    sizes = [{**row, "name": pretty(row["name"]).replace(">=", "≥")} for row in lesion_summary(comparison, "size")]
    in_none = f"{NONE}: in no scan defined (see Empty masks below)."
    one = f"{NONE}: not defined, or one scan only."
    loads = lesion_summary(comparison, "load")
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
        pair_column(comparison),
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
        for item in named(comparison, items)
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
        pair_column(comparison),
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
    rows = [{**row, "empty": empty[row["empty"]]} for row in named(comparison, comparison.lesion_rows)]
    rows.sort(key=lambda row: (row["case"], pairs.index((row["method"], row["against"]))))
    note = f"{NONE}: not defined, or no group in participants.tsv."
    return make_table("Lesions: every scan and method", rows, columns, note, SHOWN_SCANS)
