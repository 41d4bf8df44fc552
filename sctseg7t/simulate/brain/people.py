"""People's label maps as anatomy: each is laid on MNI space by an affine and then serves as a template does."""

import functools
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import torch
from scipy import ndimage as ndi

from sctseg7t.brain.register import template_to_scan
from sctseg7t.errors import InputError
from sctseg7t.image.grid import bounding_box, resample
from sctseg7t.simulate.brain.template import Template, load_template, signed_distance

# FreeSurfer's numbers.
_WHITE = (2, 41, 7, 46, 16, 28, 60, 25, 57, 77, 85)
_GRAY = (3, 42, 8, 47, 10, 49, 11, 50, 12, 51, 13, 52, 17, 53, 18, 54, 26, 58)
_LATERAL = (4, 43, 5, 44)
_VENTRICLES = (*_LATERAL, 14, 15, 72)
_FLUID = 24
# From here on tissues outside the brain.
_OUTER = 500
# A gap this wide between two gyri belongs to the brain.
_CLOSE_MM = 5.0


@functools.lru_cache(maxsize=2)
def read_person(path: Path) -> Template:
    """Maps of one person, on the grid of the MNI template.

    Parameters
    ----------
    path : Path
        Label map at 1 mm: FreeSurfer's numbers, fluid around the brain as 24.

    Returns
    -------
    Template
        Its ``priors`` are those of the MNI152.

    Raises
    ------
    InputError
        Not a label map of a brain.
    """
    image = nib.as_closest_canonical(nib.load(path))
    labels = np.asarray(image.dataobj).astype(np.int16)
    box = bounding_box((labels > 0) & (labels < _OUTER) & (labels != _FLUID), 12) or ()
    labels, image = labels[box], image.slicer[box]
    white, gray, ventricles = (np.isin(labels, kind) for kind in (_WHITE, _GRAY, _VENTRICLES))
    tissue = white | gray | ventricles
    if labels.ndim != 3 or tissue.sum() < 5e5:
        raise InputError(f"{path}: no label map of a brain with FreeSurfer's numbers at 1 mm")
    brain = _whole(tissue, labels == _FLUID)
    painted = np.select([white, gray, brain], [1.0, 1.25, 0.3], 0.0).astype(np.float32)
    to_mni = template_to_scan(painted, image.affine, brain).scan_to_mni
    template = load_template()
    grid = np.eye(4)
    grid[:3, 3] = template.origin_mm
    matrix = np.linalg.inv(to_mni @ image.affine) @ grid
    shape = tuple(template.maps.shape[1:])
    lateral = np.isin(labels, _LATERAL)
    gm, wm, inside, fluid, side = (
        resample(kind.astype(np.float32), matrix, shape) for kind in (gray, white, brain, ventricles, lateral)
    )
    distances = [signed_distance(mask) for mask in (inside >= 0.5, fluid < 0.5, side < 0.5)]
    maps = np.stack([gm, wm, *distances]).astype(np.float32)
    return Template(torch.from_numpy(maps), template.priors, template.origin_mm)


def _whole(tissue, fluid):
    """The brain with its sulci: closed, of what is tissue or fluid."""
    parts, _ = ndi.label(tissue)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    solid = parts == sizes.argmax()
    wide = ndi.distance_transform_edt(~solid) <= _CLOSE_MM
    closed = ndi.distance_transform_edt(wide) > _CLOSE_MM
    return ndi.binary_fill_holes(solid | closed & (fluid | tissue))


def label_maps(folder: str | Path | None, names: Sequence[str]) -> list[Path]:
    """Label maps ``training_seg_NAME.nii.gz`` in a folder (InputError if one is not there)."""
    if names and folder is None:
        raise InputError("the recipe simulates from people's label maps: give their folder")
    paths = [Path(folder or "") / f"training_seg_{name}.nii.gz" for name in names]
    for path in paths:
        if not path.is_file():
            raise InputError(f"{path}: no such label map")
    return paths
