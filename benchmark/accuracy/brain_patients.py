"""Brain lesions patient by patient, several networks beside each other: Dice, lesion-wise F1 and volume.

    python benchmark/accuracy/brain_patients.py -data DATA [NAME=]MODEL ... [-left-out NAME=FOLDER ...]

DATA holds brain/tabriz, brain/lesjak-cross and brain/healthy. A model is a name of the zoo or an ONNX file; all run as
``sct7t_deepseg`` does, by the rules of their entries, and are judged on the grid of the scan. ``NAME=FOLDER/*.nii.gz``
are masks made elsewhere, called after the patients, such as a peer's (`benchmark/peers/nicms.py`). Of ``-left-out``
each patient takes a network that did not see them: FOLDER/folds.json lists
``{"model": FILE, "without": [PATIENT, ...]}``; for those whom a model of the zoo never saw, FILE may be its name.

Lesions are 26-connected; those under 3 mm3 count on neither side. A lesion counts as found, and a found one as true, if
it shares a voxel with one of the other side. A mean is over patients; of the healthy head all marks are false.

On the page `simulated` is a network of simulated images alone, with the second network that its entry names on slices
under 6 mm. `mixed` is what ships: on thick slices its weights learned from patients, so each is judged by one of three
networks of that recipe that did not see them; on thin ones it is the same as `simulated`. The limits of both
(``by_load``) were chosen with these scans in view. nicMSlesions needs T1w too, and ran where a cell is filled.

These are development scans. `tabriz`: MRI_MS_Insights, one hospital, 1.5 T, slices of 6.4 to 8.1 mm. `lesjak`: Lesjak
et al. 2017, 3 T, 1 mm. **Look at every mask.**
"""

import argparse
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import Volume, load

TABRIZ = ("104670", "104899", "106639", "110218", "111008", "101228", "101627", "112776")
LEAST_MM3 = 3.0


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

    def score(self, patient: Patient) -> dict[str, float]:
        """Scores of a patient; empty where there is no mask, or no network that did not see them."""
        if "*" in self.place:
            path = Path(self.place.replace("*", patient.name))
            mask = labels_on_scan(path, patient.volume)[0] > 0 if path.is_file() else None
        elif self.folds:
            fold = next((f for f in self.folds if patient.name in f["without"]), None)
            mask = found(_model(Path(self.place), fold["model"]), patient) if fold else None
        else:
            mask = found(self.place, patient)
        voxel_mm3 = float(abs(np.linalg.det(patient.volume.affine[:3, :3])))
        return {} if mask is None else score(mask, patient.truth, voxel_mm3)


def _model(folder, name):
    """A file of a folder, or a model of the zoo."""
    return str(folder / name) if name.endswith(".onnx") else name


def found(model: str, patient: Patient) -> np.ndarray:
    """Mask of a network, by its entry's rules."""
    from sctseg7t.inference.pipeline import open_segmenter

    affine = patient.volume.affine
    segmenter = open_segmenter("brain_lesion", model).suited(affine)
    grid, probability = segmenter.look(patient.ready, affine)
    return segmenter.decide(grid, probability, patient.ready, affine)[0]


def table(scores: dict[str, dict[tuple[str, str], dict[str, float]]]) -> Iterator[str]:
    """Markdown: a row a patient, a column a method; means below."""
    names = list(scores)
    yield "| patient (mL) | " + " | ".join(names) + " |"
    yield "|---" * (len(names) + 1) + "|"
    rows = list(dict.fromkeys(key for column in scores.values() for key in column))
    for key in rows:
        given = [scores[name].get(key) for name in names]
        truth = next(s for s in given if s)["truth mL"]
        yield f"| {' '.join(key)} ({truth:.1f}) | " + " | ".join(_cell(s) for s in given) + " |"
    groups = {group: [key for key in rows if key[0] == group] for group, _ in rows if group != "healthy"}
    if len(groups) > 1:
        groups["all patients"] = [key for key in rows if key[0] != "healthy"]
    for group, keys in groups.items():
        means = []
        for name in names:
            own = [scores[name][key] for key in keys if key in scores[name]]
            # A mean of some patients beside one of all would not compare.
            means.append(_means(own) if len(own) == len(keys) else "")
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
            if own := method.score(patient):
                scores[method.name][patient.group, patient.name] = own
        print(patient.name, file=sys.stderr, flush=True)
    print("Dice / F1 (found, false lesions) mL\n", *table(scores), sep="\n")


if __name__ == "__main__":
    from sctseg7t.report.results_page import run as run_with_page

    sys.exit(run_with_page(main, __doc__, "Brain lesions"))
