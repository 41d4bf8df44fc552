"""Accuracy and repeatability on the development scans, next to sct_deepseg_gm's network and recipe.

    python benchmark/accuracy/accuracy.py [-data ../shared/data] [-m MODEL] [-peer] [-stress] [-o DIR]

Masks are made and compared by ``sctseg7t.compare``, as ``sct7t_compare -run`` does. Printed per scan, for SC and GM:
Dice (3D, mean and worst slice), slices lost (Dice at most 0.7, or nothing found), HD95 and ASSD, CSA bias; then
Bland-Altman limits of the per-slice CSA, the scan-rescan coefficient of variation of the CSA, and the locator's
errors. ``-peer`` adds the zoo's sct_gm_large. ``-o`` keeps the comparison's tables, figures and report.

"Development scans": they were looked at while the tool was made, so these figures are not those of unseen data. Of
the gm-challenge GM labels some began as the peer's own output, which flatters the peer there.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from scans import canonical, centres, compare_models, scans

OURS, PEER = "ours", "sct_gm_large"
COLUMNS = {
    "slices": "{:6d}",
    "lost": "{:4d}",
    "dice": "{:6.3f}",
    "dice_slice": "{:6.3f}",
    "worst": "{:6.3f}",
    "hd95_slice_mm": "{:6.2f}",
    "hd95_mm": "{:6.2f}",
    "assd_slice_mm": "{:6.3f}",
    "assd_mm": "{:6.3f}",
    "csa_bias_slice_percent": "{:+7.1f}",
    "csa_bias_percent": "{:+7.1f}",
}
DATASET = "gm-challenge (4 scans, 3 T) and sct-testing t2s, development scans"


def by_scan(comparison, structure, method):
    """Numbers of each scan of a method: DataFrame with the columns of ``COLUMNS``, by case.

    Slice means are over the slices of the reference; distances and areas over those where both have the structure.
    """
    import pandas as pd

    rows = comparison.rows[(comparison.rows.structure == structure) & (comparison.rows.method == method)]
    found = {}
    for case, own in rows.groupby("case", sort=False):
        (whole,) = own[own.level == "scan"].itertuples()
        slices = own[(own.level == "slice") & (own.outlier != "extra")]
        both = slices[slices.outlier != "missing"]
        found[case] = {
            "slices": len(slices),
            "lost": int((slices.outlier != "").sum()),
            "dice": whole.dice,
            "dice_slice": slices.dice.mean(),
            "worst": slices.dice.min(),
            "hd95_slice_mm": both.hausdorff95_mm.mean(),
            "hd95_mm": whole.hausdorff95_mm,
            "assd_slice_mm": both.assd_mm.mean(),
            "assd_mm": whole.assd_mm,
            "csa_bias_slice_percent": both.size_difference_percent.mean(),
            "csa_bias_percent": whole.size_difference_percent,
        }
    return pd.DataFrame.from_dict(found, orient="index", columns=list(COLUMNS))


def overall(table):
    """Of all scans: means, but sums of slices and the worst of all."""
    return {**table.mean(), "slices": table.slices.sum(), "lost": table.lost.sum(), "worst": table.worst.min()}


def locator_errors(data, segmenter):
    """Distance (mm) of the centre found from the reference cord's, by scan: dict of str to (N,) array."""
    from sctseg7t.cord.locator import locate
    from sctseg7t.image.volume import load

    network, spec, found = segmenter.model.locator, segmenter.model.locator_spec, {}
    for scan in scans(data) if network is not None else ():
        volume, cord = load(scan.image), canonical(scan.sc)
        path = locate(volume.data[..., 0], volume.affine, network, spec)
        away = np.full(cord.shape[2], np.inf)
        if path is not None:
            away = volume.frame.mm_between(path.centres_vox, centres(cord))
        found[scan.name] = away[cord.any((0, 1))]
    return found


# --- what is printed ---------------------------------------------------------------------


def print_tables(comparison, located):
    """Rows of SC, then GM (also the peer's), and what the locator found."""
    from sctseg7t.compare.report_tables import sizes_of

    head = "slices lost |   Dice  slice  worst |   HD95     3D   ASSD     3D | CSA bias  total   (mm, %; slice means)"
    for structure in ("SC", "GM"):
        print(f"\n{structure:3} {'scan':34} {head}")
        for method, against in comparison.pairs_of(structure):
            table = by_scan(comparison, structure, method)
            for case, row in table.iterrows():
                print(f"    {f'{case} {method}':34} {_cells(row)}")
            print(f"    {f'all {method}':34} {_cells(overall(table))}")
            print("    " + _agreement_line(sizes_of(comparison, structure, method, against)))
            if repeated := repeatability(comparison, structure, method):
                (slices, n), (scan, _) = repeated
                print(f"    scan-rescan CoV of the CSA: {slices:.2f} % per slice ({n}), {scan:.2f} % of a scan's mean")
    print()
    for name, errors in located.items():
        within = f"{(errors <= 3).sum()} of {len(errors)} slices within 3 mm"
        print(f"locator {name:10} median {np.median(errors):.2f}, max {errors.max():.2f} mm, {within}")


def repeatability(comparison, structure, method):
    """((CoV per slice in %, pairs), (CoV of scans' means in %, pairs)), or None where no scan was repeated."""
    table = comparison.agreement.set_index(["structure", "method", "against", "measure"])[["value", "n"]]
    names = ("csa_scan_rescan_cov_slice", "csa_scan_rescan_cov_scan")
    keys = [(structure, method, "second run", name) for name in names]
    if keys[0] not in table.index:
        return None
    return [(float(table.value[key]), int(table.n[key])) for key in keys]


def _cells(row):
    cells = [form.format(int(row[name]) if form.endswith("d}") else row[name]) for name, form in COLUMNS.items()]
    return " | ".join(" ".join(cells[part]) for part in (slice(0, 2), slice(2, 5), slice(5, 9), slice(9, 11)))


def _agreement_line(b):
    numbers = f"bias {b['bias']:+.2f} mm2, limits of agreement {b['lower']:+.2f} to {b['upper']:+.2f} mm2"
    share = f"{b['bias_percent']:+.1f} %, {b['lower_percent']:+.1f} to {b['upper_percent']:+.1f} %"
    return f"CSA against the reference, {b['n']} slices (Bland-Altman): {numbers} ({share})"


# --- what is recorded --------------------------------------------------------------------


def record(manifest, segmenter, comparison, located):
    """Put the figures into the model's entry and card, and the locator's into its own."""
    from sctseg7t.train.model_card import record_evaluation

    record_evaluation(manifest, segmenter.model.spec.label, evaluation_rows(comparison))
    if located:
        record_evaluation(manifest, segmenter.model.locator_spec.label, locator_rows(located))


def evaluation_rows(comparison):
    """Rows of a manifest entry's ``evaluation``: means and SD over the scans."""
    found = []
    for structure in ("SC", "GM"):
        table = by_scan(comparison, structure, OURS)
        for metric, values, units in (
            ("Dice per scan", table.dice, "1"),
            ("Dice per slice, mean per scan", table.dice_slice, "1"),
            ("HD95 per slice, mean per scan", table.hd95_slice_mm, "mm"),
            ("ASSD per slice, mean per scan", table.assd_slice_mm, "mm"),
            ("CSA bias per slice, mean per scan", table.csa_bias_slice_percent, "%"),
            ("area / reference area", 1 + table.csa_bias_percent / 100, "1"),
        ):
            found.append(_row(structure, metric, values, units))
        lost = f"slices lost (Dice at most {comparison.settings.failure_dice:g}, or empty)"
        found.append(_row(structure, lost, [table.lost.sum()], "slices", int(table.slices.sum())))
        if repeated := repeatability(comparison, structure, OURS):
            text = "scan-rescan coefficient of variation of the CSA"
            for what, (value, n) in zip(("per slice", "mean of a scan"), repeated):
                found.append(_row(structure, f"{text}, {what}", [value], "%", n))
    return found


def locator_rows(located):
    """The locator's rows: median error of a scan, and the share of slices within 3 mm."""
    everywhere = np.concatenate(list(located.values()))
    share = _row("SC", "slices within 3 mm", [(everywhere <= 3).mean()], "1", len(everywhere))
    return [_row("SC", "locator error, median per scan", [np.median(e) for e in located.values()], "mm"), share]


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


# --- the command -------------------------------------------------------------------------


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-m", "--model", help="model of the zoo or .onnx file (default: the task's)")
    p.add_argument("-peer", action="store_true", help="also sct_deepseg_gm's network, from the folder's peers/")
    p.add_argument("-cache", help="folder that keeps the masks (default: a temporary one)")
    p.add_argument("-stress", action="store_true", help="also perturbed and simulated scans (minutes)")
    p.add_argument("-record", metavar="MODELS.JSON", help="put the figures into the model's entry and card")
    p.add_argument("-o", "--output", help="folder for tables, figures and report")
    args = p.parse_args(argv)
    from sctseg7t.errors import UserError

    try:
        with tempfile.TemporaryDirectory() if args.cache is None else contextlib.nullcontext(args.cache) as cache:
            _run(args, cache)
    except (UserError, ValueError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    return 0


def _run(args, cache):
    from sctseg7t.compare.tables import write_comparison
    from sctseg7t.inference.pipeline import open_segmenter

    os.environ.setdefault("SCT7T_MIRROR", str(Path(args.data).absolute() / "peers"))
    segmenter = open_segmenter("gm_sc", args.model, "cpu")
    models = {OURS: args.model or "gm_sc", **({PEER: PEER} if args.peer else {})}
    comparison = compare_models(args.data, models, cache)
    located = locator_errors(args.data, segmenter)
    print(f"{segmenter.model.spec.label} on the development scans")
    print_tables(comparison, located)
    if args.stress:
        import stress

        stress.run(scans(args.data), segmenter)
    if args.output:
        write_comparison(comparison, args.output)
    if args.record:
        record(args.record, segmenter, comparison, located)


if __name__ == "__main__":
    sys.exit(main())
