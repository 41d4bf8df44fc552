"""Made masks for the tests of the comparison."""

from pathlib import Path

import nibabel as nib
import numpy as np

from sctseg7t.compare.types import Case

# Stored right to left, as scanners often do.
AFFINE = np.array([[-0.5, 0, 0, 10], [0, 0.5, 0, -9], [0, 0, 3, -20], [0, 0, 0, 1.0]])
SHAPE = (40, 36, 5)


def disc(radius, centre=(20, 18), shape=SHAPE, slices=None):
    """A cylinder in some slices (default: all), uint8."""
    x, y = np.meshgrid(np.arange(shape[0]), np.arange(shape[1]), indexing="ij")
    flat = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2
    mask = np.zeros(shape, np.uint8)
    mask[..., slice(None) if slices is None else slices] = flat[..., None]
    return mask


def write(path, array, affine=AFFINE):
    """Save an array; folders are made."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.asarray(array), affine), path)
    return path


def write_method(folder, radii, *, name="sub-{sub}/anat/sub-{sub}_T2starw{suffix}.nii.gz", subjects=("01", "02")):
    """SC and GM masks of some subjects; `radii` by suffix."""
    for k, sub in enumerate(subjects):
        for suffix, radius in radii.items():
            write(Path(folder) / name.format(sub=sub, suffix=suffix), disc(radius, centre=(20 + k, 18)))
    return Path(folder)


def case_of(folder, arrays, *, name="sub-01", affines=None, **fields):
    """A case with a mask by (method, structure)."""
    masks = {
        (method, structure): write(
            Path(folder) / f"{name}_{method}_{structure}.nii.gz", array, (affines or {}).get(method, AFFINE)
        )
        for (method, structure), array in arrays.items()
    }
    return Case(name, masks=masks, **{"subject": name, **fields})
