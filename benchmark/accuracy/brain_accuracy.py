"""Brain lesions on the two public patients with images: Dice, lesion-wise F1 and volume, at one threshold for both.

    python benchmark/accuracy/brain_accuracy.py -data DATA NAME=MODEL.onnx ...

A model may be given as ``NAME=FOR07.onnx,FOR19.onnx``: one file for each patient, as in leave-one-out.
Lesions are 26-connected; a lesion counts as found, and a found one as true, if it shares a voxel with one of the
other side; those under 3 voxels are left out on both sides.
"""

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PATIENTS = ("07", "19")
LEAST_VOXELS = 3
THRESHOLDS = np.round(np.arange(0.2, 0.96, 0.1), 2)


@dataclass(frozen=True, eq=False)
class Patient:
    """channels (3, X, Y, Z): FLAIR as networks get it and the priors; relative: FLAIR over its median; truth: bool."""

    number: str
    channels: np.ndarray
    relative: np.ndarray
    truth: np.ndarray


def load_patient(data, number):
    """A patient with registered priors."""
    import torch

    from sctseg7t.simulate.brain.bank import prepare
    from sctseg7t.simulate.brain.patches import normalise
    from sctseg7t.simulate.brain.template import load_template
    from sctseg7t.simulate.fields import apply_affine, sample, voxel_positions

    relative, truth, to_template, _ = prepare(Path(data) / f"brain/lesjak-cross/patient{number}")
    template = load_template()
    at = apply_affine(torch.tensor(to_template, dtype=torch.float32), voxel_positions(relative.shape))
    priors = sample(template.priors, at - torch.tensor(template.origin_mm).view(3, 1, 1, 1), padding="zeros")
    channels = np.concatenate([normalise(relative)[None], priors.numpy()]).astype(np.float32)
    return Patient(number, channels, relative, truth)


def probability(session, channels, overlap=0.5, flip=False):
    """Probability of lesion over a volume, (X, Y, Z); ``flip``: the mean with that of its mirror image."""
    from sctseg7t.runtime.patches import sliding_patches

    inside = channels[0] > -3
    found = sliding_patches(channels, session.run, overlap=overlap, inside=inside)[0]
    if flip:
        found = (found + probability(session, channels[:, ::-1].copy(), overlap)[::-1]) / 2
    return found


def clean(prob, threshold, seed=None, least=LEAST_VOXELS):
    """Mask of a probability map: lesions from ``threshold`` on that reach ``seed`` somewhere and are large enough."""
    from scipy import ndimage as ndi

    parts, count = ndi.label(prob >= threshold, np.ones((3, 3, 3)))
    if not count:
        return parts > 0
    keep = np.bincount(parts.ravel(), minlength=count + 1) >= least
    if seed:
        top = ndi.maximum(prob, parts, np.arange(count + 1))
        keep &= np.asarray(top) >= seed
    keep[0] = False
    return keep[parts]


def score(mask, truth):
    """Dice, lesion-wise sensitivity, precision and F1, counts and volumes (mL)."""
    from scipy import ndimage as ndi

    both = (mask & truth).sum()
    found, known = (_lesions(ndi, m) for m in (mask, truth))
    hit = _touching(known, mask)
    # A lesion found where the reference has one too small to count is neither right nor wrong.
    right, any_of_it = _touching(found, known[0] > 0), _touching(found, truth)
    false = found[1] - any_of_it
    sensitivity = hit / max(known[1], 1)
    precision = right / max(right + false, 1)
    f1 = 2 * sensitivity * precision / max(sensitivity + precision, 1e-9)
    return {
        "Dice": 2 * both / max(mask.sum() + truth.sum(), 1),
        "F1": f1,
        "sensitivity": sensitivity,
        "precision": precision,
        "lesions": known[1],
        "found": found[1],
        "false": false,
        "mL": mask.sum() / 1000,
        "reference mL": truth.sum() / 1000,
    }


def _lesions(ndi, mask):
    parts, count = ndi.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(parts.ravel(), minlength=count + 1) >= LEAST_VOXELS
    keep[0] = False
    return np.where(keep[parts], parts, 0), int(keep.sum())


def _touching(lesions, mask):
    """Number of lesions that share a voxel with a mask."""
    return len(np.setdiff1d(np.unique(lesions[0][mask]), [0]))


def best_cut(maps, patients, cuts, make):
    """The one setting of all patients with the best mean of Dice and F1, and the scores there."""
    scored = [(cut, [score(make(m, cut), p.truth) for m, p in zip(maps, patients)]) for cut in cuts]
    return max(scored, key=lambda pair: np.mean([s["Dice"] + s["F1"] for s in pair[1]]))


def baseline(patients):
    """The best intensity threshold: k SDs above the brain's median, one k for all."""
    maps = []
    for p in patients:
        inside = p.relative[p.relative > 0]
        maps.append((p.relative - np.median(inside)) / inside.std())
    return best_cut(maps, patients, np.arange(0.8, 3.3, 0.2), clean)


def row(name, cut, scores):
    """A line of the table."""
    cells = [
        f"{s['Dice']:.3f} / {s['F1']:.3f} ({s['sensitivity']:.2f} {s['precision']:.2f}; {s['found']} found, "
        f"{s['false']} false; {s['mL']:.1f} of {s['reference mL']:.1f} mL)"
        for s in scores
    ]
    return f"| {name} | {cut} | " + " | ".join(cells) + " |"


def evaluation_rows(cut, scores, role="validation"):
    """Rows of a manifest entry's ``evaluation``."""
    rows = []
    for number, found in zip(PATIENTS, scores):
        dataset = f"Lesjak et al. 2017, patient {number} (3 T, {found['reference mL']:.1f} mL), development scan"
        for metric, name, units in (
            ("Dice", "Dice", "1"),
            ("lesion-wise F1 (26-connected, any overlap, 3 voxels or more)", "F1", "1"),
            ("lesion-wise sensitivity", "sensitivity", "1"),
            ("lesion-wise precision", "precision", "1"),
            ("false lesions", "false", "lesions"),
            ("volume found", "mL", "mL"),
        ):
            value = round(float(found[name]), 3)
            rows.append(
                {
                    "dataset": dataset,
                    "role": role,
                    "structure": "LESION",
                    "metric": metric,
                    "n": 1,
                    "mean": value,
                    "units": units,
                }
            )
    return rows


def main():
    from sctseg7t.runtime import open_session

    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", metavar="NAME=MODEL.onnx")
    p.add_argument("-data", required=True)
    p.add_argument("-threshold", type=float, help="instead of the best one")
    p.add_argument("-flip", action="store_true", help="mean of the image and its mirror image")
    p.add_argument("-overlap", type=float, default=0.5)
    p.add_argument("-record", nargs=2, metavar=("MANIFEST", "MODEL"), help="put the figures of the one model there")
    args = p.parse_args()
    patients = [load_patient(args.data, number) for number in PATIENTS]
    print("| method | cut | " + " | ".join(f"{p.number}: Dice / F1 (sensitivity, precision)" for p in patients) + " |")
    print("|---|---|---|---|")
    cut, scores = baseline(patients)
    print(row("intensity threshold, one k", f"{cut:.1f} SD", scores))
    for model in args.models:
        name, _, files = model.partition("=")
        paths = files.split(",") * (1 if "," in files else len(patients))
        maps = [
            probability(open_session(path, "cpu"), patient.channels, args.overlap, args.flip)
            for path, patient in zip(paths, patients)
        ]
        cuts = [args.threshold] if args.threshold else THRESHOLDS
        cut, scores = best_cut(maps, patients, cuts, clean)
        print(row(name, cut, scores), flush=True)
        if args.record:
            from sctseg7t.train.model_card import record_evaluation

            record_evaluation(*args.record, evaluation_rows(cut, scores))


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Brain lesions: accuracy"))
