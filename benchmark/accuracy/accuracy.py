"""Accuracy and repeatability on the development scans, next to sct_deepseg_gm's network and recipe.

    python benchmark/accuracy/accuracy.py [-data ../shared/data] [-m MODEL] [-peer] [-o DIR] [-page FILE.md]

These are development scans: 3 T, healthy volunteers, looked at while the tool was made. The figures are not those of
unseen data. The GM masks of gm-challenge began as sct_deepseg_gm's own output, and two of them equal it voxel for
voxel. So its figures there say nothing. The scan t2s was drawn independently: that is the comparison to read.

The masks are made and compared as ``sct7t_compare -run`` does it, without any hint about where the cord is.
``sct_gm_large`` is sct_deepseg_gm's network and recipe. Dice, HD95 and ASSD are of the whole scan (3D), and means of
its slices. ``lost`` counts slices with a Dice of at most 0.7, or with nothing found. The area is that of the mask
against the reference's.
"""

import argparse
import contextlib
import os
import sys
import tempfile
from pathlib import Path

import numpy as np
from scans import canonical, centres, compare_models, scans

from sctseg7t.report.results_page import figure, name_models, table
from sctseg7t.report.results_page import run as run_with_page

OURS, PEER = "ours", "sct_gm_large"
COLUMNS = {
    "slices": ("slices", "{:.0f}"),
    "lost": ("lost", "{:.0f}"),
    "dice": ("Dice", "{:.3f}"),
    "dice_slice": ("Dice, slices", "{:.3f}"),
    "worst": ("worst slice", "{:.3f}"),
    "hd95_slice_mm": ("HD95, mm", "{:.2f}"),
    "hd95_mm": ("HD95 3D, mm", "{:.2f}"),
    "assd_slice_mm": ("ASSD, mm", "{:.3f}"),
    "assd_mm": ("ASSD 3D, mm", "{:.3f}"),
    "csa_bias_slice_percent": ("area, slices", "{:+.1f} %"),
    "csa_bias_percent": ("area", "{:+.1f} %"),
}
STRUCTURES = {"SC": "Spinal cord", "GM": "Gray matter"}
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
    """A table of SC and one of GM (also the peer's), what two scans of a session say, and what the locator found."""
    from sctseg7t.compare.report_tables import sizes_of

    for structure in ("SC", "GM"):
        print(f"\n## {STRUCTURES[structure]}")
        rows, lines = [], []
        for method, against in comparison.pairs_of(structure):
            found = by_scan(comparison, structure, method)
            rows += [(case, method, *_cells(row)) for case, row in found.iterrows()]
            rows.append(("all", method, *_cells(overall(found))))
            lines.append(f"- {method}: {_agreement_line(sizes_of(comparison, structure, method, against))}.")
            if repeated := repeatability(comparison, structure, method):
                (slices, n), (scan, _) = repeated
                text = f"{scan:.2f} % of a scan's mean area, {slices:.2f} % of a slice's ({n} slices)"
                lines.append(f"- {method}: scan-rescan CoV (two scans of one session): {text}.")
        table(("scan", "masks", *(title for title, _ in COLUMNS.values())), rows)
        print("\n".join(lines))
    if located:
        print("\n## Locator")
        head = ("scan", "slices", "within 3 mm", "median error, mm", "largest, mm")
        numbers = ((name, len(e), int((e <= 3).sum()), np.median(e), e.max()) for name, e in located.items())
        table(head, [(name, n, near, f"{middle:.2f}", f"{most:.2f}") for name, n, near, middle, most in numbers])


def draw(comparison):
    """Figure: every scan as a point, slices behind it; Dice and area against the reference's, by masks."""
    from sctseg7t.report import plotting

    figure, axes = plotting.new_figure(2, 2, 3.4, 3.0)
    cases = list(dict.fromkeys(comparison.rows.case))
    for column, structure in zip(axes.T, ("SC", "GM")):
        methods = [method for method, _ in comparison.pairs_of(structure)]
        for place, method in enumerate(methods):
            whole, slices = by_scan(comparison, structure, method), comparison.slices(structure)
            slices = slices[(slices.method == method) & (slices.outlier != "extra")]
            for n, case in enumerate(cases):
                if case in whole.index:
                    own = slices[slices.case == case]
                    at = place + (n - (len(cases) - 1) / 2) * 0.14
                    look = {"color": plotting.PALETTE[n % len(plotting.PALETTE)]}
                    label = case if column[0] is axes[0, 0] and place == 0 else None
                    _points(column[0], at, own.dice, whole.dice[case], look, label)
                    _points(column[1], at, own.size_difference_percent, whole.csa_bias_percent[case], look)
        column[0].set(title=structure, ylabel="Dice")
        column[1].set(ylabel="area against the reference, %")
        column[1].axhline(0, color="0.6", linewidth=0.7, zorder=0)
        for axis in column:
            axis.set_xticks(range(len(methods)), methods)
            axis.set_xlim(-0.5, len(methods) - 0.5)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    return figure


def _points(axis, at, slices, whole, look, label=None):
    axis.plot(np.full(len(slices), at), slices, ".", alpha=0.35, markersize=3, **look)
    axis.plot(at, whole, "o", markeredgecolor="black", markersize=7, label=label, **look)


def repeatability(comparison, structure, method):
    """((CoV per slice in %, pairs), (CoV of scans' means in %, pairs)), or None where no scan was repeated."""
    table = comparison.agreement.set_index(["structure", "method", "against", "measure"])[["value", "n"]]
    names = ("csa_scan_rescan_cov_slice", "csa_scan_rescan_cov_scan")
    keys = [(structure, method, "second run", name) for name in names]
    if keys[0] not in table.index:
        return None
    return [(float(table.value[key]), int(table.n[key])) for key in keys]


def _cells(row):
    return [form.format(row[name]) for name, (_, form) in COLUMNS.items()]


def _agreement_line(b):
    numbers = f"bias {b['bias']:+.2f} mm², limits of agreement {b['lower']:+.2f} to {b['upper']:+.2f} mm²"
    share = f"{b['bias_percent']:+.1f} %, {b['lower_percent']:+.1f} to {b['upper_percent']:+.1f} %"
    return f"area against the reference, {b['n']} slices (Bland-Altman): {numbers} ({share})"


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
    name_models(segmenter.model.spec, *([PEER] if args.peer else []), segmenter.model.locator_spec)
    print_tables(comparison, located)
    figure(draw(comparison), "accuracy", "Each development scan a point, its slices small dots behind it.")
    if args.output:
        write_comparison(comparison, args.output)
    if args.record:
        record(args.record, segmenter, comparison, located)


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Accuracy"))
