"""What ``accuracy.py -record`` puts into the manifest and the model cards."""

import numpy as np
from evaluation import LOST, overall

DATASET = "gm-challenge (4 scans, 3 T) and sct-testing t2s, development scans"


def put(manifest, segmenter, evaluations):
    """Put the figures into the model's entry and card, and the locator's into its own."""
    from sctseg7t.train.model_card import record_evaluation

    record_evaluation(manifest, segmenter.spec.label, evaluation_rows(evaluations))
    if segmenter.locator_spec is not None:
        record_evaluation(manifest, segmenter.locator_spec.label, locator_rows(evaluations))


def evaluation_rows(evaluations):
    """Rows of a manifest entry's ``evaluation``: means and SD over the scans."""
    found = []
    for tissue in ("SC", "GM"):
        scan_rows = [e.summary("ours", tissue) for e in evaluations]
        for metric, name, units in (
            ("Dice per scan", "dice", "1"),
            ("Dice per slice, mean per scan", "dice_slice", "1"),
            ("HD95 per slice, mean per scan", "hd95_slice_mm", "mm"),
            ("ASSD per slice, mean per scan", "assd_slice_mm", "mm"),
            ("CSA bias per slice, mean per scan", "csa_bias_slice_percent", "%"),
        ):
            found.append(_row(tissue, metric, [r[name] for r in scan_rows], units))
        found.append(_row(tissue, "area / reference area", [1 + r["csa_bias_percent"] / 100 for r in scan_rows], "1"))
        total = overall(evaluations, "ours", tissue)
        slices, lost = total["mean"]["slices"], total["mean"]["lost"]
        found.append(_row(tissue, f"slices lost (Dice at most {LOST}, or empty)", [lost], "slices", slices))
        cov = total["scan_rescan_cov"]
        if cov:
            text = "scan-rescan coefficient of variation of the CSA"
            found.append(_row(tissue, f"{text}, per slice", [cov["per_slice_percent"]], "%", cov["slices"]))
            count = len(cov["per_slice_percent_by_scan"])
            found.append(_row(tissue, f"{text}, mean of a scan", [cov["scan_mean_percent"]], "%", count))
    return found


def locator_rows(evaluations):
    """The locator's rows: median error of a scan, and the share of slices within 3 mm."""
    errors = [e.locator_mm for e in evaluations]
    everywhere = np.concatenate(errors)
    share = float((everywhere <= 3).mean())
    return [
        _row("SC", "locator error, median per scan", [float(np.median(e)) for e in errors], "mm"),
        _row("SC", "slices within 3 mm", [share], "1", len(everywhere)),
    ]


def _row(structure, metric, values, units, n=None):
    """`n` values unless it says how many a single one sums up; only several have an SD."""
    row = {
        "dataset": DATASET,
        "role": "validation",
        "structure": structure,
        "metric": metric,
        "n": n or len(values),
        "mean": round(float(np.mean(values)), 4),
        "units": units,
    }
    return row if len(values) == 1 else {**row, "sd": round(float(np.std(values, ddof=1)), 4)}
