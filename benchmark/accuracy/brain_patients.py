"""Brain lesions patient by patient, several networks beside each other: Dice, lesion-wise F1 and volume.

    python benchmark/accuracy/brain_patients.py -data DATA [NAME=]MODEL ... [-left-out NAME=FOLDER ...]

DATA holds brain/tabriz, brain/lesjak-cross and brain/healthy. A model is a name of the zoo or an ONNX file; all run as
``sct7t_deepseg`` does, and are judged on the grid of the scan. ``NAME=FOLDER/*.nii.gz`` are masks made elsewhere (a
peer's), called after the patients. Of ``-left-out`` each patient takes the network that did not see them:
FOLDER/folds.json lists ``{"model": FILE, "without": [PATIENT, ...]}``. The threshold of each patient is the one with
the best mean of Dice and F1 on all other patients.

Lesions are 26-connected; those under 3 mm3 count on neither side. A lesion counts as found, and a found one as true, if
it shares a voxel with one of the other side.
"""

import argparse
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import Volume, load

TABRIZ = ("104670", "104899", "106639", "110218", "111008", "101228", "101627", "112776")
LEAST_MM3 = 3.0
THRESHOLDS = [round(0.1 * k, 1) for k in range(2, 9)]


@dataclass(frozen=True, eq=False)
class Patient:
    """name; group; the scan; truth (X, Y, Z) bool; what the brain's preparation made of it."""

    name: str
    group: str
    volume: Volume
    truth: np.ndarray
    ready: object


def patients(data: Path, only: list[str], store: Path | None) -> Iterator[Patient]:
    """The scans with their reference, each made ready once."""
    places = [("tabriz", name, data / "brain/tabriz" / name) for name in TABRIZ]
    places += [("lesjak", name, data / f"brain/lesjak-cross/patient{name}") for name in ("07", "19")]
    places += [("healthy", "healthy", data / "brain/healthy")]
    for group, name, folder in places:
        if only and name not in only:
            continue
        scan = next(folder / f for f in ("FLAIR.nii.gz", "FLAIR_prep.nii.gz") if (folder / f).is_file())
        volume = load(scan, axial=False)
        masks = [folder / f for f in ("lesions.nii.gz", "lesions_consensus.nii.gz") if (folder / f).is_file()]
        truth = labels_on_scan(masks[0], volume)[0] > 0 if masks else np.zeros(volume.data.shape[:3], bool)
        yield Patient(name, group, volume, truth, ready(volume, store and store / f"{name}.pkl"))


def ready(volume, kept):
    """A scan as networks get it."""
    from sctseg7t.brain.find_brain import open_finder
    from sctseg7t.brain.segmenter import prepare

    if kept and kept.is_file():
        return pickle.loads(kept.read_bytes())
    made = prepare(volume.data[..., 0], volume.affine, name=volume.name, finder=open_finder())
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(pickle.dumps(made))
    return made


def score(mask: np.ndarray, truth: np.ndarray, voxel_mm3: float) -> dict[str, float]:
    """Dice, lesion-wise F1, counts and volumes (mL)."""
    found, known = (_lesions(m, voxel_mm3) for m in (mask, truth))
    hit, right = len(np.unique(known[mask & (known > 0)])), len(np.unique(found[truth & (found > 0)]))
    sensitivity, precision = hit / max(_count(known), 1), right / max(_count(found), 1)
    return {
        "dice": 2 * (mask & truth).sum() / max(mask.sum() + truth.sum(), 1),
        "f1": 2 * sensitivity * precision / max(sensitivity + precision, 1e-9),
        "known": _count(known),
        "hit": hit,
        "found": _count(found),
        "false": _count(found) - right,
        "mL": mask.sum() * voxel_mm3 / 1000,
        "truth mL": truth.sum() * voxel_mm3 / 1000,
    }


def _lesions(mask, voxel_mm3):
    from scipy import ndimage as ndi

    parts, _ = ndi.label(mask, np.ones((3, 3, 3)))
    keep = np.bincount(parts.ravel()) * voxel_mm3 >= LEAST_MM3
    keep[0] = False
    return np.where(keep[parts], parts, 0)


def _count(parts):
    return len(np.setdiff1d(np.unique(parts), [0]))


@dataclass(frozen=True)
class Method:
    """A network, networks by the patients that they did not see, or masks made elsewhere; and what to call it."""

    name: str
    place: str
    folds: tuple[dict, ...] = ()

    def scores(self, patient: Patient) -> dict[float | None, dict]:
        """Scores of a patient by threshold, None being the model's own; empty where there is no mask."""
        if "*" in self.place:
            path = Path(self.place.replace("*", patient.name))
            masks = {None: labels_on_scan(path, patient.volume)[0] > 0} if path.is_file() else {}
        elif self.folds:
            fold = next((f for f in self.folds if patient.name in f["without"]), None)
            masks = found(str(Path(self.place) / fold["model"]), patient, THRESHOLDS) if fold else {}
        else:
            masks = found(self.place, patient, [None])
        voxel_mm3 = float(abs(np.linalg.det(patient.volume.affine[:3, :3])))
        return {limit: score(mask, patient.truth, voxel_mm3) for limit, mask in masks.items()}


def found(model, patient, thresholds):
    """Masks of a network by threshold."""
    from sctseg7t.inference.pipeline import open_segmenter
    from sctseg7t.inference.segmenter import Options

    affine, masks = patient.volume.affine, {}
    segmenter = open_segmenter("brain_lesion", model).suited(affine)
    grid, probability = segmenter.look(patient.ready, affine)
    for limit in thresholds:
        segmenter.model = replace(segmenter.model, options=Options(threshold=limit))
        masks[limit] = segmenter.decide(grid, probability, patient.ready, affine)[0]
    return masks


def left_out(scores: dict[tuple, dict[float | None, dict]]) -> dict[tuple, dict]:
    """Each patient's scores at the threshold that suits the other patients best."""
    chosen = {}
    for key, own in scores.items():
        others = [s for k, s in scores.items() if k != key and k[0] != "healthy"]
        limits = own if len(own) > 1 and others else [*own][:1]
        best = max(limits, key=lambda limit: sum(s[limit]["dice"] + s[limit]["f1"] for s in others))
        chosen[key] = own[best] | {"threshold": best}
    return chosen


def table(scores: dict[str, dict[tuple[str, str], dict[str, float]]]) -> Iterator[str]:
    """Markdown: a row a patient, a column a method; means of tabriz below."""
    names = list(scores)
    yield "| patient (mL) | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    rows = list(dict.fromkeys(key for column in scores.values() for key in column))
    for key in rows:
        given = [scores[name].get(key) for name in names]
        truth = next(s for s in given if s)["truth mL"]
        yield f"| {' '.join(key)} ({truth:.1f}) | " + " | ".join(_cell(s) for s in given) + " |"
    for group in dict.fromkeys(group for group, _ in rows if group != "healthy"):
        means = []
        for name in names:
            own = [s for (g, _), s in scores[name].items() if g == group]
            means.append(_means(own) if own else "")
        yield f"| mean, {group} | " + " | ".join(means) + " |"


def _means(own):
    off = np.mean([abs(s["mL"] / s["truth mL"] - 1) for s in own])
    total = sum(s["mL"] for s in own) / sum(s["truth mL"] for s in own) - 1
    dice, f1 = (np.mean([s[name] for s in own]) for name in ("dice", "f1"))
    return f"**{dice:.3f} / {f1:.3f}**, volume off by {off:.0%}, {total:+.0%} in all"


def _cell(s):
    if s is None:
        return ""
    if not s["truth mL"]:
        return f"{s['found']} marks, {s['mL']:.2f} mL"
    return f"{s['dice']:.3f} / {s['f1']:.3f} ({s['hit']} of {s['known']}, {s['false']} false) {s['mL']:.1f}"


def named(text: str, left_out: bool = False) -> Method:
    """The method that an argument names."""
    name, _, place = text.rpartition("=")
    folds = json.loads((Path(place) / "folds.json").read_text()) if left_out else ()
    return Method(name or place, place, tuple(folds))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*")
    p.add_argument("-data", type=Path, required=True)
    p.add_argument("-left-out", nargs="*", default=[])
    p.add_argument("-only", nargs="*", default=[])
    p.add_argument("-ready", type=Path, help="folder in which prepared scans are kept between runs")
    args = p.parse_args()
    methods = [named(text) for text in args.models] + [named(text, left_out=True) for text in args.left_out]
    scores = {method.name: {} for method in methods}
    for patient in patients(args.data, args.only, args.ready):
        for method in methods:
            if by_threshold := method.scores(patient):
                scores[method.name][patient.group, patient.name] = by_threshold
        print(patient.name, file=sys.stderr, flush=True)
    chosen = {name: left_out(column) for name, column in scores.items()}
    for method in methods:
        if method.folds:
            limits = {" ".join(key): s["threshold"] for key, s in chosen[method.name].items()}
            best = left_out({("all", ""): scores[method.name][next(iter(scores[method.name]))], **scores[method.name]})
            print(f"{method.name}: thresholds {limits}; of all patients {best['all', '']['threshold']}\n")
    scores = chosen
    print("Dice / F1 (found, false lesions) mL", *table(scores), sep="\n")


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Brain lesions, patient by patient"))
