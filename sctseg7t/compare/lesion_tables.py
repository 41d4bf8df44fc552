"""Columns and rows of the lesions' CSV tables; in units that the columns' names say."""

from dataclasses import asdict

from sctseg7t.compare.lesion_study import AVERAGED, COUNTS, POOLED
from sctseg7t.compare.lesions import MISSED
from sctseg7t.compare.names import LESION

_HOW = ("rule", "connectivity", "min_iou", "ignored_up_to_mm3")
_SCAN = (
    "n_reference",
    "n_mask",
    "tp_reference",
    "tp_mask",
    "fn",
    "fp",
    "merged",
    "split",
    "sensitivity",
    "precision",
    "f1",
    "dice",
    "dice_matched",
    "reference_ml",
    "mask_ml",
    "volume_difference_ml",
    "volume_difference_percent",
    "load_stratum",
)
# "Reference" is kept for what is the truth.
_RENAMED = {
    "n_reference": "n_against",
    "tp_reference": "tp_against",
    "n_mask": "n_method",
    "tp_mask": "tp_method",
    "reference_ml": "load_against_ml",
    "mask_ml": "load_method_ml",
}
_ITEM = (
    "id",
    "n_voxels",
    "volume_mm3",
    "size",
    "diameter_mm",
    "centroid_r_mm",
    "centroid_a_mm",
    "centroid_s_mm",
    "slice",
    "first_slice",
    "last_slice",
)
_STATISTICS = ("mean", "median", "sd", "low", "high")


def lesion_tables(comparison, case_cells, case_columns):
    """Every table of lesions by name of its file; ``case_cells``: columns that say which scan, by its name."""
    return {
        "compare_lesions": _scans(comparison, case_cells, case_columns),
        "compare_lesion_list": _items(comparison, case_cells, case_columns),
        "compare_lesion_summary": _summary(comparison),
    }


def agreement_rows(study):
    """Bland-Altman, ICC and repeatability of loads as rows of ``compare_agreement.csv``."""
    for found in study.loads:
        common = {"structure": LESION, "method": found.method, "against": found.against, "n": found.bland_altman.n}
        for name, value in asdict(found.bland_altman).items():
            if name != "n":
                unit = "%" if name.endswith("percent") else "" if name in ("slope", "slope_p") else "mL"
                yield {**common, "measure": f"load_{name}", "unit": unit, "value": value}
        for name in ("icc", "icc_low", "icc_high"):
            measure = f"load_{name.replace('icc', 'icc_a1')}"
            yield {**common, "measure": measure, "unit": "", "value": getattr(found, name)}
    for found in study.repeatability:
        common = {"structure": LESION, "method": found.method, "against": "second run"}
        yield {**common, "measure": "load_scan_rescan_cov", "unit": "%", "n": found.with_lesions, "value": found.cov}
        yield {
            **common,
            "measure": "load_scan_rescan_absolute_difference",
            "unit": "mL",
            "n": found.sessions,
            "value": found.difference_ml,
        }


def size_column(stratum):
    """Name of a stratum of size as part of a column's name."""
    high = "up" if stratum.below_mm3 == float("inf") else f"{stratum.below_mm3:g}"
    return f"{stratum.from_mm3:g}_{high}_mm3"


def what_of(comparison, item):
    """``missed`` or ``false``; where nothing is the reference, in which mask alone the lesion is."""
    if comparison.reference:
        return item.kind
    return "only_in_against" if item.kind == MISSED else "only_in_method"


def _scans(comparison, case_cells, case_columns):
    rows, sizes = [], {}
    for row in comparison.lesions.rows:
        found = row.agreement
        own = {_RENAMED.get(name, name): getattr(found, name) for name in _SCAN}
        for stratum in found.by_size:
            column = size_column(stratum)
            parts = {
                f"n_against_{column}": stratum.n_reference,
                f"tp_against_{column}": stratum.found,
                f"n_method_{column}": stratum.n_mask,
                f"fp_{column}": stratum.false,
            }
            sizes |= dict.fromkeys(parts)
            own |= parts
        who = {"method": row.method, "against": row.against, "empty": row.empty}
        rows.append({**case_cells[row.case], **who, **{name: getattr(found, name) for name in _HOW}, **own})
    names = (_RENAMED.get(name, name) for name in _SCAN)
    return (*case_columns, "method", "against", *_HOW, "empty", *names, *sizes), rows


def _items(comparison, case_cells, case_columns):
    rows = [
        {
            **case_cells[item.case],
            "method": item.method,
            "against": item.against,
            "what": what_of(comparison, item),
            **{name: getattr(item, name) for name in _ITEM},
        }
        for item in comparison.lesions.items
    ]
    return (*case_columns, "method", "against", "what", *_ITEM), rows


def _summary(comparison):
    how = comparison.lesions.rows[0].agreement if comparison.lesions.rows else None
    rows = [
        {
            "method": row.method,
            "against": row.against,
            **{name: getattr(how, name) for name in _HOW},
            "group": row.group,
            "name": row.name,
            "confidence": comparison.settings.confidence,
            **{_RENAMED.get(name, name): value for name, value in row.numbers.items()},
        }
        for row in comparison.lesions.summary
    ]
    averaged = [column for name in AVERAGED for column in (f"n_{name}", *(f"{name}_{s}" for s in _STATISTICS))]
    counts = (_RENAMED.get(name, name) for name in COUNTS)
    columns = ("method", "against", *_HOW, "group", "name", "n_scans", *counts, *POOLED, "confidence", *averaged)
    return columns, rows
