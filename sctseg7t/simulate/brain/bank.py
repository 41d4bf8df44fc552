"""Brains to train on, on disk: simulated ones (seeded, recorded, made once) and public patients."""

import functools
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from tqdm import tqdm

from sctseg7t.brain.find_brain import open_finder
from sctseg7t.brain.isotropic_grid import grid_around, to_grid
from sctseg7t.brain.segmenter import prepare as prepare_scan
from sctseg7t.brain.views import view_grid
from sctseg7t.errors import InputError
from sctseg7t.files import write_bytes, write_json
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import load
from sctseg7t.measure.lesions import label_lesions
from sctseg7t.simulate import acquisition  # noqa: F401 - effects of several organs
from sctseg7t.simulate.brain import contrast, lesions, scanner, shape  # noqa: F401 - they register the effects
from sctseg7t.simulate.brain.people import read_person
from sctseg7t.simulate.brain.scene import BrainScene
from sctseg7t.simulate.brain.template import Template, load_template
from sctseg7t.simulate.effect import read_settings
from sctseg7t.simulate.fields import voxel_positions
from sctseg7t.simulate.scene import one_thread

_CENTRES = 400
# The public data in a folder of sct7t_download export; lesion_masks_mni is in it.
EXPORTED = {"brain": "brain/lesjak-cross"}


@dataclass(frozen=True, eq=False)
class StoredBrain:
    """A scan of the bank; arrays are memory maps.

    Attributes
    ----------
    image : (X, Y, Z) float16
        FLAIR over the median of the brain mask.
    label : (X, Y, Z) uint8
    to_template : (3, 4) float64
        Voxel to MNI mm.
    centres : (N, 3) int array
        Voxels of lesions, as many of a small lesion as of a large one.
    spacing_mm : (3,) float array
        Of the voxels: 1, but for the thick slices of a real scan that keeps its own.
    """

    image: np.ndarray
    label: np.ndarray
    to_template: np.ndarray
    centres: np.ndarray
    spacing_mm: np.ndarray


def simulate(
    template: Template, shapes: lesions.LesionShapes | None, seed: int, recipe: Mapping[str, Any] | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate one brain at 1 mm, RAS; the same seed gives the same brain.

    Parameters
    ----------
    template : Template
    shapes : LesionShapes or None
        None: drawn lesions only.
    seed : int
    recipe : dict, optional
        By effect: the settings that differ from its defaults, or False to leave it out.

    Returns
    -------
    image : (X, Y, Z) float32
        FLAIR over the median of the brain mask; 0 outside the mask.
    label : (X, Y, Z) bool
        Lesions.
    to_template : (3, 4) float64
        Scan voxel to MNI mm by the best affine, the deformation's mean included: what a registration would find.
    """
    scene = BrainScene(template, shapes).run(read_settings("brain", recipe), seed)
    return scene.image.clamp(0, 60).numpy(), scene.label.numpy(), best_affine(scene)


def best_affine(scene: BrainScene) -> np.ndarray:
    """Scan voxel to MNI mm (3, 4) by the best affine, the deformation's mean included: as a registration would."""
    inside = scene.brain > 0.5
    at, mni = (positions[:, inside][:, ::199].double() for positions in (voxel_positions(scene.shape), scene.mni))
    known = torch.cat([at, torch.ones(1, at.shape[1], dtype=torch.float64)])
    return torch.linalg.lstsq(known.T, mni.T).solution.T.numpy()


@dataclass(frozen=True)
class Crowd:
    """People whose label maps serve as anatomy beside the MNI152.

    Attributes
    ----------
    people : sequence of Path
        Label maps, see :func:`sctseg7t.simulate.brain.people.read_person`.
    each : int
        Brains that are simulated from one of them; the bank's first brains are the template's.
    effects : dict
        Settings by effect that hold for people beside those of the bank: they have folds of their own.
    """

    people: Sequence[Path] = ()
    each: int = 4
    effects: Mapping[str, Any] = field(default_factory=dict)

    def of(self, k: int, count: int) -> Path | None:
        """Whose brain ``k`` of a bank of ``count`` is; None: the template's. The bank ends with the last person."""
        turn = k - max(count - len(self.people) * self.each, 0)
        return self.people[turn // self.each] if turn >= 0 else None

    def brain(self, k: int, count: int, recipe: Mapping[str, Any]) -> tuple[Template, dict[str, Any]]:
        """The anatomy of brain ``k`` of a bank of ``count``, and the settings by effect that hold for it."""
        person = self.of(k, count)
        if person is None:
            return load_template(), dict(recipe)
        return read_person(person), {**recipe, **self.effects}

    def told(self) -> list[Any]:
        """What a bank's record and the name of its folder say of the people."""
        return [[path.name for path in self.people], self.each, dict(self.effects)] if self.people else []


def bank_folder(
    root: str | Path, recipe: Mapping[str, Any], seed: int, masks: Sequence[str] = (), crowd: Crowd = Crowd()
) -> Path:
    """Folder of the bank that follows from effects, seed, and the names of the lesion masks and people at hand."""
    told = json.dumps([recipe, seed, list(masks), *crowd.told()], sort_keys=True)
    return Path(root) / f"brains-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def fill(
    root: str | Path,
    count: int,
    seed: int,
    recipe: Mapping[str, Any],
    shapes_folder: str | Path | None = None,
    workers: int = 1,
    log: TextIO = sys.stderr,
    crowd: Crowd = Crowd(),
) -> list[StoredBrain]:
    """Simulate the brains of a bank that are not there yet, and open all.

    Parameters
    ----------
    root : path
        The bank gets a folder of its own in it.
    count, seed : int
        Brain ``k`` is drawn from ``seed + k``.
    recipe : dict
        Settings by effect.
    shapes_folder : path, optional
        Real lesion masks to place. None: drawn lesions only.
    workers : int
        Processes; 1: none but this one.
    log : text stream
    crowd : Crowd
        People to simulate from, beside the template.
    """
    shapes = lesions.load_shapes(shapes_folder) if shapes_folder else None
    masks = list(shapes.names) if shapes else []
    folder = bank_folder(root, recipe, seed, masks, crowd)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(count) if not (folder / f"{k:04}.json").is_file()]
    if missing:
        write_json(folder / "bank.json", {"seed": seed, "effects": recipe, "masks": masks, "people": crowd.told()})
        log.write(f"simulating {len(missing)} of {count} brains into {folder}\n")
        work = functools.partial(_make, folder, seed, recipe, shapes_folder, crowd, count)
        workers = max(1, min(workers, len(missing)))
        pool = ProcessPoolExecutor(workers) if workers > 1 else None
        try:
            made = (pool.map if pool else map)(work, missing)
            list(tqdm(made, "brains", len(missing), file=log, mininterval=10))
        finally:
            if pool:
                pool.shutdown(cancel_futures=True)
    return [open_brain(folder, f"{k:04}") for k in range(count)]


def _make(
    folder: Path,
    seed: int,
    recipe: Mapping[str, Any],
    shapes_folder: str | Path | None,
    crowd: Crowd,
    count: int,
    k: int,
) -> None:
    with one_thread():
        shapes = lesions.load_shapes(shapes_folder) if shapes_folder else None
        anatomy, effects = crowd.brain(k, count, recipe)
        store(folder, f"{k:04}", *simulate(anatomy, shapes, seed + k, effects))


def store(
    folder: Path,
    name: str,
    image: np.ndarray,
    label: np.ndarray,
    to_template: np.ndarray,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
) -> None:
    """Write a scan into a bank's folder; its record, written last, makes it complete."""
    write_arrays(folder, name, {"image": image.astype(np.float16), "label": label.astype(np.uint8)})
    centres = some_voxels(label_lesions(label > 0), _CENTRES, np.random.default_rng(0))
    told = {"to_template": np.asarray(to_template).tolist(), "centres": centres, "spacing_mm": list(spacing_mm)}
    write_json(folder / f"{name}.json", told)


def write_arrays(folder: Path, name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays of one brain as ``NAME-KIND.npy``, each whole or not at all."""
    for kind, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array))
        write_bytes(folder / f"{name}-{kind}.npy", buffer.getvalue())


def some_voxels(numbers: np.ndarray, count: int, rng: np.random.Generator) -> list[list[int]]:
    """So many voxels of numbered lesions (X, Y, Z); each lesion's share grows with the cube root of its volume."""
    voxels = np.argwhere(numbers)
    if not len(voxels):
        return []
    weight = np.bincount(numbers.ravel())[numbers[tuple(voxels.T)]] ** (-2 / 3)
    return voxels[rng.choice(len(voxels), count, p=weight / weight.sum())].tolist()


def open_brain(folder: Path, name: str) -> StoredBrain:
    """A stored scan."""
    record = json.loads((folder / f"{name}.json").read_text())
    image, label = (np.load(folder / f"{name}-{kind}.npy", mmap_mode="r") for kind in ("image", "label"))
    centres, spacing = np.array(record["centres"], int).reshape(-1, 3), record.get("spacing_mm", (1, 1, 1))
    return StoredBrain(image, label, np.array(record["to_template"]), centres, np.array(spacing, float))


# ---- real patients --------------------------------------------------------------

# What a patient's files are called, in the order in which they are looked for.
_SCAN = ("FLAIR.nii.gz", "FLAIR_prep.nii.gz")
_LESIONS = ("lesions_consensus.nii.gz", "lesions.nii.gz")
_BRAIN = "brainmask.nii.gz"


def real_brains(
    names: Sequence[str],
    folder: str | Path | None,
    root: str | Path,
    own_slices: bool = False,
    healthy: bool = False,
) -> list[StoredBrain]:
    """Real scans to train on, prepared once into ``root/real``, or ``root/real-slices``.

    Parameters
    ----------
    names : sequence of str
        Of the patients: numbers of the public data, such as ``"07"``, or folders from theirs on, such as
        ``"../tabriz/104670"``.
    folder : path or None
        Of the public data, with ``patientNN/FLAIR.nii.gz`` and ``lesions_consensus.nii.gz``.
    root : path
    own_slices : bool
        Thick slices stay what they are; else they are sampled at 1 mm.
    healthy : bool
        They show no lesion, and need no mask of any.

    Raises
    ------
    InputError
        A patient's files are not there, or show no brain.
    """
    place = Path(root) / ("real-slices" if own_slices else "real")
    stored = []
    for name in names:
        if folder is None:
            raise InputError(f"the recipe trains on patient {name}: give the folder of the public brain data")
        short = f"patient{name}" if name.isdigit() else Path(name).name
        stored.append(short)
        if not (place / f"{short}.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            store(place, short, *prepare(Path(folder) / (short if name.isdigit() else name), own_slices, healthy))
    return [open_brain(place, short) for short in stored]


def prepare(
    folder: str | Path, own_slices: bool = False, healthy: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[float, ...]]:
    """FLAIR over its median, lesions and place in MNI of one patient, as a network gets them: the brain alone.

    Parameters
    ----------
    folder : path
        With FLAIR, lesions on its grid, and where it is not stripped a brain mask, or none: then it is found.
    own_slices : bool
        Thick slices stay what they are; else all is sampled at 1 mm.
    healthy : bool
        It shows no lesion, and needs no mask of any.

    Returns
    -------
    As :func:`simulate`, but for the float32 of the image and the affine that a registration did find; and the spacing.
    """
    scan, lesions = _first(Path(folder), _SCAN), None if healthy else _first(Path(folder), _LESIONS)
    volume = load(scan, axial=False)
    data, affine = volume.data[..., 0], volume.affine
    label = labels_on_scan(lesions, volume)[0] > 0 if lesions else np.zeros(data.shape, bool)
    brain = Path(folder) / _BRAIN
    # A network of slices meets masks that the finder made, so it trains on those.
    given = labels_on_scan(brain, volume)[0] > 0 if brain.is_file() and not own_slices else None
    ready = prepare_scan(data, affine, name=volume.name, mask=given, finder=open_finder() if given is None else None)
    if ready.template is None and not own_slices:
        raise InputError(f"{volume.name}: the MNI template cannot be laid on it; leave this patient out")
    grid = (view_grid if own_slices else grid_around)(ready.mask, affine, margin_mm=4.0)
    image, mask = (to_grid(a, affine, grid) for a in (np.where(ready.mask, ready.data, 0), ready.mask))
    inside = mask >= 0.5
    # What lies half outside the mask keeps its brightness.
    image = np.where(inside, image / np.maximum(mask, 0.5), 0).clip(0)
    to_template = ((ready.template.scan_to_mni if ready.template else np.eye(4)) @ grid.affine)[:3]
    shown = to_grid(label.astype(np.float32), affine, grid) >= 0.5
    return (image / np.median(image[inside])).astype(np.float32), shown & inside, to_template, grid.spacing_mm


def _first(folder, names):
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InputError(
        f"{folder / names[0]}: no such file; a training on real scans needs FLAIR and lesions of its patients"
    )
