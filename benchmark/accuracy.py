"""Accuracy and repeatability on the development scans, next to sct_deepseg_gm's recipe.

    python benchmark/accuracy.py [-data ../shared/data] [-m MODEL] [-peer [-cache DIR]] [-stress] [-o DIR]

Prints per scan, for SC and GM: Dice (3D, mean and worst slice), slices lost (Dice at most 0.7, or nothing
found), HD95 and ASSD, CSA bias; then Bland-Altman limits of the per-slice CSA, the scan-rescan coefficient of
variation of our own CSA, and the locator's errors. "Development scans": they were looked at while the tool was
made, so these figures are not those of unseen data. Of the gm-challenge GM labels some began as the peer's own
output (marked *), which flatters the peer there. ``-stress`` adds the tables of ``stress.py``.
"""

import argparse
import csv
import io
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

from evaluation import evaluate, overall  # noqa: E402
from scans import peer_segmenter, scans  # noqa: E402

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


def print_tables(evaluations):
    """Rows of SC, then GM (also the peer's), and what the locator found."""
    head = "slices lost |   Dice  slice  worst |   HD95     3D   ASSD     3D | CSA bias  total   (mm, %; slice means)"
    for tissue in ("SC", "GM"):
        print(f"\n{tissue:3} {'scan':16} {head}")
        for who in ("ours", "peer"):
            if (who, tissue) not in evaluations[0].slices:
                continue
            for e in evaluations:
                mark = "*" if who == "peer" and e.name != "t2s" else ""
                print(f"    {f'{e.name} {who}{mark}':16} {_cells(e.summary(who, tissue))}")
            total = overall(evaluations, who, tissue)
            print(f"    {f'all {who}':16} {_cells(total['mean'])}")
            print("    " + _agreement_line(total["bland_altman_csa_mm2"]))
            if total["scan_rescan_cov"]:
                print("    " + _repeat_line(total["scan_rescan_cov"]))
    if ("peer", "GM") in evaluations[0].slices:
        print("    * some gm-challenge GM labels began as the peer's own output")
    print()
    for e in evaluations:
        if len(e.locator_mm):
            within = f"{(e.locator_mm <= 3).sum()} of {len(e.locator_mm)} slices within 3 mm"
            print(
                f"locator {e.name:10} median {np.median(e.locator_mm):.2f}, max {e.locator_mm.max():.2f} mm, {within}"
            )
        for text in e.result.warnings:
            print(f"{'':8}{e.name:10} {text}")


def _cells(row):
    cells = [form.format(row[name]) for name, form in COLUMNS.items()]
    return " | ".join(" ".join(cells[part]) for part in (slice(0, 2), slice(2, 5), slice(5, 9), slice(9, 11)))


def _agreement_line(b):
    numbers = f"bias {b['bias']:+.2f} mm2, limits of agreement {b['lower']:+.2f} to {b['upper']:+.2f} mm2"
    share = f"{b['bias_percent']:+.1f} %, {b['lower_percent']:+.1f} to {b['upper_percent']:+.1f} %"
    return f"CSA against the reference, {b['n']} slices (Bland-Altman): {numbers} ({share})"


def _repeat_line(cov):
    scans_ = ", ".join(f"{name} {value:.2f}" for name, value in cov["per_slice_percent_by_scan"].items())
    mean = f"{cov['scan_mean_percent']:.2f} % of a scan's mean"
    return f"scan-rescan CoV of the CSA: {cov['per_slice_percent']:.2f} % per slice ({scans_}), {mean}"


# --- files ----------------------------------------------------------------------------


def write_files(evaluations, label, folder, stress):
    """accuracy.csv (a row a slice), accuracy.json and the figures."""
    import figures

    from sctseg7t.files import write_bytes, write_json

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {"scan": e.name, "slice": k, "who": who, "tissue": tissue, **asdict(agreement)}
        for e in evaluations
        for (who, tissue), slices in e.slices.items()
        for k, agreement in enumerate(slices)
    ]
    stream = io.StringIO(newline="")
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(folder / "accuracy.csv", stream.getvalue().encode())
    keys = list(evaluations[0].slices)
    report = {
        "model": label,
        "scans": {e.name: {f"{who} {t}": e.summary(who, t) for who, t in keys} for e in evaluations},
        "overall": {f"{who} {t}": overall(evaluations, who, t) for who, t in keys},
        "locator_mm": {e.name: e.locator_mm.tolist() for e in evaluations},
        "stress": stress,
    }
    write_json(folder / "accuracy.json", _without_nan(report))
    figures.draw_all(evaluations, folder)


def _without_nan(value):
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


# --- the command ----------------------------------------------------------------------


def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-m", "--model", help="model of the zoo or .onnx file (default: the task's)")
    p.add_argument("-peer", action="store_true", help="also sct_deepseg_gm's recipe (needs h5py, onnx, its weights)")
    p.add_argument("-cache", help="folder that keeps the peer's masks (default: a temporary one)")
    p.add_argument("-stress", action="store_true", help="also perturbed and simulated scans (minutes)")
    p.add_argument("-record", metavar="MODELS.JSON", help="put the figures into the model's entry and card")
    p.add_argument("-o", "--output", help="folder for tables and figures (needs matplotlib)")
    args = p.parse_args(argv)
    from sctseg7t.errors import UserError

    try:
        _run(args)
    except (UserError, ValueError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    return 0


def _run(args):
    from sctseg7t.inference.pipeline import open_segmenter

    segmenter = open_segmenter("gm_sc", args.model, "cpu")
    peer = peer_segmenter(args.data, args.cache or tempfile.mkdtemp()) if args.peer else None
    evaluations = [evaluate(scan, segmenter, peer) for scan in scans(args.data)]
    print(f"{segmenter.spec.label} on the development scans")
    print_tables(evaluations)
    tables = None
    if args.stress:
        import stress

        tables = stress.run(scans(args.data), segmenter)
    if args.output:
        write_files(evaluations, segmenter.spec.label, args.output, tables)
    if args.record:
        import record

        record.put(args.record, segmenter, evaluations)


if __name__ == "__main__":
    sys.exit(main())
