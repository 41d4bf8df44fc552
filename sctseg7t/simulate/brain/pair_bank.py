"""Simulated pairs of scans on disk, made comparable as inference does: what networks of new lesions train on."""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from scipy import ndimage
from tqdm import tqdm

from sctseg7t.brain.pair import matched
from sctseg7t.files import write_json
from sctseg7t.measure.lesion_change import GROWN, NEW, SHRUNK, VANISHED
from sctseg7t.simulate.brain import lesions
from sctseg7t.simulate.brain.bank import Crowd, StoredBrain, some_voxels, write_arrays
from sctseg7t.simulate.brain.pairs import simulate_pair
from sctseg7t.simulate.scene import one_thread

# Bits of a pair's labels.
AT_NOW, AT_BEFORE = 1, 2
_CENTRES = 300
# Share of the pairs in which nothing happens; of the others what becomes of old lesions, and how many are new.
_QUIET, _SHARES, _MOST_NEW = 0.25, {GROWN: 0.15, SHRUNK: 0.1, VANISHED: 0.1}, 10
# Ventricles that widen, mm, in half of the pairs.
_WIDER_MM = 0.8


@dataclass(frozen=True, eq=False)
class StoredPair:
    """A pair of the bank; arrays are memory maps.

    Attributes
    ----------
    now, before : (X, Y, Z) float16
        Over the median of the follow-up's brain, the baseline matched to it; 0 outside.
    label : (X, Y, Z) uint8
        Lesions: ``AT_NOW``, ``AT_BEFORE``.
    to_template : (3, 4) float64
        Voxel to MNI mm.
    changed, centres : (N, 3) int array
        Voxels of lesions that are there at one time only, and of any; as many of a small lesion as of a large one.
    """

    now: np.ndarray
    before: np.ndarray
    label: np.ndarray
    to_template: np.ndarray
    changed: np.ndarray
    centres: np.ndarray

    @property
    def image(self) -> np.ndarray:
        """The follow-up: where the brain is."""
        return self.now


def fill(
    root: str | Path,
    count: int,
    seed: int,
    recipe: Mapping[str, Any],
    shapes_folder: str | Path | None = None,
    log: TextIO = sys.stderr,
    crowd: Crowd = Crowd(),
) -> list[StoredPair]:
    """Simulate the pairs of a bank that are not there yet, and open all; parameters as of ``bank.fill``."""
    shapes = lesions.load_shapes(shapes_folder) if shapes_folder else None
    told = [recipe, seed, list(shapes.names) if shapes else [], crowd.told()]
    folder = Path(root) / f"pairs-{hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:10]}"
    folder.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(count) if not (folder / f"{k:04}.json").is_file()]
    if missing:
        write_json(folder / "bank.json", dict(zip(("effects", "seed", "masks", "people"), told)))
        log.write(f"simulating {len(missing)} of {count} pairs of scans into {folder}\n")
        for k in tqdm(missing, "pairs", file=log, mininterval=10):
            with one_thread():
                anatomy, effects = crowd.brain(k, count, recipe)
                _store(folder, f"{k:04}", _simulate(anatomy, shapes, seed + k, effects))
    return [open_pair(folder, f"{k:04}") for k in range(count)]


def _simulate(anatomy, shapes, seed, recipe):
    """A pair whose fates are drawn: nothing happens, or anything."""
    rng = np.random.default_rng(seed)
    fates: dict[str, Any] = {}
    if rng.random() > _QUIET:
        fates = {"shares": _SHARES, "new": int(rng.integers(1, _MOST_NEW + 1)), "growth": (1.3, 4.0)}
    wider = float(rng.uniform(0, _WIDER_MM)) if rng.random() < 0.5 else 0.0
    return simulate_pair(anatomy, shapes, seed, recipe=recipe, ventricles_mm=wider, **fates)


def _store(folder, name, pair):
    brain = ndimage.binary_fill_holes(ndimage.binary_opening((pair.now > 0.02) & (pair.before > 0.02)))
    before, _ = matched(pair.before, pair.now, brain)
    label = AT_NOW * (pair.at_now & brain) + AT_BEFORE * (pair.at_before & brain)
    arrays = {
        "now": np.where(brain, pair.now, 0).astype(np.float16),
        "before": np.where(brain, before, 0).astype(np.float16),
        "label": label.astype(np.uint8),
    }
    write_arrays(folder, name, arrays)
    rng = np.random.default_rng(0)
    fates = np.array([False, *(fate in (NEW, GROWN, SHRUNK, VANISHED) for fate in pair.fates)])
    once = (label == AT_NOW) | (label == AT_BEFORE)
    told = {
        "to_template": np.asarray(pair.to_template).tolist(),
        "changed": some_voxels(pair.lesions * (fates[pair.lesions] & once), _CENTRES, rng),
        "centres": some_voxels(pair.lesions * (label > 0), _CENTRES, rng),
        "fates": list(pair.fates),
    }
    write_json(folder / f"{name}.json", told)


def open_pair(folder: Path, name: str) -> StoredPair:
    """A stored pair."""
    record = json.loads((folder / f"{name}.json").read_text())
    now, before, label = (np.load(folder / f"{name}-{kind}.npy", mmap_mode="r") for kind in ("now", "before", "label"))
    changed, centres = (np.array(record[kind], int).reshape(-1, 3) for kind in ("changed", "centres"))
    return StoredPair(now, before, label, np.array(record["to_template"]), changed, centres)


def own_baseline(brain: StoredBrain) -> StoredPair:
    """A single scan as a pair in which nothing has changed."""
    label = (np.asarray(brain.label) > 0).astype(np.uint8) * (AT_NOW | AT_BEFORE)
    return StoredPair(brain.image, brain.image, label, brain.to_template, np.empty((0, 3), int), brain.centres)


def pieces(shapes: lesions.LesionShapes | None, least: int = 12, most: int = 1500) -> Sequence[np.ndarray]:
    """Single lesions of real masks, each cut out, bool; of so many voxels (1 mm)."""
    found = []
    for mask in shapes.masks if shapes else ():
        labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
        sizes = np.bincount(labels.ravel())
        for number, box in enumerate(ndimage.find_objects(labels), 1):
            if box is not None and least <= sizes[number] <= most:
                found.append(labels[box] == number)
    return found
