"""New lesions on the development pairs, on scans paired with themselves, and on simulated pairs.

    python benchmark/accuracy/new_lesions.py [-data ../shared/data] [-real] [-self] [-null N] [-changes N]

``-real``: lesjak-long, two raw FLAIR each. The reference mask holds changes of both directions; those of at least
30 mm3 that brighten by more than 0.1 medians of the brain (the data's own transforms and brain mask, N4) should be
found; marks that touch no component of the reference, of any size and direction, are false. ``-self``: each follow-up
with itself, turned by its header alone, and turned and resampled: nothing may be new. ``-null N``: simulated pairs of
one brain from two scanners, nothing changed. ``-changes N``: simulated pairs with lesions that grew or shrank by half,
that are new or as they were. Simulated brains come stripped, their place in MNI is known; the second head is turned.
"""

import argparse
import re
import resource
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

import sctseg7t
from sctseg7t.brain.bias import n4
from sctseg7t.brain.pair import Scan, pair_up
from sctseg7t.brain.register import Template
from sctseg7t.brain.segmenter import Prepared
from sctseg7t.image.grid import Grid, resample, voxel_mm3
from sctseg7t.image.volume import load

PATIENTS = ("patient01", "patient12")
LEAST_MM3, LEAST_CHANGE = 30.0, 0.1
CORNERS = np.ones((3, 3, 3))
# Of the simulated brains: without, with few, some and many lesions.
MODERATE = (0.1, 0.5, 0.3, 0.1)
# A lesion that is less of what was found as one with it has run together with others.
ALONE = 0.7


def main():
    """Print the tables that are asked for; without any, those of the real pairs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-data", type=Path, default=Path(__file__).resolve().parents[3] / "shared" / "data")
    parser.add_argument("-m", dest="model", help="a model of the zoo or a file (default: the task's)")
    parser.add_argument("-real", action="store_true")
    parser.add_argument("-self", dest="itself", action="store_true")
    parser.add_argument("-null", type=int, default=0, metavar="N")
    parser.add_argument("-changes", type=int, default=0, metavar="N")
    parser.add_argument("-seed", type=int, default=70_000)
    args = parser.parse_args()
    if args.real or not (args.itself or args.null or args.changes):
        real(args)
    if args.itself:
        itself(args)
    if args.null or args.changes:
        segmenter = sctseg7t.open_segmenter("brain_new_lesion", args.model, "cpu")
        if args.null:
            null(args, segmenter)
        if args.changes:
            changes(args, segmenter)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(f"largest memory {used.ru_maxrss / 1024:.0f} MB, processor time {used.ru_utime + used.ru_stime:.0f} s")


# ---- real pairs ------------------------------------------------------------------


def real(args):
    """Found components of the reference and false marks."""
    found = wanted = marks = false = gone = darker = 0
    for patient in PATIENTS:
        folder = args.data / "brain/lesjak-long" / patient
        began = time.perf_counter()
        result = sctseg7t.segment(
            folder / "study2_FLAIR.nii.gz",
            "brain_new_lesion",
            model=args.model,
            baseline=folder / "study1_FLAIR.nii.gz",
            device="cpu",
        )
        seconds = time.perf_counter() - began
        labels, rows = reference(folder)
        truth = on_scan(labels, folder, result)
        new = nib.as_closest_canonical(result.masks["NEWLESION"]).get_fdata() > 0
        codes = nib.as_closest_canonical(result.maps["changemap"]).get_fdata()
        bright = [n for n, (volume, change) in rows.items() if volume >= LEAST_MM3 and change > LEAST_CHANGE]
        dark = [n for n, (volume, change) in rows.items() if volume >= LEAST_MM3 and change < -LEAST_CHANGE]
        touched = set(np.unique(truth[new]).astype(int).tolist())
        lost = set(np.unique(truth[(codes == 3) | (codes == 4)]).astype(int).tolist())
        parts, count = ndimage.label(new, CORNERS)
        untouched = [n for n in range(1, count + 1) if not truth[parts == n].any()]
        print(
            f"{patient}: {seconds:.0f} s; brighter components found {sorted(touched & set(bright))} of {bright}; "
            f"marks {count}, touching none {len(untouched)}; darker ones reported {sorted(lost & set(dark))} of {dark}"
        )
        print(f"  {result.followup.summary()}")
        for text in result.warnings:
            print(f"  {text}")
        found, wanted = found + len(touched & set(bright)), wanted + len(bright)
        gone, darker = gone + len(lost & set(dark)), darker + len(dark)
        marks, false = marks + count, false + len(untouched)
    sensitivity, precision = found / wanted, (marks - false) / max(marks, 1)
    print(
        f"found {found} of {wanted} ({sensitivity:.2f}), marks that touch none {false} of {marks} "
        f"({1 - precision:.2f}), F1 {2 * sensitivity * precision / max(sensitivity + precision, 1e-9):.2f}; "
        f"darker {gone} of {darker}"
    )


def reference(folder):
    """Components of the reference mask on its grid, and (volume in mm3, mean change) of each."""
    truth, brain = (load(folder / f"{name}.nii.gz", axial=False) for name in ("gt", "brainmask"))
    labels, count = ndimage.label(truth.data[..., 0] > 0, CORNERS)
    inside, images = brain.data[..., 0] > 0, []
    for study in ("study1", "study2"):
        scan = load(folder / f"{study}_FLAIR.nii.gz", axial=False)
        matrix = np.linalg.inv(scan.affine) @ common_to(folder, study) @ truth.affine
        image, _ = n4(resample(scan.data[..., 0], matrix, labels.shape), inside, truth.affine)
        images.append(image / np.median(image[inside]))
    volume = voxel_mm3(truth.affine)
    rows = {}
    for number in range(1, count + 1):
        own = labels == number
        rows[number] = float(own.sum() * volume), float((images[1] - images[0])[own].mean())
    return (labels, truth.affine), rows


def common_to(folder, study):
    """The data's matrix from the common world to a study's, RAS, mm."""
    text = (folder / f"{study}_FLAIR_to_common_space.txt").read_text()
    values = [
        np.array(re.search(rf"\n{name}: (.*)", text)[1].split(), float) for name in ("Parameters", "FixedParameters")
    ]
    matrix = np.eye(4)
    matrix[:3, :3] = values[0][:9].reshape(3, 3)
    matrix[:3, 3] = values[0][9:] + values[1] - matrix[:3, :3] @ values[1]
    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    return flip @ matrix @ flip


def on_scan(labels, folder, result):
    """The reference's components on the follow-up's canonical grid."""
    values, affine = labels
    matrix = np.linalg.inv(affine) @ np.linalg.inv(common_to(folder, "study2")) @ result.volume.affine
    return resample(values.astype(np.int16), matrix, result.volume.data.shape[:3], order=0)


def itself(args):
    """A scan with itself, in three ways: lesions that are called new."""
    for patient in PATIENTS:
        path = args.data / "brain/lesjak-long" / patient / "study2_FLAIR.nii.gz"
        scan = load(path, axial=False)
        turn = moved((6, -4, 9), (5, -8, 3), np.zeros(3))
        header = nib.Nifti1Image(scan.data[..., 0], turn @ scan.affine)
        grid = Grid(scan.data.shape[:3], scan.affine)
        turned = resample(scan.data[..., 0], np.linalg.inv(scan.affine) @ turn @ grid.affine, grid.shape, order=3)
        for name, baseline in (
            ("itself", path),
            ("turned by its header", header),
            ("turned and resampled", nib.Nifti1Image(turned, scan.affine)),
        ):
            result = sctseg7t.segment(path, "brain_new_lesion", model=args.model, baseline=baseline, device="cpu")
            total = result.followup.summary()
            codes = [text.partition(":")[0] for text in result.warnings]
            print(
                f"{patient} with {name}: {total['n_new'] + total['n_new_small']} new, {total['n_enlarging']} grown; "
                f"noise {result.pair.noise:.4f}, likeness {result.pair.likeness:.4f}, {codes}",
                flush=True,
            )


# ---- simulated pairs -----------------------------------------------------------------


def simulated(args, segmenter, seed, **settings):
    """A simulated pair and what is found in it: (pair, changes, truth on the halfway grid)."""
    from sctseg7t.simulate.brain.lesions import load_shapes
    from sctseg7t.simulate.brain.pairs import simulate_pair
    from sctseg7t.simulate.brain.template import load_template

    masks = args.data / "brain/lesjak-cross/lesion_masks_mni"
    recipe = {"burden": {"shares": MODERATE}}
    truth = simulate_pair(
        load_template(), load_shapes(masks) if masks.is_dir() else None, seed, recipe=recipe, **settings
    )
    affine, rng = np.eye(4), np.random.default_rng(seed)
    middle = np.array(truth.now.shape) / 2
    turn = moved(rng.normal(0, 5, 3), rng.normal(0, 5, 3), middle)
    # The second head position is resampled once, as a scanner would have seen it.
    before = resample(truth.before, turn, truth.before.shape, order=1)
    scans = [Scan(image, affine, image > 0.02, name) for image, name in ((truth.now, "now"), (before, "before"))]
    scans = [replace(scan, mask=ndimage.binary_fill_holes(ndimage.binary_opening(scan.mask))) for scan in scans]
    pair = pair_up(*scans)
    template = np.vstack([truth.to_template, [0, 0, 0, 1]])
    ready = Prepared(truth.now, scans[0].mask, Template(template, 1.0), {}, ())
    found = segmenter.changes(pair, *segmenter.opinions(pair, ready))
    back = np.linalg.inv(pair.motion.from_first) @ pair.grid.affine
    return (
        pair,
        found,
        truth,
        [
            resample(a.astype(np.int16), back, pair.grid.shape, order=0)
            for a in (truth.lesions, truth.at_now, truth.at_before)
        ],
    )


def null(args, segmenter):
    """Marks on pairs with nothing new."""
    counts = []
    for k in range(args.null):
        pair, found, truth, _ = simulated(args, segmenter, args.seed + k)
        marks = int(ndimage.label(found.new, CORNERS)[1])
        other = Counter(row.status for row in found.table)
        counts.append(marks)
        print(
            f"null {k}: {marks} marks; lesions {truth.lesions.max()}, by status {dict(other)}; noise {pair.noise:.3f}, "
            f"likeness {pair.likeness:.3f}, registration {pair.motion.disagreement_mm:.2f} mm",
            flush=True,
        )
    print(f"{sum(counts)} marks on {len(counts)} pairs with nothing new; pairs with any: {sum(map(bool, counts))}")


def changes(args, segmenter):
    """What is reported of simulated lesions over 50 mm3 at both times, by their fate; new ones found."""
    table, new = Counter(), Counter()
    for k in range(args.changes):
        shares = {"grown": 0.3, "shrunk": 0.1}
        _, found, truth, maps = simulated(args, segmenter, args.seed + 5000 + k, shares=shares, new=4)
        lesions, now, before = maps
        for number, fate in enumerate(truth.fates, 1):
            own = lesions == number
            sizes = (own & (now > 0)).sum(), (own & (before > 0)).sum()
            if fate == "new":
                new[bool(sizes[0] >= 50), bool((own & found.new).any())] += 1
                continue
            if max(sizes) < 50:
                continue
            at = np.bincount(found.lesions[own & (found.lesions > 0)])
            status = "missed"
            if at.size:
                row = found.table[int(at.argmax()) - 1]
                status = row.status if at.max() >= ALONE * (found.lesions == row.id).sum() else "merged"
            table[fate, status] += 1
        print(f"changes {k}: {dict(table)}; new (over 50 mm3, found): {dict(new)}", flush=True)
    for fate in ("grown", "stable", "shrunk"):
        left = {status: table[fate, status] for status in ("missed", "merged")}
        of_all = sum(n for (own, _), n in table.items() if own == fate)
        alone = of_all - sum(left.values())
        print(f"{fate}: {table[fate, fate]} reported as such, of {alone} found alone, of {of_all} in all; {left}")


def moved(angles_deg, shift_mm, centre):
    """A rigid matrix about a centre."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_euler("xyz", angles_deg, degrees=True).as_matrix()
    matrix[:3, 3] = centre - matrix[:3, :3] @ centre + shift_mm
    return matrix


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "New lesions"))
