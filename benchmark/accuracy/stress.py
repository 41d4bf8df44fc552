"""Stress tables: how accuracy changes when a scan does.

    python benchmark/accuracy/stress.py [-data ../shared/data] [-m MODEL] [-page FILE.md]

Three tables. Development scans perturbed in known ways: mean Dice, its change against the row that the block
starts with, the worst scan's change, slices lost (Dice at most 0.7, or nothing found). Changes that must not change
a mask: voxels that differ. Simulated scans, whose true fractions are known: Dice and area against them.

A resampled scan is judged by a resampled reference, which counts against us.
"""

import argparse
import sys
from dataclasses import dataclass

import numpy as np
from perturb import (
    Case,
    dimmed_csf,
    noisy,
    off_centre,
    resampled,
    scaled,
    tilted,
    turned_affine,
    turned_voxels,
)
from scans import LOST, canonical, scans

from sctseg7t.report.results_page import name_models, table
from sctseg7t.report.results_page import run as run_with_page

TISSUES = ("SC", "GM")
SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class Block:
    """Rows of the table that share a baseline; each row is a list of changes (both directions, say)."""

    baseline: str
    unchanged: object
    rows: dict


def blocks():
    """What is done to every development scan."""
    as_is = Block("as it is", lambda c: c, {})
    for degrees in (5, 10, 20):
        as_is.rows[f"turned {degrees} deg both ways (affine)"] = [
            lambda c, d=d: turned_affine(c, d) for d in (degrees, -degrees)
        ]
    for degrees in (10, 20):
        as_is.rows[f"slices tilted {degrees} deg both ways"] = [
            lambda c, d=d: tilted(c, d) for d in (degrees, -degrees)
        ]
    for snr in (20, 10):
        as_is.rows[f"Rician noise added, SNR {snr}"] = [lambda c, s=snr: noisy(c, s)]
    for mm in (0.3, 0.5, 0.7):
        as_is.rows[f"pixels of {mm} mm"] = [lambda c, m=mm: resampled(c, m)]
    for share in (0.5, 0.2):
        as_is.rows[f"CSF contrast to cord x {share}"] = [lambda c, s=share: dimmed_csf(c, s)]
    turned = Block("on half the pixel size, not turned", lambda c: turned_voxels(c, 0), {})
    for degrees in (5, 10, 20):
        turned.rows[f"turned {degrees} deg both ways (voxels)"] = [
            lambda c, d=d: turned_voxels(c, d) for d in (degrees, -degrees)
        ]
    shifted = Block("40 mm field of view, centred", lambda c: off_centre(c, 0, 0), {})
    for mm in (4, 8):
        shifted.rows[f"cord {mm} mm off, four directions"] = [
            lambda c, x=x, y=y: off_centre(c, x, y) for x, y in ((mm, 0), (-mm, 0), (0, mm), (0, -mm))
        ]
    return [as_is, turned, shifted]


def run(found, segmenter):
    """Run and print everything; the tables as lists of dicts."""
    cases = {scan.name: Case.load(scan) for scan in found}
    tables = {"perturbed": perturbed(cases, segmenter), "unchanged": invariant(cases, segmenter)}
    try:
        tables["simulated"] = simulated(segmenter)
    except ImportError as error:
        print(f"\nSimulated scans are left out: {error}.")
    return tables


# --- perturbed scans ------------------------------------------------------------------


def perturbed(cases, segmenter):
    """Dice of every block's rows over the scans."""
    found = []
    for block in blocks():
        base = {name: _score(block.unchanged(case), segmenter) for name, case in cases.items()}
        for label, changes in {block.baseline: None, **block.rows}.items():
            row = {"change": label, "against": block.baseline}
            scores = {
                name: [_score(change(case), segmenter) for change in changes] if changes else [base[name]]
                for name, case in cases.items()
            }
            for tissue in TISSUES:
                dice = {name: np.array([s[tissue][0] for s in runs]) for name, runs in scores.items()}
                apart = [float((values - base[name][tissue][0]).min()) for name, values in dice.items()]
                mean = float(np.mean([values.mean() for values in dice.values()]))
                row[tissue] = {
                    "dice": mean,
                    "change": mean - float(np.mean([base[name][tissue][0] for name in cases])),
                    "worst_change": min(apart),
                    "lost": sum(s[tissue][1] for runs in scores.values() for s in runs),
                    "slices": sum(s[tissue][2] for runs in scores.values() for s in runs),
                }
            found.append(row)
    print("## Perturbed development scans")
    head = [f"{tissue} {what}" for tissue in TISSUES for what in ("Dice", "change", "worst", "lost")]
    table(
        ("change", *head), [(row["change"], *(c for t in TISSUES for c in _perturbed_cells(row[t]))) for row in found]
    )
    return found


def _perturbed_cells(cell):
    lost = f"{cell['lost']} of {cell['slices']}"
    return f"{cell['dice']:.3f}", f"{cell['change']:+.3f}", f"{cell['worst_change']:+.3f}", lost


def _score(case, segmenter):
    """By tissue: Dice (3D), slices lost, slices."""
    from sctseg7t.measure.pairs import overlap

    masks = _masks(segmenter, case.image)
    scores = {}
    for tissue, reference in (("SC", case.sc), ("GM", case.gm)):
        known = np.flatnonzero(reference.any((0, 1)))
        lost = sum(not overlap(reference[..., k], masks[tissue][..., k])["dice"] > LOST for k in known)
        scores[tissue] = (overlap(reference, masks[tissue])["dice"], int(lost), len(known))
    return scores


def _masks(segmenter, image):
    result = segmenter.run(image)
    return {tissue: canonical(result.masks[tissue]) for tissue in TISSUES}


# --- changes that must not matter -------------------------------------------------------


def invariant(cases, segmenter):
    """Voxels of SC and GM that differ after changes that should leave the masks alone."""
    flips = {f"stored axis {axis} flipped, affine with it": _flip(axis) for axis in range(3)}
    stored = {**flips, "stored axes in the order z, x, y": np.array([[1, 1], [2, 1], [0, 1]])}
    changes = {
        "intensity x 0.01": lambda c: scaled(c, 0.01).image,
        "intensity x 1000": lambda c: scaled(c, 1000).image,
        "intensity - 5000": lambda c: scaled(c, offset=-5000).image,
        **{label: lambda c, o=order: c.image.as_reoriented(o) for label, order in stored.items()},
        "content mirrored left-right": lambda c: c.map(lambda array: array[::-1]).image,
    }
    plain = {name: _masks(segmenter, case.image) for name, case in cases.items()}
    total = {t: sum(int(masks[t].sum()) for masks in plain.values()) for t in TISSUES}
    found = []
    for label, change in changes.items():
        differ = dict.fromkeys(TISSUES, 0)
        for name, case in cases.items():
            masks = _masks(segmenter, change(case))
            for tissue in TISSUES:
                mask = masks[tissue][::-1] if label.startswith("content") else masks[tissue]
                differ[tissue] += int((mask != plain[name][tissue]).sum())
        found.append({"change": label, **differ})
    print("## Changes that must not change a mask")
    head = [f"voxels of {tissue} that differ, of {total[tissue]}" for tissue in TISSUES]
    table(("change", *head), [tuple(row.values()) for row in found])
    return found


def _flip(axis):
    order = np.array([[0, 1], [1, 1], [2, 1]])
    order[axis, 1] = -1
    return order


# --- simulated scans --------------------------------------------------------------------


def simulated(segmenter):
    """Dice and CSA bias against the true fractions, a quality of the scan varied at a time."""
    from sctseg7t.simulate.anatomy import load_bank
    from sctseg7t.simulate.scan import ScanPlan, simulate_scan

    usual = {
        "slices": 8,
        "field_of_view_mm": 48.0,
        "pixel_mm": 0.35,
        "thickness_mm": 3.0,
        "snr": 20.0,
        "off_centre_mm": (0.0, 0.0),
    }
    rows = {"0.35 mm, 3 mm slices, SNR 20, centred": {}}
    rows |= {f"pixels of {mm} mm": {"pixel_mm": mm} for mm in (0.18, 0.25, 0.5, 0.7)}
    rows |= {f"slices of {mm} mm": {"thickness_mm": float(mm)} for mm in (1, 5, 7)}
    rows |= {f"SNR {snr}": {"snr": float(snr)} for snr in (5, 10, 40)}
    rows |= {f"cord {abs(x) + abs(y):.0f} mm off": {"off_centre_mm": (x, y)} for x, y in ((4.0, 0.0), (0.0, -8.0))}
    bank = load_bank(["parametric"])
    found = []
    for label, change in rows.items():
        scans = [simulate_scan(bank, ScanPlan(seed=seed, **{**usual, **change}))[:2] for seed in SEEDS]
        scores = [_simulated_score(image, truth, segmenter) for image, truth in scans]
        row = {"scan": label}
        for tissue in TISSUES:
            dice, bias, lost = (np.array([s[tissue][n] for s in scores]) for n in range(3))
            row[tissue] = {
                "dice": float(dice.mean()),
                "worst": float(dice.min()),
                "csa_bias_percent": float(bias.mean()),
                "lost": int(lost.sum()),
            }
        found.append(row)
    print("## Simulated scans")
    head = [f"{tissue} {what}" for tissue in TISSUES for what in ("Dice", "worst", "area", "lost")]
    table(("scan", *head), [(row["scan"], *(c for t in TISSUES for c in _simulated_cells(row[t]))) for row in found])
    return found


def _simulated_cells(cell):
    return f"{cell['dice']:.3f}", f"{cell['worst']:.3f}", f"{cell['csa_bias_percent']:+.1f} %", cell["lost"]


def _simulated_score(image, truth, segmenter):
    """By tissue: Dice against the fractions' half, area against their sum (%), slices lost."""
    import nibabel as nib

    from sctseg7t.measure.pairs import overlap

    masks = _masks(segmenter, image)
    scores = {}
    for tissue in TISSUES:
        fraction = nib.as_closest_canonical(truth[tissue]).get_fdata()
        reference = fraction >= 0.5
        known = np.flatnonzero(reference.any((0, 1)))
        lost = sum(not overlap(reference[..., k], masks[tissue][..., k])["dice"] > LOST for k in known)
        bias = 100 * (masks[tissue].sum() / fraction.sum() - 1)
        scores[tissue] = (overlap(reference, masks[tissue])["dice"], bias, lost)
    return scores


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("-data", default="../shared/data", help="folder of the development data")
    p.add_argument("-m", "--model", help="model of the zoo or .onnx file (default: the task's)")
    args = p.parse_args()
    from sctseg7t.inference.pipeline import open_segmenter

    segmenter = open_segmenter("gm_sc", args.model, "cpu")
    name_models(segmenter.model.spec, segmenter.model.locator_spec)
    run(scans(args.data), segmenter)


if __name__ == "__main__":
    sys.exit(run_with_page(main, __doc__, "Stress"))
