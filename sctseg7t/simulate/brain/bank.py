"""A bank of simulated brains on disk: simulated once, seeded and recorded, read by every training after."""

import functools
import hashlib
import io
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from sctseg7t.errors import UsageError
from sctseg7t.files import write_bytes, write_json

_CENTRES = 400


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
    """

    name: str
    image: np.ndarray
    label: np.ndarray
    to_template: np.ndarray
    centres: np.ndarray


def bank_folder(root: str | Path, recipe: Mapping[str, Any], seed: int, masks: Sequence[str] = ()) -> Path:
    """Folder of the bank that follows from effects, seed and the names of the lesion masks at hand."""
    told = json.dumps([recipe, seed, list(masks)], sort_keys=True)
    return Path(root) / f"brains-{hashlib.sha256(told.encode()).hexdigest()[:10]}"


def brain_folder(items: Sequence[str]) -> Path | None:
    """Folder of the public brain lesion masks from the folders that a user gives, or None.

    Parameters
    ----------
    items : sequence of str
        ``brain=FOLDER`` (it holds ``lesion_masks_mni``), or a folder with ``brain/lesjak-cross`` in it.

    Raises
    ------
    UsageError
        Folders are given and none holds the masks.
    """
    for item in items:
        name, equals, path = str(item).partition("=")
        places = [Path(path)] if equals and name == "brain" else [Path(item) / "brain/lesjak-cross", Path(item)]
        for place in places:
            if (place / "lesion_masks_mni").is_dir():
                return place
    if items:
        raise UsageError(f"{items[0]}: holds no brain/lesjak-cross/lesion_masks_mni; give the folder above it")
    return None


def fill(
    root: str | Path,
    count: int,
    seed: int,
    recipe: Mapping[str, Any],
    shapes_folder: str | Path | None = None,
    workers: int = 1,
    log: TextIO = sys.stderr,
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
    """
    from sctseg7t.simulate.brain.lesions import load_shapes

    shapes = load_shapes(shapes_folder) if shapes_folder else None
    masks = list(shapes.names) if shapes else []
    folder = bank_folder(root, recipe, seed, masks)
    folder.mkdir(parents=True, exist_ok=True)
    missing = [k for k in range(count) if not (folder / f"{k:04}.json").is_file()]
    if missing:
        write_json(folder / "bank.json", {"seed": seed, "effects": recipe, "masks": masks})
        log.write(f"simulating {len(missing)} of {count} brains into {folder}\n")
        work = functools.partial(_make, folder, seed, recipe, shapes_folder)
        workers = max(1, min(workers, len(missing)))
        pool = ProcessPoolExecutor(workers) if workers > 1 else None
        try:
            for done, _ in enumerate((pool.map if pool else map)(work, missing), 1):
                if done % 20 == 0 or done == len(missing):
                    log.write(f"simulated {done} of {len(missing)} brains\n")
                    log.flush()
        finally:
            if pool:
                pool.shutdown(cancel_futures=True)
    return [open_brain(folder, f"{k:04}") for k in range(count)]


def _make(folder, seed, recipe, shapes_folder, k):
    from sctseg7t.simulate.brain.brain import simulate
    from sctseg7t.simulate.brain.lesions import load_shapes
    from sctseg7t.simulate.brain.template import load_template
    from sctseg7t.simulate.scene import one_thread

    with one_thread():
        brain = simulate(load_template(), load_shapes(shapes_folder) if shapes_folder else None, seed + k, recipe)
    store(folder, f"{k:04}", brain.image, brain.label, brain.to_template, brain.drawn)


def store(
    folder: str | Path,
    name: str,
    image: np.ndarray,
    label: np.ndarray,
    to_template: np.ndarray,
    drawn: Mapping[str, Any] | None = None,
) -> None:
    """Write a scan into a bank's folder; its record, written last, makes it complete."""
    for kind, array in (("image", image.astype(np.float16)), ("label", label.astype(np.uint8))):
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array))
        write_bytes(Path(folder) / f"{name}-{kind}.npy", buffer.getvalue())
    record = {
        "to_template": np.asarray(to_template).tolist(),
        "centres": _lesion_voxels(label).tolist(),
        "lesion_ml": round(float(label.sum()) / 1000, 3),
        "drawn": drawn or {},
    }
    write_json(Path(folder) / f"{name}.json", record)


def open_brain(folder: str | Path, name: str) -> StoredBrain:
    """A stored scan."""
    record = json.loads((Path(folder) / f"{name}.json").read_text())
    image, label = (np.load(Path(folder) / f"{name}-{kind}.npy", mmap_mode="r") for kind in ("image", "label"))
    centres = np.array(record["centres"], int).reshape(-1, 3)
    return StoredBrain(name, image, label, np.array(record["to_template"]), centres)


def components(mask: np.ndarray, corners: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Connected parts of a mask by number from 1 (``corners``: such voxels touch), and the size of each; 0 first."""
    from scipy import ndimage as ndi

    parts = np.zeros(mask.shape, np.int32)
    ndi.label(mask, np.ones((3, 3, 3)) if corners else None, output=parts)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts, sizes


def _lesion_voxels(label: np.ndarray) -> np.ndarray:
    """Voxels of lesions, each lesion's share growing with the cube root of its volume."""
    parts, sizes = components(label)
    if len(sizes) == 1:
        return np.zeros((0, 3), int)
    voxels = np.argwhere(parts)
    weight = sizes[parts[tuple(voxels.T)]] ** (-2 / 3)
    rng = np.random.default_rng(0)
    return voxels[rng.choice(len(voxels), _CENTRES, p=weight / weight.sum())]
