"""The public patients with images, stored as the bank stores simulated brains."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sctseg7t.errors import InputError
from sctseg7t.simulate.brain.bank import StoredBrain, components, open_brain, store


def real_brains(numbers: Sequence[str], folder: str | Path | None, root: str | Path) -> list[StoredBrain]:
    """Real scans to train on, prepared once into ``root/real``.

    Parameters
    ----------
    numbers : sequence of str
        Of the patients, such as ``"07"``.
    folder : path or None
        Of the public data, with ``patientNN/FLAIR.nii.gz`` and ``lesions_consensus.nii.gz``.
    root : path

    Returns
    -------
    list of StoredBrain

    Raises
    ------
    InputError
        A patient's files are not there.
    """
    place = Path(root) / "real"
    for number in numbers:
        if folder is None:
            raise InputError(f"the recipe trains on patient {number}: give the folder of the public brain data")
        if not (place / f"patient{number}.json").is_file():
            place.mkdir(parents=True, exist_ok=True)
            image, label, to_template = prepare(Path(folder) / f"patient{number}")
            store(place, f"patient{number}", image, label, to_template)
    return [open_brain(place, f"patient{number}") for number in numbers]


def prepare(folder: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """FLAIR over its median, lesions and place in MNI of one patient, cut to the brain.

    Returns
    -------
    image : (X, Y, Z) float32
    label : (X, Y, Z) bool
    to_template : (3, 4) float64
        Voxel to MNI mm.
    """
    import nibabel as nib

    from sctseg7t.brain.register import template_to_scan

    paths = [Path(folder) / name for name in ("FLAIR.nii.gz", "lesions_consensus.nii.gz")]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such file; a training on real scans needs FLAIR and lesions of its patients")
    flair, lesions = (nib.as_closest_canonical(nib.load(path)) for path in paths)
    image = np.asarray(flair.dataobj, np.float32)
    mask = brain_of(image)
    found = template_to_scan(np.where(mask, image, 0), flair.affine, mask)
    box = tuple(slice(max(a.min() - 4, 0), a.max() + 5) for a in np.nonzero(mask))
    image = np.where(mask, image, 0).clip(0) / np.median(image[mask])
    to_template = (found.scan_to_mni @ flair.affine)[:3].copy()
    to_template[:, 3] += to_template[:, :3] @ [b.start for b in box]
    return image[box], np.asarray(lesions.dataobj)[box] > 0, to_template


def brain_of(image: np.ndarray) -> np.ndarray:
    """Brain mask of an image that is zero (or below) outside the brain: its largest part, holes filled."""
    from scipy import ndimage as ndi

    bright = ndi.binary_opening(image > 0.02 * np.percentile(image, 99.5), iterations=2)
    parts, sizes = components(np.asarray(bright), corners=False)
    if len(sizes) == 1:
        return image > 0
    whole = ndi.binary_dilation(parts == sizes.argmax(), iterations=2)
    return np.asarray(ndi.binary_fill_holes(whole))
