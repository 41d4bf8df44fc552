"""Several networks as one, and whether the spread tells the error: rank correlation with Dice on the development scans.

    python benchmark/accuracy/uncertainty.py [-data ../shared/data] [-brains] [-page FILE.md]

The members are the shipped versions of cord_gm_sc. They are relatives: 2.1.0 holds 0.92 of 2.0.0's weights, so they
disagree less than networks of separate trainings would.

The spread of a slice is that of the column ``spread``: the sum of the uncertainty map over that of the fractions. Of
one network the map is that of the scan and its mirror image. The doubt is what any single network gives for nothing:
the sum of p (1 - p) over that of p. A rank correlation with Dice of -1 would tell the order of the slices' errors.
Good scans differ little in Dice; the same scans with Rician noise (SNR 10) show whether a number finds what went
wrong.

With ``-brains``: each lesion that brain_lesion_views draws is true if it shares a voxel with a reference lesion. The
area under the ROC curve says how well a number tells true from false ones (0.5: not at all).
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
from brain_patients import patients
from perturb import Case, noisy
from scans import canonical, scans

from sctseg7t.inference.pipeline import open_segmenter
from sctseg7t.inference.segmenter import Options
from sctseg7t.measure.pairs import overlap
from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page
from sctseg7t.zoo.manifest import load_manifest

MODEL, MEMBERS = "cord_gm_sc", ("2.1.0", "2.0.0", "1.1.0")
BRAIN = "brain_lesion_views"
TISSUES = ("SC", "GM")
RULES = {"mean": {}, "median, largest first": {"ensemble_largest": ["SC"]}, "vote": {}}
SNR = (None, 10)


def entry(folder, rule):
    """Entry of an ensemble of the shipped versions, written into a folder."""
    models = [load_manifest().model(f"{MODEL}@{version}") for version in MEMBERS]
    raw = {key: value for key, value in models[0].raw.items() if key not in ("default", "training", "evaluation")}
    raw |= {"id": "several", "files": [model.raw["files"][0] for model in models], **RULES[rule]}
    raw["ensemble"] = rule.partition(",")[0]
    path = Path(folder) / f"{rule.replace(', ', '_').replace(' ', '_')}.json"
    path.write_text(json.dumps(raw))
    return path


def slices_of(segmenter, soft, case):
    """By tissue: a row (Dice, spread, doubt) for each slice of the reference, the whole scan's Dice and mean area."""
    result, found = segmenter.run(case.image), {}
    fractions = soft.run(case.image) if soft else None
    for tissue, reference in (("SC", case.sc), ("GM", case.gm)):
        mask = canonical(result.masks[tissue])
        spread = {row.slice: row.spread for row in result.tables[0].rows if row.tissue == tissue}
        p = None if fractions is None else nearest(fractions.masks[tissue])
        rows = []
        for k in np.flatnonzero(reference.any((0, 1))):
            doubt = np.nan
            if p is not None and p[..., k].sum() > 0:
                doubt = float((p[..., k] * (1 - p[..., k])).sum() / p[..., k].sum())
            apart = spread.get(int(k))
            rows.append((overlap(reference[..., k], mask[..., k])["dice"], np.nan if apart is None else apart, doubt))
        found[tissue] = np.array(rows, float), overlap(reference, mask)["dice"], mean_area(result, tissue)
    return found


def nearest(image):
    """Fractions in canonical order."""
    import nibabel as nib

    return nib.as_closest_canonical(image).get_fdata()


def rank(dice, number):
    """Spearman's rank correlation of a number with Dice; slices without a mask have the largest number of all."""
    from scipy.stats import spearmanr

    number = np.where(np.isnan(number), np.inf, number)
    return float(spearmanr(dice, number).statistic) if len(set(dice)) > 1 else np.nan


def cords(data):
    """Dice of each way, and the rank correlations."""
    cases = {scan.name: (Case.load(scan), scan) for scan in scans(data)}
    scores, numbers, repeats = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        ways = {f"{MODEL} {MEMBERS[0]}": MODEL, **{rule: str(entry(folder, rule)) for rule in RULES}}
        for way, model in ways.items():
            options = Options(uncertainty=True)
            segmenter = open_segmenter("gm_sc", model, "cpu", options)
            soft = open_segmenter("gm_sc", model, "cpu", Options(soft=True)) if model == MODEL else None
            for snr in SNR:
                for case, scan in cases.values():
                    if snr and way not in (f"{MODEL} {MEMBERS[0]}", "mean"):
                        continue
                    found = slices_of(segmenter, soft, noisy(case, snr) if snr else case)
                    for tissue, (rows, dice, _) in found.items():
                        scores.setdefault((way, tissue, snr), []).append(dice)
                        numbers.setdefault((way, tissue, snr), []).append(rows)
                    if not snr and scan.rescan:
                        second = segmenter.run(scan.rescan)
                        for tissue in TISSUES:
                            pair = found[tissue][2], mean_area(second, tissue)
                            repeats.setdefault((way, tissue), []).append(np.std(pair, ddof=1) / np.mean(pair))
            print(way, file=sys.stderr, flush=True)
    show(ways, scores, numbers, repeats, cases)


def mean_area(result, tissue):
    return np.nanmean(result.tables[0].column(tissue, "area_mm2"))


def show(ways, scores, numbers, repeats, cases):
    """Print the tables of the cords."""
    print("## Does it pay?\n")
    head = ("networks", *(f"{tissue} {what}" for tissue in TISSUES for what in ("Dice", "worst scan", "CoV")))
    rows = []
    for way in ways:
        cells = []
        for tissue in TISSUES:
            dice = scores[way, tissue, None]
            cov = 100 * np.sqrt(np.mean(np.square(repeats[way, tissue])))
            cells += [f"{np.mean(dice):.4f}", f"{min(dice):.3f}", f"{cov:.2f} %"]
        rows.append((way, *cells))
    table(head, rows)
    print(f"\nDice of the scan (3D), mean of {len(cases)}; CoV of a scan's mean area, two scans of one session.")
    print("\n## Does the number tell the error?\n")
    head = ("scans", "tissue", "number", "all slices", "worst of a scan", "best of a scan", "scans in order")
    rows = []
    single, mean = f"{MODEL} {MEMBERS[0]}", "mean"
    kinds = {"spread of three networks": (mean, 1), "spread of mirror images": (single, 1), "doubt": (single, 2)}
    for label, levels in (("as they are", (None,)), ("with noise too", SNR)):
        for tissue in TISSUES:
            for kind, (way, column) in kinds.items():
                by_scan = [each for snr in levels for each in numbers[way, tissue, snr]]
                every = np.concatenate(by_scan)
                within = [rank(each[:, 0], each[:, column]) for each in by_scan]
                within = [value for value in within if np.isfinite(value)]
                whole = [dice for snr in levels for dice in scores[way, tissue, snr]]
                middle = [np.nanmedian(each[:, column]) for each in by_scan]
                rows.append(
                    (
                        label,
                        tissue,
                        kind,
                        f"{rank(every[:, 0], every[:, column]):+.2f} ({len(every)})",
                        f"{max(within):+.2f}",
                        f"{min(within):+.2f}",
                        f"{rank(whole, np.array(middle)):+.2f} ({len(whole)})",
                    )
                )
    table(head, rows)
    print("\nSpearman's rank correlation with Dice, in brackets of how many; -1 is best.")


def brains(data):
    """How well numbers of lesions tell true from false ones."""
    from scipy.stats import mannwhitneyu

    segmenter = open_segmenter("brain_lesion", BRAIN, "cpu", Options(uncertainty=True))
    lesions = []
    for patient in patients(data, ["104670", "104899", "106639", "110218", "111008", "07", "19"], None):
        (found,) = segmenter.run(patient.volume).tables
        for lesion in found.lesions:
            true = bool(patient.truth[found.labels == lesion.id].any())
            lesions.append((true, lesion.spread, lesion.probability_mean, lesion.volume_mm3))
        print(patient.name, file=sys.stderr, flush=True)
    values = np.array(lesions, float)
    true = values[:, 0] > 0
    rows = []
    for name, number in (
        ("spread of mirror images", -values[:, 1]),
        ("mean probability", values[:, 2]),
        ("volume", values[:, 3]),
    ):
        area = mannwhitneyu(number[true], number[~true]).statistic / (true.sum() * (~true).sum())
        rows.append((name, f"{area:.2f}"))
    print("\n## Lesions\n")
    table(("number", "area under ROC"), rows)
    print(f"\n{true.sum()} true and {(~true).sum()} false lesions of seven patients (development scans).")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("-data", type=Path, default=Path("../shared/data"))
    p.add_argument("-brains", action="store_true", help="lesions too (a minute a patient)")
    args = p.parse_args()
    name_models(*(f"{MODEL}@{version}" for version in MEMBERS))
    cords(args.data)
    if args.brains:
        name_models(BRAIN)
        brains(args.data)


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Several networks as one, and uncertainty"))
