"""Real scans with manual masks: read and cut, to measure a network in training as inference would run it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from sctseg7t.cord.locator import from_labels
from sctseg7t.errors import InputError
from sctseg7t.image.masks import labels_on_scan
from sctseg7t.image.volume import load
from sctseg7t.image.windows import box_around
from sctseg7t.train.device import Place
from sctseg7t.train.scans.labelled import LabelledScan
from sctseg7t.zoo.spec import ModelSpec


@dataclass(frozen=True, eq=False)
class TorchSession:
    """A network in training that runs like a :class:`sctseg7t.runtime.Session`."""

    network: torch.nn.Module
    place: Place

    def run(self, images: np.ndarray) -> np.ndarray:
        """(N, C, H, W) float32 images to (N, K, H, W) probabilities."""
        parts = torch.from_numpy(np.ascontiguousarray(images, np.float32)).split(4 if self.place.kind == "cpu" else 32)
        with torch.no_grad():
            return torch.cat([torch.sigmoid(self.network(self.place.images(p))).cpu() for p in parts]).numpy()


@dataclass(frozen=True, eq=False)
class Case:
    """A scan made ready: slices between the first and the last of the reference.

    Attributes
    ----------
    data : (X, Y, Z) float32
    affine : (4, 4) float64
        Canonical, mm.
    centres_vox : (Z, 2) float64
        Centre of mass of the reference, between its slices interpolated.
    references : dict of str to (X, Y, Z) bool
    marked : (Z,) bool
        Slices with a reference for the cord's place.
    """

    name: str
    data: np.ndarray
    affine: np.ndarray
    centres_vox: np.ndarray
    references: dict[str, np.ndarray]
    marked: np.ndarray


def prepare(scan: LabelledScan, spec: ModelSpec) -> Case:
    """Load a scan and its masks, cut to what a model needs of them.

    Parameters
    ----------
    scan : LabelledScan
    spec : ModelSpec
        Of the model in training. A window model sees a box around the cord, a locator whole slices.

    Raises
    ------
    InputError
        A file cannot be used, or a mask is empty.
    """
    volume = load(scan.image, volumes="mean")
    references = {tissue: labels_on_scan(path, volume)[0] > 0 for tissue, path in scan.masks.items()}
    for tissue, mask in references.items():
        if not mask.any():
            raise InputError(f"{scan.masks[tissue]}: marks no voxel of {scan.image}; give the manual mask of this scan")
    lead = "SC" if "SC" in references else "GM"
    centres = from_labels(references[lead], volume.affine, volume, str(scan.masks[lead])).centres_vox
    slices = np.flatnonzero(references[lead].any((0, 1)))
    keep = slice(slices[0], slices[-1] + 1)
    centres, box = centres[keep], (slice(0, None), slice(0, None))
    if spec.input.size is not None:
        reach_mm = max(spec.input.size) * max(spec.input.spacing_mm)
        box = box_around(centres, volume.frame, volume.data.shape[:3], reach_mm)
    cut, corner = (*box, keep), [part.start for part in (*box, keep)]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ corner
    references = {tissue: mask[cut] for tissue, mask in references.items()}
    data, marked = np.asfortranarray(volume.data[..., 0][cut]), np.any(references[lead], (0, 1))
    return Case(scan.name, data, affine, centres - corner[:2], references, marked)


def mean_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Mean of every number over the scans that have it."""
    return pd.DataFrame(rows).drop(columns="scan").astype(float).mean().dropna().round(4).to_dict()
